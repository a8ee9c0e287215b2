//! Unary and binary operators on values, with the conversions they imply.

use crate::ast::Operator;
use crate::diagnostics::{Fallible, Problem, Span};
use crate::number::Number;
use crate::value::{Type, Value, convert};

fn operand(value: &Value, to: &Type, side: &str, at: Span) -> Fallible<Value> {
    let problem = |why: &str| Problem::error(at, "Invalid operand", format!("Unsuitable value for {side}: {why}."));
    if value.is_null() {
        return Err(problem("argument must not be null"));
    }
    convert(value, to).map_err(|why| problem(&why))
}

fn number(value: &Value, side: &str, at: Span) -> Fallible<Number> {
    match operand(value, &Type::Number, side, at)? {
        Value::Number(number) => Ok(number),
        _ => Ok(Number::int(0)),
    }
}

fn truth(value: &Value, side: &str, at: Span) -> Fallible<bool> {
    Ok(operand(value, &Type::Bool, side, at)? == Value::Bool(true))
}

pub(crate) fn unary(negate: bool, value: &Value, at: Span) -> Fallible<Value> {
    if negate {
        Ok(Value::Number(number(value, "unary operand", at)?.neg()))
    } else {
        Ok(Value::Bool(!truth(value, "unary operand", at)?))
    }
}

pub(crate) fn binary(op: Operator, left: &Value, left_at: Span, right: &Value, right_at: Span) -> Fallible<Value> {
    let numbers = || -> Fallible<(Number, Number)> {
        Ok((number(left, "left operand", left_at)?, number(right, "right operand", right_at)?))
    };
    let whole = Span { end: right_at.end, ..left_at };
    let arithmetic = |result: Option<Number>, by_zero: bool| {
        result.map(Value::Number).ok_or_else(|| {
            if by_zero {
                Problem::error(whole, "Division by zero", "The right operand of this operation is zero.")
            } else {
                Problem::error(whole, "Operation failed", "Error during operation: the result is out of range.")
            }
        })
    };
    match op {
        Operator::Or | Operator::And => {
            let (a, b) = (truth(left, "left operand", left_at)?, truth(right, "right operand", right_at)?);
            Ok(Value::Bool(if op == Operator::Or { a || b } else { a && b }))
        }
        Operator::Equal => Ok(Value::Bool(left == right)),
        Operator::NotEqual => Ok(Value::Bool(left != right)),
        Operator::Less => numbers().map(|(a, b)| Value::Bool(a < b)),
        Operator::LessEqual => numbers().map(|(a, b)| Value::Bool(a <= b)),
        Operator::Greater => numbers().map(|(a, b)| Value::Bool(a > b)),
        Operator::GreaterEqual => numbers().map(|(a, b)| Value::Bool(a >= b)),
        Operator::Add => numbers().and_then(|(a, b)| arithmetic(a.add(b), false)),
        Operator::Subtract => numbers().and_then(|(a, b)| arithmetic(a.sub(b), false)),
        Operator::Multiply => numbers().and_then(|(a, b)| arithmetic(a.mul(b), false)),
        Operator::Divide => numbers().and_then(|(a, b)| arithmetic(a.div(b), b.is_zero())),
        Operator::Remainder => numbers().and_then(|(a, b)| arithmetic(a.rem(b), b.is_zero())),
    }
}
