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

/// Each change to a good job, and the words of its refusal (keywords of `validation.tsv`).
#[test]
fn each_rule_refuses_what_breaks_it() {
    let good = json!({"ID": "a", "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "t", "Driver": "raw_exec"}]}]});
    assert_eq!(refusal(&good), "");
    let group = "/TaskGroups/0";
    let task = "/TaskGroups/0/Tasks/0";
    let cases: Vec<(&str, Value, &str)> = vec![
        ("", json!({"ID": "a\u{0}"}), "null character"),
        ("", json!({"ID": ""}), "Missing job ID"),
        ("", json!({"Name": ""}), "Missing job name"),
        ("", json!({"Region": ""}), "Missing job region"),
        ("", json!({"Type": "core"}), "job type cannot be core"),
        ("", json!({"Priority": 101}), "job priority must be between [1, 100]"),
        ("", json!({"Datacenters": ["dc1", ""]}), "must be non-empty string"),
        ("", json!({"Payload": "aGk="}), "can only be dispatched"),
        ("", json!({"Type": "system", "Affinities": [{}]}), "System jobs may not have an affinity"),
        ("", json!({"Type": "system", "Spreads": [{}]}), "System jobs may not have a spread"),
        ("", json!({"ParameterizedJob": {}}), "can only be used with \"batch\" or \"sysbatch\""),
        ("", json!({"Type": "batch", "ParameterizedJob": {"Payload": "maybe"}}), "Unknown payload requirement"),
        ("", json!({"Type": "batch", "ParameterizedJob": {"MetaRequired": ["a"], "MetaOptional": ["a"]}}), "disjoint"),
        ("", json!({"Type": "batch", "Periodic": {"Spec": "@daily", "Specs": ["@daily"]}}), "Only cron or crons"),
        ("", json!({"Type": "batch", "Periodic": {}}), "Must specify a spec"),
        ("", json!({"Type": "batch", "Periodic": {"Spec": "@daily", "TimeZone": "no zone"}}), "Invalid time zone"),
        ("", json!({"UI": {"Description": "x".repeat(1001)}}), "must be under 1000 characters"),
        ("", json!({"Reschedule": {"Attempts": 1}}), "is ambiguous"),
        (group, json!({"Name": "g\u{0}"}), "null character"),
        (group, json!({"Count": 50_001}), "job_max_count"),
        (group, json!({"ShutdownDelay": -1}), "ShutdownDelay must be a positive value"),
        (group, json!({"MaxRunDuration": 1}), "does not allow max_run_duration"),
        (group, json!({"RestartPolicy": {"Mode": "maybe"}}), "Unsupported restart mode"),
        (group, json!({"RestartPolicy": {"Attempts": 0, "Mode": "delay"}}), "is ambiguous"),
        (group, json!({"RestartPolicy": {"Interval": 1, "Delay": 0}}), "Interval can not be less than"),
        (group, json!({"RestartPolicy": {"Attempts": 1000}}), "can't restart the TaskGroup"),
        (group, json!({"ReschedulePolicy": {"Delay": 1}}), "Delay cannot be less than"),
        (group, json!({"ReschedulePolicy": {"DelayFunction": "odd"}}), "Invalid delay function"),
        (group, json!({"ReschedulePolicy": {"MaxDelay": 1}}), "Max Delay"),
        (
            group,
            json!({"ReschedulePolicy": {"Attempts": 9, "Unlimited": false, "Interval": 60_000_000_000_i64}}),
            "can only make 1 attempts",
        ),
        (group, json!({"Update": {"MinHealthyTime": 400_000_000_000_i64}}), "Minimum healthy time must be less"),
        (group, json!({"Update": {"AutoPromote": true}}), "Auto Promote requires a Canary count"),
        (group, json!({"Update": {"HealthCheck": "odd"}}), "Invalid health check"),
        (group, json!({"Migrate": {"HealthCheck": "odd"}}), "Invalid HealthCheck"),
        (group, json!({"Disconnect": {"LostAfter": 1, "StopOnClientAfter": 1}}), "cannot be configured with both"),
        (group, json!({"Disconnect": {"LostAfter": -1}}), "negative duration"),
        (group, json!({"Disconnect": {"Reconcile": "odd"}}), "reconcile option is invalid"),
        (group, json!({"EphemeralDisk": {"SizeMB": 9}}), "minimum DiskMB value is 10"),
        (group, json!({"Volumes": {"v": {"Type": "host"}}}), "volume has an empty source"),
        (group, json!({"Volumes": {"v": {"Type": "csi", "Source": "s"}}}), "CSI volumes must have an attachment mode"),
        (group, json!({"Networks": [{"DynamicPorts": [{"Label": "a"}, {"Label": "a"}]}]}), "already in use"),
        (group, json!({"Networks": [{"ReservedPorts": [{"Label": "a", "Value": 70_000}]}]}), "cannot be greater than"),
        (group, json!({"Networks": [{"DynamicPorts": [{"Label": "a", "To": -2}]}]}), "cannot be mapped"),
        (group, json!({"Networks": [{"Hostname": "a b"}]}), "Hostname is not a valid DNS name"),
        (group, json!({"Networks": [{"CNI": {"Args": {"a": "b;c"}}}]}), "invalid ';' character"),
        (group, json!({"Services": [{"Name": "a_b"}]}), "Service name must be valid per RFC 1123"),
        (group, json!({"Services": [{"Name": "a"}, {"Name": "a"}]}), "Services are not unique"),
        (
            group,
            json!({"Services": [{"Name": "a"}, {"Name": "b", "Provider": "nomad"}]}),
            "Multiple service providers used",
        ),
        (group, json!({"Services": [{"AddressMode": "driver"}]}), "cannot use address_mode=\"driver\""),
        (
            group,
            json!({"Services": [{"PortLabel": "1", "Checks": [{"Type": "tcp", "Interval": 1}]}]}),
            "cannot be lower than 1s",
        ),
        (group, json!({"Scaling": {"Max": 0, "Min": 1}}), "Scaling policy invalid: "),
        (group, json!({"Scaling": {}}), "Scaling policy invalid: "),
        (task, json!({"Name": "alloc"}), "cannot be named \"alloc\""),
        (task, json!({"Name": "a/b"}), "cannot include slashes"),
        (task, json!({"Driver": ""}), "Missing task driver"),
        (
            task,
            json!({"Config": {"comand": "x"}}),
            "raw_exec config: unknown key \"comand\", did you mean \"command\"?",
        ),
        (task, json!({"Driver": "docker", "Config": {"image": "a", "tty": "maybe"}}), "\"tty\" must be true or false"),
        (task, json!({"KillTimeout": -1}), "KillTimeout must be a positive value"),
        (task, json!({"KillTimeout": 700_000_000_000_i64}), "longer than the group's ProgressDeadline"),
        (task, json!({"Resources": {"CPU": 0}}), "minimum CPU value"),
        (task, json!({"Resources": {"MemoryMB": 9}}), "minimum MemoryMB value"),
        (task, json!({"Resources": {"MemoryMaxMB": 9}}), "should be larger than MemoryMB"),
        (task, json!({"Resources": {"SecretsMB": 999}}), "SecretsMB value"),
        (task, json!({"LogConfig": {"MaxFiles": 40}}), "must be less than requested disk capacity"),
        (task, json!({"Constraints": [{"Operand": "distinct_hosts"}]}), "disallowed Operand at task level"),
        (task, json!({"Artifacts": [{}]}), "source must be specified"),
        (task, json!({"Artifacts": [{"GetterSource": "x", "RelativeDest": "../../x"}]}), "destination escapes"),
        (task, json!({"Artifacts": [{"GetterSource": "x", "GetterOptions": {"checksum": "md5:1"}}]}), "checksum"),
        (task, json!({"Templates": [{"DestPath": "x"}]}), "Must specify a source path"),
        (task, json!({"Templates": [{"DestPath": "../../x", "EmbeddedTmpl": "x"}]}), "destination escapes allocation"),
        (task, json!({"Templates": [{"DestPath": "x", "EmbeddedTmpl": "x", "Perms": "9"}]}), "as octal"),
        (task, json!({"Vault": {"ChangeMode": "odd"}}), "Unknown change mode"),
        (task, json!({"Actions": [{"Name": "a b", "Command": "x"}]}), "invalid name"),
        (task, json!({"Lifecycle": {"Hook": "odd"}}), "invalid hook"),
        (task, json!({"VolumeMounts": [{"Destination": "/x"}]}), "references an empty volume"),
        (task, json!({"Identities": [{"Name": "a b"}]}), "Identity \"a b\" is invalid"),
        (task, json!({"Secrets": [{"Name": "a", "Provider": "nomad"}]}), "Secret \"a\" is invalid"),
        (task, json!({"CSIPluginConfig": {"Type": "odd", "ID": "x"}}), "PluginType must be one of"),
        (task, json!({"Services": [{"PortLabel": "nope"}]}), "does not exist"),
        (task, json!({"Services": [{"PortLabel": "80"}]}), "cannot use a numeric port"),
        (task, json!({"Services": [{"Connect": {"Native": true}}]}), "cannot have \"connect\" block"),
    ];
    for (at, change, words) in cases {
        let mut bad = good.clone();
        bad.pointer_mut(at).unwrap().as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let text = refusal(&bad);
        assert!(text.contains(words), "{at} {change}: {words:?} expected in {text:?}");
    }
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
