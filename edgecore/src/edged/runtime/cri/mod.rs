//! A container runtime that speaks CRI v1 over a unix socket: containerd, CRI-O.
//!
//! Owns: the gRPC channel, the limits of each call.
//! Called by: whoever holds the `dyn ContainerRuntime`.
//! Never: decides anything; it translates.

mod convert;
mod events;
mod streaming;
mod take;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::generated::containerd::events_client::EventsClient;
use super::generated::cri as pb;
use super::generated::cri::image_service_client::ImageServiceClient;
use super::generated::cri::runtime_service_client::RuntimeServiceClient;
use super::{
    Answer, CgroupDriver, ContainerRuntime, ContainerSpec, ContainerStats, ContainerStatus,
    ExecOutput, ImageFs, ImageInfo, Listing, PodNetwork, PullAuth, Resources, RuntimeError,
    RuntimeEvent, RuntimeStatus, RuntimeVersion, SandboxSpec, SandboxStatus, StreamSpec, Streams,
    label,
};

/// Answers may hold the statuses of all containers, or a command's output.
const MAX_ANSWER: usize = 16 << 20;
/// Most calls.
const SHORT: Duration = Duration::from_secs(120);
/// Making and stopping a sandbox waits for network plugins.
const LONG: Duration = Duration::from_secs(240);
/// Pulling an image over a bad line.
const PULL: Duration = Duration::from_secs(3600);

/// A client of a CRI socket.
#[derive(Clone)]
pub struct CriRuntime {
    endpoint: String,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    containerd: EventsClient<Channel>,
}

impl CriRuntime {
    /// A client for `unix:///path/to.sock`. Connects at the first call, and again whenever the
    /// runtime was away.
    ///
    /// # Errors
    /// When the endpoint is not of that form.
    pub fn new(endpoint: &str) -> Result<Self, RuntimeError> {
        let channel = channel(endpoint)?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_ANSWER),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            containerd: EventsClient::new(channel).max_decoding_message_size(MAX_ANSWER),
        })
    }

    /// Asks for images at another socket, if it is another.
    ///
    /// # Errors
    /// When the endpoint is not of the form `unix:///path/to.sock`.
    pub fn with_images(mut self, endpoint: &str) -> Result<Self, RuntimeError> {
        if endpoint != self.endpoint {
            self.images =
                ImageServiceClient::new(channel(endpoint)?).max_decoding_message_size(MAX_ANSWER);
        }
        Ok(self)
    }

    /// Waits for an answer, at most `limit`.
    async fn call<T>(
        &self,
        call: &'static str,
        limit: Duration,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, RuntimeError> {
        match tokio::time::timeout(limit, answer).await {
            Err(_) => Err(RuntimeError::TimedOut { call, limit }),
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.error(call, limit, &status)),
        }
    }

    fn error(&self, call: &'static str, limit: Duration, status: &Status) -> RuntimeError {
        match status.code() {
            Code::NotFound => RuntimeError::NotFound { what: status.message().to_owned() },
            Code::DeadlineExceeded => RuntimeError::TimedOut { call, limit },
            Code::Unimplemented => RuntimeError::Unsupported(call),
            Code::Unavailable => RuntimeError::Unreachable {
                endpoint: self.endpoint.clone(),
                why: unavailable(status),
            },
            _ => RuntimeError::Refused(status.message().to_owned()),
        }
    }
}

fn channel(endpoint: &str) -> Result<Channel, RuntimeError> {
    let unreachable =
        |why: String| RuntimeError::Unreachable { endpoint: endpoint.to_owned(), why };
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if !path.starts_with('/') {
        return Err(unreachable("it must be `unix://` and an absolute path".to_owned()));
    }
    let endpoint =
        Endpoint::from_shared(format!("unix://{path}")).map_err(|e| unreachable(e.to_string()))?;
    Ok(endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy())
}

/// The innermost cause says the most: "No such file or directory" and not "transport error".
fn unavailable(status: &Status) -> String {
    let mut why = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(c) = cause {
        why = c.to_string();
        cause = c.source();
    }
    why
}

/// Removing what is not there is a success.
fn gone_is_fine(answer: Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    match answer {
        Err(RuntimeError::NotFound { .. }) => Ok(()),
        other => other,
    }
}

