//! What the parts of edgecore take from the configuration, and what in it is of no use.
//!
//! Owns: how the texts of `edgecore.yaml` are read. Called by: `app.rs`.
//! Never: opens anything but certificates.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::config::edgecore::EdgeCoreConfig;
use api::config::kubelet::RuntimeEndpoint;
use service::tls::{self, ServerTrust};

use super::Options;
use crate::certs::{CertSettings, Token};
use crate::edged::node::status::{NodeSettings, Threshold, Thresholds};
use crate::edged::runtime::ContainerRuntime;
use crate::edged::runtime::cri::CriRuntime;
use crate::error::Error;

pub(super) fn seconds(n: u32) -> Duration {
    Duration::from_secs(u64::from(n))
}

/// The node's certificate as it is on the disk now.
pub(super) fn mutual_tls(certs: &CertSettings) -> Result<Arc<rustls::ClientConfig>, tls::TlsError> {
    let roots = tls::roots(tls::load_certificates(&certs.ca_file)?)?;
    let identity = tls::Identity::from_files(&certs.cert_file, &certs.key_file)?;
    // HTTP/1.1 only: a Go server would choose h2 if it were offered, and h2 has no upgrade.
    tls::client_config(ServerTrust::Roots(roots), Some(&identity), &[b"http/1.1"]).map(Arc::new)
}

pub(super) fn cert_settings(
    config: &EdgeCoreConfig,
    options: &Options,
) -> Result<CertSettings, Error> {
    let hub = &config.modules.edge_hub;
    let token = match hub.token.expose() {
        "" => None,
        text => Some(text.parse::<Token>().map_err(Error::Token)?),
    };
    Ok(CertSettings {
        http_server: hub.http_server.clone(),
        node: config.modules.edged.hostname_override.clone(),
        ca_file: hub.tls_ca_file.clone(),
        cert_file: hub.tls_cert_file.clone(),
        key_file: hub.tls_private_key_file.clone(),
        bootstrap_file: options.bootstrap_file.clone(),
        token,
        limit: seconds(hub.websocket.handshake_timeout),
    })
}

pub(super) fn runtime(
    config: &EdgeCoreConfig,
    options: &Options,
) -> Result<Option<Arc<dyn ContainerRuntime>>, Error> {
    if !config.modules.edged.enable {
        return Ok(None);
    }
    if let Some(runtime) = &options.runtime {
        return Ok(Some(Arc::clone(runtime)));
    }
    let kubelet = &config.modules.edged.tailored_kubelet_config;
    let refused = |why| Error::Config {
        key: "modules.edged.tailoredKubeletConfig.containerRuntimeEndpoint",
        value: kubelet.container_runtime_endpoint.clone(),
        why,
    };
    match kubelet.runtime() {
        Some(RuntimeEndpoint::Cri { runtime, images }) => {
            let client = CriRuntime::new(&runtime.to_string_lossy());
            client
                .and_then(|client| client.with_images(&images.to_string_lossy()))
                .map(|client| Some(Arc::new(client) as Arc<dyn ContainerRuntime>))
                .map_err(|_| refused("it should be `unix://` and an absolute path"))
        }
        Some(RuntimeEndpoint::Embedded) => Err(refused("it must be handed in by the program")),
        None => Err(refused("it should be `unix://` and an absolute path, or `embedded://`")),
    }
}

pub(super) fn log_size(text: &str) -> Result<u64, Error> {
    api::quantity::whole(text).ok_or_else(|| Error::Config {
        key: "modules.edged.tailoredKubeletConfig.containerLogMaxSize",
        value: text.to_owned(),
        why: "it should be an amount like `10Mi`",
    })
}

pub(super) fn node_ip(text: &str) -> Result<Option<IpAddr>, Error> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Error::Config {
            key: "modules.edged.nodeIP",
            value: text.to_owned(),
            why: "it should be an IP address",
        }),
    }
}

pub(super) fn node_settings(config: &EdgeCoreConfig) -> Result<NodeSettings, Error> {
    let edged = &config.modules.edged;
    let kubelet = &edged.tailored_kubelet_config;
    let hard = |signal: &str| match kubelet.eviction_hard.get(signal) {
        None => Ok(Threshold::Off),
        Some(text) => Threshold::parse(text).ok_or_else(|| Error::Config {
            key: "modules.edged.tailoredKubeletConfig.evictionHard",
            value: format!("{signal}: {text}"),
            why: "it should be an amount like `100Mi` or a share like `10%`",
        }),
    };
    let reserved = |what: &str, scale: u64| {
        [&kubelet.system_reserved, &kubelet.kube_reserved]
            .into_iter()
            .filter_map(|of| of.get(what))
            .map(|text| reserved_amount(text, scale))
            .sum::<Result<u64, Error>>()
    };
    Ok(NodeSettings {
        name: edged.hostname_override.clone(),
        labels: edged.node_labels.clone(),
        taints: kubelet.register_with_taints.clone().unwrap_or_default(),
        schedulable: edged.register_schedulable,
        attach_detach: kubelet.enable_controller_attach_detach,
        max_pods: kubelet.max_pods,
        pods_per_core: kubelet.pods_per_core,
        max_images: kubelet.node_status_max_images,
        thresholds: Thresholds {
            memory: hard("memory.available")?,
            node_fs: hard("nodefs.available")?,
            node_inodes: hard("nodefs.inodesFree")?,
            image_fs: hard("imagefs.available")?,
            image_inodes: hard("imagefs.inodesFree")?,
            pids: hard("pid.available")?,
        },
        reserved_memory: reserved("memory", 1)?,
        reserved_milli_cpu: reserved("cpu", 1000)?,
    })
}

/// `200m` or `1` with a scale of 1000, `100Mi` with a scale of 1.
pub(super) fn reserved_amount(text: &str, scale: u64) -> Result<u64, Error> {
    let amount = match text.strip_suffix('m') {
        Some(milli) => milli.parse::<u64>().ok().map(|m| m * scale / 1000),
        // A thousand times `0.5` is `0.5k`.
        None if scale == 1000 => api::quantity::whole(&format!("{text}k")),
        None => api::quantity::whole(text),
    };
    amount.ok_or_else(|| Error::Config {
        key: "modules.edged.tailoredKubeletConfig.systemReserved or kubeReserved",
        value: text.to_owned(),
        why: "it should be an amount like `100Mi` or `200m`",
    })
}

/// The modules that the configuration asks for and that are not built yet.
pub(super) fn absent(config: &EdgeCoreConfig) -> Vec<&'static str> {
    let m = &config.modules;
    let asked = [
        ("serviceBus", m.service_bus.enable),
        ("metaManager.metaServer", m.meta_manager.meta_server.enable),
    ];
    asked.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod absent_tests {
    use super::*;
    use api::config::{ConfigFile, Host};

    #[test]
    fn what_the_configuration_asks_for_in_vain_is_named() {
        let mut config = EdgeCoreConfig::default_for(&Host::default());
        let before = absent(&config);
        config.modules.service_bus.enable = !config.modules.service_bus.enable;
        let after = absent(&config);
        assert_ne!(before.contains(&"serviceBus"), after.contains(&"serviceBus"));
    }
}
