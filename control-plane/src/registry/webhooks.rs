//! Defaults and validation of webhook configurations.
//!
//! Owns: what is filled in and refused.
//! Called by: the registry's table.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

use serde_json::{Value, json};

use super::core::{BASE, default, list, object};
use super::{Strategy, checks, columns, names, rules};
use crate::http::status::{FieldError, shown_typed};

pub(crate) static MUTATING: Strategy = Strategy {
    default: |o| {
        default_hooks(o);
        for hook in list(o, "webhooks") {
            default(hook, "reinvocationPolicy", "Never");
        }
    },
    validate: |new, _, _, errors| validate_hooks(new, errors),
    generation: true,
    columns: &columns::WEBHOOKS,
    ..BASE
};

pub(crate) static VALIDATING: Strategy = Strategy {
    default: default_hooks,
    validate: |new, _, _, errors| validate_hooks(new, errors),
    generation: true,
    columns: &columns::WEBHOOKS,
    ..BASE
};

fn default_hooks(o: &mut Value) {
    for hook in list(o, "webhooks") {
        default(hook, "failurePolicy", "Fail");
        default(hook, "matchPolicy", "Equivalent");
        default(hook, "namespaceSelector", json!({}));
        default(hook, "objectSelector", json!({}));
        default(hook, "timeoutSeconds", 10);
        for rule in list(hook, "rules") {
            default(rule, "scope", "*");
        }
        if let Some(service) = hook["clientConfig"].get_mut("service") {
            default(service, "port", 443);
        }
        object(hook, "clientConfig");
    }
}

fn validate_hooks(new: &Value, errors: &mut Vec<FieldError>) {
    let hooks = new["webhooks"].as_array().map_or(&[][..], Vec::as_slice);
    for (i, hook) in hooks.iter().enumerate() {
        let at = format!("webhooks[{i}]");
        let name = hook["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        } else if let Err(e) = names::dns_subdomain(name) {
            errors.push(FieldError::invalid(format!("{at}.name"), &hook["name"], &e));
        } else if name.split('.').count() < 3 {
            let why = "should be a domain with at least three segments separated by dots";
            errors.push(FieldError::invalid(format!("{at}.name"), &hook["name"], why));
        }
        validate_rules(hook, &at, errors);
        one_of(hook, &at, "failurePolicy", &["Fail", "Ignore"], false, errors);
        one_of(hook, &at, "matchPolicy", &["Equivalent", "Exact"], false, errors);
        one_of(hook, &at, "sideEffects", &["None", "NoneOnDryRun"], true, errors);
        if hook["timeoutSeconds"].as_i64().is_some_and(|s| !(1..=30).contains(&s)) {
            let why = "the timeout value must be between 1 and 30 seconds";
            let at = format!("{at}.timeoutSeconds");
            errors.push(FieldError::invalid(at, &hook["timeoutSeconds"], why));
        }
        for field in ["namespaceSelector", "objectSelector"] {
            checks::label_selector(&hook[field], &format!("{at}.{field}"), errors);
        }
        one_of(hook, &at, "reinvocationPolicy", &["IfNeeded", "Never"], false, errors);
        validate_client(&hook["clientConfig"], &format!("{at}.clientConfig"), errors);
        validate_conditions(hook, &at, errors);
        validate_reviews(hook, &at, errors);
        if !name.is_empty() && hooks[..i].iter().any(|h| h["name"] == hook["name"]) {
            errors.push(FieldError::duplicate(format!("{at}.name"), &hook["name"]));
        }
    }
}

/// The versions of reviews that a hook understands: ours must be among them.
fn validate_reviews(hook: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let at = format!("{at}.admissionReviewVersions");
    let versions = hook["admissionReviewVersions"].as_array().map_or(&[][..], Vec::as_slice);
    if versions.is_empty() {
        return errors.push(FieldError::required(at, "must specify one of v1, v1beta1"));
    }
    for (i, v) in versions.iter().enumerate() {
        if versions[..i].contains(v) {
            errors.push(FieldError::invalid(format!("{at}[{i}]"), v, "duplicate version"));
        } else if let Err(e) = names::dns_1035_label(v.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(format!("{at}[{i}]"), v, &e));
        }
    }
    // v1beta1 alone is not spoken here.
    if !versions.contains(&json!("v1")) {
        let why = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(at, &hook["admissionReviewVersions"], why));
    }
}

