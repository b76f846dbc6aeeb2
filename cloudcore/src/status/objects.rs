//! Kubernetes objects as rows. Pure.

use api::crd::Device;
use api::names::{Kind, ObjectKey};
use api::status::objects;
use api::status::row::{Row, RowKey, RowKind};
use api::wire::request::Request;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::devices;
use crate::object::Object;

pub(super) fn row_kind(kind: &Kind) -> Option<RowKind> {
    match kind {
        Kind::Node => Some(RowKind::Node),
        Kind::Pod => Some(RowKind::Pod),
        Kind::Device => Some(RowKind::Device),
        _ => None,
    }
}

pub(super) fn row_key(key: &ObjectKey) -> RowKey {
    let namespace = key.namespace.as_ref().map_or("", |n| n.as_str());
    match key.kind {
        Kind::Pod => RowKey::pod(namespace, &key.name),
        Kind::Device => RowKey::device(namespace, &key.name),
        _ => RowKey::node(&key.name),
    }
}

/// The row of an object; none for kinds that have none, and for what does not read as its kind.
pub(super) fn row(object: &Object) -> Option<Row> {
    match object.key.kind {
        Kind::Node => object.text.to::<Node>().ok().map(|n| Row::Node(objects::node(n))),
        Kind::Pod => object.text.to::<Pod>().ok().map(|p| Row::Pod(objects::pod(p))),
        Kind::Device => object.text.to::<Device>().ok().map(|d| Row::Device(devices::row(d))),
        _ => None,
    }
}

/// What of processor (in thousandths of a core) and memory a node has, as its object says.
pub(super) fn capacity(object: &Object) -> Option<(u64, u64)> {
    if object.key.kind != Kind::Node {
        return None;
    }
    let capacity = object.text.to::<Node>().ok()?.status?.capacity?;
    let cpu = capacity.get("cpu").and_then(|q| api::quantity::thousandths(&q.0));
    let memory = capacity.get("memory").and_then(|q| api::quantity::whole(&q.0));
    Some((cpu.unwrap_or(0), memory.unwrap_or(0)))
}

/// What a request is called in the message flow.
pub(super) fn label(request: &Request) -> &'static str {
    match request {
        Request::RegisterNode { .. } => "register",
        Request::PatchNode { .. } | Request::LegacyNodeStatus { .. } => "nodestatus",
        Request::UpdateNode { .. } => "node",
        Request::Query(_) => "query",
        Request::CreatePod { .. } => "mirrorpod",
        Request::PatchPod { .. } | Request::LegacyPodStatus { .. } => "podstatus",
        Request::DeletePod { .. } => "poddelete",
        Request::CreateLease { .. } | Request::UpdateLease { .. } => "lease",
        Request::ServiceAccountToken { .. } => "token",
        Request::CreateCsr { .. } => "csr",
        Request::ApiServerCa => "ca",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_has_said_nothing_has_a_row() {
        let text = r#"{"metadata":{"name":"edge-1","uid":"u","resourceVersion":"1"}}"#;
        let object = Object::read(Kind::Node, text).unwrap();
        let Some(Row::Node(row)) = row(&object) else { panic!("no row") };
        assert_eq!((row.name.as_str(), row.ready.as_str()), ("edge-1", ""));
    }
}
