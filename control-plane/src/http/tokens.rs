//! Bearer tokens: service accounts' and bootstrap tokens.
//!
//! Owns: the signing key, making and checking of tokens. Called by: `auth`, TokenRequest, TokenReview.
//! Never: logs or keeps a token.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde_json::{Value, json};

use super::auth::User;
use crate::plane::Plane;
use crate::registry::meta;
use crate::store::Key;

/// Who issues the tokens, and whom they are for unless said otherwise.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// A token longer than this is not looked at.
pub(crate) const LIMIT: usize = 16 * 1024;

/// The key of service account tokens.
pub(crate) struct Signer {
    pair: EcdsaKeyPair,
    key_id: String,
    random: SystemRandom,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Signer {
    /// Takes a PKCS#8 P-256 key; none if it is not one.
    pub(crate) fn new(pkcs8: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref());
        Some(Self { pair, key_id: URL_SAFE_NO_PAD.encode(digest), random })
    }

    /// Makes a token of claims.
    pub(crate) fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self.pair.sign(&self.random, text.as_bytes()).ok()?;
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a token that this key has signed.
    pub(crate) fn verify(&self, token: &str) -> Option<Value> {
        if token.len() > LIMIT {
            return None;
        }
        let (text, signature) = token.rsplit_once('.')?;
        let (header, claims) = text.split_once('.')?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        key.verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    /// The public key as a JSON web key set.
    pub(crate) fn key_set(&self) -> Value {
        // An uncompressed point: 4, then 32 bytes each.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}]})
    }
}

/// The groups of every service account of a namespace.
pub(crate) fn groups(namespace: &str) -> [String; 2] {
    ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

/// What a token is bound to beside its account.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bound {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The node of a bound pod, and its uid.
    pub(crate) node: Option<(String, String)>,
}

/// Makes a token for an account.
pub(crate) fn issue(
    signer: &Signer,
    account: &Value,
    audiences: &[String],
    seconds: i64,
    bound: Option<&Bound>,
    now: jiff::Timestamp,
) -> Option<String> {
    let (namespace, name) = (meta::namespace(account), meta::name(account));
    let mut private = json!({"namespace": namespace, "serviceaccount": {"name": name, "uid": meta::uid(account)}});
    if let Some(b) = bound {
        private[b.kind.to_lowercase()] = json!({"name": b.name, "uid": b.uid});
        if let Some((node, uid)) = &b.node {
            private["node"] = json!({"name": node, "uid": uid});
        }
    }
    let (iat, id) = (now.as_second(), uuid::Uuid::new_v4().to_string());
    signer.sign(&json!({
        "iss": ISSUER, "sub": format!("system:serviceaccount:{namespace}:{name}"), "aud": audiences,
        "iat": iat, "nbf": iat, "exp": iat + seconds, "jti": id, "kubernetes.io": private,
    }))
}

/// Who issues the tokens that secrets hold.
const LASTING_ISSUER: &str = "kubernetes/serviceaccount";
const LASTING: &str = "kubernetes.io/serviceaccount";

/// Makes a token that is good for as long as the secret that holds it is there.
pub(crate) fn issue_lasting(signer: &Signer, account: &Value, secret: &str) -> Option<String> {
    let (namespace, name) = (meta::namespace(account), meta::name(account));
    signer.sign(&json!({
        "iss": LASTING_ISSUER,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
        format!("{LASTING}/namespace"): namespace,
        format!("{LASTING}/secret.name"): secret,
        format!("{LASTING}/service-account.name"): name,
        format!("{LASTING}/service-account.uid"): meta::uid(account),
    }))
}

/// Whom a token of a secret belongs to: the secret has to be there and hold this very token.
fn lasting(plane: &Plane, token: &str, claims: &Value, audiences: &[String]) -> Option<User> {
    let of = |f: &str| claims[format!("{LASTING}/{f}")].as_str();
    if !audiences.is_empty() && !audiences.iter().any(|a| a == ISSUER) {
        return None;
    }
    let namespace = of("namespace")?;
    let key = Key::new(&"core/secrets".into(), namespace, of("secret.name")?);
    let secret = plane.store.get(&key)?.value();
    let held = secret["data"]["token"].as_str()?;
    let held = base64::engine::general_purpose::STANDARD.decode(held).ok()?;
    if meta::is_terminating(&secret) || held != token.as_bytes() {
        return None;
    }
    let (name, uid) = (of("service-account.name")?, of("service-account.uid")?);
    exists(plane, "core/serviceaccounts", namespace, &json!({"name": name, "uid": uid}))?;
    let mut all = groups(namespace).to_vec();
    all.push("system:authenticated".to_owned());
    Some(User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid: uid.to_owned(),
        groups: all,
        extra: BTreeMap::new(),
    })
}

