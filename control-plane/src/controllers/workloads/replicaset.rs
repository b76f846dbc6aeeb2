//! ReplicaSets: as many pods as are asked for.
//!
//! Owns: how many pods to make, which to delete first, the status. Called by: the loop in `mod.rs`.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::pods::{Phase, Pod};
use super::world::World;
use super::{Action, Context, Kind, Note, Plan, Target, number, template};
use crate::registry::meta;

/// Pods made or deleted in one go, as in Kubernetes.
const BURST: usize = 500;

pub(crate) fn reconcile(world: &World, key: &str, cx: &Context) -> Plan {
    let mut plan = Plan::default();
    let Some(set) = world.get(Kind::ReplicaSet, key) else { return plan };
    let Some(selector) = template::selector(set) else { return plan };
    let pods = template::claim(world, Kind::ReplicaSet, set, &selector, &mut plan);
    let active: Vec<&Pod> = pods.into_iter().filter(|p| p.is_active()).collect();
    let wanted = usize::try_from(number(set, "/spec/replicas", 1)).unwrap_or(0);
    let min_ready = number(set, "/spec/minReadySeconds", 0);
    status(&mut plan, set, &active, min_ready, cx);
    if meta::is_terminating(set) {
        return plan;
    }
    for _ in active.len()..wanted.min(active.len() + BURST) {
        let pod = template::pod(Kind::ReplicaSet, set);
        let note = Note::normal("SuccessfulCreate", "Created pod: {}");
        plan.push(Action::Create(Kind::Pod, pod, Some(note)));
    }
    let surplus = active.len().saturating_sub(wanted).min(BURST);
    for pod in first_to_go(active, cx.now).into_iter().take(surplus) {
        let note = Note::normal("SuccessfulDelete", format!("Deleted pod: {}", pod.name));
        plan.push(Action::Delete(Target::pod(pod), None, Some(note)));
    }
    plan
}

fn status(plan: &mut Plan, set: &Value, active: &[&Pod], min_ready: i64, cx: &Context) {
    let template = set.pointer("/spec/template/metadata/labels").and_then(Value::as_object);
    let labelled =
        |p: &Pod| template.is_none_or(|t| t.iter().all(|(k, v)| Some(p.label(k)) == v.as_str()));
    let count = |f: &dyn Fn(&Pod) -> bool| active.iter().filter(|p| f(p)).count();
    let available = count(&|p| p.is_available(min_ready, cx.now));
    let mut status = json!({"replicas": active.len()});
    for (field, n) in [
        ("fullyLabeledReplicas", count(&labelled)),
        ("readyReplicas", count(&Pod::is_ready)),
        ("availableReplicas", available),
    ] {
        if n > 0 {
            status[field] = n.into();
        }
    }
    if let Some(g) = set["metadata"].get("generation") {
        status["observedGeneration"] = g.clone();
    }
    if let Some(why) = &cx.failed {
        let reason = "FailedCreate";
        let since = meta::condition(set, "ReplicaFailure")
            .map_or_else(|| json!(meta::timestamp(cx.now)), |c| c["lastTransitionTime"].clone());
        status["conditions"] = json!([{"type": "ReplicaFailure", "status": "True", "reason": reason,
            "message": why, "lastTransitionTime": since}]);
    }
    plan.status(Kind::ReplicaSet, set, status);
    let soonest = active.iter().filter_map(|p| p.available_at(min_ready)).filter(|t| *t > cx.now);
    if let Some(at) = soonest.min() {
        plan.look_at(at);
    }
}

