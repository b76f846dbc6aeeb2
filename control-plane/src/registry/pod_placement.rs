//! Where a pod may go: affinity to nodes and to other pods, and how pods are spread.
//!
//! Owns: what Kubernetes refuses in them, and the selectors that it completes for a new pod.
//! Called by: `pods`, for pods and templates.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>

use serde_json::{Value, json};

use super::pod_fields::{Errors, each, key, text};
use super::{checks, names};
use crate::http::status::FieldError;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NO_OPERATOR: &str = "not a valid selector operator";

/// What a term says of nodes: of their labels, where `strict` refuses values that none can have, and
/// of their names.
fn node_term(term: &Value, at: &str, strict: bool, errors: &mut Errors) {
    for (i, e) in each(term, "matchExpressions") {
        let at = format!("{at}.matchExpressions[{i}]");
        let count = e["values"].as_array().map_or(0, Vec::len);
        match text(e, "operator") {
            "In" | "NotIn" if count == 0 => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(format!("{at}.values"), why));
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{at}.values"), why));
            }
            "Gt" | "Lt" if count != 1 => {
                let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(FieldError::required(format!("{at}.values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => {
                let at = format!("{at}.operator");
                errors.push(FieldError::invalid(at, &json!(other), NO_OPERATOR));
            }
        }
        key(&e["key"], format!("{at}.key"), errors);
        for (k, v) in each(e, "values").filter(|_| strict) {
            if let Err(why) = names::label_value(v.as_str().unwrap_or_default()) {
                errors.push(FieldError::invalid(format!("{at}.values[{k}]"), v, &why));
            }
        }
    }
    for (i, e) in each(term, "matchFields") {
        node_field(e, &format!("{at}.matchFields[{i}]"), errors);
    }
}

/// The one field of a node that can be selected by is its name.
fn node_field(e: &Value, at: &str, errors: &mut Errors) {
    match text(e, "operator") {
        "In" | "NotIn" => {
            if e["values"].as_array().is_none_or(|v| v.len() != 1) {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(FieldError::required(format!("{at}.values"), why));
            }
        }
        other => {
            errors.push(FieldError::invalid(format!("{at}.operator"), &json!(other), NO_OPERATOR));
        }
    }
    if text(e, "key") != "metadata.name" {
        let why = "not a valid field selector key";
        errors.push(FieldError::invalid(format!("{at}.key"), &json!(text(e, "key")), why));
        return;
    }
    for (k, v) in each(e, "values") {
        if let Err(why) = names::dns_subdomain(v.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(format!("{at}.values[{k}]"), v, &why));
        }
    }
}

fn weight(preferred: &Value, at: &str, errors: &mut Errors) {
    if !preferred["weight"].as_i64().is_some_and(|w| (1..=100).contains(&w)) {
        let (at, why) = (format!("{at}.weight"), "must be in the range 1-100");
        errors.push(FieldError::invalid(at, &preferred["weight"], why));
    }
}

/// The keys that a label selector names, each as often as it does.
fn selected_keys(selector: &Value) -> Vec<&str> {
    let labels = selector["matchLabels"].as_object().into_iter().flatten().map(|(k, _)| k.as_str());
    labels.chain(each(selector, "matchExpressions").map(|(_, e)| text(e, "key"))).collect()
}

/// Keys of labels whose values are taken from the pod itself.
fn label_keys(term: &Value, at: &str, errors: &mut Errors) {
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let at = format!("{at}.{field}");
        if each(term, field).next().is_none() {
            continue;
        }
        if term["labelSelector"].is_null() {
            let why = "must not be specified when labelSelector is not set";
            errors.push(FieldError::forbidden(at, why));
            continue;
        }
        for (i, k) in each(term, field) {
            key(k, format!("{at}[{i}]"), errors);
        }
    }
    let selected = selected_keys(&term["labelSelector"]);
    // The requirement that was made of a key stands there too: one more is one too many.
    for (i, k) in each(term, "matchLabelKeys") {
        if selected.iter().filter(|s| *k == **s).count() > 1 {
            let why = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(format!("{at}[{i}]"), k, why));
        }
    }
    for (i, k) in each(term, "matchLabelKeys") {
        if each(term, "mismatchLabelKeys").any(|(_, m)| m == k) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(FieldError::invalid(format!("{at}.matchLabelKeys[{i}]"), k, why));
        }
    }
}

