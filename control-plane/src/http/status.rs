//! The errors of the API, worded as Kubernetes words them.
//!
//! Owns: reasons, codes, messages and details of `Status`. Called by: every verb.

use serde_json::{Value, json};

/// An answer that is not the object asked for.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    /// Seconds after which to try again.
    pub(crate) retry_after: Option<u32>,
    /// Where a list may go on, as things are now.
    pub(crate) next: Option<Box<str>>,
    /// What the client is warned of, besides.
    pub(crate) warnings: Box<[String]>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldError {
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    /// Everything after `field: `.
    pub(crate) message: String,
}

impl FieldError {
    /// `field: Required value` with an optional hint.
    pub(crate) fn required(field: impl Into<String>, hint: &str) -> Self {
        let message = if hint.is_empty() {
            "Required value".into()
        } else {
            format!("Required value: {hint}")
        };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// `field: Invalid value: <value>: <why>`.
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        let message = format!("Invalid value: {}: {why}", shown(value));
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    /// As [`FieldError::invalid`], with the value as Kubernetes shows what is no JSON value to it.
    pub(crate) fn invalid_shown(field: impl Into<String>, shown: &str, why: &str) -> Self {
        let message = format!("Invalid value: {shown}: {why}");
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    /// `field: Unsupported value: <value>: supported values: ..`.
    pub(crate) fn unsupported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        let message =
            format!("Unsupported value: {}: supported values: {}", shown(value), list.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    /// As [`FieldError::unsupported`], with the value as Kubernetes shows what is no JSON value to it.
    pub(crate) fn unsupported_shown(
        field: impl Into<String>,
        shown: &str,
        supported: &[&str],
    ) -> Self {
        let e = Self::unsupported(field, &Value::Null, supported);
        let message = e.message.replacen("null", shown, 1);
        Self { message, ..e }
    }

    /// `field: Duplicate value: <value>`.
    pub(crate) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {}", shown(value)),
        }
    }

    /// `field: Forbidden: <why>`.
    pub(crate) fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            message: format!("Forbidden: {why}"),
        }
    }

    /// `field: Not found: <value>`.
    pub(crate) fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueNotFound",
            field: field.into(),
            message: format!("Not found: {}", shown(value)),
        }
    }

    /// `field: Too long: may not be more than <max> bytes`.
    pub(crate) fn too_long(field: impl Into<String>, max: usize) -> Self {
        Self {
            reason: "FieldValueTooLong",
            field: field.into(),
            message: format!("Too long: may not be more than {max} bytes"),
        }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A list of a type as error texts show it.
pub(crate) fn shown_typed(of: &str, list: &[Value]) -> String {
    let all: Vec<String> = list.iter().map(Value::to_string).collect();
    format!("[]{of}{{{}}}", all.join(", "))
}

/// Texts by name as error texts show them.
pub(crate) fn shown_map(v: &Value) -> String {
    match v {
        Value::Object(m) => {
            let all: Vec<String> = m.iter().map(|(k, v)| format!("{k:?}:{v}")).collect();
            format!("map[string]string{{{}}}", all.join(", "))
        }
        _ => "map[string]string(nil)".to_owned(),
    }
}

/// A list of texts as error texts show it.
pub(crate) fn shown_list(v: &Value) -> String {
    shown_typed("string", v.as_array().map_or(&[][..], Vec::as_slice))
}

/// A number or a text as error texts show a field that may be either.
pub(crate) fn shown_share(v: &Value) -> String {
    let (kind, number, text) = match v {
        Value::String(s) => (1, 0, s.as_str()),
        v => (0, v.as_i64().unwrap_or(0), ""),
    };
    format!("intstr.IntOrString{{Type:{kind}, IntVal:{number}, StrVal:{text:?}}}")
}

/// A label selector as error texts show it.
pub(crate) fn shown_selector(v: &Value) -> String {
    let one = |e: &Value| {
        let text = |f: &str| e[f].as_str().unwrap_or_default().to_owned();
        let values = match e.get("values") {
            None | Some(Value::Null) => "[]string(nil)".to_owned(),
            Some(v) => shown_list(v),
        };
        format!(
            "v1.LabelSelectorRequirement{{Key:{:?}, Operator:{:?}, Values:{values}}}",
            text("key"),
            text("operator")
        )
    };
    let expressions = match v["matchExpressions"].as_array() {
        None => "[]v1.LabelSelectorRequirement(nil)".to_owned(),
        Some(all) => {
            let all: Vec<String> = all.iter().map(one).collect();
            format!("[]v1.LabelSelectorRequirement{{{}}}", all.join(", "))
        }
    };
    let labels = shown_map(&v["matchLabels"]);
    format!("v1.LabelSelector{{MatchLabels:{labels}, MatchExpressions:{expressions}}}")
}

fn shown(v: &Value) -> String {
    match v {
        Value::Null => "null".to_owned(),
        Value::Array(a) if a.iter().all(Value::is_string) => shown_typed("string", a),
        v => v.to_string(),
    }
}

/// A resource as error texts name it: `pods`, `deployments.apps`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupResource<'a> {
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

fn details(gr: GroupResource<'_>, name: &str) -> Value {
    let mut d = serde_json::Map::new();
    if !name.is_empty() {
        d.insert("name".into(), name.into());
    }
    if !gr.group.is_empty() {
        d.insert("group".into(), gr.group.into());
    }
    if !gr.resource.is_empty() {
        d.insert("kind".into(), gr.resource.into());
    }
    Value::Object(d)
}

/// What is wrong with an object that is applied: one thing, or a list of them.
fn together(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        all => format!("errors:\n  {}", all.join("\n  ")),
    }
}

