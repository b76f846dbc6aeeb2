//! Where the status stream is: named, on this machine, or as a cluster publishes it.
//!
//! Owns: the order in which is looked.
//! Called by: `fleet.rs`, `dashboard`.
//! Never: falls back where one was named.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use rustls::ClientConfig;
use service::tls::{self, ServerTrust};

use super::{FleetArgs, StreamReader};
use crate::commands::STATUS_SOCKET;
use crate::context::Context;
use crate::errors::{CommandError, Kind, file_error};
use crate::https::HostPort;

/// The file name of edgecore's status stream, in the folder for sockets or that of `keadm up`.
pub const EDGE_SOCKET: &str = "edgecore-status.sock";

/// Where a stream is.
#[derive(Clone)]
pub enum Endpoint {
    /// A socket of this machine.
    Unix(Utf8PathBuf),
    /// A cloudcore's HTTPS port.
    Tls {
        /// Its address.
        at: HostPort,
        /// Whom to trust, and with which certificate to come.
        config: Arc<ClientConfig>,
        /// A bearer token, if one is used. A secret.
        token: Option<String>,
    },
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => path.fmt(f),
            Self::Tls { at, .. } => write!(f, "https://{at}"),
        }
    }
}

/// Who answers.
pub(super) enum Found {
    /// A stream.
    Stream(Box<StreamReader>),
    /// Only the API server; and why.
    #[cfg(feature = "cloud")]
    Kubernetes(Box<crate::cloud::Cloud>, String),
}

/// The sockets of a file name that a program of this machine may serve, the most likely first. Pure.
pub(crate) fn sockets(
    cx: &Context,
    file: &str,
    state: Option<&str>,
    home: Option<&str>,
) -> Vec<Utf8PathBuf> {
    let mut found = vec![cx.paths.run().join(file)];
    let absolute = |p: &&str| p.starts_with('/');
    // Where `keadm up` keeps its state, as root and as anybody else.
    found.push(cx.paths.at("/var/lib/keadm").join(file));
    let state = state.filter(absolute).map(Utf8PathBuf::from);
    let home = home.filter(absolute).map(|h| Utf8Path::new(h).join(".local/state"));
    found.extend(state.or(home).map(|d| d.join("keadm").join(file)));
    found
}

fn sockets_here(args: &FleetArgs, cx: &Context, file: &str) -> Vec<Utf8PathBuf> {
    if let Some(folder) = args.data_dir.as_ref().filter(|folder| !folder.as_str().is_empty()) {
        return vec![folder.join(file)];
    }
    let (state, home) = (std::env::var("XDG_STATE_HOME").ok(), std::env::var("HOME").ok());
    sockets(cx, file, state.as_deref(), home.as_deref())
}

/// Looks for a stream, and connects.
pub(super) async fn stream(args: &FleetArgs, cx: &Context) -> Result<Found, CommandError> {
    let open = async |endpoint: &Endpoint| {
        StreamReader::open(endpoint, args.limit.request_timeout).await.map(Box::new)
    };
    if args.local {
        return local(args, cx).await.map(Found::Stream);
    }
    if let Some(text) = args.endpoint.as_deref().filter(|text| !text.is_empty()) {
        return open(&named(args, cx, text).await?).await.map(Found::Stream);
    }
    #[cfg(feature = "cloud")]
    if args.kube.is_named() {
        return through_cluster(args, cx).await;
    }
    let mut failure = None;
    for path in sockets_here(args, cx, STATUS_SOCKET).into_iter().filter(|path| path.exists()) {
        match open(&Endpoint::Unix(path)).await {
            Ok(reader) => return Ok(Found::Stream(reader)),
            Err(e) => failure = failure.or(Some(e)),
        }
    }
    #[cfg(feature = "cloud")]
    if args.kube.file(cx).is_ok() {
        return through_cluster(args, cx).await;
    }
    if sockets_here(args, cx, EDGE_SOCKET).iter().any(|path| path.exists()) {
        let reader = local(args, cx).await?;
        let node = reader.hello().node.clone().unwrap_or_default();
        cx.printer.say(format!("note: no cloud is reachable from here; this is `{node}` alone"));
        return Ok(Found::Stream(reader));
    }
    Err(failure.unwrap_or_else(|| nothing(args, cx)))
}

/// The edge half of this machine.
async fn local(args: &FleetArgs, cx: &Context) -> Result<Box<StreamReader>, CommandError> {
    let all = sockets_here(args, cx, EDGE_SOCKET);
    let Some(path) = all.iter().find(|path| path.exists()) else {
        let looked: Vec<String> = all.iter().map(|p| format!("`{p}`")).collect();
        return Err(CommandError::new(
            Kind::Unreachable,
            format!("no edgecore runs here: there is no {}", looked.join(" and no ")),
        )
        .hint("it may be readable by root alone: try it with `sudo`")
        .hint("`--data-dir DIR` names the folder of a `keadm up` that was told one")
        .hint(
            "`systemctl status edgecore` tells whether it runs; `keadm check edge` what is wrong",
        ));
    };
    StreamReader::open(&Endpoint::Unix(path.clone()), args.limit.request_timeout)
        .await
        .map(Box::new)
}

