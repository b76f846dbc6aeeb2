//! The strings with which KubeEdge routes. This is the only place that has them.
//!
//! Owns: the names of modules, groups, operations and resource types, and the shapes of resource
//! paths.
//! Called by: [`upstream`](super::upstream) and [`downstream`](super::downstream).
//! Never: matches a part of a path; an object may be called anything.

use super::message::{Header, Message, Route};
use crate::names::{Kind, MessageId, NodeName, ResourceVersion};
use crate::raw::RawJson;

/// Modules, as `route.source` names them.
pub(super) mod source {
    pub(in crate::wire) const CLOUDHUB: &str = "cloudhub";
    pub(in crate::wire) const CLOUDSTREAM: &str = "cloudStream";
    pub(in crate::wire) const EDGECONTROLLER: &str = "edgecontroller";
    pub(in crate::wire) const DEVICECONTROLLER: &str = "devicecontroller";
    pub(in crate::wire) const DYNAMICCONTROLLER: &str = "dynamiccontroller";
    pub(in crate::wire) const POLICYCONTROLLER: &str = "policycontroller";
    pub(in crate::wire) const SYNCCONTROLLER: &str = "synccontroller";
    pub(in crate::wire) const TASKMANAGER: &str = "taskmanager";
    pub(in crate::wire) const NODEUPGRADEJOBCONTROLLER: &str = "nodeupgradejobcontroller";
    pub(in crate::wire) const ROUTER_EVENTBUS: &str = "router_eventbus";
    pub(in crate::wire) const ROUTER_SERVICEBUS: &str = "router_servicebus";
    pub(in crate::wire) const EDGED: &str = "edged";
    pub(in crate::wire) const METAMANAGER: &str = "metamanager";
    pub(in crate::wire) const METASERVER: &str = "metaserver";
    /// The module name of edgehub, whatever the transport.
    pub(in crate::wire) const EDGEHUB: &str = "websocket";
    pub(in crate::wire) const TWIN: &str = "twin";
    pub(in crate::wire) const BUS: &str = "bus";
    pub(in crate::wire) const SERVICEBUS: &str = "servicebus";
}

/// Groups of modules, as `route.group` names them.
pub(super) mod group {
    pub(in crate::wire) const RESOURCE: &str = "resource";
    /// The same as [`RESOURCE`] to an edge node.
    pub(in crate::wire) const FUNC: &str = "func";
    pub(in crate::wire) const TWIN: &str = "twin";
    pub(in crate::wire) const USER: &str = "user";
    pub(in crate::wire) const META: &str = "meta";
    pub(in crate::wire) const HUB: &str = "hub";
    pub(in crate::wire) const DYNAMICCONTROLLER: &str = "dynamiccontroller";
    pub(in crate::wire) const TASKMANAGER: &str = "taskmanager";
    pub(in crate::wire) const NODEUPGRADEJOBCONTROLLER: &str = "nodeupgradejobcontroller";
}

/// Verbs, as `route.operation` names them.
pub(super) mod operation {
    pub(in crate::wire) const INSERT: &str = "insert";
    pub(in crate::wire) const UPDATE: &str = "update";
    pub(in crate::wire) const DELETE: &str = "delete";
    pub(in crate::wire) const QUERY: &str = "query";
    pub(in crate::wire) const PATCH: &str = "patch";
    pub(in crate::wire) const GET: &str = "get";
    pub(in crate::wire) const RESPONSE: &str = "response";
    pub(in crate::wire) const ERROR: &str = "error";
    pub(in crate::wire) const KEEPALIVE: &str = "keepalive";
    pub(in crate::wire) const UPLOAD: &str = "upload";
    /// The literal text `null`.
    pub(in crate::wire) const NULL: &str = "null";
    pub(in crate::wire) const APPLICATION_RESPONSE: &str = "applicationResponse";

    /// The CSI calls.
    pub(in crate::wire) const VOLUME: [&str; 4] =
        ["createvolume", "deletevolume", "controllerpublishvolume", "controllerunpublishvolume"];
    /// What an edge node calls its report on a step of a job.
    pub(in crate::wire) const TASK_STATUS: [&str; 5] =
        ["UpdateNodeActionStatus", "upgrade", "prepull", "rollback", "backup"];
}

