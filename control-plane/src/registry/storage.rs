//! Defaults and validation of the kinds of storage: classes, drivers, attachments.
//!
//! Owns: what Kubernetes fills in and refuses for them. Called by: the registry's table.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/>

use serde_json::{Value, json};

use super::core::{BASE, default, list, object, split_status};
use super::{Part, Strategy, checks, columns, meta, names, pod_volumes};
use crate::http::status::FieldError;

type Errors = Vec<FieldError>;

fn each<'a>(v: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    v[field].as_array().into_iter().flatten().enumerate()
}

/// How much names and values of a map are together.
fn size(map: &Value) -> usize {
    let all = map.as_object().into_iter().flatten();
    all.map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum()
}

pub(crate) static STORAGE_CLASS: Strategy = Strategy {
    default: |o| {
        default(o, "reclaimPolicy", "Delete");
        default(o, "volumeBindingMode", "Immediate");
    },
    validate: |new, old, _, errors| match old {
        None => validate_class(new, errors),
        Some(old) => {
            for f in ["parameters", "provisioner", "reclaimPolicy"] {
                if old[f] != new[f] {
                    let why = format!("updates to {f} are forbidden.");
                    errors.push(FieldError::forbidden(f, &why));
                }
            }
            if old["volumeBindingMode"] != new["volumeBindingMode"] {
                let (f, why) = ("volumeBindingMode", "field is immutable");
                errors.push(FieldError::invalid(f, &new[f], why));
            }
        }
    },
    columns: &columns::STORAGE_CLASS,
    ..BASE
};

fn validate_class(new: &Value, errors: &mut Errors) {
    const PARAMETERS: usize = 512;
    const SIZE: usize = 256 * 1024;
    let provisioner = new["provisioner"].as_str().unwrap_or_default();
    if provisioner.is_empty() {
        errors.push(FieldError::required("provisioner", ""));
    } else if let Err(e) = names::label_key(&provisioner.to_lowercase()) {
        errors.push(FieldError::invalid("provisioner", &json!(provisioner.to_lowercase()), &e));
    }
    let parameters = new["parameters"].as_object();
    if parameters.is_some_and(|p| p.len() > PARAMETERS) {
        errors.push(FieldError::too_long("parameters", PARAMETERS));
    } else {
        if parameters.is_some_and(|p| p.contains_key("")) {
            let why = "field can not be empty.";
            errors.push(FieldError::invalid("parameters", &json!(""), why));
        }
        if size(&new["parameters"]) > SIZE {
            errors.push(FieldError::too_long("parameters", SIZE));
        }
    }
    if new["reclaimPolicy"] != "" {
        checks::one_of(&new["reclaimPolicy"], "reclaimPolicy", &["Delete", "Retain"], errors);
    }
    let modes = ["Immediate", "WaitForFirstConsumer"];
    checks::one_of(&new["volumeBindingMode"], "volumeBindingMode", &modes, errors);
    let mut seen = Vec::new();
    for (i, term) in each(new, "allowedTopologies") {
        let at = format!("allowedTopologies[{i}].matchLabelExpressions");
        let mut keys = std::collections::BTreeMap::new();
        for (k, e) in each(term, "matchLabelExpressions") {
            topology(e, &format!("{at}[{k}]"), errors);
            let key = e["key"].as_str().unwrap_or_default();
            let values: std::collections::BTreeSet<&str> =
                each(e, "values").filter_map(|(_, v)| v.as_str()).collect();
            if keys.insert(key, values).is_some() {
                errors.push(FieldError::duplicate(format!("{at}[{k}].key"), &json!(key)));
            }
        }
        if seen.contains(&keys) {
            errors.push(FieldError::duplicate(at, &json!("")));
        }
        seen.push(keys);
    }
}

/// A label of a node and the values that it may have.
fn topology(e: &Value, at: &str, errors: &mut Errors) {
    let mut seen = Vec::new();
    if e["values"].as_array().is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(format!("{at}.values"), ""));
    }
    for (k, v) in each(e, "values") {
        if seen.contains(&v) {
            errors.push(FieldError::duplicate(format!("{at}.values[{k}]"), v));
        }
        seen.push(v);
    }
    let key = e["key"].as_str().unwrap_or_default();
    for why in names::label_key_faults(key) {
        errors.push(FieldError::invalid(format!("{at}.key"), &json!(key), &why));
    }
}

