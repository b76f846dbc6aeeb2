//! What cloudcore is made of. The table of contents.
//!
//! Owns: the wiring.
//! Called by: `keadm`, tests.
//! Never: ends the process; what fails is returned or told to the supervisor.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::config::cloudcore::{CloudCoreConfig, Listener};
use parking_lot::Mutex;
use service::backoff::Backoff;
use service::telemetry::LogLevel;
use service::tls::{self, ClientAuth};
use service::{Admin, CancellationToken, Policy, Service};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admission::{self, Admission};
use crate::apiserver::{ApiError, ApiServer};
use crate::cloudhub::budget::Budget;
use crate::cloudhub::dispatch::{Dispatcher, InWork};
use crate::cloudhub::listener::{self, Port};
use crate::cloudhub::outbox::Limits;
use crate::cloudhub::registry::{Origin, Registry};
use crate::cloudhub::secrets::{self, Pki, SecretError};
use crate::cloudhub::{bootstrap, server};
use crate::cloudstream::{self, NodeApis};
use crate::devicecontroller;
use crate::edgecontroller::downstream::Downstream;
use crate::edgecontroller::index::Index;
use crate::edgecontroller::upstream::{Context, Job, Upstreams, Work};
use crate::error::Error;
use crate::kubeconfig;
use crate::metrics::Metrics;
use crate::status::actions::Means;
use crate::status::{self, Passage, Status};
use crate::synccontroller::SyncController;
use crate::synccontroller::records::Records;
use crate::taskmanager::TaskManager;

/// How long the API server may take to come up while cloudcore starts.
const START_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// What the caller may bring.
#[derive(Default)]
pub struct Options {
    /// A client of the API server, with its CA as PEM, instead of those of the kubeconfig.
    pub client: Option<(kube::Client, String)>,
    /// What `/log-level` on the admin port changes.
    pub log_level: Option<LogLevel>,
    /// Serve the status stream on this unix socket; none is served otherwise.
    pub status_socket: Option<PathBuf>,
    /// Serve the admission webhook, too.
    pub admission: Option<admission::Settings>,
    /// The certificates, instead of those in files and Secrets; for tests.
    pub pki: Option<Pki>,
}

/// Where it listens; with port 0 in the configuration, only this knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Port 10000.
    pub websocket: Option<SocketAddr>,
    /// Port 10002.
    pub https: Option<SocketAddr>,
    /// Port 9091.
    pub admin: Option<SocketAddr>,
    /// Port 10003.
    pub stream: Option<SocketAddr>,
    /// Port 10004.
    pub tunnel: Option<SocketAddr>,
}

/// cloudcore with all ports bound, and nothing running.
pub struct CloudCore {
    config: CloudCoreConfig,
    api: ApiServer,
    api_ca: String,
    pki: Pki,
    metrics: Metrics,
    websocket: Option<TcpListener>,
    https: Option<TcpListener>,
    stream: Option<TcpListener>,
    tunnel: Option<TcpListener>,
    admin: Admin,
    status: Option<status::Bound>,
    admission: Option<Admission>,
    addresses: Addresses,
}

