//! `format` and `formatlist`: printf-like text.

use super::{Context, Failure, Function, Outcome, Want, encoding, nullable, param, text};
use crate::limits;
use crate::value::{Type, Value, convert};

pub(super) const TABLE: &[Function] = &[
    Function { name: "format", params: &[param("format", Want::Text)], rest: Some(nullable("args")), body: format_one },
    Function {
        name: "formatlist",
        params: &[param("format", Want::Text)],
        rest: Some(nullable("args")),
        body: format_each,
    },
];

/// `%[index]flags width .precision verb`
#[derive(Default)]
struct Verb {
    letter: char,
    index: Option<usize>,
    minus: bool,
    plus: bool,
    space: bool,
    zero: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

fn format_one(cx: &Context<'_>, args: &[Value]) -> Outcome {
    render(cx, text(args, 0), &args[1..]).map(Value::string)
}

fn format_each(cx: &Context<'_>, args: &[Value]) -> Outcome {
    let rest = &args[1..];
    let lengths: Vec<usize> = rest.iter().filter_map(Value::elements).map(<[Value]>::len).collect();
    let count = lengths.first().copied().unwrap_or(1);
    if let Some(at) = rest.iter().position(|arg| arg.elements().is_some_and(|items| items.len() != count)) {
        return Err(Failure::Argument(
            at + 1,
            format!("argument {} has a different length than the arguments before it", at + 1),
        ));
    }
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        let row: Vec<Value> =
            rest.iter().map(|arg| arg.elements().map_or_else(|| arg.clone(), |items| items[i].clone())).collect();
        out.push(Value::string(render(cx, text(args, 0), &row)?));
    }
    Ok(Value::list(Type::String, out))
}

fn render(cx: &Context<'_>, spec: &str, args: &[Value]) -> Result<String, Failure> {
    let mut out = String::new();
    let mut rest = spec;
    let mut next = 0;
    let mut highest = 0;
    let mut indexed = false;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let (verb, after) = parse(&rest[at + 1..]).map_err(|why| Failure::Argument(0, why))?;
        rest = after;
        if verb.letter == '%' {
            out.push('%');
            continue;
        }
        indexed |= verb.index.is_some();
        let index = verb.index.unwrap_or(next);
        next = index + 1;
        highest = highest.max(next);
        let arg = args.get(index).ok_or_else(|| {
            Failure::Call(format!(
                "not enough arguments for \"%{}\" at {index}: need index {} but have {} total",
                verb.letter,
                next,
                args.len()
            ))
        })?;
        let shown = show(cx, &verb, arg).map_err(|failure| match failure {
            Failure::Call(why) => Failure::Argument(index + 1, why),
            other => other,
        })?;
        cx.charge(shown.len() as u64)?;
        out.push_str(&shown);
        if out.len() as u64 > limits::VALUE_WEIGHT {
            return Err("the result would be too large".into());
        }
    }
    out.push_str(rest);
    if highest < args.len() && !indexed {
        return Err(Failure::Call(format!("too many arguments; only {highest} used by format string")));
    }
    Ok(out)
}

fn parse(text: &str) -> Result<(Verb, &str), String> {
    let mut verb = Verb::default();
    let mut rest = text;
    let mut chars = rest.chars();
    while let Some(flag) = chars.next() {
        match flag {
            '-' => verb.minus = true,
            '+' => verb.plus = true,
            ' ' => verb.space = true,
            '0' => verb.zero = true,
            '#' => verb.sharp = true,
            _ => break,
        }
        rest = chars.as_str();
    }
    rest = index(rest, &mut verb)?;
    let (width, after) = digits(rest)?;
    verb.width = width.unwrap_or(0);
    rest = after;
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = digits(after)?;
        verb.precision = Some(precision.unwrap_or(0));
        rest = after;
    }
    rest = index(rest, &mut verb)?;
    verb.letter = rest.chars().next().ok_or("unterminated format verb at end of string")?;
    let after = &rest[verb.letter.len_utf8()..];
    Ok((verb, after))
}

fn index<'a>(rest: &'a str, verb: &mut Verb) -> Result<&'a str, String> {
    let Some(inner) = rest.strip_prefix('[') else { return Ok(rest) };
    let (index, after) = digits(inner)?;
    let after = after.strip_prefix(']').ok_or("unterminated argument index")?;
    verb.index = Some(index.and_then(|n| n.checked_sub(1)).ok_or("argument indexes start at 1")?);
    Ok(after)
}

fn digits(text: &str) -> Result<(Option<usize>, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 {
        return Ok((None, text));
    }
    let number =
        text[..end].parse().ok().filter(|n| *n <= limits::FORMAT_WIDTH).ok_or("width or precision is too large")?;
    Ok((Some(number), &text[end..]))
}

