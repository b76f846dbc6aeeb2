//! Defaults and validation of the core group, pods and services aside.
//!
//! Owns: what Kubernetes fills in and refuses for these kinds. Called by: the registry's table.

use serde_json::{Map, Value, json};

use super::{Part, Strategy, checks, columns, endpoints, meta, names};
use crate::http::status::FieldError;

/// A strategy that adds nothing; the others start from it.
pub(crate) const BASE: Strategy = Strategy {
    name: names::dns_subdomain,
    default: |_| {},
    prepare: |_, _, _| {},
    validate: |_, _, _, _| {},
    fields: &[],
    generation: false,
    columns: &columns::PLAIN,
};

/// Sets a field that is missing, or says nothing: Go clients write a text that is not set as `""`.
pub(crate) fn default(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Value::Object(m) = object
        && m.get(field).is_none_or(|v| v == "")
    {
        m.insert(field.to_owned(), value.into());
    }
}

/// Sets a text that is missing, or that is there without saying anything: both are the same to Go.
pub(crate) fn default_text(object: &mut Value, field: &str, value: &str) {
    if let Value::Object(m) = object
        && m.get(field).is_none_or(|v| *v == "")
    {
        m.insert(field.to_owned(), value.into());
    }
}

/// An object's field as an object, made if missing.
pub(crate) fn object<'a>(parent: &'a mut Value, field: &str) -> &'a mut Value {
    default(parent, field, json!({}));
    &mut parent[field]
}

pub(crate) fn list<'a>(parent: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    parent.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Takes the status from the stored object, or drops it from a new one.
pub(crate) fn keep_status(new: &mut Value, old: Option<&Value>) {
    keep(new, old, "status");
}

/// Takes a field from the stored object, or drops it.
pub(crate) fn keep(new: &mut Value, old: Option<&Value>, field: &str) {
    let Value::Object(m) = new else { return };
    match old.and_then(|o| o.get(field)) {
        Some(v) => m.insert(field.into(), v.clone()),
        None => m.remove(field),
    };
}

/// For a request that may change the status only: all else stays.
pub(crate) fn only_status(new: &mut Value, old: &Value) {
    let status = new.get("status").cloned();
    let metadata = new.get("metadata").cloned();
    *new = old.clone();
    if let Value::Object(m) = new {
        match status {
            Some(s) => m.insert("status".into(), s),
            None => m.remove("status"),
        };
        m.extend(metadata.map(|v| ("metadata".to_owned(), v)));
    }
}

/// The usual division between a spec and a status.
pub(crate) fn split_status(new: &mut Value, old: Option<&Value>, part: Part) {
    match (part, old) {
        (Part::Status, Some(old)) => only_status(new, old),
        _ => keep_status(new, old),
    }
}

const CONFIG_LIMIT: usize = 1 << 20;

pub(crate) static CONFIG_MAP: Strategy = Strategy {
    validate: |new, old, _, errors| {
        let mut size = 0;
        for field in ["data", "binaryData"] {
            for (k, v) in new[field].as_object().into_iter().flatten() {
                size += v.as_str().map_or(0, str::len);
                if let Err(e) = names::config_key(k) {
                    errors.push(FieldError::invalid(format!("{field}[{k}]"), &json!(k), &e));
                }
                if field == "binaryData" && new["data"].get(k).is_some() {
                    errors.push(FieldError::invalid(
                        format!("data[{k}]"),
                        &json!(k),
                        "duplicate of key present in binaryData",
                    ));
                }
            }
        }
        if size > CONFIG_LIMIT {
            errors.push(FieldError::too_long("[]", CONFIG_LIMIT));
        }
        immutable(new, old, &["data", "binaryData"], errors);
    },
    columns: &columns::CONFIG_MAP,
    ..BASE
};

fn immutable(new: &Value, old: Option<&Value>, fields: &[&str], errors: &mut Vec<FieldError>) {
    let Some(old) = old.filter(|o| o["immutable"] == true) else { return };
    if new["immutable"] != true {
        errors
            .push(FieldError::forbidden("immutable", "field is immutable when `immutable` is set"));
    }
    for f in fields {
        if new.get(f) != old.get(f) {
            errors.push(FieldError::forbidden(*f, "field is immutable when `immutable` is set"));
        }
    }
}

/// The type of secrets that hold a token of a service account.
pub(crate) const SERVICE_ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";

