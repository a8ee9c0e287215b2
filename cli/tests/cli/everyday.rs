//! Small things that somebody meets every day: exit codes that mean what was asked for, hints that help, the next page.
use crate::fake::{Fake, run};
use serde_json::{Value, json};

const ALLOC: &str = "aaaaaaaa-1111-4111-8111-000000000001";
const NODE: &str = "bbbbbbbb-1111-4111-8111-000000000001";
const EVAL: &str = "cccccccc-1111-4111-8111-000000000001";
const DEPLOYMENT: &str = "dddddddd-1111-4111-8111-000000000001";

fn eval() -> Value {
    json!({"ID": EVAL, "Type": "service", "TriggeredBy": "alloc-stop", "JobID": "web", "Namespace": "default",
        "Status": "complete", "DeploymentID": DEPLOYMENT, "CreateIndex": 50})
}

fn deployment(status: &str, modify_index: u64) -> Value {
    json!({"ID": DEPLOYMENT, "JobID": "web", "Namespace": "default", "Status": status, "ModifyIndex": modify_index})
}

/// An evaluation within a deployment.
fn watched(deployment: Value) -> Fake {
    Fake::start()
        .get(&format!("/v1/evaluation/{EVAL}"), eval())
        .get(&format!("/v1/evaluation/{EVAL}/allocations"), json!([]))
        .get("/v1/deployments", json!([deployment]))
        .get(&format!("/v1/deployment/{DEPLOYMENT}"), deployment)
}

#[test]
fn failing_a_deployment_is_done_when_it_has_failed() {
    let answer = json!({"EvalID": EVAL, "Index": 50});
    let failing = |status: &str| {
        let fake = watched(deployment(status, 50)).reply(
            "PUT",
            &format!("/v1/deployment/fail/{DEPLOYMENT}"),
            200,
            50,
            answer.clone(),
        );
        fake.run(&["deployment", "fail", "dddddddd"])
    };
    let done = failing("failed");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("Deployment \"dddddddd\" failed"));
    let promote = watched(deployment("failed", 60)).reply(
        "PUT",
        &format!("/v1/deployment/promote/{DEPLOYMENT}"),
        200,
        50,
        answer,
    );
    assert_eq!(promote.run(&["deployment", "promote", "dddddddd"]).code, 1, "what was to succeed did not");
}

#[test]
fn stopping_an_allocation_is_done_whatever_became_of_an_older_deployment() {
    let stopping = |deployment: Value| {
        watched(deployment)
            .get("/v1/allocations", json!([{"ID": ALLOC, "Namespace": "default", "JobID": "web"}]))
            .reply("PUT", &format!("/v1/allocation/{ALLOC}/stop"), 200, 50, json!({"EvalID": EVAL}))
            .run(&["alloc", "stop", "aaaaaaaa"])
    };
    let done = stopping(deployment("failed", 20));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!done.out.contains("Monitoring deployment"), "{}", done.out);
    assert_eq!(stopping(deployment("failed", 60)).code, 1, "one that fails meanwhile is");
}

#[test]
fn a_refusal_is_answered_with_what_can_be_done_about_it() {
    let refused = |text: &str| {
        let fake = Fake::start().reply("GET", "/v1/jobs", 403, 1, json!(text));
        fake.run(&["job", "status"]).err
    };
    let off = refused("Job registration, dispatch, and scale are disabled by the scheduler configuration");
    assert!(off.contains("hint: `steppe operator scheduler set-config -reject-job-registration=false`"), "{off}");
    assert!(refused("Permission denied").contains("hint: -token or $NOMAD_TOKEN names the caller"));
    let secret = refused("Reading secret file prohibited: secrets/x");
    assert!(!secret.contains("hint"), "no token would help: {secret}");
}

#[test]
fn the_next_page_is_got_by_the_same_command_line() {
    let fake = Fake::start()
        .get("/v1/evaluations", json!([eval()]))
        .more("/v1/evaluations", "5.it's")
        .get("/v1/node/pools", json!([{"Name": "gpu"}]))
        .get("/v1/node/pool/gpu/jobs", json!([]))
        .more("/v1/node/pool/gpu/jobs", "default.web");
    let filter = "-filter=Status == \"complete\"";
    let err = fake.run(&["eval", "list", "-per-page", "1", filter, "-page-token=old", "-token=s3cret"]).err;
    let command = r#"steppe eval list -filter='Status == "complete"' -per-page=1 -page-token='5.it'\''s'"#;
    assert!(err.ends_with(&format!("{command}\n")), "{err}");
    let err = fake.run(&["node", "pool", "jobs", "gpu", "-per-page", "1"]).err;
    assert!(err.ends_with("steppe node pool jobs -per-page=1 -page-token=default.web gpu\n"), "{err}");
}

