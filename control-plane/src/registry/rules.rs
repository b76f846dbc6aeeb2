//! Rules in CEL: `x-kubernetes-validations` of custom kinds, and conditions of webhooks.
//!
//! Owns: compiling a rule within limits, running it within a budget, and the words of its failure.
//! Called by: structural schemas, definitions, webhooks. Never: walks a schema.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>

mod budget;
mod fields;
mod optionals;
mod places;
mod types;
mod values;

use std::panic::{AssertUnwindSafe, catch_unwind};

use kube_cel::cel::{self, Context, IdedExpr};
use kube_cel::{CompilationResult, CompiledSchema};
use serde_json::{Value, json};

use super::decode::json_type;
use crate::http::status::FieldError;
pub(crate) use budget::OBJECT;
use budget::{Overspent, priced, within};

/// An expression is not longer.
const LENGTH: usize = 8 << 10;
/// Brackets, operators and accesses in an expression: a bound for how deep its tree can be.
const STEPS: usize = 512;
/// Up to this many an expression is run where it is asked for; a larger one on a stack of its own.
const SMALL: usize = 48;
/// A stack for trees that are walked by recursion.
const STACK: usize = 64 << 20;

/// The rules of one place in a schema.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What values look like there.
    schema: CompiledSchema,
    rules: Vec<Rule>,
    /// Whether one of them is large.
    large: bool,
}

#[derive(Debug)]
struct Rule {
    text: String,
    /// What a rule is run as; why not, if it cannot be.
    expression: Result<IdedExpr, String>,
    message: Option<String>,
    message_expression: Option<IdedExpr>,
    reason: Option<String>,
    field_path: Option<String>,
    /// It is about a change.
    of_changes: bool,
    /// And is run also where nothing was before.
    optional_old: bool,
}

impl Rule {
    fn read(compiled: &CompilationResult) -> Self {
        let rule = &compiled.rule;
        Self {
            text: rule.rule.clone(),
            expression: Ok(priced(compiled.program.expression())),
            message: rule.message.clone().filter(|m| !m.is_empty()),
            message_expression: compiled.message_program.as_ref().map(|p| priced(p.expression())),
            reason: rule.reason.clone(),
            field_path: rule.field_path.clone(),
            of_changes: compiled.is_transition_rule,
            optional_old: rule.optional_old_self == Some(true),
        }
    }

    /// A rule with optional values, for which the libraries' own reading has no syntax.
    fn with_optionals(rule: &Value) -> Self {
        let text = |field: &str| rule[field].as_str().map(str::to_owned);
        let shown = text("rule").unwrap_or_default();
        let expression = match parsed(&shown) {
            Ok(e) => e,
            Err(why) => return Self::broken(why),
        };
        let message_expression = text("messageExpression").and_then(|e| parsed(&e).ok());
        Self {
            expression: Ok(priced(&expression)),
            message: text("message").filter(|m| !m.is_empty()),
            message_expression: message_expression.as_ref().map(priced),
            reason: text("reason"),
            field_path: text("fieldPath"),
            of_changes: names_old_self(&shown),
            optional_old: rule["optionalOldSelf"] == true,
            text: shown,
        }
    }

    fn broken(why: String) -> Self {
        Self {
            text: String::new(),
            expression: Err(why),
            message: None,
            message_expression: None,
            reason: None,
            field_path: None,
            of_changes: false,
            optional_old: false,
        }
    }

    /// What the author said of it, or else the rule.
    fn said(&self) -> &str {
        self.message.as_ref().unwrap_or(&self.text)
    }
}

