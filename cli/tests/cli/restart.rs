//! `job restart`, and scaling policies.

use serde_json::{Value, json};

use crate::fake::Fake;

const EVAL: &str = "5bd1e1a5-2f4e-9f3c-3a3a-3c6f0e9cf1aa";

fn id(n: u64) -> String {
    format!("aaaaaaaa-1111-4111-8111-{n:012}")
}

fn alloc(n: u64, group: &str, status: &str) -> Value {
    json!({"ID": id(n), "Name": format!("web.{group}[{n}]"), "Namespace": "default", "JobID": "web", "TaskGroup": group,
        "ClientStatus": status, "DesiredStatus": "run", "CreateIndex": n})
}

/// Allocations 1 to 3 of group `g` and 4 of group `h` run; 5 has ended.
fn with_job() -> Fake {
    let stub = json!({"ID": "web", "Namespace": "default", "Name": "web", "Type": "service", "Status": "running"});
    let group = |name: &str, task: &str| json!({"Name": name, "Tasks": [{"Name": task}, {"Name": "side"}]});
    let job =
        json!({"ID": "web", "Name": "web", "Namespace": "default", "TaskGroups": [group("g", "t"), group("h", "u")]});
    let mut allocs: Vec<Value> = (1..=3).map(|n| alloc(n, "g", "running")).collect();
    allocs.extend([alloc(4, "h", "running"), alloc(5, "g", "complete")]);
    let mut fake = Fake::start()
        .get("/v1/jobs", json!([stub]))
        .get("/v1/job/web", job)
        .get("/v1/job/web/allocations", Value::Array(allocs));
    for n in 1..=4 {
        fake = fake.reply("PUT", &restart_of(n), 200, 1, json!({"Index": 0}));
    }
    fake
}

fn restart_of(n: u64) -> String {
    format!("/v1/client/allocation/{}/restart", id(n))
}

fn restarted(fake: &Fake) -> Vec<(String, Value)> {
    let sent = fake.asked().into_iter().filter(|asked| asked.path.ends_with("/restart"));
    sent.map(|asked| (asked.path, asked.body)).collect()
}

