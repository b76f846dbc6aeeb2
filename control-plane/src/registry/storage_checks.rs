//! Checks of volumes and of claims of them.
//!
//! Owns: what Kubernetes refuses in them beyond what they must have. Called by: `others`, and pods
//! that bring a claim along.
//!
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>

use serde_json::{Map, Value, json};

use super::checks::{is_counted, one_of};
use super::quantity::Quantity;
use super::{names, pod_placement, pod_volumes};
use crate::http::status::FieldError;

type Errors = Vec<FieldError>;

const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn access_modes(spec: &Value, path: &str, errors: &mut Errors) {
    let at = format!("{path}.accessModes");
    let modes = spec["accessModes"].as_array().map_or(&[][..], Vec::as_slice);
    for m in modes {
        one_of(m, &at, &ACCESS_MODES, errors);
    }
    if modes.len() > 1 && modes.contains(&json!("ReadWriteOncePod")) {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(at, why));
    }
}

/// A claim, beyond what it must have.
pub(crate) fn claim(spec: &Value, path: &str, errors: &mut Errors) {
    access_modes(spec, path, errors);
    let size = &spec["resources"]["requests"]["storage"];
    let number = size.as_str().and_then(Quantity::parse);
    if number.is_some_and(|q| q <= Quantity::default()) {
        let why = "must be greater than zero";
        errors.push(FieldError::invalid(format!("{path}.resources[storage]"), size, why));
    }
    class_name(spec, path, errors);
    let modes = ["Block", "Filesystem"];
    one_of(&spec["volumeMode"], &format!("{path}.volumeMode"), &modes, errors);
    data_source(spec, path, errors);
}

/// How much a claim has, and how far its growth is.
pub(crate) fn claim_status(status: &Value, errors: &mut Errors) {
    const STEPS: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let amounts = |field: &str| status[field].as_object().into_iter().flatten();
    let below = |at: String, v: &Value, errors: &mut Errors| {
        let size = v.as_str().and_then(Quantity::parse);
        if let Some(q) = size.filter(|q| q.is_negative()) {
            let why = "must be a valid resource quantity";
            errors.push(FieldError::invalid_shown(at, &q.floor().to_string(), why));
        }
    };
    for (name, v) in amounts("capacity") {
        below(format!("status.capacity[{name}]"), v, errors);
    }
    // Beside the size, what belongs to somebody else may have a part in it.
    let known = |name: &str| name == "storage" || is_counted(name);
    let unknown = |at: &str, name: &str| FieldError::unsupported(at, &json!(name), &["storage"]);
    for (name, step) in amounts("allocatedResourceStatuses") {
        let at = "status.allocatedResourceStatus";
        if !known(name) {
            errors.push(unknown(at, name));
        }
        if !step.as_str().is_some_and(|s| STEPS.contains(&s)) {
            errors.push(FieldError::unsupported_shown(at, name, &STEPS));
        }
    }
    for (name, v) in amounts("allocatedResources") {
        if known(name) {
            below(format!("status.allocatedResources[{name}]"), v, errors);
        } else {
            errors.push(unknown("status.allocatedResources", name));
        }
    }
}

/// What a claim's volume is filled from, said in two ways that have to agree.
fn data_source(spec: &Value, path: &str, errors: &mut Errors) {
    let text = |v: &Value, f: &str| v[f].as_str().unwrap_or_default().to_owned();
    for field in ["dataSource", "dataSourceRef"] {
        let (v, at) = (&spec[field], format!("{path}.{field}"));
        if !v.is_object() {
            continue;
        }
        for f in ["name", "kind"].into_iter().filter(|f| text(v, f).is_empty()) {
            errors.push(FieldError::required(format!("{at}.{f}"), ""));
        }
        let group = text(v, "apiGroup");
        if group.is_empty() && v["kind"] != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(at.as_str(), &json!(text(v, "kind")), why));
        }
        if !group.is_empty()
            && let Err(e) = names::dns_subdomain(&group)
        {
            errors.push(FieldError::invalid(format!("{at}.apiGroup"), &json!(group), &e));
        }
    }
    let (old, new) = (&spec["dataSource"], &spec["dataSourceRef"]);
    if old.is_object()
        && new.is_object()
        && ["apiGroup", "kind", "name"].iter().any(|f| text(old, f) != text(new, f))
    {
        let shown = format!("{path}.dataSource");
        errors.push(FieldError::invalid(path, &json!(shown), "must match dataSourceRef"));
    }
}

