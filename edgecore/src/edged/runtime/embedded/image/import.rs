//! Images from this machine's disk.
//!
//! Owns: the reading of OCI layouts and of archives, both OCI's and Docker's; the folder whose
//! contents are imported at every start.
//! Called by: the runtime when it opens.
//! Never: follows a link out of the layout, which came from somebody else.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pathrs::Root;
use pathrs::flags::OpenFlags;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::unpack::{Kind, Limits, UnpackError, unpack};
use super::{ImageError, ImageRecord, Store, decompress, digest_hex, normalize, open_file, sha256};

/// No manifest, index or configuration is larger.
const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;

const REF_NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

#[derive(Debug, Deserialize)]
struct OciIndex {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(rename = "mediaType", default)]
    media_type: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
struct OciManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    /// Imports what is in `folder` and was not imported before: archives and OCI layouts. Returns
    /// what went wrong; one bad file does not keep the others out.
    pub(crate) fn import_folder(&self, folder: &Path) -> Vec<(std::path::PathBuf, ImageError)> {
        let mut problems = Vec::new();
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths {
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            let stamp = format!("{} {} {}", path.display(), meta.len(), meta.mtime());
            if self.index.lock().imported.contains(&stamp) {
                continue;
            }
            match self.import(&path) {
                Ok(_) => {
                    let mut index = self.index.lock();
                    let mut next = index.clone();
                    next.imported.push(stamp);
                    if let Err(e) = self.write(&mut index, next) {
                        problems.push((path, e));
                    }
                }
                Err(e) => problems.push((path, e)),
            }
        }
        problems
    }

    /// Imports the images of an OCI layout or of an archive, and returns their names.
    pub(crate) fn import(&self, path: &Path) -> Result<Vec<String>, ImageError> {
        if path.is_dir() {
            return self.import_layout(path);
        }
        let scratch = self.scratch();
        let imported = self.import_archive(path, &scratch);
        let _ = std::fs::remove_dir_all(&scratch);
        imported
    }

    fn import_archive(&self, path: &Path, scratch: &Path) -> Result<Vec<String>, ImageError> {
        super::super::state::make_dir(scratch)?;
        let file = BufReader::with_capacity(64 * 1024, open_file(path)?);
        let broken = |source| ImageError::Layer { digest: path.display().to_string(), source };
        let plain = decompress(file).map_err(|e| broken(UnpackError::Read(e)))?;
        unpack(plain, scratch, Kind::Files, Limits::LAYER).map_err(broken)?;
        self.import_layout(scratch)
    }

    fn import_layout(&self, folder: &Path) -> Result<Vec<String>, ImageError> {
        let layout = Layout::open(folder)?;
        let images = if layout.has("index.json") {
            self.oci_images(&layout)?
        } else if layout.has("manifest.json") {
            self.docker_images(&layout)?
        } else {
            let why = "there is neither an `index.json` nor a `manifest.json`";
            return Err(ImageError::Malformed(why.into()));
        };
        let mut names = Vec::new();
        for image in images {
            names.extend(image.tags.iter().cloned());
            // Where it came from is no registry: once removed, it could not be pulled again.
            self.add(ImageRecord { pinned: true, ..image })?;
        }
        Ok(names)
    }

    fn oci_images(&self, layout: &Layout) -> Result<Vec<ImageRecord>, ImageError> {
        let index: OciIndex = layout.document("index.json")?;
        let mut images = Vec::new();
        for entry in index.manifests {
            let name = REF_NAMES.iter().find_map(|n| entry.annotations.get(*n));
            let tags = name.into_iter().filter_map(|n| normalize(n).ok()).collect::<Vec<_>>();
            let (digest, manifest) = layout.manifest(&entry)?;
            let config = layout.blob_bytes(&manifest.config.digest)?;
            let repository = tags.first().and_then(|t| t.rsplit_once(':')).map(|(r, _)| r);
            let digests = match repository {
                Some(repository) => vec![format!("{repository}@{digest}")],
                None => vec![digest],
            };
            images.push(self.assemble(&config, tags, digests, |n, of| {
                let layers = &manifest.layers;
                if layers.len() != of {
                    return Err(ImageError::Malformed("layers and digests do not match".into()));
                }
                Ok(Box::new(layout.open_file(&blob_path(&layers[n].digest)?)?))
            })?);
        }
        Ok(images)
    }

    fn docker_images(&self, layout: &Layout) -> Result<Vec<ImageRecord>, ImageError> {
        let entries: Vec<DockerEntry> = layout.document("manifest.json")?;
        let mut images = Vec::new();
        for entry in entries {
            let config = layout.read(&entry.config)?;
            let tags = entry.repo_tags.unwrap_or_default();
            let tags = tags.iter().filter_map(|t| normalize(t).ok()).collect();
            let digests = vec![sha256(&config)];
            images.push(self.assemble(&config, tags, digests, |n, of| {
                if entry.layers.len() != of {
                    return Err(ImageError::Malformed("layers and digests do not match".into()));
                }
                Ok(Box::new(layout.open_file(&entry.layers[n])?))
            })?);
        }
        Ok(images)
    }
}

