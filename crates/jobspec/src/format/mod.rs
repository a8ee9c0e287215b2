//! The canonical layout of a file in native syntax.
//!
//! ```text
//! text ─ tokens ─▶ lines of tokens ─▶ spaces within a line ─▶ indent ─▶ aligned `=` and comments ─▶ text
//! ```
//!
//! Nothing but blanks changes: every token, string, heredoc and comment is a slice of the source and goes
//! out as it came in; so do empty lines and the kind of line endings. Formatting what is formatted changes
//! nothing. A text that does not parse is refused with the parser's own words.
//!
//! Rules: two blanks per level, one level per line however many brackets it opens; one blank around
//! operators and inside one-line braces; `=` in one column over neighbouring lines whose value ends on its
//! line; comments at the end of neighbouring lines in one column; no blanks at the end of a line, one line
//! ending at the end of the file.

mod tokens;

use crate::diagnostics::{Diagnostics, Sources};
use crate::lower;
use tokens::{Kind, Token};

/// Formats a job file, or another file in this syntax.
///
/// # Errors
/// The text does not parse.
pub fn format(name: &str, text: &str) -> Result<String, Diagnostics> {
    let (mark, body) = text.strip_prefix('\u{feff}').map_or(("", text), |rest| ("\u{feff}", rest));
    let mut sources = Sources::default();
    let file = sources.add(name, body);
    if let Err(problem) = lower::syntax(file, body) {
        return Err(Diagnostics { list: vec![sources.locate(&problem)] });
    }
    Ok(format!("{mark}{}", layout(body)))
}

/// One line: its tokens, and what is decided about it.
struct Line<'a> {
    tokens: Vec<Token<'a>>,
    indent: usize,
    /// Text before the `=` that is aligned, and after it; all is in `before` of other lines.
    before: String,
    after: Option<String>,
    comment: Option<&'a str>,
}

fn layout(text: &str) -> String {
    let ending = match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    };
    let mut lines: Vec<Line<'_>> = tokens::lines(text).into_iter().map(line).collect();
    while lines.last().is_some_and(|line| line.tokens.is_empty()) {
        lines.pop();
    }
    indent(&mut lines);
    align_values(&mut lines);
    align_comments(&mut lines);
    let mut out = String::with_capacity(text.len());
    for line in &lines {
        if !line.tokens.is_empty() {
            out.push_str(&"  ".repeat(line.indent));
            out.push_str(&line.before);
            out.push_str(line.after.as_deref().unwrap_or(""));
            if let Some(comment) = line.comment {
                out.push_str(comment.trim_end());
            }
        }
        out.push_str(ending);
    }
    out
}

