//! What a file says, before anybody asks what it means: entries in order, each with its place.
//!
//! HCL and JSON come to the same tree. A label is an object within an object, as in JSON:
//! `plugin "docker" { … }` is `plugin = { docker = { … } }`.

use std::fmt;

/// Longest configuration file.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of blocks, lists and objects.
pub const DEPTH_MAX: usize = 32;

/// Where something stands. Line 0: in no particular line (JSON, the command line).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Which source, in order of loading.
    pub source: usize,
    pub line: usize,
    pub column: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: Place,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Entry>),
}

/// `key = value`, or a block. Keys may be repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub at: Place,
    pub node: Node,
}

impl Value {
    /// What kind of thing it is, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "a block",
        }
    }
}

/// The text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SyntaxError {
    pub at: Place,
    pub message: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Reads HCL or JSON, told apart by content: only JSON begins with a brace.
///
/// # Errors
/// The first thing in it that cannot be read.
pub fn parse(source: usize, text: &str) -> Result<Vec<Entry>, SyntaxError> {
    let start = Place { source, line: 1, column: 1 };
    if text.len() > FILE_BYTES_MAX {
        return Err(SyntaxError { at: start, message: format!("the file is longer than {FILE_BYTES_MAX} bytes") });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') { crate::json::parse(source, text) } else { crate::hcl::parse(source, text) }
}
