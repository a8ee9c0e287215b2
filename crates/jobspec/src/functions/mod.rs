//! The function library: what job files may call, with which arguments.
//!
//! Each function is one row of a table: name, parameters, body. [`invoke`] checks the count,
//! converts each argument to what its parameter wants and refuses nulls, so that bodies see only
//! well-typed values. A body is pure; what varies between runs (time, randomness, files) comes
//! from [`Inputs`](crate::Inputs).
//!
//! `try`, `can` and `convert` look at their arguments before evaluating them and live in `eval`.
//! Deliberately absent, as in the reference: `tostring` and its kin, `timestamp`, `templatefile`.

mod collections;
mod digests;
mod encoding;
mod files;
mod format;
mod network;
mod numbers;
mod rsa;
mod sets;
mod text;
mod time;
mod yaml;

use crate::ast::Call;
use crate::diagnostics::{Fallible, Problem, Span};
use crate::eval::Evaluator;
use crate::value::{Type, Value, convert};

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Any,
    Text,
    Number,
    TextList,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Param {
    pub name: &'static str,
    pub want: Want,
    pub nullable: bool,
}

const fn param(name: &'static str, want: Want) -> Param {
    Param { name, want, nullable: false }
}

const fn nullable(name: &'static str) -> Param {
    Param { name, want: Want::Any, nullable: true }
}

/// Why a call failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The argument at this place is unsuitable.
    Argument(usize, String),
    Call(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Failure::Call(why)
    }
}

impl From<&str> for Failure {
    fn from(why: &str) -> Self {
        Failure::Call(why.to_owned())
    }
}

pub(crate) type Outcome = Result<Value, Failure>;

/// What a body may look at besides its arguments.
pub(crate) struct Context<'a> {
    pub evaluator: &'a Evaluator<'a>,
    at: Span,
}

impl Context<'_> {
    /// Announces work ahead of doing it, so that a body cannot outgrow the budget of the parse.
    pub fn charge(&self, cost: u64) -> Result<(), Failure> {
        self.evaluator
            .charge(cost, self.at)
            .map_err(|problem| Failure::Call(problem.detail.trim_end_matches('.').to_owned()))
    }
}

pub(crate) struct Function {
    pub name: &'static str,
    pub params: &'static [Param],
    pub rest: Option<Param>,
    pub body: fn(&Context<'_>, &[Value]) -> Outcome,
}

const TABLES: [&[Function]; 11] = [
    collections::TABLE,
    digests::TABLE,
    encoding::TABLE,
    files::TABLE,
    format::TABLE,
    network::TABLE,
    numbers::TABLE,
    sets::TABLE,
    text::TABLE,
    time::TABLE,
    yaml::TABLE,
];

pub(crate) fn find(name: &str) -> Option<&'static Function> {
    TABLES.iter().flat_map(|table| table.iter()).find(|function| function.name == name)
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().flat_map(|table| table.iter()).map(|function| function.name).chain(["can", "convert", "try"])
}

pub(crate) fn argument_problem(at: Span, param: &str, why: &str) -> Box<Problem> {
    Problem::error(at, "Invalid function argument", format!("Invalid value for {param:?} parameter: {why}."))
}

pub(crate) fn arity_problem(call: &Call, at: Span, wanted: usize, missing: &str) -> Box<Problem> {
    let plural = if wanted == 1 { "" } else { "s" };
    if call.args.len() > wanted {
        let at = call.args.get(wanted).map_or(at, |arg| arg.span);
        return Problem::error(
            at,
            "Too many function arguments",
            format!("Function {:?} expects only {wanted} argument{plural}.", call.name),
        );
    }
    Problem::error(
        Span { start: at.end.saturating_sub(1), ..at },
        "Not enough function arguments",
        format!("Function {:?} expects {wanted} argument{plural}. Missing value for {missing:?}.", call.name),
    )
}

pub(crate) fn invoke(
    function: &'static Function,
    evaluator: &Evaluator<'_>,
    call: &Call,
    args: Vec<(Value, Span)>,
    at: Span,
) -> Fallible<Value> {
    let count = function.params.len();
    if args.len() < count || (args.len() > count && function.rest.is_none()) {
        let missing = function.params.get(args.len()).map_or("", |param| param.name);
        return Err(arity_problem(call, at, count, missing));
    }
    let mut values = Vec::with_capacity(args.len());
    for (i, (value, span)) in args.iter().enumerate() {
        let Some(param) = function.params.get(i).or(function.rest.as_ref()) else { continue };
        if value.is_null() && !param.nullable {
            return Err(argument_problem(*span, param.name, "argument must not be null"));
        }
        // Reading an argument costs its size; a body that costs more says so itself.
        evaluator.charge(value.weight(), *span)?;
        let to = match param.want {
            Want::Any => Type::Any,
            Want::Text => Type::String,
            Want::Number => Type::Number,
            Want::TextList => Type::List(Box::new(Type::String)),
        };
        values.push(convert(value, &to).map_err(|why| argument_problem(*span, param.name, &why))?);
    }
    (function.body)(&Context { evaluator, at }, &values).map_err(|failure| match failure {
        Failure::Argument(i, why) => {
            let name = function.params.get(i).or(function.rest.as_ref()).map_or("", |param| param.name);
            argument_problem(args.get(i).map_or(at, |(_, span)| *span), name, &why)
        }
        Failure::Call(why) => {
            Problem::error(at, "Error in function call", format!("Call to function {:?} failed: {why}.", function.name))
        }
    })
}

/// Arguments as bodies read them. [`invoke`] has converted them, so the fallbacks are never seen.
fn text(args: &[Value], i: usize) -> &str {
    match args.get(i) {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

fn number(args: &[Value], i: usize) -> crate::number::Number {
    match args.get(i) {
        Some(Value::Number(number)) => *number,
        _ => crate::number::Number::int(0),
    }
}

fn whole(args: &[Value], i: usize) -> Result<i64, Failure> {
    number(args, i)
        .as_int()
        .and_then(|n| i64::try_from(n).ok())
        .ok_or_else(|| Failure::Argument(i, "a whole number is required".to_owned()))
}

fn elements(args: &[Value], i: usize) -> Result<&[Value], Failure> {
    args.get(i)
        .and_then(Value::elements)
        .ok_or_else(|| Failure::Argument(i, "a list, set or tuple is required".to_owned()))
}

fn strings(args: &[Value], i: usize) -> Result<Vec<&str>, Failure> {
    elements(args, i)?
        .iter()
        .map(|item| match item {
            Value::String(text) => Ok(&**text),
            _ => Err(Failure::Argument(i, "elements must not be null".to_owned())),
        })
        .collect()
}

#[cfg(test)]
mod each;
#[cfg(test)]
mod tests;
