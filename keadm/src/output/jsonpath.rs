//! kubectl's JSONPath templates: text, `{paths}`, `{range}`..`{end}`, `{"literals"}`.
//!
//! The paths themselves are RFC 9535's but for kubectl's habits, which are translated: no leading
//! `$`, `\.` within a name, names with dashes, single filters in parentheses.
//!
//! Owns: the template language.
//! Called by: `-o jsonpath`, `-o custom-columns`, `--sort-by`.
//! Never: evaluates a path; `jsonpath_rust` does.

use jsonpath_rust::JsonPath as _;
use serde_json::Value;

/// A template is at most so long; paths nest as deep as their text.
const LIMIT: usize = 8 << 10;

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Path(String),
    Range(String, Vec<Part>),
}

impl Template {
    /// Reads a template. A text without braces is one path; kubectl would print it as it stands,
    /// which nobody wants.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LIMIT {
            return Err(format!("a template has at most {LIMIT} characters"));
        }
        if text.is_empty() {
            return Err("say what: `jsonpath={.metadata.name}`".to_owned());
        }
        if !text.contains('{') {
            return Self::path(text);
        }
        let mut rest = text;
        let parts = parts(&mut rest, false)?;
        Ok(Self(parts))
    }

    /// Reads one path, with or without braces: `.metadata.name`, `{.metadata.name}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn path(text: &str) -> Result<Self, String> {
        let inner = match (text.strip_prefix('{'), text.strip_suffix('}')) {
            (Some(open), Some(_)) => open.strip_suffix('}').unwrap_or(open),
            (Some(_), None) => return Err(format!("`{text}` is not closed")),
            (None, Some(_)) => return Err(format!("`{text}` is not opened")),
            (None, None) => text,
        };
        let inner = inner.trim();
        let dotted = match inner.chars().next() {
            Some('.' | '$' | '[' | '@') => inner.to_owned(),
            _ => format!(".{inner}"),
        };
        Ok(Self(vec![Part::Path(translated(&dotted)?)]))
    }

    /// The template filled from `value`.
    pub fn render(&self, value: &Value) -> String {
        let mut out = String::new();
        render(&self.0, value, &mut out);
        out
    }

    /// What the first path finds.
    pub fn values<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let path = self.0.iter().find_map(|part| match part {
            Part::Path(path) | Part::Range(path, _) => Some(path),
            Part::Text(_) => None,
        });
        path.map(|path| found(path, value)).unwrap_or_default()
    }
}

fn render(parts: &[Part], value: &Value, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(path) => {
                let all: Vec<String> = found(path, value).into_iter().map(plain).collect();
                out.push_str(&all.join(" "));
            }
            Part::Range(path, inner) => {
                for one in found(path, value) {
                    render(inner, one, out);
                }
            }
        }
    }
}

/// What a path finds. It has been parsed when the template was read.
fn found<'a>(path: &str, value: &'a Value) -> Vec<&'a Value> {
    value.query(path).unwrap_or_default()
}

/// A value as kubectl prints it: texts as they are, all else as JSON.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A value as kubectl's columns have it: as Go prints it, which is not as JSON.
pub fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Array(all) => format!("[{}]", all.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(all) => {
            let mut all: Vec<_> = all.iter().map(|(name, value)| (name, go(value))).collect();
            all.sort();
            let all: Vec<String> =
                all.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
            format!("map[{}]", all.join(" "))
        }
        other => plain(other),
    }
}

/// Up to the end, or to `{end}` within a range.
fn parts(rest: &mut &str, within: bool) -> Result<Vec<Part>, String> {
    let mut all = Vec::new();
    while let Some(open) = rest.find('{') {
        if open > 0 {
            all.push(Part::Text(rest[..open].to_owned()));
        }
        let body = &rest[open + 1..];
        let close = end_of(body).ok_or_else(|| format!("`{{{body}` is not closed"))?;
        let action = body[..close].trim();
        *rest = &body[close + 1..];
        if action == "end" {
            return if within { Ok(all) } else { Err("`{end}` without a `{range}`".to_owned()) };
        } else if let Some(path) = action.strip_prefix("range ") {
            let path = translated(path.trim())?;
            all.push(Part::Range(path, parts(rest, true)?));
        } else if let Some(text) = literal(action) {
            all.push(Part::Text(text?));
        } else {
            // `{.a .b}` and `{.a}{"\n"}` in one pair of braces are kubectl's, too.
            for path in words(action) {
                match literal(path) {
                    Some(text) => all.push(Part::Text(text?)),
                    None => all.push(Part::Path(translated(path)?)),
                }
            }
        }
    }
    if within {
        return Err("a `{range}` without its `{end}`".to_owned());
    }
    if !rest.is_empty() {
        all.push(Part::Text((*rest).to_owned()));
        *rest = "";
    }
    Ok(all)
}

/// Where the brace that closes the action is: not one within quotes.
fn end_of(body: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in body.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '}') => return Some(at),
            _ => {}
        }
    }
    None
}

