//! Volumes of pods: their sources, and where containers mount them.
//!
//! Owns: what Kubernetes refuses in them. Called by: `pods`, for pods and templates.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume/>

use serde_json::{Value, json};

use super::pod_fields::{Errors, each, environment_name, field_ref, one_of, resource_ref, text};
use super::quantity::Quantity;
use super::{meta, names, others};
use crate::http::status::FieldError;

const BACKSTEPS: &str = "must not contain '..'";
const RELATIVE: &str = "must be a relative path";

fn has_backsteps(path: &str) -> bool {
    path.split('/').any(|p| p == "..")
}

/// A path that stays below the place it starts from.
pub(super) fn descending(v: &Value, at: &str, errors: &mut Errors) {
    let path = v.as_str().unwrap_or_default();
    if path.starts_with('/') {
        errors.push(FieldError::invalid(at, v, RELATIVE));
    }
    if has_backsteps(path) {
        errors.push(FieldError::invalid(at, v, BACKSTEPS));
    }
}

/// As [`descending`], and not one of the names that the kubelet keeps for itself.
fn file_name(v: &Value, at: &str, errors: &mut Errors) {
    descending(v, at, errors);
    let path = v.as_str().unwrap_or_default();
    if path.starts_with("..") && !path.starts_with("../") && path != ".." {
        errors.push(FieldError::invalid(at, v, "must not start with '..'"));
    }
}

fn needs(v: &Value, at: &str, field: &str, errors: &mut Errors) {
    if text(v, field).is_empty() {
        errors.push(FieldError::required(format!("{at}.{field}"), ""));
    }
}

fn mode(v: &Value, field: &str, at: &str, errors: &mut Errors) {
    if v[field].as_i64().is_some_and(|n| !(0..=0o777).contains(&n)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(format!("{at}.{field}"), &v[field], why));
    }
}

/// Files made of the keys of a secret or a config map.
fn keys(v: &Value, at: &str, errors: &mut Errors) {
    for (i, item) in each(v, "items") {
        let at = format!("{at}.items[{i}]");
        needs(item, &at, "key", errors);
        needs(item, &at, "path", errors);
        if !text(item, "path").is_empty() {
            file_name(&item["path"], &format!("{at}.path"), errors);
        }
        mode(item, "mode", &at, errors);
    }
}

/// Files made of the pod's own fields; their errors do not say which of them it is.
fn own_fields(v: &Value, at: &str, errors: &mut Errors) {
    for (_, item) in each(v, "items") {
        needs(item, at, "path", errors);
        file_name(&item["path"], &format!("{at}.path"), errors);
        match (item.get("fieldRef"), item.get("resourceFieldRef")) {
            (Some(field), other) => {
                field_ref(field, &format!("{at}.fieldRef"), false, errors);
                if other.is_some() {
                    let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                    errors.push(FieldError::invalid(at, &json!("resource"), why));
                }
            }
            (None, Some(r)) => resource_ref(r, &format!("{at}.resourceFieldRef"), true, errors),
            (None, None) => {
                let why = "one of fieldRef and resourceFieldRef is required";
                errors.push(FieldError::required(at, why));
            }
        }
        mode(item, "mode", at, errors);
    }
}

fn token(v: &Value, projected: &str, at: &str, errors: &mut Errors) {
    let seconds = &v["expirationSeconds"];
    if seconds.as_i64().is_some_and(|s| s < 600) {
        let why = "may not specify a duration less than 10 minutes";
        errors.push(FieldError::invalid(format!("{at}.expirationSeconds"), seconds, why));
    }
    if seconds.as_i64().is_some_and(|s| s > 1 << 32) {
        let why = "may not specify a duration larger than 2^32 seconds";
        errors.push(FieldError::invalid(format!("{at}.expirationSeconds"), seconds, why));
    }
    needs(v, projected, "path", errors);
    if !text(v, "path").is_empty() {
        file_name(&v["path"], &format!("{projected}.path"), errors);
    }
}

