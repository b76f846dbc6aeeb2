//! What a writer is warned of though it is taken: fields that are going, and what is hardly meant so.
//!
//! Owns: the warnings of pods, of what makes pods, and of the other kinds, in Kubernetes' words.
//! Called by: create and update, once an object has been found valid.
//!
//! <https://kubernetes.io/docs/reference/labels-annotations-taints/>,
//! <https://kubernetes.io/docs/concepts/storage/volumes/>

mod pods;

use serde_json::Value;

use super::quantity::Quantity;
use super::{Resource, meta};

/// What is told of a new object, or of a change.
pub(crate) fn of(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut told = Vec::new();
    // Whoever makes pods is looked at again only when the spec has changed.
    let generation = |o: &Value| o["metadata"]["generation"].as_i64();
    let same = old.is_some_and(|o| generation(o) == generation(new));
    match resource.table.as_ref() {
        // Nobody changes pods by hand, and the kubelet does so all the time.
        "core/pods" if old.is_some() => {}
        "core/pods" => {
            pods::name(new, old, "the Pod's hostname", &mut told);
            pods::pod(new, "", &mut told);
        }
        "apps/deployments" | "apps/replicasets" | "apps/statefulsets" | "batch/jobs" => {
            if resource.plural != "statefulsets" {
                pods::name(new, old, "Pod names and hostnames", &mut told);
            }
            if !same {
                set(new, &resource.plural, &mut told);
            }
        }
        "apps/daemonsets" if !same => {
            pods::pod(&new["spec"]["template"], "spec.template.", &mut told)
        }
        "batch/cronjobs" => {
            pods::name(new, old, "Pod names and hostnames", &mut told);
            if !same {
                let at = "spec.jobTemplate.spec.template.";
                pods::pod(&new["spec"]["jobTemplate"]["spec"]["template"], at, &mut told);
            }
        }
        "core/services" => service(new, &mut told),
        "core/persistentvolumes" => volume(new, &mut told),
        "core/persistentvolumeclaims" => {
            beta_class(new, &mut told);
            claim(&new["spec"], "spec", &mut told);
        }
        "core/nodes" => node(new, &mut told),
        "core/serviceaccounts" => {
            let old = "kubernetes.io/enforce-mountable-secrets";
            if new["metadata"]["annotations"].get(old).is_some() {
                told.push("metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets".to_owned());
            }
        }
        "storage.k8s.io/storageclasses" => {
            for (i, term) in each(new, "allowedTopologies") {
                for (k, e) in each(term, "matchLabelExpressions") {
                    let at = format!("allowedTopologies[{i}].matchLabelExpressions[{k}].key");
                    told.extend(old_label(&e["key"]).map(|why| format!("{at}: {why}")));
                }
            }
        }
        "discovery.k8s.io/endpointslices" if new["addressType"] == "FQDN" => {
            told.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        _ => {}
    }
    told
}

fn each<'a>(v: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    v[field].as_array().into_iter().flatten().enumerate()
}

/// Labels of nodes that have new names.
fn old_label(key: &Value) -> Option<String> {
    let (since, new) = match key.as_str()? {
        "beta.kubernetes.io/arch" => ("v1.14", "kubernetes.io/arch"),
        "beta.kubernetes.io/os" => ("v1.14", "kubernetes.io/os"),
        "failure-domain.beta.kubernetes.io/region" => ("v1.17", "topology.kubernetes.io/region"),
        "failure-domain.beta.kubernetes.io/zone" => ("v1.17", "topology.kubernetes.io/zone"),
        "beta.kubernetes.io/instance-type" => ("v1.17", "node.kubernetes.io/instance-type"),
        _ => return None,
    };
    Some(format!("deprecated since {since}; use \"{new}\" instead"))
}

/// The keys of a node selector's terms.
fn node_terms(terms: &Value, at: &str, told: &mut Vec<String>) {
    for (i, e) in each(terms, "matchExpressions") {
        if let Some(why) = old_label(&e["key"]) {
            let key = e["key"].as_str().unwrap_or_default();
            told.push(format!("{at}.matchExpressions[{i}].key: {key} is {why}"));
        }
    }
}

/// Kinds of volumes that are gone or going.
const OLD_VOLUMES: [(&str, &str, &str); 9] = [
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
];

fn old_volumes(source: &Value, at: &str, told: &mut Vec<String>) {
    let there = OLD_VOLUMES.iter().filter(|(field, _, _)| source[*field].is_object());
    told.extend(there.map(|(_, shown, why)| format!("{at}.{shown}: {why}")));
}

