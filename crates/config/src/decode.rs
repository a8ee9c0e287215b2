//! From what a file says to what it means: settings are declared once, and decoding, defaults and the
//! documents come from the declaration.
//!
//! ```text
//!   entries of all files, in order ──► Block::take ──► Setting::decode, key by key ──► value or Problem
//! ```
//!
//! * What is repeated adds up: blocks and maps merge key by key, of several scalars the last one holds.
//!   A list is all of its pieces within one file; a later file's list takes the place of an earlier one's.
//! * Types are taken loosely where the meaning is plain: `"4646"` is a number, `1` is true.
//! * Everything that is wrong is found, not only the first thing.

use std::collections::BTreeMap;
use std::fmt;

use model::Nanos;
use model::time::parse_go_duration;

use crate::known;
use crate::syntax::{Entry, Node, Place, Value};

/// Most problems that are worth reading.
const PROBLEMS_MAX: usize = 50;

/// Something to say about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub at: Place,
    /// `client.gc_interval`.
    pub key: String,
    pub message: String,
    pub hint: Option<String>,
}

/// What was found while reading.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl Notes {
    pub fn problem(&mut self, at: Place, key: &str, message: impl Into<String>) {
        self.problem_with(at, key, message, None);
    }

    pub fn problem_with(&mut self, at: Place, key: &str, message: impl Into<String>, hint: Option<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { at, key: key.to_owned(), message: message.into(), hint });
        }
    }

    pub fn warning(&mut self, at: Place, key: &str, message: impl Into<String>) {
        if self.warnings.len() < PROBLEMS_MAX {
            self.warnings.push(Problem { at, key: key.to_owned(), message: message.into(), hint: None });
        }
    }
}

/// One key of a block, for the documents.
#[derive(Clone, Debug)]
pub struct Field {
    pub key: &'static str,
    pub kind: &'static str,
    pub default: String,
    pub about: String,
    /// What is within, if it is a block.
    pub within: Option<BlockDoc>,
}

/// A block, for the documents.
#[derive(Clone, Debug)]
pub struct BlockDoc {
    /// `client.reserved`; the root is empty.
    pub path: &'static str,
    pub about: String,
    pub fields: Vec<Field>,
}

/// A value that a key may have.
pub trait Setting: Sized + PartialEq {
    /// For the documents.
    const KIND: &'static str;
    /// `nodes` are all values that the key was given, in order; at least one.
    fn decode(nodes: &[&Node], key: &str, notes: &mut Notes) -> Option<Self>;
    /// For the documents.
    fn shown(&self) -> String;
    fn within() -> Option<BlockDoc> {
        None
    }
    /// Names what differs: keys, never values.
    fn changed(&self, other: &Self, key: &str, out: &mut Vec<String>) {
        if self != other {
            out.push(key.to_owned());
        }
    }
}

/// A block of settings; implemented by `settings!`.
pub trait Block: Default {
    const PATH: &'static str;
    fn doc() -> BlockDoc;
    /// `false`: there is no such key.
    fn set(&mut self, field: &str, nodes: &[&Node], key: &str, notes: &mut Notes) -> bool;
}

/// Decodes a block from its entries, those of several files one after the other.
pub(crate) fn block<B: Block>(entries: &[&Entry], key: &str, notes: &mut Notes) -> B {
    let mut taken = B::default();
    let mut groups: Vec<(&str, Vec<&Node>, Place)> = Vec::new();
    for entry in entries {
        match groups.iter_mut().find(|(name, ..)| *name == entry.key) {
            Some((_, nodes, _)) => nodes.push(&entry.node),
            None => groups.push((&entry.key, vec![&entry.node], entry.at)),
        }
    }
    for (name, nodes, at) in groups {
        let full = join(key, name);
        // `null` says nothing.
        let nodes: Vec<&Node> = nodes.into_iter().filter(|n| n.value != Value::Null).collect();
        if nodes.is_empty() || taken.set(name, &nodes, &full, notes) {
            continue;
        }
        if !known::pass_over(B::PATH, name, &full, at, &nodes, notes) {
            let names = B::doc().fields.into_iter().map(|f| f.key).chain(known::keys(B::PATH));
            notes.problem_with(at, &full, "there is no such key", suggestion(name, names));
        }
    }
    taken
}

