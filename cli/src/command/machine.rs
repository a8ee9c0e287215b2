//! Output for machines: `-json` and `-t`.

use serde_json::Value;

use super::{Cx, Failure};
use crate::{format, template};

/// Whether output for machines was asked for.
///
/// # Errors
/// Both forms were.
pub fn wanted(cx: &Cx) -> Result<bool, Failure> {
    match (cx.flags.is("json"), cx.flags.some("t").is_some()) {
        (true, true) => Err(Failure::new("Error formatting: both json and template formatting are not allowed")),
        (json, template) => Ok(json || template),
    }
}

/// Prints the API's answer in the form asked for.
///
/// # Errors
/// The template cannot be carried out.
pub fn print(cx: &mut Cx, value: &Value) -> Result<u8, Failure> {
    let text = match cx.flags.some("t") {
        Some(source) => template::render(source, value)
            .map_err(|error| Failure::new(format!("Error formatting the data using template: {error}")))?,
        None => format::json(value),
    };
    cx.ui.line(text);
    Ok(0)
}
