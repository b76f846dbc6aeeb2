//! The node itself: registration, status, lease.
//!
//! Owns: the Node object as this node reports it, the lease.
//! Called by: `app.rs` spawns its two tasks.
//! Never: lets an absent cloud stop anything else; it waits for the link and goes on.
//!
//! One task registers the node and then reports its status: when it changed, at least every five
//! minutes, and after each new link, since the cloud may have called the node unknown meanwhile.
//! The other renews the lease every ten seconds and after each new link.

pub(crate) mod facts;
pub(crate) mod lease;
pub(crate) mod status;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::names::{Kind, ObjectKey};
use api::raw::RawJson;
use api::wire::upstream::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeStatus};
use service::ReadyPart;
use service::backoff::Backoff;
use tokio::sync::watch;
use tokio::time::Instant;

use self::facts::Machine;
use self::status::{NodeSettings, RuntimeSeen, Seen};
use super::runtime::ContainerRuntime;
use crate::edgehub::link::LinkState;
use crate::edgehub::{RequestError, Requests};
use crate::metamanager::{Objects, Store, apply};
use crate::status::Status;

/// Waits between two tries to register or to report.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(7));
/// The runtime may take this long to answer; the node is not ready meanwhile.
const RUNTIME_LIMIT: Duration = Duration::from_secs(5);
/// While the runtime is not ready it is asked this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How often what is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeTiming {
    /// A status is computed.
    pub(crate) compute: Duration,
    /// It is sent although nothing changed.
    pub(crate) report: Duration,
    /// The cloud may take this long to answer.
    pub(crate) answer: Duration,
}

/// Where the node's address comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressSource {
    /// `nodeIP`
    pub(crate) fixed: Option<IpAddr>,
    /// `customInterfaceName`
    pub(crate) interface: String,
    /// The cloud's `host:port`.
    pub(crate) server: String,
}

/// The task that registers the node and reports its status.
pub(crate) struct NodeReporter {
    pub(crate) settings: NodeSettings,
    pub(crate) timing: NodeTiming,
    pub(crate) address: AddressSource,
    pub(crate) root: PathBuf,
    pub(crate) register: bool,
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    pub(crate) requests: Requests,
    pub(crate) objects: Objects,
    pub(crate) store: Store,
    pub(crate) link: watch::Receiver<LinkState>,
    /// Told the UID of the Node once it is known; the lease belongs to it.
    pub(crate) node_uid: watch::Sender<Option<String>>,
    /// What is shown on this machine.
    pub(crate) shown: Status,
}

/// What the cloud knows of the status.
struct Told {
    status: NodeStatus,
    link: u64,
    at: Instant,
}

