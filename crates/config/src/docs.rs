//! `docs/configuration.md`, from the settings' types.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::decode::{Block, BlockDoc};
use crate::known;
use crate::settings::Config;

const HEAD: &str = "# Configuration of a machine

Made from the types in `crates/config/src/settings` by `cargo run -p xtask -- config-docs`; do not edit.

`steppe agent -config FILE|DIR` reads HCL (old dialect or new) or JSON, told apart by content. Several `-config` are read
in order, of a directory the `*.hcl` and `*.json` files by name; what is said later goes over what was said before, and
flags go over files: blocks and maps merge key by key, a later file's list takes the place of an earlier one's.
`steppe config validate PATH…` says what is wrong without starting anything. On SIGHUP the files are read again;
`log_level`, `log_file`, `log_rotate_*`, `enable_syslog`, `syslog_facility`, `leave_on_*`, `limits`, `telemetry`,
`client.meta` and `client.drain_on_shutdown` take effect at once; the log names what waits for the next start.
";

/// The whole document.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    let mut blocks = Vec::new();
    collect(Config::doc(), &mut blocks);
    for block in &blocks {
        let title = if block.path.is_empty() { "Top level".to_owned() } else { format!("`{}`", block.path) };
        let _ = write!(text, "\n## {title}\n\n{}\n\n| key | type | default | |\n|---|---|---|---|\n", block.about);
        for field in &block.fields {
            let default = if field.default.is_empty() { String::new() } else { format!("`{}`", field.default) };
            let about = field.about.replace('|', "\\|");
            let _ = writeln!(text, "| `{}` | {} | {default} | {about} |", field.key, field.kind);
        }
    }
    text.push_str("\n## Not built yet\n\nKnown to the compatible configuration: accepted with a warning, without effect.\n\n| block | keys |\n|---|---|\n");
    let mut rest: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (block, key, _) in known::all() {
        rest.entry(block).or_default().push(key);
    }
    for (block, keys) in rest {
        let block = if block.is_empty() { "top level".to_owned() } else { format!("`{block}`") };
        let _ = writeln!(text, "| {block} | {} |", keys.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(" "));
    }
    text
}

fn collect(block: BlockDoc, into: &mut Vec<BlockDoc>) {
    let within: Vec<BlockDoc> = block.fields.iter().filter_map(|f| f.within.clone()).collect();
    into.push(block);
    for inner in within {
        collect(inner, into);
    }
}
