//! Events about pods, as `kubectl describe` shows them.
//!
//! Owns: the limit on repetition. Called by: workers and probes.
//! Never: waits, or reports the same thing twice within five minutes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;

use super::clock::{Clock, Nanos, SECOND, time};
use super::cluster::Cluster;
use super::podspec::{self, Role};

const QUIET: Nanos = 300 * SECOND;
const REMEMBERED: usize = 512;

/// Good or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

/// Makes events.
pub(crate) struct Recorder {
    cluster: Arc<dyn Cluster>,
    node: String,
    clock: Clock,
    told: Mutex<HashMap<u64, Nanos>>,
}

impl Recorder {
    pub(crate) fn new(cluster: Arc<dyn Cluster>, node: &str, clock: Clock) -> Self {
        Self { cluster, node: node.to_owned(), clock, told: Mutex::default() }
    }

    /// Says something about a pod.
    pub(crate) fn pod(&self, pod: &Pod, kind: Kind, reason: &str, message: String) {
        self.record(pod, None, kind, reason, message);
    }

    /// Says something about one of its containers.
    pub(crate) fn container(
        &self,
        pod: &Pod,
        name: &str,
        kind: Kind,
        reason: &str,
        message: String,
    ) {
        let list = match podspec::container(pod, name) {
            Some((_, Role::Main)) | None => "containers",
            Some((_, Role::Ephemeral)) => "ephemeralContainers",
            Some(_) => "initContainers",
        };
        self.record(pod, Some(format!("spec.{list}{{{name}}}")), kind, reason, message);
    }

    fn record(&self, pod: &Pod, field: Option<String>, kind: Kind, reason: &str, message: String) {
        match kind {
            Kind::Normal => {
                tracing::debug!(pod = podspec::full_name(pod), reason, message, "event");
            }
            Kind::Warning => {
                tracing::warn!(pod = podspec::full_name(pod), reason, message, "event");
            }
        }
        let now = self.clock.now();
        if !self.is_news(pod, field.as_deref(), reason, &message, now) {
            return;
        }
        let namespace = podspec::namespace(pod).to_owned();
        let moment = time(now);
        self.cluster.event(Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{now:x}", podspec::name(pod))),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                namespace: Some(namespace),
                uid: pod.metadata.uid.clone(),
                field_path: field,
                ..ObjectReference::default()
            },
            type_: Some(format!("{kind:?}")),
            reason: Some(reason.to_owned()),
            message: Some(message.chars().take(1024).collect()),
            count: Some(1),
            first_timestamp: Some(moment.clone()),
            last_timestamp: Some(moment),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node.clone()),
            ..Event::default()
        });
    }

    fn is_news(
        &self,
        pod: &Pod,
        field: Option<&str>,
        reason: &str,
        message: &str,
        now: Nanos,
    ) -> bool {
        let mut hasher = DefaultHasher::new();
        (podspec::uid(pod), field, reason, message).hash(&mut hasher);
        let mut told = self.told.lock();
        if told.len() >= REMEMBERED {
            told.retain(|_, at| now - *at < QUIET);
            if told.len() >= REMEMBERED {
                told.clear();
            }
        }
        let before = told.get(&hasher.finish()).copied();
        if before.is_some_and(|at| now - at < QUIET) && reason != "Started" && reason != "Created" {
            return false;
        }
        told.insert(hasher.finish(), now);
        true
    }
}
