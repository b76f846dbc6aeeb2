//! The new program: out of an image, looked at, and put where `keadm upgrade edge` finds it.
//!
//! Owns: the folder `upgrade/<version>/`.
//! Called by: `mod.rs`, in the step `Check` and for `keadm upgrade edge --image`.
//! Never: changes what is installed, or uses a name that was not looked at.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::job::Target;
use super::{JobPaths, check};
use crate::edged::runtime::{ContainerRuntime, ImageInfo, RuntimeError};

/// Where the program lies in an installation image.
const IN_IMAGE: &str = "/usr/local/bin/keadm";
/// How long a new program may take to say its version.
const TRIAL: Duration = Duration::from_secs(20);
/// How much of what it says is read.
const SAID: u64 = 4096;

/// Gets the program, and returns where it is.
///
/// # Errors
/// Why it cannot be had, or is not to be used.
pub(super) async fn program(
    target: &Target,
    paths: &JobPaths,
    runtime: &dyn ContainerRuntime,
) -> Result<PathBuf, String> {
    let size = std::fs::metadata(&paths.program).map_or(0, |m| m.len());
    let folder = paths.upgrade(&target.version);
    // The new program twice, and the old one once more.
    check::room(&folder, 3 * size)?;
    let info = image(target, runtime).await?;
    if let Some(wanted) = &target.digest {
        has_digest(&info, wanted, &target.image)?;
    }
    let failed = |what: &str, e: io::Error| format!("cannot {what} `{}`: {e}", folder.display());
    private_folder(&folder).map_err(|e| failed("make", e))?;
    let place = folder.join("keadm");
    let new = folder.join(format!(".keadm-{:08x}", rand::random::<u32>()));
    let taken = take(target, runtime, &new).await;
    let put = match taken {
        Ok(()) => std::fs::rename(&new, &place).map_err(|e| failed("write to", e)),
        Err(e) => Err(e),
    };
    if put.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    put.map(|()| place)
}

async fn image(target: &Target, runtime: &dyn ContainerRuntime) -> Result<ImageInfo, String> {
    let image = target.image.as_str();
    let asked = |e: RuntimeError| format!("failed to look for image {image}, err: {e}");
    let here = runtime.image_status(image).await.map_err(asked)?;
    let fits = |info: &ImageInfo| {
        target.digest.as_ref().is_none_or(|d| has_digest(info, d, image).is_ok())
    };
    if let Some(info) = here.filter(fits) {
        return Ok(info);
    }
    let pulled = runtime.pull_image(image, None).await;
    pulled.map_err(|e| format!("failed to pull image {image}, err: {e}"))?;
    let info = runtime.image_status(image).await.map_err(asked)?;
    info.ok_or_else(|| format!("image {image} is not there after it was pulled"))
}

fn has_digest(info: &ImageInfo, wanted: &str, image: &str) -> Result<(), String> {
    let has = |name: &String| name.rsplit_once('@').is_some_and(|(_, digest)| digest == wanted);
    if info.repo_digests.iter().any(has) {
        return Ok(());
    }
    let digests = info.repo_digests.join(", ");
    let local = if digests.is_empty() { "none" } else { &digests };
    Err(format!("image digest of {image} is not correct, local: {local}, expected: {wanted}"))
}

async fn take(target: &Target, runtime: &dyn ContainerRuntime, to: &Path) -> Result<(), String> {
    let image = target.image.as_str();
    let cannot = |e: &dyn std::fmt::Display| {
        format!("failed to copy keadm from {IN_IMAGE} in the image {image}, err: {e}")
    };
    runtime.copy_from_image(image, IN_IMAGE, to).await.map_err(|e| cannot(&e))?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).map_err(|e| cannot(&e))?;
    trial(to).await.map_err(|why| {
        format!("the keadm in the image {image} is of no use here: {why}; is it for this machine?")
    })
}

