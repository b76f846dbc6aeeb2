//! What every namespace has: the account `default` and the CA's certificate.
//!
//! Owns: `default` and `kube-root-ca.crt` in each namespace. Called by: `controllers::spawn`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::defaults::ensure_object;
use super::{Change, Followed, Follower};
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::{Part, meta};

/// The config map with the CA's certificate.
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";
/// How often all namespaces are looked at, for writes that failed.
const REPAIR: Duration = Duration::from_secs(60);

/// Makes what a namespace lacks.
///
/// # Errors
/// When the namespace does not live or the store refuses.
pub(crate) async fn ensure(plane: &Plane, namespace: &str) -> Result<(), Status> {
    let map = json!({
        "metadata": {"name": ROOT_CA, "annotations": {"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."}},
        "data": ca(plane),
    });
    let account = ensure_object(
        plane,
        "",
        "serviceaccounts",
        namespace,
        json!({"metadata": {"name": "default"}}),
    );
    let map = ensure_object(plane, "", "configmaps", namespace, map);
    let (_, made) = futures::future::try_join(account, map).await?;
    if made {
        return Ok(());
    }
    let resource = plane.registry.builtin("", "configmaps");
    let user = User::internal("serviceaccount:kube-system:root-ca-cert-publisher");
    let options =
        WriteOptions { manager: "kube-controller-manager".into(), ..WriteOptions::default() };
    let restore = |old: &Value| {
        let mut new = old.clone();
        new["data"] = ca(plane);
        Ok(new)
    };
    modify(plane, &user, &resource, (namespace, ROOT_CA), Part::Main, &options, restore).await?;
    Ok(())
}

/// What the config map says.
fn ca(plane: &Plane) -> Value {
    json!({"ca.crt": plane.ca_pem})
}

/// Follows namespaces, and the objects that must not go.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut namespaces = Follower::new(&plane, "core/namespaces");
    let mut accounts = Follower::new(&plane, "core/serviceaccounts");
    let mut maps = Follower::new(&plane, "core/configmaps");
    let mut active: BTreeSet<String> = BTreeSet::new();
    loop {
        let mut due: BTreeSet<String> = BTreeSet::new();
        tokio::select! {
            changes = namespaces.next() => for c in changes {
                match c {
                    Change::Reset(all) => active = all.iter().filter(|n| lives(n)).map(|n| n.name().to_owned()).collect(),
                    Change::Put(n) if lives(&n) => {
                        if active.insert(n.name().to_owned()) {
                            due.insert(n.name().to_owned());
                        }
                        continue;
                    }
                    Change::Put(n) | Change::Gone(n) => {
                        active.remove(n.name());
                        continue;
                    }
                }
                due.extend(active.iter().cloned());
            },
            changes = accounts.next() => due.extend(lost(&changes, "default")),
            changes = maps.next() => {
                due.extend(lost(&changes, ROOT_CA));
                due.extend(changed(&changes, &ca(&plane)));
            }
            () = tokio::time::sleep(REPAIR) => due.extend(active.iter().cloned()),
        }
        for namespace in due.iter().filter(|n| active.contains(*n)) {
            if let Err(e) = ensure(&plane, namespace).await
                && e.code != 404
                && e.code != 403
            {
                tracing::warn!(namespace, "cannot make the default account: {}", e.message);
            }
        }
    }
}

fn lives(namespace: &Followed) -> bool {
    !meta::is_terminating(&namespace.value())
}

/// The namespaces in which an object of this name was deleted.
fn lost(changes: &[Change], name: &str) -> Vec<String> {
    let gone = |c: &Change| match c {
        Change::Gone(o) if o.name() == name => Some(o.namespace().to_owned()),
        _ => None,
    };
    changes.iter().filter_map(gone).collect()
}

/// The namespaces in which somebody has written something else into the config map.
fn changed(changes: &[Change], data: &Value) -> Vec<String> {
    let now = changes.iter().flat_map(|c| match c {
        Change::Reset(all) => &all[..],
        Change::Put(one) => std::slice::from_ref(one),
        Change::Gone(_) => &[],
    });
    let other = now.filter(|o| o.name() == ROOT_CA && o.value()["data"] != *data);
    other.map(|o| o.namespace().to_owned()).collect()
}
