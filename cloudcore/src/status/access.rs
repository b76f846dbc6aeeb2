//! Who may read the status stream from afar, and ask for what: the API server decides.
//!
//! Owns: which rights the stream needs.
//! Called by: `remote.rs` (before a stream begins, and while it lasts), `server.rs` (per request).
//! Never: believes a name that no certificate or token has proven; keeps an answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::raw::RawJson;
use api::status::row::RowKind;
use api::status::stream::Request;
use futures::future::try_join_all;
use http::HeaderMap;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::tls;

use crate::apiserver::{ApiError, ApiServer, Path};

/// A bearer token has at most so many bytes.
const TOKEN_LIMIT: usize = 16 << 10;

/// Somebody whom the API server knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct User {
    #[serde(rename(deserialize = "username", serialize = "user"))]
    pub(crate) name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// What a reader may do.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// The unix socket's owner acts as cloudcore does.
    Everything,
    /// Whatever the API server lets this user do.
    Of(Arc<User>),
}

/// Why somebody is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// Nothing shows who it is, or what is shown does not hold.
    #[error("{0}")]
    Unknown(String),
    /// It is known, and may not.
    #[error("{0}")]
    Forbidden(String),
    /// It cannot be found out now.
    #[error("the API server cannot say who may read: {0}")]
    Unanswered(#[from] ApiError),
}

/// One right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Right<'a> {
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

/// What every reader must be allowed: all rows are of these.
const READ: [(&str, &str); 3] = [("", "nodes"), ("", "pods"), ("devices.kubeedge.io", "devices")];

/// What a request does at the API server. Pure.
fn rights(request: &Request) -> Vec<Right<'_>> {
    let of = |verb, resource, namespace, name| Right {
        verb,
        resource,
        namespace,
        name,
        ..Right::default()
    };
    match request {
        Request::Yaml { key } => {
            let (namespace, name) = key.key.split_once('/').unwrap_or(("", &key.key));
            match key.kind {
                RowKind::Node => vec![of("get", "nodes", "", &key.key)],
                RowKind::Pod => vec![of("get", "pods", namespace, name)],
                RowKind::Device => vec![Right {
                    group: "devices.kubeedge.io",
                    ..of("get", "devices", namespace, name)
                }],
            }
        }
        Request::Logs { namespace, pod, .. } => {
            vec![Right { subresource: "log", ..of("get", "pods", namespace, pod) }]
        }
        Request::Cordon { node, .. } => vec![of("patch", "nodes", "", node)],
        Request::Drain { node } => vec![
            of("patch", "nodes", "", node),
            Right { subresource: "eviction", ..of("create", "pods", "", "") },
        ],
        Request::DeletePod { namespace, pod, .. } => vec![of("delete", "pods", namespace, pod)],
        // There is no verb for it in Kubernetes; whoever may run a command in it could as well.
        Request::RestartPod { namespace, pod, .. } => {
            vec![Right { subresource: "exec", ..of("create", "pods", namespace, pod) }]
        }
        // Whoever may change the job could as well ask nobody.
        Request::ConfirmUpgrade { .. } => vec![Right {
            group: "operations.kubeedge.io",
            ..of("patch", "nodeupgradejobs", "", "")
        }],
        Request::SetDesired { namespace, device, .. } => vec![Right {
            group: "devices.kubeedge.io",
            ..of("patch", "devices", namespace, device)
        }],
    }
}

impl std::fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        if !self.group.is_empty() {
            write!(f, " of {}", self.group)?;
        }
        match (self.namespace, self.name) {
            ("", "") => write!(f, " in all namespaces"),
            ("", name) => write!(f, " `{name}`"),
            (namespace, name) => write!(f, " `{namespace}/{name}`"),
        }
    }
}

impl Access {
    /// Whether the reader may make a request.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn may(&self, api: &ApiServer, request: &Request) -> Result<(), String> {
        let Access::Of(user) = self else { return Ok(()) };
        all(api, user, rights(request)).await.map_err(|refused| refused.to_string())
    }
}

/// Whether a user may read the stream.
///
/// # Errors
/// Why not.
pub(crate) async fn may_read(api: &ApiServer, user: &User) -> Result<(), Refused> {
    let rights = READ.iter().flat_map(|(group, resource)| {
        ["list", "watch"].map(|verb| Right { verb, group, resource, ..Right::default() })
    });
    all(api, user, rights.collect()).await
}

async fn all(api: &ApiServer, user: &User, rights: Vec<Right<'_>>) -> Result<(), Refused> {
    try_join_all(rights.into_iter().map(|right| one(api, user, right))).await.map(|_| ())
}

async fn one(api: &ApiServer, user: &User, right: Right<'_>) -> Result<(), Refused> {
    let mut spec = serde_json::to_value(user).unwrap_or_default();
    spec["resourceAttributes"] = json!({
        "verb": right.verb, "group": right.group, "resource": right.resource,
        "subresource": right.subresource, "namespace": right.namespace, "name": right.name,
    });
    let status = review(api, "authorization.k8s.io", "SubjectAccessReview", &spec).await?;
    if status["allowed"] == json!(true) {
        return Ok(());
    }
    Err(Refused::Forbidden(format!("`{}` may not {right}", printable(&user.name))))
}

