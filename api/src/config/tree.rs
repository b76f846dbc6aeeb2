//! A configuration file as a tree of JSON values.
//!
//! Owns: laying one tree over another, keys in any case, typed reading that finds every error.
//! Called by: `config`.
//! Never: knows what a key means.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::problems::Problems;
use super::set::{Path, Step};

/// No more errors than this are collected from one file.
const MAX_PROBLEMS: usize = 100;

/// Lays `over` over `base`, as Go's decoder does: objects key by key, `null` changes nothing,
/// everything else replaces.
pub(super) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// The value at a dotted path of plain keys.
pub(super) fn get<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |value, key| value.get(key))
}

/// Puts a value at a dotted path of plain keys.
pub(super) fn insert(tree: &mut Value, path: &str, value: Value) {
    let slot = path.split('.').fold(tree, |at, key| {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        &mut at[key]
    });
    *slot = value;
}

/// The keys that a file may have.
pub(super) struct Known {
    pub(super) keys: Value,
    /// Paths below which every key is allowed.
    pub(super) free: &'static [&'static str],
}

impl Known {
    /// Spells the keys as the original's Go structs do (Go reads them in any case), and returns
    /// the paths of those that nobody knows.
    pub(super) fn make_canonical(&self, file: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        self.walk(file, &self.keys, "", &mut unknown);
        unknown
    }

    fn walk(&self, file: &mut Value, known: &Value, at: &str, unknown: &mut Vec<String>) {
        let (Value::Object(map), Value::Object(names)) = (file, known) else { return };
        if self.free.contains(&at) {
            return;
        }
        for (key, mut value) in std::mem::take(map) {
            let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            match canonical(names, &key) {
                Some((name, below)) => {
                    let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                    self.walk(&mut value, below, &path, unknown);
                    map.insert(name.clone(), value);
                }
                None => unknown.push(path),
            }
        }
    }

    /// The same for the path of one setting, where an unknown key is an error.
    pub(super) fn make_path_canonical(&self, path: &mut Path) -> Result<(), String> {
        let mut known = Some(&self.keys);
        let mut at = String::new();
        for step in path {
            let Step::Key(key) = step else {
                known = None; // what is in lists is not described
                continue;
            };
            if self.free.contains(&at.as_str()) {
                known = None;
            }
            let names = match known {
                Some(Value::Object(names)) => names,
                Some(Value::Null) | None => continue,
                Some(_) => return Err(format!("`{at}` is a single value and has no `{key}`")),
            };
            let Some((name, below)) = canonical(names, key) else {
                let hint = nearest(names, key).map(|n| format!("; did you mean `{n}`?"));
                let within = if at.is_empty() { "the file".into() } else { format!("`{at}`") };
                return Err(format!("{within} has no key `{key}`{}", hint.unwrap_or_default()));
            };
            key.clone_from(name);
            at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            known = Some(below);
        }
        Ok(())
    }
}

fn canonical<'a>(names: &'a Map<String, Value>, key: &str) -> Option<(&'a String, &'a Value)> {
    names
        .get_key_value(key)
        .or_else(|| names.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)))
}

/// The known key that shares the longest beginning with `key`, if that is at least half of it.
fn nearest<'a>(names: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    let shared = |name: &str| {
        name.chars().zip(key.chars()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
    };
    names
        .keys()
        .map(|name| (shared(name), name.as_str()))
        .filter(|(len, _)| *len > 0 && len * 2 >= key.chars().count())
        .max_by_key(|(len, _)| *len)
        .map(|(_, name)| name)
}

/// Reads the tree as a `T`. A value of the wrong type is reported and replaced by the default, so
/// that one run finds them all. `None` if not even the defaults help.
pub(super) fn typed<T: DeserializeOwned>(
    tree: &Value,
    defaults: &Value,
    problems: &mut Problems,
) -> Option<T> {
    let mut tree = tree.clone();
    check_mappings(&mut tree, defaults, &mut String::new(), problems);
    loop {
        let error = match serde_path_to_error::deserialize(&tree) {
            Ok(typed) => return Some(typed),
            Err(error) => error,
        };
        let path = error.path().to_string();
        let keys: Vec<&str> = error
            .path()
            .iter()
            .map_while(|segment| match segment {
                Segment::Map { key } => Some(key.as_str()),
                _ => None,
            })
            .collect();
        let value = value_at(&tree, error.path());
        problems.add(&path, in_words(&path, value, &error.inner().to_string()));
        if keys.is_empty() || problems.len() >= MAX_PROBLEMS {
            return None;
        }
        restore(&mut tree, defaults, &keys);
    }
}

/// Reports what should be a mapping and is none, and puts the default back. (Serde would take a
/// list for a struct.)
fn check_mappings(tree: &mut Value, defaults: &Value, at: &mut String, problems: &mut Problems) {
    let Value::Object(defaults) = defaults else { return };
    let Value::Object(map) = tree else {
        problems.add(at, in_words(at, Some(tree), "invalid type, expected struct"));
        *tree = Value::Object(defaults.clone());
        return;
    };
    for (key, default) in defaults {
        let Some(value) = map.get_mut(key) else { continue };
        let len = at.len();
        if len > 0 {
            at.push('.');
        }
        at.push_str(key);
        check_mappings(value, default, at, problems);
        at.truncate(len);
    }
}

fn value_at<'a>(tree: &'a Value, path: &serde_path_to_error::Path) -> Option<&'a Value> {
    path.iter().try_fold(tree, |value, segment| match segment {
        Segment::Map { key } => value.get(key),
        Segment::Seq { index } => value.get(index),
        _ => None,
    })
}

/// Puts the default back at `keys`, or takes away what has none.
fn restore(tree: &mut Value, defaults: &Value, keys: &[&str]) {
    let Some((last, parents)) = keys.split_last() else { return };
    let default = keys.iter().try_fold(defaults, |value, key| value.get(key)).cloned();
    let parent = parents.iter().try_fold(tree, |value, key| value.get_mut(key));
    let Some(Value::Object(parent)) = parent else { return };
    match default {
        Some(default) => parent.insert((*last).to_owned(), default),
        None => parent.remove(*last),
    };
}

/// Keys whose values are not shown.
fn is_secret(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.contains("token") || path.contains("password")
}

/// Turns serde's words into ours: `"x" is not a whole number`.
fn in_words(path: &str, value: Option<&Value>, words: &str) -> String {
    let Some((_, expected)) = words
        .split_once(", expected ")
        .filter(|_| words.starts_with("invalid type") || words.starts_with("invalid value"))
    else {
        return words.to_owned();
    };
    let expected = match expected {
        "a boolean" => "`true` or `false`",
        "a string" | "path string" => "text",
        "a sequence" => "a list",
        "a map" => "a mapping",
        "u8" | "u16" | "u32" | "u64" | "i32" | "i64" => "a whole number in range",
        other if other.starts_with("struct") => "a mapping of keys",
        other => other,
    };
    match value {
        Some(Value::Object(_)) => format!("a mapping is not {expected}"),
        Some(Value::Array(_)) => format!("a list is not {expected}"),
        Some(value) if !is_secret(path) => {
            let text: String = value.to_string().chars().take(64).collect();
            format!("{text} is not {expected}")
        }
        _ => format!("it should be {expected}"),
    }
}
