//! `admission.k8s.io/v1` AdmissionReview, as much of it as the checks need.

use api::crd::check::Complaint;
use api::raw::RawJson;
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

/// What the API server asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    /// Stands in the answer.
    pub(super) uid: String,
    /// `CREATE`, `UPDATE`, `DELETE`
    #[serde(default)]
    pub(super) operation: String,
    #[serde(default)]
    pub(super) namespace: String,
    /// `status` and the like.
    #[serde(default)]
    pub(super) sub_resource: String,
    /// As it is to be; null for a deletion.
    #[serde(default = "RawJson::null")]
    pub(super) object: RawJson,
    /// As it is; null for a creation.
    #[serde(default = "RawJson::null")]
    pub(super) old_object: RawJson,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    request: Option<Request>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    Allowed,
    /// Allowed, with these changes (a JSON patch).
    Changed(Value),
    Refused(Vec<Complaint>),
}

/// Why a body is no review.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReviewError {
    #[error("the body is no AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the AdmissionReview is of version {0:?}, and `admission.k8s.io/v1` is understood")]
    Version(String),
    #[error("the AdmissionReview has no request")]
    Empty,
}

/// Reads a body.
pub(super) fn read(body: &[u8]) -> Result<Request, ReviewError> {
    let review: Review = serde_json::from_slice(body)?;
    if review.api_version != "admission.k8s.io/v1" {
        return Err(ReviewError::Version(review.api_version.chars().take(64).collect()));
    }
    review.request.ok_or(ReviewError::Empty)
}

/// Writes the answer to a request.
pub(super) fn answer(uid: &str, verdict: Verdict) -> Value {
    let mut response = json!({ "uid": uid, "allowed": !matches!(verdict, Verdict::Refused(_)) });
    match verdict {
        Verdict::Allowed => {}
        Verdict::Changed(patch) => {
            response["patchType"] = "JSONPatch".into();
            let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
            response["patch"] = patch.into();
        }
        Verdict::Refused(wrong) => {
            let words: Vec<_> = wrong.iter().map(ToString::to_string).collect();
            let causes = wrong.iter().map(
                |w| json!({"reason": "FieldValueInvalid", "field": w.field, "message": w.right}),
            );
            response["status"] = json!({
                "status": "Failure",
                "reason": "Invalid",
                "code": 422,
                "message": words.join("; "),
                "details": { "causes": causes.collect::<Vec<_>>() },
            });
        }
    }
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
}
