//! Request bodies: reading them within limits, and objects from them.
//!
//! Owns: the size limit, content types, `fieldValidation`. Called by: the verbs that take a body.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Map, Value, json};

use super::json::{
    Parsed, Surplus, in_gos_words, in_order, parse_typed, parse_yaml, whole_escapes, with_integers,
};
use super::protobuf;
use super::request::Query;
use super::status::{FieldError, Status};
use crate::registry::{Part, Resource, decode, meta, schema, zeros};

/// The largest body that is read, as in Kubernetes.
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;
/// How much of a body that is too large is read and thrown away, and for how long.
const DISCARDED: usize = 16 * 1024 * 1024;
const DISCARDING: Duration = Duration::from_secs(5);

/// Reads a body, which has to be there within a time.
///
/// # Errors
/// When it is too large, too slow or breaks off.
pub(crate) async fn read<B>(body: B, within: Duration) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    if body.size_hint().lower() > LIMIT as u64 {
        discard(body).await;
        return Err(Status::too_large(LIMIT));
    }
    match tokio::time::timeout(within, Limited::new(body.as_mut(), LIMIT).collect()).await {
        Ok(Ok(b)) => Ok(b.to_bytes()),
        Ok(Err(e)) if e.downcast_ref::<LengthLimitError>().is_some() => {
            discard(body).await;
            Err(Status::too_large(LIMIT))
        }
        Ok(Err(_)) => Err(Status::bad_request("unable to read the request body: it broke off")),
        Err(_) => Err(Status::bad_request("unable to read the request body: it took too long")),
    }
}

/// Reads on for a while without keeping anything: a client that is still sending would lose the
/// answer if the connection were closed at once.
async fn discard<B>(mut body: std::pin::Pin<&mut B>)
where
    B: http_body::Body<Data = Bytes>,
{
    let mut left = DISCARDED;
    let rest = async {
        while let Some(Ok(frame)) = body.as_mut().frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARDING, rest).await;
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
    /// What is applied, as it was sent: also what an object does not keep of it belongs to who applied it.
    pub(crate) claimed: Option<Arc<Value>>,
    /// It is a write of the scale, and recorded as such.
    pub(crate) scaling: bool,
    /// What the writer is told of what was written.
    pub(crate) told: Told,
}

/// Warnings that come up while an object is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<parking_lot::Mutex<Vec<String>>>);

impl Told {
    /// Replaces them: a change may be tried more than once.
    pub(crate) fn set(&self, warnings: Vec<String>) {
        *self.0.lock() = warnings;
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl WriteOptions {
    /// What records of ownership call the part of an object that is written.
    pub(crate) fn subresource(&self, part: Part) -> &'static str {
        if self.scaling { "scale" } else { part.subresource() }
    }

    /// What the options of a method are called.
    fn kind(method: &Method) -> &'static str {
        match *method {
            Method::PATCH => "PatchOptions",
            Method::PUT => "UpdateOptions",
            _ => "CreateOptions",
        }
    }

