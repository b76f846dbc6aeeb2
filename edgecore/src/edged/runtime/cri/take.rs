//! One file out of an image, with a runtime that gives nobody its layers: a container copies it.
//!
//! Owns: the sandbox and the containers that exist for that moment.
//! Called by: `copy_from_image`.
//! Never: uses a shell, or gives the container more than the one folder to write to.

use std::path::Path;
use std::time::Duration;

use super::super::{
    ContainerRuntime, ContainerSpec, ContainerState, DnsConfig, Mount, Namespaces, RuntimeError,
    SandboxSpec,
};

/// How long the copy may take.
const LIMIT: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Where the container sees the folder.
const INSIDE: &str = "/keadm-copy";

/// Copies `path` of `image` to `to`, which is not there yet.
pub(super) async fn copy(
    runtime: &dyn ContainerRuntime,
    image: &str,
    path: &str,
    to: &Path,
) -> Result<(), RuntimeError> {
    let (Some(folder), Some(name)) = (to.parent(), to.file_name().and_then(|n| n.to_str())) else {
        return Err(RuntimeError::Refused(format!("`{}` is no place for a file", to.display())));
    };
    let info = runtime.image_status(image).await?;
    let info = info.ok_or_else(|| RuntimeError::NotFound { what: format!("image `{image}`") })?;
    let logs = tempdir(folder).map_err(|e| RuntimeError::Refused(e.to_string()))?;
    let sandbox = SandboxSpec {
        // Without a UID edged takes it for nobody's pod.
        name: format!("keadm-copy-{:08x}", rand::random::<u32>()),
        namespace: "kubeedge".to_owned(),
        log_directory: logs.clone(),
        dns: DnsConfig::default(),
        namespaces: Namespaces { host_network: true, ..Namespaces::default() },
        ..SandboxSpec::default()
    };
    let id = runtime.run_sandbox(&sandbox).await;
    let done = match id {
        Ok(id) => {
            let done = in_sandbox(runtime, &id, &sandbox, (image, &info.id), path, folder, name);
            let done = done.await;
            let _ = runtime.stop_sandbox(&id).await;
            let _ = runtime.remove_sandbox(&id).await;
            done
        }
        Err(e) => Err(e),
    };
    let _ = std::fs::remove_dir_all(logs);
    match done {
        Ok(()) if to.exists() => Ok(()),
        Ok(()) => Err(RuntimeError::Refused(format!("the image has no file `{path}`"))),
        Err(e) => Err(e),
    }
}

fn tempdir(beside: &Path) -> std::io::Result<std::path::PathBuf> {
    let folder = beside.join(format!(".logs-{:08x}", rand::random::<u32>()));
    std::fs::create_dir(&folder)?;
    Ok(folder)
}

/// The image's own `cp`, if it has one; else the program copies itself, as ours can.
async fn in_sandbox(
    runtime: &dyn ContainerRuntime,
    sandbox_id: &str,
    sandbox: &SandboxSpec,
    (image, id): (&str, &str),
    path: &str,
    folder: &Path,
    name: &str,
) -> Result<(), RuntimeError> {
    let inside = format!("{INSIDE}/{name}");
    let ways = [
        vec!["cp".to_owned(), path.to_owned(), inside.clone()],
        vec![path.to_owned(), "copy-program".to_owned(), inside],
    ];
    let mut failed = None;
    for (attempt, command) in (0u32..).zip(ways) {
        let spec = ContainerSpec {
            name: "copy".to_owned(),
            attempt,
            image: id.to_owned(),
            user_image: image.to_owned(),
            command,
            mounts: vec![Mount {
                container_path: INSIDE.to_owned(),
                host_path: folder.to_owned(),
                ..Mount::default()
            }],
            log_path: format!("copy-{attempt}.log").into(),
            ..ContainerSpec::default()
        };
        match run(runtime, sandbox_id, &spec, sandbox).await {
            Ok(()) => return Ok(()),
            Err(e) => failed = Some(e),
        }
    }
    Err(failed.unwrap_or(RuntimeError::Unsupported("copy_from_image")))
}

async fn run(
    runtime: &dyn ContainerRuntime,
    sandbox_id: &str,
    spec: &ContainerSpec,
    sandbox: &SandboxSpec,
) -> Result<(), RuntimeError> {
    let id = runtime.create_container(sandbox_id, spec, sandbox).await?;
    let ended = async {
        runtime.start_container(&id).await?;
        loop {
            let status = runtime.container_status(&id).await?;
            if status.state == ContainerState::Exited {
                return Ok(status);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let ended = match tokio::time::timeout(LIMIT, ended).await {
        Ok(ended) => ended,
        Err(_) => Err(RuntimeError::TimedOut { call: "copy_from_image", limit: LIMIT }),
    };
    let _ = runtime.remove_container(&id).await;
    match ended? {
        status if status.exit_code == 0 => Ok(()),
        status => Err(RuntimeError::Refused(format!(
            "the container that copies a file out of the image ended with {} {}",
            status.exit_code, status.message
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fake::FakeRuntime;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_of_the_copy_is_left_in_the_runtime_and_no_shell_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = FakeRuntime::new();
        runtime.add_image("a/b:v1.0.0");
        let (copied, to) = (runtime.clone(), dir.path().join("keadm"));
        let copying =
            tokio::spawn(
                async move { copy(&copied, "a/b:v1.0.0", "/usr/local/bin/keadm", &to).await },
            );
        let mut commands = Vec::new();
        // The first way fails, as in an image without `cp`; the second writes the file.
        for code in [127, 0] {
            let spec = loop {
                if let Some(spec) = runtime.running().into_iter().next() {
                    break spec;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            };
            if code == 0 {
                std::fs::write(dir.path().join("keadm"), "program").unwrap();
            }
            assert_eq!(spec.mounts[0].host_path, dir.path());
            let name = runtime.list(None).await.unwrap().sandboxes[0].name.clone();
            commands.push(spec.command);
            assert!(runtime.exit(&name, "copy", code));
            while !runtime.running().is_empty() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        copying.await.unwrap().unwrap();
        assert_eq!(
            commands,
            [
                vec!["cp", "/usr/local/bin/keadm", "/keadm-copy/keadm"],
                vec!["/usr/local/bin/keadm", "copy-program", "/keadm-copy/keadm"],
            ]
        );
        assert_eq!(runtime.count(), (0, 0));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
