//! rustls configurations: TLS 1.2 or newer, ring, certificates that can change while they are used.
//!
//! Owns: what "mutual TLS" means here, and how a key file of any kind is read.
//! Called by: everything that opens or accepts a TLS connection.
//! Never: decides what a peer may do; it only says who the peer is.

mod identity;
mod load;
mod verify;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;

pub use identity::Identity;
pub use load::{certificates, load_certificates, load_private_key, private_key};
pub use verify::{Subject, peer_subject, subject, verify_client};

/// Why a TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Its path.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Bytes that hold no certificate.
    #[error("{what} holds no certificate in PEM or DER")]
    NoCertificate {
        /// The file, or what the bytes are.
        what: String,
    },
    /// Bytes that hold no private key.
    #[error("{what} holds no private key (SEC 1, PKCS#8 or PKCS#1, in PEM or DER)")]
    NoPrivateKey {
        /// The file, or what the bytes are.
        what: String,
    },
    /// rustls refuses the certificate, the key, or the two together.
    #[error("the certificate and key of {what} cannot be used")]
    Unusable {
        /// The files, or what the bytes are.
        what: String,
        /// The cause.
        #[source]
        source: rustls::Error,
    },
    /// A certificate does not parse.
    #[error("a certificate does not parse: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// The set of trusted certificates is empty.
    #[error("there is no CA certificate to trust")]
    NoRoots,
    /// rustls refuses the configuration.
    #[error("the TLS configuration is refused")]
    Refused(#[source] rustls::Error),
}

/// The one provider of cryptography in this program.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The trusted CA certificates.
///
/// # Errors
/// When there is none, or one does not parse.
pub fn roots<'a>(
    cas: impl IntoIterator<Item = CertificateDer<'a>>,
) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for ca in cas {
        store.add(ca).map_err(|e| TlsError::Malformed { reason: e.to_string() })?;
    }
    if store.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(Arc::new(store))
}

/// What a server asks of its clients.
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// No certificate.
    None,
    /// A certificate may be shown, and is then verified against these CAs.
    Optional(Arc<RootCertStore>),
    /// A certificate must be shown and is verified against these CAs.
    Required(Arc<RootCertStore>),
    /// A certificate may be shown; TLS proves only that the client holds its key. Whoever uses it
    /// calls [`verify_client`]. This is Go's `RequestClientCert`: a client with an old certificate
    /// gets an answer, not a broken handshake.
    Requested,
}

/// A server's configuration. `alpn` for example `[b"h2", b"http/1.1"]`; empty for raw protocols.
///
/// # Errors
/// When rustls refuses the CAs.
pub fn server_config(
    identity: &Identity,
    clients: ClientAuth,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Refused)?;
    let verifier = |roots| WebPkiClientVerifier::builder_with_provider(roots, provider());
    let refused = |e: rustls::server::VerifierBuilderError| {
        TlsError::Refused(rustls::Error::General(e.to_string()))
    };
    let builder = match clients {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Optional(roots) => builder.with_client_cert_verifier(
            verifier(roots).allow_unauthenticated().build().map_err(refused)?,
        ),
        ClientAuth::Required(roots) => {
            builder.with_client_cert_verifier(verifier(roots).build().map_err(refused)?)
        }
        ClientAuth::Requested => {
            builder.with_client_cert_verifier(Arc::new(verify::AnyClient::new(provider())))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(identity.clone()));
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

/// How a client knows that it speaks to the right server.
#[derive(Debug, Clone)]
pub enum ServerTrust {
    /// The certificate is valid for the name dialled and leads to one of these CAs.
    Roots(Arc<RootCertStore>),
    /// Any certificate. Only for fetching a CA certificate whose hash is then compared with a token.
    Unverified,
}

/// A client's configuration; with an identity, for mutual TLS.
///
/// # Errors
/// When rustls refuses it.
pub fn client_config(
    trust: ServerTrust,
    identity: Option<&Identity>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Refused)?;
    let builder = match trust {
        ServerTrust::Roots(roots) => builder.with_root_certificates(roots),
        ServerTrust::Unverified => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verify::AnyServer::new(provider()))),
    };
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity.clone())),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

#[cfg(test)]
mod tests;