fn of_pod(uid: Option<&str>) -> BTreeMap<String, String> {
    uid.map(|uid| (label::POD_UID.to_owned(), uid.to_owned())).into_iter().collect()
}

/// Whole seconds, rounded up, so that a short grace period is not none.
fn seconds(limit: Duration) -> i64 {
    i64::try_from(limit.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

impl ContainerRuntime for CriRuntime {
    fn version(&self) -> Answer<'_, RuntimeVersion> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::VersionRequest { version: "v1".to_owned() };
            let v = self.call("Version", SHORT, client.version(request)).await?;
            Ok(RuntimeVersion { name: v.runtime_name, version: v.runtime_version })
        })
    }

    fn status(&self) -> Answer<'_, RuntimeStatus> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::StatusRequest { verbose: false };
            let answer = self.call("Status", SHORT, client.status(request)).await?;
            let mut status = convert::runtime_status(answer.status.unwrap_or_default());
            let asked = client.runtime_config(pb::RuntimeConfigRequest {});
            if let Ok(config) = self.call("RuntimeConfig", SHORT, asked).await {
                status.cgroup_driver = config.linux.map(|l| match l.cgroup_driver() {
                    pb::CgroupDriver::Systemd => CgroupDriver::Systemd,
                    pb::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
                });
            }
            Ok(status)
        })
    }

    fn list<'a>(&'a self, pod_uid: Option<&'a str>) -> Answer<'a, Listing> {
        Box::pin(async move {
            let (mut for_sandboxes, mut for_containers) =
                (self.runtime.clone(), self.runtime.clone());
            let sandboxes = for_sandboxes.list_pod_sandbox(pb::ListPodSandboxRequest {
                filter: Some(pb::PodSandboxFilter {
                    label_selector: of_pod(pod_uid),
                    ..Default::default()
                }),
            });
            let containers = for_containers.list_containers(pb::ListContainersRequest {
                filter: Some(pb::ContainerFilter {
                    label_selector: of_pod(pod_uid),
                    ..Default::default()
                }),
            });
            let (sandboxes, containers) = tokio::try_join!(
                self.call("ListPodSandbox", SHORT, sandboxes),
                self.call("ListContainers", SHORT, containers),
            )?;
            Ok(Listing {
                sandboxes: sandboxes.items.into_iter().map(convert::seen_sandbox).collect(),
                containers: containers
                    .containers
                    .into_iter()
                    .map(convert::seen_container)
                    .collect(),
            })
        })
    }

    fn run_sandbox<'a>(&'a self, spec: &'a SandboxSpec) -> Answer<'a, String> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::RunPodSandboxRequest {
                config: Some(convert::sandbox_config(spec)),
                runtime_handler: spec.runtime_handler.clone(),
            };
            let made = self.call("RunPodSandbox", LONG, client.run_pod_sandbox(request)).await?;
            Ok(made.pod_sandbox_id)
        })
    }

    fn sandbox_status<'a>(&'a self, id: &'a str) -> Answer<'a, SandboxStatus> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request =
                pb::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
            let answer =
                self.call("PodSandboxStatus", SHORT, client.pod_sandbox_status(request)).await?;
            Ok(convert::sandbox_status(answer.status.unwrap_or_default()))
        })
    }

    fn network<'a>(&'a self, id: &'a str) -> Answer<'a, PodNetwork> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request =
                pb::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
            let answer =
                self.call("PodSandboxStatus", SHORT, client.pod_sandbox_status(request)).await?;
            let refused = |why: String| RuntimeError::Refused(why);
            match convert::network(&answer).map_err(refused)? {
                None => Ok(PodNetwork::Host),
                Some(path) => match std::fs::File::open(&path) {
                    Ok(file) => Ok(PodNetwork::Namespace(file.into())),
                    Err(e) => {
                        let path = path.display();
                        Err(refused(format!(
                            "cannot open the pod's network namespace `{path}`: {e}"
                        )))
                    }
                },
            }
        })
    }

    fn stop_sandbox<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
            let done = self.call("StopPodSandbox", LONG, client.stop_pod_sandbox(request)).await;
            gone_is_fine(done.map(drop))
        })
    }

    fn remove_sandbox<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
            let done =
                self.call("RemovePodSandbox", SHORT, client.remove_pod_sandbox(request)).await;
            gone_is_fine(done.map(drop))
        })
    }

    fn create_container<'a>(
        &'a self,
        sandbox_id: &'a str,
        spec: &'a ContainerSpec,
        sandbox: &'a SandboxSpec,
    ) -> Answer<'a, String> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::CreateContainerRequest {
                pod_sandbox_id: sandbox_id.to_owned(),
                config: Some(convert::container_config(spec, sandbox.namespaces)),
                sandbox_config: Some(convert::sandbox_config(sandbox)),
            };
            let made = self.call("CreateContainer", LONG, client.create_container(request)).await?;
            Ok(made.container_id)
        })
    }

    fn start_container<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::StartContainerRequest { container_id: id.to_owned() };
            self.call("StartContainer", SHORT, client.start_container(request)).await.map(drop)
        })
    }

    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request =
                pb::StopContainerRequest { container_id: id.to_owned(), timeout: seconds(grace) };
            let asked = client.stop_container(request);
            gone_is_fine(self.call("StopContainer", grace + SHORT, asked).await.map(drop))
        })
    }

    fn remove_container<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::RemoveContainerRequest { container_id: id.to_owned() };
            let asked = client.remove_container(request);
            gone_is_fine(self.call("RemoveContainer", SHORT, asked).await.map(drop))
        })
    }

    fn container_status<'a>(&'a self, id: &'a str) -> Answer<'a, ContainerStatus> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request =
                pb::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
            let answer =
                self.call("ContainerStatus", SHORT, client.container_status(request)).await?;
            Ok(convert::container_status(answer.status.unwrap_or_default()))
        })
    }

    fn update_resources<'a>(&'a self, id: &'a str, to: &'a Resources) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::UpdateContainerResourcesRequest {
                container_id: id.to_owned(),
                linux: Some(convert::resources(to)),
            };
            let asked = client.update_container_resources(request);
            self.call("UpdateContainerResources", SHORT, asked).await.map(drop)
        })
    }

    fn reopen_log<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::ReopenContainerLogRequest { container_id: id.to_owned() };
            let asked = client.reopen_container_log(request);
            self.call("ReopenContainerLog", SHORT, asked).await.map(drop)
        })
    }

    fn exec_sync<'a>(
        &'a self,
        id: &'a str,
        command: &'a [String],
        limit: Duration,
    ) -> Answer<'a, ExecOutput> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::ExecSyncRequest {
                container_id: id.to_owned(),
                cmd: command.to_vec(),
                timeout: seconds(limit),
            };
            let answer = self.call("ExecSync", limit + SHORT, client.exec_sync(request)).await;
            let answer = answer.map_err(|e| match e {
                RuntimeError::TimedOut { call, .. } => RuntimeError::TimedOut { call, limit },
                other => other,
            })?;
            Ok(ExecOutput {
                stdout: answer.stdout,
                stderr: answer.stderr,
                exit_code: answer.exit_code,
            })
        })
    }

    fn exec<'a>(&'a self, id: &'a str, spec: &'a StreamSpec) -> Answer<'a, Streams> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::ExecRequest {
                container_id: id.to_owned(),
                cmd: spec.command.clone(),
                tty: spec.tty,
                stdin: spec.stdin,
                stdout: spec.stdout,
                stderr: spec.stderr && !spec.tty,
            };
            let answer = self.call("Exec", SHORT, client.exec(request)).await?;
            streaming::connect(&answer.url, spec).await
        })
    }

    fn attach<'a>(&'a self, id: &'a str, spec: &'a StreamSpec) -> Answer<'a, Streams> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::AttachRequest {
                container_id: id.to_owned(),
                tty: spec.tty,
                stdin: spec.stdin,
                stdout: spec.stdout,
                stderr: spec.stderr && !spec.tty,
            };
            let answer = self.call("Attach", SHORT, client.attach(request)).await?;
            streaming::connect(&answer.url, spec).await
        })
    }

    fn image_status<'a>(&'a self, image: &'a str) -> Answer<'a, Option<ImageInfo>> {
        Box::pin(async move {
            let mut client = self.images.clone();
            let request =
                pb::ImageStatusRequest { image: Some(convert::image_spec(image)), verbose: false };
            match self.call("ImageStatus", SHORT, client.image_status(request)).await {
                Ok(answer) => Ok(answer.image.map(convert::image_info)),
                Err(e) if e.is_not_found() => Ok(None),
                Err(e) => Err(e),
            }
        })
    }

    fn pull_image<'a>(&'a self, image: &'a str, auth: Option<&'a PullAuth>) -> Answer<'a, String> {
        Box::pin(async move {
            let mut client = self.images.clone();
            let request = pb::PullImageRequest {
                image: Some(convert::image_spec(image)),
                auth: auth.map(convert::auth_config),
            };
            match self.call("PullImage", PULL, client.pull_image(request)).await {
                Ok(answer) => Ok(answer.image_ref),
                // What is not found is in the registry; the text says so better.
                Err(RuntimeError::NotFound { what }) => Err(RuntimeError::Refused(what)),
                Err(e) => Err(e),
            }
        })
    }

    fn copy_from_image<'a>(
        &'a self,
        image: &'a str,
        path: &'a str,
        to: &'a Path,
    ) -> Answer<'a, ()> {
        Box::pin(take::copy(self, image, path, to))
    }

    fn list_images(&self) -> Answer<'_, Vec<ImageInfo>> {
        Box::pin(async move {
            let mut client = self.images.clone();
            let asked = client.list_images(pb::ListImagesRequest {});
            let answer = self.call("ListImages", SHORT, asked).await?;
            Ok(answer.images.into_iter().map(convert::image_info).collect())
        })
    }

    fn remove_image<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut client = self.images.clone();
            let request = pb::RemoveImageRequest { image: Some(convert::image_spec(id)) };
            let done = self.call("RemoveImage", SHORT, client.remove_image(request)).await;
            gone_is_fine(done.map(drop))
        })
    }

    fn image_fs(&self) -> Answer<'_, Vec<ImageFs>> {
        Box::pin(async move {
            let mut client = self.images.clone();
            let asked = client.image_fs_info(pb::ImageFsInfoRequest {});
            let answer = self.call("ImageFsInfo", SHORT, asked).await?;
            Ok(answer.image_filesystems.into_iter().map(convert::image_fs).collect())
        })
    }

    fn stats<'a>(&'a self, pod_uid: Option<&'a str>) -> Answer<'a, Vec<ContainerStats>> {
        Box::pin(async move {
            let mut client = self.runtime.clone();
            let request = pb::ListContainerStatsRequest {
                filter: Some(pb::ContainerStatsFilter {
                    label_selector: of_pod(pod_uid),
                    ..Default::default()
                }),
            };
            let asked = client.list_container_stats(request);
            let answer = self.call("ListContainerStats", SHORT, asked).await?;
            Ok(answer.stats.into_iter().map(convert::container_stats).collect())
        })
    }

    fn events(&self) -> Answer<'_, Option<mpsc::Receiver<RuntimeEvent>>> {
        Box::pin(events::subscribe(self.runtime.clone(), self.containerd.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_unix_socket() {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = rt.enter();
        assert!(CriRuntime::new("unix:///run/containerd/containerd.sock").is_ok());
        assert!(CriRuntime::new("/run/crio/crio.sock").is_ok());
        let err = CriRuntime::new("tcp://10.0.0.1:22").err().unwrap();
        assert_eq!(
            err.to_string(),
            "the container runtime at `tcp://10.0.0.1:22` does not answer: \
             it must be `unix://` and an absolute path"
        );
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_named_with_its_cause() {
        let runtime = CriRuntime::new("unix:///nonexistent/cri.sock").unwrap();
        let err = runtime.version().await.unwrap_err();
        let text = err.to_string();
        assert!(text.contains("unix:///nonexistent/cri.sock"), "{text}");
        assert!(text.contains("No such file"), "{text}");
    }

    #[test]
    fn part_of_a_second_is_rounded_up() {
        assert_eq!(seconds(Duration::ZERO), 0);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_secs(30)), 30);
    }
}
