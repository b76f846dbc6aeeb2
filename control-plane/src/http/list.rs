//! list
//!
//! Owns: selection, limit and continue, the rules of `resourceVersion`. Called by: the router, watch.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Value, json};

use super::json::in_gos_words;
use super::request::Query;
use super::status::{FieldError, Status};
use crate::plane::Plane;
use crate::registry::Resource;
use crate::registry::selectors::{FieldSelector, LabelSelector, Selection};
use crate::store::{Snapshot, Stored};

/// Objects with their keys.
pub(crate) type Objects = Vec<(Box<str>, Arc<Stored>)>;

/// A page of a list.
pub(crate) struct Page {
    pub(crate) revision: u64,
    pub(crate) objects: Objects,
    pub(crate) next: Option<String>,
    pub(crate) remaining: Option<usize>,
}

/// What a list or watch asks for.
#[derive(Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) selection: Selection,
    pub(crate) limit: usize,
    next: Option<Token>,
    pub(crate) revision: Option<u64>,
    pub(crate) exact: bool,
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// As of when; none is as of now.
    revision: Option<u64>,
    start: String,
}

/// Base64 as Go reads it: what is left of the last letter does not matter.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
);

fn invalid_token(why: &str) -> Status {
    Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
}

impl Token {
    pub(crate) fn encode(&self) -> String {
        let revision = self.revision.map_or(-1, u64::cast_signed);
        let text = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": self.start}).to_string();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads a token that a client sends.
    ///
    /// # Errors
    /// When it is not one of ours.
    pub(crate) fn decode(text: &str) -> Result<Self, Status> {
        use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength};
        let raw = LENIENT.decode(text).map_err(|e| {
            let at = match e {
                InvalidByte(at, _) | InvalidLastSymbol(at, _) => at,
                InvalidLength(len) => len.saturating_sub(len % 4),
                _ => 0,
            };
            invalid_token(&format!("illegal base64 data at input byte {at}"))
        })?;
        let readable = String::from_utf8_lossy(&raw);
        let v: Value = serde_json::from_str(&readable).map_err(|e| {
            let whole = serde_json::from_slice::<Value>(&raw).err();
            invalid_token(&in_gos_words(whole.as_ref().unwrap_or(&e), &raw))
        })?;
        let version = v["v"].as_str().unwrap_or_default();
        if version != "meta.k8s.io/v1" {
            let why = format!("server does not recognize this encoded version {version}");
            return Err(invalid_token(&why));
        }
        match (v["rv"].as_i64(), v["start"].as_str()) {
            (_, Some(start)) if start.is_empty() || start.split('/').any(|p| p == "..") => {
                Err(invalid_token(start))
            }
            (Some(0), _) => Err(invalid_token(
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            )),
            (Some(revision), Some(start)) => {
                // What is below zero goes on as of now, as in Kubernetes.
                Ok(Self { revision: u64::try_from(revision).ok(), start: start.to_owned() })
            }
            _ => Err(invalid_token("it is not one that this server returned")),
        }
    }
}

