//! Where in an expression a mistake is.
//!
//! Owns: how mistakes are shown, which is CEL's own way. Called by: `rules.rs`.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>

use kube_cel::cel::parser::{ParseErrors, Parser};

/// So many mistakes of one expression are told.
const TOLD: usize = 10;
/// A longer line is not shown.
const LINE: usize = 1024;

/// What is wrong with an expression, and with which of its parts, if with one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) at: Option<u64>,
    pub(super) what: String,
}

/// A mistake with its place, both from one; none before the first line.
fn shown(source: &str, (line, column): (usize, usize), what: &str) -> String {
    let mut out = format!("ERROR: <input>:{line}:{column}: {what}");
    let text = line.checked_sub(1).and_then(|n| source.lines().nth(n));
    if let Some(text) = text.filter(|t| t.len() <= LINE) {
        let before = column.saturating_sub(1);
        let dots: String = text.chars().take(before).map(|c| sign(c, '.', '\u{ff0e}')).collect();
        let mark = text.chars().nth(before).map_or('^', |c| sign(c, '^', '\u{ff3e}'));
        out = format!("{out}\n | {}\n | {dots}{mark}", text.replace('\t', " "));
    }
    out
}

/// What stands below a letter: what is wider than a byte has wide signs.
fn sign(c: char, narrow: char, wide: char) -> char {
    if c.len_utf8() > 1 { wide } else { narrow }
}

/// What the parser did not understand.
pub(super) fn unread(source: &str, errors: &ParseErrors) -> String {
    let number = |n: isize| usize::try_from(n).unwrap_or(0);
    let one = |e: &kube_cel::cel::parser::ParseError| {
        shown(source, (number(e.pos.0), number(e.pos.1)), &e.msg)
    };
    let all: Vec<String> = errors.errors.iter().take(TOLD).map(one).collect();
    all.join("\n")
}

/// A mistake in what the parser understood.
pub(super) fn told(source: &str, mistake: &Mistake) -> String {
    match mistake.at.and_then(|id| offset(source, id)) {
        Some(offset) => shown(source, place(source, offset), &mistake.what),
        None => format!("ERROR: {}", mistake.what),
    }
}

/// At which byte a part begins. The parser says so only of expressions that are wrong, so it is given
/// a wrong one: a list, which is the first part, of the expression and of what is no use of a macro.
fn offset(source: &str, id: u64) -> Option<usize> {
    let wrong = format!("[{source}\n,has(0)]");
    let errors = Parser::new().enable_optional_syntax(true).parse(&wrong).err()?.errors;
    let info = errors.into_iter().find_map(|e| e.source_info)?;
    usize::try_from(info.offset_for(id + 1)?.0).ok()?.checked_sub(1)
}

/// Line and column of a byte, both from one.
fn place(source: &str, offset: usize) -> (usize, usize) {
    let before = &source[..source.floor_char_boundary(offset)];
    let (line, last) = before.split('\n').enumerate().last().unwrap_or((0, ""));
    (line + 1, last.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{condition_problem, rule_problem};

    // The page above has `<input>:1:5: undefined field`; the others are those of cel-go's own tests
    // (checker/checker_test.go) and of Kubernetes' (staging/src/k8s.io/apiserver, pkg/apis/admissionregistration).
    #[test]
    fn a_mistake_is_shown_with_its_line_and_a_mark_below() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"},
            "b": {"type": "boolean"}, "s": {"type": "string"}}});
        for (rule, place) in [
            (
                "self.nonExistingField > 0",
                "1:5: undefined field 'nonExistingField'\n | self.nonExistingField > 0\n | ....^",
            ),
            (
                "noSuchVar",
                "1:1: undeclared reference to 'noSuchVar' (in container '')\n | noSuchVar\n | ^",
            ),
            (
                "self.a == 'x'",
                "1:8: found no matching overload for '_==_' applied to '(int, string)'\n | self.a == 'x'\n | .......^",
            ),
            (
                "self.s.foo()",
                "1:11: undeclared reference to 'foo' (in container '')\n | self.s.foo()\n | ..........^",
            ),
            (
                "self.b &&\n  self.a",
                "2:7: expected type 'bool' but found 'int'\n |   self.a\n | ......^",
            ),
            (
                "self.s == '\u{e9}' && self.z == 1 // why",
                "1:22: undefined field 'z'\n | self.s == '\u{e9}' && self.z == 1 // why\n | ...........\u{ff0e}.........^",
            ),
            (
                "self.s.matches('(')",
                "1:16: invalid matches argument\n | self.s.matches('(')\n | ...............^",
            ),
            (
                "self.?a.optMap(v, v + self.z).hasValue()",
                "1:27: undefined field 'z'\n | self.?a.optMap(v, v + self.z).hasValue()\n | ..........................^",
            ),
        ] {
            let told = rule_problem(rule, &schema, false);
            let expected = format!("compilation failed: ERROR: <input>:{place}");
            assert_eq!(told.as_deref(), Some(&*expected), "{rule}");
        }
        assert_eq!(
            condition_problem("object.x in [1, 2, ").unwrap().lines().next(),
            Some("compilation failed: ERROR: <input>:1:20: Syntax error: missing ']' at '<EOF>'")
        );
    }
}
