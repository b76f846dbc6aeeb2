//! From what edged asks for to what libcontainer understands.
//!
//! Owns: the OCI runtime spec of a container; pure but for a look at device nodes.
//! Called by: `containers.rs`.
//! Never: names the user, for whom the mounted root is needed; the shim does that.

mod capabilities;
mod devices;
mod mounts;

use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::Spec;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use self::capabilities::Granted;
use super::super::{ContainerSpec, Resources, Seccomp};
use super::image::ImageConfig;
use super::state::{SandboxRecord, ShimRecord};

pub(super) use self::capabilities::available as available_capabilities;
pub(super) use self::devices::{DeviceNode, of_host as host_devices, of_spec as devices_of_spec};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why no container can be made of this.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("no command specified: neither the pod nor the image names one")]
    NoCommand,
    #[error("capability `{0}` is not known")]
    UnknownCapability(String),
    #[error("capability `{0}` is not granted to edgecore itself, so it cannot be passed on")]
    CapabilityOutOfReach(String),
    #[error("the embedded runtime cannot {0}; use containerd or CRI-O for this pod")]
    Unsupported(&'static str),
    #[error("{what} `{value}` is not valid")]
    Invalid { what: &'static str, value: String },
    #[error("device `{}`: {why}", .path.display())]
    Device { path: PathBuf, why: String },
}

/// Everything the spec is made of.
pub(super) struct Inputs<'a> {
    pub(super) spec: &'a ContainerSpec,
    pub(super) image: &'a ImageConfig,
    pub(super) sandbox: &'a SandboxRecord,
    pub(super) sandbox_folder: &'a Path,
    pub(super) container_folder: &'a Path,
    pub(super) shim: &'a ShimRecord,
    pub(super) cgroup: &'a str,
    pub(super) unified_cgroups: bool,
    /// The bounding set of edgecore.
    pub(super) capabilities: u64,
    /// For `HOSTNAME`.
    pub(super) hostname: &'a str,
    pub(super) devices: &'a [DeviceNode],
    /// A process whose PID namespace it joins.
    pub(super) looks_into: Option<i32>,
}

/// The spec, except for the user.
pub(super) fn build(inputs: &Inputs<'_>) -> Result<Spec, SpecError> {
    let security = &inputs.spec.security;
    refuse_what_cannot_be(inputs.spec)?;
    let caps = Granted::new(security, inputs.capabilities)?.names();
    let hide = |paths: &[String]| if security.privileged { json!([]) } else { json!(paths) };
    let value = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": inputs.spec.tty,
            "user": { "uid": 0, "gid": 0 },
            "args": command(inputs.spec, inputs.image)?,
            "env": environment(inputs.spec, inputs.image, inputs.hostname),
            "cwd": working_folder(inputs.spec, inputs.image)?,
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "noNewPrivileges": security.no_new_privs,
        },
        "root": {
            "path": inputs.container_folder.join("rootfs"),
            "readonly": security.read_only_rootfs,
        },
        "mounts": mounts::all(inputs)?,
        "linux": {
            "cgroupsPath": inputs.cgroup,
            "namespaces": namespaces(inputs),
            "resources": resources(inputs),
            "devices": inputs.devices.iter().map(DeviceNode::to_json).collect::<Vec<_>>(),
            "maskedPaths": hide(&security.masked_paths),
            "readonlyPaths": hide(&security.readonly_paths),
        },
    });
    serde_json::from_value(value)
        .map_err(|e| SpecError::Invalid { what: "the container's spec", value: e.to_string() })
}

fn refuse_what_cannot_be(spec: &ContainerSpec) -> Result<(), SpecError> {
    if matches!(spec.security.seccomp, Seccomp::Localhost(_)) {
        return Err(SpecError::Unsupported("apply a seccomp profile"));
    }
    if spec.security.apparmor.as_deref().is_some_and(|p| !p.is_empty() && p != "unconfined") {
        return Err(SpecError::Unsupported("apply an AppArmor profile"));
    }
    Ok(())
}

