//! What is wrong with a job, as data: asked for with `Accept: application/vnd.steppe.diagnostics+json`.
//!
//! Parse, validate, plan and register answer the same list, one entry per sentence of the text that they say
//! otherwise. An entry names the part of the job (`path`), and where the request carries the job file
//! (`JobHCL`, or `Submission` with its variables) also file, line, column and the line itself. Without one,
//! or when a server cannot read it as its author's machine did (`file()` reads nothing here), lines are 0.
//! One answer has at most [`FINDINGS_MAX`] of them, and one more that says how many are left out; what the parser itself
//! finds ends at `jobspec`'s `DIAGNOSTICS`.

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

/// Findings of one answer; a job of 2 MB can have tens of thousands.
const FINDINGS_MAX: usize = 100;

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

/// The findings of one answer, the worst first.
#[derive(Default)]
pub struct Findings {
    listed: Vec<Finding>,
    /// How many are left out, and how bad the first of them is.
    more: Option<(usize, Severity)>,
}

impl Findings {
    pub fn of(places: &Places, severity: Severity, problems: &[Problem]) -> Self {
        let mut all = Self::default();
        all.add(places, severity, problems);
        all
    }

    /// Each sentence of the problems, in their order.
    pub fn add(&mut self, places: &Places, severity: Severity, problems: &[Problem]) {
        for one in problems.iter().flat_map(Problem::sentences) {
            self.push(severity, || Finding { found: places.of_sentence(severity, &one), within: one.within });
        }
    }

    /// What is said of the job as a whole.
    pub fn add_plain(&mut self, severity: Severity, text: &str) {
        self.push(severity, || plain(severity, text.to_owned()));
    }

    /// Places of what is left out are not looked for.
    fn push(&mut self, severity: Severity, finding: impl FnOnce() -> Finding) {
        if self.listed.len() < FINDINGS_MAX {
            self.listed.push(finding());
        } else {
            self.more.get_or_insert((0, severity)).0 += 1;
        }
    }

    /// # Errors
    /// It cannot be written.
    pub fn answer(mut self, status: StatusCode) -> Answered {
        if let Some((more, severity)) = self.more {
            self.listed.push(plain(severity, format!("{more} more findings are not listed")));
        }
        answer(status, &self.listed)
    }
}

fn plain(severity: Severity, detail: String) -> Finding {
    let sentence = Sentence { detail, ..Sentence::default() };
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
    Findings::of(&places, Severity::Error, problems).answer(StatusCode::BAD_REQUEST)
}
