//! The controllers of workloads: each a pure function from what is there to what is to be done.
//!
//! Owns: the table of these controllers, the queue of objects to look at, and carrying out.
//! Called by: `controllers::spawn`. Never: lets two decisions about one object overlap.
//!
//! All share one shape. [`world::World`] is the index; a controller's `reconcile` looks at it and
//! returns a [`Plan`]; the loop in [`run`] carries plans out through [`writer`], several objects at a
//! time. Whatever a plan leaves undone, the change that it makes brings the object back.

mod budget;
mod cronjob;
mod daemonset;
mod deployment;
mod endpoints;
mod job;
mod mirror;
pub(crate) mod pods;
mod queue;
mod replicaset;
mod revisions;
mod statefulset;
mod template;
pub(crate) mod world;
mod writer;

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde_json::Value;

use crate::http::delete::Propagation;
use crate::plane::Plane;
use crate::registry::meta;
use queue::Queue;
use world::{Tables, World};

/// Plans carried out at the same time; the others wait.
const IN_FLIGHT: usize = 32;

/// The kinds that are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Node,
    Pod,
    Deployment,
    ReplicaSet,
    DaemonSet,
    StatefulSet,
    Revision,
    Job,
    CronJob,
    Service,
    Endpoints,
    EndpointSlice,
    Claim,
    Budget,
}

impl Kind {
    /// Nodes first and pods last, so that those who look at pods are known when pods come.
    const ALL: [Self; 14] = [
        Self::Node,
        Self::Deployment,
        Self::ReplicaSet,
        Self::DaemonSet,
        Self::StatefulSet,
        Self::Revision,
        Self::CronJob,
        Self::Job,
        Self::Service,
        Self::Endpoints,
        Self::EndpointSlice,
        Self::Claim,
        Self::Budget,
        Self::Pod,
    ];

    /// Group, plural and kind.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Node => ("", "nodes", "Node"),
            Self::Pod => ("", "pods", "Pod"),
            Self::Deployment => ("apps", "deployments", "Deployment"),
            Self::ReplicaSet => ("apps", "replicasets", "ReplicaSet"),
            Self::DaemonSet => ("apps", "daemonsets", "DaemonSet"),
            Self::StatefulSet => ("apps", "statefulsets", "StatefulSet"),
            Self::Revision => ("apps", "controllerrevisions", "ControllerRevision"),
            Self::Job => ("batch", "jobs", "Job"),
            Self::CronJob => ("batch", "cronjobs", "CronJob"),
            Self::Service => ("", "services", "Service"),
            Self::Endpoints => ("", "endpoints", "Endpoints"),
            Self::EndpointSlice => ("discovery.k8s.io", "endpointslices", "EndpointSlice"),
            Self::Claim => ("", "persistentvolumeclaims", "PersistentVolumeClaim"),
            Self::Budget => ("policy", "poddisruptionbudgets", "PodDisruptionBudget"),
        }
    }

    pub(crate) const fn group(self) -> &'static str {
        self.names().0
    }

    pub(crate) const fn plural(self) -> &'static str {
        self.names().1
    }

    pub(crate) const fn name(self) -> &'static str {
        self.names().2
    }

    /// The kind of an owner reference.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let owners = [
            Self::Deployment,
            Self::ReplicaSet,
            Self::DaemonSet,
            Self::StatefulSet,
            Self::Job,
            Self::CronJob,
            Self::Service,
        ];
        owners.into_iter().find(|k| k.name() == name)
    }

    pub(crate) fn api_version(self) -> String {
        crate::registry::api_version(self.group(), "v1")
    }
}

/// One object to look at.
pub(crate) type Work = (Kind, String);

/// An object that is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Target {
    pub(crate) fn of(kind: Kind, object: &Value) -> Self {
        Self {
            kind,
            namespace: meta::namespace(object).to_owned(),
            name: meta::name(object).to_owned(),
            uid: meta::uid(object).to_owned(),
        }
    }

    pub(crate) fn pod(pod: &pods::Pod) -> Self {
        Self {
            kind: Kind::Pod,
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        }
    }
}

/// What is said about the object that a plan is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    /// `{}` stands for the name of the object that was made.
    pub(crate) message: String,
}

impl Note {
    pub(crate) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { warning: false, reason, message: message.into() }
    }

    pub(crate) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { warning: true, reason, message: message.into() }
    }
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Make an object; the note is an event once it is there.
    Create(Kind, Value, Option<Note>),
    Delete(Target, Option<Propagation>, Option<Note>),
    /// Change by a merge patch, if the object still is at the revision that was looked at.
    Patch(Target, String, Value),
    /// Replace the status, if the object still is at the revision that was looked at.
    Status(Target, String, Value),
    Event(Note),
}

/// What is to be done for an object, and when to look at it again if nothing happens.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) again: Option<jiff::Timestamp>,
}

