//! What is wrong with a job, as data: asked for with `Accept: application/vnd.steppe.diagnostics+json`.
//!
//! Parse, validate, plan and register answer the same list, one entry per sentence of the text that they say
//! otherwise. An entry names the part of the job (`path`), and where the request carries the job file
//! (`JobHCL`, or `Submission` with its variables) also file, line, column and the line itself. Without one,
//! or when a server cannot read it as its author's machine did (`file()` reads nothing here), lines are 0.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use jobspec::{Diagnostic, Places, Severity};
use model::job::JobSubmission;
use model::{Problem, Sentence};

use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::routes::parse;

/// Asks for findings as JSON instead of a sentence.
pub const DIAGNOSTICS: &str = "application/vnd.steppe.diagnostics+json";

/// One sentence about a job.
#[derive(serde::Serialize)]
pub struct Finding {
    /// The parts of the job around it, from the outside in; joined they are the summary.
    within: Vec<String>,
    #[serde(flatten)]
    found: Diagnostic,
}

/// Whether the caller asks for findings as data.
pub fn wanted(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains(DIAGNOSTICS))
}

/// A list of findings as an answer.
///
/// # Errors
/// It cannot be written.
pub fn answer(status: StatusCode, found: &impl serde::Serialize) -> Answered {
    let json = serde_json::to_vec(found).map_err(|e| ApiError::internal("diagnostics cannot be written", &e))?;
    Ok((status, [(header::CONTENT_TYPE, DIAGNOSTICS)], json).into_response())
}

/// Where the parts of a job stand, when the request says what it was made from.
pub async fn places(app: &App, submission: Option<&JobSubmission>) -> Places {
    let Some(given) = submission.filter(|given| given.format == "hcl2" && !given.source.is_empty()) else {
        return Places::default();
    };
    match parse::aside(app, parse::Text::of_submission(given)).await {
        Ok(Ok(parsed)) => parsed.places,
        _ => Places::default(),
    }
}

/// Each sentence of the problems, in their order.
pub fn list(places: &Places, severity: Severity, problems: &[Problem]) -> Vec<Finding> {
    let sentences = problems.iter().flat_map(Problem::sentences);
    sentences.map(|one| Finding { found: places.of_sentence(severity, &one), within: one.within }).collect()
}

/// What is said of the job as a whole.
pub fn plain(severity: Severity, text: &str) -> Finding {
    let sentence = Sentence { detail: text.to_owned(), ..Sentence::default() };
    Finding { within: Vec::new(), found: Places::default().of_sentence(severity, &sentence) }
}

/// The refusal of a job: `text`, or the problems as data.
///
/// # Errors
/// Always, unless data is asked for.
pub async fn refuse(
    app: &App,
    headers: &HeaderMap,
    submission: Option<&JobSubmission>,
    problems: &[Problem],
    text: String,
) -> Answered {
    if !wanted(headers) {
        return Err(ApiError::bad(text));
    }
    let places = places(app, submission).await;
    answer(StatusCode::BAD_REQUEST, &list(&places, Severity::Error, problems))
}
