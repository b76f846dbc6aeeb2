//! The CA, and the certificates of cloudcore and of edge nodes. Pure but for the clock.
//!
//! Owns: the CA's key; the form of each certificate, which is KubeEdge's.
//! Called by: `secrets.rs` at start, `bootstrap.rs` for each edge node.
//! Never: copies anything from a signing request but its key, names and organization, or shows a
//! key in `Debug`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use api::names::NodeName;
use api::wire::handshake;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use service::tls;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509CertificationRequest};

use super::sec1;

const DAY: Duration = Duration::from_secs(86_400);
/// 100 years of 364 days, as KubeEdge has it.
const CA_DAYS: i32 = 36_400;
const CA_SERIAL: u64 = 1024;

/// Why a certificate could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file or Secret holds something else.
    #[error("{what} cannot be used: {why}")]
    Unusable {
        /// File or Secret.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// The library refuses to sign.
    #[error("cannot sign a certificate")]
    Sign(#[from] rcgen::Error),
}

/// A certificate and its key in the forms of KubeEdge.
#[derive(Clone)]
pub struct Pair {
    /// DER.
    pub certificate: CertificateDer<'static>,
    /// DER: SEC 1 (or, from files, what they hold).
    pub(super) key: Vec<u8>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

impl Pair {
    /// For a TLS server.
    ///
    /// # Errors
    /// When certificate and key do not fit together.
    pub fn identity(&self, what: &str) -> Result<tls::Identity, CertError> {
        let unusable = |why: String| CertError::Unusable { what: what.to_owned(), why };
        let key = match sec1::to_pkcs8(&self.key) {
            Ok(pkcs8) => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8)),
            Err(_) => tls::private_key(&self.key, what).map_err(|e| unusable(e.to_string()))?,
        };
        tls::Identity::new(vec![self.certificate.clone()], key, what)
            .map_err(|e| unusable(service::error_chain(&e)))
    }
}

/// The authority that signs for edge nodes.
pub struct Ca {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").finish_non_exhaustive()
    }
}

/// Why a signing request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not PKCS#10 in DER.
    #[error("the body is not a certificate signing request in DER")]
    Malformed,
    /// Not signed with its own key: whoever sent it may not have the key.
    #[error("the signing request is not signed with its own key")]
    NotSelfSigned,
    /// The name is not that of the node.
    #[error("the signing request is for `{found}`, but the node asked for is `{wanted}`")]
    WrongName {
        /// In the request.
        found: String,
        /// From the header.
        wanted: String,
    },
    /// A certificate with which an edge node could pose as cloudcore.
    #[error("a certificate for servers may not bear cloudcore's own name `{0}`")]
    PosesAsCloud(String),
    /// The key is of a kind that cannot be signed.
    #[error("the signing request cannot be used: {0}")]
    Unsupported(String),
}

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usages {
    /// To prove who a client is.
    pub client: bool,
    /// To prove who a server is.
    pub server: bool,
}

