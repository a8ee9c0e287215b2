//! A pass over the tokens of native syntax, before the real parser sees the text.
//!
//! It answers four questions the parser below cannot: is the text within limits that keep that
//! parser fast; would its tree fit into memory; what is left unclosed, and where was it opened; and is one of the two layout
//! rules broken that people break most (a quoted string over several lines, a block inside a
//! one-line block). It knows brackets, strings, templates, heredocs and comments, no grammar.
//!
//! The tree is guessed from the tokens ([`weight`]): what the parser below and our own tree need of
//! memory for each, measured on files of nothing else (`tests/hostile.rs`), rounded up.
//!
//! It is linear in the text and keeps a stack bounded by [`limits::NESTING`].

use hcl_primitives::ident::{is_id_continue, is_id_start};

use crate::diagnostics::{Fallible, Problem, Span};
use crate::limits;

const TOO_DEEP: &str = "Too deeply nested";
const TOO_LARGE: &str = "Object too large";
const TOO_HEAVY: &str = "Job file too large";

/// Bytes of memory that a token's part of the tree takes.
mod weight {
    pub const BRACE: u64 = 2200;
    pub const BRACKET: u64 = 700;
    pub const PAREN: u64 = 800;
    pub const QUOTE: u64 = 300;
    pub const WORD: u64 = 250;
    pub const COMMA: u64 = 300;
    /// `=` and `:`, of an attribute or an item.
    pub const SET: u64 = 450;
    pub const OPERATOR: u64 = 500;
    pub const INTERPOLATION: u64 = 700;
    pub const DIRECTIVE: u64 = 1500;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Block,
    Object,
    Bracket,
    Paren,
    Quote,
    /// Template text without quotes: a heredoc, or a string of JSON syntax.
    Plain,
    Template,
}

struct Frame {
    open: Open,
    at: usize,
    /// Separators seen, of an object.
    items: usize,
}

struct Scan<'a> {
    file: u32,
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Frame>,
    /// The last token that was not white space, and where it is.
    last: (u8, usize),
    object_work: usize,
    /// Of the tree so far.
    weight: u64,
    /// Opened on this line, read when the line ends.
    heredoc: Option<(usize, String)>,
    /// How many heredocs this text is inside of.
    inside: usize,
}

pub(crate) fn check(file: u32, text: &str) -> Fallible<()> {
    Scan::new(file, text, 0).run().map(|_| ())
}

/// The same for template text that has no quotes around it. The answer is what its tree weighs.
pub(crate) fn check_template(file: u32, text: &str, inside: usize) -> Fallible<u64> {
    let mut scan = Scan::new(file, text, inside);
    scan.push(Open::Plain, 0, 0)?;
    scan.run()
}

/// Adds to what a text weighs.
pub(crate) fn weigh(sum: &mut u64, more: u64, at: Span) -> Fallible<()> {
    *sum += more;
    if *sum <= limits::TREE {
        return Ok(());
    }
    Err(Problem::error(at, TOO_HEAVY, "The blocks and expressions of the file are too many to be read."))
}

impl<'a> Scan<'a> {
    fn new(file: u32, text: &'a str, inside: usize) -> Self {
        Scan {
            file,
            text,
            bytes: text.as_bytes(),
            at: 0,
            stack: Vec::new(),
            last: (b'\n', 0),
            object_work: 0,
            weight: 2 * text.len() as u64,
            heredoc: None,
            inside,
        }
    }

    fn run(mut self) -> Fallible<u64> {
        while self.at < self.bytes.len() {
            let at = self.span(self.at, self.at + 1);
            weigh(&mut self.weight, 0, at)?;
            match self.stack.last().map(|frame| frame.open) {
                Some(Open::Quote) => self.in_string()?,
                Some(Open::Plain) => self.in_plain()?,
                _ => self.in_code()?,
            }
        }
        self.finish()?;
        Ok(self.weight)
    }

    fn in_plain(&mut self) -> Fallible<()> {
        match &self.bytes[self.at..] {
            [b'$', b'$', b'{', ..] | [b'%', b'%', b'{', ..] => self.at += 3,
            [sign @ (b'$' | b'%'), b'{', ..] => self.open_template(*sign)?,
            _ => self.at += 1,
        }
        Ok(())
    }