fn blob_path(digest: &str) -> Result<String, ImageError> {
    Ok(format!("blobs/sha256/{}", digest_hex(digest)?))
}

/// This machine, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

struct Layout {
    root: Root,
}

impl Layout {
    fn open(folder: &Path) -> Result<Self, ImageError> {
        let root = Root::open(folder).map_err(|e| ImageError::Malformed(e.to_string()))?;
        Ok(Layout { root })
    }

    fn has(&self, path: &str) -> bool {
        self.root.resolve(path).is_ok()
    }

    fn open_file(&self, path: &str) -> Result<File, ImageError> {
        let flags = OpenFlags::O_RDONLY | OpenFlags::O_NONBLOCK | OpenFlags::O_CLOEXEC;
        let missing = |why: String| ImageError::Malformed(format!("`{path}`: {why}"));
        let file = self.root.open_subpath(path, flags).map_err(|e| missing(e.to_string()))?;
        match file.metadata() {
            Ok(meta) if meta.is_file() => Ok(file),
            _ => Err(missing("it is not a file".into())),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        self.open_file(path)?
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| ImageError::Io { what: "read", path: path.into(), source })?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(ImageError::TooLarge { what: "a document", limit: MAX_DOCUMENT });
        }
        Ok(bytes)
    }

    fn document<T: DeserializeOwned>(&self, path: &str) -> Result<T, ImageError> {
        serde_json::from_slice(&self.read(path)?)
            .map_err(|e| ImageError::Malformed(format!("`{path}`: {e}")))
    }

    /// A small blob whose digest is right.
    fn blob_bytes(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        let bytes = self.read(&blob_path(digest)?)?;
        let found = sha256(&bytes);
        if found != digest {
            let wanted = digest.to_owned();
            return Err(ImageError::Digest { what: "a blob", found, wanted });
        }
        Ok(bytes)
    }

    /// The manifest for this machine, straight or through an index of platforms.
    fn manifest(&self, entry: &Descriptor) -> Result<(String, OciManifest), ImageError> {
        let parse = |bytes: &[u8]| {
            serde_json::from_slice(bytes)
                .map_err(|e| ImageError::Malformed(format!("its manifest: {e}")))
        };
        let bytes = self.blob_bytes(&entry.digest)?;
        if !entry.media_type.contains("index") && !entry.media_type.contains("manifest.list") {
            return Ok((entry.digest.clone(), parse(&bytes)?));
        }
        let index: OciIndex = serde_json::from_slice(&bytes)
            .map_err(|e| ImageError::Malformed(format!("its index: {e}")))?;
        let ours = |d: &&Descriptor| {
            d.platform.as_ref().is_none_or(|p| p.os == "linux" && p.architecture == architecture())
        };
        let chosen = index.manifests.iter().find(ours).ok_or_else(|| {
            ImageError::Malformed(format!("it is not for linux/{}", architecture()))
        })?;
        Ok((chosen.digest.clone(), parse(&self.blob_bytes(&chosen.digest)?)?))
    }
}
