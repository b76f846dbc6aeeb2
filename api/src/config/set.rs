//! `--set a.b[0]=c`: Helm's syntax.
//!
//! Owns: the parser of settings, the writing of a value at a path.
//! Called by: `config`.
//! Never: knows which keys a file may have.

use serde_json::{Map, Value};

/// No list of a configuration file is longer.
const MAX_INDEX: usize = 1024;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// From the root to a value.
pub(super) type Path = Vec<Step>;

/// Reads `a.b[0]=c,d={x,y},e=null`. A backslash takes the meaning from the next character.
pub(super) fn parse(setting: &str) -> Result<Vec<(Path, Value)>, String> {
    let mut chars = Chars { rest: setting.chars().peekable() };
    let mut settings = Vec::new();
    loop {
        let (key, end) = chars.until(&['=', ',']);
        if end != Some('=') {
            return Err("it should be `key=value`".into());
        }
        let (value, end) = chars.value()?;
        settings.push((path(&key)?, value));
        if end.is_none() {
            return Ok(settings);
        }
    }
}

/// Reads `a.b[0].c`. A dot that belongs to a key has a backslash before it.
pub(super) fn path(text: &str) -> Result<Path, String> {
    let mut steps = Vec::new();
    let mut chars = Chars { rest: text.chars().peekable() };
    loop {
        let (key, mut end) = chars.until_unescaped(&['.', '[']);
        let after_index = matches!(steps.last(), Some(Step::Index(_)));
        match (key.is_empty(), end) {
            (false, _) => steps.push(Step::Key(key)),
            (true, Some('.' | '[') | None) if after_index => {}
            (true, _) => return Err("a key is empty".into()),
        }
        while end == Some('[') {
            let (digits, close) = chars.until_unescaped(&[']']);
            let index = digits.parse().ok().filter(|index| *index <= MAX_INDEX);
            let (Some(index), Some(_)) = (index, close) else {
                return Err(format!("`[{digits}` is not an index from 0 to {MAX_INDEX}"));
            };
            steps.push(Step::Index(index));
            end = chars.rest.next_if(|c| matches!(c, '.' | '['));
            if end.is_none() && chars.rest.peek().is_some() {
                return Err("after `]` there should be `.`, `[` or `=`".into());
            }
        }
        if end.is_none() {
            return Ok(steps);
        }
    }
}

struct Chars<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl Chars<'_> {
    /// The text up to one of `ends`, and which it was. Escapes stay, for [`path`].
    fn until(&mut self, ends: &[char]) -> (String, Option<char>) {
        let mut text = String::new();
        while let Some(c) = self.rest.next() {
            if ends.contains(&c) {
                return (text, Some(c));
            }
            text.push(c);
            if c == '\\' {
                text.extend(self.rest.next());
            }
        }
        (text, None)
    }

    /// The same with the escapes resolved.
    fn until_unescaped(&mut self, ends: &[char]) -> (String, Option<char>) {
        let (text, end) = self.until(ends);
        (unescaped(&text), end)
    }

    /// A value, and the comma after it if there is one.
    fn value(&mut self) -> Result<(Value, Option<char>), String> {
        if self.rest.next_if_eq(&'{').is_none() {
            let (text, end) = self.until(&[',']);
            return Ok((scalar(&text), end));
        }
        let mut items = Vec::new();
        loop {
            let (text, end) = self.until(&[',', '}']);
            if !(text.is_empty() && items.is_empty() && end == Some('}')) {
                items.push(scalar(&text));
            }
            match end {
                Some('}') => break,
                Some(_) if items.len() <= MAX_INDEX => {}
                _ => return Err("a list `{..}` does not end".into()),
            }
        }
        match self.rest.next() {
            None => Ok((Value::Array(items), None)),
            Some(',') => Ok((Value::Array(items), Some(','))),
            Some(_) => Err("after `}` there should be `,` or the end".into()),
        }
    }
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' { out.extend(chars.next()) } else { out.push(c) }
    }
    out
}

