//! The three files. All are written aside, synced and renamed; only their owner may read them.
//!
//! Certificate and key cannot be renamed in one step. The new certificate therefore lies beside the
//! old one until the new key is in place: a crash in between is completed at the next look.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use api::wire::handshake;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::KeyPair;
use service::tls;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CertError, CertSettings, CertState};

pub(super) fn state(settings: &CertSettings, now: Timestamp) -> CertState {
    let missing = |e: tls::TlsError| CertState::Missing { why: service::error_chain(&e) };
    if let Err(e) = tls::load_certificates(&settings.ca_file) {
        return missing(e);
    }
    let chain = match tls::load_certificates(&settings.cert_file) {
        Ok(chain) => chain,
        Err(e) => return missing(e),
    };
    if let Err(e) = tls::Identity::from_files(&settings.cert_file, &settings.key_file) {
        return missing(e);
    }
    let name = chain.first().map(|c| tls::subject(c));
    let wanted = handshake::common_name(&settings.node);
    match name {
        Some(Ok(subject)) if subject.common_name == wanted => {}
        Some(Ok(subject)) => {
            let why =
                format!("the certificate is for `{}`, not for `{wanted}`", subject.common_name);
            return CertState::Missing { why };
        }
        Some(Err(e)) => return missing(e),
        None => return CertState::Missing { why: "the file is empty".to_owned() },
    }
    match chain.first().and_then(|c| validity(c)) {
        Some((_, not_after)) if not_after <= now => CertState::Expired { not_after },
        Some((not_before, not_after)) => CertState::Usable { not_before, not_after },
        None => CertState::Missing { why: "the certificate has no validity".to_owned() },
    }
}

fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    let at = |t: x509_parser::time::ASN1Time| Timestamp::from_second(t.timestamp()).ok();
    Some((at(validity.not_before)?, at(validity.not_after)?))
}

/// Completes a pair whose key was renamed and whose certificate was not.
pub(super) fn recover(settings: &CertSettings) -> Result<(), CertError> {
    let waiting = aside(&settings.cert_file);
    if waiting.exists()
        && tls::Identity::from_files(&settings.cert_file, &settings.key_file).is_err()
        && tls::Identity::from_files(&waiting, &settings.key_file).is_ok()
    {
        rename(&waiting, &settings.cert_file)?;
    }
    Ok(())
}

pub(super) fn write_ca(settings: &CertSettings, der: &[u8]) -> Result<(), CertError> {
    write_aside(&settings.ca_file, pem("CERTIFICATE", der).as_bytes())?;
    rename(&aside(&settings.ca_file), &settings.ca_file)
}

pub(super) fn write_pair(
    settings: &CertSettings,
    certificate: &[u8],
    key: &KeyPair,
) -> Result<(), CertError> {
    let key = sec1(&key.serialize_der(), key.public_key_raw()).map_or_else(
        || pem("PRIVATE KEY", &key.serialize_der()),
        |sec1| pem("EC PRIVATE KEY", &sec1),
    );
    write_aside(&settings.key_file, key.as_bytes())?;
    write_aside(&settings.cert_file, pem("CERTIFICATE", certificate).as_bytes())?;
    rename(&aside(&settings.key_file), &settings.key_file)?;
    rename(&aside(&settings.cert_file), &settings.cert_file)
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn write_aside(path: &Path, bytes: &[u8]) -> Result<(), CertError> {
    let refuse = |source| CertError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(refuse)?;
    }
    let name = aside(path);
    match fs::remove_file(&name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(refuse(e)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(name).map_err(refuse)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(refuse)
}

fn rename(from: &Path, to: &Path) -> Result<(), CertError> {
    let refuse = |source| CertError::File { path: to.to_owned(), source };
    fs::rename(from, to).map_err(refuse)?;
    match to.parent() {
        Some(folder) => File::open(folder).and_then(|f| f.sync_all()).map_err(refuse),
        None => Ok(()),
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// A P-256 key in the form of RFC 5915, which is all that a KubeEdge edgecore reads, from PKCS#8.
fn sec1(pkcs8: &[u8], public: &[u8]) -> Option<Vec<u8>> {
    const SECRET: [u8; 5] = [0x02, 0x01, 0x01, 0x04, 0x20];
    let at = pkcs8.windows(SECRET.len()).position(|w| w == SECRET)? + SECRET.len();
    let secret = pkcs8.get(at..at + 32)?;
    if public.len() != 65 {
        return None;
    }
    let mut der = vec![0x30, 0x77];
    der.extend(SECRET);
    der.extend(secret);
    // [0] prime256v1, [1] the public key.
    der.extend([0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
    der.extend([0xa1, 0x44, 0x03, 0x42, 0x00]);
    der.extend(public);
    Some(der)
}

/// Takes the token out of a configuration file, and leaves all else as it is.
///
/// # Errors
/// When the file cannot be read or written.
pub(super) fn blank_token(config: &Path, jwt: &str) -> Result<(), CertError> {
    let refuse = |source| CertError::File { path: config.to_owned(), source };
    let text = fs::read_to_string(config).map_err(refuse)?;
    let mut changed = false;
    let lines: Vec<String> = text
        .split_inclusive('\n')
        .map(|line| match line.split_once("token:") {
            Some((indent, value)) if value.contains(jwt) && indent.trim().is_empty() => {
                changed = true;
                format!("{indent}token: \"\"\n")
            }
            _ => line.to_owned(),
        })
        .collect();
    if !changed {
        return Ok(());
    }
    write_aside(config, lines.concat().as_bytes())?;
    rename(&aside(config), config)
}
