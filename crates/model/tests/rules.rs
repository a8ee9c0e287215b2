//! The rules of canonicalizing and validating, each by its id: data/rules.tsv, the rows of the reference's
//! table. Those of parsing are in crates/jobspec/tests/rules.rs; docs/jobspec-coverage.md lists all.
#![allow(clippy::unwrap_used)]

use model::{Job, report, validate, warnings};
use serde_json::{Value, json};

const SECOND: i64 = 1_000_000_000;
const GROUP: &str = "/TaskGroups/0";
const TASK: &str = "/TaskGroups/0/Tasks/0";

fn good() -> Value {
    json!({"ID": "a", "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "t", "Driver": "raw_exec",
        "Config": {"command": "/bin/true"}}]}]})
}

/// The good job, changed at a place.
fn changed(at: &str, change: &Value) -> Job {
    let mut value = good();
    value.pointer_mut(at).unwrap().as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let mut job: Job = serde_json::from_value(value).unwrap();
    job.canonicalize();
    job
}

fn stored(at: &str, change: &Value) -> Value {
    serde_json::to_value(changed(at, change)).unwrap()
}

/// A group with a service, on a bridge network with a port of the name `http`.
fn meshed(service: Value) -> Value {
    json!({"Networks": [{"Mode": "bridge", "DynamicPorts": [{"Label": "http"}]}], "Services": [service]})
}

fn connect(block: Value) -> Value {
    json!({"Name": "s", "PortLabel": "http", "Connect": block})
}

fn service(extra: Value) -> Value {
    let mut service = json!({"Name": "s", "PortLabel": "80"});
    service.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({ "Services": [service] })
}

fn check(extra: Value) -> Value {
    let mut check = json!({"Name": "c", "Type": "tcp", "Interval": 10 * SECOND, "Timeout": SECOND});
    check.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    service(json!({ "Checks": [check] }))
}

fn native(extra: Value) -> Value {
    let mut of = check(extra);
    of["Services"][0]["Provider"] = json!("nomad");
    of
}

/// The step of a finding's path that no job file has.
fn not_in_the_language(path: &str) -> Option<String> {
    let rows: Vec<Vec<&str>> = include_str!("../../jobspec/tests/data/blocks.tsv")
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect())
        .collect();
    let plain = path.replace("[\"", ".").replace("\"]", "");
    let mut words = plain.split('.').map(|word| word.split('[').next().unwrap());
    let mut body = "job".to_owned();
    while let Some(word) = words.next().filter(|word| !word.is_empty()) {
        while let Some(row) = rows.iter().find(|row| row[0] == body && row[1] == "*") {
            body = row[2].trim_start_matches("= ").to_owned();
        }
        let Some(row) = rows.iter().find(|row| row[0] == body && row[1] == word) else {
            return Some(format!("{word} in {body}"));
        };
        let opaque = row[2].contains("opaque") || row[2].contains("map") || row[2].contains("string attributes");
        if opaque || !row[2].contains("block") {
            break;
        }
        // identities are found by their names
        if row[2].contains("label")
            || row[2].contains("last wins") && word != "vault"
            || word == "identity" && body == "job.group.task"
        {
            words.next();
        }
        body = format!("{body}.{word}");
    }
    None
}

