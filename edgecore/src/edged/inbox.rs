//! What a pod's worker is told while it is busy.
//!
//! Owns: the newest of each thing told. Nothing queues up: a newer pod replaces an older one, and
//! ten reasons to look are one.
//! Called by: `pods.rs`, `pleg.rs`, `probes.rs`; read by the worker.
//! Never: blocks whoever tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::memory::Ended;
use super::pleg::Exit;
use super::probes::Verdict;

/// A worker's inbox; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Inbox {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    news: Mutex<News>,
    any: Notify,
    urgent: Notify,
}

/// What has been told since the last look.
#[derive(Default)]
pub(crate) struct News {
    /// The pod has changed.
    pub(crate) pod: Option<Arc<Pod>>,
    /// The mirror of a static pod, to report as.
    pub(crate) mirror: Option<Arc<Pod>>,
    /// The pod is to be forgotten.
    pub(crate) gone: bool,
    /// An object that the pod reads has changed.
    pub(crate) objects: bool,
    /// The node ends the pod.
    pub(crate) ended: Option<Ended>,
    /// Containers that are said to have changed.
    pub(crate) changed: Vec<String>,
    /// Containers that are said to have ended.
    pub(crate) exits: BTreeMap<String, Exit>,
    /// What probes say, by container id and probe.
    pub(crate) verdicts: BTreeMap<(String, &'static str), Verdict>,
}

impl Inbox {
    /// Tells something that can wait until the worker has done what it does.
    pub(crate) fn tell(&self, what: impl FnOnce(&mut News)) {
        what(&mut self.inner.news.lock());
        self.inner.any.notify_one();
    }

    /// Tells something that makes what the worker does now useless.
    pub(crate) fn interrupt(&self, what: impl FnOnce(&mut News)) {
        self.tell(what);
        self.inner.urgent.notify_one();
    }

    /// Takes all.
    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut *self.inner.news.lock())
    }

    /// Waits for anything.
    pub(crate) async fn any(&self) {
        self.inner.any.notified().await;
    }

    /// Waits for something urgent.
    pub(crate) async fn urgent(&self) {
        self.inner.urgent.notified().await;
    }
}
