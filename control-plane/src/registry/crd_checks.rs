//! What Kubernetes refuses in a CustomResourceDefinition, beside its schemas.
//!
//! Owns: names, versions, columns, subresources and what of a definition may change.
//! Called by: the definition's row of the table.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/extend-resources/custom-resource-definition-v1/>

use serde_json::{Value, json};

use super::crd::is_true;
use super::{Part, crd_schema, meta, names};
use crate::http::status::FieldError;

pub(super) fn validate(new: &Value, old: Option<&Value>, part: Part, errors: &mut Vec<FieldError>) {
    if part == Part::Status {
        return;
    }
    let spec = &new["spec"];
    // One that goes is let go, whatever somebody wrote into its status.
    if meta::is_terminating(new) && old.is_some_and(|o| o["spec"] == *spec) {
        return;
    }
    let n = &spec["names"];
    let text = |v: &'_ Value| v.as_str().unwrap_or_default().to_owned();
    let (plural, group) = (text(&n["plural"]), text(&spec["group"]));
    if meta::name(new) != format!("{plural}.{group}") && old.is_none() {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", &new["metadata"]["name"], why));
    }
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else if let Err(e) = names::dns_subdomain(&group) {
        errors.push(FieldError::invalid("spec.group", &spec["group"], &e));
    } else if !group.contains('.') {
        let why = "should be a domain with at least one dot";
        errors.push(FieldError::invalid("spec.group", &spec["group"], why));
    }
    match spec["scope"].as_str().unwrap_or_default() {
        "" => errors.push(FieldError::required("spec.scope", "")),
        "Namespaced" | "Cluster" => {}
        _ => errors.push(FieldError::unsupported(
            "spec.scope",
            &spec["scope"],
            &["Cluster", "Namespaced"],
        )),
    }
    validate_versions(new, errors);
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(&n[field]).is_empty() {
            errors.push(FieldError::required(format!("spec.names.{field}"), ""));
        }
    }
    validate_names(n, errors);
    validate_schemas(spec, errors);
    validate_conversion(&spec["conversion"], errors);
    validate_stored(new, errors);
    validate_approval(new, old, errors);
    if spec["preserveUnknownFields"] == true {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", &json!(true), why));
    }
    let Some(old) = old else { return };
    let fixed: &[&str] = match is_true(old, "Established") {
        true => &["scope", "names/kind", "group", "names/plural"],
        false => &["group", "names/plural"],
    };
    for field in fixed {
        let of = |o: &Value| o["spec"].pointer(&format!("/{field}")).cloned().unwrap_or_default();
        if of(old) != of(new) {
            let at = format!("spec.{}", field.replace('/', "."));
            errors.push(FieldError::invalid(at, &of(new), "field is immutable"));
        }
    }
}

fn validate_conversion(conversion: &Value, errors: &mut Vec<FieldError>) {
    if conversion["strategy"] != "None" {
        let at = "spec.conversion.strategy";
        errors.push(match conversion["strategy"].as_str().unwrap_or_default() {
            "" => FieldError::required(at, ""),
            // Conversion by a webhook is not built.
            _ => FieldError::unsupported(at, &conversion["strategy"], &["None"]),
        });
        return;
    }
    let why = "should not be set when strategy is not set to Webhook";
    let hook = &conversion["webhook"];
    if hook["clientConfig"].is_object() {
        errors.push(FieldError::forbidden("spec.conversion.webhookClientConfig", why));
    }
    if hook["conversionReviewVersions"].as_array().is_some_and(|v| !v.is_empty()) {
        errors.push(FieldError::forbidden("spec.conversion.conversionReviewVersions", why));
    }
}

/// Groups of the Kubernetes project are not for everybody.
/// <https://github.com/kubernetes/enhancements/pull/1111>
fn validate_approval(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    const NOTE: &str = "api-approved.kubernetes.io";
    let group = meta::text(new, "/spec/group");
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|g| group == *g || group.ends_with(&format!(".{g}")));
    let said =
        |o: &'_ Value| o["metadata"]["annotations"][NOTE].as_str().unwrap_or_default().to_owned();
    if !protected || old.is_some_and(|o| said(o) == said(new)) {
        return;
    }
    let at = format!("metadata.annotations[{NOTE}]");
    let (note, link) = (said(new), "see https://github.com/kubernetes/enhancements/pull/1111");
    if note.is_empty() {
        let why = format!("protected groups must have approval annotation \"{NOTE}\", {link}");
        errors.push(FieldError::required(at, &why));
    } else if !note.starts_with("unapproved") && !note.starts_with("http") {
        let why = format!(
            "protected groups must have approval annotation \"{NOTE}\" with either a URL or a reason starting with \"unapproved\", {link}"
        );
        errors.push(FieldError::invalid(at, &json!(note), &why));
    }
}

