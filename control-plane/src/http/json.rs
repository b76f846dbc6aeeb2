//! Request bodies into values, with the strictness of Kubernetes' decoder.
//!
//! Owns: duplicate keys, depth limits, YAML. Called by: the verbs that take a body.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A value, and the paths of keys that stood twice.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) duplicates: Vec<String>,
    /// What is said of the text itself, whatever becomes of its fields.
    pub(crate) warnings: Vec<String>,
}

impl From<Value> for Parsed {
    fn from(value: Value) -> Self {
        Self { value, duplicates: Vec::new(), warnings: Vec::new() }
    }
}

/// Reads JSON. The last of duplicate keys counts, and `1.0` is an integer.
///
/// # Errors
/// When `text` is not one JSON value, is nested more than 128 deep or is not UTF-8.
pub(crate) fn parse(text: &[u8]) -> Result<Parsed, serde_json::Error> {
    let mut parsed = parse_typed(text)?;
    with_integers(&mut parsed.value);
    Ok(parsed)
}

/// As [`parse`], for who knows the types: `1.0` stays as it is, and is no integer.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_typed(text: &[u8]) -> Result<Parsed, serde_json::Error> {
    let mut duplicates = Vec::new();
    let mut path = String::new();
    let mut de = serde_json::Deserializer::from_slice(text);
    let value = Seed { duplicates: &mut duplicates, path: &mut path }.deserialize(&mut de)?;
    de.end()?;
    Ok(Parsed { duplicates, ..value.into() })
}

/// What a JSON text has too much: a path, and whether it is of a key that stands there twice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Surplus {
    pub(crate) path: String,
    pub(crate) twice: bool,
}

/// Puts what a JSON text has too much into the order in which a reader meets it, and what is not in it
/// last.
pub(crate) fn in_order(surplus: &mut [Surplus], text: &[u8]) {
    if surplus.len() < 2 {
        return;
    }
    let places = surplus.iter().map(|s| (s.path.clone(), [usize::MAX; 2])).collect();
    let mut at = Positions { places, found: 0, path: String::new() };
    let mut de = serde_json::Deserializer::from_slice(text);
    let _ = Order(&mut at).deserialize(&mut de);
    surplus.sort_by_key(|s| at.places.get(&s.path).map(|p| p[usize::from(s.twice)]));
}

/// When some paths were met for the first and the second time.
struct Positions {
    places: HashMap<String, [usize; 2]>,
    found: usize,
    path: String,
}

struct Order<'a>(&'a mut Positions);

impl<'de> DeserializeSeed<'de> for Order<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Order<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        use fmt::Write as _;
        let len = self.0.path.len();
        for i in 0_usize.. {
            let _ = write!(self.0.path, "[{i}]");
            let next = seq.next_element_seed(Order(self.0))?;
            self.0.path.truncate(len);
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let len = self.0.path.len();
        while let Some(key) = map.next_key::<String>()? {
            if len > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            let mut places = self.0.places.get_mut(&self.0.path).into_iter().flatten();
            if let Some(place) = places.find(|p| **p == usize::MAX) {
                *place = self.0.found;
                self.0.found += 1;
            }
            map.next_value_seed(Order(self.0))?;
            self.0.path.truncate(len);
        }
        Ok(())
    }
}

struct Seed<'a> {
    duplicates: &'a mut Vec<String>,
    path: &'a mut String,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(v)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        let len = self.path.len();
        loop {
            use fmt::Write as _;
            let _ = write!(self.path, "[{}]", out.len());
            let next =
                seq.next_element_seed(Seed { duplicates: self.duplicates, path: self.path })?;
            self.path.truncate(len);
            match next {
                Some(v) => out.push(v),
                None => return Ok(Value::Array(out)),
            }
        }
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        let len = self.path.len();
        while let Some(key) = map.next_key::<String>()? {
            if len > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            if out.contains_key(&key) {
                self.duplicates.push(self.path.clone());
            }
            let v = map.next_value_seed(Seed { duplicates: self.duplicates, path: self.path })?;
            self.path.truncate(len);
            out.insert(key, v);
        }
        Ok(Value::Object(out))
    }
}

