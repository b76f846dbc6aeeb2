//! What edged needs of the rest of edgecore.
//!
//! Owns: the trait [`Cluster`]. Called by: everything in edged that reads an object or reports.
//! Never: tells whether the cloud is connected; nobody in edged asks.

use api::names::{Namespace, ObjectKey, Uid};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, PodStatus, Secret};

use super::runtime::BoxFuture;
use crate::edgehub::ToCloud;
use crate::metamanager::Objects;
use crate::status::Status;
pub use crate::taskmanager::Handle as Jobs;

/// Why an object cannot be had, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClusterError(pub String);

/// What a read returns: `None` means that there is no such object, for sure.
pub type Found<'a, T> = BoxFuture<'a, Result<Option<T>, ClusterError>>;

/// Objects to read and a place to report to. In edgecore these are metamanager and edgehub.
pub trait Cluster: Send + Sync {
    /// Whether the store is one that the cloud has never told anything: a pod that it does not have
    /// may be wanted all the same.
    fn is_new(&self) -> bool {
        false
    }

    /// Who carries out upgrades of this node, if somebody does.
    fn jobs(&self) -> Option<&Jobs> {
        None
    }

    /// The pods bound to this node, as stored.
    fn pods(&self) -> BoxFuture<'_, Result<Vec<Pod>, ClusterError>>;

    /// A config map.
    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str) -> Found<'a, ConfigMap>;

    /// A secret.
    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> Found<'a, Secret>;

    /// This node.
    fn node(&self) -> Found<'_, Node>;

    /// A token of a service account.
    fn token<'a>(
        &'a self,
        namespace: &'a str,
        account: &'a str,
        request: TokenRequest,
    ) -> BoxFuture<'a, Result<TokenRequest, ClusterError>>;

    /// Reports the whole status of a pod; the newest wins.
    fn pod_status<'a>(&'a self, pod: &'a Pod, status: &'a PodStatus) -> BoxFuture<'a, ()>;

    /// Nothing of the pod is left: it may be removed from the API server.
    fn pod_gone(&self, key: ObjectKey, uid: Uid) -> BoxFuture<'_, ()>;

    /// Records an event, or drops it.
    fn event(&self, event: Event);

    /// Makes the API server show a static pod.
    fn mirror_pod<'a>(&'a self, pod: &'a Pod) -> BoxFuture<'a, ()>;
}

/// The cluster as this node's store and link make it.
pub(crate) struct StoreAndLink {
    /// What is stored, or else fetched.
    pub(crate) objects: Objects,
    /// What the cloud is told.
    pub(crate) to_cloud: ToCloud,
    /// The store had not even this node when edgecore started.
    pub(crate) is_new: bool,
    /// What is shown on this machine.
    pub(crate) shown: Status,
    /// Whether the cloud is told of events; this machine is in any case.
    pub(crate) report_events: bool,
    /// Node jobs, if they are switched on.
    pub(crate) jobs: Option<Jobs>,
}

impl StoreAndLink {
    fn error(e: &dyn std::error::Error) -> ClusterError {
        let mut text = e.to_string();
        let mut cause = e.source();
        while let Some(c) = cause {
            text.push_str(": ");
            text.push_str(&c.to_string());
            cause = c.source();
        }
        ClusterError(text)
    }

    fn namespace(name: &str) -> Result<Namespace, ClusterError> {
        name.parse().map_err(|e: api::names::NameError| ClusterError(e.to_string()))
    }
}

impl Cluster for StoreAndLink {
    fn is_new(&self) -> bool {
        self.is_new
    }

    fn jobs(&self) -> Option<&Jobs> {
        self.jobs.as_ref()
    }

    fn pods(&self) -> BoxFuture<'_, Result<Vec<Pod>, ClusterError>> {
        Box::pin(async { self.objects.pods().await.map_err(|e| Self::error(&e)) })
    }

    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str) -> Found<'a, ConfigMap> {
        Box::pin(async move {
            let namespace = Self::namespace(namespace)?;
            self.objects.config_map(&namespace, name).await.map_err(|e| Self::error(&e))
        })
    }

    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> Found<'a, Secret> {
        Box::pin(async move {
            let namespace = Self::namespace(namespace)?;
            self.objects.secret(&namespace, name).await.map_err(|e| Self::error(&e))
        })
    }

    fn node(&self) -> Found<'_, Node> {
        Box::pin(async { self.objects.node().await.map_err(|e| Self::error(&e)) })
    }

    fn token<'a>(
        &'a self,
        namespace: &'a str,
        account: &'a str,
        request: TokenRequest,
    ) -> BoxFuture<'a, Result<TokenRequest, ClusterError>> {
        Box::pin(async move {
            let namespace = Self::namespace(namespace)?;
            let token = self.objects.token(&namespace, account, request).await;
            token.map_err(|e| Self::error(&e))
        })
    }

    fn pod_status<'a>(&'a self, pod: &'a Pod, status: &'a PodStatus) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.shown.pod(pod, status);
            if let Err(e) = self.to_cloud.pod_status(pod, status).await {
                tracing::error!(error = %Self::error(&e), "a pod's status could not be stored");
            }
        })
    }

    fn pod_gone(&self, key: ObjectKey, uid: Uid) -> BoxFuture<'_, ()> {
        self.shown.pod_gone(&key);
        Box::pin(self.to_cloud.pod_gone(key, uid))
    }

    fn event(&self, event: Event) {
        self.shown.event(&event);
        if self.report_events {
            self.to_cloud.event(event);
        }
    }

    fn mirror_pod<'a>(&'a self, pod: &'a Pod) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Err(e) = self.to_cloud.mirror_pod(pod).await {
                tracing::error!(error = %Self::error(&e), "a static pod cannot be shown in the cloud");
            }
        })
    }
}