pub(crate) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len().min(name.len()) / 4);
    near.min().map(|(_, known)| format!("did you mean `{known}`?"))
}

pub(crate) fn join(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
}

/// The entries of blocks that are given as objects, or as lists of objects.
pub(crate) fn entries<'a>(nodes: &[&'a Node], key: &str, notes: &mut Notes) -> Vec<&'a Entry> {
    let mut all = Vec::new();
    for node in nodes {
        match &node.value {
            Value::Object(entries) => all.extend(entries),
            Value::List(items) => {
                for item in items {
                    match &item.value {
                        Value::Object(entries) => all.extend(entries),
                        other => notes.problem(item.at, key, format!("it is a block, not {}", other.kind())),
                    }
                }
            }
            other => notes.problem(node.at, key, format!("it is a block, not {}", other.kind())),
        }
    }
    all
}

fn last<'a>(nodes: &[&'a Node]) -> Option<&'a Node> {
    nodes.last().copied()
}

fn wrong<T>(node: &Node, key: &str, wanted: &str, notes: &mut Notes) -> Option<T> {
    let found = match &node.value {
        Value::Text(text) => format!("`{}`", text.chars().take(60).collect::<String>()),
        Value::Number(text) => format!("`{text}`"),
        other => other.kind().to_owned(),
    };
    notes.problem(node.at, key, format!("it is {wanted}, not {found}"));
    None
}

fn text(node: &Node, key: &str, notes: &mut Notes) -> Option<String> {
    match &node.value {
        Value::Text(text) | Value::Number(text) => Some(text.clone()),
        Value::Bool(b) => Some(b.to_string()),
        _ => wrong(node, key, "a string", notes),
    }
}