/// `1.0` and `1e3` are integers to Go's decoder of untyped values.
#[expect(clippy::cast_possible_truncation, reason = "checked to be integral and small")]
fn integral(v: f64) -> Option<i64> {
    (v.fract() == 0.0 && v.abs() < 9e15).then_some(v as i64)
}

pub(crate) fn with_integers(value: &mut Value) {
    match value {
        Value::Number(n) if n.is_f64() => {
            if let Some(n) = n.as_f64().and_then(integral) {
                *value = n.into();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(with_integers),
        Value::Object(map) => map.values_mut().for_each(with_integers),
        _ => {}
    }
}

/// Half a pair of surrogates in an escape is no character: Go's decoder replaces it.
pub(crate) fn whole_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u") {
        return text.into();
    }
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find('\\') {
        at += found;
        match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str(&text[rest..at]);
                out.push_str("\\ufffd");
                at += 6;
                rest = at;
            }
            // What is escaped is skipped, and may be a backslash itself.
            _ => at = text[at + 1..].chars().next().map_or(text.len(), |c| at + 1 + c.len_utf8()),
        }
    }
    out.push_str(&text[rest..]);
    out.into()
}

/// The first of the documents of a text: the others are not read.
fn first_document(text: &str) -> &str {
    let (mut at, mut begun) = (0, false);
    for line in text.split_inclusive('\n') {
        let word = line.split_whitespace().next().unwrap_or_default();
        let marks = line.starts_with(word) && matches!(word, "---" | "...");
        if marks && begun {
            return &text[..at];
        }
        // What comes before the mark of the first one belongs to it.
        begun |= marks && line.trim() != "---"
            || !marks && !word.is_empty() && !word.starts_with(['#', '%']);
        at += line.len();
    }
    text
}

/// Reads YAML as Kubernetes does (YAML to JSON first). Of several documents the first one counts.
///
/// # Errors
/// When `text` is not YAML.
pub(crate) fn parse_yaml(text: &[u8]) -> Result<Parsed, String> {
    use serde_saphyr::DuplicateKeyPolicy::LastWins;
    let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
    let text = first_document(text);
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let mut warnings = Vec::new();
    let read = match serde_saphyr::from_str_with_options(text, options) {
        // The last one counts, and it is said that there are several.
        Err(e) if duplicate_key(&e.to_string()).is_some() => {
            warnings.extend(duplicate_key(&e.to_string()));
            let options =
                serde_saphyr::options! { legacy_octal_numbers: true, duplicate_keys: LastWins };
            serde_saphyr::from_str_with_options(text, options)
        }
        read => read,
    };
    let mut value = read.map_err(|e| plain_error(&e.to_string()))?;
    with_integers(&mut value);
    Ok(Parsed { warnings, ..Parsed::from(value) })
}

/// What is said of a key that stands twice: taken from the parser's own words.
fn duplicate_key(error: &str) -> Option<String> {
    let (line, what) = position(error)?;
    let key = what.strip_prefix("duplicate mapping key: ")?.split(',').next()?;
    Some(format!("line {line}: key \"{key}\" already set in map"))
}

/// An error in one line, with the number of its line in front.
fn plain_error(error: &str) -> String {
    match position(error) {
        Some((line, what)) => format!("yaml: line {line}: {what}"),
        None => format!("yaml: {}", error.lines().next().unwrap_or_default()),
    }
}

/// The line of an error of the parser, and what is wrong there.
fn position(error: &str) -> Option<(&str, &str)> {
    let rest = error.lines().next()?.strip_prefix("error: line ")?;
    let (place, what) = rest.split_once(": ")?;
    Some((place.split(' ').next()?, what))
}

