//! The wiring of edgecore: what is opened, which task is told what through which channel. What its parts
//! take from the configuration is in [`settings`].
//!
//! Owns: nothing once it has spawned. Reads as a table of contents.
//! Called by: [`run`](crate::run).
//! Never: waits for the cloud; an edge node starts without it.

mod settings;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::config::edgecore::EdgeCoreConfig;
use api::names::{Kind, NodeName, ObjectKey};
use service::stream::UnixSocket;
use service::{Admin, Policy, Service};
use tokio::sync::{Notify, mpsc, watch};

use self::settings::{
    absent, cert_settings, log_size, mutual_tls, node_ip, node_settings, runtime, seconds,
};
use crate::certs::CertSettings;
use crate::devicetwin::dmi::Dmi;
use crate::devicetwin::{self, DeviceTwin};
use crate::edged::cluster::StoreAndLink;
use crate::edged::node::facts;
use crate::edged::node::lease::LeaseKeeper;
use crate::edged::node::{AddressSource, NodeReporter, NodeTiming};
use crate::edged::runtime::{CgroupDriver, ContainerRuntime};
use crate::edged::{self, Clock, EdgedConfig, LocalApi, LogLimits, WantedChange};
use crate::edgehub::certs::Keeper;
use crate::edgehub::dispatch::Dispatch;
use crate::edgehub::link::{Link, LinkSettings, LinkState};
use crate::edgehub::metrics::HubMetrics;
use crate::edgehub::session::Timing;
use crate::edgehub::{Requests, ToCloud};
use crate::edgestream::{self, StreamSettings};
use crate::error::Error;
use crate::eventbus::EventBus;
use crate::metamanager::remote::Remote;
use crate::metamanager::{Objects, Store};
use crate::status::{self as own_status, Status};
use crate::taskmanager::{self, JobPaths, NoJobs, TaskManager};

/// After the last module let go of the database.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// What is not in `edgecore.yaml`.
#[derive(Clone)]
pub struct Options {
    /// The file from which a used token is removed.
    pub config_file: Option<PathBuf>,
    /// A file whose content, if there is one, is a token.
    pub bootstrap_file: PathBuf,
    /// Where `/healthz`, `/readyz` and `/metrics` are served, if anywhere.
    pub admin: Option<SocketAddr>,
    /// Instead of the container runtime that the configuration names.
    pub runtime: Option<Arc<dyn ContainerRuntime>>,
    /// Serve this node's status stream on this unix socket; none is served otherwise.
    pub status_socket: Option<PathBuf>,
    /// The installation that node jobs change; without it, none is carried out.
    pub jobs: Option<JobPaths>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config_file: None,
            bootstrap_file: "/etc/kubeedge/bootstrap-edgecore.conf".into(),
            admin: None,
            runtime: None,
            status_socket: None,
            jobs: None,
        }
    }
}

/// An edgecore with all files open and no task running.
pub struct EdgeCore {
    config: EdgeCoreConfig,
    options: Options,
    certs: CertSettings,
    admin: Option<Admin>,
    runtime: Option<Arc<dyn ContainerRuntime>>,
    store: Store,
    store_id: String,
    /// The cloud has never told this store anything, not even of this node.
    store_is_new: bool,
    dmi: Option<Dmi>,
    bus: Option<EventBus>,
    status_socket: Option<UnixSocket>,
}

