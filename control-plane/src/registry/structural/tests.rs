//! Schemas of custom kinds, as a user who writes one would try them.

use serde_json::{Value, json};

use super::Node;

fn schema() -> Node {
    Node::read(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1, "default": 3},
            "mode": {"type": "string", "enum": ["A", "B"]},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "port": {"x-kubernetes-int-or-string": true},
            "maybe": {"type": "string", "nullable": true},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "default": 7}}}}
        }}}}),
    )
}

fn problems(v: Value) -> Vec<String> {
    let mut errors = Vec::new();
    schema().validate(&v, None, "", &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_null_where_null_is_not_allowed_is_a_missing_field_and_elsewhere_a_null() {
    // KubeEdge's cloudcore makes a DeviceStatus with `extensions: null`.
    let mut v = json!({"spec": {"mode": null, "free": null, "maybe": null, "list": [{"k": null}]}});
    schema().fill(&mut v);
    assert_eq!(v, json!({"spec": {"size": 3, "maybe": null, "list": [{"v": 7}]}}));
    let open = json!({"type": "object", "properties": {
        "any": {"type": "object", "additionalProperties": true},
        "texts": {"type": "object", "additionalProperties": {"type": "string"}}}});
    let mut v = json!({"any": {"a": null}, "texts": {"a": null, "b": "c"}});
    Node::read(&open).fill(&mut v);
    assert_eq!(v, json!({"any": {"a": null}, "texts": {"b": "c"}}));
}

#[test]
fn unknown_fields_are_pruned_except_where_they_are_preserved() {
    let mut v = json!({"metadata": {"name": "a"}, "spec": {"x": 1, "free": {"y": 2}, "list": [{"k": "a", "z": 1}]}, "other": 1});
    let mut unknown = Vec::new();
    schema().prune(&mut v, "", true, &mut unknown);
    assert_eq!(unknown, ["other", "spec.list[0].z", "spec.x"]);
    assert_eq!(
        v,
        json!({"metadata": {"name": "a"}, "spec": {"free": {"y": 2}, "list": [{"k": "a"}]}})
    );
}

#[test]
fn defaults_fill_objects_that_are_there() {
    let mut v = json!({"spec": {"list": [{"k": "a"}], "size": null}});
    schema().fill(&mut v);
    assert_eq!(v, json!({"spec": {"list": [{"k": "a", "v": 7}], "size": 3}}));
    let mut v = json!({});
    schema().fill(&mut v);
    assert_eq!(v, json!({}));
}

// "Validation rules", "Transition rules", "reason", "fieldPath" and "messageExpression" of
// https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
#[test]
fn rules_are_run_on_objects_and_on_their_changes() {
    let node = Node::read(&json!({"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.size <= self.max", "message": "size too big"},
            {"rule": "!has(oldSelf.mode) || self.mode == oldSelf.mode", "message": "mode is fixed", "reason": "FieldValueForbidden", "fieldPath": ".mode"},
            {"rule": "self.size != 7", "messageExpression": "'size is ' + string(self.size)"},
            {"rule": "self.size != 8"}],
        "properties": {
            "size": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "may only grow"}]},
            "max": {"type": "integer"}, "mode": {"type": "string"},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object",
                "x-kubernetes-validations": [{"rule": "self.v == oldSelf.v", "message": "v is fixed"}],
                "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}}}}}}));
    let check = |new: Value, old: Option<Value>| {
        let (new, old) = (json!({"spec": new}), old.map(|o| json!({"spec": o})));
        let mut errors = Vec::new();
        node.check(&new, old.as_ref(), &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(check(json!({"size": 1, "max": 2}), None).is_empty());
    let too_big = "spec: Invalid value: \"object\": size too big";
    assert_eq!(check(json!({"size": 3, "max": 2}), None), [too_big]);
    assert_eq!(
        check(json!({"size": 8, "max": 2}), None),
        [too_big, "spec: Invalid value: \"object\": failed rule: self.size != 8"]
    );
    assert_eq!(
        check(json!({"size": 7, "max": 9}), None),
        ["spec: Invalid value: \"object\": size is 7"]
    );
    assert_eq!(
        check(json!({"size": 1}), None),
        ["spec: Invalid value: \"object\": no such key: max evaluating rule: size too big"]
    );
    assert_eq!(
        check(
            json!({"size": 1, "max": 5, "mode": "b"}),
            Some(json!({"size": 2, "max": 5, "mode": "a"}))
        ),
        [
            "spec.mode: Forbidden: mode is fixed",
            "spec.size: Invalid value: \"integer\": may only grow"
        ]
    );
    // An element of a list with keys is compared with itself, wherever it stands.
    let old = json!({"size": 1, "max": 2, "list": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]});
    let new = |v| json!({"size": 1, "max": 2, "list": [{"k": "c", "v": 9}, {"k": "b", "v": v}, {"k": "a", "v": 1}]});
    assert!(check(new(2), Some(old.clone())).is_empty());
    assert_eq!(check(new(3), Some(old)), ["spec.list[1]: Invalid value: \"object\": v is fixed"]);
    assert_eq!(
        check(json!({"size": "x"}), None),
        [
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
            "<nil>: Invalid value: \"null\": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"
        ]
    );
}

#[test]
fn problems_are_told_in_the_words_of_kubernetes() {
    assert_eq!(problems(json!({"spec": {}})), ["spec.size: Required value"]);
    assert_eq!(
        problems(json!({"spec": {"size": 0}})),
        ["spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"]
    );
    assert_eq!(
        problems(json!({"spec": {"size": "x"}})),
        [
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\""
        ]
    );
    assert_eq!(
        problems(json!({"spec": {"size": 1, "mode": "C"}})),
        ["spec.mode: Unsupported value: \"C\": supported values: \"A\", \"B\""]
    );
    assert_eq!(
        problems(json!({"spec": {"size": 1, "port": "http", "maybe": null}})),
        Vec::<String>::new()
    );
    assert_eq!(
        problems(json!({"spec": {"size": 1, "list": [{"k": "a"}, {"k": "a"}]}})),
        ["spec.list[1]: Duplicate value: map[string]interface {}{\"k\":\"a\"}"]
    );
}

fn told(schema: Value, new: Value, old: Option<Value>) -> Vec<String> {
    let mut errors = Vec::new();
    Node::read(&schema).check(&new, old.as_ref(), &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

// "Validation ratcheting" of
// https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
#[test]
fn what_a_stricter_schema_refuses_is_not_held_against_a_change_of_something_else() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 3},
        "r": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 5"}]},
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 9}}}}}}}});
    let old = json!({"spec": {"a": "long", "r": 7, "l": [{"k": "x", "v": 10}]}});
    let changed = |at: &str, v: Value| {
        let mut new = old.clone();
        new["metadata"] = json!({"labels": {"new": "label"}});
        new["spec"][at] = v;
        told(schema.clone(), new, Some(old.clone()))
    };
    assert_eq!(changed("a", json!("long")), Vec::<String>::new());
    assert_eq!(
        changed("l", json!([{"k": "y", "v": 1}, {"k": "x", "v": 10}])),
        Vec::<String>::new()
    );
    assert_eq!(
        changed("a", json!("longer")),
        [
            "spec.a: Too long: may not be more than 3 bytes",
            "<nil>: Invalid value: \"null\": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"
        ]
    );
    assert_eq!(
        changed("l", json!([{"k": "x", "v": 11}])),
        ["spec.l[0].v: Invalid value: 11: spec.l[0].v in body should be less than or equal to 9"]
    );
    assert_eq!(
        changed("r", json!(8)),
        ["spec.r: Invalid value: \"integer\": failed rule: self < 5"]
    );
    assert_eq!(told(schema.clone(), old.clone(), None).len(), 3);
}

