//! Deployments: a ReplicaSet for the present template, and the way there from the older ones.
//!
//! Owns: which ReplicaSet is the newest, its making, the history. Called by: the loop in `mod.rs`.
//!
//! `rollout.rs` decides how many pods each set should have, `status.rs` what the deployment says.
//! Annotations and conditions are those of Kubernetes, since kubectl reads them for
//! `rollout status`, `history` and `undo`.

mod rollout;
mod status;

use serde_json::{Value, json};

use super::world::{World, controller_of};
use super::{
    Action, Context, Kind, Note, Plan, Target, number, owner_reference, revision, template,
};
use crate::http::delete::Propagation;
use crate::registry::meta;

const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const HASH: &str = "pod-template-hash";

/// A deployment with its ReplicaSets.
struct Rollout<'a> {
    deployment: &'a Value,
    new: Option<&'a Value>,
    /// Oldest first.
    old: Vec<&'a Value>,
}

impl<'a> Rollout<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Value> {
        self.old.iter().copied().chain(self.new)
    }

    fn wanted(&self) -> i64 {
        number(self.deployment, "/spec/replicas", 1)
    }

    /// How many pods there may be at most, and how many must be available at least.
    fn bounds(&self) -> (i64, i64) {
        let wanted = self.wanted();
        let strategy = &self.deployment["spec"]["strategy"];
        if strategy["type"] != "RollingUpdate" {
            return (wanted, 0);
        }
        let of = |f: &str, up| {
            template::share(strategy.pointer(&format!("/rollingUpdate/{f}")), wanted, up)
        };
        let surge = of("maxSurge", true).unwrap_or(0);
        let mut unavailable = of("maxUnavailable", false).unwrap_or(0);
        if surge == 0 && unavailable == 0 {
            // Both may round to nothing, and then nothing would ever move.
            unavailable = 1;
        }
        (wanted + surge, (wanted - unavailable.min(wanted)).max(0))
    }
}

/// The pods that a ReplicaSet is asked for.
fn size(set: &Value) -> i64 {
    number(set, "/spec/replicas", 1)
}

fn annotation<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"]["annotations"][name].as_str().unwrap_or_default()
}

fn revision_of(set: &Value) -> i64 {
    annotation(set, REVISION).parse().unwrap_or(0)
}

/// Oldest first.
fn by_age(a: &&Value, b: &&Value) -> std::cmp::Ordering {
    let key = |v: &Value| {
        (meta::text(v, "/metadata/creationTimestamp").to_owned(), meta::name(v).to_owned())
    };
    key(a).cmp(&key(b))
}

fn same_template(set: &Value, deployment: &Value) -> bool {
    let mut of_set = set["spec"]["template"].clone();
    if let Some(labels) = of_set.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    template::plain(&of_set) == template::plain(&deployment["spec"]["template"])
}

pub(crate) fn reconcile(world: &World, key: &str, cx: &Context) -> Plan {
    let mut plan = Plan::default();
    let Some(deployment) = world.get(Kind::Deployment, key) else { return plan };
    let mut sets = claim(world, deployment, &mut plan);
    sets.sort_by(by_age);
    let new = sets.iter().copied().find(|s| same_template(s, deployment));
    let old = sets.into_iter().filter(|s| new.is_none_or(|n| !std::ptr::eq(*s, n))).collect();
    let rollout = Rollout { deployment, new, old };
    if !plan.actions.is_empty() {
        // Whatever was taken over or let go comes back changed.
        return plan;
    }
    if meta::is_terminating(deployment) {
        status::report(&rollout, cx, &mut plan);
        return plan;
    }
    let paused = deployment["spec"]["paused"] == true;
    let recreates = deployment["spec"]["strategy"]["type"] == "Recreate";
    if paused || (!recreates && rollout::is_resized(&rollout)) {
        rollout::resize(&rollout, &mut plan);
        if paused && plan.actions.is_empty() {
            clean_up(&rollout, &mut plan);
        }
    } else if recreates {
        recreate(world, &rollout, cx, &mut plan);
    } else {
        match rollout.new {
            None => create(world, &rollout, cx, &mut plan),
            Some(new) => {
                if !keep_up(new, &rollout, &mut plan) {
                    rollout::roll(&rollout, new, &mut plan);
                    clean_up(&rollout, &mut plan);
                }
            }
        }
    }
    if !plan.actions.iter().any(
        |a| matches!(a, Action::Patch(t, ..) | Action::Status(t, ..) if t.kind == Kind::Deployment),
    ) {
        status::report(&rollout, cx, &mut plan);
    }
    plan
}

