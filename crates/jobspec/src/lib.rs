//! Job files: HCL2 text, in native or JSON syntax, to a job.
//!
//! ```text
//! text ─ scan ─ lower ─┐                       ┌─ eval ─ functions
//!                      ├─ ast ─ variables ─ decode ─ normalize ─ wire JSON ─ model::Job
//! text ─ json_syntax ──┘                       └─ opaque
//! ```
//!
//! [`parse`] is a pure function of the text and its [`Inputs`]: no clock, no randomness, no disk
//! (a caller that wants `file()` to work lends a [`FileReader`]). It answers a job that is parsed
//! and not yet canonicalized, or every finding with its place in the text. Nothing it is given can
//! make it panic, hang or take memory without bound; the bounds are in [`limits`].
//!
//! It needs at most [`STACK_BYTES`] of stack.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod ast;
mod compose;
mod decode;
mod diagnostics;
mod doubt;
mod duration;
mod dynamic;
mod eval;
mod format;
mod functions;
mod json_syntax;
pub mod limits;
mod locals;
mod lower;
mod normalize;
mod number;
mod opaque;
mod operators;
mod places;
mod scan;
mod schema;
mod template_text;
mod type_expr;
mod value;
mod variables;
mod write;

use std::collections::BTreeMap;

use serde::Deserialize as _;

pub use compose::{Composed, compose};
pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use format::format;
pub use places::Places;
pub use write::{Written, write};

use crate::ast::Body;
use crate::decode::{Decoder, Instance};
use crate::diagnostics::{Problem, Sources, Span};
use crate::doubt::Doubt;
use crate::eval::{Evaluator, Scope};
use crate::places::PlaceId;
use crate::variables::Variables;

/// A job file: what to call it in messages, and its text.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

/// The name the API gives a job file in its messages.
pub const API_FILE_NAME: &str = "input.hcl";

/// The stack [`parse`] may use on the deepest input, in an unoptimized build. Optimized, it does
/// with a quarter of this.
pub const STACK_BYTES: usize = 4 * 1024 * 1024;

/// Everything besides the text that decides what a job file means.
#[derive(Default)]
pub struct Inputs<'a> {
    /// Name and text of variable files, weakest first.
    pub var_files: Vec<(String, String)>,
    /// `-var` values by name, weakest first.
    pub vars: Vec<(String, String)>,
    /// Environment variables; only those whose name starts with `NOMAD_VAR_` or, stronger, `STEPPE_VAR_`
    /// count.
    pub env: Vec<(String, String)>,
    /// Whether a value for a variable nobody declared is an error.
    pub strict_vars: bool,
    /// The time of the parse, for functions that would read a clock.
    pub now_unix_ns: i64,
    /// Where random functions get their randomness.
    pub seed: u64,
    /// `None`, as over the API, refuses functions that read files.
    pub files: Option<&'a dyn FileReader>,
}

/// How a job file reaches the disk of the person who submits it.
///
/// Paths are as written in the file; a relative one is meant relative to the caller's base
/// directory. An error is a sentence without a full stop.
pub trait FileReader {
    /// # Errors
    /// When the file cannot be read, or is larger than the caller allows.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
    /// Whether this is a regular file.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn exists(&self, path: &str) -> Result<bool, String>;
    /// Files under `path` whose relative path matches; `**` crosses directories.
    ///
    /// # Errors
    /// When the pattern is malformed or the directory cannot be read.
    fn glob(&self, path: &str, pattern: &str) -> Result<Vec<String>, String>;
    /// # Errors
    /// When there is no base directory to start from.
    fn absolute(&self, path: &str) -> Result<String, String>;
    /// The home directory, without a slash at its end.
    fn home(&self) -> Option<String>;
}

/// A job file that was understood.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub job: model::job::Job,
    /// The job in the wire's parse shape: every field present, `null` where nothing was said.
    pub json: serde_json::Value,
    pub warnings: Vec<Diagnostic>,
    /// Where in the text each part of the job stands.
    pub places: Places,
}

/// Parses a job file.
///
/// # Errors
/// The first mistake of the text itself; or every mistake of meaning, in the order of the reference:
/// what stands outside the job, variables, locals, the job. What follows from another one is left out.
pub fn parse(source: Source<'_>, inputs: &Inputs<'_>) -> Result<Parsed, Diagnostics> {
    let mut sources = Sources::default();
    let (json, warnings, places) = match parse_json(source, inputs, &mut sources) {
        Ok(found) => found,
        Err(problems) => return Err(Diagnostics { list: problems.iter().map(|p| sources.locate(p)).collect() }),
    };
    let job = model::job::Job::deserialize(&json).map_err(|error| {
        let problem = Problem::nowhere("Unsuitable job", format!("The job does not fit the job model: {error}."));
        Diagnostics { list: vec![sources.locate(&problem)] }
    })?;
    let warnings = warnings.iter().map(|p| sources.locate(p)).collect();
    Ok(Parsed { job, json, warnings, places: places.with_sources(sources) })
}