fn projected(v: &Value, at: &str, errors: &mut Errors) {
    let mut paths: Vec<&str> = Vec::new();
    for (i, source) in each(v, "sources") {
        let own = format!("{at}.sources[{i}]");
        let mut found = 0;
        for field in ["secret", "configMap", "downwardAPI", "serviceAccountToken"] {
            let Some(s) = source.get(field) else { continue };
            found += 1;
            let own = format!("{own}.{field}");
            match field {
                "serviceAccountToken" => token(s, at, &own, errors),
                "downwardAPI" => own_fields(s, &own, errors),
                _ => {
                    needs(s, &own, "name", errors);
                    keys(s, &own, errors);
                }
            }
            for path in each(s, "items").map(|(_, i)| text(i, "path")).filter(|p| !p.is_empty()) {
                if paths.contains(&path) {
                    let shown = if field == "downwardAPI" { path } else { text(s, "name") };
                    let why = "conflicting duplicate paths";
                    errors.push(FieldError::invalid(at, &json!(shown), why));
                }
                paths.push(path);
            }
        }
        if found > 1 {
            let why = "may not specify more than 1 volume type per source";
            errors.push(FieldError::forbidden(own, why));
        }
    }
    mode(v, "defaultMode", at, errors);
}

pub(crate) fn host_path(v: &Value, at: &str, errors: &mut Errors) {
    needs(v, at, "path", errors);
    if text(v, "path").is_empty() {
        return;
    }
    if has_backsteps(text(v, "path")) {
        errors.push(FieldError::invalid(format!("{at}.path"), &v["path"], BACKSTEPS));
    }
    let known = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    one_of(v, "type", at, &known, errors);
}

/// The name of a CSI driver.
pub(crate) fn driver_name(v: &Value, at: &str, errors: &mut Errors) {
    let name = v.as_str().unwrap_or_default();
    if name.is_empty() {
        errors.push(FieldError::required(at, ""));
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(at, 63));
    }
    if let Err(e) = names::dns_subdomain(&name.to_lowercase()) {
        errors.push(FieldError::invalid(at, &json!(name), &e));
    }
}

/// A share of an NFS server.
pub(crate) fn nfs(v: &Value, at: &str, errors: &mut Errors) {
    needs(v, at, "server", errors);
    needs(v, at, "path", errors);
    if !text(v, "path").starts_with('/') {
        let (path, why) = (json!(text(v, "path")), "must be an absolute path");
        errors.push(FieldError::invalid(format!("{at}.path"), &path, why));
    }
}

fn ephemeral(v: &Value, at: &str, errors: &mut Errors) {
    let at = format!("{at}.volumeClaimTemplate");
    let Some(template) = v.get("volumeClaimTemplate") else {
        errors.push(FieldError::required(at, ""));
        return;
    };
    let m = &template["metadata"];
    let own = format!("{at}.metadata");
    meta::validate_annotations(m.get("annotations"), &format!("{own}.annotations"), errors);
    meta::validate_labels(m.get("labels"), &format!("{own}.labels"), errors);
    for (field, v) in m.as_object().into_iter().flatten() {
        // What the claim is called, and the rest, follows from the pod.
        if !matches!(field.as_str(), "annotations" | "labels") && !v.is_null() {
            errors.push(FieldError::forbidden(format!("{own}.{field}"), "cannot be set"));
        }
    }
    others::validate_claim_spec(&template["spec"], &format!("{at}.spec"), errors);
}

/// A disk on another machine, spoken to by iSCSI.
fn iscsi(v: &Value, at: &str, errors: &mut Errors) {
    needs(v, at, "targetPortal", errors);
    needs(v, at, "iqn", errors);
    let known = ["iqn", "eui", "naa"];
    let name = text(v, "iqn");
    if !name.is_empty() && !known.iter().any(|k| name.starts_with(k)) {
        let why = "must be valid format starting with iqn, eui, or naa";
        errors.push(FieldError::invalid(format!("{at}.iqn"), &v["iqn"], why));
    }
    if v["lun"].as_i64().is_some_and(|n| !(0..=255).contains(&n)) {
        let why = "must be between 0 and 255, inclusive";
        errors.push(FieldError::invalid(format!("{at}.lun"), &v["lun"], why));
    }
}

