//! Each block and attribute of the language: that it lands where it belongs, and what it is when nobody
//! says it. The rows are data/blocks.tsv; docs/jobspec-coverage.md lists them with these tests.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use jobspec::{Inputs, Source};
use serde_json::{Value, json};

/// A row: an attribute or a block, of a block that stands somewhere.
#[derive(Clone, Debug)]
struct Row {
    path: String,
    name: String,
    kind: String,
    wire: String,
    default: Option<Value>,
}

/// The rows about what is inside a job, with "same body" rows written out.
fn rows() -> Vec<Row> {
    let table: Vec<Vec<&str>> =
        include_str!("data/blocks.tsv").lines().skip(1).map(|line| line.split('\t').collect()).collect();
    let row = |columns: &[&str]| Row {
        path: columns[0].to_owned(),
        name: columns[1].to_owned(),
        kind: columns[2].to_owned(),
        wire: columns[4].to_owned(),
        default: serde_json::from_str(columns[5]).ok(),
    };
    let mut out = Vec::new();
    for columns in table.iter().filter(|columns| columns[0].starts_with("job")) {
        let Some(other) = columns[2].strip_prefix("= ") else {
            out.push(row(columns));
            continue;
        };
        // The wire name of the other body itself, which its attributes' begin with.
        let (outer, block) = other.rsplit_once('.').unwrap();
        let base = table.iter().find(|r| r[0] == outer && r[1] == block).unwrap()[4];
        for same in table.iter().filter(|r| r[0] == other) {
            let mut copy = row(same);
            copy.path = columns[0].to_owned();
            copy.wire = copy.wire.replacen(base, columns[4], 1);
            out.push(copy);
        }
    }
    out
}

fn is_block(row: &Row) -> bool {
    row.kind.contains("block") && row.name != "(label)"
}

/// A job with one more line in the block of a path, and with what the blocks around it require.
fn job_with(path: &str, line: &str) -> String {
    let mut text = line.to_owned();
    let mut outer = path;
    loop {
        let (rest, name) = outer.rsplit_once('.').unwrap_or(("", outer));
        let label = match outer {
            "job" => " \"j\"",
            "job.group" => " \"g\"",
            "job.group.task.scaling" => " \"cpu\"",
            "job.multiregion.region" => " \"l\"",
            _ => match name {
                "task"
                | "volume"
                | "secret"
                | "action"
                | "device"
                | "port"
                | "reserved_ports"
                | "target"
                | "envoy_gateway_bind_addresses" => " \"l\"",
                _ => "",
            },
        };
        let needs = match name {
            "lifecycle" => ("hook", "hook = \"prestart\"\n"),
            "action" => ("command", "command = \"x\"\n"),
            "scaling" => ("max", "max = 9\n"),
            _ => ("", ""),
        };
        let needed = if text.starts_with(&format!("{} =", needs.0)) { "" } else { needs.1 };
        text = format!("{name}{label} {{\n{needed}{text}\n}}");
        if rest.is_empty() {
            return text + "\n";
        }
        outer = rest;
    }
}

/// What a parse makes of it.
fn parse(text: &str) -> model::Job {
    let inputs = Inputs { strict_vars: true, ..Inputs::default() };
    jobspec::parse(Source { name: "a.hcl", text }, &inputs)
        .unwrap_or_else(|problems| panic!("{text}\n{}", problems.reference_text()))
        .job
}

/// The value at a wire name such as `TaskGroups[].Volumes.Type`.
fn at<'v>(job: &'v Value, wire: &str) -> &'v Value {
    let mut value = job;
    for part in wire.split('.') {
        let (name, list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
        // a map by label
        if matches!(value.get("l"), Some(Value::Object(_))) {
            value = &value["l"];
        }
        value = &value[name];
        if list {
            value = &value[0];
        }
    }
    value
}

/// A value of the type that is nobody's default, as text of the file and on the wire.
fn sample(row: &Row) -> (String, Value) {
    let special: BTreeMap<&str, (&str, Value)> = BTreeMap::from([
        ("job.group.scaling type", ("\"horizontal\"", json!("horizontal"))),
        ("job.group.task.scaling type", ("\"vertical_cpu\"", json!("vertical_cpu"))),
        ("job.multiregion.region meta", ("{ k = \"v\" }", json!({"k": "v"}))),
    ]);
    if let Some((text, wire)) = special.get(format!("{} {}", row.path, row.name).as_str()) {
        return ((*text).to_owned(), wire.clone());
    }
    let truth = row.default != Some(json!(true));
    let (text, wire) = match row.kind.as_str() {
        "string" => ("\"sample\"".to_owned(), json!("sample")),
        "bool" => (truth.to_string(), json!(truth)),
        "duration" => ("\"7s\"".to_owned(), json!(7_000_000_000_i64)),
        "list(string)" => ("[\"a\", \"b\"]".to_owned(), json!(["a", "b"])),
        "list(number)" => ("[7]".to_owned(), json!([7])),
        "map(string)" => ("{ k = \"v\" }".to_owned(), json!({"k": "v"})),
        kind if kind.contains("int") => ("7".to_owned(), json!(7)),
        other => panic!("{}.{} is {other}", row.path, row.name),
    };
    (text, wire)
}

