//! The functions of a template, and how values print, compare and count as true.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::Value;

type Args<'a> = [Cow<'a, Value>];

const NAMES: &[&str] = &[
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "eq", "ne", "lt", "le", "gt", "ge",
    "json", "toJSON", "join", "lower", "upper", "html", "js", "urlquery",
];
const WIDTH_MAX: usize = 4_096;

/// Calls a function by name.
pub fn call(name: &str, args: &Args<'_>) -> Result<Value, String> {
    let in_call = |message: String| format!("error calling {name}: {message}");
    let done = match name {
        "not" => one(name, args).map(|value| Value::Bool(!truth(value))),
        "len" => one(name, args).and_then(length).map(Value::from),
        "index" => index(args),
        "slice" => slice(args),
        "print" => Ok(Value::from(print_all(args))),
        "println" => Ok(Value::from(print_line(args))),
        "printf" => printf(args).map(Value::from),
        "eq" => equal(args).map(Value::Bool),
        "ne" => compare(name, args).map(|o| Value::Bool(o != Some(Ordering::Equal))),
        "lt" => ordered(name, args, |o| o.is_lt()),
        "le" => ordered(name, args, |o| o.is_le()),
        "gt" => ordered(name, args, |o| o.is_gt()),
        "ge" => ordered(name, args, |o| o.is_ge()),
        "json" | "toJSON" => one(name, args).map(|value| Value::from(value.to_string())),
        "join" => join(args),
        "lower" => text(name, args).map(|text| Value::from(text.to_lowercase())),
        "upper" => text(name, args).map(|text| Value::from(text.to_uppercase())),
        "html" => Ok(Value::from(html(&print_all(args)))),
        "js" => Ok(Value::from(js(&print_all(args)))),
        "urlquery" => Ok(Value::from(url_query(&print_all(args)))),
        "call" => return Err("function \"call\" is not supported: there is nothing to call in an answer".to_owned()),
        _ => {
            let near = crate::flags::nearest(name, NAMES.iter().copied());
            let meant = near.map_or_else(String::new, |near| format!(", did you mean {near:?}?"));
            return Err(format!("function {name:?} not defined{meant}"));
        }
    };
    done.map_err(in_call)
}

/// What counts as true: anything but nothing, zero and the empty.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The kind of a value, for messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// Prints a value at the top of an action.
pub fn print(value: &Value, out: &mut String) {
    if value.is_null() { out.push_str("<no value>") } else { show(value, out) }
}

/// Go's `%v`.
fn show(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                show(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push_str("map[");
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_str());
            for (at, (name, item)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                out.push_str(name);
                out.push(':');
                show(item, out);
            }
            out.push(']');
        }
        // Writing to a string cannot fail.
        other => drop(write!(out, "{other}")),
    }
}

fn shown(value: &Value) -> String {
    let mut out = String::new();
    show(value, &mut out);
    out
}

fn one<'v>(name: &str, args: &'v Args<'_>) -> Result<&'v Value, String> {
    match args {
        [value] => Ok(value),
        _ => Err(format!("wrong number of args for {name}: want 1 got {}", args.len())),
    }
}

fn text<'v>(name: &str, args: &'v Args<'_>) -> Result<&'v str, String> {
    let value = one(name, args)?;
    value.as_str().ok_or_else(|| format!("a string is needed, not {}", kind(value)))
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(fields) => Ok(fields.len()),
        Value::Null => Ok(0),
        other => Err(format!("{} has no length", kind(other))),
    }
}

fn position(value: &Value, length: usize) -> Result<usize, String> {
    let number = value.as_i64().ok_or_else(|| format!("cannot index with {}", kind(value)))?;
    usize::try_from(number)
        .ok()
        .filter(|at| *at <= length)
        .ok_or_else(|| format!("index {number} is out of range, there are {length}"))
}

