//! Shell completion: scripts for bash, zsh and fish, and the words they ask for.
//!
//! ```text
//!   shell ─ Tab ─► steppe __complete -- words… ─► candidates, a line each: word, tab, what it is
//! ```
//!
//! The scripts hold no list of commands: they ask the program, so that they fit whatever version is installed.
//! Commands and flags come from the table of commands; ids from the API at the address that would be used, if it
//! answers within [`PATIENCE`]. Where nothing is known, the shell offers files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::public::{PublicClient, Query, segment};
use serde_json::Value;

use super::{Command, find, help, settings, table};
use crate::env::Env;
use crate::flags::{self, Kind, Parsed};
use crate::ui::Ui;

/// How long a person at a shell waits for a Tab.
const PATIENCE: Duration = Duration::from_millis(800);
const CANDIDATES_MAX: usize = 500;
/// Marks what we wrote into somebody's file.
const MARK: &str = "# steppe completion";

const BASH: &str = r#"_steppe() {
    local line words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("${line%%$'\t'*}")
    done < <(steppe __complete -- "${words[@]}" 2>/dev/null)
}
complete -o default -o bashdefault -F _steppe steppe"#;

const ZSH: &str = r#"#compdef steppe
_steppe() {
    local line
    local -a names texts
    while IFS= read -r line; do
        names+=("${line%%$'\t'*}")
        texts+=("${line/$'\t'/  -- }")
    done < <(steppe __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#names} )); then
        compadd -l -d texts -- "${names[@]}"
    else
        _files
    fi
}
if (( $+functions[compdef] )); then
    compdef _steppe steppe
else
    autoload -Uz compinit && compinit && compdef _steppe steppe
fi"#;

const FISH: &str = r#"function __steppe_complete
    set -l words (commandline -opc)
    steppe __complete -- $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c steppe -e
complete -c steppe -f -a '(__steppe_complete)'
complete -c steppe -F -n 'test (count (__steppe_complete)) -eq 0'"#;

/// `steppe completion SHELL`.
pub fn script(words: &[String], _: &Env, ui: &mut Ui) -> u8 {
    let [shell] = words else {
        ui.error("This command takes one argument: <shell>");
        ui.hint("one of bash, zsh, fish");
        return 1;
    };
    match of_shell(shell) {
        Some(script) => {
            ui.line(script);
            0
        }
        None => {
            ui.error(&format!("there is no completion for {shell:?}"));
            ui.hint("one of bash, zsh, fish");
            1
        }
    }
}

fn of_shell(shell: &str) -> Option<&'static str> {
    match shell {
        "bash" => Some(BASH),
        "zsh" => Some(ZSH),
        "fish" => Some(FISH),
        _ => None,
    }
}

/// `steppe __complete -- words…`: the last word is the one being typed.
pub fn candidates(words: &[String], env: &Env, ui: &mut Ui) -> u8 {
    let words = words.strip_prefix(&["--".to_owned()]).unwrap_or(words);
    let found = match wanted(words) {
        Wanted::Words(found) => found,
        Wanted::Rows { noun, typed, flags } => rows(noun, &typed, &flags, env),
        Wanted::Nothing => Vec::new(),
    };
    for (word, text) in found.into_iter().take(CANDIDATES_MAX) {
        ui.line(if text.is_empty() { word } else { format!("{word}\t{text}") });
    }
    0
}

/// What could stand in place of the last word.
enum Wanted {
    /// Word, and what it is.
    Words(Vec<(String, String)>),
    /// A row of the cluster's.
    Rows {
        noun: &'static str,
        typed: String,
        flags: Parsed,
    },
    Nothing,
}