/// Every row of the table (and of bodies that stand in several places, in each).
#[test]
fn every_attribute_and_block_lands_on_its_wire_field() {
    let (mut checked, mut wrong) = (0, Vec::new());
    for row in rows() {
        // a number makes a port a reserved one
        let wire = match (row.path.ends_with("network.port"), row.name.as_str()) {
            (true, "static") => row.wire.replace("DynamicPorts", "ReservedPorts"),
            _ => row.wire.clone(),
        };
        let (text, want) = if row.name == "(label)" {
            let want = if row.path == "job.group" { json!("g") } else { json!("l") };
            (job_with(&row.path, ""), want)
        } else if is_block(&row) {
            let path = format!("{}.{}", row.path, row.name);
            let (line, want) = if row.kind.contains("opaque") || row.kind.contains("string attributes") {
                ("k = \"v\"", json!({"k": "v"}))
            } else if row.kind.contains("list(string) attributes") {
                ("k = [\"v\"]", json!({"k": ["v"]}))
            } else {
                ("", Value::Null)
            };
            (job_with(&path, line), want)
        } else {
            let (text, want) = sample(&row);
            (job_with(&row.path, &format!("{} = {text}", row.name)), want)
        };
        // without a name it would be the task's default identity, which stands elsewhere
        let text = match row.path.as_str() {
            "job.group.task" if row.name == "identity" => text.replace("identity {", "identity {\nname = \"n\""),
            "job.group.task.identity" if row.name != "name" => text.replace("identity {", "identity {\nname = \"n\""),
            _ => text,
        };
        let json = model::parse_shape(&parse(&text));
        // the label is the key; vault and secret of a group are its tasks'
        if wire.ends_with(".Name") && (wire.contains("Volumes.") || wire.contains("BindAddresses.")) {
            let (map, _) = wire.rsplit_once('.').unwrap();
            if at(&json, map).get("l").is_none() {
                wrong.push(format!("{}\n{text}", row.path));
            }
        } else if matches!((row.path.as_str(), row.name.as_str()), ("job" | "job.group", "vault" | "secret" | "task")) {
            continue;
        } else if want.is_null() {
            if at(&json, &wire).is_null() {
                wrong.push(format!("{}.{} is not at {wire}\n{text}", row.path, row.name));
            }
        } else if at(&json, &wire) != &want {
            wrong.push(format!("{}.{} is {} at {wire}\n{text}", row.path, row.name, at(&json, &wire)));
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 500, "{checked}");
}

/// Nothing, and the zero of a type, are the same on the wire.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
    }
}

/// Defaults of bodies that stand in several places, where they are not those of the first.
fn default_here(row: &Row) -> Option<Value> {
    let here = match (row.path.as_str(), row.name.as_str()) {
        ("job.group.task.service", "name") => json!("j-g-l"),
        ("job.group.task.service", "task") => json!("l"),
        ("job.group.task.scaling", "min") => json!(0),
        ("job.group.task.scaling", "type") => json!("vertical_cpu"),
        // a registered service of Consul is known by its identity (val-058)
        ("job.group.service.identity", "name") => json!("consul-service_j-g-"),
        ("job.group.service.identity", "service_name") => json!("j-g"),
        // only the identity of a task has a name and an audience of its own accord
        ("job.group.service.identity" | "job.group.service.connect.sidecar_task.identity", "name" | "aud") => {
            Value::Null
        }
        // a stored job keeps of it what is not the groups'; `what_a_job_says_for_its_groups` has the rest
        ("job.update", "health_check" | "min_healthy_time" | "healthy_deadline" | "progress_deadline") => Value::Null,
        ("job.reschedule" | "job.migrate", _) => Value::Null,
        // every check has it, the service not: `a_service_gives_its_checks_their_restarts`
        ("job.group.service.check_restart", _) => Value::Null,
        _ => return row.default.clone(),
    };
    Some(here)
}