type Case = (&'static str, &'static str, Value, &'static str);

fn assert_refused(cases: Vec<Case>) {
    assert_eq!(report(&validate(&changed("", &json!({})))), "");
    assert!(not_in_the_language("group.g.cuont").is_some());
    for (rule, at, change, words) in cases {
        let problems = validate(&changed(at, &change));
        for sentence in problems.iter().flat_map(model::Problem::sentences) {
            assert_eq!(not_in_the_language(&sentence.path), None, "{rule}: {sentence:?}");
        }
        let text = report(&problems);
        assert!(text.contains(words), "{rule}: {at} {change}\n{words:?} expected in {text:?}");
    }
}

#[test]
fn what_breaks_a_rule_of_a_job_is_refused_in_its_words() {
    let batch = |extra: Value| {
        let mut job = json!({"Type": "batch"});
        job.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        job
    };
    assert_refused(vec![
        (
            "val-035",
            "",
            json!({"Type": "system", "TaskGroups": [{"Name": "g", "Scaling": {"Max": 1}, "Tasks": []}]}),
            "Task groups with job type system do not support scaling blocks",
        ),
        ("val-073", "", json!({"Region": ""}), "Missing job region"),
        ("val-074", "", json!({"ID": ""}), "Missing job ID"),
        ("val-074", "", json!({"ID": "a b"}), "Job ID contains a space"),
        ("val-074", "", json!({"ID": "a\u{0}"}), "Job ID contains a null character"),
        ("val-075", "", json!({"Name": ""}), "Missing job name"),
        ("val-075", "", json!({"Name": "\u{0}"}), "Job Name contains a null character"),
        ("val-076", "", json!({"Type": "odd"}), "Invalid job type: \"odd\""),
        ("val-076", "", json!({"Type": "core"}), "job type cannot be core"),
        ("val-077", "", json!({"Datacenters": ["dc1", ""]}), "must be non-empty string"),
        ("val-078", "", json!({"TaskGroups": []}), "Missing job task groups"),
        ("val-079", "", json!({"Payload": "aGk="}), "can only be dispatched"),
        ("val-080", "", json!({"Priority": 101}), "job priority must be between [1, 100]"),
        ("val-080", "", json!({"Priority": -1}), "job priority must be between"),
        ("val-081", GROUP, json!({"Count": 50_001}), "greater than configured job_max_count"),
        ("val-082", "", json!({"Type": "system", "Affinities": [{}]}), "System jobs may not have an affinity"),
        ("val-082", "", json!({"Type": "system", "Spreads": [{}]}), "System jobs may not have a spread"),
        ("val-083", "", json!({"Periodic": {"Specs": ["@daily"]}}), "Periodic can only be used with \"batch\""),
        (
            "val-083",
            "",
            json!({"Type": "system", "ParameterizedJob": {}}),
            "can only be used with \"batch\" or \"sysbatch\"",
        ),
        ("val-084", "", batch(json!({"Periodic": {"Spec": "@daily", "Specs": ["@daily"]}})), "Only cron or crons"),
        ("val-084", "", batch(json!({"Periodic": {}})), "Must specify a spec"),
        ("val-084", "", batch(json!({"Periodic": {"Spec": "@daily", "TimeZone": "no zone"}})), "Invalid time zone"),
        ("val-084", "", batch(json!({"Periodic": {"Specs": ["@daily", "often"]}})), "Invalid cron spec \"often\""),
        ("val-085", "", batch(json!({"ParameterizedJob": {"Payload": "maybe"}})), "Unknown payload requirement"),
        (
            "val-085",
            "",
            batch(json!({"ParameterizedJob": {"MetaRequired": ["a"], "MetaOptional": ["a"]}})),
            "should be disjoint",
        ),
        ("val-086", "", json!({"Multiregion": {"Regions": [{"Name": "r"}]}}), "Multiregion jobs are unlicensed"),
        ("val-087", "", json!({"UI": {"Description": "x".repeat(1001)}}), "must be under 1000 characters"),
    ]);
}

#[test]
fn what_breaks_a_rule_of_a_group_is_refused_in_its_words() {
    let two = |tasks: Value| json!({ "Tasks": tasks });
    let plain = |name: &str, more: Value| {
        let mut task = json!({"Name": name, "Driver": "raw_exec", "Config": {"command": "x"}});
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task
    };
    let volume = |more: Value| {
        let mut volume = json!({"Type": "host", "Source": "s"});
        volume.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "Volumes": { "v": volume } })
    };
    let csi = |more: Value| {
        let mut volume =
            json!({"Type": "csi", "AttachmentMode": "file-system", "AccessMode": "multi-node-multi-writer"});
        volume.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        volume.as_object_mut().unwrap().insert("Source".into(), json!("s"));
        json!({"Count": 2, "Volumes": {"v": volume}})
    };
    let of_type = |kind: &str, group: Value| {
        let mut job = good();
        job["Type"] = json!(kind);
        job["TaskGroups"][0].as_object_mut().unwrap().extend(group.as_object().unwrap().clone());
        job
    };
    let ports = |ports: Value| json!({ "Networks": [{ "DynamicPorts": ports }] });
    assert_refused(vec![
        ("val-037", GROUP, volume(json!({"Type": "cloud"})), "volume has unrecognized type cloud"),
        ("val-088", GROUP, json!({"Name": ""}), "missing name"),
        ("val-088", GROUP, json!({"Name": "\u{0}"}), "null character"),
        (
            "val-088",
            "",
            json!({"TaskGroups": [{"Name": "g"}, {"Name": "g"}]}),
            "Job task group 2 redefines \"g\" from group 1",
        ),
        ("val-089", GROUP, json!({"Count": -1}), "Task group count can't be negative"),
        ("val-089", "", of_type("system", json!({"Count": 2})), "Count cannot exceed 1 with system scheduler"),
        ("val-090", GROUP, two(json!([])), "Missing tasks for task group"),
        (
            "val-090",
            GROUP,
            two(json!([plain("t", json!({"Lifecycle": {"Hook": "prestart"}}))])),
            "must have at least one main task",
        ),
        (
            "val-091",
            GROUP,
            two(json!([plain("a", json!({"Leader": true})), plain("b", json!({"Leader": true}))])),
            "Only one task may be marked as leader",
        ),
        ("val-092", GROUP, json!({"ShutdownDelay": -1}), "ShutdownDelay must be a positive value"),
        ("val-093", "", of_type("batch", json!({"MaxRunDuration": 0})), "must be greater than zero"),
        ("val-093", GROUP, json!({"MaxRunDuration": 1}), "does not allow max_run_duration"),
        ("val-094", GROUP, json!({"RestartPolicy": {"Mode": "maybe"}}), "Unsupported restart mode"),
        ("val-094", GROUP, json!({"RestartPolicy": {"Attempts": 0, "Mode": "delay"}}), "is ambiguous"),
        ("val-094", GROUP, json!({"RestartPolicy": {"Interval": 1, "Delay": 0}}), "Interval can not be less than"),
        ("val-094", GROUP, json!({"RestartPolicy": {"Attempts": 1000}}), "can't restart the TaskGroup"),
        (
            "val-095",
            "",
            of_type("system", json!({"ReschedulePolicy": {"Attempts": 1}})),
            "System jobs should not have a reschedule policy",
        ),
        (
            "val-095",
            "",
            of_type("sysbatch", json!({"ReschedulePolicy": {"Attempts": 1}})),
            "SysBatch jobs should not have a reschedule policy",
        ),
        ("val-096", GROUP, json!({"ReschedulePolicy": {"Attempts": 1}}), "is ambiguous"),
        (
            "val-096",
            GROUP,
            json!({"ReschedulePolicy": {"Attempts": 1, "Unlimited": false, "Interval": 1}}),
            "Interval cannot be less than",
        ),
        ("val-096", GROUP, json!({"ReschedulePolicy": {"Delay": 1}}), "Delay cannot be less than"),
        ("val-096", GROUP, json!({"ReschedulePolicy": {"DelayFunction": "odd"}}), "Invalid delay function"),
        (
            "val-096",
            GROUP,
            json!({"ReschedulePolicy": {"MaxDelay": 6 * SECOND}}),
            "Max Delay cannot be less than Delay",
        ),
        (
            "val-096",
            GROUP,
            json!({"ReschedulePolicy": {"Attempts": 9, "Unlimited": false, "Interval": 60 * SECOND}}),
            "can only make 1 attempts",
        ),
        ("val-097", "", of_type("batch", json!({"Update": {}})), "Job type \"batch\" does not allow update block"),
        ("val-098", GROUP, json!({"Update": {"HealthCheck": "odd"}}), "Invalid health check given"),
        ("val-098", GROUP, json!({"Update": {"MaxParallel": -1}}), "Max parallel can not be less than zero"),
        ("val-098", GROUP, json!({"Update": {"Canary": -1}}), "Canary count can not be less than zero"),
        ("val-098", GROUP, json!({"Update": {"AutoPromote": true}}), "Auto Promote requires a Canary count"),
        ("val-098", GROUP, json!({"Update": {"MinHealthyTime": -1}}), "Minimum healthy time may not be less than zero"),
        ("val-098", GROUP, json!({"Update": {"HealthyDeadline": 0}}), "Healthy deadline must be greater than zero"),
        ("val-098", GROUP, json!({"Update": {"ProgressDeadline": -1}}), "Progress deadline must be zero or greater"),
        (
            "val-098",
            GROUP,
            json!({"Update": {"MinHealthyTime": 400 * SECOND}}),
            "Minimum healthy time must be less than healthy deadline",
        ),
        (
            "val-098",
            GROUP,
            json!({"Update": {"ProgressDeadline": 60 * SECOND}}),
            "Healthy deadline must be less than progress deadline",
        ),
        ("val-098", GROUP, json!({"Update": {"Stagger": -1}}), "Stagger must be greater than zero"),
        ("val-099", "", of_type("batch", json!({"Migrate": {}})), "Job type \"batch\" does not allow migrate block"),
        ("val-099", GROUP, json!({"Migrate": {"HealthCheck": "odd"}}), "Invalid HealthCheck"),
        ("val-099", GROUP, json!({"Migrate": {"MaxParallel": -1}}), "MaxParallel must be >= 0"),
        (
            "val-099",
            GROUP,
            json!({"Migrate": {"MinHealthyTime": 900 * SECOND}}),
            "MinHealthyTime must be less than HealthyDeadline",
        ),
        (
            "val-100",
            GROUP,
            json!({"Disconnect": {"LostAfter": 1, "StopOnClientAfter": 1}}),
            "cannot be configured with both",
        ),
        ("val-100", GROUP, json!({"Disconnect": {"LostAfter": -1}}), "negative duration"),
        (
            "val-100",
            "",
            of_type("system", json!({"Disconnect": {"StopOnClientAfter": 1}})),
            "can only be used with service or batch",
        ),
        ("val-100", GROUP, json!({"Disconnect": {"Reconcile": "odd"}}), "reconcile option is invalid"),
        ("val-101", GROUP, json!({"EphemeralDisk": {"SizeMB": 9}}), "minimum DiskMB value is 10"),
        ("val-102", GROUP, volume(json!({"Source": ""})), "volume has an empty source"),
        (
            "val-102",
            GROUP,
            volume(json!({"AccessMode": "multi-node-multi-writer"})),
            "host volumes cannot have access mode",
        ),
        ("val-102", GROUP, volume(json!({"AttachmentMode": "odd"})), "host volumes cannot have attachment mode"),
        ("val-102", GROUP, volume(json!({"MountOptions": {}})), "host volumes cannot have mount options"),
        ("val-102", GROUP, volume(json!({"AccessMode": "single-node-reader-only"})), "volumes must be read-only"),
        ("val-102", GROUP, volume(json!({"PerAlloc": true, "Sticky": true})), "cannot be per_alloc and sticky"),
        (
            "val-102",
            "",
            of_type("system", volume(json!({"PerAlloc": true}))),
            "cannot be per_alloc for system or sysbatch",
        ),
        (
            "val-102",
            GROUP,
            json!({"Update": {"Canary": 1}, "Volumes": {"v": {"Type": "host", "Source": "s", "PerAlloc": true}}}),
            "cannot be per_alloc when canaries are in use",
        ),
        ("val-102", GROUP, csi(json!({"AttachmentMode": ""})), "CSI volumes must have an attachment mode"),
        ("val-102", GROUP, csi(json!({"AttachmentMode": "odd"})), "unknown attachment mode"),
        ("val-102", GROUP, csi(json!({"AccessMode": ""})), "CSI volumes must have an access mode"),
        ("val-102", GROUP, csi(json!({"AccessMode": "odd"})), "unknown access mode"),
        ("val-102", GROUP, csi(json!({"AccessMode": "single-node-writer"})), "allows only one node"),
        ("val-102", GROUP, csi(json!({"AccessMode": "multi-node-single-writer"})), "allows only one writer"),
        ("val-102", GROUP, csi(json!({"AccessMode": "multi-node-reader-only"})), "volumes must be read-only"),
        (
            "val-102",
            GROUP,
            csi(json!({"AttachmentMode": "block-device", "MountOptions": {}})),
            "block devices cannot have mount options",
        ),
        ("val-102", GROUP, csi(json!({"Sticky": true})), "CSI volumes cannot be sticky"),
        ("val-103", GROUP, ports(json!([{"Label": "a"}, {"Label": "a"}])), "Port label a already in use"),
        (
            "val-103",
            GROUP,
            json!({"Networks": [{"ReservedPorts": [{"Label": "a", "Value": 80}, {"Label": "b", "Value": 80}]}]}),
            "Static port 80 already reserved by taskgroup network:a",
        ),
        (
            "val-103",
            GROUP,
            json!({"Networks": [{"ReservedPorts": [{"Label": "a", "Value": 70_000}]}]}),
            "cannot be greater than",
        ),
        ("val-103", GROUP, ports(json!([{"Label": "a", "To": -2}])), "cannot be mapped"),
        (
            "val-103",
            GROUP,
            json!({"Networks": [{"Mode": "bridge", "DynamicPorts": [{"Label": "a", "IgnoreCollision": true}]}]}),
            "collision may not be ignored",
        ),
        ("val-104", GROUP, json!({"Networks": [{"CNI": {"Args": {"a": "b;c"}}}]}), "invalid ';' character"),
        (
            "val-104",
            GROUP,
            json!({"Networks": [{"CNI": {"Args": {"a": "b"}}}, {"CNI": {"Args": {"a": "c"}}}]}),
            "duplicate CNI arg",
        ),
        ("val-105", GROUP, json!({"Networks": [{"Hostname": "a b"}]}), "Hostname is not a valid DNS name"),
        ("val-106", GROUP, json!({"Services": [{"Name": "a"}, {"Name": "a"}]}), "Services are not unique"),
        (
            "val-107",
            GROUP,
            json!({"Services": [{"Name": "a"}, {"Name": "b", "Provider": "nomad"}]}),
            "Multiple service providers used",
        ),
        ("val-108", GROUP, service(json!({"AddressMode": "driver"})), "cannot use address_mode=\"driver\""),
        ("val-108", GROUP, check(json!({"TaskName": "nobody"})), "refers to non-existent task nobody"),
        ("val-108", GROUP, check(json!({"Type": "script", "Command": "x"})), "must specify task parameter"),
        (
            "val-109",
            GROUP,
            json!({"Scaling": {"Min": 2, "Max": 1}}),
            "maximum count must not be less than minimum count",
        ),
        (
            "val-109",
            GROUP,
            json!({"Scaling": {"Min": -1, "Max": 1}}),
            "minimum count must be specified and non-negative",
        ),
        (
            "val-109",
            GROUP,
            json!({"Count": 5, "Scaling": {"Min": 1, "Max": 2}}),
            "count must not be greater than maximum count",
        ),
        (
            "val-109",
            GROUP,
            json!({"Count": 1, "Scaling": {"Min": 2, "Max": 3}}),
            "count must not be less than minimum count",
        ),
    ]);
    // canonicalizing gives every service and batch group one; a job that was not canonicalized has none
    let bare: Job =
        serde_json::from_value(json!({"ID": "a", "Type": "service", "TaskGroups": [{"Name": "g"}]})).unwrap();
    assert!(report(&validate(&bare)).contains("should have a reschedule policy"), "val-095");
}

