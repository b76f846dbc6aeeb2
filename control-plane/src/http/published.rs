//! What the embedded types do not say of themselves as Kubernetes publishes it: fields that may be left
//! out, and how patches treat a field.
//!
//! Owns: which those are. Called by: `openapi`.
//! Never: decides what is taken or how it is merged; that is for the kinds and for `registry::strategic`.
//!
//! kubectl makes the patches of `kubectl apply` after these documents.
//! <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>

use serde_json::{Map, Value, json};

use crate::registry::strategic;

const STRATEGY: &str = "x-kubernetes-patch-strategy";
const KEY: &str = "x-kubernetes-patch-merge-key";

/// The types of whose fields `name` may be left out.
const NAMELESS: [&str; 8] = [
    "ConfigMapEnvSource",
    "ConfigMapKeySelector",
    "ConfigMapProjection",
    "ConfigMapVolumeSource",
    "LocalObjectReference",
    "SecretEnvSource",
    "SecretKeySelector",
    "SecretProjection",
];

/// Fields of which only those stay that a patch names, or that are replaced whole.
const STRATEGIES: [(&str, &str, &str); 5] = [
    ("apps.v1.DeploymentSpec", "strategy", "retainKeys"),
    ("core.v1.PodSpec", "volumes", "merge,retainKeys"),
    ("core.v1.PodSpec", "resourceClaims", "merge,retainKeys"),
    ("core.v1.PodStatus", "resourceClaimStatuses", "merge,retainKeys"),
    ("policy.v1.PodDisruptionBudgetSpec", "selector", "replace"),
];

const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// Makes the definitions say what Kubernetes' own say.
pub(super) fn correct(definitions: &mut Map<String, Value>) {
    for (name, d) in definitions.iter_mut() {
        let Some(own) = d.get_mut("required").and_then(Value::as_array_mut) else { continue };
        let short = name.strip_prefix("io.k8s.api.core.v1.").unwrap_or_default();
        // Of whole objects only one says that it needs metadata.
        own.retain(|field| match field.as_str() {
            Some("metadata") => short == "Event",
            Some("name") => !NAMELESS.contains(&short),
            _ => true,
        });
        if own.is_empty()
            && let Value::Object(m) = d
        {
            m.remove("required");
        }
    }
    for (name, either) in [(INT_OR_STRING, ["integer", "string"]), (QUANTITY, ["string", "number"])]
    {
        let Some(Value::Object(d)) = definitions.get_mut(name) else { continue };
        d.remove("x-kubernetes-int-or-string");
        d.insert("oneOf".into(), either.map(|ty| json!({"type": ty})).into_iter().collect());
        if name == INT_OR_STRING {
            d.insert("format".into(), json!("int-or-string"));
        }
    }
    for (name, d) in definitions.iter_mut() {
        if is_any(name)
            && let Value::Object(d) = d
        {
            d.retain(|k, _| k == "description");
        }
    }
    for (ty, field, strategy) in STRATEGIES {
        if let Some(p) = property(definitions, &format!("io.k8s.api.{ty}"), field) {
            p.insert(STRATEGY.into(), json!(strategy));
        }
    }
    for (ty, field) in strategic::UNMERGED {
        if let Some(p) = property(definitions, ty, field) {
            p.remove(STRATEGY);
            p.remove(KEY);
        }
    }
}

/// Whether a type may be of any form.
fn is_any(name: &str) -> bool {
    let json = name.strip_prefix("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON");
    json.is_some_and(|rest| rest.is_empty() || rest.starts_with("SchemaPropsOr"))
}

/// Makes a definition of a type that is a number or a text a text, as version 2 has only one type.
pub(super) fn one_type(name: &str, definition: &mut Value) {
    if [INT_OR_STRING, QUANTITY].contains(&name) {
        definition["type"] = json!("string");
    }
}

fn property<'a>(
    definitions: &'a mut Map<String, Value>,
    ty: &str,
    field: &str,
) -> Option<&'a mut Map<String, Value>> {
    definitions.get_mut(ty)?.get_mut("properties")?.get_mut(field)?.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::schema;

    // What a kube-apiserver 1.33 publishes.
    #[test]
    fn fields_say_how_patches_treat_them_and_what_may_be_left_out() {
        let mut all = schema::definitions();
        for (ty, field) in strategic::UNMERGED {
            let p = property(&mut all, ty, field).unwrap();
            assert!(p.contains_key(STRATEGY), "{ty}.{field} needs no mending");
        }
        for short in NAMELESS {
            let required = &all[&format!("io.k8s.api.core.v1.{short}")]["required"];
            assert!(required.as_array().unwrap().contains(&json!("name")), "{short}");
        }
        correct(&mut all);
        let of = |ty: &str, field: &str| all[ty]["properties"][field].clone();
        for (ty, field, strategy) in STRATEGIES {
            assert_eq!(of(&format!("io.k8s.api.{ty}"), field)[STRATEGY], strategy, "{ty}.{field}");
        }
        for (ty, field) in strategic::UNMERGED {
            let p = of(ty, field);
            assert!(p.get(STRATEGY).or(p.get(KEY)).is_none(), "{ty}.{field}");
        }
        let core = |name: &str| all[&format!("io.k8s.api.core.v1.{name}")]["required"].clone();
        assert_eq!(core("ConfigMapKeySelector"), json!(["key"]));
        assert_eq!(core("LocalObjectReference"), Value::Null);
        assert_eq!(core("Volume"), json!(["name"]));
        assert_eq!(core("Pod"), Value::Null);
        assert_eq!(core("Event"), json!(["involvedObject", "metadata"]));
        assert_eq!(of("io.k8s.api.core.v1.Container", "env")[STRATEGY], "merge");
        assert_eq!(all[INT_OR_STRING]["oneOf"], json!([{"type": "integer"}, {"type": "string"}]));
        assert_eq!(all[QUANTITY]["oneOf"], json!([{"type": "string"}, {"type": "number"}]));
        let any: Vec<&String> = all.keys().filter(|name| is_any(name)).collect();
        assert_eq!(any.len(), 4);
        for name in any {
            assert!(all[name]["description"].is_string() && all[name].get("type").is_none());
        }
    }
}
