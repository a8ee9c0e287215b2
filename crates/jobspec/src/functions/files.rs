//! Functions that look at the disk of whoever parses: only where a reader was given, which is at
//! a command line. Over the API every call of them is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Context, Failure, Function, Outcome, Want, param, text};
use crate::value::{Type, Value};
use crate::{FileReader, limits};

const PATH: &[super::Param] = &[param("path", Want::Text)];

pub(super) const TABLE: &[Function] = &[
    Function { name: "abspath", params: PATH, rest: None, body: abspath },
    Function { name: "basename", params: PATH, rest: None, body: basename },
    Function { name: "dirname", params: PATH, rest: None, body: dirname },
    Function { name: "file", params: PATH, rest: None, body: file },
    Function { name: "filebase64", params: PATH, rest: None, body: filebase64 },
    Function { name: "fileexists", params: PATH, rest: None, body: fileexists },
    Function {
        name: "fileset",
        params: &[param("path", Want::Text), param("pattern", Want::Text)],
        rest: None,
        body: fileset,
    },
    Function { name: "pathexpand", params: PATH, rest: None, body: pathexpand },
];

fn reader<'a>(cx: &'a Context<'_>) -> Result<&'a dyn FileReader, Failure> {
    match cx.evaluator.inputs.files {
        Some(files) if cx.evaluator.files_allowed.get() => Ok(files),
        _ => Err("filesystem function disabled".into()),
    }
}

fn abspath(cx: &Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::string(reader(cx)?.absolute(text(args, 0)).map_err(Failure::Call)?))
}

fn basename(cx: &Context<'_>, args: &[Value]) -> Outcome {
    reader(cx)?;
    let path = text(args, 0);
    let trimmed = path.trim_end_matches('/');
    Ok(Value::string(match (path, trimmed) {
        ("", _) => ".",
        (_, "") => "/",
        (_, trimmed) => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }))
}

fn dirname(cx: &Context<'_>, args: &[Value]) -> Outcome {
    reader(cx)?;
    let Some(slash) = text(args, 0).rfind('/') else { return Ok(Value::string(".")) };
    Ok(Value::string(clean(&text(args, 0)[..=slash])))
}

/// Shortens a path without looking at it: no empty parts, no `.`, `..` taken back where possible.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

fn contents(cx: &Context<'_>, args: &[Value]) -> Result<Vec<u8>, Failure> {
    let bytes = reader(cx)?.read(text(args, 0)).map_err(|why| Failure::Argument(0, why))?;
    cx.charge(bytes.len() as u64)?;
    if bytes.len() as u64 > limits::VALUE_WEIGHT / 2 {
        return Err(Failure::Argument(0, "the file is too large".to_owned()));
    }
    Ok(bytes)
}

fn file(cx: &Context<'_>, args: &[Value]) -> Outcome {
    String::from_utf8(contents(cx, args)?).map(Value::string).map_err(|_| {
        Failure::Argument(
            0,
            format!(
                "contents of {} are not valid UTF-8; use the filebase64 function to obtain the Base64 encoded contents",
                text(args, 0)
            ),
        )
    })
}

fn filebase64(cx: &Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::string(STANDARD.encode(contents(cx, args)?)))
}

fn fileexists(cx: &Context<'_>, args: &[Value]) -> Outcome {
    Ok(Value::Bool(reader(cx)?.exists(text(args, 0)).map_err(Failure::Call)?))
}

fn fileset(cx: &Context<'_>, args: &[Value]) -> Outcome {
    let names = reader(cx)?.glob(text(args, 0), text(args, 1)).map_err(Failure::Call)?;
    Ok(Value::set(Type::String, names.iter().map(Value::string).collect()))
}

fn pathexpand(cx: &Context<'_>, args: &[Value]) -> Outcome {
    let path = text(args, 0);
    Ok(match (path.strip_prefix('~'), reader(cx)?.home()) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => Value::string(format!("{home}{rest}")),
        _ => Value::string(path),
    })
}