#[test]
fn what_breaks_a_rule_of_a_task_is_refused_in_its_words() {
    let template = |more: Value| {
        let mut one = json!({"EmbeddedTmpl": "x", "DestPath": "local/x"});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "Templates": [one] })
    };
    let artifact = |more: Value| {
        let mut one = json!({"GetterSource": "https://x/y"});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "Artifacts": [one] })
    };
    let identity = |more: Value| {
        let mut one = json!({"Name": "n", "Audience": ["a"], "TTL": 3600 * SECOND});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "Identities": [one] })
    };
    let secret = |more: Value| {
        let mut one = json!({"Name": "n", "Provider": "nomad", "Path": "p"});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "Secrets": [one] })
    };
    let constraint = |left: &str, operand: &str, right: &str| json!({"Constraints": [{"LTarget": left, "Operand": operand, "RTarget": right}]});
    let named = |name: &str| json!({ "Name": name });
    let twice = json!({"Tasks": [{"Name": "t", "Driver": "raw_exec"}, {"Name": "t", "Driver": "raw_exec"}]});
    assert_refused(vec![
        ("val-066", TASK, json!({"Vault": {"Namespace": "n"}}), "multiple vault namespaces requires Nomad Enterprise"),
        ("val-066", TASK, json!({"Vault": {"Cluster": "other"}}), "Vault cluster \"other\" requires Nomad Enterprise"),
        ("val-067", TASK, json!({"Consul": {"Cluster": "other"}}), "requires Nomad Enterprise"),
        ("val-067", GROUP, json!({"Consul": {"Cluster": "other"}}), "requires Nomad Enterprise"),
        (
            "val-067",
            GROUP,
            json!({"Consul": {"Partition": "p"}, "Tasks": [{"Name": "t", "Driver": "raw_exec", "Consul": {"Partition": "q"}}]}),
            "must match \"p\"",
        ),
        ("val-067", GROUP, service(json!({"Cluster": "other"})), "requires Nomad Enterprise"),
        ("val-110", TASK, named(""), "Missing task name"),
        ("val-110", TASK, named("alloc"), "cannot be named \"alloc\""),
        ("val-110", TASK, named("a/b"), "cannot include slashes"),
        ("val-110", TASK, named("a\\b"), "cannot include slashes"),
        ("val-110", TASK, named("a\u{0}"), "null characters"),
        ("val-110", GROUP, twice, "Task 2 redefines \"t\" from task 1"),
        ("val-111", TASK, json!({"Driver": ""}), "Missing task driver"),
        ("val-112", TASK, json!({"KillTimeout": -1}), "KillTimeout must be a positive value"),
        ("val-112", TASK, json!({"KillTimeout": 700 * SECOND}), "longer than the group's ProgressDeadline"),
        (
            "val-113",
            TASK,
            json!({"Resources": {"CPU": 500, "Cores": 2}}),
            "Task can only ask for 'cpu' or 'cores' resource, not both.",
        ),
        ("val-113", TASK, json!({"Resources": {"CPU": 0}}), "minimum CPU value is 1; got 0"),
        ("val-113", TASK, json!({"Resources": {"MemoryMB": 9}}), "minimum MemoryMB value is 10; got 9"),
        ("val-113", TASK, json!({"Resources": {"MemoryMaxMB": 9}}), "should be larger than MemoryMB"),
        ("val-113", TASK, json!({"Resources": {"SecretsMB": 999}}), "cannot be larger than MemoryMB"),
        ("val-113", TASK, json!({"Resources": {"SecretsMB": -1}}), "cannot be negative"),
        ("val-113", TASK, json!({"Resources": {"Cores": -1}}), "cores can not be negative"),
        (
            "val-114",
            TASK,
            json!({"Resources": {"Devices": [{"Name": "gpu", "Constraints": [{"Operand": "distinct_hosts"}]}]}}),
            "Constraint using unsupported operand \"distinct_hosts\"",
        ),
        ("val-115", TASK, json!({"LogConfig": {"MaxFiles": 0}}), "minimum number of files is 1"),
        ("val-115", TASK, json!({"LogConfig": {"MaxFileSizeMB": 0}}), "minimum file size is 1MB"),
        ("val-115", TASK, json!({"LogConfig": {"MaxFiles": 40}}), "must be less than requested disk capacity"),
        ("val-116", TASK, constraint("", "distinct_hosts", ""), "disallowed Operand at task level"),
        ("val-116", TASK, constraint("${attr.x}", "", "x"), "Missing constraint operand"),
        ("val-116", TASK, constraint("${attr.x}", "resembles", "x"), "Unknown constraint operator"),
        ("val-116", TASK, constraint("${attr.x}", "regexp", "("), "Regular expression failed to compile"),
        ("val-116", TASK, constraint("${attr.x}", "version", "=> 1"), "Version constraint is invalid"),
        ("val-116", TASK, constraint("${attr.x}", "semver", "1.2"), "Semver constraint is invalid"),
        ("val-116", TASK, constraint("${attr.x}", "=", ""), "requires an RTarget"),
        ("val-116", TASK, constraint("", "=", "x"), "No LTarget provided"),
        ("val-116", TASK, constraint("${attr.x}", "is_set", "x"), "does not support an RTarget"),
        ("val-116", TASK, constraint("${node.region}", "=", "x"), "unsupported attribute \"${node.region}\""),
        ("val-116", GROUP, constraint("${meta.x}", "distinct_property", "0"), "allowed count of 1 or greater"),
        (
            "val-116",
            GROUP,
            json!({"Affinities": [{"LTarget": "${meta.x}", "Operand": "=", "RTarget": "x", "Weight": 0}]}),
            "Affinity weight cannot be zero",
        ),
        (
            "val-116",
            GROUP,
            json!({"Affinities": [{"LTarget": "${meta.x}", "Operand": "=", "RTarget": "x", "Weight": 101}]}),
            "within the range [-100,100]",
        ),
        (
            "val-116",
            GROUP,
            json!({"Spreads": [{"Attribute": "${meta.x}", "Weight": 101}]}),
            "must have a positive weight",
        ),
        (
            "val-116",
            GROUP,
            json!({"Spreads": [{"Attribute": "a", "SpreadTarget": [{"Value": "x", "Percent": 60}, {"Value": "y", "Percent": 60}]}]}),
            "must not be greater than 100%",
        ),
        (
            "val-117",
            TASK,
            json!({"Services": [{"Name": "s", "Connect": {"Native": true}}]}),
            "cannot have \"connect\" block",
        ),
        ("val-117", TASK, json!({"Services": [{"Name": "s", "AddressMode": "alloc"}]}), "can use this mode"),
        ("val-117", TASK, json!({"Services": [{"Name": "s", "PortLabel": "nope"}]}), "does not exist"),
        ("val-117", TASK, json!({"Services": [{"Name": "s", "PortLabel": "80"}]}), "cannot use a numeric port"),
        (
            "val-117",
            TASK,
            json!({"Services": [{"Name": "s", "Checks": [{"Name": "c"}, {"Name": "c"}]}]}),
            "check \"c\" is duplicate",
        ),
        ("val-118", TASK, json!({"Artifacts": [{}]}), "source must be specified"),
        ("val-118", TASK, artifact(json!({"GetterMode": "odd"})), "invalid artifact mode \"odd\""),
        ("val-118", TASK, artifact(json!({"RelativeDest": "../../x"})), "destination escapes allocation directory"),
        ("val-118", TASK, artifact(json!({"GetterOptions": {"checksum": "md5:1"}})), "checksum"),
        ("val-118", TASK, artifact(json!({"GetterOptions": {"checksum": "crc:1"}})), "unsupported checksum type"),
        (
            "val-119",
            TASK,
            template(json!({"EmbeddedTmpl": ""})),
            "Must specify a source path or have an embedded template",
        ),
        ("val-119", TASK, template(json!({"DestPath": ""})), "Must specify a destination for the template"),
        ("val-119", TASK, template(json!({"DestPath": "../../x"})), "destination escapes allocation directory"),
        ("val-119", TASK, template(json!({"ChangeMode": "odd"})), "Invalid change mode given"),
        ("val-119", TASK, template(json!({"ChangeMode": "signal", "ChangeSignal": ""})), "Must specify signal value"),
        (
            "val-119",
            TASK,
            template(json!({"ChangeMode": "signal", "Envvars": true})),
            "cannot use signals with env var templates",
        ),
        ("val-119", TASK, template(json!({"ChangeMode": "script"})), "must specify change script configuration"),
        ("val-119", TASK, template(json!({"ChangeMode": "script", "ChangeScript": {}})), "must specify script path"),
        ("val-119", TASK, template(json!({"Perms": "9"})), "Failed to parse \"9\" as octal"),
        ("val-119", TASK, template(json!({"Splay": -1})), "Must specify positive splay value"),
        ("val-119", TASK, template(json!({"Wait": {"Min": 2, "Max": 1}})), "is greater than max"),
        (
            "val-119",
            TASK,
            json!({"Templates": [{"EmbeddedTmpl": "x", "DestPath": "x"}, {"EmbeddedTmpl": "y", "DestPath": "x"}]}),
            "Template 2 has same destination as 1",
        ),
        ("val-120", TASK, json!({"Vault": {"ChangeMode": "odd"}}), "Unknown change mode \"odd\""),
        ("val-121", TASK, json!({"Actions": [{"Name": "a b", "Command": "x"}]}), "invalid name"),
        (
            "val-121",
            TASK,
            json!({"Actions": [{"Name": "a", "Command": "x"}, {"Name": "a", "Command": "x"}]}),
            "defined multiple times",
        ),
        ("val-122", TASK, json!({"DispatchPayload": {"File": "../x"}}), "destination escapes allocation directory"),
        ("val-123", TASK, json!({"Lifecycle": {"Hook": "odd"}}), "invalid hook: odd"),
        (
            "val-124",
            TASK,
            json!({"VolumeMounts": [{"Volume": "v", "Destination": "/x"}]}),
            "references undefined volume v",
        ),
        ("val-124", TASK, json!({"VolumeMounts": [{"Destination": "/x"}]}), "references an empty volume"),
        (
            "val-124",
            TASK,
            json!({"VolumeMounts": [{"Volume": "v", "PropagationMode": "odd"}]}),
            "invalid propagation mode",
        ),
        ("val-124", TASK, json!({"VolumeMounts": [{"Volume": "v", "SELinuxLabel": "odd"}]}), "invalid SELinux label"),
        ("val-125", TASK, json!({"CSIPluginConfig": {"Type": "node"}}), "must have a non-empty PluginID"),
        ("val-125", TASK, json!({"CSIPluginConfig": {"ID": "x", "Type": "odd"}}), "PluginType must be one of"),
        (
            "val-125",
            TASK,
            json!({"CSIPluginConfig": {"ID": "x", "Type": "node", "StagePublishBaseDir": "/csi/x"}}),
            "must not be a subdirectory of MountDir",
        ),
        ("val-126", TASK, identity(json!({"Name": "a b"})), "Identity \"a b\" is invalid"),
        ("val-126", TASK, identity(json!({"Audience": [""]})), "an empty string is an invalid audience"),
        ("val-126", TASK, identity(json!({"ChangeMode": "odd"})), "invalid change_mode \"odd\""),
        ("val-126", TASK, identity(json!({"ChangeMode": "signal"})), "change_signal must be specified"),
        ("val-126", TASK, identity(json!({"ChangeSignal": "SIGHUP"})), "can only use change_signal with change_mode"),
        ("val-126", TASK, identity(json!({"Name": "default"})), "ttl for default identity not yet supported"),
        ("val-126", TASK, identity(json!({"TTL": -1})), "ttl must be >= 0"),
        ("val-126", TASK, identity(json!({"Filepath": "x"})), "file parameter must be true"),
        ("val-127", TASK, secret(json!({"Name": "a-b"})), "Secret \"a-b\" is invalid"),
        ("val-127", TASK, secret(json!({"Provider": ""})), "provider cannot be empty"),
        ("val-127", TASK, secret(json!({"Path": ""})), "path cannot be empty"),
        ("val-127", TASK, secret(json!({"Env": {"a": "b"}})), "does not use env"),
        ("val-127", TASK, secret(json!({"Provider": "own", "Config": {"a": 1}})), "does not use config"),
        ("val-127", TASK, secret(json!({"Provider": "vault"})), "no vault block"),
        ("val-127", TASK, json!({"Secrets": [{"Name": "a"}, {"Name": "a"}]}), "Duplicate secret \"a\""),
    ]);
}