/// The names: labels of DNS, kinds in mixed case.
fn validate_names(n: &Value, errors: &mut Vec<FieldError>) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let value = n[field].as_str().unwrap_or_default();
        let mixed = matches!(field, "kind" | "listKind");
        let label = if mixed { value.to_lowercase() } else { value.to_owned() };
        if let Err(e) = names::dns_1035_label(&label)
            && !value.is_empty()
        {
            let but = "may have mixed case, but should otherwise match: ";
            let why = if mixed { format!("{but}{e}") } else { e };
            errors.push(FieldError::invalid(format!("spec.names.{field}"), &n[field], &why));
        }
    }
    let mut each = |field: &str| {
        for (i, name) in n[field].as_array().into_iter().flatten().enumerate() {
            if let Err(e) = names::dns_1035_label(name.as_str().unwrap_or_default()) {
                errors.push(FieldError::invalid(format!("spec.names.{field}[{i}]"), name, &e));
            }
        }
    };
    each("shortNames");
    each("categories");
    if n["kind"].as_str().is_some_and(|k| !k.is_empty()) && n["kind"] == n["listKind"] {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid("spec.names.listKind", &n["listKind"], why));
    }
}

fn versions(spec: &Value) -> &[Value] {
    spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether what versions have in common is named once, as in Kubernetes.
fn common(versions: &[Value], field: &str) -> bool {
    versions.iter().all(|v| !v[field].is_null() && v[field] == versions[0][field])
}

fn validate_versions(new: &Value, errors: &mut Vec<FieldError>) {
    let versions = versions(&new["spec"]);
    for (i, v) in versions.iter().enumerate() {
        if !v["schema"]["openAPIV3Schema"].is_object() {
            let at = format!("spec.versions[{i}].schema.openAPIV3Schema");
            errors.push(FieldError::required(at, "schemas are required"));
        }
    }
    for (i, v) in versions.iter().enumerate() {
        let at = format!("spec.versions[{i}]");
        if let Err(e) = names::dns_1035_label(v["name"].as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(format!("{at}.name"), &v["name"], &e));
        }
        validate_warning(v, &at, errors);
    }
    // A field of old has the first of the names, too.
    if let Some(first) = versions.first()
        && let Err(e) = names::dns_1035_label(first["name"].as_str().unwrap_or_default())
    {
        errors.push(FieldError::invalid("spec.version", &first["name"], &e));
    }
    let unique = versions
        .iter()
        .enumerate()
        .all(|(i, v)| !versions[..i].iter().any(|o| o["name"] == v["name"]));
    let stored = versions.iter().filter(|v| v["storage"] == true).count();
    for (good, why) in [
        (unique, "must contain unique version names"),
        (stored == 1, "must have exactly one version marked as storage version"),
    ] {
        if !good {
            let shown = match versions {
                [] => "[]apiextensions.CustomResourceDefinitionVersion(nil)".to_owned(),
                all => all.len().to_string(),
            };
            errors.push(FieldError::invalid_shown("spec.versions", &shown, why));
        }
    }
}

/// What users of a version are told before it goes.
fn validate_warning(version: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let Some(text) = version["deprecationWarning"].as_str() else { return };
    let at = format!("{at}.deprecationWarning");
    let mut bad = |why: &str| {
        errors.push(FieldError::invalid(at.as_str(), &version["deprecationWarning"], why))
    };
    if version["deprecated"] != true {
        return bad("can only be set for deprecated versions");
    }
    if text.len() > 256 {
        bad("must be <= 256 characters long");
    }
    if text.is_empty() {
        bad("must not be an empty string");
    }
    if let Some((i, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        bad(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {i}"
        ));
    }
}

/// Schemas, columns and subresources: of each version, or once if all have the same.
fn validate_schemas(spec: &Value, errors: &mut Vec<FieldError>) {
    let versions = versions(spec);
    for (i, v) in versions.iter().enumerate() {
        let at = format!("spec.versions[{i}]");
        let place = |field: &str| if common(versions, field) { "spec" } else { &at }.to_owned();
        let schema = &v["schema"]["openAPIV3Schema"];
        if schema.is_object() && !common(versions, "schema") {
            crd_schema::validate(schema, &format!("{at}.schema.openAPIV3Schema"), errors);
        } else if schema.is_object() && i == 0 {
            crd_schema::validate(schema, "spec.validation.openAPIV3Schema", errors);
        }
        let once = |field: &str| i == 0 || !common(versions, field);
        if once("subresources") {
            let at = place("subresources");
            validate_scale(
                &v["subresources"]["scale"],
                &format!("{at}.subresources.scale"),
                errors,
            );
        }
        if once("additionalPrinterColumns") {
            validate_columns(v, &place("additionalPrinterColumns"), errors);
        }
        if once("selectableFields") {
            validate_selectable(v, &place("selectableFields"), errors);
        }
    }
}

