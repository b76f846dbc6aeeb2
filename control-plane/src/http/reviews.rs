//! Kinds that only answer: whose a token is, and who may do what.
//!
//! Owns: TokenReview, SelfSubjectReview, the access reviews and SelfSubjectRulesReview.
//! Called by: the router. Never: stores anything.

use serde_json::{Value, json};

use super::auth::User;
use super::rbac::{self, Attributes};
use super::status::{FieldError, Status};
use super::tokens;
use crate::plane::Plane;
use crate::registry::{Resource, meta, names};

/// Answers a review.
///
/// # Errors
/// When the review asks for nothing, or for two things.
pub(crate) fn review(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    namespace: &str,
    mut object: Value,
) -> Result<Value, Status> {
    if resource.namespaced && meta::namespace(&object).is_empty() {
        meta::metadata(&mut object).insert("namespace".into(), namespace.into());
    }
    if resource.group == "authorization.k8s.io" {
        without_empty(&mut object["spec"]);
    }
    let spec = object["spec"].clone();
    if resource.group == "authorization.k8s.io" {
        check_review(resource, namespace, &object)?;
    }
    let status = match resource.kind.as_str() {
        "SelfSubjectReview" => json!({"userInfo": user.to_value()}),
        "TokenReview" if meta::text(&spec, "/token").is_empty() => {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        "TokenReview" => token_review(plane, &spec),
        "SelfSubjectAccessReview" => access(plane, user, &spec),
        "SelfSubjectRulesReview" => rules(plane, user, &spec),
        _ => {
            let asked = User {
                name: meta::text(&spec, "/user").to_owned(),
                uid: meta::text(&spec, "/uid").to_owned(),
                groups: spec["groups"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
                ..User::default()
            };
            access(plane, &asked, &spec)
        }
    };
    meta::metadata(&mut object).insert("creationTimestamp".into(), Value::Null);
    // These answers are objects of their own: of what was sent nothing is in them.
    if of_its_own(resource) {
        object["metadata"] = json!({"creationTimestamp": null});
    }
    match resource.kind.as_str() {
        "SelfSubjectReview" => {
            let now = meta::timestamp(jiff::Timestamp::now());
            object["metadata"]["creationTimestamp"] = now.into();
        }
        "SelfSubjectRulesReview" => object["spec"] = json!({}),
        _ => {}
    }
    object["status"] = status;
    Ok(object)
}

/// Whether the answer to a review is another object than what was sent.
pub(crate) fn of_its_own(resource: &Resource) -> bool {
    matches!(resource.kind.as_str(), "SelfSubjectReview" | "SelfSubjectRulesReview")
}

/// Drops texts that are empty, which are none in the types of reviews.
fn without_empty(v: &mut Value) {
    if let Value::Object(m) = v {
        m.retain(|_, v| v != "");
        m.values_mut().for_each(without_empty);
    }
}

/// What is wrong with the metadata of a review of rights: that there are any. What records say of it
/// does not count, and where there is one the namespace does not.
fn check_metadata(object: &Value, local: bool) -> Option<FieldError> {
    let mut m = object["metadata"].as_object().cloned().unwrap_or_default();
    m.retain(|k, v| {
        k != "managedFields" && !v.is_null() && v != "" && !(local && k == "namespace")
    });
    if m.is_empty() {
        return None;
    }
    let why = if local { "must be empty except for namespace" } else { "must be empty" };
    Some(FieldError::invalid("metadata", &object["metadata"], why))
}

fn token_review(plane: &Plane, spec: &Value) -> Value {
    let audiences: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    match tokens::authenticate(plane, meta::text(spec, "/token"), &audiences) {
        Some(user) => {
            let shown =
                if audiences.is_empty() { vec![tokens::ISSUER.to_owned()] } else { audiences };
            json!({"authenticated": true, "user": user.to_value(), "audiences": shown})
        }
        None => json!({"user": {}, "error": "invalid bearer token"}),
    }
}

/// Whether a review of what somebody may do is one.
///
/// # Errors
/// `Invalid`, without a kind, as Kubernetes has it.
fn check_review(resource: &Resource, namespace: &str, object: &Value) -> Result<(), Status> {
    if resource.kind == "SelfSubjectRulesReview" {
        return match meta::text(object, "/spec/namespace") {
            "" => Err(Status::bad_request("no namespace on request")),
            _ => Ok(()),
        };
    }
    let (spec, local) = (&object["spec"], resource.kind == "LocalSubjectAccessReview");
    let (r, n) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let mut errors = Vec::new();
    if r.is_object() && n.is_object() {
        let why = "cannot be specified in combination with resourceAttributes";
        let at = "spec.nonResourceAttributes";
        errors.push(FieldError::invalid_shown(at, &shown_path(n), why));
    } else if !r.is_object() && !n.is_object() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid("spec.resourceAttributes", &json!("null"), why));
    }
    let named = !meta::text(spec, "/user").is_empty();
    let grouped = spec["groups"].as_array().is_some_and(|g| !g.is_empty());
    if resource.kind != "SelfSubjectAccessReview" && !named && !grouped {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid("spec.user", &json!(""), why));
    }
    for field in ["fieldSelector", "labelSelector"] {
        let at = format!("spec.resourceAttributes.{field}");
        review_selector(&r[field], &at, &mut errors);
        let all = r[field]["requirements"].as_array().into_iter().flatten().enumerate();
        all.for_each(|(i, one)| requirement(one, &format!("{at}.requirements[{i}]"), &mut errors));
    }
    errors.extend(check_metadata(object, local));
    let own = meta::namespace(object);
    if local && r.is_object() && meta::text(r, "/namespace") != own {
        let at = "spec.resourceAttributes.namespace";
        let value = json!(meta::text(r, "/namespace"));
        errors.push(FieldError::invalid(at, &value, "must match metadata.namespace"));
    }
    if local && n.is_object() {
        let why = "disallowed on this kind of request";
        let at = "spec.nonResourceAttributes";
        errors.push(FieldError::invalid_shown(at, &shown_path(n), why));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.group, "", "", &errors));
    }
    if local && own != namespace {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    Ok(())
}