type Problems = Vec<Problem>;

fn parse_json(
    source: Source<'_>,
    inputs: &Inputs<'_>,
    sources: &mut Sources,
) -> Result<(serde_json::Value, Problems, Places), Problems> {
    if source.text.len() > limits::SOURCE_BYTES {
        let file = sources.add(source.name, "");
        let detail = format!("A job file may have at most {} bytes.", limits::SOURCE_BYTES);
        return Err(vec![*Problem::error(Span::new(file, 0, 0), "Job file too large", detail)]);
    }
    // A byte order mark is no text. Places are counted without it, as an editor does.
    let source = Source { text: source.text.strip_prefix('\u{feff}').unwrap_or(source.text), ..source };
    let file = sources.add(source.name, source.text);
    let one = |problem: Box<Problem>| vec![*problem];
    let body = if json_syntax::is_json(source.text) {
        json_syntax::body(file, source.text, &schema::ROOT)
    } else {
        lower::body(file, source.text)
    }
    .map_err(one)?;
    let evaluator = Evaluator::new(inputs);
    let mut problems = Vec::new();
    let job = top_level(&body, file, sources, &mut problems);
    let mut doubt = Doubt::default();
    let mut variables = Variables::declare(&evaluator, sources, &body, &mut doubt, &mut problems);
    variables.assign(&evaluator, sources, &mut doubt, &mut problems);
    let var = variables.resolve(&evaluator, sources, &mut doubt, &mut problems);
    let mut names = BTreeMap::from([("var".to_owned(), var)]);
    locals::evaluate(&evaluator, sources, &body, &mut names, &mut doubt, &mut problems);
    let warnings = variables.warnings;
    let Some(job) = job else { return Err(problems) };
    let mut decoder = Decoder::new(&evaluator, sources, &doubt);
    let place = decoder.places.note(PlaceId::NONE, "job", None, job.header);
    let json = decoder.body(&schema::job::JOB, job, place, &Scope::root(names));
    let places = std::mem::take(&mut decoder.places);
    problems.extend(decoder.problems);
    problems.truncate(limits::DIAGNOSTICS);
    if problems.is_empty() { Ok((json, warnings, places)) } else { Err(problems) }
}

/// Checks what stands outside the job, and finds the job.
fn top_level<'b>(body: &'b Body, file: u32, sources: &Sources, problems: &mut Problems) -> Option<Instance<'b>> {
    for attribute in body.attributes.iter().take(limits::DIAGNOSTICS) {
        problems.push(*Problem::error(
            attribute.name_span,
            "Unsupported argument",
            format!("An argument named {:?} is not expected here.", attribute.name),
        ));
    }
    let known = ["job", "variable", "variables", "locals"];
    for block in body.blocks.iter().filter(|block| !known.contains(&block.kind.as_str())).take(limits::DIAGNOSTICS) {
        let mut detail = format!("Blocks of type {:?} are not expected here.", block.kind);
        if let Some(near) = model::nearest(&block.kind, known.into_iter()) {
            detail = format!("{detail} Did you mean {near:?}?");
        }
        problems.push(*Problem::error(block.kind_span, "Unsupported block type", detail));
    }
    let mut jobs = body.blocks.iter().filter(|block| block.kind == "job");
    let job = jobs.next();
    if let (Some(first), Some(second)) = (job, jobs.next()) {
        problems.push(*Problem::error(
            second.header,
            "Duplicate job block",
            format!(
                "Only one block of type \"job\" is allowed. Previous definition was at {}.",
                sources.range(first.header)
            ),
        ));
    }
    match job {
        Some(job) if job.labels.len() != 1 => {
            let (summary, detail) = if job.labels.is_empty() {
                ("Missing name for job", "All job blocks must have 1 labels (name).")
            } else {
                ("Extraneous label for job", "Only 1 labels (name) are expected for job blocks.")
            };
            problems.push(*Problem::error(job.header, summary, detail));
        }
        None if problems.is_empty() => {
            let missing = Problem::nowhere("Missing job block", "A job block is required");
            problems.push(*missing.shown_at(Span::new(file, 0, 0)));
        }
        _ => {}
    }
    job.filter(|job| job.labels.len() == 1).map(Instance::from)
}
