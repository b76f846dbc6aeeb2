//! Who may ask for logs and commands.
//!
//! Owns: the CA of the API server's clients, as the cluster publishes it.
//! Called by: `streamserver.rs`, for each request.
//! Never: decides by itself: whether a user may speak to a node's kubelet is asked of the API
//! server, as a kubelet does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::names::NodeName;
use api::raw::RawJson;
use parking_lot::RwLock;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use service::tls::{self, Subject};
use tracing::{info, warn};

use crate::apiserver::{ApiError, ApiServer, Path};

/// Where a cluster says which CA signs for its clients.
const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
const KEY: &str = "client-ca-file";
/// How often it is read again.
const REFRESH: Duration = Duration::from_secs(300);
/// .. while it is not known.
const RETRY: Duration = Duration::from_secs(2);

/// Why a caller is refused.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// Not known yet.
    #[error("cloudcore does not know yet which CA signs for the API server's clients")]
    NoCa,
    /// No certificate, or none that is valid.
    #[error("a client certificate of the cluster is needed: {0}")]
    Unknown(String),
    /// The API server says no.
    #[error("user `{user}` may not {verb} `nodes/{subresource}` of node `{node}`")]
    Forbidden {
        /// Who.
        user: String,
        /// What.
        verb: &'static str,
        /// Of which part.
        subresource: &'static str,
        /// Where.
        node: String,
    },
    /// It could not be asked.
    #[error("the API server could not be asked whether this is allowed")]
    Api(#[source] ApiError),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Access {
    api: ApiServer,
    file: PathBuf,
    roots: Arc<RwLock<Option<Arc<RootCertStore>>>>,
}

/// What a kubelet's path is called in an access review: the subresource of the node.
pub(super) fn subresource(path: &str) -> &'static str {
    match path.trim_start_matches('/').split('/').next() {
        Some("stats") => "stats",
        Some("metrics") => "metrics",
        Some("logs") => "log",
        _ => "proxy",
    }
}

fn review(who: &Subject, node: &NodeName, verb: &str, subresource: &str) -> Option<RawJson> {
    let mut groups = who.organizations.clone();
    groups.push("system:authenticated".to_owned());
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": who.common_name,
            "groups": groups,
            "resourceAttributes": {
                "verb": verb, "group": "", "version": "v1", "resource": "nodes",
                "subresource": subresource, "name": node.as_str(),
            },
        },
    });
    RawJson::parse(review.to_string()).ok()
}

impl Access {
    /// `file`, if it is there, holds the CA; else the cluster says which it is.
    pub fn new(api: ApiServer, file: PathBuf) -> Self {
        Self { api, file, roots: Arc::default() }
    }

    /// Keeps the CA up to date.
    pub async fn keep(self) {
        let mut said = false;
        loop {
            let wait = match self.read().await {
                Ok(roots) => {
                    if self.roots.write().replace(roots).is_none() {
                        info!("the CA of the API server's clients is known");
                    }
                    REFRESH
                }
                Err(why) => {
                    if !std::mem::replace(&mut said, true) {
                        warn!(why, "logs and exec do not work until the client CA is known");
                    }
                    RETRY
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn read(&self) -> Result<Arc<RootCertStore>, String> {
        let chain = match self.file.exists() {
            true => tls::load_certificates(&self.file),
            false => {
                let path = Path::of("v1", "configmaps", Some(NAMESPACE))
                    .and_then(|p| p.named(CONFIG_MAP))
                    .map_err(|e| service::error_chain(&e))?;
                let map = self.api.get(&path).await.map_err(|e| service::error_chain(&e))?;
                let map: Value = map.to().map_err(|e| e.to_string())?;
                let pem = map["data"][KEY].as_str().unwrap_or_default();
                tls::certificates(pem.as_bytes(), &format!("`{NAMESPACE}/{CONFIG_MAP}`"))
            }
        };
        let chain = chain.map_err(|e| service::error_chain(&e))?;
        tls::roots(chain).map_err(|e| service::error_chain(&e))
    }

    /// Who shows this chain.
    ///
    /// # Errors
    /// When it is not of the cluster's CA, or that is not known.
    pub fn who(&self, chain: &[CertificateDer<'_>]) -> Result<Subject, Denied> {
        let roots = self.roots.read().clone().ok_or(Denied::NoCa)?;
        let unknown = |e: tls::TlsError| Denied::Unknown(service::error_chain(&e));
        tls::verify_client(chain, roots, UnixTime::now()).map_err(unknown)?;
        let subject = tls::peer_subject(Some(chain)).map_err(unknown)?;
        subject.ok_or_else(|| Denied::Unknown("it names nobody".to_owned()))
    }

    /// Whether the user may speak to this node's kubelet.
    ///
    /// # Errors
    /// When not, or when that cannot be found out.
    pub async fn check(
        &self,
        who: &Subject,
        node: &NodeName,
        verb: &'static str,
        path: &str,
    ) -> Result<(), Denied> {
        let subresource = subresource(path);
        let at = Path::of("authorization.k8s.io/v1", "subjectaccessreviews", None)
            .map_err(Denied::Api)?;
        let review = review(who, node, verb, subresource)
            .ok_or_else(|| Denied::Unknown("its name cannot be written".to_owned()))?;
        let answer = self.api.create(&at, &review).await.map_err(Denied::Api)?;
        let answer: Value = answer.to().unwrap_or_default();
        if answer["status"]["allowed"] == true {
            return Ok(());
        }
        let (user, node) = (who.common_name.clone(), node.to_string());
        Err(Denied::Forbidden { user, verb, subresource, node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_called_what_kubelet_calls_them() {
        // kubernetes.io, "Kubelet authentication/authorization": the table of subresources.
        for (path, wanted) in [
            ("/stats/summary", "stats"),
            ("/metrics/resource", "metrics"),
            ("/logs/x", "log"),
            ("/containerLogs/default/web/c", "proxy"),
            ("/exec/default/web/c", "proxy"),
            ("/pods", "proxy"),
        ] {
            assert_eq!(subresource(path), wanted);
        }
    }

    #[test]
    fn the_question_names_user_groups_and_node() {
        let who = Subject {
            common_name: "kube-apiserver-kubelet-client".to_owned(),
            organizations: vec!["system:masters".to_owned()],
        };
        let review = review(&who, &"edge-1".parse().unwrap(), "create", "proxy").unwrap();
        let review: Value = review.to().unwrap();
        assert_eq!(review["spec"]["groups"], json!(["system:masters", "system:authenticated"]));
        let of = &review["spec"]["resourceAttributes"];
        assert_eq!((&of["name"], &of["verb"]), (&json!("edge-1"), &json!("create")));
    }
}
