//! What the edge asks the cloud to do at the API server.
//!
//! Owns: one variant per kind of request, and its two directions.
//! Called by: [`upstream`](super::upstream).
//! Never: decides whether the node may ask.

use serde::Deserialize;

use super::error::DecodeFault;
use super::route::{
    self, Envelope, LEASE_NAMESPACE, NO_NAMESPACE, group, kind, operation, resource, source,
};
use crate::names::{Kind, Namespace, NodeName, ObjectKey, Uid, object_name};
use crate::raw::RawJson;

/// What the edge asks the cloud to do at the API server. Each is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Create the node's own Node object.
    RegisterNode {
        /// Its name; must be the sender's.
        name: NodeName,
        /// The Node.
        node: RawJson,
    },
    /// Strategic merge patch of the node's status.
    PatchNode {
        /// The node.
        name: NodeName,
        /// The patch, as text (a JSON string on the wire).
        patch: String,
    },
    /// Labels and annotations of the node.
    UpdateNode {
        /// The node.
        name: NodeName,
        /// The Node.
        node: RawJson,
    },
    /// Read an object: node, configmap, secret, volume objects, certificate request, lease.
    Query(ObjectKey),
    /// Create the mirror of a static pod.
    CreatePod {
        /// Which.
        key: ObjectKey,
        /// The Pod.
        pod: RawJson,
    },
    /// Strategic merge patch of a pod's status.
    PatchPod {
        /// Which (kind pod).
        key: ObjectKey,
        /// The patch, as text.
        patch: String,
    },
    /// The containers are gone: remove the pod.
    DeletePod {
        /// Which.
        key: ObjectKey,
        /// Only this incarnation.
        uid: Option<Uid>,
        /// The content as it came: DeleteOptions, or from very old edges a UID.
        options: RawJson,
    },
    /// Create the node's lease.
    CreateLease {
        /// Lease name: the node's.
        name: NodeName,
        /// The Lease.
        lease: RawJson,
    },
    /// Renew the node's lease.
    UpdateLease {
        /// Lease name: the node's.
        name: NodeName,
        /// The Lease.
        lease: RawJson,
    },
    /// A bound token of a service account.
    ServiceAccountToken {
        /// Namespace of the account.
        namespace: Namespace,
        /// The account.
        account: Box<str>,
        /// The TokenRequest.
        request: RawJson,
    },
    /// Create a certificate signing request.
    CreateCsr {
        /// Which.
        key: ObjectKey,
        /// The CertificateSigningRequest.
        csr: RawJson,
    },
    /// The API server's CA certificate, as PEM.
    ApiServerCa,
    /// Old edges: whole node status.
    LegacyNodeStatus {
        /// The node.
        name: NodeName,
        /// `{"UID","Status","ExtendResources"}`
        content: RawJson,
    },
    /// Old edges: one pod status or, without a name, an array.
    LegacyPodStatus {
        /// Namespace of the pods.
        namespace: Namespace,
        /// The pod, if one.
        name: Option<Box<str>>,
        /// `{"UID","Name","Status"}` or an array of it.
        content: RawJson,
    },
}

/// As much of DeleteOptions as is needed.
#[derive(Deserialize)]
struct DeleteOptions {
    preconditions: Option<Preconditions>,
}

#[derive(Deserialize)]
struct Preconditions {
    uid: Option<Uid>,
}

/// The UID in DeleteOptions, or, from very old edges, the content itself.
fn delete_uid(options: &RawJson) -> Result<Option<Uid>, DecodeFault> {
    if let Some(text) = options.as_string() {
        return if text.is_empty() { Ok(None) } else { Ok(Some(text.parse()?)) };
    }
    match options.to::<Option<DeleteOptions>>() {
        Ok(options) => Ok(options.and_then(|o| o.preconditions).and_then(|p| p.uid)),
        Err(_) => Err(DecodeFault::Content("DeleteOptions or a UID")),
    }
}

/// The text of a patch: a JSON string, or the patch itself.
fn patch_text(content: &RawJson) -> Result<String, DecodeFault> {
    if content.is_null() {
        return Err(DecodeFault::Content("a patch"));
    }
    Ok(content.text().into_owned())
}