fn class_name(spec: &Value, path: &str, errors: &mut Errors) {
    if let Some(class) = spec["storageClassName"].as_str().filter(|c| !c.is_empty())
        && let Err(e) = names::dns_subdomain(class)
    {
        let at = format!("{path}.storageClassName");
        errors.push(FieldError::invalid(at, &spec["storageClassName"], &e));
    }
}

/// What is in a volume's spec beside its source.
const NO_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeMode",
    "volumeAttributesClassName",
];

/// Where the data of a volume are: the part of its spec that never changes.
pub(crate) fn volume_source(spec: &Value) -> Vec<(&str, &Value)> {
    let fields = spec.as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v));
    fields.filter(|(k, _)| !NO_SOURCES.contains(k)).collect()
}

/// How much there is of a volume: its size, and nothing else.
fn capacity(all: &Value, errors: &mut Errors) {
    let at = "spec.capacity";
    let empty = Map::new();
    let listed = all.as_object().unwrap_or(&empty);
    if listed.is_empty() {
        errors.push(FieldError::required(at, ""));
    }
    if listed.len() > 1 || !listed.contains_key("storage") {
        let each = |(name, amount): (&String, &Value)| {
            let text = amount.as_str().unwrap_or_default();
            let shown = Quantity::shown(text).replacen("s:\"\"", &format!("s:{text:?}"), 1);
            format!("{name:?}:{shown}")
        };
        let shown: Vec<String> = listed.iter().map(each).collect();
        let shown = match all {
            Value::Null => "core.ResourceList(nil)".to_owned(),
            _ => format!("core.ResourceList{{{}}}", shown.join(", ")),
        };
        errors.push(FieldError::unsupported_shown(at, &shown, &["storage"]));
    }
    for (name, amount) in listed {
        let size = amount.as_str().and_then(Quantity::parse);
        if size.is_some_and(|q| q <= Quantity::default()) {
            let why = "must be greater than zero";
            errors.push(FieldError::invalid(format!("{at}[{name}]"), amount, why));
        }
    }
}

/// A volume of a storage driver, and the secrets that its driver is given.
fn driver_source(csi: &Value, errors: &mut Errors) {
    pod_volumes::driver_name(&csi["driver"], "spec.csi.driver", errors);
    let missing = |v: &Value, f: &str| v[f].as_str().is_none_or(str::is_empty);
    if missing(csi, "volumeHandle") {
        errors.push(FieldError::required("spec.csi.volumeHandle", ""));
    }
    for field in ["controllerPublish", "controllerExpand", "nodePublish", "nodeExpand"] {
        let secret = &csi[format!("{field}SecretRef")];
        for f in ["name", "namespace"] {
            if secret.is_object() && missing(secret, f) {
                let at = format!("spec.csi.{field}SecretRef.{f}");
                errors.push(FieldError::required(at, ""));
            }
        }
    }
}

