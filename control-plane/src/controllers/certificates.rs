//! Certificates for whoever may have one: approved, signed, and forgotten after a while.
//!
//! Owns: the conditions `Approved` (of kubelets' own requests) and `Failed`, `status.certificate`.
//! Called by: `controllers::spawn`. Never: approves what the asking user may not have.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SerialNumber,
};
use serde_json::Value;

use super::Follower;
use crate::bootstrap::Authority;
use crate::http::auth::User;
use crate::http::body::WriteOptions;
use crate::http::delete::{DeleteOptions, delete};
use crate::http::rbac::{self, Attributes};
use crate::http::signing::{self, CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY};
use crate::http::status::Status;
use crate::http::update::modify;
use crate::plane::Plane;
use crate::registry::Part;
use crate::registry::meta::{self, text};

const TABLE: &str = "certificates.k8s.io/certificatesigningrequests";
/// How often all requests are looked at: for writes that failed, and for old ones.
const REPAIR: Duration = Duration::from_secs(60);
const YEAR: i64 = 365 * 24 * 3600;
const HOUR: i64 = 3600;

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Approve(&'static str),
    Sign,
    Fail(String),
    /// It is so old that nobody will ask for it any more.
    Forget,
    Nothing,
}

fn has(csr: &Value, condition: &str) -> bool {
    meta::condition(csr, condition).is_some_and(|c| c["status"] == "True")
}

/// All the judgement, and no I/O. `may` says whether the asking user may have what a subresource
/// of certificatesigningrequests stands for.
fn due(csr: &Value, now: jiff::Timestamp, may: impl Fn(&str) -> bool) -> Due {
    if is_old(csr, now) {
        return Due::Forget;
    }
    let signer = text(csr, "/spec/signerName");
    let signed = !text(csr, "/status/certificate").is_empty();
    if signed || has(csr, "Denied") || has(csr, "Failed") {
        return Due::Nothing;
    }
    if !matches!(signer, CLIENT | KUBELET_CLIENT | KUBELET_SERVING | LEGACY) {
        return Due::Nothing;
    }
    if has(csr, "Approved") {
        return signing::problem(csr).map_or(Due::Sign, Due::Fail);
    }
    if signer != KUBELET_CLIENT || signing::problem(csr).is_some() {
        return Due::Nothing;
    }
    let own = signing::read(csr).is_ok_and(|a| a.common_name == text(csr, "/spec/username"));
    if own && may("selfnodeclient") {
        return Due::Approve(
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
        );
    }
    if may("nodeclient") {
        return Due::Approve(
            "Auto approving kubelet client certificate after SubjectAccessReview.",
        );
    }
    Due::Nothing
}

/// As the page says: one hour after the decision, a day without one, or when the certificate ended.
fn is_old(csr: &Value, now: jiff::Timestamp) -> bool {
    let age =
        |at: &str| at.parse::<jiff::Timestamp>().map_or(0, |t| now.as_second() - t.as_second());
    let decided =
        ["Approved", "Denied", "Failed"].into_iter().find_map(|c| meta::condition(csr, c));
    match decided {
        Some(c) => {
            let changed = if text(c, "/lastUpdateTime").is_empty() {
                text(csr, "/metadata/creationTimestamp")
            } else {
                text(c, "/lastUpdateTime")
            };
            age(changed) > HOUR
        }
        None => age(text(csr, "/metadata/creationTimestamp")) > 24 * HOUR,
    }
}

/// Follows requests.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut follower = Follower::new(&plane, TABLE);
    loop {
        tokio::select! {
            _ = follower.next() => {}
            () = tokio::time::sleep(REPAIR) => {}
        }
        for (_, stored) in plane.store.list(TABLE, "", None).objects {
            let csr = stored.value();
            if let Err(e) = settle(&plane, &csr).await
                && e.code != 404
            {
                tracing::warn!(
                    request = meta::name(&csr),
                    "cannot settle a certificate signing request: {}",
                    e.message
                );
            }
        }
    }
}

