//! Tables and bare metadata: the other forms of an answer.
//!
//! Owns: `Table` and `PartialObjectMetadata`. Called by: the router, watch.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::list::Page;
use super::request::Query;
use super::status::{FieldError, Status};
use crate::registry::Resource;
use crate::registry::column_help;
use crate::registry::columns::{self, Column};
use crate::registry::meta::text;

/// What rows carry beside their cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// # Errors
    /// When the query asks for something that there is not.
    pub(crate) fn check(query: &Query) -> Result<(), Status> {
        match query.get("includeObject") {
            None | Some("None" | "Metadata" | "Object") => Ok(()),
            Some(other) => {
                let why = "must be 'Metadata', 'Object', 'None', or empty";
                let e = FieldError::invalid("includeObject", &json!(other), why);
                Err(Status::bad_request(format!("Unable to convert to Table as requested: {e}")))
            }
        }
    }

    pub(crate) fn read(query: &Query) -> Self {
        match query.get("includeObject") {
            Some("None") => Self::None,
            Some("Object") => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// The columns of a resource as a Table defines them.
pub(crate) fn definitions(resource: &Resource) -> Value {
    if let Some(custom) = &resource.custom {
        let mut out = vec![
            json!({"name": "Name", "type": "string", "format": "name", "description": column_help::metadata("name"), "priority": 0}),
        ];
        if custom.columns.is_empty() {
            out.push(json!({"name": "Age", "type": "date", "format": "", "description": column_help::metadata("creationTimestamp"), "priority": 0}));
        }
        for c in &custom.columns {
            let of = |f: &str| c[f].as_str().unwrap_or_default();
            let help = if of("description").is_empty() {
                format!(
                    "Custom resource definition column (in JSONPath format): {}",
                    of("jsonPath")
                )
            } else {
                of("description").to_owned()
            };
            out.push(json!({"name": of("name"), "type": of("type"), "format": of("format"), "description": help, "priority": c["priority"].as_i64().unwrap_or(0)}));
        }
        return Value::Array(out);
    }
    let one = |c: &Column| {
        let named = c.name == "Name" || c.name == "Attacher";
        let format = if named { "name" } else { "" };
        let help = column_help::of(&resource.kind, c.name);
        json!({"name": c.name, "type": c.kind, "format": format, "description": help, "priority": c.priority})
    };
    resource.strategy.columns.columns.iter().map(one).collect()
}

fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let Some(custom) = &resource.custom else {
        return (resource.strategy.columns.cells)(object, now);
    };
    let mut out = vec![text(object, "/metadata/name").into()];
    if custom.columns.is_empty() {
        out.push(columns::age(text(object, "/metadata/creationTimestamp"), now).into());
    }
    for c in &custom.columns {
        let found = simple_path(object, c["jsonPath"].as_str().unwrap_or_default());
        out.push(match (c["type"].as_str(), found) {
            (_, None) => Value::Null,
            (Some("date"), Some(v)) => match v.as_str() {
                Some(t) => columns::age(t, now).into(),
                None => "<unknown>".into(),
            },
            (Some("string"), Some(v)) if !v.is_string() => v.to_string().into(),
            (Some("integer"), Some(v)) => v.as_f64().map_or(Value::Null, |n| (n as i64).into()),
            (Some("number"), Some(v)) if !v.is_number() => Value::Null,
            (Some("boolean"), Some(v)) if !v.is_boolean() => Value::Null,
            (_, Some(v)) => v,
        });
    }
    out
}

/// What a column's path finds: fields, positions, and `[?(@.a=="b")]`; of several results the first.
pub(crate) fn simple_path(object: &Value, path: &str) -> Option<Value> {
    let mut at: Vec<&Value> = vec![object];
    let mut rest =
        path.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(r) = rest.strip_prefix('.') {
            let mut name = String::new();
            let mut end = r.len();
            let mut escaped = false;
            for (i, c) in r.char_indices() {
                match c {
                    _ if escaped => {
                        name.push(c);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '.' | '[' => {
                        end = i;
                        break;
                    }
                    c => name.push(c),
                }
            }
            rest = &r[end..];
            if !name.is_empty() {
                at = at.into_iter().filter_map(|v| v.get(&name)).collect();
            }
        } else if let Some(r) = rest.strip_prefix('[') {
            let (inside, after) = r.split_once(']')?;
            rest = after;
            let unquoted = inside.trim_matches(['\'', '"']);
            at = if inside == "*" {
                at.into_iter().flat_map(|v| v.as_array().into_iter().flatten()).collect()
            } else if let Some(filter) =
                inside.strip_prefix("?(@.").and_then(|f| f.strip_suffix(')'))
            {
                let (field, want) = filter.split_once("==")?;
                let (field, want) = (field.trim(), want.trim().trim_matches(['\'', '"']));
                let fits = |v: &&Value| {
                    v.get(field).is_some_and(|x| {
                        x.as_str().map_or_else(|| x.to_string(), str::to_owned) == want
                    })
                };
                at.into_iter()
                    .flat_map(|v| v.as_array().into_iter().flatten())
                    .filter(fits)
                    .collect()
            } else if let Ok(n) = inside.parse::<usize>() {
                at.into_iter().filter_map(|v| v.get(n)).collect()
            } else {
                at.into_iter().filter_map(|v| v.get(unquoted)).collect()
            };
        } else {
            return None;
        }
    }
    at.first().map(|v| (*v).clone())
}

/// An object's metadata alone.
pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// The same in the version that came before `v1` and differs only in its name.
pub(crate) fn into_beta(v: &mut Value) {
    let old = |v: &mut Value| {
        if v["apiVersion"] == "meta.k8s.io/v1" {
            v["apiVersion"] = "meta.k8s.io/v1beta1".into();
        }
    };
    old(v);
    for list in ["rows", "items"] {
        let Some(Value::Array(all)) = v.get_mut(list) else { continue };
        for one in all {
            match one.get_mut("object") {
                Some(row) => old(row),
                None => old(one),
            }
        }
    }
}

/// A Table of some objects. `header`: whether the columns are told.
pub(crate) fn table<'a>(
    resource: &Resource,
    objects: impl Iterator<Item = &'a Value>,
    metadata: Value,
    include: Include,
    header: bool,
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects
        .map(|o| {
            let object = match include {
                Include::None => Value::Null,
                Include::Metadata => metadata_only(o),
                Include::Object => o.clone(),
            };
            json!({"cells": cells(resource, o, now), "object": object})
        })
        .collect();
    let columns = if header { definitions(resource) } else { Value::Null };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows})
}

