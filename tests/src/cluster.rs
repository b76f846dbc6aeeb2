//! A cluster in one process: a control plane, cloudcore and edge nodes, over real sockets on free
//! ports. The containers are pretended; everything else is the product.
//!
//! Owns: the parts, their files, and a wire ([`Link`]) before each edge.
//! Called by: the tests of paths and of trouble. Never: reaches into a part; it uses what a user or
//! another program could.

mod edge;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::config::cloudcore::CloudCoreConfig;
use api::config::{Document, Host};
use cloudcore::admission::{Certificate, Reach, Settings};
use control_plane::ControlPlane;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use service::{CancellationToken, Readiness, Service, Stopped};
use tokio::task::JoinHandle;

use crate::link::{Link, Target};
use crate::wait::eventually;

pub use self::edge::{Edge, pod};

/// How long anything may take that normally takes a moment, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The image that every edge has.
pub const IMAGE: &str = "busybox:1";

/// A program that runs in this process.
struct Part {
    name: &'static str,
    stopping: CancellationToken,
    ready: Readiness,
    running: JoinHandle<Result<(), Stopped>>,
}

impl Part {
    fn start(name: &'static str, svc: Service) -> Self {
        let (stopping, ready) = (svc.stopping(), svc.readiness().clone());
        Self { name, stopping, ready, running: tokio::spawn(svc.until_stopped()) }
    }

    async fn ready(&self) {
        let ready = tokio::time::timeout(PATIENCE, self.ready.ready()).await;
        assert!(ready.is_ok(), "{} is not ready: {:?}", self.name, self.ready.waiting_for());
    }

    async fn stop(mut self) {
        self.stopping.cancel();
        (&mut self.running)
            .await
            .unwrap()
            .unwrap_or_else(|e| panic!("{} ended with {e}", self.name));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// See the module.
pub struct Cluster {
    folder: tempfile::TempDir,
    /// Speaks to the control plane as its administrator.
    pub client: Client,
    ca_pem: String,
    api: SocketAddr,
    plane: Option<Part>,
    cloud: Option<Part>,
    hub: Target,
    https: SocketAddr,
    token: String,
    admission: bool,
    edges: Vec<Edge>,
}

impl Cluster {
    /// Starts everything and waits until the nodes of these names are Ready.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start(nodes: &[&str]) -> Self {
        Self::build(nodes, false).await
    }

    /// The same, and cloudcore serves the admission webhook and has registered it.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start_with_admission(nodes: &[&str]) -> Self {
        let cluster = Self::build(nodes, true).await;
        let hooks: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
        // The last one of three.
        eventually("the webhook to be registered", PATIENCE, async || {
            hooks.get("mutate-offlinemigration").await.map(drop).map_err(|e| e.to_string())
        })
        .await;
        cluster
    }

    async fn build(nodes: &[&str], admission: bool) -> Self {
        // The programs do this in `main`; another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (plane, api, kubeconfig, ca_pem) =
            plane(folder.path(), ([127, 0, 0, 1], 0).into()).await;
        let client = client(&kubeconfig, None).await.unwrap();
        define(&client).await.unwrap();
        let nowhere = ([127, 0, 0, 1], 1).into();
        let mut cluster = Self {
            folder,
            client,
            ca_pem,
            api,
            plane: Some(plane),
            cloud: None,
            hub: Target::new(nowhere),
            https: nowhere,
            token: String::new(),
            admission,
            edges: Vec::new(),
        };
        cluster.start_cloudcore().await;
        for name in nodes {
            cluster.add(name).await;
        }
        for name in nodes {
            cluster.until_ready(name).await;
        }
        cluster
    }