/// What Go's decoder says of the same mistake.
pub(crate) fn in_gos_words(e: &serde_json::Error, body: &[u8]) -> String {
    if e.is_eof() {
        let text = body.trim_ascii_end();
        return match literal(text) {
            Some((of, next)) => {
                format!("invalid character ' ' in literal {of} (expecting '{next}')")
            }
            None if text.ends_with(b"-") => "invalid character ' ' in numeric literal".to_owned(),
            None => "unexpected end of JSON input".to_owned(),
        };
    }
    let line = body.split(|b| *b == b'\n').nth(e.line().saturating_sub(1)).unwrap_or_default();
    let column = e.column().saturating_sub(1);
    let at = line.get(column).copied().unwrap_or_default();
    // A byte beyond ASCII is a letter to Go.
    let shown = match at {
        b'\n' => "\\n".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\'' => "\\'".to_owned(),
        b' ' | 0xa1..=0xac | 0xae.. => char::from(at).to_string(),
        0x80.. => format!("\\u{:04x}", at),
        at if at.is_ascii_graphic() => char::from(at).to_string(),
        at => format!("\\x{at:02x}"),
    };
    let text = e.to_string();
    let broken = literal(line.get(..column).unwrap_or_default());
    if let (true, Some((of, next))) = (text.starts_with("expected ident"), broken) {
        return format!("invalid character '{shown}' in literal {of} (expecting '{next}')");
    }
    if text.starts_with("control character") && e.column() == 0 {
        return "invalid character '\\n' in string literal".to_owned();
    }
    let said = if text.starts_with("recursion limit") {
        "exceeded max depth"
    } else if text.starts_with("expected value") || text.starts_with("expected ident") {
        "looking for beginning of value"
    } else if text.starts_with("expected `:`") {
        "after object key"
    } else if text.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if text.starts_with("expected `,` or `]`") {
        "after array element"
    } else if text.starts_with("trailing comma") && at == b']' {
        "looking for beginning of value"
    } else if text.starts_with("invalid escape") {
        "in string escape code"
    } else if text.starts_with("key must be a string") || text.starts_with("trailing comma") {
        "looking for beginning of object key string"
    } else if text.starts_with("trailing characters") {
        "after top-level value"
    } else if text.starts_with("control character") {
        "in string literal"
    } else {
        return text;
    };
    format!("invalid character '{shown}' {said}")
}

