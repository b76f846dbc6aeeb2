//! Expected answers are those of kubernetes.io/docs/concepts/workloads/controllers/deployment.

use std::collections::BTreeSet;

use super::*;

fn cx() -> Context {
    Context { now: "2026-01-01T01:00:00Z".parse().unwrap(), failed: None }
}

fn deployment(replicas: i64, image: &str) -> Value {
    json!({"metadata": {"name": "web", "namespace": "d", "uid": "u", "generation": 1, "resourceVersion": "5",
            "annotations": {"kubernetes.io/change-cause": "why", LAST_APPLIED: "{}"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}}}})
}

/// A set of a deployment, with so many pods asked for and available.
fn set(d: &Value, name: &str, number: i64, pods: (i64, i64)) -> Value {
    let mut t = d["spec"]["template"].clone();
    template::label(&mut t, HASH, name);
    json!({"metadata": {"name": name, "namespace": "d", "uid": name, "resourceVersion": "1", "generation": 1,
            "creationTimestamp": format!("2026-01-01T00:00:{number:02}Z"), "labels": {"app": "web", HASH: name},
            "annotations": {REVISION: number.to_string(), DESIRED: d["spec"]["replicas"].to_string(), MAX: "13",
                "kubernetes.io/change-cause": "why"},
            "ownerReferences": [owner_reference(Kind::Deployment, d)]},
        "spec": {"replicas": pods.0, "template": t},
        "status": {"replicas": pods.0, "readyReplicas": pods.1, "availableReplicas": pods.1, "observedGeneration": 1}})
}

fn plan(d: &Value, sets: &[Value]) -> Plan {
    let (mut world, mut touched) = (World::default(), BTreeSet::new());
    world.put(Kind::Deployment, d.clone(), &mut touched);
    for s in sets {
        world.put(Kind::ReplicaSet, s.clone(), &mut touched);
    }
    assert!(touched.contains(&(Kind::Deployment, "d/web".into())));
    reconcile(&world, "d/web", &cx())
}

fn sizes(plan: &Plan) -> Vec<(String, i64)> {
    let one = |a: &Action| match a {
        Action::Patch(t, _, p) => Some((t.name.clone(), p["spec"]["replicas"].as_i64()?)),
        _ => None,
    };
    plan.actions.iter().filter_map(one).collect()
}

fn status(plan: &Plan) -> &Value {
    for action in &plan.actions {
        if let Action::Status(_, _, status) = action {
            return status;
        }
    }
    panic!("no status in {:?}", plan.actions)
}

fn marked(mut d: Value, revision: &str) -> Value {
    d["metadata"]["annotations"][REVISION] = revision.into();
    d
}

#[test]
fn the_first_set_has_all_pods_and_the_revision_one() {
    let d = deployment(3, "nginx:1");
    let plan = plan(&d, &[]);
    let Some(Action::Create(Kind::ReplicaSet, set, Some(note))) = plan.actions.first() else {
        panic!("{plan:?}")
    };
    let hash = set["metadata"]["labels"][HASH].as_str().unwrap();
    assert_eq!(set["metadata"]["name"], format!("web-{hash}"));
    assert_eq!(set["spec"]["selector"]["matchLabels"], json!({"app": "web", HASH: hash}));
    assert_eq!(
        set["metadata"]["annotations"],
        json!({REVISION: "1", DESIRED: "3", MAX: "4", "kubernetes.io/change-cause": "why"})
    );
    assert_eq!(note.message, format!("Scaled up replica set web-{hash} from 0 to 3"));
    assert_eq!(
        status(&plan)["conditions"][1]["message"],
        format!("Created new replica set \"web-{hash}\"")
    );
}

#[test]
fn a_rolling_update_of_ten_keeps_eight_and_has_at_most_thirteen() {
    let (before, d) = (deployment(10, "nginx:1"), marked(deployment(10, "nginx:2"), "1"));
    let old = set(&before, "old", 1, (10, 10));
    let p = plan(&d, std::slice::from_ref(&old));
    let Some(Action::Create(_, new, _)) = p.actions.first() else { panic!("{p:?}") };
    assert_eq!(new["spec"]["replicas"], 3);
    let d = marked(d, "2");
    // The new ones do not work yet: two of the old may go, no more.
    let p = plan(&d, &[old, set(&d, "new", 2, (3, 0))]);
    assert_eq!(sizes(&p), [("old".to_owned(), 8)]);
    let old = set(&before, "old", 1, (8, 8));
    let p = plan(&d, &[old.clone(), set(&d, "new", 2, (3, 0))]);
    assert_eq!(sizes(&p), [("new".to_owned(), 5)]);
    assert_eq!(sizes(&plan(&d, &[old.clone(), set(&d, "new", 2, (5, 0))])), []);
    let p = plan(&d, &[old, set(&d, "new", 2, (5, 5))]);
    assert_eq!(sizes(&p), [("old".to_owned(), 3)]);
}

#[test]
fn a_change_of_size_in_the_middle_of_a_rollout_is_shared_out_in_proportion() {
    // The example of "Proportional scaling": 8 old and 5 new of 10 + 3, then 15 + 3 are wanted.
    let (before, now) = (deployment(10, "nginx:1"), deployment(10, "nginx:2"));
    let sets = [set(&before, "old", 1, (8, 8)), set(&now, "new", 2, (5, 0))];
    let mut d = marked(deployment(15, "nginx:2"), "2");
    d["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": 3, "maxUnavailable": 2});
    let mut got = sizes(&plan(&d, &sets));
    got.sort();
    assert_eq!(got, [("new".to_owned(), 7), ("old".to_owned(), 11)]);
}

