//! Whether an expression names only fields that its schema has, and compares what can be compared.
//!
//! Owns: the walk over an expression with the schema of each part, as far as it is known.
//! Called by: the validation of definitions. Never: judges what it does not know for sure.

use kube_cel::cel::IdedExpr;
use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators,
};
use serde_json::Value;

use super::places::Mistake;
use super::types::{self, Type};
use super::values::escaped;

/// What is known of a part.
#[derive(Clone, Copy)]
enum Known<'a> {
    Schema(&'a Value),
    /// The object itself, whose metadata has fields of its own.
    Root(&'a Value),
    /// What an operator makes.
    Of(Type),
    Unknown,
}

/// Names that are types or libraries.
const NAMES: [&str; 20] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
    "google",
    "optional",
    "sets",
    "math",
    "format",
    "ip",
    "cidr",
    "semver",
    "cel",
    "strings",
];

/// What is wrong with a rule about a value of `schema`, as far as that is known before it runs.
pub(super) fn problem(expression: &IdedExpr, schema: &Value, root: bool) -> Option<Mistake> {
    let of = if root { Known::Root(schema) } else { Known::Schema(schema) };
    let mut walk = Walk { scope: vec![("self", of), ("oldSelf", of)], found: None };
    let kind = walk.of(expression).kind();
    walk.found.or_else(|| {
        let other = kind.is_some_and(|k| k != Type::Bool);
        let what = || "cel expression must evaluate to a bool".to_owned();
        other.then(|| Mistake { at: None, what: what() })
    })
}

struct Walk<'a> {
    scope: Vec<(&'a str, Known<'a>)>,
    found: Option<Mistake>,
}

impl Known<'_> {
    fn kind(self) -> Option<Type> {
        match self {
            Self::Schema(s) | Self::Root(s) => Type::of_schema(s),
            Self::Of(t) => Some(t),
            Self::Unknown => None,
        }
    }
}