/// Asks the API server; its answer's status.
async fn review(api: &ApiServer, group: &str, kind: &str, spec: &Value) -> Result<Value, ApiError> {
    let version = format!("{group}/v1");
    let path = Path::of(&version, &format!("{}s", kind.to_lowercase()), None)?;
    let asked = json!({ "apiVersion": version, "kind": kind, "spec": spec });
    let body = RawJson::of(&asked).unwrap_or_else(|_| RawJson::null());
    let mut answer: Value = api.create(&path, &body).await?.to().unwrap_or_default();
    Ok(answer["status"].take())
}

/// Who opens a stream: a client certificate of the cluster, else a bearer token.
///
/// # Errors
/// When neither is shown, or what is shown does not hold.
pub(crate) async fn identify(
    api: &ApiServer,
    chain: &[CertificateDer<'_>],
    headers: &HeaderMap,
) -> Result<User, Refused> {
    if !chain.is_empty() {
        return by_certificate(api, chain, UnixTime::now()).await;
    }
    let unknown = |text: &str| Refused::Unknown(text.to_owned());
    let header = headers.get(http::header::AUTHORIZATION).ok_or_else(|| {
        unknown("show a client certificate of the cluster, or a Kubernetes bearer token")
    })?;
    let token = header
        .to_str()
        .ok()
        .and_then(|h| h.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .map(|(_, token)| token.trim())
        .filter(|token| token.len() <= TOKEN_LIMIT)
        .ok_or_else(|| unknown("the header `Authorization` holds no bearer token"))?;
    let spec = json!({ "token": token });
    let status = review(api, "authentication.k8s.io", "TokenReview", &spec).await?;
    if status["authenticated"] != json!(true) {
        return Err(unknown("the API server does not accept the token"));
    }
    serde_json::from_value(status["user"].clone())
        .ok()
        .filter(|user: &User| !user.name.is_empty())
        .ok_or_else(|| unknown("the API server accepts the token and does not say whose it is"))
}

/// The CA is the one that the API server itself trusts, as it publishes it for its extensions. That
/// of edge nodes is another: they may not read.
async fn by_certificate(
    api: &ApiServer,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<User, Refused> {
    let unknown = |text: String| Refused::Unknown(text);
    let path = Path::of("v1", "configmaps", Some("kube-system"))?
        .named("extension-apiserver-authentication")?;
    let published: Value = match api.get(&path).await {
        Ok(text) => text.to().unwrap_or_default(),
        Err(error) if error.is_not_found() => Value::Null,
        Err(error) => return Err(error.into()),
    };
    let Some(pem) = published.pointer("/data/client-ca-file").and_then(Value::as_str) else {
        return Err(unknown(
            "this cluster publishes no CA for client certificates (ConfigMap \
             `kube-system/extension-apiserver-authentication`); use a token"
                .to_owned(),
        ));
    };
    let cas = tls::certificates(pem.as_bytes(), "the CA of client certificates");
    let roots = cas
        .and_then(tls::roots)
        .map_err(|e| unknown(format!("the cluster's CA cannot be used: {e}")))?;
    tls::verify_client(chain, roots, now).map_err(|e| {
        let why = service::error_chain(&e);
        unknown(format!("the client certificate is not one of the cluster: {why}"))
    })?;
    let subject = tls::peer_subject(Some(chain)).ok().flatten().unwrap_or_default();
    if subject.common_name.is_empty() {
        return Err(unknown("the client certificate names nobody".to_owned()));
    }
    let mut groups = subject.organizations;
    groups.push("system:authenticated".to_owned());
    Ok(User { name: subject.common_name, groups, ..User::default() })
}

fn printable(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::status::row::RowKey;

    #[test]
    fn each_request_needs_the_right_to_do_the_same_with_kubectl() {
        let told = |request: &Request| {
            rights(request).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let (ns, pod) = (|| "default".to_owned(), || "web".to_owned());
        let cases = [
            (Request::Yaml { key: RowKey::node("e") }, "get nodes `e`"),
            (Request::Yaml { key: RowKey::pod("default", "web") }, "get pods `default/web`"),
            (
                Request::Yaml { key: RowKey::device("default", "t") },
                "get devices of devices.kubeedge.io `default/t`",
            ),
            (Request::Cordon { node: "e".into(), on: false }, "patch nodes `e`"),
            (
                Request::Drain { node: "e".into() },
                "patch nodes `e`, create pods/eviction in all namespaces",
            ),
            (
                Request::DeletePod { namespace: ns(), pod: pod(), grace_period: None },
                "delete pods `default/web`",
            ),
            (
                Request::RestartPod { namespace: ns(), pod: pod(), dry_run: false },
                "create pods/exec `default/web`",
            ),
            (
                Request::ConfirmUpgrade { node: "e".into() },
                "patch nodeupgradejobs of operations.kubeedge.io in all namespaces",
            ),
        ];
        for (request, want) in cases {
            assert_eq!(told(&request), want);
        }
    }

    #[test]
    fn a_user_of_a_token_review_is_asked_about_with_all_that_is_known_of_it() {
        let user: User = serde_json::from_value(json!({
            "username": "jo", "uid": "7", "groups": ["ops"], "extra": {"scopes": ["a"]},
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(&user).unwrap(),
            json!({"user": "jo", "uid": "7", "groups": ["ops"], "extra": {"scopes": ["a"]}})
        );
    }
}
