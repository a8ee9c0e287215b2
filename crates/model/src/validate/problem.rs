//! One thing that is wrong with a job, and how a list of them is put into words.

use std::fmt;

/// What is wrong: a sentence, or the name of a part with what is wrong within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    about: String,
    within: Vec<Problem>,
}

impl Problem {
    /// A sentence of its own.
    pub fn new(text: impl Into<String>) -> Self {
        Self { about: text.into(), within: Vec::new() }
    }

    /// Each sentence in it, with the names of the parts around it.
    pub fn sentences(&self) -> Vec<(Vec<String>, String)> {
        if self.within.is_empty() {
            return vec![(Vec::new(), self.about.clone())];
        }
        let mut out: Vec<_> = self.within.iter().flat_map(Self::sentences).collect();
        if !self.about.is_empty() {
            out.iter_mut().for_each(|(around, _)| around.insert(0, self.about.clone()));
        }
        out
    }

    /// The problems of a part, without its name.
    pub fn within(&self) -> &[Self] {
        &self.within
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.about)?;
        if !self.within.is_empty() {
            if !self.about.is_empty() {
                f.write_str(": ")?;
            }
            f.write_str(&report(&self.within))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// All problems as one text: a headline with their number, one line each, an empty line at the end.
/// The form is what clients of the compatible interface print and match.
pub fn report(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return String::new();
    }
    let noun = if problems.len() == 1 { "error" } else { "errors" };
    let lines: Vec<String> = problems.iter().map(|problem| format!("\t* {problem}")).collect();
    format!("{} {noun} occurred:\n{}\n\n", problems.len(), lines.join("\n"))
}

/// All warnings as one text; empty when there are none.
pub fn report_warnings(warnings: &[String]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let noun = if warnings.len() == 1 { "warning" } else { "warnings" };
    let lines: Vec<String> = warnings.iter().map(|warning| format!("* {warning}")).collect();
    format!("{} {noun}:\n\n{}", warnings.len(), lines.join("\n"))
}

/// Collects problems while a part is looked through.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Problem>);

impl Findings {
    /// Adds a sentence.
    pub fn say(&mut self, text: impl Into<String>) {
        self.0.push(Problem::new(text));
    }

    /// Adds a sentence when something is so.
    pub fn when(&mut self, wrong: bool, text: impl FnOnce() -> String) {
        if wrong {
            self.0.push(Problem::new(text()));
        }
    }

    /// Adds the problems of a named part; nothing when it has none.
    pub fn part(&mut self, about: impl Into<String>, within: Findings) {
        if !within.0.is_empty() {
            self.0.push(Problem { about: about.into(), within: within.0 });
        }
    }

    /// Adds the problems of a part as they are.
    pub fn all(&mut self, within: Findings) {
        self.0.extend(within.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}
