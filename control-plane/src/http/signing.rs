//! Certificate signing requests: what they ask for, who may approve and sign them.
//!
//! Owns: reading of a request's subject and names; the rights on signers.
//! Called by: admission, `restriction`, and the controller that signs.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use super::auth::{MASTERS, User};
use super::rbac::{self, Attributes};
use super::status::Status;
use crate::plane::Plane;
use crate::registry::Resource;
use crate::registry::meta::{self, text};

/// The signer of kubelets' client certificates.
pub(crate) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// The signer of kubelets' serving certificates.
pub(crate) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// The signer of client certificates.
pub(crate) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// The signer that promises nothing.
pub(crate) const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) common_name: String,
    pub(crate) organizations: Vec<String>,
    pub(crate) dns: usize,
    pub(crate) ips: usize,
    pub(crate) emails: usize,
    pub(crate) uris: usize,
}

/// The request's bytes: base64 of PEM.
pub(crate) fn der(csr: &Value) -> Result<CertificateSigningRequestDer<'static>, String> {
    let pem = STANDARD.decode(text(csr, "/spec/request")).map_err(|e| e.to_string())?;
    CertificateSigningRequestDer::from_pem_slice(&pem)
        .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())
}

/// Whether a request's bytes can be read.
pub(crate) fn parsed(der: &[u8]) -> Result<(), String> {
    X509CertificationRequest::from_der(der).map(|_| ()).map_err(|e| format!("asn1: {e}"))
}

/// Whether a value is base64 of PEM, which has certificates and nothing else in it.
pub(crate) fn is_chain(certificate: &Value) -> bool {
    let Ok(pem) = STANDARD.decode(certificate.as_str().unwrap_or_default()) else { return false };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    pem.is_empty() || all.is_ok_and(|a| !a.is_empty())
}

/// Reads the subject and the names of a request.
pub(crate) fn read(csr: &Value) -> Result<Asked, String> {
    let der = der(csr)?;
    let (_, request) = X509CertificationRequest::from_der(&der).map_err(|e| e.to_string())?;
    let subject = &request.certification_request_info.subject;
    if subject.iter_common_name().count() > 1 {
        return Err("more than one common name in a subject".to_owned());
    }
    let strings = |names: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| -> Vec<String> {
        names.iter().filter_map(|n| n.as_str().ok()).map(str::to_owned).collect()
    };
    let mut out = Asked {
        common_name: strings(subject.iter_common_name().collect())
            .into_iter()
            .next()
            .unwrap_or_default(),
        organizations: strings(subject.iter_organization().collect()),
        ..Asked::default()
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(_) => out.dns += 1,
                GeneralName::IPAddress(_) => out.ips += 1,
                GeneralName::RFC822Name(_) => out.emails += 1,
                _ => out.uris += 1,
            }
        }
    }
    Ok(out)
}

/// Who asked.
pub(crate) fn requestor(csr: &Value) -> User {
    let spec = &csr["spec"];
    let list = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra = spec["extra"].as_object().into_iter().flatten();
    User {
        name: text(spec, "/username").to_owned(),
        uid: text(spec, "/uid").to_owned(),
        groups: list(&spec["groups"]),
        extra: extra.map(|(k, v)| (k.clone(), list(v))).collect(),
    }
}

/// Whether the user may approve or sign for a signer: by its name, or by all of its domain.
fn may(plane: &Plane, user: &User, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer.to_owned(), format!("{domain}/*")].iter().any(|name| {
        let a = Attributes {
            verb,
            group: "certificates.k8s.io",
            resource: "signers",
            name,
            ..Attributes::default()
        };
        rbac::allowed(plane, user, &a)
    })
}

/// Nobody becomes an administrator by a certificate.
///
/// # Errors
/// `Forbidden`.
pub(crate) fn check_new(resource: &Resource, csr: &Value) -> Result<(), Status> {
    if text(csr, "/spec/signerName") != CLIENT {
        return Ok(());
    }
    // What cannot be read is refused by validation.
    let asked = read(csr).unwrap_or_default();
    if asked.organizations.iter().any(|o| o == MASTERS) {
        let why = format!("use of {CLIENT} signer with {MASTERS} group is not allowed");
        return Err(Status::forbidden(resource.group_resource(), meta::name(csr), &why));
    }
    Ok(())
}

/// The right to approve: for changes through `approval`.
///
/// # Errors
/// `Forbidden`.
pub(crate) fn check_approval(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    csr: &Value,
) -> Result<(), Status> {
    require(plane, user, resource, csr, "approve")
}

/// The right to sign: for changes of the status that say anything.
///
/// # Errors
/// `Forbidden`.
pub(crate) fn check_status(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    let same = ["certificate", "conditions"].iter().all(|f| new["status"][f] == old["status"][f]);
    if same { Ok(()) } else { require(plane, user, resource, old, "sign") }
}

fn require(
    plane: &Plane,
    user: &User,
    resource: &Resource,
    csr: &Value,
    verb: &str,
) -> Result<(), Status> {
    let signer = text(csr, "/spec/signerName");
    if may(plane, user, verb, signer) {
        return Ok(());
    }
    let why = format!("user not permitted to {verb} requests with signerName \"{signer}\"");
    Err(Status::forbidden(resource.group_resource(), meta::name(csr), &why))
}