/// Resource paths that are one fixed text.
pub(super) mod resource {
    pub(in crate::wire) const NODE: &str = "node";
    pub(in crate::wire) const API_SERVER_CA: &str = "k8s/ca.crt";
    pub(in crate::wire) const MEMBERSHIP: &str = "membership";
    pub(in crate::wire) const MEMBERSHIP_DETAIL: &str = "membership/detail";
    pub(in crate::wire) const TWIN: &str = "twin";
    pub(in crate::wire) const APPLICATION: &str = "null";
    pub(in crate::wire) const APPLICATION_RESPONSE: &str = "ignore/Application/ignore";
    pub(in crate::wire) const WATCH_SYNC: &str = "watchapp/sync";
}

/// Types in the middle of a path that are not kinds of objects.
pub(super) mod kind {
    pub(in crate::wire) const NODE_PATCH: &str = "nodepatch";
    pub(in crate::wire) const POD_PATCH: &str = "podpatch";
    pub(in crate::wire) const NODE_STATUS: &str = "nodestatus";
    pub(in crate::wire) const POD_STATUS: &str = "podstatus";
    pub(in crate::wire) const TOKEN: &str = "serviceaccounttoken";
    const VOLUME: &str = "volume";

    /// Whether `resource` is `<namespace>/volume/<id>`.
    pub(in crate::wire) fn is_volume(resource: &str) -> bool {
        let mut parts = resource.splitn(3, '/');
        let word = |s: Option<&str>| {
            s.is_some_and(|s| s.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
        };
        word(parts.next()) && parts.next() == Some(VOLUME) && word(parts.next())
    }
}

/// The namespace element that stands for "no namespace".
pub(super) const NO_NAMESPACE: &str = "null";
/// The namespace of the nodes' leases.
pub(super) const LEASE_NAMESPACE: &str = "kube-node-lease";
/// The text of an answer that has nothing else to say, and of an ack.
pub(super) const OK: &str = "OK";
/// The content of a keepalive.
pub(super) const PING: &str = "ping";

/// The kinds whose answers to queries go through the cloud's acknowledged queue.
pub(super) fn reply_needs_ack(resource: &str) -> bool {
    let mut parts = resource.split('/');
    let (Some(_), Some(kind), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    matches!(
        Kind::from(kind),
        Kind::ConfigMap
            | Kind::Secret
            | Kind::PersistentVolume
            | Kind::PersistentVolumeClaim
            | Kind::VolumeAttachment
    )
}

/// What a device says, or is told: the paths that begin with `device/`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DevicePath<'a> {
    /// `device/<namespace>/<name>/twin/edge_updated`
    EdgeUpdated { namespace: &'a str, name: &'a str },
    /// `device/<namespace>/<name>/state/update`
    State { namespace: &'a str, name: &'a str },
    /// `device/<id>/twin/cloud_updated`, where the id has one or two elements.
    CloudUpdated { device: &'a str },
}

impl<'a> DevicePath<'a> {
    pub(super) fn parse(resource: &'a str) -> Option<Self> {
        const EDGE_UPDATED: &str = "/twin/edge_updated";
        const STATE: &str = "/state/update";
        const CLOUD_UPDATED: &str = "/twin/cloud_updated";
        let rest = resource.strip_prefix("device/")?;
        let pair = |id: &'a str| match id.split_once('/') {
            Some((namespace, name)) if !name.is_empty() && !name.contains('/') => {
                Some((namespace, name))
            }
            _ => None,
        };
        if let Some(id) = rest.strip_suffix(EDGE_UPDATED) {
            let (namespace, name) = pair(id)?;
            return Some(Self::EdgeUpdated { namespace, name });
        }
        if let Some(id) = rest.strip_suffix(STATE) {
            let (namespace, name) = pair(id)?;
            return Some(Self::State { namespace, name });
        }
        let device = rest.strip_suffix(CLOUD_UPDATED)?;
        let whole = !device.is_empty() && device.split('/').all(|part| !part.is_empty());
        (whole && device.matches('/').count() <= 1).then_some(Self::CloudUpdated { device })
    }

    pub(super) fn print(&self) -> String {
        match self {
            Self::EdgeUpdated { namespace, name } => {
                format!("device/{namespace}/{name}/twin/edge_updated")
            }
            Self::State { namespace, name } => format!("device/{namespace}/{name}/state/update"),
            Self::CloudUpdated { device } => format!("device/{device}/twin/cloud_updated"),
        }
    }
}

/// The node that a task's path ends with: `.../node/<node>`.
pub(super) fn task_node(resource: &str) -> Option<&str> {
    let (head, node) = resource.rsplit_once('/')?;
    (head.ends_with("/node") && !node.is_empty()).then_some(node)
}

/// `resource` without the `node/<node>/` that the cloud puts before it on its inside.
pub(super) fn without_node<'a>(resource: &'a str, node: &NodeName) -> &'a str {
    resource
        .strip_prefix("node/")
        .and_then(|rest| rest.strip_prefix(node.as_str()))
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(resource)
}