fn nothing(args: &FleetArgs, cx: &Context) -> CommandError {
    let looked: Vec<String> =
        sockets_here(args, cx, STATUS_SOCKET).iter().map(|p| format!("`{p}`")).collect();
    CommandError::new(
        Kind::Unreachable,
        format!(
            "no cloudcore serves a status stream here, and there is no kubeconfig: there is no {}",
            looked.join(" and no ")
        ),
    )
    .hint("`keadm up` starts a cloud on this machine; `--data-dir DIR` names the folder of one that has its own")
    .hint("`--kube-config FILE` finds one through its cluster; `--endpoint https://HOST:10002` names it")
    .hint("on the cloud machine it may be readable by root alone: try it with `sudo`")
}

/// `--endpoint`
async fn named(args: &FleetArgs, cx: &Context, text: &str) -> Result<Endpoint, CommandError> {
    let Some(at) = text.strip_prefix("https://") else {
        if text.contains("://") {
            return Err(CommandError::new(
                Kind::Usage,
                format!("`{text}` is neither a socket's path nor `https://HOST:PORT`"),
            ));
        }
        let path = text.strip_prefix("unix:").unwrap_or(text);
        return Ok(Endpoint::Unix(path.into()));
    };
    let at = at.trim_end_matches('/');
    let at = if at.contains(':') { at.to_owned() } else { format!("{at}:10002") };
    let at: HostPort = at.parse().map_err(|e| CommandError::new(Kind::Usage, e))?;
    tls_endpoint(args, cx, at, None).await
}

fn token(args: &FleetArgs, cx: &Context) -> Result<Option<String>, CommandError> {
    let Some(file) = &args.token_file else { return Ok(None) };
    let text = cx.host.read(file).map_err(|e| file_error("read", file, &e))?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if text.is_empty() {
        return Err(CommandError::new(Kind::Usage, format!("the file `{file}` holds no token")));
    }
    Ok(Some(text))
}

/// A cloudcore at an address. `ca` is what its cluster publishes, if that is known already.
async fn tls_endpoint(
    args: &FleetArgs,
    cx: &Context,
    at: HostPort,
    ca: Option<Vec<u8>>,
) -> Result<Endpoint, CommandError> {
    let mut token = token(args, cx)?;
    let ca = match (&args.certificate_authority, ca) {
        (Some(file), _) => Some(cx.host.read(file).map_err(|e| file_error("read", file, &e))?),
        (None, ca) => ca,
    };
    #[cfg(feature = "cloud")]
    if let Ok(cloud) = args.kube.client(cx).await {
        let ca = match ca {
            Some(ca) => ca,
            None => published(&cloud).await?.1,
        };
        let cas = certificates(&ca)?;
        if token.is_none() {
            token = cloud.token().await?;
        }
        // A token that was named is whom to come as; else as the kubeconfig says.
        let config = if args.token_file.is_some() {
            client(cas)?
        } else {
            cloud.tls(cas.iter().map(|c| c.to_vec()).collect()).await?
        };
        return Ok(Endpoint::Tls { at, config, token });
    }
    let Some(ca) = ca else {
        return Err(CommandError::new(
            Kind::Usage,
            format!("nothing says which CA has signed the certificate of `{at}`"),
        )
        .hint("name it with `--certificate-authority FILE`, or a kubeconfig of its cluster"));
    };
    let config = client(certificates(&ca)?)?;
    Ok(Endpoint::Tls { at, config, token: token.take() })
}

type Ca = rustls::pki_types::CertificateDer<'static>;

fn certificates(pem: &[u8]) -> Result<Vec<Ca>, CommandError> {
    tls::certificates(pem, "the CA of the status stream").map_err(|e| unusable(&e))
}

fn client(cas: Vec<Ca>) -> Result<Arc<ClientConfig>, CommandError> {
    let roots = tls::roots(cas).map_err(|e| unusable(&e))?;
    let config = tls::client_config(ServerTrust::Roots(roots), None, &[b"http/1.1"]);
    config.map(Arc::new).map_err(|e| unusable(&e))
}

fn unusable(e: &tls::TlsError) -> CommandError {
    CommandError::new(Kind::Failed, "cannot prepare TLS for the status stream").caused_by(e)
}

/// Where a cluster says that its stream is, and whose CA signs there.
#[cfg(feature = "cloud")]
async fn published(cloud: &crate::cloud::Cloud) -> Result<(HostPort, Vec<u8>), CommandError> {
    use k8s_openapi::api::core::v1::ConfigMap;
    let what = "read the ConfigMap `kubeedge/status-stream`";
    let api: kube::Api<ConfigMap> = kube::Api::namespaced(cloud.client.clone(), "kubeedge");
    let data = api.get("status-stream").await.map_err(|e| cloud.error(what, &e))?.data;
    let data = data.unwrap_or_default();
    let wrong =
        || CommandError::new(Kind::Failed, "the ConfigMap `kubeedge/status-stream` makes no sense");
    let at = data.get("endpoint").and_then(|e| e.strip_prefix("https://")).ok_or_else(wrong)?;
    let at = at.parse().map_err(|e: String| wrong().because(e))?;
    let ca = data.get("ca.crt").ok_or_else(wrong)?;
    Ok((at, ca.clone().into_bytes()))
}