#[test]
fn what_breaks_a_rule_of_a_service_is_refused_in_its_words() {
    let gateway = |block: Value| meshed(connect(json!({ "Gateway": block })));
    let sidecar = |proxy: Value| meshed(connect(json!({"SidecarService": {"Proxy": proxy}})));
    let on_network = |networks: Value, block: Value| json!({"Networks": networks, "Services": [connect(block)]});
    let upstream = json!({"Proxy": {"Upstreams": [{"DestinationName": "x", "LocalBindPort": 80}]}});
    let two_upstreams = json!({"Networks": [{"Mode": "bridge"}], "Services": [
        {"Name": "s", "PortLabel": "1", "Connect": {"SidecarService": upstream}},
        {"Name": "u", "PortLabel": "2", "Connect": {"SidecarService": upstream}}]});
    let transparent = json!({"Proxy": {"TransparentProxy": {}}});
    let two_connects = json!({"Networks": [{"Mode": "bridge"}], "Services": [
        {"Name": "s", "PortLabel": "1", "Connect": {"SidecarService": transparent}},
        {"Name": "u", "PortLabel": "2", "Connect": {"SidecarService": {}}}]});
    let exposed = |block: Value, networks: Value| {
        json!({"Networks": networks, "Services": [{"Name": "s", "PortLabel": "80", "Connect": block,
            "Checks": [{"Name": "c", "Type": "http", "Path": "/", "Interval": SECOND, "Timeout": SECOND, "Expose": true}]}]})
    };
    let ambiguous = json!({"Services": [connect(json!({"Native": true}))], "Tasks": [
        {"Name": "a", "Driver": "raw_exec"}, {"Name": "b", "Driver": "raw_exec"}]});
    let ingress = |listener: Value| gateway(json!({"Ingress": {"Listeners": [listener]}}));
    let linked = |service: Value| gateway(json!({"Terminating": {"Services": [service]}}));
    assert_refused(vec![
        ("val-045", GROUP, ambiguous, "task for Consul Connect Native service g->s is ambiguous and must be set"),
        (
            "val-046",
            GROUP,
            json!({"Networks": [{"Mode": "bridge"}], "Services": [{"Name": "s", "Connect": {"Gateway": {"Mesh": {}}}}]}),
            "service.port must be set for mesh gateway service",
        ),
        ("val-060", GROUP, on_network(json!([]), json!({"SidecarService": {}})), "must have exactly one network"),
        (
            "val-060",
            GROUP,
            on_network(json!([{"Mode": "host"}]), json!({"SidecarService": {}})),
            "invalid network mode for Consul Connect",
        ),
        ("val-061", GROUP, on_network(json!([]), json!({"Gateway": {"Mesh": {}}})), "must have exactly one network"),
        (
            "val-061",
            GROUP,
            on_network(json!([{"Mode": "none"}]), json!({"Gateway": {"Mesh": {}}})),
            "invalid network mode for Consul Connect",
        ),
        (
            "val-062",
            GROUP,
            meshed(json!({"Name": "Up", "PortLabel": "http", "Connect": {"SidecarService": {}}})),
            "must not contain uppercase characters",
        ),
        ("val-063", GROUP, two_upstreams, "using same address for upstreams"),
        ("val-064", GROUP, two_connects, "transparent proxy block is not compatible with multiple connect blocks"),
        (
            "val-064",
            GROUP,
            json!({"Networks": [{"Mode": "bridge", "DNS": {}}], "Services": [connect(json!({"SidecarService": transparent}))]}),
            "transparent proxy cannot be used with network.dns",
        ),
        (
            "val-064",
            GROUP,
            sidecar(json!({"TransparentProxy": {"ExcludeInboundPorts": ["nope"]}})),
            "must be numeric or one of network.port labels",
        ),
        ("val-064", GROUP, sidecar(json!({"TransparentProxy": {"UID": "root"}})), "invalid uid"),
        ("val-064", GROUP, sidecar(json!({"TransparentProxy": {"ExcludeUIDs": ["x"]}})), "invalid exclude_uids"),
        (
            "val-064",
            GROUP,
            sidecar(json!({"TransparentProxy": {"ExcludeOutboundCIDRs": ["10.0.0.0"]}})),
            "invalid CIDR address",
        ),
        ("val-065", GROUP, exposed(Value::Null, json!([{"Mode": "bridge"}])), "requires use of sidecar_proxy"),
        (
            "val-065",
            GROUP,
            exposed(json!({"SidecarService": {}}), json!([{"Mode": "host"}])),
            "requires use of bridge network",
        ),
        (
            "val-065",
            TASK,
            json!({"Services": [{"Name": "s", "Checks": [{"Name": "c", "Expose": true}]}]}),
            "is not a task-group service",
        ),
        ("val-128", GROUP, service(json!({"Name": "a_b"})), "Service name must be valid per RFC 1123"),
        ("val-128", GROUP, service(json!({"AddressMode": "odd"})), "Service address_mode must be"),
        (
            "val-128",
            GROUP,
            service(json!({"AddressMode": "host", "Address": "x"})),
            "must be \"auto\" if address is set",
        ),
        ("val-128", GROUP, service(json!({"OnUpdate": "odd"})), "Service on_update must be"),
        ("val-128", GROUP, service(json!({"Provider": "odd"})), "Service provider must be"),
        ("val-128", GROUP, service(json!({"Kind": "odd"})), "Service kind \"odd\" is not valid"),
        (
            "val-128",
            GROUP,
            service(json!({"Identity": {}})),
            "Service identity must provide at least one target aud value",
        ),
        ("val-129", GROUP, check(json!({"Type": "odd"})), "invalid check type"),
        ("val-129", GROUP, check(json!({"Type": "http"})), "http type must have http path"),
        ("val-129", GROUP, check(json!({"Type": "http", "Path": "http://x"})), "relative http path expected"),
        ("val-129", GROUP, check(json!({"Type": "script", "TaskName": "t"})), "must have a valid script path"),
        ("val-129", GROUP, check(json!({"Interval": 1})), "cannot be lower than 1s"),
        ("val-129", GROUP, check(json!({"Timeout": 0})), "missing required value timeout"),
        ("val-129", GROUP, check(json!({"InitialStatus": "odd"})), "invalid initial check state"),
        ("val-129", GROUP, check(json!({"AddressMode": "odd"})), "invalid address_mode"),
        ("val-129", GROUP, check(json!({"OnUpdate": "odd"})), "on_update must be"),
        (
            "val-129",
            GROUP,
            check(json!({"OnUpdate": "ignore", "CheckRestart": {"Limit": 1}})),
            "cannot be used with check_restart",
        ),
        (
            "val-129",
            GROUP,
            check(json!({"OnUpdate": "ignore_warnings", "CheckRestart": {"Limit": 1}})),
            "requires check_restart ignore_warnings",
        ),
        ("val-129", GROUP, check(json!({"CheckRestart": {"Limit": -1}})), "limit must be greater than or equal to 0"),
        (
            "val-130",
            GROUP,
            json!({"Services": [{"Name": "s", "Provider": "nomad", "Connect": {"Native": true}}]}),
            "cannot include Connect blocks",
        ),
        ("val-130", GROUP, native(json!({"Type": "grpc"})), "invalid check type"),
        ("val-130", GROUP, native(json!({"Type": "script", "Command": "x"})), "invalid check type"),
        ("val-130", GROUP, native(json!({"Expose": true})), "expose may only be set for Consul service checks"),
        ("val-130", GROUP, native(json!({"OnUpdate": "ignore_warnings"})), "may only be set for Consul service checks"),
        (
            "val-130",
            GROUP,
            native(json!({"CheckRestart": {"IgnoreWarnings": true}})),
            "ignore_warnings may only be set",
        ),
        ("val-130", GROUP, native(json!({"SuccessBeforePassing": 1})), "success_before_passing may only be set"),
        ("val-130", GROUP, native(json!({"FailuresBeforeCritical": 1})), "failures_before_critical may only be set"),
        ("val-130", GROUP, native(json!({"FailuresBeforeWarning": 1})), "failures_before_warning may only be set"),
        ("val-130", GROUP, native(json!({"TLSServerName": "x"})), "tls_server_name may only be set"),
        ("val-130", GROUP, native(json!({"AddressMode": "driver"})), "address_mode = \"driver\" may only be set"),
        (
            "val-131",
            GROUP,
            meshed(
                json!({"Name": "s", "PortLabel": "http", "Connect": {"SidecarService": {}}, "Checks": [{"Name": "c", "Type": "tcp"}]}),
            ),
            "tcp checks are not valid for Connect enabled services",
        ),
        ("val-132", GROUP, meshed(connect(json!({}))), "must be exclusively native"),
        (
            "val-132",
            GROUP,
            meshed(connect(json!({"Native": true, "SidecarService": {}}))),
            "must be exclusively native",
        ),
        (
            "val-132",
            GROUP,
            json!({"Services": [{"Name": "s", "Connect": {"Native": true}}]}),
            "is Connect Native and requires setting the port",
        ),
        ("val-132", GROUP, gateway(json!({})), "One Consul Gateway Configuration must be set"),
        (
            "val-132",
            GROUP,
            gateway(json!({"Mesh": {}, "Proxy": {"EnvoyDNSDiscoveryType": "odd"}})),
            "must be STRICT_DNS or LOGICAL_DNS",
        ),
        (
            "val-132",
            GROUP,
            gateway(json!({"Mesh": {}, "Proxy": {"EnvoyGatewayBindAddresses": {"a": {}}}})),
            "must be set to a valid address",
        ),
        ("val-132", GROUP, gateway(json!({"Ingress": {}})), "requires at least one listener"),
        ("val-132", GROUP, ingress(json!({"Services": [{"Name": "x"}]})), "Ingress Listener requires valid Port"),
        ("val-132", GROUP, ingress(json!({"Port": 1, "Protocol": "odd"})), "Ingress Listener requires protocol"),
        ("val-132", GROUP, ingress(json!({"Port": 1})), "requires one or more services"),
        ("val-132", GROUP, ingress(json!({"Port": 1, "Services": [{"Name": "*"}]})), "doesn't support wildcard name"),
        (
            "val-132",
            GROUP,
            ingress(json!({"Port": 1, "Services": [{"Name": "x", "Hosts": ["h"]}]})),
            "doesn't support associating hosts",
        ),
        ("val-132", GROUP, gateway(json!({"Terminating": {}})), "requires at least one service"),
        ("val-132", GROUP, linked(json!({})), "Linked Service requires Name"),
        ("val-132", GROUP, linked(json!({"Name": "x", "SNI": "y"})), "requires CAFile"),
        (
            "val-132",
            GROUP,
            linked(json!({"Name": "x", "CAFile": "c", "KeyFile": "y"})),
            "Cert and Key must both be set",
        ),
        (
            "val-132",
            GROUP,
            sidecar(json!({"Upstreams": [{"MeshGateway": {"Mode": "odd"}}]})),
            "mesh_gateway mode \"odd\" not supported",
        ),
    ]);
}

