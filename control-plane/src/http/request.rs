//! A request taken apart: path, query, what the client wants back.
//!
//! Owns: the grammar of API paths and of the `Accept` header. Called by: the router.
//! Never: decides whether something exists or is allowed.

use http::HeaderMap;

use super::status::Status;

/// Query parameters, decoded, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: &str) -> Self {
        let pairs = raw.split('&').filter(|p| !p.is_empty()).map(|p| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (decode(k, true), decode(v, true))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// Whether a switch is on: everything but `false` and `0` is on, as in Kubernetes.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let first = self.0.iter().find(|(k, _)| k == name);
        first.is_some_and(|(_, v)| v != "0" && !v.eq_ignore_ascii_case("false"))
    }

    /// A number.
    ///
    /// # Errors
    /// When it is there and is not one.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let bad = |e: std::num::ParseIntError| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let why = match e.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Status::bad_request(format!("strconv.ParseInt: parsing \"{text}\": {why}"))
        };
        text.parse().map(Some).map_err(bad)
    }
}

/// Percent-decodes; what is not valid stays as it is. `+` is a space in queries.
pub(crate) fn decode(text: &str, query: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |b: u8| char::from(b).to_digit(16);
        match bytes[i] {
            b'%' if i + 2 < bytes.len() => {
                if let (Some(h), Some(l)) = (hex(bytes[i + 1]), hex(bytes[i + 2])) {
                    out.push(u8::try_from(h * 16 + l).unwrap_or_default());
                    i += 3;
                    continue;
                }
                out.push(b'%');
            }
            b'+' if query => out.push(b' '),
            b => out.push(b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a path points at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    /// `status`, or with more behind it `proxy/a/b`.
    pub(crate) subresource: String,
    /// The old form `/api/v1/watch/pods`.
    pub(crate) watch: bool,
}

/// Takes an API path apart; none when it is not that of a resource.
pub(crate) fn target(path: &str) -> Option<Target> {
    let mut parts: Vec<String> =
        path.trim_matches('/').split('/').map(|p| decode(p, false)).collect();
    let mut t = Target::default();
    match parts.first()?.as_str() {
        "api" if parts.len() >= 3 => {
            t.version = parts.remove(1);
            parts.remove(0);
        }
        "apis" if parts.len() >= 4 => {
            t.group = parts.remove(1);
            t.version = parts.remove(1);
            parts.remove(0);
        }
        _ => return None,
    }
    if parts.first().is_some_and(|p| p == "watch") && parts.len() > 1 {
        t.watch = true;
        parts.remove(0);
    }
    // `namespaces/x/pods` is in a namespace; `namespaces/x` and `namespaces/x/status` are about one.
    if parts[0] == "namespaces"
        && parts.len() > 2
        && !matches!(parts[2].as_str(), "status" | "finalize")
    {
        t.namespace = parts.remove(1);
        parts.remove(0);
    }
    let mut parts = parts.into_iter();
    t.resource = parts.next()?;
    t.name = parts.next().unwrap_or_default();
    t.subresource = parts.collect::<Vec<_>>().join("/");
    Some(t)
}

/// The form in which the client wants the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects.
    Plain,
    /// `as=Table`.
    Table,
    /// `as=PartialObjectMetadata`.
    Metadata,
    /// `as=PartialObjectMetadataList`.
    MetadataList,
}

/// What of `Accept` we can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) yaml: bool,
}

const SERVED: &str = "application/json, application/yaml";

/// Chooses the form that the client wants most among those that we can serve.
///
/// # Errors
/// 406 when there is none.
pub(crate) fn accept(headers: &HeaderMap) -> Result<Accept, Status> {
    accept_of(headers, true)
}

/// As [`accept`], for what may have no form of a table.
///
/// # Errors
/// 406 when there is none.
pub(crate) fn accept_of(headers: &HeaderMap, tables: bool) -> Result<Accept, Status> {
    let texts = headers.get_all(http::header::ACCEPT).iter();
    let texts: Vec<&str> = texts.map(|h| h.to_str().unwrap_or_default()).collect();
    let mut entries: Vec<&str> = texts.iter().flat_map(|t| t.split(',')).collect();
    if entries.is_empty() {
        return Ok(Accept { form: Form::Plain, yaml: false });
    }
    // The sort is stable: what is wanted alike is tried in the order of the header.
    entries.sort_by(|a, b| quality(b).total_cmp(&quality(a)));
    let mut media = false;
    for entry in entries {
        let mut params = entry.split(';').map(str::trim);
        let yaml = match params.next().unwrap_or_default() {
            "" | "*/*" | "application/*" | "application/json" => false,
            "application/yaml" => true,
            _ => continue,
        };
        media = true;
        if let Some(form) = form(params).filter(|f| tables || *f != Form::Table) {
            return Ok(Accept { form, yaml });
        }
    }
    Err(if media { Status::not_acceptable(SERVED) } else { Status::no_representation(SERVED) })
}

