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
        // What Go cannot read it leaves out.
        let readable = |p: &&str| !p.is_empty() && !p.contains(';') && is_escaped(p);
        let pairs = raw.split('&').filter(readable).map(|p| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (decode(k, true), decode(v, true))
        });
        Self(pairs.collect())
    }

    /// Whether there is a parameter, be it empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(k, _)| k == name)
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
        let Some((_, text)) = self.0.iter().find(|(k, _)| k == name) else { return Ok(None) };
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

/// Whether all escapes of a text are some.
fn is_escaped(text: &str) -> bool {
    let mut escapes = text.split('%').skip(1).map(str::as_bytes);
    escapes.all(|e| e.iter().take(2).filter(|b| b.is_ascii_hexdigit()).count() == 2)
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
    // An escaped slash is one.
    let path = decode(path, false);
    let path = path.strip_prefix('/').unwrap_or(&path).trim_end_matches('/');
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
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
    /// Tables and metadata in the version of those that came before `v1`.
    pub(crate) beta: bool,
}

impl Accept {
    /// The objects in JSON.
    pub(crate) const PLAIN: Self = Self { form: Form::Plain, yaml: false, beta: false };
}

/// What an answer may be, besides an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// All that there is.
    All,
    /// No table.
    NoTable,
    /// A watch, which is JSON.
    Watch,
}

const SERVED: &str = "application/json, application/yaml";

/// Chooses the form that the client wants most among those that we can serve.
///
/// # Errors
/// 406 when there is none.
pub(crate) fn accept(headers: &HeaderMap) -> Result<Accept, Status> {
    accept_of(headers, Offer::All)
}

/// As [`accept`], for what may not have all forms.
///
/// # Errors
/// 406 when there is none.
pub(crate) fn accept_of(headers: &HeaderMap, offer: Offer) -> Result<Accept, Status> {
    let text = headers.get(http::header::ACCEPT).and_then(|h| h.to_str().ok()).unwrap_or_default();
    if text.is_empty() {
        return Ok(Accept::PLAIN);
    }
    // Kubernetes looks twice. At first a type is named in full, or all are.
    let types = || text.split(',').map(|e| e.split(';').next().unwrap_or_default().trim());
    if !types().any(|t| matches!(t, "*/*" | "application/json" | "application/yaml")) {
        return Err(Status::no_representation(SERVED));
    }
    let mut clauses: Vec<Clause> = text.split(',').filter_map(Clause::read).collect();
    // The sort is stable: what is wanted alike is tried in the order of the header.
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(a.vague().cmp(&b.vague())));
    for clause in &clauses {
        let media = match (clause.of, clause.sub) {
            ("application", "json") | ("application" | "*", "*") => Some(false),
            ("application", "yaml") if offer != Offer::Watch => Some(true),
            _ => None,
        };
        let formed =
            form(clause.params).filter(|(f, _)| *f != Form::Table || offer != Offer::NoTable);
        if let (Some(yaml), Some((form, beta))) = (media, formed) {
            return Ok(Accept { form, yaml, beta });
        }
    }
    Err(Status::not_acceptable(match offer {
        Offer::Watch => "application/json;stream=watch",
        _ => SERVED,
    }))
}

/// An entry of `Accept`.
struct Clause<'a> {
    of: &'a str,
    sub: &'a str,
    params: &'a str,
    quality: f64,
}

impl<'a> Clause<'a> {
    fn read(entry: &'a str) -> Option<Self> {
        let (media, params) = entry.split_once(';').unwrap_or((entry, ""));
        let (of, sub) = match media.trim().split_once('/') {
            Some((of, sub)) => (of.trim(), sub.trim()),
            None if media.trim() == "*" => ("*", "*"),
            None => return None,
        };
        let mut named = params.split(';').filter_map(|p| p.split_once('='));
        let quality = match named.find(|(k, _)| k.trim() == "q") {
            Some((_, v)) => v.trim().parse().ok().filter(|q: &f64| q.is_finite()).unwrap_or(0.0),
            None => 1.0,
        };
        Some(Self { of, sub, params, quality })
    }

