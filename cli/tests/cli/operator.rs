//! Commands for whoever runs the cluster, row by row: what is asked of the API, which columns are shown, which exit code.
//! Columns and codes are those of the compatible interface (`cli.tsv`).

use serde_json::{Value, json};

use crate::fake::{Done, Fake, run};
use cli::command::table::commands;
use cli::command::{Reach, Runner};

const DEPLOYMENT: &str = "70638f62-5c19-193e-30d6-f9d6e689ab8e";
const EVAL: &str = "5bd1e1a5-2f4e-9f3c-3a3a-3c6f0e9cf1aa";
const NODE: &str = "bbbbbbbb-1111-4111-8111-000000000001";

/// A cluster with one of each.
fn cluster() -> Fake {
    let pool = json!({"Name": "gpu", "Description": "cards", "Meta": {"a": "b"},
        "SchedulerConfiguration": {"SchedulerAlgorithm": "spread", "MemoryOversubscriptionEnabled": true}});
    let job = json!({"ID": "web", "Namespace": "default", "Name": "web", "Type": "service", "Status": "running",
        "Priority": 50, "SubmitTime": crate::fake::NOW});
    let node = json!({"ID": NODE, "Name": "n1", "Datacenter": "dc1", "NodePool": "gpu", "Status": "ready",
        "SchedulingEligibility": "eligible"});
    let namespace = json!({"Name": "team", "Description": "ours", "Meta": {"k": "v"}});
    let deployment = json!({"ID": DEPLOYMENT, "Namespace": "default", "JobID": "web", "JobVersion": 3, "Status": "running",
        "StatusDescription": "Deployment is running", "TaskGroups": {"g": {"DesiredTotal": 2, "PlacedAllocs": 1}}});
    let autopilot = json!({"CleanupDeadServers": true, "LastContactThreshold": "200ms", "MaxTrailingLogs": 250,
        "ServerStabilizationTime": "10s", "ModifyIndex": 4});
    let server = json!({"ID": "7", "Name": "s1.global", "Address": "127.0.0.1:4647", "SerfStatus": "alive",
        "Version": "1", "Leader": true, "Voter": true, "Healthy": true, "LastContact": "0s", "LastTerm": 1,
        "LastIndex": 9, "StableSince": "2023-11-14T22:13:20Z"});
    let peer = json!({"ID": "7", "Node": "s1.global", "Address": "127.0.0.1:4647", "Leader": true, "Voter": true,
        "RaftProtocol": "3"});
    let updated = json!({"EvalID": EVAL, "Index": 5});
    let mut fake = Fake::start()
        .get("/v1/node/pools", json!([pool]))
        .get("/v1/node/pool/gpu", pool)
        .get("/v1/node/pool/gpu/nodes", json!([node]))
        .get("/v1/node/pool/gpu/jobs", json!([job]))
        .reply("DELETE", "/v1/node/pool/gpu", 200, 5, json!(""))
        .get("/v1/namespaces", json!([namespace]))
        .get("/v1/namespace/team", namespace)
        .reply("PUT", "/v1/namespace", 200, 5, json!(""))
        .reply("DELETE", "/v1/namespace/team", 200, 5, json!(""))
        .get("/v1/deployments", json!([deployment]))
        .get(&format!("/v1/deployment/{DEPLOYMENT}"), deployment)
        .get("/v1/operator/autopilot/configuration", autopilot)
        .reply("PUT", "/v1/operator/autopilot/configuration", 200, 5, json!(true))
        .reply(
            "GET",
            "/v1/operator/autopilot/health",
            429,
            5,
            json!({"Healthy": false, "FailureTolerance": 0, "Leader": "7", "Voters": ["7"], "Servers": [server]}),
        )
        .get("/v1/operator/raft/configuration", json!({"Index": 0, "Servers": [peer]}))
        .reply("DELETE", "/v1/operator/raft/peer", 200, 5, json!(""))
        .reply(
            "PUT",
            "/v1/operator/raft/transfer-leadership",
            200,
            5,
            json!({"From": {"Node": "s1"}, "To": {"Node": "s2"}, "Noop": false}),
        )
        .get(
            "/v1/operator/keyring/keys",
            json!([{"KeyID": EVAL, "State": "active", "CreateTime": crate::fake::NOW, "PublishTime": 0}]),
        )
        .get("/v1/metrics", json!({"Gauges": []}))
        .get("/v1/jobs", json!([job]))
        .reply(
            "PUT",
            "/v1/job/web/dispatch",
            200,
            5,
            json!({"DispatchedJobID": "web/dispatch-1-a", "EvalID": EVAL, "Index": 5}),
        )
        .reply("PUT", "/v1/job/web/periodic/force", 200, 5, updated.clone());
    for verb in ["fail", "pause", "promote", "unblock"] {
        fake = fake.reply("PUT", &format!("/v1/deployment/{verb}/{DEPLOYMENT}"), 200, 5, updated.clone());
    }
    fake
}