fn validate_stored(new: &Value, errors: &mut Vec<FieldError>) {
    let stored = new["status"]["storedVersions"].as_array().map_or(&[][..], Vec::as_slice);
    let at = "status.storedVersions";
    let names: Vec<String> = stored.iter().map(Value::to_string).collect();
    let shown = format!("[]string{{{}}}", names.join(", "));
    if stored.is_empty() {
        let why = "must have at least one stored version";
        errors.push(FieldError::invalid_shown(at, &shown, why));
        return;
    }
    let versions = versions(&new["spec"]);
    for v in versions.iter().filter(|v| v["storage"] == true && !stored.contains(&v["name"])) {
        let why =
            format!("must have the storage version {}", v["name"].as_str().unwrap_or_default());
        errors.push(FieldError::invalid_shown(at, &shown, &why));
    }
    for (i, stored) in stored.iter().enumerate() {
        if !versions.iter().any(|v| v["name"] == *stored) {
            let name = stored.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(format!("{at}[{i}]"), stored, &why));
        }
    }
}

const SIMPLE: &str = "must be a simple json path starting with .";

fn validate_columns(version: &Value, at: &str, errors: &mut Vec<FieldError>) {
    const FORMATS: [&str; 8] =
        ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (i, c) in version["additionalPrinterColumns"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{at}.additionalPrinterColumns[{i}]");
        if c["name"].as_str().unwrap_or_default().is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        }
        let types = ["boolean", "date", "integer", "number", "string"];
        if !c["type"].as_str().is_some_and(|t| types.contains(&t)) {
            let why = format!("must be one of {}", types.join(","));
            errors.push(FieldError::invalid(format!("{at}.type"), &c["type"], &why));
        }
        let format = c["format"].as_str().unwrap_or_default();
        if !format.is_empty() && !FORMATS.contains(&format) {
            let why = format!("must be one of {}", FORMATS.join(","));
            errors.push(FieldError::invalid(format!("{at}.format"), &c["format"], &why));
        }
        match c["jsonPath"].as_str().unwrap_or_default() {
            "" => errors.push(FieldError::required(format!("{at}.JSONPath"), "")),
            p if p.starts_with('.') => {}
            _ => errors.push(FieldError::invalid(format!("{at}.JSONPath"), &c["jsonPath"], SIMPLE)),
        }
    }
}

/// The paths of the scale.
fn validate_scale(scale: &Value, at: &str, errors: &mut Vec<FieldError>) {
    if !scale.is_object() {
        return;
    }
    for (field, roots, whose) in [
        ("specReplicasPath", &[".spec."][..], ".spec"),
        ("statusReplicasPath", &[".status."], ".status"),
        ("labelSelectorPath", &[".spec.", ".status."], "either .spec or .status"),
    ] {
        let at = format!("{at}.{field}");
        match scale[field].as_str().unwrap_or_default() {
            "" if field == "labelSelectorPath" => {}
            "" => errors.push(FieldError::required(at, "")),
            p if !p.starts_with('.') => {
                errors.push(FieldError::invalid(at, &scale[field], SIMPLE));
            }
            p if roots.iter().any(|r| p.starts_with(r)) => {}
            _ => {
                let why = format!("should be a json path under {whose}");
                errors.push(FieldError::invalid(at, &scale[field], &why));
            }
        }
    }
}

/// The fields that a selector may name.
/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#crd-selectable-fields>
fn validate_selectable(version: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut seen: Vec<&str> = Vec::new();
    for (i, f) in version["selectableFields"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{at}.selectableFields[{i}].jsonPath");
        let path = f["jsonPath"].as_str().unwrap_or_default();
        if path.is_empty() {
            errors.push(FieldError::required(at, ""));
            continue;
        }
        let mut bad = |why: &str| errors.push(FieldError::invalid(&*at, &f["jsonPath"], why));
        let found = match path.strip_prefix('.') {
            _ if path.contains('[') => Err("array notation is not allowed".to_owned()),
            Some(rest) => rest.split('.').try_fold(schema, |s, name| {
                s["properties"]
                    .get(name)
                    .ok_or_else(|| "does not refer to a valid field".to_owned())
            }),
            None => Err(format!("expected [ or . but got: {path}")),
        };
        match found {
            Err(why) => {
                bad(&format!("is an invalid path: {why}"));
                continue;
            }
            Ok(field) => {
                if path == ".metadata" || path.starts_with(".metadata.") {
                    bad("must not point to fields in metadata");
                }
                if !matches!(field["type"].as_str(), Some("string" | "boolean" | "integer")) {
                    bad(
                        "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
                    );
                }
            }
        }
        if seen.contains(&path) {
            errors.push(FieldError::duplicate(at, &f["jsonPath"]));
        }
        seen.push(path);
    }
}
