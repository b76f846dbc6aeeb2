//! A certificate with its key, replaceable while connections are made with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use super::{TlsError, load_certificates, load_private_key, provider};

/// Who this process is. Clones share the certificate: replacing it in one changes it for all new
/// connections; those that are open keep theirs.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    current: RwLock<Arc<CertifiedKey>>,
    files: Option<Files>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    seen: Mutex<Stamps>,
}

type Stamps = [Option<(SystemTime, u64)>; 2];

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Identity");
        if let Some(files) = &self.inner.files {
            out.field("certificate", &files.certificate);
        }
        out.finish_non_exhaustive()
    }
}

impl Identity {
    /// From memory. `what` names it in errors.
    ///
    /// # Errors
    /// When key and certificate do not belong together or cannot be used.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        what: &str,
    ) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(certified(chain, key, what)?));
        Ok(Self { inner: Arc::new(Inner { current, files: None }) })
    }

    /// From two files, which [`Identity::reload_if_changed`] reads again.
    ///
    /// # Errors
    /// When they cannot be read, do not parse or do not belong together.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let seen = stamps(certificate, key);
        let current = RwLock::new(Arc::new(read(certificate, key)?));
        let files =
            Files { certificate: certificate.into(), key: key.into(), seen: Mutex::new(seen) };
        Ok(Self { inner: Arc::new(Inner { current, files: Some(files) }) })
    }

    /// Uses another certificate from now on.
    ///
    /// # Errors
    /// As [`Identity::new`]; the old one then stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        what: &str,
    ) -> Result<(), TlsError> {
        *self.inner.current.write() = Arc::new(certified(chain, key, what)?);
        Ok(())
    }

    /// The certificate in use, then its intermediates.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.inner.current.read().cert.clone()
    }

    /// Reads the files again if one of them has changed since they were read. True if the
    /// certificate in use was replaced.
    ///
    /// # Errors
    /// When the files cannot be used; the old certificate then stays, and they are tried again.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let Some(files) = &self.inner.files else { return Ok(false) };
        let now = stamps(&files.certificate, &files.key);
        if now == *files.seen.lock() {
            return Ok(false);
        }
        *self.inner.current.write() = Arc::new(read(&files.certificate, &files.key)?);
        *files.seen.lock() = now;
        Ok(true)
    }

    /// Calls [`Identity::reload_if_changed`] at this pace until told to stop. Whoever replaces the
    /// two files need not do it at once: a pair that does not match is tried again later.
    pub async fn watch(self, every: Duration, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let this = self.clone();
            match tokio::task::spawn_blocking(move || this.reload_if_changed()).await {
                Ok(Ok(true)) => tracing::info!(identity = ?self, "certificate reloaded"),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(e)) => {
                    tracing::warn!(error = %crate::error_chain(&e), "the certificate was not reloaded");
                }
            }
        }
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.inner.current.read()))
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let current = Arc::clone(&self.inner.current.read());
        current.key.choose_scheme(schemes).map(|_| current)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    what: &str,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|source| TlsError::Unusable { what: what.to_owned(), source })
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let what = format!("`{}` and `{}`", certificate.display(), key.display());
    certified(load_certificates(certificate)?, load_private_key(key)?, &what)
}

fn stamps(certificate: &Path, key: &Path) -> Stamps {
    [certificate, key].map(|path| {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.ino() ^ (meta.len() << 40)))
    })
}
