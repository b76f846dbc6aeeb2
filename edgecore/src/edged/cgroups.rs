//! A pod's own cgroup: made by the runtime above its containers', removed here.
//!
//! Owns: nothing. Called by: the worker, once nothing of the pod runs.
//! Never: removes a cgroup with a process in it: the kernel refuses.

use std::path::{Path, PathBuf};

use super::resources::{self, Machine};
use super::runtime::CgroupDriver;
use k8s_openapi::api::core::v1::Pod;

/// Removes the pod's cgroup and those below it, in every hierarchy.
pub(crate) fn remove(pod: &Pod, machine: &Machine) {
    // systemd removes a slice by itself when it is empty.
    if machine.driver == CgroupDriver::Cgroupfs {
        let parent = resources::cgroup_parent(pod, machine);
        remove_below(Path::new("/sys/fs/cgroup"), parent.trim_start_matches('/'));
    }
}

fn remove_below(root: &Path, parent: &str) {
    // Version 2 has one hierarchy, version 1 a directory for each controller.
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
    for hierarchy in std::iter::once(PathBuf::from(root)).chain(hierarchies) {
        let dir = hierarchy.join(parent);
        if dir.is_dir() {
            remove_tree(&dir);
        }
    }
}

fn remove_tree(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    if let Err(e) = std::fs::remove_dir(dir) {
        tracing::debug!(cgroup = %dir.display(), error = %e, "cannot remove a cgroup");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_cgroup_is_removed_in_every_hierarchy_and_its_neighbours_stay() {
        let root = tempfile::tempdir().unwrap();
        let at = |p: &str| root.path().join(p);
        for dir in ["cpu/kubepods/podu1/c1", "memory/kubepods/podu1", "memory/kubepods/podu2"] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        remove_below(root.path(), "kubepods/podu1");
        assert!(!at("cpu/kubepods/podu1").exists() && !at("memory/kubepods/podu1").exists());
        assert!(at("memory/kubepods/podu2").exists());
    }
}