async fn settle(plane: &Plane, csr: &Value) -> Result<(), Status> {
    let asking = signing::requestor(csr);
    let may = |sub: &str| {
        let a = Attributes {
            verb: "create",
            group: "certificates.k8s.io",
            resource: "certificatesigningrequests",
            subresource: sub,
            ..Attributes::default()
        };
        rbac::allowed(plane, &asking, &a)
    };
    let now = jiff::Timestamp::now();
    match due(csr, now, may) {
        Due::Nothing => Ok(()),
        Due::Approve(why) => {
            change(plane, csr, Part::Approval, |new| {
                condition(new, "Approved", "AutoApproved", why, now);
            })
            .await
        }
        Due::Fail(why) => {
            change(plane, csr, Part::Status, |new| {
                condition(new, "Failed", "SignerValidationFailure", &why, now);
            })
            .await
        }
        Due::Sign => match sign(&plane.authority, csr) {
            Ok(pem) => {
                change(plane, csr, Part::Status, |new| {
                    crate::registry::core::object(new, "status")["certificate"] =
                        STANDARD.encode(&pem).into();
                })
                .await
            }
            Err(e) => {
                let why = format!("unable to sign the request: {e}");
                change(plane, csr, Part::Status, |new| {
                    condition(new, "Failed", "SignerValidationFailure", &why, now);
                })
                .await
            }
        },
        Due::Forget => {
            let user = User::internal("kube-controller-manager");
            let resource =
                plane.registry.builtin("certificates.k8s.io", "certificatesigningrequests");
            let options =
                DeleteOptions { uid: Some(meta::uid(csr).to_owned()), ..DeleteOptions::default() };
            delete(plane, &user, &resource, ("", meta::name(csr)), &options).await.map(|_| ())
        }
    }
}

fn condition(csr: &mut Value, kind: &str, reason: &str, message: &str, now: jiff::Timestamp) {
    meta::set_condition(csr, kind, "True", reason, message, now);
    let list = csr.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    if let Some(c) = list.into_iter().flatten().find(|c| c["type"] == kind) {
        c["lastUpdateTime"] = meta::timestamp(now).into();
    }
}

async fn change(
    plane: &Plane,
    csr: &Value,
    part: Part,
    f: impl Fn(&mut Value),
) -> Result<(), Status> {
    let user = User::internal("kube-controller-manager");
    let resource = plane.registry.builtin("certificates.k8s.io", "certificatesigningrequests");
    let options =
        WriteOptions { manager: "kube-controller-manager".into(), ..WriteOptions::default() };
    let change = |old: &Value| {
        let mut new = old.clone();
        // Another request of the same name is looked at in its turn.
        if meta::uid(old) == meta::uid(csr) {
            f(&mut new);
        }
        Ok(new)
    };
    modify(plane, &user, &resource, ("", meta::name(csr)), part, &options, change).await.map(|_| ())
}

/// Signs with the cluster's CA, for at most a year.
pub(crate) fn sign(authority: &Authority, csr: &Value) -> Result<String, String> {
    let der = signing::der(csr)?;
    let asked = signing::read(csr)?;
    if asked.organizations.len() > 1 {
        return Err("more than one organization in a subject is not supported".to_owned());
    }
    let mut request = CertificateSigningRequestParams::from_der(&der).map_err(|e| e.to_string())?;
    let params = &mut request.params;
    params.is_ca = IsCa::NoCa;
    (params.key_usages, params.extended_key_usages) = usages(&csr["spec"]["usages"])?;
    let seconds = csr["spec"]["expirationSeconds"].as_i64().unwrap_or(YEAR).clamp(600, YEAR);
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::minutes(5);
    params.not_after = now + time::Duration::seconds(seconds);
    params.serial_number = Some(SerialNumber::from_slice(&{
        let mut serial: [u8; 16] = rand::random();
        // A positive number.
        serial[0] &= 0x7f;
        serial
    }));
    authority.sign_request(&request).map_err(|e| e.to_string())
}

