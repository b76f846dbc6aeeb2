//! `edgecore.yaml`, as far as it means something here.
//!
//! Owns: the keys, their checks. The kubelet's part is in [`kubelet`](super::kubelet).
//! Called by: `keadm`, which hands parts of it to edgecore's modules.
//! Never: has a key that nothing reads; those are in [`ignored`](super::ignored).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::kubelet::TailoredKubeletConfig;
use super::problems::Problems;
use super::{ConfigFile, FeatureGates, IgnoredKey, Secret, ignored, port};
use crate::names::NodeName;

/// `edgecore.yaml`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeCoreConfig {
    /// The version that wrote the file.
    pub edgecore_version: String,
    /// The store.
    pub database: Database,
    /// The modules.
    pub modules: Modules,
    /// Feature gates.
    #[serde(default)]
    pub feature_gates: FeatureGates,
}

/// `database`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// Path of the SQLite file.
    pub data_source: PathBuf,
}

/// `modules`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Modules {
    /// The link to the cloud.
    pub edge_hub: EdgeHub,
    /// Pods.
    pub edged: Edged,
    /// MQTT.
    pub event_bus: EventBus,
    /// The store and the local API.
    pub meta_manager: MetaManager,
    /// HTTP for rules.
    pub service_bus: ServiceBus,
    /// Devices.
    pub device_twin: DeviceTwin,
    /// Logs, exec, attach and metrics.
    pub edge_stream: EdgeStream,
    /// Node jobs.
    pub task_manager: Module,
}

/// A module with nothing to set but whether it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Module {
    /// Whether it runs.
    pub enable: bool,
}

/// `modules.edgeHub`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeHub {
    /// Whether it runs.
    pub enable: bool,
    /// URL of the certificate service.
    pub http_server: String,
    /// The link.
    pub websocket: Link,
    /// Read so that one clear error can say that it cannot be used.
    pub quic: Module,
    /// Seconds between keepalives.
    pub heartbeat: u32,
    /// Messages a second that modules may send.
    #[serde(rename = "messageQPS")]
    pub message_qps: u32,
    /// How many above that at once.
    pub message_burst: u32,
    /// A part of the link's path.
    #[serde(rename = "projectID")]
    pub project_id: String,
    /// Whether the certificate is renewed before it ends.
    pub rotate_certificates: bool,
    /// The CA of the cloud.
    pub tls_ca_file: PathBuf,
    /// The node's certificate.
    pub tls_cert_file: PathBuf,
    /// Its key.
    pub tls_private_key_file: PathBuf,
    /// With which a node without a certificate asks for one.
    pub token: Secret,
}

/// `modules.edgeHub.websocket`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Whether it is used.
    pub enable: bool,
    /// Host and port of cloudcore.
    pub server: String,
    /// Seconds that dialling may take.
    pub handshake_timeout: u32,
    /// Seconds that writing a message may take.
    pub write_deadline: u32,
}

/// `modules.edged`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edged {
    /// Whether it runs.
    pub enable: bool,
    /// The node's name.
    pub hostname_override: NodeName,
    /// The node's address; empty for the one by which it reaches the cloud.
    #[serde(rename = "nodeIP", default)]
    pub node_ip: String,
    /// The interface to take the address from.
    #[serde(default)]
    pub custom_interface_name: String,
    /// Whether pods may be scheduled to a new node.
    pub register_schedulable: bool,
    /// Labels of a new node.
    #[serde(default)]
    pub node_labels: BTreeMap<String, String>,
    /// Whether Events go to the cloud.
    pub report_event: bool,
    /// Where pods have their volumes.
    pub root_directory: PathBuf,
    /// The kubelet's part.
    pub tailored_kubelet_config: TailoredKubeletConfig,
}

/// `modules.eventBus`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventBus {
    /// Whether it runs.
    pub enable: bool,
    /// 0 the built-in broker, 1 both, 2 the external one.
    pub mqtt_mode: u8,
    /// URL of the external broker.
    pub mqtt_server_external: String,
    /// URL at which the built-in broker listens.
    pub mqtt_server_internal: String,
    /// Quality of service of the built-in broker.
    #[serde(rename = "mqttQOS")]
    pub mqtt_qos: u8,
    /// Whether the built-in broker retains.
    pub mqtt_retain: bool,
    /// Messages that wait for one client of the built-in broker.
    pub mqtt_session_queue_size: u32,
    /// Client id for subscribing; empty for a random one.
    #[serde(rename = "mqttSubClientID")]
    pub mqtt_sub_client_id: String,
    /// Client id for publishing; empty for a random one.
    #[serde(rename = "mqttPubClientID")]
    pub mqtt_pub_client_id: String,
    /// User at the external broker.
    pub mqtt_username: String,
    /// Its password.
    pub mqtt_password: Secret,
    /// TLS to the external broker.
    #[serde(rename = "eventBusTLS")]
    pub tls: EventBusTls,
}

