//! The three programs of `keadm up`, each a service of its own in this process.
//!
//! They are stopped in the order in which they need one another: the edge first, then its
//! containers, then cloudcore, then the control plane.

use std::sync::Arc;

use api::config::{CloudCoreConfig, ConfigErrors, Document};
use cloudcore::admission::{Certificate, Reach, Settings};
use control_plane::ControlPlane;
use parking_lot::Mutex;
use service::{CancellationToken, Readiness, Service};
use tokio::task::JoinHandle;

use super::{Up, until};
use crate::cloud::{Cloud, KubeConfigArg};
use crate::commands::config::refused;
use crate::commands::{init, service_error};
use crate::errors::{CommandError, Kind, file_error};
use crate::objects;
use crate::phases::{Outcome, Progress, Step, one};

/// One program.
struct Part {
    name: &'static str,
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

/// Tells of the first program that ended by itself.
#[derive(Clone, Default)]
pub(super) struct Failed {
    error: Arc<Mutex<Option<CommandError>>>,
    happened: CancellationToken,
}

impl Failed {
    /// Its error, once there is one.
    pub(super) async fn wait(&self) -> CommandError {
        self.happened.cancelled().await;
        let error = self.error.lock().take();
        error.unwrap_or_else(|| CommandError::new(Kind::Failed, "a program has ended"))
    }

    fn set(&self, error: CommandError) {
        self.error.lock().get_or_insert(error);
        self.happened.cancel();
    }
}

/// What is running, in the order in which it was started.
#[derive(Default)]
pub(super) struct Parts {
    running: Vec<Part>,
    cloud: Option<Cloud>,
    failed: Failed,
    /// The control plane's CA, which nodes are told.
    ca_pem: String,
    #[cfg(feature = "edge")]
    pub(super) containers: Option<super::edge::Containers>,
}

impl Parts {
    /// The control plane, as its clients see it.
    pub(super) fn cloud(&self) -> Result<&Cloud, CommandError> {
        self.cloud.as_ref().ok_or_else(|| {
            CommandError::new(Kind::Failed, "the control plane has not been started")
        })
    }

    /// Keeps a program whose tasks have been spawned.
    pub(super) fn keep(&mut self, name: &'static str, svc: Service) {
        let (stopping, failed) = (svc.stopping(), self.failed.clone());
        let asked = stopping.clone();
        let task = tokio::spawn(async move {
            let ended = svc.until_stopped().await;
            match ended {
                Err(e) => failed.set(service_error(name, &e)),
                Ok(()) if asked.is_cancelled() => {}
                Ok(()) => {
                    let ended = format!("`{name}` has ended by itself");
                    failed.set(CommandError::new(Kind::Failed, ended));
                }
            }
        });
        self.running.push(Part { name, stopping, task });
    }

    /// Tells when a program ends by itself.
    pub(super) fn failed(&self) -> Failed {
        self.failed.clone()
    }

    /// Whether anything is running.
    pub(super) fn any(&self) -> bool {
        !self.running.is_empty()
    }

