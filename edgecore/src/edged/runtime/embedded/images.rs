//! The runtime's dealings with its image store.
//!
//! Owns: nothing; the store does.
//! Called by: the runtime.
//! Never: lets one bad archive keep the runtime from opening.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use super::super::{ImageFs, ImageInfo, RuntimeError};
use super::image::ImageRecord;
use super::{Inner, chain, sample};

/// The folder of images that a person put there.
const PRELOAD: &str = "preload";

/// Files of the image store that are counted before the count is given up.
const MAX_COUNTED: u64 = 2_000_000;

impl Inner {
    /// Clears layers that nobody needs, imports what was put there, makes the sample image.
    pub(super) async fn prepare_images(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            inner.store.remove_unused_layers(&inner.layers_in_use());
            let root = inner.layout.root();
            for (path, problem) in inner.store.import_folder(&root.join(PRELOAD)) {
                warn!(path = %path.display(), "an image was not imported: {}", chain(&problem));
            }
            let stamp = inner.layout.images().join("sample.json");
            if let Err(e) = sample::ensure(&inner.store, &stamp) {
                warn!("the sample image was not made: {}", chain(&e));
            }
        });
        if let Err(e) = done.await {
            warn!("the images were not prepared: {e}");
        }
    }

    fn layers_in_use(&self) -> BTreeSet<String> {
        let index = self.index.lock();
        index.containers.values().flat_map(|c| c.record.layers.iter().cloned()).collect()
    }

    pub(super) async fn remove_image(self: &Arc<Self>, id: &str) -> Result<(), RuntimeError> {
        let (inner, id) = (Arc::clone(self), id.to_owned());
        let removed =
            tokio::task::spawn_blocking(move || inner.store.remove(&id, &inner.layers_in_use()));
        Ok(removed.await.map_err(|e| RuntimeError::Refused(e.to_string()))??)
    }

    pub(super) async fn image_fs(&self) -> Vec<ImageFs> {
        let mountpoint = self.layout.images();
        let folder = mountpoint.clone();
        let counted = tokio::task::spawn_blocking(move || size_of(&folder, MAX_COUNTED)).await;
        let (used_bytes, inodes_used) = counted.unwrap_or_default();
        vec![ImageFs { mountpoint, used_bytes, inodes_used }]
    }
}

pub(super) fn info(image: ImageRecord) -> ImageInfo {
    let user = image.config.user.split(':').next().unwrap_or("");
    let uid = user.parse().ok();
    ImageInfo {
        id: image.id,
        repo_tags: image.tags,
        repo_digests: image.digests,
        size: image.bytes,
        uid,
        username: if uid.is_none() { user.to_owned() } else { String::new() },
        pinned: image.pinned,
    }
}

/// Bytes and inodes of a folder, as far as the limit goes. Links are not followed.
pub(super) fn size_of(folder: &Path, limit: u64) -> (u64, u64) {
    let (mut bytes, mut inodes) = (0, 0);
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            inodes += 1;
            if inodes > limit {
                return (bytes, inodes);
            }
            bytes += meta.blocks() * 512;
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    (bytes, inodes)
}

#[cfg(test)]
mod tests {
    use super::super::image::ImageConfig;
    use super::*;

    #[test]
    fn a_user_is_a_number_or_a_name() {
        let of = |user: &str| {
            let config = ImageConfig { user: user.into(), ..ImageConfig::default() };
            let image = ImageRecord {
                id: String::new(),
                tags: vec![],
                digests: vec![],
                config,
                layers: vec![],
                bytes: 0,
                pinned: false,
            };
            let info = info(image);
            (info.uid, info.username)
        };
        assert_eq!(of("7:8"), (Some(7), String::new()));
        assert_eq!(of("web:web"), (None, "web".into()));
        assert_eq!(of(""), (None, String::new()));
    }
}
