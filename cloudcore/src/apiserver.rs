//! The API server, spoken to in raw JSON, so that no field is lost on its way.
//!
//! Owns: paths, time limits, the retry of requests that did not reach the server.
//! Called by: every module that reads or writes objects.
//! Never: caches.

use std::time::Duration;

use api::names::{Kind, ObjectKey};
use api::raw::RawJson;
use futures::AsyncBufRead;
use http::{Method, Request, header};
use kube::Client;
use serde::Deserialize;
use service::backoff::Backoff;

use crate::metrics::Metrics;
use crate::object::gvk;

/// Of one request. The API server itself gives up after 60 s.
const LIMIT: Duration = Duration::from_secs(15);
/// Requests that never reached the server are tried so often.
const TRIES: u32 = 4;
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

/// Why a request failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// The API server said no.
    #[error("the API server refused: {}", .0.message)]
    Refused(Box<kube::core::Status>),
    /// It could not be reached, or did not answer sensibly.
    #[error("the API server does not answer: {0}")]
    Unreachable(String),
    /// The request is about something that has no place in the API.
    #[error("`{0}` has no path in the API")]
    NoPath(String),
}

impl ApiError {
    fn code(&self) -> u16 {
        match self {
            ApiError::Refused(status) => status.code,
            _ => 0,
        }
    }

    /// 404
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// 409
    pub fn is_conflict(&self) -> bool {
        self.code() == 409
    }

    /// 409 because it exists.
    pub fn already_exists(&self) -> bool {
        matches!(self, ApiError::Refused(s) if s.code == 409 && s.reason == "AlreadyExists")
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, ApiError::Unreachable(_)) || matches!(self.code(), 429 | 500 | 502..=504)
    }

    /// What the edge is told: a `metav1.Status`.
    pub fn status(&self) -> RawJson {
        let status = match self {
            ApiError::Refused(status) => (**status).clone(),
            ApiError::Unreachable(why) => {
                kube::core::Status::failure(why, "ServiceUnavailable").with_code(503)
            }
            ApiError::NoPath(what) => {
                let text = format!("`{what}` has no path in the API");
                kube::core::Status::failure(&text, "BadRequest").with_code(400)
            }
        };
        let mut status = serde_json::to_value(status).unwrap_or_default();
        // As Kubernetes writes it; the original's edge reads it into a struct that has it.
        if let Some(map) = status.as_object_mut() {
            map.entry("metadata").or_insert_with(|| serde_json::json!({}));
        }
        RawJson::of(&status).unwrap_or_else(|_| RawJson::null())
    }
}

/// How a patch is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// `application/strategic-merge-patch+json`
    Strategic,
    /// `application/merge-patch+json`
    Merge,
}

/// Where something is in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// All objects of a kind, in a namespace or in the cluster.
    ///
    /// # Errors
    /// When the kind has no place in the API.
    pub fn collection(kind: &Kind, namespace: Option<&str>) -> Result<Self, ApiError> {
        let (group, _, plural) =
            gvk(kind).ok_or_else(|| ApiError::NoPath(kind.as_str().to_owned()))?;
        Self::of(group, plural, namespace)
    }

    /// One object.
    ///
    /// # Errors
    /// When the kind has no place in the API, or the name breaks Kubernetes' rule for names: it
    /// comes from an edge node and must not lead anywhere else.
    pub fn object(key: &ObjectKey) -> Result<Self, ApiError> {
        let namespaced = !matches!(
            key.kind,
            Kind::Node
                | Kind::PersistentVolume
                | Kind::VolumeAttachment
                | Kind::CertificateSigningRequest
                | Kind::NodeUpgradeJob
        );
        let namespace = key.namespace.as_ref().map(|n| n.as_str()).filter(|_| namespaced);
        if namespaced && namespace.is_none() {
            return Err(ApiError::NoPath(key.to_string()));
        }
        Self::collection(&key.kind, namespace)?.named(&key.name)
    }

    /// All objects of a resource of an API group.
    ///
    /// # Errors
    /// When the namespace breaks Kubernetes' rule for names.
    pub fn of(group: &str, plural: &str, namespace: Option<&str>) -> Result<Self, ApiError> {
        let root = if group.contains('/') { "apis" } else { "api" };
        let Some(namespace) = namespace else {
            return Ok(Self(format!("/{root}/{group}/{plural}")));
        };
        segment(namespace)?;
        Ok(Self(format!("/{root}/{group}/namespaces/{namespace}/{plural}")))
    }

    /// The object of that name, or its subresource.
    ///
    /// # Errors
    /// When the name breaks Kubernetes' rule for names.
    pub fn named(self, name: &str) -> Result<Self, ApiError> {
        segment(name)?;
        Ok(Self(format!("{}/{name}", self.0)))
    }

    /// With a query.
    #[must_use]
    pub fn query(self, query: &str) -> Self {
        let mark = if self.0.contains('?') { '&' } else { '?' };
        Self(format!("{}{mark}{query}", self.0))
    }
}