    fn open_template(&mut self, sign: u8) -> Fallible<()> {
        self.weight += if sign == b'$' { weight::INTERPOLATION } else { weight::DIRECTIVE };
        self.push(Open::Template, self.at, 2)?;
        self.last = (b'{', self.at);
        self.at += 2;
        Ok(())
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.file, start, end)
    }

    fn push(&mut self, open: Open, at: usize, width: usize) -> Fallible<()> {
        if self.stack.len() >= limits::NESTING {
            return Err(self.too_deep(at, width));
        }
        self.stack.push(Frame { open, at, items: 0 });
        Ok(())
    }

    fn in_string(&mut self) -> Fallible<()> {
        let rest = &self.bytes[self.at..];
        match rest {
            [b'\\', _, ..] => self.at += 2,
            [b'$', b'$', b'{', ..] | [b'%', b'%', b'{', ..] => self.at += 3,
            [sign @ (b'$' | b'%'), b'{', ..] => self.open_template(*sign)?,
            [b'"', ..] => {
                self.stack.pop();
                self.last = (b'"', self.at);
                self.at += 1;
            }
            [b'\n', ..] => {
                let start = self.stack.last().map_or(self.at, |frame| frame.at + 1);
                return Err(Problem::error(
                    self.span(start, self.at),
                    "Invalid multi-line string",
                    "Quoted strings may not be split over multiple lines. To produce a multi-line string, either \
                     use the \\n escape to represent a newline character or use the \"heredoc\" multi-line template \
                     syntax.",
                ));
            }
            _ => self.at += 1,
        }
        Ok(())
    }

    fn in_code(&mut self) -> Fallible<()> {
        let start = self.at;
        match &self.bytes[start..] {
            [b'\n', ..] => {
                self.at += 1;
                if let Some((opened, delimiter)) = self.heredoc.take() {
                    return self.skip_heredoc(opened, &delimiter);
                }
                self.line_end();
            }
            [b' ' | b'\t' | b'\r', ..] => self.at += 1,
            [b'#', ..] | [b'/', b'/', ..] => {
                self.at = self.text[start..].find('\n').map_or(self.bytes.len(), |n| start + n);
            }
            [b'/', b'*', ..] => {
                let Some(end) = self.text[start + 2..].find("*/") else {
                    return Err(Problem::error(
                        self.span(start, start + 2),
                        "Unterminated comment",
                        "There is no closing \"*/\" for this comment before the end of the file.",
                    ));
                };
                self.at = start + 2 + end + 2;
            }
            [b'<', b'<', ..] if self.heredoc.is_none() => self.open_heredoc(),
            [b'"', ..] => {
                self.check_one_line(start)?;
                self.weight += weight::QUOTE;
                self.push(Open::Quote, start, 1)?;
                self.at += 1;
            }
            [b'{', ..] => {
                let open = self.brace_kind();
                if open == Open::Block {
                    self.check_one_line(start)?;
                }
                self.push(open, start, 1)?;
                self.token(b'{', 1);
            }
            [b'[', ..] => {
                self.push(Open::Bracket, start, 1)?;
                self.token(b'[', 1);
            }
            [b'(', ..] => {
                self.push(Open::Paren, start, 1)?;
                self.token(b'(', 1);
            }
            [b'}' | b']' | b')', ..] => self.close(start)?,
            [b',', ..] => {
                self.count_item(start)?;
                self.token(b',', 1);
            }
            [c, ..] if c.is_ascii_alphabetic() || *c == b'_' || *c >= 0x80 => self.word(),
            [c, ..] => {
                let c = *c;
                self.token(c, 1);
            }
            [] => {}
        }
        Ok(())
    }

    fn token(&mut self, kind: u8, width: usize) {
        self.weight += match kind {
            b'{' => weight::BRACE,
            b'[' => weight::BRACKET,
            b'(' => weight::PAREN,
            b',' => weight::COMMA,
            b'=' | b':' => weight::SET,
            b'}' | b']' | b')' | b'0'..=b'9' => 0,
            _ => weight::OPERATOR,
        };
        self.last = (kind, self.at);
        self.at += width;
    }

    fn word(&mut self) {
        self.weight += weight::WORD;
        self.last = (b'a', self.at);
        let word = is_id_continue;
        let rest = &self.text[self.at..];
        self.at += rest.find(|c: char| !word(c)).unwrap_or(rest.len()).max(1);
        while !self.text.is_char_boundary(self.at) {
            self.at += 1;
        }
    }

    /// A brace after a name or a label opens a block; anything else opens an object.
    fn brace_kind(&self) -> Open {
        let in_body = matches!(self.stack.last().map(|f| f.open), None | Some(Open::Block));
        if in_body && matches!(self.last.0, b'a' | b'"') { Open::Block } else { Open::Object }
    }

    fn line_end(&mut self) {
        // In an object a line may end an item; counting lines over-counts harmlessly little.
        if let Some(Frame { open: Open::Object, items, .. }) = self.stack.last_mut()
            && !matches!(self.last.0, b',' | b'{')
        {
            *items += 1;
        }
        if matches!(self.stack.last().map(|f| f.open), None | Some(Open::Block)) {
            self.last = (b'\n', self.at);
        }
    }

    fn count_item(&mut self, at: usize) -> Fallible<()> {
        if let Some(Frame { open: Open::Object, items, .. }) = self.stack.last_mut() {
            *items += 1;
            if *items > limits::OBJECT_ITEMS {
                return Err(self.too_many_items(at));
            }
        }
        Ok(())
    }

    fn too_many_items(&self, at: usize) -> Box<Problem> {
        Problem::error(
            self.span(at, at + 1),
            TOO_LARGE,
            format!("An object expression may have at most {} items.", limits::OBJECT_ITEMS),
        )
    }

    fn close(&mut self, at: usize) -> Fallible<()> {
        let closing = self.bytes[at];
        let fits = |open: Open| match open {
            Open::Block | Open::Object | Open::Template => closing == b'}',
            Open::Bracket => closing == b']',
            Open::Paren => closing == b')',
            Open::Quote | Open::Plain => false,
        };
        // A stray or mismatched closer is the grammar's to report.
        if let Some(frame) = self.stack.pop_if(|frame| fits(frame.open)) {
            if frame.open == Open::Object {
                self.object_work += frame.items * frame.items;
                if frame.items > limits::OBJECT_ITEMS || self.object_work > limits::OBJECT_WORK {
                    return Err(self.too_many_items(frame.at));
                }
            }
            if frame.open == Open::Template {
                // Back inside the string or heredoc that holds it.
                self.at += 1;
                return Ok(());
            }
        }
        self.token(closing, 1);
        Ok(())
    }

    fn open_heredoc(&mut self) {
        let start = self.at;
        let mut name = start + 2;
        if self.bytes.get(name) == Some(&b'-') {
            name += 1;
        }
        let word = is_id_continue;
        let rest = &self.text[name..];
        let end = name + rest.find(|c: char| !word(c)).unwrap_or(rest.len());
        self.last = (b'<', start);
        if end > name {
            self.heredoc = Some((start, self.text[name..end].to_owned()));
            self.at = end;
        } else {
            self.at = start + 2;
        }
    }

    fn skip_heredoc(&mut self, opened: usize, delimiter: &str) -> Fallible<()> {
        let body = self.at;
        while self.at < self.bytes.len() {
            let end = self.text[self.at..].find('\n').map_or(self.bytes.len(), |n| self.at + n);
            let line = self.text[self.at..end].trim();
            // A list may go on after the delimiter on the same line.
            if line.strip_prefix(delimiter).is_some_and(|rest| !rest.starts_with(is_id_continue)) {
                let indent = self.text[self.at..end].len() - self.text[self.at..end].trim_start().len();
                let text = &self.text[body..self.at];
                self.at += indent + delimiter.len();
                return self.check_heredoc(body, text);
            }
            self.at = (end + 1).min(self.bytes.len());
        }
        Err(Problem::error(
            self.span(opened, opened + 2 + delimiter.len()),
            "Unterminated heredoc",
            format!(
                "There is no line holding only the end marker {delimiter:?} of this heredoc before the end of the file."
            ),
        ))
    }

    /// Keeps what a heredoc interpolates within limits; its grammar is not judged here.
    fn check_heredoc(&mut self, start: usize, text: &str) -> Fallible<()> {
        let outcome = if self.inside >= 3 {
            Err(self.too_deep(start, 1))
        } else {
            check_template(self.file, text, self.inside + 1)
        };
        match outcome {
            Ok(weight) => {
                self.weight += weight;
                Ok(())
            }
            Err(mut problem) if [TOO_DEEP, TOO_LARGE, TOO_HEAVY].contains(&problem.summary.as_str()) => {
                problem.at = problem.at.map(|at| self.span(at.start as usize + start, at.end as usize + start));
                Err(problem)
            }
            Err(_) => Ok(()),
        }
    }

    fn too_deep(&self, at: usize, width: usize) -> Box<Problem> {
        Problem::error(
            self.span(at, at + width),
            TOO_DEEP,
            format!("Blocks and expressions may be nested at most {} levels deep.", limits::NESTING),
        )
    }

    /// Refuses `name { inner "label" …` and `name { inner {` on one line, as soon as that is clear.
    fn check_one_line(&self, next: usize) -> Fallible<()> {
        let Some(Frame { open: Open::Block, at, .. }) = self.stack.last() else { return Ok(()) };
        let between = &self.text[*at + 1..next];
        let name = between.trim();
        let is_name = name.starts_with(is_id_start) && name.chars().all(is_id_continue);
        if between.contains('\n') || !is_name {
            return Ok(());
        }
        let start = *at + 1 + (between.len() - between.trim_start().len());
        Err(one_line_block(self.span(start, next + 1), name))
    }

    fn finish(&self) -> Fallible<()> {
        if let Some((opened, delimiter)) = &self.heredoc {
            return Err(Problem::error(
                self.span(*opened, opened + 2 + delimiter.len()),
                "Unterminated heredoc",
                "The file ends inside this heredoc.",
            ));
        }
        let Some(frame) = self.stack.last().filter(|frame| frame.open != Open::Plain) else { return Ok(()) };
        let at = self.span(frame.at, frame.at + 1);
        let unclosed = |what: &str, closer: &str| {
            Problem::error(
                at,
                format!("Unterminated {what}"),
                format!(
                    "There is no corresponding closing {closer} before the end of the file. This may be caused by \
                     incorrect {closer} nesting elsewhere in this file."
                ),
            )
        };
        Err(match frame.open {
            Open::Block => Problem::error(
                at,
                "Unclosed configuration block",
                "There is no closing brace for this block before the end of the file. This may be caused by incorrect \
                 brace nesting elsewhere in this file.",
            ),
            Open::Object => unclosed("object constructor expression", "brace"),
            Open::Bracket => unclosed("tuple constructor expression", "bracket"),
            Open::Paren => Problem::error(
                at,
                "Unbalanced parentheses",
                "Expected a closing parenthesis to terminate the expression.",
            ),
            Open::Quote | Open::Plain => {
                Problem::error(at, "Unterminated template string", "No closing marker was found for the string.")
            }
            Open::Template => Problem::error(
                self.span(frame.at, frame.at + 2),
                "Unclosed template interpolation sequence",
                "There is no closing brace for this interpolation sequence before the end of the file. This might be \
                 caused by incorrect nesting inside the given expression.",
            ),
        })
    }
}