/// The table whose heading has these columns begins somewhere in the output.
fn has_columns(done: &Done, columns: &str) -> bool {
    let wanted: Vec<&str> = columns.split('|').collect();
    let cells = |line: &str| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect();
    done.out.lines().any(|line| -> bool {
        let found: Vec<String> = cells(line);
        found == wanted
    })
}

#[test]
fn lists_have_the_columns_of_the_reference() {
    const NODES: &str = "ID|DC|Name|Class|Drain|Eligibility|Status";
    for (words, columns) in [
        ("node pool list", "Name|Description"),
        ("node pool nodes gpu", NODES),
        ("node pool jobs gpu", "ID|Type|Priority|Status|Submit Date"),
        ("node pool jobs -namespace * gpu", "ID|Namespace|Type|Priority|Status|Submit Date"),
        ("namespace list", "Name|Description"),
        ("deployment list", "ID|Job ID|Job Version|Status|Description"),
        (
            "operator autopilot health",
            "ID|Name|Address|SerfStatus|Version|Leader|Voter|Healthy|LastContact|LastTerm|LastIndex|StableSince",
        ),
        ("operator raft list-peers", "Node|ID|Address|State|Voter|RaftProtocol"),
        ("operator root keyring list", "Key|State|Create Time|Publish Time"),
    ] {
        let done = cluster().run(&words.split(' ').collect::<Vec<_>>());
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{words}");
        assert!(has_columns(&done, columns), "{words}:\n{}", done.out);
    }
}

#[test]
fn one_thing_is_shown_with_the_labels_of_the_reference() {
    for (words, labels) in [
        ("node pool info gp", "Name,Description,Scheduler Algorithm,Memory Oversubscription Enabled"),
        (
            "namespace status team",
            "Name,Description,Quota,Enabled Drivers,Disabled Drivers,Enabled Network Modes,Disabled Network Modes",
        ),
        ("deployment status 70638f62", "ID,Job ID,Job Version,Status,Description"),
        (
            "operator autopilot get-config",
            "CleanupDeadServers,LastContactThreshold,MaxTrailingLogs,MinQuorum,ServerStabilizationTime",
        ),
        ("job dispatch -detach web", "Dispatched Job ID,Evaluation ID"),
    ] {
        let done = cluster().run(&words.split(' ').collect::<Vec<_>>());
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{words}");
        for label in labels.split(',') {
            let there = done.out.lines().any(|line| {
                let line = line.trim_start();
                line.split_once('=').is_some_and(|(key, _)| key.trim_end() == label)
            });
            assert!(there, "{words}: no {label:?} in\n{}", done.out);
        }
    }
}

