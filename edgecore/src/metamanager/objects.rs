//! Typed reads for edged and for the node's registration.
//!
//! Owns: nothing but handles; every answer is read afresh, so that an idle edge keeps no objects in
//! memory.
//! Called by: edged, `edged::node`.
//! Never: gives out an error in the place of an object.

use std::sync::Arc;

use api::names::{Kind, Namespace, NodeName, ObjectKey};
use api::raw::RawJson;
use api::wire::upstream::Request;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use serde::de::DeserializeOwned;

use super::remote::{self, Remote};
use super::store::StoreError;
use crate::edgehub::RequestError;

/// A token older than this is fetched anew.
const TOKEN_MAX_AGE: SignedDuration = SignedDuration::from_hours(24);

/// Why an object cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ObjectError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not stored, and the cloud did not give it.
    #[error("`{what}` is not stored on this node and cannot be fetched")]
    Cloud {
        /// Which object.
        what: String,
        /// Why not.
        #[source]
        source: RequestError,
    },
    /// It is not of the form it should have.
    #[error("`{what}` cannot be read: {why}")]
    Unreadable {
        /// Which object.
        what: String,
        /// What the parser said.
        why: String,
    },
    /// An object without namespace, name or uid was handed in.
    #[error("{what} has no valid namespace, name or uid")]
    Nameless {
        /// Which object.
        what: String,
    },
}

impl ObjectError {
    pub(crate) fn unreadable(what: &ObjectKey, e: &serde_json::Error) -> Self {
        Self::Unreadable { what: what.to_string(), why: e.to_string() }
    }
}

/// A handle on the objects of the node; clones share it.
#[derive(Clone)]
pub(crate) struct Objects {
    remote: Remote,
    node: Arc<NodeName>,
}

impl Objects {
    /// The objects of `node`.
    pub(crate) fn new(remote: Remote, node: NodeName) -> Self {
        Self { remote, node: Arc::new(node) }
    }

    /// All stored pods that are bound to this node. A row that cannot be read is left out and said.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn pods(&self) -> Result<Vec<Pod>, ObjectError> {
        let rows = self.remote.store.read(|tx| tx.of_type("pod")).await?;
        let mut pods = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            match serde_json::from_str::<Pod>(&value) {
                Ok(pod) => pods.push(pod),
                Err(e) => {
                    tracing::error!(pod = key, error = %e, "a stored pod cannot be read; it is not run");
                }
            }
        }
        pods.retain(|pod| {
            let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
            node == Some(self.node.as_str())
        });
        Ok(pods)
    }

    /// A configmap: the stored one, or else the cloud's. `None`: there is none.
    ///
    /// # Errors
    /// When it is not stored and the cloud cannot be asked.
    pub(crate) async fn config_map(
        &self,
        ns: &Namespace,
        name: &str,
    ) -> Result<Option<ConfigMap>, ObjectError> {
        self.fetched(ObjectKey::new(ns.clone(), Kind::ConfigMap, name)).await
    }

    /// A secret: the stored one, or else the cloud's. `None`: there is none.
    ///
    /// # Errors
    /// When it is not stored and the cloud cannot be asked.
    pub(crate) async fn secret(
        &self,
        ns: &Namespace,
        name: &str,
    ) -> Result<Option<Secret>, ObjectError> {
        self.fetched(ObjectKey::new(ns.clone(), Kind::Secret, name)).await
    }

    /// The node's own Node object, as the cloud last sent it.
    ///
    /// # Errors
    /// When the database fails or the row cannot be read.
    pub(crate) async fn node(&self) -> Result<Option<Node>, ObjectError> {
        let key = ObjectKey::cluster(Kind::Node, self.node.as_str());
        let stored = remote::stored(&self.remote.store, &key).await?;
        stored.map(|text| parse(&key, &text)).transpose()
    }

    /// A token of a service account. A stored one is used until it is 24 hours old or in the last
    /// fifth of its life; beyond that too, until it expires, if the cloud cannot be asked.
    ///
    /// # Errors
    /// When there is none that is valid and the cloud cannot be asked or refuses.
    pub(crate) async fn token(
        &self,
        ns: &Namespace,
        account: &str,
        request: TokenRequest,
    ) -> Result<TokenRequest, ObjectError> {
        let row = token_key(ns, account, &request);
        let wanted = row.clone();
        let stored = self.remote.store.read(move |tx| tx.get(&wanted)).await?;
        let stored = stored.and_then(|text| serde_json::from_str::<TokenRequest>(&text).ok());
        let now = Timestamp::now();
        let freshness = stored.as_ref().map_or(Freshness::Expired, |t| freshness(t, now));
        if let (Some(token), Freshness::Fresh) = (&stored, freshness) {
            return Ok(token.clone());
        }
        match self.fetch_token(ns, account, &request, row).await {
            Err(ObjectError::Cloud { source, .. })
                if !matches!(source, RequestError::Refused(_)) && freshness == Freshness::Due =>
            {
                stored.ok_or(ObjectError::Cloud { what: account.to_owned(), source })
            }
            answer => answer,
        }
    }

    async fn fetch_token(
        &self,
        ns: &Namespace,
        account: &str,
        request: &TokenRequest,
        row: String,
    ) -> Result<TokenRequest, ObjectError> {
        let what = || format!("token of service account `{ns}/{account}`");
        let unreadable =
            |e: serde_json::Error| ObjectError::Unreadable { what: what(), why: e.to_string() };
        let ask = Request::ServiceAccountToken {
            namespace: ns.clone(),
            account: account.into(),
            request: RawJson::of(request).map_err(unreadable)?,
        };
        let answer = self.remote.requests.object(ask, self.remote.limit).await;
        let object = answer
            .map_err(|source| ObjectError::Cloud { what: what(), source })?
            .unwrap_or_else(RawJson::null);
        let token: TokenRequest = object.to().map_err(unreadable)?;
        if token.status.as_ref().and_then(|s| s.token.as_ref()).is_none_or(String::is_empty) {
            return Err(ObjectError::Unreadable { what: what(), why: "it is empty".to_owned() });
        }
        let text = object.get().to_owned();
        self.remote.store.write(move |tx| tx.put(&row, "serviceaccounttoken", &text)).await?;
        Ok(token)
    }

    async fn fetched<K: DeserializeOwned>(&self, key: ObjectKey) -> Result<Option<K>, ObjectError> {
        let text = self.remote.stored_or_fetched(&key).await?;
        text.map(|text| parse(&key, &text)).transpose()
    }
}

