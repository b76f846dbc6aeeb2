//! Where the CA, the server certificate and the tokens are kept: KubeEdge's Secrets, with its names.
//!
//! Owns: what is read from and written to the API server about them.
//! Called by: `app.rs` at start and for the refresh of the token, `bootstrap.rs`, `keadm`.
//! Never: signs or judges anything itself, or shows what a Secret holds in an error.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use api::config::cloudcore::CloudHub;
use api::names::{Kind, NodeName, ObjectKey};
use api::raw::RawJson;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use service::tls;

use super::certs::{Ca, CertError, Pair, ServerNames};
use super::tokens::{self, Issued, LEDGER, Ledger, Token, TokenId};
use crate::apiserver::{ApiError, ApiServer, Patch, Path as ApiPath};

/// Where KubeEdge keeps its Secrets.
pub const NAMESPACE: &str = "kubeedge";
const CA_SECRET: (&str, [&str; 2]) = ("casecret", ["cadata", "cakeydata"]);
const SERVER_SECRET: (&str, [&str; 2]) = ("cloudcoresecret", ["cloudcoredata", "cloudcorekeydata"]);
const TOKEN_SECRET: (&str, &str) = ("tokensecret", "tokendata");

/// Why certificates or tokens could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A file is there without its partner.
    #[error("`{present}` exists but `{missing}` does not: a certificate and its key go together")]
    Half {
        /// The one.
        present: String,
        /// The other.
        missing: String,
    },
    /// A file or Secret holds something else.
    #[error("{what} cannot be used: {why}")]
    Unusable {
        /// File or Secret.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// A Secret cannot be read or written.
    #[error("cannot {what}")]
    Api {
        /// What was tried.
        what: String,
        /// The cause.
        #[source]
        source: ApiError,
    },
    /// A certificate cannot be made or used.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// There is no such token.
    #[error("there is no token `{0}`")]
    NoToken(TokenId),
}

/// All that cloudcore needs to know who it is and who its edges are.
#[derive(Debug)]
pub struct Pki {
    /// Signs.
    pub ca: Ca,
    /// Serves.
    pub server: Pair,
    /// What the server's certificate is valid for.
    pub names: ServerNames,
}

/// Files, else Secrets, else new; what was chosen is in the Secrets afterwards.
///
/// # Errors
/// When a file or Secret cannot be used, or the API server refuses.
pub async fn load_or_create(api: &ApiServer, hub: &CloudHub) -> Result<Pki, SecretError> {
    ensure_namespace(api).await?;
    let stored = read_secret_pair(api, &CA_SECRET).await?;
    let from_files = if left_by_edge(&hub.tls_ca_file, &hub.tls_ca_key_file, stored.as_ref()) {
        None
    } else {
        read_pair(&hub.tls_ca_file, &hub.tls_ca_key_file)?
    };
    let ca = match (from_files, &stored) {
        (Some(pair), _) => {
            Ca::new(pair.certificate, &pair.key, &format!("`{}`", hub.tls_ca_file.display()))?
        }
        (None, Some(pair)) => {
            Ca::new(pair.certificate.clone(), &pair.key, "the Secret `kubeedge/casecret`")?
        }
        (None, None) => Ca::create()?,
    };
    store_pair(api, &CA_SECRET, ca.pair(), stored.as_ref()).await?;

    let wanted = ServerNames::new(hub.subject_names());
    let from_files = read_pair(&hub.tls_cert_file, &hub.tls_private_key_file)?
        .filter(|pair| !belongs_to_node(pair, &hub.tls_cert_file));
    let stored = read_secret_pair(api, &SERVER_SECRET).await?;
    let server = match (from_files, &stored) {
        (Some(pair), _) => {
            let names = ServerNames::of_certificate(&pair.certificate)?;
            if !names.covers(&wanted) {
                tracing::warn!(
                    file = %hub.tls_cert_file.display(), has = %names, wanted = %wanted,
                    "the server certificate lacks advertised names: edges that dial them will refuse it"
                );
            }
            pair
        }
        (None, Some(pair)) if still_good(pair, &wanted, &ca) => pair.clone(),
        (None, stored) => {
            if stored.is_some() {
                tracing::info!(names = %wanted, "the server certificate is signed anew");
            }
            ca.issue_server(&wanted)?
        }
    };
    store_pair(api, &SERVER_SECRET, &server, stored.as_ref()).await?;
    let names = ServerNames::of_certificate(&server.certificate)?;
    Ok(Pki { ca, server, names })
}

