//! What the hop lines call a message on its whole way.
//!
//! A message gets another id on each side of a queue; what it is about stays. So a test, or a
//! person with a log, can follow it: `msg=default/pod/web at=edgehub.socket`.
//!
//! Owns: nothing.
//! Called by: both hubs, where they log a hop. Never: in the way of a message; it makes a text.

use crate::names::{Kind, MessageId, ObjectKey};

use super::request::Request;
use super::{Downstream, Upstream};

impl Request {
    /// The object that it is about, if it is about one.
    pub fn object(&self) -> Option<ObjectKey> {
        match self {
            Self::Query(key)
            | Self::CreatePod { key, .. }
            | Self::PatchPod { key, .. }
            | Self::DeletePod { key, .. }
            | Self::CreateCsr { key, .. } => Some(key.clone()),
            Self::RegisterNode { name, .. }
            | Self::PatchNode { name, .. }
            | Self::UpdateNode { name, .. }
            | Self::LegacyNodeStatus { name, .. } => {
                Some(ObjectKey::cluster(Kind::Node, name.as_str()))
            }
            Self::CreateLease { name, .. } | Self::UpdateLease { name, .. } => {
                Some(ObjectKey::cluster(Kind::Lease, name.as_str()))
            }
            _ => None,
        }
    }
}

impl Upstream {
    /// The object that it is about, else its own id.
    pub fn subject(&self, id: &MessageId) -> String {
        let object = match self {
            Self::Request(request) => request.object(),
            Self::Event(report) => Some(report.key.clone()),
            _ => None,
        };
        object.map_or_else(|| id.to_string(), |key| key.to_string())
    }
}

impl Downstream {
    /// The object that it carries, or the request that it answers; else its own id.
    pub fn subject(&self, id: &MessageId) -> String {
        match self {
            Self::Object(push) => push.key.to_string(),
            Self::Reply(reply) => reply.parent.to_string(),
            _ => id.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::RawJson;

    #[test]
    fn a_message_is_called_by_its_object_in_both_directions() {
        let id: MessageId = "m-1".parse().unwrap();
        let key: ObjectKey = "default/pod/web".parse().unwrap();
        let patch = Request::PatchPod { key, patch: String::new() };
        assert_eq!(Upstream::Request(patch).subject(&id), "default/pod/web");
        let name = "edge-1".parse().unwrap();
        let lease = Request::UpdateLease { name, lease: RawJson::null() };
        assert_eq!(Upstream::Request(lease).subject(&id), "null/lease/edge-1");
        assert_eq!(Upstream::Keepalive.subject(&id), "m-1");
    }
}