impl Ca {
    /// A new one, in the form of KubeEdge.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn create() -> Result<Self, CertError> {
        let key = KeyPair::generate()?;
        let mut params = params("KubeEdge", None, CA_DAYS);
        params.serial_number = Some(SerialNumber::from(CA_SERIAL));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&key)?.der().clone();
        let key = key.serialize_der();
        Self::new(certificate, &key, "the new CA")
    }

    /// From a certificate and a key in DER.
    ///
    /// # Errors
    /// When they cannot be used or do not fit together.
    pub fn new(
        certificate: CertificateDer<'static>,
        key: &[u8],
        what: &str,
    ) -> Result<Self, CertError> {
        let unusable = |why: String| CertError::Unusable { what: what.to_owned(), why };
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|e| unusable(e.to_string()))?;
        if !parsed.is_ca() {
            return Err(unusable("the certificate is not that of a CA".to_owned()));
        }
        let sec1 = sec1::to_sec1(key).map_err(|e| unusable(e.to_string()))?;
        let pkcs8 = sec1::to_pkcs8(key).map_err(|e| unusable(e.to_string()))?;
        let pair = KeyPair::try_from(pkcs8.as_slice()).map_err(|e| unusable(e.to_string()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
            return Err(unusable("the key does not belong to the certificate".to_owned()));
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, pair).map_err(|e| unusable(e.to_string()))?;
        Ok(Self { pair: Pair { certificate, key: sec1 }, issuer })
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Whether it has signed a certificate that is good until `then`.
    pub(super) fn vouches_for(&self, certificate: &[u8], then: SystemTime) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
        let Ok((_, own)) = X509Certificate::from_der(&self.pair.certificate) else { return false };
        let Ok(then) = then.duration_since(SystemTime::UNIX_EPOCH) else { return false };
        let then = i64::try_from(then.as_secs()).unwrap_or(i64::MAX);
        parsed.validity().not_after.timestamp() > then
            && parsed.verify_signature(Some(own.public_key())).is_ok()
    }

    /// The certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.pair.certificate
    }

    /// What tokens are signed with.
    pub(super) fn token_key(&self) -> &[u8] {
        &self.pair.key
    }

    /// A certificate for cloudcore's own servers.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn issue_server(&self, names: &ServerNames) -> Result<Pair, CertError> {
        let key = KeyPair::generate()?;
        let mut params = params("KubeEdge", Some("KubeEdge".into()), CA_DAYS);
        params.subject_alt_names = names.sans()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = sec1::to_sec1(&key.serialize_der()).map_err(|e| CertError::Unusable {
            what: "the new server key".to_owned(),
            why: e.to_string(),
        })?;
        Ok(Pair { certificate, key })
    }

    /// Signs what an edge node asks for: a certificate in its own name.
    ///
    /// # Errors
    /// When the request is not its own, not for that node, or could be used against cloudcore.
    pub fn issue_edge(
        &self,
        csr: &[u8],
        node: &NodeName,
        usages: Usages,
        days: i32,
        own: &ServerNames,
    ) -> Result<CertificateDer<'static>, CsrError> {
        let request = EdgeRequest::read(csr)?;
        let wanted = handshake::common_name(node);
        if request.common_name != wanted {
            return Err(CsrError::WrongName { found: request.common_name, wanted });
        }
        if usages.server {
            let names = ServerNames::of_sans(&request.sans);
            if let Some(name) = names.first_of(own) {
                return Err(CsrError::PosesAsCloud(name));
            }
        }
        let mut params = params(&wanted, request.organization, days);
        params.subject_alt_names = request.sans;
        if usages.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        if usages.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let unsupported = |e: rcgen::Error| CsrError::Unsupported(e.to_string());
        let signed = params.signed_by(&request.key, &self.issuer).map_err(unsupported)?;
        Ok(signed.der().clone())
    }
}

/// A template as all certificates here have it.
fn params(cn: &str, organization: Option<DnValue>, days: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, cn);
    let now = SystemTime::now();
    params.not_before = now.into();
    params.not_after = (now + DAY * days.max(1).unsigned_abs()).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    // Positive and below 2^63, as KubeEdge draws it.
    params.serial_number = Some(SerialNumber::from(rand::random::<u64>() >> 1 | 1));
    params
}

/// What is taken from a signing request, and nothing else.
struct EdgeRequest {
    common_name: String,
    organization: Option<DnValue>,
    sans: Vec<SanType>,
    key: rcgen::SubjectPublicKeyInfo,
}

impl EdgeRequest {
    fn read(der: &[u8]) -> Result<Self, CsrError> {
        let (rest, csr) =
            X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed);
        }
        csr.verify_signature().map_err(|_| CsrError::NotSelfSigned)?;
        let info = &csr.certification_request_info;
        let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            a.as_str().map(str::to_owned).map_err(|_| CsrError::Malformed)
        };
        let mut names = info.subject.iter_common_name();
        let common_name = names.next().map_or_else(|| Ok(String::new()), text)?;
        if names.next().is_some() {
            return Err(CsrError::Malformed);
        }
        let organization = info.subject.iter_organization().next().map(text).transpose()?;
        let mut sans = Vec::new();
        for extension in csr.requested_extensions().into_iter().flatten() {
            if let x509_parser::extensions::ParsedExtension::SubjectAlternativeName(names) =
                extension
            {
                for name in &names.general_names {
                    sans.extend(san(name)?);
                }
            }
        }
        let key = rcgen::SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .map_err(|e| CsrError::Unsupported(e.to_string()))?;
        Ok(Self { common_name, organization: organization.map(Into::into), sans, key })
    }
}