#[test]
fn every_allocation_that_runs_is_restarted_in_place() {
    let fake = with_job();
    let done = fake.run(&["job", "restart", "web"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert!(done.out.contains("Restarting 4 allocations"), "{}", done.out);
    assert!(done.out.contains("Restarting running tasks in allocation \"aaaaaaaa\" for group \"g\""), "{}", done.out);
    assert!(done.out.ends_with("Job restarted successfully!\n"), "{}", done.out);
    let body = json!({"TaskName": "", "AllTasks": false});
    let all: Vec<_> = (1..=4).map(|n| (restart_of(n), body.clone())).collect();
    assert_eq!(restarted(&fake), all);
}

#[test]
fn groups_tasks_and_all_tasks_say_what_of_it() {
    for (flags, expected) in [
        (&["-group", "h"][..], vec![(4, json!({"TaskName": "", "AllTasks": false}))]),
        (&["-all-tasks", "-group", "h"], vec![(4, json!({"TaskName": "", "AllTasks": true}))]),
        (&["-task", "u"], vec![(4, json!({"TaskName": "u", "AllTasks": false}))]),
        (
            &["-group", "h", "-task", "side", "-task", "u"],
            vec![(4, json!({"TaskName": "side", "AllTasks": false})), (4, json!({"TaskName": "u", "AllTasks": false}))],
        ),
    ] {
        let fake = with_job();
        let done = fake.run(&[&["job", "restart"], flags, &["web"]].concat());
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{flags:?}");
        let expected: Vec<_> = expected.into_iter().map(|(n, body)| (restart_of(n), body)).collect();
        assert_eq!(restarted(&fake), expected, "{flags:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_sent() {
    let fake = with_job();
    for (flags, says) in [
        (&["-all-tasks", "-task", "t"][..], "-all-tasks and -task cannot be used together"),
        (&["-reschedule", "-task", "t"], "-reschedule cannot be used with"),
        (&["-reschedule", "-all-tasks"], "-reschedule cannot be used with"),
        (&["-no-shutdown-delay"], "can only be used with -reschedule"),
        (&["-batch-size", "0"], "-batch-size must be"),
        (&["-batch-size", "120%"], "-batch-size must be"),
        (&["-batch-wait", "soon"], "-batch-wait must be"),
        (&["-batch-wait", "ask"], "needs a terminal"),
        (&["-on-error", "pray"], "-on-error must be"),
        (&["-group", "none"], "Group \"none\" not found"),
        (&["-group", "g", "-task", "u"], "Task \"u\" not found"),
    ] {
        let done = fake.run(&[&["job", "restart"], flags, &["web"]].concat());
        assert!(done.code == 1 && done.err.contains(says), "{flags:?}: {}", done.err);
    }
    let done = fake.run(&["job", "restart", "we"]);
    assert!(done.code == 1 && done.err.contains("-yes"), "{}", done.err);
    assert!(fake.asked().iter().all(|asked| asked.method == "GET"));
    assert_eq!(fake.run(&["job", "restart", "-yes", "we"]).code, 0);
}

#[test]
fn an_error_ends_it_unless_yes_was_said() {
    let broken = || {
        let refused = "No path to node";
        let whole = json!({"ID": id(1), "ClientStatus": "running", "DesiredStatus": "run"});
        let stub = json!([{"ID": "web", "Namespace": "default", "Name": "web"}]);
        Fake::start()
            .get("/v1/jobs", stub)
            .get("/v1/job/web", json!({"ID": "web", "TaskGroups": [{"Name": "g"}]}))
            .get("/v1/job/web/allocations", json!([alloc(1, "g", "running"), alloc(2, "g", "running")]))
            .get(&format!("/v1/allocation/{}", id(1)), whole)
            .reply("PUT", &restart_of(1), 404, 1, json!(refused))
            .reply("PUT", &restart_of(2), 200, 1, json!({"Index": 0}))
    };
    for flags in [&[][..], &["-on-error=fail"], &["-on-error=fail", "-yes"]] {
        let fake = broken();
        let done = fake.run(&[&["job", "restart"], flags, &["web"]].concat());
        assert_eq!((done.code, restarted(&fake).len()), (1, 1), "{flags:?}: {}", done.err);
        assert!(done.err.contains("No path to node") && done.err.contains("after batch 1 of 2"), "{}", done.err);
    }
    let fake = broken();
    let done = fake.run(&["job", "restart", "-yes", "web"]);
    assert_eq!((done.code, restarted(&fake).len()), (1, 2), "it goes on, and says at its end that not all is well");
    let fake = broken();
    let done = fake.run(&["job", "restart", "-batch-size=100%", "web"]);
    assert_eq!((done.code, restarted(&fake).len()), (1, 2), "a batch is restarted at once");
}

#[test]
fn a_rescheduled_allocation_is_waited_for_until_its_replacement_runs() {
    let stop = |n: u64| format!("/v1/allocation/{}/stop", id(n));
    let eval = |status: &str, index: u64, failed: &Value| {
        json!({"ID": EVAL, "Namespace": "default", "Status": status, "CreateIndex": 8, "ModifyIndex": index,
            "FailedTGAllocs": failed})
    };
    let evals = "/v1/job/web/evaluations";
    // Its evaluation is under way, and decided when it is asked for again.
    let replaced = |status: &str, failed: Value| {
        let mut old = alloc(4, "h", "complete");
        let fake = with_job()
            .reply("PUT", &stop(4), 200, 8, json!({"EvalID": EVAL, "Index": 8}))
            .reply("GET", evals, 200, 8, json!([eval("pending", 8, &Value::Null)]))
            .reply("GET", evals, 200, 9, json!([eval("complete", 9, &failed)]))
            .reply("GET", &format!("/v1/evaluation/{EVAL}"), 200, 8, eval("pending", 8, &Value::Null))
            .reply("GET", &format!("/v1/evaluation/{EVAL}"), 200, 9, eval("complete", 9, &failed))
            .reply("GET", &format!("/v1/allocation/{}", id(4)), 200, 8, old.clone());
        if failed.is_null() {
            old["NextAllocation"] = json!(id(9));
        }
        fake.reply("GET", &format!("/v1/allocation/{}", id(4)), 200, 9, old)
            .reply("GET", &format!("/v1/allocation/{}", id(9)), 200, 9, alloc(9, "h", "pending"))
            .reply("GET", &format!("/v1/allocation/{}", id(9)), 200, 12, alloc(9, "h", status))
    };
    let words = ["job", "restart", "-reschedule", "-no-shutdown-delay", "-group", "h", "web"];
    let fake = replaced("running", Value::Null);
    let done = fake.run(&words);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{}", done.out);
    assert!(fake.asked_for("PUT", &stop(4)).query.contains("no_shutdown_delay=true"));
    let waited = fake.asked().into_iter().filter(|asked| asked.path == format!("/v1/allocation/{}", id(9)));
    assert_eq!(waited.map(|asked| asked.query.contains("index=9")).collect::<Vec<_>>(), [false, true]);
    let done = replaced("failed", Value::Null).run(&words);
    assert!(done.code == 1 && done.err.contains("ended as failed"), "{}", done.err);
    let done = replaced("running", json!({"h": {}})).run(&words);
    assert!(done.code == 1 && done.err.contains("no place for its replacement"), "{}", done.err);
}

#[test]
fn a_job_of_which_nothing_runs_has_nothing_to_restart() {
    let fake = Fake::start()
        .get("/v1/jobs", json!([{"ID": "web", "Namespace": "default", "Name": "web"}]))
        .get("/v1/job/web", json!({"ID": "web", "TaskGroups": [{"Name": "g"}]}))
        .get("/v1/job/web/allocations", json!([alloc(5, "g", "complete")]));
    let done = fake.run(&["job", "restart", "web"]);
    assert_eq!((done.code, done.out.as_str()), (0, "No allocations to restart\n"));
}

#[test]
fn scaling_policies_are_listed_and_shown() {
    let policy = "7ce17a53-0000-8000-8000-000000000001";
    let target = json!({"Namespace": "default", "Job": "web", "Group": "g"});
    let stub = json!([{"ID": policy, "Enabled": true, "Type": "horizontal", "Target": target}]);
    let whole = json!({"ID": policy, "Enabled": true, "Type": "horizontal", "Target": target, "Min": 1, "Max": 5,
        "Policy": {"cooldown": "1m"}});
    let fake = Fake::start().get("/v1/scaling/policies", stub).get(&format!("/v1/scaling/policy/{policy}"), whole);
    let done = fake.run(&["scaling", "policy", "list", "-job", "web", "-type", "horizontal"]);
    assert_eq!(
        done.out,
        "ID        Enabled  Type        Target\n7ce17a53  true     horizontal  Namespace:default,Job:web,Group:g\n"
    );
    let query = fake.asked_for("GET", "/v1/scaling/policies").query;
    assert!(query.contains("job=web") && query.contains("type=horizontal"), "{query}");
    let done = fake.run(&["scaling", "policy", "info", "7ce17"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.starts_with("ID      = 7ce17a53\nEnabled = true\nTarget  = Namespace:default"), "{}", done.out);
    assert!(done.out.contains("Max     = 5") && done.out.contains("\"cooldown\": \"1m\""), "{}", done.out);
    let none = Fake::start().get("/v1/scaling/policies", json!([])).run(&["scaling", "policy", "list"]);
    assert_eq!((none.code, none.out.as_str()), (0, "No policies found\n"));
}

#[test]
fn an_evaluation_that_another_one_decided_for_is_no_failure() {
    let (first, second) = (EVAL, "5bd1e1a5-2f4e-9f3c-3a3a-3c6f0e9cf1ab");
    let evals = json!([
        {"ID": first, "Namespace": "default", "Status": "complete", "CreateIndex": 8, "ModifyIndex": 10},
        {"ID": second, "Namespace": "default", "Status": "canceled", "CreateIndex": 9, "ModifyIndex": 11},
    ]);
    let mut fake = with_job().get("/v1/job/web/evaluations", evals);
    for (n, eval) in [(1, first), (2, second), (3, second)] {
        let mut old = alloc(n, "g", "complete");
        old["NextAllocation"] = json!(id(n + 10));
        fake = fake
            .reply("PUT", &format!("/v1/allocation/{}/stop", id(n)), 200, 8, json!({"EvalID": eval, "Index": 8}))
            .get(&format!("/v1/allocation/{}", id(n)), old)
            .get(&format!("/v1/allocation/{}", id(n + 10)), alloc(n + 10, "g", "running"));
    }
    let done = fake.run(&["job", "restart", "-reschedule", "-batch-size", "3", "-group", "g", "web"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{}", done.out);
}