/// Which other pods a pod wants near or far.
fn pod_term(term: &Value, at: &str, errors: &mut Errors) {
    for field in ["labelSelector", "namespaceSelector"] {
        checks::label_selector(&term[field], &format!("{at}.{field}"), errors);
    }
    for (_, name) in each(term, "namespaces") {
        if let Err(why) = names::dns_label(name.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(format!("{at}.namespace"), name, &why));
        }
    }
    label_keys(term, at, errors);
    let at = format!("{at}.topologyKey");
    if text(term, "topologyKey").is_empty() {
        errors.push(FieldError::required(at.clone(), "can not be empty"));
    }
    key(&term["topologyKey"], at, errors);
}

/// What is wrong with a pod's affinity.
pub(crate) fn affinity(spec: &Value, at: &str, errors: &mut Errors) {
    let node = &spec["affinity"]["nodeAffinity"];
    let node_at = format!("{at}.affinity.nodeAffinity");
    if let Some(r) = node.get(REQUIRED) {
        required_nodes(r, &format!("{node_at}.{REQUIRED}"), errors);
    }
    for (i, p) in each(node, PREFERRED) {
        let at = format!("{node_at}.{PREFERRED}[{i}]");
        weight(p, &at, errors);
        node_term(&p["preference"], &format!("{at}.preference"), false, errors);
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let (v, at) = (&spec["affinity"][field], format!("{at}.affinity.{field}"));
        for (i, term) in each(v, REQUIRED) {
            pod_term(term, &format!("{at}.{REQUIRED}[{i}]"), errors);
        }
        for (i, p) in each(v, PREFERRED) {
            let at = format!("{at}.{PREFERRED}[{i}]");
            weight(p, &at, errors);
            pod_term(&p["podAffinityTerm"], &format!("{at}.podAffinityTerm"), errors);
        }
    }
}

/// The nodes that something has to be on, a pod or a volume.
pub(super) fn required_nodes(selector: &Value, at: &str, errors: &mut Errors) {
    let at = format!("{at}.nodeSelectorTerms");
    if selector["nodeSelectorTerms"].as_array().is_none_or(Vec::is_empty) {
        let why = "must have at least one node selector term";
        errors.push(FieldError::required(at.clone(), why));
    }
    for (i, term) in each(selector, "nodeSelectorTerms") {
        node_term(term, &format!("{at}[{i}]"), true, errors);
    }
}

/// What is wrong with how pods are spread.
pub(crate) fn spread(spec: &Value, at: &str, errors: &mut Errors) {
    for (i, c) in each(spec, "topologySpreadConstraints") {
        let at = format!("{at}.topologySpreadConstraints[{i}]");
        let skew = c["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            let at = format!("{at}.maxSkew");
            errors.push(FieldError::invalid(at, &json!(skew), "must be greater than zero"));
        }
        if text(c, "topologyKey").is_empty() {
            errors.push(FieldError::required(format!("{at}.topologyKey"), "can not be empty"));
        }
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        let when = json!(text(c, "whenUnsatisfiable"));
        if !known.iter().any(|k| when == *k) {
            let at = format!("{at}.whenUnsatisfiable");
            errors.push(FieldError::unsupported(at, &when, &known));
        }
        let later = each(spec, "topologySpreadConstraints").skip(i + 1);
        let same = |o: &Value| {
            o["topologyKey"] == c["topologyKey"] && o["whenUnsatisfiable"] == c["whenUnsatisfiable"]
        };
        if later.into_iter().any(|(_, o)| same(o)) {
            let both = format!("{{{}, {}}}", text(c, "topologyKey"), text(c, "whenUnsatisfiable"));
            let at = format!("{at}.{{topologyKey, whenUnsatisfiable}}");
            errors.push(FieldError::duplicate(at, &json!(both)));
        }
        domains(c, &at, errors);
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            checks::one_of(&c[field], &format!("{at}.{field}"), &["Honor", "Ignore"], errors);
        }
        spread_keys(c, &at, errors);
        checks::label_selector(&c["labelSelector"], &format!("{at}.labelSelector"), errors);
    }
}