/// How much the client wants an entry, from 0 to 1.
fn quality(entry: &str) -> f64 {
    let mut params = entry.split(';').skip(1).filter_map(|p| p.split_once('='));
    let q = params.find(|(k, _)| k.trim() == "q").and_then(|(_, v)| v.trim().parse().ok());
    q.filter(|q: &f64| q.is_finite()).unwrap_or(1.0)
}

/// The form that the parameters of an entry name; none if we do not know it.
fn form<'a>(params: impl Iterator<Item = &'a str>) -> Option<Form> {
    let (mut form, mut known) = (Form::Plain, true);
    for p in params {
        match p.split_once('=').map(|(k, v)| (k.trim(), v.trim())) {
            Some(("as", "Table")) => form = Form::Table,
            Some(("as", "PartialObjectMetadata")) => form = Form::Metadata,
            Some(("as", "PartialObjectMetadataList")) => form = Form::MetadataList,
            Some(("as", _)) => known = false,
            Some(("g", g)) => known &= g == "meta.k8s.io",
            Some(("v", v)) => known &= v == "v1",
            _ => {}
        }
    }
    known.then_some(form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn paths_come_apart() {
        let t = |p: &str| {
            target(p).map(|t| {
                [t.group, t.version, t.namespace, t.resource, t.name, t.subresource].join("|")
            })
        };
        assert_eq!(t("/api/v1/pods").unwrap(), "|v1||pods||");
        assert_eq!(t("/api/v1/namespaces/a").unwrap(), "|v1||namespaces|a|");
        assert_eq!(t("/api/v1/namespaces/a/status").unwrap(), "|v1||namespaces|a|status");
        assert_eq!(t("/api/v1/namespaces/a/pods/b/log").unwrap(), "|v1|a|pods|b|log");
        assert_eq!(t("/apis/apps/v1/namespaces/a/deployments").unwrap(), "apps|v1|a|deployments||");
        assert_eq!(
            t("/apis/rbac/v1/clusterroles/system%3Anode").unwrap(),
            "rbac|v1||clusterroles|system:node|"
        );
        assert_eq!(t("/apis/apps/v1"), None);
        assert_eq!(t("/version"), None);
    }

    #[test]
    fn the_first_form_we_know_is_taken() {
        let a = |s: &'static str| {
            let mut h = HeaderMap::new();
            h.insert("accept", HeaderValue::from_static(s));
            accept(&h)
        };
        assert_eq!(
            a("application/json;as=Table;v=v1;g=meta.k8s.io,application/json").unwrap().form,
            Form::Table
        );
        assert_eq!(
            a("application/json;as=Table;v=v9;g=meta.k8s.io,application/json").unwrap().form,
            Form::Plain
        );
        assert_eq!(
            a("application/vnd.kubernetes.protobuf,application/json").unwrap().form,
            Form::Plain
        );
        assert_eq!(a("application/vnd.kubernetes.protobuf").unwrap_err().code, 406);
        assert!(accept(&HeaderMap::new()).is_ok());
        assert!(a("application/json;q=0.1,application/yaml").unwrap().yaml);
        assert!(!a("application/json;q=0.2,application/yaml;q=0.1").unwrap().yaml);
        assert!(a("application/json;as=Foo,application/yaml;q=0").unwrap().yaml);
        assert_eq!(
            a("text/html").unwrap_err().message,
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml"
        );
        assert_eq!(
            a("application/json;as=Foo").unwrap_err().message,
            "only the following media types are accepted: application/json, application/yaml"
        );
    }

    #[test]
    fn queries_are_decoded() {
        let q = Query::parse("labelSelector=a%3Db%2Cc&x=1+2&limit=-x&watch=true&bad=%zz");
        assert_eq!(q.get("labelSelector"), Some("a=b,c"));
        assert_eq!(q.get("x"), Some("1 2"));
        assert_eq!(q.get("bad"), Some("%zz"));
        assert!(q.flag("watch"));
        assert!(q.number("limit").is_err());
    }
}
