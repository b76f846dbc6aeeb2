//! Defaults and validation of certificate signing requests.
//!
//! Owns: which part of a request may be changed through what, and the times of its conditions.
//! Called by: the registry's table.

use serde_json::{Value, json};

use super::core::{BASE, default, keep, object, only_status};
use super::{Part, Strategy, columns, meta, names};
use crate::http::signing;
use crate::http::status::FieldError;

/// The usages that exist.
/// <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/certificate-signing-request-v1/>
pub(crate) const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(crate) static CSR: Strategy = Strategy {
    name: names::path_segment,
    prepare: |new, old, part| {
        let Some(old) = old else {
            keep(new, None, "status");
            default(new, "status", json!({}));
            return;
        };
        match part {
            Part::Status => only_status(new, old),
            Part::Approval => {
                let conditions = new.pointer("/status/conditions").cloned();
                keep(new, Some(old), "spec");
                keep(new, Some(old), "status");
                let status = object(new, "status");
                match conditions {
                    Some(c) => status["conditions"] = c,
                    None => {
                        status.as_object_mut().and_then(|s| s.remove("conditions"));
                    }
                }
            }
            // The request is what it was.
            Part::Main | Part::Ephemeral | Part::Finalize => {
                keep(new, Some(old), "spec");
                keep(new, Some(old), "status");
                return;
            }
        }
        time_conditions(new, old);
    },
    validate: |new, old, part, errors| match old {
        None => validate_new(new, errors),
        Some(old) => validate_change(new, old, part, errors),
    },
    fields: &["spec.signerName"],
    columns: &columns::CSR,
    ..BASE
};

/// Fills in when conditions were set and changed.
fn time_conditions(new: &mut Value, old: &Value) {
    let now = meta::timestamp(jiff::Timestamp::now());
    let list = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for c in list.into_iter().flatten() {
        default(c, "lastUpdateTime", now.clone());
        if c.get("lastTransitionTime").is_some() {
            continue;
        }
        let before = meta::condition(old, c["type"].as_str().unwrap_or_default())
            .filter(|b| b["status"] == c["status"])
            .and_then(|b| b.get("lastTransitionTime"));
        c["lastTransitionTime"] = before.cloned().unwrap_or_else(|| now.clone().into());
    }
}