impl Rules {
    /// Reads the rules of a schema, if it has any at its root.
    pub(crate) fn read(schema: &Value) -> Option<Self> {
        let rules = schema["x-kubernetes-validations"].as_array().filter(|r| !r.is_empty())?;
        let mut own = bare(schema);
        own["x-kubernetes-validations"] = rules.clone().into();
        let (schema, read) = with_stack(|| {
            let compiled = kube_cel::compile_schema(&own);
            let one = |(r, rule): (&Result<_, kube_cel::CompilationError>, &Value)| match r {
                Ok(compiled) if !has_macros(rule) => Rule::read(compiled),
                Ok(_) => Rule::with_optionals(rule),
                Err(_) if has_optionals(rule) || has_macros(rule) => Rule::with_optionals(rule),
                Err(e) => Rule::broken(e.to_string()),
            };
            let read = compiled.validations.iter().zip(rules).map(one).collect();
            (compiled, read)
        })?;
        let expressions = rules.iter().flat_map(|r| [&r["rule"], &r["messageExpression"]]);
        let large = expressions.filter_map(Value::as_str).any(|e| steps(e) > SMALL);
        Some(Self { schema, rules: read, large })
    }

    /// What the rules find wrong with a value. What they cost is taken from the budget.
    pub(crate) fn check(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        budget: &mut u64,
        errors: &mut Vec<FieldError>,
    ) {
        let found = json!(type_name(value));
        if *budget == 0 {
            return;
        }
        let run = || {
            let mut left = *budget;
            let told = self.run(value, old, path, &found, &mut left);
            (told, left)
        };
        match guarded(run, self.large) {
            Some((told, left)) => {
                *budget = left;
                errors.extend(told);
            }
            None => {
                let why = "the rules of this field could not be evaluated";
                errors.push(FieldError::invalid(shown(path), &found, why));
            }
        }
    }

    fn run(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        found: &Value,
        budget: &mut u64,
    ) -> Vec<FieldError> {
        let seen = values::of_schema(value, Some(&self.schema));
        let before = old.map(|o| values::of_schema(o, Some(&self.schema)));
        let mut errors = Vec::new();
        for rule in &self.rules {
            if rule.of_changes && before.is_none() && !rule.optional_old {
                continue;
            }
            // What did not change is held against nobody.
            if !rule.of_changes && old == Some(value) {
                continue;
            }
            let invalid = |why: &str| FieldError::invalid(shown(path), found, why);
            let expression = match &rule.expression {
                Ok(e) => e,
                Err(why) => {
                    errors.push(invalid(&lower(why)));
                    continue;
                }
            };
            let answer = within(budget, |functions| {
                let mut scope = functions.new_inner_scope();
                scope.add_variable_from_value("self", seen.clone());
                scope
                    .add_variable_from_value("oldSelf", before.clone().unwrap_or(cel::Value::Null));
                match cel::Value::resolve(expression, &scope) {
                    Ok(cel::Value::Bool(false)) => Ok(Some(rule.told(&scope, path, found))),
                    Ok(cel::Value::Bool(true)) => Ok(None),
                    Ok(_) => Err(format!("rule \"{}\" did not evaluate to bool", rule.text)),
                    Err(e) => Err(e.to_string()),
                }
            });
            let said = rule.said();
            match answer {
                Ok(Ok(told)) => errors.extend(told),
                Ok(Err(why)) => {
                    errors.push(invalid(&format!("{} evaluating rule: {said}", lower(&why))));
                }
                Err(Overspent { all: false }) => {
                    let why = format!(
                        "no further validation rules will be run due to call cost exceeds limit for rule: {}",
                        rule.text
                    );
                    errors.push(invalid(&why));
                    *budget = 0;
                    break;
                }
                Err(Overspent { all: true }) => {
                    errors.push(invalid("validation failed due to running out of cost budget, no further validation rules will be run"));
                    break;
                }
            }
        }
        errors
    }
}

