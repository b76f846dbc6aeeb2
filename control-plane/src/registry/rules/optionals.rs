//! Values that may not be there: the macros `optMap` and `optFlatMap`, and whether two are the same.
//!
//! Owns: what these are run as. Called by: the reading of an expression, and its pricing.
//!
//! A variable never holds such a value: the library keeps only what is in it. So what is mapped is a list of
//! one element or none, which also ends the copies of a target that chains of macros would make.
//!
//! <https://kubernetes.io/docs/reference/using-api/cel/#cel-options-language-features-and-libraries>

use std::sync::Arc;

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, ListExpr, LiteralValue, operators,
};
use kube_cel::cel::objects::OptionalValue;
use kube_cel::cel::{Context, FunctionContext, IdedExpr, ResolveResult, Value};

use super::places::Mistake;

/// What is in a value, as a list; and back.
const HELD: &str = "@held";
const OPENED: &str = "@opened";
/// Whether two values are the same, of which one may not be there.
const SAME: &str = "@same";
/// What the macros collect.
const FOUND: &str = "@found";

/// Adds the functions that the rest of this module calls.
pub(super) fn add_functions(context: &mut Context<'_>) {
    type Function = Box<dyn Fn(&mut FunctionContext<'_, '_>) -> ResolveResult + Send + Sync>;
    let held: Function = Box::new(|call| {
        let value = argument(call, 0)?;
        let found = <&OptionalValue>::try_from(&value)?.value().cloned();
        Ok(Value::List(Arc::new(found.into_iter().collect())))
    });
    let opened: Function = Box::new(|call| {
        let found = match argument(call, 0)? {
            Value::List(l) => l.first().cloned(),
            _ => None,
        };
        let found = found.map_or_else(OptionalValue::none, OptionalValue::of);
        Ok(Value::Opaque(Arc::new(found)))
    });
    let same: Function = Box::new(|call| Ok(Value::Bool(argument(call, 0)? == argument(call, 1)?)));
    context.add_function(HELD, held);
    context.add_function(OPENED, opened);
    context.add_function(SAME, same);
}

fn argument(call: &FunctionContext<'_, '_>, at: usize) -> ResolveResult {
    let Some(argument) = call.args.get(at) else { return Ok(Value::Null) };
    Value::resolve(argument, call.ptx)
}

fn call(id: u64, function: &str, args: Vec<IdedExpr>) -> IdedExpr {
    let call = CallExpr { func_name: function.to_owned(), target: None, args };
    IdedExpr { id, expr: Expr::Call(call) }
}

/// Puts what they stand for in the place of the macros.
///
/// # Errors
/// When a macro's variable is no name.
pub(super) fn expand(e: &mut IdedExpr) -> Result<(), Mistake> {
    match &mut e.expr {
        Expr::Call(c) => {
            c.target.as_deref_mut().into_iter().chain(&mut c.args).try_for_each(expand)?;
            if let Some(expanded) = mapped(e.id, c)? {
                *e = expanded;
            }
        }
        Expr::Select(s) => expand(&mut s.operand)?,
        Expr::List(l) => l.elements.iter_mut().try_for_each(expand)?,
        Expr::Map(m) => {
            for entry in &mut m.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    expand(&mut entry.key)?;
                    expand(&mut entry.value)?;
                }
            }
        }
        Expr::Comprehension(c) => {
            let c = &mut **c;
            let parts = [&mut c.iter_range, &mut c.accu_init, &mut c.loop_cond];
            parts.into_iter().chain([&mut c.loop_step, &mut c.result]).try_for_each(expand)?;
        }
        _ => {}
    }
    Ok(())
}

/// What a call stands for, if it is one of the macros.
fn mapped(id: u64, c: &mut CallExpr) -> Result<Option<IdedExpr>, Mistake> {
    let flat = match c.func_name.as_str() {
        "optMap" => false,
        "optFlatMap" => true,
        _ => return Ok(None),
    };
    let (Some(target), [variable, body]) = (&mut c.target, &mut c.args[..]) else {
        return Ok(None);
    };
    let Expr::Ident(variable_name) = &mut variable.expr else {
        let what = format!("{}() variable name must be a simple identifier", c.func_name);
        return Err(Mistake { at: Some(variable.id), what });
    };
    let (target, body) = (std::mem::take(&mut **target), std::mem::take(body));
    let list = |elements| IdedExpr { id, expr: Expr::List(ListExpr::new(elements)) };
    let always = Expr::Literal(LiteralValue::Boolean(true.into()));
    let found = IdedExpr { id, expr: Expr::Ident(FOUND.to_owned()) };
    let one = ComprehensionExpr {
        iter_range: call(id, HELD, vec![target]),
        iter_var: std::mem::take(variable_name),
        iter_var2: None,
        accu_var: FOUND.to_owned(),
        accu_init: list(Vec::new()),
        loop_cond: IdedExpr { id, expr: always },
        loop_step: if flat { call(id, HELD, vec![body]) } else { list(vec![body]) },
        result: call(id, OPENED, vec![found]),
    };
    Ok(Some(IdedExpr { id, expr: Expr::Comprehension(Box::new(one)) }))
}

