//! The admission webhook: what makes no sense is refused when it is written, not found later.
//!
//! ```text
//! API server ─HTTPS─► server ─► review (parse) ─► checks (pure) ─► review (answer)
//!                                    └─ model, endpoints, rules: read from the API server
//! ```
//!
//! Owns: its certificate, its port, its registration at the API server.
//! Called by: `keadm admission`, and `app.rs` if asked for.
//! Never: refuses an update of a status, or what it could not look up (the API server decides by
//! the failure policy of the registration).

mod autonomy;
mod checks;
mod jobs;
mod registration;
mod review;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use service::tls::{self, ClientAuth, Identity};
use service::{Policy, Service};
use tokio::net::TcpListener;

use crate::apiserver::ApiServer;
use crate::cloudhub::certs::{Ca, CertError, ServerNames};
use crate::cloudhub::listener::{self, Port};
use crate::metrics::Metrics;

/// Between two looks whether the registration is still as it should be.
const EVERY: Duration = Duration::from_secs(600);

/// How the API server reaches the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// At this host name or address and the port that it listens on.
    Host(String),
    /// Through a Service, by its namespace and name, on port 443.
    Service(String, String),
}

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// Made at start, with a CA of its own that nobody keeps.
    Own,
    /// From files; the CA is what the API server is told to trust.
    Files {
        /// PEM.
        certificate: PathBuf,
        /// PEM.
        key: PathBuf,
        /// PEM.
        ca: PathBuf,
    },
}

/// What the caller decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How it is reached.
    pub reach: Reach,
    /// Its certificate.
    pub certificate: Certificate,
}

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The port cannot be had.
    #[error("the admission webhook cannot listen on `{address}`")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate cannot be made.
    #[error("the certificate of the admission webhook cannot be made")]
    Certificate(#[from] CertError),
    /// The certificate cannot be used.
    #[error("the certificate of the admission webhook cannot be used")]
    Tls(#[from] tls::TlsError),
}

/// The webhook with its port bound, and nothing running.
pub struct Admission {
    listener: TcpListener,
    at: SocketAddr,
    identity: Identity,
    ca: Vec<CertificateDer<'static>>,
    reach: Reach,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Admission {
    /// Binds the port and has a certificate.
    ///
    /// # Errors
    /// Whatever stands in the way.
    pub async fn build(settings: Settings) -> Result<Self, AdmissionError> {
        let address = settings.listen;
        let bind = |source| AdmissionError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let at = listener.local_addr().map_err(bind)?;
        let (identity, ca) = match &settings.certificate {
            Certificate::Own => own(&settings.reach)?,
            Certificate::Files { certificate, key, ca } => {
                let identity = Identity::from_files(certificate, key)?;
                (identity, tls::load_certificates(ca)?)
            }
        };
        Ok(Self { listener, at, identity, ca, reach: settings.reach })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// What a client must trust.
    pub fn ca(&self) -> &[CertificateDer<'static>] {
        &self.ca
    }

    /// Serves, and keeps itself registered.
    pub fn spawn(self, svc: &mut Service, api: ApiServer, metrics: Metrics) {
        let Self { listener, at, identity, ca, reach } = self;
        let stopping = svc.stopping();
        let registration = registration::Registration::new(&reach, at.port(), &ca);
        let (registrar, until) = (api.clone(), stopping.clone());
        let files = identity.clone();
        svc.spawn("admission-registration", Policy::StopAll, async move {
            let keep = async {
                loop {
                    // A certificate from files may have been renewed.
                    if let Err(error) = files.reload_if_changed() {
                        let error = service::error_chain(&error);
                        tracing::warn!(error, "the certificate cannot be read again");
                    }
                    registration.keep(&registrar).await;
                    tokio::time::sleep(EVERY).await;
                }
            };
            tokio::select! {
                () = keep => {}
                () = until.cancelled() => {}
            }
            Ok(())
        });
        svc.spawn("admission", Policy::StopAll, async move {
            let tls = Arc::new(tls::server_config(&identity, ClientAuth::None, &[b"http/1.1"])?);
            let shared = Arc::new(server::Shared {
                api,
                metrics: metrics.clone(),
                stopping: stopping.clone(),
            });
            let port = Port { listener, name: "admission" };
            listener::accept(port, tls, server::CAPS, metrics, stopping, move |stream, _, seat| {
                server::serve(stream, seat, Arc::clone(&shared))
            })
            .await;
            Ok(())
        });
    }
}

/// A certificate for the names by which the API server reaches it.
fn own(reach: &Reach) -> Result<(Identity, Vec<CertificateDer<'static>>), AdmissionError> {
    let ca = Ca::create()?;
    let names = match reach {
        Reach::Host(host) => vec![host.clone()],
        Reach::Service(namespace, name) => {
            vec![format!("{name}.{namespace}.svc"), format!("{name}.{namespace}"), name.clone()]
        }
    };
    let names = ServerNames::new(names.iter().map(String::as_str));
    let identity = ca.issue_server(&names)?.identity("the certificate of the webhook")?;
    Ok((identity, vec![ca.certificate().clone()]))
}

#[cfg(test)]
mod tests;
