//! Commands for whoever runs the cluster: nodes left and used again, pools, scheduler configuration, garbage.
use crate::fake::Fake;
use serde_json::{Value, json};

const NODE: &str = "bbbbbbbb-1111-4111-8111-000000000001";
const ALLOC: &str = "aaaaaaaa-1111-4111-8111-000000000001";
const EVAL: &str = "cccccccc-1111-4111-8111-000000000001";
const AT: &str = "2023-11-14T22:13:20Z";

fn stub() -> Value {
    json!([{"ID": NODE, "Name": "n1", "Datacenter": "dc1", "NodePool": "default", "Status": "ready",
        "SchedulingEligibility": "eligible"}])
}

fn node(draining: bool, last: &str) -> Value {
    let strategy = json!({"Deadline": 3_600_000_000_000_i64, "IgnoreSystemJobs": false,
        "ForceDeadline": "2023-11-14T23:13:20Z", "StartedAt": AT});
    json!({"ID": NODE, "Name": "n1", "Status": "ready", "SchedulingEligibility": "ineligible",
        "DrainStrategy": if draining { strategy } else { Value::Null }, "LastDrain": {"Status": last, "StartedAt": AT}})
}

fn alloc(status: &str, migrate: bool, desired: &str) -> Value {
    json!([{"ID": ALLOC, "NodeID": NODE, "JobID": "web", "TaskGroup": "g", "ClientStatus": status,
        "DesiredStatus": desired, "DesiredTransition": {"Migrate": migrate}}])
}

fn with_node() -> Fake {
    Fake::start().get("/v1/nodes", stub())
}

