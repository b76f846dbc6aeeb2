use super::*;

fn host() -> Host {
    Host { local_ip: IpAddr::from([10, 0, 0, 5]), hostname: "Edge-7".into() }
}

/// A golden file with its placeholders filled in.
fn golden(name: &str) -> String {
    let text = match name {
        "cloudcore-default" => include_str!("../../tests/vectors/config/cloudcore-default.yaml"),
        "cloudcore-min" => include_str!("../../tests/vectors/config/cloudcore-min.yaml"),
        "edgecore-default" => include_str!("../../tests/vectors/config/edgecore-default.yaml"),
        "edgecore-min" => include_str!("../../tests/vectors/config/edgecore-min.yaml"),
        other => panic!("no golden file {other}"),
    };
    text.replace("<local-ip>", "10.0.0.5").replace("<hostname>", "edge-7")
}

fn tree(text: &str) -> Value {
    yaml::read(text).unwrap()
}

fn cloud_errors(text: &str) -> Vec<String> {
    let errors = CloudCoreConfig::parse(text, &host()).unwrap_err();
    errors.errors.iter().map(ToString::to_string).collect()
}

#[test]
fn every_golden_file_loads_without_a_warning() {
    for name in ["cloudcore-default", "cloudcore-min"] {
        let (_, warnings) = CloudCoreConfig::parse(&golden(name), &host()).unwrap();
        assert_eq!(warnings, [], "{name}");
    }
    for name in ["edgecore-default", "edgecore-min"] {
        let (_, warnings) = EdgeCoreConfig::parse(&golden(name), &host()).unwrap();
        assert_eq!(warnings, [], "{name}");
    }
}

#[test]
fn the_defaults_are_those_of_the_original() {
    assert_eq!(tree(&CloudCoreConfig::default_yaml(&host())), tree(&golden("cloudcore-default")));
    assert_eq!(tree(&EdgeCoreConfig::default_yaml(&host())), tree(&golden("edgecore-default")));
}

/// The original's short forms switch off what they do not mean to (`cloudHub`, `edgeHub`,
/// `deviceTwin`, `eventBus`) and name another node limit; ours run as they are.
#[test]
fn the_short_forms_have_the_keys_of_the_originals_and_run() {
    fn keys(value: &Value, at: &str, out: &mut Vec<String>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    keys(value, &format!("{at}.{key}"), out);
                }
            }
            _ => out.push(at.to_owned()),
        }
    }
    let listed = |text: &str| {
        let mut out = Vec::new();
        keys(&tree(text), "", &mut out);
        out
    };
    let cloud = CloudCoreConfig::min_yaml(&host());
    assert_eq!(listed(&cloud), listed(&golden("cloudcore-min")));
    let edge = EdgeCoreConfig::min_yaml(&host());
    assert_eq!(listed(&edge), listed(&golden("edgecore-min")));
    assert!(CloudCoreConfig::parse(&cloud, &host()).unwrap().0.modules.cloud_hub.enable);
    let edge = EdgeCoreConfig::parse(&edge, &host()).unwrap().0;
    assert_eq!(edge, EdgeCoreConfig::default_for(&host()));
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "# nothing\n", "---\n"] {
        let (config, warnings) = EdgeCoreConfig::parse(text, &host()).unwrap();
        assert_eq!((config, warnings), (EdgeCoreConfig::default_for(&host()), vec![]));
    }
}

#[test]
fn the_defaults_know_the_machine() {
    let config = EdgeCoreConfig::default_for(&host());
    assert_eq!(config.modules.edged.hostname_override.as_str(), "edge-7");
    assert_eq!(config.modules.edge_hub.websocket.server, "10.0.0.5:10000");
    let odd = Host { local_ip: "::1".parse().unwrap(), hostname: "no: name\n- [".into() };
    let config = EdgeCoreConfig::default_for(&odd);
    assert_eq!(config.modules.edged.hostname_override.as_str(), "default-edge-node");
    assert_eq!(config.modules.edge_hub.websocket.server, "[::1]:10000");
    assert_eq!(config.modules.edge_hub.http_server, "https://[::1]:10002");
    assert_eq!(CloudCoreConfig::default_for(&odd).modules.cloud_hub.advertise_address, ["::1"]);
}