/// At spaces outside of brackets and quotes.
fn words(action: &str) -> Vec<&str> {
    let (mut found, mut start, mut depth, mut quote) = (Vec::new(), 0, 0usize, None);
    for (at, c) in action.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[' | '(') => depth += 1,
            (None, ']' | ')') => depth = depth.saturating_sub(1),
            (None, ' ') if depth == 0 => {
                found.push(&action[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&action[start..]);
    found.retain(|word| !word.is_empty());
    found
}

/// A quoted text with Go's escapes; none if it is not quoted.
fn literal(action: &str) -> Option<Result<String, String>> {
    let quote = action.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = action.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        text.push(match chars.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some(c @ ('\\' | '"' | '\'')) => c,
            other => {
                let shown = other.map(String::from).unwrap_or_default();
                return Some(Err(format!("`\\{shown}` in `{action}` means nothing")));
            }
        });
    }
    Some(Ok(text))
}

/// kubectl's path as RFC 9535 writes it.
fn translated(path: &str) -> Result<String, String> {
    let mut chars = path.chars().peekable();
    match chars.peek() {
        Some('$' | '@') => {
            chars.next();
        }
        Some('.' | '[') => {}
        _ => {
            return Err(format!(
                "the path `{path}` should begin with a dot, like `.metadata.name`"
            ));
        }
    }
    let rest: String = chars.collect();
    let rfc = format!("${}", steps(&rest));
    Value::Null.query(&rfc).map_err(|_| format!("`{path}` is no path"))?;
    Ok(rfc)
}

/// Names become `['name']`, which stands for any text; brackets stay, their filters' paths change.
fn steps(path: &str) -> String {
    let mut out = String::new();
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '.' if chars.peek() == Some(&'.') => {
                chars.next();
                out.push_str("..");
                let name = name(&mut chars);
                out.push_str(&bracket(&name));
            }
            '.' => {
                let name = name(&mut chars);
                // `.` alone is the value itself, `.[0]` is `[0]`.
                if !name.is_empty() {
                    out.push_str(&bracket(&name));
                }
            }
            '\'' | '"' => {
                out.push(c);
                while let Some(inner) = chars.next() {
                    out.push(inner);
                    if inner == '\\' {
                        out.extend(chars.next());
                    } else if inner == c {
                        break;
                    }
                }
            }
            // A number's decimal point is no step: digits are copied with what belongs to them.
            c if c.is_ascii_digit() => {
                out.push(c);
                while let Some(d) = chars.next_if(|d| d.is_ascii_digit() || *d == '.') {
                    out.push(d);
                }
            }
            other => out.push(other),
        }
    }
    out
}

fn bracket(name: &str) -> String {
    match name {
        "*" => "[*]".to_owned(),
        // `..[` follows as it is.
        "" => String::new(),
        name => format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'")),
    }
}

fn name(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(&c) = chars.peek() {
        match c {
            '\\' => {
                chars.next();
                name.extend(chars.next());
                continue;
            }
            '.' | '[' | ']' | '(' | ')' | '=' | '!' | '<' | '>' | '&' | '|' | ' ' | ',' => break,
            c => name.push(c),
        }
        chars.next();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list() -> Value {
        json!({"items": [
            {"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x", "t-1": "y"}},
             "status": {"restarts": 2, "conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Disk", "status": "False"}]}},
            {"metadata": {"name": "b", "labels": {}},
             "status": {"restarts": 7, "conditions": [{"type": "Ready", "status": "False"}]}},
        ]})
    }

    fn render(template: &str) -> String {
        Template::parse(template).unwrap().render(&list())
    }

    #[test]
    fn templates_from_kubectls_own_documentation_give_what_it_says() {
        // Of kubernetes.io/docs/reference/kubectl/jsonpath, with our data.
        let cases = [
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[0].metadata.name}", "a"),
            ("{.items[-1:].metadata.name}", "b"),
            ("{.items[0:1].metadata.name}", "a"),
            ("{range .items[*]}[{.metadata.name}, {.status.restarts}] {end}", "[a, 2] [b, 7] "),
            (
                "{range .items[*]}{.metadata.name}{\"\\t\"}{.status.restarts}{\"\\n\"}{end}",
                "a\t2\nb\t7\n",
            ),
            ("{.items[?(@.metadata.name==\"b\")].status.restarts}", "7"),
            ("{.items[?(@.status.restarts>2)].metadata.name}", "b"),
            ("{..name}", "a b"),
            ("{.items[*]['metadata.name']}", ""),
            ("{.items[0].metadata.labels.app\\.kubernetes\\.io/name}", "x"),
            ("{.items[0].metadata.labels.t-1}", "y"),
            ("{.items[0].metadata.labels['app.kubernetes.io/name']}", "x"),
            ("{.items[0].status.conditions[?(@.type=='Ready')].status}", "True"),
            ("{$.items[1].metadata.name}", "b"),
            ("names: {.items[*].metadata.name}!", "names: a b!"),
            ("{.items[0].metadata.labels}", r#"{"app.kubernetes.io/name":"x","t-1":"y"}"#),
            ("{.items[5].metadata.name}", ""),
            ("{.nothing.at.all}", ""),
        ];
        for (template, want) in cases {
            assert_eq!(render(template), want, "{template}");
        }
    }

    #[test]
    fn columns_print_lists_and_maps_as_go_does() {
        let value = json!({"b": [1, "x", null], "a": {"n": true}});
        assert_eq!(go(&value), "map[a:map[n:true] b:[1 x <nil>]]");
    }

    #[test]
    fn a_path_without_braces_or_dot_is_taken_as_one() {
        let first = &list()["items"][0];
        for path in [".metadata.name", "metadata.name", "{.metadata.name}", "$.metadata.name"] {
            assert_eq!(Template::path(path).unwrap().render(first), "a", "{path}");
        }
    }

    #[test]
    fn what_is_no_template_is_told() {
        for (template, why) in [
            ("{.a", "is not closed"),
            ("{range .a}x", "without its `{end}`"),
            ("{end}", "without a `{range}`"),
            ("{.a[}", "is no path"),
            ("{\"\\q\"}", "means nothing"),
            ("{a}", "should begin with a dot"),
        ] {
            let error = Template::parse(template).unwrap_err();
            assert!(error.contains(why), "{template}: {error}");
        }
        assert!(Template::parse(&"x{".repeat(9000)).is_err());
    }
}