impl<'a> Walk<'a> {
    fn told(&mut self, at: u64, what: String) -> Known<'a> {
        self.found.get_or_insert(Mistake { at: Some(at), what });
        Known::Unknown
    }

    fn of(&mut self, e: &'a IdedExpr) -> Known<'a> {
        match &e.expr {
            Expr::Ident(name) => match self.scope.iter().rev().find(|(n, _)| n == name) {
                Some((_, known)) => *known,
                None if NAMES.contains(&name.as_str()) || name.starts_with('@') => Known::Unknown,
                None => {
                    let what = format!("undeclared reference to '{name}' (in container '')");
                    self.told(e.id, what)
                }
            },
            Expr::Select(s) => {
                let operand = self.of(&s.operand);
                let found = self.field(e.id, operand, &s.field);
                // `has(self.x)` asks whether it is there.
                if s.test { Known::Of(Type::Bool) } else { found }
            }
            // Its first argument is a name that would be unknown, too.
            Expr::Call(c) if matches!(c.func_name.as_str(), "optMap" | "optFlatMap") => {
                let what = format!("undeclared reference to '{}' (in container '')", c.func_name);
                self.told(e.id, what)
            }
            Expr::Call(c) => {
                // `math.greatest(..)` names a library.
                let library =
                    |t: &IdedExpr| matches!(&t.expr, Expr::Ident(n) if NAMES.contains(&n.as_str()));
                let of_library = c.target.as_deref().is_some_and(library);
                let target = c.target.as_deref().filter(|t| !library(t)).map(|t| self.of(t).kind());
                let args: Vec<Known<'a>> = c.args.iter().map(|a| self.of(a)).collect();
                match (c.func_name.as_str(), &args[..]) {
                    (operators::INDEX, [of, _]) => element(*of),
                    // What it is of is no longer known where it may not be there.
                    (operators::OPT_SELECT, [of, _]) => {
                        if let Some(name) = c.args.get(1).and_then(text) {
                            self.field(e.id, *of, name);
                        }
                        Known::Unknown
                    }
                    (operators::IN, [one, of]) => {
                        let members = members(&c.args[1], *of);
                        let wrong = members.and_then(|(m, v)| types::membership(one.kind(), m, v));
                        match wrong {
                            Some(why) => self.told(e.id, why),
                            None => Known::Of(Type::Bool),
                        }
                    }
                    ("matches", _) if c.args.last().is_some_and(is_broken_pattern) => {
                        let at = c.args.last().map_or(e.id, |a| a.id);
                        self.told(at, "invalid matches argument".to_owned())
                    }
                    _ if of_library => Known::Unknown,
                    (function, args) => {
                        let kinds: Vec<Option<Type>> = args.iter().map(|a| a.kind()).collect();
                        match types::call(function, target, &kinds) {
                            Ok(kind) => kind.map_or(Known::Unknown, Known::Of),
                            Err(why) => self.told(wrong_part(e.id, c, &kinds), why),
                        }
                    }
                }
            }
            Expr::Literal(l) => Type::of_literal(l).map_or(Known::Unknown, Known::Of),
            Expr::Comprehension(c) => self.comprehension(c),
            Expr::List(l) => {
                for e in &l.elements {
                    self.of(e);
                }
                Known::Of(Type::List)
            }
            Expr::Map(m) => {
                for entry in &m.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.of(&entry.key);
                        self.of(&entry.value);
                    }
                }
                Known::Unknown
            }
            _ => Known::Unknown,
        }
    }

    fn comprehension(&mut self, c: &'a ComprehensionExpr) -> Known<'a> {
        let range = self.of(&c.iter_range);
        self.of(&c.accu_init);
        // A loop over a map is over its keys.
        let each = match range {
            Known::Schema(s) if s["type"] == "array" => element(range),
            _ => Known::Unknown,
        };
        let depth = self.scope.len();
        self.scope.push((&c.accu_var, Known::Unknown));
        self.scope.push((&c.iter_var, if c.iter_var2.is_some() { Known::Unknown } else { each }));
        if let Some(second) = &c.iter_var2 {
            self.scope.push((second, element(range)));
        }
        for part in [&c.loop_cond, &c.loop_step, &c.result] {
            self.of(part);
        }
        self.scope.truncate(depth);
        Known::Unknown
    }

    fn field(&mut self, at: u64, of: Known<'a>, name: &str) -> Known<'a> {
        let (schema, root) = match of {
            Known::Unknown | Known::Of(_) => return Known::Unknown,
            Known::Schema(s) => (s, false),
            Known::Root(s) => (s, true),
        };
        let implicit = root || schema["x-kubernetes-embedded-resource"] == true;
        if implicit && matches!(name, "apiVersion" | "kind" | "metadata") {
            return Known::Unknown;
        }
        let properties = schema["properties"].as_object();
        if let Some((_, of)) =
            properties.and_then(|p| p.iter().find(|(own, _)| escaped(own) == name))
        {
            return Known::Schema(of);
        }
        let open = schema["x-kubernetes-preserve-unknown-fields"] == true
            || schema["x-kubernetes-int-or-string"] == true;
        match schema["type"].as_str() {
            _ if schema["additionalProperties"].is_object() => {
                Known::Schema(&schema["additionalProperties"])
            }
            _ if open || schema["additionalProperties"] == true => Known::Unknown,
            Some("object") => self.told(at, format!("undefined field '{name}'")),
            Some(kind) => {
                let kind = match kind {
                    "integer" => "int",
                    "number" => "double",
                    "boolean" => "bool",
                    "array" => "list",
                    // What a format makes of a text is not looked at.
                    other => other,
                };
                self.told(at, format!("type '{kind}' does not support field selection"))
            }
            None => Known::Unknown,
        }
    }
}

/// What a list has, or the keys and values of a map, where that is known.
fn members(e: &IdedExpr, of: Known<'_>) -> Option<(Type, Option<Type>)> {
    if let Expr::List(l) = &e.expr {
        let literal = |e: &IdedExpr| match &e.expr {
            Expr::Literal(l) => Type::of_literal(l),
            _ => None,
        };
        let first = literal(l.elements.first()?)?;
        let same = l.elements.iter().all(|e| literal(e) == Some(first));
        return same.then_some((first, None));
    }
    let Known::Schema(schema) = of else { return None };
    match Type::of_schema(schema)? {
        Type::List => Some((Type::of_schema(&schema["items"])?, None)),
        Type::Map => {
            let values = Type::of_schema(&schema["additionalProperties"])?;
            Some((Type::Text, Some(values)))
        }
        _ => None,
    }
}

/// Which part of a call is wrong: of `&&` and `||` the one that is no bool, else the call.
fn wrong_part(id: u64, c: &CallExpr, kinds: &[Option<Type>]) -> u64 {
    if !matches!(c.func_name.as_str(), operators::LOGICAL_AND | operators::LOGICAL_OR) {
        return id;
    }
    let wrong = kinds.iter().position(|k| k.is_some_and(|k| k != Type::Bool));
    wrong.and_then(|i| c.args.get(i)).map_or(id, |a| a.id)
}

/// A text that is written out.
fn text(e: &IdedExpr) -> Option<&str> {
    match &e.expr {
        Expr::Literal(LiteralValue::String(s)) => Some(s.inner()),
        _ => None,
    }
}

/// Whether a text is written out that is no regular expression.
fn is_broken_pattern(e: &IdedExpr) -> bool {
    text(e).is_some_and(|s| regex::Regex::new(s).is_err())
}

/// What a list or map has.
fn element(of: Known<'_>) -> Known<'_> {
    let Known::Schema(schema) = of else { return Known::Unknown };
    let found =
        [&schema["items"], &schema["additionalProperties"]].into_iter().find(|s| s.is_object());
    found.map_or(Known::Unknown, Known::Schema)
}

#[cfg(test)]
mod tests {
    use kube_cel::cel::Program;
    use serde_json::json;

    use super::*;

    /// What is told, but for its place, which `places.rs` finds.
    fn said(found: Option<Mistake>) -> Option<String> {
        let prefix = |m: &Mistake| if m.at.is_some() { "compilation failed: " } else { "" };
        found.map(|m| format!("{}{}", prefix(&m), m.what))
    }

    // "Validation rules" of the page on custom resource definitions: its own examples are good.
    #[test]
    fn a_field_that_the_schema_does_not_have_is_told() {
        let schema = json!({"type": "object", "properties": {
            "minReplicas": {"type": "integer"}, "replicas": {"type": "integer"},
            "namespace": {"type": "string"}, "x-prop": {"type": "integer"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "port": {"x-kubernetes-int-or-string": true},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "set": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}, "l": {"type": "array", "items": {"type": "string"}}}}}}});
        let told = |e: &str, root: bool| {
            said(problem(Program::compile(e).unwrap().expression(), &schema, root))
        };
        for good in [
            "self.minReplicas <= self.replicas && self.__namespace__ != '' && self.x__dash__prop > 0",
            "'Available' in self.map && self.map['x'].a == 'b' && self.map.x.a != ''",
            "self.set.all(s, s.name.matches('^a') && s.l.exists(x, x == 'b')) || self.set[0].name == ''",
            "has(self.open.any.thing) && type(self.port) == int && has(oldSelf.replicas)",
            "self.map.all(k, k.startsWith('a')) && math.greatest(1, 2) == 2 && sets.contains([1], [1])",
            "self.set.filter(s, s.name == 'a').map(s, s.name)[0] == 'a' && optional.none().hasValue()",
            "quantity('1Gi').isGreaterThan(quantity('1Mi')) && isURL('a') && duration('1h') > duration('1m')",
        ] {
            assert_eq!(told(good, false), None, "{good}");
        }
        let field = |name: &str| Some(format!("compilation failed: undefined field '{name}'"));
        assert_eq!(told("self.nope == 1", false), field("nope"));
        assert_eq!(told("has(self.nope)", false), field("nope"));
        assert_eq!(told("self.set.all(s, s.nope > 1)", false), field("nope"));
        assert_eq!(told("self.map['x'].b == ''", false), field("b"));
        assert_eq!(told("true || oldSelf.nope", false), field("nope"));
        assert_eq!(told("self.kind == ''", false), field("kind"));
        assert_eq!(told("self.kind == '' && self.metadata.name != ''", true), None);
        assert_eq!(
            told("self.replicas.x", false),
            Some("compilation failed: type 'int' does not support field selection".to_owned())
        );
        assert_eq!(
            told("object.replicas > 1", false),
            Some(
                "compilation failed: undeclared reference to 'object' (in container '')".to_owned()
            )
        );
    }

    // What a kube-apiserver 1.33 refused.
    #[test]
    fn a_rule_that_compares_what_cannot_be_compared_is_told() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "integer"}, "s": {"type": "string"}, "b": {"type": "boolean"}, "n": {"type": "number"},
            "t": {"type": "string", "format": "date-time"}, "m": {"type": "string", "nullable": true},
            "port": {"x-kubernetes-int-or-string": true}, "l": {"type": "array", "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}}}});
        let told =
            |e: &str| said(problem(Program::compile(e).unwrap().expression(), &schema, false));
        for good in [
            "self.a > 1 && self.n > 1.5 && self.a < self.n",
            "self.b ? self.a > 1 : self.s == 'x'",
            "self.t > timestamp('2020-01-01T00:00:00Z') && self.m != null && self.m == 'x'",
            "self.port == 80 || self.port == 'http'",
            "self.s + 'x' == 'yx' && self.s in ['a', 'b'] && size(self.l) + 1 > 2",
            "self.l.all(x, x.startsWith('a')) && self.l.size() > 0 && self.s.lowerAscii() == 'x'",
            "string(self.a) == '1' && int(self.s) > 2 && self.l + ['x'] == ['x']",
            "self.s in self.l && 'k' in self.map && self.a in [1, 2] && self.n == 1.0",
            "self.s.matches('^a+$')",
            "self.b",
            "has(self.a)",
        ] {
            assert_eq!(told(good), None, "{good}");
        }
        let no_bool = Some("cel expression must evaluate to a bool".to_owned());
        for other in [
            "1 + 1",
            "self.a",
            "self.a + 1",
            "'x'",
            "size(self.s)",
            "self.b ? 1 : 2",
            "[1, 2]",
            "self",
        ] {
            assert_eq!(told(other), no_bool, "{other}");
        }
        for (wrong, why) in [
            ("foo(self)", "undeclared reference to 'foo' (in container '')"),
            ("self.s.foo()", "undeclared reference to 'foo' (in container '')"),
            ("self.a > 'x'", "found no matching overload for '_>_' applied to '(int, string)'"),
            ("self.a == 'x'", "found no matching overload for '_==_' applied to '(int, string)'"),
            (
                "self.s + 1 == 'a'",
                "found no matching overload for '_+_' applied to '(string, int)'",
            ),
            (
                "self.s.startsWith(1)",
                "found no matching overload for 'startsWith' applied to 'string.(int)'",
            ),
            ("!self.a", "found no matching overload for '!_' applied to '(int)'"),
            ("self.b && self.a", "expected type 'bool' but found 'int'"),
            ("self.n == 1", "found no matching overload for '_==_' applied to '(double, int)'"),
            ("self.a == 1u", "found no matching overload for '_==_' applied to '(int, uint)'"),
            (
                "self.b ? self.a > 1 : self.s",
                "found no matching overload for '_?_:_' applied to '(bool, bool, string)'",
            ),
            (
                "self.a in ['a']",
                "found no matching overload for '@in' applied to '(int, list(string))'",
            ),
            (
                "1 in self.l",
                "found no matching overload for '@in' applied to '(int, list(string))'",
            ),
            (
                "1 in self.map",
                "found no matching overload for '@in' applied to '(int, map(string, string))'",
            ),
            ("self.s.matches('(')", "invalid matches argument"),
            (
                "self.a ? true : false",
                "found no matching overload for '_?_:_' applied to '(int, bool, bool)'",
            ),
        ] {
            assert_eq!(told(wrong), Some(format!("compilation failed: {why}")), "{wrong}");
        }
    }
}
