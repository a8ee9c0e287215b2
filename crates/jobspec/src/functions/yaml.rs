//! YAML to values and back.
//!
//! Decoding builds values from parser events on an explicit stack, so depth costs no recursion;
//! an alias shares its value, whose weight is counted each time (see `value`), so that a small
//! text cannot mean a huge value.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::{Context, Failure, Function, Outcome, Want, nullable, param, text};
use crate::limits;
use crate::number::Number;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    Function { name: "yamldecode", params: &[param("src", Want::Text)], rest: None, body: yamldecode },
    Function { name: "yamlencode", params: &[nullable("value")], rest: None, body: yamlencode },
];

enum Open {
    Sequence { anchor: usize, items: Vec<Value> },
    Mapping { anchor: usize, entries: BTreeMap<String, Value>, key: Option<String>, merged: Vec<Value> },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Value>,
    root: Option<Value>,
}

fn yamldecode(cx: &Context<'_>, args: &[Value]) -> Outcome {
    let source = text(args, 0);
    cx.charge(source.len() as u64 * 16)?;
    let invalid = |why: String| Failure::Argument(0, why);
    let mut builder = Builder::default();
    let mut documents = 0;
    let mut parser = Parser::new_from_str(source);
    while let Some(event) = parser.next_event() {
        cx.charge(64)?;
        let (event, _) = event.map_err(|error| invalid(error.to_string()))?;
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(invalid("only one YAML document is allowed".to_owned()));
                }
            }
            Event::SequenceStart(anchor, _) => {
                builder.push(Open::Sequence { anchor, items: Vec::new() }).map_err(invalid)?
            }
            Event::MappingStart(anchor, _) => builder
                .push(Open::Mapping { anchor, entries: BTreeMap::new(), key: None, merged: Vec::new() })
                .map_err(invalid)?,
            Event::SequenceEnd | Event::MappingEnd => builder.close().map_err(invalid)?,
            Event::Scalar(content, style, anchor, tag) => {
                let value = scalar(&content, style, tag.as_deref()).map_err(invalid)?;
                builder.put(anchor, value, &content).map_err(invalid)?;
            }
            Event::Alias(anchor) => {
                let value = builder
                    .anchors
                    .get(&anchor)
                    .cloned()
                    .ok_or_else(|| invalid("alias of something not yet complete".to_owned()))?;
                builder.put(0, value, "").map_err(invalid)?;
            }
            _ => {}
        }
    }
    builder.root.ok_or_else(|| invalid("missing start of document".to_owned()))
}

impl Builder {
    fn push(&mut self, open: Open) -> Result<(), String> {
        if self.open.len() >= limits::VALUE_DEPTH as usize {
            return Err("the document is nested too deeply".to_owned());
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some(Open::Sequence { anchor, items }) => self.put(anchor, Value::tuple(items), ""),
            Some(Open::Mapping { anchor, mut entries, merged, .. }) => {
                // What the mapping says itself wins over what it merges in.
                for source in &merged {
                    let sources = source.elements().unwrap_or(std::slice::from_ref(source));
                    for source in sources {
                        let more = source.entries().ok_or("cannot merge something that is not a mapping")?;
                        for (name, value) in more {
                            entries.entry(name.clone()).or_insert_with(|| value.clone());
                        }
                    }
                }
                self.put(anchor, Value::object(entries), "")
            }
            None => Err("unbalanced document".to_owned()),
        }
    }

    fn put(&mut self, anchor: usize, value: Value, written: &str) -> Result<(), String> {
        if value.oversized() {
            return Err("the document expands to too large a value".to_owned());
        }
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open::Sequence { items, .. }) => items.push(value),
            Some(Open::Mapping { entries, key, merged, .. }) => match key.take() {
                None => {
                    *key = Some(match &value {
                        Value::String(text) => text.to_string(),
                        Value::Number(number) => number.to_string(),
                        Value::Bool(_) | Value::Null => written.to_owned(),
                        _ => return Err("a mapping key must be a scalar".to_owned()),
                    });
                }
                Some(name) if name == "<<" => merged.push(value),
                Some(name) => {
                    if entries.insert(name.clone(), value).is_some() {
                        return Err(format!("duplicate mapping key {name:?}"));
                    }
                }
            },
        }
        Ok(())
    }
}

fn scalar(content: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    if let Some(tag) = tag {
        return match tag.suffix.as_str() {
            "str" | "binary" => Ok(Value::string(content)),
            "int" | "float" => {
                number(content).map(Value::Number).ok_or_else(|| format!("cannot parse {content:?} as a number"))
            }
            "bool" => boolean(content).map(Value::Bool).ok_or_else(|| format!("cannot parse {content:?} as a bool")),
            "null" => Ok(Value::Null),
            other => Err(format!("unsupported tag {other:?}")),
        };
    }
    if !matches!(style, ScalarStyle::Plain) {
        return Ok(Value::string(content));
    }
    if matches!(content, "" | "~" | "null" | "Null" | "NULL") {
        return Ok(Value::Null);
    }
    Ok(boolean(content)
        .map(Value::Bool)
        .or_else(|| number(content).map(Value::Number))
        .unwrap_or_else(|| Value::string(content)))
}

fn boolean(content: &str) -> Option<bool> {
    match content {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn number(content: &str) -> Option<Number> {
    let radix = |prefix: &str, radix: u32| {
        content.strip_prefix(prefix).and_then(|digits| i128::from_str_radix(digits, radix).ok()).map(Number::int)
    };
    if !content.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return None;
    }
    radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| Number::parse(content.strip_prefix('+').unwrap_or(content)))
}

fn yamlencode(cx: &Context<'_>, args: &[Value]) -> Outcome {
    cx.charge(args[0].weight())?;
    let mut out = String::new();
    match &args[0] {
        value if inline(value).is_some() => {
            out.push_str(&inline(value).unwrap_or_default());
            out.push('\n');
        }
        value => write(value, 0, &mut out)?,
    }
    Ok(Value::string(out))
}

/// The form of a value that fits on its line.
fn inline(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quote(text),
        value if value.elements().is_some_and(<[Value]>::is_empty) => "[]".to_owned(),
        value if value.entries().is_some_and(BTreeMap::is_empty) => "{}".to_owned(),
        _ => return None,
    })
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write(value: &Value, indent: usize, out: &mut String) -> Result<(), Failure> {
    let pad = " ".repeat(indent);
    for item in value.elements().unwrap_or_default() {
        match inline(item) {
            Some(text) => {
                let _ = writeln!(out, "{pad}- {text}");
            }
            None => {
                // The first line of what is inside shares the line of the dash.
                let start = out.len();
                write(item, indent + 2, out)?;
                out.replace_range(start..start + indent + 2, &format!("{pad}- "));
            }
        }
    }
    for (name, item) in value.entries().into_iter().flatten() {
        let name = quote(name);
        match (inline(item), item.elements()) {
            (Some(text), _) => {
                let _ = writeln!(out, "{pad}{name}: {text}");
            }
            (None, sequence) => {
                let _ = writeln!(out, "{pad}{name}:");
                write(item, if sequence.is_some() { indent } else { indent + 2 }, out)?;
            }
        }
    }
    if out.len() as u64 > limits::VALUE_WEIGHT {
        return Err("the result would be too large".into());
    }
    Ok(())
}