/// What sources that no longer do anything by themselves, or are seldom met, must have.
fn needed(field: &str) -> &'static [&'static str] {
    match field {
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "azureDisk" => &["diskName", "diskURI"],
        "azureFile" => &["secretName", "shareName"],
        "cephfs" => &["monitors"],
        "flexVolume" => &["driver"],
        "gcePersistentDisk" => &["pdName"],
        "gitRepo" => &["repository"],
        "glusterfs" => &["endpoints", "path"],
        "persistentVolumeClaim" => &["claimName"],
        "photonPersistentDisk" => &["pdID"],
        "rbd" => &["monitors", "image"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "storageos" => &["volumeName"],
        "vsphereVolume" => &["volumePath"],
        _ => &[],
    }
}

/// What a volume is made of.
fn source(v: &Value, at: &str, errors: &mut Errors) {
    // In the order in which Kubernetes looks for them: the first counts.
    let order = [
        "emptyDir",
        "hostPath",
        "gitRepo",
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "secret",
        "nfs",
        "iscsi",
        "glusterfs",
        "flocker",
        "persistentVolumeClaim",
        "rbd",
        "cinder",
        "cephfs",
        "quobyte",
        "downwardAPI",
        "fc",
        "flexVolume",
        "configMap",
        "azureFile",
        "vsphereVolume",
        "photonPersistentDisk",
        "portworxVolume",
        "azureDisk",
        "storageos",
        "projected",
        "scaleIO",
        "csi",
        "ephemeral",
        "image",
    ];
    let mut first = true;
    for field in order {
        let Some(s) = v.get(field) else { continue };
        // This one is told under another name.
        let shown = if field == "gcePersistentDisk" { "persistentDisk" } else { field };
        let at = format!("{at}.{shown}");
        if !first {
            let why = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(at, why));
            continue;
        }
        first = false;
        match field {
            "emptyDir" => {
                let size = s["sizeLimit"].as_str().and_then(Quantity::parse);
                if size.is_some_and(Quantity::is_negative) {
                    let why = "SizeLimit field must be a valid resource quantity";
                    errors.push(FieldError::forbidden(format!("{at}.sizeLimit"), why));
                }
            }
            "hostPath" => host_path(s, &at, errors),
            "nfs" => nfs(s, &at, errors),
            "iscsi" => iscsi(s, &at, errors),
            "secret" | "configMap" => {
                needs(s, &at, if field == "secret" { "secretName" } else { "name" }, errors);
                mode(s, "defaultMode", &at, errors);
                keys(s, &at, errors);
            }
            "downwardAPI" => {
                mode(s, "defaultMode", &at, errors);
                own_fields(s, &at, errors);
            }
            "projected" => projected(s, &at, errors),
            "csi" => driver_name(&s["driver"], &format!("{at}.driver"), errors),
            "ephemeral" => ephemeral(s, &at, errors),
            "image" => {
                let known = ["Always", "IfNotPresent", "Never"];
                one_of(s, "pullPolicy", &at, &known, errors);
            }
            _ => {
                for f in needed(field) {
                    if text(s, f).is_empty() && s[*f].as_array().is_none_or(Vec::is_empty) {
                        errors.push(FieldError::required(format!("{at}.{f}"), ""));
                    }
                }
            }
        }
    }
}

/// The volumes of a pod.
pub(crate) fn volumes(spec: &Value, path: &str, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, v) in each(spec, "volumes") {
        let at = format!("{path}.volumes[{i}]");
        source(v, &at, errors);
        let name = text(v, "name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        } else if let Err(e) = names::dns_label(name) {
            errors.push(FieldError::invalid(format!("{at}.name"), &v["name"], &e));
        } else if seen.contains(&name) {
            errors.push(FieldError::duplicate(format!("{at}.name"), &v["name"]));
        }
        seen.push(name);
    }
}

fn propagation(m: &Value, privileged: bool, at: &str, errors: &mut Errors) {
    let known = ["Bidirectional", "HostToContainer", "None"];
    let at = format!("{at}.mountPropagation");
    let way = &m["mountPropagation"];
    if way.as_str().is_some_and(|w| !known.contains(&w)) {
        errors.push(FieldError::unsupported(at, way, &known));
    } else if *way == "Bidirectional" && !privileged {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(at, why));
    }
}

fn recursive_read_only(m: &Value, at: &str, errors: &mut Errors) {
    let at = format!("{at}.recursiveReadOnly");
    match m["recursiveReadOnly"].as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if m["readOnly"] != true {
                let why = "may only be specified when readOnly is true";
                errors.push(FieldError::forbidden(at.as_str(), why));
            }
            if m["mountPropagation"].as_str().is_some_and(|p| p != "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(at, why));
            }
        }
        Some(_) => {
            let known = ["Disabled", "Enabled", "IfPossible"];
            errors.push(FieldError::unsupported(at, &m["recursiveReadOnly"], &known));
        }
    }
}