#[test]
fn a_write_asks_for_what_its_flags_say_and_says_what_was_done() {
    let deployment = |verb: &str| format!("/v1/deployment/{verb}/{DEPLOYMENT}");
    for (words, method, path, query, body, says) in [
        (
            "node pool delete gpu",
            "DELETE",
            "/v1/node/pool/gpu".to_owned(),
            "",
            json!({}),
            "Successfully deleted node pool \"gpu\"!",
        ),
        (
            "namespace delete team",
            "DELETE",
            "/v1/namespace/team".into(),
            "",
            json!({}),
            "Successfully deleted namespace \"team\"!",
        ),
        (
            "namespace apply -description new team",
            "PUT",
            "/v1/namespace".into(),
            "",
            json!({"Name": "team", "Description": "new", "Meta": {"k": "v"}}),
            "Successfully applied namespace specification \"team\"!",
        ),
        (
            "operator autopilot set-config -cleanup-dead-servers=false -max-trailing-logs=9 -last-contact-threshold=1s",
            "PUT",
            "/v1/operator/autopilot/configuration".into(),
            "cas=4",
            json!({"CleanupDeadServers": false, "MaxTrailingLogs": 9, "LastContactThreshold": "1s", "ServerStabilizationTime": "10s"}),
            "Configuration updated!",
        ),
        (
            "operator raft remove-peer -peer-id 7",
            "DELETE",
            "/v1/operator/raft/peer".into(),
            "id=7",
            json!({}),
            "Removed peer with id \"7\"",
        ),
        (
            "operator raft transfer-leadership -peer-address 10.0.0.2:4647",
            "PUT",
            "/v1/operator/raft/transfer-leadership".into(),
            "address=10.0.0.2%3A4647",
            json!({}),
            "Success. Leadership went from s1 to s2",
        ),
        (
            "deployment pause 7063",
            "PUT",
            deployment("pause"),
            "",
            json!({"DeploymentID": DEPLOYMENT, "Pause": true}),
            "Deployment \"70638f62\" paused",
        ),
        (
            "deployment resume -detach 7063",
            "PUT",
            deployment("pause"),
            "",
            json!({"Pause": false}),
            "Deployment \"70638f62\" resumed",
        ),
        (
            "deployment fail -detach 7063",
            "PUT",
            deployment("fail"),
            "",
            json!({"DeploymentID": DEPLOYMENT}),
            "Deployment \"70638f62\" failed",
        ),
        (
            "deployment promote -detach 7063",
            "PUT",
            deployment("promote"),
            "",
            json!({"All": true}),
            "Deployment \"70638f62\" promoted",
        ),
        (
            "deployment promote -detach -group a -group b 7063",
            "PUT",
            deployment("promote"),
            "",
            json!({"Groups": ["a", "b"]}),
            "Deployment \"70638f62\" promoted",
        ),
        (
            "deployment unblock -detach 7063",
            "PUT",
            deployment("unblock"),
            "",
            json!({}),
            "Deployment \"70638f62\" unblocked",
        ),
        (
            "job dispatch -detach -meta a=b -id-prefix-template x -priority 60 -idempotency-token t web",
            "PUT",
            "/v1/job/web/dispatch".into(),
            "idempotency_token=t",
            json!({"JobID": "web", "Meta": {"a": "b"}, "IdPrefixTemplate": "x", "Priority": 60}),
            "Dispatched Job ID = web/dispatch-1-a",
        ),
        (
            "job periodic force -detach web",
            "PUT",
            "/v1/job/web/periodic/force".into(),
            "",
            json!({}),
            "Force periodic successful",
        ),
    ] {
        let fake = cluster();
        let done = fake.run(&words.split(' ').collect::<Vec<_>>());
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{words}");
        assert!(done.out.contains(says), "{words}: {}", done.out);
        let asked = fake.asked_for(method, &path);
        assert!(asked.query.contains(query), "{words}: {}", asked.query);
        for (field, value) in body.as_object().unwrap() {
            assert_eq!(asked.body[field], *value, "{words}: {field} of {}", asked.body);
        }
    }
}

#[test]
fn a_refusal_of_the_api_is_passed_on_with_exit_code_1() {
    for (words, method, path) in [
        ("node pool delete gpu", "DELETE", "/v1/node/pool/gpu"),
        ("namespace delete team", "DELETE", "/v1/namespace/team"),
        ("namespace apply new", "PUT", "/v1/namespace"),
        ("operator raft remove-peer -peer-id 9", "DELETE", "/v1/operator/raft/peer"),
        ("system gc", "PUT", "/v1/system/gc"),
        ("job periodic force web", "PUT", "/v1/job/web/periodic/force"),
    ] {
        let jobs = json!([{"ID": "web", "Namespace": "default", "Name": "web"}]);
        let fake = Fake::start().get("/v1/jobs", jobs).reply(method, path, 409, 5, json!("something uses it"));
        let done = fake.run(&words.split(' ').collect::<Vec<_>>());
        assert_eq!((done.code, done.out.as_str()), (1, ""), "{words}");
        assert!(done.err.contains("409 (something uses it)"), "{words}: {}", done.err);
    }
    let fake = cluster().reply("PUT", "/v1/operator/autopilot/configuration", 200, 6, json!(false));
    fake.run(&["operator", "autopilot", "set-config", "-min-quorum", "3"]);
    let stale = fake.run(&["operator", "autopilot", "set-config", "-min-quorum", "3"]);
    assert!(stale.code == 1 && stale.err.contains("could not be atomically updated"), "{}", stale.err);
    for words in [
        "operator raft remove-peer",
        "operator raft transfer-leadership",
        "operator autopilot set-config -min-quorum x",
    ] {
        assert_eq!(cluster().run(&words.split(' ').collect::<Vec<_>>()).code, 1, "{words}");
    }
}

