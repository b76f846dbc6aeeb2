//! The fleet from the Kubernetes API, where no status stream answers.
//!
//! Owns: how objects become rows there, and watches of them; `usage.rs` what they use.
//! Called by: `fleet.rs`, `get devicemodels`.
//! Never: makes up what the API does not know: links, queues, hop times stay empty.

mod usage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use api::crd::NodeUpgradeJob;
use api::status::objects;
use api::status::row::{
    DeviceRow, Millis, NodeRow, PodRow, RowKey, RowKind, TwinRow, Upgrade, Usage,
};
use api::status::stream::{Request, Update};
use api::status::upgrades::{self, JobView};
use cloudcore::apiserver::ApiServer;
use cloudcore::metrics::Metrics;
use cloudcore::status::actions;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, Event as Change};
use kube::runtime::{WatchStreamExt, watcher::watcher};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::usage::Used;
use super::{Want, merge};
use crate::cloud::Cloud;
use crate::errors::{CommandError, Kind};

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Nodes,
    Pods,
    Devices,
    Statuses,
    Events,
    Jobs,
}

type Changes = SelectAll<BoxStream<'static, (Of, watcher::Result<Change<DynamicObject>>)>>;

/// Lists, and then watches if that is wanted.
pub struct Watching {
    cloud: Cloud,
    want: Want,
    limit: Duration,
    /// Names of the edge nodes: pods of others are not shown.
    edges: Vec<String>,
    devices: BTreeMap<String, (Value, Option<Value>)>,
    nodes: BTreeMap<String, NodeRow>,
    pods: BTreeMap<String, PodRow>,
    /// Of processor and memory, by node.
    capacity: BTreeMap<String, (u64, u64)>,
    /// What is used, if that is wanted and served.
    metrics: Used,
    /// What is used later.
    measured: Option<mpsc::Receiver<Used>>,
    /// Whoever asks for that; ends with this.
    measuring: JoinSet<()>,
    jobs: BTreeMap<String, NodeUpgradeJob>,
    /// What those do to nodes.
    upgrades: BTreeMap<String, Upgrade>,
    /// Whether the API server has jobs at all.
    has_jobs: bool,
    /// The names of what was told, by kind; what a new list lacks is gone.
    told: BTreeMap<Of, BTreeSet<String>>,
    /// Those that the list that is being read has had so far.
    listed: BTreeMap<Of, BTreeSet<String>>,
    changes: Option<Changes>,
    waiting: VecDeque<Update>,
}

