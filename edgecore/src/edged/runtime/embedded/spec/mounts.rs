//! What a container finds mounted.

use std::path::{Component, Path};

use serde_json::{Value, json};

use super::super::super::{Mount, Propagation};
use super::{Inputs, SpecError};

/// The files that the sandbox brings, and where they go.
const SANDBOX_FILES: [(&str, &str); 3] =
    [("hostname", "/etc/hostname"), ("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf")];

/// Default mounts, the sandbox's files, the pod's volumes: each is left out if a volume goes to
/// the same place.
pub(super) fn all(inputs: &Inputs<'_>) -> Result<Vec<Value>, SpecError> {
    let mut volumes: Vec<(&Mount, String)> = Vec::new();
    for mount in &inputs.spec.mounts {
        volumes.push((mount, destination(&mount.container_path)?));
    }
    // Shallow places first, so that none hides another.
    volumes.sort_by_key(|(_, place)| Path::new(place).components().count());
    let taken = |place: &str| volumes.iter().any(|(_, v)| v == place);
    let mut mounts: Vec<Value> = Vec::new();
    for (place, mount) in system(inputs).into_iter().chain(files(inputs)) {
        if !taken(place) {
            mounts.push(mount);
        }
    }
    for (mount, place) in &volumes {
        mounts.push(volume(mount, place)?);
    }
    Ok(mounts)
}

/// An absolute path without `.` and `..`.
fn destination(path: &str) -> Result<String, SpecError> {
    let wrong = || SpecError::Invalid { what: "mount path", value: path.to_owned() };
    let mut clean = String::new();
    for part in Path::new(path).components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => {
                clean.push('/');
                clean.push_str(name.to_str().ok_or_else(wrong)?);
            }
            _ => return Err(wrong()),
        }
    }
    if !path.starts_with('/') || clean.is_empty() || clean.contains('\0') {
        return Err(wrong());
    }
    Ok(clean)
}

fn system(inputs: &Inputs<'_>) -> Vec<(&'static str, Value)> {
    let mode = if inputs.spec.security.privileged { "rw" } else { "ro" };
    let of = |place: &'static str, typ: &str, options: &[&str]| {
        let source = if typ == "bind" { "" } else { typ };
        (place, json!({ "destination": place, "type": typ, "source": source, "options": options }))
    };
    let shm = match inputs.sandbox.host_ipc {
        true => Path::new("/dev/shm").to_owned(),
        false => inputs.container_folder.join("shm"),
    };
    let shm = json!({
        "destination": "/dev/shm", "type": "bind", "source": shm,
        "options": ["rbind", "nosuid", "nodev", "noexec", "rw"],
    });
    vec![
        of("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        of("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        of(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        ("/dev/shm", shm),
        of("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        of("/sys", "sysfs", &["nosuid", "noexec", "nodev", mode]),
        of("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", mode]),
    ]
}

fn files(inputs: &Inputs<'_>) -> Vec<(&'static str, Value)> {
    let mode = if inputs.spec.security.read_only_rootfs { "ro" } else { "rw" };
    let file = |(name, place): (&str, &'static str)| {
        let source = inputs.sandbox_folder.join(name);
        let options = ["rbind", "rprivate", mode];
        (
            place,
            json!({ "destination": place, "type": "bind", "source": source, "options": options }),
        )
    };
    SANDBOX_FILES.into_iter().map(file).collect()
}

fn volume(mount: &Mount, place: &str) -> Result<Value, SpecError> {
    let propagation = match mount.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => {
            return Err(SpecError::Unsupported("pass mounts from a container to the host"));
        }
    };
    let mode = if mount.read_only { "ro" } else { "rw" };
    Ok(json!({
        "destination": place,
        "type": "bind",
        "source": mount.host_path,
        "options": ["rbind", propagation, mode],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_path_is_absolute_and_stays_inside() {
        assert_eq!(destination("/a//b/"), Ok("/a/b".into()));
        for bad in ["", "a", "/", "/a/../b", "../x"] {
            assert!(destination(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_out_of_a_container_are_refused_by_name() {
        let mount = Mount { propagation: Propagation::Bidirectional, ..Mount::default() };
        assert!(matches!(volume(&mount, "/x"), Err(SpecError::Unsupported(_))));
    }
}
