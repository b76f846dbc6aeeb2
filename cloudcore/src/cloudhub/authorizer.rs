//! What a node may ask. Pure.
//!
//! The original has this only with hub authorisation switched on, and then refuses events. Here it
//! is always on, and its rules are those of Kubernetes' node authorizer: a node speaks for itself,
//! for its own pods and lease, and reads what its pods use.
//!
//! Owns: the rules.
//! Called by: `dispatch.rs`, before a request goes to a worker.
//! Never: asks the API server; what is not known here is for the worker to check
//! ([`Verdict::CheckObject`]).

use api::names::{Kind, NodeName, ObjectKey};
use api::raw::RawJson;
use api::wire::request::Request;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::edgecontroller::index::Index;

/// Whether a node may do what it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// Only if the object itself belongs to the node, which the worker sees when it has read it.
    CheckObject,
    /// No, and why.
    Denied(String),
}

/// The namespace of the leases of nodes.
pub const LEASES: &str = "kube-node-lease";

/// Decides.
pub fn may(node: &NodeName, request: &Request, index: &Index) -> Verdict {
    match request {
        Request::RegisterNode { name, node: object } => {
            let named = object.head().ok().and_then(|h| h.metadata.name);
            if named.as_deref().is_some_and(|n| n != name.as_str()) {
                return denied("the node object bears another name");
            }
            own_name(node, name)
        }
        Request::PatchNode { name, .. }
        | Request::UpdateNode { name, .. }
        | Request::CreateLease { name, .. }
        | Request::UpdateLease { name, .. }
        | Request::LegacyNodeStatus { name, .. } => own_name(node, name),
        Request::Query(key) => may_read(node, key, index),
        Request::CreatePod { key, pod } => may_create(node, key, pod),
        Request::PatchPod { key, .. } | Request::DeletePod { key, .. } => own_pod(node, key, index),
        Request::ServiceAccountToken { namespace, account, request } => {
            let bound = match request.to::<TokenRequest>() {
                Ok(request) => request.spec.bound_object_ref,
                Err(_) => return denied("it is not a TokenRequest"),
            };
            let Some(pod) = bound.filter(|b| b.kind == "Pod") else {
                return denied("a node's token request must be bound to a pod");
            };
            if index.runs_as(node, namespace, account, Some((&pod.name, pod.uid.as_deref()))) {
                Verdict::Allowed
            } else {
                denied("no such pod of this node runs as that service account")
            }
        }
        Request::CreateCsr { csr, .. } => may_request_certificate(node, csr),
        Request::ApiServerCa => Verdict::Allowed,
        // Each of the pods is checked by the worker.
        Request::LegacyPodStatus { .. } => Verdict::CheckObject,
    }
}

fn denied(why: &str) -> Verdict {
    Verdict::Denied(why.to_owned())
}

fn own_name(node: &NodeName, name: &NodeName) -> Verdict {
    if node == name { Verdict::Allowed } else { denied("it is about another node") }
}

/// A pod that is not known may just have been created, or just be gone.
pub fn own_pod(node: &NodeName, key: &ObjectKey, index: &Index) -> Verdict {
    match index.node_of_pod(key) {
        Some(owner) if owner == node => Verdict::Allowed,
        Some(_) => denied("the pod runs on another node"),
        None => Verdict::CheckObject,
    }
}

fn may_read(node: &NodeName, key: &ObjectKey, index: &Index) -> Verdict {
    match &key.kind {
        Kind::Node if *key.name == *node.as_str() => Verdict::Allowed,
        Kind::Node => denied("it is about another node"),
        Kind::Lease
            if *key.name == *node.as_str()
                && key.namespace.as_ref().is_some_and(|n| n.as_str() == LEASES) =>
        {
            Verdict::Allowed
        }
        Kind::Lease => denied("it is not the node's own lease"),
        Kind::ConfigMap | Kind::Secret | Kind::PersistentVolumeClaim => {
            if index.uses(node, key) {
                Verdict::Allowed
            } else {
                denied("no pod of this node uses it")
            }
        }
        Kind::Pod => own_pod(node, key, index),
        Kind::PersistentVolume | Kind::VolumeAttachment | Kind::CertificateSigningRequest => {
            Verdict::CheckObject
        }
        _ => denied("nodes do not read objects of this kind"),
    }
}