// What a kube-apiserver 1.33 said.
#[test]
fn logic_of_schemas_is_told_in_the_words_of_kubernetes() {
    let of = |part: Value, v: Value| {
        told(json!({"type": "object", "properties": {"p": part}}), json!({"p": v}), None)
    };
    let one = json!({"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}, "oneOf": [{"required": ["x"]}, {"required": ["y"]}]});
    assert_eq!(
        of(one.clone(), json!({})),
        [
            "<nil>: Invalid value: \"\": \"p\" must validate one and only one schema (oneOf). Found none valid",
            "p.x: Required value"
        ]
    );
    assert_eq!(
        of(one, json!({"x": "1", "y": "2"})),
        [
            "<nil>: Invalid value: \"\": \"p\" must validate one and only one schema (oneOf). Found 2 valid alternatives"
        ]
    );
    assert_eq!(
        of(json!({"type": "string", "not": {"enum": ["bad"]}}), json!("bad")),
        ["<nil>: Invalid value: \"\": \"p\" must not validate the schema (not)"]
    );
    let mut both =
        of(json!({"type": "integer", "allOf": [{"minimum": 2}, {"maximum": 4}]}), json!(5));
    both.sort();
    assert_eq!(
        both,
        [
            "<nil>: Invalid value: \"\": \"p\" must validate all the schemas (allOf)",
            "p: Invalid value: 5: p in body should be less than or equal to 4"
        ]
    );
    // Of what is wrong with a text the first is told.
    assert_eq!(
        of(json!({"type": "string", "minLength": 2, "pattern": "^a+$"}), json!("b")),
        ["p: Invalid value: \"b\": p in body should be at least 2 chars long"]
    );
}

// The same page, "x-kubernetes-embedded-resource".
#[test]
fn an_object_within_another_says_what_it_is_and_has_metadata() {
    let schema = json!({"type": "object", "properties": {"e": {"type": "object",
        "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}});
    let of = |v: Value| told(schema.clone(), json!({"e": v}), None);
    assert_eq!(
        of(json!({})),
        [
            "e.apiVersion: Required value: must not be empty",
            "e.kind: Required value: must not be empty"
        ]
    );
    assert_eq!(of(json!({"apiVersion": "v1", "kind": "Pod"})), Vec::<String>::new());
    let wrong = of(json!({"apiVersion": "a/b/c", "kind": "p o"}));
    assert_eq!(
        wrong[0],
        "e.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"
    );
    let labelled = of(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "A_", "labels": {"a b": "c"}}}),
    );
    assert!(
        labelled.len() == 1
            && labelled[0].starts_with("e.metadata.labels: Invalid value: \"a b\": name part must"),
        "{labelled:?}"
    );
    assert!(wrong[1].starts_with("e.kind: Invalid value: \"p o\": may have mixed case, but should otherwise match: a DNS-1035 label"), "{wrong:?}");
    let mut v = json!({"e": {"apiVersion": "v1", "kind": "Pod", "other": 1, "metadata": {"name": "x", "foo": 1}}});
    let mut unknown = Vec::new();
    Node::read(&schema).prune(&mut v, "", true, &mut unknown);
    assert_eq!(unknown, ["e.metadata.foo"]);
    assert_eq!(v["e"]["metadata"], json!({"name": "x"}));
}