/// Reads the selectors of a query.
///
/// # Errors
/// When one does not parse, or names a field that cannot be selected by.
pub(crate) fn selection(resource: &Resource, query: &Query) -> Result<Selection, Status> {
    let (l, f) = (
        query.get("labelSelector").unwrap_or_default(),
        query.get("fieldSelector").unwrap_or_default(),
    );
    let labels = LabelSelector::parse(l).map_err(Status::bad_request)?;
    let fields = FieldSelector::parse(f).map_err(Status::bad_request)?;
    if let Some(bad) = fields.fields().find(|f| !resource.selects_by(f)) {
        if resource.strategy.fields.is_empty() && resource.custom.is_none() {
            return Err(Status::bad_request(format!(
                "\"{bad}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )));
        }
        return Err(Status::bad_request(if resource.table.as_ref() == "batch/jobs" {
            format!("field label \"{bad}\" not supported for Job")
        } else {
            format!("field label not supported: {bad}")
        }));
    }
    Ok(Selection { labels, fields })
}

/// What Go says of a text that is no number.
pub(crate) fn unread_number(text: &str, e: &std::num::ParseIntError) -> String {
    let why = match e.kind() {
        std::num::IntErrorKind::PosOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.ParseUint: parsing \"{text}\": {why}")
}

/// Reads a revision of a query.
///
/// # Errors
/// When it is not a number.
pub(crate) fn revision(query: &Query) -> Result<Option<u64>, Status> {
    let Some(text) = query.get("resourceVersion") else { return Ok(None) };
    text.parse().map(Some).map_err(|e: std::num::ParseIntError| {
        let why = unread_number(text, &e);
        let e = FieldError::invalid("resourceVersion", &json!(text), &why);
        Status::bad_request(format!("invalid resource version: {e}"))
    })
}

/// A revision that is no number, where Kubernetes finds it too late for it to be the client's fault.
pub(crate) fn found_late(e: Status) -> Status {
    Status::plain(e.message.trim_start_matches("invalid resource version: "))
}

/// What contradicts itself in the options of a list.
fn contradictions(query: &Query, continues: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let version = query.get("resourceVersion");
    if let Some(how) = query.get("resourceVersionMatch") {
        let field = "resourceVersionMatch";
        if version.is_none() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(field, why));
        }
        if continues {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(field, why));
        }
        if !matches!(how, "Exact" | "NotOlderThan") {
            let known = ["Exact", "NotOlderThan", ""];
            errors.push(FieldError::unsupported(field, &json!(how), &known));
        } else if how == "Exact" && version == Some("0") {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(field, why));
        }
    }
    if query.has("sendInitialEvents") {
        let why = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden("sendInitialEvents", why));
    }
    errors
}

impl ListOptions {
    /// Reads the options of a query.
    ///
    /// # Errors
    /// When they do not parse or contradict each other.
    pub(crate) fn read(resource: &Resource, query: &Query) -> Result<Self, Status> {
        let selection = selection(resource, query)?;
        let limit = query.number("limit")?.unwrap_or(0);
        query.number("timeoutSeconds")?;
        let errors = contradictions(query, query.get("continue").is_some());
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors));
        }
        let next = query.get("continue").map(Token::decode).transpose()?;
        let mut revision = revision(query)?;
        let exact = match query.get("resourceVersionMatch") {
            None => limit > 0 && revision.is_some_and(|r| r > 0),
            how => how == Some("Exact"),
        };
        if next.is_some() {
            if revision.is_some_and(|r| r > 0) {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            revision = None;
        }
        // Any state will do: Kubernetes then answers from its memory, and with all of it.
        let whole = revision == Some(0) && next.is_none();
        let limit = if whole { 0 } else { usize::try_from(limit).unwrap_or(0) };
        Ok(Self { selection, limit, next, revision, exact })
    }
}

/// The prefix of the keys in a namespace; all namespaces if it is empty.
pub(crate) fn prefix(resource: &Resource, namespace: &str) -> String {
    if resource.namespaced && !namespace.is_empty() {
        format!("{namespace}/")
    } else {
        String::new()
    }
}

/// How long a list waits for a revision that is not known yet.
const PATIENCE: Duration = Duration::from_secs(3);

