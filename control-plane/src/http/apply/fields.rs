//! Sets of fields.
//!
//! Owns: the form of `fieldsV1`, and the sums and differences of such sets. Called by: `apply`.
//!
//! A set is a tree, as `fieldsV1` writes it: `f:name` for a field, `k:{..}` for an element of a list by
//! its keys, `v:x` for a member of a set, `.` for the thing itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::places::{Place, element_key};

/// A set of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// The thing itself is in the set.
    pub(super) here: bool,
    pub(super) children: BTreeMap<String, Fields>,
}

impl Fields {
    pub(super) fn leaf() -> Self {
        Self { here: true, children: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.here && self.children.is_empty()
    }

    /// The fields that a value sets.
    pub(super) fn of(v: &Value, place: Place<'_>) -> Self {
        Self::collect(v, place, None)
    }

    /// The same, and the maps and lists that come to be with them: who wrote an object owns them, who
    /// applied one does not.
    pub(super) fn made(v: &Value, place: Place<'_>) -> Self {
        Self::collect(v, place, Some(false))
    }

    /// `made`: what comes to be counts, and whether it is within something that comes to be as a whole.
    fn collect(v: &Value, place: Place<'_>, made: Option<bool>) -> Self {
        match v {
            Value::Object(m) if !m.is_empty() && !place.is_atomic() => {
                let child = |(k, v): (&String, &Value)| {
                    let at = place.field(k);
                    let mut of = Self::collect(v, at, made);
                    of.here |= match made {
                        Some(whole) => whole || !place.always_has(k, at),
                        // What stands under a key that no type has is somebody's as such.
                        None => !place.declares(k),
                    };
                    (format!("f:{k}"), of)
                };
                Self { here: false, children: m.iter().map(child).collect() }
            }
            Value::Array(a) if !a.is_empty() => {
                let lists = place.list();
                let mut children = BTreeMap::new();
                let mut twice = Vec::new();
                for item in a {
                    let Some(key) = element_key(&lists, item) else { return Self::leaf() };
                    let mut of = Self::collect(item, place.element(), made.map(|_| true));
                    of.here = true;
                    if children.insert(key.clone(), of).is_some() && key.starts_with("k:") {
                        twice.push(key);
                    }
                }
                // What stands twice under one key is nobody's: it cannot be told apart.
                children.retain(|key, _| !twice.contains(key));
                Self { here: false, children }
            }
            _ => Self::leaf(),
        }
    }

    pub(super) fn read(v: &Value) -> Self {
        let mut out = Self::default();
        let Value::Object(m) = v else { return out };
        if m.is_empty() {
            return Self::leaf();
        }
        for (k, v) in m {
            if k == "." {
                out.here = true;
            } else {
                out.children.insert(k.clone(), Self::read(v));
            }
        }
        out
    }

    pub(super) fn write(&self) -> Value {
        let mut m = Map::new();
        if self.here && !self.children.is_empty() {
            m.insert(".".into(), json!({}));
        }
        for (k, c) in &self.children {
            m.insert(k.clone(), c.write());
        }
        Value::Object(m)
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.here |= other.here;
        for (k, c) in &other.children {
            self.children.entry(k.clone()).or_default().union(c);
        }
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut out = Self { here: self.here && !other.here, children: BTreeMap::new() };
        for (k, c) in &self.children {
            let left = other.children.get(k).map_or_else(|| c.clone(), |o| c.minus(o));
            if !left.is_empty() {
                out.children.insert(k.clone(), left);
            }
        }
        out
    }

    /// What of this set nobody else holds: a thing in which others have something stays.
    pub(super) fn held_alone(&self, others: &Self) -> Self {
        let here = self.here && !others.here && others.children.is_empty();
        let mut out = Self { here, children: BTreeMap::new() };
        for (k, c) in &self.children {
            let left = others.children.get(k).map_or_else(|| c.clone(), |o| c.held_alone(o));
            if !left.is_empty() {
                out.children.insert(k.clone(), left);
            }
        }
        out
    }

    pub(super) fn both(&self, other: &Self) -> Self {
        let mut out = Self { here: self.here && other.here, children: BTreeMap::new() };
        for (k, c) in &self.children {
            if let Some(o) = other.children.get(k) {
                let common = c.both(o);
                if !common.is_empty() {
                    out.children.insert(k.clone(), common);
                }
            }
        }
        out
    }

    /// The paths of the set, as conflicts name them: `.spec.containers[name="c"].image`.
    pub(super) fn paths(&self, at: &str, out: &mut Vec<String>) {
        if self.here && self.children.is_empty() {
            out.push(at.to_owned());
        }
        // What has nothing below it comes first.
        let (ends, ways): (Vec<_>, Vec<_>) =
            self.children.iter().partition(|(_, c)| c.here && c.children.is_empty());
        for (k, c) in ends.into_iter().chain(ways) {
            let next = if let Some(f) = k.strip_prefix("f:") {
                format!("{at}.{f}")
            } else if let Some(keys) = k.strip_prefix("k:") {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let all: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("{at}[{}]", all.join(","))
            } else {
                format!("{at}[={}]", k.trim_start_matches("v:"))
            };
            c.paths(&next, out);
        }
    }

    /// What of this set is in `there`; a leaf here stands for all that is under it there.
    pub(super) fn both_or_under(&self, there: &Self) -> Self {
        if self.children.is_empty() {
            return there.clone();
        }
        let mut out = Self { here: self.here && there.here, children: BTreeMap::new() };
        for (k, c) in &self.children {
            if let Some(t) = there.children.get(k) {
                out.children.insert(k.clone(), c.both_or_under(t));
            }
        }
        out
    }
}