/// The metadata of a list; `whole` if it is not in another form.
pub(crate) fn list_metadata(resource: &Resource, page: &Page, whole: bool) -> Value {
    let mut m = json!({"resourceVersion": page.revision.to_string()});
    // Lists of custom resources always say where they go on.
    if resource.custom.is_some() && whole {
        m["continue"] = "".into();
    }
    if let Some(next) = &page.next {
        m["continue"] = next.as_str().into();
    }
    if let Some(n) = page.remaining {
        m["remainingItemCount"] = n.into();
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_paths_find_what_they_name() {
        let o = json!({"spec": {"a": 1, "l": [{"type": "X", "s": "no"}, {"type": "Ready", "s": "yes"}]}, "metadata": {"labels": {"a.b/c": "v"}}});
        assert_eq!(simple_path(&o, ".spec.a"), Some(json!(1)));
        assert_eq!(simple_path(&o, ".spec.l[?(@.type==\"Ready\")].s"), Some(json!("yes")));
        assert_eq!(simple_path(&o, ".spec.l[*].s"), Some(json!("no")));
        assert_eq!(simple_path(&o, ".spec.l[0].s"), Some(json!("no")));
        assert_eq!(simple_path(&o, ".metadata.labels.a\\.b/c"), Some(json!("v")));
        assert_eq!(simple_path(&o, ".metadata.labels['a.b/c']"), Some(json!("v")));
        assert_eq!(simple_path(&o, ".spec.none.x"), None);
        assert_eq!(simple_path(&o, ".spec.l[0"), None);
    }

    // What a kube-apiserver 1.33 showed.
    #[test]
    fn a_cell_of_a_custom_kind_is_of_its_column_s_type_or_empty() {
        let columns = json!([{"name": "I", "type": "integer", "jsonPath": ".s.text"}, {"name": "N", "type": "integer", "jsonPath": ".s.n"},
            {"name": "S", "type": "string", "jsonPath": ".s.n"}, {"name": "B", "type": "boolean", "jsonPath": ".s.text"},
            {"name": "L", "type": "string", "jsonPath": ".s.l[*]"}, {"name": "D", "type": "date", "jsonPath": ".s.none"}]);
        let definition = json!({"spec": {"group": "e.com", "scope": "Namespaced", "versions": [{"name": "v1", "served": true, "storage": true,
                "additionalPrinterColumns": columns, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
            "status": {"acceptedNames": {"plural": "ws", "kind": "W"}, "conditions": [{"type": "Established", "status": "True"}]}});
        let resource = crate::registry::crd::resources(&definition).remove(0);
        let o = json!({"metadata": {"name": "w"}, "s": {"text": "t", "n": 3, "l": ["x", "y"]}});
        let row = cells(&resource, &o, Timestamp::UNIX_EPOCH);
        assert_eq!(Value::from(row), json!(["w", null, 3, "3", null, "x", null]));
    }

    // The same.
    #[test]
    fn columns_are_of_the_types_that_kubernetes_gives_them() {
        let registry = crate::registry::Registry::new();
        let types = |group: &str, plural: &str| {
            let all = definitions(&registry.builtin(group, plural));
            let one = |c: &Value| format!("{}:{}", text(c, "/name"), text(c, "/type"));
            all.as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join(" ")
        };
        assert!(
            types("apps", "deployments")
                .starts_with("Name:string Ready:string Up-to-date:string Available:string")
        );
        assert!(types("batch", "cronjobs").contains("Suspend:boolean Active:integer"));
        assert!(
            types("apiextensions.k8s.io", "customresourcedefinitions").ends_with("Created At:date")
        );
        assert!(types("storage.k8s.io", "volumeattachments").contains("Attached:boolean"));
    }
}
