//! Asking an expression of a row.

use serde_json::Value;

use super::schema::{Kind, Schema};
use super::{Expr, Op};

type Result<T> = std::result::Result<T, String>;

pub(super) fn expr(expr: &Expr, schema: &Schema, row: &Value) -> Result<bool> {
    match expr {
        Expr::Or(terms) => any(terms, schema, row, true),
        Expr::And(terms) => any(terms, schema, row, false).map(|found| !found),
        Expr::Not(inner) => self::expr(inner, schema, row).map(|holds| !holds),
        Expr::Match { selector, op } => match find(selector, schema.kind(), row)? {
            Some((kind, value)) => {
                holds(op, kind, value).map_err(|reason| format!("/{}: {reason}", selector.join("/")))
            }
            None => Ok(matches!(op, Op::IsEmpty)),
        },
    }
}

/// True when one of the terms is `wanted`; the others after it are not asked.
fn any(terms: &[Expr], schema: &Schema, row: &Value, wanted: bool) -> Result<bool> {
    for term in terms {
        if expr(term, schema, row)? == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

const NOTHING: Value = Value::Null;

/// What a selector selects; `None` when a map or list lacks it, or there is nothing to look into.
fn find<'a>(selector: &[String], mut kind: &'a Kind, mut value: &'a Value) -> Result<Option<(&'a Kind, &'a Value)>> {
    let mut lacking = false;
    for (i, part) in selector.iter().enumerate() {
        let gone = |what: String| format!("error finding value in datum: /{} at part {i}: {what}", selector.join("/"));
        match kind {
            Kind::Struct { fields, open } => {
                match fields.iter().find(|(name, _)| name == part) {
                    Some((_, inner)) => kind = inner,
                    None if *open => kind = &Kind::Any,
                    None => return Err(gone(format!("couldn't find key: struct field with name {part:?}"))),
                }
                lacking |= value.is_null() && i > 0;
                value = value.get(part).unwrap_or(&NOTHING);
            }
            Kind::Map(inner) => {
                kind = inner;
                lacking |= value.get(part).is_none();
                value = value.get(part).unwrap_or(&NOTHING);
            }
            Kind::List(inner) => {
                let Ok(at) = part.parse::<usize>() else {
                    return Err(gone(format!("couldn't convert {part:?} to an index")));
                };
                kind = inner;
                lacking |= value.get(at).is_none();
                value = value.get(at).unwrap_or(&NOTHING);
            }
            Kind::Any => {
                let inner = match value {
                    Value::Array(items) => part.parse::<usize>().ok().and_then(|at| items.get(at)),
                    other => other.get(part),
                };
                lacking |= inner.is_none();
                value = inner.unwrap_or(&NOTHING);
            }
            Kind::Bool | Kind::Int | Kind::Float | Kind::Text => {
                return Err(gone(format!("invalid value kind: {}", kind.name())));
            }
        }
    }
    Ok((!lacking).then_some((kind, value)))
}

fn holds(op: &Op, kind: &Kind, value: &Value) -> Result<bool> {
    match op {
        Op::Equals(text) => equals(kind, value, text),
        Op::Contains(text) => contains(kind, value, text),
        Op::Matches(pattern) => match kind_of(kind, value) {
            Shape::Text => Ok(pattern.is_match(value.as_str().unwrap_or(""))),
            _ => Err(format!("value of type {} is not a string, it cannot be matched", kind.name())),
        },
        Op::IsEmpty => match kind_of(kind, value) {
            Shape::Text => Ok(value.as_str().unwrap_or("").is_empty()),
            Shape::List => Ok(value.as_array().is_none_or(Vec::is_empty)),
            Shape::Map => Ok(value.as_object().is_none_or(serde_json::Map::is_empty)),
            Shape::Struct | Shape::Nothing => Ok(value.is_null()),
            _ => Err(format!("value of type {} cannot be empty", kind.name())),
        },
    }
}

/// What a value is: as its type says, or as it looks where no type is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Nothing,
    Bool,
    Int,
    Float,
    Text,
    List,
    Map,
    Struct,
}

fn kind_of(kind: &Kind, value: &Value) -> Shape {
    match kind {
        Kind::Bool => Shape::Bool,
        Kind::Int => Shape::Int,
        Kind::Float => Shape::Float,
        Kind::Text => Shape::Text,
        Kind::List(_) => Shape::List,
        Kind::Map(_) => Shape::Map,
        Kind::Struct { .. } => Shape::Struct,
        Kind::Any => match value {
            Value::Null => Shape::Nothing,
            Value::Bool(_) => Shape::Bool,
            Value::Number(number) if number.is_f64() => Shape::Float,
            Value::Number(_) => Shape::Int,
            Value::String(_) => Shape::Text,
            Value::Array(_) => Shape::List,
            Value::Object(_) => Shape::Map,
        },
    }
}

fn equals(kind: &Kind, value: &Value, text: &str) -> Result<bool> {
    match kind_of(kind, value) {
        Shape::Nothing => Ok(false),
        Shape::Text => Ok(value.as_str().unwrap_or("") == text),
        Shape::Bool => go_bool(text).map(|wanted| value.as_bool().unwrap_or(false) == wanted),
        Shape::Int => {
            let wanted: i128 =
                text.parse().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))?;
            let found = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
            Ok(found.unwrap_or(0) == wanted)
        }
        Shape::Float => {
            let wanted: f64 =
                text.parse().map_err(|_| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax"))?;
            #[expect(clippy::float_cmp, reason = "equality of what was written is what is asked")]
            let same = value.as_f64().unwrap_or(0.0) == wanted;
            Ok(same)
        }
        Shape::List | Shape::Map | Shape::Struct => {
            Err(format!("value of type {} cannot be compared for equality", kind.name()))
        }
    }
}

fn contains(kind: &Kind, value: &Value, text: &str) -> Result<bool> {
    match kind_of(kind, value) {
        Shape::Nothing => Ok(false),
        Shape::Text => Ok(value.as_str().unwrap_or("").contains(text)),
        Shape::Map => Ok(value.get(text).is_some()),
        Shape::List => {
            let of = match kind {
                Kind::List(of) => of,
                _ => &Kind::Any,
            };
            for item in value.as_array().into_iter().flatten() {
                if equals(of, item, text)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(format!("cannot perform in/contains operations on type {}", kind.name())),
    }
}

/// The words Go reads as a truth value.
fn go_bool(text: &str) -> Result<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}