fn validate_conditions(hook: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let conditions = hook["matchConditions"].as_array().map_or(&[][..], Vec::as_slice);
    if conditions.len() > 64 {
        errors.push(FieldError {
            reason: "FieldValueTooMany",
            field: format!("{at}.matchConditions"),
            message: format!("Too many: {}: must have at most 64 items", conditions.len()),
        });
        return;
    }
    for (i, c) in conditions.iter().enumerate() {
        let at = format!("{at}.matchConditions[{i}]");
        let expression = c["expression"].as_str().unwrap_or_default().trim();
        if expression.is_empty() {
            errors.push(FieldError::required(format!("{at}.expression"), ""));
        } else if let Some(why) = rules::condition_problem(expression) {
            errors.push(FieldError::invalid(format!("{at}.expression"), &c["expression"], &why));
        }
        let name = c["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        } else if let Err(e) = names::label_key(name) {
            errors.push(FieldError::invalid(format!("{at}.name"), &c["name"], &e));
        }
        if conditions[..i].iter().any(|o| o["name"] == c["name"]) {
            errors.push(FieldError::duplicate(format!("{at}.name"), &c["name"]));
        }
    }
}

fn one_of(
    hook: &Value,
    at: &str,
    field: &str,
    allowed: &[&str],
    required: bool,
    errors: &mut Vec<FieldError>,
) {
    let at = format!("{at}.{field}");
    match hook[field].as_str() {
        Some(v) if allowed.contains(&v) => {}
        Some(_) => errors.push(FieldError::unsupported(at, &hook[field], allowed)),
        None if required => {
            let list = allowed.join(", ");
            errors.push(FieldError::required(at, &format!("must specify one of {list}")));
        }
        None => {}
    }
}

fn validate_rules(hook: &Value, at: &str, errors: &mut Vec<FieldError>) {
    for (i, rule) in hook["rules"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{at}.rules[{i}]");
        for (field, what, of) in [
            ("operations", "operations", "admissionregistration.OperationType"),
            ("apiGroups", "API groups", "string"),
            ("apiVersions", "API versions", "string"),
        ] {
            let values = rule[field].as_array().map_or(&[][..], Vec::as_slice);
            let at = format!("{at}.{field}");
            if values.is_empty() {
                errors.push(FieldError::required(at.as_str(), ""));
            } else if values.len() > 1 && values.contains(&json!("*")) {
                let why = format!("if '*' is present, must not specify other {what}");
                errors.push(FieldError::invalid_shown(&*at, &shown_typed(of, values), &why));
            }
            for (k, v) in values.iter().enumerate() {
                let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
                let text = v.as_str().unwrap_or_default();
                if field == "operations" && !known.contains(&text) {
                    errors.push(FieldError::unsupported(format!("{at}[{k}]"), v, &known));
                } else if field == "apiVersions" && text.is_empty() {
                    errors.push(FieldError::required(format!("{at}[{k}]"), ""));
                }
            }
        }
        validate_resources(&rule["resources"], &format!("{at}.resources"), errors);
        let scopes = ["*", "Cluster", "Namespaced"];
        one_of(rule, &at, "scope", &scopes, false, errors);
    }
}

/// Resources and their subresources; what a `*` stands for is not named again.
fn validate_resources(list: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let all = list.as_array().map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        errors.push(FieldError::required(at, ""));
    }
    let text = |v: &'_ Value| v.as_str().unwrap_or_default().to_owned();
    for (i, v) in all.iter().enumerate() {
        let name = text(v);
        let at = format!("{at}[{i}]");
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
            continue;
        }
        let Some((resource, sub)) = name.split_once('/') else { continue };
        for wide in [format!("{resource}/*"), format!("*/{sub}")] {
            if all[..i].contains(&json!(wide)) {
                let why = format!("if '{wide}' is present, must not specify {name}");
                errors.push(FieldError::invalid(&*at, v, &why));
            }
        }
    }
    if all.len() > 1 && all.contains(&json!("*/*")) {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(at, list, why));
    }
    let last = all.iter().map(text).rfind(|n| !n.contains('/'));
    if all.contains(&json!("*")) && last.is_some_and(|n| n != "*") {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(at, list, why));
    }
}

