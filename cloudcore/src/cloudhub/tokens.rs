//! Tokens with which an edge node joins.
//!
//! The form is KubeEdge's: `hex(sha256(CA certificate)) . JWT`, signed with HMAC under the CA's
//! private key in SEC 1 form. Ours also carry an id (`jti`), which KubeEdge's edges ignore; a token
//! without one is known by its hash. Several tokens may be valid at one time. What was issued here,
//! and what was revoked, is in the Secret [`LEDGER`], under each token's id; the tokens themselves
//! are not in it.
//!
//! Owns: making, reading and judging tokens; the ledger's form.
//! Called by: `certs.rs` (issues, lists, revokes), `bootstrap.rs` (judges).
//! Never: prints a token.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};

/// The Secret with the ids of issued and revoked tokens.
pub const LEDGER: &str = "edgetokens";

/// A whole token. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The text to hand to an edge node.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What names a token in lists; not secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenId(pub String);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of an issued token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Seconds since the Unix epoch.
    pub expires: i64,
    /// Seconds since the Unix epoch; 0 if it was not issued here.
    #[serde(default)]
    pub created: i64,
    /// Why it was made: `automatic`, or a word of the operator's.
    #[serde(default)]
    pub purpose: String,
    /// It is refused, although it has not expired.
    #[serde(default)]
    pub revoked: bool,
}

/// Why a token is refused. The beginning of each text is what KubeEdge says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No header.
    #[error("token validation failure, token is empty")]
    Empty,
    /// Not two words.
    #[error("token validation failure, token cannot be split")]
    Split,
    /// Not a JWT, or not one of ours.
    #[error("token validation failure, err: token is malformed: {0}")]
    Malformed(&'static str),
    /// Made by another CA, or changed.
    #[error(
        "token validation failure, err: token signature is invalid: signature is invalid; it was made for another cloudcore or by an earlier CA; run `keadm gettoken` on the cloud side for a new one"
    )]
    Signature,
    /// Too old.
    #[error(
        "token validation failure, err: token has invalid claims: token is expired since {0}; run `keadm gettoken` on the cloud side for a new one"
    )]
    Expired(jiff::Timestamp),
    /// Revoked.
    #[error(
        "token validation failure, err: token `{0}` is revoked; run `keadm gettoken` on the cloud side for a new one"
    )]
    Revoked(TokenId),
}

#[derive(Serialize, Deserialize)]
struct Claims {
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// Makes a token that expires at `expires` (seconds since the epoch).
pub fn issue(ca_der: &[u8], ca_key_sec1: &[u8], now: i64, expires: i64) -> (Token, TokenId) {
    let random: [u8; 8] = rand::random();
    let id = hex(&random);
    let claims = Claims { exp: expires, iat: Some(now), jti: Some(id.clone()) };
    // Numbers and strings always have a JSON form.
    let claims = serde_json::to_vec(&claims).unwrap_or_default();
    let head = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, ca_key_sec1);
    let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    (Token(format!("{}.{signed}.{mac}", ca_hash(ca_der))), TokenId(id))
}

/// A token that has been checked against everything but the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its id.
    pub id: TokenId,
    /// When it expires.
    pub expires: i64,
}