#[test]
fn all_errors_of_a_file_are_reported_together_with_their_paths() {
    let text = "
kubeAPIConfig: {kubeConfig: relative/path}
commonConfig: {tunnelPort: x, monitorServer: {bindAddress: nowhere}}
modules:
  cloudHub:
    enable: maybe
    keepaliveInterval: 0
    nodeLimit: -1
    advertiseAddress: 10.0.0.1
    websocket: {port: 70000, address: localhost}
  router: []
  iptablesManager: {mode: sideways}
";
    assert_eq!(
        cloud_errors(text),
        [
            "modules.router: a list is not a mapping of keys",
            "commonConfig.monitorServer.bindAddress: invalid socket address syntax",
            "commonConfig.tunnelPort: \"x\" is not a whole number in range",
            "modules.cloudHub.advertiseAddress: \"10.0.0.1\" is not a list",
            "modules.cloudHub.enable: \"maybe\" is not `true` or `false`",
            "modules.cloudHub.nodeLimit: -1 is not a whole number in range",
            "modules.cloudHub.websocket.address: invalid IP address syntax",
            "modules.cloudHub.websocket.port: 70000 is not a port",
            "kubeAPIConfig.kubeConfig: it should be an absolute path",
            "modules.cloudHub.keepaliveInterval: it should be more than 0",
            "modules.iptablesManager.mode: it should be `internal` or `external`",
        ]
    );
}