impl CloudCore {
    /// Reaches the API server, has certificates and a token, and binds every port.
    ///
    /// # Errors
    /// Whatever stands in the way; nothing is half-way up then.
    pub async fn build(config: CloudCoreConfig, options: Options) -> Result<Self, Error> {
        let absent = absent(&config);
        if !absent.is_empty() {
            tracing::warn!(
                modules = absent.join(", "),
                "these modules are asked for but not built yet; they are absent"
            );
        }
        let metrics = Metrics::default();
        let (client, api_ca) = match options.client {
            Some(client) => client,
            None => kubeconfig::client(&config.kube_api_config).await?,
        };
        let api = ApiServer::new(client, metrics.clone());
        let hub = &config.modules.cloud_hub;
        // Ports first: whoever finds one taken has touched nothing else yet.
        let websocket = bind(hub.websocket, "modules.cloudHub.websocket.port").await?;
        let https = bind(hub.https, "modules.cloudHub.https.port").await?;
        let streams = &config.modules.cloud_stream;
        let any = |port| Listener { address: hub.https.address, port, enable: streams.enable };
        let stream = bind(any(streams.stream_port), "modules.cloudStream.streamPort").await?;
        let tunnel = bind(any(streams.tunnel_port), "modules.cloudStream.tunnelPort").await?;
        let admin =
            Admin::bind(config.common_config.monitor_server.bind_address, options.log_level)
                .await?;
        let status = match &options.status_socket {
            Some(path) => Some(status::Bound::bind(path).await?),
            None => None,
        };
        let admission = match options.admission {
            Some(settings) => Some(Admission::build(settings).await?),
            None => None,
        };
        let pki = match options.pki {
            Some(pki) => pki,
            None => patiently(|| secrets::load_or_create(&api, hub)).await?,
        };
        let refresh = hours(hub.token_refresh_duration);
        patiently(|| secrets::refresh_token(&api, &pki.ca, refresh)).await?;
        let local = |l: &Option<TcpListener>| l.as_ref().and_then(|l| l.local_addr().ok());
        let addresses = Addresses {
            websocket: local(&websocket),
            https: local(&https),
            admin: admin.local_addr().ok(),
            stream: local(&stream),
            tunnel: local(&tunnel),
        };
        Ok(Self {
            config,
            api,
            api_ca,
            pki,
            metrics,
            websocket,
            https,
            stream,
            tunnel,
            admin,
            status,
            admission,
            addresses,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The CA and the server certificate.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The API server, for whoever wants a token.
    pub fn api(&self) -> &ApiServer {
        &self.api
    }

    /// Starts everything.
    pub fn spawn(self, svc: &mut Service) {
        let Self { config, api, api_ca, pki, metrics, websocket, https, .. } = self;
        let Self { admin, status, admission, .. } = self;
        let (stream, tunnel) = (self.stream, self.tunnel);
        let hub = config.modules.cloud_hub;
        let stopping = svc.stopping();
        if let Some(admission) = admission {
            admission.spawn(svc, api.clone(), metrics.clone());
        }
        metrics.register(svc.metrics());
        admin.spawn(svc);
        for (name, enable) in [
            ("edgeController", config.modules.edge_controller.enable),
            ("syncController", config.modules.sync_controller.enable),
        ] {
            if !enable {
                warn!(module = name, "it cannot be switched off: nothing works without it");
            }
        }

        let records = Arc::new(Mutex::new(Records::default()));
        let index = Arc::new(Mutex::new(Index::default()));
        let node_limit = usize::try_from(hub.node_limit).unwrap_or(usize::MAX);
        let registry = Arc::new(Registry::new(
            node_limit,
            Limits::default(),
            Arc::clone(&records),
            metrics.clone(),
        ));
        let shown = Arc::clone(registry.status());
        let tunnels = cloudstream::Tunnels::default();
        let nodes = NodeApis::new(tunnels.clone(), Arc::clone(&index));
        run(svc, "usage", stopping.clone(), Arc::clone(&shown).measure(nodes.clone()));
        let means = Means { api: api.clone(), nodes: Some(nodes) };
        if let Some(socket) = status {
            let shown = Arc::clone(&shown);
            spawn(svc, "status", socket.serve(shown, means.clone(), stopping.clone()));
        }
        let upstreams = Upstreams::spawn(
            svc,
            Arc::new(Context {
                api: api.clone(),
                registry: Arc::clone(&registry),
                index: Arc::clone(&index),
                address: hub.subject_names().next().unwrap_or("127.0.0.1").to_owned(),
                api_ca,
                metrics: metrics.clone(),
            }),
        );
        let (downstream, joining) = Downstream::new(
            api.clone(),
            Arc::clone(&index),
            Arc::clone(&registry),
            Arc::clone(&records),
            metrics.clone(),
        );
        let devices = config.modules.device_controller.enable.then(|| {
            devicecontroller::Downstream::new(
                api.clone(),
                Arc::clone(&index),
                Arc::clone(&registry),
                Arc::clone(&records),
                metrics.clone(),
            )
        });
        let (known, records_known) = watch::channel(false);
        let sync = SyncController {
            api: api.clone(),
            records: Arc::clone(&records),
            index: Arc::clone(&index),
            registry: Arc::clone(&registry),
            downstream: downstream.clone(),
            devices: devices.clone(),
            known,
            metrics: metrics.clone(),
        };
        let ready = svc.readiness().part("edgecontroller");
        let live = downstream.liveness();
        let first = downstream.clone();
        run(svc, "readiness", stopping.clone(), async move {
            first.is_live().await;
            drop(ready);
            std::future::pending::<()>().await;
        });
        spawn(svc, "edgecontroller", downstream.run(joining, stopping.clone()));
        spawn(svc, "synccontroller", sync.run(stopping.clone()));
        let reports = devices.as_ref().map(|d| d.upstream().clone());
        if let Some(devices) = devices {
            spawn(svc, "devicecontroller", devices.run(records_known, stopping.clone()));
        }
        let tasks = config
            .modules
            .task_manager
            .enable
            .then(|| TaskManager::new(api.clone(), Arc::clone(&registry), metrics.clone()));
        if let Some(tasks) = tasks.clone() {
            spawn(svc, "taskmanager", tasks.run(stopping.clone()));
        }
        run(svc, "served", stopping.clone(), tell_served(Arc::clone(&registry), upstreams.clone()));

        let pki = Arc::new(pki);
        let refresh = hours(hub.token_refresh_duration);
        run(svc, "tokens", stopping.clone(), keep_token(api.clone(), Arc::clone(&pki), refresh));
        if let (Some(stream), Some(tunnel)) = (stream, tunnel) {
            let settings = config.modules.cloud_stream;
            let streams =
                cloudstream::Bound { settings, stream, tunnel, api: api.clone(), tunnels };
            streams.spawn(svc, &pki, websocket_tls(&pki), Arc::clone(&index), metrics.clone());
        }
        let dispatcher = Dispatcher {
            registry,
            index,
            upstreams,
            devices: reports,
            tasks,
            live,
            metrics: metrics.clone(),
        };
        if let Some(listener) = websocket {
            let shared = Arc::new(server::Shared {
                dispatcher,
                budget: Budget::new(server::MEMORY),
                keepalive: Duration::from_secs(hub.keepalive_interval.max(1).into()),
                stopping: stopping.clone(),
            });
            serve_websocket(svc, listener, &pki, shared, metrics.clone());
        }
        if let Some(listener) = https {
            let days = i32::try_from(hub.edge_cert_signing_duration).unwrap_or(i32::MAX);
            if let (Ok(at), Some(host)) = (listener.local_addr(), hub.subject_names().next()) {
                let ca = pki.ca.certificate().to_vec();
                let told = status::publish(api.clone(), host.to_owned(), at.port(), ca);
                run(svc, "publish", stopping.clone(), async move {
                    told.await;
                    // A part that ends stops all.
                    std::future::pending::<()>().await;
                });
            }
            let shared = (means, records, shown);
            serve_bootstrap(svc, listener, pki, days, shared, metrics);
        }
    }
}

fn serve_websocket(
    svc: &mut Service,
    listener: TcpListener,
    pki: &Pki,
    shared: Arc<server::Shared>,
    metrics: Metrics,
) {
    let stopping = svc.stopping();
    let tls = websocket_tls(pki);
    svc.spawn("cloudhub", Policy::StopAll, async move {
        let port = Port { listener, name: "cloudhub" };
        listener::accept(port, tls?, server::CAPS, metrics, stopping, move |stream, peer, seat| {
            server::serve(stream, peer, seat, Arc::clone(&shared))
        })
        .await;
        Ok(())
    });
}

fn serve_bootstrap(
    svc: &mut Service,
    listener: TcpListener,
    pki: Arc<Pki>,
    days: i32,
    (means, records, status): (Means, Arc<Mutex<Records>>, Arc<Status>),
    metrics: Metrics,
) {
    let stopping = svc.stopping();
    svc.spawn("bootstrap", Policy::StopAll, async move {
        let roots = tls::roots([pki.ca.certificate().clone()])?;
        let identity = pki.server.identity("the server certificate")?;
        let tls = Arc::new(tls::server_config(&identity, ClientAuth::Requested, &[b"http/1.1"])?);
        let shared = Arc::new(bootstrap::Shared {
            pki,
            roots,
            days,
            means,
            records,
            metrics: metrics.clone(),
            stopping: stopping.clone(),
            limits: Mutex::default(),
            status,
        });
        let port = Port { listener, name: "bootstrap" };
        listener::accept(
            port,
            tls,
            bootstrap::CAPS,
            metrics,
            stopping,
            move |stream, peer, seat| bootstrap::serve(stream, peer, seat, Arc::clone(&shared)),
        )
        .await;
        Ok(())
    });
}

fn websocket_tls(pki: &Pki) -> Result<Arc<rustls::ServerConfig>, Error> {
    let identity = pki
        .server
        .identity("the server certificate")
        .map_err(|e| Error::Secrets(SecretError::Certificate(e)))?;
    let roots = tls::roots([pki.ca.certificate().clone()])?;
    Ok(Arc::new(tls::server_config(&identity, ClientAuth::Required(roots), &[b"http/1.1"])?))
}

/// A part that sees `stopping` itself.
fn spawn(svc: &mut Service, name: &str, part: impl Future<Output = ()> + Send + 'static) {
    svc.spawn(name, Policy::StopAll, async move {
        part.await;
        Ok(())
    });
}

/// A part that may be dropped at any await.
fn run(
    svc: &mut Service,
    name: &str,
    stopping: CancellationToken,
    part: impl Future<Output = ()> + Send + 'static,
) {
    spawn(svc, name, async move {
        tokio::select! {
            () = part => {}
            () = stopping.cancelled() => {}
        }
    });
}

fn hours(n: u32) -> Duration {
    Duration::from_secs(u64::from(n.max(1)) * 3600)
}

async fn bind(at: Listener, setting: &'static str) -> Result<Option<TcpListener>, Error> {
    if !at.enable {
        return Ok(None);
    }
    let address = at.socket_addr();
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|source| Error::Bind { address, setting, source })
}

/// Tries again while the API server comes up.
async fn patiently<T, F>(mut what: impl FnMut() -> F) -> Result<T, SecretError>
where
    F: Future<Output = Result<T, SecretError>>,
{
    let until = tokio::time::Instant::now() + START_LIMIT;
    let mut attempt = 0;
    loop {
        match what().await {
            Err(SecretError::Api { what, source: ApiError::Unreachable(why) })
                if tokio::time::Instant::now() < until =>
            {
                warn!(what, why, "the API server is not there yet");
                tokio::time::sleep(PAUSE.next_delay(attempt)).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Sees to it that there is always a token with which a node can join.
async fn keep_token(api: ApiServer, pki: Arc<Pki>, refresh: Duration) {
    let mut attempt = 0;
    loop {
        let pause = match secrets::refresh_token(&api, &pki.ca, refresh).await {
            Ok(made) => {
                attempt = 0;
                if let Some(id) = made {
                    info!(%id, "a new token is in the Secret `kubeedge/tokensecret`");
                }
                refresh.min(Duration::from_secs(600))
            }
            Err(error) => {
                warn!(error = service::error_chain(&error), "the token could not be refreshed");
                attempt += 1;
                PAUSE.next_delay(attempt)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Whenever a node connects, its Node object is to say which cloudcore serves it.
async fn tell_served(registry: Arc<Registry>, upstreams: Upstreams) {
    let mut connections = registry.connections();
    loop {
        let node = match connections.recv().await {
            Ok(node) => node,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let job = Job {
            origin: Origin { node, session: 0 },
            id: api::names::MessageId::random(),
            resource: Box::default(),
            work: Work::Served,
            memory: None,
            in_work: InWork::own(),
            passage: Passage::begin(0, 0),
        };
        // A full queue means thousands of requests in work: the annotation can wait for the next
        // connect.
        drop(upstreams.submit(job));
    }
}

/// The modules that the configuration asks for and that are not built yet.
fn absent(config: &CloudCoreConfig) -> Vec<&'static str> {
    let m = &config.modules;
    let asked = [("dynamicController", m.dynamic_controller.enable), ("router", m.router.enable)];
    asked.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod absent_tests {
    use super::*;
    use api::config::{ConfigFile, Host};

    #[test]
    fn what_the_configuration_asks_for_in_vain_is_named() {
        let mut config = CloudCoreConfig::default_for(&Host::default());
        let before = absent(&config);
        config.modules.router.enable = !config.modules.router.enable;
        let after = absent(&config);
        assert_ne!(before.contains(&"router"), after.contains(&"router"));
    }
}
