//! What a pod mounts: made before its containers, brought up to date while they run.
//!
//! Owns: `<root>/pods/<uid>/volumes`, laid out as kubelet's, so that either finds the other's.
//! Called by: `worker.rs` to prepare and tear down, `make.rs` for the paths.
//! Never: touches what a hostPath points to, beyond creating it if asked to.

mod atomic;
mod hostpath;
mod mounts;
mod projected;
pub(crate) mod subpath;

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, EmptyDirVolumeSource, Pod, Secret, Volume};

use super::cluster::Cluster;
use super::env::Facts;
use super::podspec;
use super::resources::{self, Machine};

pub(crate) use atomic::{File, Payload};

/// Why a volume is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {why}")]
pub(crate) struct VolumeError {
    pub(crate) volume: String,
    pub(crate) why: String,
}

/// The keys and values of a config map.
pub(crate) fn config_map_data(c: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = c.data.into_iter().flatten().map(|(k, v)| (k, v.into_bytes()));
    let binary = c.binary_data.into_iter().flatten().map(|(k, v)| (k, v.0));
    text.chain(binary).collect()
}

/// The keys and values of a secret.
pub(crate) fn secret_data(s: Secret) -> BTreeMap<String, Vec<u8>> {
    let plain = s.string_data.into_iter().flatten().map(|(k, v)| (k, v.into_bytes()));
    s.data.into_iter().flatten().map(|(k, v)| (k, v.0)).chain(plain).collect()
}

/// Where the volumes of a pod are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `<root>/pods/<uid>`
    pub(crate) pod_dir: PathBuf,
    /// Secrets are kept in memory and never on a disk. Off in tests without privileges.
    pub(crate) in_memory: bool,
}

/// What a volume's content is made of.
enum Content {
    /// Files of ours.
    Files(Payload),
    /// Files of ours that must not reach a disk.
    SecretFiles(Payload),
    /// A directory of the pod's own.
    Empty(EmptyDirVolumeSource),
    /// A place on the host.
    Host(hostpath::HostPath),
}

impl Place {
    /// The directory of a volume that is ours; `None` for a hostPath.
    fn dir(&self, volume: &Volume) -> Option<PathBuf> {
        let kind = if volume.config_map.is_some() {
            "kubernetes.io~configmap"
        } else if volume.secret.is_some() {
            "kubernetes.io~secret"
        } else if volume.projected.is_some() {
            "kubernetes.io~projected"
        } else if volume.downward_api.is_some() {
            "kubernetes.io~downward-api"
        } else if volume.host_path.is_some() {
            return None;
        } else {
            "kubernetes.io~empty-dir"
        };
        Some(self.pod_dir.join("volumes").join(kind).join(&volume.name))
    }

    /// What to mount into a container for this volume.
    pub(crate) fn source(&self, volume: &Volume) -> PathBuf {
        match (&volume.host_path, self.dir(volume)) {
            (Some(host), _) => PathBuf::from(&host.path),
            (None, Some(dir)) => dir,
            (None, None) => PathBuf::new(),
        }
    }

    /// Makes all volumes of the pod, or brings them up to date.
    pub(crate) async fn prepare(
        &self,
        cluster: &dyn Cluster,
        pod: &Pod,
        facts: &Facts,
        machine: &Machine,
    ) -> Result<(), VolumeError> {
        let source = projected::Source { cluster, pod, facts, machine };
        let mut contents = Vec::new();
        for volume in podspec::spec(pod).volumes.iter().flatten() {
            let named = |why: String| VolumeError { volume: volume.name.clone(), why };
            if volume.name.contains('/') || volume.name.starts_with('.') {
                return Err(named("its name is not a name of a volume".to_owned()));
            }
            let content = source.content(volume).await.map_err(named)?;
            contents.push((volume.name.clone(), self.dir(volume), content));
        }
        let group = fs_group(pod);
        let place = self.clone();
        let written = tokio::task::spawn_blocking(move || {
            for (volume, dir, content) in contents {
                place
                    .write(dir.as_deref(), &content, group)
                    .map_err(|why| VolumeError { volume, why })?;
            }
            Ok(())
        });
        written
            .await
            .unwrap_or_else(|e| Err(VolumeError { volume: String::new(), why: e.to_string() }))
    }

