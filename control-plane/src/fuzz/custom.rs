//! Targets of custom kinds: their schemas, rules and columns.

use serde_json::{Value, json};

use super::{REGISTRY, parts, readable, shown, written};
use crate::http::json::{self as text, Parsed};
use crate::http::table;
use crate::registry::rules::{self, Condition, Rules};
use crate::registry::structural::Node;
use crate::registry::{Part, crd, crd_schema};

/// A definition with one version of this schema.
pub(super) fn definition_of(schema: &Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "ws.e.com"},
        "spec": {"group": "e.com", "scope": "Namespaced", "names": {"plural": "ws", "kind": "W"}, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
             "additionalPrinterColumns": [{"name": "A", "type": "date", "jsonPath": ".spec.a"}],
             "selectableFields": [{"jsonPath": ".spec.a"}]}]},
        "status": {"acceptedNames": {"plural": "ws", "kind": "W", "listKind": "WList"}, "conditions": [{"type": "Established", "status": "True"}]}})
}

/// A structural schema, an object of it, and one that takes its place.
pub(super) fn schemas(data: &[u8]) {
    let Some([schema, object, next]) = parts(data) else { return };
    let Ok(Parsed { value: schema, .. }) = text::parse(schema) else { return };
    let mut errors = Vec::new();
    crd_schema::validate(&schema, "s", &mut errors);
    if !errors.is_empty() {
        return;
    }
    let node = Node::read(&schema);
    let Ok(Parsed { value: mut new, .. }) = text::parse(object) else { return };
    node.prune(&mut new, "", true, &mut Vec::new());
    let pruned = new.clone();
    let mut unknown = Vec::new();
    node.prune(&mut new, "", true, &mut unknown);
    assert_eq!((&new, unknown), (&pruned, Vec::<String>::new()));
    node.fill(&mut new);
    let filled = new.clone();
    node.fill(&mut new);
    assert_eq!(new, filled);
    node.check(&new, None, &mut errors);
    if let Ok(Parsed { value: next, .. }) = text::parse(next) {
        node.check(&next, Some(&new), &mut errors);
    }
    for resource in crd::resources(&definition_of(&schema)) {
        written(&resource, &mut new.clone().into());
    }
}

pub(super) fn schema_parts() -> [Vec<u8>; 2] {
    let schema = json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "x-kubernetes-validations": [{"rule": "self.a <= 9 || has(self.m)", "message": "no"}],
            "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3, "format": "int32"},
            "s": {"type": "string", "pattern": "^a+$", "maxLength": 9, "enum": ["a", "aa"]},
            "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "maxItems": 5,
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"x-kubernetes-int-or-string": true}}}},
            "m": {"type": "object", "additionalProperties": {"type": "number", "multipleOf": 0.5, "nullable": true}},
            "e": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            "t": {"type": "string", "format": "date-time", "anyOf": [{"minLength": 1}], "not": {"pattern": "x"}}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let object = json!({"apiVersion": "e.com/v1", "kind": "W", "metadata": {"name": "w"}, "spec": {"s": "aa", "x": 1,
        "l": [{"k": "a", "v": 1}, {"k": "b", "v": "2"}], "m": {"q": 1.5, "r": null},
        "e": {"apiVersion": "v1", "kind": "Pod", "spec": {}}, "t": "2026-01-01T00:00:00Z"}, "status": {"y": [1]}});
    [schema.to_string().into_bytes(), object.to_string().into_bytes()]
}

pub(super) fn schema_seeds() -> Vec<Vec<u8>> {
    let [schema, object] = schema_parts();
    vec![[schema, object.clone(), object].join(&0)]
}

/// An expression, what it is about, and what that was before.
pub(super) fn expressions(data: &[u8]) {
    let Some([expression, value, old]) = parts(data) else { return };
    let Some(expression) = readable(expression) else { return };
    let value = text::parse(value).map_or(Value::Null, |p| p.value);
    let old = text::parse(old).ok().map(|p| p.value);
    let Ok(condition) = Condition::read(expression) else {
        assert!(rules::condition_problem(expression).is_some());
        return;
    };
    let _ = condition.holds(&[("self", &value), ("object", &value), ("oldSelf", &Value::Null)]);
    let schema = json!({"x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-validations": [
        {"rule": expression, "messageExpression": expression}]});
    let rules = Rules::read(&schema).expect("it has a rule");
    let (mut budget, mut errors) = (rules::OBJECT, Vec::new());
    rules.check(&value, old.as_ref(), "spec", &mut budget, &mut errors);
    assert!(errors.len() <= 1, "{errors:?}");
}

pub(super) fn rule_seeds() -> Vec<Vec<u8>> {
    let object = json!({"l": [1, 2, 3], "m": {"a": "x"}, "s": "text", "t": "2026-01-01T00:00:00Z", "n": 1.5});
    let rules = [
        "self.l.all(x, x > 0) && self.l.exists_one(x, x == 2) && !self.l.exists(x, x in [9])",
        "self.l.map(x, x * 2).filter(x, x > 2).size() == 2 ? true : self.m.all(k, k.startsWith('a'))",
        "self.s.matches('^[a-z]+$') && self.s.split('e').join('-').replace('t', 'xx').size() < 20",
        "has(self.m.a) && oldSelf.s == self.s || size(self.l) + int(self.n) > duration('1h').getHours()",
        "timestamp(self.t) < timestamp('2027-01-01T00:00:00Z') && quantity('1Gi').isGreaterThan(quantity('1M'))",
        "[self.s].map(x, x + x).map(x, x + x)[0].contains('tt') && isURL('https://a/b') && 'a.b'.format([]) != ''",
        "optional.of(self.l).orValue([]).sum() == 6 && sets.contains([1, 2], [1]) && cel.bind(a, 1, a == 1)",
    ];
    rules.iter().map(|r| format!("{r}\0{object}\0{object}").into_bytes()).collect()
}

/// A column's path, and an object.
pub(super) fn columns(data: &[u8]) {
    let Some([path, object]) = parts(data) else { return };
    let Some(path) = readable(path) else { return };
    let Ok(Parsed { value: object, .. }) = text::parse(object) else { return };
    if let Some(found) = table::simple_path(&object, path) {
        // One thing, or several as one text: never more than the object has.
        assert!(found.to_string().len() <= 8 * (object.to_string().len() + 2), "{path}");
    }
    let mut definition =
        definition_of(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    for kind in ["string", "date", "integer"] {
        let version = &mut definition["spec"]["versions"][0];
        version["additionalPrinterColumns"] =
            json!([{"name": "A", "type": kind, "jsonPath": path}]);
        version["selectableFields"] = json!([{"jsonPath": path}]);
        let found = REGISTRY.builtin("apiextensions.k8s.io", "customresourcedefinitions");
        let mut errors = Vec::new();
        (found.strategy.validate)(&definition, None, Part::Main, &mut errors);
        for resource in crd::resources(&definition) {
            let _ = resource.selectable(&object);
            shown(&resource, &object);
        }
    }
}

pub(super) fn column_seeds() -> Vec<Vec<u8>> {
    let object = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a.b/c": "d"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": 1}], "at": "2026-01-01T00:00:00Z"}});
    [
        ".status.conditions[?(@.type==\"Ready\")].status",
        ".status.conditions[*].type",
        ".status.conditions[1].status",
        ".metadata.labels.a\\.b/c",
        "{.metadata.labels['a.b/c']}",
        ".status.at",
    ]
    .iter()
    .map(|p| format!("{p}\0{object}").into_bytes())
    .collect()
}
