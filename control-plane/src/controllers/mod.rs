//! The controllers: each an index, a loop and a writer.
//!
//! Owns: starting them, and following tables of the store. Called by: `lib.rs`.
//! Never: goes over the network; controllers call the verbs directly.

pub(crate) mod accounts;
pub(crate) mod apiserver;
pub(crate) mod certificates;
pub(crate) mod crd;
pub(crate) mod defaults;
pub(crate) mod events;
pub(crate) mod gc;
pub(crate) mod namespace;
pub(crate) mod nodelifecycle;
mod placed;
mod podgc;
mod policy;
pub(crate) mod protection;
pub(crate) mod roles;
pub(crate) mod scheduler;
mod secrets;
pub(crate) mod workloads;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use service::Service;
use service::backoff::Backoff;

use crate::http::status::Status;
use crate::plane::Plane;
use crate::store::Stored;
use crate::store::watch::Watcher;

/// An object that is followed. Its text is read when somebody asks, so that a table of ten thousand
/// is never in memory as values all at once.
#[derive(Debug)]
pub(crate) struct Followed {
    key: Box<str>,
    stored: Arc<Stored>,
}

impl Followed {
    pub(crate) fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub(crate) fn name(&self) -> &str {
        self.key.split_once('/').map_or(&*self.key, |(_, name)| name)
    }

    /// Namespace and name, with a slash between them.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn value(&self) -> Value {
        self.stored.value()
    }

    #[cfg(test)]
    pub(crate) fn of(key: &str, object: &Value) -> Self {
        let stored = Stored::new(1, &crate::store::Draft::of(object));
        Self { key: key.into(), stored: Arc::new(stored) }
    }
}

/// What happened in a table.
#[derive(Debug)]
pub(crate) enum Change {
    /// Everything that is there; what was known before and is not in it is gone.
    Reset(Vec<Followed>),
    /// A new or changed object.
    Put(Followed),
    /// An object that is gone, as it last was.
    Gone(Followed),
}

/// Follows a table: first all, then what changes; all again after falling behind.
pub(crate) struct Follower {
    plane: Arc<Plane>,
    table: Arc<str>,
    watcher: Option<Watcher>,
}

impl Follower {
    pub(crate) fn new(plane: &Arc<Plane>, table: &str) -> Self {
        Self { plane: Arc::clone(plane), table: table.into(), watcher: None }
    }

    /// Waits for what happens next.
    pub(crate) async fn next(&mut self) -> Vec<Change> {
        loop {
            let Some(watcher) = &mut self.watcher else {
                let all = self.plane.store.list(&self.table, "", None);
                self.watcher = Some(self.plane.store.watch(&self.table, "", all.revision));
                let followed = |(key, stored)| Followed { key, stored };
                return vec![Change::Reset(all.objects.into_iter().map(followed).collect())];
            };
            match watcher.next().await {
                Err(_) => self.watcher = None,
                Ok(batch) => {
                    let one = |e: &Arc<crate::store::Event>| {
                        let (key, stored) = (e.name.clone(), Arc::clone(&e.object));
                        let followed = Followed { key, stored };
                        if e.deleted { Change::Gone(followed) } else { Change::Put(followed) }
                    };
                    return batch.events.iter().map(one).collect();
                }
            }
        }
    }
}

/// What must be there before the first request.
///
/// # Errors
/// When the store refuses to write.
pub(crate) async fn prepare(plane: &Arc<Plane>) -> Result<(), Status> {
    defaults::ensure(plane).await
}

/// Starts them all.
pub(crate) fn spawn(plane: &Arc<Plane>, svc: &mut Service) {
    let start = |svc: &mut Service,
                 name: &str,
                 run: fn(Arc<Plane>) -> futures::future::BoxFuture<'static, ()>| {
        let plane = Arc::clone(plane);
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        svc.spawn_restarting(name, backoff, move || {
            let plane = Arc::clone(&plane);
            async move {
                let stopping = plane.stopping.clone();
                tokio::select! {
                    () = run(plane) => {}
                    () = stopping.cancelled() => {}
                }
                Ok(())
            }
        });
    };
    start(svc, "namespace-controller", |p| Box::pin(namespace::run(p)));
    start(svc, "serviceaccount-controller", |p| Box::pin(accounts::run(p)));
    start(svc, "crd-controller", |p| Box::pin(crd::run(p)));
    start(svc, "scheduler", |p| Box::pin(scheduler::run(p)));
    start(svc, "node-controller", |p| Box::pin(nodelifecycle::run(p)));
    start(svc, "clusterrole-aggregation-controller", |p| Box::pin(roles::run(p)));
    start(svc, "certificate-controller", |p| Box::pin(certificates::run(p)));
    start(svc, "garbage-collector", |p| Box::pin(gc::run(p)));
    start(svc, "workload-controllers", |p| Box::pin(workloads::run(p)));
    start(svc, "pod-garbage-collector", |p| Box::pin(podgc::run(p)));
    start(svc, "token-controller", |p| Box::pin(secrets::run(p)));
    start(svc, "storage-protection", |p| Box::pin(protection::run(p)));
    start(svc, "event-expiry", |p| Box::pin(events::expire(p)));
    start(svc, "apiserver-endpoints", |p| Box::pin(apiserver::run(p)));
}
