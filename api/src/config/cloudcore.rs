//! `cloudcore.yaml`, as far as it means something here.
//!
//! Owns: the keys, their checks.
//! Called by: `keadm`, which hands parts of it to cloudcore's modules.
//! Never: has a key that nothing reads; those are in [`ignored`](super::ignored).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::problems::Problems;
use super::{ConfigFile, FeatureGates, IgnoredKey, ignored, port};

/// `cloudcore.yaml`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudCoreConfig {
    /// What concerns all modules.
    pub common_config: CommonConfig,
    /// How to reach the API server.
    #[serde(rename = "kubeAPIConfig")]
    pub kube_api_config: KubeApiConfig,
    /// The modules.
    pub modules: Modules,
    /// Feature gates.
    #[serde(default)]
    pub feature_gates: FeatureGates,
}

/// `commonConfig`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommonConfig {
    /// The kubelet port to publish for nodes; 10350 asks for a free one from 10351 on.
    #[serde(deserialize_with = "port")]
    pub tunnel_port: u16,
    /// Metrics and health.
    pub monitor_server: MonitorServer,
}

/// `commonConfig.monitorServer`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MonitorServer {
    /// Where it listens.
    pub bind_address: SocketAddr,
}

/// `kubeAPIConfig`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeApiConfig {
    /// Path of a kubeconfig; empty for the one of the pod that cloudcore runs in.
    pub kube_config: PathBuf,
    /// URL of the API server; empty for the kubeconfig's.
    pub master: String,
}

/// `modules`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Modules {
    /// Links to nodes, and their certificates.
    pub cloud_hub: CloudHub,
    /// Logs, exec, attach and metrics of nodes.
    pub cloud_stream: CloudStream,
    /// Pods, nodes, configmaps, secrets.
    pub edge_controller: Module,
    /// Devices.
    pub device_controller: Module,
    /// Resends what a node missed.
    pub sync_controller: Module,
    /// The cloud half of the MetaServer.
    pub dynamic_controller: Module,
    /// Node jobs.
    pub task_manager: Module,
    /// Rules.
    pub router: Router,
    /// Redirects of kubelet ports.
    pub iptables_manager: IptablesManager,
}

/// A module with nothing to set but whether it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Module {
    /// Whether it runs.
    pub enable: bool,
}

/// `modules.cloudHub`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudHub {
    /// Whether it runs.
    pub enable: bool,
    /// Addresses in the server certificate: those that nodes dial.
    pub advertise_address: Vec<String>,
    /// Names in the server certificate. The original's default is one empty name; it is left out.
    pub dns_names: Vec<String>,
    /// Days that a node's certificate is valid.
    pub edge_cert_signing_duration: u32,
    /// Hours after which a new token is made.
    pub token_refresh_duration: u32,
    /// Seconds without a keepalive after which a session ends.
    pub keepalive_interval: u32,
    /// How many nodes may be connected.
    pub node_limit: u32,
    /// The CA that signs nodes' certificates.
    #[serde(rename = "tlsCAFile")]
    pub tls_ca_file: PathBuf,
    /// Its key.
    #[serde(rename = "tlsCAKeyFile")]
    pub tls_ca_key_file: PathBuf,
    /// The server's certificate.
    pub tls_cert_file: PathBuf,
    /// Its key.
    pub tls_private_key_file: PathBuf,
    /// The links.
    pub websocket: Listener,
    /// Certificates and tokens.
    pub https: Listener,
    /// The CSI driver's socket.
    pub unixsocket: UnixSocket,
    /// What nodes may do. Whatever it says, a node's certificate must be its own.
    pub authorization: Authorization,
}

impl CloudHub {
    /// What goes into the server certificate: addresses and names, without empty ones.
    pub fn subject_names(&self) -> impl Iterator<Item = &str> {
        let all = self.advertise_address.iter().chain(&self.dns_names);
        all.map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// A TCP port to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Listener {
    /// Whether it listens.
    pub enable: bool,
    /// Address.
    pub address: IpAddr,
    /// Port; 0 takes any.
    #[serde(deserialize_with = "port")]
    pub port: u16,
}

impl Listener {
    /// Address and port.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

/// A unix socket to listen at.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UnixSocket {
    /// Whether it listens.
    pub enable: bool,
    /// `unix://` and its path.
    pub address: String,
}

/// `modules.cloudHub.authorization`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Authorization {
    /// Whether each request is asked of the node authorizer.
    pub enable: bool,
    /// Whether refusals are only logged.
    pub debug: bool,
}