    /// Starts cloudcore, at ports of its own choice, to which the wires lead from now on.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_cloudcore(&mut self) {
        let client = Some((self.client.clone(), self.ca_pem.clone()));
        let admission = self.admission.then(|| Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            reach: Reach::Host("127.0.0.1".to_owned()),
            certificate: Certificate::Own,
        });
        let options = cloudcore::Options { client, admission, ..cloudcore::Options::default() };
        let app = cloudcore::CloudCore::build(cloud_config(), options).await.unwrap();
        let addresses = app.addresses();
        let token = cloudcore::cloudhub::secrets::stored_token(app.api()).await.unwrap();
        let mut svc = Service::new("cloudcore");
        app.spawn(&mut svc);
        let part = Part::start("cloudcore", svc);
        part.ready().await;
        self.hub.set(addresses.websocket.unwrap());
        self.https = addresses.https.unwrap();
        self.token = token.unwrap();
        self.cloud = Some(part);
    }

    /// Stops cloudcore.
    ///
    /// # Panics
    /// When it ends with an error.
    pub async fn stop_cloudcore(&mut self) {
        self.cloud.take().unwrap().stop().await;
    }

    /// A client of the API server beyond a wire of its own.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn client_beyond_a_link(&self) -> (Link, Client) {
        let link = Link::new(Target::new(self.api)).await;
        let kubeconfig = self.folder.path().join("control-plane").join("admin.conf");
        let client = client(&kubeconfig, Some(link.address())).await.unwrap();
        (link, client)
    }

    /// Stops the API server; cloudcore goes on.
    ///
    /// # Panics
    /// When it ends with an error.
    pub async fn stop_api_server(&mut self) {
        self.plane.take().unwrap().stop().await;
    }

    /// Starts the API server where it was, with what it had.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_api_server(&mut self) {
        let (part, ..) = plane(self.folder.path(), self.api).await;
        self.plane = Some(part);
    }

    /// A new edge node, which joins with a token; it is not waited for.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn add(&mut self, name: &str) {
        let link = Link::new(self.hub.clone()).await;
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut edge = Edge::new(name, folder, link, self.https, &self.token);
        edge.start().await;
        self.edges.push(edge);
    }

    /// The edge nodes.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Takes the edge nodes out, for tasks that deal with them while others deal with the cluster.
    pub fn take_edges(&mut self) -> Vec<Edge> {
        std::mem::take(&mut self.edges)
    }

    /// Puts them back.
    pub fn put_edges(&mut self, edges: Vec<Edge>) {
        self.edges = edges;
    }

    /// An edge node.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn edge(&self, name: &str) -> &Edge {
        self.edges.iter().find(|e| e.name == name).unwrap()
    }

    /// The same, to be started and stopped.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn edge_mut(&mut self, name: &str) -> &mut Edge {
        self.edges.iter_mut().find(|e| e.name == name).unwrap()
    }

    /// Objects of a kind in the namespace `default`.
    pub fn objects<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::default_namespaced(self.client.clone())
    }

    /// The nodes.
    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// A node's lease.
    ///
    /// # Panics
    /// When there is none.
    pub async fn lease(&self, node: &str) -> Lease {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        leases.get(node).await.unwrap()
    }

    /// Creates an object of the namespace `default`.
    ///
    /// # Panics
    /// When the API server refuses.
    pub async fn create<K>(&self, object: Value)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned,
        K: std::fmt::Debug,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.objects::<K>().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Merges a patch into an object.
    ///
    /// # Panics
    /// When the API server refuses.
    pub async fn merge<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned,
        K: std::fmt::Debug,
        K::DynamicType: Default,
    {
        let patch = Patch::Merge(patch);
        self.objects::<K>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Deletes an object, with so much grace.
    ///
    /// # Panics
    /// When the API server refuses.
    pub async fn delete<K>(&self, name: &str, grace: u32)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned,
        K: std::fmt::Debug,
        K::DynamicType: Default,
    {
        let params = DeleteParams::default().grace_period(grace);
        self.objects::<K>().delete(name, &params).await.unwrap();
    }

    /// Waits until a node is Ready.
    ///
    /// # Panics
    /// When it is not in time.
    pub async fn until_ready(&self, node: &str) {
        let nodes = self.nodes();
        eventually(&format!("{node} to be Ready"), PATIENCE, async || {
            let node = nodes.get(node).await.map_err(|e| e.to_string())?;
            let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
            let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            if ready { Ok(()) } else { Err(format!("{conditions:?}")) }
        })
        .await;
    }

    /// Waits until a pod has a phase; returns it.
    ///
    /// # Panics
    /// When it has not in time.
    pub async fn until_phase(&self, pod: &str, phase: &str) -> Pod {
        let pods = self.objects::<Pod>();
        eventually(&format!("{pod} to be {phase}"), PATIENCE, async || {
            let found = pods.get(pod).await.map_err(|e| e.to_string())?;
            match found.status.as_ref().and_then(|s| s.phase.as_deref()) {
                Some(is) if is == phase => Ok(found),
                _ => Err(format!("{:?}", found.status)),
            }
        })
        .await
        .0
    }

    /// Waits until an object of the namespace `default` is gone.
    ///
    /// # Panics
    /// When it is not in time.
    pub async fn until_gone<K>(&self, name: &str) -> Duration
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned,
        K: std::fmt::Debug,
        K::DynamicType: Default,
    {
        let objects = self.objects::<K>();
        eventually(&format!("the end of {name}"), PATIENCE, async || {
            match objects.get_opt(name).await {
                Ok(None) => Ok(()),
                Ok(Some(there)) => Err(format!("{there:?}")),
                Err(e) => Err(e.to_string()),
            }
        })
        .await
        .1
    }
}