pub(crate) fn one_line_block(at: Span, name: &str) -> Box<Problem> {
    Problem::error(
        at,
        "Argument definition required",
        format!(
            "A single-line block definition can contain only a single argument. If you meant to define argument \
             {name:?}, use an equals sign to assign it a value. To define a nested block, place it on a line of its \
             own within its parent block."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(text: &str) -> String {
        check(0, text).map_or_else(|p| p.summary, |()| "fine".to_owned())
    }

    #[test]
    fn the_innermost_unclosed_thing_is_named() {
        assert_eq!(summary("job \"a\" {\n  group \"g\" {\n"), "Unclosed configuration block");
        assert_eq!(summary("a = [1, 2"), "Unterminated tuple constructor expression");
        assert_eq!(summary("a = { b = 1\n"), "Unterminated object constructor expression");
        assert_eq!(summary("a = (1"), "Unbalanced parentheses");
        assert_eq!(summary("a = \"x"), "Unterminated template string");
        assert_eq!(summary("a = \"${x"), "Unclosed template interpolation sequence");
        assert_eq!(summary("a = <<E\nx\n"), "Unterminated heredoc");
        assert_eq!(summary("/* x"), "Unterminated comment");
        assert_eq!(summary("a = \"x\ny\"\n"), "Invalid multi-line string");
    }

    #[test]
    fn braces_inside_text_do_not_count() {
        assert_eq!(summary("a = \"{ $${ \\\" ${\"}\"}\"\n# {\n// {\n/* { */\nb = <<E\n{ ${\nE\nc { d = 1 }\n"), "fine");
    }

    #[test]
    fn huge_objects_are_refused_before_the_parser_sees_them() {
        let items: String = (0..=limits::OBJECT_ITEMS).map(|i| format!("k{i}=1,")).collect();
        assert_eq!(summary(&format!("a = {{{items}}}\n")), "Object too large");
        let items: String = (0..=limits::OBJECT_ITEMS).map(|i| format!("k{i}=1\n")).collect();
        assert_eq!(summary(&format!("a = {{\n{items}}}\n")), "Object too large");
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert_eq!(summary(&format!("a = {}", "[".repeat(5000))), "Too deeply nested");
    }
}