/// Whether the lone CA certificate is what an edge that joined on this machine has been given: the
/// default paths of both halves are the same. Only a copy of our own certificate is passed over.
fn left_by_edge(certificate: &Path, key: &Path, stored: Option<&Pair>) -> bool {
    let Some(stored) = stored else { return false };
    !key.exists()
        && tls::load_certificates(certificate)
            .is_ok_and(|chain| chain.first() == Some(&stored.certificate))
}

/// Whether the pair is the client certificate of an edge that joined on this machine, for the same
/// reason. It must never be served as the cloud's.
fn belongs_to_node(pair: &Pair, file: &Path) -> bool {
    let node = tls::subject(&pair.certificate)
        .is_ok_and(|subject| subject.organizations.iter().any(|o| o == "system:nodes"));
    if node {
        tracing::info!(
            file = %file.display(),
            "this is the certificate of the edge node on this machine; cloudcore has its own"
        );
    }
    node
}

/// Whether a stored server certificate may stay: of this CA, for all names, not about to expire.
fn still_good(pair: &Pair, wanted: &ServerNames, ca: &Ca) -> bool {
    let soon = SystemTime::now() + Duration::from_secs(86_400);
    ServerNames::of_certificate(&pair.certificate).is_ok_and(|names| names.covers(wanted))
        && ca.vouches_for(&pair.certificate, soon)
        && pair.identity("the Secret `kubeedge/cloudcoresecret`").is_ok()
}

fn read_pair(certificate: &Path, key: &Path) -> Result<Option<Pair>, SecretError> {
    let there = |p: &Path| !p.as_os_str().is_empty() && p.exists();
    let half = |present: &Path, missing: &Path| {
        let (present, missing) = (present.display().to_string(), missing.display().to_string());
        Err(SecretError::Half { present, missing })
    };
    match (there(certificate), there(key)) {
        (false, false) => return Ok(None),
        (true, false) => return half(certificate, key),
        (false, true) => return half(key, certificate),
        (true, true) => {}
    }
    let unusable = |what: &Path, e: tls::TlsError| SecretError::Unusable {
        what: format!("`{}`", what.display()),
        why: service::error_chain(&e),
    };
    let mut chain = tls::load_certificates(certificate).map_err(|e| unusable(certificate, e))?;
    let bytes = tls::load_private_key(key).map_err(|e| unusable(key, e))?;
    let key = bytes.secret_der().to_vec();
    // The first block counts, as in KubeEdge.
    Ok(Some(Pair { certificate: chain.swap_remove(0), key }))
}

#[derive(Deserialize)]
struct Secret {
    data: Option<BTreeMap<String, String>>,
}

fn secret_path(name: &str) -> Result<ApiPath, SecretError> {
    let of = |source| SecretError::Api { what: format!("name the Secret `{name}`"), source };
    ApiPath::collection(&Kind::Secret, Some(NAMESPACE)).and_then(|p| p.named(name)).map_err(of)
}

async fn read_secret(
    api: &ApiServer,
    name: &str,
) -> Result<Option<BTreeMap<String, Vec<u8>>>, SecretError> {
    let what = format!("read the Secret `{NAMESPACE}/{name}`");
    let object = match api.get(&secret_path(name)?).await {
        Ok(object) => object,
        Err(e) if e.is_not_found() => return Ok(None),
        Err(source) => return Err(SecretError::Api { what, source }),
    };
    let unusable = || SecretError::Unusable {
        what: format!("the Secret `{NAMESPACE}/{name}`"),
        why: "its data is not base64".to_owned(),
    };
    let secret: Secret = object.to().map_err(|_| unusable())?;
    let mut data = BTreeMap::new();
    for (key, text) in secret.data.unwrap_or_default() {
        data.insert(key, STANDARD.decode(text).map_err(|_| unusable())?);
    }
    Ok(Some(data))
}

