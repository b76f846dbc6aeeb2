//! A Kubernetes object on its way through: its text, and the little that must be known of it.
//!
//! Owns: the reading of objects from watches and answers.
//! Called by: `edgecontroller`, `synccontroller`.
//! Never: drops a field that it does not know. Only `metadata.managedFields` is left out: no edge
//! node has a use for it, and it is often half of the object.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use api::names::{Kind, Namespace, NodeName, ObjectKey, ResourceVersion, Uid};
use api::raw::RawJson;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Why an object was skipped.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Not of the form of a Kubernetes object.
    #[error("it is not a Kubernetes object")]
    Form(#[from] serde_json::Error),
    /// A name in it is impossible.
    #[error(transparent)]
    Name(#[from] api::names::NameError),
}

/// An object, its text made complete with `kind` and `apiVersion`.
#[derive(Debug, Clone)]
pub struct Object {
    /// Kind, namespace, name.
    pub key: ObjectKey,
    /// `metadata.uid`
    pub uid: Uid,
    /// `metadata.resourceVersion`
    pub version: ResourceVersion,
    /// It has a `deletionTimestamp`.
    pub deleting: bool,
    /// `metadata.labels` has `node-role.kubernetes.io/edge` (nodes only).
    pub is_edge_node: bool,
    /// `metadata.annotations.cloudcore` (nodes only).
    pub cloudcore: Option<Box<str>>,
    /// `metadata.annotations` has [`STORE_ANNOTATION`] (nodes only).
    pub store: Option<Box<str>>,
    /// What a pod needs and where it runs.
    pub pod: Option<PodFacts>,
    /// Changes with `spec`, `data` and `metadata`, not with `status` or bookkeeping.
    pub fingerprint: u64,
    /// The whole object.
    pub text: RawJson,
}

/// What must be known of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// `spec.nodeName`
    pub node: Option<NodeName>,
    /// `spec.serviceAccountName`
    pub service_account: Box<str>,
    /// ConfigMaps, Secrets and claims that its containers (init and ephemeral ones too), volumes
    /// and pull secrets name.
    pub uses: BTreeSet<ObjectKey>,
}

/// The label that makes a node an edge node; its value must be empty.
pub const EDGE_LABEL: &str = "node-role.kubernetes.io/edge";
/// The annotation that says which cloudcore serves a node; only a node that has connected has it.
pub const CLOUDCORE_ANNOTATION: &str = "cloudcore";
/// The annotation that says in which database a node holds what it was sent. The records of what it
/// holds are about that database and no other.
pub const STORE_ANNOTATION: &str = "edge.kubeedge.io/store-id";

/// The API of devices.
pub const DEVICES: &str = "devices.kubeedge.io/v1beta1";

/// The API of jobs on nodes.
pub const OPERATIONS: &str = "operations.kubeedge.io/v1alpha2";