    /// Stops all, the last started first; the containers as soon as edgecore has ended.
    pub(super) async fn stop(&mut self, up: &Up, progress: &Progress) -> Result<(), CommandError> {
        let mut first = Ok(());
        if self.any() {
            up.cx.printer.say("");
        }
        while let Some(part) = self.running.pop() {
            let stopped = one(&format!("stop {}", part.name), progress, |_| async {
                part.stopping.cancel();
                part.task.await.map(|()| String::new()).map_err(|e| {
                    CommandError::new(Kind::Failed, format!("`{}` has panicked", part.name))
                        .caused_by(&e)
                })
            })
            .await;
            first = first.and(stopped);
            #[cfg(feature = "edge")]
            if let Some(containers) = self.containers.take() {
                let removed =
                    one("containers", progress, |_| super::edge::remove(up, containers)).await;
                first = first.and(removed);
            }
        }
        // A program that would not stop in time has said so.
        let late = self.failed.error.lock().take();
        first.and(late.map_or(Ok(()), Err))
    }
}

/// Waits until all parts of a service have said that they are up; says meanwhile which have not.
pub(super) async fn ready(
    up: &Up,
    step: &Step,
    name: &str,
    readiness: &Readiness,
) -> Result<(), CommandError> {
    until(step, up.timeout, &format!("`{name}`"), || async {
        match readiness.waiting_for().as_slice() {
            [] => Ok(()),
            parts => Err(format!("waiting for {}", parts.join(", "))),
        }
    })
    .await
}

/// Starts the control plane.
pub(super) async fn control_plane(up: &Up, parts: &mut Parts, step: Step) -> Outcome {
    let config = control_plane::Config {
        data_dir: up.dir.join("control-plane").into(),
        bind: (std::net::Ipv4Addr::UNSPECIFIED, up.api_port).into(),
        extra_sans: up.advertise.clone(),
        limits: control_plane::ClientLimits::default(),
    };
    let mut svc = Service::new("control-plane");
    let built =
        ControlPlane::build(config, &svc).await.map_err(|e| service_error("control-plane", &e))?;
    let running = built.spawn(&mut svc);
    let readiness = svc.readiness().clone();
    parts.keep("control-plane", svc);
    ready(up, &step, "control-plane", &readiness).await?;
    running.ca_pem().clone_into(&mut parts.ca_pem);
    let path = up.kubeconfig();
    let failed = |e: std::io::Error| file_error("write", &path, &e);
    let text = std::fs::read(running.kubeconfig()).map_err(failed)?;
    up.cx.host.write(&path, &text, 0o600).map_err(failed)?;
    let cloud = KubeConfigArg::of_file(path.clone()).client(&up.cx).await?;
    let note = cloud.server.clone();
    parts.cloud = Some(cloud);
    Ok(note)
}

/// Prepares the control plane as `init` does, and starts cloudcore.
pub(super) async fn cloudcore(up: &Up, parts: &mut Parts, step: Step) -> Outcome {
    let cloud = parts.cloud()?.clone();
    step.waiting("defining KubeEdge's kinds");
    cloud.apply(&objects::namespace()).await?;
    cloud.define(&objects::crds(), up.timeout, &step).await?;
    step.waiting("starting");
    let kube = KubeConfigArg::of_file(up.kubeconfig());
    // cloudcore repeats requests itself, and watches for as long as it runs.
    let client = kube.client_with(&up.cx, None).await?.unrepeating(None).await?;
    let (config, _) = cloudcore_yaml(up)?.config().map_err(|e| refused(&e))?;
    let options = cloudcore::Options {
        client: Some((client, parts.ca_pem.clone())),
        status_socket: Some(up.dir.join(crate::commands::STATUS_SOCKET).into()),
        // Only the control plane of this process calls it, so any port will do.
        admission: Some(Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            reach: Reach::Host("127.0.0.1".to_owned()),
            certificate: Certificate::Own,
        }),
        ..cloudcore::Options::default()
    };
    let mut svc = Service::new("cloudcore");
    let port = config.modules.cloud_hub.websocket.port;
    let app = cloudcore::CloudCore::build(config, options)
        .await
        .map_err(|e| service_error("cloudcore", &e))?;
    app.spawn(&mut svc);
    let readiness = svc.readiness().clone();
    parts.keep("cloudcore", svc);
    ready(up, &step, "cloudcore", &readiness).await?;
    Ok(format!("edges join at port {port}"))
}

fn cloudcore_yaml(up: &Up) -> Result<Document<CloudCoreConfig>, CommandError> {
    // What this machine dials itself, and what others dial.
    let mut names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    names.extend(up.advertise.iter().cloned());
    names.dedup();
    let mut document = init::defaults(&up.cx, &names)?;
    let fill = |document: &mut Document<CloudCoreConfig>| -> Result<(), ConfigErrors> {
        let at = |file: &str| up.dir.join("cloudcore").join(file).into_string();
        document.set_value("kubeAPIConfig.kubeConfig", up.kubeconfig().as_str())?;
        document.set_value("modules.cloudHub.tlsCAFile", at("rootCA.crt"))?;
        document.set_value("modules.cloudHub.tlsCAKeyFile", at("rootCA.key"))?;
        document.set_value("modules.cloudHub.tlsCertFile", at("server.crt"))?;
        document.set_value("modules.cloudHub.tlsPrivateKeyFile", at("server.key"))?;
        let socket = format!("unix://{}", at("kubeedge.sock"));
        document.set_value("modules.cloudHub.unixsocket.address", socket)
    };
    fill(&mut document).map_err(|e| refused(&e))?;
    Ok(document)
}
