//! Lines of tokens. It knows what a token is, no grammar: the text has been parsed before.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or a number.
    Word,
    /// A quoted string or a heredoc, with all that is in it.
    Text,
    Comment,
    Sign,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
}

impl Token<'_> {
    /// 1 for what opens a level, -1 for what closes one.
    pub fn level(&self) -> i32 {
        match (self.kind, self.text) {
            (Kind::Sign, "{" | "[" | "(") => 1,
            (Kind::Sign, "}" | "]" | ")") => -1,
            _ => 0,
        }
    }

    /// Whether a value may end here, so that what follows is an operator or an index.
    pub fn ends_value(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Text) || matches!(self.text, ")" | "]" | "}")
    }

    pub fn is_keyword(&self) -> bool {
        self.kind == Kind::Word && matches!(self.text, "in" | "if")
    }
}

/// The tokens of each line. A token of several lines stands on the line it begins on, and what follows it
/// too.
pub(super) fn lines(text: &str) -> Vec<Vec<Token<'_>>> {
    let mut out: Vec<Vec<Token<'_>>> = vec![Vec::new()];
    let mut at = 0;
    let mut heredoc: Option<&str> = None;
    while at < text.len() {
        let rest = &text[at..];
        let first = rest.chars().next().unwrap_or('\n');
        let length = match first {
            '\n' => {
                at += 1;
                // A heredoc's text begins on the line after its mark.
                if let (Some(mark), Some(line)) = (heredoc.take(), out.last_mut()) {
                    let end = heredoc_end(&text[at..], mark);
                    let Some(opener) = line.iter_mut().rev().find(|token| token.text.starts_with("<<")) else {
                        return out;
                    };
                    let start = opener.text.as_ptr() as usize - text.as_ptr() as usize;
                    opener.text = &text[start..at + end];
                    at += end;
                    continue;
                }
                out.push(Vec::new());
                continue;
            }
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '#' => line_length(rest),
            '/' if rest.starts_with("//") => line_length(rest),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_length(rest),
            '<' if rest.starts_with("<<") => {
                let mark = rest[2..].trim_start_matches('-');
                let length = mark.find(|c: char| !is_word(c)).unwrap_or(mark.len());
                heredoc = Some(&mark[..length]);
                rest.len() - mark.len() + length
            }
            c if c.is_ascii_digit() => number_length(rest),
            c if starts_word(c) => rest.find(|c: char| !is_word(c)).unwrap_or(rest.len()),
            c => sign_length(rest).max(c.len_utf8()),
        };
        let kind = match first {
            '#' => Kind::Comment,
            '/' if rest.starts_with("//") || rest.starts_with("/*") => Kind::Comment,
            '"' => Kind::Text,
            '<' if rest.starts_with("<<") => Kind::Text,
            c if starts_word(c) || c.is_ascii_digit() => Kind::Word,
            _ => Kind::Sign,
        };
        let token = Token { kind, text: rest[..length].trim_end_matches('\r') };
        if let Some(line) = out.last_mut() {
            line.push(token);
        }
        at += length;
    }
    out
}

fn is_word(c: char) -> bool {
    hcl_primitives::ident::is_id_continue(c)
}

fn starts_word(c: char) -> bool {
    hcl_primitives::ident::is_id_start(c)
}

fn line_length(rest: &str) -> usize {
    rest.find('\n').unwrap_or(rest.len())
}

fn sign_length(rest: &str) -> usize {
    const LONG: [&str; 9] = ["...", "==", "!=", "<=", ">=", "&&", "||", "=>", "::"];
    LONG.iter().find(|sign| rest.starts_with(**sign)).map_or(1, |sign| sign.len())
}

fn number_length(rest: &str) -> usize {
    let mut end = 0;
    let bytes = rest.as_bytes();
    while let Some(byte) = bytes.get(end) {
        let goes_on = match byte {
            b'0'..=b'9' => true,
            b'.' => bytes.get(end + 1).is_some_and(u8::is_ascii_digit),
            b'e' | b'E' => bytes.get(end + 1).is_some_and(|next| next.is_ascii_digit() || matches!(next, b'+' | b'-')),
            b'+' | b'-' => matches!(bytes[end - 1], b'e' | b'E'),
            _ => false,
        };
        if !goes_on {
            break;
        }
        end += 1;
    }
    end
}

/// A quoted string with its interpolations, which may hold strings again.
fn string_length(rest: &str) -> usize {
    enum In {
        Quote,
        Code,
    }
    let bytes = rest.as_bytes();
    let mut stack = vec![In::Quote];
    let mut at = 1;
    while at < bytes.len() {
        match (stack.last(), &bytes[at..]) {
            (Some(In::Quote), [b'\\', ..]) => at += 1,
            (Some(In::Quote), [b'$', b'$', b'{', ..] | [b'%', b'%', b'{', ..]) => at += 2,
            (Some(In::Quote), [b'$' | b'%', b'{', ..]) => {
                stack.push(In::Code);
                at += 1;
            }
            (Some(In::Quote), [b'"', ..]) => {
                stack.pop();
                if stack.is_empty() {
                    return at + 1;
                }
            }
            (Some(In::Code), [b'"', ..]) => stack.push(In::Quote),
            (Some(In::Code), [b'{', ..]) => stack.push(In::Code),
            (Some(In::Code), [b'}', ..]) => drop(stack.pop()),
            _ => {}
        }
        at += 1;
    }
    rest.len()
}

/// Bytes up to the end of the mark that ends a heredoc.
fn heredoc_end(rest: &str, mark: &str) -> usize {
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        let text = line.trim_start();
        if text.strip_prefix(mark).is_some_and(|after| !after.starts_with(is_word)) {
            return at + (line.len() - text.len()) + mark.len();
        }
        at += line.len();
    }
    rest.len()
}