pub(crate) static CSI_DRIVER: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default(spec, "attachRequired", true);
        for f in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            default(spec, f, false);
        }
        default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        default(spec, "volumeLifecycleModes", json!(["Persistent"]));
    },
    validate: |new, old, _, errors| {
        validate_driver(&new["spec"], errors);
        for (f, at) in [
            ("attachRequired", "spec.attachedRequired"),
            ("volumeLifecycleModes", "spec.volumeLifecycleModes"),
        ] {
            if old.is_some_and(|o| o["spec"][f] != new["spec"][f]) {
                errors.push(FieldError::invalid(at, &new["spec"][f], "field is immutable"));
            }
        }
    },
    generation: true,
    columns: &columns::CSI_DRIVER,
    ..BASE
};

fn validate_driver(spec: &Value, errors: &mut Errors) {
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    checks::one_of(&spec["fsGroupPolicy"], "spec.fsGroupPolicy", &policies, errors);
    let mut seen = Vec::new();
    for (i, r) in each(spec, "tokenRequests") {
        let at = format!("spec.tokenRequests[{i}]");
        let audience = r["audience"].as_str().unwrap_or_default();
        if seen.contains(&audience) {
            errors.push(FieldError::duplicate(format!("{at}.audience"), &json!(audience)));
            continue;
        }
        seen.push(audience);
        let seconds = r["expirationSeconds"].as_i64();
        let why = match seconds {
            Some(n) if n < 600 => "may not specify a duration less than 10 minutes",
            Some(n) if n > 1 << 32 => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        let at = format!("{at}.expirationSeconds");
        errors.push(FieldError::invalid(at, &r["expirationSeconds"], why));
    }
    for (_, mode) in each(spec, "volumeLifecycleModes") {
        let modes = ["Persistent", "Ephemeral"];
        checks::one_of(mode, "spec.volumeLifecycleModes", &modes, errors);
    }
    let period = &spec["nodeAllocatableUpdatePeriodSeconds"];
    if period.as_i64().is_some_and(|n| n < 10) {
        let why = "must be greater than or equal to 10 seconds";
        let at = "spec.nodeAllocatableUpdatePeriodSeconds";
        errors.push(FieldError::invalid(at, period, why));
    }
}

pub(crate) static CSI_NODE: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        default(spec, "drivers", Value::Null);
        for driver in list(spec, "drivers") {
            default(driver, "topologyKeys", Value::Null);
        }
    },
    validate: |new, old, _, errors| {
        validate_drivers(&new["spec"], errors);
        let Some(old) = old else { return };
        for (_, now) in each(&new["spec"], "drivers") {
            let mut before = each(&old["spec"], "drivers").map(|(_, d)| d);
            if before.any(|d| d["name"] == now["name"] && d != now) {
                errors.push(FieldError::invalid("spec.drivers", now, "field is immutable"));
            }
        }
    },
    columns: &columns::CSI_NODE,
    ..BASE
};

/// The drivers of a node.
fn validate_drivers(spec: &Value, errors: &mut Errors) {
    const ID: usize = 192;
    let mut seen = Vec::new();
    for (i, d) in each(spec, "drivers") {
        let at = format!("spec.drivers[{i}]");
        let text = |f: &str| d[f].as_str().unwrap_or_default();
        pod_volumes::driver_name(&d["name"], &format!("{at}.name"), errors);
        if text("nodeID").is_empty() {
            errors.push(FieldError::required(format!("{at}.nodeID"), ""));
        }
        if text("nodeID").len() > ID {
            let why = format!("must be {ID} characters or less");
            errors.push(FieldError::invalid(format!("{at}.nodeID"), &d["nodeID"], &why));
        }
        checks::not_negative(&d["allocatable"], &format!("{at}.allocatable"), &["count"], errors);
        if seen.contains(&text("name")) {
            errors.push(FieldError::duplicate(format!("{at}.name"), &json!(text("name"))));
        }
        seen.push(text("name"));
        let mut keys = Vec::new();
        for (_, key) in each(d, "topologyKeys") {
            let key = key.as_str().unwrap_or_default();
            if key.is_empty() {
                errors.push(FieldError::required(at.as_str(), ""));
            }
            if keys.contains(&key) {
                errors.push(FieldError::duplicate(at.as_str(), &json!(key)));
            }
            keys.push(key);
            for e in names::label_key_faults(key) {
                errors.push(FieldError::invalid(at.as_str(), &json!(key), &e));
            }
        }
    }
}

pub(crate) static VOLUME_ATTACHMENT: Strategy = Strategy {
    prepare: |new, old, part| {
        split_status(new, old, part);
        default(object(new, "status"), "attached", false);
    },
    validate: |new, old, part, errors| {
        if part != Part::Status {
            validate_attachment(&new["spec"], old.is_none(), errors);
            if old.is_some_and(|o| o["spec"] != new["spec"]) {
                errors.push(FieldError::invalid("spec", &new["spec"], "field is immutable"));
            }
        }
        validate_attached(&new["status"], errors);
    },
    columns: &columns::VOLUME_ATTACHMENT,
    ..BASE
};