/// A volume, beyond what it must have.
pub(crate) fn volume(spec: &Value, errors: &mut Errors) {
    access_modes(spec, "spec", errors);
    one_of(
        &spec["persistentVolumeReclaimPolicy"],
        "spec.persistentVolumeReclaimPolicy",
        &["Delete", "Recycle", "Retain"],
        errors,
    );
    class_name(spec, "spec", errors);
    one_of(&spec["volumeMode"], "spec.volumeMode", &["Block", "Filesystem"], errors);
    let fields = spec.as_object().into_iter().flatten().map(|(k, _)| k.as_str());
    let sources: Vec<&str> = fields.filter(|f| !NO_SOURCES.contains(f)).collect();
    match sources[..] {
        [] => errors.push(FieldError::required("spec", "must specify a volume type")),
        [_] => {}
        [_, second, ..] => {
            let why = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(format!("spec.{second}"), why));
        }
    }
    capacity(&spec["capacity"], errors);
    // Of several sources the first is looked at.
    let is = |field: &str| sources.first() == Some(&field) && spec[field].is_object();
    if is("hostPath") {
        pod_volumes::host_path(&spec["hostPath"], "spec.hostPath", errors);
    }
    if is("local") && spec["local"]["path"].as_str().is_none_or(str::is_empty) {
        errors.push(FieldError::required("spec.local.path", ""));
    }
    if is("nfs") {
        pod_volumes::nfs(&spec["nfs"], "spec.nfs", errors);
    }
    if is("csi") {
        driver_source(&spec["csi"], errors);
    }
    let required = &spec["nodeAffinity"]["required"];
    if required.is_object() {
        pod_placement::required_nodes(required, "spec.nodeAffinity.required", errors);
    } else if spec["nodeAffinity"].is_object() {
        let why = "must specify required node constraints";
        errors.push(FieldError::required("spec.nodeAffinity.required", why));
    }
    let root = |p: &str| p.starts_with('/') && p.split('/').all(|p| matches!(p, "" | "."));
    if spec["hostPath"]["path"].as_str().is_some_and(root)
        && spec["persistentVolumeReclaimPolicy"] == "Recycle"
    {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden("spec.persistentVolumeReclaimPolicy", why));
    }
    if spec.get("local").is_some() && spec["nodeAffinity"]["required"].is_null() {
        let why = "Local volume requires node affinity";
        errors.push(FieldError::required("spec.nodeAffinity", why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(check: fn(&Value, &mut Errors), v: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        check(v, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn claim_of_spec(v: &Value, errors: &mut Errors) {
        claim(v, "spec", errors);
    }

    #[test]
    fn storage_is_of_a_size_and_a_mode_that_there_is() {
        let good = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        assert!(found(claim_of_spec, &good).is_empty());
        let bad = json!({"accessModes": ["Foo"], "volumeMode": "Bar", "resources": {"requests": {"storage": "0"}}});
        assert_eq!(
            found(claim_of_spec, &bad),
            [
                "spec.accessModes: Unsupported value: \"Foo\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
                "spec.volumeMode: Unsupported value: \"Bar\": supported values: \"Block\", \"Filesystem\""
            ]
        );
        let two = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "../x"}, "nfs": {}});
        assert_eq!(
            found(volume, &two),
            [
                "spec.nfs: Forbidden: may not specify more than 1 volume type",
                "spec.hostPath.path: Invalid value: \"../x\": must not contain '..'"
            ]
        );
    }

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn a_volume_is_as_large_as_it_says_and_nothing_else() {
        let told = |change: Value| {
            let mut spec = json!({"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}});
            json_patch::merge(&mut spec, &change);
            found(volume, &spec)
        };
        assert_eq!(told(json!({})), Vec::<String>::new());
        assert_eq!(
            told(json!({"capacity": null})),
            [
                "spec.capacity: Required value",
                "spec.capacity: Unsupported value: core.ResourceList(nil): supported values: \"storage\"",
            ]
        );
        assert_eq!(
            told(json!({"capacity": {"storage": null, "cpu": "1"}})),
            [
                "spec.capacity: Unsupported value: core.ResourceList{\"cpu\":resource.Quantity{i:resource.int64Amount{value:1, scale:0}, d:resource.infDecAmount{Dec:(*inf.Dec)(nil)}, s:\"1\", Format:\"DecimalSI\"}}: supported values: \"storage\""
            ]
        );
        assert_eq!(
            told(json!({"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"})),
            [
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"
            ]
        );
        assert_eq!(
            told(
                json!({"hostPath": null, "csi": {"driver": "a", "volumeHandle": "b", "nodePublishSecretRef": {"name": "x"}}})
            ),
            ["spec.csi.nodePublishSecretRef.namespace: Required value"]
        );
        assert_eq!(
            told(json!({"nodeAffinity": {"required": {}}})),
            [
                "spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term"
            ]
        );
    }

    // The same.
    #[test]
    fn the_status_of_a_claim_counts_its_size_and_how_far_its_growth_is() {
        let status = json!({"capacity": {"storage": "-1"}, "allocatedResources": {"storage": "5", "foo": "1"},
            "allocatedResourceStatuses": {"storage": "X"}});
        assert_eq!(
            found(claim_status, &status),
            [
                "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                "status.allocatedResourceStatus: Unsupported value: storage: supported values: \"ControllerResizeInProgress\", \"ControllerResizeInfeasible\", \"NodeResizeInProgress\", \"NodeResizeInfeasible\", \"NodeResizePending\"",
                "status.allocatedResources: Unsupported value: \"foo\": supported values: \"storage\"",
            ]
        );
    }
}
