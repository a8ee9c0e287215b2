//! The text between the sequences of a template: escapes, `~` and indentation.
//!
//! The tree of a template is flattened into tokens, the text rules are applied to the tokens in
//! this order, and the tree is built again:
//!
//! 1. text of a heredoc is cut after each newline, so that every token belongs to one line;
//! 2. `~` trims the white space of the one text token it touches — in a heredoc that is at most
//!    the rest of that line, newline included, and never the indentation of the next;
//! 3. `<<-` removes the smallest indentation found from each token that begins a line. A token
//!    after a newline that `~` removed does not begin a line. Blank lines do not count.
//!
//! Source for 2 and 3: the recorded result of `38-heredoc-escapes`.

use hcl_edit::Span as _;
use hcl_edit::template::{Directive, Element, Strip, Template};

use crate::ast::{Expr, Part};
use crate::diagnostics::{Fallible, Problem};
use crate::lower::Lower;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Quoted,
    Heredoc {
        dedent: bool,
    },
    /// Neither quotes nor lines: a string of JSON syntax, its escapes already undone.
    Plain,
}

enum Token {
    Text(String),
    Interpolation(Expr, String),
    If(Expr),
    Else,
    EndIf,
    For { key: Option<String>, value: String, collection: Expr },
    EndFor,
}

struct Flat<'a> {
    lower: &'a Lower<'a>,
    flavour: Flavour,
    tokens: Vec<(Token, Strip)>,
}

pub(crate) fn parts(lower: &Lower<'_>, template: &Template, flavour: Flavour) -> Fallible<Vec<Part>> {
    let mut flat = Flat { lower, flavour, tokens: Vec::new() };
    flat.template(template)?;
    let mut tokens = flat.tokens;
    trim(&mut tokens);
    if flavour == (Flavour::Heredoc { dedent: true }) {
        dedent(&mut tokens);
    }
    let mut tokens = tokens.into_iter().map(|(token, _)| token);
    Ok(build(&mut tokens).0)
}