    fn write(
        &self,
        dir: Option<&Path>,
        content: &Content,
        group: Option<u32>,
    ) -> Result<(), String> {
        let io = |e: std::io::Error| e.to_string();
        match (content, dir) {
            (Content::Host(host), _) => host.check(),
            (_, None) => Ok(()),
            (Content::Files(payload), Some(dir)) => {
                make_dir(dir, 0o755).map_err(io)?;
                atomic::write(dir, payload, group).map_err(io)
            }
            (Content::SecretFiles(payload), Some(dir)) => {
                make_dir(dir, 0o755).map_err(io)?;
                if self.in_memory {
                    mounts::tmpfs(dir, None).map_err(io)?;
                }
                atomic::write(dir, payload, group).map_err(io)
            }
            (Content::Empty(source), Some(dir)) => {
                make_dir(dir, 0o777).map_err(io)?;
                match source.medium.as_deref() {
                    None | Some("") => {}
                    Some("Memory") => {
                        let size = source.size_limit.as_ref().and_then(resources::units);
                        if mounts::tmpfs(dir, size).map_err(io)? {
                            set_mode(dir, 0o777).map_err(io)?;
                        }
                    }
                    Some(other) => {
                        return Err(format!("medium `{other}` is not supported on this edge"));
                    }
                }
                match group {
                    Some(group) => give_to_group(dir, group).map_err(io),
                    None => Ok(()),
                }
            }
        }
    }

    /// Unmounts and removes everything of the pod.
    pub(crate) fn tear_down(&self) -> std::io::Result<()> {
        mounts::unmount_below(&self.pod_dir)?;
        match std::fs::remove_dir_all(&self.pod_dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// Whether a pod's volumes change without anybody telling: tokens grow old.
pub(crate) fn grow_old(pod: &Pod) -> bool {
    podspec::spec(pod)
        .volumes
        .iter()
        .flatten()
        .filter_map(|v| v.projected.as_ref())
        .any(|p| p.sources.iter().flatten().any(|s| s.service_account_token.is_some()))
}

/// Whether the pod reads this config map or secret, in a volume or elsewhere.
pub(crate) fn uses(pod: &Pod, kind: &api::names::Kind, name: &str) -> bool {
    use api::names::Kind;
    let spec = podspec::spec(pod);
    let is = |n: Option<&str>| n == Some(name);
    let in_volume = |v: &Volume| match kind {
        Kind::ConfigMap => v.config_map.as_ref().is_some_and(|c| c.name == name),
        Kind::Secret => v.secret.as_ref().is_some_and(|s| is(s.secret_name.as_deref())),
        _ => false,
    };
    let in_projected = |v: &Volume| {
        v.projected.iter().flat_map(|p| p.sources.iter().flatten()).any(|s| match kind {
            Kind::ConfigMap => s.config_map.as_ref().is_some_and(|c| c.name == name),
            Kind::Secret => s.secret.as_ref().is_some_and(|c| c.name == name),
            _ => false,
        })
    };
    let in_env = |c: &k8s_openapi::api::core::v1::Container| {
        let from = c.env_from.iter().flatten().any(|f| match kind {
            Kind::ConfigMap => f.config_map_ref.as_ref().is_some_and(|r| r.name == name),
            Kind::Secret => f.secret_ref.as_ref().is_some_and(|r| r.name == name),
            _ => false,
        });
        let key =
            c.env.iter().flatten().filter_map(|e| e.value_from.as_ref()).any(|s| match kind {
                Kind::ConfigMap => s.config_map_key_ref.as_ref().is_some_and(|r| r.name == name),
                Kind::Secret => s.secret_key_ref.as_ref().is_some_and(|r| r.name == name),
                _ => false,
            });
        from || key
    };
    let pulls =
        *kind == Kind::Secret && spec.image_pull_secrets.iter().flatten().any(|s| s.name == name);
    pulls
        || spec.volumes.iter().flatten().any(|v| in_volume(v) || in_projected(v))
        || podspec::containers(pod).any(|(c, _)| in_env(&c))
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = podspec::spec(pod).security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// Makes a directory with all its parents; those above the last are for root alone.
fn make_dir(dir: &Path, mode: u32) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
    set_mode(dir, mode)
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// The group owns the directory, and what is made in it.
fn give_to_group(dir: &Path, group: u32) -> std::io::Result<()> {
    std::os::unix::fs::chown(dir, None, Some(group))?;
    let mode = std::fs::metadata(dir)?.permissions().mode();
    set_mode(dir, (mode & 0o777) | 0o2770)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
