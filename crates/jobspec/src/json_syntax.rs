//! JSON syntax of the job language → [`ast`](crate::ast).
//!
//! JSON has one kind of nesting where native syntax has attributes, blocks and labels, so reading
//! it takes the schema: a property named like a block is one block, or several when it is an
//! array, and each label of that block is one more level of objects. Strings are templates.
//!
//! The reader is our own because findings need positions; it is bounded in depth.

use crate::ast::{Attribute, Block, Body, Expr, Kind, Label};
use crate::diagnostics::{Fallible, Problem, Span};
use crate::limits;
use crate::lower;
use crate::number::Number;
use crate::scan;
use crate::schema::{self, Field, Shape};
use crate::value::Value;

#[derive(Clone, Debug)]
pub(crate) struct Json {
    pub kind: JsonKind,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum JsonKind {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Span, Json)>),
}

struct Reader<'a> {
    file: u32,
    text: &'a str,
    at: usize,
    depth: usize,
    /// What the tree takes of memory, and what its templates will.
    weight: u64,
}

/// What a value takes in this tree and the next, rounded up.
const VALUE_WEIGHT: u64 = 400;

/// Whether a text is JSON syntax: its first byte after blanks opens an object.
pub(crate) fn is_json(text: &str) -> bool {
    text.trim_start_matches(' ').starts_with('{')
}

pub(crate) fn read(file: u32, text: &str) -> Fallible<Json> {
    let mut reader = Reader { file, text, at: 0, depth: 0, weight: 2 * text.len() as u64 };
    let value = reader.value()?;
    reader.blank();
    if reader.at < text.len() {
        return Err(reader.problem("Extraneous data after value", "Extra characters appear after the JSON value."));
    }
    Ok(value)
}

impl Reader<'_> {
    fn problem(&self, summary: &str, detail: &str) -> Box<Problem> {
        let width = self.text.get(self.at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        Problem::error(Span::new(self.file, self.at, self.at + width), summary, detail)
    }

    fn blank(&mut self) {
        while matches!(self.text.as_bytes().get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.blank();
        self.text.as_bytes().get(self.at).copied()
    }

    fn value(&mut self) -> Fallible<Json> {
        let next = self.peek();
        let start = self.at;
        let kind = match next {
            Some(b'{') => self.nested(Self::object)?,
            Some(b'[') => self.nested(Self::array)?,
            Some(b'"') => JsonKind::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'a'..=b'z') => self.keyword()?,
            Some(_) => {
                return Err(self.problem(
                    "Invalid start of value",
                    "A JSON value must start with a brace, a bracket, a number, a string, or a keyword.",
                ));
            }
            None => {
                return Err(self.problem("Missing JSON value", "There is no JSON value before the end of the file."));
            }
        };
        let span = Span::new(self.file, start, self.at);
        self.weigh(VALUE_WEIGHT, span)?;
        Ok(Json { kind, span })
    }

    fn weigh(&mut self, more: u64, span: Span) -> Fallible<()> {
        scan::weigh(&mut self.weight, more, span)
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Fallible<JsonKind>) -> Fallible<JsonKind> {
        if self.depth >= limits::NESTING {
            return Err(self.problem("Too deeply nested", "Objects and arrays are nested too deeply."));
        }
        self.depth += 1;
        self.at += 1;
        let kind = inner(self);
        self.depth -= 1;
        kind
    }

    fn object(&mut self) -> Fallible<JsonKind> {
        let mut items = Vec::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(JsonKind::Object(items));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(
                    self.problem("Invalid object property name", "A JSON object property name must be a string.")
                );
            }
            let start = self.at;
            let name = self.string()?;
            let span = Span::new(self.file, start, self.at);
            if self.peek() != Some(b':') {
                return Err(self.problem(
                    "Missing property value colon",
                    "A colon must appear between an object property's name and its value.",
                ));
            }
            self.at += 1;
            self.weigh(VALUE_WEIGHT, span)?;
            items.push((name, span, self.value()?));
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(JsonKind::Object(items));
                }
                None => return Err(self.problem("Unclosed object", "No closing brace was found for this JSON object.")),
                Some(_) => {
                    return Err(self.problem(
                        "Missing attribute separator",
                        "A property value must be followed by a comma or a closing brace.",
                    ));
                }
            }
        }
    }

    fn array(&mut self) -> Fallible<JsonKind> {
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(JsonKind::Array(items));
        }
        loop {
            items.push(self.value()?);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(JsonKind::Array(items));
                }
                None => return Err(self.problem("Unclosed array", "No closing bracket was found for this JSON array.")),
                Some(_) => {
                    return Err(self.problem(
                        "Missing item separator",
                        "An array item must be followed by a comma or a closing bracket.",
                    ));
                }
            }
        }
    }

    fn string(&mut self) -> Fallible<String> {
        let start = self.at;
        let mut end = start + 1;
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(end) {
            match byte {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        let Some(quoted) = self.text.get(start..=end).filter(|_| bytes.get(end) == Some(&b'"')) else {
            return Err(self.problem("Unclosed string", "This JSON string has no closing quote."));
        };
        let text = serde_json::from_str(quoted).map_err(|_| {
            self.problem("Invalid string", "This JSON string holds an escape or a character that JSON does not allow.")
        })?;
        self.at = end + 1;
        let text: String = text;
        if text.contains("${") || text.contains("%{") {
            // What is wrong with it is said when it is read as a template.
            let weight = scan::check_template(self.file, &text, 0).unwrap_or(0);
            self.weigh(weight, Span::new(self.file, start, self.at))?;
        }
        Ok(text)
    }

    fn number(&mut self) -> Fallible<JsonKind> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let number =
            Number::parse(&rest[..end]).ok_or_else(|| self.problem("Invalid number", "This is not a JSON number."))?;
        self.at += end;
        Ok(JsonKind::Number(number))
    }

    fn keyword(&mut self) -> Fallible<JsonKind> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let kind = match &rest[..end] {
            "null" => JsonKind::Null,
            "true" => JsonKind::Bool(true),
            "false" => JsonKind::Bool(false),
            _ => {
                return Err(self.problem("Invalid JSON keyword", "Only null, true and false may stand without quotes."));
            }
        };
        self.at += end;
        Ok(kind)
    }
}

