//! Tokens to a tree.

use serde_json::Value;

use super::lex::{Piece, Placed, Token};
use super::{NESTING_MAX, TemplateError};

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Text(String),
    Pipe(Pipeline),
    /// Condition and body pairs, then `else`.
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    pub line: usize,
    /// Variables it sets, with their dollar signs.
    pub names: Vec<String>,
    /// Whether it makes them.
    pub declares: bool,
    pub commands: Vec<Vec<Term>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    Dot,
    Variable(String),
    Function(String),
    Literal(Value),
    Group(Box<Pipeline>),
    /// A term and the fields asked of it.
    Fields(Box<Term>, Vec<String>),
}

/// How a block's body ended.
enum End {
    Closed,
    Else(Vec<Placed>, usize),
    Nothing,
}

pub fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, TemplateError> {
    let mut blocks = Blocks { pieces: pieces.into_iter(), depth: 0, loops: 0 };
    let (nodes, end, line) = blocks.body()?;
    match end {
        End::Nothing => Ok(nodes),
        End::Closed => Err(TemplateError::new(line, "unexpected {{end}}")),
        End::Else(..) => Err(TemplateError::new(line, "unexpected {{else}}")),
    }
}

struct Blocks {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
    loops: usize,
}

impl Blocks {
    fn body(&mut self) -> Result<(Vec<Node>, End, usize), TemplateError> {
        self.depth += 1;
        let mut nodes = Vec::new();
        let mut last = 1;
        while let Some(piece) = self.pieces.next() {
            let (line, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(line, tokens) => (line, tokens),
            };
            last = line;
            if self.depth > NESTING_MAX {
                return Err(TemplateError::new(line, "nested too deeply"));
            }
            let word = match tokens.first().map(|t| &t.token) {
                Some(Token::Word(word)) => word.clone(),
                _ => String::new(),
            };
            match word.as_str() {
                "end" => {
                    self.depth -= 1;
                    return Ok((nodes, End::Closed, line));
                }
                "else" => {
                    self.depth -= 1;
                    return Ok((nodes, End::Else(tokens, line), line));
                }
                "if" => nodes.push(self.conditional(line, &tokens[1..])?),
                "with" => nodes.push(self.with(line, &tokens[1..])?),
                "range" => nodes.push(self.range(line, &tokens[1..])?),
                "break" | "continue" if self.loops == 0 => {
                    return Err(TemplateError::new(line, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "define" | "block" | "template" => {
                    return Err(TemplateError::new(line, format!("{word} is not supported")));
                }
                _ => nodes.push(Node::Pipe(pipeline(line, &tokens)?)),
            }
        }
        self.depth -= 1;
        Ok((nodes, End::Nothing, last))
    }

    /// The body of `{{else}}`, up to `{{end}}`.
    fn rest(&mut self, what: &str) -> Result<Vec<Node>, TemplateError> {
        let (nodes, end, line) = self.body()?;
        match end {
            End::Closed => Ok(nodes),
            End::Else(..) => Err(TemplateError::new(line, format!("a second {{{{else}}}} in {what}"))),
            End::Nothing => Err(unclosed(line, what)),
        }
    }

    fn conditional(&mut self, line: usize, tokens: &[Placed]) -> Result<Node, TemplateError> {
        let mut cases = Vec::new();
        let mut condition = pipeline(line, tokens)?;
        loop {
            let (nodes, end, line) = self.body()?;
            cases.push((condition, nodes));
            let (tokens, line) = match end {
                End::Closed => return Ok(Node::If(cases, Vec::new())),
                End::Nothing => return Err(unclosed(line, "if")),
                End::Else(tokens, line) => (tokens, line),
            };
            match tokens.get(1).map(|t| &t.token) {
                None => return Ok(Node::If(cases, self.rest("if")?)),
                Some(Token::Word(word)) if word == "if" => condition = pipeline(line, &tokens[2..])?,
                Some(_) => return Err(TemplateError::new(line, "only {{else if …}} may follow here")),
            }
        }
    }

    fn with(&mut self, line: usize, tokens: &[Placed]) -> Result<Node, TemplateError> {
        let subject = pipeline(line, tokens)?;
        let (nodes, otherwise) = self.two_bodies("with")?;
        Ok(Node::With(subject, nodes, otherwise))
    }

    fn range(&mut self, line: usize, tokens: &[Placed]) -> Result<Node, TemplateError> {
        let subject = pipeline(line, tokens)?;
        self.loops += 1;
        let bodies = self.two_bodies("range");
        self.loops -= 1;
        let (nodes, otherwise) = bodies?;
        Ok(Node::Range(subject, nodes, otherwise))
    }

    fn two_bodies(&mut self, what: &str) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
        let (nodes, end, line) = self.body()?;
        match end {
            End::Closed => Ok((nodes, Vec::new())),
            End::Nothing => Err(unclosed(line, what)),
            End::Else(tokens, _) if tokens.len() == 1 => Ok((nodes, self.rest(what)?)),
            End::Else(_, line) => {
                Err(TemplateError::new(line, format!("{{{{else}}}} of {what} takes nothing after it")))
            }
        }
    }
}

fn unclosed(line: usize, what: &str) -> TemplateError {
    TemplateError::new(line, format!("unexpected end: {what} is not closed by {{{{end}}}}"))
}

fn pipeline(line: usize, tokens: &[Placed]) -> Result<Pipeline, TemplateError> {
    let mut terms = Terms { tokens, at: 0, line, depth: 0 };
    let pipeline = terms.pipeline()?;
    match terms.peek() {
        None => Ok(pipeline),
        Some(_) => Err(terms.unexpected()),
    }
}

struct Terms<'a> {
    tokens: &'a [Placed],
    at: usize,
    line: usize,
    depth: usize,
}

impl Terms<'_> {
    fn peek(&self) -> Option<&Placed> {
        self.tokens.get(self.at)
    }

