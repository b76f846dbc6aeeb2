//! A Kubernetes-compatible API server for one machine.
//!
//! Owns: a data folder (one SQLite file, keys, the administrator's kubeconfig) and a port.
//! Called by: `keadm up`, `keadm init --embedded`, and tests. Never: needs another process.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let mut svc = service::Service::new("control-plane");
//! let config = control_plane::Config::new("/var/lib/kubeedge/control-plane".into());
//! let built = control_plane::ControlPlane::build(config, &svc).await?;
//! let running = built.spawn(&mut svc);
//! println!("export KUBECONFIG={}", running.kubeconfig().display());
//! svc.until_stopped().await?;
//! # Ok(()) }
//! ```

pub mod backup;
mod bootstrap;
mod controllers;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod http;
mod plane;
mod registry;
mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use service::{Policy, Service, tls};
use tokio::net::TcpListener;

pub use bootstrap::BootstrapError;

use plane::Plane;

/// The port of a Kubernetes API server.
pub const PORT: u16 = 6443;

/// Where the control plane lives and listens.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of the database, the keys and the kubeconfig; made if missing, for its owner only.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Names and addresses that clients use beside the local ones.
    pub extra_sans: Vec<String>,
    /// How long clients may take, and how much they may ask at once.
    pub limits: ClientLimits,
}

/// How long clients may take, and how much they may ask at once.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// To send the head of a request; a connection may be idle that long between two.
    pub head: Duration,
    /// To send the body of a request.
    pub body: Duration,
    /// To take any of what is sent to them: who reads nothing for that long is cut off.
    pub answer: Duration,
    /// Requests at once that read; watches and streams are not among them.
    pub reads: usize,
    /// Requests at once that write.
    pub writes: usize,
    /// Watches at once.
    pub watches: usize,
}

impl Default for ClientLimits {
    /// The numbers of reads and writes are Kubernetes' own.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(120),
            body: Duration::from_secs(60),
            answer: Duration::from_secs(300),
            reads: 400,
            writes: 200,
            watches: 20_000,
        }
    }
}

impl Config {
    /// Listens on this machine only, at the usual port.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            extra_sans: Vec::new(),
            limits: ClientLimits::default(),
        }
    }
}

