//! Certificates and keys from bytes of any usual form. Labels of PEM blocks are not believed:
//! KubeEdge writes SEC 1 keys as `PRIVATE KEY`.

use std::path::Path;

use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// Far above any real certificate chain or key.
const FILE_LIMIT: u64 = 1 << 20;

/// The certificates in PEM, or the one in DER. `what` names them in errors.
///
/// # Errors
/// When there is none.
pub fn certificates(bytes: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::NoCertificate { what: what.to_owned() };
    if is_der(bytes) {
        return Ok(vec![CertificateDer::from(bytes.to_vec())]);
    }
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(|_| none())?;
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

/// The private key in PEM or DER: SEC 1, PKCS#8 or PKCS#1, told apart by content.
///
/// # Errors
/// When there is none.
pub fn private_key(bytes: &[u8], what: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let none = || TlsError::NoPrivateKey { what: what.to_owned() };
    if is_der(bytes) {
        return PrivateKeyDer::try_from(bytes.to_vec()).map_err(|_| none());
    }
    for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        let (_, der) = block.map_err(|_| none())?;
        if let Ok(key) = PrivateKeyDer::try_from(der) {
            return Ok(key);
        }
    }
    Err(none())
}

/// [`certificates`] of a file.
///
/// # Errors
/// When it cannot be read or holds none.
pub fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(&read(path)?, &format!("`{}`", path.display()))
}

/// [`private_key`] of a file.
///
/// # Errors
/// When it cannot be read or holds none.
pub fn load_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    private_key(&read(path)?, &format!("`{}`", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.display().to_string(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_LIMIT), &mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// An ASN.1 SEQUENCE with a length of two or more bytes, as every certificate and key is.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, length, ..] if *length != b'\n')
}
