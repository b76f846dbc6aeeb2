//! StatefulSets: pods with a number each, made, changed and removed in order.
//!
//! Owns: which pod comes or goes next, its identity and its claims, the status. Called by: the loop
//! in `mod.rs`. See kubernetes.io/docs/concepts/workloads/controllers/statefulset.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::pods::{Phase, Pod};
use super::revisions::{self, History};
use super::world::World;
use super::{
    Action, Context, Kind, Note, Plan, Target, number, owner_reference, revision, template,
};
use crate::registry::{core, meta};

/// Things done in one go, about.
const BURST: usize = 500;

/// A set with its pods by number.
struct Look<'a> {
    set: &'a Value,
    pods: BTreeMap<i64, &'a Pod>,
    history: &'a History<'a>,
    /// The revisions of the last and of the present rollout, by name.
    current: &'a str,
    update: &'a str,
    cx: &'a Context,
}

impl Look<'_> {
    fn name(&self) -> &str {
        meta::name(self.set)
    }

    fn numbers(&self) -> std::ops::Range<i64> {
        let start = number(self.set, "/spec/ordinals/start", 0);
        start..start + number(self.set, "/spec/replicas", 1)
    }

    fn is_ordered(&self) -> bool {
        self.set["spec"]["podManagementPolicy"] != "Parallel"
    }

    fn is_rolling(&self) -> bool {
        self.set["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    }

    /// The first number that a rolling update changes.
    fn partition(&self) -> i64 {
        let partition = number(self.set, "/spec/updateStrategy/rollingUpdate/partition", 0);
        self.numbers().start.saturating_add(partition)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let seconds = number(self.set, "/spec/minReadySeconds", 0);
        is_running_and_ready(pod) && pod.is_available(seconds, self.cx.now)
    }
}

fn is_running_and_ready(pod: &Pod) -> bool {
    pod.phase == Phase::Running && pod.is_ready()
}

fn is_healthy(pod: &Pod) -> bool {
    is_running_and_ready(pod) && !pod.terminating
}

/// The number at the end of a pod's name.
fn ordinal(set: &str, pod: &str) -> Option<i64> {
    pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok().filter(|n| *n >= 0)
}

pub(crate) fn reconcile(world: &World, key: &str, cx: &Context) -> Plan {
    let mut plan = Plan::default();
    let Some(set) = world.get(Kind::StatefulSet, key) else { return plan };
    let Some(selector) = template::selector(set) else { return plan };
    let mine = template::claim(world, Kind::StatefulSet, set, &selector, &mut plan);
    if meta::is_terminating(set) || !plan.actions.is_empty() {
        return plan;
    }
    let history = History::read(world, set);
    if history.keep_up(world, Kind::StatefulSet, set, &mut plan) {
        return plan;
    }
    let update = history.update.map(meta::name).unwrap_or_default();
    let known = meta::text(set, "/status/currentRevision");
    let current = if history.named(known).is_some() { known } else { update };
    let numbered = |p: &'_ &Pod| ordinal(meta::name(set), &p.name);
    let pods = mine.iter().filter_map(|p| Some((numbered(p)?, *p))).collect();
    let look = Look { set, pods, history: &history, current, update, cx };
    status(&look, &mut plan);
    let before = plan.actions.len();
    if fill(world, &look, &mut plan) && shrink(world, &look, &mut plan) && look.is_rolling() {
        roll(&look, &mut plan);
    }
    if plan.actions.len() == before {
        let used = |r: &Value| {
            meta::name(r) == current
                || mine.iter().any(|p| p.label(revisions::LABEL) == meta::name(r))
        };
        history.clean_up(set, used, &mut plan);
    }
    plan
}

fn delete(look: &Look<'_>, pod: &Pod, plan: &mut Plan) {
    let message = format!("delete Pod {} in StatefulSet {} successful", pod.name, look.name());
    let note = Note::normal("SuccessfulDelete", message);
    plan.push(Action::Delete(Target::pod(pod), None, Some(note)));
}

/// Makes what is missing. Returns whether all are there and well, so that the next step may be taken.
fn fill(world: &World, look: &Look<'_>, plan: &mut Plan) -> bool {
    let ordered = look.is_ordered();
    for n in look.numbers() {
        if plan.actions.len() > BURST {
            return false;
        }
        let Some(pod) = look.pods.get(&n) else {
            make(world, look, n, plan);
            if ordered {
                return false;
            }
            continue;
        };
        if pod.has_ended() && !pod.terminating {
            let how = if pod.phase == Phase::Failed { "failed" } else { "succeeded" };
            plan.event(Note::warning(
                "RecreatingFailedPod",
                format!(
                    "StatefulSet {}/{} is recreating {how} Pod {}",
                    pod.namespace,
                    look.name(),
                    pod.name
                ),
            ));
            delete(look, pod, plan);
            if ordered {
                return false;
            }
            continue;
        }
        if ordered && (pod.terminating || !look.is_available(pod)) {
            let seconds = number(look.set, "/spec/minReadySeconds", 0);
            if let Some(at) = pod.available_at(seconds).filter(|t| *t > look.cx.now) {
                plan.look_at(at);
            }
            return false;
        }
    }
    true
}

/// Removes what is too much, the highest number first. Returns whether nothing is.
fn shrink(world: &World, look: &Look<'_>, plan: &mut Plan) -> bool {
    let range = look.numbers();
    let mut surplus = look.pods.iter().rev().filter(|(n, _)| !range.contains(n)).peekable();
    if surplus.peek().is_none() {
        return true;
    }
    if !look.is_ordered() {
        for (n, pod) in surplus.filter(|(_, p)| !p.terminating) {
            give_up_claims(world, look, *n, pod, plan);
            delete(look, pod, plan);
        }
        return false;
    }
    let first_unwell = look.pods.values().find(|p| !is_healthy(p));
    if let Some((n, pod)) = surplus.next() {
        let blocked = !is_running_and_ready(pod) && first_unwell.is_some_and(|f| f.uid != pod.uid);
        if !pod.terminating && !blocked {
            give_up_claims(world, look, *n, pod, plan);
            delete(look, pod, plan);
        }
    }
    false
}

/// Replaces pods of an older template, the highest number first, one at a time.
fn roll(look: &Look<'_>, plan: &mut Plan) {
    let from = look.partition();
    for (_, pod) in
        look.pods.iter().rev().filter(|(n, _)| **n >= from && look.numbers().contains(n))
    {
        if pod.label(revisions::LABEL) != look.update && !pod.terminating {
            delete(look, pod, plan);
            return;
        }
        if !is_healthy(pod) || !look.is_available(pod) {
            return;
        }
    }
}

/// Makes the pod of a number, after its claims.
fn make(world: &World, look: &Look<'_>, n: i64, plan: &mut Plan) {
    let name = format!("{}-{n}", look.name());
    // While a partition holds numbers back, a pod that is lost comes back as it was.
    let old = look.is_rolling() && n < look.partition();
    let from = if old { look.current } else { look.update };
    let mut source = look.set.clone();
    if let Some(r) = look.history.named(from) {
        let mut t = r["data"]["spec"]["template"].clone();
        t.as_object_mut().and_then(|m| m.remove("$patch"));
        source["spec"]["template"] = t;
    }
    let mut pod = template::pod(Kind::StatefulSet, &source);
    let m = meta::metadata(&mut pod);
    m.insert("name".into(), name.as_str().into());
    template::label(&mut pod, "statefulset.kubernetes.io/pod-name", name.as_str());
    template::label(&mut pod, "apps.kubernetes.io/pod-index", n.to_string());
    template::label(&mut pod, revisions::LABEL, from);
    let spec = core::object(&mut pod, "spec");
    spec["hostname"] = name.as_str().into();
    spec["subdomain"] = look.set["spec"]["serviceName"].as_str().unwrap_or_default().into();
    for claim in claims(look, n) {
        let claim_name = meta::name(&claim.object).to_owned();
        mount(spec, &claim.volume, &claim_name);
        let key = format!("{}/{claim_name}", meta::namespace(look.set));
        if world.get(Kind::Claim, &key).is_none() {
            let message = format!(
                "create Claim {claim_name} Pod {name} in StatefulSet {} success",
                look.name()
            );
            let note = Note::normal("SuccessfulCreate", message);
            plan.push(Action::Create(Kind::Claim, claim.object, Some(note)));
        }
    }
    let message = format!("create Pod {name} in StatefulSet {} successful", look.name());
    plan.push(Action::Create(Kind::Pod, pod, Some(Note::normal("SuccessfulCreate", message))));
}

struct Claim {
    volume: String,
    object: Value,
}

fn retention<'a>(look: &'a Look<'_>, when: &str) -> &'a str {
    look.set["spec"]["persistentVolumeClaimRetentionPolicy"][when].as_str().unwrap_or_default()
}

/// The claims of a number.
fn claims(look: &Look<'_>, n: i64) -> Vec<Claim> {
    let one = |t: &Value| {
        let volume = meta::name(t).to_owned();
        let mut labels = t["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        let selected = look.set["spec"]["selector"]["matchLabels"].as_object().cloned();
        labels.extend(selected.unwrap_or_default());
        let mut object = json!({"metadata": {"name": format!("{volume}-{}-{n}", look.name()),
            "namespace": meta::namespace(look.set), "labels": labels}, "spec": t["spec"]});
        if let Some(a) = t["metadata"].get("annotations").filter(|a| a.is_object()) {
            object["metadata"]["annotations"] = a.clone();
        }
        if retention(look, "whenDeleted") == "Delete" {
            let mut owner = owner_reference(Kind::StatefulSet, look.set);
            owner["controller"] = false.into();
            owner["blockOwnerDeletion"] = false.into();
            object["metadata"]["ownerReferences"] = json!([owner]);
        }
        Claim { volume, object }
    };
    look.set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten().map(one).collect()
}

/// Has a volume be the claim, in place of one of the same name.
fn mount(spec: &mut Value, volume: &str, claim: &str) {
    core::default(spec, "volumes", json!([]));
    if let Some(list) = spec["volumes"].as_array_mut() {
        list.retain(|v| v["name"] != volume);
        list.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}));
    }
}