#[test]
fn going_back_to_an_older_template_takes_its_set_and_a_new_revision() {
    let (one, two) = (deployment(1, "nginx:1"), deployment(1, "nginx:2"));
    let d = marked(one.clone(), "2");
    let p = plan(&d, &[set(&one, "a", 1, (0, 0)), set(&two, "b", 2, (1, 1))]);
    let Some(Action::Patch(t, _, patch)) = p.actions.first() else { panic!("{p:?}") };
    assert_eq!(t.name, "a");
    assert_eq!(patch["metadata"]["annotations"], json!({REVISION: "3", HISTORY: "1"}));
}

#[test]
fn recreate_waits_until_the_old_pods_have_ended() {
    let before = deployment(2, "nginx:1");
    let mut d = marked(deployment(2, "nginx:2"), "1");
    d["spec"]["strategy"] = json!({"type": "Recreate"});
    assert_eq!(sizes(&plan(&d, &[set(&before, "old", 1, (2, 2))])), [("old".to_owned(), 0)]);
    let (mut world, mut touched) = (World::default(), BTreeSet::new());
    world.put(Kind::Deployment, d.clone(), &mut touched);
    world.put(Kind::ReplicaSet, set(&before, "old", 1, (0, 0)), &mut touched);
    let mut pod = super::super::pods::Pod {
        namespace: "d".into(),
        name: "p".into(),
        controller: Some(super::super::pods::Controller {
            kind: "ReplicaSet".into(),
            name: "old".into(),
            uid: "old".into(),
        }),
        ..Default::default()
    };
    touched.clear();
    world.put_pod(pod.clone(), &mut touched);
    assert!(touched.contains(&(Kind::Deployment, "d/web".into())));
    let creates = |w: &World| {
        reconcile(w, "d/web", &cx()).actions.iter().any(|a| matches!(a, Action::Create(..)))
    };
    assert!(!creates(&world));
    pod.phase = super::super::pods::Phase::Failed;
    world.put_pod(pod, &mut touched);
    assert!(creates(&world));
}

#[test]
fn a_rollout_that_does_not_move_is_told_after_its_deadline() {
    let mut d = marked(deployment(1, "nginx:1"), "1");
    d["status"] = json!({"replicas": 1, "updatedReplicas": 1, "conditions": [{"type": "Progressing", "status": "True",
        "reason": "ReplicaSetUpdated", "lastUpdateTime": "2026-01-01T00:51:00Z", "lastTransitionTime": "2026-01-01T00:40:00Z"}]});
    let sets = [set(&d, "a", 1, (1, 0))];
    assert_eq!(plan(&d, &sets).again, Some("2026-01-01T01:01:00Z".parse().unwrap()));
    d["status"]["conditions"][0]["lastUpdateTime"] = "2026-01-01T00:50:00Z".into();
    let p = plan(&d, &sets);
    let c = &status(&p)["conditions"][0];
    assert_eq!(
        (c["status"].as_str(), c["reason"].as_str(), c["message"].as_str()),
        (
            Some("False"),
            Some("ProgressDeadlineExceeded"),
            Some("ReplicaSet \"a\" has timed out progressing.")
        )
    );
}

#[test]
fn a_paused_deployment_is_resized_but_not_rolled_out() {
    let before = deployment(2, "nginx:1");
    let mut d = marked(deployment(4, "nginx:2"), "1");
    d["spec"]["paused"] = true.into();
    let p = plan(&d, &[set(&before, "old", 1, (2, 2))]);
    assert_eq!(sizes(&p), [("old".to_owned(), 4)]);
    assert!(!p.actions.iter().any(|a| matches!(a, Action::Create(..))));
    let c = status(&p)["conditions"].as_array().unwrap();
    assert!(c.iter().any(|c| c["reason"] == "DeploymentPaused"), "{c:?}");
}

#[test]
fn history_beyond_the_limit_goes_when_the_rollout_is_complete() {
    let mut d = marked(deployment(1, "nginx:9"), "3");
    d["spec"]["revisionHistoryLimit"] = 1.into();
    let old = |i: &str, n| set(&deployment(1, i), i, n, (0, 0));
    let p = plan(&d, &[old("one", 1), old("two", 2), set(&d, "new", 3, (1, 1))]);
    let gone: Vec<&str> = p
        .actions
        .iter()
        .filter_map(|a| match a {
            Action::Delete(t, ..) => Some(t.name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(gone, ["one"]);
    let c = status(&p)["conditions"].as_array().unwrap();
    assert!(c.iter().any(|c| c["reason"] == "NewReplicaSetAvailable"), "{c:?}");
}

#[test]
fn a_name_that_is_taken_by_another_template_is_avoided() {
    let d = deployment(1, "nginx:1");
    let hash = template::hash(&d["spec"]["template"], 0);
    let mut stranger = set(&deployment(1, "other"), &format!("web-{hash}"), 1, (0, 0));
    stranger["metadata"]["labels"] = json!({});
    stranger["metadata"]["ownerReferences"] = json!([]);
    assert_eq!(status(&plan(&d, &[stranger]))["collisionCount"], 1);
}