/// A pod's command replaces the image's entry point and arguments; its arguments alone replace
/// only those.
fn command(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, SpecError> {
    let mut all = Vec::new();
    if spec.command.is_empty() {
        all.extend(image.entrypoint.iter().cloned());
        let args = if spec.args.is_empty() { &image.cmd } else { &spec.args };
        all.extend(args.iter().cloned());
    } else {
        all.extend(spec.command.iter().chain(&spec.args).cloned());
    }
    if all.first().is_none_or(String::is_empty) {
        return Err(SpecError::NoCommand);
    }
    match all.iter().find(|a| a.contains('\0')) {
        Some(bad) => {
            Err(SpecError::Invalid { what: "argument", value: bad.escape_default().to_string() })
        }
        None => Ok(all),
    }
}

/// The later of two equal names wins.
fn environment(spec: &ContainerSpec, image: &ImageConfig, hostname: &str) -> Vec<String> {
    let mut all = vec![DEFAULT_PATH.to_owned()];
    if spec.tty {
        all.push("TERM=xterm".into());
    }
    all.push(format!("HOSTNAME={hostname}"));
    all.extend(image.env.iter().cloned());
    all.extend(spec.env.iter().map(|(name, value)| format!("{name}={value}")));
    let mut kept: Vec<String> = Vec::with_capacity(all.len());
    for variable in all.into_iter().filter(|v| !v.contains('\0')) {
        let name = variable.split('=').next().unwrap_or("").to_owned();
        if name.is_empty() {
            continue;
        }
        match kept.iter_mut().find(|v| v.split('=').next() == Some(&name)) {
            Some(earlier) => *earlier = variable,
            None => kept.push(variable),
        }
    }
    kept
}

fn working_folder(spec: &ContainerSpec, image: &ImageConfig) -> Result<String, SpecError> {
    let wanted = [&spec.working_dir, &image.working_dir].into_iter().find(|d| !d.is_empty());
    match wanted {
        None => Ok("/".into()),
        Some(dir) if dir.starts_with('/') && !dir.contains('\0') => Ok(dir.clone()),
        Some(dir) => Err(SpecError::Invalid { what: "working folder", value: dir.clone() }),
    }
}

/// The signal with which an image wants to be stopped; SIGTERM if it names none that we know.
pub(super) fn stop_signal(name: &str) -> i32 {
    let name = name.trim().to_ascii_uppercase();
    let named = |n: &str| n.parse::<Signal>().ok().map(|s| s as i32);
    let number = name.parse::<i32>().ok().filter(|n| Signal::try_from(*n).is_ok());
    number
        .or_else(|| named(&name))
        .or_else(|| named(&format!("SIG{name}")))
        .unwrap_or(Signal::SIGTERM as i32)
}

fn namespaces(inputs: &Inputs<'_>) -> Value {
    let of = |pid: i32, kind: &str| json!(format!("/proc/{pid}/ns/{kind}"));
    let shim = inputs.shim.shim.pid;
    let sandbox = inputs.sandbox;
    let mut all = vec![json!({ "type": "mount" })];
    if !sandbox.host_network {
        all.push(json!({ "type": "network", "path": of(shim, "net") }));
    }
    if !sandbox.hostname.is_empty() {
        all.push(json!({ "type": "uts", "path": of(shim, "uts") }));
    }
    if !sandbox.host_ipc {
        all.push(json!({ "type": "ipc", "path": of(shim, "ipc") }));
    }
    match &inputs.shim.pause {
        _ if inputs.looks_into.is_some() => {
            all.extend(inputs.looks_into.map(|p| json!({ "type": "pid", "path": of(p, "pid") })));
        }
        Some(pause) => all.push(json!({ "type": "pid", "path": of(pause.pid, "pid") })),
        None if sandbox.host_pid => {}
        None => all.push(json!({ "type": "pid" })),
    }
    if inputs.unified_cgroups {
        all.push(json!({ "type": "cgroup" }));
    }
    json!(all)
}

fn resources(inputs: &Inputs<'_>) -> Value {
    let Resources { cpu_shares, cpu_period, cpu_quota, memory_limit, .. } = inputs.spec.resources;
    let positive = |n: i64| (n > 0).then_some(n);
    let mut cpu = serde_json::Map::new();
    let mut set = |key: &str, value: Option<i64>| {
        if let Some(value) = value {
            cpu.insert(key.into(), json!(value));
        }
    };
    // The kernel takes no less than two shares.
    set("shares", positive(cpu_shares).map(|n| n.max(2)));
    set("period", positive(cpu_period).filter(|_| cpu_quota != 0));
    set("quota", Some(cpu_quota).filter(|q| *q != 0));
    let mut all = json!({
        "devices": devices::rules(inputs.devices, inputs.spec.security.privileged),
        "cpu": cpu,
    });
    if let Some(limit) = positive(memory_limit) {
        all["memory"] = json!({ "limit": limit });
    }
    all
}

#[cfg(test)]
mod tests;
