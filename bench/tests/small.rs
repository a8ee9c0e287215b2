//! The fleet and a case, small: 20 simulated nodes run 20 jobs, and nothing is left.
#![allow(clippy::unwrap_used)]

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn bench() -> PathBuf {
    env!("CARGO_BIN_EXE_steppe-bench").into()
}

/// `STEPPE_BIN`, or the one beside this program.
fn program() -> PathBuf {
    let program = std::env::var_os("STEPPE_BIN").map_or_else(|| bench().with_file_name("steppe"), PathBuf::from);
    assert!(program.exists(), "{} is missing: cargo build -p steppe", program.display());
    program
}

/// A first port whose others are free, too, below the ephemeral range.
fn free_port() -> u16 {
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let chance = || 10_000 + TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() % 8_000;
    std::iter::repeat_with(chance).find(|port| [0, 1, 2, 12, 22].iter().all(|more| free(port + more))).unwrap()
}

fn run(dir: &Path, port: u16, words: &[&str]) -> Output {
    let mut command = Command::new(bench());
    command.args(words).arg("--data-dir").arg(dir.join("cluster")).arg("--program").arg(program());
    command.arg(format!("--port={port}")).output().unwrap()
}

fn ok(dir: &Path, port: u16, words: &[&str]) -> String {
    let done = run(dir, port, words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{words:?}: {}{}", text(&done.stdout), text(&done.stderr));
    text(&done.stdout)
}

fn processes_of(dir: &Path) -> Vec<String> {
    let needle = dir.display().to_string();
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let commands = pids.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    commands.filter(|command| command.contains(&needle)).collect()
}

fn last_line(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn simulated_nodes_run_jobs_and_a_case_says_what_that_cost_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let words = ["burst", "--jobs", "4", "--count", "5", "--nodes", "20", "--schedulers", "2", "--json"];
    let report = last_line(&ok(dir.path(), port, &words));
    assert_eq!(report["case"], "burst");
    let figures = &report["figures"];
    for figure in ["placed", "running"] {
        assert!(figures[format!("2 schedulers: {figure}")]["value"].as_f64().unwrap() > 0.0, "{figures:#}");
    }
    assert!(figures["2 schedulers: plans"]["value"].as_f64().unwrap() >= 4.0, "{figures:#}");
    let used = report["used"]["2 schedulers"].as_array().unwrap();
    for (kind, processes) in [("state", 3), ("scheduler", 2), ("gateway", 1), ("(simulated nodes)", 1)] {
        let of = used.iter().find(|used| used["kind"] == kind).unwrap_or_else(|| panic!("{kind}: {used:#?}"));
        assert_eq!(of["processes"], processes, "{of}");
        assert!(of["peak_rss_mib"].as_f64().unwrap() > 1.0 && of["pss_mib"].as_f64().unwrap() > 1.0, "{of}");
    }
    for when in ["before", "after"] {
        assert!(report["ceilings"][when]["flushes_per_s"].as_f64().unwrap() > 0.0, "{report:#}");
    }
    assert_eq!((processes_of(dir.path()), dir.path().join("cluster").exists()), (Vec::new(), false));
}

#[test]
fn up_leaves_a_cluster_whose_address_it_prints_and_down_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let address = ok(dir.path(), port, &["up", "--nodes", "20"]);
    assert_eq!(address.trim(), format!("http://127.0.0.1:{port}"));
    // 3 state servers, 2 schedulers, 4 others, the fleet.
    let there = processes_of(dir.path());
    assert_eq!(there.len(), 10, "{there:#?}");
    let jobs = ["jobs", "--jobs", "20", "--submitters", "4", "--json", "--address", address.trim()];
    let report = last_line(&ok(dir.path(), port, &jobs));
    assert!(report["figures"]["4 submitters: jobs"]["value"].as_f64().unwrap() > 0.0, "{report:#}");
    let second = run(dir.path(), port, &["jobs"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("./scripts/bench down"), "{said}");
    assert!(ok(dir.path(), port, &["down"]).contains("ended"));
    assert_eq!((processes_of(dir.path()), dir.path().join("cluster").exists()), (Vec::new(), false));
    assert!(ok(dir.path(), port, &["down"]).contains("nothing was running"));
}

#[test]
fn what_is_in_the_way_is_said_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = |words: &[&str], port: u16, advice: &str| {
        let done = run(dir.path(), port, words);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(advice), "{words:?}: {said}");
        assert!(!dir.path().join("cluster").exists(), "{words:?} left something");
    };
    refused(&["jobs"], taken.local_addr().unwrap().port(), "name another first port with --port");
    refused(&["failover", "--address", "http://127.0.0.1:1"], free_port(), "leave --address away");
    refused(&["burst", "--nodes", "1"], free_port(), "take more --nodes");
    refused(&["nodes", "--nodes", "0"], free_port(), "0 is not in 1..");
}