/// The ReplicaSets of a deployment; matching ones that nobody controls are taken over.
fn claim<'a>(world: &'a World, deployment: &Value, plan: &mut Plan) -> Vec<&'a Value> {
    let Some(selector) = template::selector(deployment) else { return Vec::new() };
    let mut sets = Vec::new();
    for set in world.owned(Kind::ReplicaSet, meta::uid(deployment)) {
        if selector.matches_object(set) {
            sets.push(set);
        } else if !meta::is_terminating(deployment) {
            plan.patch(Kind::ReplicaSet, set, json!({"metadata": {"ownerReferences": null}}));
        }
    }
    if meta::is_terminating(deployment) {
        return sets;
    }
    for set in world.all(Kind::ReplicaSet, meta::namespace(deployment)) {
        if controller_of(set).is_none()
            && !meta::is_terminating(set)
            && selector.matches_object(set)
        {
            let owner = owner_reference(Kind::Deployment, deployment);
            plan.patch(Kind::ReplicaSet, set, json!({"metadata": {"ownerReferences": [owner]}}));
        }
    }
    sets
}

/// Ends all old pods before the first new one starts.
fn recreate(world: &World, rollout: &Rollout<'_>, cx: &Context, plan: &mut Plan) {
    for set in rollout.old.iter().filter(|s| size(s) > 0) {
        rollout::scale(rollout, set, 0, plan);
    }
    if !plan.actions.is_empty() {
        return;
    }
    let running = rollout.old.iter().any(|s| world.pods_of(meta::uid(s)).any(|p| !p.has_ended()));
    if running {
        return;
    }
    match rollout.new {
        None => create(world, rollout, cx, plan),
        Some(new) => {
            if !keep_up(new, rollout, plan) {
                if size(new) != rollout.wanted() {
                    rollout::scale(rollout, new, rollout.wanted(), plan);
                }
                clean_up(rollout, plan);
            }
        }
    }
}