/// A value as Helm types it: true, false, null, whole numbers without a leading zero, else text.
fn scalar(text: &str) -> Value {
    match text {
        "true" => return true.into(),
        "false" => return false.into(),
        "null" => return Value::Null,
        "0" => return 0.into(),
        _ => {}
    }
    let leading_zero = text.trim_start_matches('-').starts_with('0');
    match text.parse::<i64>() {
        Ok(number) if !leading_zero && !text.starts_with('+') => number.into(),
        _ => unescaped(text).into(),
    }
}

/// Puts `value` at `path`; `null` takes the key away, so that the default counts again.
pub(super) fn put(tree: &mut Value, path: &[Step], value: Value) -> Result<(), String> {
    let Some((step, rest)) = path.split_first() else {
        *tree = value;
        return Ok(());
    };
    match step {
        Step::Key(key) => {
            if tree.is_null() {
                *tree = Value::Object(Map::new());
            }
            let Value::Object(map) = tree else {
                return Err(format!("`{key}` is set in something that is not a mapping"));
            };
            if rest.is_empty() && value.is_null() {
                map.remove(key);
                return Ok(());
            }
            put(map.entry(key.clone()).or_insert(Value::Null), rest, value)
        }
        Step::Index(index) => {
            if tree.is_null() {
                *tree = Value::Array(Vec::new());
            }
            let Value::Array(list) = tree else {
                return Err(format!("`[{index}]` is set in something that is not a list"));
            };
            if *index > list.len() {
                return Err(format!("`[{index}]` leaves a gap: the list has {}", list.len()));
            }
            if *index == list.len() {
                list.push(Value::Null);
            }
            put(&mut list[*index], rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(setting: &str) -> Result<Value, String> {
        let mut tree = json!({"a": {"b": ["x", "y"], "n": 1}});
        for (path, value) in parse(setting)? {
            put(&mut tree, &path, value)?;
        }
        Ok(tree)
    }

    #[test]
    fn settings_are_read_as_helm_reads_them() {
        for (setting, wanted) in [
            ("a.b[0]=c", json!({"a": {"b": ["c", "y"], "n": 1}})),
            ("a.b[2]=c", json!({"a": {"b": ["x", "y", "c"], "n": 1}})),
            ("a.n=7,a.m=true", json!({"a": {"b": ["x", "y"], "n": 7, "m": true}})),
            ("a.b={p,q}", json!({"a": {"b": ["p", "q"], "n": 1}})),
            ("a.b={}", json!({"a": {"b": [], "n": 1}})),
            ("a.n=null", json!({"a": {"b": ["x", "y"]}})),
            ("a.n=", json!({"a": {"b": ["x", "y"], "n": ""}})),
            ("a.n=007", json!({"a": {"b": ["x", "y"], "n": "007"}})),
            ("a.n=-3", json!({"a": {"b": ["x", "y"], "n": -3}})),
            ("a.n=x\\,y=z", json!({"a": {"b": ["x", "y"], "n": "x,y=z"}})),
            ("k\\.l=1", json!({"a": {"b": ["x", "y"], "n": 1}, "k.l": 1})),
            ("c[0].d[0]=1", json!({"a": {"b": ["x", "y"], "n": 1}, "c": [{"d": [1]}]})),
        ] {
            assert_eq!(set(setting), Ok(wanted), "{setting}");
        }
    }

    #[test]
    fn broken_settings_are_refused() {
        for bad in [
            "",
            "a",
            "=1",
            "a..b=1",
            "a.=1",
            "a[x]=1",
            "a[-1]=1",
            "a.b[9999]=1",
            "a.b[7]=1",
            "a.b={x",
            "a.b={x}y",
            "a.b[0=1",
            "a.b[0]c=1",
            "a.n.x=1",
            "a[0]=1",
            "a=1,b",
        ] {
            assert!(set(bad).is_err(), "{bad}");
        }
    }
}
