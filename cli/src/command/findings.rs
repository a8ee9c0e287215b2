//! What the API finds wrong with a job, shown where it stands in the job file.
//!
//! Whoever sends a job made from HCL asks for findings as data ([`ACCEPT`]). An entry names a part of the
//! job; the places of the local parse say where that is, also where the file reads others of this machine.
//! A server that does not know the form answers text, which is shown as it is.

use client::public::PublicError;
use jobspec::{Places, Severity};
use model::Sentence;
use serde_json::Value;

use super::{Cx, Failure};

/// Asks for findings as data.
pub const ACCEPT: &str = "application/vnd.steppe.diagnostics+json, application/json";

/// One sentence about a job.
#[derive(serde::Deserialize)]
pub struct Finding {
    severity: String,
    #[serde(default)]
    within: Vec<String>,
    detail: String,
    #[serde(default)]
    path: String,
    hint: Option<String>,
}

impl Finding {
    pub fn is_error(&self) -> bool {
        self.severity == "error"
    }

    /// As a compiler would: the place, the line, a caret.
    pub fn render(&self, places: &Places, colour: bool) -> String {
        let severity = if self.is_error() { Severity::Error } else { Severity::Warning };
        let sentence = Sentence {
            within: self.within.clone(),
            detail: self.detail.clone(),
            path: self.path.clone(),
            hint: self.hint.clone(),
        };
        // without a path it is about the job as a whole, and that has no line
        let nowhere = Places::default();
        let places = if self.path.is_empty() && !self.is_error() { &nowhere } else { places };
        places.of_sentence(severity, &sentence).render(colour)
    }
}

/// The findings of an answer that is a list of them.
pub fn of_value(value: &Value) -> Option<Vec<Finding>> {
    value.is_array().then(|| serde_json::from_value(value.clone()).ok()).flatten()
}

/// The failure of a job that was refused: all findings are shown, each in its place.
pub fn failure(cx: &mut Cx, places: &Places, doing: &str, error: &PublicError) -> Failure {
    let found = match error {
        PublicError::Status { body, .. } => serde_json::from_str::<Value>(body).ok().and_then(|value| of_value(&value)),
        _ => None,
    };
    match found {
        Some(found) if !found.is_empty() => {
            cx.ui.note(format!("{doing}: {}\n", counted(found.len())));
            show(cx, places, &found);
            // All is said.
            Failure::new("")
        }
        _ => Failure::api(doing, error),
    }
}

fn counted(number: usize) -> String {
    if number == 1 { "1 error occurred:".to_owned() } else { format!("{number} errors occurred:") }
}

/// Writes findings beside the results, an empty line between them.
pub fn show(cx: &mut Cx, places: &Places, found: &[Finding]) {
    let rendered: Vec<String> = found.iter().map(|one| one.render(places, cx.ui.colour_err)).collect();
    cx.ui.note(rendered.join("\n").trim_end());
}
