//! From a template to a pod, and whose pod it is.
//!
//! Owns: what a pod takes from a template, hashes of templates, taking over and letting go of pods.
//! Called by: the controllers that make pods.

use serde_json::{Map, Value, json};

use super::pods::Pod;
use super::world::World;
use super::{Action, Kind, Plan, Target, owner_reference};
use crate::registry::meta;
use crate::registry::selectors::LabelSelector;

/// A pod of `owner` as its template describes it, with a name to be generated.
pub(crate) fn pod(kind: Kind, owner: &Value) -> Value {
    let template = &owner["spec"]["template"];
    let mut metadata = Map::new();
    metadata.insert("generateName".into(), format!("{}-", meta::name(owner)).into());
    metadata.insert("namespace".into(), meta::namespace(owner).into());
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(v) = template["metadata"].get(field).filter(|v| !v.is_null()) {
            metadata.insert(field.into(), v.clone());
        }
    }
    metadata.insert("ownerReferences".into(), json!([owner_reference(kind, owner)]));
    json!({"metadata": metadata, "spec": template["spec"]})
}

/// Sets a label of an object that is being made.
pub(crate) fn label(object: &mut Value, name: &str, value: impl Into<Value>) {
    set(object, "labels", name, value.into());
}

/// Sets an annotation of an object that is being made.
pub(crate) fn annotate(object: &mut Value, name: &str, value: impl Into<Value>) {
    set(object, "annotations", name, value.into());
}

fn set(object: &mut Value, field: &str, name: &str, value: Value) {
    let slot = meta::metadata(object).entry(field).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    slot[name] = value;
}

/// The same value without what says nothing: nulls, and empty lists and objects.
pub(crate) fn plain(value: &Value) -> Value {
    match value {
        Value::Object(m) => {
            let kept = m.iter().map(|(k, v)| (k.clone(), plain(v)));
            Value::Object(kept.filter(|(_, v)| !is_nothing(v)).collect())
        }
        Value::Array(a) => Value::Array(a.iter().map(plain).collect()),
        v => v.clone(),
    }
}

fn is_nothing(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Object(m) => m.is_empty(),
        Value::Array(a) => a.is_empty(),
        _ => false,
    }
}

/// A short text that differs when the template does, in the letters that names are made of.
pub(crate) fn hash(template: &Value, collisions: i64) -> String {
    // FNV-1a; a reader compares templates, never hashes alone.
    let text = format!("{}/{collisions}", plain(template));
    let sum =
        text.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    sum.to_string().bytes().map(|c| char::from(LETTERS[usize::from(c) % LETTERS.len()])).collect()
}

/// The pods that `owner` controls. Matching pods that nobody controls are taken over, and those that
/// do not match any more are let go, as part of the plan.
pub(crate) fn claim<'a>(
    world: &'a World,
    kind: Kind,
    owner: &Value,
    selector: &LabelSelector,
    plan: &mut Plan,
) -> Vec<&'a Pod> {
    let mut mine = Vec::new();
    for pod in world.pods_of(meta::uid(owner)) {
        if pod.is_selected(selector) {
            mine.push(pod);
        } else if !meta::is_terminating(owner) && !pod.terminating {
            plan.push(release(pod));
        }
    }
    if selector.is_empty() || meta::is_terminating(owner) {
        return mine;
    }
    for pod in world.orphans(meta::namespace(owner)) {
        if pod.is_active() && pod.is_selected(selector) {
            let patch = json!({"metadata": {"ownerReferences": [owner_reference(kind, owner)]}});
            plan.push(Action::Patch(Target::pod(pod), pod.revision.clone(), patch));
            mine.push(pod);
        }
    }
    mine
}

fn release(pod: &Pod) -> Action {
    let patch = json!({"metadata": {"ownerReferences": null}});
    Action::Patch(Target::pod(pod), pod.revision.clone(), patch)
}

/// The selector of a workload; none if it cannot be read.
pub(crate) fn selector(owner: &Value) -> Option<LabelSelector> {
    let s = &owner["spec"]["selector"];
    LabelSelector::from_value(s).ok().filter(|_| s.is_object())
}

/// A number of pods that is given as such or as a share of `total`: `2` or `25%`.
pub(crate) fn share(value: Option<&Value>, total: i64, round_up: bool) -> Option<i64> {
    match value? {
        Value::Number(n) => n.as_i64(),
        Value::String(s) => {
            let percent: i64 = s.strip_suffix('%')?.parse().ok()?;
            let product = percent.checked_mul(total)?;
            Some(if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_takes_labels_and_spec_from_the_template_and_belongs_to_its_maker() {
        let owner = json!({"metadata": {"name": "web", "namespace": "n", "uid": "u"}, "spec": {"template":
            {"metadata": {"labels": {"a": "b"}, "creationTimestamp": null}, "spec": {"containers": []}}}});
        let pod = pod(Kind::ReplicaSet, &owner);
        assert_eq!(
            pod,
            json!({"metadata": {"generateName": "web-", "namespace": "n", "labels": {"a": "b"}, "ownerReferences":
                [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true, "blockOwnerDeletion": true}]},
                "spec": {"containers": []}})
        );
    }

    #[test]
    fn what_says_nothing_does_not_change_a_hash_but_a_collision_does() {
        let a = json!({"metadata": {"creationTimestamp": null, "labels": {"x": "y"}}, "spec": {"volumes": []}});
        let b = json!({"metadata": {"labels": {"x": "y"}}});
        assert_eq!(hash(&a, 0), hash(&b, 0));
        assert_ne!(hash(&a, 0), hash(&a, 1));
        assert!(hash(&a, 0).len() <= 10);
    }

    #[test]
    fn shares_round_as_the_deployment_documentation_says() {
        let quarter = json!("25%");
        assert_eq!(share(Some(&quarter), 3, true), Some(1));
        assert_eq!(share(Some(&quarter), 3, false), Some(0));
        assert_eq!(share(Some(&json!(2)), 3, false), Some(2));
        assert_eq!(share(None, 3, false), None);
    }
}
