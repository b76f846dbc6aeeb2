//! What Kubernetes fills into pods and pod templates.
//!
//! Owns: the defaults of a pod's spec. Called by: the pod's row of the table, and the workloads that
//! hold a template.

use serde_json::{Value, json};

use super::super::core::{default, default_text, list, object};
use super::super::meta;
use super::super::others::default_claim;

/// Limits without requests are requests too.
pub(super) fn default_requests(container: &mut Value) {
    let Some(limits) = container.pointer("/resources/limits").and_then(Value::as_object).cloned()
    else {
        return;
    };
    let requests = object(object(container, "resources"), "requests");
    for (k, v) in limits {
        default(requests, &k, v);
    }
}

/// Takes away what only features know that are off in Kubernetes, as it does itself.
fn drop_unknown(spec: &mut Value) {
    let remove = |v: Option<&mut Value>, field: &str| {
        let Some(Value::Object(m)) = v else { return false };
        m.remove(field);
        m.is_empty()
    };
    remove(Some(spec), "resourceClaims");
    remove(Some(spec), "resources");
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for c in list(spec, field) {
            remove(c.get_mut("resources"), "claims");
            if remove(c.get_mut("lifecycle"), "stopSignal") {
                remove(Some(c), "lifecycle");
            }
        }
    }
}

/// The defaults of a pod's spec, in pods and in templates.
pub(super) fn default_spec(spec: &mut Value) {
    drop_unknown(spec);
    default_text(spec, "restartPolicy", "Always");
    default(spec, "terminationGracePeriodSeconds", 30);
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "securityContext", json!({}));
    default_text(spec, "schedulerName", "default-scheduler");
    let accounts = ["serviceAccountName", "serviceAccount"];
    let named = accounts.iter().filter_map(|f| spec[*f].as_str()).find(|s| !s.is_empty());
    if let Some(account) = named.map(str::to_owned) {
        for field in accounts {
            spec[field] = account.as_str().into();
        }
    }
    let host_network = spec["hostNetwork"] == true;
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for c in list(spec, field) {
            default_container(c, host_network);
        }
    }
    for v in list(spec, "volumes") {
        default_volume(v);
    }
}

fn default_container(c: &mut Value, host_network: bool) {
    default_text(c, "terminationMessagePath", "/dev/termination-log");
    default_text(c, "terminationMessagePolicy", "File");
    default(c, "resources", json!({}));
    if c.get("imagePullPolicy").is_none_or(|p| *p == "") {
        let image = c["image"].as_str().unwrap_or_default();
        c["imagePullPolicy"] =
            if image_is_latest(image) { "Always" } else { "IfNotPresent" }.into();
    }
    for p in list(c, "ports") {
        default_text(p, "protocol", "TCP");
        if host_network && let Some(n) = p.get("containerPort").cloned() {
            default(p, "hostPort", n);
        }
    }
    for e in list(c, "env") {
        if let Some(f) = e.pointer_mut("/valueFrom/fieldRef") {
            default_text(f, "apiVersion", "v1");
        }
        if let Some(of) = e.pointer_mut("/valueFrom/resourceFieldRef") {
            default(of, "divisor", "0");
        }
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(p) = c.get_mut(field) else { continue };
        for (k, v) in [
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ] {
            if p.get(k).is_none_or(|v| *v == 0) {
                p[k] = v.into();
            }
        }
        default_handler(p);
    }
    for hook in ["postStart", "preStop"] {
        if let Some(h) = c.pointer_mut(&format!("/lifecycle/{hook}")) {
            default_handler(h);
        }
    }
}

fn default_handler(p: &mut Value) {
    if let Some(h) = p.get_mut("httpGet") {
        default_text(h, "path", "/");
        default_text(h, "scheme", "HTTP");
    }
    if let Some(g) = p.get_mut("grpc") {
        default(g, "service", "");
    }
}

/// Whether an image's tag is `latest`, said or unsaid.
pub(super) fn image_is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.rsplit_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

fn default_volume(v: &mut Value) {
    let known = v.as_object().is_some_and(|m| m.keys().any(|k| k != "name"));
    if !known {
        v["emptyDir"] = json!({});
    }
    for field in ["configMap", "secret", "projected", "downwardAPI"] {
        if let Some(s) = v.get_mut(field) {
            default(s, "defaultMode", 0o644);
        }
    }
    if let Some(h) = v.get_mut("hostPath") {
        default(h, "type", "");
    }
    for (field, known) in [
        ("iscsi", json!({"iscsiInterface": "default"})),
        ("rbd", json!({"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"})),
        (
            "azureDisk",
            json!({"cachingMode": "ReadWrite", "fsType": "ext4", "kind": "Shared", "readOnly": false}),
        ),
        ("scaleIO", json!({"storageMode": "ThinProvisioned", "fsType": "xfs"})),
    ] {
        if let (Some(s), Value::Object(known)) = (v.get_mut(field), known) {
            known.into_iter().for_each(|(k, known)| default(s, &k, known));
        }
    }
    if let Some(t) = v.pointer_mut("/ephemeral/volumeClaimTemplate") {
        meta::metadata(t).entry("creationTimestamp").or_insert(Value::Null);
        default_claim(t);
    }
    for s in v.pointer_mut("/projected/sources").and_then(Value::as_array_mut).into_iter().flatten()
    {
        if let Some(t) = s.get_mut("serviceAccountToken") {
            default(t, "expirationSeconds", 3600);
        }
        for i in
            s.pointer_mut("/downwardAPI/items").and_then(Value::as_array_mut).into_iter().flatten()
        {
            if let Some(f) = i.get_mut("fieldRef") {
                default_text(f, "apiVersion", "v1");
            }
        }
    }
    for i in v.pointer_mut("/downwardAPI/items").and_then(Value::as_array_mut).into_iter().flatten()
    {
        if let Some(f) = i.get_mut("fieldRef") {
            default_text(f, "apiVersion", "v1");
        }
    }
}

/// Defaults of a pod template.
pub(crate) fn default_template(parent: &mut Value) {
    let template = object(parent, "template");
    meta::metadata(template).entry("creationTimestamp").or_insert(Value::Null);
    default_spec(object(template, "spec"));
}
