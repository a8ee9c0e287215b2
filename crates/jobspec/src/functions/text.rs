//! Functions on text. Lengths and offsets count grapheme clusters.

use regex::RegexBuilder;
use unicode_segmentation::UnicodeSegmentation as _;

use super::{Context, Failure, Function, Outcome, Want, param, strings, text, whole};
use crate::limits;
use crate::number::Number;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    Function { name: "chomp", params: &[param("str", Want::Text)], rest: None, body: chomp },
    Function {
        name: "indent",
        params: &[param("spaces", Want::Number), param("str", Want::Text)],
        rest: None,
        body: indent,
    },
    Function {
        name: "join",
        params: &[param("separator", Want::Text)],
        rest: Some(param("lists", Want::TextList)),
        body: join,
    },
    Function {
        name: "lower",
        params: &[param("str", Want::Text)],
        rest: None,
        body: |_, a| Ok(Value::string(text(a, 0).to_lowercase())),
    },
    Function {
        name: "parseint",
        params: &[param("number", Want::Any), param("base", Want::Number)],
        rest: None,
        body: parseint,
    },
    Function {
        name: "replace",
        params: &[param("str", Want::Text), param("substr", Want::Text), param("replace", Want::Text)],
        rest: None,
        body: replace,
    },
    Function {
        name: "regex_replace",
        params: &[param("str", Want::Text), param("pattern", Want::Text), param("replace", Want::Text)],
        rest: None,
        body: regex_replace,
    },
    Function { name: "reverse", params: &[param("str", Want::Text)], rest: None, body: reverse },
    Function {
        name: "split",
        params: &[param("separator", Want::Text), param("str", Want::Text)],
        rest: None,
        body: split,
    },
    Function {
        name: "strlen",
        params: &[param("str", Want::Text)],
        rest: None,
        body: |_, a| Ok(Value::int(text(a, 0).graphemes(true).count())),
    },
    Function { name: "strrev", params: &[param("str", Want::Text)], rest: None, body: reverse },
    Function {
        name: "substr",
        params: &[param("str", Want::Text), param("offset", Want::Number), param("length", Want::Number)],
        rest: None,
        body: substr,
    },
    Function { name: "title", params: &[param("str", Want::Text)], rest: None, body: title },
    Function { name: "trim", params: &[param("str", Want::Text), param("cutset", Want::Text)], rest: None, body: trim },
    Function {
        name: "trimprefix",
        params: &[param("str", Want::Text), param("prefix", Want::Text)],
        rest: None,
        body: |_, a| Ok(Value::string(text(a, 0).strip_prefix(text(a, 1)).unwrap_or(text(a, 0)))),
    },
    Function {
        name: "trimspace",
        params: &[param("str", Want::Text)],
        rest: None,
        body: |_, a| Ok(Value::string(text(a, 0).trim())),
    },
    Function {
        name: "trimsuffix",
        params: &[param("str", Want::Text), param("suffix", Want::Text)],
        rest: None,
        body: |_, a| Ok(Value::string(text(a, 0).strip_suffix(text(a, 1)).unwrap_or(text(a, 0)))),
    },
    Function {
        name: "upper",
        params: &[param("str", Want::Text)],
        rest: None,
        body: |_, a| Ok(Value::string(text(a, 0).to_uppercase())),
    },
];

fn chomp(_: &Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::string(text(args, 0).trim_end_matches(['\n', '\r'])))
}

fn indent(cx: &Context<'_>, args: &[Value]) -> Outcome {
    let spaces =
        usize::try_from(whole(args, 0)?).map_err(|_| Failure::Argument(0, "must not be negative".to_owned()))?;
    let lines = text(args, 1).matches('\n').count();
    if spaces > limits::FORMAT_WIDTH {
        return Err(Failure::Argument(0, format!("must be at most {}", limits::FORMAT_WIDTH)));
    }
    fits(cx, spaces.saturating_mul(lines))?;
    Ok(Value::string(text(args, 1).replace('\n', &format!("\n{}", " ".repeat(spaces)))))
}

/// Refuses a result before it is made.
fn fits(cx: &Context<'_>, bytes: usize) -> Result<(), Failure> {
    cx.charge(bytes as u64)?;
    if bytes as u64 > limits::VALUE_WEIGHT {
        return Err(Failure::Call("the result would be too large".to_owned()));
    }
    Ok(())
}

fn join(cx: &Context<'_>, args: &[Value]) -> Outcome {
    if args.len() < 2 {
        return Err("at least one list is required".into());
    }
    let mut all = Vec::new();
    for i in 1..args.len() {
        all.extend(strings(args, i)?);
    }
    let separator = text(args, 0);
    fits(cx, all.iter().map(|s| s.len()).sum::<usize>() + separator.len().saturating_mul(all.len()))?;
    Ok(Value::string(all.join(separator)))
}