/// What is wrong with the selector of a review.
fn review_selector(selector: &Value, at: &str, errors: &mut Vec<FieldError>) {
    if !selector.is_object() {
        return;
    }
    let requirements = selector["requirements"].as_array().map_or(0, Vec::len);
    match (!meta::text(selector, "/rawSelector").is_empty(), requirements) {
        (true, 1..) => {
            let why = "may not specified at the same time as requirements";
            let at = format!("{at}.rawSelector");
            errors.push(FieldError::invalid(at, &selector["rawSelector"], why));
        }
        (false, 0) => {
            let why = format!("when {at} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(format!("{at}.requirements"), &why));
        }
        _ => {}
    }
}

/// What is wrong with a requirement of a review's selector. Operators that are not known may be known
/// to a later version.
fn requirement(one: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let fields = at.contains(".fieldSelector.");
    let values = one["values"].as_array().map_or(0, Vec::len);
    let key = &one["key"];
    let nameless = meta::text(one, "/key").is_empty();
    if fields && nameless {
        errors.push(FieldError::required(format!("{at}.key"), "must be specified"));
    }
    let (at_values, why) = (format!("{at}.values"), "when `operator` is");
    match (meta::text(one, "/operator"), values) {
        ("In" | "NotIn", 0) => {
            let why = format!("must be specified {why} 'In' or 'NotIn'");
            errors.push(FieldError::required(at_values, &why));
        }
        ("Exists" | "DoesNotExist", 1..) => {
            let why = format!("may not be specified {why} 'Exists' or 'DoesNotExist'");
            errors.push(FieldError::forbidden(at_values, &why));
        }
        _ => {}
    }
    if !fields {
        let key = if nameless { &json!("") } else { key };
        for why in names::label_key_faults(meta::text(one, "/key")) {
            errors.push(FieldError::invalid(format!("{at}.key"), key, &why));
        }
    }
}

/// A path and a verb as error texts show them.
fn shown_path(n: &Value) -> String {
    let (path, verb) = (meta::text(n, "/path"), meta::text(n, "/verb"));
    format!("authorization.NonResourceAttributes{{Path:{path:?}, Verb:{verb:?}}}")
}

fn access(plane: &Plane, user: &User, spec: &Value) -> Value {
    let r = &spec["resourceAttributes"];
    let n = &spec["nonResourceAttributes"];
    let of = |v: &'_ Value, f: &str| v[f].as_str().unwrap_or_default().to_owned();
    let (verb, group, res, sub) = (
        of(if r.is_object() { r } else { n }, "verb"),
        of(r, "group"),
        of(r, "resource"),
        of(r, "subresource"),
    );
    let (namespace, name, path) = (of(r, "namespace"), of(r, "name"), of(n, "path"));
    let a = Attributes {
        verb: &verb,
        group: &group,
        resource: &res,
        subresource: &sub,
        namespace: &namespace,
        name: &name,
        path: &path,
        node: field_requirement(&r["fieldSelector"], "spec.nodeName"),
    };
    let verdict = rbac::decide(plane, user, &a);
    let mut status = json!({"allowed": verdict.allowed});
    if !verdict.reason.is_empty() {
        status["reason"] = verdict.reason.into();
    }
    status
}

/// The one value that a review's field selector allows for a field.
fn field_requirement<'a>(selector: &'a Value, field: &str) -> &'a str {
    let all = selector["requirements"].as_array().into_iter().flatten();
    let mut found = all.filter(|r| r["key"] == field && r["operator"] == "In");
    match (found.next().and_then(|r| r["values"].as_array()).map(Vec::as_slice), found.next()) {
        (Some([one]), None) => one.as_str().unwrap_or_default(),
        _ => "",
    }
}

