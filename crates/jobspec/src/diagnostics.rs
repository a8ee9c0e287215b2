//! What a person is told about a job file, and where in the file.
//!
//! Inside the crate a finding is a [`Problem`]: words plus a byte [`Span`]. [`Sources`] owns the
//! texts and turns spans into lines and columns, once, when the finding leaves the crate as a
//! [`Diagnostic`]. Columns count grapheme clusters, as the reference's do.
//!
//! Two renderings exist on purpose: [`Diagnostics::reference_text`] is the plain sentence API
//! clients match on; [`Diagnostic::render`] is for a terminal and adds the line, a caret and the
//! hint. Hints never enter the reference text.

use std::fmt::{self, Write as _};

use serde::Serialize;
use unicode_segmentation::UnicodeSegmentation as _;

/// A byte range in one of the texts of a parse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub file: u32,
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(file: u32, start: usize, end: usize) -> Self {
        let clip = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { file, start: clip(start), end: clip(end) }
    }

    /// The empty range at the start of this one.
    pub fn head(self) -> Self {
        Span { end: self.start, ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// A finding before it is located. Boxed in results, so that the happy path stays small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub severity: Severity,
    pub summary: String,
    pub detail: String,
    pub hint: Option<String>,
    pub at: Option<Span>,
    /// The reference names no place for it: its text does not either.
    pub placeless: bool,
}

pub(crate) type Fallible<T> = Result<T, Box<Problem>>;

impl From<Box<Problem>> for Problem {
    fn from(boxed: Box<Problem>) -> Self {
        *boxed
    }
}

impl Problem {
    pub fn error(at: Span, summary: impl Into<String>, detail: impl Into<String>) -> Box<Self> {
        Box::new(Problem {
            severity: Severity::Error,
            summary: summary.into(),
            detail: detail.into(),
            hint: None,
            at: Some(at),
            placeless: false,
        })
    }

    pub fn nowhere(summary: impl Into<String>, detail: impl Into<String>) -> Box<Self> {
        let mut problem = Problem::error(Span::default(), summary, detail);
        problem.at = None;
        problem.placeless = true;
        problem
    }

    /// Shows a place that the reference does not name.
    pub fn shown_at(mut self: Box<Self>, at: Span) -> Box<Self> {
        self.at = Some(at);
        self
    }

    pub fn hint(mut self: Box<Self>, hint: impl Into<String>) -> Box<Self> {
        self.hint = Some(hint.into());
        self
    }

    pub fn warning(mut self: Box<Self>) -> Box<Self> {
        self.severity = Severity::Warning;
        self
    }
}

/// One line of text about the job file, located.
///
/// Lines and columns start at 1; all four are 0 when the finding belongs to no place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    pub summary: String,
    pub detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The part of the job that it is about (`group.web.count`), of a finding about the job and not its text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
    /// The whole line the finding starts on, without its line ending.
    pub snippet_line: String,
    /// The reference names no place for it, so its text does not.
    #[serde(skip)]
    pub(crate) placeless: bool,
}

impl Diagnostic {
    /// Where it is, as `file:line,column-column`, or `<nil>`.
    fn range(&self) -> String {
        if self.line == 0 || self.placeless {
            return "<nil>".to_owned();
        }
        if self.line == self.end_line {
            format!("{}:{},{}-{}", self.file, self.line, self.column, self.end_column)
        } else {
            format!("{}:{},{}-{},{}", self.file, self.line, self.column, self.end_line, self.end_column)
        }
    }

    /// Renders for a terminal: what, where, the line, a caret, the detail and the hint.
    pub fn render(&self, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let (word, code) = match self.severity {
            Severity::Error => ("error", "1;31"),
            Severity::Warning => ("warning", "1;33"),
        };
        // one without a headline is its own
        let (headline, detail) = if self.summary.is_empty() {
            (self.detail.as_str(), "")
        } else {
            (self.summary.as_str(), self.detail.as_str())
        };
        let mut out = format!("{}: {}\n", paint(code, word), paint("1", &printable(headline)));
        let gutter = self.line.to_string().len();
        if self.line > 0 {
            let (before, marked) = self.caret_columns();
            let bar = paint("1;34", "|");
            let _ = writeln!(
                out,
                "{:gutter$}{} {}:{}:{}",
                "",
                paint("1;34", "-->"),
                printable(&self.file),
                self.line,
                self.column
            );
            let _ = writeln!(out, "{:gutter$} {bar}", "");
            let _ = writeln!(out, "{} {bar} {}", paint("1;34", &self.line.to_string()), printable(&self.snippet_line));
            let _ = writeln!(out, "{:gutter$} {bar} {:before$}{}", "", "", paint(code, &"^".repeat(marked)));
        }
        for line in detail.lines() {
            let _ = writeln!(out, "{:gutter$} {} {}", "", paint("1;34", "="), printable(line));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{:gutter$} {} {}", "", paint("1;32", "hint:"), printable(hint));
        }
        out
    }