/// Why the control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Keys, certificates or their folder.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The database.
    #[error("cannot open the control plane's store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The port.
    #[error("cannot listen on {address}: is another API server running there?")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The TLS configuration.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The client certificate for kubelets.
    #[error("cannot make the client that asks kubelets")]
    Kubelets(#[source] tls::TlsError),
    /// A default object could not be written.
    #[error("cannot write the default objects: {0}")]
    Defaults(String),
    /// It ran and then stopped.
    #[error(transparent)]
    Stopped(#[from] service::Stopped),
}

/// A control plane with its port bound and its files open; nothing runs yet.
pub struct ControlPlane {
    plane: Arc<Plane>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    kubeconfig: PathBuf,
    ready: service::ReadyPart,
}

/// A control plane that runs.
#[derive(Debug, Clone)]
pub struct Running {
    address: SocketAddr,
    kubeconfig: PathBuf,
    ca_pem: String,
}

impl Running {
    /// Where the API is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The CA's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }
}

impl ControlPlane {
    /// Opens every file and binds the port.
    ///
    /// # Errors
    /// When a file cannot be used or the port is taken.
    pub async fn build(config: Config, svc: &Service) -> Result<Self, Error> {
        let ready = svc.readiness().part("control-plane");
        bootstrap::private_dir(&config.data_dir)?;
        let pki = config.data_dir.join("pki");
        bootstrap::private_dir(&pki)?;
        let authority = bootstrap::Authority::open(&pki)?;
        let key = bootstrap::account_key(&pki)?;
        let signer = http::tokens::Signer::new(&key).ok_or_else(|| BootstrapError::Damaged {
            path: pki.join("sa.key"),
            why: "it is not a P-256 key".to_owned(),
        })?;
        let path = config.data_dir.join("db").join("state.db");
        let open = move || store::Store::open(&path, store::compact::Limits::default());
        let store = match tokio::task::spawn_blocking(open).await {
            Ok(opened) => opened.map_err(|e| Error::Store(e.into()))?,
            Err(e) => return Err(Error::Store(e.into())),
        };
        let bind = config.bind;
        let listener = TcpListener::bind(bind)
            .await
            .map_err(|source| Error::Bind { address: bind, source })?;
        let address =
            listener.local_addr().map_err(|source| Error::Bind { address: bind, source })?;
        let identity = authority.server(&bootstrap::server_names(bind, &config.extra_sans))?;
        let tls = http::server::tls(&authority, identity).map_err(Error::Tls)?;
        let kubelets = kubelet_client(&authority)?;
        let (cert, client_key) = authority.client("kubernetes-admin", http::auth::MASTERS)?;
        let text = bootstrap::kubeconfig(
            address,
            &authority.pem,
            "kubernetes-admin",
            (&cert, &client_key),
        );
        let kubeconfig = config.data_dir.join("admin.conf");
        bootstrap::write_private(&kubeconfig, text.as_bytes())?;
        let plane = Arc::new(Plane {
            store,
            registry: registry::Registry::new(),
            signer,
            authorizer: http::rbac::Authorizer::default(),
            webhooks: http::webhooks::Webhooks::default(),
            reserved: http::services::Reserved::default(),
            kubelets,
            address,
            reached_at: controllers::apiserver::address(bind, &config.extra_sans),
            data_dir: config.data_dir,
            limits: config.limits,
            seats: http::seats::Seats::new(&config.limits),
            ca_pem: authority.pem.clone(),
            authority,
            stopping: svc.stopping(),
            started: AtomicBool::new(false),
        });
        controllers::prepare(&plane).await.map_err(|s| Error::Defaults(s.message))?;
        Ok(Self { plane, listener, tls: Arc::new(tls), kubeconfig, ready })
    }

    /// Starts to serve, and starts the controllers.
    pub fn spawn(self, svc: &mut Service) -> Running {
        let Self { plane, listener, tls, kubeconfig, ready } = self;
        let running = Running { address: plane.address, kubeconfig, ca_pem: plane.ca_pem.clone() };
        controllers::spawn(&plane, svc);
        plane.started.store(true, std::sync::atomic::Ordering::Relaxed);
        svc.spawn(
            "apiserver",
            Policy::StopAll,
            http::server::serve(Arc::clone(&plane), listener, tls),
        );
        drop(ready);
        running
    }
}

/// How kubelets are asked. As with a kube-apiserver that is not told a CA for them, any certificate
/// of theirs will do; they know this API server by its own.
fn kubelet_client(authority: &bootstrap::Authority) -> Result<Arc<rustls::ClientConfig>, Error> {
    const USER: &str = "kube-apiserver-kubelet-client";
    let (cert, key) = authority.client(USER, http::auth::MASTERS)?;
    let refused = |e: tls::TlsError| Error::Kubelets(e);
    let chain = tls::certificates(cert.as_bytes(), USER).map_err(refused)?;
    let key = tls::private_key(key.as_bytes(), USER).map_err(refused)?;
    let identity = tls::Identity::new(chain, key, USER).map_err(refused)?;
    let config = tls::client_config(tls::ServerTrust::Unverified, Some(&identity), &[b"http/1.1"]);
    config.map(Arc::new).map_err(refused)
}

/// Runs a control plane until the service is asked to stop.
///
/// # Errors
/// When it cannot start, or stops by itself.
pub async fn run(config: Config, mut svc: Service) -> Result<(), Error> {
    ControlPlane::build(config, &svc).await?.spawn(&mut svc);
    Ok(svc.until_stopped().await?)
}