fn validate_attachment(spec: &Value, fresh: bool, errors: &mut Errors) {
    let attacher = meta::text(spec, "/attacher");
    if attacher.is_empty() {
        errors.push(FieldError::required("spec.attacher", ""));
    }
    let source = &spec["source"];
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source["persistentVolumeName"].as_str(), source["inlineVolumeSpec"].is_object()) {
        (None, false) => errors.push(FieldError::required("spec.source", why)),
        (Some(_), true) => errors.push(FieldError::forbidden("spec.source", why)),
        (Some(""), false) => {
            let why = "must specify non empty persistentVolumeName";
            errors.push(FieldError::required("spec.source.persistentVolumeName", why));
        }
        _ => {}
    }
    let node = meta::text(spec, "/nodeName");
    if let Err(e) = names::dns_subdomain(node) {
        errors.push(FieldError::invalid("spec.nodeName", &json!(node), &e));
    }
    if fresh {
        pod_volumes::driver_name(&spec["attacher"], "spec.attacher", errors);
        if let Some(name) = source["persistentVolumeName"].as_str()
            && let Err(e) = names::dns_subdomain(name)
        {
            let at = "spec.source.persistentVolumeName";
            errors.push(FieldError::invalid(at, &json!(name), &e));
        }
    }
}

fn validate_attached(status: &Value, errors: &mut Errors) {
    const METADATA: usize = 256 * 1024;
    const MESSAGE: usize = 1024;
    if size(&status["attachmentMetadata"]) > METADATA {
        errors.push(FieldError::too_long("status.attachmentMetadata", METADATA));
    }
    for field in ["attachError", "detachError"] {
        if status[field]["message"].as_str().is_some_and(|m| m.len() > MESSAGE) {
            // The limit that Kubernetes names here is that of the metadata.
            errors.push(FieldError::too_long(format!("status.{field}.message"), METADATA));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: &Strategy, new: Value, old: Option<Value>) -> Vec<String> {
        let mut errors = Vec::new();
        (kind.validate)(&new, old.as_ref(), Part::Main, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    // What each field may be is said in the reference named above; the words are Kubernetes'.
    #[test]
    fn classes_drivers_and_attachments_are_refused_field_by_field() {
        let class = |field: &str, v: Value| {
            let mut o = json!({"provisioner": "example.com/p"});
            (STORAGE_CLASS.default)(&mut o);
            o[field] = v;
            told(&STORAGE_CLASS, o, None)
        };
        assert_eq!(class("parameters", json!({"a": "b"})), Vec::<String>::new());
        assert_eq!(
            class("parameters", json!({"": "b"})),
            ["parameters: Invalid value: \"\": field can not be empty."]
        );
        assert_eq!(class("provisioner", json!("a b")).len(), 1);
        let term = json!({"matchLabelExpressions": [{"key": "a", "values": ["x"]}]});
        assert_eq!(
            class("allowedTopologies", json!([term, term])),
            ["allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\""]
        );
        let driver = json!({"spec": {"tokenRequests": [{"audience": "a"}, {"audience": "a"}, {"audience": "b", "expirationSeconds": 1}]}});
        assert_eq!(
            told(&CSI_DRIVER, driver, None),
            [
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                "spec.tokenRequests[2].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes"
            ]
        );
        let node = |id: &str| json!({"spec": {"drivers": [{"name": "d", "nodeID": id}]}});
        assert_eq!(told(&CSI_NODE, node("n"), Some(node("n"))), Vec::<String>::new());
        assert_eq!(told(&CSI_NODE, node("m"), Some(node("n"))).len(), 1);
        let attachment = json!({"spec": {"attacher": "a", "nodeName": "n"}});
        assert_eq!(
            told(&VOLUME_ATTACHMENT, attachment, None),
            [
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"
            ]
        );
    }

    #[test]
    fn what_a_class_provisions_and_how_does_not_change() {
        let old = json!({"provisioner": "a", "volumeBindingMode": "Immediate"});
        let new = json!({"provisioner": "b", "volumeBindingMode": "WaitForFirstConsumer"});
        assert_eq!(
            told(&STORAGE_CLASS, new, Some(old)),
            [
                "provisioner: Forbidden: updates to provisioner are forbidden.",
                "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable"
            ]
        );
    }
}