/// Waits until a revision is known.
///
/// # Errors
/// When it is not after a while: it is from another server, or made up.
pub(crate) async fn wait_for(plane: &Plane, revision: u64) -> Result<(), Status> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while plane.store.revision() < revision {
        if tokio::time::Instant::now() >= deadline {
            return Err(Status::too_large_revision(revision, plane.store.revision()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Lists a page.
///
/// # Errors
/// When the revision asked for is too new or too old.
pub(crate) async fn list(
    plane: &Plane,
    resource: &Resource,
    namespace: &str,
    options: &ListOptions,
) -> Result<Page, Status> {
    if let Some(r) = options.revision {
        wait_for(plane, r).await?;
    }
    let now = plane.store.revision();
    let continued = options.next.as_ref().and_then(|t| t.revision);
    if let Some(r) = continued.filter(|r| *r > now) {
        return Err(Status::too_large_revision(r, now));
    }
    let prefix = prefix(resource, namespace);
    let after = options.next.as_ref().map(|t| t.start.as_str());
    let at = continued.or(options.revision.filter(|_| options.exact));
    let snapshot = match at {
        None => plane.store.list(&resource.table, &prefix, after),
        Some(r) => plane.store.list_at(&resource.table, &prefix, after, r).map_err(|_| {
            if let Some(t) = &options.next {
                let next = Token { revision: None, start: t.start.clone() }.encode();
                let expired = Status::expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.");
                Status { next: Some(next.into()), ..expired }
            } else {
                Status::expired("The resourceVersion for the provided list is too old.".to_owned())
            }
        })?,
    };
    Ok(page(resource, snapshot, options))
}

fn page(resource: &Resource, snapshot: Snapshot, options: &ListOptions) -> Page {
    let Snapshot { revision, mut objects } = snapshot;
    let everything = options.selection.is_everything();
    if options.limit == 0 {
        if !everything {
            objects.retain(|(_, o)| selected(resource, o, &options.selection));
        }
        return Page { revision, objects, next: None, remaining: None };
    }
    let mut out = Vec::with_capacity(options.limit.min(objects.len()));
    let mut rest = objects.into_iter();
    while out.len() < options.limit {
        match rest.next() {
            Some((k, o)) if everything || selected(resource, &o, &options.selection) => {
                out.push((k, o))
            }
            Some(_) => {}
            None => return Page { revision, objects: out, next: None, remaining: None },
        }
    }
    let left = rest.len();
    let next = match (out.last(), left) {
        (Some((last, _)), 1..) => {
            Some(Token { revision: Some(revision), start: last.to_string() }.encode())
        }
        _ => None,
    };
    let remaining = next.as_ref().filter(|_| everything).map(|_| left);
    Page { revision, objects: out, next, remaining }
}

/// Whether a selection selects an object.
pub(crate) fn selected(resource: &Resource, object: &Stored, selection: &Selection) -> bool {
    let s = object.selectable.get_or_init(|| Box::new(resource.selectable(&object.value())));
    selection.matches(s)
}

/// All objects of a namespace (or of all) that a selection selects, as of now.
pub(crate) fn matching(
    plane: &Plane,
    resource: &Resource,
    namespace: &str,
    selection: &Selection,
) -> Objects {
    let mut objects = plane.store.list(&resource.table, &prefix(resource, namespace), None).objects;
    if !selection.is_everything() {
        objects.retain(|(_, o)| selected(resource, o, selection));
    }
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_tokens_are_refused() {
        for revision in [Some(7), None] {
            let t = Token { revision, start: "default/a".into() };
            assert_eq!(Token::decode(&t.encode()).unwrap(), t);
        }
        for bad in [
            "",
            "x",
            "e30",
            "!!",
            &base64::engine::general_purpose::URL_SAFE_NO_PAD
                .encode("{\"v\":\"meta.k8s.io/v1\",\"rv\":1,\"start\":\"../../x\"}"),
            &base64::engine::general_purpose::URL_SAFE_NO_PAD
                .encode("{\"v\":\"meta.k8s.io/v1\",\"rv\":0,\"start\":\"a/b\"}"),
        ] {
            assert_eq!(Token::decode(bad).unwrap_err().code, 400, "{bad}");
        }
        // What a kube-apiserver 1.33 said.
        let why = "continue key is not valid: invalid character 'Ç' looking for beginning of value";
        assert_eq!(
            Token::decode("xyz").unwrap_err().message,
            format!("invalid continue token: {why}")
        );
    }
}