impl Json {
    /// The value as written: strings are plain text, not templates.
    pub fn literal(&self) -> Value {
        match &self.kind {
            JsonKind::Null => Value::Null,
            JsonKind::Bool(value) => Value::Bool(*value),
            JsonKind::Number(number) => Value::Number(*number),
            JsonKind::String(text) => Value::string(text),
            JsonKind::Array(items) => Value::tuple(items.iter().map(Json::literal).collect()),
            JsonKind::Object(items) => {
                Value::object(items.iter().map(|(name, _, item)| (name.clone(), item.literal())).collect())
            }
        }
    }

    /// The value as an expression: strings, and property names, are templates.
    fn expr(&self) -> Fallible<Expr> {
        let kind = match &self.kind {
            JsonKind::String(text) => template(text, self.span)?,
            JsonKind::Array(items) => Kind::Tuple(items.iter().map(Json::expr).collect::<Fallible<_>>()?),
            JsonKind::Object(items) => Kind::Object(
                items
                    .iter()
                    .map(|(name, span, item)| Ok((Expr { kind: template(name, *span)?, span: *span }, item.expr()?)))
                    .collect::<Fallible<_>>()?,
            ),
            _ => Kind::Literal(self.literal()),
        };
        Ok(Expr { kind, span: self.span })
    }
}

fn template(text: &str, span: Span) -> Fallible<Kind> {
    lower::template(span.file, text, span.start as usize + 1)
}

/// Reads a whole file as a body of the given schema.
pub(crate) fn body(file: u32, text: &str, schema: &'static schema::Body) -> Fallible<Body> {
    to_body(&read(file, text)?, Some(schema))
}