#[test]
fn what_should_be_known_is_a_warning_and_no_refusal() {
    let identity = |more: Value| {
        let mut one = json!({"Name": "n", "Audience": ["a"], "TTL": 3600 * SECOND});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "Identities": [one] })
    };
    let cases: Vec<Case> = vec![
        ("val-133", "", json!({"Type": "batch", "Periodic": {"Spec": "@daily"}}), "cron is deprecated"),
        (
            "val-134",
            "",
            json!({"TaskGroups": [
            {"Name": "a", "Update": {"Canary": 1, "AutoPromote": true}, "Tasks": [{"Name": "t", "Driver": "raw_exec"}]},
            {"Name": "b", "Update": {"Canary": 1}, "Tasks": [{"Name": "t", "Driver": "raw_exec"}]}]}),
            "auto_promote must be true for all groups",
        ),
        ("val-135", TASK, json!({"Services": [{"Name": "s"}]}), "no shutdown_delay set"),
        ("val-135", GROUP, service(json!({})), "no shutdown_delay set"),
        (
            "val-135",
            GROUP,
            meshed(connect(json!({"SidecarService": {}, "SidecarTask": {}}))),
            "sidecar_task of service \"s\" has no shutdown_delay set",
        ),
        (
            "val-136",
            GROUP,
            json!({"Count": 2, "Update": {"MaxParallel": 3}}),
            "Update max parallel count is greater than task group count",
        ),
        ("val-137", GROUP, json!({"MaxClientDisconnect": 1}), "max_client_disconnect is deprecated and ignored"),
        (
            "val-137",
            GROUP,
            json!({"StopAfterClientDisconnect": 1}),
            "stop_after_client_disconnect is deprecated and ignored",
        ),
        (
            "val-137",
            GROUP,
            json!({"PreventRescheduleOnLost": true}),
            "prevent_reschedule_on_lost is deprecated and ignored",
        ),
        ("val-138", GROUP, json!({"Networks": [{"MBits": 10}]}), "mbits has been deprecated"),
        ("val-139", TASK, json!({"Resources": {"IOPS": 1}}), "iops is deprecated"),
        ("val-139", TASK, json!({"Resources": {"Networks": [{}]}}), "network in resources is deprecated"),
        (
            "val-140",
            TASK,
            json!({"Templates": [{"EmbeddedTmpl": "x", "DestPath": "x", "VaultGrace": 1}]}),
            "vault_grace is deprecated",
        ),
        ("val-141", TASK, identity(json!({"Audience": []})), "without an audience"),
        ("val-141", TASK, identity(json!({"Audience": ["a", "b"]})), "several audiences"),
        ("val-141", TASK, identity(json!({"TTL": 0})), "without a ttl"),
        ("val-141", TASK, identity(json!({"Env": true})), "may result in task not getting updated identity"),
        ("val-141", GROUP, service(json!({"Identity": {"Audience": ["a"]}})), "identity of service \"s\""),
        ("val-142", TASK, identity(json!({"Name": "vault_default"})), "but no vault block"),
    ];
    assert_eq!(warnings(&changed("", &json!({}))), Vec::<String>::new());
    for (rule, at, change, words) in cases {
        let job = changed(at, &change);
        let text = warnings(&job).join("\n");
        assert!(text.contains(words), "{rule}: {at} {change}\n{words:?} expected in {text:?}");
        assert_eq!(report(&validate(&job)), "", "{rule}");
    }
}

