//! Commands that change a job, or its rollout, without its file.

use serde_json::{Value, json};

use crate::fake::Fake;

const DEPLOYMENT: &str = "70638f62-5c19-193e-30d6-f9d6e689ab8e";
const EVAL: &str = "5bd1e1a5-2f4e-9f3c-3a3a-3c6f0e9cf1aa";

fn with_job(more: Value) -> Fake {
    let stub = json!({"ID": "web", "Namespace": "default", "Name": "web", "Type": "service", "Status": "running"});
    let mut job =
        json!({"ID": "web", "Name": "web", "Namespace": "default", "TaskGroups": [{"Name": "g", "Count": 1}]});
    for (key, value) in more.as_object().unwrap() {
        job[key] = value.clone();
    }
    Fake::start().get("/v1/jobs", json!([stub])).get("/v1/job/web", job)
}

fn evaluated() -> Value {
    json!({"EvalID": EVAL, "JobModifyIndex": 5, "Index": 5, "Warnings": ""})
}

fn detached() -> String {
    format!("Evaluation ID: {EVAL}\n")
}

#[test]
fn a_group_is_scaled_by_its_name_or_as_the_only_one() {
    let fake = with_job(json!({})).reply("PUT", "/v1/job/web/scale", 200, 5, evaluated());
    for words in [&["job", "scale", "-detach", "web", "3"][..], &["job", "scale", "-detach", "web", "g", "3"]] {
        let done = fake.run(words);
        assert_eq!((done.code, done.out.clone()), (0, detached()), "{}", done.err);
        let body = fake.asked_for("PUT", "/v1/job/web/scale").body;
        assert_eq!((&body["Count"], &body["Target"]["Group"]), (&json!(3), &json!("g")));
    }
    let done = fake.run(&["job", "scale", "web", "many"]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("Failed to parse count \"many\""), "{}", done.err);
    let two = json!({"TaskGroups": [{"Name": "a"}, {"Name": "b"}]});
    let done = with_job(two).run(&["job", "scale", "web", "3"]);
    assert!(done.code == 1 && done.err.contains("a, b"), "{}", done.err);
}

#[test]
fn scaling_events_are_listed_newest_first() {
    let event = |time: i64, count: i64| json!({"Time": time, "Count": count, "PreviousCount": count - 1});
    let events = json!([event(2_000_000_000, 3), event(1_000_000_000, 2)]);
    let status = json!({"JobID": "web", "TaskGroups": {"g": {"Desired": 3, "Events": events}}});
    let fake = with_job(json!({})).get("/v1/job/web/scale", status);
    let done = fake.run(&["job", "scaling-events", "web"]);
    let lines: Vec<&str> = done.out.lines().collect();
    assert!(lines[0].starts_with("Task Group  Count  PrevCount"), "{}", done.out);
    assert!(lines[1].starts_with("g           3      2"), "{}", done.out);
    let none = with_job(json!({})).get("/v1/job/web/scale", json!({"TaskGroups": {"g": {"Events": null}}}));
    assert_eq!(none.run(&["job", "scaling-events", "web"]).out, "No events found\n");
}

#[test]
fn a_job_goes_back_to_a_number_or_a_tag() {
    let versions = json!({"Versions": [{"ID": "web", "Version": 4}, {"ID": "web", "Version": 2, "VersionTag": {"Name": "golden"}}]});
    let fake = with_job(json!({})).get("/v1/job/web/versions", versions).reply(
        "PUT",
        "/v1/job/web/revert",
        200,
        5,
        evaluated(),
    );
    for (wanted, version) in [("3", 3), ("golden", 2)] {
        let done = fake.run(&["job", "revert", "-detach", "web", wanted]);
        assert_eq!((done.code, done.out.clone()), (0, detached()), "{}", done.err);
        let body = fake.asked_for("PUT", "/v1/job/web/revert").body;
        assert_eq!(body, json!({"JobID": "web", "JobVersion": version}));
    }
    let done = fake.run(&["job", "revert", "web", "silver"]);
    assert!(done.code == 1 && done.err.contains("tagged \"silver\""), "{}", done.err);
}