/// The stream that a cluster publishes; else the cluster itself.
#[cfg(feature = "cloud")]
async fn through_cluster(args: &FleetArgs, cx: &Context) -> Result<Found, CommandError> {
    let cloud = args.kube.client_with(cx, None).await?;
    let opened = async {
        let (at, ca) = published(&cloud).await?;
        let endpoint = tls_endpoint(args, cx, at, Some(ca)).await?;
        StreamReader::open(&endpoint, args.limit.request_timeout).await.map(Box::new)
    };
    match tokio::time::timeout(args.limit.request_timeout, opened).await {
        Ok(Ok(reader)) => Ok(Found::Stream(reader)),
        Ok(Err(e)) => {
            let why = match e.causes().first() {
                Some(cause) => format!("{}: {cause}", e.message()),
                None => e.message().to_owned(),
            };
            Ok(Found::Kubernetes(Box::new(cloud), why))
        }
        Err(_) => {
            let why = format!("no status stream within {} s", args.limit.request_timeout.as_secs());
            Ok(Found::Kubernetes(Box::new(cloud), why))
        }
    }
}

/// The cluster of the kubeconfig, and why there is no stream, where only the cluster answers.
#[cfg(all(feature = "cloud", feature = "dashboard"))]
pub(crate) async fn without_stream(
    args: &FleetArgs,
    cx: &Context,
) -> Option<(crate::cloud::Cloud, String)> {
    match stream(args, cx).await {
        Ok(Found::Kubernetes(cloud, why)) => Some((*cloud, why)),
        Ok(Found::Stream(_)) | Err(_) => None,
    }
}

/// A stream of that cluster that answers now.
#[cfg(all(feature = "cloud", feature = "dashboard"))]
pub(crate) async fn reachable(args: &FleetArgs, cx: &Context) -> Option<Endpoint> {
    let limit = args.limit.request_timeout;
    let given = args.kube.is_named();
    let here =
        sockets_here(args, cx, STATUS_SOCKET).into_iter().filter(|path| !given && path.exists());
    for endpoint in here.map(Endpoint::Unix) {
        if StreamReader::open(&endpoint, limit).await.is_ok() {
            return Some(endpoint);
        }
    }
    let published = async {
        let cloud = args.kube.client_with(cx, None).await?;
        let (at, ca) = published(&cloud).await?;
        let endpoint = tls_endpoint(args, cx, at, Some(ca)).await?;
        StreamReader::open(&endpoint, limit).await?;
        Ok::<_, CommandError>(endpoint)
    };
    tokio::time::timeout(limit, published).await.ok()?.ok()
}

/// The stream's endpoint for the dashboard, which connects by itself.
///
/// # Errors
/// When none is to be found.
pub async fn endpoint(args: &FleetArgs, cx: &Context) -> Result<Endpoint, CommandError> {
    let existing = |file| sockets_here(args, cx, file).into_iter().find(|path| path.exists());
    if args.local {
        return match existing(EDGE_SOCKET) {
            Some(path) => Ok(Endpoint::Unix(path)),
            None => local(args, cx).await.map(|_| Endpoint::Unix(EDGE_SOCKET.into())),
        };
    }
    if let Some(text) = args.endpoint.as_deref().filter(|text| !text.is_empty()) {
        return named(args, cx, text).await;
    }
    #[cfg(feature = "cloud")]
    let given = args.kube.is_named();
    #[cfg(not(feature = "cloud"))]
    let given = false;
    if !given && let Some(path) = existing(STATUS_SOCKET) {
        return Ok(Endpoint::Unix(path));
    }
    #[cfg(feature = "cloud")]
    if given || args.kube.file(cx).is_ok() {
        let cloud = args.kube.client(cx).await?;
        let (at, ca) = published(&cloud).await?;
        return tls_endpoint(args, cx, at, Some(ca)).await;
    }
    existing(EDGE_SOCKET).map(Endpoint::Unix).ok_or_else(|| nothing(args, cx))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installed_cloudcore_comes_before_that_of_keadm_up() {
        let cx = crate::testing::context(&crate::host::fake::Fake::default());
        let names = |state, home| {
            let all = sockets(&cx, STATUS_SOCKET, state, home).into_iter();
            all.map(String::from).collect::<Vec<_>>()
        };
        let installed = cx.paths.at("/run/kubeedge/cloudcore-status.sock");
        let root = cx.paths.at("/var/lib/keadm/cloudcore-status.sock");
        let mut all = names(None, Some("/home/a"));
        assert_eq!(all.remove(0), installed);
        assert_eq!(all, [root.as_str(), "/home/a/.local/state/keadm/cloudcore-status.sock"]);
        assert_eq!(names(Some("/state"), Some("/home/a"))[2], "/state/keadm/cloudcore-status.sock");
        assert_eq!(names(Some("relative"), None).len(), 2);
    }
}
