//! Images on this machine.
//!
//! Owns: the list of images, their unpacked layers, and when a layer may go.
//! Called by: the runtime; `sample.rs` adds its own image.
//! Never: removes a layer that a container stands on, or uses a layer whose digest it did not
//! check.

mod import;
mod pull;
mod take;
pub(super) mod unpack;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use oci_client::Reference;
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use self::unpack::{Kind, Limits, UnpackError, Unpacked};
use super::state::{self, StateError, hex};

pub(super) use self::pull::Puller;

const STORE: &str = "store.json";

/// A layer's folder has the first digits of its digest for a name, because the kernel takes one
/// page of overlayfs options. The whole digest is in the layer's record.
const KEY_DIGITS: usize = 20;

/// No image has more layers that overlayfs would take.
const MAX_LAYERS: usize = 127;

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("image name `{name}` is not valid: {why}")]
    Name { name: String, why: String },
    #[error("layer {digest} was refused")]
    Layer { digest: String, source: UnpackError },
    #[error("{what} has digest {found} and not {wanted}")]
    Digest { what: &'static str, found: String, wanted: String },
    #[error("the image is malformed: {0}")]
    Malformed(String),
    #[error("{what} is larger than {limit} bytes")]
    TooLarge { what: &'static str, limit: u64 },
    #[error("{0}")]
    Registry(String),
    #[error("cannot {what} `{}`", .path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// The part of an image's configuration that a container needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageConfig {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) user: String,
    pub(crate) working_dir: String,
    pub(crate) stop_signal: String,
}

/// An image's configuration as it is published; what is absent or null is empty.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ConfigFile {
    pub(super) architecture: Option<String>,
    pub(super) os: Option<String>,
    pub(super) config: Option<ConfigSection>,
    pub(super) rootfs: Option<RootSection>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConfigSection {
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) user: Option<String>,
    pub(super) working_dir: Option<String>,
    pub(super) stop_signal: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RootSection {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) diff_ids: Vec<String>,
}

impl From<ConfigSection> for ImageConfig {
    fn from(c: ConfigSection) -> Self {
        ImageConfig {
            entrypoint: c.entrypoint.unwrap_or_default(),
            cmd: c.cmd.unwrap_or_default(),
            env: c.env.unwrap_or_default(),
            user: c.user.unwrap_or_default(),
            working_dir: c.working_dir.unwrap_or_default(),
            stop_signal: c.stop_signal.unwrap_or_default(),
        }
    }
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// The digest of its configuration.
    pub(crate) id: String,
    /// `repository:tag`
    pub(crate) tags: Vec<String>,
    /// `repository@sha256:..`
    pub(crate) digests: Vec<String>,
    pub(crate) config: ImageConfig,
    /// Keys of its layers, the lowest first.
    pub(crate) layers: Vec<String>,
    pub(crate) bytes: u64,
    pub(crate) pinned: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    images: Vec<ImageRecord>,
    /// What was imported from disk, so that it is not done again at the next start.
    #[serde(default)]
    imported: Vec<String>,
}

/// A layer's record, next to its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LayerRecord {
    diff_id: String,
    bytes: u64,
    entries: u64,
}

/// All images.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    index: Mutex<Index>,
}

impl Store {
    /// Opens the store, and clears what a kill has left half done.
    pub(crate) fn open(root: PathBuf) -> Result<Self, ImageError> {
        state::make_dir(&root.join("layers"))?;
        let _ = std::fs::remove_dir_all(root.join("tmp"));
        state::make_dir(&root.join("tmp"))?;
        let index = match state::load(&root.join(STORE)) {
            Ok(index) => index,
            Err(e) if e.is_absent() => Index::default(),
            Err(e) => return Err(e.into()),
        };
        Ok(Store { root, index: Mutex::new(index) })
    }

