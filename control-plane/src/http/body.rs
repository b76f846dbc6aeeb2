//! Request bodies: reading them within limits, and objects from them.
//!
//! Owns: the size limit, content types, `fieldValidation`. Called by: the verbs that take a body.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Map, Value};

use super::json::{self, Parsed};
use super::protobuf;
use super::request::Query;
use super::status::Status;
use crate::registry::{Resource, schema};

/// The largest body that is read, as in Kubernetes.
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads a body.
///
/// # Errors
/// When it is too large, too slow or breaks off.
pub(crate) async fn read<B>(body: B) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > LIMIT as u64 {
        return Err(Status::too_large(LIMIT));
    }
    match tokio::time::timeout(PATIENCE, Limited::new(body, LIMIT).collect()).await {
        Ok(Ok(b)) => Ok(b.to_bytes()),
        Ok(Err(e)) if e.downcast_ref::<LengthLimitError>().is_some() => {
            Err(Status::too_large(LIMIT))
        }
        Ok(Err(_)) => Err(Status::bad_request("unable to read the request body: it broke off")),
        Err(_) => Err(Status::bad_request("unable to read the request body: it took too long")),
    }
}

/// What happens with fields that the schema does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Validation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// How a write is to be done.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) validation: Validation,
    /// Who the fields belong to afterwards.
    pub(crate) manager: String,
    /// Nobody was named as the manager; apply insists on a name.
    pub(crate) manager_unset: bool,
    /// Server-side apply takes fields from other managers.
    pub(crate) force: bool,
    /// This is a server-side apply: it keeps its own records.
    pub(crate) applying: bool,
}

impl WriteOptions {
    /// Reads the options of a query.
    ///
    /// # Errors
    /// When one has an unknown value.
    pub(crate) fn read(query: &Query, headers: &HeaderMap) -> Result<Self, Status> {
        let mut dry_run = false;
        for v in query.all("dryRun").filter(|v| !v.is_empty()) {
            if v != "All" {
                return Err(Status::bad_request(format!(
                    "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"{v}\"]: supported values: \"All\""
                )));
            }
            dry_run = true;
        }
        let validation = match query.get("fieldValidation") {
            None | Some("Warn") => Validation::Warn,
            Some("Strict") => Validation::Strict,
            Some("Ignore") => Validation::Ignore,
            Some(v) => {
                return Err(Status::bad_request(format!(
                    "fieldValidation: Unsupported value: \"{v}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
                )));
            }
        };
        let manager = match query.get("fieldManager") {
            Some(m) if m.len() > 128 || m.chars().any(char::is_control) => {
                return Err(Status::bad_request(
                    "fieldManager: must be at most 128 printable characters".to_owned(),
                ));
            }
            Some(m) => m.to_owned(),
            None => manager_of(headers),
        };
        let manager_unset = query.get("fieldManager").is_none();
        let force = query.flag("force");
        Ok(Self { dry_run, validation, manager, manager_unset, force, applying: false })
    }
}

/// The first part of the user agent, as Kubernetes names managers that do not name themselves.
fn manager_of(headers: &HeaderMap) -> String {
    let agent =
        headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name: String = agent.split('/').next().unwrap_or_default().chars().take(128).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

fn content_type(headers: &HeaderMap) -> &str {
    let text =
        headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Reads one value: JSON, YAML or protobuf.
///
/// # Errors
/// When the type of the content is unknown or it does not parse.
pub(crate) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Parsed, Status> {
    match content_type(headers) {
        "" | "application/json" | "*/*" | "application/x-www-form-urlencoded" => parse_json(body),
        "application/yaml" => json::parse_yaml(body)
            .map_err(|e| Status::bad_request(format!("error parsing YAML: {e}"))),
        PROTOBUF => {
            let value = protobuf::decode(body)
                .map_err(|e| Status::bad_request(format!("error decoding protobuf: {e}")))?;
            Ok(Parsed { value, duplicates: Vec::new() })
        }
        _ => Err(Status::unsupported_media_type(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// Reads the options of a deletion; an empty body has none.
///
/// # Errors
/// As [`parse`].
pub(crate) fn options(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Status> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match parse(headers, body)?.value {
        Value::Object(m) => Ok(m),
        _ => Err(Status::bad_request("couldn't get version/kind; json parse error: not an object")),
    }
}

pub(crate) fn parse_json(body: &[u8]) -> Result<Parsed, Status> {
    json::parse(body).map_err(|e| {
        Status::bad_request(format!("couldn't get version/kind; json parse error: {e}"))
    })
}

/// Makes an object of the resource from a parsed body: kind, types and unknown fields are checked.
/// Returns warnings.
///
/// # Errors
/// When the body is another kind, a field has the wrong type, or strictness finds something.
pub(crate) fn object(
    resource: &Resource,
    parsed: &mut Parsed,
    validation: Validation,
) -> Result<Vec<String>, Status> {
    let Some(fields) = parsed.value.as_object_mut() else {
        return Err(Status::bad_request(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            schema::json_type(&parsed.value)
        )));
    };
    let api_version = resource.api_version();
    let kind = fields.get("kind").and_then(Value::as_str).unwrap_or_default();
    let version = fields.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if (!kind.is_empty() && kind != resource.kind)
        || (!version.is_empty() && version != api_version)
    {
        return Err(Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error",
            resource.kind, resource.kind
        )));
    }
    if resource.custom.is_some() && (kind.is_empty() || version.is_empty()) {
        return Err(Status::bad_request("Object 'Kind' is missing in the request body"));
    }
    fields.insert("kind".into(), resource.kind.as_str().into());
    fields.insert("apiVersion".into(), api_version.into());
    let mut problems: Vec<String> =
        parsed.duplicates.iter().map(|d| format!("duplicate field \"{d}\"")).collect();
    let unknown = check(resource, &mut parsed.value)?;
    problems.extend(unknown.into_iter().map(|u| format!("unknown field \"{u}\"")));
    match validation {
        Validation::Ignore => Ok(Vec::new()),
        Validation::Warn => Ok(problems),
        Validation::Strict if problems.is_empty() => Ok(problems),
        Validation::Strict => Err(Status::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
            resource.kind,
            resource.version,
            resource.kind,
            problems.join(", ")
        ))),
    }
}

/// Checks types and drops unknown fields, whose paths are returned.
///
/// # Errors
/// When a field has the wrong type.
pub(crate) fn check(resource: &Resource, value: &mut Value) -> Result<Vec<String>, Status> {
    let bad = |e: schema::Mismatch| {
        Status::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: {e}",
            resource.kind, resource.version, resource.kind
        ))
    };
    let mut unknown = Vec::new();
    if let Some(ty) = resource.schema {
        unknown = schema::decode(ty, value).map_err(bad)?;
    }
    if let Some(custom) = &resource.custom {
        custom.schema.prune(value, "", true, &mut unknown);
        custom.schema.fill(value);
        // The metadata of custom kinds is typed, too.
        let meta = schema::schemas().find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        if let (Some(meta), Some(m)) = (meta, value.get_mut("metadata")) {
            let more = schema::decode(meta, m).map_err(bad)?;
            unknown.extend(more.into_iter().map(|u| format!("metadata.{u}")));
        }
    }
    Ok(unknown)
}