/// Whom a token belongs to, if it is good for one of the audiences (none: for this server).
pub(crate) fn authenticate(plane: &Plane, token: &str, audiences: &[String]) -> Option<User> {
    if let Some((id, secret)) = bootstrap_parts(token) {
        let name = format!("bootstrap-token-{id}");
        let found = plane.store.get(&Key::new(&"core/secrets".into(), "kube-system", &name))?;
        return bootstrap(&found.value(), (id, secret), jiff::Timestamp::now());
    }
    let claims = plane.signer.verify(token)?;
    if claims["iss"] == LASTING_ISSUER {
        return lasting(plane, token, &claims, audiences);
    }
    check_times(&claims, jiff::Timestamp::now().as_second())?;
    if claims["iss"] != ISSUER {
        return None;
    }
    let own = [ISSUER.to_owned()];
    let wanted = if audiences.is_empty() { &own[..] } else { audiences };
    let has =
        |a: &String| claims["aud"].as_array().is_some_and(|l| l.iter().any(|x| x == a.as_str()));
    if !wanted.iter().any(has) {
        return None;
    }
    let private = &claims["kubernetes.io"];
    let namespace = private["namespace"].as_str()?;
    let account = &private["serviceaccount"];
    exists(plane, "core/serviceaccounts", namespace, account)?;
    let mut extra = BTreeMap::new();
    extra.insert(
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec![format!("JTI={}", claims["jti"].as_str().unwrap_or_default())],
    );
    for (kind, table, scope) in [
        ("pod", "core/pods", namespace),
        ("secret", "core/secrets", namespace),
        ("node", "core/nodes", ""),
    ] {
        let Some(bound) = private.get(kind) else { continue };
        // A node may go before its pods' tokens do.
        if kind != "node" || private.get("pod").is_none() {
            exists(plane, table, scope, bound)?;
        }
        if kind != "secret" {
            for f in ["name", "uid"] {
                extra.insert(
                    format!("authentication.kubernetes.io/{kind}-{f}"),
                    bound[f].as_str().map(str::to_owned).into_iter().collect(),
                );
            }
        }
    }
    let mut all = groups(namespace).to_vec();
    all.push("system:authenticated".to_owned());
    Some(User {
        name: claims["sub"].as_str()?.to_owned(),
        uid: account["uid"].as_str()?.to_owned(),
        groups: all,
        extra,
    })
}

/// The object that a claim names is there, and is the same one.
fn exists(plane: &Plane, table: &str, namespace: &str, claim: &Value) -> Option<()> {
    let found =
        plane.store.get(&Key::new(&table.into(), namespace, claim["name"].as_str()?))?.value();
    (claim["uid"].as_str() == Some(meta::uid(&found)) && !meta::uid(&found).is_empty())
        .then_some(())
}

pub(crate) fn check_times(claims: &Value, now: i64) -> Option<()> {
    let (from, until) = (claims["nbf"].as_i64().unwrap_or(0), claims["exp"].as_i64()?);
    (from <= now.saturating_add(5) && now < until).then_some(())
}

/// The id and the secret of a text that may be a bootstrap token.
pub(crate) fn bootstrap_parts(token: &str) -> Option<(&str, &str)> {
    token.split_once('.').filter(|(id, secret)| id.len() == 6 && secret.len() == 16)
}