/// Judges the JWT part of a token, as it comes in the header `Authorization`.
///
/// # Errors
/// When it is malformed, not signed with this CA's key, or expired at `now`.
pub fn check(jwt: &str, ca_key_sec1: &[u8], now: i64) -> Result<Checked, TokenError> {
    let parts: Vec<&str> = jwt.split('.').collect();
    let [head, claims, mac] = parts[..] else {
        return Err(TokenError::Malformed("token contains an invalid number of segments"));
    };
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part.trim_end_matches('='));
    let parsed = bytes(head).ok().and_then(|h| serde_json::from_slice::<Header>(&h).ok());
    let header = parsed.ok_or(TokenError::Malformed("could not decode header"))?;
    let algorithm = match header.alg.as_str() {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => return Err(TokenError::Malformed("its signing method is not HMAC")),
    };
    let mac = bytes(mac).map_err(|_| TokenError::Malformed("could not decode signature"))?;
    let key = hmac::Key::new(algorithm, ca_key_sec1);
    hmac::verify(&key, format!("{head}.{claims}").as_bytes(), &mac)
        .map_err(|_| TokenError::Signature)?;
    let parsed = bytes(claims).ok().and_then(|c| serde_json::from_slice::<Claims>(&c).ok());
    let claims = parsed.ok_or(TokenError::Malformed("could not decode claims"))?;
    if now >= claims.exp {
        let at = jiff::Timestamp::from_second(claims.exp).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        return Err(TokenError::Expired(at));
    }
    Ok(Checked { id: claims.jti.map_or_else(|| id_of(jwt), TokenId), expires: claims.exp })
}

/// Takes the JWT out of the value of the header `Authorization`.
///
/// # Errors
/// When it is absent, or is not two words.
pub fn bearer(header: Option<&str>) -> Result<&str, TokenError> {
    let header = header.filter(|h| !h.is_empty()).ok_or(TokenError::Empty)?;
    let mut words = header.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some(_), Some(jwt), None) => Ok(jwt),
        _ => Err(TokenError::Split),
    }
}

/// The JWT part of a whole token, if it is one of the CA given.
pub fn jwt_of<'a>(token: &'a str, ca_der: &[u8]) -> Option<&'a str> {
    let (hash, jwt) = token.split_once('.')?;
    (hash == ca_hash(ca_der)).then_some(jwt)
}

/// What a token begins with.
pub fn ca_hash(ca_der: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, ca_der).as_ref())
}