#[derive(Deserialize)]
struct NewPod {
    spec: NewPodSpec,
    metadata: NewPodMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewPodSpec {
    node_name: Option<String>,
}

#[derive(Deserialize)]
struct NewPodMeta {
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// Marks the mirror of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

fn may_create(node: &NodeName, key: &ObjectKey, pod: &RawJson) -> Verdict {
    let Ok(object) = pod.to::<NewPod>() else { return denied("it is not a pod") };
    if object.spec.node_name.as_deref() != Some(node.as_str()) {
        return denied("a node creates pods only for itself");
    }
    if !object.metadata.annotations.is_some_and(|a| a.contains_key(MIRROR)) {
        return denied("a node creates only mirrors of static pods");
    }
    match crate::object::Object::pod_facts(pod, key) {
        Ok(facts) if facts.uses.is_empty() => Verdict::Allowed,
        Ok(_) => denied("a static pod may not use configmaps, secrets or claims"),
        Err(_) => denied("it is not a pod"),
    }
}

#[derive(Deserialize)]
struct TokenRequest {
    spec: TokenRequestSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenRequestSpec {
    bound_object_ref: Option<Bound>,
}

#[derive(Deserialize)]
struct Bound {
    kind: String,
    name: String,
    uid: Option<String>,
}

#[derive(Deserialize)]
struct Csr {
    spec: CsrSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CsrSpec {
    request: String,
    signer_name: String,
}

/// The signer of the certificates with which kubelets serve.
const SERVING: &str = "kubernetes.io/kubelet-serving";

fn may_request_certificate(node: &NodeName, csr: &RawJson) -> Verdict {
    let Ok(csr) = csr.to::<Csr>() else { return denied("it is not a certificate request") };
    if csr.spec.signer_name != SERVING {
        return denied("nodes ask only the signer `kubernetes.io/kubelet-serving`");
    }
    if csr_names(&csr.spec.request).as_deref() == Some(&api::wire::handshake::common_name(node)) {
        Verdict::Allowed
    } else {
        denied("the request bears another name than the node's")
    }
}

/// Whether a CertificateSigningRequest object was made by the node.
pub fn is_own_csr(node: &NodeName, csr: &RawJson) -> bool {
    matches!(may_request_certificate(node, csr), Verdict::Allowed)
}

/// The common name in a request, given as base64 of PEM.
fn csr_names(request: &str) -> Option<String> {
    use base64::Engine;
    let pem = base64::engine::general_purpose::STANDARD.decode(request).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, csr) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let mut names = csr.certification_request_info.subject.iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

/// Whether a node may record this Event: it may not speak of the pods of others.
pub fn may_report(node: &NodeName, event: &RawJson, index: &Index) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Event {
        involved_object: Involved,
    }
    #[derive(Deserialize)]
    struct Involved {
        kind: Option<String>,
        namespace: Option<String>,
        name: Option<String>,
    }
    let Ok(Event { involved_object: about }) = event.to::<Event>() else { return false };
    match (about.kind.as_deref(), about.name) {
        (Some("Node"), Some(name)) => name == node.as_str(),
        (Some("Pod"), Some(name)) => {
            let Some(Ok(ns)) = about.namespace.map(|n| n.parse()) else { return false };
            // An event about a pod that is gone comes late, not from a stranger.
            index
                .node_of_pod(&ObjectKey::new(ns, Kind::Pod, &name))
                .is_none_or(|owner| owner == node)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Object;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn key(text: &str) -> ObjectKey {
        text.parse().unwrap()
    }

    fn raw(value: serde_json::Value) -> RawJson {
        RawJson::of(&value).unwrap()
    }

    fn index() -> Index {
        let mut index = Index::default();
        for node in ["edge-1", "edge-2"] {
            let text = format!(
                r#"{{"metadata":{{"name":"{node}","uid":"n-{node}","resourceVersion":"1","labels":{{"node-role.kubernetes.io/edge":""}}}}}}"#
            );
            index.apply_node(Object::read(Kind::Node, &text).unwrap());
            let text = format!(
                r#"{{"metadata":{{"name":"pod-{node}","namespace":"default","uid":"p-{node}","resourceVersion":"2"}},
                "spec":{{"nodeName":"{node}","serviceAccountName":"sa-{node}","imagePullSecrets":[{{"name":"secret-{node}"}}]}}}}"#
            );
            index.apply_pod(Object::read(Kind::Pod, &text).unwrap());
        }
        index
    }

    fn verdict(request: &Request) -> Verdict {
        may(&name("edge-1"), request, &index())
    }

    fn is_denied(request: &Request) -> bool {
        matches!(verdict(request), Verdict::Denied(_))
    }

    #[test]
    fn a_node_speaks_for_itself_only() {
        let patch = |node: &str| Request::PatchNode { name: name(node), patch: "{}".into() };
        assert_eq!(verdict(&patch("edge-1")), Verdict::Allowed);
        assert!(is_denied(&patch("edge-2")));
        let register = |of: &str| Request::RegisterNode {
            name: name("edge-1"),
            node: raw(serde_json::json!({"metadata": {"name": of}})),
        };
        assert_eq!(verdict(&register("edge-1")), Verdict::Allowed);
        assert!(is_denied(&register("edge-2")));
    }