    /// Reads the options of a query.
    ///
    /// # Errors
    /// When one has an unknown value.
    pub(crate) fn read(
        method: &Method,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<Self, Status> {
        let dry: Vec<&str> = query.all("dryRun").collect();
        let dry_run = !dry.is_empty();
        let unsupported = |field: &str, value: String, supported: &str| {
            let message = format!("Unsupported value: {value}: supported values: {supported}");
            let field = field.to_owned();
            Status::bad_option(
                Self::kind(method),
                FieldError { reason: "FieldValueNotSupported", field, message },
            )
        };
        if dry.iter().any(|v| *v != "All") {
            let shown: Vec<String> = dry.iter().map(|v| format!("{v:?}")).collect();
            let shown = format!("[]string{{{}}}", shown.join(", "));
            return Err(unsupported("dryRun", shown, "\"All\""));
        }
        let validation = match query.get("fieldValidation") {
            None | Some("Warn") => Validation::Warn,
            Some("Strict") => Validation::Strict,
            Some("Ignore") => Validation::Ignore,
            Some(v) => {
                let supported = "\"\", \"Ignore\", \"Strict\", \"Warn\"";
                return Err(unsupported("fieldValidation", format!("{v:?}"), supported));
            }
        };
        let named = query.get("fieldManager");
        if let Some(e) = named.and_then(wrong_manager) {
            return Err(Status::bad_option(Self::kind(method), e));
        }
        let manager = named.map_or_else(|| manager_of(headers), str::to_owned);
        let manager_unset = query.get("fieldManager").is_none();
        let force = query.flag("force");
        Ok(Self {
            dry_run,
            validation,
            manager,
            manager_unset,
            force,
            applying: false,
            claimed: None,
            scaling: false,
            told: Told::default(),
        })
    }
}

/// What is wrong with the name of a field manager.
fn wrong_manager(name: &str) -> Option<FieldError> {
    if name.len() > 128 {
        return Some(FieldError::too_long("fieldManager", 128));
    }
    let (at, c) = name.char_indices().find(|(_, c)| c.is_control())?;
    let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
    Some(FieldError::invalid("fieldManager", &name.into(), &why))
}

/// The first part of the user agent, as Kubernetes names managers that do not name themselves.
fn manager_of(headers: &HeaderMap) -> String {
    let agent =
        headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name: String = agent.split('/').next().unwrap_or_default().chars().take(128).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// The type of the content; none if it is said in no form that there is.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let Some(said) = headers.get(http::header::CONTENT_TYPE) else { return Some(String::new()) };
    let mut parts = said.to_str().ok()?.split(';');
    let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let parameters: Vec<&str> = parts.map(str::trim).collect();
    // The last one may be missing behind its semicolon.
    let last = parameters.len().saturating_sub(1);
    let good = |(i, p): (usize, &&str)| match p.split_once('=') {
        Some((k, v)) => !k.is_empty() && !v.is_empty(),
        None => i == last && p.is_empty(),
    };
    parameters.iter().enumerate().all(good).then_some(media)
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Reads one value: JSON, YAML or protobuf.
///
/// # Errors
/// When the type of the content is unknown or it does not parse.
pub(crate) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Parsed, Status> {
    match content_type(headers).as_deref() {
        Some("" | "application/json") => parse_json(body),
        Some("application/yaml") => {
            parse_yaml(body).map_err(|e| Status::bad_request(format!("{e} ({})", beginning(body))))
        }
        Some(PROTOBUF) => {
            let value = protobuf::decode(body).map_err(|e| match e {
                protobuf::Error::Magic | protobuf::Error::Empty => {
                    Status::bad_request(format!("{e} ({})", beginning(body)))
                }
                e => Status::bad_request(format!("error decoding protobuf: {e}")),
            })?;
            Ok(value.into())
        }
        _ => Err(Status::unsupported_media_type(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// How much of a body an error text repeats.
const SHOWN_AT_MOST: usize = 1024;

/// Reads one value that is to be an object of the resource.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_as(
    resource: &Resource,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Parsed, Status> {
    let parsed = parse(headers, body).map_err(|mut s| {
        let plain = ["couldn't get version/kind", "yaml: ", "provided data ", "empty body"];
        if plain.iter().any(|start| s.message.starts_with(start)) {
            s.message = unrecognized(resource, &s.message);
        }
        s
    })?;
    if resource.custom.is_some()
        && parsed.value.is_object()
        && meta::text(&parsed.value, "/kind").is_empty()
    {
        // Of a long one the beginning is enough.
        let all = String::from_utf8_lossy(&body[..body.len().min(SHOWN_AT_MOST)]);
        let start = beginning(body);
        let why = format!("Object 'Kind' is missing in '{all}' ({start})");
        return Err(Status::bad_request(unrecognized(resource, &why)));
    }
    Ok(parsed)
}

fn unrecognized(resource: &Resource, why: &str) -> String {
    format!("the object provided is unrecognized (must be of type {}): {why}", resource.kind)
}

/// Reads the options of a deletion; an empty body has none.
///
/// # Errors
/// As [`parse`].
pub(crate) fn options(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Status> {
    const SCHEME: &str = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27";
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let mut value = parse(headers, body).map_err(|s| without_beginning(s, body))?.value;
    if value.is_null() {
        return Ok(Map::new());
    }
    if !value.is_object() {
        return Err(Status::plain(no_object(&value)));
    }
    let (kind, version) = (meta::text(&value, "/kind"), meta::text(&value, "/apiVersion"));
    if !matches!(kind, "" | "DeleteOptions") {
        let version = if version.is_empty() { "meta.k8s.io/v1" } else { version };
        return Err(Status::plain(format!(
            "no kind \"{kind}\" is registered for version \"{version}\" in scheme \"{SCHEME}\""
        )));
    }
    if let Some(ty) = schema::schemas().find("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions") {
        decode::decode(ty, &mut value).map_err(|e| Status::plain(e.to_string()))?;
    }
    match value {
        Value::Object(m) => Ok(m),
        _ => Ok(Map::new()),
    }
}

/// What is said of options that do not parse: they are no request's fault to Kubernetes.
fn without_beginning(mut s: Status, body: &[u8]) -> Status {
    if s.code == 400 {
        let end = format!(" ({})", beginning(body));
        s = Status::plain(s.message.strip_suffix(&end).unwrap_or(&s.message));
    }
    s
}

/// What Go says of a value that should have been an object.
pub(crate) fn no_object(value: &Value) -> String {
    format!(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
        decode::json_type(value)
    )
}

pub(crate) fn parse_json(body: &[u8]) -> Result<Parsed, Status> {
    // What is not UTF-8 is replaced, as Go's decoder does it.
    let readable = String::from_utf8_lossy(body);
    parse_typed(whole_escapes(&readable).as_bytes()).map_err(|e| {
        let why = in_gos_words(&e, body);
        Status::bad_request(format!(
            "couldn't get version/kind; json parse error: {why} ({})",
            beginning(body)
        ))
    })
}

/// The beginning of a body, for a person to know it again: text, or hexadecimal digits.
fn beginning(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let more = if body.len() > SHOWN { " ..." } else { "" };
    let start = &body[..body.len().min(SHOWN)];
    match start {
        [] => "<empty>".to_owned(),
        [b'{', ..] => format!("{}{more}", String::from_utf8_lossy(start)),
        _ => {
            let hex: String = start.iter().map(|b| format!("{b:02x}")).collect();
            format!("{hex}{more}")
        }
    }
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
    object_of(resource, parsed, validation, &[])
}

/// As [`object`]; what is wrong is told in the order of the text.
///
/// # Errors
/// As [`object`].
pub(crate) fn object_of(
    resource: &Resource,
    parsed: &mut Parsed,
    validation: Validation,
    text: &[u8],
) -> Result<Vec<String>, Status> {
    // To Go a null is an object without fields.
    if parsed.value.is_null() && resource.custom.is_none() {
        parsed.value = Value::Object(Map::new());
    }
    let Some(fields) = parsed.value.as_object_mut() else {
        let said = parsed.value.to_string();
        let text = if text.is_empty() { said.as_bytes() } else { text };
        let why = format!("{} ({})", no_object(&parsed.value), beginning(text));
        return Err(Status::bad_request(unrecognized(resource, &why)));
    };
    let mistyped = |f: &&str| fields.get(*f).is_some_and(|v| !v.is_string() && !v.is_null());
    if let Some(f) = ["apiVersion", "kind"].into_iter().find(mistyped) {
        let why = format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go struct field .{f} of type string ({})",
            decode::json_type(&fields[f]),
            beginning(parsed.value.to_string().as_bytes())
        );
        return Err(Status::bad_request(unrecognized(resource, &why)));
    }
    let api_version = resource.api_version();
    let kind = fields.get("kind").and_then(Value::as_str).unwrap_or_default();
    let version = fields.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version} ({})", beginning(text));
        return Err(Status::bad_request(unrecognized(resource, &why)));
    }
    let name = fields.get("metadata").and_then(|m| m["name"].as_str()).unwrap_or_default();
    if let Some(wrong) = another_kind(resource, kind, version, name) {
        return Err(wrong);
    }
    fields.insert("kind".into(), resource.kind.as_str().into());
    fields.insert("apiVersion".into(), api_version.into());
    // An empty list is not none here: it gives up all records.
    let reset = parsed.value.pointer("/metadata/managedFields").is_some_and(|m| *m == json!([]));
    let unknown = check(resource, &mut parsed.value)?;
    if reset {
        meta::metadata(&mut parsed.value).insert("managedFields".into(), json!([{}]));
    }
    let twice = parsed.duplicates.iter().map(|d| Surplus { path: d.clone(), twice: true });
    let unknown = unknown.into_iter().map(|path| Surplus { path, twice: false });
    let mut surplus: Vec<Surplus> = twice.chain(unknown).collect();
    if resource.custom.is_none() {
        in_order(&mut surplus, text);
    }
    let said = surplus.into_iter().map(|s| match s.twice {
        true => format!("duplicate field \"{}\"", s.path),
        false => format!("unknown field \"{}\"", s.path),
    });
    let problems: Vec<String> = parsed.warnings.iter().cloned().chain(said).collect();
    let mut owners: Vec<String> = meta::single_owners(&mut parsed.value).into_iter().collect();
    if resource.custom.is_some() {
        owners.extend(meta::unqualified_finalizers(&parsed.value));
    }
    match validation {
        Validation::Ignore => Ok(owners),
        Validation::Warn => Ok([problems, owners].concat()),
        Validation::Strict if problems.is_empty() => Ok(owners),
        Validation::Strict => Err(Status::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
            resource.kind,
            resource.version,
            resource.kind,
            problems.join(", ")
        ))),
    }
}

/// Says what a body is that is not of the resource's kind and version.
fn another_kind(resource: &Resource, kind: &str, version: &str, name: &str) -> Option<Status> {
    let expected = resource.api_version();
    if resource.custom.is_some() {
        return if kind.is_empty() {
            Some(Status::bad_request("Object 'Kind' is missing"))
        } else if version != expected {
            Some(Status::bad_request(format!(
                "the API version in the data ({version}) does not match the expected API version ({expected})"
            )))
        } else if kind != resource.kind {
            let why = format!("must be {}", resource.kind);
            let e = FieldError::invalid("kind", &kind.into(), &why);
            Some(Status::invalid(&resource.group, kind, name, &[e]))
        } else {
            None
        };
    }
    let wrong_kind = !kind.is_empty() && kind != resource.kind;
    let wrong_version = !version.is_empty() && version != expected;
    if !wrong_kind && !wrong_version {
        return None;
    }
    let kind = if kind.is_empty() { resource.kind.as_str() } else { kind };
    let version = if version.is_empty() { expected.as_str() } else { version };
    let plain = version.rsplit('/').next().unwrap_or_default();
    let package = |group: &str| match group.split('.').next().unwrap_or_default() {
        "" => "core".to_owned(),
        first => first.to_owned(),
    };
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let (ours, internal) = (&resource.kind, package(&resource.group));
    let has = |kind: &str| schema::schemas().has_kind(&package(group), plain, kind);
    // These are of every group, and `List` is of the oldest.
    let options = ["Get", "List", "Delete", "Create", "Update", "Patch"];
    let shared = matches!(kind, "Status" | "WatchEvent")
        || kind.strip_suffix("Options").is_some_and(|of| options.contains(&of))
        || (kind, version) == ("List", "v1");
    let known = has(kind) || kind.strip_suffix("List").is_some_and(has) || shared;
    let why = if !known {
        format!(
            "no kind \"{kind}\" is registered for version \"{version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        )
    } else {
        format!("converting ({plain}.{kind}) to ({internal}.{ours}): unknown conversion")
    };
    Some(Status::bad_request(format!(
        "{kind} in version \"{plain}\" cannot be handled as a {ours}: {why}"
    )))
}

/// Leaves out what says nothing, and fills in what Kubernetes fills in when it reads an object.
pub(crate) fn defaults(resource: &Resource, value: &mut Value) {
    if let Some(ty) = resource.schema {
        zeros::as_go_writes(ty, value);
    }
    (resource.strategy.default)(value);
    if let Some(custom) = &resource.custom {
        custom.schema.fill(value);
    }
}

/// Checks types and drops unknown fields, whose paths are returned. Fills in nothing: what somebody
/// applies is no more than what he says.
///
/// # Errors
/// When a field has the wrong type.
pub(crate) fn check(resource: &Resource, value: &mut Value) -> Result<Vec<String>, Status> {
    let bad = |e: decode::Mismatch| {
        Status::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: {e}",
            resource.kind, resource.version, resource.kind
        ))
    };
    let mut unknown = Vec::new();
    if let Some(ty) = resource.schema {
        unknown = decode::decode(ty, value).map_err(bad)?;
    }
    if let Some(custom) = &resource.custom {
        with_integers(value);
        custom.schema.prune(value, "", true, &mut unknown);
        unknown.sort();
        // The metadata of custom kinds is typed, too. It is read first, and that of what is embedded last.
        let meta = schema::schemas().find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        if let (Some(meta), Some(m)) = (meta, value.get_mut("metadata")) {
            let first = decode::decode(meta, m).map_err(bad)?;
            unknown.splice(0..0, first.into_iter().map(|u| format!("metadata.{u}")));
        }
        unknown.sort_by_key(|u| u.contains(".metadata."));
    }
    Ok(unknown)
}