async fn plane(folder: &Path, bind: SocketAddr) -> (Part, SocketAddr, PathBuf, String) {
    let data_dir = folder.join("control-plane");
    let config = control_plane::Config { bind, ..control_plane::Config::new(data_dir) };
    let mut svc = Service::new("control-plane");
    let running = ControlPlane::build(config, &svc).await.unwrap().spawn(&mut svc);
    let part = Part::start("control-plane", svc);
    part.ready().await;
    (part, running.address(), running.kubeconfig().to_owned(), running.ca_pem().to_owned())
}

async fn client(kubeconfig: &Path, at: Option<SocketAddr>) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(file, &options).await?;
    if let Some(at) = at {
        config.cluster_url = format!("https://{at}").parse()?;
    }
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = None;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// What `keadm init` gives an API server.
async fn define(client: &Client) -> anyhow::Result<()> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    keadm::cloud::apply(client, &keadm::objects::namespace()).await?;
    for crd in keadm::objects::crds() {
        keadm::cloud::apply(client, &crd).await?;
        let name = crd["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        eventually(&format!("{name} to be served"), PATIENCE, async || {
            let crd = crds.get(&name).await.map_err(|e| e.to_string())?;
            let conditions = crd.status.and_then(|s| s.conditions).unwrap_or_default();
            let served = conditions.iter().any(|c| c.type_ == "Established" && c.status == "True");
            if served { Ok(()) } else { Err(format!("{conditions:?}")) }
        })
        .await;
    }
    Ok(())
}

fn cloud_config() -> CloudCoreConfig {
    let mut config = Document::<CloudCoreConfig>::defaults(&Host::default());
    for setting in [
        "commonConfig.monitorServer.bindAddress=127.0.0.1:0",
        "modules.cloudHub.advertiseAddress={127.0.0.1}",
        "modules.cloudHub.websocket.address=127.0.0.1",
        "modules.cloudHub.websocket.port=0",
        "modules.cloudHub.https.address=127.0.0.1",
        "modules.cloudHub.https.port=0",
        "modules.cloudHub.tlsCAFile=/nonexistent/ca.crt",
        "modules.cloudHub.tlsCAKeyFile=/nonexistent/ca.key",
        "modules.cloudHub.tlsCertFile=/nonexistent/server.crt",
        "modules.cloudHub.tlsPrivateKeyFile=/nonexistent/server.key",
        // As `keadm init` has it.
        "modules.taskManager.enable=true",
    ] {
        config.set(setting).unwrap();
    }
    config.config().unwrap().0
}
