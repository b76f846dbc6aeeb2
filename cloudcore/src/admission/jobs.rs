//! What makes sense of jobs that run on nodes. Pure.
//!
//! The jobs are read as trees: the older version of a job has the same fields in other places.

use api::crd::check::Complaint;
use serde_json::{Value, json};

use super::review::Verdict;

/// The kinds of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Upgrade,
    PrePull,
    ConfigUpdate,
}

impl Job {
    /// Where the nodes and limits stand.
    fn template(self) -> &'static str {
        match self {
            Job::PrePull => "imagePrePullTemplate",
            _ => "",
        }
    }
}

/// A job that is created or changed.
pub(super) fn check(job: Job, new: &Value, old: Option<&Value>) -> Verdict {
    if let Some(old) = old {
        if old["spec"] == new["spec"] {
            return Verdict::Allowed;
        }
        let right = "a job cannot be changed; delete it and create it anew";
        return Verdict::Refused(vec![Complaint::new("spec", "a change", right)]);
    }
    let mut wrong = Vec::new();
    let template = job.template();
    let (spec, at) = if template.is_empty() {
        (&new["spec"], "spec".to_owned())
    } else {
        (&new["spec"][template], format!("spec.{template}"))
    };
    nodes(spec, &at, &mut wrong);
    limits(spec, &at, &mut wrong);
    match job {
        Job::Upgrade => upgrade(spec, &at, &mut wrong),
        Job::PrePull => images(spec, &at, &mut wrong),
        Job::ConfigUpdate => {}
    }
    if wrong.is_empty() { Verdict::Allowed } else { Verdict::Refused(wrong) }
}

fn nodes(spec: &Value, at: &str, wrong: &mut Vec<Complaint>) {
    let named = spec["nodeNames"].as_array().is_some_and(|names| !names.is_empty());
    let selected = spec["labelSelector"].is_object();
    if named == selected {
        let found = if named { "both" } else { "" };
        let right = "exactly one of nodeNames and labelSelector says on which nodes";
        wrong.push(Complaint::new(format!("{at}.nodeNames"), found, right));
    }
}

fn limits(spec: &Value, at: &str, wrong: &mut Vec<Complaint>) {
    if let Some(ratio) = spec["failureTolerate"].as_str().filter(|r| !r.is_empty())
        && !ratio.parse::<f64>().is_ok_and(|r| (0.0..=1.0).contains(&r))
    {
        let right = "must be a share from 0 to 1, for example 0.1";
        wrong.push(Complaint::new(format!("{at}.failureTolerate"), ratio, right));
    }
    if let Some(count) = spec["concurrency"].as_i64().filter(|c| *c < 0) {
        let right = "must not be negative";
        wrong.push(Complaint::new(format!("{at}.concurrency"), count.to_string(), right));
    }
}

fn upgrade(spec: &Value, at: &str, wrong: &mut Vec<Complaint>) {
    let version = spec["version"].as_str().unwrap_or_default();
    if !is_version(version) {
        let right = "must be a version, for example v1.23.0";
        wrong.push(Complaint::new(format!("{at}.version"), version, right));
    }
    if let Some(image) = spec["image"].as_str().filter(|i| !i.is_empty())
        && !is_image(image)
    {
        let right = "must be an image, for example kubeedge/installation-package";
        wrong.push(Complaint::new(format!("{at}.image"), image, right));
    }
}

fn images(spec: &Value, at: &str, wrong: &mut Vec<Complaint>) {
    for (n, image) in spec["images"].as_array().into_iter().flatten().enumerate() {
        let image = image.as_str().unwrap_or_default();
        if image.is_empty() || !image.bytes().all(in_image) {
            let right = "must be an image, for example docker.io/library/nginx:1.27";
            wrong.push(Complaint::new(format!("{at}.images[{n}]"), image, right));
        }
    }
    let secret = spec["imageSecrets"].as_str().unwrap_or_default();
    if !secret.is_empty() && secret.split('/').filter(|part| !part.is_empty()).count() != 2 {
        let right = "must be NAMESPACE/NAME of a Secret";
        wrong.push(Complaint::new(format!("{at}.imageSecrets"), secret, right));
    }
}

