use super::places::Place;
use super::*;
use crate::registry::Registry;
use serde_json::Map;

fn options(manager: &str, force: bool) -> WriteOptions {
    WriteOptions { manager: manager.into(), force, applying: true, ..WriteOptions::default() }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "resourceVersion": "1"}, "spec": spec})
}

fn run(old: &Value, applied: &Value, manager: &str, force: bool) -> Result<Value, Status> {
    let r = Registry::new().builtin("apps", "deployments");
    applied_to(&r, old, applied, Part::Main, &options(manager, force))
}

#[test]
fn fields_are_written_as_kubernetes_writes_them() {
    let r = Registry::new().builtin("", "pods");
    let pod = json!({"metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["x/y"]},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}});
    let fields = Fields::of(&ownable(&pod), place(&r));
    let expected = json!({
        "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"x/y\"": {}}},
        "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {},
            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}});
    assert_eq!(fields.write(), expected);
    assert_eq!(Fields::read(&expected), fields);
}

// "Upgrading from client-side apply to server-side apply" of the page: kubectl hands its records over.
#[test]
fn a_client_may_write_records_that_make_sense_and_nobody_loses_them_by_mistake() {
    let r = Registry::new().builtin("", "configmaps");
    let entry = |manager: &str, operation: &str| {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}}}})
    };
    let old = json!({"metadata": {"name": "m", "managedFields": [entry("csa", "Update")]}, "data": {"a": "1"}});
    let written = |list: Value, part: Part| {
        let mut new = old.clone();
        new["metadata"]["managedFields"] = list;
        record_update(
            &r,
            &mut new,
            &old,
            part,
            &WriteOptions { manager: "me".into(), ..WriteOptions::default() },
        );
        new["metadata"].get("managedFields").cloned().unwrap_or_default()
    };
    let (mine, theirs) = (json!([entry("kubectl", "Apply")]), json!([entry("csa", "Update")]));
    assert_eq!(written(mine.clone(), Part::Main), mine);
    assert_eq!(written(mine, Part::Status), theirs);
    assert_eq!(written(json!([{"manager": "x"}]), Part::Main), theirs);
    assert_eq!(written(Value::Null, Part::Main), theirs);
    assert_eq!(written(json!([]), Part::Main), Value::Null);
    assert_eq!(written(json!([{}]), Part::Main), Value::Null);
}