/// Where a container mounts volumes.
pub(crate) fn mounts(c: &Value, spec: &Value, path: &str, errors: &mut Errors) {
    let path = format!("{path}.volumeMounts");
    let privileged = c["securityContext"]["privileged"] == true;
    let is_volume = |name: &str| each(spec, "volumes").any(|(_, v)| text(v, "name") == name);
    let device =
        |field: &str, value: &str| each(c, "volumeDevices").any(|(_, d)| text(d, field) == value);
    let mut places: Vec<&str> = Vec::new();
    for (i, m) in each(c, "volumeMounts") {
        let at = format!("{path}[{i}]");
        let (name, place) = (text(m, "name"), text(m, "mountPath"));
        needs(m, &at, "name", errors);
        if name.is_empty() || !is_volume(name) {
            errors.push(FieldError::not_found(format!("{at}.name"), &json!(name)));
        }
        needs(m, &at, "mountPath", errors);
        if places.contains(&place) {
            let why = "must be unique";
            errors.push(FieldError::invalid(format!("{at}.mountPath"), &json!(place), why));
        }
        places.push(place);
        if device("name", name) {
            let why = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(format!("{at}.name"), &m["name"], why));
        }
        if device("devicePath", place) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(format!("{at}.mountPath"), &json!(place), why));
        }
        // The errors of what follows do not say which mount it is.
        let (plain, made) = (text(m, "subPath"), text(m, "subPathExpr"));
        if !plain.is_empty() {
            descending(&m["subPath"], &format!("{path}.subPath"), errors);
        }
        if !made.is_empty() {
            if !plain.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                errors.push(FieldError::invalid(
                    format!("{at}.subPathExpr"),
                    &m["subPathExpr"],
                    why,
                ));
            }
            descending(&m["subPathExpr"], &format!("{path}.subPathExpr"), errors);
        }
        propagation(m, privileged, &path, errors);
        recursive_read_only(m, &path, errors);
    }
}

/// Volumes that a container has as devices.
pub(crate) fn devices(c: &Value, spec: &Value, path: &str, errors: &mut Errors) {
    // Of mounts of one name the last counts.
    let mounted: std::collections::BTreeMap<&str, &str> =
        each(c, "volumeMounts").map(|(_, m)| (text(m, "name"), text(m, "mountPath"))).collect();
    let (mut named, mut placed): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (i, d) in each(c, "volumeDevices") {
        let at = format!("{path}.volumeDevices[{i}]");
        let (name, place) = (text(d, "name"), text(d, "devicePath"));
        needs(d, &at, "name", errors);
        let name_at = format!("{at}.name");
        if named.contains(&name) {
            errors.push(FieldError::invalid(name_at.as_str(), &d["name"], "must be unique"));
        }
        match each(spec, "volumes").find(|(_, v)| !name.is_empty() && text(v, "name") == name) {
            None => errors.push(FieldError::not_found(name_at, &json!(name))),
            Some((_, v))
                if v.get("persistentVolumeClaim").is_none() && v.get("ephemeral").is_none() =>
            {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(name_at, &d["name"], why));
            }
            Some(_) => {}
        }
        needs(d, &at, "devicePath", errors);
        let at = format!("{at}.devicePath");
        if placed.contains(&place) {
            errors.push(FieldError::invalid(at.as_str(), &d["devicePath"], "must be unique"));
        }
        if has_backsteps(place) {
            let why = "can not contain backsteps ('..')";
            errors.push(FieldError::invalid(at.as_str(), &d["devicePath"], why));
        }
        if mounted.contains_key(name) {
            let why = "must not already exist in volumeMounts";
            errors.push(FieldError::invalid(
                format!("{path}.volumeDevices[{i}].name"),
                &json!(name),
                why,
            ));
        }
        if mounted.values().any(|p| *p == place) {
            let why = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(at, &json!(place), why));
        }
        named.push(name);
        placed.push(place);
    }
}

/// Whole config maps and secrets as a container's environment.
pub(crate) fn environment_sources(c: &Value, at: &str, errors: &mut Errors) {
    for (i, e) in each(c, "envFrom") {
        let own = format!("{at}.envFrom[{i}]");
        if !text(e, "prefix").is_empty() {
            environment_name(&e["prefix"], format!("{own}.prefix"), errors);
        }
        let mut found = 0;
        for field in ["configMapRef", "secretRef"] {
            let Some(r) = e.get(field) else { continue };
            found += 1;
            let at = format!("{own}.{field}");
            needs(r, &at, "name", errors);
            if !text(r, "name").is_empty()
                && let Err(e) = names::dns_subdomain(text(r, "name"))
            {
                errors.push(FieldError::invalid(format!("{at}.name"), &r["name"], &e));
            }
        }
        let why = match found {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(format!("{at}.envFrom"), &json!(""), why));
    }
}