/// Creates the Secret or replaces the keys given; others stay. A key that is to go is `None`.
async fn write_secret(
    api: &ApiServer,
    name: &str,
    data: &BTreeMap<String, Option<Vec<u8>>>,
) -> Result<(), SecretError> {
    let data: BTreeMap<_, _> =
        data.iter().map(|(k, v)| (k, v.as_ref().map(|v| STANDARD.encode(v)))).collect();
    let what = || format!("write the Secret `{NAMESPACE}/{name}`");
    let json = |value: serde_json::Value| RawJson::of(&value).unwrap_or_else(|_| RawJson::null());
    let patch = json(serde_json::json!({ "data": data }));
    match api.patch(&secret_path(name)?, Patch::Merge, &patch).await {
        Ok(_) => return Ok(()),
        Err(e) if e.is_not_found() => {}
        Err(source) => return Err(SecretError::Api { what: what(), source }),
    }
    let data: BTreeMap<_, _> = data.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
    let object = json(serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "data": data,
    }));
    let collection = ApiPath::collection(&Kind::Secret, Some(NAMESPACE))
        .map_err(|source| SecretError::Api { what: what(), source })?;
    match api.create(&collection, &object).await {
        Ok(_) => Ok(()),
        // Somebody else was faster; ours is laid over it.
        Err(e) if e.already_exists() => api
            .patch(&secret_path(name)?, Patch::Merge, &patch)
            .await
            .map(drop)
            .map_err(|source| SecretError::Api { what: what(), source }),
        Err(source) => Err(SecretError::Api { what: what(), source }),
    }
}

async fn read_secret_pair(
    api: &ApiServer,
    (name, [certificate, key]): &(&str, [&str; 2]),
) -> Result<Option<Pair>, SecretError> {
    let Some(mut data) = read_secret(api, name).await? else { return Ok(None) };
    match (data.remove(*certificate), data.remove(*key)) {
        (Some(certificate), Some(key)) => {
            Ok(Some(Pair { certificate: CertificateDer::from(certificate), key }))
        }
        (None, None) => Ok(None),
        _ => Err(SecretError::Unusable {
            what: format!("the Secret `{NAMESPACE}/{name}`"),
            why: format!(
                "it needs both `{certificate}` and `{key}`; delete it to have it made anew"
            ),
        }),
    }
}

async fn store_pair(
    api: &ApiServer,
    (name, [certificate, key]): &(&str, [&str; 2]),
    pair: &Pair,
    stored: Option<&Pair>,
) -> Result<(), SecretError> {
    if stored.is_some_and(|s| s.certificate == pair.certificate && s.key == pair.key) {
        return Ok(());
    }
    let data = BTreeMap::from([
        ((*certificate).to_owned(), Some(pair.certificate.to_vec())),
        ((*key).to_owned(), Some(pair.key.clone())),
    ]);
    write_secret(api, name, &data).await
}

async fn ensure_namespace(api: &ApiServer) -> Result<(), SecretError> {
    let what = || format!("create the namespace `{NAMESPACE}`");
    let of = |source| SecretError::Api { what: what(), source };
    let collection = ApiPath::of("v1", "namespaces", None).map_err(of)?;
    match api.get(&collection.clone().named(NAMESPACE).map_err(of)?).await {
        Ok(_) => return Ok(()),
        Err(e) if e.is_not_found() => {}
        Err(source) => return Err(of(source)),
    }
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
    });
    match api.create(&collection, &RawJson::of(&object).unwrap_or_else(|_| RawJson::null())).await {
        Err(e) if !e.already_exists() => Err(of(e)),
        _ => Ok(()),
    }
}

fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Makes a token, notes it in the ledger, and returns it.
///
/// # Errors
/// When the ledger cannot be written.
pub async fn issue_token(
    api: &ApiServer,
    ca: &Ca,
    ttl: Duration,
    purpose: &str,
) -> Result<(Token, TokenId), SecretError> {
    let now = unix_now();
    let expires = now.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
    let (token, id) = tokens::issue(ca.certificate(), ca.token_key(), now, expires);
    let mut ledger = read_ledger(api).await?;
    let issued = Issued { expires, created: now, purpose: purpose.to_owned(), revoked: false };
    ledger.0.insert(id.clone(), issued);
    write_ledger(api, ledger).await?;
    Ok((token, id))
}

/// The CA in the Secret, for `keadm gettoken` on a machine without cloudcore's files.
///
/// # Errors
/// When there is none yet, or it cannot be used.
pub async fn stored_ca(api: &ApiServer) -> Result<Option<Ca>, SecretError> {
    let Some(pair) = read_secret_pair(api, &CA_SECRET).await? else { return Ok(None) };
    Ok(Some(Ca::new(pair.certificate, &pair.key, "the Secret `kubeedge/casecret`")?))
}