/// `modules.cloudStream`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudStream {
    /// Whether it runs.
    pub enable: bool,
    /// Where the API server calls.
    #[serde(deserialize_with = "port")]
    pub stream_port: u16,
    /// Where nodes dial in.
    #[serde(deserialize_with = "port")]
    pub tunnel_port: u16,
    /// CA of those who call the stream port.
    #[serde(rename = "tlsStreamCAFile")]
    pub tls_stream_ca_file: PathBuf,
    /// Certificate of the stream port.
    pub tls_stream_cert_file: PathBuf,
    /// Its key.
    pub tls_stream_private_key_file: PathBuf,
    /// CA of the nodes.
    #[serde(rename = "tlsTunnelCAFile")]
    pub tls_tunnel_ca_file: PathBuf,
    /// Certificate of the tunnel port.
    pub tls_tunnel_cert_file: PathBuf,
    /// Its key.
    pub tls_tunnel_private_key_file: PathBuf,
}

/// `modules.router`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Router {
    /// Whether it runs.
    pub enable: bool,
    /// Address of the REST listener.
    pub address: IpAddr,
    /// Its port.
    #[serde(deserialize_with = "port")]
    pub port: u16,
    /// Seconds to wait for the edge's answer.
    pub rest_timeout: u32,
}

/// `modules.iptablesManager`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IptablesManager {
    /// Whether it runs.
    pub enable: bool,
    /// `internal` or `external`.
    pub mode: String,
}

impl ConfigFile for CloudCoreConfig {
    const NAME: &'static str = "cloudcore.yaml";
    const DEFAULTS: &'static str = include_str!("cloudcore.yaml");
    const OTHER_KEYS: &'static str = "
        commonConfig: {monitorServer: {enableProfiling: false}}
        featureGates: {}
        modules: {deviceController: {buffer: {deviceStatusEvent: 0}}}
    ";
    const FREE: &'static [&'static str] = &["featureGates"];
    const MINIMAL: &'static [&'static str] = &[
        "apiVersion",
        "kind",
        "modules.cloudHub.advertiseAddress",
        "modules.cloudHub.enable",
        "modules.cloudHub.https",
        "modules.cloudHub.nodeLimit",
        "modules.cloudHub.tlsCAFile",
        "modules.cloudHub.tlsCAKeyFile",
        "modules.cloudHub.tlsCertFile",
        "modules.cloudHub.tlsPrivateKeyFile",
        "modules.cloudHub.unixsocket",
        "modules.cloudHub.websocket",
        "modules.iptablesManager",
        "modules.router",
    ];
    const IGNORED: &'static [IgnoredKey] = ignored::CLOUDCORE;

    fn check(&self, problems: &mut Problems) {
        const POSITIVE: &str = "it should be more than 0";
        let kube_config = &self.kube_api_config.kube_config;
        problems.check(
            kube_config.as_os_str().is_empty() || kube_config.is_absolute(),
            "kubeAPIConfig.kubeConfig",
            "it should be an absolute path",
        );
        let hub = &self.modules.cloud_hub;
        for (number, key) in [
            (hub.edge_cert_signing_duration, "edgeCertSigningDuration"),
            (hub.token_refresh_duration, "tokenRefreshDuration"),
            (hub.keepalive_interval, "keepaliveInterval"),
            (hub.node_limit, "nodeLimit"),
        ] {
            problems.check(number > 0, &format!("modules.cloudHub.{key}"), POSITIVE);
        }
        problems.check(
            hub.unixsocket.address.starts_with("unix:///"),
            "modules.cloudHub.unixsocket.address",
            "it should begin with `unix:///`",
        );
        if hub.enable && !hub.websocket.enable {
            problems.add("modules.cloudHub.websocket.enable", "nodes can link by WebSocket only");
        }
        let mode = self.modules.iptables_manager.mode.as_str();
        problems.check(
            matches!(mode, "internal" | "external"),
            "modules.iptablesManager.mode",
            "it should be `internal` or `external`",
        );
        let rest_timeout = self.modules.router.rest_timeout;
        problems.check(rest_timeout > 0, "modules.router.restTimeout", POSITIVE);
    }
}