    fn unexpected(&self) -> TemplateError {
        let what = self.peek().map_or_else(|| "end of action".to_owned(), |t| format!("{:?}", t.token));
        TemplateError::new(self.peek().map_or(self.line, |t| t.line), format!("unexpected {what}"))
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(TemplateError::new(self.line, "nested too deeply"));
        }
        let (names, declares) = self.names();
        let mut commands = Vec::new();
        loop {
            let command = self.command()?;
            if command.is_empty() {
                return Err(TemplateError::new(self.line, "missing value for command"));
            }
            commands.push(command);
            match self.peek().map(|t| &t.token) {
                Some(Token::Pipe) => self.at += 1,
                _ => break,
            }
        }
        self.depth -= 1;
        Ok(Pipeline { line: self.line, names, declares, commands })
    }

    /// `$a :=`, `$a, $b :=` or `$a =` at the start.
    fn names(&mut self) -> (Vec<String>, bool) {
        let begun = self.at;
        let mut names = Vec::new();
        while let Some(Placed { token: Token::Variable(name), .. }) = self.peek() {
            names.push(name.clone());
            self.at += 1;
            match self.peek().map(|t| &t.token) {
                Some(Token::Comma) if names.len() == 1 => self.at += 1,
                Some(sign @ (Token::Declare | Token::Assign)) => {
                    let declares = *sign == Token::Declare;
                    self.at += 1;
                    return (names, declares);
                }
                _ => break,
            }
        }
        self.at = begun;
        (Vec::new(), false)
    }

    fn command(&mut self) -> Result<Vec<Term>, TemplateError> {
        let mut terms = Vec::new();
        while let Some(placed) = self.peek().cloned() {
            self.line = placed.line;
            let base = match placed.token {
                Token::Pipe | Token::Close => break,
                Token::Comma | Token::Declare | Token::Assign => return Err(self.unexpected()),
                Token::Dot => Term::Dot,
                Token::Field(name) => Term::Fields(Box::new(Term::Dot), vec![name]),
                Token::Variable(name) => Term::Variable(name),
                Token::Literal(value) => Term::Literal(value),
                Token::Word(word) => match word.as_str() {
                    "true" => Term::Literal(Value::Bool(true)),
                    "false" => Term::Literal(Value::Bool(false)),
                    "nil" => Term::Literal(Value::Null),
                    _ => Term::Function(word),
                },
                Token::Open => {
                    self.at += 1;
                    let inner = self.pipeline()?;
                    match self.peek().map(|t| &t.token) {
                        Some(Token::Close) => Term::Group(Box::new(inner)),
                        _ => return Err(TemplateError::new(self.line, "unclosed left paren")),
                    }
                }
            };
            self.at += 1;
            terms.push(self.chained(base));
        }
        Ok(terms)
    }

    /// Fields that follow a term without a blank.
    fn chained(&mut self, base: Term) -> Term {
        let mut more = Vec::new();
        while let Some(Placed { token: Token::Field(name), apart: false, .. }) = self.peek() {
            more.push(name.clone());
            self.at += 1;
        }
        match base {
            base if more.is_empty() => base,
            Term::Fields(of, mut names) => {
                names.extend(more);
                Term::Fields(of, names)
            }
            base => Term::Fields(Box::new(base), more),
        }
    }
}
