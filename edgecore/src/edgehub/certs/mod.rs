//! The node's certificate: from a token, and renewed before it expires.
//!
//! Owns: the files of the CA, the certificate and its key; what a token says.
//! Called by: `app.rs` (obtain, keep), `keadm join` (bootstrap as one of its phases).
//! Never: writes a key or a token into a log, or leaves a key that does not belong to the certificate.

mod files;
mod http;
mod keep;
mod token;

use std::path::PathBuf;
use std::time::Duration;

use ::http::StatusCode;
use api::names::NodeName;
use api::wire::handshake;
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use service::tls::{self, ServerTrust, TlsError};

use super::link::LinkError;
pub(crate) use keep::Keeper;
pub use token::Token;

/// Where the certificate service is and where the files are.
#[derive(Debug, Clone)]
pub struct CertSettings {
    /// `https://host:port`
    pub http_server: String,
    /// The node's name.
    pub node: NodeName,
    /// The CA certificate (`tlsCaFile`).
    pub ca_file: PathBuf,
    /// The node's certificate (`tlsCertFile`).
    pub cert_file: PathBuf,
    /// Its key (`tlsPrivateKeyFile`).
    pub key_file: PathBuf,
    /// A file whose content, if there is one, is a token.
    pub bootstrap_file: PathBuf,
    /// The token in the configuration.
    pub token: Option<Token>,
    /// A request may take this long.
    pub limit: Duration,
}

/// Why the node has no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// No certificate and nothing to get one with.
    #[error(
        "this node has no certificate in `{cert_file}` and no token to get one; run `keadm gettoken` \
         on the cloud side and `keadm join` here"
    )]
    NoToken {
        /// Where the certificate should be.
        cert_file: PathBuf,
    },
    /// The certificate is too old, and there is no token.
    #[error(
        "the certificate of this node expired at {at}; run `keadm gettoken` on the cloud side and \
         put the token into `{bootstrap_file}`"
    )]
    Expired {
        /// When.
        at: Timestamp,
        /// Where a token would be looked for.
        bootstrap_file: PathBuf,
    },
    /// The token is not of the form of one.
    #[error(
        "the token is not of the form `<CA hash>.<header>.<claims>.<signature>`; copy all that \
         `keadm gettoken` prints"
    )]
    TokenForm,
    /// The token is too old.
    #[error("the token expired at {at}; run `keadm gettoken` on the cloud side for a new one")]
    TokenExpired {
        /// When.
        at: Timestamp,
    },
    /// The cloud does not take the token.
    #[error(
        "the cloud at `{server}` refuses the token ({reason}); run `keadm gettoken` on the cloud \
         side for a new one, and check both clocks"
    )]
    TokenRefused {
        /// Where.
        server: String,
        /// What the cloud said.
        reason: String,
    },
    /// The CA is another one.
    #[error(
        "the CA of `{server}` is not the one that the token is for (its SHA-256 is {found}, the token \
         says {wanted}): check the address, or run `keadm gettoken` on the cloud side for a new token"
    )]
    OtherCa {
        /// Where.
        server: String,
        /// The hash of what the server sent.
        found: String,
        /// The hash in the token.
        wanted: String,
    },
    /// The cloud refuses for another reason.
    #[error("the cloud at `{server}` gave no certificate for this node: {status}: {reason}")]
    Refused {
        /// Where.
        server: String,
        /// HTTP status.
        status: StatusCode,
        /// What the cloud said.
        reason: String,
    },
    /// The cloud sent something else than a certificate for this node.
    #[error("the cloud at `{server}` sent a certificate that is of no use: {why}")]
    BadAnswer {
        /// Where.
        server: String,
        /// What is wrong with it.
        why: String,
    },
    /// The cloud cannot be reached or is another one.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A file cannot be read or written.
    #[error("cannot use `{path}`")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A key or a request for a certificate cannot be made.
    #[error("cannot make a key and a certificate request")]
    Make(#[from] rcgen::Error),
    /// TLS material cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl CertError {
    /// Whether the same try can succeed later with nobody doing anything.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Link(e) => !e.is_refusal(),
            Self::Refused { status, .. } => status.is_server_error(),
            _ => false,
        }
    }
}

/// What is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertState {
    /// A certificate for this node with its key.
    Usable {
        /// Valid from.
        not_before: Timestamp,
        /// Valid until.
        not_after: Timestamp,
    },
    /// It was valid once.
    Expired {
        /// Until then.
        not_after: Timestamp,
    },
    /// None, or one of another node, or one without its key.
    Missing {
        /// What is wrong, for the log.
        why: String,
    },
}

impl CertSettings {
    /// Looks at the files. A pair of which a crash left one half behind is completed.
    ///
    /// # Errors
    /// When a file cannot be renamed.
    pub fn state(&self, now: Timestamp) -> Result<CertState, CertError> {
        files::recover(self)?;
        Ok(files::state(self, now))
    }

