//! Base64, JSON, CSV, URLs.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Context, Failure, Function, Outcome, Want, nullable, param, rsa, text};
use crate::limits;
use crate::number::Number;
use crate::value::{Type, Value};

pub(super) const TABLE: &[Function] = &[
    Function { name: "base64decode", params: &[param("str", Want::Text)], rest: None, body: base64decode },
    Function {
        name: "base64encode",
        params: &[param("str", Want::Text)],
        rest: None,
        body: |_, a| Ok(Value::string(STANDARD.encode(text(a, 0)))),
    },
    Function { name: "csvdecode", params: &[param("str", Want::Text)], rest: None, body: csvdecode },
    Function { name: "jsondecode", params: &[param("str", Want::Text)], rest: None, body: jsondecode },
    Function { name: "jsonencode", params: &[nullable("val")], rest: None, body: jsonencode },
    Function {
        name: "rsadecrypt",
        params: &[param("ciphertext", Want::Text), param("privatekey", Want::Text)],
        rest: None,
        body: rsadecrypt,
    },
    Function { name: "urlencode", params: &[param("str", Want::Text)], rest: None, body: urlencode },
];

fn utf8(bytes: Vec<u8>) -> Outcome {
    String::from_utf8(bytes).map(Value::string).map_err(|_| "the result is not valid UTF-8".into())
}

fn base64decode(_: &Context<'_>, args: &[Value]) -> Outcome {
    let bytes = STANDARD.decode(text(args, 0)).map_err(|_| Failure::Call("failed to decode base64 data".to_owned()))?;
    utf8(bytes)
}

fn rsadecrypt(cx: &Context<'_>, args: &[Value]) -> Outcome {
    let ciphertext =
        STANDARD.decode(text(args, 0)).map_err(|_| Failure::Argument(0, "cipher text must be in base64".to_owned()))?;
    let key = rsa::PrivateKey::from_pem(text(args, 1)).map_err(|why| Failure::Argument(1, why))?;
    cx.charge(key.cost())?;
    utf8(key.decrypt(&ciphertext).map_err(Failure::Call)?)
}

fn urlencode(_: &Context<'_>, args: &[Value]) -> Outcome {
    let mut out = String::new();
    for byte in text(args, 0).bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    Ok(Value::string(out))
}

fn jsondecode(cx: &Context<'_>, args: &[Value]) -> Outcome {
    cx.charge(text(args, 0).len() as u64 * 4)?;
    let json: serde_json::Value =
        serde_json::from_str(text(args, 0)).map_err(|error| Failure::Argument(0, error.to_string()))?;
    Ok(from_json(&json))
}

/// Depth is bounded by the JSON reader (128).
pub(super) fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => Number::parse(&number.to_string()).map_or(Value::Null, Value::Number),
        serde_json::Value::String(text) => Value::string(text),
        serde_json::Value::Array(items) => Value::tuple(items.iter().map(from_json).collect()),
        serde_json::Value::Object(items) => {
            Value::object(items.iter().map(|(name, item)| (name.clone(), from_json(item))).collect())
        }
    }
}

fn jsonencode(cx: &Context<'_>, args: &[Value]) -> Outcome {
    json_text(cx, &args[0]).map(Value::string)
}

pub(super) fn json_text(cx: &Context<'_>, value: &Value) -> Result<String, Failure> {
    cx.charge(value.weight())?;
    let mut out = String::new();
    write_json(value, &mut out)?;
    Ok(out)
}

fn write_json(value: &Value, out: &mut String) -> Result<(), Failure> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => write_json_string(text, out),
        Value::List(seq) | Value::Set(seq) | Value::Tuple(seq) => {
            out.push('[');
            for (i, item) in seq.items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(item, out)?;
            }
            out.push(']');
        }
        Value::Map(table) | Value::Object(table) => {
            out.push('{');
            for (i, (name, item)) in table.items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json_string(name, out);
                out.push(':');
                write_json(item, out)?;
            }
            out.push('}');
        }
    }
    if out.len() as u64 > limits::VALUE_WEIGHT {
        return Err("the result would be too large".into());
    }
    Ok(())
}

/// The reference escapes what a browser might read as markup, and line separators.
fn write_json_string(text: &str, out: &mut String) {
    let quoted = serde_json::Value::from(text).to_string();
    for c in quoted.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
}

fn csvdecode(cx: &Context<'_>, args: &[Value]) -> Outcome {
    cx.charge(text(args, 0).len() as u64 * 4)?;
    let mut rows = csv_rows(text(args, 0)).map_err(|why| Failure::Argument(0, why))?.into_iter();
    let header = rows.next().ok_or_else(|| Failure::Argument(0, "missing header line".to_owned()))?;
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = header.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(Failure::Argument(0, format!("duplicate column name {twice:?}")));
    }
    let mut out = Vec::new();
    for (i, row) in rows.enumerate() {
        cx.charge(32 * header.len() as u64)?;
        if row.len() != header.len() {
            return Err(Failure::Argument(0, format!("record on line {}: wrong number of fields", i + 2)));
        }
        let entries: BTreeMap<String, Value> = header.iter().cloned().zip(row.iter().map(Value::string)).collect();
        out.push(Value::object(entries));
    }
    let of = Type::Object(header.into_iter().map(|name| (name, Type::String)).collect());
    Ok(Value::list(of, out))
}

/// Rows of RFC 4180 text. Blank lines are skipped.
fn csv_rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut field = String::new();
    let mut chars = text.chars().peekable();
    let mut line = 1;
    let mut any = false;
    loop {
        match chars.next() {
            Some('"') if field.is_empty() => {
                any = true;
                quoted(&mut chars, &mut field, &mut line)?;
                if !matches!(chars.peek(), None | Some(',' | '\n' | '\r')) {
                    return Err(format!("parse error on line {line}: extraneous or missing \" in quoted-field"));
                }
            }
            Some('"') => return Err(format!("parse error on line {line}: bare \" in non-quoted-field")),
            Some(',') => {
                any = true;
                row.push(std::mem::take(&mut field));
            }
            Some('\r') if chars.peek() == Some(&'\n') => {}
            end @ (Some('\n') | None) => {
                line += 1;
                if any || !field.is_empty() {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                any = false;
                if end.is_none() {
                    return Ok(rows);
                }
            }
            Some(c) => field.push(c),
        }
    }
}

fn quoted(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    field: &mut String,
    line: &mut usize,
) -> Result<(), String> {
    loop {
        match chars.next() {
            Some('"') if chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            Some('"') => return Ok(()),
            Some(c) => {
                *line += usize::from(c == '\n');
                field.push(c);
            }
            None => return Err(format!("parse error on line {line}: extraneous or missing \" in quoted-field")),
        }
    }
}