// The first example of
// https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management, and
// `kubectl create deployment` as published in many places.
#[test]
fn who_wrote_an_object_owns_the_maps_and_lists_that_came_with_it() {
    let maps = Registry::new().builtin("", "configmaps");
    let map =
        json!({"metadata": {"name": "m", "labels": {"l": "v"}}, "data": {"key": "some value"}});
    let expected =
        json!({"f:metadata": {"f:labels": {".": {}, "f:l": {}}}, "f:data": {".": {}, "f:key": {}}});
    assert_eq!(Fields::made(&ownable(&map), place(&maps)).write(), expected);
    let r = Registry::new().builtin("apps", "deployments");
    let d = deployment(
        json!({"strategy": {"rollingUpdate": {"maxSurge": 1}, "type": "RollingUpdate"},
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"nodeSelector": {"x": "y"},
            "containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {}}]}}}),
    );
    let expected = json!({"f:spec": {
        "f:selector": {},
        "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
        "f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:nodeSelector": {},
            "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {},
                "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}}}}}}}});
    assert_eq!(Fields::made(&ownable(&d), place(&r)).write(), expected);
}

#[test]
fn a_list_that_is_applied_to_keeps_the_order_that_it_had() {
    let r = Registry::new().builtin("apps", "deployments");
    let list = |names: &[&str]| {
        let all: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
        deployment(json!({"template": {"spec": {"containers": all}}}))
    };
    let merged = |live: &[&str], applied: &[&str]| {
        let mut live = list(live);
        merge(&mut live, &list(applied), place(&r));
        live == list(&["a", "b", "c", "d"])
    };
    assert!(merged(&["a", "b", "c"], &["d"]));
    assert!(merged(&["a", "b", "c"], &["b", "d"]));
    assert!(merged(&["b", "a"], &["a", "b", "c", "d"]));
}

#[test]
fn elements_of_the_same_key_are_named() {
    let r = Registry::new().builtin("apps", "deployments");
    let d = deployment(json!({"template": {"spec": {"containers": [{"name": "c",
        "ports": [{"containerPort": 80}, {"containerPort": 80}], "env": [{"name": "A"}, {"name": "A"}]}]}}}));
    let mut found = types::mistakes(&d, place(&r));
    found.sort();
    let at = ".spec.template.spec.containers[name=\"c\"]";
    assert_eq!(
        found,
        [
            format!("{at}.env: duplicate entries for key [name=\"A\"]"),
            format!("{at}.ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]")
        ]
    );
}

// https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts
#[test]
fn another_managers_field_is_a_conflict_unless_forced() {
    let first = run(
        &deployment(json!({})),
        &deployment(json!({"replicas": 1, "paused": true})),
        "a",
        false,
    )
    .unwrap();
    let e = run(&first, &deployment(json!({"replicas": 2})), "b", false).unwrap_err();
    assert_eq!(e.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    assert_eq!(e.code, 409);
    let forced = run(&first, &deployment(json!({"replicas": 2})), "b", true).unwrap();
    assert_eq!(forced["spec"], json!({"replicas": 2, "paused": true}));
    let owner = |o: &Value, m: &str| {
        read_entries(o).into_iter().find(|e| e.manager == m).unwrap().fields.write()
    };
    assert_eq!(owner(&forced, "b"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(owner(&forced, "a"), json!({"f:spec": {"f:paused": {}}}));
    // The same value is no conflict: the field is shared.
    let shared = run(&first, &deployment(json!({"replicas": 1})), "b", false).unwrap();
    assert_eq!(owner(&shared, "a"), json!({"f:spec": {"f:paused": {}, "f:replicas": {}}}));
}

#[test]
fn what_is_not_applied_any_more_goes_unless_it_is_shared() {
    let c = |list: Value| deployment(json!({"template": {"spec": {"containers": list}}}));
    let first = run(
        &deployment(json!({})),
        &c(json!([{"name": "x", "image": "1"}, {"name": "y", "image": "1"}])),
        "a",
        false,
    )
    .unwrap();
    let second = run(&first, &c(json!([{"name": "x", "image": "1"}])), "a", false).unwrap();
    assert_eq!(
        second["spec"]["template"]["spec"]["containers"],
        json!([{"name": "x", "image": "1"}])
    );
    let shared = run(&first, &c(json!([{"name": "y", "image": "1"}])), "b", false).unwrap();
    let third = run(&shared, &c(json!([{"name": "x", "image": "1"}])), "a", false).unwrap();
    assert_eq!(third["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
}

/// The record of who makes an object.
fn record(plural: &str, sent: Value, new: Value) -> Value {
    let r = Registry::new().builtin("", plural);
    let (mut new, options) = (new, options("m", false));
    record_create(&r, &mut new, &sent, None, &WriteOptions { applying: false, ..options });
    new["metadata"]["managedFields"][0]["fieldsV1"].clone()
}

// What a kube-apiserver 1.33 recorded of the same.
#[test]
fn who_makes_an_object_owns_what_was_sent_and_no_status() {
    let sent = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"}, "reason": "R",
        "firstTimestamp": null, "eventTime": null, "source": {}, "reportingComponent": ""});
    assert_eq!(
        record("events", sent.clone(), sent),
        json!({"f:involvedObject": {}, "f:reason": {}})
    );
    let sent = json!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}}});
    let mut new = sent.clone();
    new["spec"] = json!({"finalizers": ["kubernetes"]});
    new["status"] = json!({"phase": "Active"});
    assert_eq!(
        record("namespaces", sent, new),
        json!({"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}})
    );
}

// A kube-apiserver 1.33 keeps no record of what stands twice under one key.
#[test]
fn what_stands_twice_under_one_key_is_nobodys_and_a_member_of_a_set_is_owned_once() {
    let env = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "B", "value": "3"}]);
    let pod = json!({"metadata": {"name": "p", "finalizers": ["a/b", "a/b"]},
        "spec": {"containers": [{"name": "c", "env": env}]}});
    let fields = record("pods", pod.clone(), pod);
    let of = &fields["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:env"];
    let keys: Vec<&String> = of.as_object().unwrap().keys().collect();
    assert_eq!(keys, [".", "k:{\"name\":\"B\"}"]);
    assert!(fields["f:metadata"]["f:finalizers"].get("v:\"a/b\"").is_some());
}

// https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply
#[test]
fn kubectl_goes_on_by_the_server_where_it_applied_by_itself() {
    let last = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1}});
    let mut old = deployment(json!({"replicas": 1}));
    old["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
    old["metadata"]["managedFields"] = json!([{"manager": "kubectl-client-side-apply", "operation": "Update",
        "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    let wanted = deployment(json!({"replicas": 2}));
    assert_eq!(run(&old, &wanted, "kubectl", false).unwrap()["spec"]["replicas"], 2);
    assert_eq!(run(&old, &wanted, "other", false).unwrap_err().code, 409);
    // What is new is nobody's, and in nobody's way.
    let more = deployment(json!({"replicas": 2, "minReadySeconds": 3}));
    assert_eq!(run(&old, &more, "kubectl", false).unwrap()["spec"]["minReadySeconds"], 3);
    // Somebody changed it since.
    old["spec"]["replicas"] = 5.into();
    assert_eq!(run(&old, &wanted, "kubectl", false).unwrap_err().code, 409);
}

/// A kind of somebody's own, with a default and a status.
fn widget() -> std::sync::Arc<Resource> {
    let definition = json!({"spec": {"group": "example.com", "scope": "Namespaced", "versions": [{"name": "v1", "served": true, "storage": true,
            "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3}, "mode": {"type": "string"}}},
                "status": {"type": "object", "properties": {"phase": {"type": "string"}}}}}}}]},
        "status": {"acceptedNames": {"plural": "widgets", "kind": "Widget", "listKind": "WidgetList"},
            "conditions": [{"type": "Established", "status": "True"}]}});
    crate::registry::crd::resources(&definition).remove(0)
}

// "Field management" of https://kubernetes.io/docs/reference/using-api/server-side-apply/: a manager
// owns what it says, and no more.
#[test]
fn who_applies_a_custom_object_does_not_own_what_the_definition_fills_in() {
    let text = br#"{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"mode": "a"}}"#;
    let applied =
        configuration(&widget(), ("ns", "w"), text, &options("me", false)).unwrap().object;
    assert_eq!(applied["spec"], json!({"mode": "a"}));
}

// "Conflicts" of the same page; the words are those of a kube-apiserver 1.33.
#[test]
fn spec_and_status_are_applied_each_on_its_own_path() {
    let r = widget();
    let old = json!({"metadata": {"name": "w"}, "spec": {"mode": "a"}, "status": {"phase": "p"}});
    let both = json!({"metadata": {"name": "w"}, "spec": {"mode": "b"}, "status": {"phase": "q"}});
    let run = |old: &Value, part: Part, who: &str| {
        applied_to(&r, old, &both, part, &options(who, true)).unwrap()
    };
    let main = run(&old, Part::Main, "spec-writer");
    assert_eq!((&main["spec"]["mode"], &main["status"]["phase"]), (&json!("b"), &json!("p")));
    let status = run(&old, Part::Status, "status-writer");
    assert_eq!((&status["spec"]["mode"], &status["status"]["phase"]), (&json!("a"), &json!("q")));
    let other = json!({"metadata": {"name": "w"}, "status": {"phase": "r"}});
    let e = applied_to(&r, &status, &other, Part::Status, &options("third", false)).unwrap_err();
    assert_eq!(
        e.message,
        "Apply failed with 1 conflict: conflict with \"status-writer\" with subresource \"status\": .status.phase"
    );
}

// What a kube-apiserver 1.33 did.
#[test]
fn who_applies_what_is_there_already_is_on_record_without_a_time() {
    let old = deployment(json!({"replicas": 2}));
    let applied = deployment(json!({"replicas": 2}));
    let new = run(&old, &applied, "late", false).unwrap();
    let entry = |who: &str| {
        let all = new["metadata"]["managedFields"].as_array().unwrap();
        all.iter().find(|e| e["manager"] == who).cloned().unwrap_or_default()
    };
    assert_eq!(entry("late").get("time"), None);
    assert!(entry("before-first-apply")["time"].is_string());
    let moved = run(&old, &deployment(json!({"replicas": 3})), "late", true).unwrap();
    let all = moved["metadata"]["managedFields"].as_array().unwrap();
    assert!(all.iter().find(|e| e["manager"] == "late").unwrap()["time"].is_string());
}

// What a kube-apiserver 1.33 did.
#[test]
fn who_lets_go_of_an_empty_part_does_not_take_away_what_others_have_in_it() {
    let old = deployment(json!({"replicas": 2}));
    let made = run(&old, &deployment(json!({"replicas": 2})), "owner", true).unwrap();
    let empty = run(&made, &deployment(json!({})), "visitor", false).unwrap();
    let plain = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}});
    let after = run(&empty, &plain, "visitor", false).unwrap();
    assert_eq!(after["spec"], json!({"replicas": 2}));
}