/// The order in which pods go when there are too many: those that matter least first. See "Scaling a
/// ReplicaSet" and "Pod deletion cost" in Kubernetes' page on ReplicaSets.
fn first_to_go(mut pods: Vec<&Pod>, now: jiff::Timestamp) -> Vec<&Pod> {
    let mut neighbours: HashMap<&str, usize> = HashMap::new();
    for p in pods.iter().filter(|p| !p.node.is_empty()) {
        *neighbours.entry(&p.node).or_default() += 1;
    }
    // Ages count by their order of magnitude, so that no node is emptied of its oldest pods.
    let magnitude = |since: Option<jiff::Timestamp>| {
        since.map_or(0, |t| now.duration_since(t).as_secs().max(1).ilog2())
    };
    pods.sort_by_key(|p| {
        (
            !p.node.is_empty(),
            match p.phase {
                Phase::Pending => 0,
                Phase::Unknown => 1,
                _ => 2,
            },
            p.is_ready(),
            p.deletion_cost,
            std::cmp::Reverse(neighbours.get(p.node.as_str()).copied().unwrap_or(0)),
            magnitude(p.ready_since),
            std::cmp::Reverse(p.restarts),
            magnitude(p.created),
            p.uid.clone(),
        )
    });
    pods
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn now() -> jiff::Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn cx() -> Context {
        Context { now: now(), failed: None }
    }

    fn set(replicas: i64) -> Value {
        json!({"metadata": {"name": "web", "namespace": "d", "uid": "s", "generation": 2, "resourceVersion": "5"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {}}}})
    }

    fn pod(name: &str, more: impl Fn(&mut Pod)) -> Pod {
        let mut p = Pod {
            namespace: "d".into(),
            name: name.into(),
            uid: name.into(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            controller: Some(super::super::pods::Controller {
                kind: "ReplicaSet".into(),
                name: "web".into(),
                uid: "s".into(),
            }),
            ..Pod::default()
        };
        more(&mut p);
        p
    }

    fn world(set: Value, pods: Vec<Pod>) -> World {
        let (mut world, mut touched) = (World::default(), BTreeSet::new());
        world.put(Kind::ReplicaSet, set, &mut touched);
        pods.into_iter().for_each(|p| world.put_pod(p, &mut touched));
        world
    }

    fn deleted(plan: &Plan) -> Vec<&str> {
        let mut out = Vec::new();
        for action in &plan.actions {
            if let Action::Delete(target, ..) = action {
                out.push(target.name.as_str());
            }
        }
        out
    }

    #[test]
    fn missing_pods_are_made_and_ended_ones_do_not_count() {
        let w = world(
            set(3),
            vec![
                pod("a", |_| {}),
                pod("b", |p| p.phase = Phase::Failed),
                pod("c", |p| p.terminating = true),
            ],
        );
        let plan = reconcile(&w, "d/web", &cx());
        let made = plan.actions.iter().filter(|a| matches!(a, Action::Create(..))).count();
        assert_eq!(made, 2);
    }

    #[test]
    fn the_pod_that_matters_least_goes_first() {
        let ready = |p: &mut Pod| {
            p.node = "n".into();
            p.phase = Phase::Running;
            p.ready_since = Some("2026-01-01T00:00:00Z".parse().unwrap());
        };
        let w = world(
            set(1),
            vec![
                pod("running", ready),
                pod("cheap", |p| {
                    ready(p);
                    p.deletion_cost = -1;
                }),
                pod("unready", |p| {
                    ready(p);
                    p.ready_since = None;
                }),
                pod("unplaced", |_| {}),
            ],
        );
        let plan = reconcile(&w, "d/web", &cx());
        assert_eq!(deleted(&plan), ["unplaced", "unready", "cheap"]);
    }

    #[test]
    fn pods_without_a_controller_are_taken_over_and_strangers_let_go() {
        let w = world(
            set(1),
            vec![pod("orphan", |p| p.controller = None), pod("relabelled", |p| p.labels.clear())],
        );
        let plan = reconcile(&w, "d/web", &cx());
        let patched: Vec<(&str, bool)> = plan
            .actions
            .iter()
            .filter_map(|a| match a {
                Action::Patch(t, _, patch) => {
                    Some((t.name.as_str(), patch["metadata"]["ownerReferences"].is_array()))
                }
                _ => None,
            })
            .collect();
        assert_eq!(patched, [("relabelled", false), ("orphan", true)]);
    }

    #[test]
    fn a_pod_is_available_after_its_seconds_and_the_set_looks_again_then() {
        let mut s = set(1);
        s["spec"]["minReadySeconds"] = 60.into();
        let w = world(
            s,
            vec![pod("a", |p| p.ready_since = Some("2026-01-01T00:59:30Z".parse().unwrap()))],
        );
        let plan = reconcile(&w, "d/web", &cx());
        assert_eq!(plan.again, Some("2026-01-01T01:00:30Z".parse().unwrap()));
        let Some(Action::Status(_, _, status)) = plan.actions.first() else { panic!("a status") };
        assert_eq!(
            *status,
            json!({"replicas": 1, "readyReplicas": 1, "fullyLabeledReplicas": 1, "observedGeneration": 2})
        );
    }

    #[test]
    fn a_refusal_is_told_in_the_conditions() {
        let failed = Context { failed: Some("quota".into()), ..cx() };
        let plan = reconcile(&world(set(1), vec![]), "d/web", &failed);
        let Some(Action::Status(_, _, status)) = plan.actions.first() else { panic!("a status") };
        assert_eq!(status["conditions"][0]["type"], "ReplicaFailure");
        assert_eq!(status["conditions"][0]["message"], "quota");
    }
}
