//! HCL as configuration files are written in it, old dialect and new, read leniently.
//!
//! ```text
//!   body  := { key { key } ( "=" value | ":" value | "{" body "}" ) [ "," ] }
//!   value := string | heredoc | number | true | false | null | "[" values "]" | "{" body "}"
//! ```
//!
//! Keys may be quoted or not, entries stand on one line or on many, commas are optional. Interpolations
//! are not evaluated: `${…}` and `{{…}}` in strings are kept as they are.

use crate::syntax::{DEPTH_MAX, Entry, Node, Place, SyntaxError, Value};

pub(crate) fn parse(source: usize, text: &str) -> Result<Vec<Entry>, SyntaxError> {
    let mut reader = Reader { source, text, at: 0, line: 1, line_start: 0 };
    reader.body(0, None)
}

struct Reader<'a> {
    source: usize,
    text: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

impl<'a> Reader<'a> {
    fn place(&self) -> Place {
        let column = self.text.get(self.line_start..self.at).map_or(1, |before| before.chars().count() + 1);
        Place { source: self.source, line: self.line, column }
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError { at: self.place(), message: message.into() })
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.line_start = self.at;
        }
        Some(c)
    }

    fn take(&mut self, c: char) -> bool {
        let there = self.peek() == Some(c);
        if there {
            self.bump();
        }
        there
    }

    /// White space and comments.
    fn skip(&mut self) -> Result<(), SyntaxError> {
        loop {
            let rest = self.rest();
            if rest.starts_with('#') || rest.starts_with("//") {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.bump();
                }
            } else if rest.starts_with("/*") {
                let opened = self.place();
                while !self.rest().starts_with("*/") {
                    if self.bump().is_none() {
                        return Err(SyntaxError { at: opened, message: "the comment is not closed".to_owned() });
                    }
                }
                self.bump();
                self.bump();
            } else if rest.starts_with(char::is_whitespace) {
                self.bump();
            } else {
                return Ok(());
            }
        }
    }

    /// Entries up to the closing brace of the block that was opened at `opened`, or to the end of the file.
    fn body(&mut self, depth: usize, opened: Option<Place>) -> Result<Vec<Entry>, SyntaxError> {
        if depth > DEPTH_MAX {
            return self.fail(format!("nested deeper than {DEPTH_MAX}"));
        }
        let mut entries = Vec::new();
        loop {
            self.skip()?;
            match (self.peek(), opened) {
                (None, None) => return Ok(entries),
                (None, Some(at)) => {
                    return Err(SyntaxError { at, message: "the brace is not closed".to_owned() });
                }
                (Some('}'), Some(_)) => {
                    self.bump();
                    return Ok(entries);
                }
                (Some(','), _) if !entries.is_empty() => {
                    self.bump();
                }
                _ => entries.push(self.entry(depth)?),
            }
        }
    }

    fn entry(&mut self, depth: usize) -> Result<Entry, SyntaxError> {
        let at = self.place();
        let key = self.key()?;
        self.skip()?;
        let value_at = self.place();
        let node = match self.peek() {
            Some('=' | ':') => {
                self.bump();
                self.skip()?;
                self.value(depth)?
            }
            Some('{') => {
                self.bump();
                Node { at: value_at, value: Value::Object(self.body(depth + 1, Some(value_at))?) }
            }
            // A label: an object within.
            Some(c) if c == '"' || is_word(c) => {
                if depth > DEPTH_MAX {
                    return self.fail(format!("nested deeper than {DEPTH_MAX}"));
                }
                Node { at: value_at, value: Value::Object(vec![self.entry(depth + 1)?]) }
            }
            _ => return self.fail(format!("after `{key}` a `=` or a block is expected")),
        };
        Ok(Entry { key, at, node })
    }

    fn key(&mut self) -> Result<String, SyntaxError> {
        match self.peek() {
            Some('"') => self.string(),
            Some(c) if is_word(c) => Ok(self.word()),
            Some('}') => self.fail("a brace is closed that was not opened"),
            Some(c) => self.fail(format!("a key is expected, not `{c}`")),
            None => self.fail("a key is expected, not the end of the file"),
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek().filter(|c| is_word(*c)) {
            word.push(c);
            self.bump();
        }
        word
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        if depth > DEPTH_MAX {
            return self.fail(format!("nested deeper than {DEPTH_MAX}"));
        }
        let at = self.place();
        let value = match self.peek() {
            Some('"') => Value::Text(self.string()?),
            Some('<') => Value::Text(self.heredoc()?),
            Some('[') => self.list(depth)?,
            Some('{') => {
                self.bump();
                Value::Object(self.body(depth + 1, Some(at))?)
            }
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+') => self.number()?,
            Some(c) if is_word(c) => match self.word().as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                word => {
                    let message = format!("`{word}` is no value; a text stands in quotes");
                    return Err(SyntaxError { at, message });
                }
            },
            Some(c) => return self.fail(format!("a value is expected, not `{c}`")),
            None => return self.fail("a value is expected, not the end of the file"),
        };
        Ok(Node { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let opened = self.place();
        self.bump();
        let mut items = Vec::new();
        loop {
            self.skip()?;
            match self.peek() {
                None => return Err(SyntaxError { at: opened, message: "the list is not closed".to_owned() }),
                Some(']') => {
                    self.bump();
                    return Ok(Value::List(items));
                }
                _ => items.push(self.value(depth + 1)?),
            }
            self.skip()?;
            if !self.take(',') && self.peek() != Some(']') {
                return self.fail("the items of a list are separated by commas");
            }
        }
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let at = self.place();
        let mut text = String::new();
        while let Some(c) = self.peek().filter(|c| is_word(*c) || matches!(c, '-' | '+')) {
            text.push(c);
            self.bump();
        }
        let digits = text.trim_start_matches(['-', '+']);
        let plain = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hex) => i64::from_str_radix(hex, 16).ok().map(|n| n.to_string()),
            None => digits.parse::<f64>().ok().filter(|n| n.is_finite()).map(|_| digits.to_owned()),
        };
        match plain {
            Some(plain) if text.starts_with('-') => Ok(Value::Number(format!("-{plain}"))),
            Some(plain) => Ok(Value::Number(plain)),
            None => Err(SyntaxError { at, message: format!("`{text}` is no number") }),
        }
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let opened = self.place();
        let unclosed = SyntaxError { at: opened, message: "the string is not closed".to_owned() };
        self.bump();
        let mut text = String::new();
        // Quotes within `${…}` do not end the string.
        let mut inside = 0_usize;
        loop {
            match self.bump() {
                None | Some('\n') => return Err(unclosed),
                Some('"') if inside == 0 => return Ok(text),
                Some('\\') => {
                    let c = self.bump().ok_or_else(|| unclosed.clone())?;
                    text.push_str(&self.escape(c, inside > 0)?);
                }
                Some('$') if self.peek() == Some('{') => {
                    self.bump();
                    inside += 1;
                    text.push_str("${");
                }
                Some('}') if inside > 0 => {
                    inside -= 1;
                    text.push('}');
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self, c: char, verbatim: bool) -> Result<String, SyntaxError> {
        if verbatim && c != '"' {
            return Ok(format!("\\{c}"));
        }
        let plain = match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '"' | '\\' | '/' => c,
            'u' | 'U' => {
                let digits = if c == 'u' { 4 } else { 8 };
                let hex = self.rest().get(..digits).unwrap_or_default().to_owned();
                let Some(c) = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32) else {
                    return self.fail(format!("`\\{c}{hex}` is no character"));
                };
                self.at += digits;
                c
            }
            c => return self.fail(format!("`\\{c}` means nothing in a string")),
        };
        Ok(plain.to_string())
    }

    fn heredoc(&mut self) -> Result<String, SyntaxError> {
        let opened = self.place();
        if !self.rest().starts_with("<<") {
            return self.fail("a value is expected, not `<`");
        }
        self.at += 2;
        let indented = self.take('-');
        let marker = self.word();
        while matches!(self.peek(), Some(' ' | '\t' | '\r')) {
            self.bump();
        }
        if marker.is_empty() || !self.take('\n') {
            return self.fail("behind `<<` stands a word, and then a new line");
        }
        let mut lines: Vec<&str> = Vec::new();
        loop {
            let rest = self.rest();
            if rest.is_empty() {
                return Err(SyntaxError { at: opened, message: format!("there is no line with only `{marker}`") });
            }
            let end = rest.find('\n').map_or(rest.len(), |n| n + 1);
            let line = rest.get(..end).unwrap_or(rest);
            if line.trim() == marker {
                self.at += line.trim_end_matches(['\n', '\r']).len();
                break;
            }
            lines.push(line);
            self.at += end;
            if line.ends_with('\n') {
                self.line += 1;
                self.line_start = self.at;
            }
        }
        let margin = |line: &&&str| line.len() - line.trim_start_matches([' ', '\t']).len();
        let common = if indented {
            lines.iter().filter(|l| !l.trim().is_empty()).map(|l| margin(&l)).min().unwrap_or(0)
        } else {
            0
        };
        Ok(lines.iter().map(|line| line.get(common..).unwrap_or("\n")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(entries: &[Entry]) -> String {
        let one = |e: &Entry| format!("{}={}", e.key, show(&e.node.value));
        entries.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn show(value: &Value) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Number(n) => n.clone(),
            Value::Text(t) => format!("{t:?}"),
            Value::List(items) => {
                format!("[{}]", items.iter().map(|i| show(&i.value)).collect::<Vec<_>>().join(","))
            }
            Value::Object(entries) => format!("{{{}}}", flat(entries)),
        }
    }

    #[test]
    fn both_dialects_and_both_block_styles_say_the_same() {
        let same = [
            "client {\n  enabled = true\n  meta { \"a.b\" = \"1\" }\n}",
            "client { enabled = true, meta = { \"a.b\" = \"1\", } }",
            "client = { enabled = true meta { a.b = \"1\" } }",
            "\"client\" { \"enabled\": true \"meta\": { \"a.b\": \"1\" } } # end",
        ];
        for text in same {
            assert_eq!(flat(&parse(0, text).unwrap()), "client={enabled=true meta={a.b=\"1\"}}", "{text}");
        }
        let labels = ["plugin \"docker\" { config { a = 1 } }", "plugin docker config { a = 0x1 }"];
        for text in labels {
            assert_eq!(flat(&parse(0, text).unwrap()), "plugin={docker={config={a=1}}}", "{text}");
        }
    }

    #[test]
    fn values_of_each_kind_are_read() {
        let text = "a = [1, \"x\\n\\u00e9\", true,]\nb = -2.5\n// c\n/* d */ e = <<-END\n    one\n      two\n    END\n\
                    f = \"{{ GetInterfaceIP \\\"eth0\\\" }}\"\ng = \"${env(\"X\")}\"\nh = null";
        let expected = "a=[1,\"x\\né\",true] b=-2.5 e=\"one\\n  two\\n\" f=\"{{ GetInterfaceIP \\\"eth0\\\" }}\" \
                        g=\"${env(\\\"X\\\")}\" h=null";
        assert_eq!(flat(&parse(0, text).unwrap()), expected);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        let deep = "a {".repeat(40);
        for (text, line, column, message) in [
            ("a = ", 1, 5, "a value is expected, not the end of the file"),
            ("a = yes", 1, 5, "`yes` is no value; a text stands in quotes"),
            ("x {\n  a = 1\n", 1, 3, "the brace is not closed"),
            ("a = 1\n}", 2, 1, "a brace is closed that was not opened"),
            ("a = \"x\nb = 1", 1, 5, "the string is not closed"),
            ("a = [1 2]", 1, 8, "the items of a list are separated by commas"),
            ("a = [1", 1, 7, "the items of a list are separated by commas"),
            ("é = \"\\q\"", 1, 8, "`\\q` means nothing in a string"),
            ("a = <<E\nx\n", 1, 5, "there is no line with only `E`"),
            ("/* a", 1, 1, "the comment is not closed"),
            ("a = 1x", 1, 5, "`1x` is no number"),
            ("a\n", 2, 1, "after `a` a `=` or a block is expected"),
            (&deep, 1, 100, "nested deeper than 32"),
        ] {
            let error = parse(0, text).unwrap_err();
            assert_eq!((error.at.line, error.at.column, error.message.as_str()), (line, column, message), "{text}");
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic_or_hang() {
        let text = "a \"b\" {\n c = [1, \"x${\"y\"}\", {d = <<E\n  z\nE\n}]\n}\n// é\n/* q */ f: -0x1f,";
        for end in 0..=text.len() {
            let Some(part) = text.get(..end) else { continue };
            let _ = parse(0, part);
            for c in ['"', '{', '}', '[', '\\', '<', '\n', '\u{0}', '$'] {
                let _ = parse(0, &format!("{part}{c}{}", text.get(end..).unwrap_or_default()));
            }
        }
    }
}