/// Whether an expression is of something that may not be there, as far as it says so.
pub(super) fn is_optional(e: &IdedExpr) -> bool {
    let c = match &e.expr {
        Expr::Call(c) => c,
        Expr::Comprehension(c) => return c.accu_var == FOUND,
        _ => return false,
    };
    let library =
        || matches!(c.target.as_deref(), Some(t) if t.expr == Expr::Ident("optional".to_owned()));
    match c.func_name.as_str() {
        operators::OPT_INDEX => true,
        operators::INDEX => c.args.first().is_some_and(is_optional),
        operators::CONDITIONAL => c.args.iter().skip(1).any(is_optional),
        "none" | "of" | "ofNonZeroValue" => library(),
        "or" => c.target.as_deref().is_some_and(is_optional),
        _ => false,
    }
}

/// A comparison of values that may not be there; none if these are others.
pub(super) fn compared(id: u64, c: &CallExpr) -> Option<IdedExpr> {
    let differ = match c.func_name.as_str() {
        operators::EQUALS => false,
        operators::NOT_EQUALS => true,
        _ => return None,
    };
    if !c.args.iter().any(is_optional) {
        return None;
    }
    let same = call(id, SAME, c.args.clone());
    Some(if differ { call(id, operators::LOGICAL_NOT, vec![same]) } else { same })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Condition;

    // "Optional types" of the page above; the values are those of cel-go's ext/OptionalTypes.
    #[test]
    fn what_may_not_be_there_is_mapped_and_compared() {
        let object = json!({"a": 1, "b": {"c": "x"}, "l": [3, 4]});
        let holds = |e: &str| Condition::read(e).unwrap().holds(&[("object", &object)]);
        for yes in [
            "object.?a.optMap(v, v + 1).orValue(0) == 2",
            "!object.?z.optMap(v, v + 1).hasValue()",
            "object.?b.optMap(v, v.c).orValue('') == 'x'",
            "object.?b.optFlatMap(v, v.?c).orValue('') == 'x'",
            "object.?b.optFlatMap(v, v.?z).orValue('none') == 'none'",
            "optional.of(2).optMap(v, v * v).optMap(v, v + 1) == optional.of(5)",
            "object.l.map(x, object.?a.optMap(a, x + a).orValue(0)) == [4, 5]",
            "object.?a.optMap(a, object.?b.optMap(b, b.c + string(a)).orValue('')).value() == 'x1'",
            "object.?a.optMap(self, self == 1).orValue(false)",
            "optional.of(object).optMap(o, o.b).c.orValue('') == 'x'",
            "optional.of(1) == optional.of(1) && optional.none() == optional.none()",
            "optional.of(1) != optional.of(2) && optional.of(1) != optional.none()",
            "object.?a == optional.of(1) && object.?z == optional.none() && object.?b.c != object.?a",
            "(true ? optional.of(1) : optional.none()) == optional.none().or(optional.of(1))",
            "[?object.?a, ?object.?z] == [1] && !(optional.of([1]) == optional.of([2]))",
        ] {
            assert_eq!(holds(yes), Ok(true), "{yes}");
        }
        assert!(holds("optional.none().optMap(v, v).value() == 1").unwrap_err().contains("none"));
        assert!(holds("object.a.optMap(v, v).hasValue()").is_err());
        let deep = format!("optional.of(1){}.value() > 0", ".optMap(v, v + v)".repeat(40));
        assert_eq!(holds(&deep), Ok(true));
    }

    #[test]
    fn a_macro_needs_a_name_and_two_arguments() {
        let wrong = |e: &str| Condition::read(e).unwrap_err();
        assert_eq!(
            wrong("object.?a.optMap(y.z, 1).hasValue()"),
            "compilation failed: ERROR: <input>:1:19: optMap() variable name must be a simple identifier\n | object.?a.optMap(y.z, 1).hasValue()\n | ..................^"
        );
    }
}
