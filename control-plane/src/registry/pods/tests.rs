use super::*;

fn pod(spec: Value) -> Value {
    let mut p = json!({"metadata": {"name": "a"}, "spec": spec});
    (POD.default)(&mut p);
    p
}

fn problems(spec: Value) -> Vec<String> {
    let mut errors = Vec::new();
    (POD.validate)(&pod(spec), None, Part::Main, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_pod_gets_the_documented_defaults() {
    let p = pod(json!({"containers": [{"name": "c", "image": "nginx"}]}));
    assert_eq!(
        p["spec"],
        json!({"containers": [{"name": "c", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "securityContext": {}, "schedulerName": "default-scheduler", "enableServiceLinks": true})
    );
}

// https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ says of each field
// what it may be; the words are those of a kube-apiserver 1.33.
#[test]
fn fields_of_containers_are_checked_one_by_one() {
    let with = |field: &str, v: Value| {
        let mut c = json!({"name": "c", "image": "i"});
        c[field] = v;
        problems(json!({"containers": [c]}))
    };
    for (field, value, expected) in [
        ("livenessProbe", json!({}), "livenessProbe: Required value: must specify a handler type"),
        (
            "readinessProbe",
            json!({"httpGet": {"port": 0}}),
            "readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            "readinessProbe",
            json!({"tcpSocket": {"port": 80}, "timeoutSeconds": -1}),
            "readinessProbe.timeoutSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "livenessProbe",
            json!({"tcpSocket": {"port": 80}, "successThreshold": 2}),
            "livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            "startupProbe",
            json!({"exec": {"command": ["a"]}, "tcpSocket": {"port": 80}}),
            "startupProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        ),
        (
            "lifecycle",
            json!({"preStop": {}}),
            "lifecycle.preStop: Required value: must specify a handler type",
        ),
        ("ports", json!([{"containerPort": 0}]), "ports[0].containerPort: Required value"),
        (
            "ports",
            json!([{"containerPort": 1, "name": "a-name-that-is-too-long"}]),
            "ports[0].name: Invalid value: \"a-name-that-is-too-long\": must be no more than 15 characters",
        ),
        (
            "ports",
            json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
            "ports[1].name: Duplicate value: \"a\"",
        ),
        (
            "ports",
            json!([{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]),
            "ports[1].hostPort: Duplicate value: \"TCP//5\"",
        ),
        (
            "env",
            json!([{"name": "A=B"}]),
            "env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
        ),
        (
            "env",
            json!([{"name": "A", "valueFrom": {}}]),
            "env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        ),
        (
            "env",
            json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "foo.bar"}}}]),
            "env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"foo.bar\": error converting fieldPath: field label not supported: foo.bar",
        ),
        (
            "envFrom",
            json!([{}]),
            "envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ),
        (
            "securityContext",
            json!({"runAsUser": -2}),
            "securityContext.runAsUser: Invalid value: -2: must be between 0 and 2147483647, inclusive",
        ),
        (
            "terminationMessagePolicy",
            json!("Foo"),
            "terminationMessagePolicy: Unsupported value: \"Foo\": supported values: \"File\", \"FallbackToLogsOnError\"",
        ),
    ] {
        assert_eq!(with(field, value), [format!("spec.containers[0].{expected}")]);
    }
    assert_eq!(
        with("resources", json!({"requests": {"foo": "1"}})),
        [
            "spec.containers[0].resources.requests[foo]: Invalid value: foo: must be a standard resource type or fully qualified",
            "spec.containers[0].resources.requests[foo]: Invalid value: foo: must be a standard resource for containers"
        ]
    );
    for good in [
        json!({"fieldRef": {"fieldPath": "metadata.labels['a.b/c']"}}),
        json!({"resourceFieldRef": {"resource": "limits.cpu"}}),
        json!({"secretKeyRef": {"name": "s", "key": "k"}}),
    ] {
        assert_eq!(with("env", json!([{"name": "A", "valueFrom": good}])), Vec::<String>::new());
    }
}

#[test]
fn fields_of_pods_are_checked_one_by_one() {
    let with = |field: &str, v: Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        spec[field] = v;
        problems(spec)
    };
    for (field, value, expected) in [
        (
            "dnsPolicy",
            json!("None"),
            "dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            "hostAliases",
            json!([{"ip": "x"}]),
            "hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            "topologySpreadConstraints",
            json!([{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]),
            "topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (
            "affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
            "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
        ),
        (
            "volumes",
            json!([{"name": "v", "hostPath": {"path": "/a", "type": "Foo"}}]),
            "volumes[0].hostPath.type: Unsupported value: \"Foo\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
        ),
        (
            "volumes",
            json!([{"name": "v", "hostPath": {"path": "../a"}}]),
            "volumes[0].hostPath.path: Invalid value: \"../a\": must not contain '..'",
        ),
        (
            "volumes",
            json!([{"name": "v", "secret": {"secretName": "s", "defaultMode": 1000}}]),
            "volumes[0].secret.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive",
        ),
        (
            "ephemeralContainers",
            json!([{"name": "e", "image": "i"}]),
            "ephemeralContainers: Forbidden: cannot be set on create",
        ),
        (
            "initContainers",
            json!([{"name": "i", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]),
            "initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
    ] {
        assert_eq!(with(field, value), [format!("spec.{expected}")]);
    }
    let volumes = json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "b"}]}}, {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}]);
    assert_eq!(
        with("volumes", volumes.clone()),
        [
            "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"
        ]
    );
    let spec = json!({"serviceAccountName": "default", "volumes": volumes, "containers": [{"name": "c", "image": "i"}]});
    assert_eq!(problems(spec), Vec::<String>::new());
}

