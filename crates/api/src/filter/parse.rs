//! Text to expression. A recursive descent that remembers the farthest place at which something else was
//! expected: that is what the error names.

use std::collections::BTreeSet;

use super::{BYTES_MAX, DEPTH_MAX, Expr, Op, REGEX_BYTES_MAX};

const SPACE: &str = "[ \\t\\r\\n]";

/// `None`: it does not match here; the parser has noted why.
type Maybe<T> = Option<T>;

pub(super) fn parse(text: &str) -> Result<Expr, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("expression is longer than {BYTES_MAX} bytes"));
    }
    let mut parser = Parser { text, at: 0, depth: 0, far: 0, expected: BTreeSet::new(), fatal: None };
    parser.spaces();
    let root = parser.or();
    if let Some(fatal) = parser.fatal {
        return Err(fatal);
    }
    if let Some(root) = root {
        parser.spaces();
        if parser.at == text.len() {
            return Ok(root);
        }
        parser.miss::<()>("EOF");
    }
    Err(parser.complaint())
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// The farthest place at which nothing fitted, and what would have.
    far: usize,
    expected: BTreeSet<String>,
    /// Ends the parse whatever else might fit.
    fatal: Option<String>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Notes that `what` was expected here.
    fn miss<T>(&mut self, what: &str) -> Maybe<T> {
        if self.at > self.far {
            self.far = self.at;
            self.expected.clear();
        }
        if self.at == self.far {
            self.expected.insert(what.to_owned());
        }
        None
    }

    fn complaint(&self) -> String {
        let before = self.text.get(..self.far).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let all: Vec<&str> = self.expected.iter().map(String::as_str).collect();
        let list = match all.as_slice() {
            [init @ .., last] if !init.is_empty() => format!("{} or {last}", init.join(", ")),
            _ => all.join(""),
        };
        format!("{line}:{column} ({}): no match found, expected: {list}", self.far)
    }

    fn fail<T>(&mut self, text: String) -> Maybe<T> {
        self.fatal.get_or_insert(text);
        None
    }

    fn spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// At least one space.
    fn gap(&mut self) -> Maybe<()> {
        let start = self.at;
        self.spaces();
        if self.at == start { self.miss(SPACE) } else { Some(()) }
    }

    fn literal(&mut self, word: &str) -> Maybe<()> {
        if self.rest().starts_with(word) {
            self.at += word.len();
            Some(())
        } else {
            self.miss(&format!("{word:?}"))
        }
    }

    /// Tries to read something; goes back when it does not fit.
    fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Maybe<T>) -> Maybe<T> {
        if self.fatal.is_some() {
            return None;
        }
        let start = self.at;
        let read = read(self);
        if read.is_none() {
            self.at = start;
        }
        read
    }

    fn or(&mut self) -> Maybe<Expr> {
        self.chain("or", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Maybe<Expr> {
        self.chain("and", Self::not, Expr::And)
    }

    /// Terms with a word between them.
    fn chain(&mut self, word: &str, term: fn(&mut Self) -> Maybe<Expr>, join: fn(Vec<Expr>) -> Expr) -> Maybe<Expr> {
        let mut terms = vec![term(self)?];
        while let Some(next) = self.attempt(|p| {
            p.gap()?;
            p.literal(word)?;
            p.gap()?;
            term(p)
        }) {
            terms.push(next);
        }
        if terms.len() == 1 { terms.pop() } else { Some(join(terms)) }
    }

    fn not(&mut self) -> Maybe<Expr> {
        if self.depth > DEPTH_MAX {
            return self.fail(format!("expression nests too deep, at most {DEPTH_MAX} levels are read"));
        }
        self.depth += 1;
        let read = self
            .attempt(|p| {
                p.literal("not")?;
                p.gap()?;
                p.not().map(|inner| Expr::Not(Box::new(inner)))
            })
            .or_else(|| self.attempt(Self::parenthesis))
            .or_else(|| self.attempt(Self::selector_first))
            .or_else(|| self.attempt(Self::value_first));
        self.depth -= 1;
        read
    }

    fn parenthesis(&mut self) -> Maybe<Expr> {
        self.literal("(")?;
        self.spaces();
        let inner = self.or()?;
        self.spaces();
        self.literal(")")?;
        Some(inner)
    }

    fn selector_first(&mut self) -> Maybe<Expr> {
        let selector = self.selector()?;
        let (negated, op) = self.attempt(Self::equality).or_else(|| self.attempt(Self::word_operator))?;
        Some(matching(selector, op, negated))
    }

    fn equality(&mut self) -> Maybe<(bool, Op)> {
        self.spaces();
        let equal = self.attempt(|p| p.literal("==")).is_some();
        if !equal {
            self.literal("!=")?;
        }
        self.spaces();
        Some((!equal, Op::Equals(self.value()?)))
    }

    fn word_operator(&mut self) -> Maybe<(bool, Op)> {
        self.gap()?;
        if self.attempt(|p| p.literal("is")).is_some() {
            self.gap()?;
            let negated = self.attempt(Self::not_word).is_some();
            self.literal("empty")?;
            return Some((negated, Op::IsEmpty));
        }
        let negated = self.attempt(Self::not_word).is_some();
        let contains = self.attempt(|p| p.literal("contains")).is_some();
        if !contains {
            self.literal("matches")?;
        }
        self.gap()?;
        let value = self.value()?;
        if contains {
            return Some((negated, Op::Contains(value)));
        }
        match regex::RegexBuilder::new(&value).size_limit(REGEX_BYTES_MAX).build() {
            Ok(pattern) => Some((negated, Op::Matches(pattern))),
            Err(error) => self.fail(format!("failed to compile regular expression {value:?}: {error}")),
        }
    }

    fn not_word(&mut self) -> Maybe<()> {
        self.literal("not")?;
        self.gap()
    }

    fn value_first(&mut self) -> Maybe<Expr> {
        let value = self.value()?;
        self.gap()?;
        let negated = self.attempt(Self::not_word).is_some();
        self.literal("in")?;
        self.gap()?;
        let selector = self.selector()?;
        Some(matching(selector, Op::Contains(value), negated))
    }

    fn selector(&mut self) -> Maybe<Vec<String>> {
        if self.rest().starts_with("\"/") {
            let pointer = self.quoted()?;
            let unescape = |part: &str| part.replace("~1", "/").replace("~0", "~");
            return Some(pointer.split('/').skip(1).map(unescape).collect());
        }
        let mut parts = vec![self.name()?];
        loop {
            let part = self
                .attempt(|p| {
                    p.literal(".")?;
                    p.attempt(Self::name).or_else(|| p.digits())
                })
                .or_else(|| {
                    self.attempt(|p| {
                        p.literal("[")?;
                        let key = p.text()?;
                        p.literal("]")?;
                        Some(key)
                    })
                });
            match part {
                Some(part) => parts.push(part),
                None => return Some(parts),
            }
        }
    }

    fn name(&mut self) -> Maybe<String> {
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return self.miss("[a-zA-Z]");
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '/')).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).map(str::to_owned)
    }

    fn digits(&mut self) -> Maybe<String> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if end == 0 {
            return self.miss("[0-9]");
        }
        self.at += end;
        rest.get(..end).map(str::to_owned)
    }

    fn value(&mut self) -> Maybe<String> {
        self.attempt(Self::text).or_else(|| self.attempt(Self::number)).or_else(|| self.attempt(Self::name))
    }

    fn number(&mut self) -> Maybe<String> {
        let start = self.at;
        if self.rest().starts_with('-') {
            self.at += 1;
        }
        self.digits()?;
        let _fraction = self.attempt(|p| {
            p.literal(".")?;
            p.digits()
        });
        self.text.get(start..self.at).map(str::to_owned)
    }

    fn text(&mut self) -> Maybe<String> {
        if let Some(inner) = self.rest().strip_prefix('`') {
            let Some(end) = inner.find('`') else {
                self.at = self.text.len();
                return self.miss("\"`\"");
            };
            self.at += end + 2;
            return inner.get(..end).map(str::to_owned);
        }
        self.quoted()
    }

    fn quoted(&mut self) -> Maybe<String> {
        let rest = self.rest();
        if !rest.starts_with('"') {
            return self.miss("\"\\\"\"");
        }
        let mut escaped = false;
        let end = rest.bytes().enumerate().skip(1).find(|(_, byte)| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else {
            self.at = self.text.len();
            return self.miss("\"\\\"\"");
        };
        let literal = rest.get(..=end).unwrap_or("");
        match serde_json::from_str(literal) {
            Ok(text) => {
                self.at += literal.len();
                Some(text)
            }
            Err(_) => self.fail(format!("invalid string literal {literal}")),
        }
    }
}

fn matching(selector: Vec<String>, op: Op, negated: bool) -> Expr {
    let matching = Expr::Match { selector, op };
    if negated { Expr::Not(Box::new(matching)) } else { matching }
}