fn validate_new(new: &Value, errors: &mut Vec<FieldError>) {
    let spec = &new["spec"];
    if let Err(e) = signing::der(new).and_then(|der| signing::parsed(&der)) {
        errors.push(FieldError::invalid_shown("spec.request", &shown_bytes(&spec["request"]), &e));
    }
    let usages = spec["usages"].as_array().map_or(&[][..], Vec::as_slice);
    if usages.is_empty() {
        errors.push(FieldError::required("spec.usages", ""));
    }
    for (i, usage) in usages.iter().enumerate() {
        if !usage.as_str().is_some_and(|u| USAGES.contains(&u)) {
            errors.push(FieldError::unsupported(format!("spec.usages[{i}]"), usage, &USAGES));
        } else if usages[..i].contains(usage) {
            errors.push(FieldError::duplicate(format!("spec.usages[{i}]"), usage));
        }
    }
    validate_signer(spec["signerName"].as_str().unwrap_or_default(), errors);
    if spec["expirationSeconds"].as_i64().is_some_and(|n| n < 600) {
        errors.push(FieldError::invalid(
            "spec.expirationSeconds",
            &spec["expirationSeconds"],
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
}

/// Bytes as error texts show them.
fn shown_bytes(text: &Value) -> String {
    use base64::Engine as _;
    let text = text.as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let all: Vec<String> = bytes.iter().map(|b| format!("{b:#x}")).collect();
    format!("[]byte{{{}}}", all.join(", "))
}

/// The name of a signer: a domain and a path.
fn validate_signer(signer: &str, errors: &mut Vec<FieldError>) {
    const LEGACY: &str = "kubernetes.io/legacy-unknown";
    let at = "spec.signerName";
    let mut bad = |value: &str, why: &str| {
        errors.push(FieldError::invalid(at, &json!(value), why));
    };
    if signer == LEGACY {
        return bad(signer, "the legacy signerName is not allowed via this API version");
    }
    if signer.is_empty() {
        return errors.push(FieldError::required(at, ""));
    }
    let (domain, path) = match signer.split_once('/') {
        Some((domain, path)) if !path.contains('/') => (domain, path),
        _ => {
            let why =
                "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            return bad(signer, why);
        }
    };
    let wrong = |part: &str, form: fn(&str) -> Result<(), String>| {
        let found = part.split('.').find_map(|l| form(l).err().map(|e| (l.to_owned(), e)));
        found.map(|(label, e)| format!("validating label {label:?}: {e}"))
    };
    if let Some(why) = wrong(domain, names::dns_label) {
        bad(domain, &why);
    }
    if !domain.contains('.') {
        bad(domain, "should be a domain with at least two segments separated by dots");
    }
    if let Some(why) = wrong(path, names::dns_subdomain) {
        bad(path, &why);
    }
}

fn validate_change(new: &Value, old: &Value, part: Part, errors: &mut Vec<FieldError>) {
    let (now, before) = (&new["status"]["certificate"], &old["status"]["certificate"]);
    let said = |v: &Value| v.as_str().is_some_and(|c| !c.is_empty());
    if said(before) && now != before {
        errors.push(FieldError::forbidden(
            "status.certificate",
            "updates may not modify existing certificate content",
        ));
    } else if part == Part::Status && now != before && !signing::is_chain(now) {
        let why = "must contain at least one CERTIFICATE PEM block";
        errors.push(FieldError::invalid("status.certificate", &json!("<certificate data>"), why));
    }
    let has = |v: &Value, kind: &str| meta::condition(v, kind).is_some();
    for kind in ["Approved", "Denied", "Failed"] {
        if has(old, kind) && !has(new, kind) {
            errors.push(FieldError::forbidden(
                "status.conditions",
                &format!("updates may not remove a condition of type \"{kind}\""),
            ));
        }
        if kind != "Failed" && part != Part::Approval && !has(old, kind) && has(new, kind) {
            errors.push(FieldError::forbidden(
                "status.conditions",
                &format!("updates may not add a condition of type \"{kind}\""),
            ));
        }
    }
    let all = new["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    for (i, c) in all.iter().enumerate() {
        let at = |f: &str| format!("status.conditions[{i}].{f}");
        let kind = c["type"].as_str().unwrap_or_default();
        if kind.is_empty() {
            errors.push(FieldError::required(at("type"), ""));
        }
        let status = c["status"].as_str().unwrap_or_default();
        match kind {
            _ if status.is_empty() => errors.push(FieldError::required(at("status"), "")),
            "Approved" | "Denied" | "Failed" if status != "True" => {
                errors.push(FieldError::unsupported(at("status"), &c["status"], &["True"]));
            }
            _ if !matches!(status, "True" | "False" | "Unknown") => {
                let known = ["False", "True", "Unknown"];
                errors.push(FieldError::unsupported(at("status"), &c["status"], &known));
            }
            _ => {}
        }
        let before = &all[..i];
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && before.iter().any(|b| b["type"] == other) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(at("type"), &c["type"], why));
        }
        if before.iter().any(|b| b["type"] == c["type"]) {
            errors.push(FieldError::duplicate(at("type"), &c["type"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::signing::tests::{csr, request};

    fn errors(new: &Value, old: Option<&Value>, part: Part) -> Vec<String> {
        let mut out = Vec::new();
        (CSR.validate)(new, old, part, &mut out);
        out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_request_names_a_signer_of_a_domain_and_known_usages() {
        let good = csr("example.com/x", request("a", "b", &[]), "u", &["client auth"]);
        assert_eq!(errors(&good, None, Part::Main), Vec::<String>::new());
        for (field, bad) in [
            ("signerName", json!("x")),
            ("usages", json!([])),
            ("usages", json!(["fly"])),
            ("request", json!("")),
            ("expirationSeconds", json!(1)),
        ] {
            let mut c = good.clone();
            c["spec"][field] = bad;
            assert_eq!(errors(&c, None, Part::Main).len(), 1, "{field}");
        }
    }

    // A kube-apiserver 1.33 refused the same, and showed the bytes in the same way.
    #[test]
    fn a_request_that_is_none_inside_is_refused() {
        use base64::Engine as _;
        let pem = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n";
        let text = base64::engine::general_purpose::STANDARD.encode(pem);
        let bad = csr("example.com/x", text, "u", &["client auth"]);
        let told = errors(&bad, None, Part::Main);
        assert!(
            told[0].starts_with("spec.request: Invalid value: []byte{0x2d, 0x2d, ")
                && told[0].contains("0xa}: asn1: "),
            "{told:?}"
        );
        assert_eq!(told.len(), 1);
    }

    #[test]
    fn approval_is_given_through_approval_only_and_never_taken_back() {
        let old = csr("example.com/x", request("a", "b", &[]), "u", &["client auth"]);
        let mut approved = old.clone();
        approved["status"]["conditions"] = json!([{"type": "Approved", "status": "True"}]);
        assert!(errors(&approved, Some(&old), Part::Approval).is_empty());
        assert_eq!(
            errors(&approved, Some(&old), Part::Status),
            ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]
        );
        assert_eq!(
            errors(&old, Some(&approved), Part::Approval),
            [
                "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""
            ]
        );
        let mut both = approved.clone();
        both["status"]["conditions"] =
            json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]);
        assert_eq!(errors(&both, Some(&approved), Part::Approval).len(), 1);
    }

    #[test]
    fn a_condition_says_since_when() {
        let old = csr("example.com/x", request("a", "b", &[]), "u", &[]);
        let mut new = old.clone();
        new["status"]["conditions"] = json!([{"type": "Approved", "status": "True"}]);
        new["status"]["certificate"] = "sneaked".into();
        (CSR.prepare)(&mut new, Some(&old), Part::Approval);
        assert!(new["status"]["conditions"][0]["lastTransitionTime"].is_string());
        assert!(new["status"].get("certificate").is_none());
    }
}
