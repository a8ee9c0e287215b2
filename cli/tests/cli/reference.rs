//! How the commands stand beside those of the compatible interface (`reference.tsv`): `docs/cli-status.md` is made here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cli::command::table::{NOT_BUILT, commands};
use cli::command::{Command, Reach};

const REFERENCE: &str = include_str!("reference.tsv");
const AGAIN: &str = "STEPPE_BLESS=1 cargo test -p steppe --test cli help";

struct Known {
    name: &'static str,
    flags: BTreeSet<&'static str>,
    reach: &'static str,
}

fn reference() -> Vec<Known> {
    let lines = REFERENCE.lines().filter(|line| !line.starts_with('#'));
    let known = lines.map(|line| {
        let cells: Vec<&'static str> = line.split('\t').collect();
        Known { name: cells[0], flags: cells[1].split_whitespace().collect(), reach: cells[2] }
    });
    known.collect()
}

fn built() -> BTreeMap<&'static str, &'static Command> {
    commands().map(|command| (command.path, command)).collect()
}

fn flags(command: &Command) -> BTreeSet<&'static str> {
    let passed_over = if command.path == "agent" { cli::agent::flags_passed_over::FLAGS } else { &[] };
    command.tables().concat().iter().chain(passed_over).map(|flag| flag.name).collect()
}

fn page() -> String {
    let (built, reference) = (built(), reference());
    let mut missing = String::new();
    for known in &reference {
        let Some(command) = built.get(known.name) else { continue };
        let ours = flags(command);
        let own: Vec<&str> = known.flags.difference(&ours).copied().collect();
        if !own.is_empty() {
            let own: Vec<String> = own.iter().map(|flag| format!("`-{flag}`")).collect();
            writeln!(missing, "| `{}` | {} |", known.name, own.join(" ")).unwrap();
        }
    }
    let (there, absent): (Vec<_>, Vec<_>) = reference.iter().partition(|known| built.contains_key(known.name));
    let absent: Vec<String> = absent.iter().map(|known| format!("`{}`", known.name)).collect();
    let mut page = format!(
        "# Commands beside those of the reference\n\n\
         Made by the test `cli/tests/cli/reference.rs` from the table of commands; do not edit. Write it anew with\n\
         `{AGAIN}`.\n\n\
         Of {} commands {} are built.\n\n## Flags that built commands do not have\n\n\
         | command | flags |\n|---|---|\n{missing}\n\
         `agent` takes {} flags whose settings have no effect, and names in a warning those that are not built yet.\n\n## Commands that are not built\n\n",
        reference.len(),
        there.len(),
        cli::agent::flags_passed_over::FLAGS.len(),
    );
    let mut line = String::new();
    for name in absent {
        if line.len() + name.len() > 110 {
            writeln!(page, "{}", line.trim_end()).unwrap();
            line.clear();
        }
        write!(line, "{name} ").unwrap();
    }
    writeln!(page, "{}", line.trim_end()).unwrap();
    page
}

#[test]
fn the_page_beside_help_is_true() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli-status.md");
    let now = page();
    if std::env::var_os("STEPPE_BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(there == now, "commands or flags have changed: look at it and run {AGAIN}");
}

#[test]
fn a_command_of_the_reference_is_built_or_says_that_it_is_not() {
    let built = built();
    for known in reference() {
        let says = NOT_BUILT.iter().any(|name| known.name == *name || known.name.starts_with(&format!("{name} ")));
        assert!(built.contains_key(known.name) != says, "{}", known.name);
    }
}

#[test]
fn a_command_takes_the_flags_for_reaching_a_cluster_that_the_reference_has() {
    let built = built();
    for known in reference() {
        let Some(command) = built.get(known.name) else { continue };
        let enough = match known.reach {
            "client" => command.reach == Reach::Namespace,
            "cluster" => command.reach != Reach::Nobody,
            _ => true,
        };
        assert!(enough, "{}: {} expected", known.name, known.reach);
    }
}