/// Over how many places pods are spread at least.
fn domains(c: &Value, at: &str, errors: &mut Errors) {
    let Some(least) = c.get("minDomains") else { return };
    let at = format!("{at}.minDomains");
    if least.as_i64().is_some_and(|n| n <= 0) {
        errors.push(FieldError::invalid(at.clone(), least, "must be greater than zero"));
    }
    if text(c, "whenUnsatisfiable") != "DoNotSchedule" {
        let why = format!(
            "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
            text(c, "whenUnsatisfiable")
        );
        errors.push(FieldError::invalid(at, least, &why));
    }
}

fn spread_keys(c: &Value, at: &str, errors: &mut Errors) {
    let at = format!("{at}.matchLabelKeys");
    let keys: Vec<&Value> = each(c, "matchLabelKeys").map(|(_, k)| k).collect();
    if !keys.is_empty() && c["labelSelector"].is_null() {
        let why = "must not be specified when labelSelector is not set";
        errors.push(FieldError::forbidden(at.as_str(), why));
    }
    let selected = selected_keys(&c["labelSelector"]);
    for (i, k) in keys.into_iter().enumerate() {
        key(k, format!("{at}[{i}]"), errors);
        if selected.iter().any(|s| *k == **s) {
            let why = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(format!("{at}[{i}]"), k, why));
        }
    }
}

/// Writes into the selectors of a new pod's affinity what it says of its own labels.
pub(crate) fn complete_selectors(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    for field in ["podAffinity", "podAntiAffinity"] {
        let Some(v) = pod.pointer_mut(&format!("/spec/affinity/{field}")) else { continue };
        for term in super::core::list(v, REQUIRED) {
            complete(term, &labels);
        }
        for preferred in super::core::list(v, PREFERRED) {
            if let Some(term) = preferred.get_mut("podAffinityTerm") {
                complete(term, &labels);
            }
        }
    }
}

