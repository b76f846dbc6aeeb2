//! What must hold of selectors and patches whatever they are: random ones against plain models.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::schema::schemas;
use super::selectors::{FieldSelector, LabelSelector};
use super::strategic;

const KEYS: [&str; 4] = ["a", "b", "example.com/c", "d"];
const VALUES: [&str; 4] = ["", "1", "x", "y-2"];

/// A requirement as its text, and whether labels meet it as the documentation of selectors says.
#[derive(Debug, Clone)]
enum Requirement {
    Equal(usize, usize, bool),
    Unequal(usize, usize),
    In(usize, Vec<usize>),
    NotIn(usize, Vec<usize>),
    Exists(usize),
    Missing(usize),
    Greater(usize, i64),
    Less(usize, i64),
}

type Labels = BTreeMap<&'static str, &'static str>;

fn list(values: &[usize]) -> String {
    values.iter().map(|v| VALUES[*v]).collect::<Vec<_>>().join(",")
}

impl Requirement {
    fn text(&self) -> String {
        match self {
            Self::Equal(k, v, twice) => {
                format!("{}{}{}", KEYS[*k], if *twice { "==" } else { "=" }, VALUES[*v])
            }
            Self::Unequal(k, v) => format!("{}!={}", KEYS[*k], VALUES[*v]),
            Self::In(k, v) => format!("{} in ({})", KEYS[*k], list(v)),
            Self::NotIn(k, v) => format!("{} notin ({})", KEYS[*k], list(v)),
            Self::Exists(k) => KEYS[*k].to_owned(),
            Self::Missing(k) => format!("!{}", KEYS[*k]),
            Self::Greater(k, n) => format!("{}>{n}", KEYS[*k]),
            Self::Less(k, n) => format!("{}<{n}", KEYS[*k]),
        }
    }

    fn is_met(&self, labels: &Labels) -> bool {
        let of = |k: &usize| labels.get(KEYS[*k]).copied();
        let among =
            |k: &usize, v: &[usize]| of(k).is_some_and(|x| v.iter().any(|v| VALUES[*v] == x));
        let number = |k: &usize| of(k).and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::Equal(k, v, _) => among(k, &[*v]),
            Self::Unequal(k, v) => !among(k, &[*v]),
            Self::In(k, v) => among(k, v),
            Self::NotIn(k, v) => !among(k, v),
            Self::Exists(k) => of(k).is_some(),
            Self::Missing(k) => of(k).is_none(),
            Self::Greater(k, n) => number(k).is_some_and(|v| v > *n),
            Self::Less(k, n) => number(k).is_some_and(|v| v < *n),
        }
    }

    /// The same as an entry of `matchExpressions`.
    fn expression(&self) -> Value {
        let of = |k: &usize, operator: &str, values: Vec<String>| json!({"key": KEYS[*k], "operator": operator, "values": values});
        let named = |v: &[usize]| v.iter().map(|v| VALUES[*v].to_owned()).collect();
        match self {
            Self::Equal(k, v, _) => of(k, "In", named(&[*v])),
            Self::Unequal(k, v) => of(k, "NotIn", named(&[*v])),
            Self::In(k, v) => of(k, "In", named(v)),
            Self::NotIn(k, v) => of(k, "NotIn", named(v)),
            Self::Exists(k) => of(k, "Exists", Vec::new()),
            Self::Missing(k) => of(k, "DoesNotExist", Vec::new()),
            Self::Greater(k, n) => of(k, "Gt", vec![n.to_string()]),
            Self::Less(k, n) => of(k, "Lt", vec![n.to_string()]),
        }
    }
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let (k, v) = (0..KEYS.len(), 0..VALUES.len());
    let some = proptest::collection::vec(0..VALUES.len(), 1..4);
    prop_oneof![
        (k.clone(), v.clone(), any::<bool>()).prop_map(|(k, v, t)| Requirement::Equal(k, v, t)),
        (k.clone(), v).prop_map(|(k, v)| Requirement::Unequal(k, v)),
        (k.clone(), some.clone()).prop_map(|(k, v)| Requirement::In(k, v)),
        (k.clone(), some).prop_map(|(k, v)| Requirement::NotIn(k, v)),
        k.clone().prop_map(Requirement::Exists),
        k.clone().prop_map(Requirement::Missing),
        (k.clone(), 0..4_i64).prop_map(|(k, n)| Requirement::Greater(k, n)),
        (k, 0..4_i64).prop_map(|(k, n)| Requirement::Less(k, n)),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    let one = (0..KEYS.len(), 0..VALUES.len()).prop_map(|(k, v)| (KEYS[k], VALUES[v]));
    proptest::collection::vec(one, 0..4).prop_map(|all| all.into_iter().collect())
}