    /// How little it says of the type: what says more comes first.
    fn vague(&self) -> (bool, bool) {
        (self.of == "*", self.sub == "*")
    }
}

/// The form that the parameters of an entry name, and whether in its beta version; none if we do not
/// know it.
fn form(params: &str) -> Option<(Form, bool)> {
    let (mut kind, mut group, mut version) = (None, None, None);
    for (k, v) in params.split(';').filter_map(|p| p.split_once('=')) {
        match k.trim() {
            "as" => kind = Some(v.trim()),
            "g" => group = Some(v.trim()),
            "v" => version = Some(v.trim()),
            "stream" if v.trim() != "watch" => return None,
            _ => {}
        }
    }
    let form = match (kind, group, version) {
        (None, None, None) => return Some((Form::Plain, false)),
        (Some("Table"), Some("meta.k8s.io"), _) => Form::Table,
        (Some("PartialObjectMetadata"), Some("meta.k8s.io"), _) => Form::Metadata,
        (Some("PartialObjectMetadataList"), Some("meta.k8s.io"), _) => Form::MetadataList,
        _ => return None,
    };
    matches!(version, Some("v1" | "v1beta1")).then_some((form, version == Some("v1beta1")))
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
        assert_eq!(t("/api/v1/namespaces/a/pods/b%2Fc").unwrap(), "|v1|a|pods|b|c");
        assert_eq!(t("//api/v1/pods"), None);
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

    // What a kube-apiserver 1.33 answered to each.
    #[test]
    fn who_accepts_all_of_a_kind_is_served_where_kubernetes_serves_it() {
        let a = |s: &'static str, offer: Offer| {
            let mut h = HeaderMap::new();
            h.insert("accept", HeaderValue::from_static(s));
            accept_of(&h, offer).map_err(|e| e.message)
        };
        let all = |s: &'static str| a(s, Offer::All);
        let none =
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml";
        for nothing in ["application/*", "Application/JSON", "application/*;q=0.5", "foo", "text/*"]
        {
            assert_eq!(all(nothing).unwrap_err(), none, "{nothing}");
        }
        let yaml = Accept { yaml: true, ..Accept::PLAIN };
        assert_eq!(all(""), Ok(Accept::PLAIN));
        assert_eq!(all("text/html, */*;q=0.1"), Ok(Accept::PLAIN));
        // What says more of the type comes first, and a weight that is no number is none.
        assert_eq!(all("*/*,application/yaml"), Ok(yaml));
        assert_eq!(all("application/*,application/yaml"), Ok(yaml));
        assert_eq!(all("application/json;q=x,application/yaml;q=0.1"), Ok(yaml));
        let table = "application/json;as=Table;g=meta.k8s.io;v=v1beta1";
        assert_eq!(all(table), Ok(Accept { form: Form::Table, yaml: false, beta: true }));
        for wrong in ["application/json;as=Table", "application/json;v=v1", "*/*;stream=foo"] {
            assert!(
                all(wrong).unwrap_err().starts_with("only the following media types"),
                "{wrong}"
            );
        }
        assert_eq!(a("application/json;stream=watch", Offer::Watch), Ok(Accept::PLAIN));
        assert_eq!(a("application/yaml,application/json;q=0.1", Offer::Watch), Ok(Accept::PLAIN));
        assert_eq!(
            a("application/yaml", Offer::Watch).unwrap_err(),
            "only the following media types are accepted: application/json;stream=watch"
        );
    }

    #[test]
    fn queries_are_decoded() {
        let q = Query::parse("labelSelector=a%3Db%2Cc&x=1+2&limit=-x&watch=true&bad=%zz");
        assert_eq!(q.get("labelSelector"), Some("a=b,c"));
        assert_eq!(q.get("x"), Some("1 2"));
        // As Go's parser, what cannot be read is not there.
        assert_eq!(q.get("bad"), None);
        assert_eq!(Query::parse("a=b;c&d=1%2&e=%41").get("a"), None);
        assert_eq!(Query::parse("a=b;c&d=1%2&e=%41").get("e"), Some("A"));
        assert!(Query::parse("limit=").number("limit").is_err());
        assert!(q.flag("watch"));
        assert!(q.number("limit").is_err());
    }
}