/// What old files hold and nothing reads any more: told before it is dropped.
#[test]
fn val_038_what_has_no_effect_is_told() {
    let cases = [
        (TASK, json!({"LogConfig": {"Enabled": true}}), "logs.enabled"),
        (TASK, json!({"Vault": {"Policies": ["p"]}}), "vault.policies"),
        (TASK, json!({"Resources": {"DiskMB": 7}}), "resources.disk"),
        (GROUP, check(json!({"Advertise": "x"})), "check.advertise"),
        (GROUP, json!({"Networks": [{"Device": "eth0"}]}), "network.device"),
    ];
    for (at, change, words) in cases {
        let mut value = good();
        value.pointer_mut(at).unwrap().as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let posted: Job = serde_json::from_value(value).unwrap();
        let told = model::without_effect(&posted).join("\n");
        assert!(told.contains(words), "{words} expected in {told:?}");
    }
    assert_eq!(model::without_effect(&serde_json::from_value(good()).unwrap()), Vec::<String>::new());
}

/// Rule, change, place in the stored job, what is there.
#[test]
fn what_canonicalizing_fills_in_is_there() {
    let periodic = json!({"Type": "batch", "ParameterizedJob": {}});
    let cases: Vec<(&str, &str, Value, String, Value)> = vec![
        ("val-033", "", json!({}), "/Priority".into(), json!(50)),
        ("val-033", "", json!({}), "/Type".into(), json!("service")),
        ("val-033", "", json!({}), format!("{GROUP}/Update/MaxParallel"), json!(1)),
        ("val-033", "", json!({"Type": "system"}), format!("{GROUP}/Update/HealthCheck"), json!("checks")),
        ("val-033", "", json!({"Type": "batch"}), format!("{GROUP}/Update"), Value::Null),
        ("val-034", GROUP, json!({}), format!("{GROUP}/Count"), json!(1)),
        ("val-034", GROUP, json!({"Scaling": {"Min": 3, "Max": 5}}), format!("{GROUP}/Count"), json!(3)),
        ("val-034", "", json!({"Update": {"MaxParallel": 7}}), format!("{GROUP}/Update/MaxParallel"), json!(7)),
        (
            "val-034",
            "",
            json!({"Reschedule": {"Delay": 9 * SECOND}}),
            format!("{GROUP}/ReschedulePolicy/Delay"),
            json!(9 * SECOND),
        ),
        ("val-034", "", json!({"Migrate": {"MaxParallel": 7}}), format!("{GROUP}/Migrate/MaxParallel"), json!(7)),
        (
            "val-034",
            GROUP,
            json!({"RestartPolicy": {"Attempts": 9}}),
            format!("{TASK}/RestartPolicy/Attempts"),
            json!(9),
        ),
        (
            "val-034",
            GROUP,
            service(json!({"CheckRestart": {"Limit": 3}, "Checks": [{}]})),
            format!("{GROUP}/Services/0/Checks/0/CheckRestart/Limit"),
            json!(3),
        ),
        ("val-040", "", json!({}), "/Datacenters".into(), json!(["*"])),
        ("val-040", "", periodic, "/ParameterizedJob/Payload".into(), json!("optional")),
        (
            "val-040",
            GROUP,
            service(json!({"Name": "${JOB}-${TASKGROUP}-${BASE}"})),
            format!("{GROUP}/Services/0/Name"),
            json!("a-g-a-g"),
        ),
        ("val-040", TASK, json!({"Services": [{"Name": "${TASK}"}]}), format!("{TASK}/Services/0/Name"), json!("t")),
        (
            "val-040",
            GROUP,
            service(json!({"Checks": [{}]})),
            format!("{GROUP}/Services/0/Checks/0/Name"),
            json!("service: \"s\" check"),
        ),
        ("val-040", TASK, json!({}), format!("{TASK}/Identity/Audience"), json!(["nomadproject.io"])),
        ("val-040", "", json!({"Priority": 0}), "/Priority".into(), json!(50)),
        ("val-041", TASK, json!({"Vault": {}}), format!("{TASK}/Vault/Cluster"), json!("default")),
        ("val-042", TASK, json!({"Consul": {}}), format!("{TASK}/Consul/Cluster"), json!("default")),
        ("val-042", GROUP, json!({"Consul": {}}), format!("{GROUP}/Consul/Cluster"), json!("default")),
        ("val-057", "", json!({}), "/NodePool".into(), json!("default")),
    ];
    for (rule, at, change, place, want) in cases {
        assert_eq!(stored(at, &change).pointer(&place), Some(&want), "{rule}: {at} {change} {place}");
    }
}