impl Status {
    fn new(code: u16, reason: &'static str, message: String) -> Self {
        Self {
            code,
            reason,
            message,
            details: None,
            retry_after: None,
            next: None,
            warnings: Box::default(),
        }
    }

    /// The same, with warnings: they are told of a write that fails, too.
    pub(crate) fn warned(mut self, warnings: &[String]) -> Self {
        self.warnings = [&self.warnings, warnings].concat().into();
        self
    }

    pub(crate) fn not_found(gr: GroupResource<'_>, name: &str) -> Self {
        Self {
            details: Some(details(gr, name)),
            ..Self::new(404, "NotFound", format!("{gr} \"{name}\" not found"))
        }
    }

    /// No such resource in a group that there is.
    pub(crate) fn no_such_path() -> Self {
        Self {
            details: Some(json!({})),
            ..Self::new(404, "NotFound", "the server could not find the requested resource".into())
        }
    }

    pub(crate) fn already_exists(gr: GroupResource<'_>, name: &str) -> Self {
        Self {
            details: Some(details(gr, name)),
            ..Self::new(409, "AlreadyExists", format!("{gr} \"{name}\" already exists"))
        }
    }

    pub(crate) fn conflict(gr: GroupResource<'_>, name: &str, why: &str) -> Self {
        Self {
            details: Some(details(gr, name)),
            ..Self::new(
                409,
                "Conflict",
                format!("Operation cannot be fulfilled on {gr} \"{name}\": {why}"),
            )
        }
    }