/// `<namespace or null>/<type>/<name>`
pub(super) fn path(namespace: &str, kind: &str, name: &str) -> String {
    format!("{namespace}/{kind}/{name}")
}

/// Puts an envelope together.
pub(super) struct Envelope {
    pub(super) source: &'static str,
    pub(super) group: &'static str,
    pub(super) operation: &'static str,
    pub(super) resource: String,
    pub(super) content: RawJson,
}

impl Envelope {
    pub(super) fn into_message(self, id: &MessageId, timestamp_ms: i64) -> Message {
        Message {
            header: Header { msg_id: id.to_string(), timestamp: timestamp_ms, ..Header::default() },
            route: Route {
                source: self.source.into(),
                destination: String::new(),
                group: self.group.into(),
                operation: self.operation.into(),
                resource: self.resource,
            },
            content: self.content,
        }
    }
}

/// What a `header.resourceversion` says; empty is none.
pub(super) fn version(text: &str) -> Result<Option<ResourceVersion>, crate::names::NameError> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_known_by_the_shape_of_its_path_and_not_by_a_part_of_its_name() {
        assert!(kind::is_volume("default/volume/7b0d9b1e-0000-4000-8000-000000000009"));
        assert!(kind::is_volume("default/volume/a/b"));
        for other in
            ["default/pod/volume", "volume/x", "default/volume/", "/volume/x", "a/volumes/b"]
        {
            assert!(!kind::is_volume(other), "{other}");
        }
    }

    #[test]
    fn device_paths_survive_the_way_there_and_back() {
        for text in [
            "device/default/sensor-1/twin/edge_updated",
            "device/default/twin/state/update",
            "device/sensor-1/twin/cloud_updated",
            "device/default/sensor-1/twin/cloud_updated",
        ] {
            assert_eq!(DevicePath::parse(text).unwrap().print(), text);
        }
        for bad in [
            "device/sensor-1/twin/edge_updated",
            "device//x/twin/edge_updated/",
            "device//twin/cloud_updated",
            "device/a/b/c/twin/cloud_updated",
            "device/a/b/c/state/update",
            "devices/a/b/state/update",
        ] {
            assert_eq!(DevicePath::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_senders_own_prefix_is_taken_off() {
        let node: NodeName = "edge-1".parse().unwrap();
        assert_eq!(without_node("node/edge-1/default/pod/a", &node), "default/pod/a");
        assert_eq!(without_node("node/edge-2/default/pod/a", &node), "node/edge-2/default/pod/a");
        assert_eq!(without_node("default/node/edge-1", &node), "default/node/edge-1");
    }

    #[test]
    fn a_task_names_its_node_at_the_end() {
        assert_eq!(task_node("task/pp1/node/edge-1"), Some("edge-1"));
        assert_eq!(
            task_node("operations.kubeedge.io/v1alpha2/nodeupgradejob/up1/node/edge-1"),
            Some("edge-1")
        );
        for bad in ["task/pp1", "task/node/", "edge-1", "xnode/edge-1"] {
            assert_eq!(task_node(bad), None, "{bad}");
        }
    }
}