/// Every row with a default: the block is there, the attribute is not.
#[test]
fn every_default_is_the_recorded_one() {
    let (mut checked, mut wrong) = (0, Vec::new());
    let required = ["job.group.task.lifecycle.hook", "job.group.task.action.command"];
    for row in rows().into_iter().filter(|row| !is_block(row) && row.name != "(label)") {
        let Some(want) = default_here(&row) else { continue };
        let full = format!("{}.{}", row.path, row.name);
        if required.contains(&full.as_str()) || full.ends_with("scaling.max") {
            continue;
        }
        let mut job = parse(&job_with(&row.path, ""));
        job.canonicalize();
        let json = serde_json::to_value(&job).unwrap();
        let wire = row.wire.replace("Tasks[].Identities[]", "Tasks[].Identity");
        let got = at(&json, &wire);
        if got != &want && !(is_nothing(got) && is_nothing(&want)) {
            wrong.push(format!("{full}: {got} instead of {want}"));
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 400, "{checked}");
}

fn stored(text: &str) -> Value {
    let mut job = parse(text);
    job.canonicalize();
    serde_json::to_value(&job).unwrap()
}

fn of_type(kind: &str, inner: &str) -> Value {
    let text = format!("job \"j\" {{\n type = \"{kind}\"\n group \"g\" {{\n{inner}\n task \"t\" {{}}\n}}\n}}\n");
    stored(&text)["TaskGroups"][0].clone()
}

const SECOND: i64 = 1_000_000_000;

#[test]
fn each_type_of_job_has_its_own_policies() {
    for (kind, attempts, interval) in
        [("service", 2, 1800), ("system", 2, 1800), ("batch", 3, 86_400), ("sysbatch", 3, 86_400)]
    {
        let group = of_type(kind, "");
        let restart = json!({"Attempts": attempts, "Interval": interval * SECOND, "Delay": 15 * SECOND, "Mode": "fail",
            "RenderTemplates": false});
        assert_eq!(group["RestartPolicy"], restart, "{kind}");
        // a task without its own has its group's
        assert_eq!(group["Tasks"][0]["RestartPolicy"], restart, "{kind}");
        let ends = kind.ends_with("batch");
        assert_eq!(group["Update"].is_null(), ends, "{kind}");
        assert_eq!(group["Migrate"].is_null(), kind != "service", "{kind}");
        assert_eq!(group["ReschedulePolicy"].is_null(), kind.starts_with("sys"), "{kind}");
    }
    assert_eq!(
        of_type("batch", "")["ReschedulePolicy"],
        json!({"Attempts": 1, "Interval": 86_400 * SECOND, "Delay": 5 * SECOND, "DelayFunction": "constant",
            "MaxDelay": 0, "Unlimited": false})
    );
    assert_eq!(
        of_type("service", "")["Migrate"],
        json!({"MaxParallel": 1, "HealthCheck": "checks", "MinHealthyTime": 10 * SECOND, "HealthyDeadline": 300 * SECOND})
    );
}

#[test]
fn what_a_job_says_for_its_groups_is_the_groups() {
    let text = "job \"j\" {\n update {\n canary = 2\n max_parallel = 3\n}\n reschedule {\n delay = \"40s\"\n}\n migrate {\n max_parallel = 4\n}\n group \"a\" {}\n group \"b\" {\n update {\n canary = 1\n}\n}\n}\n";
    let job = stored(text);
    let of = |group: usize, field: &str| job["TaskGroups"][group][field].clone();
    assert_eq!((of(0, "Update")["Canary"].clone(), of(0, "Update")["MaxParallel"].clone()), (json!(2), json!(3)));
    assert_eq!((of(1, "Update")["Canary"].clone(), of(1, "Update")["MaxParallel"].clone()), (json!(1), json!(3)));
    for group in 0..2 {
        assert_eq!(of(group, "ReschedulePolicy")["Delay"], json!(40 * SECOND));
        assert_eq!(of(group, "Migrate")["MaxParallel"], json!(4));
        assert_eq!(of(group, "Migrate")["HealthCheck"], json!("checks"));
    }
    assert_eq!(job["Update"]["MaxParallel"], json!(3));
}

#[test]
fn a_service_gives_its_checks_their_restarts() {
    let group = of_type(
        "service",
        "service {\n check_restart {\n limit = 3\n}\n on_update = \"ignore\"\n check {}\n check {\n check_restart {\n grace = \"9s\"\n}\n}\n}",
    );
    let checks = &group["Services"][0]["Checks"];
    assert_eq!(checks[0]["CheckRestart"], json!({"Limit": 3, "Grace": SECOND, "IgnoreWarnings": false}));
    assert_eq!(checks[1]["CheckRestart"], json!({"Limit": 3, "Grace": 9 * SECOND, "IgnoreWarnings": false}));
    assert_eq!(checks[0]["OnUpdate"], "ignore");
}

#[test]
fn some_defaults_follow_from_what_else_is_said() {
    let task = |inner: &str| of_type("service", &format!("task \"x\" {{\n{inner}\n}}"))["Tasks"][0].clone();
    assert_eq!(task("resources {\n cores = 2\n}")["Resources"]["CPU"], 0);
    let artifact = task("artifact {\n source = \"https://a/b.tgz?x=1\"\n mode = \"file\"\n}");
    assert_eq!(artifact["Artifacts"][0]["RelativeDest"], "local/b.tgz");
    let template = task("template {\n change_mode = \"signal\"\n}");
    assert_eq!(template["Templates"][0]["ChangeSignal"], "SIGHUP");
    assert_eq!(of_type("service", "scaling {\n min = 3\n max = 9\n}")["Count"], 3);
    assert_eq!(of_type("service", "count = 5\n scaling {\n max = 9\n}")["Scaling"]["Min"], 5);
}