/// Claims that are to go with a pod when the set shrinks become the pod's.
fn give_up_claims(world: &World, look: &Look<'_>, n: i64, pod: &Pod, plan: &mut Plan) {
    if retention(look, "whenScaled") != "Delete" {
        return;
    }
    for claim in claims(look, n) {
        let key = format!("{}/{}", pod.namespace, meta::name(&claim.object));
        let Some(found) = world.get(Kind::Claim, &key) else { continue };
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid});
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        plan.push(Action::Patch(Target::of(Kind::Claim, found), revision(found), patch));
    }
}

fn status(look: &Look<'_>, plan: &mut Plan) {
    let count = |f: &dyn Fn(&Pod) -> bool| look.pods.values().filter(|p| f(p)).count() as i64;
    let of = |revision: &str| count(&|p| !p.terminating && p.label(revisions::LABEL) == revision);
    let total = count(&|_| true);
    let ready = count(&is_running_and_ready);
    let (mut current, updated) = (of(look.current), of(look.update));
    let mut current_name = look.current;
    // The rollout is over: what was new is what is current.
    if look.is_rolling()
        && updated == total
        && ready == total
        && look.numbers().count() as i64 == total
    {
        (current, current_name) = (updated, look.update);
    }
    let mut status = json!({"replicas": total, "availableReplicas": count(&|p| look.is_available(p)),
        "currentRevision": current_name, "updateRevision": look.update,
        "collisionCount": number(look.set, "/status/collisionCount", 0)});
    for (field, n) in
        [("readyReplicas", ready), ("currentReplicas", current), ("updatedReplicas", updated)]
    {
        if n > 0 {
            status[field] = n.into();
        }
    }
    if let Some(g) = look.set["metadata"].get("generation") {
        status["observedGeneration"] = g.clone();
    }
    plan.status(Kind::StatefulSet, look.set, status);
}