    /// The token: the bootstrap file's, or else the configuration's.
    ///
    /// # Errors
    /// When the bootstrap file holds something that is no token, or cannot be read.
    pub fn current_token(&self) -> Result<Option<Token>, CertError> {
        match std::fs::read_to_string(&self.bootstrap_file) {
            Ok(text) if !text.trim().is_empty() => text.trim().parse().map(Some),
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(CertError::File { path: self.bootstrap_file.clone(), source: e })
            }
            _ => Ok(self.token.clone()),
        }
    }

    /// Gets the CA and a certificate with a token, and writes the three files.
    ///
    /// # Errors
    /// Says what is wrong and what to do about it; the files are as they were then.
    pub async fn bootstrap(&self, token: &Token) -> Result<(), CertError> {
        let ca = self.fetch_ca(token).await?;
        let (key, csr) = self.request()?;
        let trust = ServerTrust::Roots(tls::roots([ca.clone().into()])?);
        let tls = tls::client_config(trust, None, &[b"http/1.1"])?;
        let headers = [
            ("authorization", format!("Bearer {}", token.jwt())),
            ("nodename", self.node.to_string()),
        ];
        let answer = http::get(self, tls, "/edge.crt", &headers, csr).await?;
        let certificate = match answer.status {
            StatusCode::OK => answer.body,
            StatusCode::UNAUTHORIZED => return Err(self.token_refused(token, &answer)),
            _ => return Err(self.refused(&answer)),
        };
        self.check(&certificate, &key)?;
        files::write_ca(self, &ca)?;
        files::write_pair(self, &certificate, &key)?;
        Ok(())
    }

    /// Gets a new certificate with the present one, and writes the pair.
    ///
    /// # Errors
    /// Says what is wrong; the files are as they were then.
    pub async fn rotate(&self) -> Result<(), CertError> {
        let (key, csr) = self.request()?;
        let identity = tls::Identity::from_files(&self.cert_file, &self.key_file)?;
        let trust = ServerTrust::Roots(tls::roots(tls::load_certificates(&self.ca_file)?)?);
        let tls = tls::client_config(trust, Some(&identity), &[b"http/1.1"])?;
        let headers = [("nodename", self.node.to_string())];
        let answer = http::get(self, tls, "/edge.crt", &headers, csr).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(&answer));
        }
        self.check(&answer.body, &key)?;
        files::write_pair(self, &answer.body, &key)
    }

    /// The CA certificate, if it is the one that the token names.
    async fn fetch_ca(&self, token: &Token) -> Result<Vec<u8>, CertError> {
        let tls = tls::client_config(ServerTrust::Unverified, None, &[b"http/1.1"])?;
        let answer = http::get(self, tls, "/ca.crt", &[], Vec::new()).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(&answer));
        }
        let found = token::hex(ring::digest::digest(&ring::digest::SHA256, &answer.body).as_ref());
        if found != token.ca_hash() {
            let wanted = token.ca_hash().to_owned();
            return Err(CertError::OtherCa { server: self.http_server.clone(), found, wanted });
        }
        Ok(answer.body)
    }

    fn request(&self) -> Result<(KeyPair, Vec<u8>), CertError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CountryName, "CN");
        subject.push(DnType::OrganizationName, "system:nodes");
        subject.push(DnType::LocalityName, "Hangzhou");
        subject.push(DnType::StateOrProvinceName, "Zhejiang");
        subject.push(DnType::CommonName, handshake::common_name(&self.node));
        params.distinguished_name = subject;
        let csr = params.serialize_request(&key)?.der().to_vec();
        Ok((key, csr))
    }

    /// The certificate must be for this node and for the key that was made for it.
    fn check(&self, certificate: &[u8], key: &KeyPair) -> Result<(), CertError> {
        let bad = |why: String| CertError::BadAnswer { server: self.http_server.clone(), why };
        let subject = tls::subject(certificate).map_err(|e| bad(e.to_string()))?;
        let wanted = handshake::common_name(&self.node);
        if subject.common_name != wanted {
            return Err(bad(format!("it is for `{}`, not for `{wanted}`", subject.common_name)));
        }
        let key = tls::private_key(&key.serialize_der(), "the new key")?;
        tls::Identity::new(vec![certificate.to_vec().into()], key, "the new certificate")
            .map(drop)
            .map_err(|e| bad(service::error_chain(&e)))
    }

    fn token_refused(&self, token: &Token, answer: &http::Answer) -> CertError {
        match token.expires() {
            Some(at) if at <= Timestamp::now() => CertError::TokenExpired { at },
            _ => CertError::TokenRefused {
                server: self.http_server.clone(),
                reason: answer.reason(),
            },
        }
    }

    fn refused(&self, answer: &http::Answer) -> CertError {
        CertError::Refused {
            server: self.http_server.clone(),
            status: answer.status,
            reason: answer.reason(),
        }
    }
}

#[cfg(test)]
mod tests;