impl Request {
    pub(super) fn decode(op: &str, path: &str, content: RawJson) -> Result<Self, DecodeFault> {
        if path == resource::API_SERVER_CA && op == operation::QUERY {
            return Ok(Self::ApiServerCa);
        }
        let mut parts = path.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(namespace), Some(kind::POD_STATUS), None, None) if op == operation::UPDATE => {
                Ok(Self::LegacyPodStatus { namespace: namespace.parse()?, name: None, content })
            }
            (Some(namespace), Some(kind), Some(name), None) if !name.is_empty() => {
                Self::decode_object(op, (namespace, kind, name), path, content)
            }
            _ => Err(DecodeFault::UnknownRoute),
        }
    }

    fn decode_object(
        op: &str,
        (namespace, kind, name): (&str, &str, &str),
        path: &str,
        content: RawJson,
    ) -> Result<Self, DecodeFault> {
        use operation::{INSERT, PATCH, QUERY, UPDATE};
        let pod = || -> Result<ObjectKey, DecodeFault> {
            Ok(ObjectKey::new(namespace.parse()?, Kind::Pod, &object_name(name)?))
        };
        match (kind, op) {
            (kind::NODE_PATCH, PATCH) => {
                Ok(Self::PatchNode { name: name.parse()?, patch: patch_text(&content)? })
            }
            (kind::POD_PATCH, PATCH) => {
                Ok(Self::PatchPod { key: pod()?, patch: patch_text(&content)? })
            }
            (kind::TOKEN, QUERY) => Ok(Self::ServiceAccountToken {
                namespace: namespace.parse()?,
                account: object_name(name)?,
                request: content,
            }),
            (kind::NODE_STATUS, INSERT | UPDATE) => {
                Ok(Self::LegacyNodeStatus { name: name.parse()?, content })
            }
            (kind::POD_STATUS, UPDATE) => Ok(Self::LegacyPodStatus {
                namespace: namespace.parse()?,
                name: Some(object_name(name)?),
                content,
            }),
            _ => Self::decode_kind(op, path.parse()?, content),
        }
    }

    fn decode_kind(op: &str, key: ObjectKey, content: RawJson) -> Result<Self, DecodeFault> {
        use operation::{DELETE, INSERT, QUERY, UPDATE};
        match (&key.kind, op) {
            (Kind::Node, INSERT) => {
                Ok(Self::RegisterNode { name: key.name.parse()?, node: content })
            }
            (Kind::Node, UPDATE) => Ok(Self::UpdateNode { name: key.name.parse()?, node: content }),
            (Kind::Pod, INSERT) => Ok(Self::CreatePod { key, pod: content }),
            (Kind::Pod, DELETE) => {
                Ok(Self::DeletePod { uid: delete_uid(&content)?, key, options: content })
            }
            (Kind::Lease, INSERT) => {
                Ok(Self::CreateLease { name: key.name.parse()?, lease: content })
            }
            (Kind::Lease, UPDATE) => {
                Ok(Self::UpdateLease { name: key.name.parse()?, lease: content })
            }
            (Kind::CertificateSigningRequest, INSERT) => Ok(Self::CreateCsr { key, csr: content }),
            (
                Kind::Node
                | Kind::ConfigMap
                | Kind::Secret
                | Kind::PersistentVolume
                | Kind::PersistentVolumeClaim
                | Kind::VolumeAttachment
                | Kind::Lease
                | Kind::CertificateSigningRequest,
                QUERY,
            ) => Ok(Self::Query(key)),
            _ => Err(DecodeFault::UnknownRoute),
        }
    }

    pub(super) fn envelope(&self) -> Envelope {
        use operation::{DELETE, INSERT, PATCH, QUERY, UPDATE};
        let node = |kind, name: &NodeName| route::path(NO_NAMESPACE, kind, name.as_str());
        let lease =
            |name: &NodeName| route::path(LEASE_NAMESPACE, Kind::Lease.as_str(), name.as_str());
        let (operation, resource, content) = match self {
            Self::RegisterNode { name, node: content } => {
                (INSERT, node(Kind::Node.as_str(), name), content.clone())
            }
            Self::UpdateNode { name, node: content } => {
                (UPDATE, node(Kind::Node.as_str(), name), content.clone())
            }
            Self::PatchNode { name, patch } => {
                (PATCH, node(kind::NODE_PATCH, name), RawJson::string(patch))
            }
            Self::Query(key) => (QUERY, key.to_string(), RawJson::null()),
            Self::CreatePod { key, pod } => (INSERT, key.to_string(), pod.clone()),
            Self::PatchPod { key, patch } => {
                let namespace = key.namespace.as_ref().map_or(NO_NAMESPACE, Namespace::as_str);
                let path = route::path(namespace, kind::POD_PATCH, &key.name);
                (PATCH, path, RawJson::string(patch))
            }
            Self::DeletePod { key, options, .. } => (DELETE, key.to_string(), options.clone()),
            Self::CreateLease { name, lease: content } => (INSERT, lease(name), content.clone()),
            Self::UpdateLease { name, lease: content } => (UPDATE, lease(name), content.clone()),
            Self::ServiceAccountToken { namespace, account, request } => {
                (QUERY, route::path(namespace.as_str(), kind::TOKEN, account), request.clone())
            }
            Self::CreateCsr { key, csr } => (INSERT, key.to_string(), csr.clone()),
            Self::ApiServerCa => (QUERY, resource::API_SERVER_CA.to_owned(), RawJson::null()),
            Self::LegacyNodeStatus { name, content } => {
                (UPDATE, node(kind::NODE_STATUS, name), content.clone())
            }
            Self::LegacyPodStatus { namespace, name, content } => {
                let path = match name {
                    Some(name) => route::path(namespace.as_str(), kind::POD_STATUS, name),
                    None => format!("{namespace}/{}", kind::POD_STATUS),
                };
                (UPDATE, path, content.clone())
            }
        };
        let source = match self {
            Self::ApiServerCa => source::METAMANAGER,
            _ => source::EDGED,
        };
        Envelope { source, group: group::META, operation, resource, content }
    }
}