// The same.
#[test]
fn within_a_new_element_of_a_list_all_is_new() {
    let r = Registry::new().builtin("", "pods");
    let pod =
        json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}});
    assert_eq!(
        Fields::made(&pod, place(&r)).write(),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {},
            "f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}}}}}}})
    );
}

// What kubectl does when it goes on by the server with what it applied by itself
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply):
// its record then has the map as a whole, as that of whoever made an object, and what Kubernetes put
// into the map by itself (https://kubernetes.io/docs/concepts/workloads/controllers/job/#specifying-your-own-pod-selector)
// is nobody's.
#[test]
fn what_nobody_owns_in_a_map_stays_while_its_manager_has_something_there() {
    let r = Registry::new().builtin("batch", "jobs");
    let labels = |l: Value| {
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
            "spec": {"template": {"metadata": {"labels": l}}}})
    };
    let mut old = labels(json!({"app": "j", "part": "x", "job-name": "j"}));
    old["metadata"]["managedFields"] = json!([{"manager": "kubectl", "operation": "Apply", "apiVersion": "batch/v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:template": {"f:metadata": {
            "f:labels": {".": {}, "f:app": {}, "f:part": {}}}}}}}]);
    let run = |applied: &Value| {
        let new = applied_to(&r, &old, applied, Part::Main, &options("kubectl", false)).unwrap();
        new["spec"].pointer("/template/metadata/labels").cloned().unwrap_or_default()
    };
    let all = json!({"app": "j", "part": "x"});
    assert_eq!(run(&labels(all)), json!({"app": "j", "part": "x", "job-name": "j"}));
    assert_eq!(run(&labels(json!({"app": "j"}))), json!({"app": "j", "job-name": "j"}));
    // Without anything there, the map goes, and all that is in it.
    let mut none = labels(json!({}));
    none["spec"]["template"] = json!({"spec": {"restartPolicy": "Never"}});
    assert_eq!(run(&none), Value::Null);
}

