//! One thing that is wrong with a job, where in the job it is, and how a list of them is put into words.
//!
//! The sentence is what clients match on. Beside it, and never in it, stand the *path* and a *hint*. A path
//! names blocks and attributes as a job file does, from the job inwards: `group.web.task.api.resources.cpu`,
//! `group.web.service[0].check[1].type`; a label that is no plain word stands as `group["a.b"]`. It may name
//! what is not there (a missing argument): then the nearest part around it that is there is meant.

use std::borrow::Cow;
use std::fmt;

/// What is wrong: a sentence, or the name of a part with what is wrong within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    about: String,
    within: Vec<Problem>,
    /// From the part around it; empty when it is that part.
    path: Cow<'static, str>,
    hint: Option<String>,
}

/// One sentence of a [`Problem`], with all that is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentence {
    /// The names of the parts around it, from the outside in.
    pub within: Vec<String>,
    pub detail: String,
    /// From the job inwards; empty when it is about the job.
    pub path: String,
    /// What was expected, or meant.
    pub hint: Option<String>,
}

impl Problem {
    /// A sentence of its own.
    pub fn new(text: impl Into<String>) -> Self {
        Self { about: text.into(), within: Vec::new(), path: Cow::Borrowed(""), hint: None }
    }

    /// The same, about a part of the job.
    #[must_use]
    pub fn at(mut self, path: impl Into<Cow<'static, str>>) -> Self {
        self.path = path.into();
        self
    }

    /// Each sentence in it, in their order.
    pub fn sentences(&self) -> Vec<Sentence> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), "", &mut out);
        out
    }

    fn collect<'p>(&'p self, around: &mut Vec<&'p str>, path: &str, out: &mut Vec<Sentence>) {
        let path = join(path, &self.path);
        if self.within.is_empty() {
            out.push(Sentence {
                within: around.iter().map(|part| (*part).to_owned()).collect(),
                detail: self.about.clone(),
                path,
                hint: self.hint.clone(),
            });
            return;
        }
        let named = !self.about.is_empty();
        if named {
            around.push(&self.about);
        }
        self.within.iter().for_each(|one| one.collect(around, &path, out));
        if named {
            around.pop();
        }
    }

    /// The problems of a part, without its name.
    pub fn within(&self) -> &[Self] {
        &self.within
    }
}

fn join(outer: &str, inner: &str) -> String {
    match (outer, inner) {
        ("", inner) => inner.to_owned(),
        (outer, "") => outer.to_owned(),
        (outer, inner) => format!("{outer}.{inner}"),
    }
}

/// A labelled block as a step of a path: `group.web`, or `group["a b"]`.
pub fn labelled(block: &str, label: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !label.is_empty() && label.chars().all(plain) {
        format!("{block}.{label}")
    } else {
        format!("{block}[{label:?}]")
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
///
/// [`at`](Self::at) says what the next finding is about, and holds for that one only.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Problem>,
    path: Cow<'static, str>,
}

impl Findings {
    /// What the next finding is about.
    pub fn at(&mut self, path: impl Into<Cow<'static, str>>) -> &mut Self {
        self.path = path.into();
        self
    }

    /// Adds a sentence.
    pub fn say(&mut self, text: impl Into<String>) {
        let path = std::mem::take(&mut self.path);
        self.list.push(Problem::new(text).at(path));
    }

    /// Adds a sentence when something is so.
    pub fn when(&mut self, wrong: bool, text: impl FnOnce() -> String) {
        let path = std::mem::take(&mut self.path);
        if wrong {
            self.list.push(Problem::new(text()).at(path));
        }
    }

    /// Adds a sentence when a word is none of those that are known, and which was meant.
    pub fn unless_known(&mut self, given: &str, known: &[&str], text: impl FnOnce() -> String) {
        let wrong = !known.contains(&given);
        self.when(wrong, text);
        if wrong {
            self.hint(one_of(given, known.iter().copied()));
        }
    }

    /// Adds a sentence about a name that is none of those that are there.
    pub fn unless_there<'n>(
        &mut self,
        given: &str,
        mut there: impl Iterator<Item = &'n str> + Clone,
        text: impl FnOnce() -> String,
    ) {
        let names = there.clone();
        let wrong = there.all(|name| name != given);
        self.when(wrong, text);
        if wrong {
            self.hint(one_of(given, names));
        }
    }

    /// Says more of what was found last.
    fn hint(&mut self, hint: Option<String>) {
        if let Some(last) = self.list.last_mut() {
            last.hint = hint;
        }
    }

    /// Adds the problems of a named part; nothing when it has none.
    pub fn part(&mut self, about: impl Into<String>, within: Findings) {
        let path = std::mem::take(&mut self.path);
        if !within.list.is_empty() {
            self.list.push(Problem { about: about.into(), within: within.list, path, hint: None });
        }
    }

    /// Adds the problems of a part as they are.
    pub fn all(&mut self, within: Findings) {
        let path = std::mem::take(&mut self.path);
        self.list.extend(within.list.into_iter().map(|mut one| {
            if !path.is_empty() {
                one.path = join(&path, &one.path).into();
            }
            one
        }));
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn into_vec(self) -> Vec<Problem> {
        self.list
    }
}

/// Names that a hint lists at most.
const NAMES_MAX: usize = 12;

/// `did you mean "x"?` when one is near, or all that there are.
fn one_of<'n>(given: &str, known: impl Iterator<Item = &'n str> + Clone) -> Option<String> {
    if let Some(near) = crate::nearest(given, known.clone()) {
        return Some(format!("did you mean {near:?}?"));
    }
    let names: Vec<String> =
        known.filter(|name| !name.is_empty()).take(NAMES_MAX + 1).map(|n| format!("{n:?}")).collect();
    match names.as_slice() {
        [] => None,
        [only] => Some(format!("expected {only}")),
        names if names.len() > NAMES_MAX => None,
        names => Some(format!("expected one of {}", names.join(", "))),
    }
}
