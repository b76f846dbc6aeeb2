//! Who a caller is.
//!
//! Owns: users from client certificates and bearer tokens, and impersonation.
//! Called by: the router, before anything else. Never: takes an identity from a header alone.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::request::decode;
use super::status::Status;
use super::{rbac, tokens};
use crate::plane::Plane;

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

pub(crate) const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

impl User {
    /// One of our own controllers.
    pub(crate) fn internal(name: &str) -> Self {
        Self {
            name: format!("system:{name}"),
            groups: vec![MASTERS.into(), AUTHENTICATED.into()],
            ..Self::default()
        }
    }

    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|g| g == MASTERS)
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut v = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            v["uid"] = self.uid.as_str().into();
        }
        if !self.extra.is_empty() {
            v["extra"] = json!(self.extra);
        }
        v
    }
}

/// The subject of a client certificate that TLS has verified: CN is the name, O are the groups.
pub(crate) fn user_of_certificate(der: &[u8]) -> Option<User> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let subject = cert.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    groups.push(AUTHENTICATED.to_owned());
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let shown = digest.as_ref().iter().fold("X509SHA256=".to_owned(), |mut s, b| {
        use std::fmt::Write as _;
        let _ = write!(s, "{b:02x}");
        s
    });
    let extra = [("authentication.kubernetes.io/credential-id".to_owned(), vec![shown])].into();
    Some(User { name, groups, extra, ..User::default() })
}

/// Finds out who is calling; none is nobody in particular.
///
/// # Errors
/// 401 when there are credentials and they are no good.
pub(crate) fn authenticate(
    plane: &Plane,
    peer: Option<&User>,
    headers: &HeaderMap,
) -> Result<Option<User>, Status> {
    if let Some(user) = peer {
        return Ok(Some(user.clone()));
    }
    let Some(header) = headers.get(http::header::AUTHORIZATION) else { return Ok(None) };
    let text = header.to_str().map_err(|_| Status::unauthorized())?;
    let token = text
        .strip_prefix("Bearer ")
        .or_else(|| text.strip_prefix("bearer "))
        .ok_or_else(Status::unauthorized)?;
    tokens::authenticate(plane, token.trim(), &[]).map(Some).ok_or_else(Status::unauthorized)
}

/// How a browser, which sets no headers of a WebSocket, sends a token: as the name of a protocol.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Moves a token that stands among the protocols of a WebSocket to where tokens stand, so that nobody
/// else hears of it.
///
/// # Errors
/// 401 when it cannot be read, or no protocol is left to speak.
pub(crate) fn take_token_of_websocket(headers: &mut HeaderMap) -> Result<(), Status> {
    let asks = |name: http::HeaderName, word: &str| {
        let all = headers.get_all(name);
        let mut words = all.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
        words.any(|w| w.trim().eq_ignore_ascii_case(word))
    };
    if !asks(http::header::CONNECTION, "upgrade") || !asks(http::header::UPGRADE, "websocket") {
        return Ok(());
    }
    let protocols = headers.get_all(http::header::SEC_WEBSOCKET_PROTOCOL);
    let (mut token, mut rest) = (None, Vec::new());
    let all = protocols.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    for protocol in all.map(str::trim) {
        let Some(encoded) = protocol.strip_prefix(TOKEN_PROTOCOL) else {
            rest.push(protocol);
            continue;
        };
        let read = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|t| String::from_utf8(t).ok());
        // There is one, and what is in it is text.
        if token.replace(read.ok_or_else(Status::unauthorized)?).is_some() {
            return Err(Status::unauthorized());
        }
    }
    let Some(token) = token else { return Ok(()) };
    if rest.is_empty() {
        return Err(Status::unauthorized());
    }
    let value = |text: String| HeaderValue::from_str(&text).map_err(|_| Status::unauthorized());
    let (rest, token) = (value(rest.join(","))?, value(format!("Bearer {token}"))?);
    headers.insert(http::header::SEC_WEBSOCKET_PROTOCOL, rest);
    headers.entry(http::header::AUTHORIZATION).or_insert(token);
    Ok(())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// What is said to who asks for groups and the like of nobody: all that was asked for, as Go shows it.
