//! The container runtime of an edge node, as edgecore.yaml names it.
//!
//! Owns: where the embedded runtime keeps its containers.
//! Called by: `edgecore` (hands it in), `reset edge` and `up` (take everything away).
//! Never: touches a container that no edgecore or kubelet has started.

use std::sync::Arc;

use api::config::EdgeCoreConfig;
use api::config::kubelet::RuntimeEndpoint;
use camino::Utf8Path;
use edgecore::edged::runtime::cri::CriRuntime;
use edgecore::edged::runtime::embedded::{EmbeddedRuntime, Options};
use edgecore::edged::runtime::{ContainerRuntime, RuntimeError};

use crate::context::Context;
use crate::errors::{CommandError, Kind};

/// Opens the embedded runtime that keeps its containers below `root`.
///
/// # Errors
/// Without root, or when the folder cannot be used.
pub async fn embedded(root: &Utf8Path) -> Result<Arc<EmbeddedRuntime>, CommandError> {
    let options = Options { root: root.into(), insecure_registries: Vec::new() };
    EmbeddedRuntime::open(options).await.map(Arc::new).map_err(|e| {
        CommandError::new(Kind::Failed, "the embedded container runtime cannot be used")
            .caused_by(&e)
    })
}

/// The runtime that edgecore cannot open by itself: the embedded one, if the configuration names it.
///
/// # Errors
/// As [`embedded`].
pub async fn of_program(
    cx: &Context,
    config: &EdgeCoreConfig,
) -> Result<Option<Arc<dyn ContainerRuntime>>, CommandError> {
    match config.modules.edged.tailored_kubelet_config.runtime() {
        Some(RuntimeEndpoint::Embedded) if config.modules.edged.enable => {
            Ok(Some(embedded(&cx.paths.at("/var/lib/edged/containers")).await?))
        }
        _ => Ok(None),
    }
}

/// Takes away all pods of this node: containers, sandboxes, and what belongs to them. Returns how
/// many there were.
///
/// # Errors
/// When the runtime does not answer or does not obey.
pub async fn remove_all(cx: &Context, config: &EdgeCoreConfig) -> Result<usize, CommandError> {
    let failed = |e: RuntimeError| {
        CommandError::new(Kind::Failed, "the pods of this node cannot be removed").caused_by(&e)
    };
    let runtime: Arc<dyn ContainerRuntime> =
        match config.modules.edged.tailored_kubelet_config.runtime() {
            Some(RuntimeEndpoint::Embedded) => {
                let root = cx.paths.at("/var/lib/edged/containers");
                if !cx.host.exists(&root) {
                    return Ok(0);
                }
                let runtime = embedded(&root).await?;
                let count = runtime.list(None).await.map_err(failed)?.sandboxes.len();
                runtime.remove_all().await.map_err(failed)?;
                return Ok(count);
            }
            Some(RuntimeEndpoint::Cri { runtime, .. }) => {
                Arc::new(CriRuntime::new(&runtime.to_string_lossy()).map_err(failed)?)
            }
            None => return Ok(0),
        };
    let sandboxes = runtime.list(None).await.map_err(failed)?.sandboxes;
    for sandbox in &sandboxes {
        runtime.stop_sandbox(&sandbox.id).await.map_err(failed)?;
        runtime.remove_sandbox(&sandbox.id).await.map_err(failed)?;
    }
    Ok(sandboxes.len())
}