/// What the original fills in.
pub(super) fn defaults(new: &Value) -> Verdict {
    let spec = &new["spec"];
    let mut patch = Vec::new();
    if spec["concurrency"].as_i64().unwrap_or(0) == 0 {
        patch.push(json!({"op": "add", "path": "/spec/concurrency", "value": 1}));
    }
    if spec["timeoutSeconds"].is_null() {
        patch.push(json!({"op": "add", "path": "/spec/timeoutSeconds", "value": 300}));
    }
    if patch.is_empty() || !spec.is_object() {
        Verdict::Allowed
    } else {
        Verdict::Changed(patch.into())
    }
}

/// `v1.23.0`, with `-` and something after it if need be.
fn is_version(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('v') else { return false };
    let (numbers, suffix) = match rest.split_once('-') {
        Some((numbers, suffix)) => (numbers, Some(suffix)),
        None => (rest, None),
    };
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b))
    };
    numbers.split('.').count() == 3
        && numbers.split('.').all(number)
        && suffix.is_none_or(|s| s.split('-').all(word))
}

fn in_image(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte)
}

/// `registry-or-user/name`, with a tag or a digest if need be. What else might stand here has been
/// put into a shell by others.
fn is_image(text: &str) -> bool {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let sound = |digest: &str| {
        digest
            .strip_prefix("sha256:")
            .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    name.bytes().all(in_image)
        && name.contains('/')
        && name.split('/').all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric()))
        && digest.is_none_or(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(job: Job, spec: Value) -> Vec<String> {
        match check(job, &json!({ "spec": spec }), None) {
            Verdict::Refused(wrong) => wrong.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn an_upgrade_has_a_version_an_image_and_nodes() {
        let good = json!({"version": "v1.23.0-beta.0", "image": "kubeedge/installation-package",
            "nodeNames": ["edge-1"], "failureTolerate": "0.3"});
        assert!(said(Job::Upgrade, good).is_empty());
        let bad = json!({"version": "1.23", "image": "x; rm -rf /", "concurrency": -1,
            "nodeNames": ["a"], "labelSelector": {}, "failureTolerate": "2"});
        let fields: Vec<_> = said(Job::Upgrade, bad)
            .iter()
            .map(|w| w.split(':').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            fields,
            [
                "spec.nodeNames",
                "spec.failureTolerate",
                "spec.concurrency",
                "spec.version",
                "spec.image"
            ]
        );
    }

    #[test]
    fn versions_and_images_are_told_from_what_only_looks_like_them() {
        for good in ["v1.23.0", "v1.2.3-rc.1", "v1.2.3-a_b-c.d"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "v", "v1.2", "v1.2.3.4", "v1.2.x", "v1.2.3-", "v1.2.3-a--b", "v1.2.3;ls"] {
            assert!(!is_version(bad), "{bad}");
        }
        let digest = format!("registry:5000/a/b@sha256:{}", "0a".repeat(32));
        for good in ["kubeedge/installation-package", "r.io/a/b:v1", &digest] {
            assert!(is_image(good), "{good}");
        }
        for bad in ["", "name", "/a", "a//b", "a/b c", "a/$(x)", "a/b@sha256:12", "-a/b"] {
            assert!(!is_image(bad), "{bad}");
        }
    }

    #[test]
    fn images_to_pull_stand_in_their_template() {
        let good = json!({"imagePrePullTemplate": {"images": ["nginx"], "nodeNames": ["a"],
            "imageSecrets": "default/pull"}});
        assert!(said(Job::PrePull, good).is_empty());
        let bad = json!({"imagePrePullTemplate": {"images": ["a b"], "imageSecrets": "pull"}});
        let wrong = said(Job::PrePull, bad);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[1].starts_with("spec.imagePrePullTemplate.images[0]"), "{wrong:?}");
    }

    #[test]
    fn a_job_does_not_change_and_its_status_may() {
        let old = json!({"spec": {"version": "bad"}});
        let status = json!({"spec": {"version": "bad"}, "status": {"phase": "Init"}});
        assert_eq!(check(Job::Upgrade, &status, Some(&old)), Verdict::Allowed);
        let new = json!({"spec": {"version": "v1.23.0"}});
        assert!(matches!(check(Job::Upgrade, &new, Some(&old)), Verdict::Refused(_)));
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let Verdict::Changed(patch) = defaults(&json!({"spec": {}})) else { panic!() };
        assert_eq!(patch.as_array().map(Vec::len), Some(2));
        let whole = json!({"spec": {"concurrency": 2, "timeoutSeconds": 0}});
        assert_eq!(defaults(&whole), Verdict::Allowed);
    }
}
