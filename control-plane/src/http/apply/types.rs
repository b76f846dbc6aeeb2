//! Whether an applied configuration is of the type that it is applied as.
//!
//! Owns: what is said of fields that there are not, of values of another type, and of list elements
//! that stand twice. Called by: `apply`, before anything is merged.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::Fields;
use super::places::{Lists, Place, element_key};
use crate::registry::restore::{as_code, printed, type_of};
use crate::registry::schema::Shape;

/// How long the texts may be together: a long name stands in front of all that is below it.
const LIMIT: usize = 256 * 1024;

/// All that is wrong.
pub(super) fn mistakes(v: &Value, place: Place<'_>) -> Vec<String> {
    let mut walk = Walk { at: String::new(), found: Vec::new(), room: LIMIT };
    walk.value(v, place);
    walk.found
}

struct Walk {
    at: String,
    found: Vec<String>,
    room: usize,
}

impl Walk {
    /// Notes what is wrong here; nothing more once there is no room.
    fn wrong(&mut self, why: &str) {
        let text = format!("{}: {why}", self.at);
        if let Some(rest) = self.room.checked_sub(text.len()) {
            self.found.push(text);
            self.room = rest;
        } else if self.found.is_empty() {
            self.found.push(why.to_owned());
            self.room = 0;
        } else {
            self.room = 0;
        }
    }

    /// Goes on below, with more at the end of the path.
    fn below(&mut self, more: &str, then: impl FnOnce(&mut Self)) {
        let len = self.at.len();
        self.at.push_str(more);
        then(self);
        self.at.truncate(len);
    }

    fn value(&mut self, v: &Value, place: Place<'_>) {
        if v.is_null() || self.room == 0 {
            return;
        }
        if let Some(wrong) = mistyped(v, place) {
            return self.wrong(&wrong);
        }
        match v {
            Value::Object(m) => {
                for (k, v) in m {
                    self.below(&format!(".{k}"), |walk| match (place, place.field(k)) {
                        // Nothing is known of what is in a free form.
                        (Place::Shape(Shape::Ref(_)) | Place::Metadata, Place::Free) => {
                            walk.wrong("field not declared in schema");
                        }
                        (_, inner) => walk.value(v, inner),
                    });
                }
            }
            Value::Array(a) => self.elements(a, place),
            _ => {}
        }
    }

    fn elements(&mut self, list: &[Value], place: Place<'_>) {
        let lists = place.list();
        let mut seen = BTreeSet::new();
        for (i, item) in list.iter().enumerate() {
            if matches!(lists, Lists::Keys(_)) && !item.is_object() {
                let why = "associative list with keys may not have non-map elements";
                return self.wrong(&format!("element {i}: {why}"));
            }
            if matches!(lists, Lists::Atomic) {
                self.below(&format!("[{i}]"), |walk| walk.value(item, place.element()));
                continue;
            }
            let Some(key) = element_key(&lists, item) else {
                if let (Lists::Keys(keys), Place::Custom(_)) = (&lists, place)
                    && let Some(key) = keys.iter().find(|k| item.get(**k).is_none())
                {
                    let why = format!(
                        "associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
                    );
                    return self.wrong(&format!("element {i}: {why}"));
                }
                return;
            };
            let mut shown = Vec::new();
            let single = Fields { children: [(key.clone(), Fields::leaf())].into(), here: false };
            single.paths("", &mut shown);
            if !seen.insert(key) {
                self.wrong(&format!("duplicate entries for key {}", shown.concat()));
                continue;
            }
            self.below(&shown.concat(), |walk| walk.value(item, place.element()));
        }
    }
}

