//! What kinds of values an expression compares and calls.
//!
//! Owns: the types that are known before anything runs, and what operators and functions take.
//! Called by: the walk over a rule. What is not known for sure is let through.

use kube_cel::cel::common::ast::{LiteralValue, operators};
use serde_json::Value;

/// The type of a part, where it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    List,
    /// An object or a map.
    Map,
}

use Type::{Bool, Bytes, Double, Int, List, Map, Text, Uint};

impl Type {
    pub(super) fn of_literal(l: &LiteralValue) -> Option<Self> {
        Some(match l {
            LiteralValue::Boolean(_) => Bool,
            LiteralValue::Bytes(_) => Bytes,
            LiteralValue::Double(_) => Double,
            LiteralValue::Int(_) => Int,
            LiteralValue::UInt(_) => Uint,
            LiteralValue::String(_) => Text,
            LiteralValue::Null => return None,
        })
    }

    /// What values of a schema are; nothing is said of those that may be null or of several sorts, nor of
    /// texts with a format, some of which are no texts to a rule.
    pub(super) fn of_schema(schema: &Value) -> Option<Self> {
        if schema["nullable"] == true || schema["x-kubernetes-int-or-string"] == true {
            return None;
        }
        Some(match schema["type"].as_str()? {
            "boolean" => Bool,
            "integer" => Int,
            "number" => Double,
            "string" if schema["format"].is_null() => Text,
            "array" => List,
            "object" => Map,
            _ => return None,
        })
    }

    fn is_number(self) -> bool {
        matches!(self, Int | Uint | Double)
    }

    /// Whether a value of it is one and has no parts.
    fn is_single(self) -> bool {
        !matches!(self, List | Map)
    }

    fn name(self) -> &'static str {
        match self {
            Bool => "bool",
            Int => "int",
            Uint => "uint",
            Double => "double",
            Text => "string",
            Bytes => "bytes",
            List => "list",
            Map => "map",
        }
    }
}

/// What is wrong with asking whether a list has a value, or a map a key; `values` is what a map has.
pub(super) fn membership(of: Option<Type>, member: Type, values: Option<Type>) -> Option<String> {
    let of = of.filter(|t| t.is_single() && *t != member && member.is_single())?;
    let within = match values {
        None => format!("list({})", member.name()),
        Some(v) => format!("map({}, {})", member.name(), v.name()),
    };
    let of = of.name();
    Some(format!("found no matching overload for '@in' applied to '({of}, {within})'"))
}

/// The type of a call's result, or what is wrong with it.
pub(super) fn call(
    function: &str,
    target: Option<Option<Type>>,
    args: &[Option<Type>],
) -> Result<Option<Type>, String> {
    let no_overload = || {
        let all: Vec<&str> = args.iter().map(|t| t.map_or("dyn", Type::name)).collect();
        let all = all.join(", ");
        let on = target.map(|t| format!("{}.", t.map_or("dyn", Type::name))).unwrap_or_default();
        Err(format!("found no matching overload for '{function}' applied to '{on}({all})'"))
    };
    match (function, args) {
        (operators::LOGICAL_AND | operators::LOGICAL_OR, args) => {
            match args.iter().flatten().find(|t| **t != Bool) {
                Some(t) => Err(format!("expected type 'bool' but found '{}'", t.name())),
                None => Ok(Some(Bool)),
            }
        }
        (operators::LOGICAL_NOT, [Some(t)]) if *t != Bool => no_overload(),
        (operators::LOGICAL_NOT | operators::IN, _) => Ok(Some(Bool)),
        (operators::CONDITIONAL, [Some(t), ..]) if *t != Bool => no_overload(),
        (operators::CONDITIONAL, [_, Some(a), Some(b)]) if a != b => no_overload(),
        (operators::CONDITIONAL, [_, a, b]) => Ok(a.filter(|_| a == b)),
        // Numbers of two kinds have an order, and yet are not the same.
        (operators::EQUALS | operators::NOT_EQUALS, [Some(a), Some(b)]) if a != b => no_overload(),
        (
            operators::GREATER
            | operators::GREATER_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS,
            [Some(a), Some(b)],
        ) if !(a.is_number() && b.is_number())
            && (a != b || matches!(a, Type::List | Type::Map)) =>
        {
            no_overload()
        }
        (
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS,
            _,
        ) => Ok(Some(Bool)),
        (operators::ADD, [Some(a), Some(b)]) => match a {
            Bool | Map => no_overload(),
            _ if a == b => Ok(Some(*a)),
            _ => no_overload(),
        },
        (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE, [Some(a), Some(b)]) => {
            if a == b && a.is_number() { Ok(Some(*a)) } else { no_overload() }
        }
        (operators::MODULO, [Some(a), Some(b)]) => {
            if a == b && matches!(a, Int | Uint) {
                Ok(Some(*a))
            } else {
                no_overload()
            }
        }
        ("startsWith" | "endsWith" | "contains" | "matches", [Some(t)])
            if target == Some(Some(Text)) && *t != Text =>
        {
            no_overload()
        }
        ("startsWith" | "endsWith" | "matches", [_]) if target.is_some() => Ok(Some(Bool)),
        ("size", _) => Ok(Some(Int)),
        (name, _) if is_known(name) => Ok(None),
        (name, _) => Err(format!("undeclared reference to '{name}' (in container '')")),
    }
}

/// Whether there is a function of a name: those of the language, and the libraries of
/// <https://kubernetes.io/docs/reference/using-api/cel/>.
fn is_known(name: &str) -> bool {
    const FUNCTIONS: &str = "\
        add all asApproximateFloat asInteger bool bytes charAt cidr compareTo contains containsCIDR \
        containsIP double duration dyn endsWith exists exists_one existsOne family filter find findAll \
        flatten format getDate getDayOfMonth getDayOfWeek getDayOfYear getEscapedPath getFullYear \
        getHost getHostname getHours getMilliseconds getMinutes getMonth getPort getQuery getScheme \
        getSeconds has hasValue indexOf int ip isCIDR isCanonical isGlobalUnicast isGreaterThan \
        isInteger isIP isLessThan isLinkLocalMulticast isLinkLocalUnicast isLoopback isQuantity \
        isSemver isSorted isURL isUnspecified join lastIndexOf lowerAscii major map masked matches max \
        min minor or orValue patch prefixLength quantity quote replace reverse \
        semver sign slice sort sortBy split startsWith string sub substring sum timestamp \
        transformList transformMap transformMapEntry trim type uint upperAscii url validate value \
        distinct range first last";
    // Operators that are not looked at here.
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic());
    !plain || FUNCTIONS.split_ascii_whitespace().any(|f| f == name)
}