impl Setting for String {
    const KIND: &'static str = "string";
    fn decode(nodes: &[&Node], key: &str, notes: &mut Notes) -> Option<Self> {
        text(last(nodes)?, key, notes)
    }
    fn shown(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for bool {
    const KIND: &'static str = "bool";
    fn decode(nodes: &[&Node], key: &str, notes: &mut Notes) -> Option<Self> {
        let node = last(nodes)?;
        match &node.value {
            Value::Bool(b) => Some(*b),
            Value::Text(t) | Value::Number(t) => match t.to_ascii_lowercase().as_str() {
                "1" | "t" | "true" => Some(true),
                "0" | "f" | "false" => Some(false),
                _ => wrong(node, key, "true or false", notes),
            },
            _ => wrong(node, key, "true or false", notes),
        }
    }
    fn shown(&self) -> String {
        self.to_string()
    }
}

macro_rules! number {
    ($type:ty, $kind:literal, $wanted:expr) => {
        impl Setting for $type {
            const KIND: &'static str = $kind;
            fn decode(nodes: &[&Node], key: &str, notes: &mut Notes) -> Option<Self> {
                let node = last(nodes)?;
                match &node.value {
                    Value::Number(t) | Value::Text(t) => match t.trim().parse::<Self>() {
                        Ok(n) => Some(n),
                        Err(_) => wrong(node, key, &$wanted, notes),
                    },
                    _ => wrong(node, key, &$wanted, notes),
                }
            }
            fn shown(&self) -> String {
                self.to_string()
            }
        }
    };
}
number!(i64, "int", "a whole number");
number!(u64, "int", "a whole number from 0 up");
number!(u32, "int", "a whole number from 0 up");
number!(u16, "int", format!("a whole number from 0 to {}", u16::MAX));
number!(f64, "float", "a number");

/// `30s`, `1h30m`.
impl Setting for Nanos {
    const KIND: &'static str = "duration";
    fn decode(nodes: &[&Node], key: &str, notes: &mut Notes) -> Option<Self> {
        let node = last(nodes)?;
        let parsed = match &node.value {
            Value::Text(t) => parse_go_duration(t.trim()),
            // As in the API: nanoseconds.
            Value::Number(t) => t.parse().ok().map(Nanos),
            _ => None,
        };
        match parsed {
            Some(span) if span.0 >= 0 => Some(span),
            _ => wrong(node, key, "a duration such as \"30s\" or \"1h30m\"", notes),
        }
    }
    fn shown(&self) -> String {
        format!("\"{}\"", span_text(*self))
    }
}

fn span_text(span: Nanos) -> String {
    let second = 1_000_000_000;
    for (unit, letter) in [(3_600 * second, "h"), (60 * second, "m"), (second, "s")] {
        if span.0 > 0 && span.0 % unit == 0 {
            return format!("{}{letter}", span.0 / unit);
        }
    }
    format!("{}ms", span.0 / 1_000_000)
}

impl Setting for Vec<String> {
    const KIND: &'static str = "list of strings";
    fn decode(nodes: &[&Node], key: &str, notes: &mut Notes) -> Option<Self> {
        let newest = nodes.iter().map(|n| n.at.source).max()?;
        let mut all = Vec::new();
        for node in nodes.iter().filter(|n| n.at.source == newest) {
            match &node.value {
                Value::List(items) => all.extend(items.iter().filter_map(|item| text(item, key, notes))),
                Value::Object(_) => return wrong(node, key, "a list of strings", notes),
                _ => all.extend(text(node, key, notes)),
            }
        }
        Some(all)
    }
    fn shown(&self) -> String {
        let items: Vec<String> = self.iter().map(Setting::shown).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Setting for BTreeMap<String, String> {
    const KIND: &'static str = "map of strings";
    fn decode(nodes: &[&Node], key: &str, notes: &mut Notes) -> Option<Self> {
        let mut all = Self::new();
        for entry in entries(nodes, key, notes) {
            if let Some(value) = text(&entry.node, &join(key, &entry.key), notes) {
                all.insert(entry.key.clone(), value);
            }
        }
        Some(all)
    }
    fn shown(&self) -> String {
        "{}".to_owned()
    }
}

impl<T: Setting> Setting for Option<T> {
    const KIND: &'static str = T::KIND;
    fn decode(nodes: &[&Node], key: &str, notes: &mut Notes) -> Option<Self> {
        T::decode(nodes, key, notes).map(Some)
    }
    fn shown(&self) -> String {
        self.as_ref().map_or_else(String::new, Setting::shown)
    }
    fn within() -> Option<BlockDoc> {
        T::within()
    }
    fn changed(&self, other: &Self, key: &str, out: &mut Vec<String>) {
        match (self, other) {
            (Some(own), Some(other)) => own.changed(other, key, out),
            (None, None) => {}
            _ => out.push(key.to_owned()),
        }
    }
}

/// Blocks told apart by a label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labelled<T>(pub BTreeMap<String, T>);

impl<T: Block + PartialEq> Setting for Labelled<T> {
    const KIND: &'static str = "blocks with a label";
    fn decode(nodes: &[&Node], key: &str, notes: &mut Notes) -> Option<Self> {
        let mut groups: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
        for entry in entries(nodes, key, notes) {
            groups.entry(&entry.key).or_default().push(&entry.node);
        }
        let mut all = BTreeMap::new();
        for (label, nodes) in groups {
            let key = format!("{key} \"{label}\"");
            let within = entries(&nodes, &key, notes);
            all.insert(label.to_owned(), block(&within, &key, notes));
        }
        Some(Self(all))
    }
    fn shown(&self) -> String {
        String::new()
    }
    fn within() -> Option<BlockDoc> {
        Some(T::doc())
    }
}

/// What somebody else takes apart: a driver's configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Free(pub serde_json::Map<String, serde_json::Value>);

impl Setting for Free {
    const KIND: &'static str = "block";
    fn decode(nodes: &[&Node], key: &str, notes: &mut Notes) -> Option<Self> {
        let mut map = serde_json::Map::new();
        for entry in entries(nodes, key, notes) {
            merge(&mut map, &entry.key, json(&entry.node.value));
        }
        Some(Self(map))
    }
    fn shown(&self) -> String {
        String::new()
    }
}

fn merge(map: &mut serde_json::Map<String, serde_json::Value>, key: &str, value: serde_json::Value) {
    match (map.get_mut(key), value) {
        (Some(serde_json::Value::Object(there)), serde_json::Value::Object(more)) => {
            for (key, value) in more {
                merge(there, &key, value);
            }
        }
        (_, value) => {
            map.insert(key.to_owned(), value);
        }
    }
}

fn json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Number(text) => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(n), _) => Json::from(n),
            (_, Ok(n)) => Json::from(n),
            _ => Json::from(text.as_str()),
        },
        Value::Text(text) => Json::from(text.as_str()),
        Value::List(items) => items.iter().map(|item| json(&item.value)).collect(),
        Value::Object(entries) => {
            let mut map = serde_json::Map::new();
            for entry in entries {
                merge(&mut map, &entry.key, json(&entry.node.value));
            }
            Json::Object(map)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.key, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// Declares blocks of settings: `Name "path" { field: Type = default, }`, each with a doc comment.
macro_rules! settings {
    ($( $(#[doc = $about:literal])+ $name:ident $path:literal {
        $( $(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr, )*
    } )+) => { $(
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $( $(#[doc = $doc])+ pub $field: $kind, )* }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::decode::Block for $name {
            const PATH: &'static str = $path;
            fn doc() -> $crate::decode::BlockDoc {
                let default = Self::default();
                let fields = vec![ $( $crate::decode::Field {
                    key: stringify!($field),
                    kind: <$kind as $crate::decode::Setting>::KIND,
                    default: $crate::decode::Setting::shown(&default.$field),
                    about: [$($doc),+].concat().trim().to_owned(),
                    within: <$kind as $crate::decode::Setting>::within(),
                }, )* ];
                $crate::decode::BlockDoc { path: $path, about: [$($about),+].concat().trim().to_owned(), fields }
            }
            fn set(
                &mut self,
                field: &str,
                nodes: &[&$crate::syntax::Node],
                key: &str,
                notes: &mut $crate::decode::Notes,
            ) -> bool {
                match field {
                    $( stringify!($field) => {
                        if let Some(value) = $crate::decode::Setting::decode(nodes, key, notes) {
                            self.$field = value;
                        }
                        true
                    } )*
                    _ => false,
                }
            }
        }

        impl $crate::decode::Setting for $name {
            const KIND: &'static str = "block";
            fn decode(
                nodes: &[&$crate::syntax::Node],
                key: &str,
                notes: &mut $crate::decode::Notes,
            ) -> Option<Self> {
                let entries = $crate::decode::entries(nodes, key, notes);
                Some($crate::decode::block(&entries, key, notes))
            }
            fn shown(&self) -> String {
                String::new()
            }
            fn within() -> Option<$crate::decode::BlockDoc> {
                Some(<Self as $crate::decode::Block>::doc())
            }
            fn changed(&self, other: &Self, key: &str, out: &mut Vec<String>) {
                $( {
                    let field = stringify!($field);
                    let key = if key.is_empty() { field.to_owned() } else { format!("{key}.{field}") };
                    $crate::decode::Setting::changed(&self.$field, &other.$field, &key, out);
                } )*
            }
        }
    )+ };
}
pub(crate) use settings;