/// `None` is an open body: every property is an attribute.
fn to_body(json: &Json, schema: Option<&'static schema::Body>) -> Fallible<Body> {
    let mut body = Body::default();
    let objects: Vec<&Json> = match &json.kind {
        JsonKind::Array(items) => items.iter().collect(),
        _ => vec![json],
    };
    for object in objects {
        let JsonKind::Object(items) = &object.kind else {
            return Err(Problem::error(
                object.span,
                "Incorrect JSON value type",
                "A JSON object is required here, to define arguments and child blocks.",
            ));
        };
        for (name, span, value) in items {
            if name == "//" {
                continue;
            }
            if name == "dynamic" && schema.is_some() {
                dynamic(value, schema, &mut body)?;
                continue;
            }
            match schema.and_then(|schema| schema.field(name)).and_then(block_shape) {
                Some((labels, inner)) => blocks(name, *span, value, labels, inner, &mut Vec::new(), &mut body)?,
                None => body.attributes.push(Attribute {
                    name: name.clone(),
                    name_span: *span,
                    span: Span { end: value.span.end, ..*span },
                    value: value.expr()?,
                    from_json: true,
                }),
            }
        }
    }
    Ok(body)
}

/// How many labels a block has and what is inside it; `None` for attributes.
fn block_shape(field: &'static Field) -> Option<(usize, Option<&'static schema::Body>)> {
    match field.shape {
        Shape::One(body) | Shape::Many(body) | Shape::ByLabel(body) => {
            Some((usize::from(body.label().is_some()), Some(body)))
        }
        Shape::Opaque => Some((0, None)),
        _ => None,
    }
}

fn blocks(
    name: &str,
    span: Span,
    value: &Json,
    labels: usize,
    schema: Option<&'static schema::Body>,
    found: &mut Vec<Label>,
    out: &mut Body,
) -> Fallible<()> {
    match &value.kind {
        JsonKind::Null => Ok(()),
        JsonKind::Array(items) => {
            for item in items {
                blocks(name, span, item, labels, schema, found, out)?;
            }
            Ok(())
        }
        JsonKind::Object(items) if labels > 0 => {
            for (label, label_span, inner) in items.iter().filter(|(label, _, _)| label != "//") {
                found.push(Label { text: label.clone(), span: *label_span });
                blocks(name, span, inner, labels - 1, schema, found, out)?;
                found.pop();
            }
            Ok(())
        }
        _ => {
            out.blocks.push(Block {
                kind: name.to_owned(),
                kind_span: span,
                labels: found.clone(),
                header: span,
                open: value.span.head(),
                body: to_body(value, schema)?,
            });
            Ok(())
        }
    }
}

/// `"dynamic": {"port": {…}}`: the inner properties are plain, except `content`.
fn dynamic(value: &Json, schema: Option<&'static schema::Body>, out: &mut Body) -> Fallible<()> {
    let JsonKind::Object(kinds) = &value.kind else {
        return Err(Problem::error(
            value.span,
            "Incorrect JSON value type",
            "A JSON object is required here, with one property per block type.",
        ));
    };
    for (kind, span, inner) in kinds {
        let content_schema =
            schema.and_then(|schema| schema.field(kind)).and_then(block_shape).and_then(|(_, body)| body);
        let uses: Vec<&Json> = match &inner.kind {
            JsonKind::Array(items) => items.iter().collect(),
            _ => vec![inner],
        };
        for one in uses {
            let JsonKind::Object(items) = &one.kind else {
                return Err(Problem::error(one.span, "Incorrect JSON value type", "A JSON object is required here."));
            };
            let mut body = Body::default();
            for (name, name_span, item) in items {
                if name == "content" {
                    blocks(name, *name_span, item, 0, content_schema, &mut Vec::new(), &mut body)?;
                } else {
                    // An iterator is a bare name in native syntax; here it is a plain string.
                    let value = if name == "iterator" {
                        Expr { kind: Kind::Literal(item.literal()), span: item.span }
                    } else {
                        item.expr()?
                    };
                    body.attributes.push(Attribute {
                        name: name.clone(),
                        name_span: *name_span,
                        span: *name_span,
                        value,
                        from_json: true,
                    });
                }
            }
            out.blocks.push(Block {
                kind: "dynamic".to_owned(),
                kind_span: *span,
                labels: vec![Label { text: kind.clone(), span: *span }],
                header: *span,
                open: one.span.head(),
                body,
            });
        }
    }
    Ok(())
}