// What a kube-apiserver 1.33 answered.
#[test]
fn the_status_of_a_pod_has_addresses_and_conditions_that_can_be() {
    let told = |status: Value| {
        let old =
            json!({"metadata": {"name": "a"}, "spec": {}, "status": {"podIPs": [{"ip": "old"}]}});
        let mut new = old.clone();
        new["status"] = status;
        let mut errors = Vec::new();
        (POD.validate)(&new, Some(&old), Part::Status, &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let both = json!({"podIPs": [{"ip": "1.2.3.4"}, {"ip": "::2"}], "hostIP": "1.2.3.4", "hostIPs": [{"ip": "1.2.3.4"}]});
    assert_eq!(told(both), Vec::<String>::new());
    assert_eq!(
        told(json!({"podIPs": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.5"}]})),
        [
            "status.podIPs: Invalid value: []core.PodIP{core.PodIP{IP:\"1.2.3.4\"}, core.PodIP{IP:\"1.2.3.5\"}}: may specify no more than one IP for each IP family"
        ]
    );
    assert_eq!(
        told(json!({"podIPs": [{"ip": "x"}]})),
        [
            "status.podIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        ]
    );
    assert_eq!(told(json!({"podIPs": [{"ip": "old"}]})), Vec::<String>::new());
    assert_eq!(
        told(json!({"hostIP": "1.1.1.1", "hostIPs": [{"ip": "2.2.2.2"}]})),
        ["status.hostIPs[0].ip: Invalid value: \"2.2.2.2\": must be equal to `hostIP`"]
    );
    let wrong =
        told(json!({"conditions": [{"type": "a b", "status": "True"}], "nominatedNodeName": "A_"}));
    assert!(
        wrong[0].starts_with("status.conditions[0].Type: Invalid value: \"a b\": name part must"),
        "{wrong:?}"
    );
    assert!(
        wrong[1]
            .starts_with("status.nominatedNodeName: Invalid value: \"A_\": a lowercase RFC 1123"),
        "{wrong:?}"
    );
}

// What a kube-apiserver 1.33 said.
#[test]
fn what_a_pod_asks_for_is_refused_in_the_words_of_kubernetes() {
    let with = |field: &str, v: Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        match field.strip_prefix("containers[0].") {
            Some(f) => spec["containers"][0][f] = v,
            None => spec[field] = v,
        }
        problems(spec)
    };
    for (field, value, expected) in [
        (
            "containers[0].restartPolicy",
            json!("Always"),
            "containers[0].restartPolicy: Forbidden: may not be set for non-init containers",
        ),
        (
            "initContainers",
            json!([{"name": "i", "image": "x", "restartPolicy": "Never"}]),
            "initContainers[0].restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            "os",
            json!({"name": "foo"}),
            "os: Unsupported value: \"foo\": supported values: \"linux\", \"windows\"",
        ),
        (
            "containers[0].readinessProbe",
            json!({"exec": {"command": ["a"]}, "terminationGracePeriodSeconds": 5}),
            "containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
        ),
        (
            "containers[0].livenessProbe",
            json!({"httpGet": {"port": 80, "httpHeaders": [{"name": "a b", "value": "c"}]}}),
            "containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
        ),
        (
            "topologySpreadConstraints",
            json!([{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"},
                {"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]),
            "topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{a, DoNotSchedule}\"",
        ),
        (
            "securityContext",
            json!({"seccompProfile": {"type": "Localhost"}}),
            "securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            "securityContext",
            json!({"fsGroupChangePolicy": "Foo"}),
            "securityContext.fsGroupChangePolicy: Unsupported value: \"Foo\": supported values: \"Always\", \"OnRootMismatch\"",
        ),
        (
            "containers[0].env",
            json!([{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.name"}}}]),
            "containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.name\": error converting fieldPath: unsupported pod version: v2",
        ),
        (
            "containers[0].env",
            json!([{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "3"}}}]),
            "containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
        ),
        (
            "containers[0].envFrom",
            json!([{"configMapRef": {"name": ""}}]),
            "containers[0].envFrom[0].configMapRef.name: Required value",
        ),
        (
            "volumes",
            json!([{"name": "v", "projected": {"sources": [{"secret": {"name": "a"}, "configMap": {"name": "b"}}]}}]),
            "volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
        ),
        (
            "volumes",
            json!([{"name": "v", "downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "spec.nodeName"}}]}}]),
            "volumes[0].downwardAPI.fieldRef.fieldPath: Unsupported value: \"spec.nodeName\": supported values: \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\"",
        ),
        (
            "volumes",
            json!([{"name": "v", "ephemeral": {}}]),
            "volumes[0].ephemeral.volumeClaimTemplate: Required value",
        ),
    ] {
        assert_eq!(with(field, value), [format!("spec.{expected}")]);
    }
}

#[test]
fn tags_decide_the_pull_policy() {
    for (image, latest) in [
        ("a", true),
        ("a:latest", true),
        ("a:1", false),
        ("h:5000/a", true),
        ("h:5000/a:1", false),
        ("a@sha256:0", false),
    ] {
        assert_eq!(defaults::image_is_latest(image), latest, "{image}");
    }
}

#[test]
fn problems_are_told_in_the_words_of_kubernetes() {
    assert_eq!(problems(json!({})), ["spec.containers: Required value"]);
    assert_eq!(
        problems(
            json!({"containers": [{"name": "c", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]})
        ),
        ["spec.containers[0].volumeMounts[0].name: Not found: \"v\""]
    );
    assert_eq!(
        problems(
            json!({"restartPolicy": "Sometimes", "containers": [{"name": "c", "image": "x"}]})
        ),
        [
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\""
        ]
    );
}

#[test]
fn only_the_documented_fields_of_a_pod_change() {
    let old = pod(json!({"containers": [{"name": "c", "image": "x:1"}]}));
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "x:2".into();
    let mut errors = Vec::new();
    (POD.validate)(&new, Some(&old), Part::Main, &mut errors);
    assert_eq!(errors, []);
    new["spec"]["hostNetwork"] = true.into();
    (POD.validate)(&new, Some(&old), Part::Main, &mut errors);
    assert!(
        errors[0]
            .to_string()
            .starts_with("spec: Forbidden: pod updates may not change fields other than")
    );
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let class = |resources: Value| {
        qos_class(
            &pod(json!({"containers": [{"name": "c", "image": "x", "resources": resources}]}))["spec"],
        )
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
}

// https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/, and the words of a
// kube-apiserver 1.33.
#[test]
fn containers_that_look_into_a_pod_are_added_through_their_own_path_and_stay() {
    let old = pod(json!({"containers": [{"name": "c", "image": "x"}]}));
    let with = |old: &Value, list: Value| {
        let mut new = old.clone();
        new["spec"]["ephemeralContainers"] = list;
        new["spec"]["nodeName"] = "sneaked".into();
        (POD.default)(&mut new);
        (POD.prepare)(&mut new, Some(old), Part::Ephemeral);
        let mut errors = Vec::new();
        (POD.validate)(&new, Some(old), Part::Ephemeral, &mut errors);
        (new, errors.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let look = json!({"name": "look", "image": "busybox", "targetContainerName": "c", "tty": true});
    let (added, errors) = with(&old, json!([look]));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(added["spec"].get("nodeName"), None);
    assert_eq!(added["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "Always");
    let at = "spec.ephemeralContainers";
    for (list, expected) in [
        (
            json!([]),
            format!("{at}: Forbidden: existing ephemeral containers \"look\" may not be removed\n"),
        ),
        (
            json!([look, {"name": "c", "image": "x"}]),
            format!("{at}[1].name: Duplicate value: \"c\""),
        ),
        (
            json!([look, {"name": "b", "image": "x", "targetContainerName": "look"}]),
            format!("{at}[1].targetContainerName: Not found: \"look\""),
        ),
        (
            json!([look, {"name": "b", "image": "x", "ports": [{"containerPort": 1}]}]),
            format!("{at}[1].ports: Forbidden: cannot be set for an Ephemeral Container"),
        ),
    ] {
        assert_eq!(with(&added, list).1, [expected]);
    }
    // Not with the rest of the pod.
    let mut errors = Vec::new();
    (POD.validate)(&added, Some(&old), Part::Main, &mut errors);
    assert!(errors[0].to_string().starts_with("spec: Forbidden: pod updates may not change"));
}

// What a kube-apiserver 1.33 said.
#[test]
fn a_running_pod_gets_no_more_time_and_no_new_gates() {
    let pod = |spec: Value| {
        let mut o = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        json_patch::merge(&mut o["spec"], &spec);
        (POD.default)(&mut o);
        o
    };
    let told = |new: Value, old: Value, part: Part| {
        let mut errors = Vec::new();
        (POD.validate)(&new, Some(&old), part, &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let limited = |n: Value| pod(json!({"activeDeadlineSeconds": n}));
    assert_eq!(told(limited(json!(50)), limited(json!(100)), Part::Main), [""; 0]);
    assert_eq!(told(limited(json!(50)), pod(json!({})), Part::Main), [""; 0]);
    assert_eq!(
        told(limited(json!(200)), limited(json!(100)), Part::Main),
        [
            "spec.activeDeadlineSeconds: Invalid value: 200: must be less than or equal to previous value"
        ]
    );
    assert_eq!(
        told(pod(json!({})), limited(json!(100)), Part::Main),
        [
            "spec.activeDeadlineSeconds: Invalid value: \"null\": must not update from a positive integer to nil value"
        ]
    );
    let gated = pod(json!({"schedulingGates": [{"name": "a.b/c"}]}));
    assert_eq!(told(pod(json!({})), gated.clone(), Part::Main), [""; 0]);
    assert_eq!(
        told(gated, pod(json!({})), Part::Main),
        [
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a.b/c'"
        ]
    );
}

// What a kube-apiserver 1.33 said.
#[test]
fn devices_are_counted_and_the_last_sleep_ends_in_time() {
    let told = |container: Value| {
        let mut o = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        json_patch::merge(&mut o["spec"]["containers"][0], &container);
        (POD.default)(&mut o);
        let mut errors = Vec::new();
        (POD.validate)(&o, None, Part::Main, &mut errors);
        errors.into_iter().map(|e| e.field).collect::<Vec<_>>()
    };
    let limits = |n: &str| json!({"resources": {"limits": {"example.com/gpu": n}}});
    assert_eq!(told(limits("2")), [""; 0]);
    assert_eq!(
        told(limits("1500m")),
        [
            "spec.containers[0].resources.limits[example.com/gpu]",
            "spec.containers[0].resources.requests[example.com/gpu]"
        ]
    );
    let sleep = |n: u64| json!({"lifecycle": {"preStop": {"sleep": {"seconds": n}}}});
    assert_eq!(told(sleep(30)), [""; 0]);
    assert_eq!(told(sleep(500)), ["spec.containers[0].lifecycle.preStop.sleep"]);
}

// What a kube-apiserver 1.33 did.
#[test]
fn the_addresses_of_a_pod_begin_with_its_address_and_conditions_say_when_they_were_looked_at() {
    let status = |s: Value| {
        let mut o = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}, "status": s});
        (POD.default)(&mut o);
        o["status"].clone()
    };
    let ips = |s: Value| status(s)["podIPs"].clone();
    assert_eq!(ips(json!({"podIP": "10.0.0.1"})), json!([{"ip": "10.0.0.1"}]));
    let both = json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]);
    assert_eq!(ips(json!({"podIP": "10.0.0.1", "podIPs": both})), both);
    assert_eq!(ips(json!({"podIP": "10.0.0.2", "podIPs": both})), json!([{"ip": "10.0.0.2"}]));
    assert_eq!(ips(json!({})), Value::Null);
    assert_eq!(
        status(json!({"conditions": [{"type": "Ready", "status": "True"}]}))["conditions"],
        json!([{"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null}])
    );
}

// "Default" of each field of https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/:
// a text without letters is one that was not set.
#[test]
fn a_text_that_says_nothing_is_filled_in_like_one_that_is_missing() {
    let mut said = json!({"spec": {"restartPolicy": "", "dnsPolicy": "", "schedulerName": "", "serviceAccountName": "",
        "containers": [{"name": "c", "image": "i", "imagePullPolicy": "", "terminationMessagePath": "",
            "terminationMessagePolicy": "", "ports": [{"containerPort": 80, "protocol": ""}]}]}});
    let mut unsaid = json!({"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}});
    (POD.default)(&mut said);
    (POD.default)(&mut unsaid);
    said["spec"].as_object_mut().unwrap().remove("serviceAccountName");
    assert_eq!(said, unsaid);
    let mut service = json!({"spec": {"type": "", "sessionAffinity": "", "ports": [{"port": 80, "protocol": ""}]}});
    let mut plain = json!({"spec": {"ports": [{"port": 80}]}});
    let default = crate::registry::services::SERVICE.default;
    default(&mut service);
    default(&mut plain);
    assert_eq!(service, plain);
}

// "Usage" of https://kubernetes.io/docs/concepts/scheduling-eviction/pod-scheduling-readiness/, and
// what a kube-apiserver 1.33 answered.
#[test]
fn a_pod_that_is_not_ready_to_be_scheduled_has_no_node() {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "schedulingGates": [{"name": "a/b"}], "nodeName": "n"}});
    (POD.default)(&mut pod);
    let told = |pod: &Value| {
        let mut errors = Vec::new();
        validate_pod(pod, None, Part::Main, &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        told(&pod),
        ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]
    );
    pod["spec"]["schedulingGates"] = json!([]);
    assert_eq!(told(&pod), Vec::<String>::new());
}
