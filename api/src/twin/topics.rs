//! `$hw/events/...`: the topics of twins.
//!
//! Owns: reading and printing them.
//! Called by: eventbus, devicetwin.
//! Never: matches a part of a topic; a device may be called `update`.

use std::fmt;
use std::str::FromStr;

use crate::names::{NameError, Namespace, NodeName};
use crate::printable::printable;

/// What eventbus subscribes to at the external broker, beside the topics of rules.
pub const SUBSCRIPTIONS: [&str; 6] = [
    "$hw/events/upload/#",
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/node/+/membership/get",
    "SYS/dis/upload_records",
    "+/user/#",
];

/// Where the result of an update goes whose sender could not be made out.
pub const RESULT_WITHOUT_DEVICE: &str = "$hw/events/device//twin/update/result";

const DEVICE: &str = "$hw/events/device/";
const NODE: &str = "$hw/events/node/";
const CONNECTED: &str = "$hw/events/connected/";
const DISCONNECTED: &str = "$hw/events/disconnected/";

/// A device: its namespace and name. Printed as the wire has it, `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    /// Namespace.
    pub namespace: Namespace,
    /// Name.
    pub name: Box<str>,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for DeviceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse =
            |why| NameError { what: "device id", value: text.chars().take(64).collect(), why };
        let (namespace, name) =
            text.split_once('/').ok_or_else(|| refuse("it must be `namespace/name`"))?;
        // What MQTT gives a meaning to may not be in it.
        let plain = |c: char| !c.is_control() && !matches!(c, '/' | '+' | '#');
        if name.is_empty() || name.len() > 253 || !name.chars().all(plain) {
            return Err(refuse("the name must be 1 to 253 bytes without `/`, `+` or `#`"));
        }
        Ok(Self { namespace: namespace.parse()?, name: name.into() })
    }
}

/// A topic of twins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// About a device.
    Device(DeviceId, DeviceTopic),
    /// About the devices of a node.
    Node(NodeName, NodeTopic),
    /// A node has connected; no action.
    Connected(NodeName),
    /// A node has disconnected; no action.
    Disconnected(NodeName),
}

/// What a topic of a device is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceTopic {
    /// Values, from a mapper or an app.
    TwinUpdate,
    /// Whether they were taken.
    TwinUpdateResult,
    /// What differs from what is wanted.
    TwinUpdateDelta,
    /// Before and after.
    TwinUpdateDocument,
    /// Asks for all values.
    TwinGet,
    /// All values.
    TwinGetResult,
    /// Values with versions, from the cloud or an app.
    TwinCloudUpdated,
    /// A state, from a mapper.
    StateUpdate,
    /// The state that was taken.
    StateUpdateResult,
    /// Attributes have changed.
    Updated,
}

/// What a topic of a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeTopic {
    /// Asks for the devices.
    MembershipGet,
    /// The devices.
    MembershipGetResult,
    /// Devices came or went.
    MembershipUpdated,
}

impl DeviceTopic {
    const ALL: [(Self, &'static str); 10] = [
        (Self::TwinUpdate, "twin/update"),
        (Self::TwinUpdateResult, "twin/update/result"),
        (Self::TwinUpdateDelta, "twin/update/delta"),
        (Self::TwinUpdateDocument, "twin/update/document"),
        (Self::TwinGet, "twin/get"),
        (Self::TwinGetResult, "twin/get/result"),
        (Self::TwinCloudUpdated, "twin/cloud_updated"),
        (Self::StateUpdate, "state/update"),
        (Self::StateUpdateResult, "state/update/result"),
        (Self::Updated, "updated"),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(topic, _)| *topic == self).map_or("", |(_, text)| text)
    }
}

impl NodeTopic {
    const ALL: [(Self, &'static str); 3] = [
        (Self::MembershipGet, "membership/get"),
        (Self::MembershipGetResult, "membership/get/result"),
        (Self::MembershipUpdated, "membership/updated"),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(topic, _)| *topic == self).map_or("", |(_, text)| text)
    }
}

/// A topic that begins as one of twins does but is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It names no device or node, or an impossible one.
    #[error("topic `{topic}` names no device or node")]
    Name {
        /// The topic, cut to 128 characters and escaped.
        topic: String,
        /// Why.
        #[source]
        source: NameError,
    },
    /// What follows the name is unknown.
    #[error("topic `{topic}` is for nothing that is known")]
    Unknown {
        /// The topic, cut to 128 characters and escaped.
        topic: String,
    },
}

fn shown(topic: &str) -> String {
    printable(topic, 128).to_string()
}

