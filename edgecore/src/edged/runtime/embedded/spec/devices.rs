//! Device nodes in a container, and the rules that let it use them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::super::Device;
use super::SpecError;

/// A folder such as `/dev/snd` is taken with what is in it, to this depth.
const MAX_DEPTH: usize = 4;

/// No machine has more devices that one would give away.
const MAX_NODES: usize = 4096;

/// What a privileged container does not get from the host's `/dev`: it has its own.
const NOT_PASSED_ON: [&str; 6] = ["pts", "shm", "fd", "mqueue", "console", "core"];

/// What every container has, made by libcontainer: null, zero, full, random, urandom, tty; and the
/// pseudo terminals.
const ALWAYS: [(&str, i64, Option<i64>); 8] = [
    ("c", 1, Some(3)),
    ("c", 1, Some(5)),
    ("c", 1, Some(7)),
    ("c", 1, Some(8)),
    ("c", 1, Some(9)),
    ("c", 5, Some(0)),
    ("c", 5, Some(2)),
    ("c", 136, None),
];

/// A device node to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct DeviceNode {
    path: PathBuf,
    block: bool,
    major: i64,
    minor: i64,
    mode: u32,
    uid: u32,
    gid: u32,
    access: String,
}

impl DeviceNode {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "path": self.path,
            "type": if self.block { "b" } else { "c" },
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        })
    }
}

/// The devices that a container asks for.
pub(in super::super) fn of_spec(devices: &[Device]) -> Result<Vec<DeviceNode>, SpecError> {
    let mut nodes = Vec::new();
    for device in devices {
        let wrong =
            |why: &str| SpecError::Device { path: device.host_path.clone(), why: why.into() };
        let access = match device.permissions.as_str() {
            "" => "rwm",
            some if some.chars().all(|c| "rwm".contains(c)) => some,
            _ => return Err(wrong("permissions are made of r, w and m")),
        };
        let target = Path::new(&device.container_path);
        if !target.starts_with("/dev") || target.components().any(|c| c.as_os_str() == "..") {
            return Err(wrong("its place in the container must be below `/dev`"));
        }
        let before = nodes.len();
        collect(&device.host_path, target, access, MAX_DEPTH, &mut nodes)
            .map_err(|e| wrong(&e.to_string()))?;
        if nodes.len() == before {
            return Err(wrong("it is not a device"));
        }
    }
    Ok(nodes)
}

/// All devices of the host, for a privileged container.
pub(in super::super) fn of_host() -> Vec<DeviceNode> {
    let mut nodes = Vec::new();
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    for path in entries.map(|e| e.path()) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if !NOT_PASSED_ON.contains(&name) && !name.starts_with('.') {
            let _ = collect(&path, &path, "rwm", MAX_DEPTH, &mut nodes);
        }
    }
    nodes
}

fn collect(
    host: &Path,
    target: &Path,
    access: &str,
    depth: usize,
    nodes: &mut Vec<DeviceNode>,
) -> std::io::Result<()> {
    let meta = fs::symlink_metadata(host)?;
    let kind = meta.file_type();
    if kind.is_dir() && depth > 0 {
        for entry in fs::read_dir(host)?.flatten() {
            let below = target.join(entry.file_name());
            let _ = collect(&entry.path(), &below, access, depth - 1, nodes);
        }
    } else if (kind.is_char_device() || kind.is_block_device()) && nodes.len() < MAX_NODES {
        nodes.push(DeviceNode {
            path: target.to_owned(),
            block: kind.is_block_device(),
            major: i64::from(rustix::fs::major(meta.rdev())),
            minor: i64::from(rustix::fs::minor(meta.rdev())),
            mode: meta.mode() & 0o777,
            uid: meta.uid(),
            gid: meta.gid(),
            access: access.to_owned(),
        });
    }
    Ok(())
}

/// Everything is denied, then some is allowed; a privileged container may use all.
pub(super) fn rules(nodes: &[DeviceNode], privileged: bool) -> Vec<Value> {
    if privileged {
        return vec![json!({ "allow": true, "access": "rwm" })];
    }
    let mut all = vec![json!({ "allow": false, "access": "rwm" })];
    for (typ, major, minor) in ALWAYS {
        let mut rule = json!({ "allow": true, "type": typ, "major": major, "access": "rwm" });
        if let Some(minor) = minor {
            rule["minor"] = json!(minor);
        }
        all.push(rule);
    }
    all.extend(nodes.iter().map(|n| {
        let typ = if n.block { "b" } else { "c" };
        json!({
            "allow": true, "type": typ, "major": n.major, "minor": n.minor, "access": n.access,
        })
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(host: &str, container: &str, permissions: &str) -> Result<Vec<DeviceNode>, SpecError> {
        of_spec(&[Device {
            container_path: container.into(),
            host_path: host.into(),
            permissions: permissions.into(),
        }])
    }

    #[test]
    fn a_device_is_found_by_its_numbers() {
        let nodes = ask("/dev/null", "/dev/nothing", "rw").unwrap();
        assert_eq!((nodes[0].block, nodes[0].major, nodes[0].minor), (false, 1, 3));
        assert_eq!(nodes[0].path, Path::new("/dev/nothing"));
        let rule = rules(&nodes, false).pop().unwrap();
        assert_eq!(rule, json!({"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}));
    }

    #[test]
    fn what_is_no_device_or_goes_elsewhere_is_refused() {
        assert!(ask("/etc/passwd", "/dev/x", "").is_err());
        assert!(ask("/dev/null", "/etc/x", "").is_err());
        assert!(ask("/dev/null", "/dev/../etc/x", "").is_err());
        assert!(ask("/dev/null", "/dev/x", "rwx").is_err());
        assert!(ask("/dev/does-not-exist", "/dev/x", "").is_err());
    }

    #[test]
    fn everything_is_denied_first() {
        assert_eq!(rules(&[], false)[0], json!({ "allow": false, "access": "rwm" }));
        assert_eq!(rules(&[], true), [json!({ "allow": true, "access": "rwm" })]);
    }
}