/// `apiVersion` and `kind` as Kubernetes writes them, and the path segment of the API.
pub fn gvk(kind: &Kind) -> Option<(&'static str, &'static str, &'static str)> {
    Some(match kind {
        Kind::Pod => ("v1", "Pod", "pods"),
        Kind::Node => ("v1", "Node", "nodes"),
        Kind::ConfigMap => ("v1", "ConfigMap", "configmaps"),
        Kind::Secret => ("v1", "Secret", "secrets"),
        Kind::PersistentVolume => ("v1", "PersistentVolume", "persistentvolumes"),
        Kind::PersistentVolumeClaim => ("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
        Kind::Event => ("v1", "Event", "events"),
        Kind::VolumeAttachment => ("storage.k8s.io/v1", "VolumeAttachment", "volumeattachments"),
        Kind::Lease => ("coordination.k8s.io/v1", "Lease", "leases"),
        Kind::CertificateSigningRequest => {
            ("certificates.k8s.io/v1", "CertificateSigningRequest", "certificatesigningrequests")
        }
        Kind::Device => (DEVICES, "Device", "devices"),
        Kind::DeviceModel => (DEVICES, "DeviceModel", "devicemodels"),
        Kind::NodeUpgradeJob => (OPERATIONS, "NodeUpgradeJob", "nodeupgradejobs"),
        Kind::ServiceAccountAccess | Kind::Other(_) => return None,
    })
}

type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

#[derive(Deserialize)]
struct Whole<'a>(#[serde(borrow)] Fields<'a>);

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: String,
    namespace: Option<String>,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Object {
    /// What a pod that has no uid yet would need.
    ///
    /// # Errors
    /// When it is not a pod, or the key has no namespace.
    pub fn pod_facts(pod: &RawJson, key: &ObjectKey) -> Result<PodFacts, ObjectError> {
        #[derive(Deserialize)]
        struct New {
            spec: PodSpec,
        }
        let default = || "default".parse::<Namespace>();
        let namespace = key.namespace.clone().map_or_else(default, Ok)?;
        pod_facts(pod.to::<New>()?.spec, &namespace, &key.name)
    }

    /// Reads an object of a known kind. Lists leave out `kind` and `apiVersion`; they are put in.
    ///
    /// # Errors
    /// When the text is not an object with a name, a uid and a numeric resource version.
    pub fn read(kind: Kind, text: &str) -> Result<Self, ObjectError> {
        let Whole(mut fields) = serde_json::from_str(text)?;
        let metadata = fields.remove("metadata").map_or("{}", RawValue::get);
        let Whole(mut meta_fields) = serde_json::from_str(metadata)?;
        let managed = meta_fields.remove("managedFields");
        let meta: Meta = match managed {
            // Read it without the long part.
            Some(_) => serde_json::from_str(&join(&[], &meta_fields))?,
            None => serde_json::from_str(metadata)?,
        };
        let namespace = meta.namespace.filter(|n| !n.is_empty()).map(|n| n.parse::<Namespace>());
        let name = meta.name.as_str().into();
        let key = ObjectKey { namespace: namespace.transpose()?, kind, name };
        let pod = match (&key.kind, &key.namespace) {
            (Kind::Pod, Some(ns)) => {
                let spec = fields.get("spec").map_or("{}", |s| s.get());
                Some(pod_facts(serde_json::from_str(spec)?, ns, &key.name)?)
            }
            _ => None,
        };
        let labels = meta.labels.unwrap_or_default();
        let mut annotations = meta.annotations.unwrap_or_default();
        Ok(Self {
            uid: meta.uid.parse()?,
            version: meta.resource_version.parse()?,
            deleting: meta.deletion_timestamp.is_some_and(|t| !t.is_empty()),
            is_edge_node: labels.get(EDGE_LABEL).is_some_and(String::is_empty),
            cloudcore: annotations.remove(CLOUDCORE_ANNOTATION).map(Into::into),
            store: annotations.remove(STORE_ANNOTATION).map(Into::into),
            pod,
            fingerprint: fingerprint(&fields, &meta_fields),
            text: complete(&key.kind, &fields, &meta_fields)?,
            key,
        })
    }
}