pub(crate) static SECRET: Strategy = Strategy {
    default: |o| {
        use base64::Engine as _;
        if o["type"] == "" {
            o["type"] = "Opaque".into();
        }
        default_text(o, "type", "Opaque");
        // `stringData` is written into `data` and never read back.
        let Some(plain) = o.as_object_mut().and_then(|m| m.remove("stringData")) else { return };
        let data = object(o, "data");
        for (k, v) in plain.as_object().into_iter().flatten() {
            data[k] = base64::engine::general_purpose::STANDARD
                .encode(v.as_str().unwrap_or_default())
                .into();
        }
    },
    validate: |new, old, _, errors| {
        let empty = Map::new();
        let data = new["data"].as_object().unwrap_or(&empty);
        for (k, _) in data {
            if let Err(e) = names::config_key(k) {
                errors.push(FieldError::invalid(format!("data[{k}]"), &json!(k), &e));
            }
        }
        if data.values().map(|v| v.as_str().map_or(0, str::len) / 4 * 3).sum::<usize>()
            > CONFIG_LIMIT
        {
            errors.push(FieldError::too_long("data", CONFIG_LIMIT));
        }
        let needed: &[&str] = match new["type"].as_str().unwrap_or_default() {
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            _ => &[],
        };
        for k in needed.iter().filter(|k| !data.contains_key(**k)) {
            errors.push(FieldError::required(format!("data[{k}]"), ""));
        }
        checks::secret(new, errors);
        if new["type"] == SERVICE_ACCOUNT_TOKEN
            && meta::text(new, "/metadata/annotations/kubernetes.io~1service-account.name")
                .is_empty()
        {
            errors.push(FieldError::required(
                "metadata.annotations[kubernetes.io/service-account.name]",
                "",
            ));
        }
        if let Some(old) = old
            && old["type"] != new["type"]
        {
            errors.push(FieldError::invalid("type", &new["type"], "field is immutable"));
        }
        immutable(new, old, &["data"], errors);
    },
    fields: &["type"],
    columns: &columns::SECRET,
    ..BASE
};

pub(crate) static SERVICE_ACCOUNT: Strategy =
    Strategy { columns: &columns::SERVICE_ACCOUNT, ..BASE };

pub(crate) static EVENT: Strategy = Strategy {
    name: names::path_segment,
    default: |o| {
        for field in ["reportingComponent", "reportingInstance"] {
            default(o, field, "");
        }
        default(o, "source", json!({}));
        for field in ["firstTimestamp", "lastTimestamp", "eventTime"] {
            default(o, field, Value::Null);
        }
    },
    validate: |new, _, _, errors| {
        validate_event(new, errors);
    },
    fields: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    columns: &columns::EVENT,
    ..BASE
};

/// Events of the new kind say when they happened, who reports and what was done.
fn validate_event(new: &Value, errors: &mut Vec<FieldError>) {
    let text = |f: &str| new[f].as_str().unwrap_or_default();
    let involved = meta::text(new, "/involvedObject/namespace");
    let ns = meta::namespace(new);
    let timed = !text("eventTime").is_empty();
    let fits = match (involved, timed) {
        ("", false) => ns == "default",
        ("", true) => matches!(ns, "default" | "kube-system"),
        (_, false) => involved == ns,
        (_, true) => true,
    };
    if !fits {
        let why = "does not match event.namespace";
        errors.push(FieldError::invalid("involvedObject.namespace", &json!(involved), why));
    }
    if !timed {
        return;
    }
    for (field, most) in [
        ("reportingComponent", usize::MAX),
        ("reportingInstance", 128),
        ("action", 128),
        ("reason", 128),
        ("message", 1024),
    ] {
        if text(field).is_empty() && field != "message" {
            errors.push(FieldError::required(field, ""));
        }
        let faults = match field {
            "reportingComponent" => names::label_key_faults(text(field)),
            _ => Vec::new(),
        };
        let given = json!(text(field));
        errors.extend(faults.iter().map(|e| FieldError::invalid(field, &given, e)));
        if text(field).len() > most {
            let why = format!("can have at most {most} characters");
            errors.push(FieldError::invalid(field, &json!(""), &why));
        }
    }
}

