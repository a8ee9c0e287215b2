//! Text and actions; actions as tokens.

use serde_json::{Number, Value};

use super::TemplateError;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// `.` alone.
    Dot,
    /// `.Name`.
    Field(String),
    /// `$` or `$name`, with the dollar sign.
    Variable(String),
    Word(String),
    Literal(Value),
    Open,
    Close,
    Pipe,
    Comma,
    Declare,
    Assign,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    pub token: Token,
    pub line: usize,
    /// A blank stands before it, so that it begins a new term.
    pub apart: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Text(String),
    Action(usize, Vec<Placed>),
}

pub fn lex(source: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = source;
    let mut line = 1;
    let mut trim_next = false;
    loop {
        let open = rest.find("{{");
        let mut text = &rest[..open.unwrap_or(rest.len())];
        let text_lines = text.matches('\n').count();
        if trim_next {
            text = text.trim_start();
        }
        let Some(open) = open else {
            push_text(&mut pieces, text);
            return Ok(pieces);
        };
        rest = &rest[open + 2..];
        if let Some(after) = rest.strip_prefix('-').filter(|r| r.starts_with(char::is_whitespace)) {
            text = text.trim_end();
            rest = after;
        }
        push_text(&mut pieces, text);
        line += text_lines;
        let trimmed = rest.trim_start();
        if let Some(comment) = trimmed.strip_prefix("/*") {
            let end = comment.find("*/").ok_or_else(|| TemplateError::new(line, "unclosed comment"))?;
            line += rest[..rest.len() - comment.len() + end].matches('\n').count();
            let after = comment[end + 2..].trim_start();
            trim_next = after.starts_with("-}}");
            let after = after.strip_prefix('-').unwrap_or(after);
            rest = after
                .strip_prefix("}}")
                .ok_or_else(|| TemplateError::new(line, "comment ends before closing delimiter"))?;
            continue;
        }
        let begun = line;
        let (tokens, used, trims) = Action { text: rest, at: 0, line: &mut line }.tokens()?;
        pieces.push(Piece::Action(tokens.first().map_or(begun, |t| t.line), tokens));
        rest = &rest[used..];
        trim_next = trims;
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

struct Action<'a> {
    text: &'a str,
    at: usize,
    line: &'a mut usize,
}

impl Action<'_> {
    /// The tokens up to the closing delimiter, how many bytes they took, and whether it trims.
    fn tokens(mut self) -> Result<(Vec<Placed>, usize, bool), TemplateError> {
        let mut tokens = Vec::new();
        loop {
            let apart = self.skip_blanks();
            let rest = &self.text[self.at..];
            if rest.starts_with("}}") {
                return Ok((tokens, self.at + 2, false));
            }
            if apart && rest.starts_with("-}}") {
                return Ok((tokens, self.at + 3, true));
            }
            let Some(first) = rest.chars().next() else {
                return Err(TemplateError::new(*self.line, "unclosed action"));
            };
            let line = *self.line;
            let token = self.token(first)?;
            tokens.push(Placed { token, line, apart });
        }
    }

    fn skip_blanks(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let blanks = rest.len() - rest.trim_start().len();
        *self.line += rest[..blanks].matches('\n').count();
        self.at += blanks;
        blanks > 0
    }

    fn fail(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::new(*self.line, message)
    }

    fn word(&mut self) -> String {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    fn token(&mut self, first: char) -> Result<Token, TemplateError> {
        let rest = &self.text[self.at..];
        let second = rest.chars().nth(1);
        let single = match first {
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            '|' => Some(Token::Pipe),
            ',' => Some(Token::Comma),
            '=' => Some(Token::Assign),
            _ => None,
        };
        if let Some(token) = single {
            self.at += 1;
            return Ok(token);
        }
        match first {
            ':' if second == Some('=') => {
                self.at += 2;
                Ok(Token::Declare)
            }
            '.' if second.is_some_and(|c| c.is_alphabetic() || c == '_') => {
                self.at += 1;
                Ok(Token::Field(self.word()))
            }
            '.' if !second.is_some_and(|c| c.is_ascii_digit()) => {
                self.at += 1;
                Ok(Token::Dot)
            }
            '$' => {
                self.at += 1;
                let name = self.word();
                Ok(Token::Variable(format!("${name}")))
            }
            '"' => self.quoted(),
            '`' => {
                let end = rest[1..].find('`').ok_or_else(|| self.fail("unterminated raw quoted string"))?;
                self.at += end + 2;
                *self.line += rest[1..=end].matches('\n').count();
                Ok(Token::Literal(Value::from(&rest[1..=end])))
            }
            c if c.is_alphabetic() || c == '_' => Ok(Token::Word(self.word())),
            c if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => self.number(),
            c => Err(self.fail(format!("unexpected {c:?} in action"))),
        }
    }

    /// Go's string escapes, of which JSON knows most.
    fn quoted(&mut self) -> Result<Token, TemplateError> {
        let rest = &self.text[self.at + 1..];
        let mut out = String::new();
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 2;
                    return Ok(Token::Literal(Value::from(out)));
                }
                '\n' => break,
                '\\' => out.push(match chars.next().map(|(_, c)| c) {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some('e') => '\u{1b}',
                    Some(c @ ('"' | '\\' | '\'')) => c,
                    other => {
                        let shown = other.map_or(String::new(), |c| format!("\\{c}"));
                        return Err(self.fail(format!("string escape {shown:?} is not supported")));
                    }
                }),
                c => out.push(c),
            }
        }
        Err(self.fail("unterminated quoted string"))
    }

    fn number(&mut self) -> Result<Token, TemplateError> {
        let rest = &self.text[self.at..];
        let part = |at: usize, c: char| {
            c.is_ascii_alphanumeric()
                || matches!(c, '.' | '_')
                || (matches!(c, '+' | '-') && (at == 0 || rest[..at].ends_with(['e', 'E'])))
        };
        let end = rest.char_indices().find(|&(at, c)| !part(at, c)).map_or(rest.len(), |(at, _)| at);
        let text = rest[..end].replace('_', "");
        let bad = || self.fail(format!("bad number syntax: {:?}", &rest[..end]));
        let value = match text.parse::<i64>() {
            Ok(number) => Value::from(number),
            Err(_) => {
                let number = text.parse::<f64>().ok().filter(|_| !text.contains(['n', 'i', 'N', 'I']));
                Value::Number(number.and_then(Number::from_f64).ok_or_else(bad)?)
            }
        };
        self.at += end;
        Ok(Token::Literal(value))
    }
}