/// What a value should have been, and what it is.
fn mistyped(v: &Value, place: Place<'_>) -> Option<String> {
    let wanted = match place {
        Place::Shape(shape) => wanted(shape)?,
        Place::Custom(node) => node.wanted()?,
        Place::Metadata | Place::Whole => "map",
        Place::Free => return None,
    };
    let (good, shown) = match wanted {
        "map" => (v.is_object(), format!("map, got &{{{}}}", printed(v))),
        "list" => (v.is_array(), format!("list, got &{{{}}}", printed(v))),
        "boolean" => (v.is_boolean(), format!("boolean, got &{{{}}}", printed(v))),
        "string" => {
            let code = as_code(v);
            (v.is_string(), format!("string, got &value.valueUnstructured{{Value:{code}}}"))
        }
        _ => (v.is_number(), format!("numeric (int or float), got {}", type_of(v))),
    };
    (!good).then(|| format!("expected {shown}"))
}

fn wanted(shape: &Shape) -> Option<&'static str> {
    match shape {
        Shape::Ref(_) | Shape::Map(_) => Some("map"),
        Shape::List(..) => Some("list"),
        Shape::Bool => Some("boolean"),
        Shape::String | Shape::Bytes => Some("string"),
        Shape::Int { .. } | Shape::Number => Some("numeric"),
        Shape::Any | Shape::IntOrString | Shape::Quantity | Shape::Time { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::schema::schemas;
    use serde_json::json;

    #[test]
    fn a_long_name_in_front_of_many_mistakes_fills_no_memory() {
        let root = Shape::Map(Box::new(Shape::Map(Box::new(Shape::Bool))));
        let wrong: serde_json::Map<String, Value> =
            (0..10_000).map(|i| (i.to_string(), json!("x"))).collect();
        let found = mistakes(&json!({"a".repeat(100_000): wrong}), Place::Shape(&root));
        assert_eq!(found.len(), 2);
        let found = mistakes(&json!({"a".repeat(LIMIT): {"b": "x"}}), Place::Shape(&root));
        assert_eq!(found, ["expected boolean, got &{x}"]);
    }

    // As a kube-apiserver 1.33 said it.
    #[test]
    fn an_element_of_a_custom_list_without_its_key_is_told() {
        let schema = json!({"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}});
        let node = crate::registry::structural::Node::read(&schema);
        let found = mistakes(&json!({"l": [{"k": "a"}, {"v": "1"}]}), Place::Custom(&node));
        let why = "associative list with keys has an element that omits key field \"k\" (and doesn't have default value)";
        assert_eq!(found, [format!(".l: element 1: {why}")]);
    }

    // As a kube-apiserver 1.33 said it.
    #[test]
    fn a_configuration_of_another_type_is_told_where_and_what_it_is() {
        let root = Shape::Ref(schemas().find("io.k8s.api.apps.v1.Deployment").unwrap());
        let said = |container: Value| {
            let all = mistakes(
                &json!({"spec": {"template": {"spec": {"containers": [container]}}}}),
                Place::Shape(&root),
            );
            all.into_iter()
                .map(|m| m.trim_start_matches(".spec.template.spec.containers").to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            said(json!({"name": "a", "image": {"b": [1]}})),
            [
                "[name=\"a\"].image: expected string, got &value.valueUnstructured{Value:map[string]interface {}{\"b\":[]interface {}{1}}}"
            ]
        );
        assert_eq!(
            said(json!({"name": "a", "imag": 1, "stdin": "x"})),
            [
                "[name=\"a\"].imag: field not declared in schema",
                "[name=\"a\"].stdin: expected boolean, got &{x}"
            ]
        );
        assert_eq!(
            said(json!({"name": "a", "ports": [{"containerPort": "x"}], "args": ["y", 5]})),
            [
                "[name=\"a\"].args[1]: expected string, got &value.valueUnstructured{Value:5}",
                "[name=\"a\"].ports[containerPort=\"x\",protocol=\"TCP\"].containerPort: expected numeric (int or float), got string"
            ]
        );
        assert_eq!(
            said(json!("x")),
            [": element 0: associative list with keys may not have non-map elements"]
        );
        assert_eq!(
            mistakes(&json!({"spec": [1, "a"], "metadata": {"labels": null}}), Place::Shape(&root)),
            [".spec: expected map, got &{[1 a]}"]
        );
    }
}