#[test]
fn status_finds_namespaces_and_node_pools() {
    let rows = |id: &str| json!([{"ID": id, "Name": id}]);
    let fake = Fake::start()
        .get("/v1/jobs", json!([]))
        .get("/v1/namespaces", json!([{"Name": "ns2", "Description": "d"}]))
        .get("/v1/node/pools", json!([{"Name": "gpu"}]))
        .get("/v1/node/pool/gpu", json!({"Name": "gpu", "Description": "cards"}))
        .get("/v1/nodes", rows(NODE));
    let done = fake.run(&["status", "ns2"]);
    assert!(done.code == 0 && done.out.contains("Name                   = ns2\n"), "{done:?}");
    let done = fake.run(&["status", "gpu"]);
    assert!(done.code == 0 && done.out.contains("Description = cards"), "{done:?}");
}

#[test]
fn a_dispatched_child_is_not_parameterized_and_shows_its_token() {
    let child = json!({"ID": "par/dispatch-1", "Name": "par", "Namespace": "default", "Type": "batch",
        "ParameterizedJob": {"Payload": "optional"}, "Dispatched": true, "DispatchIdempotencyToken": "once"});
    let path = "/v1/job/par%2Fdispatch-1";
    let fake =
        Fake::start().get("/v1/jobs", json!([{"ID": "par/dispatch-1", "Namespace": "default"}])).get(path, child);
    let done = fake.run(&["job", "status", "-short", "par/dispatch-1"]);
    assert!(done.out.contains("Parameterized     = false\n"), "{done:?}");
    assert!(done.out.contains("Idempotency Token = once\n"), "{}", done.out);
}

#[test]
fn a_node_shows_its_uptime_volumes_and_what_events_say_in_detail() {
    let node = json!({"ID": NODE, "Name": "n1", "Status": "ready", "HostVolumes": {"data": {"Path": "/srv", "ReadOnly": true}},
        "HostNetworks": {"lan": {"Name": "lan", "CIDR": "10.0.0.0/8", "ReservedPorts": "22,80"}},
        "Events": [{"Message": "m", "Subsystem": "Cluster", "Details": {"a": "b"}, "Timestamp": "2023-11-14T22:12:20Z"}]});
    let fake = Fake::start()
        .get("/v1/nodes", json!([{"ID": NODE, "Name": "n1"}]))
        .get(&format!("/v1/node/{NODE}"), node)
        .get(&format!("/v1/node/{NODE}/allocations"), json!([]))
        .get("/v1/client/stats", json!({"Uptime": 3_723}));
    let out = fake.run(&["node", "status", "n1"]).out;
    let line = |start: &str| out.lines().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{out}"));
    assert_eq!(line("Uptime          = 1h2m3s") + 1, line("Driver Status"));
    assert!(!out.contains("Details"));
    let out = fake.run(&["node", "status", "-verbose", "n1"]).out;
    assert!(out.contains("Name  ReadOnly  Source\ndata  true      /srv\n"), "{out}");
    assert!(out.contains("Name  CIDR        Interface  ReservedPorts\nlan   10.0.0.0/8  <none>     22,80\n"), "{out}");
    assert!(out.contains("Subsystem  Message  Details\n") && out.contains("Cluster    m        a = b\n"), "{out}");
}

#[test]
fn a_payload_that_is_too_large_is_refused_with_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("big");
    std::fs::write(&file, vec![b'x'; 20_000]).unwrap();
    let done = Fake::start().run(&["job", "dispatch", "par", file.to_str().unwrap()]);
    assert_eq!(
        (done.code, done.err.as_str()),
        (1, "Failed to dispatch job: Payload exceeds maximum size; 20000 > 16384\n")
    );
}

#[test]
fn running_a_periodic_job_says_when_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.nomad.hcl");
    let text = "job \"p\" {\n type = \"batch\"\n periodic { crons = [\"0 0 * * *\"] }\n group \"g\" {\n task \"t\" {\n \
                driver = \"raw_exec\"\n config {\n command = \"/bin/true\"\n }\n }\n }\n}";
    std::fs::write(&file, text).unwrap();
    let registered = json!({"EvalID": "", "JobModifyIndex": 5, "Index": 5});
    let done = Fake::start().reply("PUT", "/v1/jobs", 200, 5, registered).run(&["job", "run", file.to_str().unwrap()]);
    assert!(done.out.contains("Approximate next launch time: 2023-11-15T00:00:00Z (1h46m40s from now)\n"), "{done:?}");
}