#[test]
fn a_version_is_named_and_the_name_taken_away() {
    let path = "/v1/job/web/versions/golden/tag";
    let tag = json!({"Name": "golden", "TaggedTime": 1});
    let fake = with_job(json!({})).reply("PUT", path, 200, 5, tag.clone()).reply("DELETE", path, 200, 6, tag);
    let done = fake.run(&["job", "tag", "apply", "-name", "golden", "-version", "3", "web"]);
    assert_eq!(
        (done.code, done.out.as_str()),
        (0, "Job \"web\" version 3 tagged with name \"golden\"\n"),
        "{}",
        done.err
    );
    assert_eq!(fake.asked_for("PUT", path).body["Version"], 3);
    assert_eq!(fake.run(&["job", "tag", "unset", "-name", "golden", "web"]).code, 0);
    let done = fake.run(&["job", "tag", "apply", "web"]);
    assert!(done.code == 1 && done.err.contains("-name flag"), "{}", done.err);
}

#[test]
fn a_dispatch_sends_a_file_and_metadata() {
    let child = json!({"DispatchedJobID": "web/dispatch-1-a", "EvalID": EVAL, "Index": 5});
    let fake = with_job(json!({})).reply("PUT", "/v1/job/web/dispatch", 200, 5, child);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in.txt");
    std::fs::write(&file, "hello").unwrap();
    let done = fake.run(&["job", "dispatch", "-detach", "-meta", "who=me", "web", file.to_str().unwrap()]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("Dispatched Job ID = web/dispatch-1-a"), "{}", done.out);
    let body = fake.asked_for("PUT", "/v1/job/web/dispatch").body;
    assert_eq!((&body["Payload"], &body["Meta"]), (&json!("aGVsbG8="), &json!({"who": "me"})));
    let done = fake.run(&["job", "dispatch", "-meta", "who", "web"]);
    assert!(done.code == 1 && done.err.contains("is not key=value"), "{}", done.err);
    assert_eq!(fake.run(&["job", "dispatch", "web", "/nowhere/at/all"]).code, 1);
}

#[test]
fn a_periodic_job_is_launched_and_a_stopped_one_started() {
    let fake = with_job(json!({"Stop": true})).reply("PUT", "/v1/job/web/periodic/force", 200, 5, evaluated()).reply(
        "PUT",
        "/v1/jobs",
        200,
        5,
        evaluated(),
    );
    let done = fake.run(&["job", "periodic", "force", "-detach", "web"]);
    assert_eq!((done.code, done.out), (0, format!("Force periodic successful\n{}", detached())), "{}", done.err);
    assert_eq!(fake.run(&["job", "start", "-detach", "web"]).code, 0);
    assert_eq!(fake.asked_for("PUT", "/v1/jobs").body["Job"]["Stop"], false);
    let done = with_job(json!({"Stop": false})).run(&["job", "start", "web"]);
    assert!(done.code == 1 && done.err.contains("is not stopped"), "{}", done.err);
}

#[test]
fn wishes_about_a_deployment_name_it_in_full() {
    let row = json!({"ID": DEPLOYMENT, "JobID": "web", "Namespace": "default", "Status": "running"});
    let mut fake = with_job(json!({})).get("/v1/deployments", json!([row])).get("/v1/job/web/deployment", row.clone());
    for verb in ["fail", "pause", "promote", "unblock"] {
        let answer = json!({"EvalID": EVAL, "Index": 5, "RevertedJobVersion": if verb == "fail" { json!(2) } else { Value::Null }});
        fake = fake.reply("PUT", &format!("/v1/deployment/{verb}/{DEPLOYMENT}"), 200, 5, answer);
    }
    for (words, verb, body) in [
        (&["deployment", "fail", "-detach", "70638f62"][..], "fail", json!({})),
        (&["deployment", "pause", "70638f62"], "pause", json!({"Pause": true})),
        (&["deployment", "resume", "-detach", "70638f62"], "pause", json!({"Pause": false})),
        (&["deployment", "promote", "-detach", "70638f62"], "promote", json!({"All": true})),
        (&["deployment", "promote", "-detach", "-group", "g", "70638f62"], "promote", json!({"Groups": ["g"]})),
        (&["deployment", "unblock", "-detach", "70638f62"], "unblock", json!({})),
        (&["job", "promote", "-detach", "web"], "promote", json!({"All": true})),
    ] {
        let done = fake.run(words);
        let said = done.out.lines().next().unwrap_or_default().to_owned();
        assert!(said.starts_with("Deployment \"70638f62\""), "{words:?}: {} {}", done.out, done.err);
        assert_eq!(said.ends_with("goes back to version 2"), verb == "fail", "{said}");
        let mut expected = body;
        expected["DeploymentID"] = json!(DEPLOYMENT);
        assert_eq!(fake.asked_for("PUT", &format!("/v1/deployment/{verb}/{DEPLOYMENT}")).body, expected);
    }
}
