//! Rules in CEL: `x-kubernetes-validations` of custom kinds, and conditions of webhooks.
//!
//! Owns: compiling a rule within limits, running it, and the words of its failure.
//! Called by: structural schemas, definitions, webhooks. Never: walks a schema.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kube_cel::{CompiledSchema, ErrorKind, KubeCelExt as _, ValidationError, cel};
use serde_json::{Value, json};

use super::schema::json_type;
use crate::http::status::FieldError;

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
    compiled: CompiledSchema,
    /// `(rule, message)`, for the words of a rule that cannot be evaluated.
    messages: Vec<(String, String)>,
    /// Whether one of them is large.
    large: bool,
}

impl Rules {
    /// Reads the rules of a schema, if it has any at its root.
    pub(crate) fn read(schema: &Value) -> Option<Self> {
        let rules = schema["x-kubernetes-validations"].as_array().filter(|r| !r.is_empty())?;
        let text = |r: &Value, f: &str| r[f].as_str().unwrap_or_default().to_owned();
        let messages = rules
            .iter()
            .map(|r| {
                let (rule, message) = (text(r, "rule"), text(r, "message"));
                let said = if message.is_empty() { rule.clone() } else { message };
                (rule, said)
            })
            .collect();
        let mut own = bare(schema);
        own["x-kubernetes-validations"] = rules.clone().into();
        let compiled = with_stack(|| kube_cel::compile_schema(&own))?;
        let expressions = rules.iter().flat_map(|r| [&r["rule"], &r["messageExpression"]]);
        let large = expressions.filter_map(Value::as_str).any(|e| steps(e) > SMALL);
        Some(Self { compiled, messages, large })
    }

    /// What the rules find wrong with a value.
    pub(crate) fn check(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        let run = || kube_cel::validate_compiled(&self.compiled, value, old);
        match guarded(run, self.large) {
            Some(Ok(())) => {}
            Some(Err(found)) => errors.extend(found.iter().map(|e| self.told(e, value, path))),
            None => {
                let why = "the rules of this field could not be evaluated";
                errors.push(FieldError::invalid(shown(path), &json!(type_name(value)), why));
            }
        }
    }

    fn told(&self, e: &ValidationError, value: &Value, path: &str) -> FieldError {
        let field = shown(&format!("{path}{}", dotted(&e.field_path, path)));
        let found = json!(type_name(value));
        if e.kind == ErrorKind::ValidationFailure {
            return match e.reason.as_deref() {
                Some("FieldValueForbidden") => FieldError::forbidden(field, &e.message),
                Some("FieldValueRequired") => FieldError::required(field, &e.message),
                Some("FieldValueDuplicate") => FieldError::duplicate(field, &found),
                _ => FieldError::invalid(field, &found, &e.message),
            };
        }
        let why =
            std::error::Error::source(e).map_or_else(|| e.message.clone(), ToString::to_string);
        let said = self.messages.iter().find(|(r, _)| *r == e.rule).map_or("", |(_, m)| m);
        FieldError::invalid(field, &found, &format!("{} evaluating rule: {said}", lower(&why)))
    }
}

/// An expression that answers yes or no about a write.
#[derive(Debug)]
pub(crate) struct Condition {
    program: cel::Program,
    large: bool,
}

impl Condition {
    /// Compiles an expression.
    ///
    /// # Errors
    /// When it does not parse or is too large to be run.
    pub(crate) fn read(expression: &str) -> Result<Self, String> {
        compile(expression).map(|program| Self { program, large: steps(expression) > SMALL })
    }

    /// Evaluates it with variables by name.
    ///
    /// # Errors
    /// When it cannot be evaluated, or is not a boolean.
    pub(crate) fn holds(&self, variables: &[(&str, &Value)]) -> Result<bool, String> {
        let run = || {
            let mut context = cel::Context::default().with_all();
            for (name, value) in variables {
                context.add_variable_from_value(*name, cel_value(value));
            }
            match self.program.execute(&context) {
                Ok(cel::Value::Bool(b)) => Ok(b),
                Ok(_) => Err("the expression is not a boolean".to_owned()),
                Err(e) => Err(lower(&e.to_string())),
            }
        };
        guarded(run, self.large).unwrap_or_else(|| Err("it cannot be run".to_owned()))
    }
}

/// A value as expressions see it: all integers are of one type.
fn cel_value(v: &Value) -> cel::Value {
    match v {
        Value::Null => cel::Value::Null,
        Value::Bool(b) => cel::Value::Bool(*b),
        Value::String(s) => cel::Value::String(Arc::new(s.clone())),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => cel::Value::Int(i),
            (None, Some(u)) => cel::Value::UInt(u),
            _ => cel::Value::Float(n.as_f64().unwrap_or_default()),
        },
        Value::Array(a) => cel::Value::List(Arc::new(a.iter().map(cel_value).collect())),
        Value::Object(m) => {
            let map: HashMap<cel::objects::Key, cel::Value> = m
                .iter()
                .map(|(k, v)| (cel::objects::Key::String(Arc::new(k.clone())), cel_value(v)))
                .collect();
            cel::Value::Map(cel::objects::Map { map: Arc::new(map) })
        }
    }
}

/// What is wrong with an expression; none if it can be run.
pub(crate) fn problem(expression: &str) -> Option<String> {
    compile(expression).err()
}

fn compile(expression: &str) -> Result<cel::Program, String> {
    if expression.len() > LENGTH {
        return Err(format!("compilation failed: the expression is longer than {LENGTH} bytes"));
    }
    if steps(expression) > STEPS {
        return Err("compilation failed: the expression is too complex".to_owned());
    }
    let read = with_stack(|| cel::Program::compile(expression).map_err(|e| e.to_string()));
    let read = read.unwrap_or_else(|| Err("it cannot be read".to_owned()));
    // What follows repeats the expression.
    let first = |e: String| e.trim().lines().next().unwrap_or_default().to_owned();
    read.map_err(|e| format!("compilation failed: {}", first(e)))
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
            assert!(problem(&bad).is_some(), "{}", &bad[..20]);
        }
        assert!(problem("self.a ==").unwrap().starts_with("compilation failed: "));
        assert_eq!(problem("self.a == 1"), None);
        // The deepest that is let through can be read, run and dropped.
        let deep = "1".to_owned() + &"+1".repeat(STEPS) + " > 0";
        assert_eq!(Condition::read(&deep).unwrap().holds(&[]), Ok(true));
        let deep = "(".repeat(80) + "true" + &")".repeat(80);
        assert_eq!(Condition::read(&deep).unwrap().holds(&[]), Ok(true));
    }
}
