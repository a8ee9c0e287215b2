//! What a machine's configuration files mean.
//!
//! ```text
//!   sources (files, in order, then flags) ─ syntax ─► entries ─ decode ─► Config ─ check ─► Config, warnings
//!                                            hcl, json          known                    └► problems, all of them
//! ```
//!
//! [`load`] is a pure function of texts. Whoever calls it reads files, knows the host's name and starts
//! processes. Keys of the compatible configuration that nothing obeys yet give a warning each; keys that
//! nobody knows are errors.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod check;
mod decode;
pub mod docs;
mod form;
mod hcl;
mod json;
pub mod known;
pub mod settings;
pub mod syntax;

pub use check::{GOSSIP_KEY_BYTES, gossip_key};
pub use decode::{Block, BlockDoc, Field, Free, Labelled, Problem};
pub use settings::Config;

use decode::Notes;
use syntax::{Entry, Place};

/// A text and what to call it.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// What was loaded, and what is worth saying about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// One sentence each, with the place.
    pub warnings: Vec<String>,
}

/// Keys whose values differ, such as `ports.http`; their values may be secrets and are not told.
pub fn changed(one: &Config, other: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    decode::Setting::changed(one, other, "", &mut keys);
    keys
}

/// Loads sources one over the other, then `over`: settings by key, such as flags.
///
/// # Errors
/// Everything that is wrong, one sentence each, with the place.
pub fn load(sources: &[Source], over: &[(String, syntax::Value)], dev: bool) -> Result<Loaded, Vec<String>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut failed = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        match syntax::parse(at, &source.text) {
            Ok(read) => entries.extend(read),
            Err(error) => failed.push(format!("{}: {error}", place(sources, error.at))),
        }
    }
    let at = Place { source: sources.len(), line: 0, column: 0 };
    entries.extend(over.iter().map(|(key, value)| overriding(key, value, at)));
    let mut notes = Notes::default();
    let entries: Vec<&Entry> = entries.iter().collect();
    let mut config: Config = decode::block(&entries, "", &mut notes);
    if dev {
        config.server.enabled = true;
        config.client.enabled = true;
        config.server.bootstrap_expect = 1;
    }
    check::check(&config, dev, &mut notes);
    if !config.vault.enabled {
        notes.warnings.retain(|warning| !warning.key.starts_with("vault."));
    }
    let told = |problem: &Problem| format!("{}{problem}", prefix(sources, problem.at));
    if failed.is_empty() && notes.problems.is_empty() {
        return Ok(Loaded { config, warnings: notes.warnings.iter().map(told).collect() });
    }
    // What files that cannot be read would have said is not known: the rest is not judged by it.
    if failed.is_empty() {
        failed.extend(notes.problems.iter().map(told));
    }
    Err(failed)
}

/// `client.node_class` as entries within entries.
fn overriding(key: &str, value: &syntax::Value, at: Place) -> Entry {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let value = match rest {
        Some(rest) => syntax::Value::Object(vec![overriding(rest, value, at)]),
        None => value.clone(),
    };
    let value = match value {
        syntax::Value::List(items) => {
            syntax::Value::List(items.into_iter().map(|n| syntax::Node { at, ..n }).collect())
        }
        value => value,
    };
    Entry { key: first.to_owned(), at, node: syntax::Node { at, value } }
}

fn place(sources: &[Source], at: Place) -> String {
    match sources.get(at.source) {
        Some(source) if at.line > 0 => format!("{}:{}:{}", source.name, at.line, at.column),
        Some(source) => source.name.clone(),
        None => "command line".to_owned(),
    }
}

fn prefix(sources: &[Source], at: Place) -> String {
    // What is missing stands nowhere.
    if at == check::NOWHERE { String::new() } else { format!("{}: ", place(sources, at)) }
}