#[cfg(test)]
mod tests {
    use super::super::pods::Controller;
    use super::*;
    use std::collections::BTreeSet;

    fn set(spec: Value) -> Value {
        let mut s = json!({"metadata": {"name": "db", "namespace": "d", "uid": "s", "generation": 1, "resourceVersion": "5"},
            "spec": {"replicas": 3, "serviceName": "dbs", "selector": {"matchLabels": {"app": "db"}}, "revisionHistoryLimit": 10,
                "podManagementPolicy": "OrderedReady", "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"image": "x:2"}]}}}});
        json_patch::merge(&mut s["spec"], &spec);
        s
    }

    fn pod(n: i64, revision: &str, ready: bool) -> Pod {
        Pod {
            namespace: "d".into(),
            name: format!("db-{n}"),
            uid: format!("u{n}"),
            labels: [
                ("app".to_owned(), "db".to_owned()),
                (revisions::LABEL.to_owned(), revision.to_owned()),
            ]
            .into(),
            controller: Some(Controller {
                kind: "StatefulSet".into(),
                name: "db".into(),
                uid: "s".into(),
            }),
            phase: Phase::Running,
            ready_since: ready.then_some(jiff::Timestamp::UNIX_EPOCH),
            ..Pod::default()
        }
    }

    fn revision_object(set: &Value, name: &str, n: i64, image: &str) -> Value {
        let mut t = set["spec"]["template"].clone();
        t["spec"]["containers"][0]["image"] = image.into();
        t["$patch"] = "replace".into();
        json!({"metadata": {"name": name, "namespace": "d", "ownerReferences": [owner_reference(Kind::StatefulSet, set)]},
            "revision": n, "data": {"spec": {"template": t}}})
    }

    /// The plan when `db-old` was the last revision and `db-new` is the present one.
    fn plan(mut set: Value, pods: Vec<Pod>) -> Plan {
        let (mut world, mut touched) = (World::default(), BTreeSet::new());
        set["status"]["currentRevision"] = "db-old".into();
        world.put(Kind::StatefulSet, set.clone(), &mut touched);
        world.put(Kind::Revision, revision_object(&set, "db-old", 1, "x:1"), &mut touched);
        world.put(Kind::Revision, revision_object(&set, "db-new", 2, "x:2"), &mut touched);
        pods.into_iter().for_each(|p| world.put_pod(p, &mut touched));
        let cx = Context { now: "2026-01-01T01:00:00Z".parse().unwrap(), failed: None };
        reconcile(&world, "d/db", &cx)
    }

    fn made(plan: &Plan) -> Vec<&Value> {
        let mut out = Vec::new();
        for a in &plan.actions {
            if let Action::Create(_, o, _) = a {
                out.push(o);
            }
        }
        out
    }

    fn names(plan: &Plan) -> (Vec<&str>, Vec<&str>) {
        let mut gone = Vec::new();
        for a in &plan.actions {
            if let Action::Delete(t, ..) = a {
                gone.push(t.name.as_str());
            }
        }
        (made(plan).into_iter().map(meta::name).collect(), gone)
    }

    #[test]
    fn pods_are_made_one_after_the_other_each_when_the_one_before_is_ready() {
        assert_eq!(names(&plan(set(json!({})), vec![])).0, ["db-0"]);
        assert_eq!(
            names(&plan(set(json!({})), vec![pod(0, "db-new", false)])).0,
            Vec::<&str>::new()
        );
        assert_eq!(names(&plan(set(json!({})), vec![pod(0, "db-new", true)])).0, ["db-1"]);
        let parallel = set(json!({"podManagementPolicy": "Parallel"}));
        assert_eq!(names(&plan(parallel, vec![])).0, ["db-0", "db-1", "db-2"]);
        let shifted = set(json!({"ordinals": {"start": 5}}));
        assert_eq!(names(&plan(shifted, vec![])).0, ["db-5"]);
    }

    #[test]
    fn a_pod_has_its_number_its_name_and_its_claim() {
        let s = set(
            json!({"volumeClaimTemplates": [{"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}),
        );
        let p = plan(s, vec![]);
        assert_eq!(names(&p).0, ["www-db-0", "db-0"]);
        let pod = made(&p)[1];
        assert_eq!(
            (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
            (&json!("db-0"), &json!("dbs"))
        );
        assert_eq!(
            pod["spec"]["volumes"],
            json!([{"name": "www", "persistentVolumeClaim": {"claimName": "www-db-0"}}])
        );
        assert_eq!(pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"], "db-0");
        assert_eq!(pod["metadata"]["labels"][revisions::LABEL], "db-new");
    }

    #[test]
    fn the_highest_number_goes_first_and_waits_until_all_are_well() {
        let small = || set(json!({"replicas": 1}));
        let all =
            |ready| vec![pod(0, "db-new", ready), pod(1, "db-new", true), pod(2, "db-new", true)];
        assert_eq!(names(&plan(small(), all(true))).1, ["db-2"]);
        assert_eq!(names(&plan(small(), all(false))).1, Vec::<&str>::new());
    }

    #[test]
    fn an_update_goes_from_the_highest_number_down_to_the_partition() {
        let old = || vec![pod(0, "db-old", true), pod(1, "db-old", true), pod(2, "db-old", true)];
        assert_eq!(names(&plan(set(json!({})), old())).1, ["db-2"]);
        let mut next = old();
        next[2] = pod(2, "db-new", false);
        assert_eq!(names(&plan(set(json!({})), next.clone())).1, Vec::<&str>::new());
        next[2] = pod(2, "db-new", true);
        assert_eq!(names(&plan(set(json!({})), next.clone())).1, ["db-1"]);
        let held = set(json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}}));
        assert_eq!(names(&plan(held.clone(), next.clone())).1, Vec::<&str>::new());
        // One that is lost below the partition comes back with the old template.
        next.remove(0);
        let p = plan(held, next);
        assert_eq!(made(&p)[0]["spec"]["containers"][0]["image"], "x:1");
        assert_eq!(made(&p)[0]["metadata"]["labels"][revisions::LABEL], "db-old");
    }

    #[test]
    fn when_all_are_new_and_ready_the_new_revision_is_the_current_one() {
        let all = (0..3).map(|n| pod(n, "db-new", true)).collect();
        let p = plan(set(json!({})), all);
        let Some(Action::Status(_, _, status)) = p.actions.first() else { panic!("a status") };
        assert_eq!(
            *status,
            json!({"replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "currentReplicas": 3, "updatedReplicas": 3,
                "currentRevision": "db-new", "updateRevision": "db-new", "collisionCount": 0, "observedGeneration": 1})
        );
    }
}
