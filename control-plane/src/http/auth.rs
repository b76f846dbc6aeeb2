//! Who a caller is.
//!
//! Owns: users from client certificates and bearer tokens, and impersonation.
//! Called by: the router, before anything else. Never: takes an identity from a header alone.

use std::collections::BTreeMap;

use http::HeaderMap;
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
