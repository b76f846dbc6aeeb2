//! Images: pull or not, with which login.
//!
//! Owns: the decision to pull, the choice of a login, the limit on pulls at once.
//! Called by: `worker.rs` before a container is made.
//! Never: prints a login.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use serde::Deserialize;
use std::collections::BTreeMap;
use tokio::sync::Semaphore;

use super::cluster::Cluster;
use super::podspec;
use super::runtime::{ContainerRuntime, ImageInfo, PullAuth};

/// Pulls at once, over all pods.
const PULLS: usize = 3;

/// Why there is no image: kubelet's reason, and a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The image to start a container from.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// What the runtime calls it.
    pub(crate) reference: String,
    /// What is known of it.
    pub(crate) info: ImageInfo,
    /// How long the pull took, if there was one.
    pub(crate) pulled_in: Option<std::time::Duration>,
}

/// Pulls images, a few at once.
pub(crate) struct Puller {
    slots: Semaphore,
}

impl Default for Puller {
    fn default() -> Self {
        Self { slots: Semaphore::new(PULLS) }
    }
}

/// Whether to pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Always,
    IfNotPresent,
    Never,
}

/// The container's pull policy; without one, images without a fixed tag are always pulled.
pub(crate) fn policy(c: &Container) -> Policy {
    match c.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some("IfNotPresent") => Policy::IfNotPresent,
        _ => {
            let image = with_tag(c.image.as_deref().unwrap_or_default()).unwrap_or_default();
            if image.ends_with(":latest") { Policy::Always } else { Policy::IfNotPresent }
        }
    }
}

/// The image's name with `:latest` if it has neither tag nor digest; `None` if it is no name.
pub(crate) fn with_tag(image: &str) -> Option<String> {
    let bad = |c: char| !(c.is_ascii_alphanumeric() || "._-/:@+[]".contains(c));
    let last = image.rsplit('/').next().unwrap_or_default();
    if image.is_empty() || image.contains(bad) || last.is_empty() || last.starts_with([':', '@']) {
        return None;
    }
    let (repository, _) = image.split_once('@').unwrap_or((image, ""));
    let path = repository
        .split_once('/')
        .map_or(repository, |(host, path)| if is_registry(host) { path } else { repository });
    let untagged = path.split(':').next().unwrap_or_default();
    if untagged.is_empty() || untagged.chars().any(|c| c.is_ascii_uppercase()) {
        return None;
    }
    if image.contains('@') || path.contains(':') {
        return Some(image.to_owned());
    }
    Some(format!("{image}:latest"))
}

fn is_registry(host: &str) -> bool {
    host.contains(['.', ':']) || host == "localhost"
}

impl Puller {
    /// Makes sure that the image is here. `started` is called when a pull begins.
    pub(crate) async fn ensure(
        &self,
        runtime: &dyn ContainerRuntime,
        cluster: &dyn Cluster,
        pod: &Pod,
        c: &Container,
        started: impl FnOnce(),
    ) -> Result<Image, ImageError> {
        let named = c.image.as_deref().unwrap_or_default();
        let Some(image) = with_tag(named) else {
            return Err(ImageError {
                reason: "InvalidImageName",
                message: format!(
                    "Failed to apply default image tag \"{named}\": couldn't parse image name \
                     \"{named}\": invalid reference format"
                ),
            });
        };
        let inspect = |e: super::runtime::RuntimeError| ImageError {
            reason: "ImageInspectError",
            message: format!("Failed to inspect image \"{image}\": {e}"),
        };
        let policy = policy(c);
        let here = runtime.image_status(&image).await.map_err(inspect)?;
        match here {
            Some(info) if policy != Policy::Always => {
                return Ok(Image { reference: info.id.clone(), info, pulled_in: None });
            }
            None if policy == Policy::Never => {
                return Err(ImageError {
                    reason: "ErrImageNeverPull",
                    message: format!(
                        "Container image \"{named}\" is not present with pull policy of Never"
                    ),
                });
            }
            _ => {}
        }
        let _slot = self.slots.acquire().await;
        started();
        let begun = tokio::time::Instant::now();
        let reference = self.pull(runtime, cluster, pod, &image).await?;
        let info = runtime.image_status(&reference).await.map_err(inspect)?.unwrap_or_default();
        Ok(Image { reference, info, pulled_in: Some(begun.elapsed()) })
    }

