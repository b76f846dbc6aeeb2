//! How many pods each ReplicaSet of a deployment should have.
//!
//! Owns: the steps of a rolling update, and sharing out a change of size. Called by: `mod.rs`.

use serde_json::{Map, Value, json};

use super::super::{Note, Plan, number};
use super::{DESIRED, Kind, MAX, Rollout, annotation, size};
use crate::registry::meta;

/// The annotations by which a change of the deployment's size is noticed.
pub(super) fn marks(rollout: &Rollout<'_>) -> Map<String, Value> {
    let (most, _) = rollout.bounds();
    let mut m = Map::new();
    m.insert(DESIRED.into(), rollout.wanted().to_string().into());
    m.insert(MAX.into(), most.to_string().into());
    m
}

/// Asks a set for another number of pods, and says so.
pub(super) fn scale(rollout: &Rollout<'_>, set: &Value, to: i64, plan: &mut Plan) {
    let from = size(set);
    let marks = marks(rollout);
    let marked = marks.iter().all(|(k, v)| set["metadata"]["annotations"].get(k) == Some(v));
    if from == to && marked {
        return;
    }
    plan.patch(
        Kind::ReplicaSet,
        set,
        json!({"metadata": {"annotations": marks}, "spec": {"replicas": to}}),
    );
    if from != to {
        let direction = if to > from { "up" } else { "down" };
        plan.event(Note::normal(
            "ScalingReplicaSet",
            format!("Scaled {direction} replica set {} from {from} to {to}", meta::name(set)),
        ));
    }
}

/// How many pods the newest set may have now, when it has `have`.
pub(super) fn new_size(rollout: &Rollout<'_>, have: i64) -> i64 {
    let wanted = rollout.wanted();
    if rollout.deployment["spec"]["strategy"]["type"] != "RollingUpdate" {
        return wanted;
    }
    let (most, _) = rollout.bounds();
    let total: i64 = rollout.all().map(size).sum();
    have + (most - total).clamp(0, (wanted - have).max(0))
}

/// One step of a rolling update: first up with the new, else down with the old.
pub(super) fn roll(rollout: &Rollout<'_>, new: &Value, plan: &mut Plan) {
    let (wanted, have) = (rollout.wanted(), size(new));
    let next = if have > wanted { wanted } else { new_size(rollout, have) };
    if next != have {
        scale(rollout, new, next, plan);
        return;
    }
    shrink_old(rollout, new, plan);
}

fn shrink_old(rollout: &Rollout<'_>, new: &Value, plan: &mut Plan) {
    let (_, least) = rollout.bounds();
    let total: i64 = rollout.all().map(size).sum();
    let available = |s: &Value| number(s, "/status/availableReplicas", 0);
    let unavailable_new = size(new) - available(new);
    let mut room = total - least - unavailable_new;
    if room <= 0 {
        return;
    }
    let mut sizes: Vec<(&Value, i64)> =
        rollout.old.iter().filter(|s| size(s) > 0).map(|s| (*s, size(s))).collect();
    // Pods that do not work are no loss.
    for (set, n) in &mut sizes {
        let down = (*n - available(set)).clamp(0, room.max(0));
        *n -= down;
        room -= down;
    }
    let all_available: i64 = rollout.all().map(available).sum();
    let mut spare = (all_available - least).max(0);
    for (_, n) in &mut sizes {
        let down = (*n).min(spare);
        *n -= down;
        spare -= down;
    }
    for (set, n) in sizes {
        if n != size(set) {
            scale(rollout, set, n, plan);
        }
    }
}

/// Whether the deployment's size changed since its sets were sized.
pub(super) fn is_resized(rollout: &Rollout<'_>) -> bool {
    let wanted = rollout.wanted();
    let differs = |s: &Value| annotation(s, DESIRED).parse::<i64>().is_ok_and(|d| d != wanted);
    rollout.all().filter(|s| size(s) > 0).any(differs)
}

/// Shares out a change of the deployment's size, in the middle of a rollout in proportion.
pub(super) fn resize(rollout: &Rollout<'_>, plan: &mut Plan) {
    let wanted = rollout.wanted();
    let active: Vec<&Value> = rollout.all().filter(|s| size(s) > 0).collect();
    let only = match (active.as_slice(), rollout.new) {
        ([], new) => new.or(rollout.old.last().copied()),
        ([one], _) => Some(*one),
        _ => None,
    };
    if let Some(set) = only {
        scale(rollout, set, wanted, plan);
        return;
    }
    if rollout.new.is_some_and(|n| is_saturated(n, wanted)) {
        for set in rollout.old.iter().filter(|s| size(s) > 0) {
            scale(rollout, set, 0, plan);
        }
        return;
    }
    if rollout.deployment["spec"]["strategy"]["type"] != "RollingUpdate" {
        return;
    }
    for (set, to) in in_proportion(rollout, active) {
        scale(rollout, set, to, plan);
    }
}

fn is_saturated(set: &Value, wanted: i64) -> bool {
    size(set) == wanted
        && annotation(set, DESIRED).parse() == Ok(wanted)
        && number(set, "/status/availableReplicas", 0) == wanted
}

/// "Proportional scaling" of Kubernetes' page on Deployments: larger sets get or lose more, and what
/// is left over by rounding goes to the largest.
fn in_proportion<'a>(rollout: &Rollout<'_>, mut sets: Vec<&'a Value>) -> Vec<(&'a Value, i64)> {
    let (most, _) = rollout.bounds();
    let wanted = rollout.wanted();
    let allowed = if wanted > 0 { most } else { 0 };
    let to_add = allowed - sets.iter().map(|s| size(s)).sum::<i64>();
    // Largest first; of equals the newest first when growing, the oldest first when shrinking.
    sets.sort_by(super::by_age);
    if to_add > 0 {
        sets.reverse();
    }
    sets.sort_by_key(|s| std::cmp::Reverse(size(s)));
    let mut left = to_add;
    let mut out: Vec<(&Value, i64)> = Vec::new();
    for set in sets {
        let part = proportion(set, wanted, most);
        let part = if to_add > 0 { part.clamp(0, left.max(0)) } else { part.clamp(left.min(0), 0) };
        left -= part;
        out.push((set, size(set) + part));
    }
    if let Some((_, first)) = out.first_mut() {
        *first = (*first + left).max(0);
    }
    out
}

/// By how much a set should change for its share to stay the same.
fn proportion(set: &Value, wanted: i64, most: i64) -> i64 {
    let have = size(set);
    if wanted == 0 {
        return -have;
    }
    let before = annotation(set, MAX).parse::<i64>().ok().filter(|n| *n > 0).unwrap_or(most);
    let scaled = i128::from(have) * i128::from(most);
    let rounded = (2 * scaled + i128::from(before)).div_euclid(2 * i128::from(before.max(1)));
    i64::try_from(rounded).unwrap_or(have) - have
}