fn wanted(words: &[String]) -> Wanted {
    let (typed, before) = match words.split_last() {
        Some((typed, before)) => (typed.as_str(), before),
        None => ("", words),
    };
    let leading: Vec<String> = before.iter().take_while(|word| !word.starts_with('-')).cloned().collect();
    let longer = next_words(&leading, typed);
    let known = find(&leading).filter(|_| longer.is_empty());
    let Some((command, count)) = known else {
        return if leading.len() == before.len() { Wanted::Words(longer) } else { Wanted::Nothing };
    };
    let rest = &before[count..];
    if rest.iter().any(|word| word == "--") {
        return Wanted::Nothing;
    }
    if typed.starts_with('-') {
        return Wanted::Words(flags_of(command, typed));
    }
    if let Some(flag) = rest.last().filter(|word| takes_value(command, word)) {
        let before = rest.split_last().map_or(rest, |(_, before)| before);
        let flags = flags::parse(&command.tables(), before).unwrap_or_default();
        return of_flag(command, flag.trim_start_matches('-'), typed, flags);
    }
    let parsed = flags::parse(&command.tables(), rest).unwrap_or_default();
    match noun_at(command, parsed.args.len(), &parsed) {
        Some(noun) => Wanted::Rows { noun, typed: typed.to_owned(), flags: parsed },
        None => Wanted::Nothing,
    }
}

/// Commands and groups that go on from these words.
fn next_words(leading: &[String], typed: &str) -> Vec<(String, String)> {
    let prefix = leading.iter().map(|word| format!("{word} ")).collect::<String>();
    let mut found = std::collections::BTreeMap::new();
    let shown = table::commands().filter(|command| !command.hidden);
    let names = shown
        .flat_map(|command| command.shown_aliases().chain([command.path]).map(move |name| (name, command.summary)));
    for (name, text) in names.chain(help::GROUPS.iter().copied()) {
        let Some(rest) = name.strip_prefix(prefix.as_str()).filter(|rest| rest.starts_with(typed)) else { continue };
        match rest.split_once(' ') {
            // The group's own line says what it is.
            Some((word, _)) => drop(found.entry(word.to_owned()).or_insert_with(String::new)),
            None => drop(found.insert(rest.to_owned(), text.to_owned())),
        }
    }
    found.into_iter().collect()
}

fn flags_of(command: &Command, typed: &str) -> Vec<(String, String)> {
    let dashes = if typed.starts_with("--") { "--" } else { "-" };
    let tables = command.tables();
    let all = tables.iter().flat_map(|table| table.iter()).map(|flag| {
        let end = if flag.kind == Kind::Bool { "" } else { "=" };
        (format!("{dashes}{}{end}", flag.name), flag.help.to_owned())
    });
    let help = [(format!("{dashes}help"), "Says more about the command.".to_owned())];
    let mut found: Vec<_> = all.chain(help).filter(|(name, _)| name.starts_with(typed)).collect();
    found.sort();
    found
}

/// Whether this word is a flag that waits for a word of its own.
fn takes_value(command: &Command, word: &str) -> bool {
    let Some(name) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { return false };
    let tables = command.tables();
    tables.iter().flat_map(|table| table.iter()).any(|flag| flag.name == name && flag.kind != Kind::Bool)
}

/// What a flag's value may be.
fn of_flag(command: &Command, flag: &str, typed: &str, flags: Parsed) -> Wanted {
    let of_job = of_job(command, &flags);
    let rows = |noun| Wanted::Rows { noun, typed: typed.to_owned(), flags };
    match flag {
        "namespace" => rows("namespace"),
        "node-pool" => rows("node-pool"),
        "group" if command.path.starts_with("deployment") => rows("group of deployment"),
        "group" => rows("group"),
        "task" if of_job => rows("task of job"),
        "task" => rows("task of allocation"),
        "version" | "diff-version" if command.path != "version" => rows("version"),
        "diff-tag" => rows("tag"),
        "scheduler-algorithm" => {
            let all = ["binpack", "spread"].into_iter().filter(|word| word.starts_with(typed));
            Wanted::Words(all.map(|word| (word.to_owned(), String::new())).collect())
        }
        _ => Wanted::Nothing,
    }
}

