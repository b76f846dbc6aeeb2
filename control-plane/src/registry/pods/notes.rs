//! What a pod's annotations say that once were no fields.
//!
//! Owns: the annotations that are refused. Called by: the pod's own validation, for new pods.
//!
//! <https://kubernetes.io/docs/reference/labels-annotations-taints/>

use serde_json::Value;

use crate::http::status::FieldError;

const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";

/// Annotations of a new pod that make no sense.
pub(super) fn validate(pod: &Value, errors: &mut Vec<FieldError>) {
    let Some(notes) = pod["metadata"]["annotations"].as_object() else { return };
    if let Some(v) = notes.get(MIRROR)
        && pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty()
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(format!("metadata.annotations[{MIRROR}]"), v, why));
    }
    let local = |s: &str| s.strip_prefix("localhost/").is_some_and(|p| !p.is_empty());
    if let Some(v) = notes.get(SECCOMP) {
        let s = v.as_str().unwrap_or_default();
        if !matches!(s, "runtime/default" | "docker/default" | "unconfined") && !local(s) {
            let why = "must be a valid seccomp profile";
            errors.push(FieldError::invalid(format!("metadata.annotations.{SECCOMP}"), v, why));
        }
    }
    for (key, v) in notes {
        let Some(container) = key.strip_prefix(APPARMOR) else { continue };
        let at = format!("metadata.annotations[{key}]");
        let of = |f: &str| pod["spec"][f].as_array().into_iter().flatten();
        let all = of("initContainers").chain(of("containers"));
        if !all.into_iter().any(|c| c["name"] == container) {
            let why = "container not found";
            errors.push(FieldError::invalid(at.clone(), &container.into(), why));
        }
        let s = v.as_str().unwrap_or_default();
        if !matches!(s, "" | "runtime/default" | "unconfined") && !local(s) {
            let why = format!("invalid AppArmor profile name: {s:?}");
            errors.push(FieldError::invalid(at, v, &why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn annotations_that_make_no_sense_are_refused() {
        let told = |key: &str, value: &str| {
            let pod = json!({"metadata": {"annotations": {key: value}}, "spec": {"containers": [{"name": "c"}]}});
            let mut errors = Vec::new();
            validate(&pod, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for (key, value, expected) in [
            (
                MIRROR,
                "x",
                "[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set",
            ),
            (
                SECCOMP,
                "x",
                ".seccomp.security.alpha.kubernetes.io/pod: Invalid value: \"x\": must be a valid seccomp profile",
            ),
            (
                &format!("{APPARMOR}c"),
                "foo",
                "[container.apparmor.security.beta.kubernetes.io/c]: Invalid value: \"foo\": invalid AppArmor profile name: \"foo\"",
            ),
            (
                &format!("{APPARMOR}zz"),
                "runtime/default",
                "[container.apparmor.security.beta.kubernetes.io/zz]: Invalid value: \"zz\": container not found",
            ),
        ] {
            assert_eq!(told(key, value), [format!("metadata.annotations{expected}")]);
        }
        assert_eq!(told(&format!("{APPARMOR}c"), "localhost/mine"), Vec::<String>::new());
        assert_eq!(told(SECCOMP, "runtime/default"), Vec::<String>::new());
    }
}