impl Topic {
    /// Reads a topic. `None` if it has nothing to do with twins; such go to the cloud.
    ///
    /// # Errors
    /// When it begins as a topic of twins but is none.
    pub fn parse(topic: &str) -> Result<Option<Self>, TopicError> {
        let unknown = || TopicError::Unknown { topic: shown(topic) };
        let bad_name = |source| TopicError::Name { topic: shown(topic), source };
        if let Some(rest) = topic.strip_prefix(DEVICE) {
            let mut parts = rest.splitn(3, '/');
            let (Some(namespace), Some(name), Some(what)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(unknown());
            };
            let (what, _) =
                DeviceTopic::ALL.into_iter().find(|(_, text)| *text == what).ok_or_else(unknown)?;
            let device = format!("{namespace}/{name}").parse().map_err(bad_name)?;
            return Ok(Some(Self::Device(device, what)));
        }
        if let Some(rest) = topic.strip_prefix(NODE) {
            let (node, what) = rest.split_once('/').ok_or_else(unknown)?;
            let (what, _) =
                NodeTopic::ALL.into_iter().find(|(_, text)| *text == what).ok_or_else(unknown)?;
            return Ok(Some(Self::Node(node.parse().map_err(bad_name)?, what)));
        }
        if let Some(node) = topic.strip_prefix(CONNECTED) {
            return Ok(Some(Self::Connected(node.parse().map_err(bad_name)?)));
        }
        if let Some(node) = topic.strip_prefix(DISCONNECTED) {
            return Ok(Some(Self::Disconnected(node.parse().map_err(bad_name)?)));
        }
        Ok(None)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device, what) => write!(f, "{DEVICE}{device}/{}", what.as_str()),
            Self::Node(node, what) => write!(f, "{NODE}{node}/{}", what.as_str()),
            Self::Connected(node) => write!(f, "{CONNECTED}{node}"),
            Self::Disconnected(node) => write!(f, "{DISCONNECTED}{node}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::{Kind, MessageId, ObjectKey};
    use crate::raw::RawJson;
    use crate::wire::Upstream;
    use crate::wire::downstream::{Downstream, ObjectPush, PushOp, PushSource};

    #[test]
    fn every_topic_survives_the_way_there_and_back() {
        let device: DeviceId = "default/sensor-1".parse().unwrap();
        let node: NodeName = "edge-1".parse().unwrap();
        let devices = DeviceTopic::ALL.map(|(what, _)| Topic::Device(device.clone(), what));
        let nodes = NodeTopic::ALL.map(|(what, _)| Topic::Node(node.clone(), what));
        let others = [Topic::Connected(node.clone()), Topic::Disconnected(node)];
        for topic in devices.into_iter().chain(nodes).chain(others) {
            assert_eq!(Topic::parse(&topic.to_string()), Ok(Some(topic)));
        }
        assert_eq!(
            Topic::Device(device, DeviceTopic::TwinUpdateDelta).to_string(),
            "$hw/events/device/default/sensor-1/twin/update/delta"
        );
    }

    #[test]
    fn a_device_may_be_called_as_a_topic_is() {
        let topic = Topic::parse("$hw/events/device/twin/update/twin/update").unwrap().unwrap();
        let device = "twin/update".parse().unwrap();
        assert_eq!(topic, Topic::Device(device, DeviceTopic::TwinUpdate));
    }

    #[test]
    fn other_topics_go_to_the_cloud() {
        for topic in
            ["default/test", "a/user/b", "$hw/events/upload/x", "SYS/dis/upload_records", ""]
        {
            assert_eq!(Topic::parse(topic), Ok(None), "{topic}");
        }
    }

    #[test]
    fn what_only_begins_as_a_topic_of_twins_is_an_error() {
        for topic in [
            "$hw/events/device/",
            "$hw/events/device/sensor-1/twin/update",
            "$hw/events/device/default/sensor-1/twin/frob",
            "$hw/events/device/default/sensor-1/twin/update/",
            "$hw/events/device//x/twin/update",
            "$hw/events/device/default//twin/update",
            "$hw/events/device/default/a+b/twin/update",
            "$hw/events/node/edge-1",
            "$hw/events/node/Edge_1/membership/get",
            "$hw/events/connected/",
            RESULT_WITHOUT_DEVICE,
        ] {
            assert!(Topic::parse(topic).is_err(), "{topic}");
        }
    }

    #[test]
    fn an_error_shows_no_control_characters() {
        let error = Topic::parse("$hw/events/device/\u{1b}[2J").unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'));
    }

    proptest! {
        /// As Kubernetes names objects and namespaces.
        #[test]
        fn a_device_of_any_legal_name_goes_all_ways_and_comes_back(
            namespace in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
            name in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?){0,2}",
        ) {
            let id: DeviceId = format!("{namespace}/{name}").parse().unwrap();
            prop_assert_eq!((id.namespace.as_str(), &*id.name), (namespace.as_str(), name.as_str()));
            for (what, _) in DeviceTopic::ALL {
                let topic = Topic::Device(id.clone(), what);
                prop_assert_eq!(Topic::parse(&topic.to_string()), Ok(Some(topic)));
            }
            let (message, node) = (MessageId::random(), "edge-1".parse().unwrap());
            let up = Upstream::DeviceTwin {
                namespace: id.namespace.clone(),
                name: id.name.clone(),
                content: RawJson::null(),
            };
            let (_, heard) = Upstream::decode(&node, up.encode(&message, 0)).unwrap();
            prop_assert_eq!(heard, up);
            let key = ObjectKey::new(id.namespace, Kind::Device, &id.name);
            prop_assert_eq!(&key.to_string().parse::<ObjectKey>().unwrap(), &key);
            let down = Downstream::Object(ObjectPush {
                op: PushOp::Insert,
                key,
                uid: "u".parse().unwrap(),
                version: Some("7".parse().unwrap()),
                source: PushSource::DeviceController,
                object: RawJson::of(&serde_json::json!({"metadata": {"uid": "u"}})).unwrap(),
            });
            let (_, heard) = Downstream::decode(down.encode(&message, 0)).unwrap();
            prop_assert_eq!(heard, down);
        }
    }
}
