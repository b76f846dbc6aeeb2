//! Which objects, and in which order: labels, fields, names, `--sort-by`.
//!
//! Owns: the language of `-l` and `--field-selector`, as kubectl has it.
//! Called by: `get`, `describe`, `top`, `events`.
//! Never: asks anybody.

use std::cmp::Ordering;

use serde_json::Value;

use super::jsonpath::{Template, plain};
use crate::errors::{CommandError, Kind};

/// `-l`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Lacks(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

impl std::str::FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        super::split_outside_brackets(text)
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(requirement)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let key = |text: &str| {
        let text = text.trim();
        let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if text.is_empty() || !text.chars().all(ok) {
            return Err(format!("`{part}` is no label selector"));
        }
        Ok(text.to_owned())
    };
    let one = |text: &str| vec![text.trim().to_owned()];
    if let Some((name, value)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(key(name)?, one(value)));
    }
    if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::In(key(name)?, one(value)));
    }
    if let Some(list) = part.strip_suffix(')')
        && let Some((head, list)) = list.split_once('(')
    {
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        let head = head.trim();
        if let Some(name) = head.strip_suffix(" notin") {
            return Ok(Requirement::NotIn(key(name)?, values));
        }
        if let Some(name) = head.strip_suffix(" in") {
            return Ok(Requirement::In(key(name)?, values));
        }
        return Err(format!("`{part}` is no label selector"));
    }
    match part.strip_prefix('!') {
        Some(name) => Ok(Requirement::Lacks(key(name)?)),
        None => Ok(Requirement::Exists(key(part)?)),
    }
}

impl Labels {
    /// Whether an object's `metadata.labels` are as wanted.
    pub fn matches(&self, object: &Value) -> bool {
        let label = |name: &str| object["metadata"]["labels"].get(name).and_then(Value::as_str);
        self.0.iter().all(|requirement| match requirement {
            Requirement::Exists(name) => label(name).is_some(),
            Requirement::Lacks(name) => label(name).is_none(),
            Requirement::In(name, values) => {
                label(name).is_some_and(|is| values.iter().any(|v| v == is))
            }
            // As in Kubernetes, what has no such label is not in the set.
            Requirement::NotIn(name, values) => {
                label(name).is_none_or(|is| values.iter().all(|v| v != is))
            }
        })
    }
}

/// `--field-selector`
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(Template, bool, String)>);

impl std::str::FromStr for Fields {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |part: &str| {
            let wrong = || format!("`{part}` is no field selector; write `status.phase=Running`");
            let (path, equal, value) = match part.split_once("!=") {
                Some((path, value)) => (path, false, value),
                None => {
                    let (path, value) = part.split_once('=').ok_or_else(wrong)?;
                    (path, true, value.strip_prefix('=').unwrap_or(value))
                }
            };
            if path.trim().is_empty() {
                return Err(wrong());
            }
            Ok((Template::path(path.trim())?, equal, value.trim().to_owned()))
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(one).collect::<Result<_, _>>().map(Self)
    }
}

impl Fields {
    /// Whether an object's fields are as wanted. A field that is not there is the empty text.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(path, equal, value)| {
            let is = path.values(object).first().map(|v| plain(v)).unwrap_or_default();
            (is == *value) == *equal
        })
    }
}

/// Sorts as `--sort-by` says.
///
/// # Errors
/// When none of them has what it names: as kubectl, for it is most likely a slip.
pub fn sort_by(objects: &mut [Value], by: &Template) -> Result<(), CommandError> {
    if !objects.is_empty() && objects.iter().all(|object| by.values(object).is_empty()) {
        let text = "none of them has the field that `--sort-by` names";
        return Err(CommandError::new(Kind::Usage, text)
            .hint("`-o json` shows the fields that there are, as `.status.restarts`"));
    }
    sort(objects, by);
    Ok(())
}

/// Sorts by what a path finds: numbers as numbers, texts as texts; what lacks it comes first.
pub fn sort(objects: &mut [Value], by: &Template) {
    objects.sort_by(|a, b| compare(by.values(a).first().copied(), by.values(b).first().copied()));
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some(a), Some(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => natural(&plain(a), &plain(b)),
        },
    }
}

/// `edge-2` before `edge-10`.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let text = |t: &str| t.find(|c: char| c.is_ascii_digit()).unwrap_or(t.len());
        let (at, bt) = (text(a), text(b));
        match a[..at].cmp(&b[..bt]) {
            Ordering::Equal => {}
            other => return other,
        }
        (a, b) = (&a[at..], &b[bt..]);
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        let digits = |t: &str| t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
        let (ad, bd) = (digits(a), digits(b));
        let (an, bn) = (a[..ad].trim_start_matches('0'), b[..bd].trim_start_matches('0'));
        match an.len().cmp(&bn.len()).then_with(|| an.cmp(bn)).then_with(|| ad.cmp(&bd)) {
            Ordering::Equal => (a, b) = (&a[ad..], &b[bd..]),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(selector: &str) -> bool {
        let object = json!({"metadata": {"labels": {"app": "web", "site": "north"}}});
        selector.parse::<Labels>().unwrap().matches(&object)
    }

    #[test]
    fn label_selectors_mean_what_they_mean_in_kubernetes() {
        for yes in [
            "",
            "app=web",
            "app==web",
            "app=web,site=north",
            "app!=db",
            "other!=x",
            "app",
            "!other",
            "app in (web, db)",
            "site notin (south)",
            "other notin (x)",
        ] {
            assert!(labels(yes), "{yes}");
        }
        for no in
            ["app=db", "app!=web", "other", "!app", "app in (db)", "other in (x)", "app=web,!site"]
        {
            assert!(!labels(no), "{no}");
        }
        for wrong in ["app in web", "=web", "a b", "app on (x)"] {
            assert!(wrong.parse::<Labels>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn fields_are_compared_as_text_and_a_missing_one_is_empty() {
        let object = json!({"status": {"phase": "Running", "restarts": 3}});
        let matches = |text: &str| text.parse::<Fields>().unwrap().matches(&object);
        assert!(matches("status.phase=Running,status.restarts=3"));
        assert!(matches("status.phase!=Failed") && matches("spec.nodeName="));
        assert!(!matches("status.phase==Failed") && !matches("spec.nodeName!="));
        assert!("status.phase".parse::<Fields>().is_err() && "=x".parse::<Fields>().is_err());
    }

    #[test]
    fn numbers_sort_as_numbers_also_within_names() {
        let mut all: Vec<Value> = [("edge-10", 9), ("edge-2", 10), ("edge-1", 1)]
            .map(|(name, n)| json!({"metadata": {"name": name}, "n": n}))
            .into();
        let names = |all: &[Value]| -> Vec<String> {
            all.iter().map(|v| plain(&v["metadata"]["name"])).collect()
        };
        sort(&mut all, &Template::path(".metadata.name").unwrap());
        assert_eq!(names(&all), ["edge-1", "edge-2", "edge-10"]);
        sort(&mut all, &Template::path("{.n}").unwrap());
        assert_eq!(names(&all), ["edge-1", "edge-10", "edge-2"]);
        assert_eq!(natural("a1b", "a01b"), Ordering::Less);
        assert_eq!(natural("a", "a1"), Ordering::Less);
    }
}
