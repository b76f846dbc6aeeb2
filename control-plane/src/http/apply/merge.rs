//! What differs between two objects, and how one is merged into the other.
//!
//! Owns: the walk along two objects at once. Called by: `apply`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::Fields;
use super::places::{Place, element_key};

/// The fields whose values differ between two values, among those either has.
pub(super) fn changed(old: &Value, new: &Value, place: Place<'_>) -> Fields {
    if old == new {
        return Fields::default();
    }
    match (old, new) {
        (Value::Object(o), Value::Object(n)) if !place.is_atomic() => {
            let mut out = Fields::default();
            for k in o.keys().chain(n.keys().filter(|k| !o.contains_key(*k))) {
                let part = match (o.get(k), n.get(k)) {
                    (Some(a), Some(b)) => changed(a, b, place.field(k)),
                    (Some(v), None) | (None, Some(v)) => {
                        let at = place.field(k);
                        let mut made = Fields::made(v, at);
                        made.here |= !place.always_has(k, at);
                        made
                    }
                    (None, None) => continue,
                };
                if !part.is_empty() {
                    out.children.insert(format!("f:{k}"), part);
                }
            }
            out
        }
        (Value::Array(o), Value::Array(n)) => {
            let lists = place.list();
            let index = |a: &'_ [Value]| -> Option<BTreeMap<String, Value>> {
                a.iter().map(|v| Some((element_key(&lists, v)?, v.clone()))).collect()
            };
            let (Some(o), Some(n)) = (index(o), index(n)) else { return Fields::leaf() };
            let mut out = Fields::default();
            for k in o.keys().chain(n.keys().filter(|k| !o.contains_key(*k))) {
                let part = match (o.get(k), n.get(k)) {
                    (Some(a), Some(b)) => changed(a, b, place.element()),
                    (Some(v), None) | (None, Some(v)) => {
                        let mut of = Fields::made(v, place.element());
                        of.here = true;
                        of
                    }
                    (None, None) => continue,
                };
                if !part.is_empty() {
                    out.children.insert(k.clone(), part);
                }
            }
            out
        }
        (Value::Null, v) | (v, Value::Null) => Fields::made(v, place),
        _ => Fields::leaf(),
    }
}

/// Merges an applied configuration into an object.
pub(super) fn merge(live: &mut Value, applied: &Value, place: Place<'_>) {
    match (&mut *live, applied) {
        (Value::Object(l), Value::Object(a)) if !place.is_atomic() => {
            for (k, v) in a {
                match l.get_mut(k) {
                    Some(slot) => merge(slot, v, place.field(k)),
                    None => {
                        l.insert(k.clone(), v.clone());
                    }
                }
            }
        }
        (Value::Array(l), Value::Array(a)) => {
            let lists = place.list();
            let keyed = |v: &Value| element_key(&lists, v);
            if a.iter().any(|v| keyed(v).is_none()) || l.iter().any(|v| keyed(v).is_none()) {
                *live = applied.clone();
                return;
            }
            // What is applied comes in its own order; what only the server has stays before what it
            // stood before.
            let mut rest: std::collections::VecDeque<Value> = std::mem::take(l).into();
            let is_applied = |x: &Value| a.iter().any(|v| keyed(v) == keyed(x));
            for v in a {
                while rest.front().is_some_and(|x| !is_applied(x)) {
                    l.extend(rest.pop_front());
                }
                let at = rest.iter().position(|x| keyed(x) == keyed(v));
                l.push(match at.and_then(|i| rest.remove(i)) {
                    Some(mut x) => {
                        merge(&mut x, v, place.element());
                        x
                    }
                    None => v.clone(),
                });
            }
            l.extend(rest);
        }
        _ => *live = applied.clone(),
    }
}

/// Removes fields from an object.
pub(super) fn remove(live: &mut Value, fields: &Fields, place: Place<'_>) {
    match live {
        Value::Object(m) => {
            for (k, c) in &fields.children {
                let Some(name) = k.strip_prefix("f:") else { continue };
                let Some(v) = m.get_mut(name) else { continue };
                if c.here || c.children.is_empty() {
                    m.remove(name);
                    continue;
                }
                remove(v, c, place.field(name));
                if v.as_object().is_some_and(Map::is_empty)
                    || v.as_array().is_some_and(Vec::is_empty)
                {
                    m.remove(name);
                }
            }
        }
        Value::Array(a) => {
            let lists = place.list();
            a.retain_mut(|v| {
                let Some(c) = element_key(&lists, v).and_then(|k| fields.children.get(&k)) else {
                    return true;
                };
                if c.here {
                    return false;
                }
                remove(v, c, place.element());
                true
            });
        }
        _ => {}
    }
}