impl EdgeCore {
    /// Opens and checks what can be opened and checked without the cloud.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub async fn build(config: EdgeCoreConfig, options: Options) -> Result<Self, Error> {
        let absent = absent(&config);
        if !absent.is_empty() {
            tracing::warn!(
                modules = absent.join(", "),
                "these modules are asked for but not built yet; they are absent"
            );
        }
        let certs = cert_settings(&config, &options)?;
        let runtime = runtime(&config, &options)?;
        let store = Store::open(&config.database.data_source)?;
        let store_id = store.id().await?;
        let node = ObjectKey::cluster(Kind::Node, config.modules.edged.hostname_override.as_str());
        let store_is_new = store.read(move |tx| tx.get(&node.to_string())).await?.is_none();
        let twin = &config.modules.device_twin;
        let dmi = if twin.enable { Some(Dmi::bind(&twin.socket())?) } else { None };
        let bus = &config.modules.event_bus;
        let bus = if bus.enable { Some(EventBus::bind(bus).await?) } else { None };
        let admin = match options.admin {
            Some(address) => Some(Admin::bind(address, None).await?),
            None => None,
        };
        let status_socket = match &options.status_socket {
            Some(path) => match own_status::bind(path).await {
                Ok(socket) => Some(socket),
                Err(error) => {
                    // The pods matter more.
                    let error = service::error_chain(&error);
                    tracing::warn!(error, "this node shows nothing of itself");
                    None
                }
            },
            None => None,
        };
        Ok(Self {
            config,
            options,
            certs,
            admin,
            runtime,
            store,
            store_id,
            store_is_new,
            dmi,
            bus,
            status_socket,
        })
    }

    /// Where the admin port listens; useful after binding port 0.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// Starts the tasks.
    ///
    /// # Errors
    /// When a value of the configuration turns out to be of no use.
    pub fn spawn(mut self, svc: &mut Service) -> Result<(), Error> {
        let hub = &self.config.modules.edge_hub;
        let wake = Arc::new(Notify::new());
        let requests = Requests::new(Arc::clone(&wake));
        let to_cloud = ToCloud::new(self.store.clone(), Arc::clone(&wake));
        let limit = seconds(self.config.modules.meta_manager.remote_query_timeout);
        let remote = Remote::new(self.store.clone(), requests.clone(), limit);
        let node = self.config.modules.edged.hostname_override.clone();
        let objects = Objects::new(remote, node.clone());
        // Full: the edgehub waits, so that nothing is acknowledged that edged has not heard of.
        let (tell, wanted) = mpsc::channel(1024);
        let bus = self.bus.take();
        let (twin, devices) = self.device_twin(&node, &to_cloud, bus.as_ref());
        let shown = Status::new(node.clone());
        let (tasks, jobs) = self.task_manager(&node, &to_cloud, &shown);
        let dispatch = Dispatch {
            node,
            store: self.store.clone(),
            objects: objects.clone(),
            requests: requests.clone(),
            to_cloud: to_cloud.clone(),
            wanted: self.runtime.is_some().then_some(tell),
            devices: devices.clone(),
            rules: bus.as_ref().map(EventBus::rules),
            jobs: jobs.clone(),
        };
        let link = if hub.enable {
            self.spawn_edgehub(svc, dispatch, wake)
        } else {
            watch::channel(LinkState::default()).1
        };
        if let Some(bus) = bus {
            bus.spawn(svc, self.store.clone(), devices.clone(), to_cloud.clone());
        }
        if let (Some(twin), Some(devices)) = (twin, devices) {
            svc.metrics().register(|r| twin.metrics().register(r));
            svc.spawn("devicetwin", Policy::StopAll, twin.run(link.clone(), svc.stopping()));
            if let Some(dmi) = self.dmi.take() {
                let serve = dmi.run(self.store.clone(), devices, svc.stopping());
                svc.spawn("dmi", Policy::StopAll, serve);
            }
        }
        let (shows, queued) = (self.status_socket.take(), to_cloud.clone());
        let mut own = None;
        if let Some(runtime) = self.runtime.clone() {
            let cluster = StoreAndLink {
                objects: objects.clone(),
                to_cloud,
                is_new: self.store_is_new,
                shown: shown.clone(),
                report_events: self.config.modules.edged.report_event,
                jobs: jobs.ok(),
            };
            let api = self.spawn_edged(svc, runtime.clone(), cluster, wanted)?;
            own = Some(api.clone());
            self.spawn_edgestream(svc, api, link.clone())?;
            self.spawn_node(svc, runtime, requests, objects, link.clone(), shown.clone())?;
        }
        if let Some(tasks) = tasks {
            let run = tasks.run(svc.stopping());
            svc.spawn("taskmanager", Policy::StopAll, async move {
                run.await;
                Ok(())
            });
        }
        if let Some(socket) = shows {
            self.spawn_status(svc, (socket, own), shown, link, queued);
        }
        self.spawn_store_watch(svc);
        if let Some(admin) = self.admin {
            admin.spawn(svc);
        }
        Ok(())
    }

    /// The devices, if the configuration has them.
    fn device_twin(
        &self,
        node: &NodeName,
        to_cloud: &ToCloud,
        bus: Option<&EventBus>,
    ) -> (Option<DeviceTwin>, Option<devicetwin::Handle>) {
        if !self.config.modules.device_twin.enable {
            return (None, None);
        }
        let publish = bus.map(EventBus::publications);
        let (twin, handle) =
            DeviceTwin::new(node.clone(), self.store.clone(), to_cloud.clone(), publish);
        (Some(twin), Some(handle))
    }

    /// Node jobs, if the configuration has them and there is something to upgrade.
    fn task_manager(
        &self,
        node: &NodeName,
        to_cloud: &ToCloud,
        shown: &Status,
    ) -> (Option<TaskManager>, Result<taskmanager::Handle, NoJobs>) {
        if !self.config.modules.task_manager.enable {
            return (None, Err(NoJobs::Off));
        }
        let Some(paths) = self.options.jobs.clone() else {
            return (None, Err(NoJobs::NotInstalled));
        };
        let Some(runtime) = self.runtime.clone() else {
            return (None, Err(NoJobs::NoRuntime));
        };
        let (tasks, handle) = TaskManager::new(taskmanager::Means {
            node: node.clone(),
            store: self.store.clone(),
            database: self.config.database.data_source.clone(),
            to_cloud: to_cloud.clone(),
            runtime,
            paths,
            shown: shown.clone(),
        });
        (Some(tasks), Ok(handle))
    }

    /// The certificate first, then the link and the certificate's renewal.
    fn spawn_edgehub(
        &self,
        svc: &mut Service,
        dispatch: Dispatch,
        wake: Arc<Notify>,
    ) -> watch::Receiver<LinkState> {
        let hub = &self.config.modules.edge_hub;
        let renewed = Arc::new(Notify::new());
        let settings = LinkSettings {
            server: hub.websocket.server.clone(),
            project: hub.project_id.clone(),
            node: dispatch.node.clone(),
            store_id: self.store_id.clone(),
            ca_file: hub.tls_ca_file.clone(),
            handshake_limit: seconds(hub.websocket.handshake_timeout),
            timing: Timing {
                heartbeat: seconds(hub.heartbeat),
                write_limit: seconds(hub.websocket.write_deadline),
                qps: hub.message_qps,
                burst: hub.message_burst,
            },
        };
        let to_cloud = dispatch.to_cloud.clone();
        let link = Link::new(settings, dispatch, wake, Arc::clone(&renewed));
        let state = link.state();
        svc.metrics().register(|r| HubMetrics::new(&to_cloud, link.state()).register(r));
        let keeper = Keeper {
            settings: self.certs.clone(),
            rotate: hub.rotate_certificates,
            config_file: self.options.config_file.clone(),
            renewed,
        };
        let (stopping, up) = (svc.stopping(), svc.readiness().part("edgehub"));
        let mut seen = link.state();
        svc.spawn("edgehub", Policy::StopAll, async move {
            keeper.obtain(&stopping).await?;
            let certs = keeper.settings.clone();
            let first_link = async move {
                // Fails only when the link's task has ended.
                let _ = seen.wait_for(|state| state.up).await;
                drop(up);
            };
            let renewal_stop = stopping.clone();
            tokio::join!(
                link.run(move || mutual_tls(&certs), stopping),
                keeper.keep(&renewal_stop),
                first_link,
            );
            Ok(())
        });
        state
    }

    /// The pods.
    fn spawn_edged(
        &self,
        svc: &mut Service,
        runtime: Arc<dyn ContainerRuntime>,
        cluster: StoreAndLink,
        wanted: mpsc::Receiver<WantedChange>,
    ) -> Result<LocalApi, Error> {
        let edged = &self.config.modules.edged;
        let kubelet = &edged.tailored_kubelet_config;
        let host_ip = self.host_ip()?;
        let config = EdgedConfig {
            node: edged.hostname_override.to_string(),
            host_ips: host_ip.into_iter().collect(),
            root: edged.root_directory.clone(),
            pod_logs: kubelet.pod_logs_dir.clone(),
            static_pods: Some(kubelet.static_pod_path.clone())
                .filter(|path| !path.as_os_str().is_empty()),
            cluster_dns: kubelet.cluster_dns.iter().flatten().map(|ip| ip.to_string()).collect(),
            cluster_domain: kubelet.cluster_domain.clone(),
            resolv_conf: kubelet.resolv_conf.clone(),
            cgroup_driver: match kubelet.cgroup_driver.as_str() {
                "systemd" => CgroupDriver::Systemd,
                _ => CgroupDriver::Cgroupfs,
            },
            cgroup_root: kubelet.cgroup_root.clone(),
            server: (kubelet.read_only_port != 0)
                .then(|| SocketAddr::new(kubelet.address, kubelet.read_only_port)),
            logs: LogLimits {
                max_size: log_size(&kubelet.container_log_max_size)?,
                max_files: kubelet.container_log_max_files,
                every: kubelet.container_log_monitor_interval.0,
            },
            eviction_hard: kubelet.eviction_hard.clone(),
            image_gc_high_percent: kubelet.image_gc_high_threshold_percent,
            image_gc_low_percent: kubelet.image_gc_low_threshold_percent,
            secrets_in_memory: true,
            clock: Clock::system(),
        };
        Ok(edged::spawn(svc, config, runtime, Arc::new(cluster), wanted))
    }

    fn host_ip(&self) -> Result<Option<IpAddr>, Error> {
        let edged = &self.config.modules.edged;
        Ok(node_ip(&edged.node_ip)?.or_else(|| {
            let server = Some(self.config.modules.edge_hub.websocket.server.as_str());
            facts::address_towards(server, &edged.custom_interface_name)
        }))
    }

    /// The tunnel for logs and exec, if it is asked for.
    fn spawn_edgestream(
        &self,
        svc: &mut Service,
        api: LocalApi,
        link: watch::Receiver<LinkState>,
    ) -> Result<(), Error> {
        let stream = &self.config.modules.edge_stream;
        if !stream.enable {
            return Ok(());
        }
        let settings = StreamSettings {
            server: stream.server.clone(),
            node: self.config.modules.edged.hostname_override.clone(),
            address: self.host_ip()?,
            ca_file: stream.tls_tunnel_ca_file.clone(),
            handshake_limit: seconds(stream.handshake_timeout),
            write_limit: seconds(stream.write_deadline.max(1)),
        };
        let certs = CertSettings {
            ca_file: stream.tls_tunnel_ca_file.clone(),
            cert_file: stream.tls_tunnel_cert_file.clone(),
            key_file: stream.tls_tunnel_private_key_file.clone(),
            ..self.certs.clone()
        };
        let stopping = svc.stopping();
        svc.spawn("edgestream", Policy::StopAll, async move {
            edgestream::run(settings, api, move || mutual_tls(&certs), link, stopping).await;
            Ok(())
        });
        Ok(())
    }

    /// This node's own stream.
    fn spawn_status(
        &self,
        svc: &mut Service,
        (socket, own): (UnixSocket, Option<LocalApi>),
        shown: Status,
        link: watch::Receiver<LinkState>,
        to_cloud: ToCloud,
    ) {
        let keep = shown.clone().keep(link, to_cloud, self.runtime.clone());
        let stopping = svc.stopping();
        svc.spawn("status", Policy::StopAll, async move {
            let stop = stopping.clone();
            tokio::select! {
                () = shown.serve(socket, own, stopping) => {}
                () = async {
                    tokio::select! {
                        () = keep => {}
                        () = stop.cancelled() => {}
                    }
                    // The readers are told that it stops.
                    std::future::pending::<()>().await;
                } => {}
            }
            Ok(())
        });
    }

    /// Registration, status and lease.
    fn spawn_node(
        &self,
        svc: &mut Service,
        runtime: Arc<dyn ContainerRuntime>,
        requests: Requests,
        objects: Objects,
        link: watch::Receiver<LinkState>,
        shown: Status,
    ) -> Result<(), Error> {
        let edged = &self.config.modules.edged;
        let kubelet = &edged.tailored_kubelet_config;
        let answer = seconds(self.config.modules.meta_manager.remote_query_timeout);
        let (node_uid, uid) = watch::channel(None);
        let reporter = NodeReporter {
            settings: node_settings(&self.config)?,
            timing: NodeTiming {
                compute: kubelet.node_status_update_frequency.0,
                report: kubelet.node_status_report_frequency.0,
                answer,
            },
            address: AddressSource {
                fixed: node_ip(&edged.node_ip)?,
                interface: edged.custom_interface_name.clone(),
                server: self.config.modules.edge_hub.websocket.server.clone(),
            },
            root: edged.root_directory.clone(),
            register: kubelet.register_node,
            runtime,
            requests: requests.clone(),
            objects,
            store: self.store.clone(),
            link: link.clone(),
            node_uid,
            shown,
        };
        let lease = LeaseKeeper {
            node: edged.hostname_override.clone(),
            seconds: kubelet.node_lease_duration_seconds,
            answer,
            requests,
            link,
            node_uid: uid,
        };
        let ready = svc.readiness().part("node");
        let stopping = svc.stopping();
        svc.spawn("node", Policy::StopAll, async move {
            tokio::select! {
                () = reporter.run(ready) => {}
                () = stopping.cancelled() => {}
            }
            Ok(())
        });
        let stopping = svc.stopping();
        svc.spawn("lease", Policy::StopAll, async move {
            tokio::select! {
                () = lease.run() => {}
                () = stopping.cancelled() => {}
            }
            Ok(())
        });
        Ok(())
    }

    /// Without its database edgecore is of no use. When all stops, the file is closed before the
    /// process, or a next edgecore in it, goes on.
    fn spawn_store_watch(&self, svc: &mut Service) {
        let (ended, stopping) = (self.store.ended(), svc.stopping());
        svc.spawn("metamanager", Policy::StopAll, async move {
            tokio::select! {
                () = ended.cancelled() => {
                    return Err("the thread of the edge's database has ended".into());
                }
                () = stopping.cancelled() => {}
            }
            if tokio::time::timeout(CLOSE_LIMIT, ended.cancelled()).await.is_err() {
                tracing::warn!("the edge's database is still in use at the end");
            }
            Ok(())
        });
    }
}