fn show(cx: &Context<'_>, verb: &Verb, arg: &Value) -> Result<String, Failure> {
    let wants = |to: &Type| -> Result<Value, Failure> {
        if arg.is_null() {
            return Err(format!("unsupported value for \"%{}\": null value cannot be formatted", verb.letter).into());
        }
        convert(arg, to).map_err(|why| Failure::Call(format!("unsupported value for \"%{}\": {why}", verb.letter)))
    };
    match verb.letter {
        'v' => Ok(pad(verb, general(cx, verb, arg)?, false)),
        't' => Ok(pad(verb, if wants(&Type::Bool)? == Value::Bool(true) { "true" } else { "false" }.to_owned(), false)),
        's' => match wants(&Type::String)? {
            Value::String(text) => Ok(pad(verb, cut(verb, &text), false)),
            _ => Ok(String::new()),
        },
        'q' => match wants(&Type::String)? {
            Value::String(text) => Ok(pad(verb, serde_json::Value::from(cut(verb, &text)).to_string(), false)),
            _ => Ok(String::new()),
        },
        'b' | 'd' | 'o' | 'x' | 'X' => match wants(&Type::Number)? {
            Value::Number(number) => integer(verb, number.as_int()),
            _ => Ok(String::new()),
        },
        'e' | 'E' | 'f' | 'g' | 'G' => match wants(&Type::Number)? {
            Value::Number(number) => Ok(float(verb, number.as_f64())),
            _ => Ok(String::new()),
        },
        other => Err(Failure::Argument(0, format!("unsupported format verb {other:?}"))),
    }
}

fn cut(verb: &Verb, text: &str) -> String {
    text.chars().take(verb.precision.unwrap_or(usize::MAX)).collect()
}

/// `%v`: the natural form; collections, and everything under `#`, as JSON.
fn general(cx: &Context<'_>, verb: &Verb, arg: &Value) -> Result<String, Failure> {
    if !verb.sharp
        && let Ok(Value::String(text)) = convert(arg, &Type::String)
    {
        return Ok(cut(verb, &text));
    }
    encoding::json_text(cx, arg)
}

fn integer(verb: &Verb, number: Option<i128>) -> Result<String, Failure> {
    let number = number.ok_or_else(|| {
        Failure::Call(format!("unsupported value for \"%{}\": a whole number is required", verb.letter))
    })?;
    let size = number.unsigned_abs();
    let digits = match verb.letter {
        'b' => format!("{size:b}"),
        'o' => format!("{size:o}"),
        'x' => format!("{size:x}"),
        'X' => format!("{size:X}"),
        _ => size.to_string(),
    };
    Ok(signed(verb, number < 0, digits))
}

fn float(verb: &Verb, value: f64) -> String {
    let size = value.abs();
    let digits = match verb.letter {
        'f' => format!("{size:.*}", verb.precision.unwrap_or(6).min(1000)),
        'e' | 'E' => exponent(size, verb.precision.unwrap_or(6).min(1000), verb.letter),
        _ => shortest(size, verb),
    };
    signed(verb, value < 0.0, digits)
}

/// `1.5e+06`: an exponent has a sign and two digits at least.
fn exponent(size: f64, precision: usize, letter: char) -> String {
    let text = format!("{size:.precision$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{mantissa}{}{sign}{power:0>2}", letter.to_ascii_lowercase()).replace('e', &letter.to_string())
}

fn shortest(size: f64, verb: &Verb) -> String {
    let power = if size == 0.0 { 0.0 } else { size.log10().floor() };
    let significant = verb.precision.map(|p| p.clamp(1, 100));
    let limit = significant.map_or(21.0, |p| p as f64);
    if power < -4.0 || power >= limit {
        let letter = if verb.letter == 'G' { 'E' } else { 'e' };
        let text = match significant {
            Some(p) => exponent(size, p - 1, letter),
            None => {
                let digits =
                    format!("{size:e}").split_once('e').map_or(0, |(mantissa, _)| mantissa.len().saturating_sub(2));
                exponent(size, digits, letter)
            }
        };
        return text;
    }
    match significant {
        None => format!("{size}"),
        Some(p) => {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let decimals = (p as f64 - 1.0 - power).max(0.0) as usize;
            let text = format!("{size:.decimals$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
        }
    }
}

fn signed(verb: &Verb, negative: bool, digits: String) -> String {
    let sign = match (negative, verb.plus, verb.space) {
        (true, _, _) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    if verb.zero && !verb.minus {
        let room = verb.width.saturating_sub(sign.len());
        return format!("{sign}{digits:0>room$}");
    }
    pad(verb, format!("{sign}{digits}"), true)
}

fn pad(verb: &Verb, text: String, number: bool) -> String {
    let missing = verb.width.saturating_sub(text.chars().count());
    let fill = if verb.zero && !number && !verb.minus { "0" } else { " " };
    if verb.minus { format!("{text}{}", fill.repeat(missing)) } else { format!("{}{text}", fill.repeat(missing)) }
}