/// The id of a token that carries none.
fn id_of(jwt: &str) -> TokenId {
    TokenId(hex(&digest::digest(&digest::SHA256, jwt.as_bytes()).as_ref()[..8]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Issued and revoked tokens by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger(pub BTreeMap<TokenId, Issued>);

impl Ledger {
    /// Reads the Secret's data; an entry that cannot be read counts as revoked.
    pub fn read(data: &BTreeMap<String, Vec<u8>>) -> Self {
        let revoked =
            || Issued { expires: i64::MAX, created: 0, purpose: String::new(), revoked: true };
        let entry = |(id, bytes): (&String, &Vec<u8>)| {
            (TokenId(id.clone()), serde_json::from_slice(bytes).unwrap_or_else(|_| revoked()))
        };
        Self(data.iter().map(entry).collect())
    }

    /// The Secret's data.
    pub fn write(&self) -> BTreeMap<String, Vec<u8>> {
        let entry = |(id, issued): (&TokenId, &Issued)| {
            Some((id.0.clone(), serde_json::to_vec(issued).ok()?))
        };
        self.0.iter().filter_map(entry).collect()
    }

    /// Whether the token is refused.
    pub fn is_revoked(&self, id: &TokenId) -> bool {
        self.0.get(id).is_some_and(|t| t.revoked)
    }

    /// Lets go of what has expired anyway.
    pub fn prune(&mut self, now: i64) {
        self.0.retain(|_, t| t.expires > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by KubeEdge: CA, key, a token and one that has expired.
    fn golden() -> (Vec<u8>, Vec<u8>, serde_json::Value) {
        let text = include_str!("../../../api/tests/vectors/bootstrap/token.json");
        let golden: serde_json::Value = serde_json::from_str(text).unwrap();
        let bytes = |k: &str| {
            let text = golden[k].as_str().unwrap();
            base64::engine::general_purpose::STANDARD.decode(text).unwrap()
        };
        (bytes("ca_der_base64"), bytes("ca_key_sec1_der_base64"), golden)
    }

    const BEFORE: i64 = 1_795_300_000;

    #[test]
    fn a_token_of_kubeedge_is_good_here() {
        let (ca, key, golden) = golden();
        let jwt = jwt_of(golden["token"].as_str().unwrap(), &ca).unwrap();
        assert_eq!(jwt, golden["jwt"]);
        assert_eq!(check(jwt, &key, BEFORE).unwrap().expires, 1_795_407_574);
    }

    #[test]
    fn an_expired_token_is_refused_with_its_time_and_the_next_step() {
        let (ca, key, golden) = golden();
        let jwt = jwt_of(golden["token_expired"].as_str().unwrap(), &ca).unwrap();
        let text = check(jwt, &key, BEFORE).unwrap_err().to_string();
        let original = golden["errors"]["expired"].as_str().unwrap();
        assert!(text.contains(original), "{text}");
        assert!(text.contains("2026-11-21T04:19:34Z"), "{text}");
        assert!(text.contains("keadm gettoken"), "{text}");
    }

    #[test]
    fn a_token_made_here_is_good_until_it_expires() {
        let (ca, key, _) = golden();
        let (token, id) = issue(&ca, &key, 100, 200);
        assert_eq!(token.as_str().split('.').count(), 4);
        let jwt = jwt_of(token.as_str(), &ca).unwrap();
        assert_eq!(check(jwt, &key, 199).unwrap(), Checked { id, expires: 200 });
        assert!(matches!(check(jwt, &key, 200), Err(TokenError::Expired(_))));
        assert!(!format!("{token:?}").contains(jwt));
    }

    #[test]
    fn a_changed_token_and_one_of_another_key_are_refused() {
        let (ca, key, _) = golden();
        let (token, _) = issue(&ca, &key, 100, 200);
        let jwt = jwt_of(token.as_str(), &ca).unwrap();
        assert_eq!(check(jwt, b"other", 100), Err(TokenError::Signature));
        let parts: Vec<_> = jwt.split('.').collect();
        let forged = URL_SAFE_NO_PAD.encode(br#"{"exp":99999999999}"#);
        let forged = format!("{}.{forged}.{}", parts[0], parts[2]);
        assert_eq!(check(&forged, &key, 100), Err(TokenError::Signature));
        let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#);
        let none = format!("{none}.{}.", parts[1]);
        assert!(matches!(check(&none, &key, 100), Err(TokenError::Malformed(_))));
        for junk in ["", "a", "a.b", "a.b.c", "....", "\u{0}.\u{0}.\u{0}"] {
            assert!(check(junk, &key, 100).is_err(), "{junk:?}");
        }
    }

    #[test]
    fn the_header_has_two_words() {
        assert_eq!(bearer(Some("Bearer x.y.z")), Ok("x.y.z"));
        assert_eq!(bearer(None), Err(TokenError::Empty));
        assert_eq!(bearer(Some("")), Err(TokenError::Empty));
        assert_eq!(bearer(Some("Bearer")), Err(TokenError::Split));
        assert_eq!(bearer(Some("Bearer a b")), Err(TokenError::Split));
    }

    #[test]
    fn the_ledger_survives_its_secret_and_trusts_nothing_it_cannot_read() {
        let mut ledger = Ledger::default();
        let issued =
            |expires, revoked| Issued { expires, created: 1, purpose: "x".into(), revoked };
        ledger.0.insert(TokenId("a".into()), issued(100, false));
        ledger.0.insert(TokenId("b".into()), issued(300, true));
        let mut data = ledger.write();
        assert_eq!(Ledger::read(&data), ledger);
        data.insert("c".into(), b"junk".to_vec());
        let mut read = Ledger::read(&data);
        assert!(read.is_revoked(&TokenId("c".into())));
        assert!(read.is_revoked(&TokenId("b".into())));
        assert!(!read.is_revoked(&TokenId("a".into())));
        read.prune(200);
        assert!(!read.0.contains_key(&TokenId("a".into())));
    }
}