fn without_user(groups: &[String], extra: &BTreeMap<String, Vec<String>>, uid: &str) -> String {
    const OWN: &str = "authentication.k8s.io/v1";
    let one = |kind: &str, name: &str, version: &str, path: &str| {
        format!("{{{kind}  {name}  {version}  {path}}}")
    };
    let mut all: Vec<String> = groups.iter().map(|g| one("Group", g, "", "")).collect();
    let extra = extra.iter().flat_map(|(k, values)| values.iter().map(move |v| (k, v)));
    all.extend(extra.map(|(k, v)| one("UserExtra", v, OWN, k)));
    if !uid.is_empty() {
        all.push(one("UID", uid, OWN, ""));
    }
    format!("requested [{}] without impersonating a user", all.join(" "))
}

/// Whom the headers of a request ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

impl Asked {
    /// Reads the `Impersonate-` headers.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| header(headers, name).unwrap_or_default().to_owned();
        let groups = headers.get_all("impersonate-group").iter().filter_map(|v| v.to_str().ok());
        let groups = groups.map(str::to_owned).collect();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
                let values = extra.entry(decode(key, false)).or_default();
                values.extend(value.to_str().ok().map(str::to_owned));
            }
        }
        Self { name: text("impersonate-user"), uid: text("impersonate-uid"), groups, extra }
    }
}

/// Becomes somebody else, if the caller asks to and may.
///
/// # Errors
/// 403 when it may not; 500 when the headers make no sense.
pub(crate) fn impersonate(plane: &Plane, user: User, headers: &HeaderMap) -> Result<User, Status> {
    let asked = Asked::read(headers);
    if asked == Asked::default() {
        return Ok(user);
    }
    let Asked { name, uid, groups, extra } = asked;
    if name.is_empty() {
        return Err(Status::plain(without_user(&groups, &extra, &uid)));
    }
    let check = |group: &str, resource: &str, sub: &str, name: &str, namespace: &str| {
        let a = rbac::Attributes {
            verb: "impersonate",
            group,
            resource,
            subresource: sub,
            namespace,
            name,
            ..rbac::Attributes::default()
        };
        rbac::require(plane, &user, &a)
    };
    let mut all = groups.clone();
    match name.strip_prefix("system:serviceaccount:").and_then(|n| n.split_once(':')) {
        Some((namespace, account)) => {
            check("", "serviceaccounts", "", account, namespace)?;
            if groups.is_empty() {
                all.extend(tokens::groups(namespace));
            }
        }
        None => check("", "users", "", &name, "")?,
    }
    for g in &groups {
        check("", "groups", "", g, "")?;
    }
    for (k, values) in &extra {
        for v in values {
            check("authentication.k8s.io", "userextras", k, v, "")?;
        }
    }
    if !uid.is_empty() {
        check("authentication.k8s.io", "uids", "", &uid, "")?;
    }
    let has = |g: &str| all.iter().any(|x| x == g);
    match name.as_str() {
        "system:anonymous" if !has(UNAUTHENTICATED) => all.push(UNAUTHENTICATED.to_owned()),
        "system:anonymous" => {}
        _ if has(AUTHENTICATED) || has(UNAUTHENTICATED) => {}
        _ => all.push(AUTHENTICATED.to_owned()),
    }
    Ok(User { name, uid, groups: all, extra })
}

#[cfg(test)]
mod tests {
    use super::*;

    // What a kube-apiserver 1.33 takes and refuses.
    #[test]
    fn a_token_among_the_protocols_of_a_websocket_is_the_caller_s_and_goes_no_further() {
        let taken = |upgrade: &'static str, protocols: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("connection", HeaderValue::from_static("keep-alive, Upgrade"));
            headers.insert("upgrade", HeaderValue::from_static(upgrade));
            headers.insert("sec-websocket-protocol", HeaderValue::from_str(protocols).unwrap());
            take_token_of_websocket(&mut headers).map_err(|s| s.code)?;
            let of = |name: &str| header(&headers, name).unwrap_or_default().to_owned();
            Ok((of("authorization"), of("sec-websocket-protocol")))
        };
        let (token, other) = (format!("{TOKEN_PROTOCOL}c2VjcmV0"), "v5.channel.k8s.io");
        let both = format!("{token}, {other}");
        assert_eq!(taken("websocket", &both), Ok(("Bearer secret".into(), other.into())));
        assert_eq!(taken("SPDY/3.1", &both), Ok((String::new(), both.clone())));
        assert_eq!(taken("websocket", other), Ok((String::new(), other.into())));
        for bad in [
            token.clone(),
            format!("{both}, {token}"),
            format!("{TOKEN_PROTOCOL}c2VjcmV0Cg==, {other}"),
            format!("{TOKEN_PROTOCOL}_w, {other}"),
        ] {
            assert_eq!(taken("WebSocket", &bad), Err(401), "{bad}");
        }
    }
}