pub(crate) static NAMESPACE: Strategy = Strategy {
    name: names::dns_label,
    default: |o| {
        let name = meta::name(o).to_owned();
        if !name.is_empty() {
            let m = meta::metadata(o);
            let labels = m.entry("labels").or_insert_with(|| json!({}));
            labels["kubernetes.io/metadata.name"] = name.into();
        }
    },
    prepare: |new, old, part| match (part, old) {
        (Part::Status, Some(old)) => {
            only_status(new, old);
            default(object(new, "status"), "phase", "Active");
        }
        (Part::Finalize, Some(old)) => keep_status(new, Some(old)),
        (_, Some(old)) => {
            keep(new, Some(old), "spec");
            keep_status(new, Some(old));
        }
        (_, None) => {
            new["spec"] = json!({"finalizers": ["kubernetes"]});
            new["status"] = json!({"phase": "Active"});
            // A generated name is known only now.
            let name = meta::name(new).to_owned();
            let labels = meta::metadata(new).entry("labels").or_insert_with(|| json!({}));
            labels["kubernetes.io/metadata.name"] = name.into();
        }
    },
    validate: |new, _, part, errors| match part {
        Part::Status => {
            let (phase, why) = match meta::is_terminating(new) {
                false => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
                true => {
                    ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
                }
            };
            let said = &new["status"]["phase"];
            if *said != phase {
                errors.push(FieldError::invalid("status.Phase", said, why));
            }
        }
        Part::Finalize => {
            let all = new["spec"]["finalizers"].as_array().into_iter().flatten();
            for (i, f) in all.enumerate() {
                meta::validate_finalizer(f, &format!("spec.finalizers[{i}]"), errors);
            }
        }
        _ => {}
    },
    fields: &["status.phase"],
    columns: &columns::NAMESPACE,
    ..BASE
};

/// What the status of a node always has.
fn empty_status(status: &mut Value) {
    default(object(object(status, "daemonEndpoints"), "kubeletEndpoint"), "Port", 0);
    let info = object(status, "nodeInfo");
    for field in [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ] {
        default(info, field, "");
    }
}

pub(crate) static NODE: Strategy = Strategy {
    default: |o| {
        let spec = object(o, "spec");
        for t in list(spec, "taints") {
            if t["effect"] == "NoExecute" {
                default(t, "timeAdded", meta::timestamp(jiff::Timestamp::now()));
            }
        }
        // A node is configured by the programs on it.
        spec.as_object_mut().and_then(|m| m.remove("configSource"));
        if let Some(one) = spec.get("podCIDR").filter(|c| **c != "").cloned() {
            default(spec, "podCIDRs", json!([one]));
        }
        let status = object(o, "status");
        if status.get("capacity").is_some() && status.get("allocatable").is_none() {
            let capacity = status["capacity"].clone();
            default(status, "allocatable", capacity);
        }
    },
    // A node may bring its status along when it registers.
    prepare: |new, old, part| match (part, old) {
        (Part::Status, Some(old)) => only_status(new, old),
        (_, Some(old)) => keep_status(new, Some(old)),
        (_, None) => empty_status(object(new, "status")),
    },
    validate: |new, old, _, errors| {
        for (i, t) in new["spec"]["taints"].as_array().into_iter().flatten().enumerate() {
            let path = format!("metadata.taints[{i}]");
            if let Err(e) = names::label_key(t["key"].as_str().unwrap_or_default()) {
                errors.push(FieldError::invalid(format!("{path}.key"), &t["key"], &e));
            }
            let effect = t["effect"].as_str().unwrap_or_default();
            if effect.is_empty() {
                errors.push(FieldError::required(format!("{path}.effect"), ""));
            } else if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
                errors.push(FieldError::unsupported(
                    format!("{path}.effect"),
                    &t["effect"],
                    &["NoSchedule", "PreferNoSchedule", "NoExecute"],
                ));
            }
        }
        checks::node(new, errors);
        checks::node_resources(&new["status"], errors);
        if let Some(old) = old {
            for (field, at) in [("podCIDR", "podCIDRs"), ("providerID", "providerID")] {
                let before = &old["spec"][field];
                if before.is_string() && *before != new["spec"][field] {
                    let why =
                        format!("node updates may not change {field} except from \"\" to valid");
                    errors.push(FieldError::forbidden(format!("spec.{at}"), &why));
                }
            }
        }
    },
    fields: &["spec.unschedulable"],
    columns: &columns::NODE,
    ..BASE
};