    /// How many columns precede the caret, and how many carets to draw.
    fn caret_columns(&self) -> (usize, usize) {
        let columns = self.snippet_line.graphemes(true).count();
        let before = self.column.saturating_sub(1).min(columns);
        let last = if self.end_line == self.line { self.end_column } else { columns + 1 };
        let marked = last.saturating_sub(self.column).clamp(1, columns.saturating_sub(before).max(1));
        (before, marked)
    }
}

/// Replaces control characters, so that a job file cannot drive the reader's terminal. A tab
/// becomes one blank, which keeps the caret under its column.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Everything found in one parse that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics {
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// The plain text the reference answers: one `range: summary; detail` per error.
    pub fn reference_text(&self) -> String {
        let mut out = String::new();
        for diagnostic in self.list.iter().filter(|d| d.severity == Severity::Error) {
            if !out.is_empty() {
                out.push('\n');
            }
            let _ = write!(out, "{}: {}; {}", diagnostic.range(), diagnostic.summary, diagnostic.detail);
        }
        out
    }

    /// All findings, for a terminal.
    pub fn render(&self, colour: bool) -> String {
        self.list.iter().map(|d| d.render(colour)).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reference_text())
    }
}

impl std::error::Error for Diagnostics {}

#[derive(Clone, Debug)]
struct SourceText {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

/// The texts of one parse; spans index into them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    files: Vec<SourceText>,
}

impl Sources {
    pub fn add(&mut self, name: &str, text: &str) -> u32 {
        let mut line_starts = vec![0];
        line_starts.extend(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1));
        self.files.push(SourceText { name: name.to_owned(), text: text.to_owned(), line_starts });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// Line, column (both from 1) and the text of the line.
    fn place(&self, file: u32, offset: u32) -> (usize, usize, &str) {
        let Some(source) = self.files.get(file as usize) else { return (0, 0, "") };
        let mut offset = (offset as usize).min(source.text.len());
        while !source.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = source.line_starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = source.line_starts.get(line).copied().unwrap_or(0);
        let end = source.text[start..].find('\n').map_or(source.text.len(), |at| start + at);
        let column = source.text[start..offset].graphemes(true).count() + 1;
        (line + 1, column, source.text[start..end.max(start)].trim_end_matches('\r'))
    }

    /// A range in words, for details that point at a second place.
    pub fn range(&self, span: Span) -> String {
        self.locate(&Problem::error(span, "", "")).range()
    }

    pub fn locate(&self, problem: &Problem) -> Diagnostic {
        let mut diagnostic = Diagnostic {
            severity: problem.severity,
            summary: problem.summary.clone(),
            detail: problem.detail.clone(),
            hint: problem.hint.clone(),
            path: String::new(),
            file: String::new(),
            line: 0,
            column: 0,
            end_line: 0,
            end_column: 0,
            snippet_line: String::new(),
            placeless: problem.placeless,
        };
        if let Some(span) = problem.at {
            let (line, column, snippet) = self.place(span.file, span.start);
            let (end_line, end_column, _) = self.place(span.file, span.end);
            diagnostic.file = self.files.get(span.file as usize).map_or_else(String::new, |f| f.name.clone());
            diagnostic.line = line;
            diagnostic.column = column;
            diagnostic.end_line = end_line;
            diagnostic.end_column = end_column;
            diagnostic.snippet_line = snippet.chars().take(400).collect();
        }
        diagnostic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Diagnostic {
        let mut sources = Sources::default();
        let file = sources.add("web.hcl", "job \"a\" {\n  é = \u{1b}[31m\n}\n");
        let problem =
            Problem::error(Span::new(file, 12, 14), "Unsupported argument", "Not expected.").hint("remove it");
        sources.locate(&problem)
    }

    #[test]
    fn columns_count_what_a_reader_sees() {
        let d = sample();
        assert_eq!((d.line, d.column, d.end_column), (2, 3, 4));
    }

    #[test]
    fn the_terminal_form_points_at_the_place_and_is_free_of_control_characters() {
        let text = sample().render(false);
        assert!(text.contains("--> web.hcl:2:3"), "{text}");
        assert!(text.contains("\n  |   ^\n"), "{text}");
        assert!(text.contains("hint: remove it"));
        assert!(!text.contains('\u{1b}'));
        assert!(sample().render(true).contains("\u{1b}[1;31merror"));
    }

    #[test]
    fn hints_stay_out_of_the_reference_text() {
        let all = Diagnostics { list: vec![sample()] };
        assert_eq!(all.reference_text(), "web.hcl:2,3-4: Unsupported argument; Not expected.");
    }
}