/// `modules.eventBus.eventBusTLS`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventBusTls {
    /// Whether it is used.
    pub enable: bool,
    /// CA of the broker.
    #[serde(rename = "tlsMqttCAFile")]
    pub tls_mqtt_ca_file: PathBuf,
    /// Our certificate.
    pub tls_mqtt_cert_file: PathBuf,
    /// Its key.
    pub tls_mqtt_private_key_file: PathBuf,
}

/// `modules.metaManager`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetaManager {
    /// Whether it runs.
    pub enable: bool,
    /// Seconds to wait for the cloud's answer.
    pub remote_query_timeout: u32,
    /// The local API.
    pub meta_server: MetaServer,
}

/// `modules.metaManager.metaServer`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetaServer {
    /// Whether it runs.
    pub enable: bool,
    /// Where it listens.
    pub server: SocketAddr,
    /// Where it listens as well when tokens are checked.
    pub dummy_server: SocketAddr,
    /// CA of its clients.
    pub tls_ca_file: PathBuf,
    /// Its certificate.
    pub tls_cert_file: PathBuf,
    /// The certificate's key.
    pub tls_private_key_file: PathBuf,
    /// Who may have issued a token.
    #[serde(deserialize_with = "list")]
    pub service_account_issuers: Vec<String>,
    /// Whom a token may be for.
    #[serde(deserialize_with = "list")]
    pub api_audiences: Vec<String>,
    /// Keys that tokens are checked with.
    #[serde(deserialize_with = "list")]
    pub service_account_key_files: Vec<PathBuf>,
}

/// A list; `null` is an empty one.
fn list<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(de: D) -> Result<Vec<T>, D::Error> {
    Option::deserialize(de).map(Option::unwrap_or_default)
}

/// `modules.serviceBus`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBus {
    /// Whether it runs.
    pub enable: bool,
    /// Address of its listener.
    pub server: String,
    /// Port of its listener.
    #[serde(deserialize_with = "port")]
    pub port: u16,
    /// Seconds to wait for an answer.
    pub timeout: u32,
    /// Its certificate, for HTTPS.
    #[serde(default)]
    pub tls_cert_file: PathBuf,
    /// The certificate's key.
    #[serde(default)]
    pub tls_private_key_file: PathBuf,
}

/// `modules.deviceTwin`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceTwin {
    /// Whether it runs.
    pub enable: bool,
    /// The folder of the socket for mappers; a path that ends in `.sock` means its folder.
    pub dmi_sock_path: PathBuf,
}

/// `modules.edgeStream`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeStream {
    /// Whether it runs.
    pub enable: bool,
    /// Host and port of cloudcore's tunnel.
    pub server: String,
    /// Seconds that dialling may take.
    pub handshake_timeout: u32,
    /// Seconds that writing a frame may take.
    pub write_deadline: u32,
    /// CA of the cloud.
    #[serde(rename = "tlsTunnelCAFile")]
    pub tls_tunnel_ca_file: PathBuf,
    /// The node's certificate.
    pub tls_tunnel_cert_file: PathBuf,
    /// Its key.
    pub tls_tunnel_private_key_file: PathBuf,
}

impl DeviceTwin {
    /// The socket for mappers.
    pub fn socket(&self) -> PathBuf {
        let folder = match self.dmi_sock_path.extension() {
            Some(extension) if extension == "sock" => self.dmi_sock_path.parent(),
            _ => Some(self.dmi_sock_path.as_path()),
        };
        folder.unwrap_or(std::path::Path::new("/")).join("dmi.sock")
    }
}

/// Whether it is a host and a port that is not 0.
pub(super) fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_is_whole = match host.strip_prefix('[') {
        Some(ip6) => ip6.ends_with(']'),
        None => !host.contains(':'),
    };
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '@' | '?' | '#');
    !host.is_empty()
        && host_is_whole
        && host.chars().all(plain)
        && port.parse() != Ok(0_u16)
        && port.parse::<u16>().is_ok()
}

