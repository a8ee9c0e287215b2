//! What is refused, and in which words.
#![allow(clippy::unwrap_used)]

mod samples;

use model::{Job, report, validate, warnings};
use samples::{golden, job, read, samples};
use serde_json::{Value, json};

fn refusal(value: &Value) -> String {
    let mut posted = job(value);
    posted.canonicalize();
    report(&validate(&posted))
}

#[test]
fn a_recorded_job_is_judged_in_the_recorded_words() {
    let golden = golden();
    for pair in golden["refused"].as_array().unwrap() {
        assert_eq!(refusal(&pair["sent"]).trim_end(), pair["got"].as_str().unwrap());
    }
    for pair in golden["validated"].as_array().unwrap() {
        let mut posted = job(&pair["sent"]);
        posted.canonicalize();
        let problems = validate(&posted);
        assert_eq!(report(&problems), pair["got"]["Error"].as_str().unwrap());
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let want = if texts.is_empty() { Value::Null } else { json!(texts) };
        assert_eq!(want, pair["got"]["ValidationErrors"]);
        assert_eq!(warnings(&posted), Vec::<String>::new());
    }
    for pair in golden["registered"].as_object().unwrap().values() {
        assert_eq!(refusal(&pair["sent"]), "");
    }
}

/// The invalid samples that parse: what a parser makes of them.
fn unregistrable() -> Vec<(&'static str, Value)> {
    let task = || json!({"Name": "t", "Driver": "exec", "Config": {"command": "/bin/true"}});
    let of = |job: Value, group: Value, task: Value| {
        let mut all = job;
        all["ID"] = json!("a");
        all["TaskGroups"] = json!([group]);
        all["TaskGroups"][0]["Name"] = json!("g");
        all["TaskGroups"][0]["Tasks"] = json!([task]);
        all
    };
    let with = |extra: Value| {
        let mut all = task();
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        all
    };
    let port = |label: &str| json!({"Label": label, "Value": 8080});
    vec![
        ("13-system-count", of(json!({"Type": "system"}), json!({"Count": 2}), task())),
        ("14-batch-with-update", of(json!({"Type": "batch", "Update": {"MaxParallel": 1}}), json!({}), task())),
        (
            "15-periodic-service",
            of(json!({"Periodic": {"Specs": ["* * * * *"], "SpecType": "cron"}}), json!({}), task()),
        ),
        ("16-cpu-and-cores", of(json!({}), json!({}), with(json!({"Resources": {"CPU": 500, "Cores": 2}})))),
        (
            "17-duplicate-static-port",
            of(json!({}), json!({"Networks": [{"ReservedPorts": [port("one"), port("two")]}]}), task()),
        ),
        (
            "18-bad-constraint-target",
            of(
                json!({"Constraints": [{"LTarget": "${node.region}", "RTarget": "x", "Operand": "="}]}),
                json!({}),
                task(),
            ),
        ),
        ("19-only-lifecycle-tasks", of(json!({}), json!({}), with(json!({"Lifecycle": {"Hook": "prestart"}})))),
        (
            "20-unknown-volume-mount",
            of(json!({}), json!({}), with(json!({"VolumeMounts": [{"Volume": "data", "Destination": "/d"}]}))),
        ),
    ]
}

#[test]
fn an_invalid_sample_is_refused_in_the_recorded_words() {
    let recorded = read("expected/invalid.json");
    let at_registration = recorded.as_object().unwrap().values().filter(|entry| entry["at"] == "registration").count();
    let jobs = unregistrable();
    assert_eq!(jobs.len(), at_registration);
    for (name, value) in jobs {
        let want = recorded[format!("{name}.nomad.hcl")]["text"].as_str().unwrap();
        assert_eq!(refusal(&value).trim_end(), want, "{name}");
    }
}

#[test]
fn a_valid_sample_has_no_problem() {
    for (name, value) in samples() {
        let found = refusal(&value);
        match name.as_str() {
            // the samples of licensed features
            "25-multiregion" => assert!(found.contains("Multiregion jobs are unlicensed"), "{found}"),
            // its secret's name has a dash, which the rule for such names does not allow
            "39-job-level-shortcuts" => assert!(found.contains("Secret \"group-only\" is invalid"), "{found}"),
            _ => assert_eq!(found, "", "{name}"),
        }
    }
}

#[test]
fn deprecated_input_is_warned_about() {
    let (_, value) = samples().into_iter().find(|(name, _)| name == "40-deprecated-inputs").unwrap();
    let mut old = job(&value);
    old.canonicalize();
    let text = warnings(&old).join("\n");
    for word in [
        "max_client_disconnect",
        "stop_after_client_disconnect",
        "prevent_reschedule_on_lost",
        "shutdown_delay",
        "vault_grace",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

/// What a driver cannot read is refused before a node sees it; the other rules are in `rules.rs`.
#[test]
fn a_configuration_that_its_driver_cannot_read_is_refused() {
    let task = |task: Value| json!({"ID": "a", "TaskGroups": [{"Name": "g", "Tasks": [task]}]});
    let unknown = task(json!({"Name": "t", "Driver": "raw_exec", "Config": {"comand": "x"}}));
    assert!(refusal(&unknown).contains("raw_exec config: unknown key \"comand\", did you mean \"command\"?"));
    let unfit = task(json!({"Name": "t", "Driver": "docker", "Config": {"image": "a", "tty": "maybe"}}));
    assert!(refusal(&unfit).contains("\"tty\" must be true or false"));
}

#[test]
fn an_empty_job_has_problems_and_does_not_panic() {
    assert!(validate(&Job::default()).len() > 3);
    assert_eq!(warnings(&Job::default()), Vec::<String>::new());
}

#[test]
fn samples_that_cannot_run_yet_are_named_and_the_others_are_not() {
    for (name, value) in samples() {
        let mut posted = job(&value);
        posted.canonicalize();
        let found = model::unbuilt(&posted);
        let mut tasks = posted.task_groups.iter().flat_map(|group| &group.tasks);
        let runs_here = tasks.all(|task| matches!(task.driver.as_str(), "raw_exec" | "docker"));
        assert!(!found.is_empty() || runs_here, "{name}");
        assert!(runs_here || found.iter().any(|line| line.starts_with("driver ")), "{name}: {found:?}");
    }
}
