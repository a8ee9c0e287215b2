//! Who may depend on whom: arrows point down only, and the pure crates reach no clock, no randomness and
//! no I/O, however indirectly.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::Value;

/// The layer of each crate of the workspace; a crate may depend on lower layers, and on `model` from
/// within layer 1 on `fsm` too.
pub const LAYERS: &[(&str, u8)] = &[
    ("base2histogram", 0),
    ("model", 0),
    ("files", 0),
    ("fsm", 1),
    ("jobspec", 1),
    ("config", 1),
    ("queue", 1),
    ("placement", 1),
    ("control", 1),
    ("lifecycle", 1),
    ("routes", 0),
    ("api", 2),
    ("client", 2),
    ("kit", 3),
    ("raft", 3),
    ("driver", 3),
    ("gateway", 4),
    ("state", 4),
    ("broker", 4),
    ("scheduler", 4),
    ("applier", 4),
    ("controller", 4),
    ("agent", 4),
    ("steppe", 5),
    ("steppe-bench", 6),
    ("e2e", 6),
    ("xtask", 6),
];

/// Arrows within one layer that are meant.
pub const SIDEWAYS: &[(&str, &str)] = &[("placement", "fsm"), ("control", "fsm"), ("queue", "fsm"), ("client", "api")];

/// Crates that decide and must not do anything else.
pub const PURE: &[&str] =
    &["base2histogram", "model", "fsm", "jobspec", "config", "queue", "placement", "control", "lifecycle"];

/// What a pure crate must not reach: async runtimes, clocks, random sources, I/O. jiff has a clock with `std`
/// only: without it, it is calendars and the rules of time zones.
pub const IMPURE: &[&str] = &[
    "tokio",
    "mio",
    "async-std",
    "smol",
    "getrandom",
    "rand",
    "fastrand",
    "reqwest",
    "hyper",
    "redb",
    "rustix",
    "nix",
    "socket2",
    "chrono",
    "time",
    "uuid",
    "tempfile",
    "futures",
    "tracing-subscriber",
];

/// Only these may depend on the crate.
pub const RESERVED: &[(&str, &[&str])] = &[("raft", &["state"]), ("driver", &["agent", "steppe"])];

/// True when the package, built by itself, has jiff's clock.
///
/// # Errors
/// Cargo does not run.
pub fn has_jiff_clock(package: &str) -> anyhow::Result<bool> {
    let tree = cargo(&["tree", "-p", package, "-e", "normal,features", "--prefix", "none", "--no-dedupe"])?;
    Ok(tree.lines().any(|line| line.starts_with("jiff feature \"std\"")))
}

/// Normal dependencies of every package, by name, as cargo resolves them for this workspace.
pub struct Graph {
    edges: BTreeMap<String, BTreeSet<String>>,
    members: BTreeSet<String>,
}

impl Graph {
    /// Reads `cargo metadata`.
    ///
    /// # Errors
    /// Cargo does not run or says something unexpected.
    pub fn read() -> anyhow::Result<Self> {
        // Of other platforms nothing was downloaded, and nothing is asked.
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let args = ["metadata", "--format-version", "1", "--filter-platform", &platform];
        let metadata: Value = serde_json::from_str(&cargo(&args)?)?;
        Self::from_metadata(&metadata).context("unexpected shape of cargo metadata")
    }

    fn from_metadata(metadata: &Value) -> Option<Self> {
        let mut names = BTreeMap::new();
        for package in metadata["packages"].as_array()? {
            names.insert(package["id"].as_str()?, package["name"].as_str()?.to_owned());
        }
        let member = |id: &Value| names.get(id.as_str()?).cloned();
        let members = metadata["workspace_members"].as_array()?.iter().filter_map(member).collect();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array()? {
            let from = names.get(node["id"].as_str()?)?.clone();
            let targets = edges.entry(from).or_default();
            for dep in node["deps"].as_array()? {
                let kinds = dep["dep_kinds"].as_array()?;
                // Of those for this platform, only what is linked: no tests, no build scripts.
                let linked = |k: &Value| k["kind"].is_null() && !k["target"].as_str().is_some_and(is_elsewhere);
                if kinds.iter().any(linked) {
                    targets.insert(names.get(dep["pkg"].as_str()?)?.clone());
                }
            }
        }
        Some(Self { edges, members })
    }

    pub fn members(&self) -> &BTreeSet<String> {
        &self.members
    }

    /// Direct dependencies.
    pub fn of(&self, name: &str) -> BTreeSet<String> {
        self.edges.get(name).cloned().unwrap_or_default()
    }
}

/// All packages that are linked into `package` when it is built alone with all its features, itself aside. What others in the
/// workspace ask of a common dependency is theirs: cargo's own resolution of one package leaves it out.
///
/// # Errors
/// Cargo does not run.
pub fn linked_into(package: &str) -> anyhow::Result<BTreeSet<String>> {
    let args =
        ["tree", "--package", package, "--all-features", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let text = cargo(&args).with_context(|| format!("the dependencies of {package}"))?;
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| *name != package).map(str::to_owned).collect())
}

fn cargo(args: &[&str]) -> anyhow::Result<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = std::process::Command::new(cargo);
    let output = command.args(args).args(["--offline", "--locked"]).current_dir(crate::root()).output();
    let output = output.context("running cargo")?;
    anyhow::ensure!(output.status.success(), "cargo: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn is_elsewhere(target: &str) -> bool {
    ["windows", "wasm", "macos", "apple", "redox", "hermit", "wasi"].iter().any(|os| target.contains(os))
        && !target.contains("not(")
}