pub(crate) static ENDPOINTS: Strategy = Strategy {
    default: |o| {
        for s in list(o, "subsets") {
            for p in list(s, "ports") {
                default_text(p, "protocol", "TCP");
            }
        }
    },
    validate: |new, old, _, errors| endpoints::endpoints(new, old, errors),
    columns: &columns::ENDPOINTS,
    ..BASE
};

#[cfg(test)]
mod tests {
    use super::*;

    // What a kube-apiserver 1.33 did.
    #[test]
    fn the_status_of_a_new_node_has_all_that_kubelets_fill_in() {
        let mut o = json!({"metadata": {"name": "n"}});
        (NODE.default)(&mut o);
        (NODE.prepare)(&mut o, None, Part::Main);
        assert_eq!(o["status"]["daemonEndpoints"], json!({"kubeletEndpoint": {"Port": 0}}));
        assert_eq!(o["status"]["nodeInfo"]["kubeletVersion"], "");
    }

    fn told(kind: &Strategy, new: &Value, part: Part) -> Vec<String> {
        let mut errors = Vec::new();
        (kind.validate)(new, Some(new), part, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn a_namespace_has_the_phase_that_it_is_in_and_finalizers_that_say_whose_they_are() {
        let mut ns = json!({"metadata": {"name": "n"}, "status": {"phase": "Foo"}});
        assert_eq!(
            told(&NAMESPACE, &ns, Part::Status),
            [
                "status.Phase: Invalid value: \"Foo\": may only be 'Active' if `deletionTimestamp` is empty"
            ]
        );
        ns["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        ns["status"]["phase"] = "Active".into();
        assert_eq!(
            told(&NAMESPACE, &ns, Part::Status),
            [
                "status.Phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty"
            ]
        );
        ns["spec"] = json!({"finalizers": ["a", "b/c", "kubernetes"]});
        assert_eq!(
            told(&NAMESPACE, &ns, Part::Finalize),
            [
                "spec.finalizers[0]: Invalid value: \"a\": name is neither a standard finalizer name nor is it fully qualified"
            ]
        );
        let old =
            json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}});
        (NAMESPACE.prepare)(&mut ns, Some(&old), Part::Finalize);
        assert_eq!(ns["spec"]["finalizers"], json!(["a", "b/c", "kubernetes"]));
        assert_eq!(ns["status"], old["status"]);
        (NAMESPACE.prepare)(&mut ns, Some(&old), Part::Main);
        assert_eq!(ns["spec"], old["spec"]);
    }

    // The same.
    #[test]
    fn what_a_node_has_is_not_below_zero_and_whole_where_it_is_counted() {
        let node = json!({"metadata": {"name": "n"}, "status": {"capacity": {
            "cpu": "-4", "example.com/gpu": "1500m", "memory": "8Gi", "pods": "110"},
            "allocatable": {"cpu": "1500m", "a.kubernetes.io/b": "1500m"}}});
        assert_eq!(
            told(&NODE, &node, Part::Status),
            [
                "status.capacity.cpu: Invalid value: \"-4\": must be greater than or equal to 0",
                "status.capacity.example.com/gpu: Invalid value: resource.Quantity{i:resource.int64Amount{value:15, scale:-1}, d:resource.infDecAmount{Dec:(*inf.Dec)(nil)}, s:\"\", Format:\"DecimalSI\"}: must be an integer",
            ]
        );
    }

    #[test]
    fn a_secret_of_an_empty_type_is_opaque() {
        let mut o = json!({"type": ""});
        (SECRET.default)(&mut o);
        assert_eq!(o["type"], "Opaque");
    }

    #[test]
    fn plain_secret_data_is_encoded_and_not_kept() {
        let mut s = json!({"stringData": {"a": "b"}, "data": {"c": "ZA=="}});
        (SECRET.default)(&mut s);
        assert_eq!(s, json!({"type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}}));
    }

    #[test]
    fn an_immutable_config_map_stays_as_it_is() {
        let old = json!({"metadata": {"name": "a"}, "data": {"x": "1"}, "immutable": true});
        let new = json!({"metadata": {"name": "a"}, "data": {"x": "2"}, "immutable": true});
        let mut errors = Vec::new();
        (CONFIG_MAP.validate)(&new, Some(&old), Part::Main, &mut errors);
        assert_eq!(
            errors[0].to_string(),
            "data: Forbidden: field is immutable when `immutable` is set"
        );
    }
}
