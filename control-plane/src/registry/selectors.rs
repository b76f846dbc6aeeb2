//! Label and field selectors.
//!
//! Owns: their grammar and matching. Called by: list, watch, deletecollection, the controllers.
//! Never: reads more of an object than its labels and the fields that may be selected.

use serde_json::Value;

/// What selectors may ask about an object.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Selectable {
    pub(crate) labels: Vec<(Box<str>, Box<str>)>,
    pub(crate) fields: Vec<(Box<str>, Box<str>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Op {
    In,
    NotIn,
    Exists,
    NotExists,
    Greater(i64),
    Less(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    op: Op,
    values: Vec<String>,
}

/// A parsed label selector; empty selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<Requirement>);

/// A selector longer than this is refused.
const LIMIT: usize = 64 * 1024;

impl LabelSelector {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
    ///
    /// # Errors
    /// With Kubernetes' words for what could not be read.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LIMIT {
            return Err(format!("selector is longer than {LIMIT} bytes"));
        }
        let mut tokens = Tokens { rest: text };
        let mut out = Vec::new();
        loop {
            match tokens.peek() {
                Token::End => break,
                Token::Word(_) | Token::Not => {
                    let read = requirement(&mut tokens);
                    out.push(read.map_err(|e| format!("unable to parse requirement: {e}"))?);
                }
                other => {
                    let found = other.text();
                    return Err(format!(
                        "found '{found}', expected: !, identifier, or 'end of string'"
                    ));
                }
            }
            match tokens.take() {
                Token::End => break,
                Token::Comma => {
                    let next = tokens.peek();
                    if !matches!(next, Token::Word(_) | Token::Not) {
                        let found = next.text();
                        return Err(format!("found '{found}', expected: identifier after ','"));
                    }
                }
                other => {
                    return Err(format!(
                        "found '{}', expected: ',' or 'end of string'",
                        other.text()
                    ));
                }
            }
        }
        Ok(Self(out))
    }

    /// Reads a `metav1.LabelSelector`; a missing one selects nothing, so callers decide on null.
    ///
    /// # Errors
    /// When an expression has an unknown operator.
    pub(crate) fn from_value(selector: &Value) -> Result<Self, String> {
        let mut out = Vec::new();
        for (k, v) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let v = v.as_str().unwrap_or_default().to_owned();
            out.push(Requirement { key: k.clone(), op: Op::In, values: vec![v] });
        }
        for e in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            out.push(expression(e)?);
        }
        Ok(Self(out))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels, looked up by `get`, satisfy every requirement.
    pub(crate) fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|r| {
            let value = get(&r.key);
            match &r.op {
                Op::In => value.is_some_and(|v| r.values.iter().any(|x| x == v)),
                Op::NotIn => value.is_none_or(|v| r.values.iter().all(|x| x != v)),
                Op::Exists => value.is_some(),
                Op::NotExists => value.is_none(),
                Op::Greater(n) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *n),
                Op::Less(n) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *n),
            }
        })
    }

    /// Whether the labels of an object's metadata satisfy every requirement.
    pub(crate) fn matches_object(&self, object: &Value) -> bool {
        self.matches(|k| object.pointer("/metadata/labels")?.get(k)?.as_str())
    }
}