impl ConfigFile for EdgeCoreConfig {
    const NAME: &'static str = "edgecore.yaml";
    const DEFAULTS: &'static str = include_str!("edgecore.yaml");
    const OTHER_KEYS: &'static str = include_str!("edgecore-other-keys.yaml");
    const FREE: &'static [&'static str] = &[
        "featureGates",
        "modules.edged.nodeLabels",
        "modules.edged.tailoredKubeletConfig.cpuManagerPolicyOptions",
        "modules.edged.tailoredKubeletConfig.crashLoopBackOff",
        "modules.edged.tailoredKubeletConfig.evictionHard",
        "modules.edged.tailoredKubeletConfig.evictionMinimumReclaim",
        "modules.edged.tailoredKubeletConfig.evictionSoft",
        "modules.edged.tailoredKubeletConfig.evictionSoftGracePeriod",
        "modules.edged.tailoredKubeletConfig.featureGates",
        "modules.edged.tailoredKubeletConfig.kubeReserved",
        "modules.edged.tailoredKubeletConfig.logging",
        "modules.edged.tailoredKubeletConfig.memorySwap",
        "modules.edged.tailoredKubeletConfig.qosReserved",
        "modules.edged.tailoredKubeletConfig.systemReserved",
        "modules.edged.tailoredKubeletConfig.topologyManagerPolicyOptions",
    ];
    const MINIMAL: &'static [&'static str] = &[
        "apiVersion",
        "kind",
        "database.dataSource",
        "edgecoreVersion",
        "modules.deviceTwin",
        "modules.edgeHub.enable",
        "modules.edgeHub.heartbeat",
        "modules.edgeHub.httpServer",
        "modules.edgeHub.tlsCaFile",
        "modules.edgeHub.tlsCertFile",
        "modules.edgeHub.tlsPrivateKeyFile",
        "modules.edgeHub.token",
        "modules.edgeHub.websocket",
        "modules.edged",
        "modules.eventBus.enable",
        "modules.eventBus.mqttMode",
        "modules.eventBus.mqttPassword",
        "modules.eventBus.mqttPubClientID",
        "modules.eventBus.mqttQOS",
        "modules.eventBus.mqttRetain",
        "modules.eventBus.mqttServerExternal",
        "modules.eventBus.mqttServerInternal",
        "modules.eventBus.mqttSubClientID",
        "modules.eventBus.mqttUsername",
    ];
    const IGNORED: &'static [IgnoredKey] = ignored::EDGECORE;

    fn check(&self, problems: &mut Problems) {
        const POSITIVE: &str = "it should be more than 0";
        const SERVER: &str = "it should be a host and a port, like `cloud.example:10000`";
        let hub = &self.modules.edge_hub;
        let path = |key: &str| format!("modules.edgeHub.{key}");
        problems.check(hub.heartbeat > 0, &path("heartbeat"), POSITIVE);
        problems.check(is_host_and_port(&hub.websocket.server), &path("websocket.server"), SERVER);
        let timeout = hub.websocket.handshake_timeout;
        problems.check(timeout > 0, &path("websocket.handshakeTimeout"), POSITIVE);
        let deadline = hub.websocket.write_deadline;
        problems.check(deadline > 0, &path("websocket.writeDeadline"), POSITIVE);
        problems.check(
            hub.http_server.strip_prefix("https://").is_some_and(is_host_and_port),
            &path("httpServer"),
            "it should be `https://`, a host and a port",
        );
        if hub.enable && !hub.websocket.enable {
            let message = if hub.quic.enable {
                "KubeEdge's QUIC cannot be spoken here: enable WebSocket, which every cloudcore has"
            } else {
                "the link to the cloud is by WebSocket only: enable it, or disable `edgeHub`"
            };
            problems.add(&path("websocket.enable"), message);
        }
        let bus = &self.modules.event_bus;
        problems.check(bus.mqtt_mode <= 2, "modules.eventBus.mqttMode", "it should be 0, 1 or 2");
        problems.check(bus.mqtt_qos <= 2, "modules.eventBus.mqttQOS", "it should be 0, 1 or 2");
        let server = &self.modules.edge_stream.server;
        problems.check(is_host_and_port(server), "modules.edgeStream.server", SERVER);
        let timeout = self.modules.meta_manager.remote_query_timeout;
        problems.check(timeout > 0, "modules.metaManager.remoteQueryTimeout", POSITIVE);
        let edged = &self.modules.edged;
        problems.check(
            edged.node_ip.is_empty() || edged.node_ip.parse::<std::net::IpAddr>().is_ok(),
            "modules.edged.nodeIP",
            "it should be an IP address",
        );
        edged.tailored_kubelet_config.check(problems);
    }
}