// What a kube-apiserver 1.33 answered.
#[test]
fn of_several_conflicts_each_stands_in_a_line_of_its_own() {
    let made =
        run(&deployment(json!({"replicas": 2})), &deployment(json!({"replicas": 2})), "m", true);
    let both = run(&made.unwrap(), &deployment(json!({"replicas": 2, "paused": true})), "n", true);
    let other = deployment(json!({"replicas": 3, "paused": false}));
    let e = run(&both.unwrap(), &other, "o", false).unwrap_err();
    let (m, n) = (
        "conflicts with \"m\":\n- .spec.replicas",
        "conflicts with \"n\":\n- .spec.paused\n- .spec.replicas",
    );
    let before = "conflicts with \"before-first-apply\" using apps/v1:\n- .spec.replicas";
    assert_eq!(e.message, format!("Apply failed with 4 conflicts: {before}\n{m}\n{n}"));
}

// The same.
#[test]
fn a_configuration_has_no_records_and_is_for_no_object_that_is_gone() {
    let r = Registry::new().builtin("", "configmaps");
    let text = br#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "managedFields": []}}"#;
    let e =
        configuration(&r, ("n", "m"), text, &options("me", false)).map(|c| c.object).unwrap_err();
    assert_eq!((e.code, e.message.as_str()), (400, "metadata.managedFields must be nil"));
    assert!(absent(&r, "m", &json!({"metadata": {"name": "m"}})).is_ok());
    let e = absent(&r, "m", &json!({"metadata": {"name": "m", "uid": "1"}})).unwrap_err();
    assert_eq!(
        (e.code, e.message.as_str()),
        (
            409,
            "Operation cannot be fulfilled on configmaps \"m\": uid mismatch: the provided object specified uid 1, and no existing object was found"
        )
    );
}