fn parseint(_: &Context<'_>, args: &[Value]) -> Outcome {
    let base = whole(args, 1)?;
    let base = u32::try_from(base)
        .ok()
        .filter(|base| (2..=62).contains(base))
        .ok_or_else(|| Failure::Argument(1, "base must be a whole number between 2 and 62 inclusive".to_owned()))?;
    let Some(Value::String(given)) = args.first() else {
        return Err(Failure::Argument(0, format!("first argument must be a string, not {}", args[0].type_of().name())));
    };
    let (negative, digits) = match given.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, given.strip_prefix('+').unwrap_or(given)),
    };
    let invalid = || Failure::Call(format!("cannot parse {given:?} as a base {base} integer"));
    if digits.is_empty() {
        return Err(invalid());
    }
    let mut sum: i128 = 0;
    for c in digits.chars() {
        // Up to base 36 case does not matter; above it, upper case follows lower case.
        let digit = match c {
            '0'..='9' => c as u32 - '0' as u32,
            'a'..='z' => c as u32 - 'a' as u32 + 10,
            'A'..='Z' if base <= 36 => c as u32 - 'A' as u32 + 10,
            'A'..='Z' => c as u32 - 'A' as u32 + 36,
            _ => return Err(invalid()),
        };
        if digit >= base {
            return Err(invalid());
        }
        sum =
            sum.checked_mul(i128::from(base)).and_then(|sum| sum.checked_add(i128::from(digit))).ok_or_else(invalid)?;
    }
    Ok(Value::Number(Number::int(if negative { -sum } else { sum })))
}

fn replace(cx: &Context<'_>, args: &[Value]) -> Outcome {
    let (subject, from, to) = (text(args, 0), text(args, 1), text(args, 2));
    let found = if from.is_empty() { subject.chars().count() + 1 } else { subject.matches(from).count() };
    fits(cx, subject.len() + found.saturating_mul(to.len()))?;
    Ok(Value::string(subject.replace(from, to)))
}

fn regex_replace(cx: &Context<'_>, args: &[Value]) -> Outcome {
    let (subject, pattern, to) = (text(args, 0), text(args, 1), text(args, 2));
    cx.charge(limits::REGEX_BYTES as u64 / 2 + pattern.len() as u64 * 256)?;
    let compile = |bytes: usize| RegexBuilder::new(pattern).size_limit(bytes).dfa_size_limit(bytes).build();
    // Matching takes at most the length of the text times the size of the program: most programs
    // are small, and a large one pays for it.
    let sized = |bytes: usize, per_byte: u64| compile(bytes).map(|regex| (regex, per_byte));
    let (regex, per_byte) = sized(limits::REGEX_BYTES / 16, 64)
        .or_else(|_| sized(limits::REGEX_BYTES / 4, 1024))
        .or_else(|_| sized(limits::REGEX_BYTES, 8192))
        .map_err(|error| Failure::Argument(1, error.to_string().lines().last().unwrap_or_default().to_owned()))?;
    cx.charge(subject.len() as u64 * per_byte)?;
    let mut out = String::new();
    let mut copied = 0;
    for found in regex.captures_iter(subject) {
        cx.charge(64)?;
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&subject[copied..whole.start()]);
        found.expand(to, &mut out);
        copied = whole.end();
        if out.len() as u64 > limits::VALUE_WEIGHT {
            return Err("the result would be too large".into());
        }
    }
    out.push_str(&subject[copied..]);
    Ok(Value::string(out))
}

fn reverse(_: &Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::string(text(args, 0).graphemes(true).rev().collect::<String>()))
}

fn split(_: &Context<'_>, args: &[Value]) -> Outcome {
    let (separator, subject) = (text(args, 0), text(args, 1));
    if separator.is_empty() {
        return Ok(Value::strings(subject.chars().map(String::from)));
    }
    Ok(Value::strings(subject.split(separator)))
}

fn substr(_: &Context<'_>, args: &[Value]) -> Outcome {
    let all: Vec<&str> = text(args, 0).graphemes(true).collect();
    let count = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let (offset, length) = (whole(args, 1)?, whole(args, 2)?);
    let start = if offset < 0 { (count + offset.max(-count)).max(0) } else { offset.min(count) };
    if length < -1 {
        return Err(Failure::Argument(2, "must be -1 or more".to_owned()));
    }
    let end = if length == -1 { count } else { start.saturating_add(length).min(count) };
    let (start, end) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
    Ok(Value::string(all[start..end.max(start)].concat()))
}

fn title(_: &Context<'_>, args: &[Value]) -> Outcome {
    let mut out = String::new();
    let mut in_word = false;
    for c in text(args, 0).chars() {
        let word = c.is_alphanumeric() || c == '_' || c == '\'';
        if word && !in_word {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        in_word = word;
    }
    Ok(Value::string(out))
}

fn trim(_: &Context<'_>, args: &[Value]) -> Outcome {
    let cutset: Vec<char> = text(args, 1).chars().take(1024).collect();
    Ok(Value::string(text(args, 0).trim_matches(cutset.as_slice())))
}