impl NodeReporter {
    /// Runs for ever. `ready` is dropped when the cloud has the first status that says so.
    pub(crate) async fn run(mut self, ready: ReadyPart) {
        let machine = facts::machine();
        let stored = self.objects.node().await.ok().flatten();
        self.node_uid.send_replace(stored.as_ref().and_then(|n| n.metadata.uid.clone()));
        let mut known = stored.and_then(|n| n.status);
        let (mut ready, mut told) = (Some(ready), None);
        let (mut registered, mut failures) = (!self.register, 0);
        loop {
            let status = self.status(&machine, known.as_ref()).await;
            self.shown.node(status::node(&self.settings, &machine, status.clone()));
            let link = *self.link.borrow_and_update();
            let mut wait = if status::is_ready(&status) {
                self.timing.compute
            } else {
                LOOK_AGAIN.min(self.timing.compute)
            };
            if link.up && self.is_due(&status, told.as_ref(), link.count) {
                match self.tell(&machine, &status, &mut registered).await {
                    Ok(()) => {
                        failures = 0;
                        if status::is_ready(&status) && ready.take().is_some() {
                            tracing::info!(node = %self.settings.name, "the node is registered and ready");
                        }
                        told = Some(Told {
                            status: status.clone(),
                            link: link.count,
                            at: Instant::now(),
                        });
                    }
                    Err(e) => {
                        tracing::warn!(
                            node = %self.settings.name,
                            error = service::error_chain(&e),
                            "the cloud did not take the node's status"
                        );
                        wait = wait.min(AGAIN.next_delay(failures));
                        failures = failures.saturating_add(1);
                    }
                }
            }
            known = Some(status);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Ok(()) = self.link.changed() => {}
            }
        }
    }

    fn is_due(&self, status: &NodeStatus, told: Option<&Told>, link: u64) -> bool {
        told.is_none_or(|told| {
            told.link != link
                || told.at.elapsed() >= self.timing.report
                || status::differs(&told.status, status)
        })
    }

    async fn status(&self, machine: &Machine, before: Option<&NodeStatus>) -> NodeStatus {
        let (runtime, image_root) = self.runtime_seen().await;
        let vitals = facts::vitals(machine, &self.root, image_root.as_deref());
        let address = self.address.fixed.or_else(|| {
            facts::address_towards(Some(&self.address.server), &self.address.interface)
        });
        let seen = Seen { machine, vitals: &vitals, runtime: &runtime, address };
        status::status(&self.settings, &seen, before, Timestamp::now())
    }

    async fn runtime_seen(&self) -> (RuntimeSeen, Option<PathBuf>) {
        let asked = async {
            let version = self.runtime.version().await?;
            let status = self.runtime.status().await?;
            let images = match self.settings.max_images {
                0 => Vec::new(),
                _ => self.runtime.list_images().await?,
            };
            let root = self.runtime.image_fs().await.ok().and_then(|fs| fs.into_iter().next());
            Ok::<_, super::runtime::RuntimeError>((version, status, images, root))
        };
        let (version, status, mut images, root) =
            match tokio::time::timeout(RUNTIME_LIMIT, asked).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(e)) => return (runtime_down(&e.to_string()), None),
                Err(_) => return (runtime_down("it does not answer"), None),
            };
        let mut problems = Vec::new();
        if !status.ready {
            problems.push(format!(
                "container runtime not ready: RuntimeReady=false {}",
                status.message
            ));
        } else if !status.network_ready {
            problems.push(format!(
                "container runtime network not ready: NetworkReady=false {}",
                status.message
            ));
        }
        images.sort_by_key(|image| std::cmp::Reverse(image.size));
        let images = images
            .into_iter()
            .map(|image| ContainerImage {
                names: Some(image.repo_digests.into_iter().chain(image.repo_tags).collect()),
                size_bytes: i64::try_from(image.size).ok(),
            })
            .collect();
        let version = format!("{}://{}", version.name, version.version);
        (RuntimeSeen { version, problems, images }, root.map(|fs| fs.mountpoint))
    }

    /// Registers the node if that has not been done, and reports its status.
    async fn tell(
        &self,
        machine: &Machine,
        status: &NodeStatus,
        registered: &mut bool,
    ) -> Result<(), RequestError> {
        if !*registered {
            self.register(machine, status).await?;
            *registered = true;
        }
        let Ok(patch) = status::patch(status) else { return Ok(()) };
        let name = self.settings.name.clone();
        let answer = self.requests.object(Request::PatchNode { name, patch }, self.timing.answer);
        match answer.await {
            Ok(Some(node)) => {
                self.keep(node).await;
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(RequestError::Refused(refusal)) if refusal.is_not_found() => {
                // Somebody removed the Node; it is created again at the next try.
                *registered = !self.register;
                Err(refusal.into())
            }
            Err(e) => Err(e),
        }
    }

    /// Creates the Node; if there is one, adds what it lacks.
    async fn register(&self, machine: &Machine, status: &NodeStatus) -> Result<(), RequestError> {
        let ours = status::node(&self.settings, machine, status.clone());
        let name = self.settings.name.clone();
        let Ok(node) = RawJson::of(&ours) else { return Ok(()) };
        let create = Request::RegisterNode { name: name.clone(), node };
        match self.requests.object(create, self.timing.answer).await {
            Ok(created) => {
                tracing::info!(node = %name, "the node is registered");
                if let Some(node) = created {
                    self.keep(node).await;
                }
                return Ok(());
            }
            Err(RequestError::Refused(refusal)) if refusal.already_exists() => {}
            Err(e) => return Err(e),
        }
        let query = Request::Query(self.key());
        let Some(theirs) = self.requests.object(query, self.timing.answer).await? else {
            return Ok(());
        };
        let existing = theirs.to::<Node>().ok();
        self.keep(theirs).await;
        if let Some(merge) = existing.and_then(|theirs| status::reconciled(&ours, &theirs)) {
            let Ok(node) = RawJson::of(&merge) else { return Ok(()) };
            self.requests.object(Request::UpdateNode { name, node }, self.timing.answer).await?;
        }
        Ok(())
    }

    /// Stores the Node as the cloud has it, for a start without the cloud.
    async fn keep(&self, node: RawJson) {
        let uid = node.to::<Node>().ok().and_then(|n| n.metadata.uid);
        if uid.is_some() {
            self.node_uid.send_if_modified(|known| {
                let new = *known != uid;
                known.clone_from(&uid);
                new
            });
        }
        let key = self.key();
        if let Err(e) = self.store.write(move |tx| apply::answer(tx, &key, &node)).await {
            tracing::warn!(error = service::error_chain(&e), "the Node object is not stored");
        }
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::cluster(Kind::Node, self.settings.name.as_str())
    }
}

fn runtime_down(why: &str) -> RuntimeSeen {
    tracing::debug!(why, "the container runtime does not answer");
    RuntimeSeen { problems: vec!["container runtime is down".to_owned()], ..RuntimeSeen::default() }
}
