//! JSON as configuration files are written in it. A key may be repeated, as in HCL: nothing that was said is
//! lost, which it would be in a map.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::syntax::{DEPTH_MAX, Entry, Node, Place, SyntaxError, Value};

pub(crate) fn parse(source: usize, text: &str) -> Result<Vec<Entry>, SyntaxError> {
    let tree: Tree = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        SyntaxError { at: Place { source, line: error.line(), column: error.column() }, message }
    })?;
    match node(Place { source, line: 0, column: 0 }, tree, 0)?.value {
        Value::Object(entries) => Ok(entries),
        _ => Ok(Vec::new()),
    }
}

enum Tree {
    Leaf(Value),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

fn node(at: Place, tree: Tree, depth: usize) -> Result<Node, SyntaxError> {
    if depth > DEPTH_MAX {
        return Err(SyntaxError { at, message: format!("nested deeper than {DEPTH_MAX}") });
    }
    let value = match tree {
        Tree::Leaf(value) => value,
        Tree::List(items) => {
            Value::List(items.into_iter().map(|item| node(at, item, depth + 1)).collect::<Result<_, _>>()?)
        }
        Tree::Object(entries) => {
            let entry = |(key, tree)| Ok(Entry { key, at, node: node(at, tree, depth + 1)? });
            Value::Object(entries.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
    };
    Ok(Node { at, value })
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Whatever)
    }
}

struct Whatever;

impl<'de> Visitor<'de> for Whatever {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_bool<E>(self, b: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Bool(b)))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Number(n.to_string())))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Number(n.to_string())))
    }

    fn visit_f64<E>(self, n: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Number(serde_json::Value::from(n).to_string())))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Object(entries))
    }
}