#[test]
fn a_drain_is_set_with_what_was_asked_and_watched_to_its_end() {
    let path = format!("/v1/node/{NODE}");
    let allocs = format!("{path}/allocations");
    let fake = with_node()
        .reply("PUT", &format!("{path}/drain"), 200, 5, json!({"NodeModifyIndex": 5, "Index": 5}))
        .reply("GET", &path, 200, 5, node(true, "draining"))
        .reply("GET", &allocs, 200, 5, alloc("complete", true, "stop"))
        .reply("GET", &path, 200, 9, node(false, "complete"));
    let done = fake.run(&[
        "node",
        "drain",
        "-enable",
        "-deadline",
        "30m",
        "-ignore-system",
        "-m",
        "disk",
        "-meta",
        "a=b",
        NODE,
    ]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(
        done.out,
        format!(
            "{AT}: Ctrl-C to stop monitoring: will not cancel the node drain\n\
             {AT}: Node \"{NODE}\" drain strategy set\n\
             {AT}: Drain complete for node \"{NODE}\"\n\
             {AT}: All allocations on node \"{NODE}\" have stopped\n"
        )
    );
    let sent = fake.asked_for("PUT", &format!("{path}/drain")).body;
    assert_eq!(
        sent,
        json!({"NodeID": NODE, "DrainSpec": {"Deadline": 1_800_000_000_000_i64, "IgnoreSystemJobs": true},
            "MarkEligible": false, "Meta": {"a": "b", "message": "disk"}})
    );
}

#[test]
fn deadlines_of_a_drain_are_what_the_flags_say() {
    let path = format!("/v1/node/{NODE}/drain");
    for (flags, spec, eligible) in [
        (&["-enable"][..], json!({"Deadline": 3_600_000_000_000_i64, "IgnoreSystemJobs": false}), false),
        (&["-enable", "-force"], json!({"Deadline": -1_000_000_000_i64, "IgnoreSystemJobs": false}), false),
        (&["-enable", "-no-deadline"], json!({"Deadline": 0, "IgnoreSystemJobs": false}), false),
        (&["-disable"], Value::Null, true),
        (&["-disable", "-keep-ineligible"], Value::Null, false),
    ] {
        let fake = with_node().reply("PUT", &path, 200, 5, json!({}));
        let done = fake.run(&[&["node", "drain", "-detach"], flags, &[NODE]].concat());
        let state = if spec.is_null() { "unset" } else { "set" };
        assert_eq!((done.code, done.out), (0, format!("Node \"{NODE}\" drain strategy {state}\n")), "{flags:?}");
        let sent = fake.asked_for("PUT", &path).body;
        assert_eq!((&sent["DrainSpec"], &sent["MarkEligible"]), (&spec, &json!(eligible)), "{flags:?}");
    }
}

#[test]
fn a_drain_that_makes_no_sense_is_refused_before_anything_is_sent() {
    let fake = with_node();
    for (words, says) in [
        (&["-enable", "-disable", NODE][..], "Either the '-enable' or '-disable' flag must be set"),
        (&[NODE], "Either the '-enable' or '-disable' flag must be set"),
        (&["-enable", "-force", "-no-deadline", NODE], "Only one of"),
        (&["-enable", "-deadline", "soon", NODE], "Failed to parse deadline"),
        (&["-enable", "-deadline", "0s", NODE], "A positive drain duration must be given"),
        (&["-disable", "-force", NODE], "-disable can't be combined"),
        (&["-enable", "-keep-ineligible", NODE], "-keep-ineligible can't be combined"),
        (&["-monitor", "-enable", NODE], "The -monitor flag cannot be used"),
        (&["-enable"], "Node ID must be specified if -self isn't being used"),
        (&["-enable", "-self", NODE], "A node cannot be named together with -self"),
        (&["-enable", "bbbb"], "The id was shortened"),
        (&["-enable", "-meta", "=x", NODE], "Error parsing meta"),
    ] {
        let done = fake.run(&[&["node", "drain"], words].concat());
        assert_eq!(done.code, 1, "{words:?}");
        assert!(done.err.contains(says), "{words:?}: {}", done.err);
    }
    assert!(fake.asked().iter().all(|asked| asked.method == "GET"));
}

#[test]
fn the_node_on_this_machine_is_the_one_the_agent_says() {
    let path = format!("/v1/node/{NODE}/eligibility");
    let fake = with_node().get("/v1/agent/self", json!({"stats": {"client": {"node_id": NODE}}})).reply(
        "PUT",
        &path,
        200,
        5,
        json!({}),
    );
    let done = fake.run(&["node", "eligibility", "-disable", "-self"]);
    let says = format!("Node \"{NODE}\" scheduling eligibility set: ineligible for scheduling\n");
    assert_eq!((done.code, done.out), (0, says));
    assert_eq!(fake.asked_for("PUT", &path).body["Eligibility"], "ineligible");
    let both = fake.run(&["node", "eligibility", "-enable", "-disable", NODE]);
    assert_eq!((both.code, both.out.as_str()), (1, ""));
}

#[test]
fn the_scheduler_configuration_keeps_what_no_flag_names_and_is_set_only_as_it_was_known() {
    let path = "/v1/operator/scheduler/configuration";
    let config = json!({"SchedulerConfig": {"SchedulerAlgorithm": "spread", "MemoryOversubscriptionEnabled": true,
        "PreemptionConfig": {"SystemSchedulerEnabled": true}, "ModifyIndex": 7}, "Index": 7});
    let fake = Fake::start().get(path, config).reply("PUT", path, 200, 8, json!({"Updated": true, "Index": 8}));
    let done = fake.run(&["operator", "scheduler", "set-config", "-pause-eval-broker=true"]);
    assert_eq!((done.code, done.out.as_str()), (0, "Scheduler configuration updated!\n"));
    let sent = fake.asked_for("PUT", path);
    assert!(sent.query.contains("cas=7"), "{}", sent.query);
    for (field, value) in [
        ("SchedulerAlgorithm", json!("spread")),
        ("MemoryOversubscriptionEnabled", json!(true)),
        ("PauseEvalBroker", json!(true)),
    ] {
        assert_eq!(sent.body[field], value);
    }
    let shown = fake.run(&["operator", "scheduler", "get-config"]);
    assert!(shown.out.starts_with("Scheduler Algorithm               = spread\n"), "{}", shown.out);
    assert!(shown.out.ends_with("Modify Index                      = 7\n"), "{}", shown.out);
    let fake = Fake::start().get(path, json!({})).reply("PUT", path, 200, 8, json!({"Updated": false}));
    let stale =
        fake.run(&["operator", "scheduler", "set-config", "-check-index", "3", "-scheduler-algorithm", "spread"]);
    assert_eq!(stale.code, 1);
    assert!(stale.err.contains("could not be atomically updated"), "{}", stale.err);
}

#[test]
fn evaluations_are_deleted_by_id_or_by_filter_and_not_without_being_asked() {
    let fake = Fake::start()
        .get("/v1/evaluations", json!([{"ID": EVAL, "JobID": "web", "Status": "complete"}]))
        .get("/v1/evaluations/count", json!({"Count": 2}))
        .reply("DELETE", "/v1/evaluations", 200, 5, json!({"Count": 1, "Index": 5}));
    let done = fake.run(&["eval", "delete", EVAL]);
    assert_eq!((done.code, done.out.as_str()), (0, "Successfully deleted 1 evaluation\n"));
    assert_eq!(fake.asked_for("DELETE", "/v1/evaluations").body["EvalIDs"], json!([EVAL]));
    let filter = "Status == \"complete\"";
    let unasked = fake.run(&["eval", "delete", "-filter", filter]);
    assert_eq!(unasked.code, 1);
    assert!(unasked.err.contains("This would delete 2 evaluations"), "{}", unasked.err);
    let done = fake.run(&["eval", "delete", "-yes", "-filter", filter]);
    assert_eq!(done.code, 0);
    assert_eq!(fake.asked_for("DELETE", "/v1/evaluations").body["Filter"], filter);
    for words in [&["eval", "delete"][..], &["eval", "delete", "-filter", "x", EVAL]] {
        assert_eq!(fake.run(words).code, 1);
    }
}

#[test]
fn a_node_pool_is_applied_from_a_file_and_misspelt_keys_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = file(
        "good.hcl",
        "node_pool \"gpu\" {\n  description = \"cards\"\n  meta { a = 1 }\n  scheduler_config {\n    scheduler_algorithm = \"spread\"\n  }\n}\n",
    );
    let fake = Fake::start().reply("PUT", "/v1/node/pools", 200, 5, json!(""));
    let done = fake.run(&["node", "pool", "apply", &good]);
    assert_eq!((done.code, done.out.as_str()), (0, "Successfully applied node pool \"gpu\"!\n"));
    assert_eq!(
        fake.asked_for("PUT", "/v1/node/pools").body,
        json!({"Name": "gpu", "Description": "cards", "Meta": {"a": "1"}, "SchedulerConfiguration": {"SchedulerAlgorithm": "spread"}})
    );
    for (text, says) in [
        ("node_pool \"x\" {\n  descripton = \"y\"\n}\n", "line 2: invalid key: descripton"),
        ("pool \"x\" {}\n", "invalid key: pool"),
        ("node_pool \"x\" {}\nnode_pool \"y\" {}\n", "only one 'node_pool' block allowed"),
        ("node_pool \"x\" {", "Failed to parse"),
    ] {
        let done = fake.run(&["node", "pool", "apply", &file("bad.hcl", text)]);
        assert_eq!(done.code, 1);
        assert!(done.err.contains(says), "{}", done.err);
    }
    let init = dir.path().join("pool.nomad.hcl").display().to_string();
    assert_eq!(fake.run(&["node", "pool", "init", "-quiet", &init]).code, 0);
    assert_eq!(fake.run(&["node", "pool", "apply", &init]).code, 0, "the example is valid");
    assert_eq!(fake.run(&["node", "pool", "init", &init]).code, 1, "and is not replaced");
}

#[test]
fn garbage_and_summaries_are_asked_for_by_put_and_say_nothing() {
    for (words, path) in [
        (&["system", "gc"][..], "/v1/system/gc"),
        (&["system", "reconcile", "summaries"], "/v1/system/reconcile/summaries"),
    ] {
        let fake = Fake::start().reply("PUT", path, 200, 0, json!(""));
        let done = fake.run(words);
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "", ""));
        fake.asked_for("PUT", path);
    }
}