/// What is wrong with a request for one of Kubernetes' signers; none if nothing is.
pub(crate) fn problem(csr: &Value) -> Option<String> {
    let asked = match read(csr) {
        Ok(a) => a,
        Err(e) => return Some(format!("unable to parse csr: {e}")),
    };
    let usages: Vec<&str> =
        csr["spec"]["usages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match text(csr, "/spec/signerName") {
        KUBELET_CLIENT => kubelet_client(&asked, &usages),
        KUBELET_SERVING => kubelet_serving(&asked, &usages, text(csr, "/spec/username")),
        CLIENT => {
            let free = ["client auth", "digital signature", "key encipherment"];
            match usages.iter().find(|u| !free.contains(u)) {
                Some(u) => Some(format!("usage \"{u}\" is not allowed, only client auth")),
                None if usages.contains(&"client auth") => None,
                None => Some("usages did not contain client auth".to_owned()),
            }
        }
        _ => None,
    }
}

/// Usages as a set: with or without key encipherment.
fn usages_are(usages: &[&str], purpose: &str) -> bool {
    let wanted = ["digital signature", purpose];
    wanted.iter().all(|w| usages.contains(w))
        && usages.iter().all(|u| wanted.contains(u) || *u == "key encipherment")
}

fn is_node(asked: &Asked) -> Option<&'static str> {
    if asked.organizations != ["system:nodes"] {
        return Some("organization in subject is not system:nodes");
    }
    let named = asked.common_name.strip_prefix("system:node:").is_some_and(|n| !n.is_empty());
    (!named).then_some("subject common name does not begin with system:node:")
}

fn kubelet_client(asked: &Asked, usages: &[&str]) -> Option<String> {
    let why = is_node(asked).or(match asked {
        Asked { dns: 1.., .. } => Some("DNS subjectAltNames are not allowed"),
        Asked { emails: 1.., .. } => Some("Email subjectAltNames are not allowed"),
        Asked { ips: 1.., .. } => Some("IP subjectAltNames are not allowed"),
        Asked { uris: 1.., .. } => Some("URI subjectAltNames are not allowed"),
        _ if !usages_are(usages, "client auth") => {
            Some("usages did not match [client auth digital signature]")
        }
        _ => None,
    });
    why.map(str::to_owned)
}

fn kubelet_serving(asked: &Asked, usages: &[&str], username: &str) -> Option<String> {
    let why = is_node(asked).or(match asked {
        Asked { dns: 0, ips: 0, .. } => Some("at least one DNS or IP subjectAltName is required"),
        Asked { emails: 1.., .. } => Some("Email subjectAltNames are not allowed"),
        Asked { uris: 1.., .. } => Some("URI subjectAltNames are not allowed"),
        _ if !usages_are(usages, "server auth") => {
            Some("usages did not match [digital signature server auth]")
        }
        _ if asked.common_name != username => {
            Some("requested subject common name does not match the user that asks")
        }
        _ => None,
    });
    why.map(str::to_owned)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use serde_json::json;

    /// A request for a subject and names.
    pub(crate) fn request(cn: &str, o: &str, names: &[&str]) -> String {
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
                .unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, o);
        params.distinguished_name.push(DnType::CommonName, cn);
        let key = KeyPair::generate().unwrap();
        STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
    }

    pub(crate) fn csr(signer: &str, request: String, user: &str, usages: &[&str]) -> Value {
        json!({"metadata": {"name": "c"}, "spec": {"signerName": signer, "request": request, "username": user, "usages": usages}})
    }

    // The rules are those of "Kubernetes signers" in the page named above.
    #[test]
    fn a_kubelet_gets_a_client_certificate_for_its_node_and_nothing_else() {
        let usages = ["client auth", "digital signature"];
        let ask = |cn: &str, o: &str, names: &[&str], usages: &[&str]| {
            problem(&csr(KUBELET_CLIENT, request(cn, o, names), "u", usages))
        };
        assert_eq!(ask("system:node:a", "system:nodes", &[], &usages), None);
        assert!(ask("system:node:a", "system:masters", &[], &usages).is_some());
        assert!(ask("admin", "system:nodes", &[], &usages).is_some());
        assert!(ask("system:node:", "system:nodes", &[], &usages).is_some());
        assert!(ask("system:node:a", "system:nodes", &["a.example"], &usages).is_some());
        assert!(ask("system:node:a", "system:nodes", &[], &["client auth"]).is_some());
        assert!(
            ask(
                "system:node:a",
                "system:nodes",
                &[],
                &["client auth", "digital signature", "server auth"]
            )
            .is_some()
        );
    }

    #[test]
    fn a_serving_certificate_has_names_and_is_asked_for_by_its_own_node() {
        let usages = ["server auth", "digital signature", "key encipherment"];
        let ask = |names: &[&str], user: &str| {
            problem(&csr(
                KUBELET_SERVING,
                request("system:node:a", "system:nodes", names),
                user,
                &usages,
            ))
        };
        assert_eq!(ask(&["a.example", "10.0.0.1"], "system:node:a"), None);
        assert!(ask(&[], "system:node:a").is_some());
        assert!(ask(&["a.example"], "system:node:b").is_some());
    }

    // What is judged would be one of them, and what is signed the other.
    #[test]
    fn a_request_with_two_common_names_is_refused() {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, "system:node:a");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "system:node:b");
        let key = KeyPair::generate().unwrap();
        let request = STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap());
        let asked =
            csr(KUBELET_CLIENT, request, "system:node:a", &["client auth", "digital signature"]);
        let why = problem(&asked).unwrap();
        assert_eq!(why, "unable to parse csr: more than one common name in a subject");
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        for bad in [
            "",
            "!",
            "YQ==",
            &STANDARD.encode("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ] {
            assert!(read(&csr(CLIENT, bad.to_owned(), "u", &[])).is_err(), "{bad}");
        }
        let huge = STANDARD.encode(format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            "MII".repeat(4000)
        ));
        assert!(read(&csr(CLIENT, huge, "u", &[])).is_err());
    }
}