fn complete(term: &mut Value, labels: &Value) {
    if !term["labelSelector"].is_object() {
        return;
    }
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys: Vec<String> =
            each(term, field).filter_map(|(_, k)| k.as_str()).map(str::to_owned).collect();
        for key in keys {
            let Some(value) = labels.get(&key) else { continue };
            let said = &mut term["labelSelector"]["matchExpressions"];
            if said.is_null() {
                *said = json!([]);
            }
            if let Value::Array(all) = said {
                all.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a check tells of a pod's spec.
    pub(crate) fn told(check: fn(&Value, &str, &mut Errors), spec: Value) -> Vec<String> {
        let mut errors = Vec::new();
        check(&spec, "spec", &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn affinity_names_fields_and_labels_that_can_be_selected_by() {
        let nodes = |term: Value| {
            let all =
                json!({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}});
            told(affinity, all)
        };
        let at = format!("spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0]");
        assert_eq!(
            nodes(json!({"matchFields": [{"key": "foo", "operator": "In", "values": ["a", "b"]}]})),
            [
                format!(
                    "{at}.matchFields[0].values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
                ),
                format!(
                    "{at}.matchFields[0].key: Invalid value: \"foo\": not a valid field selector key"
                ),
            ]
        );
        assert_eq!(
            nodes(json!({"matchFields": [{"key": "metadata.name", "operator": "Exists"}]})),
            [format!("{at}.matchFields[0].operator: Invalid value: \"Exists\": {NO_OPERATOR}")]
        );
        let good =
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]});
        assert_eq!(nodes(good), Vec::<String>::new());
        let values =
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["a b"]}]});
        assert_eq!(nodes(values.clone()).len(), 1);
        // What is only preferred may name a value that no node has.
        let liked = json!({"affinity": {"nodeAffinity": {PREFERRED: [{"weight": 1, "preference": values}]}}});
        assert_eq!(told(affinity, liked), Vec::<String>::new());
    }

    // The same.
    #[test]
    fn affinity_to_pods_has_selectors_namespaces_and_keys_that_can_be() {
        let pods = |term: Value| {
            let mut whole = json!({"topologyKey": "z"});
            json_patch::merge(&mut whole, &term);
            told(affinity, json!({"affinity": {"podAffinity": {REQUIRED: [whole]}}}))
        };
        let at = format!("spec.affinity.podAffinity.{REQUIRED}[0]");
        assert_eq!(
            pods(json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}})),
            [format!(
                "{at}.labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            )]
        );
        assert_eq!(
            pods(json!({"matchLabelKeys": ["x"]})),
            [format!(
                "{at}.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"
            )]
        );
        let wrong = pods(json!({"namespaces": ["A_"]}));
        assert!(
            wrong[0].starts_with(&format!("{at}.namespace: Invalid value: \"A_\": a lowercase")),
            "{wrong:?}"
        );
        assert_eq!(
            pods(json!({"labelSelector": {}, "matchLabelKeys": ["c"], "mismatchLabelKeys": ["c"]})),
            [format!(
                "{at}.matchLabelKeys[0]: Invalid value: \"c\": exists in both matchLabelKeys and mismatchLabelKeys"
            )]
        );
        // An empty key is told in two ways, as everywhere.
        assert_eq!(pods(json!({"topologyKey": ""})).len(), 3);
    }

    // The same; "matchLabelKeys" of the page named above.
    #[test]
    fn a_new_pods_own_labels_are_written_into_its_selectors() {
        let term = json!({"topologyKey": "z", "labelSelector": {"matchLabels": {"a": "b"}},
            "matchLabelKeys": ["c", "none"], "mismatchLabelKeys": ["a"]});
        let mut pod = json!({"metadata": {"labels": {"a": "b", "c": "d"}},
            "spec": {"affinity": {"podAffinity": {REQUIRED: [term]}}}});
        complete_selectors(&mut pod);
        assert_eq!(
            pod["spec"]["affinity"]["podAffinity"][REQUIRED][0]["labelSelector"]["matchExpressions"],
            json!([{"key": "c", "operator": "In", "values": ["d"]}, {"key": "a", "operator": "NotIn", "values": ["b"]}])
        );
        assert_eq!(told(affinity, pod["spec"].clone()), Vec::<String>::new());
        let term = json!({"topologyKey": "z", "labelSelector": {"matchLabels": {"c": "d"}}, "matchLabelKeys": ["c"]});
        pod["spec"]["affinity"]["podAffinity"][REQUIRED][0] = term;
        complete_selectors(&mut pod);
        assert_eq!(
            told(affinity, pod["spec"].clone()),
            [format!(
                "spec.affinity.podAffinity.{REQUIRED}[0][0]: Invalid value: \"c\": exists in both matchLabelKeys and labelSelector"
            )]
        );
    }

    // The same.
    #[test]
    fn spreading_counts_nodes_and_pods_as_it_can() {
        let constraint = |change: Value| {
            let mut c =
                json!({"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"});
            json_patch::merge(&mut c, &change);
            told(spread, json!({"topologySpreadConstraints": [c]}))
        };
        let at = "spec.topologySpreadConstraints[0]";
        assert_eq!(
            constraint(json!({"nodeAffinityPolicy": "X", "matchLabelKeys": ["c"]})),
            [
                format!(
                    "{at}.nodeAffinityPolicy: Unsupported value: \"X\": supported values: \"Honor\", \"Ignore\""
                ),
                format!(
                    "{at}.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"
                ),
            ]
        );
        assert_eq!(
            constraint(
                json!({"labelSelector": {"matchLabels": {"c": "d"}}, "matchLabelKeys": ["c", "e"]})
            ),
            [format!(
                "{at}.matchLabelKeys[0]: Invalid value: \"c\": exists in both matchLabelKeys and labelSelector"
            )]
        );
        let good =
            json!({"labelSelector": {}, "matchLabelKeys": ["c"], "nodeTaintsPolicy": "Honor"});
        assert_eq!(constraint(good), Vec::<String>::new());
    }
}
