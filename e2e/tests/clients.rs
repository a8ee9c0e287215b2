//! Other people's clients, unmodified, against a cluster of real processes: each registers, plans, watches,
//! scales, reads the output of and stops a job, and lists nodes, allocations and evaluations with filters and
//! pages. Clients that `scripts/clients` makes from the gateway's OpenAPI document: each runs a job. And
//! schemathesis, which asks whatever the OpenAPI documents allow: the gateway as anybody may, and each service with
//! the certificate of a process that may ask it. What they do is in `e2e/clients/`;
//! `e2e/clients/prepare` installs them, and where it cannot (no registry, no compiler to be had) the test is
//! skipped and says why.
#![allow(clippy::unwrap_used)]

#[path = "../../crates/driver/tests/support/runner.rs"]
mod runner;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::sync::Mutex;

use e2e::cluster::{Cluster, root, text};
use runner::Test;

const CLIENTS: &[(&str, Test)] = &[
    ("python-nomad", ("python_nomad_as_published_works_a_day_with_the_cluster", || day("python-nomad"))),
    ("go-api", ("nomads_go_module_as_published_works_a_day_with_the_cluster", || day("go-api"))),
    ("python", ("a_python_client_made_from_the_document_runs_a_job", || day("python"))),
    ("go", ("a_go_client_made_from_the_document_runs_a_job", || day("go"))),
    ("typescript", ("a_typescript_client_made_from_the_document_runs_a_job", || day("typescript"))),
    ("java", ("a_java_client_made_from_the_document_runs_a_job", || day("java"))),
    ("schemathesis", ("the_documents_are_valid_and_no_answer_is_one_that_they_do_not_allow", || day("schemathesis"))),
    ("inside", ("no_service_gives_another_of_them_an_answer_that_its_document_does_not_allow", || day("inside"))),
];

/// The command of each client that is there.
static PREPARED: Mutex<BTreeMap<&str, Vec<String>>> = Mutex::new(BTreeMap::new());

fn main() -> ExitCode {
    let one = |(client, test): &(&'static str, Test)| {
        let prepared = || match prepare(client) {
            Ok(command) => {
                PREPARED.lock().unwrap().insert(client, command);
                None
            }
            Err(reason) => Some(reason),
        };
        runner::main(prepared, &[*test])
    };
    let codes: Vec<ExitCode> = CLIENTS.iter().map(one).collect();
    if codes.iter().all(|code| *code == ExitCode::SUCCESS) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The command that runs the client, or why there is none.
fn prepare(client: &str) -> Result<Vec<String>, String> {
    let done = Command::new(root().join("e2e/clients/prepare")).arg(client).output().unwrap();
    if !done.status.success() {
        let said = text(&done.stderr);
        return Err(said.trim_end().lines().last().unwrap_or("it cannot be installed").to_owned());
    }
    Ok(text(&done.stdout).split_whitespace().map(str::to_owned).collect())
}

fn day(client: &str) {
    // Made anew each time it is asked for, so what `main` was told is kept.
    let command = PREPARED.lock().unwrap()[client].clone();
    let cluster = Cluster::start();
    let data = (client == "inside").then(|| cluster.data());
    let done = Command::new("timeout")
        .arg("240")
        .args(&command)
        .args(data)
        .arg(format!("http://127.0.0.1:{}", cluster.port))
        .output()
        .unwrap();
    assert!(done.status.success(), "{client}: {}{}", text(&done.stdout), text(&done.stderr));
}
