//! What a shell is offered at a Tab that only the cluster knows.

use serde_json::json;

use crate::fake::Fake;

fn offered(words: &[&str]) -> Vec<String> {
    let group = |name: &str, tasks: &[&str]| {
        let tasks: Vec<_> = tasks.iter().map(|task| json!({"Name": task})).collect();
        json!({"Name": name, "Tasks": tasks})
    };
    let fake = Fake::start()
        .get("/v1/job/web", json!({"ID": "web", "TaskGroups": [group("front", &["httpd", "log"]), group("back", &["db"])]}))
        .get(
            "/v1/job/web/versions",
            json!({"Versions": [{"Version": 2}, {"Version": 1, "Stable": true, "VersionTag": {"Name": "good"}}]}),
        )
        .get(
            "/v1/allocations",
            json!([{"ID": "aaaaaaaa-1", "TaskStates": {"other": {}}}, {"ID": "bbbbbbbb-1", "TaskStates": {"httpd": {}, "bad name": {}}}]),
        )
        .get("/v1/deployments", json!([{"ID": "cccccccc-1", "TaskGroups": {"front": {}, "back": {}}}]));
    let done = fake.run(&[&["__complete", "--"], words].concat());
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    done.out.lines().map(str::to_owned).collect()
}

#[test]
fn what_is_inside_of_a_job_an_allocation_or_a_deployment_that_was_typed_is_offered() {
    assert_eq!(offered(&["alloc", "logs", "bbb", ""]), ["httpd"], "a name with a blank is nothing a shell could take");
    assert_eq!(offered(&["alloc", "logs", "-job", "web", "h"]), ["httpd\tfront"]);
    assert_eq!(offered(&["alloc", "exec", "-job", "web", "-group", "b"]), ["back"]);
    assert_eq!(offered(&["job", "scale", "web", ""]), ["front", "back"]);
    assert_eq!(offered(&["job", "revert", "web", ""]), ["2", "1\tstable", "good\tversion 1"]);
    assert_eq!(offered(&["job", "history", "web", "-diff-version", ""]), ["2", "1\tstable"]);
    assert_eq!(offered(&["job", "history", "web", "-diff-tag", ""]), ["good\tversion 1"]);
    assert_eq!(offered(&["deployment", "promote", "ccc", "-group", "f"]), ["front"]);
    assert!(offered(&["alloc", "logs", "ddd", ""]).is_empty() && offered(&["job", "scale", "absent", ""]).is_empty());
    assert!(offered(&["job", "history", "-version", ""]).is_empty(), "of which job is not said yet");
}