/// The key usages that a request names.
fn usages(list: &Value) -> Result<(Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>), String> {
    let (mut plain, mut extended) = (Vec::new(), Vec::new());
    for usage in list.as_array().into_iter().flatten().filter_map(Value::as_str) {
        match usage {
            "digital signature" | "signing" => plain.push(KeyUsagePurpose::DigitalSignature),
            "content commitment" => plain.push(KeyUsagePurpose::ContentCommitment),
            "key encipherment" => plain.push(KeyUsagePurpose::KeyEncipherment),
            "key agreement" => plain.push(KeyUsagePurpose::KeyAgreement),
            "data encipherment" => plain.push(KeyUsagePurpose::DataEncipherment),
            "encipher only" => plain.push(KeyUsagePurpose::EncipherOnly),
            "decipher only" => plain.push(KeyUsagePurpose::DecipherOnly),
            "server auth" => extended.push(ExtendedKeyUsagePurpose::ServerAuth),
            "client auth" => extended.push(ExtendedKeyUsagePurpose::ClientAuth),
            "code signing" => extended.push(ExtendedKeyUsagePurpose::CodeSigning),
            "email protection" | "s/mime" => {
                extended.push(ExtendedKeyUsagePurpose::EmailProtection)
            }
            "timestamping" => extended.push(ExtendedKeyUsagePurpose::TimeStamping),
            "ocsp signing" => extended.push(ExtendedKeyUsagePurpose::OcspSigning),
            // Above all, nobody becomes a CA.
            other => return Err(format!("usage \"{other}\" is not signed here")),
        }
    }
    Ok((plain, extended))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::signing::tests::{csr, request};
    use serde_json::json;

    fn at() -> jiff::Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn node_request(user: &str) -> Value {
        let request = request("system:node:a", "system:nodes", &[]);
        let mut c = csr(KUBELET_CLIENT, request, user, &["client auth", "digital signature"]);
        c["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        c
    }

    #[test]
    fn a_kubelet_is_approved_if_it_may_have_what_it_asks_for() {
        let first = node_request("system:bootstrap:abcdef");
        assert_eq!(due(&first, at(), |_| false), Due::Nothing);
        assert_eq!(
            due(&first, at(), |s| s == "nodeclient"),
            Due::Approve("Auto approving kubelet client certificate after SubjectAccessReview.")
        );
        let own = node_request("system:node:a");
        assert_eq!(
            due(&own, at(), |s| s == "selfnodeclient"),
            Due::Approve(
                "Auto approving self kubelet client certificate after SubjectAccessReview."
            )
        );
        let other = node_request("system:node:b");
        assert_eq!(due(&other, at(), |s| s == "selfnodeclient"), Due::Nothing);
        let mut admin = own.clone();
        admin["spec"]["signerName"] = CLIENT.into();
        assert_eq!(due(&admin, at(), |_| true), Due::Nothing);
    }

    #[test]
    fn an_approved_request_is_signed_once_and_a_wrong_one_fails() {
        let mut c = node_request("u");
        condition(&mut c, "Approved", "r", "m", at());
        assert_eq!(due(&c, at(), |_| false), Due::Sign);
        c["status"]["certificate"] = "x".into();
        assert_eq!(due(&c, at(), |_| false), Due::Nothing);
        c["status"]["certificate"] = "".into();
        c["spec"]["usages"] = json!(["server auth"]);
        assert!(matches!(due(&c, at(), |_| false), Due::Fail(_)));
        condition(&mut c, "Denied", "r", "m", at());
        assert_eq!(due(&c, at(), |_| false), Due::Nothing);
        assert_eq!(due(&c, at() + jiff::SignedDuration::from_hours(2), |_| false), Due::Forget);
    }

    #[test]
    fn nobody_becomes_a_ca() {
        assert!(usages(&json!(["cert sign"])).is_err());
        assert_eq!(
            usages(&json!(["server auth"])).unwrap().1,
            [ExtendedKeyUsagePurpose::ServerAuth]
        );
    }
}
