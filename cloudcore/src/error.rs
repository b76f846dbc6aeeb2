//! Why cloudcore did not start or has stopped.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::cloudhub::secrets::SecretError;

/// See the module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kubeconfig.
    #[error("cannot use the kubeconfig `{path}`")]
    Kubeconfig {
        /// Its path; empty for that of the pod cloudcore runs in.
        path: PathBuf,
        /// The cause.
        #[source]
        source: service::BoxError,
    },
    /// No kubeconfig, and not in a cluster.
    #[error(
        "`kubeAPIConfig.kubeConfig` is empty and this is no pod of a cluster; name a kubeconfig there"
    )]
    NotInCluster(#[source] service::BoxError),
    /// Certificates and tokens.
    #[error("cannot prepare certificates and tokens")]
    Secrets(#[from] SecretError),
    /// TLS.
    #[error("cannot set up TLS")]
    Tls(#[from] service::tls::TlsError),
    /// A port.
    #[error("cannot listen on `{address}` (`{setting}`)")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// The setting that says so.
        setting: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The port for metrics.
    #[error("cannot listen for metrics (`commonConfig.monitorServer.bindAddress`)")]
    Admin(#[from] service::admin::AdminError),
    /// The socket of the status stream.
    #[error(transparent)]
    Status(#[from] crate::status::StatusError),
    /// The admission webhook.
    #[error(transparent)]
    Admission(#[from] crate::admission::AdmissionError),
    /// A part has failed.
    #[error(transparent)]
    Stopped(#[from] service::Stopped),
}