/// Lets the new program say its version. KubeEdge's own keadm, which is no edgecore, cannot.
async fn trial(program: &Path) -> Result<(), String> {
    let spawned = Command::new(program)
        .args(["edgecore", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .current_dir("/")
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|e| format!("it cannot be run: {e}"))?;
    let said = async {
        let mut text = Vec::new();
        if let Some(out) = child.stdout.take() {
            out.take(SAID).read_to_end(&mut text).await?;
        }
        Ok::<_, io::Error>((text, child.wait().await?))
    };
    let said = tokio::time::timeout(TRIAL, said).await;
    let (text, status) = said
        .map_err(|_| format!("it does not say its version within {} s", TRIAL.as_secs()))?
        .map_err(|e| format!("it cannot be run: {e}"))?;
    let text = String::from_utf8_lossy(&text);
    if status.success() && text.trim_start().starts_with("KubeEdge ") {
        return Ok(());
    }
    Err(format!("asked for its version as edgecore it ends with {status}"))
}

/// A folder that only its owner can look into.
fn private_folder(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edged::runtime::fake::FakeRuntime;

    const IMAGE: &str = "kubeedge/installation-package:v1.24.0";

    fn target(digest: Option<&str>) -> Target {
        let digest = digest.map(str::to_owned);
        Target::new("v1.24.0", "kubeedge/installation-package", digest).unwrap()
    }

    fn paths(folder: &Path) -> JobPaths {
        JobPaths {
            etc: folder.to_owned(),
            program: "/proc/self/exe".into(),
            arguments: Vec::new(),
            log: folder.join("upgrade.log"),
        }
    }

    fn with_program(script: &str) -> FakeRuntime {
        let runtime = FakeRuntime::new();
        runtime.add_to_registry(IMAGE);
        runtime.add_file(IMAGE, IN_IMAGE, script.as_bytes());
        runtime
    }

    #[tokio::test]
    async fn the_program_is_pulled_tried_and_put_into_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = with_program("#!/bin/sh\necho KubeEdge v1.24.0\n");
        let place = program(&target(None), &paths(dir.path()), &runtime).await.unwrap();
        assert_eq!(place, dir.path().join("upgrade/v1.24.0/keadm"));
        let mode = std::fs::metadata(place.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(place.parent().unwrap()).unwrap().count(), 1);
        // Again, without a pull: the image is here.
        program(&target(None), &paths(dir.path()), &runtime).await.unwrap();
        let pulls = runtime.calls().iter().filter(|c| c.starts_with("pull_image")).count();
        assert_eq!(pulls, 1);
    }

    #[tokio::test]
    async fn a_program_that_is_no_edgecore_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for script in ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho keadm\n", "not a program"] {
            let why = program(&target(None), &paths(dir.path()), &with_program(script)).await;
            let why = why.unwrap_err();
            assert!(why.contains("is of no use here"), "{why}");
            let folder = dir.path().join("upgrade/v1.24.0");
            assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
        }
        let runtime = FakeRuntime::new();
        runtime.add_image(IMAGE);
        let why = program(&target(None), &paths(dir.path()), &runtime).await.unwrap_err();
        assert!(why.starts_with("failed to copy keadm from /usr/local/bin/keadm"), "{why}");
        let why = program(&target(None), &paths(dir.path()), &FakeRuntime::new()).await;
        assert!(why.unwrap_err().starts_with("failed to pull image"));
    }

    #[tokio::test]
    async fn an_image_with_another_digest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = with_program("#!/bin/sh\necho KubeEdge v1.24.0\n");
        let wanted = format!("sha256:{}", "a".repeat(64));
        let why = program(&target(Some(&wanted)), &paths(dir.path()), &runtime).await;
        assert!(why.unwrap_err().contains(&format!("local: none, expected: {wanted}")));
        assert!(!dir.path().join("upgrade").exists());
        let info = ImageInfo {
            repo_digests: vec![format!("docker.io/kubeedge/installation-package@{wanted}")],
            ..ImageInfo::default()
        };
        assert_eq!(has_digest(&info, &wanted, IMAGE), Ok(()));
    }
}