fn segment(name: &str) -> Result<(), ApiError> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    let sound = !name.is_empty()
        && name.len() <= 253
        && name != "."
        && name != ".."
        && name.bytes().all(ok);
    if sound { Ok(()) } else { Err(ApiError::NoPath(name.chars().take(64).collect())) }
}

/// A part of a list.
#[derive(Debug)]
pub struct Page {
    /// The objects.
    pub items: Vec<RawJson>,
    /// There are more; what to ask for them with.
    pub more: Option<String>,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMeta,
    items: Option<Vec<RawJson>>,
}

#[derive(Deserialize, Default)]
struct ListMeta {
    #[serde(rename = "continue")]
    more: Option<String>,
}

/// A continue token in a query: it is base64 of any alphabet.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// See the module.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    metrics: Metrics,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiServer")
    }
}

impl ApiServer {
    /// Speaks through `client`.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
    }

    /// The client, for watches.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn get(&self, path: &Path) -> Result<RawJson, ApiError> {
        self.call(Method::GET, path, None, &RawJson::null()).await
    }

    /// Reads a page of a collection, the first one or the one after `more`.
    ///
    /// # Errors
    /// As above, and when the answer is no list.
    pub async fn page(&self, path: &Path, more: Option<&str>) -> Result<Page, ApiError> {
        let mut path = path.clone().query("limit=500");
        if let Some(more) = more {
            path = path.query(&format!("continue={}", encoded(more)));
        }
        let list: List = self
            .get(&path)
            .await?
            .to()
            .map_err(|e| ApiError::Unreachable(format!("its answer is no list: {e}")))?;
        let more = list.metadata.more.filter(|m| !m.is_empty());
        Ok(Page { items: list.items.unwrap_or_default(), more })
    }

    /// Creates in a collection.
    ///
    /// # Errors
    /// As above.
    pub async fn create(&self, path: &Path, object: &RawJson) -> Result<RawJson, ApiError> {
        self.call(Method::POST, path, Some("application/json"), object).await
    }

    /// Asks for a pod to go. A refusal is not repeated: it holds for as long as its budget says.
    ///
    /// # Errors
    /// As above; 429 where a disruption budget allows none.
    pub async fn evict(&self, path: &Path, eviction: &RawJson) -> Result<RawJson, ApiError> {
        self.once(Method::POST, path, Some("application/json"), eviction).await
    }

    /// Replaces.
    ///
    /// # Errors
    /// As above.
    pub async fn replace(&self, path: &Path, object: &RawJson) -> Result<RawJson, ApiError> {
        self.call(Method::PUT, path, Some("application/json"), object).await
    }

    /// Patches.
    ///
    /// # Errors
    /// As above.
    pub async fn patch(
        &self,
        path: &Path,
        kind: Patch,
        patch: &RawJson,
    ) -> Result<RawJson, ApiError> {
        let content = match kind {
            Patch::Strategic => "application/strategic-merge-patch+json",
            Patch::Merge => "application/merge-patch+json",
        };
        self.call(Method::PATCH, path, Some(content), patch).await
    }

    /// Reads what is no JSON and may not end, such as a log.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn stream(&self, path: &Path) -> Result<impl AsyncBufRead + use<>, ApiError> {
        let request = Request::get(path.0.as_str()).body(Vec::new());
        let request = request.map_err(|_| ApiError::NoPath(path.0.clone()))?;
        match tokio::time::timeout(LIMIT, self.client.request_stream(request)).await {
            Err(_) => Err(ApiError::Unreachable(format!("no answer within {} s", LIMIT.as_secs()))),
            Ok(Err(kube::Error::Api(status))) => Err(ApiError::Refused(status)),
            Ok(Err(error)) => Err(ApiError::Unreachable(service::error_chain(&error))),
            Ok(Ok(body)) => Ok(body),
        }
    }

    /// Deletes, with DeleteOptions or null.
    ///
    /// # Errors
    /// As above.
    pub async fn delete(&self, path: &Path, options: &RawJson) -> Result<RawJson, ApiError> {
        let content = (!options.is_null()).then_some("application/json");
        self.call(Method::DELETE, path, content, options).await
    }

    /// A request that did not reach the server, or that it asks to repeat, is repeated a few times;
    /// whoever asked gets an answer within seconds also while the server is away.
    async fn call(
        &self,
        method: Method,
        path: &Path,
        content: Option<&str>,
        body: &RawJson,
    ) -> Result<RawJson, ApiError> {
        let mut attempt = 0;
        loop {
            let outcome = self.once(method.clone(), path, content, body).await;
            let Err(error) = outcome else { return outcome };
            // An unanswered create may have happened; its repetition then says AlreadyExists.
            if !error.is_transient() || attempt + 1 >= TRIES {
                if !matches!(error.code(), 404 | 409) {
                    self.metrics.api_errors.inc();
                }
                return Err(error);
            }
            tokio::time::sleep(RETRY.next_delay(attempt)).await;
            attempt += 1;
        }
    }

    async fn once(
        &self,
        method: Method,
        path: &Path,
        content: Option<&str>,
        body: &RawJson,
    ) -> Result<RawJson, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path.0.as_str())
            .header(header::ACCEPT, "application/json");
        let mut bytes = Vec::new();
        if let Some(content) = content {
            request = request.header(header::CONTENT_TYPE, content);
            bytes = body.get().as_bytes().to_vec();
        }
        let request = request.body(bytes).map_err(|_| ApiError::NoPath(path.0.clone()))?;
        let answer = tokio::time::timeout(LIMIT, self.client.request_text(request)).await;
        let text = match answer {
            Err(_) => {
                let limit = LIMIT.as_secs();
                return Err(ApiError::Unreachable(format!("no answer within {limit} s")));
            }
            Ok(Err(kube::Error::Api(status))) => return Err(ApiError::Refused(status)),
            Ok(Err(error)) => return Err(ApiError::Unreachable(service::error_chain(&error))),
            Ok(Ok(text)) => text,
        };
        RawJson::parse(text)
            .map_err(|e| ApiError::Unreachable(format!("its answer is no JSON: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(key: &str) -> Result<String, ApiError> {
        Path::object(&key.parse().unwrap()).map(|p| p.0)
    }

    #[test]
    fn each_kind_has_its_place() {
        let good = [
            ("default/pod/web", "/api/v1/namespaces/default/pods/web"),
            ("null/node/edge-1", "/api/v1/nodes/edge-1"),
            (
                "kube-node-lease/lease/edge-1",
                "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1",
            ),
            ("default/volumeattachment/va", "/apis/storage.k8s.io/v1/volumeattachments/va"),
            ("null/persistentvolume/pv", "/api/v1/persistentvolumes/pv"),
        ];
        for (key, want) in good {
            assert_eq!(path(key).unwrap(), want);
        }
    }

    #[test]
    fn a_name_from_an_edge_node_leads_nowhere_else() {
        for name in ["..", ".", "a?b=c", "a#b", "a%2fb", "a b", "ä"] {
            let key = ObjectKey::new("default".parse().unwrap(), Kind::Secret, name);
            assert!(matches!(Path::object(&key), Err(ApiError::NoPath(_))), "{name}");
        }
        assert!(path("null/secret/s").is_err());
        assert!(path("default/gadget/g").is_err());
    }

    #[test]
    fn a_continue_token_is_safe_in_a_query() {
        assert_eq!(encoded("aZ0-_.~"), "aZ0-_.~");
        assert_eq!(encoded("a+/=&"), "a%2B%2F%3D%26");
    }

    #[test]
    fn an_edge_is_told_what_the_server_said() {
        let status = kube::core::Status::failure("pods \"x\" not found", "NotFound").with_code(404);
        let text = ApiError::Refused(status.boxed()).status();
        let value: serde_json::Value = text.to().unwrap();
        assert_eq!(value["reason"], "NotFound");
        assert_eq!(value["code"], 404);
        assert_eq!(value["metadata"], serde_json::json!({}));
    }
}