impl Flat<'_> {
    fn template(&mut self, template: &Template) -> Fallible<()> {
        for element in template {
            match element {
                Element::Literal(text) => self.text(text)?,
                Element::Interpolation(found) => {
                    let expr = self.lower.expr(&found.expr)?;
                    let raw = self.lower.slice(found.span()).to_owned();
                    self.tokens.push((Token::Interpolation(expr, raw), found.strip));
                }
                Element::Directive(directive) => self.directive(directive)?,
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &hcl_edit::Spanned<String>) -> Fallible<()> {
        let raw = self.lower.slice(text.span());
        let problem = |detail: &str| Problem::error(self.lower.span(text.span()), "Invalid escape sequence", detail);
        match self.flavour {
            Flavour::Quoted => {
                let text = unescape(raw).map_err(|detail| problem(&detail))?;
                self.tokens.push((Token::Text(text), Strip::None));
            }
            Flavour::Plain => self.tokens.push((Token::Text(unmark(raw)), Strip::None)),
            Flavour::Heredoc { .. } => {
                for line in raw.split_inclusive('\n') {
                    self.tokens.push((Token::Text(unmark(line)), Strip::None));
                }
            }
        }
        Ok(())
    }

    fn directive(&mut self, directive: &Directive) -> Fallible<()> {
        match directive {
            Directive::If(found) => {
                let condition = self.lower.expr(&found.if_expr.cond_expr)?;
                self.tokens.push((Token::If(condition), found.if_expr.strip));
                self.template(&found.if_expr.template)?;
                if let Some(otherwise) = &found.else_expr {
                    self.tokens.push((Token::Else, otherwise.strip));
                    self.template(&otherwise.template)?;
                }
                self.tokens.push((Token::EndIf, found.endif_expr.strip));
            }
            Directive::For(found) => {
                let token = Token::For {
                    key: found.for_expr.key_var.as_ref().map(|name| name.to_string()),
                    value: found.for_expr.value_var.to_string(),
                    collection: self.lower.expr(&found.for_expr.collection_expr)?,
                };
                self.tokens.push((token, found.for_expr.strip));
                self.template(&found.for_expr.template)?;
                self.tokens.push((Token::EndFor, found.endfor_expr.strip));
            }
        }
        Ok(())
    }
}

fn trim(tokens: &mut [(Token, Strip)]) {
    for at in 0..tokens.len() {
        let strip = tokens[at].1;
        if strip.strip_start()
            && let Some((Token::Text(text), _)) = at.checked_sub(1).and_then(|before| tokens.get_mut(before))
        {
            text.truncate(text.trim_end().len());
        }
        if strip.strip_end()
            && let Some((Token::Text(text), _)) = tokens.get_mut(at + 1)
        {
            *text = text.trim_start().to_owned();
        }
    }
}

fn dedent(tokens: &mut [(Token, Strip)]) {
    let indent_of = |text: &str| text.chars().take_while(|c| matches!(c, ' ' | '\t')).count();
    let mut smallest: Option<usize> = None;
    let mut starts = Vec::new();
    let mut at_start = true;
    for (at, (token, _)) in tokens.iter().enumerate() {
        if at_start {
            starts.push(at);
            let indent = match token {
                Token::Text(text) if text.ends_with('\n') && text.trim().is_empty() => None,
                Token::Text(text) => Some(indent_of(text)),
                _ => Some(0),
            };
            smallest = match (smallest, indent) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        at_start = matches!(token, Token::Text(text) if text.ends_with('\n'));
    }
    let smallest = smallest.unwrap_or(0);
    for at in starts {
        if let Token::Text(text) = &mut tokens[at].0 {
            let cut = indent_of(text).min(smallest);
            text.drain(..cut);
        }
    }
}

/// Rebuilds the tree; answers also the token that ended this level.
fn build(tokens: &mut impl Iterator<Item = Token>) -> (Vec<Part>, Option<Token>) {
    let mut parts: Vec<Part> = Vec::new();
    while let Some(token) = tokens.next() {
        match token {
            Token::Text(text) => match parts.last_mut() {
                Some(Part::Text(before)) => before.push_str(&text),
                _ if text.is_empty() => {}
                _ => parts.push(Part::Text(text)),
            },
            Token::Interpolation(expr, raw) => parts.push(Part::Interpolation { expr, raw }),
            Token::If(condition) => {
                let (then, ended_by) = build(tokens);
                let otherwise = if matches!(ended_by, Some(Token::Else)) { build(tokens).0 } else { Vec::new() };
                parts.push(Part::If { condition, then, otherwise });
            }
            Token::For { key, value, collection } => {
                let body = build(tokens).0;
                parts.push(Part::For { key, value, collection, body });
            }
            end @ (Token::Else | Token::EndIf | Token::EndFor) => return (parts, Some(end)),
        }
    }
    (parts, None)
}

/// Undoes `$${` and `%%{`.
fn unmark(text: &str) -> String {
    text.replace("$${", "${").replace("%%{", "%{")
}

fn unescape(raw: &str) -> Result<String, String> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("$${") || rest.starts_with("%%{") {
            out.push_str(&rest[1..3]);
            rest = &rest[3..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(kind) = rest.chars().next() else { return Err("A backslash ends the string.".to_owned()) };
        rest = &rest[kind.len_utf8()..];
        let digits = match kind {
            'n' => {
                out.push('\n');
                continue;
            }
            'r' => {
                out.push('\r');
                continue;
            }
            't' => {
                out.push('\t');
                continue;
            }
            '"' | '\\' => {
                out.push(kind);
                continue;
            }
            'u' => 4,
            'U' => 8,
            other => return Err(format!("The symbol {other:?} is not a valid escape sequence selector.")),
        };
        let parsed =
            rest.get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32).ok_or_else(
                || format!("The \\{kind} escape sequence must be followed by {digits} hexadecimal digits."),
            )?;
        out.push(parsed);
        rest = &rest[digits..];
    }
    Ok(out)
}