/// Whether the command's first argument is a job, where it could be an allocation.
fn of_job(command: &Command, flags: &Parsed) -> bool {
    command.path.starts_with("job") || flags.is("job")
}

/// What the argument at this place is, by the command's usage.
fn noun_at(command: &Command, at: usize, flags: &Parsed) -> Option<&'static str> {
    const NOUNS: [&str; 7] = ["allocation", "job", "node", "evaluation", "deployment", "namespace", "node-pool"];
    let mut places = command.usage.split_whitespace().filter(|word| *word != "[options]");
    let place = places.nth(at)?.trim_matches(['<', '>', '[', ']']);
    if place == "allocation" && flags.is("job") {
        return Some("job");
    }
    match place {
        "task" if of_job(command, flags) => return Some("task of job"),
        "task" => return Some("task of allocation"),
        "group" => return Some("group"),
        "version|tag" => return Some("version or tag"),
        _ => {}
    }
    if place == "identifier" {
        return Some("job");
    }
    if command.path == "job periodic force" {
        return Some("periodic job");
    }
    if place == "key" && command.path.starts_with("operator root keyring") {
        return Some("root key");
    }
    NOUNS.iter().find(|noun| **noun == place).copied()
}

/// Ids that begin with what is typed.
fn rows(noun: &str, typed: &str, flags: &Parsed, env: &Env) -> Vec<(String, String)> {
    let (path, name, text) = match noun {
        "namespace" => ("/v1/namespaces", "Name", "Description"),
        "node-pool" => ("/v1/node/pools", "Name", "Description"),
        "root key" => ("/v1/operator/keyring/keys", "KeyID", "State"),
        "periodic job" => ("/v1/jobs", "ID", "Status"),
        "allocation" => ("/v1/allocations", "ID", "Name"),
        "job" => ("/v1/jobs", "ID", "Status"),
        "node" => ("/v1/nodes", "ID", "Name"),
        "evaluation" => ("/v1/evaluations", "ID", "JobID"),
        _ => ("/v1/deployments", "ID", "JobID"),
    };
    let Ok(client) = PublicClient::new(settings(flags, env)) else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let outer = flags.args.first();
    let asked = runtime.block_on(async {
        let query = Query { stale: true, ..Query::default() };
        let asked = async {
            match is_inner(noun) {
                true => inner(noun, outer?, &client, &query).await,
                false => client.get::<Vec<Value>>(path, &query).await.ok().map(|(rows, _)| {
                    let meant = rows.iter().filter(|row| noun != "periodic job" || row["Periodic"] == true);
                    meant.map(|row| (string(row, name), string(row, text))).collect()
                }),
            }
        };
        tokio::time::timeout(PATIENCE, asked).await
    });
    let all = asked.ok().flatten().unwrap_or_default();
    let all = all.into_iter().map(|(id, text)| (id, crate::format::printable(&text)));
    // A name with control characters or blanks is nothing a shell could take as it is.
    let plain = |id: &str| !id.is_empty() && !id.chars().any(|c| c.is_control() || c.is_whitespace());
    all.filter(|(id, _)| id.starts_with(typed) && plain(id)).collect()
}