/// One `matchExpressions` entry; also used for node selector terms.
fn expression(e: &Value) -> Result<Requirement, String> {
    let key = e["key"].as_str().unwrap_or_default().to_owned();
    let values: Vec<String> = e["values"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let number = || {
        values
            .first()
            .and_then(|v| v.parse().ok())
            .ok_or("for 'Gt', 'Lt' operators, the value must be an integer")
    };
    let op = match e["operator"].as_str().unwrap_or_default() {
        "In" => Op::In,
        "NotIn" => Op::NotIn,
        "Exists" => Op::Exists,
        "DoesNotExist" => Op::NotExists,
        "Gt" => Op::Greater(number()?),
        "Lt" => Op::Less(number()?),
        other => return Err(format!("\"{other}\" is not a valid label selector operator")),
    };
    Ok(Requirement { key, op, values })
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Token<'a> {
    End,
    Comma,
    Open,
    Close,
    Not,
    Equal,
    NotEqual,
    Greater,
    Less,
    Word(&'a str),
}

impl Token<'_> {
    fn text(&self) -> &str {
        match self {
            Token::End => "",
            Token::Comma => ",",
            Token::Open => "(",
            Token::Close => ")",
            Token::Not => "!",
            Token::Equal => "=",
            Token::NotEqual => "!=",
            Token::Greater => ">",
            Token::Less => "<",
            Token::Word(w) => w,
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn scan(&self) -> (Token<'a>, &'a str) {
        let s = self.rest.trim_start();
        let Some(c) = s.chars().next() else { return (Token::End, s) };
        let two = |t| (t, &s[2..]);
        let one = |t| (t, &s[1..]);
        match c {
            ',' => one(Token::Comma),
            '(' => one(Token::Open),
            ')' => one(Token::Close),
            '>' => one(Token::Greater),
            '<' => one(Token::Less),
            '=' if s.starts_with("==") => two(Token::Equal),
            '=' => one(Token::Equal),
            '!' if s.starts_with("!=") => two(Token::NotEqual),
            '!' => one(Token::Not),
            _ => {
                let end =
                    s.find(|c: char| c.is_whitespace() || ",()><=!".contains(c)).unwrap_or(s.len());
                (Token::Word(&s[..end]), &s[end..])
            }
        }
    }
    fn peek(&self) -> Token<'a> {
        self.scan().0
    }
    fn take(&mut self) -> Token<'a> {
        let (token, rest) = self.scan();
        self.rest = rest;
        token
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, String> {
    let mut negated = false;
    if tokens.peek() == Token::Not {
        tokens.take();
        negated = true;
    }
    let key = match tokens.take() {
        Token::Word(w) => w.to_owned(),
        other => {
            return Err(format!("found '{}', expected: identifier", other.text()));
        }
    };
    super::names::label_key(&key).map_err(|e| format!("<nil>: Invalid value: \"{key}\": {e}"))?;
    let plain = |op, values| Ok(Requirement { key: key.clone(), op, values });
    if negated {
        return plain(Op::NotExists, Vec::new());
    }
    if matches!(tokens.peek(), Token::End | Token::Comma) {
        return plain(Op::Exists, Vec::new());
    }
    match tokens.take() {
        Token::Equal => plain(Op::In, vec![value(tokens, &key)?]),
        Token::NotEqual => plain(Op::NotIn, vec![value(tokens, &key)?]),
        Token::Word("in") => plain(Op::In, values(tokens)?),
        Token::Word("notin") => plain(Op::NotIn, values(tokens)?),
        Token::Greater => plain(Op::Greater(number(tokens)?), Vec::new()),
        Token::Less => plain(Op::Less(number(tokens)?), Vec::new()),
        other => Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", other.text())),
    }
}

fn value(tokens: &mut Tokens<'_>, key: &str) -> Result<String, String> {
    let v = match tokens.peek() {
        Token::Word(w) => {
            tokens.take();
            w.to_owned()
        }
        Token::End | Token::Comma => String::new(),
        other => return Err(format!("found '{}', expected: identifier", other.text())),
    };
    super::names::label_value(&v)
        .map_err(|e| format!("values[0][{key}]: Invalid value: \"{v}\": {e}"))?;
    Ok(v)
}

/// `(a,b)`. What stands between two commas, or a comma and a bracket, may be empty.
fn values(tokens: &mut Tokens<'_>) -> Result<Vec<String>, String> {
    match tokens.take() {
        Token::Open => {}
        other => return Err(format!("found '{}' expected: '('", other.text())),
    }
    let mut out = Vec::new();
    loop {
        match tokens.peek() {
            Token::Word(w) => {
                super::names::label_value(w)
                    .map_err(|e| format!("values: Invalid value: \"{w}\": {e}"))?;
                out.push(w.to_owned());
                tokens.take();
            }
            Token::Comma | Token::Close => out.push(String::new()),
            other => {
                return Err(format!("found '{}', expected: ',', ')' or identifier", other.text()));
            }
        }
        match tokens.take() {
            Token::Comma => {}
            Token::Close => return Ok(out),
            other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
        }
    }
}

fn number(tokens: &mut Tokens<'_>) -> Result<i64, String> {
    let why = "for 'Gt', 'Lt' operators, the value must be an integer";
    let text = match tokens.peek() {
        Token::Word(w) => {
            tokens.take();
            w
        }
        Token::End | Token::Comma => "",
        other => return Err(format!("found '{}', expected: identifier", other.text())),
    };
    text.parse().map_err(|_| format!("values[0]: Invalid value: \"{text}\": {why}"))
}

/// A parsed field selector; empty selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<(String, bool, String)>);

impl FieldSelector {
    /// Reads `a=b,c!=d,e==f` with `\` escapes in values.
    ///
    /// # Errors
    /// With Kubernetes' words for what could not be read.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LIMIT {
            return Err(format!("selector is longer than {LIMIT} bytes"));
        }
        let mut out = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let (key, equal, value) = split_term(term)
                .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
            out.push((key.to_owned(), equal, unescape(value)?));
        }
        Ok(Self(out))
    }

    /// The fields it asks about.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(k, _, _)| k.as_str())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that `field` must have, if the selector says so.
    pub(crate) fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(k, equal, _)| *equal && k == field).map(|(_, _, v)| v.as_str())
    }

    pub(crate) fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|(k, equal, v)| (get(k).unwrap_or_default() == v) == *equal)
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (i, _) in term.char_indices() {
        let rest = &term[i..];
        for (op, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(op) {
                return Some((&term[..i], equal, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(e @ ('\\' | ',' | '=')) => out.push(e),
                Some(c) => {
                    return Err(format!("invalid field selector: invalid escape sequence: \\{c}"));
                }
                None => return Err("invalid field selector: invalid escape sequence: \\".into()),
            },
            '=' => {
                // As Go writes the character: by its number.
                let c = u32::from('=');
                return Err(format!("invalid field selector: unescaped character in value: {c}"));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Both selectors of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Selection {
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, s: &Selectable) -> bool {
        let find =
            |list: &'_ [(Box<str>, Box<str>)], k: &str| list.iter().position(|(n, _)| **n == *k);
        self.labels.matches(|k| find(&s.labels, k).map(|i| &*s.labels[i].1))
            && self.fields.matches(|k| find(&s.fields, k).map(|i| &*s.fields[i].1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        LabelSelector::parse(selector)
            .unwrap()
            .matches(|k| labels.iter().find(|(n, _)| *n == k).map(|(_, v)| *v))
    }

    #[test]
    fn label_selectors_select_as_documented() {
        let l = [("app", "web"), ("tier", "2")];
        for s in [
            "",
            "app=web",
            "app==web",
            "app!=db",
            "x!=y",
            "app in (db,web)",
            "app notin (db)",
            "app",
            "!x",
            "tier>1",
            "tier<3",
            "app=web,tier",
            "x notin (a)",
        ] {
            assert!(matches(s, &l), "{s}");
        }
        for s in [
            "app=db",
            "app!=web",
            "app in (db)",
            "app notin (db, web)",
            "x",
            "!app",
            "tier>2",
            "app=",
            "x in (a)",
        ] {
            assert!(!matches(s, &l), "{s}");
        }
        for s in ["app=web,", "=a", "a in b", "a in (b", "a b", "a>x", "-a=b", "a=b c", "a=/"] {
            assert!(LabelSelector::parse(s).is_err(), "{s}");
        }
    }

    // What a kube-apiserver 1.33 answered.
    #[test]
    fn broken_selectors_are_told_in_the_words_of_kubernetes() {
        for (text, why) in [
            ("a=b,,c", "found ',', expected: identifier after ','"),
            ("a=b,", "found '', expected: identifier after ','"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            (
                "a<",
                "unable to parse requirement: values[0]: Invalid value: \"\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap_err(), why, "{text}");
        }
        assert_eq!(
            FieldSelector::parse("metadata.name=a=b").unwrap_err(),
            "invalid field selector: unescaped character in value: 61"
        );
    }

    #[test]
    fn field_selectors_split_and_unescape() {
        let f = FieldSelector::parse("metadata.name=a,status.phase!=Running,x==a\\,b").unwrap();
        assert_eq!(f.exact("metadata.name"), Some("a"));
        assert_eq!(f.exact("x"), Some("a,b"));
        assert_eq!(f.exact("status.phase"), None);
        assert!(FieldSelector::parse("nonsense").is_err());
    }
}
