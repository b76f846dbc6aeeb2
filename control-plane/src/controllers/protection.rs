//! Claims and volumes that are in use stay.
//!
//! Owns: the finalizers that keep them: put back where they are missing, taken away from what is being
//! deleted and not in use any more. Called by: `controllers::spawn`; admission sets them on new objects.
//! Never: looks at a pod while nothing is being deleted.
//!
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Change, Follower};
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::{Part, meta};

/// A kind that is kept while it is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Claim,
    Volume,
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Self::Claim => "persistentvolumeclaims",
            Self::Volume => "persistentvolumes",
        }
    }

    fn guard(self) -> &'static str {
        match self {
            Self::Claim => "kubernetes.io/pvc-protection",
            Self::Volume => "kubernetes.io/pv-protection",
        }
    }

    fn user(self) -> User {
        User::internal(match self {
            Self::Claim => "serviceaccount:kube-system:pvc-protection-controller",
            Self::Volume => "serviceaccount:kube-system:pv-protection-controller",
        })
    }
}

/// Puts the guard of its kind on a new claim or volume.
pub(crate) fn guard_new(table: &str, new: &mut Value) {
    let kind = match table {
        "core/persistentvolumeclaims" => Kind::Claim,
        "core/persistentvolumes" => Kind::Volume,
        _ => return,
    };
    if !is_guarded(kind, new) {
        guard(kind, new);
    }
}

fn is_guarded(kind: Kind, object: &Value) -> bool {
    let all = object["metadata"]["finalizers"].as_array();
    all.is_some_and(|f| f.iter().any(|f| f == kind.guard()))
}

fn guard(kind: Kind, object: &mut Value) {
    let all = &mut object["metadata"]["finalizers"];
    match all.as_array_mut() {
        Some(list) => list.push(kind.guard().into()),
        None => *all = json!([kind.guard()]),
    }
}

fn unguard(kind: Kind, object: &mut Value) {
    let Some(list) = object["metadata"]["finalizers"].as_array_mut() else { return };
    list.retain(|f| f != kind.guard());
    if list.is_empty() {
        meta::metadata(object).remove("finalizers");
    }
}

/// What is to be done with an object.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    Guard,
    /// It is being deleted and kept by nothing but its use.
    Look,
    Nothing,
}

fn need(kind: Kind, object: &Value) -> Need {
    match (meta::is_terminating(object), is_guarded(kind, object)) {
        (false, false) => Need::Guard,
        (true, true) => Need::Look,
        _ => Need::Nothing,
    }
}

/// Whether a pod that is on a node has a claim. A pod that has ended counts until it is gone.
fn uses(pod: &Value, claim: &str) -> bool {
    if meta::text(pod, "/spec/nodeName").is_empty() {
        return false;
    }
    let ended = matches!(meta::text(pod, "/status/phase"), "Succeeded" | "Failed");
    pod["spec"]["volumes"].as_array().into_iter().flatten().any(|v| {
        let own = || {
            let of = v["name"].as_str().unwrap_or_default();
            v["ephemeral"].is_object() && format!("{}-{of}", meta::name(pod)) == claim
        };
        v["persistentVolumeClaim"]["claimName"] == claim || (!ended && own())
    })
}

/// Follows claims, volumes and pods.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut claims = Follower::new(&plane, "core/persistentvolumeclaims");
    let mut volumes = Follower::new(&plane, "core/persistentvolumes");
    let mut pods = Follower::new(&plane, "core/pods");
    // Claims that are being deleted and still in use.
    let mut kept: BTreeSet<String> = BTreeSet::new();
    loop {
        tokio::select! {
            changes = claims.next() => look_at_all(&plane, Kind::Claim, changes, &mut kept).await,
            changes = volumes.next() => {
                look_at_all(&plane, Kind::Volume, changes, &mut BTreeSet::new()).await;
            }
            changes = pods.next() => {
                // A pod's volumes do not change: only one that is gone sets a claim free.
                let freed = |key: &&String| {
                    let namespace = key.split_once('/').map(|(n, _)| n);
                    changes.iter().any(|c| match c {
                        Change::Reset(_) => true,
                        Change::Gone(pod) => Some(pod.namespace()) == namespace,
                        Change::Put(_) => false,
                    })
                };
                for key in kept.iter().filter(freed).cloned().collect::<Vec<_>>() {
                    let (namespace, name) = key.split_once('/').unwrap_or_default();
                    if look(&plane, Kind::Claim, (namespace, name)).await {
                        kept.remove(&key);
                    }
                }
            }
        }
    }
}

