//! Images from registries.
//!
//! Owns: the talk with a registry, its time limits and size limits.
//! Called by: the runtime's `pull_image`.
//! Never: trusts a registry's word for what it sends: every blob is digested here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use ring::digest::{Context, SHA256};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::super::super::PullAuth;
use super::super::state::hex;
use super::{ImageError, Store, digest_hex, open_file, parse_name};

/// A registry that says nothing for so long is not going to.
const CONNECT: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(60);

/// A configuration is held in memory; a layer is not.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;
const MAX_BLOB: u64 = 16 << 30;

/// Fetches images into a store.
pub(crate) struct Puller {
    store: Arc<Store>,
    /// `host:port` of registries that are spoken to without TLS.
    insecure: Vec<String>,
}

impl Puller {
    pub(crate) fn new(store: Arc<Store>, insecure: Vec<String>) -> Self {
        Puller { store, insecure }
    }

    /// Pulls an image and returns the reference by which it is known here.
    pub(crate) async fn pull(
        &self,
        name: &str,
        auth: Option<&PullAuth>,
    ) -> Result<String, ImageError> {
        let reference = parse_name(name)?;
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::HttpsExcept(self.insecure.clone()),
            connect_timeout: Some(CONNECT),
            read_timeout: Some(SILENCE),
            user_agent: concat!("keadm/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        let auth = auth.map_or(Ok(RegistryAuth::Anonymous), credentials)?;
        let registry = |e: oci_client::errors::OciDistributionError| {
            ImageError::Registry(format!("{}: {e}", reference.whole()))
        };
        let limit = SILENCE + CONNECT;
        let (manifest, digest) = timeout(limit, client.pull_image_manifest(&reference, &auth))
            .await
            .map_err(|_| ImageError::Registry(format!("{}: no answer", reference.whole())))?
            .map_err(registry)?;
        let fetch = Fetch { client: &client, reference: &reference, store: &self.store };
        let config = fetch.config(&manifest.config).await?;
        let mut blobs = Vec::new();
        for layer in &manifest.layers {
            blobs.push(fetch.layer(layer).await?);
        }
        let store = Arc::clone(&self.store);
        let (tags, digests) = names(&reference, &digest);
        let known_as = digests[0].clone();
        tokio::task::spawn_blocking(move || {
            let image = store.assemble(&config, tags, digests, |n, of| {
                if blobs.len() != of {
                    return Err(ImageError::Malformed("layers and digests do not match".into()));
                }
                Ok(Box::new(open_file(&blobs[n].0)?))
            });
            drop(blobs);
            store.add(image?)
        })
        .await
        .map_err(|e| ImageError::Registry(e.to_string()))??;
        Ok(known_as)
    }
}

/// The names under which a pulled image is known: its tag, and its digest.
fn names(reference: &Reference, digest: &str) -> (Vec<String>, Vec<String>) {
    let repository = format!("{}/{}", reference.registry(), reference.repository());
    let tag = reference.tag().map(|t| format!("{repository}:{t}"));
    (tag.into_iter().collect(), vec![format!("{repository}@{digest}")])
}

fn credentials(auth: &PullAuth) -> Result<RegistryAuth, ImageError> {
    if !auth.registry_token.is_empty() {
        return Ok(RegistryAuth::Bearer(auth.registry_token.clone()));
    }
    if !auth.auth.is_empty() {
        let wrong = || ImageError::Registry("the pull secret's `auth` is not valid".into());
        let plain = STANDARD.decode(auth.auth.trim()).map_err(|_| wrong())?;
        let plain = String::from_utf8(plain).map_err(|_| wrong())?;
        let (user, password) = plain.split_once(':').ok_or_else(wrong)?;
        return Ok(RegistryAuth::Basic(user.into(), password.trim_end_matches('\0').into()));
    }
    if !auth.username.is_empty() {
        return Ok(RegistryAuth::Basic(auth.username.clone(), auth.password.clone()));
    }
    if !auth.identity_token.is_empty() {
        let why = "identity tokens of pull secrets are not supported; use a user and password";
        return Err(ImageError::Registry(why.into()));
    }
    Ok(RegistryAuth::Anonymous)
}

/// A file that goes when nobody needs it any more.
struct Blob(PathBuf);

impl Drop for Blob {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

struct Fetch<'a> {
    client: &'a Client,
    reference: &'a Reference,
    store: &'a Store,
}

impl Fetch<'_> {
    async fn config(&self, descriptor: &OciDescriptor) -> Result<Vec<u8>, ImageError> {
        let blob = self.blob(descriptor, MAX_CONFIG).await?;
        tokio::fs::read(&blob.0).await.map_err(|source| ImageError::Io {
            what: "read",
            path: blob.0.clone(),
            source,
        })
    }

    async fn layer(&self, descriptor: &OciDescriptor) -> Result<Blob, ImageError> {
        self.blob(descriptor, MAX_BLOB).await
    }

    async fn blob(&self, descriptor: &OciDescriptor, limit: u64) -> Result<Blob, ImageError> {
        digest_hex(&descriptor.digest)?;
        let too_large = || ImageError::TooLarge { what: "a blob of the image", limit };
        let size = u64::try_from(descriptor.size).ok().filter(|s| *s <= limit);
        let size = size.ok_or_else(too_large)?;
        let failed = |e: String| {
            ImageError::Registry(format!("{} {}: {e}", self.reference.whole(), descriptor.digest))
        };
        let silence = || failed(format!("nothing came for {} s", SILENCE.as_secs()));
        let pulled = self.client.pull_blob_stream(self.reference, descriptor);
        let pulled = timeout(SILENCE + CONNECT, pulled).await.map_err(|_| silence())?;
        let mut stream = pulled.map_err(|e| failed(e.to_string()))?.stream;
        let blob = Blob(self.store.scratch());
        let write = |source| ImageError::Io { what: "write", path: blob.0.clone(), source };
        let mut file = create(&blob.0).await.map_err(write)?;
        let (mut context, mut seen) = (Context::new(&SHA256), 0u64);
        while let Some(chunk) = timeout(SILENCE, stream.next()).await.map_err(|_| silence())? {
            let chunk = chunk.map_err(|e| failed(e.to_string()))?;
            seen += chunk.len() as u64;
            if seen > size {
                return Err(failed(format!("it is longer than the {size} bytes promised")));
            }
            context.update(&chunk);
            file.write_all(&chunk).await.map_err(write)?;
        }
        file.flush().await.map_err(write)?;
        let found = format!("sha256:{}", hex(context.finish().as_ref()));
        if found != descriptor.digest {
            let wanted = descriptor.digest.clone();
            return Err(ImageError::Digest { what: "a blob", found, wanted });
        }
        Ok(blob)
    }
}

async fn create(path: &Path) -> std::io::Result<tokio::fs::File> {
    tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await
}

#[cfg(test)]
mod tests;