#[test]
fn a_file_that_is_no_snapshot_is_refused_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.snap").display().to_string();
    std::fs::write(&file, b"not a snapshot").unwrap();
    let fake = cluster().get("/v1/operator/snapshot", json!("garbage"));
    for words in [["operator", "snapshot", "restore", &file], ["operator", "snapshot", "inspect", &file]] {
        let done = fake.run(&words);
        assert!(done.code == 1 && done.err.contains("Error verifying snapshot file"), "{}", done.err);
    }
    assert!(fake.asked().is_empty());
    let target = dir.path().join("new.snap");
    let done = fake.run(&["operator", "snapshot", "save", &target.display().to_string()]);
    assert_eq!(done.code, 1, "what was sent is no snapshot: {}", done.out);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["bad.snap"], "nothing half-written is left");
}

/// Commands that read stdin to its end, or that hold a session.
const NOT_ASKED: [&str; 1] = ["operator api"];

#[test]
fn every_command_says_in_one_sentence_that_nobody_answers() {
    let mut asked = 0;
    for command in commands().filter(|c| c.reach != Reach::Nobody && matches!(c.runner, Runner::Client(_))) {
        if NOT_ASKED.contains(&command.path) {
            continue;
        }
        let mut words: Vec<&str> = command.path.split(' ').collect();
        words.extend(std::iter::repeat_n("bbbbbbbb", command.args.0));
        let done = run(&words, &[("NOMAD_ADDR", "http://127.0.0.1:1")]);
        assert_eq!((done.code, done.out.as_str()), (command.code_error, ""), "{words:?}: {}", done.err);
        assert!(!done.err.is_empty() && done.err.lines().count() <= 3, "{words:?}: {}", done.err);
        asked += usize::from(done.err.contains("127.0.0.1:1"));
    }
    assert!(asked > 50, "{asked} commands got so far");
}

#[test]
fn json_is_the_api_s_answer_as_it_is() {
    for (words, path) in [
        ("node pool list -json", "/v1/node/pools"),
        ("node pool info -json gpu", "/v1/node/pool/gpu"),
        ("node pool nodes -json gpu", "/v1/node/pool/gpu/nodes"),
        ("namespace list -json", "/v1/namespaces"),
        ("deployment list -json", "/v1/deployments"),
        ("operator autopilot get-config -json", "/v1/operator/autopilot/configuration"),
        ("operator autopilot health -json", "/v1/operator/autopilot/health"),
        ("operator metrics", "/v1/metrics"),
    ] {
        let fake = cluster();
        let done = fake.run(&words.split(' ').collect::<Vec<_>>());
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{words}");
        let said: Value = serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{words}: {e}: {}", done.out));
        assert!(said.is_array() || said.is_object(), "{words}");
        fake.asked_for("GET", path);
    }
    let none = Fake::start().get("/v1/namespaces", json!([]));
    assert_eq!(none.run(&["namespace", "status", "x"]).code, 1);
}

#[test]
fn a_dispatched_job_is_waited_for_until_it_has_ended() {
    let job = |status: &str| json!({"ID": "web/dispatch-1-a", "Namespace": "default", "Status": status});
    let eval = json!({"ID": EVAL, "Namespace": "default", "JobID": "web/dispatch-1-a", "Status": "complete", "CreateIndex": 5});
    for (failed, code) in [(0, 0), (1, 1)] {
        let summary =
            json!({"JobID": "web/dispatch-1-a", "Summary": {"g": {"Complete": 1 - failed, "Failed": failed}}});
        let fake = cluster()
            .get(&format!("/v1/evaluation/{EVAL}"), eval.clone())
            .get(&format!("/v1/evaluation/{EVAL}/allocations"), json!([]))
            .reply("GET", "/v1/job/web%2Fdispatch-1-a", 200, 6, job("running"))
            .reply("GET", "/v1/job/web%2Fdispatch-1-a", 200, 9, job("dead"))
            .get("/v1/job/web%2Fdispatch-1-a/summary", summary);
        let done = fake.run(&["job", "dispatch", "-wait", "web"]);
        assert_eq!((done.code, done.err.as_str()), (code, ""), "{}", done.out);
        assert!(done.out.contains("Waiting for job \"web/dispatch-1-a\" to end"), "{}", done.out);
        assert!(done.out.contains("Summary\nTask Group"), "{}", done.out);
    }
    let both = cluster().run(&["job", "dispatch", "-wait", "-detach", "web"]);
    assert!(both.code == 1 && both.err.contains("cannot be used together"), "{}", both.err);
}
