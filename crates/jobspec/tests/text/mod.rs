//! Job files as text, and what the parser makes of them.
#![allow(dead_code, reason = "not every test file needs all of it")]

use jobspec::{Inputs, Source};
use serde_json::Value;

/// The parsed job as JSON, or the refusal in the reference's form.
pub fn with(inputs: &Inputs<'_>, text: &str) -> Result<Value, String> {
    jobspec::parse(Source { name: "a.hcl", text }, inputs)
        .map(|parsed| parsed.json)
        .map_err(|problems| problems.reference_text())
}

pub fn parse(text: &str) -> Result<Value, String> {
    with(&Inputs { strict_vars: true, ..Inputs::default() }, text)
}

pub fn in_job(inner: &str) -> String {
    format!("job \"j\" {{\n{inner}\n}}\n")
}