#[test]
fn a_server_that_nobody_knows_cannot_be_made_to_leave() {
    let fake = Fake::start()
        .get("/v1/agent/members", json!({"Members": [{"Name": "s1.global", "Tags": {"region": "global"}}]}))
        .reply("PUT", "/v1/agent/force-leave", 200, 1, json!(""));
    let done = fake.run(&["server", "force-leave", "s2.global"]);
    assert_eq!(done.code, 1);
    assert_eq!(
        done.err,
        "Error force-leaving server s2.global: there is no server of this name\nhint: did you mean \"s1.global\"?\n"
    );
    assert!(fake.asked().iter().all(|asked| asked.method == "GET"));
    assert_eq!(fake.run(&["server", "force-leave", "s1"]).code, 0);
    assert_eq!(fake.asked_for("PUT", "/v1/agent/force-leave").query, "node=s1");
}

#[test]
fn a_node_is_purged_only_when_somebody_says_so_twice() {
    let fake = Fake::start().get("/v1/nodes", json!([{"ID": NODE, "Name": "n1"}])).reply(
        "PUT",
        &format!("/v1/node/{NODE}/purge"),
        200,
        9,
        json!({"EvalIDs": [EVAL], "NodeModifyIndex": 9}),
    );
    let done = fake.run(&["node", "purge", "n1"]);
    assert!(done.code == 1 && done.err.contains("hint: -yes purges it"), "{done:?}");
    assert!(fake.asked().iter().all(|asked| asked.method == "GET"));
    let done = fake.run(&["node", "purge", "-yes", "n1"]);
    assert_eq!((done.code, done.out), (0, format!("Node \"{NODE}\" is purged: 1 evaluation\n")));
}

#[test]
fn what_could_never_be_used_is_refused_before_anything_is_asked() {
    let fake = Fake::start().get("/v1/nodes", json!([{"ID": NODE, "Name": "n1"}]));
    for (words, expected) in [
        (vec!["node", "intro", "create", "-ttl", "-5s"], "-ttl=-5s: it is a time above zero"),
        (vec!["node", "intro", "create", "-node-pool", "all"], "-node-pool=all: no node is in pool `all`"),
        (vec!["node", "intro", "create", "-node-name", "a b"], "-node-name=a b: it is letters"),
        (vec!["node", "drain", "-enable", "-yes", "-meta", "broken", "n1"], "\"broken\": KEY=VALUE expected"),
        (vec!["operator", "snapshot", "restore", "/tmp"], "Error opening snapshot file /tmp: it is no file"),
        (vec!["agent", "-dev", "-meta", "novalue"], "-meta: `novalue` is not KEY=VALUE"),
    ] {
        let done = fake.run(&words);
        assert!(done.code == 1 && done.err.contains(expected), "{words:?}: {done:?}");
    }
    assert!(fake.asked().is_empty());
    let missing = run(&["tls", "cert", "info", "/no/such"], &[]).err;
    assert_eq!(missing.matches("os error").count(), 1, "{missing}");
}

#[test]
fn every_name_that_holds_commands_lists_them() {
    for (group, command) in [("job periodic", "force"), ("job tag", "apply")] {
        let mut words: Vec<&str> = group.split(' ').collect();
        words.push("-h");
        let done = run(&words, &[]);
        assert!(done.code == 0 && done.out.contains(&format!("    {command}")), "{done:?}");
    }
    let paths = cli::command::table::commands().filter(|command| !command.hidden).map(|command| command.path);
    for path in paths.filter(|path| path.contains(' ')) {
        let group = path.rsplit_once(' ').unwrap().0;
        // One that does something itself names them in its help.
        let words: Vec<&str> = group.split(' ').chain(["-h"]).collect();
        assert!(cli::command::help::is_group(group) || run(&words, &[]).out.contains(path), "{group}");
    }
    assert!(run(&["start", "-h"], &[]).out.starts_with("Usage: steppe job start"));
    let debug = run(&["debug", "-h"], &[]);
    assert!(debug.out.starts_with("Usage: steppe operator debug") && !debug.out.contains("Alias"), "{debug:?}");
}
