//! Small specifications as files: node pools and namespaces, in HCL or in the API's JSON.

use std::io::Read as _;

use config::syntax::{Entry, Value as Read, parse};
use serde_json::{Map, Number, Value};

use super::Failure;
use crate::flags::nearest;

const BYTES_MAX: u64 = 1 << 20;

/// What a key of a file is called by the API, and what is in it.
#[derive(Clone, Copy)]
pub enum Field {
    Plain(&'static str),
    /// Any keys, with texts.
    Map(&'static str),
    Block(&'static str, &'static [(&'static str, Field)]),
}

/// The text of a file; `-` is stdin.
///
/// # Errors
/// It cannot be read, or is too long.
pub fn text(path: &str) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("Failed to read {path}: {error}"));
    let mut text = String::new();
    match path {
        "-" => std::io::stdin().take(BYTES_MAX + 1).read_to_string(&mut text),
        _ => std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text)),
    }
    .map_err(failed)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(Failure::new(format!("Failed to read {path}: longer than {BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// The entries of a file in HCL.
///
/// # Errors
/// It cannot be understood; the place is named.
pub fn entries(path: &str, text: &str) -> Result<Vec<Entry>, Failure> {
    parse(0, text).map_err(|error| {
        Failure::new(format!("Failed to parse {path}: line {}, column {}: {error}", error.at.line, error.at.column))
    })
}

/// The API's object for a block's entries.
///
/// # Errors
/// A key is not known, or its value does not fit.
pub fn object(entries: &[Entry], fields: &[(&str, Field)]) -> Result<Map<String, Value>, Failure> {
    let mut out = Map::new();
    for entry in entries {
        let Some((_, field)) = fields.iter().find(|(key, _)| *key == entry.key) else {
            let failure = Failure::new(format!("line {}: invalid key: {}", entry.at.line, entry.key));
            return Err(match nearest(&entry.key, fields.iter().map(|(key, _)| *key)) {
                Some(near) => failure.hint(format!("did you mean {near:?}?")),
                None => failure,
            });
        };
        match (field, &entry.node.value) {
            (Field::Plain(name), value) => {
                out.insert((*name).to_owned(), plain(value));
            }
            (Field::Map(name), Read::Object(pairs)) => {
                let map = out.entry(*name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = map {
                    map.extend(pairs.iter().map(|pair| (pair.key.clone(), as_text(&pair.node.value))));
                }
            }
            (Field::Block(name, inner), Read::Object(pairs)) => {
                out.insert((*name).to_owned(), Value::Object(object(pairs, inner)?));
            }
            (_, value) => {
                let kind = value.kind();
                return Err(Failure::new(format!(
                    "line {}: {} must be a block, it is {kind}",
                    entry.at.line, entry.key
                )));
            }
        }
    }
    Ok(out)
}

fn as_text(value: &Read) -> Value {
    match value {
        Read::Number(text) => Value::String(text.clone()),
        Read::Bool(on) => Value::String(on.to_string()),
        other => plain(other),
    }
}

fn plain(value: &Read) -> Value {
    match value {
        Read::Null => Value::Null,
        Read::Bool(on) => Value::Bool(*on),
        Read::Number(text) => text.parse::<Number>().map_or_else(|_| Value::String(text.clone()), Value::Number),
        Read::Text(text) => Value::String(text.clone()),
        Read::List(items) => Value::Array(items.iter().map(|item| plain(&item.value)).collect()),
        Read::Object(pairs) => {
            Value::Object(pairs.iter().map(|pair| (pair.key.clone(), plain(&pair.node.value))).collect())
        }
    }
}
