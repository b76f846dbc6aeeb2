//! Logs, exec, attach, port-forward and statistics of nodes that nobody can dial.
//!
//! ```text
//! API server ─► streamserver 10003 ─► tunnel of the node (10004) ─► edgestream ─► its kubelet API
//! ```
//!
//! [`server`] admits a node to its tunnel, [`tunnel`] moves the frames of all its connections,
//! [`streamserver`] answers the API server as that node's kubelet would, [`access`] says who may
//! ask, [`endpoint`] tells the API server where to ask, [`ask`] is for cloudcore's own questions.
//!
//! Owns: the tunnels.
//! Called by: `app.rs`.
//! Never: believes a header about who a node or a caller is.

pub mod access;
mod ask;
pub mod endpoint;
mod head;
pub mod server;
pub mod streamserver;
#[cfg(test)]
mod tests;
pub mod tunnel;

use std::collections::HashMap;
use std::sync::Arc;

use api::config::cloudcore::CloudStream;
use api::names::NodeName;
use parking_lot::Mutex;
use service::tls::{self, ClientAuth};
use service::{Policy, Service};
use tokio::net::TcpListener;

use self::access::Access;
pub use self::ask::NodeApis;
pub(crate) use self::ask::{Question, Verb};
use self::endpoint::Endpoint;
use self::tunnel::Tunnel;
use crate::apiserver::ApiServer;
use crate::cloudhub::listener::{self, Port};
use crate::cloudhub::secrets::{Pki, SecretError};
use crate::cloudhub::server::CAPS;
use crate::edgecontroller::index::Index;
use crate::error::Error;
use crate::metrics::Metrics;

/// The tunnel of each node that has one.
#[derive(Debug, Clone, Default)]
pub struct Tunnels {
    by_node: Arc<Mutex<HashMap<NodeName, Arc<Tunnel>>>>,
}

impl Tunnels {
    /// The node's tunnel.
    pub fn of(&self, node: &NodeName) -> Option<Arc<Tunnel>> {
        self.by_node.lock().get(node).cloned()
    }

    /// The nodes that have one.
    fn nodes(&self) -> Vec<NodeName> {
        self.by_node.lock().keys().cloned().collect()
    }

    /// A tunnel has been opened. An older one of the same node is dead without knowing it.
    fn open(&self, tunnel: &Arc<Tunnel>) {
        let older = self.by_node.lock().insert(tunnel.node().clone(), Arc::clone(tunnel));
        if let Some(older) = older {
            older.end();
        }
    }

    /// It has ended.
    fn close(&self, tunnel: &Arc<Tunnel>) {
        let mut by_node = self.by_node.lock();
        if by_node.get(tunnel.node()).is_some_and(|t| Arc::ptr_eq(t, tunnel)) {
            by_node.remove(tunnel.node());
        }
    }
}

/// cloudStream with its two ports bound.
pub struct Bound {
    /// `modules.cloudStream`
    pub settings: CloudStream,
    /// Port 10003.
    pub stream: TcpListener,
    /// Port 10004.
    pub tunnel: TcpListener,
    /// Asked who may; told where nodes are.
    pub api: ApiServer,
    /// Where those that open are entered.
    pub tunnels: Tunnels,
}

impl Bound {
    /// Serves both. Nodes show the certificates that they have for cloudhub, so that `tunnel_tls`
    /// is its.
    pub fn spawn(
        self,
        svc: &mut Service,
        pki: &Pki,
        tunnel_tls: Result<Arc<rustls::ServerConfig>, Error>,
        index: Arc<Mutex<Index>>,
        metrics: Metrics,
    ) {
        let Self { settings, stream, tunnel, api, tunnels } = self;
        let stopping = svc.stopping();
        let access = Access::new(api.clone(), settings.tls_stream_ca_file.clone());
        let (keeping, stop) = (access.clone(), stopping.clone());
        svc.spawn("streamaccess", Policy::StopAll, async move {
            tokio::select! {
                () = keeping.keep() => {}
                () = stop.cancelled() => {}
            }
            Ok(())
        });
        let port = stream.local_addr().map_or(settings.stream_port, |a| a.port());
        let shared = Arc::new(server::Shared {
            tunnels: tunnels.clone(),
            endpoint: Endpoint::new(api, port),
            metrics: metrics.clone(),
            stopping: stopping.clone(),
        });
        let (stop, counted) = (stopping.clone(), metrics.clone());
        svc.spawn("tunnels", Policy::StopAll, async move {
            let port = Port { listener: tunnel, name: "tunnels" };
            listener::accept(port, tunnel_tls?, CAPS, counted, stop, move |socket, peer, seat| {
                server::serve(socket, peer, seat, Arc::clone(&shared))
            })
            .await;
            Ok(())
        });
        let shared = Arc::new(streamserver::Shared {
            tunnels,
            index,
            access,
            metrics: metrics.clone(),
            stopping: stopping.clone(),
        });
        let tls = stream_tls(&settings, pki);
        svc.spawn("streams", Policy::StopAll, async move {
            let port = Port { listener: stream, name: "streams" };
            let serve = move |socket, peer, seat| {
                streamserver::serve(socket, peer, seat, Arc::clone(&shared))
            };
            listener::accept(port, tls?, streamserver::CAPS, metrics, stopping, serve).await;
            Ok(())
        });
    }
}

/// The stream port's own certificate, or that of all other ports.
fn stream_tls(settings: &CloudStream, pki: &Pki) -> Result<Arc<rustls::ServerConfig>, Error> {
    let (cert, key) = (&settings.tls_stream_cert_file, &settings.tls_stream_private_key_file);
    let identity = match cert.exists() && key.exists() {
        true => tls::Identity::from_files(cert, key)?,
        false => pki
            .server
            .identity("the server certificate")
            .map_err(|e| Error::Secrets(SecretError::Certificate(e)))?,
    };
    Ok(Arc::new(tls::server_config(&identity, ClientAuth::Requested, &[b"http/1.1"])?))
}