fn line(tokens: Vec<Token<'_>>) -> Line<'_> {
    let mut body = tokens.clone();
    let trailing =
        body.len() > 1 && body.last().is_some_and(|last| last.kind == Kind::Comment && !last.text.contains('\n'));
    let comment = if trailing { body.pop().map(|token| token.text) } else { None };
    let (mut before, mut after) = (joined(&body), None);
    if let Some(at) = assignment(&body) {
        before = joined(&body[..at]);
        after = Some(format!(" = {}", joined(&body[at + 1..])));
    } else if comment.is_none() {
        before.truncate(before.trim_end().len());
    }
    Line { tokens, indent: 0, before, after, comment }
}

/// Where the `=` is, of a line that is an attribute or an item and holds all of its value.
fn assignment(tokens: &[Token<'_>]) -> Option<usize> {
    let at = tokens.iter().position(|token| token.text == "=")?;
    if at == 0 || at + 1 >= tokens.len() {
        return None;
    }
    // `block { a = 1 }` is no attribute; a computed key stands in parentheses.
    let mut depth = 0_i32;
    for token in &tokens[..at] {
        match token.text {
            "{" | "}" => return None,
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            _ => {}
        }
    }
    let net: i32 = tokens.iter().map(|token| token.level()).sum();
    let whole = depth == 0 && net == 0 && tokens.iter().all(|token| !token.text.contains('\n'));
    whole.then_some(at)
}

fn joined(tokens: &[Token<'_>]) -> String {
    let mut out = String::new();
    for (i, token) in tokens.iter().enumerate() {
        if i > 0 && is_spaced(&tokens[..i], token) {
            out.push(' ');
        }
        out.push_str(token.text);
    }
    out
}

/// Whether a blank stands between what is before and the next token.
fn is_spaced(before: &[Token<'_>], next: &Token<'_>) -> bool {
    let [.., last] = before else { return false };
    match (last.text, next.text) {
        (_, "," | ")" | "]" | "." | "...") | ("(" | "[" | "." | "!", _) | ("{", "}") => false,
        // a call; a name that is a keyword has its own blank
        (_, "(") => last.kind != Kind::Word || last.is_keyword(),
        // an index
        (_, "[") => !last.ends_value() || last.is_keyword(),
        ("-", _) => !is_sign(&before[..before.len() - 1]),
        _ => true,
    }
}

/// Whether a minus after these tokens belongs to what follows it.
fn is_sign(before: &[Token<'_>]) -> bool {
    before.last().is_none_or(|last| !last.ends_value() || last.is_keyword())
}

fn indent(lines: &mut [Line<'_>]) {
    // For each line that opened brackets which are still open, how many.
    let mut open: Vec<i32> = Vec::new();
    let close = |open: &mut Vec<i32>| {
        if let Some(top) = open.last_mut() {
            *top -= 1;
            if *top <= 0 {
                open.pop();
            }
        }
    };
    for line in lines {
        let mut tokens = line.tokens.iter().peekable();
        while tokens.next_if(|token| token.level() < 0).is_some() {
            close(&mut open);
        }
        line.indent = open.len();
        let mut here = 0;
        for token in tokens {
            match token.level() {
                1 => here += 1,
                -1 if here > 0 => here -= 1,
                -1 => close(&mut open),
                _ => {}
            }
        }
        if here > 0 {
            open.push(here);
        }
    }
}

fn width(text: &str) -> usize {
    use unicode_segmentation::UnicodeSegmentation as _;
    text.graphemes(true).count()
}

fn pad(text: &mut String, to: usize) {
    let blanks = to.saturating_sub(width(text));
    text.extend(std::iter::repeat_n(' ', blanks));
}

/// Runs `align` over each stretch of neighbouring lines of the same depth for which `has` holds.
fn stretches(lines: &mut [Line<'_>], has: impl Fn(&Line<'_>) -> bool, align: impl Fn(&mut [Line<'_>])) {
    let mut from = 0;
    while from < lines.len() {
        let mut to = from;
        while to < lines.len() && has(&lines[to]) && lines[to].indent == lines[from].indent {
            to += 1;
        }
        if to > from {
            align(&mut lines[from..to]);
        }
        from = to.max(from + 1);
    }
}

fn align_values(lines: &mut [Line<'_>]) {
    stretches(
        lines,
        |line| line.after.is_some(),
        |stretch| {
            let widest = stretch.iter().map(|line| width(&line.before)).max().unwrap_or(0);
            stretch.iter_mut().for_each(|line| pad(&mut line.before, widest));
        },
    );
}

fn align_comments(lines: &mut [Line<'_>]) {
    let length = |line: &Line<'_>| width(&line.before) + line.after.as_deref().map_or(0, width);
    stretches(
        lines,
        |line| line.comment.is_some() && !line.before.contains('\n'),
        |stretch| {
            let widest = stretch.iter().map(length).max().unwrap_or(0) + 1;
            for line in stretch {
                let before = width(&line.before);
                match &mut line.after {
                    Some(after) => pad(after, widest.saturating_sub(before)),
                    None => pad(&mut line.before, widest),
                }
            }
        },
    );
    for line in lines.iter_mut().filter(|line| line.comment.is_some() && line.before.contains('\n')) {
        line.before.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(text: &str) -> String {
        let once = format("a.hcl", text).unwrap();
        assert_eq!(format("a.hcl", &once).unwrap(), once, "formatting twice");
        let kept = |text: &str| {
            let all = tokens::lines(text).into_iter().flatten();
            all.map(|token| token.text.trim_end().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(kept(text), kept(&once), "something else than blanks changed");
        once
    }

    #[test]
    fn blocks_are_indented_and_values_aligned() {
        assert_eq!(
            formatted(
                "job   \"a\"{\ncount=1\n  datacenters   =[ \"x\",\"y\" ]\n\n\n# note\ntype=\"batch\"\ngroup \"g\" {\n}\n\n}\n\n\n"
            ),
            "job \"a\" {\n  count       = 1\n  datacenters = [\"x\", \"y\"]\n\n\n  # note\n  type = \"batch\"\n  group \"g\" {\n  }\n\n}\n"
        );
    }

    #[test]
    fn a_value_of_several_lines_stands_for_itself() {
        assert_eq!(
            formatted("a = 1\nlonger = [\n1,\n    2,\n]\nb = {\nx = 1\nyy= 2\n}\ncc = 3\n"),
            "a = 1\nlonger = [\n  1,\n  2,\n]\nb = {\n  x  = 1\n  yy = 2\n}\ncc = 3\n"
        );
        assert_eq!(formatted("a = f([{\nx = 1\n}])\n"), "a = f([{\n  x = 1\n}])\n");
        assert_eq!(formatted("a = f([{\nx = 1\n}\n])\n"), "a = f([{\n  x = 1\n  }\n])\n");
    }

    #[test]
    fn operators_have_blanks_and_signs_have_none() {
        for (text, want) in [
            ("a=1+2*-3\n", "a = 1 + 2 * -3\n"),
            ("a=!x&&(b||-c)\n", "a = !x && (b || -c)\n"),
            ("a=x?1:2\n", "a = x ? 1 : 2\n"),
            ("a=[for k , v in x:v if v!=null]\n", "a = [for k, v in x : v if v != null]\n"),
            ("a=[for x in [1,2]:x]\n", "a = [for x in [1, 2] : x]\n"),
            ("a={for k,v in x:k=>v...}\n", "a = { for k, v in x : k => v... }\n"),
            ("a=x [0] . b[*].c\n", "a = x[0].b[*].c\n"),
            ("a=f( 1 , g() )\n", "a = f(1, g())\n"),
            ("a={}\nb={ }\n", "a = {}\nb = {}\n"),
            ("port \"x\" {to=1}\n", "port \"x\" { to = 1 }\n"),
            ("a = -1\nb = 1-1\nc=(-1)\n", "a = -1\nb = 1 - 1\nc = (-1)\n"),
            ("(x) = 1\n", ""),
        ] {
            if want.is_empty() {
                assert!(format("a.hcl", text).is_err());
            } else {
                assert_eq!(formatted(text), want);
            }
        }
    }

    #[test]
    fn text_of_strings_heredocs_and_comments_is_kept() {
        let heredoc = "a = <<EOF\n  x   =  {{ y }}\n\n   ${z   }\nEOF\nb = \"x   ${ y }  \\\"\"\n";
        assert_eq!(formatted(heredoc), heredoc);
        assert_eq!(formatted("a = [<<-E\n    x\n    E\n,\n\"b\"]\n"), "a = [<<-E\n    x\n    E\n  ,\n  \"b\"]\n");
        assert_eq!(
            formatted("a = 1 # one\nlong = 2     // two\n/* three\n   lines */\nb = 3 /* x */ + 4\n"),
            "a    = 1 # one\nlong = 2 // two\n/* three\n   lines */\nb = 3 /* x */ + 4\n"
        );
    }

    #[test]
    fn line_endings_and_a_byte_order_mark_are_kept() {
        assert_eq!(formatted("a=1\r\nbb=2\r\n"), "a  = 1\r\nbb = 2\r\n");
        assert_eq!(format("a.hcl", "\u{feff}a=1\n").unwrap(), "\u{feff}a = 1\n");
        assert_eq!(formatted("a=1"), "a = 1\n");
        assert_eq!(formatted(""), "");
    }

    #[test]
    fn what_does_not_parse_is_refused_with_its_place() {
        let why = format("a.hcl", "job \"a\" {\n  x = \n}\n").unwrap_err().reference_text();
        assert!(why.starts_with("a.hcl:2,7-3,1: Invalid expression"), "{why}");
    }
}
