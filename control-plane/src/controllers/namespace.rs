//! The end of namespaces.
//!
//! Owns: emptying a namespace that is being deleted, and letting go of Kubernetes' own hold on it.
//! Called by: `controllers::spawn`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Change, Follower};
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::delete::{DeleteOptions, Propagation, delete_collection};
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::selectors::Selection;
use crate::registry::{Part, Resource, meta};

/// How soon a namespace that is not empty yet is looked at again: its pods may be ending.
const AGAIN: Duration = Duration::from_millis(500);

/// Follows namespaces and empties those that are being deleted.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut namespaces = Follower::new(&plane, "core/namespaces");
    let mut going: BTreeSet<String> = BTreeSet::new();
    loop {
        let wait = if going.is_empty() { Duration::from_secs(3600) } else { AGAIN };
        tokio::select! {
            changes = namespaces.next() => for c in changes {
                match c {
                    Change::Reset(all) => going = all.iter().filter(|n| meta::is_terminating(&n.value())).map(|n| n.name().to_owned()).collect(),
                    Change::Put(n) if meta::is_terminating(&n.value()) => { going.insert(n.name().to_owned()); }
                    Change::Put(n) | Change::Gone(n) => { going.remove(n.name()); }
                }
            },
            () = tokio::time::sleep(wait) => {}
        }
        for name in going.clone() {
            match empty(&plane, &name).await {
                Ok(true) => {
                    going.remove(&name);
                }
                Ok(false) => {}
                Err(e) => {
                    tracing::warn!(namespace = name, "cannot empty a namespace: {}", e.message)
                }
            }
        }
    }
}

/// Deletes what is in a namespace; when nothing is left, the namespace. Returns whether it is gone.
async fn empty(plane: &Plane, name: &str) -> Result<bool, Status> {
    let user = User::internal("serviceaccount:kube-system:namespace-controller");
    let options =
        DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    let snapshot = plane.kinds();
    let mut seen = BTreeSet::new();
    let mut left = Left::default();
    for resource in snapshot.resources.iter().filter(|r| r.namespaced && r.can("delete")) {
        if !seen.insert(Arc::clone(&resource.table)) {
            continue;
        }
        delete_collection(plane, &user, resource, name, &Selection::default(), &options).await?;
        let objects = plane.store.list(&resource.table, &format!("{name}/"), None).objects;
        left.count(resource, objects.iter().map(|(_, o)| o.value()));
    }
    if !left.kinds.is_empty() {
        say(plane, &user, name, &left).await?;
        return Ok(false);
    }
    finalize(plane, &user, name).await?;
    Ok(true)
}

/// What is still in a namespace that is being deleted.
#[derive(Debug, Default)]
struct Left {
    /// How many of each kind.
    kinds: BTreeMap<String, usize>,
    /// How many wait for each finalizer.
    finalizers: BTreeMap<String, usize>,
}

impl Left {
    fn count(&mut self, resource: &Resource, objects: impl Iterator<Item = Value>) {
        for o in objects {
            let kind = format!("{}.{}", resource.plural, resource.group);
            *self.kinds.entry(kind).or_default() += 1;
            for f in o["metadata"]["finalizers"].as_array().into_iter().flatten() {
                let f = f.as_str().unwrap_or_default().to_owned();
                *self.finalizers.entry(f).or_default() += 1;
            }
        }
    }

    /// Sets the conditions of the namespace, in Kubernetes' words.
    fn tell(&self, namespace: &mut Value, now: jiff::Timestamp) {
        let listed = |all: &BTreeMap<String, usize>, how: &str| {
            let each: Vec<String> =
                all.iter().map(|(k, n)| format!("{k} {how} {n} resource instances")).collect();
            each.join(", ")
        };
        let remaining = format!("Some resources are remaining: {}", listed(&self.kinds, "has"));
        let waiting = format!(
            "Some content in the namespace has finalizers remaining: {}",
            listed(&self.finalizers, "in")
        );
        let kept = if self.finalizers.is_empty() {
            ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished")
        } else {
            ("True", "SomeFinalizersRemain", waiting.as_str())
        };
        for (kind, (status, reason, message)) in [
            (
                "NamespaceDeletionDiscoveryFailure",
                ("False", "ResourcesDiscovered", "All resources successfully discovered"),
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                ("False", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
            ),
            (
                "NamespaceDeletionContentFailure",
                (
                    "False",
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                ),
            ),
            ("NamespaceContentRemaining", ("True", "SomeResourcesRemain", remaining.as_str())),
            ("NamespaceFinalizersRemaining", kept),
        ] {
            meta::set_condition(namespace, kind, status, reason, message, now);
        }
    }
}

/// Says in the status of a namespace what it waits for.
async fn say(plane: &Plane, user: &User, name: &str, left: &Left) -> Result<(), Status> {
    let resource = plane.registry.builtin("", "namespaces");
    let options =
        WriteOptions { manager: "kube-controller-manager".into(), ..WriteOptions::default() };
    let change = |old: &Value| {
        let mut new = old.clone();
        left.tell(&mut new, jiff::Timestamp::now());
        Ok(new)
    };
    modify(plane, user, &resource, ("", name), Part::Status, &options, change).await.map(|_| ())
}

/// Takes away what Kubernetes itself waits for; the namespace goes when it waits for nothing else.
async fn finalize(plane: &Plane, user: &User, name: &str) -> Result<(), Status> {
    let resource = plane.registry.builtin("", "namespaces");
    let options =
        WriteOptions { manager: "kube-controller-manager".into(), ..WriteOptions::default() };
    let change = |old: &Value| {
        let mut new = old.clone();
        if let Some(Value::Array(all)) = new.pointer_mut("/spec/finalizers") {
            all.retain(|f| f != "kubernetes");
        }
        Ok(new)
    };
    modify(plane, user, &resource, ("", name), Part::Finalize, &options, change).await.map(|_| ())
}