/// Rule, change, whose constraints, `attribute operand value`.
#[test]
fn what_a_job_uses_is_asked_of_its_node() {
    let version = "nomad.version semver";
    let cases: Vec<(&str, &str, Value, &str, Vec<String>)> = vec![
        ("val-042", GROUP, json!({"Consul": {"Partition": "p"}}), GROUP, vec!["consul.partition = p".into()]),
        ("val-042", TASK, json!({"Consul": {"Partition": "p"}}), TASK, vec!["consul.partition = p".into()]),
        ("val-048", TASK, json!({"Vault": {}}), GROUP, vec!["vault.version semver >= 0.6.1".into()]),
        (
            "val-049",
            TASK,
            json!({"Secrets": [{"Name": "n", "Provider": "own", "Path": "p"}]}),
            GROUP,
            vec!["plugins.secrets.own.version is_set ".into()],
        ),
        (
            "val-050",
            TASK,
            json!({"Resources": {"NUMA": {"Affinity": "require"}}}),
            TASK,
            vec![format!("{version} >= 1.6.3-dev"), "kernel.name = linux".into()],
        ),
        (
            "val-051",
            TASK,
            json!({"KillSignal": "SIGUSR1", "Templates": [{"ChangeMode": "signal", "ChangeSignal": "sighup"}]}),
            GROUP,
            vec!["os.signals set_contains SIGHUP,SIGUSR1".into()],
        ),
        (
            "val-051",
            TASK,
            json!({"Vault": {"ChangeMode": "signal"}}),
            GROUP,
            vec!["vault.version semver >= 0.6.1".into(), "os.signals set_contains SIGHUP".into()],
        ),
        ("val-052", GROUP, service(json!({"Provider": "nomad"})), GROUP, vec!["nomad.service_discovery = true".into()]),
        (
            "val-052",
            GROUP,
            native(json!({})),
            GROUP,
            vec!["nomad.service_discovery = true".into(), format!("{version} >= 1.4.0")],
        ),
        ("val-053", GROUP, service(json!({})), GROUP, vec!["consul.version semver >= 1.8.0".into()]),
        ("val-053", TASK, service(json!({})), TASK, vec!["consul.version semver >= 1.8.0".into()]),
        (
            "val-054",
            GROUP,
            json!({"Networks": [{"Mode": "bridge"}]}),
            GROUP,
            ["bridge", "firewall", "host-local", "loopback", "portmap"]
                .map(|one| format!("plugins.cni.version.{one} semver >= 0.4.0"))
                .into(),
        ),
        (
            "val-055",
            GROUP,
            json!({"Services": [connect(json!({"SidecarService": {"Proxy": {"TransparentProxy": {}}}}))]}),
            GROUP,
            vec![
                "consul.version semver >= 1.8.0".into(),
                "plugins.cni.version.consul-cni semver >= 1.4.2".into(),
                format!("{version} >= 1.8.0-dev"),
            ],
        ),
        ("val-056", TASK, json!({"Schedule": {"Cron": {}}}), GROUP, vec![format!("{version} >= 1.8.0-dev")]),
        (
            "val-058",
            TASK,
            json!({"Identities": [{"Name": "n", "Audience": ["a"]}]}),
            GROUP,
            vec![format!("{version} >= 1.7.0-a")],
        ),
        ("none", TASK, json!({}), GROUP, vec![]),
    ];
    for (rule, at, change, of, want) in cases {
        let mut job = changed(at, &change);
        let asked = |job: &Job| -> Vec<String> {
            let value = serde_json::to_value(job).unwrap();
            let list = value.pointer(&format!("{of}/Constraints")).unwrap().as_array().cloned().unwrap_or_default();
            let text = |one: &Value, name: &str| one[name].as_str().unwrap().replace("${attr.", "").replace('}', "");
            list.iter()
                .map(|one| format!("{} {} {}", text(one, "LTarget"), text(one, "Operand"), text(one, "RTarget")))
                .collect()
        };
        assert_eq!(asked(&job), want, "{rule}: {at} {change}");
        let before = job.clone();
        job.canonicalize();
        assert_eq!(job, before, "{rule} again");
    }
    // what the author asks of the same attribute stays, alone
    let own = json!({"KillSignal": "SIGINT"});
    let mut value = good();
    value["TaskGroups"][0]["Tasks"][0].as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    value["TaskGroups"][0]["Constraints"] =
        json!([{"LTarget": "${attr.os.signals}", "Operand": "set_contains", "RTarget": "SIGTERM"}]);
    let mut job: Job = serde_json::from_value(value).unwrap();
    job.canonicalize();
    assert_eq!(job.task_groups[0].constraints.len(), 1, "val-051");
}

/// What is understood and not carried out is refused by name when it is registered.
#[test]
fn val_071_val_072_what_is_not_carried_out_is_named() {
    let job = changed(TASK, &json!({"CSIPluginConfig": {"ID": "a", "Type": "node"}}));
    assert!(model::unbuilt(&job).iter().any(|line| line.starts_with("csi_plugin")), "{:?}", model::unbuilt(&job));
    let job = changed(TASK, &json!({"Resources": {"Cores": 2, "NUMA": {"Affinity": "require"}}}));
    assert_eq!(report(&validate(&job)), "");
    assert_eq!(model::unbuilt(&job), Vec::<String>::new(), "where the reference asks for a licence");
    let job = changed(TASK, &json!({"Schedule": {"Cron": {"Start": "0 8 * * * *", "End": "0 17"}}}));
    assert_eq!(model::unbuilt(&job), Vec::<String>::new(), "where the reference asks for a licence");
}