fn index(args: &Args<'_>) -> Result<Value, String> {
    let [of, keys @ ..] = args else { return Err("wrong number of args: want at least 1 got 0".to_owned()) };
    let mut at: &Value = of;
    for key in keys {
        at = match at {
            Value::Array(items) => {
                let place = position(key, items.len())?;
                items.get(place).ok_or_else(|| format!("index {place} is out of range, there are {}", items.len()))?
            }
            Value::Object(fields) => {
                let name = key.as_str().ok_or_else(|| format!("a map has no key that is {}", kind(key)))?;
                fields.get(name).unwrap_or(&Value::Null)
            }
            Value::Null => &Value::Null,
            other => return Err(format!("can't index {}", kind(other))),
        };
    }
    Ok(at.clone())
}

fn slice(args: &Args<'_>) -> Result<Value, String> {
    let [of, bounds @ ..] = args else { return Err("wrong number of args: want at least 1 got 0".to_owned()) };
    let length = length(of)?;
    let from = bounds.first().map_or(Ok(0), |b| position(b, length))?;
    let to = bounds.get(1).map_or(Ok(length), |b| position(b, length))?;
    if from > to {
        return Err(format!("invalid slice: {from} > {to}"));
    }
    match of.as_ref() {
        Value::Array(items) => Ok(Value::from(items[from..to].to_vec())),
        Value::String(text) => {
            text.get(from..to).map(Value::from).ok_or_else(|| "the slice cuts through a character".to_owned())
        }
        other => Err(format!("can't slice {}", kind(other))),
    }
}

fn join(args: &Args<'_>) -> Result<Value, String> {
    match args {
        [list, with] => match (list.as_ref(), with.as_str()) {
            (Value::Array(items), Some(with)) => {
                Ok(Value::from(items.iter().map(shown).collect::<Vec<_>>().join(with)))
            }
            (Value::Null, Some(_)) => Ok(Value::from("")),
            _ => Err("a list and a string are needed".to_owned()),
        },
        _ => Err(format!("wrong number of args for join: want 2 got {}", args.len())),
    }
}