/// Bytes are whole.
fn fraction(amount: &Value, at: &str, told: &mut Vec<String>) {
    let Some(text) = amount.as_str() else { return };
    if Quantity::parse(text).is_some_and(|q| !q.is_whole()) {
        let why = format!("fractional byte value \"{text}\" is invalid, must be an integer");
        told.push(format!("{at}: {why}"));
    }
}

fn claim(spec: &Value, at: &str, told: &mut Vec<String>) {
    for side in ["requests", "limits"] {
        let amount = &spec["resources"][side]["storage"];
        fraction(amount, &format!("{at}.resources.{side}[storage]"), told);
    }
}

fn beta_class(object: &Value, told: &mut Vec<String>) {
    const BETA: &str = "volume.beta.kubernetes.io/storage-class";
    if object["metadata"]["annotations"].get(BETA).is_some() {
        let instead = "use \"storageClassName\" attribute instead";
        told.push(format!("metadata.annotations[{BETA}]: deprecated since v1.8; {instead}"));
    }
}

/// A set that makes pods of a template.
fn set(new: &Value, plural: &str, told: &mut Vec<String>) {
    let spec = &new["spec"];
    pods::pod(&spec["template"], "spec.template.", told);
    match plural {
        "statefulsets" => {
            for (i, c) in each(spec, "volumeClaimTemplates") {
                claim(&c["spec"], &format!("spec.volumeClaimTemplates[{i}]"), told);
            }
            if spec["revisionHistoryLimit"].as_i64().is_some_and(|n| n < 0) {
                told.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
            }
        }
        "jobs" => {
            let over = |f: &str, most: i64| spec[f].as_i64().is_some_and(|n| n > most);
            if spec["completionMode"] == "Indexed"
                && over("completions", 100_000)
                && over("parallelism", 10_000)
            {
                told.push("spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail".to_owned());
            }
        }
        _ => {}
    }
}

fn service(new: &Value, told: &mut Vec<String>) {
    if new["metadata"]["annotations"].get("service.kubernetes.io/topology-aware-hints").is_some() {
        told.push("annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead".to_owned());
    }
    let spec = &new["spec"];
    for (i, range) in each(spec, "loadBalancerSourceRanges") {
        network(range, &format!("spec.loadBalancerSourceRanges[{i}]"), told);
    }
    let kind = meta::text(new, "/spec/type");
    if kind != "ExternalName" && !meta::text(new, "/spec/externalName").is_empty() {
        let why = "is ignored when spec.type is not \"ExternalName\"";
        told.push(format!("spec.externalName {why}"));
    }
    if kind == "ExternalName" && spec["externalIPs"].as_array().is_some_and(|a| !a.is_empty()) {
        told.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
}

/// A network that is written with bits beyond its mask.
fn network(v: &Value, at: &str, told: &mut Vec<String>) {
    let Some(text) = v.as_str() else { return };
    let Some((address, bits)) = text.split_once('/') else { return };
    let (Ok(address), Ok(bits)) = (address.parse::<std::net::IpAddr>(), bits.parse::<u32>()) else {
        return;
    };
    let base: std::net::IpAddr = match address {
        std::net::IpAddr::V4(a) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            std::net::Ipv4Addr::from(u32::from(a) & mask).into()
        }
        std::net::IpAddr::V6(a) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            std::net::Ipv6Addr::from(u128::from(a) & mask).into()
        }
        _ => return,
    };
    if base != address {
        let all = if address.is_ipv4() { 32 } else { 128 };
        told.push(format!("{at}: CIDR value \"{text}\" is ambiguous in this context (should be \"{base}/{bits}\" or \"{address}/{all}\"?)"));
    }
}

fn volume(new: &Value, told: &mut Vec<String>) {
    let spec = &new["spec"];
    let terms = &spec["nodeAffinity"]["required"];
    for (i, term) in each(terms, "nodeSelectorTerms") {
        node_terms(term, &format!("spec.nodeAffinity.required.nodeSelectorTerms[{i}]"), told);
    }
    beta_class(new, told);
    if spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        told.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    old_volumes(spec, "spec", told);
}

fn node(new: &Value, told: &mut Vec<String>) {
    let spec = &new["spec"];
    if spec["externalID"].as_str().is_some_and(|s| !s.is_empty()) {
        let why = "this field is deprecated, and is unused by Kubernetes";
        told.push(format!("spec.externalID: {why}"));
    }
    for (i, range) in each(spec, "podCIDRs") {
        network(range, &format!("spec.podCIDRs[{i}]"), told);
    }
}
