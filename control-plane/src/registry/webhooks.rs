//! Defaults and validation of webhook configurations.
//!
//! Owns: what is filled in and refused.
//! Called by: the registry's table.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

use serde_json::{Value, json};

use super::core::{BASE, default, list, object};
use super::{Strategy, columns, names, rules};
use crate::http::status::FieldError;

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
        } else if name.split('.').count() < 3 || names::dns_subdomain(name).is_err() {
            errors.push(FieldError::invalid(
                format!("{at}.name"),
                &hook["name"],
                "should be a domain with at least three segments separated by dots",
            ));
        }
        if hooks[..i].iter().any(|h| h["name"] == hook["name"]) {
            errors.push(FieldError::duplicate(format!("{at}.name"), &hook["name"]));
        }
        if hook["admissionReviewVersions"].as_array().is_none_or(Vec::is_empty) {
            let why = "must specify one of v1, v1beta1";
            errors.push(FieldError::required(format!("{at}.admissionReviewVersions"), why));
        } else if !hook["admissionReviewVersions"]
            .as_array()
            .is_some_and(|v| v.contains(&json!("v1")))
        {
            errors.push(FieldError::invalid(
                format!("{at}.admissionReviewVersions"),
                &hook["admissionReviewVersions"],
                "must include at least one of v1",
            ));
        }
        one_of(hook, &at, "sideEffects", &["None", "NoneOnDryRun"], true, errors);
        one_of(hook, &at, "failurePolicy", &["Fail", "Ignore"], false, errors);
        one_of(hook, &at, "matchPolicy", &["Equivalent", "Exact"], false, errors);
        one_of(hook, &at, "reinvocationPolicy", &["IfNeeded", "Never"], false, errors);
        if hook["timeoutSeconds"].as_i64().is_some_and(|s| !(1..=30).contains(&s)) {
            errors.push(FieldError::invalid(
                format!("{at}.timeoutSeconds"),
                &hook["timeoutSeconds"],
                "the timeout value must be between 1 and 30 seconds",
            ));
        }
        validate_conditions(hook, &at, errors);
        validate_rules(hook, &at, errors);
        validate_client(&hook["clientConfig"], &format!("{at}.clientConfig"), errors);
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
        let name = c["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        } else if let Err(e) = names::label_key(name) {
            errors.push(FieldError::invalid(format!("{at}.name"), &c["name"], &e));
        }
        if conditions[..i].iter().any(|o| o["name"] == c["name"]) {
            errors.push(FieldError::duplicate(format!("{at}.name"), &c["name"]));
        }
        let expression = c["expression"].as_str().unwrap_or_default().trim();
        if expression.is_empty() {
            errors.push(FieldError::required(format!("{at}.expression"), ""));
        } else if let Some(why) = rules::problem(expression) {
            errors.push(FieldError::invalid(format!("{at}.expression"), &c["expression"], &why));
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
        for field in ["operations", "apiGroups", "apiVersions", "resources"] {
            let values = rule[field].as_array().map_or(&[][..], Vec::as_slice);
            let at = format!("{at}.rules[{i}].{field}");
            if values.is_empty() {
                errors.push(FieldError::required(at, ""));
            } else if values.len() > 1 && values.contains(&json!("*")) && field != "resources" {
                let why = "if '*' is present, must not specify other values";
                errors.push(FieldError::invalid(at, &rule[field], why));
            }
        }
        for (k, o) in rule["operations"].as_array().into_iter().flatten().enumerate() {
            let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
            if !o.as_str().is_some_and(|o| known.contains(&o)) {
                let at = format!("{at}.rules[{i}].operations[{k}]");
                errors.push(FieldError::unsupported(at, o, &known));
            }
        }
        let scopes = ["*", "Cluster", "Namespaced"];
        one_of(rule, &format!("{at}.rules[{i}]"), "scope", &scopes, false, errors);
    }
}

fn validate_client(client: &Value, at: &str, errors: &mut Vec<FieldError>) {
    match (client["url"].as_str(), client["service"].is_object()) {
        (Some(_), true) | (None, false) => {
            let why = "exactly one of url or service is required";
            errors.push(FieldError::required(at, why));
        }
        (Some(url), false) if !url.starts_with("https://") => {
            let why = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
            errors.push(FieldError::invalid(format!("{at}.url"), &client["url"], why));
        }
        (Some(_), false) => {}
        (None, true) => {
            for f in ["name", "namespace"] {
                if client["service"][f].as_str().unwrap_or_default().is_empty() {
                    let why = format!("service {f} is required");
                    errors.push(FieldError::required(format!("{at}.service.{f}"), &why));
                }
            }
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