/// A group on a bridge network, with these services and its task `t`.
fn in_mesh(services: Value) -> Job {
    changed(
        GROUP,
        &json!({"Networks": [{"Mode": "bridge", "DynamicPorts": [{"Label": "http", "To": 8080}]}], "Services": services}),
    )
}

fn is_unchanged_by_canonicalizing(job: &Job) {
    let mut again = job.clone();
    again.canonicalize();
    assert_eq!(&again, job);
}

#[test]
fn val_043_a_service_in_the_mesh_brings_its_proxy_and_its_port() {
    let job = in_mesh(json!([connect(json!({"SidecarService": {}}))]));
    assert_eq!(report(&validate(&job)), "");
    is_unchanged_by_canonicalizing(&job);
    let group = serde_json::to_value(&job.task_groups[0]).unwrap();
    let task = &group["Tasks"][1];
    for (field, want) in [
        ("/Name", json!("connect-proxy-s")),
        ("/Kind", json!("connect-proxy:s")),
        ("/Driver", json!("docker")),
        ("/Lifecycle", json!({"Hook": "prestart", "Sidecar": true})),
        ("/Resources/CPU", json!(250)),
        ("/Resources/MemoryMB", json!(128)),
        ("/LogConfig/MaxFiles", json!(2)),
        ("/LogConfig/MaxFileSizeMB", json!(2)),
        ("/ShutdownDelay", json!(5 * SECOND)),
        ("/Config/image", json!("${meta.connect.sidecar_image}")),
        (
            "/Constraints",
            json!([{"LTarget": "${attr.consul.version}", "RTarget": ">= 1.8.0", "Operand": "semver"},
                {"LTarget": "${attr.consul.grpc}", "RTarget": "0", "Operand": ">"}]),
        ),
    ] {
        assert_eq!(task.pointer(field), Some(&want), "{field}: {task}");
    }
    let port = &group["Networks"][0]["DynamicPorts"][1];
    assert_eq!((&port["Label"], &port["To"]), (&json!("connect-proxy-s"), &json!(-1)));
    // what the author says of the task wins
    let own = json!({"SidecarService": {}, "SidecarTask": {"Name": "envoy", "Driver": "raw_exec", "Config": {"command": "e"},
        "Resources": {"CPU": 700}, "Meta": {"a": "b"}, "ShutdownDelay": SECOND}});
    let job = in_mesh(json!([connect(own)]));
    let task = serde_json::to_value(&job.task_groups[0].tasks[1]).unwrap();
    assert_eq!((&task["Name"], &task["Driver"]), (&json!("envoy"), &json!("raw_exec")));
    assert_eq!((&task["Resources"]["CPU"], &task["Resources"]["MemoryMB"]), (&json!(700), &json!(300)));
    assert_eq!((&task["Meta"]["a"], &task["ShutdownDelay"]), (&json!("b"), &json!(SECOND)));
    is_unchanged_by_canonicalizing(&job);
    // nothing without a network
    let job = changed(GROUP, &json!({"Services": [connect(json!({"SidecarService": {}}))]}));
    assert_eq!(job.task_groups[0].tasks.len(), 1);
}

#[test]
fn val_043_gateways_bring_their_task_and_native_services_name_theirs() {
    let listener = json!({"Port": 8080, "Protocol": "http", "Services": [{"Name": "web"}]});
    let ingress = json!({"Gateway": {"Ingress": {"Listeners": [listener], "TLS": {"TLSMinVersion": "TLSv1_2"}}}});
    let job = in_mesh(json!([connect(ingress)]));
    assert_eq!(report(&validate(&job)), "");
    is_unchanged_by_canonicalizing(&job);
    let group = serde_json::to_value(&job.task_groups[0]).unwrap();
    let task = &group["Tasks"][1];
    assert_eq!((&task["Name"], &task["Kind"]), (&json!("connect-ingress-s"), &json!("connect-ingress:s")));
    assert_eq!((&task["Lifecycle"], &task["Config"]["image"]), (&Value::Null, &json!("${meta.connect.gateway_image}")));
    assert_eq!(task["Constraints"][0]["RTarget"], ">= 1.11.2");
    let proxy = &group["Services"][0]["Connect"]["Gateway"]["Proxy"];
    assert_eq!(proxy["EnvoyGatewayNoDefaultBind"], true);
    assert_eq!(
        (&proxy["EnvoyGatewayBindAddresses"]["web"]["Address"], &proxy["EnvoyGatewayBindAddresses"]["web"]["Port"]),
        (&json!("0.0.0.0"), &json!(8080))
    );
    let mesh = in_mesh(json!([connect(json!({"Gateway": {"Mesh": {}}}))]));
    assert_eq!(report(&validate(&mesh)), "");
    assert_eq!(mesh.task_groups[0].networks[0].dynamic_ports[1].label, "connect-mesh-s-lan");
    let native = in_mesh(json!([connect(json!({"Native": true}))]));
    assert_eq!(report(&validate(&native)), "");
    assert_eq!(native.task_groups[0].services[0].task_name, "t");
    assert_eq!(native.task_groups[0].tasks[0].kind, "connect-native:s");
    is_unchanged_by_canonicalizing(&native);
}

#[test]
fn val_044_a_proxy_whose_name_is_taken_gets_six_letters_more() {
    let mut value = good();
    value["TaskGroups"][0]["Networks"] = json!([{"Mode": "bridge", "DynamicPorts": [{"Label": "http"}]}]);
    value["TaskGroups"][0]["Services"] = json!([connect(json!({"SidecarService": {}}))]);
    value["TaskGroups"][0]["Tasks"][0]["Name"] = json!("connect-proxy-s");
    let mut job: Job = serde_json::from_value(value).unwrap();
    job.canonicalize();
    let name = &job.task_groups[0].tasks[1].name;
    let rest = name.strip_prefix("connect-proxy-s-").unwrap();
    assert!(rest.len() == 6 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    is_unchanged_by_canonicalizing(&job);
}

#[test]
fn val_047_an_exposed_check_gets_a_path_and_a_port() {
    let mut service = connect(json!({"SidecarService": {}}));
    let check = |name: &str, kind: &str, extra: Value| {
        let mut check = json!({"Name": name, "Type": kind, "Path": "/health", "Expose": true, "Interval": 10 * SECOND, "Timeout": SECOND});
        check.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        check
    };
    service["Checks"] = json!([check("a", "http", json!({})), check("b", "grpc", json!({"PortLabel": "http"}))]);
    let job = in_mesh(json!([service]));
    assert_eq!(report(&validate(&job)), "");
    is_unchanged_by_canonicalizing(&job);
    let group = serde_json::to_value(&job.task_groups[0]).unwrap();
    let paths = &group["Services"][0]["Connect"]["SidecarService"]["Proxy"]["Expose"]["Paths"];
    let label = group["Services"][0]["Checks"][0]["PortLabel"].as_str().unwrap();
    assert!(label.starts_with("svc_s_ck_") && label.len() == "svc_s_ck_".len() + 6, "{label}");
    assert_eq!(paths[0], json!({"Path": "/health", "Protocol": "http", "LocalPathPort": 8080, "ListenerPort": label}));
    assert_eq!((&paths[1]["Protocol"], &paths[1]["ListenerPort"]), (&json!("http2"), &json!("http")));
    let labels: Vec<&str> =
        job.task_groups[0].networks[0].dynamic_ports.iter().map(|port| port.label.as_str()).collect();
    assert_eq!(labels, ["http", "connect-proxy-s", label]);
}

#[test]
fn val_058_the_identity_of_a_service_is_known_by_the_service() {
    let identity = json!({"Identity": {"Audience": ["consul.io"]}});
    let of_task = changed(TASK, &service(identity.clone()));
    let named = |service: &model::service::Service| {
        let identity = service.identity.clone().unwrap();
        (identity.name, identity.service_name)
    };
    assert_eq!(named(&of_task.task_groups[0].tasks[0].services[0]), ("consul-service_t-s-80".into(), "s".into()));
    let of_group = changed(GROUP, &service(identity));
    assert_eq!(named(&of_group.task_groups[0].services[0]), ("consul-service_s-80".into(), "s".into()));
    is_unchanged_by_canonicalizing(&of_group);
}