// "Downgrading from server-side apply to client-side apply" of
// https://kubernetes.io/docs/reference/using-api/server-side-apply/, and what a kube-apiserver 1.33 did.
#[test]
fn what_kubectl_notes_of_an_object_is_kept_up_to_date_for_it_alone() {
    let r = Registry::new().builtin("", "configmaps");
    let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
    let mut old = map(json!({"a": "1"}));
    old["metadata"]["annotations"] = json!({LAST_APPLIED: "{}\n"});
    let noted = |old: &Value, applied: &Value, who: &str| {
        let new = applied_to(&r, old, applied, Part::Main, &options(who, true)).unwrap();
        new["metadata"]["annotations"][LAST_APPLIED].clone()
    };
    let applied = map(json!({"b": "<2>"}));
    let text = "{\"apiVersion\":\"v1\",\"data\":{\"b\":\"\\u003c2\\u003e\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"m\"}}\n";
    assert_eq!(noted(&old, &applied, "kubectl"), text);
    assert_eq!(noted(&old, &applied, "me"), "{}\n");
    assert_eq!(noted(&map(json!({})), &applied, "kubectl"), Value::Null);
    // What is too large for it is not noted any more.
    assert_eq!(noted(&old, &map(json!({"b": "x".repeat(262_144)})), "kubectl"), Value::Null);
}

// What a kube-apiserver 1.33 answered.
#[test]
fn who_applies_a_map_that_is_empty_or_null_owns_it_though_nothing_is_kept() {
    let r = Registry::new().builtin("", "configmaps");
    for nothing in ["{}", "null"] {
        let text =
            format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: m}}, data: {nothing}}}");
        let c = configuration(&r, ("n", "m"), text.as_bytes(), &options("me", false)).unwrap();
        assert_eq!(c.object.get("data"), None);
        let options = WriteOptions { claimed: Some(Arc::new(c.sent)), ..options("me", false) };
        let mut new = c.object.clone();
        record_create(&r, &mut new, &c.object, Some(&c.object), &options);
        let theirs = json!({"f:data": {}});
        assert_eq!(new["metadata"]["managedFields"][0]["fieldsV1"], theirs);
        let old = json!({"metadata": {"name": "m"}, "data": {"a": "1"}});
        let new = applied_to(&r, &old, &c.object, Part::Main, &options).unwrap();
        let all = new["metadata"]["managedFields"].as_array().unwrap();
        let mine = all.iter().find(|e| e["manager"] == "me").unwrap();
        assert_eq!((&mine["fieldsV1"], &new["data"]), (&theirs, &json!({"a": "1"})));
    }
}