    /// The usual conflict: somebody else has written in between.
    pub(crate) fn modified(gr: GroupResource<'_>, name: &str) -> Self {
        Self::conflict(
            gr,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mut all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        // What is found twice is one cause each, and told once.
        let mut seen = std::collections::HashSet::new();
        all.retain(|e| seen.insert(e.clone()));
        let text = if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) };
        let full = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let causes: Vec<Value> = errors
            .iter()
            .map(|e| json!({"reason": e.reason, "message": e.message, "field": e.field}))
            .collect();
        let mut d = details(GroupResource { group, resource: kind }, name);
        d["causes"] = Value::Array(causes);
        Self {
            details: Some(d),
            ..Self::new(422, "Invalid", format!("{full} \"{name}\" is invalid: {text}"))
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message.into())
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized".into())
    }

    pub(crate) fn forbidden(gr: GroupResource<'_>, name: &str, why: &str) -> Self {
        let what = if name.is_empty() {
            format!("{gr} is forbidden: {why}")
        } else {
            format!("{gr} \"{name}\" is forbidden: {why}")
        };
        Self { details: Some(details(gr, name)), ..Self::new(403, "Forbidden", what) }
    }

    pub(crate) fn forbidden_path(why: &str) -> Self {
        Self {
            details: Some(json!({})),
            ..Self::new(403, "Forbidden", format!("forbidden: {why}"))
        }
    }

    /// An answer in a form that it cannot have.
    pub(crate) fn wrong_form(form: &str, what: &str, kind: &str) -> Self {
        let message = format!("you requested {form}, but the requested object is {what} ({kind})");
        Self::new(406, "NotAcceptable", message)
    }

    pub(crate) fn no_such_method() -> Self {
        Self {
            details: Some(json!({})),
            ..Self::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource".into(),
            )
        }
    }

    /// Options with a value that does not exist.
    pub(crate) fn bad_option(kind: &str, error: FieldError) -> Self {
        Self::invalid("meta.k8s.io", kind, "", &[error])
    }

    /// A patch that cannot be applied to the object as it is.
    pub(crate) fn patch_failed() -> Self {
        Self {
            details: Some(json!({})),
            ..Self::new(
                422,
                "Invalid",
                "the server rejected our request due to an error in our request".into(),
            )
        }
    }

    /// A patch in a form that the resource does not take. One without a body is refused later, for the
    /// form of its answer.
    pub(crate) fn unknown_patch(empty: bool) -> Self {
        if empty {
            return Self::no_representation("");
        }
        Self {
            details: Some(json!({})),
            ..Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type".into())
        }
    }

    pub(crate) fn not_acceptable(accepted: &str) -> Self {
        Self::new(
            406,
            "NotAcceptable",
            format!("only the following media types are accepted: {accepted}"),
        )
    }

    /// None of the media types that the client takes is one of ours.
    pub(crate) fn no_representation(available: &str) -> Self {
        Self {
            details: Some(json!({})),
            ..Self::new(
                406,
                "NotAcceptable",
                format!("406: Not Acceptable\n\nAvailable representations: {available}"),
            )
        }
    }

    pub(crate) fn unsupported_media_type(supported: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {supported}"
            ),
        )
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// A revision that is no longer known.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message.into())
    }

    /// A revision that is not known yet.
    pub(crate) fn too_large_revision(asked: u64, current: u64) -> Self {
        Self {
            details: Some(
                json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1}),
            ),
            retry_after: Some(1),
            ..Self::new(
                504,
                "Timeout",
                format!("Timeout: Too large resource version: {asked}, current: {current}"),
            )
        }
    }

    pub(crate) fn too_many_requests(message: &str, seconds: u32) -> Self {
        Self {
            details: Some(json!({"retryAfterSeconds": seconds})),
            retry_after: Some(seconds),
            ..Self::new(429, "TooManyRequests", message.into())
        }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(503, "ServiceUnavailable", message.into()) }
    }

    /// Something that whoever was asked does not do.
    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(501, "NotImplemented", message.into())
    }

    pub(crate) fn internal(message: &str) -> Self {
        Self {
            details: Some(json!({"causes": [{"message": message}]})),
            ..Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
        }
    }

    /// An error that Kubernetes hands on as it came, without a reason.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self::new(500, "", message.into())
    }

    /// A configuration that is not of the type that it is applied as.
    pub(crate) fn untyped(what: &str, errors: &[String]) -> Self {
        Self::plain(format!("failed to create typed patch object {what}: {}", together(errors)))
    }

    /// An object that has what another version does not.
    pub(crate) fn unconverted(errors: &[String]) -> Self {
        Self::plain(format!("failed to convert new object: {}", together(errors)))
    }

    /// A patch whose result is no object of the kind. `shown`: the result, or the patch.
    pub(crate) fn patched_wrongly(shown: &str, why: &str) -> Self {
        let e = FieldError::invalid("patch", &Value::String(shown.to_owned()), why);
        let message = format!(" \"\" is invalid: {e}");
        let causes = json!([{"reason": e.reason, "message": e.message, "field": e.field}]);
        Self { details: Some(json!({"causes": causes})), ..Self::new(422, "Invalid", message) }
    }

    /// Server-side apply found fields of other managers.
    pub(crate) fn apply_conflict(message: String, causes: Vec<Value>) -> Self {
        Self { details: Some(json!({"causes": causes})), ..Self::new(409, "Conflict", message) }
    }

    /// The answer's body.
    pub(crate) fn to_value(&self) -> Value {
        let mut v = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            v["reason"] = self.reason.into();
        }
        if let Some(next) = &self.next {
            v["metadata"]["continue"] = (&**next).into();
        }
        if let Some(d) = &self.details {
            v["details"] = d.clone();
        }
        v
    }
}

impl From<crate::store::WriteError> for Status {
    fn from(e: crate::store::WriteError) -> Self {
        match e {
            crate::store::WriteError::Closed => Self::unavailable("the server is shutting down"),
            crate::store::WriteError::Full => Self {
                details: Some(
                    json!({"causes": [{"reason": "DiskFull", "message": e.to_string()}]}),
                ),
                ..Self::new(
                    507,
                    "InsufficientStorage",
                    format!("{e}: make room on it; reading goes on meanwhile"),
                )
            },
            e => Self::internal(&e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_those_of_kubernetes() {
        let pods = GroupResource { group: "", resource: "pods" };
        let deployments = GroupResource { group: "apps", resource: "deployments" };
        assert_eq!(Status::not_found(pods, "a").message, "pods \"a\" not found");
        assert_eq!(
            Status::already_exists(deployments, "a").message,
            "deployments.apps \"a\" already exists"
        );
        let e = [FieldError::required("spec.containers", "")];
        assert_eq!(
            Status::invalid("", "Pod", "a", &e).message,
            "Pod \"a\" is invalid: spec.containers: Required value"
        );
        let e = [
            FieldError::required("spec.selector", ""),
            FieldError::unsupported("spec.type", &json!("X"), &["A", "B"]),
        ];
        assert_eq!(
            Status::invalid("apps", "Deployment", "a", &e).message,
            "Deployment.apps \"a\" is invalid: [spec.selector: Required value, spec.type: Unsupported value: \"X\": supported values: \"A\", \"B\"]"
        );
    }
}