impl Rule {
    /// What is told of a value that does not obey.
    fn told(&self, scope: &Context<'_>, path: &str, found: &Value) -> FieldError {
        let made =
            self.message_expression.as_ref().and_then(|e| match cel::Value::resolve(e, scope) {
                Ok(cel::Value::String(s)) if !s.trim().is_empty() => Some(s.to_string()),
                _ => None,
            });
        let fallback = || format!("failed rule: {}", self.text);
        let message = made.or_else(|| self.message.clone()).unwrap_or_else(fallback);
        let below = self.field_path.as_deref().unwrap_or_default();
        let field = shown(&format!("{path}{}", dotted(below, path)));
        match self.reason.as_deref() {
            Some("FieldValueForbidden") => FieldError::forbidden(field, &message),
            Some("FieldValueRequired") => FieldError::required(field, &message),
            Some("FieldValueDuplicate") => FieldError::duplicate(field, found),
            _ => FieldError::invalid(field, found, &message),
        }
    }
}

/// An expression that answers yes or no about a write.
#[derive(Debug)]
pub(crate) struct Condition {
    expression: IdedExpr,
    large: bool,
}

impl Condition {
    /// Compiles an expression.
    ///
    /// # Errors
    /// When it does not parse or is too large to be run.
    pub(crate) fn read(expression: &str) -> Result<Self, String> {
        compile(expression, priced)
            .map(|read| Self { expression: read, large: steps(expression) > SMALL })
    }

    /// Evaluates it with variables by name.
    ///
    /// # Errors
    /// When it cannot be evaluated, or is not a boolean.
    pub(crate) fn holds(&self, variables: &[(&str, &Value)]) -> Result<bool, String> {
        let run = || {
            let mut budget = OBJECT;
            let answer = within(&mut budget, |functions| {
                let mut scope = functions.new_inner_scope();
                for (name, value) in variables {
                    scope.add_variable_from_value(*name, values::plain(value));
                }
                cel::Value::resolve(&self.expression, &scope)
            });
            match answer {
                Ok(Ok(cel::Value::Bool(b))) => Ok(b),
                Ok(Ok(_)) => Err("the expression is not a boolean".to_owned()),
                Ok(Err(e)) => Err(lower(&e.to_string())),
                Err(_) => Err("operation cancelled: actual cost limit exceeded".to_owned()),
            }
        };
        guarded(run, self.large).unwrap_or_else(|| Err("it cannot be run".to_owned()))
    }
}

/// What is wrong with an expression that has to answer yes or no. What it answers is only known
/// beforehand if it looks at nothing.
pub(crate) fn condition_problem(expression: &str) -> Option<String> {
    let read = match compile(expression, priced) {
        Err(why) => return Some(why),
        Ok(read) => read,
    };
    let run = || {
        let mut budget = OBJECT;
        within(&mut budget, |functions| cel::Value::resolve(&read, functions))
    };
    let answer = guarded(run, steps(expression) > SMALL)?.ok()?.ok()?;
    let kind = match answer {
        cel::Value::Int(_) => "int",
        cel::Value::UInt(_) => "uint",
        cel::Value::Float(_) => "double",
        cel::Value::String(_) => "string",
        cel::Value::Bytes(_) => "bytes",
        _ => return None,
    };
    Some(format!("must evaluate to bool but got {kind}"))
}

/// What is wrong with a rule about values of a schema; `root` if these are whole objects.
pub(crate) fn rule_problem(expression: &str, schema: &Value, root: bool) -> Option<String> {
    let found = |e: &IdedExpr| {
        let problem = fields::problem(e, schema, root)?;
        Some(match problem.at {
            Some(_) => format!("compilation failed: {}", places::told(expression, &problem)),
            None => problem.what,
        })
    };
    compile(expression, found).unwrap_or_else(Some)
}

/// Whether an expression is about a change.
pub(crate) fn names_old_self(expression: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    expression.match_indices("oldSelf").any(|(at, name)| {
        let (before, after) = (&expression[..at], &expression[at + name.len()..]);
        !part(before.chars().next_back()) && !part(after.chars().next())
    })
}

/// Compiles an expression and makes something of it, both with enough stack.
fn compile<T: Send>(
    expression: &str,
    make: impl FnOnce(&IdedExpr) -> T + Send,
) -> Result<T, String> {
    if expression.len() > LENGTH {
        return Err(format!("compilation failed: the expression is longer than {LENGTH} bytes"));
    }
    if steps(expression) > STEPS {
        return Err("compilation failed: the expression is too complex".to_owned());
    }
    let read = with_stack(|| parsed(expression).map(|e| make(&e)));
    let read = read.unwrap_or_else(|| Err("it cannot be read".to_owned()));
    read.map_err(|e| format!("compilation failed: {e}"))
}