impl Plan {
    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Asks for another look at a time; the earliest wins.
    pub(crate) fn look_at(&mut self, at: jiff::Timestamp) {
        self.again = Some(self.again.map_or(at, |a| a.min(at)));
    }

    pub(crate) fn event(&mut self, note: Note) {
        self.actions.push(Action::Event(note));
    }

    /// Replaces a status, unless it is that already.
    pub(crate) fn status(&mut self, kind: Kind, object: &Value, status: Value) {
        if object.get("status") != Some(&status) {
            self.actions.push(Action::Status(Target::of(kind, object), revision(object), status));
        }
    }

    pub(crate) fn patch(&mut self, kind: Kind, object: &Value, patch: Value) {
        self.actions.push(Action::Patch(Target::of(kind, object), revision(object), patch));
    }
}

/// The `resourceVersion` of an object.
pub(crate) fn revision(object: &Value) -> String {
    meta::text(object, "/metadata/resourceVersion").to_owned()
}

/// What a decision depends on besides the world.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) now: jiff::Timestamp,
    /// Why the last plan for this object could not be carried out.
    pub(crate) failed: Option<String>,
}

/// A row of the table: who looks after a kind, under which name.
pub(crate) struct Controller {
    kind: Kind,
    component: &'static str,
    reconcile: fn(&World, &str, &Context) -> Plan,
}

const TABLE: &[Controller] = &[
    Controller {
        kind: Kind::Deployment,
        component: "deployment-controller",
        reconcile: deployment::reconcile,
    },
    Controller {
        kind: Kind::ReplicaSet,
        component: "replicaset-controller",
        reconcile: replicaset::reconcile,
    },
    Controller {
        kind: Kind::DaemonSet,
        component: "daemonset-controller",
        reconcile: daemonset::reconcile,
    },
    Controller {
        kind: Kind::StatefulSet,
        component: "statefulset-controller",
        reconcile: statefulset::reconcile,
    },
    Controller {
        kind: Kind::Service,
        component: "endpointslice-controller",
        reconcile: endpoints::reconcile,
    },
    Controller {
        kind: Kind::Budget,
        component: "disruption-controller",
        reconcile: budget::reconcile,
    },
    Controller { kind: Kind::Job, component: "job-controller", reconcile: job::reconcile },
    Controller {
        kind: Kind::CronJob,
        component: "cronjob-controller",
        reconcile: cronjob::reconcile,
    },
];

fn controller(kind: Kind) -> Option<&'static Controller> {
    TABLE.iter().find(|c| c.kind == kind)
}

/// Follows everything and carries out what the controllers decide.
pub(crate) async fn run(plane: Arc<Plane>) {
    let (mut tables, mut world) = (Tables::new(&plane), World::default());
    let mut queue = Queue::default();
    let mut running = FuturesUnordered::new();
    loop {
        let touched = tables.refresh(&mut world);
        queue.add(touched.into_iter().filter(|(kind, _)| controller(*kind).is_some()));
        while running.len() < IN_FLIGHT
            && let Some(work) = queue.next(jiff::Timestamp::now())
        {
            let Some(controller) = controller(work.0) else { continue };
            let cx = Context { now: jiff::Timestamp::now(), failed: queue.failure(&work) };
            let plan = (controller.reconcile)(&world, &work.1, &cx);
            if let Some(at) = plan.again {
                queue.add_at(work.clone(), at);
            }
            if plan.actions.is_empty() {
                queue.finished(work, Ok(()), cx.now);
                continue;
            }
            let about = world.get(work.0, &work.1).map(|o| reference(work.0, o));
            let plane = Arc::clone(&plane);
            running.push(async move {
                let about = about.unwrap_or_default();
                let done =
                    writer::carry_out(&plane, controller.component, &about, plan.actions).await;
                (work, done)
            });
        }
        tokio::select! {
            () = tables.changed() => {}
            Some((work, done)) = running.next() => queue.finished(work, done, jiff::Timestamp::now()),
            () = queue.waits(jiff::Timestamp::now()) => {}
        }
    }
}

/// What an event needs to know of the object that it is about.
fn reference(kind: Kind, object: &Value) -> Value {
    let m = &object["metadata"];
    serde_json::json!({"kind": kind.name(), "apiVersion": kind.api_version(), "metadata": {
        "name": m["name"], "namespace": m["namespace"], "uid": m["uid"], "resourceVersion": m["resourceVersion"]}})
}

/// The owner reference that marks `object` as the controller of what it makes.
pub(crate) fn owner_reference(kind: Kind, object: &Value) -> Value {
    serde_json::json!({"apiVersion": kind.api_version(), "kind": kind.name(), "name": meta::name(object),
        "uid": meta::uid(object), "controller": true, "blockOwnerDeletion": true})
}

/// A number at a pointer, or what it is if nobody said.
pub(crate) fn number(object: &Value, pointer: &str, default: i64) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(default)
}