// What a kube-apiserver 1.33 answered: the order of the paths is that of the sets of its library.
#[test]
fn of_contested_fields_those_with_nothing_below_come_first() {
    let fields = Fields::read(&json!({"f:spec": {"f:free": {"f:q": {}}, "f:size": {}}, "f:z": {}}));
    let mut paths = Vec::new();
    fields.paths("", &mut paths);
    assert_eq!(paths, [".z", ".spec.size", ".spec.free.q"]);
}

// What a kube-apiserver 1.33 answered.
#[test]
fn what_stands_under_a_key_that_no_type_has_is_owned_as_such() {
    let applied = json!({"spec": {"free": {"q": {"r": 1}}}});
    let fields = Fields::of(&applied, Place::Free);
    let all = json!({"f:spec": {".": {}, "f:free": {".": {}, "f:q": {".": {}, "f:r": {}}}}});
    assert_eq!(fields.write(), all);
}

// What a kube-apiserver 1.33 answered: of a kind with the versions v1, which is stored, and v2.
#[test]
fn what_the_stored_version_does_not_have_is_not_applied_beside_its_owners() {
    let properties = |names: &[&str]| {
        let all: Map<String, Value> =
            names.iter().map(|n| ((*n).to_owned(), json!({"type": "string"}))).collect();
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": all}}}})
    };
    let definition = json!({"spec": {"group": "e.com", "scope": "Namespaced", "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": properties(&["a"])},
            {"name": "v2", "served": true, "storage": false, "schema": properties(&["a", "extra"])}]},
        "status": {"acceptedNames": {"plural": "ws", "kind": "W"}, "conditions": [{"type": "Established", "status": "True"}]}});
    let all = crate::registry::crd::resources(&definition);
    let v2 = all.iter().find(|r| r.version == "v2").unwrap();
    let old = |version: &str| {
        json!({"metadata": {"name": "w", "managedFields": [{"manager": "x", "operation": "Apply", "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:a": {}}}}]}, "spec": {"a": "1"}})
    };
    let applied = json!({"metadata": {"name": "w"}, "spec": {"extra": "x"}});
    let apply = |old: Value| applied_to(v2, &old, &applied, Part::Main, &options("me", false));
    let e = apply(old("e.com/v1")).unwrap_err();
    let why = "failed to convert new object: .spec.extra: field not declared in schema";
    assert_eq!((e.code, e.message.as_str()), (500, why));
    assert!(apply(old("e.com/v2")).is_ok());
}

// What a kube-apiserver 1.33 answered.
#[test]
fn all_that_is_wrong_with_a_custom_object_is_told_at_once() {
    let text = br#"{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": "x"}, "zz": 1}"#;
    let e = configuration(&widget(), ("ns", "w"), text, &options("me", false))
        .map(|c| c.object)
        .unwrap_err();
    let why = "errors:\n  .spec.size: expected numeric (int or float), got string\n  .zz: field not declared in schema";
    assert!(e.message.ends_with(why), "{}", e.message);
}

// What a kube-apiserver 1.33 answered.
#[test]
fn who_applies_nothing_is_not_on_record() {
    let r = Registry::new().builtin("", "configmaps");
    let old = json!({"metadata": {"name": "m"}, "data": {"a": "1"}});
    let applied = json!({"metadata": {"name": "m"}});
    let new = applied_to(&r, &old, &applied, Part::Main, &options("me", false)).unwrap();
    let all = new["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(all.iter().filter(|e| e["manager"] == "me").count(), 0);
}