/// Reads an expression, which may have optional values.
fn parsed(expression: &str) -> Result<IdedExpr, String> {
    let parser = cel::parser::Parser::new().enable_optional_syntax(true);
    let mut read = parser.parse(expression).map_err(|e| places::unread(expression, &e))?;
    optionals::expand(&mut read).map_err(|m| places::told(expression, &m))?;
    Ok(read)
}

/// Whether a rule or its message asks for what may not be there.
fn has_optionals(rule: &Value) -> bool {
    has_any(rule, &[".?", "[?", "{?"])
}

/// Whether a rule or its message may have a macro that the libraries do not know.
fn has_macros(rule: &Value) -> bool {
    has_any(rule, &["optMap", "optFlatMap"])
}

fn has_any(rule: &Value, signs: &[&str]) -> bool {
    let mut texts = ["rule", "messageExpression"].into_iter().filter_map(|f| rule[f].as_str());
    texts.any(|t| signs.iter().any(|sign| t.contains(sign)))
}

fn steps(expression: &str) -> usize {
    expression.bytes().filter(|b| b"([{+-*/%?.!".contains(b)).count()
}

/// Runs an expression; none if that went wrong in a way that it must not.
fn guarded<T: Send>(run: impl FnOnce() -> T + Send, large: bool) -> Option<T> {
    if large { with_stack(run) } else { catch_unwind(AssertUnwindSafe(run)).ok() }
}

/// Runs something on a stack of its own. None if it did not come to an end.
fn with_stack<T: Send>(f: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("cel".into()).stack_size(STACK);
        thread.spawn_scoped(scope, f).ok()?.join().ok()
    })
}