/// JSON as a patch's target: without nulls, which a merge patch cannot write.
fn plain() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..5_u8).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[abc]", inner, 0..4)
                .prop_map(|m| m.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// The merge patch that leads from one value to another, after RFC 7396.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for key in from.keys().filter(|k| !to.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in to {
        match from.get(key) {
            Some(old) if old == value => {}
            // A map in the place of something else is merged into nothing.
            Some(old) => {
                patch.insert(key.clone(), difference(old, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    patch.into()
}

/// Containers, by name: image and an environment by name.
type Containers = BTreeMap<String, (Option<u8>, BTreeMap<String, u8>)>;

fn containers() -> impl Strategy<Value = Containers> {
    let env = proptest::collection::btree_map("[xyz]", any::<u8>(), 0..3);
    proptest::collection::btree_map("[abc]", (any::<Option<u8>>(), env), 0..4)
}

fn pod(all: &Containers) -> Value {
    let one = |(name, (image, env)): (&String, &(Option<u8>, BTreeMap<String, u8>))| {
        let env: Vec<Value> =
            env.iter().map(|(k, v)| json!({"name": k, "value": v.to_string()})).collect();
        let mut c = json!({"name": name});
        if let Some(i) = image {
            c["image"] = i.to_string().into();
        }
        if !env.is_empty() {
            c["env"] = env.into();
        }
        c
    };
    json!({"spec": {"containers": all.iter().map(one).collect::<Vec<Value>>()}})
}

fn read(pod: &Value) -> Containers {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let env = |c: &Value| {
        list(&c["env"])
            .iter()
            .map(|e| (text(&e["name"]), text(&e["value"]).parse().unwrap()))
            .collect()
    };
    let one =
        |c: &Value| (text(&c["name"]), (c["image"].as_str().map(|i| i.parse().unwrap()), env(c)));
    list(&pod["spec"]["containers"]).iter().map(one).collect()
}

fn patched(pod: &Value, patch: &Value) -> Value {
    let mut new = pod.clone();
    let ty = schemas().find("io.k8s.api.core.v1.Pod").unwrap();
    strategic::apply(&mut new, patch, ty).unwrap();
    new
}

proptest! {
    #[test]
    fn a_label_selector_selects_what_each_of_its_requirements_selects(
        all in proptest::collection::vec(requirement(), 0..5),
        labels in labels(),
    ) {
        let text = all.iter().map(Requirement::text).collect::<Vec<_>>().join(",");
        let get = |k: &str| labels.get(k).copied();
        let expected = all.iter().all(|r| r.is_met(&labels));
        let parsed = LabelSelector::parse(&text);
        prop_assert!(parsed.is_ok(), "{text}: {parsed:?}");
        prop_assert_eq!(parsed.unwrap().matches(get), expected, "{}", text);
        let expressions: Vec<Value> = all.iter().map(Requirement::expression).collect();
        let written = LabelSelector::from_value(&json!({"matchExpressions": expressions})).unwrap();
        prop_assert_eq!(written.matches(get), expected);
    }

    #[test]
    fn a_field_selector_finds_the_value_that_was_escaped_into_it(value in "[a,=\\\\b]{0,6}", unequal in any::<bool>()) {
        let escaped = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        let text = format!("spec.x{}{escaped}", if unequal { "!=" } else { "=" });
        let parsed = FieldSelector::parse(&text).unwrap();
        prop_assert_eq!(parsed.matches(|_| Some(value.as_str())), !unequal, "{}", text);
        prop_assert_eq!(parsed.matches(|_| Some("other")), unequal);
    }

    #[test]
    fn texts_that_are_no_selectors_are_errors(text in "[ab=!<>,()\\\\ inot\\PC]{0,24}") {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
    }

    #[test]
    fn a_merge_patch_leads_from_any_object_to_any_other(from in plain(), to in plain()) {
        let mut new = json!({"v": from});
        let to = json!({"v": to});
        let patch = difference(&new, &to);
        json_patch::merge(&mut new, &patch);
        prop_assert_eq!(new, to);
    }

    #[test]
    fn a_strategic_patch_merges_lists_by_their_keys_and_twice_is_once(
        old in containers(), patch in containers(), gone in proptest::collection::btree_set("[abc]", 0..2),
    ) {
        let mut expected = old.clone();
        let mut written = pod(&patch);
        for (name, (image, env)) in &patch {
            let slot = expected.entry(name.clone()).or_default();
            slot.0 = image.or(slot.0);
            slot.1.extend(env.clone());
        }
        for name in gone.iter().filter(|n| !patch.contains_key(*n)) {
            expected.remove(name);
            let list = written["spec"]["containers"].as_array_mut().unwrap();
            list.push(json!({"$patch": "delete", "name": name}));
        }
        let once = patched(&pod(&old), &written);
        prop_assert_eq!(read(&once), expected);
        prop_assert_eq!(&patched(&once, &written), &once);
        prop_assert_eq!(patched(&once, &json!({})), once);
    }
}
