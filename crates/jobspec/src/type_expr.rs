//! Type constraints: `string`, `list(number)`, `object({ a = bool })`.
//!
//! A constraint is written as an expression but read from its syntax tree, never evaluated.

use std::collections::BTreeMap;

use crate::ast::{Call, Expr, Kind, Reference};
use crate::diagnostics::{Fallible, Problem, Span};
use crate::value::{Type, Value};

const SUMMARY: &str = "Invalid type specification";

pub(crate) fn parse(expr: &Expr) -> Fallible<Type> {
    match &expr.kind {
        Kind::Reference(reference) => keyword(reference, expr.span),
        Kind::Call(call) => constructor(call, expr.span),
        Kind::Paren(inner) => parse(inner),
        Kind::Literal(Value::String(_)) | Kind::Template(_) => Err(Problem::error(
            expr.start(),
            SUMMARY,
            "A type specification is either a primitive type keyword (bool, number, string) or a complex type \
             constructor call, like list(string). Write it without quotes.",
        )),
        _ => Err(Problem::error(
            expr.span,
            SUMMARY,
            "A type specification is either a primitive type keyword (bool, number, string) or a complex type \
             constructor call, like list(string).",
        )),
    }
}

fn keyword(reference: &Reference, at: Span) -> Fallible<Type> {
    let problem = |detail: String| Err(Problem::error(at, SUMMARY, detail));
    if !reference.steps.is_empty() {
        return problem("A type specification may not refer to a value.".to_owned());
    }
    match reference.root.as_str() {
        "bool" => Ok(Type::Bool),
        "number" => Ok(Type::Number),
        "string" => Ok(Type::String),
        "any" => problem(
            "The keyword \"any\" cannot be used in this type specification: an exact type is required.".to_owned(),
        ),
        name @ ("list" | "set" | "map") => {
            problem(format!("The {name} type constructor requires one argument specifying the element type."))
        }
        "object" => problem(
            "The object type constructor requires one argument specifying the attribute types and values as a map."
                .to_owned(),
        ),
        "tuple" => problem(
            "The tuple type constructor requires one argument specifying the element types as a list.".to_owned(),
        ),
        name => problem(format!("The keyword {name:?} is not a valid type specification.")),
    }
}

fn constructor(call: &Call, at: Span) -> Fallible<Type> {
    let problem = |at: Span, detail: String| Problem::error(at, SUMMARY, detail);
    let name = call.name.as_str();
    if !matches!(name, "list" | "set" | "map" | "object" | "tuple") {
        return Err(problem(call.name_span, format!("Keyword {name:?} is not a valid type constructor.")));
    }
    let [argument] = call.args.as_slice() else {
        return Err(problem(at, format!("The {name} type constructor requires one argument.")));
    };
    match (name, &argument.kind) {
        ("list", _) => Ok(Type::List(Box::new(parse(argument)?))),
        ("set", _) => Ok(Type::Set(Box::new(parse(argument)?))),
        ("map", _) => Ok(Type::Map(Box::new(parse(argument)?))),
        ("tuple", Kind::Tuple(items)) => Ok(Type::Tuple(items.iter().map(parse).collect::<Fallible<_>>()?)),
        ("object", Kind::Object(items)) => {
            let mut attributes = BTreeMap::new();
            for (key, of) in items {
                let Kind::Literal(Value::String(key_name)) = &key.kind else {
                    return Err(problem(key.span, "Object constructor map keys must be attribute names.".to_owned()));
                };
                attributes.insert(key_name.to_string(), parse(of)?);
            }
            Ok(Type::Object(attributes))
        }
        ("tuple", _) => {
            Err(problem(argument.span, "Tuple type constructor requires a list of element types.".to_owned()))
        }
        _ => Err(problem(
            argument.span,
            "Object type constructor requires a map whose keys are attribute names and whose values are the \
             corresponding attribute types."
                .to_owned(),
        )),
    }
}