/// A schema with what its values look like, and without rules of its own or of its parts.
fn bare(schema: &Value) -> Value {
    match schema {
        Value::Object(m) => {
            let left_out = [
                "x-kubernetes-validations",
                "default",
                "allOf",
                "anyOf",
                "oneOf",
                "not",
                "description",
            ];
            // Below `properties` these are names like any other.
            let part = |k: &String, v: &Value| match (k.as_str(), v) {
                ("properties", Value::Object(p)) => p
                    .iter()
                    .map(|(k, v)| (k.clone(), bare(v)))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
                _ => bare(v),
            };
            m.iter()
                .filter(|(k, _)| !left_out.contains(&k.as_str()))
                .map(|(k, v)| (k.clone(), part(k, v)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        v => v.clone(),
    }
}

fn dotted(field_path: &str, path: &str) -> String {
    let plain = field_path.trim_start_matches('.');
    match (plain.is_empty(), path.is_empty()) {
        (true, _) => String::new(),
        (false, true) => plain.to_owned(),
        (false, false) => format!(".{plain}"),
    }
}

fn shown(path: &str) -> String {
    if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() }
}

fn type_name(v: &Value) -> &'static str {
    match json_type(v) {
        "bool" => "boolean",
        "number" if v.is_i64() || v.is_u64() => "integer",
        t => t,
    }
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_sees_the_write() {
        let object =
            json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"replicas": 3}});
        let request = json!({"operation": "CREATE", "userInfo": {"groups": ["g"]}});
        let holds = |e: &str| {
            let seen = [("object", &object), ("oldObject", &Value::Null), ("request", &request)];
            Condition::read(e).unwrap().holds(&seen)
        };
        assert_eq!(holds("object.spec.replicas > 2 && oldObject == null"), Ok(true));
        assert_eq!(
            holds("request.operation == 'CREATE' && !('h' in request.userInfo.groups)"),
            Ok(true)
        );
        assert_eq!(holds("has(object.metadata.annotations)"), Ok(false));
        assert_eq!(holds("object.metadata.none == 1"), Err("no such key: none".to_owned()));
        assert!(holds("1 + 1").is_err());
    }

    // "Optional types" of <https://kubernetes.io/docs/reference/using-api/cel/#cel-options-language-features-and-libraries>
    #[test]
    fn a_rule_asks_for_what_may_not_be_there() {
        let schema = |rule: &str| {
            json!({"type": "object", "x-kubernetes-validations": [{"rule": rule, "message": "no"}],
                "properties": {"a": {"type": "integer"}, "b": {"type": "object", "properties":
                    {"c": {"type": "string"}}}, "l": {"type": "array", "items": {"type": "integer"}}}})
        };
        let told = |rule: &str, value: Value| {
            let (mut budget, mut errors) = (OBJECT, Vec::new());
            assert_eq!(rule_problem(rule, &schema(rule), false), None, "{rule}");
            let rules = Rules::read(&schema(rule)).unwrap();
            rules.check(&value, None, "spec", &mut budget, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let refused = ["spec: Invalid value: \"object\": no"];
        for (rule, good, bad) in [
            ("self.?a.orValue(3) > 2", json!({}), json!({"a": 1})),
            ("self.?b.c.orValue('x') == 'x'", json!({"b": {}}), json!({"b": {"c": "y"}})),
            ("self.?b.?c.hasValue()", json!({"b": {"c": ""}}), json!({"a": 1})),
            ("!has(self.?b.c)", json!({"a": 1}), json!({"b": {"c": ""}})),
            ("self[?'a'].orValue(0) == 1", json!({"a": 1}), json!({"a": 2})),
            ("self.?l[0].orValue(7) == 7", json!({"l": []}), json!({"l": [1]})),
            ("self.?a.optMap(v, v > 1).orValue(true)", json!({}), json!({"a": 1})),
            (
                "self.?b.optFlatMap(b, b.?c).orValue('x') == 'x'",
                json!({"b": {}}),
                json!({"b": {"c": "y"}}),
            ),
            ("self.?a == optional.of(2)", json!({"a": 2}), json!({})),
            (
                "optional.of(self.l).optMap(l, l[0]) != optional.of(1)",
                json!({"l": [2]}),
                json!({"l": [1]}),
            ),
        ] {
            assert_eq!(told(rule, good), Vec::<String>::new(), "{rule}");
            assert_eq!(told(rule, bad), refused, "{rule}");
        }
        let wrong = |rule: &str| rule_problem(rule, &schema(rule), false).unwrap();
        assert_eq!(
            wrong("self.?z.orValue(1) == 1"),
            "compilation failed: ERROR: <input>:1:5: undefined field 'z'\n | self.?z.orValue(1) == 1\n | ....^"
        );
        assert!(
            wrong("self.?a.optMap(v).orValue(true)").contains("undeclared reference to 'optMap'")
        );
    }

    #[test]
    fn an_expression_that_would_exhaust_the_stack_is_refused_before_it_is_read() {
        for bad in [
            "(".repeat(100_000),
            "(".repeat(1_000) + "1" + &")".repeat(1_000),
            "1".to_owned() + &"+1".repeat(4_000),
            "!".repeat(8_000) + "true",
            "true?".repeat(1_000) + "true" + &":true".repeat(1_000),
            "self".to_owned() + &".a".repeat(2_000),
        ] {
            assert!(condition_problem(&bad).is_some(), "{}", &bad[..20]);
        }
        assert!(condition_problem("self.a ==").unwrap().starts_with("compilation failed: "));
        assert_eq!(condition_problem("self.a == 1"), None);
        // The deepest that is let through can be read, run and dropped.
        let deep = "1".to_owned() + &"+1".repeat(STEPS) + " > 0";
        assert_eq!(Condition::read(&deep).unwrap().holds(&[]), Ok(true));
        let deep = "(".repeat(80) + "true" + &")".repeat(80);
        assert_eq!(Condition::read(&deep).unwrap().holds(&[]), Ok(true));
    }
}
