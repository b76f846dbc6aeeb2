//! What an expression may cost.
//!
//! Owns: the functions that expressions are run with, a price for each turn of a loop and for each text
//! or list that is made, and the end of an expression that has spent too much.
//! Called by: `rules.rs`, around each run. Never: knows what an expression is about.
//!
//! Kubernetes has a limit for one call and one for all rules of an object:
//! <https://kubernetes.io/docs/reference/using-api/cel/#resource-constraints>

use std::cell::Cell;
use std::time::Duration;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators};
use kube_cel::cel::common::types::CelList;
use kube_cel::cel::{Context, ExecutionError, FunctionContext, IdedExpr, ResolveResult, Value};
use tokio::time::Instant;

use super::optionals::{self, is_optional};

/// What one call may spend, and all rules of one object: as many turns of loops.
const CALL: u64 = 1_000_000;
pub(crate) const OBJECT: u64 = 10_000_000;
/// A turn is cheap, but what it does may not be.
const LONGEST: Duration = Duration::from_secs(5);
/// So many bytes of a text, or elements of a list, cost as much as a turn.
const BYTES: usize = 16;
const ELEMENTS: usize = 16;

const TURN: &str = "@turn";
const MADE: &str = "@made";
/// The functions whose answer may be much larger than what they are given.
const GROW: [&str; 7] = ["replace", "join", "split", "format", "flatten", "findAll", "jsonpatch"];
/// What the loops of macros collect their result in.
const COLLECTED: &str = "@result";

#[derive(Clone, Copy, Default)]
struct Meter {
    left: u64,
    until: Option<Instant>,
}

thread_local! {
    static METER: Cell<Meter> = Cell::default();
    static FUNCTIONS: Context<'static> = functions();
}

fn functions() -> Context<'static> {
    type Function = Box<dyn Fn(&mut FunctionContext<'_, '_>) -> ResolveResult + Send + Sync>;
    let mut context = Context::default().with_all();
    let turn: Function = Box::new(|call| {
        let collected = call.ptx.get_variable(COLLECTED);
        let list = collected.as_ref().and_then(|v| v.downcast_ref::<CelList>());
        // An element is added to a copy of what has been collected so far.
        spend(1 + list.map_or(0, |l| l.inner().len() / ELEMENTS))?;
        first(call)
    });
    let made: Function = Box::new(|call| {
        let value = first(call)?;
        spend(size(&value))?;
        Ok(value)
    });
    context.add_function(TURN, turn);
    context.add_function(MADE, made);
    optionals::add_functions(&mut context);
    context
}

fn first(call: &FunctionContext<'_, '_>) -> ResolveResult {
    let Some(argument) = call.args.first() else { return Ok(Value::Null) };
    Value::resolve(argument, call.ptx)
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(s) => s.len() / BYTES,
        Value::Bytes(b) => b.len() / BYTES,
        Value::List(l) => l.len() / ELEMENTS + l.iter().map(size).sum::<usize>(),
        _ => 0,
    }
}

fn spend(price: usize) -> Result<(), ExecutionError> {
    METER.with(|m| {
        let meter = m.get();
        let in_time = meter.until.is_none_or(|t| Instant::now() < t);
        let left = meter.left.checked_sub(price as u64).filter(|left| *left > 0 && in_time);
        m.set(Meter { left: left.unwrap_or(0), ..meter });
        let spent = || ExecutionError::function_error("cost", "actual cost limit exceeded");
        left.map(drop).ok_or_else(spent)
    })
}

/// Runs something with the functions, and at most `budget` to spend, which becomes less.
///
/// # Errors
/// When it spent too much: what it answered means nothing then.
pub(super) fn within<T>(
    budget: &mut u64,
    run: impl FnOnce(&Context<'static>) -> T,
) -> Result<T, Overspent> {
    let most = CALL.min(*budget);
    METER.set(Meter { left: most, until: Some(Instant::now() + LONGEST) });
    let answer = FUNCTIONS.with(run);
    let left = METER.take().left;
    *budget -= most - left;
    if left == 0 {
        return Err(Overspent { all: *budget == 0 });
    }
    Ok(answer)
}

/// A run that spent too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overspent {
    /// And with it all that the object had.
    pub(super) all: bool,
}

/// The same expression with its prices.
pub(super) fn priced(e: &IdedExpr) -> IdedExpr {
    let expr = match &e.expr {
        Expr::Comprehension(c) => {
            let mut c = (**c).clone();
            let parts = [&mut c.iter_range, &mut c.accu_init, &mut c.loop_step, &mut c.result];
            for part in parts {
                *part = priced(part);
            }
            c.loop_cond = call(TURN, priced(&c.loop_cond));
            Expr::Comprehension(Box::new(c))
        }
        Expr::Call(c) => {
            let mut c = c.clone();
            c.target = c.target.map(|t| Box::new(priced(&t)));
            c.args = c.args.iter().map(priced).collect();
            // A field that may not be there is asked for as a key: so it is also answered.
            let selects = c.func_name == operators::OPT_SELECT;
            if selects {
                c.func_name = operators::OPT_INDEX.to_owned();
            }
            if let Some(compared) = optionals::compared(e.id, &c) {
                return compared;
            }
            let grows = match c.func_name.as_str() {
                // The turns of a loop pay for what it collects.
                operators::ADD => !is_named(c.args.first(), COLLECTED),
                name => GROW.contains(&name),
            };
            if grows {
                return call(MADE, IdedExpr { id: e.id, expr: Expr::Call(c) });
            }
            Expr::Call(c)
        }
        Expr::Select(s) => {
            let mut s = s.clone();
            s.operand = Box::new(priced(&s.operand));
            // What comes after something optional is optional, too.
            if is_optional(&s.operand) {
                return optional_part(e.id, *s.operand, s.field, s.test);
            }
            Expr::Select(s)
        }
        Expr::List(l) => {
            let mut l = l.clone();
            l.elements = l.elements.iter().map(priced).collect();
            Expr::List(l)
        }
        Expr::Map(m) => {
            let mut m = m.clone();
            for entry in &mut m.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    entry.key = priced(&entry.key);
                    entry.value = priced(&entry.value);
                }
            }
            Expr::Map(m)
        }
        other => other.clone(),
    };
    IdedExpr { id: e.id, expr }
}

