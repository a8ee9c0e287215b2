//! Where in the text each part of a parsed job stands.
//!
//! The decoder notes every block and attribute it takes in, under the block around it, in the order of the
//! text. A path of [`model::Problem`] (`group.web.task.api.resources.cpu`) is then walked down from the job.
//!
//! What a person is to look at is often not there: a missing argument, or a value that a block further up
//! gave. So a path ends at the nearest part around it that is there, and where the job lets an inner part
//! take something over from an outer one (`update`, `restart`, `vault`, …), the outer one is looked at, too:
//! the reading that leaves least of the path unread wins, the literal one among equals.
//!
//! A job file of a thousand groups notes some tens of thousands of parts; past [`PLACES_MAX`] nothing more is
//! noted, and paths end earlier.

use crate::diagnostics::{Diagnostic, Problem, Severity, Sources, Span};

/// Parts noted of one job file: at most some 10 MB.
const PLACES_MAX: usize = 120_000;
/// What a group takes over from its job, and a task from its group or job.
const INHERITED: [&str; 7] = ["update", "restart", "reschedule", "migrate", "vault", "secret", "task"];

/// A block, an attribute, or an entry of a map.
#[derive(Clone, Debug)]
struct Place {
    parent: u32,
    /// As in the file; empty for an entry of a map, whose key is the label.
    name: &'static str,
    label: Option<Box<str>>,
    span: Span,
}

/// The places of one job.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The first one is the job.
    list: Vec<Place>,
    /// Numbers in `list`, by parent, those of one parent in the order of the text; built once all are noted.
    by_parent: Vec<u32>,
    sources: Sources,
}

/// A block that is being decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaceId(u32);

impl PlaceId {
    /// Of what is not noted.
    pub const NONE: Self = Self(u32::MAX);
}

impl Places {
    pub(crate) fn note(&mut self, parent: PlaceId, name: &'static str, label: Option<&str>, span: Span) -> PlaceId {
        let is_root = self.list.is_empty();
        if self.list.len() >= PLACES_MAX || (parent == PlaceId::NONE && !is_root) {
            return PlaceId::NONE;
        }
        self.list.push(Place { parent: parent.0, name, label: label.map(Box::from), span });
        u32::try_from(self.list.len() - 1).map_or(PlaceId::NONE, PlaceId)
    }

    /// Gives a block the name that its body says.
    pub(crate) fn label(&mut self, place: PlaceId, label: &str) {
        if let Some(place) = self.list.get_mut(place.0 as usize) {
            place.label = Some(label.into());
        }
    }

    /// Nothing is noted from here on.
    pub(crate) fn with_sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self.by_parent = (0_u32..).zip(&self.list).skip(1).map(|(at, _)| at).collect();
        self.by_parent.sort_by_key(|at| self.list[*at as usize].parent);
        self
    }

    /// A finding about a part of the job, with its place in the text.
    pub fn diagnostic(
        &self,
        severity: Severity,
        path: &str,
        summary: &str,
        detail: &str,
        hint: Option<&str>,
    ) -> Diagnostic {
        let problem = Problem {
            severity,
            summary: summary.to_owned(),
            detail: detail.to_owned(),
            hint: hint.map(str::to_owned),
            at: self.span(path),
            placeless: false,
        };
        Diagnostic { path: path.to_owned(), ..self.sources.locate(&problem) }
    }

    /// Each sentence of the findings, with its place in the text.
    pub fn diagnostics(&self, severity: Severity, problems: &[model::Problem]) -> Vec<Diagnostic> {
        problems.iter().flat_map(model::Problem::sentences).map(|one| self.of_sentence(severity, &one)).collect()
    }

    /// The parts around a sentence are its headline.
    pub fn of_sentence(&self, severity: Severity, one: &model::Sentence) -> Diagnostic {
        self.diagnostic(severity, &one.path, &one.within.join(": "), &one.detail, one.hint.as_deref())
    }

    fn span(&self, path: &str) -> Option<Span> {
        if self.list.is_empty() {
            return None;
        }
        let steps = steps(path);
        let mut best = (usize::MAX, 0);
        for reading in readings(&steps) {
            let (left, place) = self.walk(&reading);
            if left < best.0 {
                best = (left, place);
            }
        }
        self.list.get(best.1 as usize).map(|place| place.span)
    }

    /// As far down as the steps lead: how many are left, and the place reached.
    fn walk(&self, steps: &[Step]) -> (usize, u32) {
        let (mut at, mut rest) = (0, steps);
        while let Some((first, after)) = rest.split_first() {
            let Some((place, used)) = self.child(at, &first.text, after) else { break };
            at = place;
            rest = &after[used..];
        }
        (rest.len(), at)
    }

    fn children(&self, parent: u32) -> impl Iterator<Item = (u32, &Place)> {
        let of = |at: &u32| self.list[*at as usize].parent;
        let begin = self.by_parent.partition_point(|at| of(at) < parent);
        let end = self.by_parent.partition_point(|at| of(at) <= parent);
        self.by_parent[begin..end].iter().map(|at| (*at, &self.list[*at as usize]))
    }

    /// The child of a name; the steps after it may be its label and its number among those alike.
    fn child(&self, parent: u32, name: &str, after: &[Step]) -> Option<(u32, usize)> {
        let children = || self.children(parent);
        let alike = |label: Option<&str>| {
            let label = label.map(str::to_owned);
            children().filter(move |(_, place)| {
                place.name == name && (label.is_none() || place.label.as_deref() == label.as_deref())
            })
        };
        if let Some(label) = after.first().filter(|step| !step.number)
            && alike(Some(&label.text)).next().is_some()
        {
            let nth = after.get(1).and_then(Step::nth);
            let found = alike(Some(&label.text)).nth(nth.unwrap_or(0))?;
            return Some((found.0, 1 + usize::from(nth.is_some())));
        }
        let nth = after.first().and_then(Step::nth);
        if let Some((place, _)) = alike(None)
            .filter(|(_, place)| nth.is_some() || after.is_empty() || place.label.is_none())
            .nth(nth.unwrap_or(0))
        {
            return Some((place, usize::from(nth.is_some())));
        }
        let entry = children().find(|(_, place)| place.name.is_empty() && place.label.as_deref() == Some(name));
        entry.map(|(place, _)| (place, 0))
    }
}

