//! What a container may do: the pod's and the container's `securityContext` put together. Pure.
//!
//! Owns: which of the two wins, and kubelet's refusals of `runAsNonRoot`.
//! Called by: `make.rs`. Never: widens what was asked for.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext,
};

use super::env::ConfigError;
use super::podspec;
use super::runtime::{ContainerSecurity, ImageInfo, Namespaces, Seccomp};

/// Paths of `/proc` and `/sys` that containers do not see.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// Paths of `/proc` that containers cannot write.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the pod shares with the host.
pub(crate) fn namespaces(pod: &Pod) -> Namespaces {
    let spec = podspec::spec(pod);
    Namespaces {
        host_network: spec.host_network == Some(true),
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        shared_pid: spec.share_process_namespace == Some(true),
    }
}

/// Whether any container of the pod is privileged.
pub(crate) fn any_privileged(pod: &Pod) -> bool {
    podspec::containers(pod)
        .any(|(c, _)| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true))
}

/// The filter of the sandbox's own process.
pub(crate) fn sandbox_seccomp(pod: &Pod, seccomp_root: &Path) -> Seccomp {
    let of_pod = podspec::spec(pod).security_context.as_ref();
    match of_pod.and_then(|s| s.seccomp_profile.as_ref()) {
        Some(profile) => seccomp(profile, seccomp_root),
        None => Seccomp::Unconfined,
    }
}

fn seccomp(profile: &SeccompProfile, root: &Path) -> Seccomp {
    match profile.type_.as_str() {
        "RuntimeDefault" => Seccomp::RuntimeDefault,
        "Localhost" => {
            let file = profile.localhost_profile.as_deref().unwrap_or_default();
            Seccomp::Localhost(PathBuf::from(root).join(file))
        }
        _ => Seccomp::Unconfined,
    }
}

/// The rights of one container.
pub(crate) fn of_container(
    pod: &Pod,
    c: &Container,
    image: &ImageInfo,
    seccomp_root: &Path,
) -> Result<ContainerSecurity, ConfigError> {
    let default = (PodSecurityContext::default(), SecurityContext::default());
    let of_pod = podspec::spec(pod).security_context.as_ref().unwrap_or(&default.0);
    let own = c.security_context.as_ref().unwrap_or(&default.1);
    let privileged = own.privileged == Some(true);
    let user = own.run_as_user.or(of_pod.run_as_user);
    if own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        refuse_root(pod, c, user, image)?;
    }
    let run_as_group = own.run_as_group.or(of_pod.run_as_group);
    // A runtime takes a group only together with a user.
    let image_user = user.is_none().then_some(image);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| match unmasked {
        true => Vec::new(),
        false => list.iter().map(|p| (*p).to_owned()).collect(),
    };
    let mut groups = of_pod.supplemental_groups.clone().unwrap_or_default();
    groups.extend(of_pod.fs_group);
    let profile = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    Ok(ContainerSecurity {
        run_as_user: user.or(image_user.filter(|_| run_as_group.is_some()).and_then(|i| i.uid)),
        run_as_username: match image_user {
            Some(i) if i.uid.is_none() => i.username.clone(),
            _ => String::new(),
        },
        run_as_group,
        supplemental_groups: groups,
        privileged,
        read_only_rootfs: own.read_only_root_filesystem == Some(true),
        no_new_privs: own.allow_privilege_escalation == Some(false) && !privileged,
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        seccomp: match profile {
            Some(profile) if !privileged => seccomp(profile, seccomp_root),
            _ => Seccomp::Unconfined,
        },
        apparmor: apparmor(own, of_pod),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
    })
}

fn refuse_root(
    pod: &Pod,
    c: &Container,
    user: Option<i64>,
    image: &ImageInfo,
) -> Result<(), ConfigError> {
    let who = || {
        let pod = format!("\"{}\"", podspec::full_name(pod));
        format!("(pod: {pod}, container: {})", c.name)
    };
    let why = match (user, image.uid, image.username.as_str()) {
        (Some(0), _, _) => "container's runAsUser breaks non-root policy".to_owned(),
        (Some(_), _, _) => return Ok(()),
        (None, Some(0), _) | (None, None, "") => {
            "container has runAsNonRoot and image will run as root".to_owned()
        }
        (None, Some(_), _) => return Ok(()),
        (None, None, name) => format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify \
             user is non-root"
        ),
    };
    Err(ConfigError(format!("{why} {}", who())))
}

fn apparmor(own: &SecurityContext, of_pod: &PodSecurityContext) -> Option<String> {
    let profile = own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref())?;
    Some(match profile.type_.as_str() {
        "Unconfined" => "unconfined".to_owned(),
        "Localhost" => {
            format!("localhost/{}", profile.localhost_profile.as_deref().unwrap_or_default())
        }
        _ => "runtime/default".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rights(
        of_pod: serde_json::Value,
        own: serde_json::Value,
        image: &ImageInfo,
    ) -> Result<ContainerSecurity, ConfigError> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
            "spec": {"securityContext": of_pod,
                "containers": [{"name": "c", "securityContext": own}]}
        }))
        .unwrap();
        let c = &podspec::spec(&pod).containers[0];
        of_container(&pod, c, image, Path::new("/seccomp"))
    }

    #[test]
    fn the_container_wins_over_the_pod() {
        let of_pod = json!({"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000,
            "supplementalGroups": [4000], "seccompProfile": {"type": "RuntimeDefault"}});
        let own = json!({"runAsUser": 7, "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}});
        let r = rights(of_pod, own, &ImageInfo::default()).unwrap();
        assert_eq!((r.run_as_user, r.run_as_group), (Some(7), Some(2000)));
        assert_eq!(r.supplemental_groups, [4000, 3000]);
        assert!(r.read_only_rootfs && r.no_new_privs && !r.privileged);
        assert_eq!(
            (r.add_capabilities, r.drop_capabilities),
            (vec!["NET_ADMIN".into()], vec!["ALL".into()])
        );
        assert_eq!(r.seccomp, Seccomp::Localhost("/seccomp/p.json".into()));
        assert!(!r.masked_paths.is_empty());
    }

    #[test]
    fn a_privileged_container_has_no_filter_and_sees_all() {
        let r = rights(
            json!({"seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"privileged": true}),
            &ImageInfo::default(),
        )
        .unwrap();
        assert_eq!(r.seccomp, Seccomp::Unconfined);
        assert!(r.privileged && r.masked_paths.is_empty());
    }

    #[test]
    fn run_as_non_root_refuses_root_and_what_may_be_root() {
        let image = |uid, username: &str| ImageInfo {
            uid,
            username: username.to_owned(),
            ..ImageInfo::default()
        };
        let want = json!({"runAsNonRoot": true});
        let err = |i| rights(json!({}), want.clone(), &i).unwrap_err().to_string();
        assert_eq!(
            err(image(None, "")),
            "container has runAsNonRoot and image will run as root \
             (pod: \"web_shop(u1)\", container: c)"
        );
        assert!(err(image(Some(0), "")).contains("will run as root"));
        assert!(err(image(None, "nobody")).contains("non-numeric user (nobody)"));
        assert!(rights(json!({}), want.clone(), &image(Some(65534), "")).is_ok());
        let zero = rights(json!({"runAsUser": 0}), want.clone(), &image(Some(5), ""));
        assert!(zero.unwrap_err().to_string().contains("breaks non-root policy"));
    }
}