/// What a ReplicaSet takes over of a deployment's annotations.
fn inherited(deployment: &Value) -> serde_json::Map<String, Value> {
    let skipped =
        [LAST_APPLIED, REVISION, HISTORY, DESIRED, MAX, "deprecated.deployment.rollback.to"];
    let all = deployment["metadata"]["annotations"].as_object().into_iter().flatten();
    all.filter(|(k, _)| !skipped.contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Makes the ReplicaSet for the present template.
fn create(world: &World, rollout: &Rollout<'_>, cx: &Context, plan: &mut Plan) {
    let d = rollout.deployment;
    let collisions = number(d, "/status/collisionCount", 0);
    let hash = template::hash(&d["spec"]["template"], collisions);
    let name = format!("{}-{hash}", meta::name(d));
    let key = format!("{}/{name}", meta::namespace(d));
    if world.get(Kind::ReplicaSet, &key).is_some() {
        // The name is another template's, or a stranger's: the next one gets another hash.
        let mut status = d["status"].clone();
        status["collisionCount"] = (collisions + 1).into();
        plan.status(Kind::Deployment, d, status);
        return;
    }
    let next = rollout.old.iter().map(|s| revision_of(s)).max().unwrap_or(0) + 1;
    let replicas = rollout::new_size(rollout, 0);
    let mut annotations = inherited(d);
    annotations.insert(REVISION.into(), next.to_string().into());
    annotations.extend(rollout::marks(rollout));
    let mut made = d["spec"]["template"].clone();
    template::label(&mut made, HASH, hash.as_str());
    let labels = made["metadata"]["labels"].clone();
    let mut selector = d["spec"]["selector"].clone();
    selector["matchLabels"][HASH] = hash.as_str().into();
    let mut spec = json!({"replicas": replicas, "selector": selector, "template": made});
    if let Some(s) = d["spec"].get("minReadySeconds") {
        spec["minReadySeconds"] = s.clone();
    }
    let set = json!({"metadata": {"name": name, "namespace": meta::namespace(d), "labels": labels,
        "annotations": annotations, "ownerReferences": [owner_reference(Kind::Deployment, d)]}, "spec": spec});
    let note = (replicas > 0).then(|| {
        Note::normal(
            "ScalingReplicaSet",
            format!("Scaled up replica set {name} from 0 to {replicas}"),
        )
    });
    plan.push(Action::Create(Kind::ReplicaSet, set, note));
    let mut status = status::compute(rollout, cx, plan);
    status::set_condition(
        &mut status,
        &d["status"],
        ("Progressing", "True", "NewReplicaSetCreated"),
        &format!("Created new replica set \"{name}\""),
        cx.now,
    );
    plan.status(Kind::Deployment, d, status);
}

/// Keeps the newest set's annotations, and the deployment's revision, up to date. Returns whether
/// something had to be changed.
fn keep_up(new: &Value, rollout: &Rollout<'_>, plan: &mut Plan) -> bool {
    let d = rollout.deployment;
    let mut patch = json!({});
    let highest = rollout.old.iter().map(|s| revision_of(s)).max().unwrap_or(0);
    let (have, next) = (revision_of(new), highest + 1);
    for (k, v) in inherited(d) {
        if new["metadata"]["annotations"].get(&k) != Some(&v) {
            patch["metadata"]["annotations"][k] = v;
        }
    }
    if have < next {
        patch["metadata"]["annotations"][REVISION] = next.to_string().into();
        if have > 0 {
            let before = annotation(new, HISTORY);
            let history =
                if before.is_empty() { have.to_string() } else { format!("{before},{have}") };
            patch["metadata"]["annotations"][HISTORY] = history.into();
        }
    }
    let min_ready = d["spec"].get("minReadySeconds").cloned().unwrap_or(Value::Null);
    if new["spec"].get("minReadySeconds").unwrap_or(&Value::Null) != &min_ready {
        patch["spec"]["minReadySeconds"] = min_ready;
    }
    if patch != json!({}) {
        plan.patch(Kind::ReplicaSet, new, patch);
        return true;
    }
    if annotation(d, REVISION) != have.to_string() {
        let patch = json!({"metadata": {"annotations": {REVISION: have.to_string()}}});
        plan.push(Action::Patch(Target::of(Kind::Deployment, d), revision(d), patch));
        return true;
    }
    false
}

/// Deletes old sets beyond the history that is to be kept, once the rollout is complete.
fn clean_up(rollout: &Rollout<'_>, plan: &mut Plan) {
    let limit = number(rollout.deployment, "/spec/revisionHistoryLimit", 10);
    let done = rollout.deployment["spec"]["paused"] == true || status::is_complete(rollout);
    if !done || !plan.actions.is_empty() {
        return;
    }
    let mut idle: Vec<&Value> = rollout.old.iter().copied().filter(|s| is_idle(s)).collect();
    idle.sort_by_key(|s| revision_of(s));
    let surplus = rollout.old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for set in idle.into_iter().take(surplus) {
        let target = Target::of(Kind::ReplicaSet, set);
        plan.push(Action::Delete(target, Some(Propagation::Background), None));
    }
}

fn is_idle(set: &Value) -> bool {
    size(set) == 0
        && number(set, "/status/replicas", 0) == 0
        && number(set, "/status/observedGeneration", 0) >= number(set, "/metadata/generation", 0)
        && !meta::is_terminating(set)
}

#[cfg(test)]
mod tests;