    pub(crate) fn layers_folder(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// A path for something half done; it must be on the same file system as the layers.
    pub(super) fn scratch(&self) -> PathBuf {
        let name: [u8; 8] = rand::random();
        self.root.join("tmp").join(hex(&name))
    }

    /// By id, by name with a tag or digest, or by a name that is given in short.
    pub(crate) fn find(&self, name: &str) -> Option<ImageRecord> {
        let full = normalize(name).ok();
        let full = full.as_deref().unwrap_or(name);
        let index = self.index.lock();
        let known = |i: &&ImageRecord| {
            i.id == name || i.tags.iter().chain(&i.digests).any(|t| t == full || t == name)
        };
        index.images.iter().find(known).cloned()
    }

    pub(crate) fn list(&self) -> Vec<ImageRecord> {
        self.index.lock().images.clone()
    }

    /// Where the layers of an image are, the topmost first, relative to the layers' folder.
    pub(crate) fn lower_folders(image: &ImageRecord) -> Vec<String> {
        image.layers.iter().rev().map(|key| format!("{key}/fs")).collect()
    }

    /// Adds an image; the names it has are taken from whichever had them before.
    pub(super) fn add(&self, image: ImageRecord) -> Result<(), ImageError> {
        let mut index = self.index.lock();
        let mut next = index.clone();
        insert(&mut next.images, image);
        self.write(&mut index, next)
    }

    fn write(&self, index: &mut Index, next: Index) -> Result<(), ImageError> {
        if *index != next {
            state::store(&self.root.join(STORE), &next)?;
            *index = next;
        }
        Ok(())
    }

    /// Removes an image and the layers that nothing else needs; `in_use` are those of containers.
    pub(crate) fn remove(&self, name: &str, in_use: &BTreeSet<String>) -> Result<(), ImageError> {
        let Some(image) = self.find(name) else { return Ok(()) };
        let mut index = self.index.lock();
        let mut next = index.clone();
        next.images.retain(|i| i.id != image.id);
        self.write(&mut index, next)?;
        self.sweep(&index, in_use);
        Ok(())
    }

    /// Removes every layer that no image and no container needs.
    pub(crate) fn remove_unused_layers(&self, in_use: &BTreeSet<String>) {
        let index = self.index.lock();
        self.sweep(&index, in_use);
    }

    fn sweep(&self, index: &Index, in_use: &BTreeSet<String>) {
        let wanted: BTreeSet<&str> =
            index.images.iter().flat_map(|i| &i.layers).map(String::as_str).collect();
        for entry in std::fs::read_dir(self.layers_folder()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !wanted.contains(name.as_ref()) && !in_use.contains(name.as_ref()) {
                let aside = self.scratch();
                // Renamed first, so that a kill in between leaves nothing that looks whole.
                if std::fs::rename(entry.path(), &aside).is_ok() {
                    let _ = std::fs::remove_dir_all(&aside);
                }
            }
        }
    }

    /// Whether a layer with this digest is unpacked already.
    fn layer(&self, diff_id: &str) -> Result<Option<(String, LayerRecord)>, ImageError> {
        let key = layer_key(diff_id)?;
        match state::load::<LayerRecord>(&self.layers_folder().join(&key).join("layer.json")) {
            Ok(record) if record.diff_id == diff_id => Ok(Some((key, record))),
            Ok(record) => Err(ImageError::Digest {
                what: "a layer with the same key",
                found: record.diff_id,
                wanted: diff_id.to_owned(),
            }),
            Err(e) if e.is_absent() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Unpacks a layer, compressed or not, and checks its digest before anybody can use it.
    fn unpack_layer(
        &self,
        diff_id: &str,
        blob: impl Read,
    ) -> Result<(String, LayerRecord), ImageError> {
        if let Some(there) = self.layer(diff_id)? {
            return Ok(there);
        }
        let scratch = self.scratch();
        let fs = scratch.join("fs");
        let done = self.unpack_to(&scratch, &fs, diff_id, blob);
        if done.is_err() {
            let _ = std::fs::remove_dir_all(&scratch);
        }
        done
    }

    fn unpack_to(
        &self,
        scratch: &Path,
        fs: &Path,
        diff_id: &str,
        blob: impl Read,
    ) -> Result<(String, LayerRecord), ImageError> {
        make_layer_folder(fs)?;
        let refused = |source| ImageError::Layer { digest: diff_id.to_owned(), source };
        let plain = decompress(BufReader::with_capacity(64 * 1024, blob))
            .map_err(|e| refused(UnpackError::Read(e)))?;
        let mut hashed = Hashing::new(plain);
        let Unpacked { bytes, entries } =
            unpack::unpack(&mut hashed, fs, Kind::Layer, Limits::LAYER).map_err(refused)?;
        // What follows the last entry is part of the digest too, and not longer than a record.
        let rest = io::copy(&mut (&mut hashed).take(1 << 20), &mut io::sink());
        rest.map_err(|e| refused(UnpackError::Read(e)))?;
        let found = hashed.digest();
        if found != diff_id {
            let wanted = diff_id.to_owned();
            return Err(ImageError::Digest { what: "a layer", found, wanted });
        }
        self.adopt_layer(scratch, LayerRecord { diff_id: found, bytes, entries })
    }

    /// Makes a finished folder a layer of the store.
    fn adopt_layer(
        &self,
        scratch: &Path,
        record: LayerRecord,
    ) -> Result<(String, LayerRecord), ImageError> {
        let key = layer_key(&record.diff_id)?;
        state::store(&scratch.join("layer.json"), &record)?;
        let place = self.layers_folder().join(&key);
        match std::fs::rename(scratch, &place) {
            Ok(()) => {}
            // Somebody else was faster; both have checked the same digest.
            Err(_) if place.join("layer.json").exists() => {
                let _ = std::fs::remove_dir_all(scratch);
            }
            Err(source) => {
                return Err(ImageError::Io { what: "put in place", path: place, source });
            }
        }
        Ok((key, record))
    }

    /// Adds the layer that `fill` makes; it says what the layer's digest is.
    pub(super) fn add_layer(
        &self,
        diff_id: &str,
        bytes: u64,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<String, ImageError> {
        if let Some((key, _)) = self.layer(diff_id)? {
            return Ok(key);
        }
        let scratch = self.scratch();
        let fs = scratch.join("fs");
        make_layer_folder(&fs)?;
        let filled = fill(&fs).map_err(|source| ImageError::Io { what: "fill", path: fs, source });
        let record = LayerRecord { diff_id: diff_id.to_owned(), bytes, entries: 0 };
        let done = filled.and_then(|()| self.adopt_layer(&scratch, record));
        if done.is_err() {
            let _ = std::fs::remove_dir_all(&scratch);
        }
        Ok(done?.0)
    }

    /// The image that a configuration describes, once its layers are unpacked. `blob` opens the
    /// n-th layer.
    fn assemble(
        &self,
        config: &[u8],
        tags: Vec<String>,
        digests: Vec<String>,
        mut blob: impl FnMut(usize, usize) -> Result<Box<dyn Read>, ImageError>,
    ) -> Result<ImageRecord, ImageError> {
        let id = sha256(config);
        let file: ConfigFile = serde_json::from_slice(config)
            .map_err(|e| ImageError::Malformed(format!("its configuration: {e}")))?;
        let diff_ids = file.rootfs.unwrap_or_default().diff_ids;
        if diff_ids.is_empty() || diff_ids.len() > MAX_LAYERS {
            return Err(ImageError::Malformed(format!("it has {} layers", diff_ids.len())));
        }
        let (mut layers, mut bytes) = (Vec::new(), config.len() as u64);
        for (n, diff_id) in diff_ids.iter().enumerate() {
            let (key, record) = match self.layer(diff_id)? {
                Some(there) => there,
                None => self.unpack_layer(diff_id, blob(n, diff_ids.len())?)?,
            };
            layers.push(key);
            bytes += record.bytes;
        }
        let config = file.config.unwrap_or_default().into();
        Ok(ImageRecord { id, tags, digests, config, layers, bytes, pinned: false })
    }
}

fn make_layer_folder(fs: &Path) -> Result<(), ImageError> {
    use std::os::unix::fs::PermissionsExt;
    state::make_dir(fs)?;
    // A layer may have no entry for its root; the root is for everybody then.
    std::fs::set_permissions(fs, std::fs::Permissions::from_mode(0o755))
        .map_err(|source| ImageError::Io { what: "open up", path: fs.to_owned(), source })
}

fn insert(images: &mut Vec<ImageRecord>, mut new: ImageRecord) {
    for old in images.iter_mut() {
        old.tags.retain(|t| !new.tags.contains(t));
        // What was put there under a name is kept as long as it bears one.
        old.pinned &= !old.tags.is_empty();
    }
    if let Some(at) = images.iter().position(|i| i.id == new.id) {
        let old = images.remove(at);
        new.pinned |= old.pinned;
        for (list, more) in [(&mut new.tags, old.tags), (&mut new.digests, old.digests)] {
            for name in more {
                if !list.contains(&name) {
                    list.push(name);
                }
            }
        }
    }
    images.retain(|i| !i.tags.is_empty() || !i.digests.is_empty());
    images.push(new);
}

/// `busybox` is `docker.io/library/busybox:latest`.
pub(super) fn parse_name(name: &str) -> Result<Reference, ImageError> {
    Reference::try_from(name)
        .map_err(|e| ImageError::Name { name: name.to_owned(), why: e.to_string() })
}

fn normalize(name: &str) -> Result<String, ImageError> {
    parse_name(name).map(|r| r.whole())
}

/// The hexadecimal part of a `sha256:` digest; anything else is refused, so that it is safe in a
/// path.
fn digest_hex(digest: &str) -> Result<&str, ImageError> {
    digest
        .strip_prefix("sha256:")
        .filter(|h| {
            h.len() == 64 && h.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
        .ok_or_else(|| ImageError::Malformed(format!("`{digest}` is not a sha256 digest")))
}

fn layer_key(diff_id: &str) -> Result<String, ImageError> {
    Ok(digest_hex(diff_id)?[..KEY_DIGITS].to_owned())
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(ring::digest::digest(&SHA256, bytes).as_ref()))
}

/// Tells by the first bytes how a stream is compressed.
fn decompress<'a>(mut stream: impl io::BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let start = stream.fill_buf()?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(MultiGzDecoder::new(stream)));
    }
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let why = "zstd layers are not supported; build the image with gzip layers";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok(Box::new(stream))
}

/// Digests what passes through.
pub(super) struct Hashing<T> {
    inner: T,
    context: Context,
}

impl<T> Hashing<T> {
    pub(super) fn new(inner: T) -> Self {
        Hashing { inner, context: Context::new(&SHA256) }
    }

    pub(super) fn digest(self) -> String {
        format!("sha256:{}", hex(self.context.finish().as_ref()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.context.update(&buf[..n]);
        Ok(n)
    }
}

impl<W: io::Write> io::Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.context.update(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn open_file(path: &Path) -> Result<File, ImageError> {
    File::open(path).map_err(|source| ImageError::Io {
        what: "open",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