fn string(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

/// What is found inside of a row that was typed before.
fn is_inner(noun: &str) -> bool {
    noun.starts_with("task of") || noun.starts_with("group") || noun.starts_with("version") || noun == "tag"
}

/// Names inside of the row `outer`, with what they are.
async fn inner(noun: &str, outer: &str, client: &PublicClient, query: &Query) -> Option<Vec<(String, String)>> {
    let job = format!("/v1/job/{}", segment(outer));
    let get = async |path: &str| client.get::<Value>(path, query).await.ok().map(|(value, _)| value);
    // Ids may be shortened; the first that begins so is as good as another.
    let begins = async |path: &str| {
        let all = get(path).await?;
        all.as_array()?.iter().find(|row| row["ID"].as_str().is_some_and(|id| id.starts_with(outer))).cloned()
    };
    let keys = |map: &Value| map.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let list = |of: &Value, name: &str| of[name].as_array().cloned().unwrap_or_default();
    let plain = |names: Vec<String>| names.into_iter().map(|name| (name, String::new())).collect();
    Some(match noun {
        "task of allocation" => plain(keys(&begins("/v1/allocations").await?["TaskStates"])),
        "group of deployment" => plain(keys(&begins("/v1/deployments").await?["TaskGroups"])),
        "group" => {
            list(&get(&job).await?, "TaskGroups").iter().map(|group| (string(group, "Name"), String::new())).collect()
        }
        "task of job" => {
            let groups = list(&get(&job).await?, "TaskGroups");
            let tasks = groups.iter().flat_map(|group| {
                list(group, "Tasks").into_iter().map(|task| (string(&task, "Name"), string(group, "Name")))
            });
            tasks.collect()
        }
        _ => {
            let versions = list(&get(&format!("{job}/versions")).await?, "Versions");
            let is = |version: &Value| if version["Stable"] == true { "stable" } else { "" }.to_owned();
            let numbers = versions.iter().filter(|_| noun != "tag").map(|v| (v["Version"].to_string(), is(v)));
            let tags = versions.iter().filter(|_| noun != "version").filter_map(|v| {
                Some((v["VersionTag"]["Name"].as_str()?.to_owned(), format!("version {}", v["Version"])))
            });
            numbers.chain(tags).collect()
        }
    })
}

/// `-autocomplete-install` and `-autocomplete-uninstall`.
pub fn install(on: bool, env: &Env, ui: &mut Ui) -> u8 {
    let Some(home) = env.get(&["HOME"]).map(PathBuf::from) else {
        ui.error("Error: $HOME is not set");
        return 1;
    };
    match change(&home, on) {
        Ok(changed) if changed.is_empty() => {
            ui.note(if on { "completion is installed already" } else { "completion is not installed" });
            0
        }
        Ok(changed) => {
            let word = if on { "completion is set up in" } else { "completion is removed from" };
            for path in changed {
                ui.note(format!("{word} {}", path.display()));
            }
            0
        }
        Err(error) => {
            ui.error(&format!("Error: {error}"));
            ui.hint("`steppe completion <shell>` prints the script");
            1
        }
    }
}

/// The files that were changed. Shells that are not in use (no file of theirs) are left alone.
fn change(home: &Path, on: bool) -> io::Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for (file, shell) in [(".bashrc", "bash"), (".zshrc", "zsh")] {
        let path = home.join(file);
        let Ok(before) = fs::read_to_string(&path) else { continue };
        let line = format!("command -v steppe >/dev/null && source <(steppe completion {shell}) {MARK}");
        let mut lines: Vec<&str> = before.lines().filter(|line| !line.ends_with(MARK)).collect();
        if on {
            lines.push(&line);
        }
        let after = lines.join("\n") + "\n";
        if after != before {
            fs::write(&path, after)?;
            changed.push(path);
        }
    }
    let fish = home.join(".config/fish");
    let path = fish.join("completions/steppe.fish");
    if on && fish.is_dir() && fs::read_to_string(&path).ok().as_deref() != Some(FISH) {
        fs::create_dir_all(fish.join("completions"))?;
        fs::write(&path, FISH)?;
        changed.push(path);
    } else if !on && path.exists() {
        fs::remove_file(&path)?;
        changed.push(path);
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(typed: &[&str]) -> Vec<String> {
        let words: Vec<String> = typed.iter().map(|word| (*word).to_owned()).collect();
        match wanted(&words) {
            Wanted::Words(found) => found.into_iter().map(|(word, _)| word).collect(),
            Wanted::Rows { noun, .. } => vec![format!("<{noun}>")],
            Wanted::Nothing => Vec::new(),
        }
    }

    #[test]
    fn commands_groups_and_flags_are_completed_from_the_table() {
        let all = words(&[""]);
        for word in ["alloc", "job", "run", "status", "exec", "completion"] {
            assert!(all.contains(&word.to_owned()), "{word}: {all:?}");
        }
        assert!(!all.iter().any(|word| word.contains(' ') || word == "supervise" || word == "__complete"), "{all:?}");
        assert_eq!(words(&["allo"]), ["alloc"]);
        let alloc = words(&["alloc", ""]);
        assert!(alloc.contains(&"exec".to_owned()) && alloc.contains(&"fs".to_owned()), "{alloc:?}");
        assert!(words(&["alloc", "logs", "-st"]).starts_with(&["-stderr".to_owned(), "-stdout".to_owned()]));
        assert!(words(&["alloc", "logs", "--addr"]).contains(&"--address=".to_owned()));
        assert!(words(&["nothing", ""]).is_empty());
    }

    #[test]
    fn arguments_are_completed_by_what_the_usage_says() {
        assert_eq!(words(&["alloc", "status", ""]), ["<allocation>"]);
        assert_eq!(words(&["alloc", "logs", "-job", ""]), ["<job>"]);
        assert_eq!(words(&["job", "stop", "-detach", "we"]), ["<job>"]);
        assert_eq!(words(&["node", "status", ""]), ["<node>"]);
        assert!(words(&["job", "run", ""]).is_empty(), "files are the shell's");
        assert!(words(&["job", "status", "-address", ""]).is_empty());
        for pool in ["info", "nodes", "jobs", "delete"] {
            assert_eq!(words(&["node", "pool", pool, ""]), ["<node-pool>"]);
        }
        assert_eq!(words(&["namespace", "status", ""]), ["<namespace>"]);
        assert_eq!(words(&["job", "status", "-namespace", ""]), ["<namespace>"]);
        assert_eq!(words(&["job", "periodic", "force", ""]), ["<periodic job>"]);
        assert_eq!(words(&["operator", "root", "keyring", "remove", ""]), ["<root key>"]);
        assert_eq!(words(&["alloc", "logs", "5f", ""]), ["<task of allocation>"]);
        assert_eq!(words(&["alloc", "logs", "-job", "web", ""]), ["<task of job>"]);
        assert_eq!(words(&["job", "restart", "web", "-task", ""]), ["<task of job>"]);
        assert_eq!(words(&["job", "scale", "web", ""]), ["<group>"]);
        assert_eq!(words(&["deployment", "promote", "5f", "-group", ""]), ["<group of deployment>"]);
        assert_eq!(words(&["job", "revert", "web", ""]), ["<version or tag>"]);
        assert_eq!(words(&["job", "history", "web", "-version", ""]), ["<version>"]);
        assert_eq!(words(&["job", "history", "web", "-diff-tag", ""]), ["<tag>"]);
        assert_eq!(words(&["operator", "scheduler", "set-config", "-scheduler-algorithm", "s"]), ["spread"]);
    }

    #[test]
    fn installing_is_once_and_uninstalling_leaves_what_was_there() {
        let home = tempfile::tempdir().unwrap();
        let rc = home.path().join(".bashrc");
        fs::write(&rc, "alias x=y\n").unwrap();
        fs::create_dir_all(home.path().join(".config/fish")).unwrap();
        assert_eq!(change(home.path(), true).unwrap().len(), 2);
        assert!(change(home.path(), true).unwrap().is_empty());
        assert!(fs::read_to_string(&rc).unwrap().contains("completion bash"));
        assert_eq!(change(home.path(), false).unwrap().len(), 2);
        assert_eq!(fs::read_to_string(&rc).unwrap(), "alias x=y\n");
        assert!(!home.path().join(".zshrc").exists());
    }
}
