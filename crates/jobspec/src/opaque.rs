//! Bodies without a schema: `config`, `policy`. What they mean is up to a driver or a plugin.
//!
//! The shape follows the reference to the letter, because drivers see it: a nested block becomes
//! an element of a list under its name, each of its labels one more list of one map; an attribute
//! whose value is written as an object literal is wrapped into a list of one too, but literals
//! inside that are not. Whole numbers stay integers, others become floats.

use serde_json::{Map, Number, Value as Json};

use crate::ast::{self, Kind};
use crate::decode::{Decoder, Wire, push};
use crate::eval::Scope;
use crate::value::Value;

pub(crate) fn body(decoder: &mut Decoder<'_>, body: &ast::Body, scope: &Scope<'_>) -> Wire {
    let mut wire = Map::new();
    for attribute in &body.attributes {
        match decoder.evaluator.eval(&attribute.value, scope) {
            Ok(value) => {
                if !decoder.emit(value.weight() + attribute.name.len() as u64, attribute.span) {
                    return wire;
                }
                let json = to_json(&value);
                let literal = matches!(attribute.value.kind, Kind::Object(_)) && !attribute.from_json;
                wire.insert(attribute.name.clone(), if literal { Json::Array(vec![json]) } else { json });
            }
            Err(problem) => decoder.report_of(&attribute.value, problem),
        }
    }
    for block in &body.blocks {
        let mut inner = Json::Object(self::body(decoder, &block.body, scope));
        for label in block.labels.iter().rev() {
            let mut labelled = Map::new();
            labelled.insert(label.text.clone(), Json::Array(vec![inner]));
            inner = Json::Object(labelled);
        }
        push(&mut wire, &block.kind, inner);
    }
    wire
}

pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::String(text) => Json::from(&**text),
        Value::Number(number) => match number.as_int() {
            Some(whole) => i64::try_from(whole)
                .map(Json::from)
                .or_else(|_| u64::try_from(whole).map(Json::from))
                .unwrap_or_else(|_| Number::from_f64(number.as_f64()).map_or(Json::Null, Json::Number)),
            None => Number::from_f64(number.as_f64()).map_or(Json::Null, Json::Number),
        },
        Value::List(seq) | Value::Set(seq) | Value::Tuple(seq) => Json::Array(seq.items.iter().map(to_json).collect()),
        Value::Map(table) | Value::Object(table) => {
            Json::Object(table.items.iter().map(|(name, item)| (name.clone(), to_json(item))).collect())
        }
    }
}