/// DNS names and addresses; other kinds of names are left out, as KubeEdge does.
fn san(name: &GeneralName<'_>) -> Result<Option<SanType>, CsrError> {
    Ok(match name {
        GeneralName::DNSName(dns) => {
            let dns = (*dns).try_into().map_err(|_| CsrError::Malformed)?;
            Some(SanType::DnsName(dns))
        }
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(SanType::IpAddress(v4.into())),
            Err(_) => {
                let v6 = <[u8; 16]>::try_from(*bytes).map_err(|_| CsrError::Malformed)?;
                Some(SanType::IpAddress(v6.into()))
            }
        },
        _ => None,
    })
}

/// The names by which edge nodes may dial cloudcore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// Lower-case.
    dns: BTreeSet<String>,
    ips: BTreeSet<IpAddr>,
}

impl ServerNames {
    /// From `advertiseAddress` and `dnsNames`; empty entries, of which KubeEdge's defaults have
    /// one, mean nothing. An address that is no IP counts as a name, so that it works.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for name in names.into_iter().map(str::trim).filter(|n| !n.is_empty()) {
            match IpAddr::from_str(name) {
                Ok(ip) => all.ips.insert(ip),
                Err(_) => all.dns.insert(name.to_ascii_lowercase()),
            };
        }
        all
    }

    /// Those that a certificate has.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn of_certificate(der: &[u8]) -> Result<Self, CertError> {
        let unusable =
            |why: String| CertError::Unusable { what: "the server certificate".to_owned(), why };
        let (_, parsed) = X509Certificate::from_der(der).map_err(|e| unusable(e.to_string()))?;
        let mut all = Self::default();
        let names = parsed.subject_alternative_name().map_err(|e| unusable(e.to_string()))?;
        for name in names.iter().flat_map(|n| &n.value.general_names) {
            match name {
                GeneralName::DNSName(dns) if !dns.is_empty() => {
                    all.dns.insert(dns.to_ascii_lowercase());
                }
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                    all.ips.extend(ip.ok());
                }
                _ => {}
            }
        }
        Ok(all)
    }

    fn of_sans(sans: &[SanType]) -> Self {
        let mut all = Self::default();
        for san in sans {
            match san {
                SanType::DnsName(dns) => {
                    all.dns.insert(dns.as_str().to_ascii_lowercase());
                }
                SanType::IpAddress(ip) => {
                    all.ips.insert(*ip);
                }
                _ => {}
            }
        }
        all
    }

    fn sans(&self) -> Result<Vec<SanType>, CertError> {
        let mut sans = Vec::new();
        for dns in &self.dns {
            let name = dns.as_str().try_into().map_err(|_| CertError::Unusable {
                what: format!("the name `{dns}` in `modules.cloudHub.dnsNames`"),
                why: "it is not a DNS name".to_owned(),
            })?;
            sans.push(SanType::DnsName(name));
        }
        sans.extend(self.ips.iter().map(|ip| SanType::IpAddress(*ip)));
        Ok(sans)
    }

    /// Whether all of `wanted` are among these.
    pub fn covers(&self, wanted: &Self) -> bool {
        wanted.dns.is_subset(&self.dns) && wanted.ips.is_subset(&self.ips)
    }

    /// A name that both have; a wildcard here counts for all it matches.
    fn first_of(&self, other: &Self) -> Option<String> {
        let ip = self.ips.intersection(&other.ips).next().map(ToString::to_string);
        let matches = |mine: &str, theirs: &str| {
            mine == theirs || mine.strip_prefix('*').is_some_and(|suffix| theirs.ends_with(suffix))
        };
        ip.or_else(|| {
            let clash = |mine: &&String| other.dns.iter().any(|theirs| matches(mine, theirs));
            self.dns.iter().find(clash).cloned()
        })
    }
}

impl fmt::Display for ServerNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> =
            self.dns.iter().cloned().chain(self.ips.iter().map(ToString::to_string)).collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests;