async fn look_at_all(plane: &Plane, kind: Kind, changes: Vec<Change>, kept: &mut BTreeSet<String>) {
    for change in changes {
        let all = match change {
            Change::Reset(all) => {
                kept.clear();
                all
            }
            Change::Put(one) => vec![one],
            Change::Gone(gone) => {
                kept.remove(gone.key());
                continue;
            }
        };
        for one in all {
            if !look(plane, kind, (one.namespace(), one.name())).await {
                kept.insert(one.key().to_owned());
            }
        }
    }
}

/// Does what an object needs now. Returns whether it is in use no more.
async fn look(plane: &Plane, kind: Kind, at: (&str, &str)) -> bool {
    let resource = plane.registry.builtin("", kind.plural());
    let Some(found) = plane.store.get(&crate::http::get::key(&resource, at.0, at.1)) else {
        return true;
    };
    let object = found.value();
    let done = match need(kind, &object) {
        Need::Nothing => return true,
        Need::Look if in_use(plane, kind, &object) => return false,
        asked => change(plane, kind, at, asked).await,
    };
    if let Err(e) = done
        && e.code != 404
    {
        tracing::warn!(kind = kind.plural(), name = at.1, "cannot protect it: {}", e.message);
    }
    true
}

fn in_use(plane: &Plane, kind: Kind, object: &Value) -> bool {
    if kind == Kind::Volume {
        return object["status"]["phase"] == "Bound";
    }
    let name = meta::name(object);
    let pods = plane.store.list("core/pods", &format!("{}/", meta::namespace(object)), None);
    pods.objects.iter().any(|(_, pod)| uses(&pod.value(), name))
}

async fn change(plane: &Plane, kind: Kind, at: (&str, &str), asked: Need) -> Result<(), Status> {
    let resource = plane.registry.builtin("", kind.plural());
    let options =
        WriteOptions { manager: "kube-controller-manager".into(), ..WriteOptions::default() };
    let change = |old: &Value| {
        let mut new = old.clone();
        match need(kind, old) {
            // Somebody was faster.
            now if now != asked => {}
            Need::Guard => guard(kind, &mut new),
            _ => unguard(kind, &mut new),
        }
        Ok(new)
    };
    modify(plane, &kind.user(), &resource, at, Part::Main, &options, change).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_is_set_once_and_kept_beside_others() {
        let mut claim = json!({"metadata": {"name": "c", "finalizers": ["example.com/a"]}});
        assert_eq!(need(Kind::Claim, &claim), Need::Guard);
        guard_new("core/persistentvolumeclaims", &mut claim);
        guard_new("core/persistentvolumeclaims", &mut claim);
        guard_new("core/pods", &mut claim);
        let both = json!(["example.com/a", "kubernetes.io/pvc-protection"]);
        assert_eq!(claim["metadata"]["finalizers"], both);
        assert_eq!(need(Kind::Claim, &claim), Need::Nothing);
        claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(need(Kind::Claim, &claim), Need::Look);
        unguard(Kind::Claim, &mut claim);
        assert_eq!(claim["metadata"]["finalizers"], json!(["example.com/a"]));
    }

    #[test]
    fn a_pod_on_a_node_uses_its_claims_until_it_is_gone() {
        let pod = |node: &str, phase: &str| {
            json!({"metadata": {"name": "p"}, "status": {"phase": phase}, "spec": {"nodeName": node, "volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "ephemeral": {}}]}})
        };
        assert!(uses(&pod("n", "Running"), "data"));
        assert!(uses(&pod("n", "Succeeded"), "data"));
        assert!(uses(&pod("n", "Running"), "p-b"));
        assert!(!uses(&pod("n", "Succeeded"), "p-b"));
        assert!(!uses(&pod("", "Pending"), "data"));
        assert!(!uses(&pod("n", "Running"), "other"));
    }
}