/// One step of a path: `group`, `web`, or `[1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    text: String,
    number: bool,
}

impl Step {
    fn nth(&self) -> Option<usize> {
        self.number.then(|| self.text.parse().ok()).flatten()
    }
}

/// `a.b[1].c["d e"]`, step by step. Never fails: paths are our own.
fn steps(path: &str) -> Vec<Step> {
    let mut out = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix("[\"") {
            let (text, after) = quoted(inner);
            out.push(Step { text, number: false });
            rest = after.strip_prefix(']').unwrap_or(after);
        } else if let Some(inner) = rest.strip_prefix('[') {
            let (number, after) = inner.split_once(']').unwrap_or((inner, ""));
            out.push(Step { text: number.to_owned(), number: true });
            rest = after;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if !word.is_empty() {
                out.push(Step { text: word.to_owned(), number: false });
            }
            rest = after;
        }
    }
    out
}

/// The text up to the closing quote, as Rust writes it, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, '0')) => out.push('\0'),
                Some((_, other)) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
    (out, "")
}

/// The path itself, and what it means where a part was taken over from further out.
fn readings(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut out = vec![steps.to_vec()];
    let outer = |steps: &[Step], block: &str| -> Option<Vec<Step>> {
        let inner = steps.get(2).filter(|step| INHERITED.contains(&step.text.as_str()))?;
        (steps[0].text == block && !inner.number).then(|| steps[2..].to_vec())
    };
    if let Some(of_job) = outer(steps, "group") {
        out.push(of_job);
    }
    // of the group, and of the job
    if let Some(within) = steps.get(2..).filter(|_| steps[0].text == "group")
        && let Some(of_group) = outer(within, "task")
    {
        out.push(steps[..2].iter().cloned().chain(of_group.clone()).collect());
        out.push(of_group);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str) -> Vec<String> {
        steps(path).into_iter().map(|step| if step.number { format!("#{}", step.text) } else { step.text }).collect()
    }

    #[test]
    fn a_path_is_read_step_by_step() {
        assert_eq!(texts("group.web.service[1].check[0]"), ["group", "web", "service", "#1", "check", "#0"]);
        assert_eq!(texts(r#"group["a.\"b"].task["c d"][1].env"#), ["group", "a.\"b", "task", "c d", "#1", "env"]);
        assert_eq!(texts(""), Vec::<String>::new());
        for odd in ["[", "[\"", "a[", "..", "]", "a[\"\\"] {
            let _ = steps(odd);
        }
    }

    #[test]
    fn what_is_taken_over_is_read_further_out_too() {
        let read = |path: &str| readings(&steps(path)).len();
        assert_eq!(read("group.web.update.canary"), 2);
        assert_eq!(read("group.web.task.api.vault"), 4);
        assert_eq!(read("group.web.count"), 1);
        assert_eq!(read("group"), 1);
    }
}