    #[test]
    fn a_node_touches_its_own_pods_and_unknown_ones_are_looked_at() {
        let patch = |pod: &str| Request::PatchPod { key: key(pod), patch: "{}".into() };
        assert_eq!(verdict(&patch("default/pod/pod-edge-1")), Verdict::Allowed);
        assert!(is_denied(&patch("default/pod/pod-edge-2")));
        assert_eq!(verdict(&patch("default/pod/new")), Verdict::CheckObject);
    }

    #[test]
    fn a_node_reads_the_secrets_of_its_pods_and_no_others() {
        let read = |k: &str| Request::Query(key(k));
        assert_eq!(verdict(&read("default/secret/secret-edge-1")), Verdict::Allowed);
        assert!(is_denied(&read("default/secret/secret-edge-2")));
        assert!(is_denied(&read("kube-system/secret/secret-edge-1")));
        assert!(is_denied(&read("null/node/edge-2")));
        assert_eq!(verdict(&read("kube-node-lease/lease/edge-1")), Verdict::Allowed);
        assert!(is_denied(&read("kube-node-lease/lease/edge-2")));
        assert!(is_denied(&read("default/gadget/x")));
    }

    #[test]
    fn a_token_is_bound_to_a_pod_of_the_node_that_runs_as_the_account() {
        let ask = |account: &str, bound: serde_json::Value| Request::ServiceAccountToken {
            namespace: "default".parse().unwrap(),
            account: account.into(),
            request: raw(serde_json::json!({"spec": {"boundObjectRef": bound}})),
        };
        let pod = |n: &str| serde_json::json!({"kind": "Pod", "name": n});
        assert_eq!(verdict(&ask("sa-edge-1", pod("pod-edge-1"))), Verdict::Allowed);
        assert!(is_denied(&ask("sa-edge-2", pod("pod-edge-2"))));
        assert!(is_denied(&ask("sa-edge-1", serde_json::Value::Null)));
    }

    #[test]
    fn a_node_creates_mirror_pods_for_itself_and_without_secrets() {
        let create =
            |node: &str, annotation: &str, volumes: serde_json::Value| Request::CreatePod {
                key: key("default/pod/static"),
                pod: raw(serde_json::json!({
                    "metadata": {"name": "static", "annotations": {annotation: "x"}},
                    "spec": {"nodeName": node, "volumes": volumes},
                })),
            };
        let none = || serde_json::json!([]);
        assert_eq!(verdict(&create("edge-1", MIRROR, none())), Verdict::Allowed);
        assert!(is_denied(&create("edge-2", MIRROR, none())));
        assert!(is_denied(&create("edge-1", "other", none())));
        let secret = serde_json::json!([{"name": "v", "secret": {"secretName": "s"}}]);
        assert!(is_denied(&create("edge-1", MIRROR, secret)));
    }

    #[test]
    fn a_certificate_is_asked_for_in_the_nodes_own_name() {
        use base64::Engine;
        let ask = |cn: &str, signer: &str| {
            let key_pair = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, cn);
            let pem = params.serialize_request(&key_pair).unwrap().pem().unwrap();
            let request = base64::engine::general_purpose::STANDARD.encode(pem);
            let csr = raw(serde_json::json!({"spec": {"request": request, "signerName": signer}}));
            Request::CreateCsr { key: key("default/certificatesigningrequest/c"), csr }
        };
        assert_eq!(verdict(&ask("system:node:edge-1", SERVING)), Verdict::Allowed);
        assert!(is_denied(&ask("system:node:edge-2", SERVING)));
        assert!(is_denied(&ask("system:node:edge-1", "kubernetes.io/kube-apiserver-client")));
        let junk = raw(serde_json::json!({"spec": {"request": "!", "signerName": SERVING}}));
        let key = key("default/certificatesigningrequest/c");
        assert!(is_denied(&Request::CreateCsr { key, csr: junk }));
    }

    #[test]
    fn events_are_about_the_node_and_its_pods() {
        let about = |kind: &str, name: &str| {
            raw(serde_json::json!({
                "involvedObject": {"kind": kind, "name": name, "namespace": "default"},
            }))
        };
        let index = index();
        let ok = |event: &RawJson| may_report(&name("edge-1"), event, &index);
        assert!(ok(&about("Pod", "pod-edge-1")));
        assert!(ok(&about("Pod", "already-gone")));
        assert!(ok(&about("Node", "edge-1")));
        assert!(!ok(&about("Pod", "pod-edge-2")));
        assert!(!ok(&about("Node", "edge-2")));
        assert!(!ok(&about("Secret", "s")));
        assert!(!ok(&RawJson::null()));
    }
}
