//! Whether the volumes that a pod claims are there.
//!
//! Owns: the sentence about a claim that keeps a pod waiting, in the words of Kubernetes.
//! Called by: `mod.rs`, before nodes are looked at. Never: binds a claim; whoever provides the volume does.

use serde_json::Value;

use crate::registry::meta;

/// The name of a claim, and whether the pod itself is to have it made.
fn claims(pod: &Value) -> impl Iterator<Item = (String, bool)> + '_ {
    pod["spec"]["volumes"].as_array().into_iter().flatten().filter_map(|v| {
        if let Some(name) = v["persistentVolumeClaim"]["claimName"].as_str() {
            return Some((name.to_owned(), false));
        }
        let of = v["name"].as_str()?;
        v["ephemeral"].is_object().then(|| (format!("{}-{of}", meta::name(pod)), true))
    })
}

/// Whether a claim has its volume, and both sides say so.
fn is_bound(claim: &Value) -> bool {
    let completed = claim.pointer("/metadata/annotations/pv.kubernetes.io~1bind-completed");
    !meta::text(claim, "/spec/volumeName").is_empty()
        && (completed.is_some() || meta::text(claim, "/status/phase") == "Bound")
}

/// What is wrong with one claim, unless it only has no volume yet.
fn broken(name: &str, claim: &Value) -> Option<String> {
    if meta::is_terminating(claim) {
        return Some(format!("persistentvolumeclaim \"{name}\" is being deleted"));
    }
    (meta::text(claim, "/status/phase") == "Lost").then(|| {
        let volume = meta::text(claim, "/spec/volumeName");
        format!(
            "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
        )
    })
}

/// What keeps a pod from every node because of what it claims. `claim` finds a claim of the pod's
/// namespace, `class` a storage class.
pub(super) fn missing(
    pod: &Value,
    claim: impl Fn(&str) -> Option<Value>,
    class: impl Fn(&str) -> Option<Value>,
) -> Option<String> {
    let mut unbound = None;
    for (name, own) in claims(pod) {
        let Some(found) = claim(&name) else {
            return Some(if own {
                format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                )
            } else {
                format!("persistentvolumeclaim \"{name}\" not found")
            });
        };
        if let Some(why) = broken(&name, &found) {
            return Some(why);
        }
        if !is_bound(&found) && unbound.is_none() {
            unbound = Some(found);
        }
    }
    let unbound = unbound?;
    let of = class(meta::text(&unbound, "/spec/storageClassName"));
    let waits = of.is_some_and(|c| c["volumeBindingMode"] == "WaitForFirstConsumer");
    Some(if waits {
        "node(s) didn't find available persistent volumes to bind".to_owned()
    } else {
        "pod has unbound immediate PersistentVolumeClaims".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn why(claim: Option<Value>) -> Option<String> {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"volumes": [{"name": "c", "configMap": {"name": "m"}},
            {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}});
        let late =
            |n: &str| (n == "late").then(|| json!({"volumeBindingMode": "WaitForFirstConsumer"}));
        missing(&pod, |n| claim.clone().filter(|_| n == "data"), late)
    }

    #[test]
    fn a_claim_without_a_volume_keeps_its_pod_waiting_in_the_words_of_kubernetes() {
        assert_eq!(why(None).unwrap(), "persistentvolumeclaim \"data\" not found");
        let open = json!({"spec": {}, "status": {"phase": "Pending"}});
        assert_eq!(why(Some(open)).unwrap(), "pod has unbound immediate PersistentVolumeClaims");
        let late = json!({"spec": {"storageClassName": "late"}});
        assert_eq!(
            why(Some(late)).unwrap(),
            "node(s) didn't find available persistent volumes to bind"
        );
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(why(Some(going)).unwrap(), "persistentvolumeclaim \"data\" is being deleted");
        let lost = json!({"spec": {"volumeName": "v"}, "status": {"phase": "Lost"}});
        assert_eq!(
            why(Some(lost)).unwrap(),
            "persistentvolumeclaim \"data\" bound to non-existent persistentvolume \"v\""
        );
    }

    #[test]
    fn a_pod_whose_claims_are_bound_or_that_claims_nothing_waits_for_no_volume() {
        let bound = json!({"spec": {"volumeName": "v"}, "status": {"phase": "Bound"}});
        assert_eq!(why(Some(bound)), None);
        assert_eq!(missing(&json!({"spec": {}}), |_| None, |_| None), None);
        // Reserved for it, and not taken yet.
        let reserved = json!({"spec": {"volumeName": "v"}});
        assert_eq!(
            why(Some(reserved)).unwrap(),
            "pod has unbound immediate PersistentVolumeClaims"
        );
    }

    #[test]
    fn a_volume_of_its_own_waits_for_whoever_makes_the_claim() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"volumes": [{"name": "v", "ephemeral": {}}]}});
        assert_eq!(
            missing(&pod, |_| None, |_| None).unwrap(),
            "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\""
        );
    }
}