/// A part of something optional, or whether it is there.
fn optional_part(id: u64, of: IdedExpr, field: String, test: bool) -> IdedExpr {
    let literal = Expr::Literal(LiteralValue::String(field.into()));
    let args = vec![of, IdedExpr { id, expr: literal }];
    let part = CallExpr { func_name: operators::OPT_INDEX.to_owned(), target: None, args };
    let part = IdedExpr { id, expr: Expr::Call(part) };
    if !test {
        return part;
    }
    let func_name = "hasValue".to_owned();
    let asked = CallExpr { func_name, target: Some(Box::new(part)), args: Vec::new() };
    IdedExpr { id, expr: Expr::Call(asked) }
}

fn call(function: &str, argument: IdedExpr) -> IdedExpr {
    let id = argument.id;
    let call = CallExpr { func_name: function.to_owned(), target: None, args: vec![argument] };
    IdedExpr { id, expr: Expr::Call(call) }
}

fn is_named(e: Option<&IdedExpr>, name: &str) -> bool {
    e.is_some_and(|e| matches!(&e.expr, Expr::Ident(n) if n == name))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use kube_cel::cel::Program;

    use super::*;

    fn run(expression: &str, list: usize) -> (Result<ResolveResult, Overspent>, u64) {
        super::super::with_stack(|| run_here(expression, list)).unwrap()
    }

    fn run_here(expression: &str, list: usize) -> (Result<ResolveResult, Overspent>, u64) {
        let program = Program::compile(expression).unwrap();
        let expression = priced(program.expression());
        let numbers: Vec<i64> = (0..list).map(|i| i64::try_from(i).unwrap()).collect();
        let mut budget = OBJECT;
        let answer = within(&mut budget, |functions| {
            let mut scope = functions.new_inner_scope();
            scope.add_variable_from_value("self", HashMap::from([("l", numbers)]));
            Value::resolve(&expression, &scope)
        });
        (answer, OBJECT - budget)
    }

    #[test]
    fn an_expression_answers_the_same_with_prices() {
        for holds in [
            "self.l.all(x, x >= 0) && self.l.exists(x, x == 3) && self.l.exists_one(x, x == 3)",
            "self.l.map(x, x * 2).filter(x, x > 4) == [6, 8] && size(self.l) == 5",
            "['a', 'b'].join('-').replace('a', 'c') + 'd' == 'c-bd' && 'a,b'.split(',') == ['a', 'b']",
            "self.l.all(x, self.l.exists(y, x == y)) && {'k': self.l.map(x, x + 1)}.k[0] == 1",
            "[[1], [2, 3]].map(l, l.filter(x, x > 1)) == [[], [2, 3]] && '%s'.format(['x']) == 'x'",
        ] {
            assert_eq!(run(holds, 5).0, Ok(Ok(Value::Bool(true))), "{holds}");
        }
    }

    #[test]
    fn loops_in_loops_over_long_lists_come_to_an_end() {
        let (answer, spent) = run("self.l.all(x, self.l.all(y, x + y >= 0))", 10_000);
        assert_eq!((answer, spent), (Err(Overspent { all: false }), CALL));
        let three = "self.l.exists(x, self.l.exists(y, self.l.exists(z, x + y + z < 0)))";
        assert_eq!(run(three, 2_000).0, Err(Overspent { all: false }));
        // What an error is turned into by a later alternative does not count, either.
        let hidden = "self.l.all(x, self.l.all(y, true)) || true";
        assert_eq!(run(hidden, 10_000).0, Err(Overspent { all: false }));
        // One loop over such a list is no trouble.
        assert_eq!(run("self.l.all(x, x >= 0)", 10_000).0, Ok(Ok(Value::Bool(true))));
    }

    #[test]
    fn texts_and_lists_that_double_come_to_an_end() {
        let texts = format!("['xxxxxxxx']{}.size() == 1", ".map(x, x + x)".repeat(60));
        assert!(run(&texts, 0).0.is_err());
        let lists = format!("[self.l]{}.size() == 1", ".map(x, x + x)".repeat(60));
        assert!(run(&lists, 8).0.is_err());
        let replaced = format!("'ab'{}.size() > 0", ".replace('a', 'aa')".repeat(100));
        assert!(run(&replaced, 0).0.is_err());
    }

    #[test]
    fn an_object_has_a_budget_for_all_its_rules() {
        let program = Program::compile("[1, 2, 3, 4].all(x, true)").unwrap();
        let expression = priced(program.expression());
        let mut budget = 10;
        let mut run = || within(&mut budget, |c| Value::resolve(&expression, c));
        assert!(run().is_ok() && run().is_ok());
        assert_eq!(run(), Err(Overspent { all: true }));
    }
}