/// Whom a bootstrap token belongs to, by its Secret `kube-system/bootstrap-token-<id>`.
pub(crate) fn bootstrap(
    found: &Value,
    (id, secret): (&str, &str),
    now: jiff::Timestamp,
) -> Option<User> {
    if found["type"] != "bootstrap.kubernetes.io/token" || meta::is_terminating(found) {
        return None;
    }
    let of = |f: &str| {
        let raw =
            base64::engine::general_purpose::STANDARD.decode(found["data"][f].as_str()?).ok()?;
        String::from_utf8(raw).ok()
    };
    // Digests first, so that the time taken says nothing about the secret.
    let digest = |s: &str| ring::digest::digest(&ring::digest::SHA256, s.as_bytes());
    if of("token-id")? != id || digest(&of("token-secret")?).as_ref() != digest(secret).as_ref() {
        return None;
    }
    if of("usage-bootstrap-authentication").as_deref() != Some("true") {
        return None;
    }
    if let Some(end) = of("expiration")
        && end.parse::<jiff::Timestamp>().ok()? <= now
    {
        return None;
    }
    let mut groups = vec!["system:bootstrappers".to_owned()];
    let more = of("auth-extra-groups").unwrap_or_default();
    groups.extend(
        more.split(',').filter(|g| g.starts_with("system:bootstrappers:")).map(str::to_owned),
    );
    groups.push("system:authenticated".to_owned());
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let random = SystemRandom::new();
        let doc = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Signer::new(doc.as_ref()).unwrap()
    }

    #[test]
    fn a_bootstrap_token_is_good_for_its_own_secret_and_as_long_as_that_says() {
        let encoded = |s: &str| base64::engine::general_purpose::STANDARD.encode(s);
        let secret = |end: &str, usage: &str| {
            json!({"type": "bootstrap.kubernetes.io/token", "data": {
                "token-id": encoded("abcdef"), "token-secret": encoded("0123456789abcdef"),
                "usage-bootstrap-authentication": encoded(usage), "expiration": encoded(end),
                "auth-extra-groups": encoded("system:bootstrappers:a,system:masters")}})
        };
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let good = secret("2026-01-01T00:00:01Z", "true");
        let parts = bootstrap_parts("abcdef.0123456789abcdef").unwrap();
        let user = bootstrap(&good, parts, now).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(
            user.groups,
            ["system:bootstrappers", "system:bootstrappers:a", "system:authenticated"]
        );
        assert!(bootstrap(&good, ("abcdef", "0123456789abcdee"), now).is_none());
        assert!(bootstrap(&good, ("abcdeg", "0123456789abcdef"), now).is_none());
        assert!(bootstrap(&secret("2026-01-01T00:00:00Z", "true"), parts, now).is_none());
        assert!(bootstrap(&secret("never", "true"), parts, now).is_none());
        assert!(bootstrap(&secret("2026-01-01T00:00:01Z", "false"), parts, now).is_none());
        for other in ["abcdef", "abcde.0123456789abcdef", "abcdef.0123456789abcde", "a.b.c"] {
            assert_eq!(bootstrap_parts(other), None, "{other}");
        }
    }

    #[test]
    fn only_our_own_unchanged_tokens_verify() {
        let s = signer();
        let account = json!({"metadata": {"namespace": "a", "name": "b", "uid": "u"}});
        let now = jiff::Timestamp::now();
        let token = issue(&s, &account, &["x".into()], 600, None, now).unwrap();
        let claims = s.verify(&token).unwrap();
        assert_eq!(claims["sub"], "system:serviceaccount:a:b");
        assert!(check_times(&claims, now.as_second()).is_some());
        assert!(check_times(&claims, now.as_second() + 601).is_none());
        assert!(signer().verify(&token).is_none());
        let mut parts: Vec<&str> = token.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}");
        parts[0] = &none;
        assert!(s.verify(&parts.join(".")).is_none());
        for bad in ["", ".", "..", "a.b.c", &"x.".repeat(20_000)] {
            assert!(s.verify(bad).is_none());
        }
    }
}
