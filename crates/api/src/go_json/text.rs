//! Bytes to a JSON value, with a bound on nesting and Go's words for what is broken. The words are those
//! of the Go standard library's scanner, which say after what a character stands.

use serde_json::{Map, Number, Value};

use super::{BodyError, DEPTH_MAX};

/// Longest path told in an error, in bytes.
const PATH_BYTES_MAX: usize = 300;

type Result<T> = std::result::Result<T, BodyError>;

/// Reads the first value; what follows it is not looked at.
pub(super) fn parse(body: &[u8]) -> Result<Value> {
    if body.is_empty() {
        return Err(BodyError::Empty);
    }
    let mut reader = Reader { body, at: 0, path: Vec::new() };
    reader.space();
    if reader.peek().is_none() {
        return Err(BodyError::OnlySpace);
    }
    reader.value()
}

enum Step {
    Key(String),
    Item(usize),
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
    /// Where the value being read is; its length is the depth.
    path: Vec<Step>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte that is no space.
    fn next_token(&mut self) -> Result<u8> {
        self.space();
        self.peek().ok_or(BodyError::Cut)
    }

    /// The error at the present byte.
    fn broken(&self, context: &'static str) -> BodyError {
        match self.peek() {
            Some(byte) => BodyError::Syntax { found: quote(byte), context },
            None => BodyError::Cut,
        }
    }

    fn value(&mut self) -> Result<Value> {
        match self.next_token()? {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => self.string().map(Value::String),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal("true", &TRUE).map(|()| Value::Bool(true)),
            b'f' => self.literal("false", &FALSE).map(|()| Value::Bool(false)),
            b'n' => self.literal("null", &NULL).map(|()| Value::Null),
            _ => Err(self.broken("looking for beginning of value")),
        }
    }

    /// Reads a value one level down.
    fn inner(&mut self, step: Step) -> Result<Value> {
        self.path.push(step);
        let value = self.value();
        if value.is_ok() {
            self.path.pop();
        }
        value
    }

    /// Opens an object or list.
    fn open(&mut self) -> Result<()> {
        if self.path.len() >= DEPTH_MAX {
            return Err(BodyError::TooDeep { path: self.place() });
        }
        self.at += 1;
        Ok(())
    }

    fn object(&mut self) -> Result<Value> {
        self.open()?;
        let mut map = Map::new();
        if self.next_token()? == b'}' {
            self.at += 1;
            return Ok(Value::Object(map));
        }
        loop {
            if self.next_token()? != b'"' {
                return Err(self.broken("looking for beginning of object key string"));
            }
            let key = self.string()?;
            if self.next_token()? != b':' {
                return Err(self.broken("after object key"));
            }
            self.at += 1;
            let value = self.inner(Step::Key(key.clone()))?;
            map.insert(key, value);
            match self.next_token()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return Err(self.broken("after object key:value pair")),
            }
        }
        self.at += 1;
        Ok(Value::Object(map))
    }

    fn array(&mut self) -> Result<Value> {
        self.open()?;
        let mut list = Vec::new();
        if self.next_token()? == b']' {
            self.at += 1;
            return Ok(Value::Array(list));
        }
        loop {
            let value = self.inner(Step::Item(list.len()))?;
            list.push(value);
            match self.next_token()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return Err(self.broken("after array element")),
            }
        }
        self.at += 1;
        Ok(Value::Array(list))
    }

    /// Reads `word`; `contexts` say what a wrong letter stands in, from the second letter on.
    fn literal(&mut self, word: &str, contexts: &[&'static str]) -> Result<()> {
        self.at += 1;
        for (letter, context) in word.bytes().skip(1).zip(contexts) {
            if self.peek() != Some(letter) {
                return Err(self.broken(context));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn digits(&mut self, context: &'static str) -> Result<()> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.broken(context));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits("in numeric literal")?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        let text = std::str::from_utf8(&self.body[start..self.at]).unwrap_or("0");
        let whole = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from));
        let number = whole.ok().or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64));
        let shown = &text[..text.len().min(40)];
        number
            .map(Value::Number)
            .ok_or_else(|| BodyError::Type(format!("cannot unmarshal number {shown} into Go value of type float64")))
    }

    fn string(&mut self) -> Result<String> {
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            bytes.extend_from_slice(&self.body[start..self.at]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    let letter = self.escape()?;
                    bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => return Err(self.broken("in string literal")),
            }
        }
        self.at += 1;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(broken) => String::from_utf8_lossy(broken.as_bytes()).into_owned(),
        })
    }

    fn escape(&mut self) -> Result<char> {
        let letter = match self.peek() {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.code_point();
            }
            _ => return Err(self.broken("in string escape code")),
        };
        self.at += 1;
        Ok(letter)
    }

    /// What follows `\u`: one unit, or two that belong together. Half a pair is U+FFFD.
    fn code_point(&mut self) -> Result<char> {
        let first = self.hex4()?;
        if (0xd800..0xdc00).contains(&first) && self.body[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                let joined = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.broken("in \\u hexadecimal character escape"));
            };
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }

    /// The path of the value being read.
    fn place(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) if text.is_empty() => text.push_str(key),
                Step::Key(key) => text.extend([".", key]),
                Step::Item(i) => text.push_str(&format!("[{i}]")),
            }
            if text.len() > PATH_BYTES_MAX {
                let end = (0..=PATH_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                text.truncate(end);
                text.push('…');
                break;
            }
        }
        text
    }
}

const TRUE: [&str; 3] =
    ["in literal true (expecting 'r')", "in literal true (expecting 'u')", "in literal true (expecting 'e')"];
const FALSE: [&str; 4] = [
    "in literal false (expecting 'a')",
    "in literal false (expecting 'l')",
    "in literal false (expecting 's')",
    "in literal false (expecting 'e')",
];
const NULL: [&str; 3] =
    ["in literal null (expecting 'u')", "in literal null (expecting 'l')", "in literal null (expecting 'l')"];

/// A byte as Go quotes it.
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        7 => r"'\a'".to_owned(),
        8 => r"'\b'".to_owned(),
        9 => r"'\t'".to_owned(),
        10 => r"'\n'".to_owned(),
        11 => r"'\v'".to_owned(),
        12 => r"'\f'".to_owned(),
        13 => r"'\r'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}
