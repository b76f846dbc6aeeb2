//! The edge node of `keadm up`, and its containers.

use std::sync::Arc;
use std::time::Duration;

use api::config::kubelet::EMBEDDED_RUNTIME;
use api::config::{ConfigErrors, Document, EdgeCoreConfig, Secret};
use camino::Utf8PathBuf;
use edgecore::EdgeCore;
use edgecore::edged::runtime::embedded::EmbeddedRuntime;
use service::Service;

use super::Up;
use super::parts::Parts;
use crate::commands::config::{facts, refused};
use crate::commands::{gettoken, service_error};
use crate::errors::{CommandError, Kind};
use crate::phases::{Outcome, Step};

/// The containers that this process has to take away when it ends.
pub(super) type Containers = Arc<EmbeddedRuntime>;

/// Removing a container waits for its grace period; a workload that will not stop is killed then.
const REMOVE_LIMIT: Duration = Duration::from_secs(45);

fn folder(up: &Up) -> Utf8PathBuf {
    up.dir.join("edgecore")
}

/// Where mappers find edgecore, and nothing else is.
pub(super) fn dmi_folder(up: &Up) -> Utf8PathBuf {
    folder(up).join("dmi")
}

async fn open(up: &Up) -> Result<Containers, CommandError> {
    crate::containers::embedded(&folder(up).join("containers")).await
}

/// Starts edgecore with the embedded runtime.
pub(super) async fn edgecore(up: &Up, parts: &mut Parts, step: Step) -> Outcome {
    step.waiting("opening the container runtime");
    let runtime = open(up).await?;
    parts.containers = Some(Arc::clone(&runtime));
    let (mut config, _) = yaml(up)?.config().map_err(|e| refused(&e))?;
    // Needed only for the first certificate; it is given in memory and lies in no file.
    let token = gettoken::current(&up.cx, parts.cloud()?).await?;
    config.modules.edge_hub.token = Secret::from(token);
    let options = edgecore::Options {
        config_file: None,
        bootstrap_file: folder(up).join("bootstrap").into(),
        admin: Some(([127, 0, 0, 1], edgecore::ADMIN_PORT).into()),
        runtime: Some(runtime),
        status_socket: Some(up.dir.join(crate::fleet::EDGE_SOCKET).into()),
        // There is no service to start again.
        jobs: None,
    };
    step.waiting("starting");
    let failed = |e: edgecore::Error| service_error("edgecore", &e);
    let mut svc = Service::new("edgecore");
    let app = EdgeCore::build(config, options).await.map_err(failed)?;
    app.spawn(&mut svc).map_err(failed)?;
    let readiness = svc.readiness().clone();
    parts.keep("edgecore", svc);
    super::parts::ready(up, &step, "edgecore", &readiness).await?;
    Ok("linked to cloudcore with mutual TLS".to_owned())
}

fn yaml(up: &Up) -> Result<Document<EdgeCoreConfig>, CommandError> {
    let mut document = Document::<EdgeCoreConfig>::defaults(&facts(&up.cx));
    let fill = |document: &mut Document<EdgeCoreConfig>| -> Result<(), ConfigErrors> {
        let at = |file: &str| folder(up).join(file).into_string();
        document.set_value("modules.edged.hostnameOverride", up.node.as_str())?;
        document.set_value("modules.edged.rootDirectory", at("kubelet"))?;
        // Why a pod does not run is what a new user asks first, and no line is saved here.
        document.set_value("modules.edged.reportEvent", true)?;
        document.set_value("modules.edgeHub.httpServer", "https://127.0.0.1:10002")?;
        document.set_value("modules.edgeHub.websocket.server", "127.0.0.1:10000")?;
        document.set_value("modules.edgeHub.tlsCaFile", at("rootCA.crt"))?;
        document.set_value("modules.edgeHub.tlsCertFile", at("server.crt"))?;
        document.set_value("modules.edgeHub.tlsPrivateKeyFile", at("server.key"))?;
        document.set_value("modules.edgeStream.enable", true)?;
        document.set_value("modules.edgeStream.server", "127.0.0.1:10004")?;
        document.set_value("modules.edgeStream.tlsTunnelCAFile", at("rootCA.crt"))?;
        document.set_value("modules.edgeStream.tlsTunnelCertFile", at("server.crt"))?;
        document.set_value("modules.edgeStream.tlsTunnelPrivateKeyFile", at("server.key"))?;
        document.set_value("database.dataSource", at("edgecore.db"))?;
        document.set_value("modules.deviceTwin.dmiSockPath", dmi_folder(up).into_string())?;
        // The built-in broker: there may be no other on the machine.
        document.set_value("modules.eventBus.mqttMode", 0)?;
        let kubelet = |key: &str| format!("modules.edged.tailoredKubeletConfig.{key}");
        document.set_value(&kubelet("containerRuntimeEndpoint"), EMBEDDED_RUNTIME)?;
        document.set_value(&kubelet("imageServiceEndpoint"), EMBEDDED_RUNTIME)?;
        // Machines on which something is tried out are fuller than a node's, and a share of a large
        // disk is much: 5% of 256 GB is more than many laptops have left.
        document.set_value(&kubelet(r"evictionHard.nodefs\.available"), "50Mi")?;
        document.set_value(&kubelet(r"evictionHard.imagefs\.available"), "50Mi")?;
        document.set_value(&kubelet("staticPodPath"), at("manifests"))?;
        document.set_value(&kubelet("podLogsDir"), at("pod-logs"))
    };
    fill(&mut document).map_err(|e| refused(&e))?;
    Ok(document)
}

/// Takes all containers away: their processes, mounts, cgroups and namespaces.
pub(super) async fn remove(up: &Up, containers: Containers) -> Outcome {
    let timed_out = |_| {
        CommandError::new(Kind::TimedOut, "the containers could not be removed in time")
            .hint(format!("`{}` tries again", up.command_line(" --reset")))
    };
    tokio::time::timeout(REMOVE_LIMIT, containers.remove_all()).await.map_err(timed_out)?.map_err(
        |e| CommandError::new(Kind::Failed, "the containers could not be removed").caused_by(&e),
    )?;
    // Volumes that are mounts of their own: secrets, memory.
    let kubelet = folder(up).join("kubelet");
    up.cx.host.unmount_below(&kubelet).map_err(|e| {
        CommandError::new(Kind::Failed, format!("cannot unmount what is below `{kubelet}`"))
            .caused_by(&e)
    })?;
    Ok("no process, mount or cgroup is left".to_owned())
}

/// For `--reset`: what an earlier run may have left behind.
pub(super) fn remove_left_over(up: &Up) -> Result<(), CommandError> {
    if !up.cx.host.exists(&folder(up).join("containers")) {
        return Ok(());
    }
    up.cx.block_on(async {
        let runtime = open(up).await?;
        remove(up, runtime).await.map(drop)
    })
}
