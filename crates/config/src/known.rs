//! Keys of the compatible configuration that nothing here obeys yet: named in a warning, not refused.

use crate::decode::{Notes, entries, join, suggestion};
use crate::syntax::{Node, Place};

/// Lines of `block <tab> key <tab> type`; the root block is `(root)`.
const TABLE: &str = include_str!("not_built.tsv");

/// Every key: block, name, type.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    TABLE.lines().filter_map(|line| {
        let mut parts = line.split('\t');
        let block = parts.next().map(|b| if b == "(root)" { "" } else { b })?;
        Some((block, parts.next()?, parts.next()?))
    })
}

pub(crate) fn keys(block: &str) -> impl Iterator<Item = &'static str> {
    all().filter(move |(b, ..)| *b == block).map(|(_, key, _)| key)
}

/// Notes that the key has no effect; `false` when it is not a key at all.
pub(crate) fn pass_over(block: &str, name: &str, key: &str, at: Place, nodes: &[&Node], notes: &mut Notes) -> bool {
    let Some((_, _, kind)) = all().find(|(b, k, _)| *b == block && *k == name) else { return false };
    if !kind.contains("block") {
        notes.warning(at, key, "is not built yet and has no effect");
        return true;
    }
    let path = join(block, name);
    let mut seen = false;
    for entry in entries(nodes, key, notes) {
        let below = [&entry.node];
        if kind.contains("label") {
            for inner in entries(&below, key, notes) {
                seen = true;
                let key = format!("{key} \"{}\".{}", entry.key, inner.key);
                within(&path, &inner.key, &key, inner.at, &[&inner.node], notes);
            }
        } else {
            seen = true;
            within(&path, &entry.key, &join(key, &entry.key), entry.at, &below, notes);
        }
    }
    if !seen {
        notes.warning(at, key, "is not built yet and has no effect");
    }
    true
}

fn within(path: &str, name: &str, key: &str, at: Place, nodes: &[&Node], notes: &mut Notes) {
    // Some blocks take any key.
    if keys(path).next().is_none() {
        notes.warning(at, key, "is not built yet and has no effect");
    } else if !pass_over(path, name, key, at, nodes, notes) {
        notes.problem_with(at, key, "there is no such key", suggestion(name, keys(path)));
    }
}
