//! Names with types, parsed once at the border.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::printable::printable;

/// How much of a bad name an error shows.
const SHOWN: usize = 64;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a valid {what}: {why}", printable(value, SHOWN))]
pub struct NameError {
    /// What kind of name was expected, for example `node name`.
    pub what: &'static str,
    /// What was found, cut to 65 characters.
    pub value: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

fn refuse(what: &'static str, value: &str, why: &'static str) -> NameError {
    NameError { what, value: value.chars().take(SHOWN + 1).collect(), why }
}

/// The name of an object, whatever its kind: 1 to 253 bytes with no `/` and no control character.
///
/// # Errors
/// When it is not.
pub fn object_name(name: &str) -> Result<Box<str>, NameError> {
    if name.is_empty() || name.len() > 253 || name.contains(|c: char| c == '/' || c.is_control()) {
        let why = "it must have 1 to 253 bytes, no `/` and no control characters";
        return Err(refuse("object name", name, why));
    }
    Ok(name.into())
}

/// An RFC 1123 subdomain of at most 253 characters, as Kubernetes wants most names.
fn subdomain(what: &'static str, value: &str) -> Result<(), NameError> {
    if value.is_empty() || value.len() > 253 {
        return Err(refuse(what, value, "it must have 1 to 253 characters"));
    }
    for label in value.split('.') {
        let bytes = label.as_bytes();
        let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
            return Err(refuse(what, value, "no part between dots may be empty"));
        };
        if !ok(first) || !ok(last) || !bytes.iter().all(|&b| ok(b) || b == b'-') {
            return Err(refuse(
                what,
                value,
                "lower-case letters, digits, `-` and `.` only, a letter or digit at both ends",
            ));
        }
    }
    Ok(())
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                let check: fn(&'static str, &str) -> Result<(), NameError> = $check;
                check($what, s)?;
                Ok(Self(s.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(n: $name) -> Self {
                n.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_name!(
    /// The name of a node: an RFC 1123 subdomain.
    NodeName, "node name", subdomain
);
text_name!(
    /// The name of a namespace: an RFC 1123 label. Absence of one is `Option::None`; the wire writes `null`.
    Namespace, "namespace", |what, s| {
        if s.len() > 63 || s.contains('.') {
            return Err(refuse(what, s, "it must be a single label of at most 63 characters"));
        }
        subdomain(what, s)
    }
);
text_name!(
    /// The `metadata.uid` of an object. Kubernetes promises no form beyond being non-empty.
    Uid, "uid", |what, s| {
        if s.is_empty() || s.len() > 128 || s.contains(|c: char| c == '/' || c.is_control()) {
            let why = "it must have 1 to 128 bytes, no `/` and no control characters";
            return Err(refuse(what, s, why));
        }
        Ok(())
    }
);
text_name!(
    /// The id of one message: a version 4 UUID in practice, any short text on the wire.
    MessageId, "message id", |what, s| {
        if s.len() > 128 || s.contains(char::is_control) {
            return Err(refuse(what, s, "it must have at most 128 bytes, none of control"));
        }
        Ok(())
    }
);

impl MessageId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string().into())
    }

    /// Whether it is the empty text, with which the wire says "none".
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A `metadata.resourceVersion`, compared as the unsigned decimal integer that KubeEdge takes it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ResourceVersion(pub u64);

impl FromStr for ResourceVersion {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        s.parse()
            .map(Self)
            .map_err(|_| refuse("resource version", s, "it must be a decimal number below 2^64"))
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which object: its kind (lower-case singular, as the wire spells it), namespace and name.
///
/// `Display` writes the form of the wire: `default/pod/web-0`, `null/node/edge-1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// `None` for cluster-scoped objects.
    pub namespace: Option<Namespace>,
    /// What it is.
    pub kind: Kind,
    /// `metadata.name`, checked as [`object_name`] does.
    pub name: Box<str>,
}

impl ObjectKey {
    /// A namespaced object.
    pub fn new(namespace: Namespace, kind: Kind, name: &str) -> Self {
        Self { namespace: Some(namespace), kind, name: name.into() }
    }

    /// A cluster-scoped object.
    pub fn cluster(kind: Kind, name: &str) -> Self {
        Self { namespace: None, kind, name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.namespace.as_ref().map_or("null", Namespace::as_str);
        write!(f, "{ns}/{}/{}", self.kind.as_str(), self.name)
    }
}

impl FromStr for ObjectKey {
    type Err = NameError;
    /// Reads what `Display` writes.
    fn from_str(s: &str) -> Result<Self, NameError> {
        let bad = |why| refuse("object key", s, why);
        let mut parts = s.split('/');
        let (Some(namespace), Some(kind), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad("it must be a namespace (or `null`), a kind and a name"));
        };
        let kind_is_plain = kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if kind.is_empty() || kind.len() > 63 || !kind_is_plain {
            return Err(bad("its kind must be 1 to 63 lower-case letters"));
        }
        let namespace = match namespace {
            "null" => None,
            other => Some(other.parse()?),
        };
        Ok(Self { namespace, kind: kind.into(), name: object_name(name)? })
    }
}

/// The kinds of object that travel between cloud and edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// v1 Pod
    Pod,
    /// v1 Node
    Node,
    /// v1 ConfigMap
    ConfigMap,
    /// v1 Secret
    Secret,
    /// v1 PersistentVolume
    PersistentVolume,
    /// v1 PersistentVolumeClaim
    PersistentVolumeClaim,
    /// storage.k8s.io/v1 VolumeAttachment
    VolumeAttachment,
    /// coordination.k8s.io/v1 Lease
    Lease,
    /// certificates.k8s.io/v1 CertificateSigningRequest
    CertificateSigningRequest,
    /// v1 Event
    Event,
    /// devices.kubeedge.io/v1beta1 Device
    Device,
    /// devices.kubeedge.io/v1beta1 DeviceModel
    DeviceModel,
    /// operations.kubeedge.io/v1alpha2 NodeUpgradeJob
    NodeUpgradeJob,
    /// policy.kubeedge.io/v1alpha1 ServiceAccountAccess
    ServiceAccountAccess,
    /// Anything a watch of the MetaServer brings: its kind in lower case.
    Other(Box<str>),
}

impl Kind {
    const KNOWN: [(Kind, &'static str); 14] = [
        (Kind::Pod, "pod"),
        (Kind::Node, "node"),
        (Kind::ConfigMap, "configmap"),
        (Kind::Secret, "secret"),
        (Kind::PersistentVolume, "persistentvolume"),
        (Kind::PersistentVolumeClaim, "persistentvolumeclaim"),
        (Kind::VolumeAttachment, "volumeattachment"),
        (Kind::Lease, "lease"),
        (Kind::CertificateSigningRequest, "certificatesigningrequest"),
        (Kind::Event, "event"),
        (Kind::Device, "device"),
        (Kind::DeviceModel, "devicemodel"),
        (Kind::NodeUpgradeJob, "nodeupgradejob"),
        (Kind::ServiceAccountAccess, "serviceaccountaccess"),
    ];

    /// The wire's spelling.
    pub fn as_str(&self) -> &str {
        match self {
            Kind::Other(s) => s,
            known => Self::KNOWN.iter().find(|(k, _)| k == known).map_or("", |(_, s)| s),
        }
    }
}

impl From<&str> for Kind {
    fn from(s: &str) -> Self {
        Self::KNOWN
            .iter()
            .find(|(_, t)| *t == s)
            .map_or_else(|| Kind::Other(s.into()), |(k, _)| k.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_follow_rfc_1123() {
        for good in ["edge-1", "a", "edge.site-7.example", "0a"] {
            assert_eq!(good.parse::<NodeName>().unwrap().as_str(), good);
        }
        for bad in ["", "Edge", "-a", "a-", "a..b", "a/b", "a b", "ä"] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(254).parse::<NodeName>().is_err());
    }

    #[test]
    fn an_object_key_prints_as_the_wire_writes_it() {
        let ns: Namespace = "default".parse().unwrap();
        assert_eq!(ObjectKey::new(ns, Kind::Pod, "web-0").to_string(), "default/pod/web-0");
        assert_eq!(ObjectKey::cluster(Kind::Node, "edge-1").to_string(), "null/node/edge-1");
    }

    #[test]
    fn an_object_key_is_read_from_what_the_wire_writes() {
        for text in ["default/pod/web-0", "null/node/edge-1", "a/gadget/x.y"] {
            assert_eq!(text.parse::<ObjectKey>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "pod",
            "default/pod",
            "default/pod/",
            "default//x",
            "A/pod/x",
            "a/b/c/d",
            "a/Pod/x",
            "a/pod/\u{1b}",
        ] {
            assert!(bad.parse::<ObjectKey>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn kinds_survive_the_way_there_and_back() {
        for (kind, text) in Kind::KNOWN {
            assert_eq!(kind.as_str(), text);
            assert_eq!(Kind::from(text), kind);
        }
        assert_eq!(Kind::from("gadget").as_str(), "gadget");
    }
}