/// The same for an object whose status alone changed; text that differs only in order or spacing
/// would differ here, but a server writes one object in one way.
fn fingerprint(fields: &Fields<'_>, meta: &Fields<'_>) -> u64 {
    const BOOKKEEPING: [&str; 3] = ["resourceVersion", "generation", "managedFields"];
    let mut hasher = DefaultHasher::new();
    for (name, value) in meta {
        if !BOOKKEEPING.contains(&name.as_ref()) {
            (name, value.get()).hash(&mut hasher);
        }
    }
    for (name, value) in fields {
        if !["status", "kind", "apiVersion"].contains(&name.as_ref()) {
            (name, value.get()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn complete(
    kind: &Kind,
    fields: &Fields<'_>,
    meta: &Fields<'_>,
) -> Result<RawJson, serde_json::Error> {
    let metadata = RawValue::from_string(join(&[], meta))?;
    let mut fields: BTreeMap<&str, &RawValue> =
        fields.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
    fields.insert("metadata", &metadata);
    let mut head = Vec::new();
    if let Some((api_version, kind, _)) = gvk(kind) {
        fields.remove("kind");
        fields.remove("apiVersion");
        head = vec![("kind", kind), ("apiVersion", api_version)];
    }
    RawJson::parse(join(&head, &fields))
}

/// A JSON object of `head` (plain words) and `fields`.
fn join<K: AsRef<str>>(head: &[(&str, &str)], fields: &BTreeMap<K, &RawValue>) -> String {
    let size: usize = fields.iter().map(|(n, v)| n.as_ref().len() + v.get().len() + 4).sum();
    let mut out = String::with_capacity(size + 64);
    out.push('{');
    for (name, value) in head {
        out.push_str(&format!("\"{name}\":\"{value}\","));
    }
    for (name, value) in fields {
        // A string always has a JSON form.
        out.push_str(&serde_json::to_string(name.as_ref()).unwrap_or_default());
        out.push(':');
        out.push_str(value.get());
        out.push(',');
    }
    if out.ends_with(',') {
        out.pop();
    }
    out.push('}');
    out
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
    service_account_name: Option<String>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    image_pull_secrets: Option<Vec<Named>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: Option<Vec<EnvVar>>,
    env_from: Option<Vec<EnvFrom>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EnvVar {
    value_from: Option<ValueFrom>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    config_map_key_ref: Option<Named>,
    secret_key_ref: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EnvFrom {
    config_map_ref: Option<Named>,
    secret_ref: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    config_map: Option<Named>,
    secret: Option<SecretVolume>,
    projected: Option<Projected>,
    persistent_volume_claim: Option<Claim>,
    csi: Option<Csi>,
    #[serde(rename = "flexVolume")]
    flex: Option<Flex>,
    ephemeral: Option<serde::de::IgnoredAny>,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Projected {
    sources: Option<Vec<Source>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Source {
    config_map: Option<Named>,
    secret: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Claim {
    claim_name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Csi {
    node_publish_secret_ref: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Flex {
    secret_ref: Option<Named>,
}

fn pod_facts(spec: PodSpec, ns: &Namespace, pod: &str) -> Result<PodFacts, ObjectError> {
    let mut uses = BTreeSet::new();
    let mut add = |kind: Kind, name: Option<&str>| {
        if let Some(name) = name.filter(|n| !n.is_empty()) {
            uses.insert(ObjectKey::new(ns.clone(), kind, name));
        }
    };
    let named = |n: &'_ Option<Named>| n.as_ref().map(|n| n.name.clone());
    let containers = [&spec.containers, &spec.init_containers, &spec.ephemeral_containers];
    for container in containers.into_iter().flatten().flatten() {
        for from in container.env_from.iter().flatten() {
            add(Kind::ConfigMap, named(&from.config_map_ref).as_deref());
            add(Kind::Secret, named(&from.secret_ref).as_deref());
        }
        for from in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            add(Kind::ConfigMap, named(&from.config_map_key_ref).as_deref());
            add(Kind::Secret, named(&from.secret_key_ref).as_deref());
        }
    }
    for volume in spec.volumes.iter().flatten() {
        add(Kind::ConfigMap, named(&volume.config_map).as_deref());
        add(Kind::Secret, volume.secret.as_ref().map(|s| s.secret_name.as_str()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            add(Kind::ConfigMap, named(&source.config_map).as_deref());
            add(Kind::Secret, named(&source.secret).as_deref());
        }
        if let Some(csi) = &volume.csi {
            add(Kind::Secret, named(&csi.node_publish_secret_ref).as_deref());
        }
        if let Some(flex) = &volume.flex {
            add(Kind::Secret, named(&flex.secret_ref).as_deref());
        }
        let claim = volume.persistent_volume_claim.as_ref().map(|c| c.claim_name.as_str());
        add(Kind::PersistentVolumeClaim, claim);
        if volume.ephemeral.is_some() {
            add(Kind::PersistentVolumeClaim, Some(&format!("{pod}-{}", volume.name)));
        }
    }
    for secret in spec.image_pull_secrets.iter().flatten() {
        add(Kind::Secret, Some(&secret.name));
    }
    let node = spec.node_name.filter(|n| !n.is_empty());
    Ok(PodFacts {
        node: node.map(|n| n.parse()).transpose()?,
        service_account: spec.service_account_name.unwrap_or_else(|| "default".to_owned()).into(),
        uses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = r#"{"metadata":{"name":"web","namespace":"default","uid":"u1","resourceVersion":"7",
        "managedFields":[{"manager":"kubectl"}],"labels":{"a":"b"}},
        "spec":{"nodeName":"edge-1","serviceAccountName":"sa","newField":{"x":1.50},
          "initContainers":[{"envFrom":[{"configMapRef":{"name":"init"}}]}],
          "containers":[{"env":[{"valueFrom":{"secretKeyRef":{"name":"key","key":"k"}}},{"value":"x"}]}],
          "volumes":[{"name":"v","projected":{"sources":[{"secret":{"name":"proj"}},{"serviceAccountToken":{}}]}},
                     {"name":"c","persistentVolumeClaim":{"claimName":"claim"}},
                     {"name":"d","configMap":{"name":"cfg"}},
                     {"name":"e","secret":{"secretName":"sec"}},{"name":"tmp","ephemeral":{}}],
          "imagePullSecrets":[{"name":"pull"}]},
        "status":{"phase":"Running"}}"#;

    #[test]
    fn everything_a_pod_needs_is_found() {
        let pod = Object::read(Kind::Pod, POD).unwrap().pod.unwrap();
        let uses: Vec<_> = pod.uses.iter().map(ToString::to_string).collect();
        assert_eq!(
            uses,
            [
                "default/configmap/cfg",
                "default/configmap/init",
                "default/secret/key",
                "default/secret/proj",
                "default/secret/pull",
                "default/secret/sec",
                "default/persistentvolumeclaim/claim",
                "default/persistentvolumeclaim/web-tmp",
            ]
        );
        assert_eq!(pod.node.unwrap().as_str(), "edge-1");
        assert_eq!(&*pod.service_account, "sa");
    }

    #[test]
    fn unknown_fields_travel_on_and_managed_fields_do_not() {
        let text = Object::read(Kind::Pod, POD).unwrap().text;
        assert!(text.get().starts_with(r#"{"kind":"Pod","apiVersion":"v1","#), "{}", text.get());
        assert!(text.get().contains(r#""newField":{"x":1.50}"#));
        assert!(!text.get().contains("managedFields"));
        serde_json::from_str::<serde_json::Value>(text.get()).unwrap();
    }

    #[test]
    fn a_status_alone_leaves_the_fingerprint_and_a_label_changes_it() {
        let read = |t: &str| Object::read(Kind::Pod, t).unwrap().fingerprint;
        let status = POD.replace("Running", "Failed").replace("\"7\"", "\"8\"");
        assert_eq!(read(POD), read(&status));
        assert_ne!(read(POD), read(&POD.replace(r#""a":"b""#, r#""a":"c""#)));
        assert_ne!(read(POD), read(&POD.replace("1.50", "1.51")));
    }

    #[test]
    fn an_object_with_impossible_parts_is_an_error() {
        for bad in [
            "[]",
            "{}",
            r#"{"metadata":{"name":"x","uid":"u","resourceVersion":"z"}}"#,
            r#"{"metadata":{"name":"x","uid":"","resourceVersion":"1"}}"#,
            r#"{"metadata":7}"#,
        ] {
            assert!(Object::read(Kind::ConfigMap, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_edge_node_is_known_by_the_label_with_an_empty_value() {
        let node = |label: &str| {
            let text = format!(
                r#"{{"metadata":{{"name":"n","uid":"u","resourceVersion":"1","labels":{{"node-role.kubernetes.io/edge":"{label}"}}}}}}"#
            );
            Object::read(Kind::Node, &text).unwrap().is_edge_node
        };
        assert!(node(""));
        assert!(!node("true"));
    }
}