fn resource(of: Of) -> ApiResource {
    let (group, version, kind, plural) = match of {
        Of::Nodes => ("", "v1", "Node", "nodes"),
        Of::Pods => ("", "v1", "Pod", "pods"),
        Of::Events => ("", "v1", "Event", "events"),
        Of::Devices => ("devices.kubeedge.io", "v1beta1", "Device", "devices"),
        Of::Statuses => ("devices.kubeedge.io", "v1beta1", "DeviceStatus", "devicestatuses"),
        Of::Jobs => ("operations.kubeedge.io", "v1alpha2", "NodeUpgradeJob", "nodeupgradejobs"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

fn name_of(object: &Value) -> String {
    super::super::output::shape::full_name(object)
}

impl Watching {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// None so far; the first answer has them.
    pub(super) async fn begin(
        cloud: Cloud,
        want: Want,
        limit: Duration,
    ) -> Result<Self, CommandError> {
        Ok(Self {
            cloud,
            want,
            limit,
            edges: Vec::new(),
            devices: BTreeMap::new(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            capacity: BTreeMap::new(),
            metrics: Used::default(),
            measured: None,
            measuring: JoinSet::new(),
            jobs: BTreeMap::new(),
            upgrades: BTreeMap::new(),
            has_jobs: false,
            told: BTreeMap::new(),
            listed: BTreeMap::new(),
            changes: None,
            waiting: VecDeque::new(),
        })
    }

    /// Carries a request out; what was done, in words.
    ///
    /// # Errors
    /// What the API server says, or that it says nothing in time.
    pub(super) async fn request(&self, request: Request) -> Result<String, CommandError> {
        if matches!(request, Request::RestartPod { .. }) {
            let text = "the Kubernetes API restarts no containers, and no status stream answers";
            return Err(CommandError::new(Kind::Unsupported, text)
                .hint(
                    "cloudcore's status stream does it: `--endpoint https://HOST:10002` names one",
                )
                .hint("on the pod's node, `keadm ctl restart pod` does it")
                .hint("a pod that is deleted comes back anew, if a controller owns it"));
        }
        if matches!(request, Request::ConfirmUpgrade { .. }) {
            let text = "the Kubernetes API tells no node to go on with its upgrade, and no status \
                        stream answers";
            return Err(CommandError::new(Kind::Unsupported, text)
                .hint(
                    "cloudcore's status stream does it: `--endpoint https://HOST:10002` names one",
                )
                .hint("on the node, `keadm ctl confirm` does it"));
        }
        let client = self.cloud.unrepeating(Some(self.limit)).await?;
        let api = ApiServer::new(client, Metrics::default());
        let means = actions::Means { api, nodes: None };
        let nobody = |_: Vec<String>| -> BoxFuture<'static, bool> { Box::pin(async { false }) };
        match timeout(self.limit, actions::answer(&means, request, &nobody)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(why)) => {
                let kind = match why.as_str() {
                    why if why.contains("forbidden") => Kind::Refused,
                    why if why.starts_with("the API server does not answer") => Kind::Unreachable,
                    _ => Kind::Failed,
                };
                let text = format!("the API server at `{}` did not do it", self.cloud.server);
                Err(CommandError::new(kind, text).because(why))
            }
            Err(_) => {
                let text = format!("the API server at `{}` gave no answer", self.cloud.server);
                Err(CommandError::new(Kind::TimedOut, text)
                    .hint("it may still be done; `--request-timeout` waits longer"))
            }
        }
    }

    /// Its address.
    pub fn server(&self) -> &str {
        &self.cloud.server
    }

    /// Everything.
    ///
    /// # Errors
    /// What the API server says, or that it says nothing in time.
    pub(super) async fn first(&mut self) -> Result<Update, CommandError> {
        // Not through `self`: its watches are no business of another thread.
        let (cloud, limit, with_events) = (&self.cloud, self.limit, self.want.events);
        let all_of = |of: Of| list_of(cloud, of, limit);
        let devices = async {
            match all_of(Of::Devices).await {
                // Without KubeEdge's kinds there are no devices.
                Err(e) if e.kind == Kind::NotFound => Ok((Vec::new(), Vec::new())),
                Err(e) => Err(e),
                Ok(devices) => Ok((devices, all_of(Of::Statuses).await.unwrap_or_default())),
            }
        };
        let events = async { if with_events { all_of(Of::Events).await } else { Ok(Vec::new()) } };
        // Who may not see jobs sees nodes all the same.
        let jobs = async { Ok::<_, CommandError>(all_of(Of::Jobs).await.ok()) };
        let (nodes, pods, (devices, statuses), events, jobs) =
            tokio::try_join!(all_of(Of::Nodes), all_of(Of::Pods), devices, events, jobs)?;
        self.has_jobs = jobs.is_some();
        if self.want.usage {
            self.metrics = usage::measure(&self.cloud, limit).await;
        }
        let mut all = Update::default();
        for (of, objects) in [
            (Of::Jobs, jobs.unwrap_or_default()),
            (Of::Nodes, nodes),
            (Of::Pods, pods),
            (Of::Statuses, statuses),
            (Of::Devices, devices),
            (Of::Events, events),
        ] {
            for object in objects {
                let update = self.told(of, object);
                merge(&mut all, update);
            }
        }
        (all.full, all.now) = (true, now());
        if self.want.watch {
            self.changes = Some(self.watch());
        }
        if self.want.watch && self.want.usage {
            let (told, measured) = mpsc::channel(1); // full: it is asked later
            self.measured = Some(measured);
            self.measuring.spawn(usage::keep(self.cloud.clone(), limit, told));
        }
        Ok(all)
    }

    fn watch(&self) -> Changes {
        let mut kinds = vec![Of::Nodes, Of::Pods];
        if !self.devices.is_empty() {
            kinds.extend([Of::Devices, Of::Statuses]);
        }
        if self.want.events {
            kinds.push(Of::Events);
        }
        if self.has_jobs {
            kinds.push(Of::Jobs);
        }
        let one = |of: Of| {
            let api: Api<DynamicObject> = Api::all_with(self.cloud.client.clone(), &resource(of));
            let mut config = watcher::Config::default();
            if of == Of::Nodes {
                config = config.labels("node-role.kubernetes.io/edge");
            }
            watcher(api, config).default_backoff().map(move |event| (of, event)).boxed()
        };
        futures::stream::select_all(kinds.into_iter().map(one))
    }

    /// The next change.
    ///
    /// # Errors
    /// When the API server refuses. While it does not answer, it is asked again, unless that is to
    /// be an error.
    pub(super) async fn next(&mut self) -> Result<Update, CommandError> {
        loop {
            if let Some(update) = self.waiting.pop_front() {
                return Ok(update);
            }
            let Some(changes) = &mut self.changes else {
                // Nothing more will come; whoever waits has a limit of its own.
                std::future::pending::<()>().await;
                continue;
            };
            let measured = async {
                match &mut self.measured {
                    Some(measured) => measured.recv().await,
                    None => None,
                }
            };
            let (of, change) = tokio::select! {
                change = changes.next() => change.ok_or_else(|| {
                    CommandError::new(Kind::Failed, "the watches have ended")
                })?,
                Some(metrics) = measured => {
                    let update = self.used(metrics);
                    self.waiting.push_back(Update { now: now(), ..update });
                    continue;
                }
            };
            let (object, gone) = match change {
                Ok(Change::Apply(object) | Change::InitApply(object)) => (object, false),
                Ok(Change::Delete(object)) => (object, true),
                Ok(Change::Init) => {
                    self.listed.insert(of, BTreeSet::new());
                    continue;
                }
                Ok(Change::InitDone) => {
                    let update = self.lacking(of);
                    if !update.gone.is_empty() || !update.nodes.is_empty() {
                        self.waiting.push_back(Update { now: now(), ..update });
                    }
                    continue;
                }
                Err(watcher::Error::InitialListFailed(e) | watcher::Error::WatchStartFailed(e))
                    if of != Of::Jobs
                        && matches!(&e, kube::Error::Api(s) if matches!(s.code, 401 | 403)) =>
                {
                    return Err(self.cloud.error("watch the fleet", &e));
                }
                // A watch that is cut is begun again; here, that failed.
                Err(watcher::Error::InitialListFailed(e) | watcher::Error::WatchStartFailed(e))
                    if self.want.until_lost && !matches!(e, kube::Error::Api(_)) =>
                {
                    return Err(self.cloud.error("watch the fleet", &e));
                }
                Err(_) => continue,
            };
            let Ok(object) = serde_json::to_value(object) else { continue };
            let update =
                if gone { self.forgotten(of, name_of(&object)) } else { self.told(of, object) };
            self.waiting.push_back(Update { now: now(), ..update });
        }
    }

    /// What was told and is not in the list that has just been read.
    fn lacking(&mut self, of: Of) -> Update {
        let Some(listed) = self.listed.remove(&of) else { return Update::default() };
        let told = self.told.get(&of).cloned().unwrap_or_default();
        let mut all = Update::default();
        for key in told.difference(&listed) {
            let update = self.forgotten(of, key.clone());
            all.gone.extend(update.gone);
            all.nodes.extend(update.nodes);
        }
        all
    }

    fn forgotten(&mut self, of: Of, key: String) -> Update {
        self.told.entry(of).or_default().remove(&key);
        let kind = match of {
            Of::Nodes => {
                self.nodes.remove(&key);
                self.capacity.remove(&key);
                RowKind::Node
            }
            Of::Jobs => {
                self.jobs.remove(&key);
                return Update { nodes: self.upgrades_changed(), ..Update::default() };
            }
            Of::Pods => {
                self.pods.remove(&key);
                RowKind::Pod
            }
            Of::Devices => {
                self.devices.remove(&key);
                RowKind::Device
            }
            Of::Statuses | Of::Events => return Update::default(),
        };
        Update { gone: vec![RowKey { kind, key }], ..Update::default() }
    }

    /// The rows of nodes to which a job does something else than before.
    fn upgrades_changed(&mut self) -> Vec<NodeRow> {
        self.upgrades = upgrades::rows(self.jobs.iter().filter_map(|(name, job)| {
            let created = objects::millis(job.metadata.creation_timestamp.as_ref());
            Some(JobView { name, created, spec: &job.spec, status: job.status.as_ref()? })
        }));
        let mut changed = Vec::new();
        for row in self.nodes.values_mut() {
            let now = self.upgrades.get(&row.name);
            if row.upgrade.as_deref() != now {
                row.upgrade = now.cloned().map(Box::new);
                changed.push(row.clone());
            }
        }
        changed
    }

    /// The rows of nodes and pods that use something else than before.
    fn used(&mut self, metrics: Used) -> Update {
        self.metrics = metrics;
        let mut update = Update::default();
        for row in self.nodes.values_mut() {
            let usage = node_usage(&self.metrics, &self.capacity, &row.name);
            if row.usage != usage {
                row.usage = usage;
                update.nodes.push(row.clone());
            }
        }
        for (key, row) in &mut self.pods {
            let usage = self.metrics.pods.get(key).copied();
            if row.usage != usage {
                row.usage = usage;
                update.pods.push(row.clone());
            }
        }
        update
    }

    /// An object as part of an update. What does not read as its kind is left out.
    fn told(&mut self, of: Of, object: Value) -> Update {
        let mut update = Update::default();
        if of != Of::Events {
            let key = name_of(&object);
            if let Some(listed) = self.listed.get_mut(&of) {
                listed.insert(key.clone());
            }
            self.told.entry(of).or_default().insert(key);
        }
        match of {
            Of::Nodes => {
                let capacity = usage::capacity(&object);
                if let Ok(node) = serde_json::from_value::<Node>(object) {
                    let mut row = objects::node(node);
                    self.capacity.insert(row.name.clone(), capacity);
                    row.usage = node_usage(&self.metrics, &self.capacity, &row.name);
                    row.upgrade = self.upgrades.get(&row.name).cloned().map(Box::new);
                    self.nodes.insert(row.name.clone(), row.clone());
                    if !self.edges.contains(&row.name) {
                        self.edges.push(row.name.clone());
                    }
                    update.nodes.push(row);
                }
            }
            Of::Pods => {
                if let Ok(pod) = serde_json::from_value::<Pod>(object) {
                    let mut row = objects::pod(pod);
                    if self.edges.contains(&row.node) {
                        let key = format!("{}/{}", row.namespace, row.name);
                        row.usage = self.metrics.pods.get(&key).copied();
                        self.pods.insert(key, row.clone());
                        update.pods.push(row);
                    }
                }
            }
            Of::Jobs => {
                let name = name_of(&object);
                if let Ok(job) = serde_json::from_value::<NodeUpgradeJob>(object) {
                    self.jobs.insert(name, job);
                    update.nodes = self.upgrades_changed();
                }
            }
            Of::Devices => {
                let entry = self.devices.entry(name_of(&object)).or_default();
                entry.0 = object;
                update.devices.push(device(&entry.0, entry.1.as_ref()));
            }
            Of::Statuses => {
                let entry = self.devices.entry(name_of(&object)).or_default();
                entry.1 = Some(object);
                if entry.0.is_object() {
                    update.devices.push(device(&entry.0, entry.1.as_ref()));
                }
            }
            Of::Events => {
                if let Ok(event) = serde_json::from_value::<Event>(object) {
                    let node =
                        event.source.as_ref().and_then(|s| s.host.clone()).unwrap_or_default();
                    update.events.push(objects::event(&node, event, now()));
                }
            }
        }
        update
    }
}

/// What a node uses of what it has.
fn node_usage(
    metrics: &Used,
    capacity: &BTreeMap<String, (u64, u64)>,
    name: &str,
) -> Option<Usage> {
    let (cpu_capacity_millis, memory_capacity) = capacity.get(name).copied().unwrap_or_default();
    let used = metrics.nodes.get(name)?;
    Some(Usage { cpu_capacity_millis, memory_capacity, ..*used })
}

/// Lists what is watched.
async fn list_of(cloud: &Cloud, of: Of, limit: Duration) -> Result<Vec<Value>, CommandError> {
    let resource = resource(of);
    let mut params = ListParams::default();
    if of == Of::Nodes {
        params = params.labels("node-role.kubernetes.io/edge");
    }
    list(cloud, &resource, params, limit).await
}

/// Lists objects of a kind.
///
/// # Errors
/// What the API server says, or that it says nothing in time.
pub(crate) async fn list(
    cloud: &Cloud,
    resource: &ApiResource,
    params: ListParams,
    limit: Duration,
) -> Result<Vec<Value>, CommandError> {
    let what = format!("list {}", resource.plural);
    let api: Api<DynamicObject> = Api::all_with(cloud.client.clone(), resource);
    match timeout(limit, api.list(&params)).await {
        Ok(Ok(found)) => {
            Ok(found.items.into_iter().filter_map(|o| serde_json::to_value(o).ok()).collect())
        }
        Ok(Err(e)) => Err(cloud.error(&what, &e)),
        Err(_) => Err(CommandError::new(Kind::TimedOut, format!("cannot {what}"))
            .because(format!(
                "the API server at `{}` gave no answer within {} s",
                cloud.server,
                limit.as_secs()
            ))
            .hint("`--request-timeout` waits longer")),
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn millis(value: &Value, pointer: &str) -> Option<Millis> {
    let text = value.pointer(pointer)?.as_str()?;
    Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond())
}

/// A device, with what its DeviceStatus says. Pure.
fn device(device: &Value, status: Option<&Value>) -> DeviceRow {
    let none = Value::Null;
    let status = status.unwrap_or(&none);
    let labels = serde_json::from_value(device["metadata"]["labels"].clone()).unwrap_or_default();
    let reported = |property: &str| {
        let twins = status["status"]["twins"].as_array().into_iter().flatten();
        twins.filter(|twin| twin["propertyName"] == property).find_map(|twin| {
            Some((twin.pointer("/reported/value")?.as_str()?.to_owned(), stamp(twin, "/reported")))
        })
    };
    let twins = device["spec"]["properties"].as_array().into_iter().flatten().map(|property| {
        let name = text(property, "/name");
        let (value, at) = reported(&name).unzip();
        TwinRow {
            desired: property.pointer("/desired/value").and_then(Value::as_str).map(str::to_owned),
            desired_at: stamp(property, "/desired"),
            reported: value,
            reported_at: at.flatten(),
            property: name,
        }
    });
    DeviceRow {
        namespace: text(device, "/metadata/namespace"),
        name: text(device, "/metadata/name"),
        node: text(device, "/spec/nodeName"),
        model: text(device, "/spec/deviceModelRef/name"),
        protocol: text(device, "/spec/protocol/protocolName"),
        state: text(status, "/status/state"),
        last_online: millis(status, "/status/lastOnlineTime"),
        twins: twins.collect(),
        labels,
        created: millis(device, "/metadata/creationTimestamp"),
        last_report: None,
    }
}

/// KubeEdge writes milliseconds into the metadata of both values of a twin.
fn stamp(twin: &Value, value: &str) -> Option<Millis> {
    twin.pointer(value)?.pointer("/metadata/timestamp")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_device_and_its_status_are_one_row() {
        let object = json!({
            "metadata": {"namespace": "default", "name": "thermo", "labels": {"room": "a"}},
            "spec": {"nodeName": "edge-1", "deviceModelRef": {"name": "sensor"},
                "protocol": {"protocolName": "modbus"},
                "properties": [{"name": "target", "desired": {"value": "21",
                    "metadata": {"timestamp": "1767323030000"}}}, {"name": "t"}]},
        });
        let status = json!({"status": {"state": "online", "twins": [
            {"propertyName": "target",
             "reported": {"value": "20", "metadata": {"timestamp": "1767323040000"}}},
        ]}});
        let row = device(&object, Some(&status));
        assert_eq!((row.node.as_str(), row.model.as_str()), ("edge-1", "sensor"));
        assert_eq!(row.twins[0].reported.as_deref(), Some("20"));
        assert_eq!(row.twins[0].reported_at, Some(1_767_323_040_000));
        assert_eq!(row.twins[0].desired_at, Some(1_767_323_030_000));
        assert!(!row.in_sync());
        assert!(device(&object, None).twins[0].reported.is_none());
    }
}