#[test]
fn broken_yaml_says_where_and_quotes_nothing() {
    let text = "modules:\n  edgeHub:\n    token: s3cret\n    token: s3cret2\n";
    let error = EdgeCoreConfig::parse(text, &host()).unwrap_err().to_string();
    assert!(error.starts_with("edgecore.yaml: "), "{error}");
    assert!(error.contains("line 4"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
    let error = EdgeCoreConfig::parse("a: [1, {", &host()).unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
    let error = EdgeCoreConfig::parse("- 1", &host()).unwrap_err().to_string();
    assert_eq!(error, "edgecore.yaml: it should be a mapping of keys");
    let long = "#".repeat(yaml::MAX_LEN + 1);
    assert!(EdgeCoreConfig::parse(&long, &host()).is_err());
}

#[test]
fn a_token_is_shown_by_nothing() {
    let text = "modules: {edgeHub: {token: s3cret}, eventBus: {mqttPassword: s3cret}}";
    let document = Document::<EdgeCoreConfig>::read(text, &host()).unwrap();
    let (config, _) = document.config().unwrap();
    assert_eq!(config.modules.edge_hub.token.expose(), "s3cret");
    assert!(!format!("{config:?}{document:?}").contains("s3cret"));
    let text = "modules: {edgeHub: {token: 5432109876}, eventBus: {mqttPassword: [s3cret]}}";
    let error = EdgeCoreConfig::parse(text, &host()).unwrap_err().to_string();
    assert!(error.contains("modules.edgeHub.token"), "{error}");
    assert!(!error.contains("5432109876") && !error.contains("s3cret"), "{error}");
    let mut document = Document::<EdgeCoreConfig>::defaults(&host());
    let error = document.set("modules.edgeHub.tokn=s3cret").unwrap_err().to_string();
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn what_means_nothing_here_is_named_in_one_warning_with_its_reason() {
    let text = "
modules:
  edgeController: {load: {queryNodeWorkers: 7, updateNodeWorkers: 9}}
  cloudHub: {quic: {port: 999}, writeTimeout: 30}
";
    let (_, warnings) = CloudCoreConfig::parse(text, &host()).unwrap();
    let [Warning::Ignored(keys)] = warnings.as_slice() else { panic!("{warnings:?}") };
    let paths: Vec<_> = keys.iter().map(|key| key.path).collect();
    assert_eq!(paths, ["modules.cloudHub.quic", "modules.edgeController.load"]);
    assert!(warnings[0].to_string().contains("sharded by object"));
}

#[test]
fn every_ignored_key_is_one_that_the_file_may_have() {
    fn check<C: ConfigFile>() {
        let document = Document::<C>::defaults(&host());
        for key in C::IGNORED {
            let mut path = set::path(key.path).unwrap();
            document.known().make_path_canonical(&mut path).unwrap();
            let spelt: Vec<_> = path
                .iter()
                .map(|step| match step {
                    set::Step::Key(key) => key.as_str(),
                    set::Step::Index(_) => panic!("an index in {}", key.path),
                })
                .collect();
            assert_eq!(spelt.join("."), key.path);
        }
    }
    check::<CloudCoreConfig>();
    check::<EdgeCoreConfig>();
}

#[test]
fn unknown_keys_are_named_and_keys_are_read_in_any_case() {
    let text = "
modules:
  edgehub: {HEARTBEAT: 7, hartbeat: 8}
  edged: {nodeLabels: {Any: thing}}
controller: {}
";
    let (config, warnings) = EdgeCoreConfig::parse(text, &host()).unwrap();
    assert_eq!(config.modules.edge_hub.heartbeat, 7);
    assert_eq!(config.modules.edged.node_labels["Any"], "thing");
    let unknown = ["controller", "modules.edgeHub.hartbeat"].map(str::to_owned).to_vec();
    assert_eq!(warnings, [Warning::Unknown(unknown)]);
}

#[test]
fn maps_are_merged_with_the_defaults_and_null_changes_nothing() {
    let text = "
modules:
  edged:
    tailoredKubeletConfig:
      evictionHard: {memory.available: 50Mi}
      maxPods: null
";
    let kubelet = EdgeCoreConfig::parse(text, &host()).unwrap().0.modules.edged;
    let kubelet = kubelet.tailored_kubelet_config;
    assert_eq!(kubelet.eviction_hard["memory.available"], "50Mi");
    assert_eq!(kubelet.eviction_hard["nodefs.available"], "10%");
    assert_eq!(kubelet.max_pods, 110);
}

#[test]
fn yaml_is_read_as_go_reads_it() {
    let text = "modules: {edgeHub: {enable: on, rotateCertificates: NO, heartbeat: 017}}";
    let hub = EdgeCoreConfig::parse(text, &host()).unwrap().0.modules.edge_hub;
    assert_eq!((hub.enable, hub.rotate_certificates, hub.heartbeat), (true, false, 15));
}

#[test]
fn settings_are_laid_over_the_file_and_unknown_keys_are_errors() {
    let mut document = Document::<EdgeCoreConfig>::defaults(&host());
    document.set("modules.edgeHub.heartbeat=9,modules.edged.nodeLabels.site=north").unwrap();
    document.set("modules.edged.tailoredKubeletConfig.registerWithTaints[0].key=k").unwrap();
    document
        .set("modules.edged.tailoredKubeletConfig.registerWithTaints[0].effect=NoSchedule")
        .unwrap();
    document.set_value("modules.edgeHub.token", "a,b=c").unwrap();
    let (config, _) = document.config().unwrap();
    assert_eq!(config.modules.edge_hub.heartbeat, 9);
    assert_eq!(config.modules.edged.node_labels["site"], "north");
    let taints = config.modules.edged.tailored_kubelet_config.register_with_taints.unwrap();
    assert_eq!(taints[0].key, "k");
    assert_eq!(config.modules.edge_hub.token.expose(), "a,b=c");
    // and it is all still there when the file is written and read again
    let again = document.to_yaml().unwrap();
    let (again, _) = EdgeCoreConfig::parse(&again, &host()).unwrap();
    assert_eq!(again.modules.edge_hub.token.expose(), "a,b=c");

    for (setting, message) in [
        (
            "modules.edgeHub.hearbeat=9",
            "--set: modules.edgeHub.hearbeat: `modules.edgeHub` has no key `hearbeat`; did you mean \
             `heartbeat`?",
        ),
        ("nonsense=1", "--set: nonsense: the file has no key `nonsense`"),
        (
            "modules.edgeHub.heartbeat.x=9",
            "--set: modules.edgeHub.heartbeat.x: `modules.edgeHub.heartbeat` is a single value and \
             has no `x`",
        ),
        ("modules", "--set: modules: it should be `key=value`"),
    ] {
        assert_eq!(document.set(setting).unwrap_err().to_string(), message);
    }
    document.set("modules.edgeHub.heartbeat=soon").unwrap();
    let error = document.config().unwrap_err().to_string();
    assert_eq!(
        error,
        "edgecore.yaml: modules.edgeHub.heartbeat: \"soon\" is not a whole number in range"
    );
}

#[test]
fn the_embedded_runtime_is_chosen_by_its_endpoint() {
    use kubelet::RuntimeEndpoint;
    let runtime = |endpoint: &str| {
        let mut document = Document::<EdgeCoreConfig>::defaults(&host());
        let path = "modules.edged.tailoredKubeletConfig.containerRuntimeEndpoint";
        document.set_value(path, endpoint).unwrap();
        let config = document.config().map_err(|e| e.to_string())?;
        Ok::<_, String>(config.0.modules.edged.tailored_kubelet_config.runtime().unwrap())
    };
    assert_eq!(runtime("embedded://"), Ok(RuntimeEndpoint::Embedded));
    assert_eq!(
        runtime("unix:///run/crio.sock"),
        Ok(RuntimeEndpoint::Cri {
            runtime: "/run/crio.sock".into(),
            images: "/run/containerd/containerd.sock".into()
        })
    );
    for bad in ["", "remote", "tcp://127.0.0.1:1", "unix://relative"] {
        assert!(runtime(bad).unwrap_err().contains("containerRuntimeEndpoint"), "{bad}");
    }
}

#[test]
fn quic_alone_is_refused_with_one_clear_error() {
    let text = "modules: {edgeHub: {websocket: {enable: false}, quic: {enable: true}}}";
    let error = EdgeCoreConfig::parse(text, &host()).unwrap_err();
    assert_eq!(error.errors.len(), 1);
    assert!(error.to_string().contains("enable WebSocket"), "{error}");
}

#[test]
fn a_server_is_a_host_and_a_port() {
    for good in ["a:1", "10.0.0.1:10000", "[::1]:443", "cloud.example:65535"] {
        assert!(edgecore::is_host_and_port(good), "{good}");
    }
    for bad in ["", "a", "a:", ":1", "a:0", "a:65536", "::1:443", "a/b:1", "u@a:1", "a b:1"] {
        assert!(!edgecore::is_host_and_port(bad), "{bad}");
    }
}
