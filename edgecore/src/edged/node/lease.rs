//! The node's lease: a sign of life every ten seconds.
//!
//! Owns: the Lease object as the API server last returned it.
//! Called by: `app.rs` spawns it.
//! Never: renews through a link that is down; it waits and renews at once when there is one.

use std::time::Duration;

use api::names::{Kind, Namespace, NodeName, ObjectKey};
use api::raw::RawJson;
use api::wire::upstream::Request;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use service::backoff::Backoff;
use tokio::sync::watch;

use crate::edgehub::link::LinkState;
use crate::edgehub::{RequestError, Requests};

/// Where the leases of nodes are.
const NAMESPACE: &str = "kube-node-lease";
/// Waits after a renewal that failed.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(7));

/// The lease's task.
pub(crate) struct LeaseKeeper {
    pub(crate) node: NodeName,
    /// `nodeLeaseDurationSeconds`
    pub(crate) seconds: u32,
    /// The cloud may take this long to answer.
    pub(crate) answer: Duration,
    pub(crate) requests: Requests,
    pub(crate) link: watch::Receiver<LinkState>,
    pub(crate) node_uid: watch::Receiver<Option<String>>,
}

impl LeaseKeeper {
    /// Runs for ever.
    pub(crate) async fn run(mut self) {
        let every = Duration::from_secs(u64::from(self.seconds)) / 4;
        let mut lease: Option<Lease> = None;
        let mut failures = 0;
        loop {
            let mut wait = every;
            if self.link.borrow_and_update().up {
                match self.renew(lease.take()).await {
                    Ok(renewed) => {
                        lease = renewed;
                        failures = 0;
                    }
                    Err(e) => {
                        tracing::warn!(
                            node = %self.node,
                            error = service::error_chain(&e),
                            "the node's lease is not renewed"
                        );
                        wait = every.min(AGAIN.next_delay(failures));
                        failures = failures.saturating_add(1);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Ok(()) = self.link.changed() => {}
            }
        }
    }

    /// Renews the lease that is known, or finds it, or creates it.
    async fn renew(&self, known: Option<Lease>) -> Result<Option<Lease>, RequestError> {
        if let Some(lease) = known {
            match self.update(lease).await {
                Err(RequestError::Refused(e)) => {
                    tracing::debug!(reason = %e, "the lease has changed; it is read again");
                }
                renewed => return renewed,
            }
        }
        let (name, lease) = (self.node.clone(), self.renewed(Lease::default()));
        let Some(lease) = json(&lease) else { return Ok(None) };
        match self.ask(Request::CreateLease { name, lease }).await {
            Err(RequestError::Refused(e)) if e.already_exists() => {}
            created => return created,
        }
        let namespace = NAMESPACE.parse::<Namespace>().ok();
        let key = ObjectKey { namespace, kind: Kind::Lease, name: self.node.as_str().into() };
        match self.ask(Request::Query(key)).await? {
            Some(lease) => self.update(lease).await,
            None => Ok(None),
        }
    }

    async fn update(&self, lease: Lease) -> Result<Option<Lease>, RequestError> {
        let Some(lease) = json(&self.renewed(lease)) else { return Ok(None) };
        self.ask(Request::UpdateLease { name: self.node.clone(), lease }).await
    }

    async fn ask(&self, request: Request) -> Result<Option<Lease>, RequestError> {
        let answer = self.requests.object(request, self.answer).await?;
        Ok(answer.and_then(|lease| lease.to().ok()))
    }

    fn renewed(&self, lease: Lease) -> Lease {
        renewed(
            lease,
            &self.node,
            self.seconds,
            self.node_uid.borrow().as_deref(),
            Timestamp::now(),
        )
    }
}

fn json(lease: &Lease) -> Option<RawJson> {
    RawJson::of(lease).ok()
}

/// The lease with a new time; all else that it has stays.
fn renewed(
    mut lease: Lease,
    node: &NodeName,
    seconds: u32,
    node_uid: Option<&str>,
    now: Timestamp,
) -> Lease {
    lease.metadata = ObjectMeta {
        name: Some(node.to_string()),
        namespace: Some(NAMESPACE.to_owned()),
        managed_fields: None,
        ..lease.metadata
    };
    if let Some(uid) = node_uid
        && lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
    {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.to_string(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }]);
    }
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(node.to_string()),
        lease_duration_seconds: i32::try_from(seconds).ok(),
        renew_time: Some(MicroTime(now)),
        ..lease.spec.unwrap_or_default()
    });
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_keeps_the_version_and_the_owner() {
        let node: NodeName = "edge-1".parse().unwrap();
        let at = |s| Timestamp::from_second(s).unwrap();
        let first = renewed(Lease::default(), &node, 40, Some("u1"), at(1));
        let text = serde_json::to_value(&first).unwrap();
        assert_eq!(text["metadata"]["ownerReferences"][0]["uid"], "u1");
        assert_eq!(text["spec"]["renewTime"], "1970-01-01T00:00:01.000000Z");
        assert_eq!(text["spec"]["leaseDurationSeconds"], 40);
        let mut stored = first;
        stored.metadata.resource_version = Some("7".into());
        let second = renewed(stored, &node, 40, Some("u2"), at(2));
        assert_eq!(second.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(second.metadata.owner_references.unwrap()[0].uid, "u1");
    }
}
