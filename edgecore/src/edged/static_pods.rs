//! Pods from files on this node.
//!
//! Owns: the reading of `staticPodPath`. Called by: `pods.rs`, every few seconds.
//! Never: runs anything; a file that cannot be read is said once and skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::raw::RawJson;
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::podspec;

/// No manifest is larger.
const LARGEST: u64 = 1 << 20;

/// The pods of the files of a directory, and what could not be read, by file.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) pods: Vec<Arc<Pod>>,
    pub(crate) errors: BTreeMap<PathBuf, String>,
}

/// Reads all files of `dir`; one that is not there has none.
pub(crate) fn read(dir: &Path, node: &str) -> Found {
    let mut found = Found::default();
    let Ok(entries) = std::fs::read_dir(dir) else { return found };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with('.') || name.ends_with('~') || !path.is_file() {
            continue;
        }
        match read_one(&path, node) {
            Ok(pod) => found.pods.push(Arc::new(pod)),
            Err(why) => {
                found.errors.insert(path, why);
            }
        }
    }
    found
}

fn read_one(path: &Path, node: &str) -> Result<Pod, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > LARGEST {
        return Err(format!("it has {size} bytes; at most {LARGEST} are read"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    parse(&text, &path.to_string_lossy(), node)
}

/// A manifest as a pod of this node; its UID is a hash of its text, so that a changed file is
/// another pod.
fn parse(text: &str, origin: &str, node: &str) -> Result<Pod, String> {
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    if value["kind"] != "Pod" || value["apiVersion"] != "v1" {
        return Err("it is not a v1 Pod".to_owned());
    }
    // Through text, as every other pod is read: a second reader of pods would be much code.
    let pod = RawJson::of(&value).and_then(|text| text.to::<Pod>());
    let mut pod = pod.map_err(|e| e.to_string())?;
    let name = pod.metadata.name.take().filter(|n| !n.is_empty());
    let name = name.ok_or_else(|| "the pod has no name".to_owned())?;
    let spec = pod.spec.as_mut().filter(|s| !s.containers.is_empty());
    let spec = spec.ok_or_else(|| "the pod has no containers".to_owned())?;
    let seed = format!("{node}\0{origin}\0{text}");
    let digest = ring::digest::digest(&ring::digest::SHA256, seed.as_bytes());
    let hash: String = digest.as_ref()[..16].iter().map(|b| format!("{b:02x}")).collect();
    spec.node_name = Some(node.to_owned());
    // It stays, whatever becomes of the node.
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    });
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{name}-{}", node.to_lowercase()));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    meta.uid = Some(hash.clone());
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(podspec::CONFIG_HASH.to_owned(), hash);
    annotations.insert(podspec::CONFIG_SOURCE.to_owned(), "file".to_owned());
    pod.status = None;
    Ok(pod)
}

/// What the API server is asked to show of a static pod.
pub(crate) fn mirror(pod: &Pod, node: Option<&Node>) -> Pod {
    let mut mirror = pod.clone();
    let meta = &mut mirror.metadata;
    let hash = podspec::uid(pod).to_owned();
    meta.annotations.get_or_insert_default().insert(podspec::CONFIG_MIRROR.to_owned(), hash);
    if let Some(node) = node {
        meta.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.metadata.name.clone().unwrap_or_default(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]);
    }
    mirror
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: c\n    image: web:1\n";

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let pod = parse(WEB, "/etc/web.yaml", "Edge-1").unwrap();
        assert_eq!(podspec::name(&pod), "web-edge-1");
        assert_eq!(podspec::namespace(&pod), "default");
        assert!(podspec::is_static(&pod) && !podspec::is_mirror(&pod));
        let changed = parse(&WEB.replace("web:1", "web:2"), "/etc/web.yaml", "Edge-1").unwrap();
        assert_ne!(podspec::uid(&pod), podspec::uid(&changed));
        let shown = mirror(&pod, None);
        assert_eq!(podspec::annotation(&shown, podspec::CONFIG_MIRROR), Some(podspec::uid(&pod)));
    }

    #[test]
    fn what_is_no_pod_is_named_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("a.yaml", WEB);
        write("b.yaml", "kind: Service\napiVersion: v1\n");
        write("c.json", "{broken");
        write(".hidden", "x");
        write("d.yaml", "kind: Pod\napiVersion: v1\nmetadata: {name: x}\n");
        let found = read(dir.path(), "edge-1");
        assert_eq!(found.pods.len(), 1);
        let errors: Vec<_> = found.errors.values().map(String::as_str).collect();
        assert_eq!(errors.len(), 3);
        assert_eq!(errors[0], "it is not a v1 Pod");
        assert_eq!(errors[2], "the pod has no containers");
        assert!(read(&dir.path().join("none"), "edge-1").pods.is_empty());
    }
}