/// The literal that a text ends in the middle of, and the letter that comes next.
fn literal(text: &[u8]) -> Option<(&'static str, char)> {
    let begun = text.iter().rev().take_while(|b| b.is_ascii_lowercase()).count();
    let word = std::str::from_utf8(&text[text.len() - begun..]).ok().filter(|w| !w.is_empty())?;
    let of = ["true", "false", "null"].into_iter().find(|l| l.starts_with(word))?;
    Some((of, of[word.len()..].chars().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn duplicate_keys_are_found_and_the_last_one_counts() {
        let p = parse(br#"{"a":1,"b":[{"c":1,"c":2}],"a":3}"#).unwrap();
        assert_eq!(p.duplicates, ["b[0].c", "a"]);
        assert_eq!(p.value, json!({"a": 3, "b": [{"c": 2}]}));
    }

    #[test]
    fn a_number_is_the_same_when_it_is_read_and_written_again() {
        let digits = format!("2{}5e3", "3".repeat(60));
        for text in [&digits, "0.1", "5e-324", "1.7976931348623157e308", "9007199254740993.0"] {
            let once = parse(text.as_bytes()).unwrap().value;
            let again = parse(once.to_string().as_bytes()).unwrap().value;
            assert_eq!((&again, once.as_f64()), (&once, text.parse().ok()), "{text}");
        }
    }

    #[test]
    fn hostile_texts_are_errors() {
        for text in
            ["", "{", "{} {}", "\"\\ud800\"", &"[".repeat(100_000), "{\"a\":\u{1}}", "1e999"]
        {
            assert!(parse(text.as_bytes()).is_err(), "{}", &text[..text.len().min(20)]);
        }
        assert!(parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn what_a_text_has_too_much_is_told_as_it_is_met() {
        let text =
            br#"{"spec":{"b":[{"y":1,"x":2}],"n":1,"bad":1,"n":2},"bogus":1,"metadata":{"boo":2}}"#;
        let surplus = |path: &str| Surplus { path: path.to_owned(), twice: path == "spec.n" };
        let mut all =
            ["spec.n", "bogus", "metadata.boo", "not", "spec.b[0].x", "spec.bad", "spec.b[0].y"]
                .map(surplus);
        in_order(&mut all, text);
        let expected =
            ["spec.b[0].y", "spec.b[0].x", "spec.bad", "spec.n", "bogus", "metadata.boo", "not"];
        assert_eq!(all, expected.map(surplus));
    }

    #[test]
    fn a_key_that_stands_twice_in_yaml_is_told_and_the_last_one_counts() {
        let p = parse_yaml(b"a: 1\nb: {c: 1,\n  c: 2}\n").unwrap();
        assert_eq!(p.value, json!({"a": 1, "b": {"c": 2}}));
        assert_eq!(p.warnings, ["line 3: key \"c\" already set in map"]);
        let e = parse_yaml(b"a: b\nc: [").unwrap_err();
        assert!(e.starts_with("yaml: line 2: ") && !e.contains('\n'), "{e}");
    }

    // What a kube-apiserver 1.33 made of them.
    #[test]
    fn of_several_documents_the_first_counts() {
        for text in [
            "a: 1\n---\na: 2\n",
            "# x\n---\na: 1\n--- {b: ]\n",
            "---\na: 1\n...\nb: 2\n",
            "--- {a: 1}\n---\n",
        ] {
            assert_eq!(parse_yaml(text.as_bytes()).unwrap().value, json!({"a": 1}), "{text}");
        }
        let block = "a: |\n  x\n  ---\n  y\n";
        assert_eq!(parse_yaml(block.as_bytes()).unwrap().value, json!({"a": "x\n---\ny\n"}));
    }

    // What a kube-apiserver 1.33 said of each.
    #[test]
    fn what_is_no_json_is_told_in_the_words_of_go() {
        for (text, words) in [
            (r#"{"a":tru}"#, "invalid character '}' in literal true (expecting 'e')"),
            ("nul", "invalid character ' ' in literal null (expecting 'l')"),
            ("-", "invalid character ' ' in numeric literal"),
            ("{\"a\":\"\n\"}", "invalid character '\\n' in string literal"),
            (r#"{"a":"\x"}"#, "invalid character 'x' in string escape code"),
            (r#"{"a":[1,]}"#, "invalid character ']' looking for beginning of value"),
            (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
            ("{'a'}", "invalid character '\\'' looking for beginning of object key string"),
            ("é", "invalid character 'Ã' looking for beginning of value"),
            (r#"{"a""#, "unexpected end of JSON input"),
        ] {
            let e = parse(text.as_bytes()).unwrap_err();
            assert_eq!(in_gos_words(&e, text.as_bytes()), words, "{text}");
        }
    }

    // What Go's decoder makes of them.
    #[test]
    fn half_a_pair_of_surrogates_is_replaced() {
        for (text, whole) in [
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""\udc00\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud800 \\\ud800\n""#, r#""\\ud800 \\\ufffd\n""#),
            (r#""\ud800\u0041\ud8""#, r#""\ufffd\u0041\ud8""#),
            (r#""\é\ud"#, r#""\é\ud"#),
        ] {
            assert_eq!(whole_escapes(text), whole);
        }
    }

    #[test]
    fn yaml_reads_as_go_reads_it() {
        assert_eq!(
            parse_yaml(b"a: yes\nb: 0644\nc: \"1\"\nd: [2.0, 2.5e3, 0.5]\n").unwrap().value,
            json!({"a": true, "b": 420, "c": "1", "d": [2, 2500, 0.5]})
        );
    }
}