fn parse<K: DeserializeOwned>(key: &ObjectKey, text: &str) -> Result<K, ObjectError> {
    serde_json::from_str(text).map_err(|e| ObjectError::unreadable(key, &e))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Fresh,
    /// Still valid; a new one should be fetched.
    Due,
    Expired,
}

fn freshness(token: &TokenRequest, now: Timestamp) -> Freshness {
    let Some(status) = &token.status else { return Freshness::Expired };
    let Some(expires) = status.expiration_timestamp.as_ref().map(|t| t.0) else {
        return Freshness::Expired;
    };
    if status.token.as_ref().is_none_or(String::is_empty) || now >= expires {
        return Freshness::Expired;
    }
    let seconds = token.spec.as_ref().and_then(|s| s.expiration_seconds);
    let life = SignedDuration::from_secs(seconds.unwrap_or(3600));
    let left = expires.duration_since(now);
    if left <= life / 5 || life - left >= TOKEN_MAX_AGE { Freshness::Due } else { Freshness::Fresh }
}

/// The key under which the original keeps a token: Go's `%q/%q/%#v/%#v/%#v`.
fn token_key(ns: &Namespace, account: &str, request: &TokenRequest) -> String {
    let spec = request.spec.clone().unwrap_or_default();
    let audiences: Vec<String> =
        spec.audiences.unwrap_or_default().iter().map(|a| go_quote(a)).collect();
    let audiences = if audiences.is_empty() {
        "[]string(nil)".to_owned()
    } else {
        format!("[]string{{{}}}", audiences.join(", "))
    };
    let bound = spec.bound_object_ref.unwrap_or_default();
    let quoted = |text: &Option<String>| go_quote(text.as_deref().unwrap_or_default());
    format!(
        "{}/{}/{audiences}/{}/v1.BoundObjectReference{{Kind:{}, APIVersion:{}, Name:{}, UID:{}}}",
        go_quote(account),
        go_quote(ns.as_str()),
        spec.expiration_seconds.unwrap_or(0),
        quoted(&bound.kind),
        quoted(&bound.api_version),
        quoted(&bound.name),
        quoted(&bound.uid),
    )
}

/// A string as Go's `%q` writes it; names and audiences need no more than this.
fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::{
        BoundObjectReference, TokenRequestSpec, TokenRequestStatus,
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn request(seconds: i64, audiences: &[&str]) -> TokenRequest {
        TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(audiences.iter().map(|a| (*a).to_owned()).collect()),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    kind: Some("Pod".into()),
                    api_version: Some("v1".into()),
                    name: Some("web-0".into()),
                    uid: Some("1111".into()),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        }
    }

    #[test]
    fn a_token_is_kept_under_the_key_that_the_original_uses() {
        let ns: Namespace = "kube-system".parse().unwrap();
        assert_eq!(
            token_key(
                &ns,
                "default",
                &request(3607, &["https://kubernetes.default.svc.cluster.local"])
            ),
            "\"default\"/\"kube-system\"/[]string{\"https://kubernetes.default.svc.cluster.local\"}\
             /3607/v1.BoundObjectReference{Kind:\"Pod\", APIVersion:\"v1\", Name:\"web-0\", UID:\"1111\"}"
        );
        assert!(token_key(&ns, "x", &request(1, &[])).contains("/[]string(nil)/1/"));
    }

    #[test]
    fn a_token_is_due_in_the_last_fifth_of_its_life_and_after_a_day() {
        let now: Timestamp = "2026-09-21T12:00:00Z".parse().unwrap();
        let token = |life: i64, left: i64| {
            let mut t = request(life, &[]);
            t.status = Some(TokenRequestStatus {
                token: Some("t".into()),
                expiration_timestamp: Some(Time(now + SignedDuration::from_secs(left))),
            });
            t
        };
        assert_eq!(freshness(&token(3600, 3000), now), Freshness::Fresh);
        assert_eq!(freshness(&token(3600, 700), now), Freshness::Due);
        assert_eq!(freshness(&token(3600, 0), now), Freshness::Expired);
        let week = 7 * 86_400;
        assert_eq!(freshness(&token(week, week - 86_000), now), Freshness::Fresh);
        assert_eq!(freshness(&token(week, week - 86_400), now), Freshness::Due);
        assert_eq!(freshness(&request(3600, &[]), now), Freshness::Expired);
    }
}