/// The token that `keadm gettoken` prints: the one in the Secret, as cloudcore keeps it fresh.
///
/// # Errors
/// When the Secret cannot be read.
pub async fn stored_token(api: &ApiServer) -> Result<Option<String>, SecretError> {
    let data = read_secret(api, TOKEN_SECRET.0).await?.unwrap_or_default();
    Ok(data.get(TOKEN_SECRET.1).and_then(|t| String::from_utf8(t.clone()).ok()))
}

/// All tokens that have not expired.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn list_tokens(api: &ApiServer) -> Result<Ledger, SecretError> {
    let mut ledger = read_ledger(api).await?;
    ledger.prune(unix_now());
    Ok(ledger)
}

/// From now on the token is refused.
///
/// # Errors
/// When there is no such token, or the ledger cannot be written.
pub async fn revoke_token(api: &ApiServer, id: &TokenId) -> Result<(), SecretError> {
    let mut ledger = read_ledger(api).await?;
    let issued = ledger.0.get_mut(id).ok_or_else(|| SecretError::NoToken(id.clone()))?;
    issued.revoked = true;
    write_ledger(api, ledger).await
}

/// Whether a token was revoked. Read each time: joins are rare, and a revocation should hold at
/// once.
pub(super) async fn is_revoked(api: &ApiServer, id: &TokenId) -> Result<bool, SecretError> {
    Ok(read_ledger(api).await?.is_revoked(id))
}

async fn read_ledger(api: &ApiServer) -> Result<Ledger, SecretError> {
    Ok(Ledger::read(&read_secret(api, LEDGER).await?.unwrap_or_default()))
}

async fn write_ledger(api: &ApiServer, mut ledger: Ledger) -> Result<(), SecretError> {
    let mut data: BTreeMap<String, Option<Vec<u8>>> =
        ledger.0.keys().map(|id| (id.0.clone(), None)).collect();
    ledger.prune(unix_now());
    data.extend(ledger.write().into_iter().map(|(id, entry)| (id, Some(entry))));
    write_secret(api, LEDGER, &data).await
}

/// Sees to it that the token in the Secret is good for another `refresh`, and returns its id if a
/// new one was made.
///
/// # Errors
/// When a Secret cannot be read or written.
pub async fn refresh_token(
    api: &ApiServer,
    ca: &Ca,
    refresh: Duration,
) -> Result<Option<TokenId>, SecretError> {
    if let Some(stored) = stored_token(api).await? {
        let jwt = tokens::jwt_of(&stored, ca.certificate());
        let checked = jwt.and_then(|j| tokens::check(j, ca.token_key(), unix_now()).ok());
        if let Some(checked) = checked {
            let left = checked.expires - unix_now();
            let fresh = left > i64::try_from(refresh.as_secs()).unwrap_or(i64::MAX);
            if fresh && !is_revoked(api, &checked.id).await? {
                return Ok(None);
            }
        }
    }
    let (token, id) = issue_token(api, ca, refresh * 2, "automatic").await?;
    let data =
        BTreeMap::from([(TOKEN_SECRET.1.to_owned(), Some(token.as_str().as_bytes().to_vec()))]);
    write_secret(api, TOKEN_SECRET.0, &data).await?;
    Ok(Some(id))
}

/// Whether a node of this name has joined: it exists, and has been served by a cloudcore.
///
/// # Errors
/// When the API server does not answer.
pub(super) async fn node_state(api: &ApiServer, node: &NodeName) -> Result<NodeState, ApiError> {
    #[derive(Deserialize)]
    struct Node {
        metadata: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        annotations: Option<BTreeMap<String, String>>,
    }
    let path = ApiPath::object(&ObjectKey::cluster(Kind::Node, node.as_str()))?;
    let object = match api.get(&path).await {
        Ok(object) => object,
        Err(e) if e.is_not_found() => return Ok(NodeState::Unknown),
        Err(e) => return Err(e),
    };
    let annotations = object.to::<Node>().ok().and_then(|n| n.metadata.annotations);
    let served = annotations.is_some_and(|a| a.contains_key(crate::object::CLOUDCORE_ANNOTATION));
    Ok(if served { NodeState::Joined } else { NodeState::Exists })
}

/// What is known of a node's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeState {
    /// Nobody has it.
    Unknown,
    /// There is a Node, but no edge node has ever been connected under it.
    Exists,
    /// An edge node bears it.
    Joined,
}