fn html(text: &str) -> String {
    let one = |c: char| match c {
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '&' => "&amp;".to_owned(),
        '"' => "&#34;".to_owned(),
        '\'' => "&#39;".to_owned(),
        '\0' => '\u{fffd}'.to_string(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

/// Text that may stand in a string of JavaScript, within a page too.
fn js(text: &str) -> String {
    let one = |c: char| match c {
        '\\' | '\'' | '"' => format!("\\{c}"),
        '<' | '>' | '&' | '=' | '\0'..='\x1f' => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

fn url_query(text: &str) -> String {
    let one = |b: u8| match b {
        b' ' => "+".to_owned(),
        b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

/// Blanks between operands when neither is a string.
fn print_all(args: &Args<'_>) -> String {
    let mut out = String::new();
    for (at, value) in args.iter().enumerate() {
        if at > 0 && !value.is_string() && !args[at - 1].is_string() {
            out.push(' ');
        }
        show(value, &mut out);
    }
    out
}

fn print_line(args: &Args<'_>) -> String {
    let parts: Vec<String> = args.iter().map(|value| shown(value)).collect();
    format!("{}\n", parts.join(" "))
}

fn equal(args: &Args<'_>) -> Result<bool, String> {
    let [first, rest @ ..] = args else { return Err("missing argument for comparison".to_owned()) };
    if rest.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in rest {
        if order(first, other)? == Some(Ordering::Equal) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn compare(name: &str, args: &Args<'_>) -> Result<Option<Ordering>, String> {
    match args {
        [a, b] => order(a, b),
        _ => Err(format!("wrong number of args for {name}: want 2 got {}", args.len())),
    }
}

fn ordered(name: &str, args: &Args<'_>, test: fn(Ordering) -> bool) -> Result<Value, String> {
    match compare(name, args)? {
        Some(order) => Ok(Value::Bool(test(order))),
        None => Err("incompatible types for comparison".to_owned()),
    }
}

/// `None` where two values are comparable and neither less nor more.
fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(Some(a.cmp(b))),
        (Value::Bool(a), Value::Bool(b)) => Ok((a == b).then_some(Ordering::Equal)),
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => Ok(Some(x.cmp(&y))),
            _ => Ok(x.as_f64().partial_cmp(&y.as_f64())),
        },
        (Value::Null, Value::Null) => Ok(Some(Ordering::Equal)),
        (Value::Null, _) | (_, Value::Null) => Ok(None),
        (a, b) => Err(format!("incompatible types for comparison: {} and {}", kind(a), kind(b))),
    }
}

/// One `%` directive.
#[derive(Default)]
struct Directive {
    left: bool,
    plus: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

fn printf(args: &Args<'_>) -> Result<String, String> {
    let [format, values @ ..] = args else { return Err("wrong number of args: want at least 1 got 0".to_owned()) };
    let format = format.as_str().ok_or("the format must be a string")?;
    let mut values = values.iter();
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = Directive::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '+' | '0' | ' ' | '#')) {
            match flag {
                '-' => directive.left = true,
                '+' => directive.plus = true,
                '0' => directive.zero = true,
                _ => {}
            }
        }
        directive.width = digits(&mut chars)?;
        if chars.next_if_eq(&'.').is_some() {
            directive.precision = Some(digits(&mut chars)?);
        }
        match chars.next() {
            Some('%') => out.push('%'),
            None => out.push_str("%!(NOVERB)"),
            Some(verb) => match values.next() {
                None => drop(write!(out, "%!{verb}(MISSING)")),
                Some(value) => directive.put(verb, value, &mut out)?,
            },
        }
    }
    if let Some(extra) = values.next() {
        let _ = write!(out, "%!(EXTRA {})", shown(extra));
    }
    Ok(out)
}

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<usize, String> {
    let mut number = 0_usize;
    while let Some(digit) = chars.next_if(char::is_ascii_digit).and_then(|c| c.to_digit(10)) {
        number = number.saturating_mul(10).saturating_add(digit as usize);
    }
    if number > WIDTH_MAX { Err(format!("{number} is too wide")) } else { Ok(number) }
}

impl Directive {
    fn put(&self, verb: char, value: &Value, out: &mut String) -> Result<(), String> {
        let wrong = || format!("%!{verb}({})", shown(value));
        let mut numeric = value.is_number();
        let text = match verb {
            'v' => shown(value),
            's' => match self.precision {
                Some(limit) => shown(value).chars().take(limit).collect(),
                None => shown(value),
            },
            'q' => value.as_str().map_or_else(wrong, |text| format!("{text:?}")),
            't' => value.as_bool().map_or_else(wrong, |flag| flag.to_string()),
            'd' => value.as_i64().map_or_else(wrong, |n| n.to_string()),
            'x' | 'X' => {
                let hex = match value {
                    Value::String(text) => text.bytes().map(|b| format!("{b:02x}")).collect(),
                    other => other.as_i64().map_or_else(wrong, |n| format!("{n:x}")),
                };
                if verb == 'X' { hex.to_uppercase() } else { hex }
            }
            'f' | 'F' => value.as_f64().map_or_else(wrong, |n| format!("{n:.*}", self.precision.unwrap_or(6))),
            'e' => value.as_f64().map_or_else(wrong, |n| format!("{n:.*e}", self.precision.unwrap_or(6))),
            'g' => value.as_f64().map_or_else(wrong, |n| n.to_string()),
            other => return Err(format!("verb %{other} is not supported")),
        };
        numeric &= !text.starts_with('%');
        let text = if self.plus && numeric && !text.starts_with('-') { format!("+{text}") } else { text };
        let pad = self.width.saturating_sub(text.chars().count());
        match (self.left, self.zero && numeric) {
            (true, _) => drop(write!(out, "{text}{:pad$}", "")),
            (false, true) => {
                let digits = text.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
                let _ = write!(out, "{}{}{}", &text[..digits], "0".repeat(pad), &text[digits..]);
            }
            (false, false) => drop(write!(out, "{:pad$}{text}", "")),
        }
        Ok(())
    }
}