    async fn pull(
        &self,
        runtime: &dyn ContainerRuntime,
        cluster: &dyn Cluster,
        pod: &Pod,
        image: &str,
    ) -> Result<String, ImageError> {
        let mut logins = Vec::new();
        for secret in podspec::spec(pod).image_pull_secrets.iter().flatten() {
            match cluster.secret(podspec::namespace(pod), &secret.name).await {
                Ok(Some(secret)) => logins.extend(logins_of(&secret)),
                // As kubelet: a missing one is no reason not to try.
                Ok(None) => {
                    tracing::warn!(
                        pod = podspec::full_name(pod),
                        secret = secret.name,
                        "pull secret does not exist"
                    );
                }
                Err(e) => {
                    tracing::warn!(pod = podspec::full_name(pod), secret = secret.name, error = %e, "pull secret cannot be read");
                }
            }
        }
        let fitting = fitting(&logins, image);
        let tries: Vec<Option<&PullAuth>> = match fitting.is_empty() {
            true => vec![None],
            false => fitting.into_iter().map(Some).collect(),
        };
        let mut failure = String::new();
        for auth in tries {
            match runtime.pull_image(image, auth).await {
                Ok(reference) => return Ok(reference),
                Err(e) => failure = e.to_string(),
            }
        }
        Err(ImageError { reason: "ErrImagePull", message: failure })
    }
}

/// A login and where it is for.
#[derive(Clone)]
pub(crate) struct Login {
    registry: String,
    auth: PullAuth,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

/// The logins of a pull secret; none if it is of another kind or cannot be read.
pub(crate) fn logins_of(secret: &Secret) -> Vec<Login> {
    let data = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.as_slice());
    let auths = if let Some(json) = data(".dockerconfigjson") {
        serde_json::from_slice::<DockerConfig>(json).map(|c| c.auths).ok()
    } else {
        data(".dockercfg").and_then(|json| serde_json::from_slice(json).ok())
    };
    auths.unwrap_or_default().into_iter().map(|(registry, auth)| login(registry, auth)).collect()
}

fn login(registry: String, a: DockerAuth) -> Login {
    let mut auth = PullAuth {
        username: a.username,
        password: a.password,
        identity_token: a.identitytoken,
        registry_token: a.registrytoken,
        server_address: host_and_path(&registry).to_owned(),
        ..PullAuth::default()
    };
    if auth.username.is_empty()
        && let Ok(both) = STANDARD.decode(a.auth.trim())
        && let Ok(both) = String::from_utf8(both)
        && let Some((user, password)) = both.split_once(':')
    {
        auth.username = user.to_owned();
        auth.password = password.trim_end_matches('\0').to_owned();
    }
    Login { registry, auth }
}

fn host_and_path(registry: &str) -> &str {
    let bare = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://"));
    let bare = bare.unwrap_or(registry).trim_end_matches('/');
    bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare)
}

/// The logins that are for this image, the most specific first.
pub(crate) fn fitting<'a>(logins: &'a [Login], image: &str) -> Vec<&'a PullAuth> {
    let (host, path) = match image.split_once('/') {
        Some((host, path)) if is_registry(host) => (host, path.to_owned()),
        Some(_) => ("docker.io", image.to_owned()),
        None => ("docker.io", format!("library/{image}")),
    };
    let mut fit: Vec<(usize, &PullAuth)> = logins
        .iter()
        .filter_map(|login| {
            let registry = host_and_path(&login.registry);
            let (want_host, want_path) = registry.split_once('/').unwrap_or((registry, ""));
            let docker = matches!(want_host, "index.docker.io" | "registry-1.docker.io");
            let want_host = if docker { "docker.io" } else { want_host };
            (host_fits(want_host, host) && path_fits(want_path, &path))
                .then_some((registry.len(), &login.auth))
        })
        .collect();
    fit.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    fit.into_iter().map(|(_, auth)| auth).collect()
}

/// `*.example.com` is for one level below, with the same port.
fn host_fits(want: &str, host: &str) -> bool {
    let split = |h: &str| match h.rsplit_once(':') {
        Some((name, port)) => (name.to_owned(), port.to_owned()),
        None => (h.to_owned(), String::new()),
    };
    let ((want, want_port), (host, port)) = (split(want), split(host));
    let (want, host): (Vec<_>, Vec<_>) = (want.split('.').collect(), host.split('.').collect());
    want_port == port
        && want.len() == host.len()
        && want.iter().zip(&host).all(|(w, h)| match w.split_once('*') {
            None => w == h,
            Some((before, after)) => {
                h.len() + 1 >= w.len() && h.starts_with(before) && h.ends_with(after)
            }
        })
}

fn path_fits(want: &str, path: &str) -> bool {
    want.is_empty()
        || path
            .strip_prefix(want)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
