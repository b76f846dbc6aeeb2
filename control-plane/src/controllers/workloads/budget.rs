//! PodDisruptionBudgets: how many pods may be evicted now.
//!
//! Owns: the status of budgets. Called by: the loop in `mod.rs`; `http::evict` reads what it says.
//! See kubernetes.io/docs/tasks/run-application/configure-pdb.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::pods::Pod;
use super::world::{World, controller_of};
use super::{Context, Kind, Plan, number, template};
use crate::registry::meta;

/// How long an eviction that was allowed is believed to be under way.
const UNDER_WAY: jiff::SignedDuration = jiff::SignedDuration::from_secs(120);

pub(crate) fn reconcile(world: &World, key: &str, cx: &Context) -> Plan {
    let mut plan = Plan::default();
    let Some(budget) = world.get(Kind::Budget, key) else { return plan };
    let Some(selector) = template::selector(budget) else { return plan };
    let chosen = |p: &&Pod| !p.has_ended() && p.is_selected(&selector);
    let pods: Vec<&Pod> = world.pods_in(meta::namespace(budget)).filter(chosen).collect();
    let evicted = under_way(budget, &pods, cx, &mut plan);
    let (expected, desired) = wanted(world, budget, &pods);
    let healthy = pods
        .iter()
        .filter(|p| p.is_ready() && !p.terminating && !evicted.contains_key(&p.name))
        .count() as i64;
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let mut status = json!({"currentHealthy": healthy, "desiredHealthy": desired,
        "disruptionsAllowed": allowed, "expectedPods": expected,
        "observedGeneration": number(budget, "/metadata/generation", 0)});
    if !evicted.is_empty() {
        status["disruptedPods"] = evicted.into();
    }
    let (value, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let mut shown = json!({"status": {"conditions": budget["status"]["conditions"].as_array().cloned().unwrap_or_default()}});
    meta::set_condition(&mut shown, "DisruptionAllowed", value, reason, "", cx.now);
    status["conditions"] = shown["status"]["conditions"].clone();
    for c in status["conditions"].as_array_mut().into_iter().flatten() {
        c["observedGeneration"] = number(budget, "/metadata/generation", 0).into();
        if c.get("message").is_none() {
            c["message"] = "".into();
        }
    }
    plan.status(Kind::Budget, budget, status);
    plan
}

/// Evictions that were allowed and whose pods are still there.
fn under_way(budget: &Value, pods: &[&Pod], cx: &Context, plan: &mut Plan) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, at) in budget["status"]["disruptedPods"].as_object().into_iter().flatten() {
        let there = pods.iter().any(|p| p.name == *name && !p.terminating);
        let until =
            at.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()).map(|t| t + UNDER_WAY);
        if let Some(until) = until.filter(|t| there && *t > cx.now) {
            plan.look_at(until);
            kept.insert(name.clone(), at.clone());
        }
    }
    kept
}

/// How many pods there should be, and how many of them must stay healthy.
fn wanted(world: &World, budget: &Value, pods: &[&Pod]) -> (i64, i64) {
    let spec = &budget["spec"];
    if let Some(most) = spec.get("maxUnavailable").filter(|v| !v.is_null()) {
        let expected = expected(world, pods);
        let lost = template::share(Some(most), expected, true).unwrap_or(0);
        return (expected, (expected - lost).max(0));
    }
    let one = json!(1);
    let least = spec.get("minAvailable").filter(|v| !v.is_null()).unwrap_or(&one);
    if least.is_string() {
        let expected = expected(world, pods);
        return (expected, template::share(Some(least), expected, true).unwrap_or(0));
    }
    (pods.len() as i64, least.as_i64().unwrap_or(1))
}

/// The sum of what the pods' controllers ask for; pods without one count for themselves.
fn expected(world: &World, pods: &[&Pod]) -> i64 {
    let mut seen = BTreeSet::new();
    let mut sum = 0;
    for pod in pods {
        let Some(c) = &pod.controller else {
            sum += 1;
            continue;
        };
        let key = format!("{}/{}", pod.namespace, c.name);
        let found = Kind::named(&c.kind).and_then(|k| world.get(k, &key));
        let owner = found.and_then(|set| {
            let o = controller_of(set).filter(|o| o["kind"] == "Deployment")?;
            world.get(Kind::Deployment, &format!("{}/{}", pod.namespace, o["name"].as_str()?))
        });
        match owner.or(found).filter(|o| o["spec"]["replicas"].is_i64()) {
            Some(o) if seen.insert(meta::uid(o).to_owned()) => {
                sum += number(o, "/spec/replicas", 1)
            }
            Some(_) => {}
            None => sum += 1,
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(spec: Value, ready: usize, extra: Value) -> Value {
        let (mut world, mut touched) = (World::default(), BTreeSet::new());
        let mut budget = json!({"metadata": {"name": "b", "namespace": "d", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "web"}}}, "status": extra});
        json_patch::merge(&mut budget["spec"], &spec);
        world.put(Kind::Budget, budget, &mut touched);
        let set = json!({"metadata": {"name": "web", "namespace": "d", "uid": "s"}, "spec": {"replicas": 4}});
        world.put(Kind::ReplicaSet, set, &mut touched);
        for n in 0..4 {
            let pod = Pod {
                namespace: "d".into(),
                name: format!("p{n}"),
                labels: [("app".to_owned(), "web".to_owned())].into(),
                controller: Some(super::super::pods::Controller {
                    kind: "ReplicaSet".into(),
                    name: "web".into(),
                    uid: "s".into(),
                }),
                ready_since: (n < ready).then_some(jiff::Timestamp::UNIX_EPOCH),
                ..Pod::default()
            };
            world.put_pod(pod, &mut touched);
        }
        assert!(touched.contains(&(Kind::Budget, "d/b".into())));
        let cx = Context { now: "2026-01-01T00:00:00Z".parse().unwrap(), failed: None };
        let plan = reconcile(&world, "d/b", &cx);
        match plan.actions.first() {
            Some(super::super::Action::Status(_, _, s)) => s.clone(),
            other => panic!("no status: {other:?}"),
        }
    }

    #[test]
    fn what_is_healthy_beyond_what_must_be_may_be_evicted() {
        assert_eq!(status(json!({"minAvailable": 3}), 4, json!({}))["disruptionsAllowed"], 1);
        assert_eq!(status(json!({"minAvailable": 3}), 3, json!({}))["disruptionsAllowed"], 0);
        assert_eq!(status(json!({"maxUnavailable": "50%"}), 4, json!({}))["desiredHealthy"], 2);
        assert_eq!(status(json!({"minAvailable": "75%"}), 4, json!({}))["desiredHealthy"], 3);
    }

    #[test]
    fn an_eviction_under_way_counts_until_the_pod_is_gone_or_two_minutes_are_over() {
        let at = |t: &str| json!({"disruptedPods": {"p0": t}});
        let s = status(json!({"minAvailable": 2}), 4, at("2025-12-31T23:59:00Z"));
        assert_eq!(
            (&s["disruptionsAllowed"], &s["disruptedPods"]["p0"]),
            (&json!(1), &json!("2025-12-31T23:59:00Z"))
        );
        let s = status(json!({"minAvailable": 2}), 4, at("2025-12-31T23:57:00Z"));
        assert_eq!(s["disruptionsAllowed"], 2);
    }
}
