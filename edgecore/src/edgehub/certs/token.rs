//! A bootstrap token: the hash of the CA, and a JSON web token that the cloud checks.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;

use super::CertError;

/// A token, as `keadm gettoken` prints it. `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    ca_hash: Box<str>,
    jwt: Box<str>,
}

impl FromStr for Token {
    type Err = CertError;

    fn from_str(text: &str) -> Result<Self, CertError> {
        let (ca_hash, jwt) = text.trim().split_once('.').ok_or(CertError::TokenForm)?;
        let hash_ok = ca_hash.len() == 64 && ca_hash.bytes().all(|b| b.is_ascii_hexdigit());
        let part_ok = |p: &str| {
            let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !p.is_empty() && p.bytes().all(word)
        };
        let parts: Vec<&str> = jwt.split('.').collect();
        if !hash_ok || parts.len() != 3 || !parts.into_iter().all(part_ok) {
            return Err(CertError::TokenForm);
        }
        Ok(Self { ca_hash: ca_hash.to_ascii_lowercase().into(), jwt: jwt.into() })
    }
}

impl Token {
    /// Hex SHA-256 of the CA certificate.
    pub fn ca_hash(&self) -> &str {
        &self.ca_hash
    }

    /// When it says that it expires. Only the cloud can check that.
    pub fn expires(&self) -> Option<Timestamp> {
        #[derive(Deserialize)]
        struct Claims {
            exp: f64,
        }
        let claims = URL_SAFE_NO_PAD.decode(self.jwt.split('.').nth(1)?).ok()?;
        let claims: Claims = serde_json::from_slice(&claims).ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "out of range is an error just below")]
        Timestamp::from_second(claims.exp as i64).ok()
    }

    /// What the cloud is shown.
    pub(super) fn jwt(&self) -> &str {
        &self.jwt
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(for CA {})", &self.ca_hash[..8])
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