fn validate_client(client: &Value, at: &str, errors: &mut Vec<FieldError>) {
    match (client["url"].as_str(), client["service"].is_object()) {
        (Some(_), true) | (None, false) => {
            let why = "exactly one of url or service is required";
            errors.push(FieldError::required(at, why));
        }
        (Some(url), false) => validate_url(url, &format!("{at}.url"), errors),
        (None, true) => {
            validate_service(&client["service"], &format!("{at}.service"), errors);
        }
    }
}

fn validate_url(url: &str, at: &str, errors: &mut Vec<FieldError>) {
    let mut bad = |part: &str, why: &str| {
        errors.push(FieldError::invalid(at, &json!(part), why));
    };
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme != "https" {
        bad(scheme, "'https' is the only allowed URL scheme; desired format: https://host[/path]");
    }
    if host.is_empty() {
        bad("", "host must be specified; desired format: https://host[/path]");
    }
    for (part, why) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            bad(part, why);
        }
    }
}

fn validate_service(service: &Value, at: &str, errors: &mut Vec<FieldError>) {
    // Kubernetes takes the one for the other here.
    for (field, missing) in [("namespace", "name"), ("name", "namespace")] {
        if service[field].as_str().unwrap_or_default().is_empty() {
            let why = format!("service {missing} is required");
            errors.push(FieldError::required(format!("{at}.{missing}"), &why));
        }
    }
    let port = &service["port"];
    if port.as_i64().is_some_and(|p| !(1..=65535).contains(&p)) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid(format!("{at}.port"), port, why));
    }
    let path = service["path"].as_str().unwrap_or_default();
    let mut bad = |why: &str| {
        errors.push(FieldError::invalid(format!("{at}.path"), &service["path"], why));
    };
    match path {
        "" | "/" => return,
        "//" => return bad("segment[0] may not be empty"),
        _ if !path.starts_with('/') => bad("must start with a '/'"),
        _ => {}
    }
    let rest: String = path.chars().skip(1).collect();
    for (i, step) in rest.strip_suffix('/').unwrap_or(&rest).split('/').enumerate() {
        if step.is_empty() {
            bad(&format!("segment[{i}] may not be empty"));
        } else if let Err(e) = names::dns_subdomain(step) {
            bad(&format!("segment[{i}]: {e}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Part;

    fn hook() -> Value {
        json!({"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://x/"}, "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]})
    }

    #[test]
    fn a_hook_is_completed_and_a_wrong_one_refused() {
        let mut good = json!({"webhooks": [hook()]});
        (MUTATING.default)(&mut good);
        assert_eq!(good["webhooks"][0]["timeoutSeconds"], 10);
        assert_eq!(good["webhooks"][0]["failurePolicy"], "Fail");
        let check = |v: &Value| {
            let mut errors = Vec::new();
            (MUTATING.validate)(v, None, Part::Main, &mut errors);
            errors.len()
        };
        assert_eq!(check(&good), 0);
        for (field, bad) in [
            ("name", json!("a")),
            ("sideEffects", json!("Some")),
            ("sideEffects", Value::Null),
            ("admissionReviewVersions", json!([])),
            ("timeoutSeconds", json!(31)),
            ("clientConfig", json!({})),
            ("clientConfig", json!({"url": "http://x/"})),
            ("matchConditions", json!([{"name": "x", "expression": "object."}])),
            ("matchConditions", json!([{"name": "x", "expression": ""}])),
            ("matchConditions", json!([{"name": "x", "expression": "1 + 1"}])),
            ("matchConditions", json!([{"name": "x y", "expression": "true"}])),
            (
                "matchConditions",
                json!([{"name": "x", "expression": "true"}, {"name": "x", "expression": "true"}]),
            ),
            (
                "rules",
                json!([{"operations": [], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]),
            ),
        ] {
            let mut v = good.clone();
            v["webhooks"][0][field] = bad;
            assert_eq!(check(&v), 1, "{field}");
        }
    }
}