fn rules(plane: &Plane, user: &User, spec: &Value) -> Value {
    let all = rbac::rules_of(plane, user, meta::text(spec, "/namespace"));
    let (paths, resources): (Vec<Value>, Vec<Value>) =
        all.into_iter().partition(|r| r.get("nonResourceURLs").is_some());
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn a_review_of_rights_has_no_metadata_and_what_is_empty_is_not_asked_for() {
        let of = |plural: &str| Registry::new().builtin("authorization.k8s.io", plural);
        let said = |plural: &str, metadata: Value| {
            let spec =
                json!({"user": "a", "resourceAttributes": {"verb": "get", "namespace": "n"}});
            let object = json!({"metadata": metadata, "spec": spec});
            check_review(&of(plural), "n", &object).map_err(|s| (s.code, s.message))
        };
        let records = json!([{"manager": "x"}]);
        let (wide, local) = ("subjectaccessreviews", "localsubjectaccessreviews");
        assert_eq!(
            said(wide, json!({"creationTimestamp": null, "managedFields": records})),
            Ok(())
        );
        assert_eq!(said(local, json!({"namespace": "n"})), Ok(()));
        let (code, message) = said(wide, json!({"name": "x"})).unwrap_err();
        assert_eq!(code, 422);
        assert!(
            message.starts_with(".authorization.k8s.io \"\" is invalid: metadata: Invalid value: ")
        );
        assert!(message.ends_with(": must be empty"), "{message}");
        let (_, message) =
            said(local, json!({"namespace": "n", "labels": {"a": "b"}})).unwrap_err();
        assert!(message.ends_with(": must be empty except for namespace"), "{message}");
        let mut spec = json!({"user": "", "resourceAttributes": {"group": "", "verb": "get"}});
        without_empty(&mut spec);
        assert_eq!(spec, json!({"resourceAttributes": {"verb": "get"}}));
    }
}
