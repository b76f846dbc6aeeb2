//! Who the peer is: names in its certificate, and the two verifiers that look only at possession.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsError, provider};

/// The names in a certificate's subject that mean something here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// CN, for example `system:node:edge-1`.
    pub common_name: String,
    /// All O, for example `system:nodes`.
    pub organizations: Vec<String>,
}

/// The subject of a certificate in DER. The certificate must have been verified before.
///
/// # Errors
/// When it does not parse, or has more than one CN.
pub fn subject(certificate: &[u8]) -> Result<Subject, TlsError> {
    let malformed = |reason: String| TlsError::Malformed { reason };
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|e| malformed(e.to_string()))?;
    let subject = parsed.subject();
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute.as_str().map(str::to_owned).map_err(|e| malformed(e.to_string()))
    };
    let names: Vec<String> = subject.iter_common_name().map(text).collect::<Result<_, _>>()?;
    // Two names would let one reader see one and the next reader the other.
    let common_name = match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        _ => return Err(malformed("its subject has more than one common name".to_owned())),
    };
    let organizations = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
    Ok(Subject { common_name, organizations })
}

/// The subject of the peer of a finished handshake:
/// `peer_subject(stream.get_ref().1.peer_certificates())`. `None`: it showed no certificate.
///
/// # Errors
/// When its certificate does not parse.
pub fn peer_subject(chain: Option<&[CertificateDer<'_>]>) -> Result<Option<Subject>, TlsError> {
    chain.and_then(<[_]>::first).map(|c| subject(c)).transpose()
}

/// Checks a client's certificate chain against CAs: signature, validity at `now`, and that it is
/// meant for clients. For servers that use [`super::ClientAuth::Requested`].
///
/// # Errors
/// When rustls does not accept it.
pub fn verify_client(
    chain: &[CertificateDer<'_>],
    roots: Arc<RootCertStore>,
    now: UnixTime,
) -> Result<(), TlsError> {
    let Some((end_entity, intermediates)) = chain.split_first() else {
        return Err(TlsError::NoCertificate { what: "the client's chain".to_owned() });
    };
    WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|e| TlsError::Refused(Error::General(e.to_string())))?
        .verify_client_cert(end_entity, intermediates, now)
        .map(|_| ())
        .map_err(TlsError::Refused)
}

/// Accepts any client certificate whose key the client holds.
#[derive(Debug)]
pub(super) struct AnyClient(WebPkiSupportedAlgorithms);

impl AnyClient {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Accepts any server certificate whose key the server holds.
#[derive(Debug)]
pub(super) struct AnyServer(WebPkiSupportedAlgorithms);

impl AnyServer {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
