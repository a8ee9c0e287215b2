//! Examples made from schemas: a value that the schema allows, with words that fit the field's name.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Deeper than this, objects have only what they must have.
const DEPTH_MAX: usize = 4;

/// Values by the name of a field, a parameter or a type.
const WORDS: &[(&[&str], &str)] = &[
    (&["JobId", "JobID", "ParentID", "job_id", "job", "Job"], "hello"),
    (&["ID", "id", "AllocId", "AllocID", "alloc_id", "alloc"], "5d8a1f0e-9b3c-4f27-8a61-3c2e7d9b0f14"),
    (&["NodeId", "NodeID", "node_id", "node", "NodeName"], "2e62632f-6f0b-4b53-a1b4-0c51d1c7a0de"),
    (
        &["EvalId", "EvalID", "eval_id", "BlockedEval", "NextEval", "PreviousEval"],
        "9ad752f5-8165-4aff-9ffd-cf182115407d",
    ),
    (&["DeploymentId", "DeploymentID", "deployment_id"], "c7a5f2d1-0e84-4b6f-9d3a-51b8e6f70a92"),
    (&["key_id", "KeyID", "kid"], "0f4c1a55-2b6e-4d0b-8a5e-1b4b7f9a2c31"),
    (&["NamespaceName", "Namespace", "namespace", "NodePool", "name", "node_pool"], "default"),
    (&["Name", "TaskGroup", "Group", "TaskName", "Task", "task"], "web"),
    (&["Region", "region", "ServerRegion"], "global"),
    (&["Datacenter", "Datacenters", "ServerDC"], "dc1"),
    (&["Type", "JobType"], "service"),
    (&["Status", "ClientStatus", "SerfStatus"], "running"),
    (&["DesiredStatus"], "run"),
    (&["Driver"], "raw_exec"),
    (&["Address", "Addr", "HTTPAddr", "RPCAdvertiseAddr", "Leader", "LeaderRPCAddr", "Advertise"], "127.0.0.1:4647"),
    (&["IP", "HostIP"], "127.0.0.1"),
    (&["Signal", "KillSignal"], "SIGTERM"),
    (&["path", "Path", "File"], "alloc/logs/web.stdout.0"),
    (&["type"], "stdout"),
    (&["Context"], "jobs"),
    (&["Prefix", "Text"], "he"),
    (&["TriggeredBy"], "job-register"),
    (&["JobHCL"], "job \"hello\" {}\n"),
    (&["SchedulerAlgorithm"], "binpack"),
    (&["Eligibility", "SchedulingEligibility"], "eligible"),
    (&["Message", "message", "error", "Error"], "what happened, in a sentence"),
    (&["Version"], "0.1.0"),
    (&["Key"], "kZyFABeAmc64UMTrm9XuKA=="),
];

/// Makes examples, and keeps those that operations share.
pub struct Examples {
    schemas: Value,
    /// By type; these win.
    given: BTreeMap<String, Value>,
    shared: Map<String, Value>,
}

impl Examples {
    pub fn new(schemas: &Value, given: BTreeMap<String, Value>) -> Self {
        Self { schemas: schemas.clone(), given, shared: Map::new() }
    }

    /// A value for the schema, met under that name.
    pub fn of(&self, schema: &Value, name: &str) -> Value {
        self.value(schema, name, &mut Vec::new())
    }

    /// Keeps an example of the schema among those that are shared; its name.
    pub fn share(&mut self, schema: &Value) -> String {
        let name = shared_name(schema);
        if !self.shared.contains_key(&name) {
            let value = self.of(schema, "");
            self.shared.insert(name.clone(), json!({"value": value}));
        }
        name
    }

    pub fn into_shared(self) -> Map<String, Value> {
        self.shared
    }

    fn value<'a>(&'a self, schema: &'a Value, name: &str, within: &mut Vec<&'a str>) -> Value {
        if let Some(given) = schema.get("example").or_else(|| schema.pointer("/enum/0")) {
            return given.clone();
        }
        if let Some(kind) = referred(schema) {
            return self.referred(kind, name, within);
        }
        for any in ["oneOf", "anyOf"] {
            if let Some(first) = schema[any].as_array().and_then(|all| all.iter().find(|s| s["type"] != "null")) {
                return self.value(first, name, within);
            }
        }
        if let Some(all) = schema["allOf"].as_array() {
            let mut merged = Map::new();
            for part in all {
                if let Value::Object(part) = self.value(part, name, within) {
                    merged.extend(part);
                }
            }
            return Value::Object(merged);
        }
        match type_of(schema) {
            "object" => self.object(schema, within),
            "array" => json!([self.value(&schema["items"], name, within)]),
            "string" => json!(text(schema, name)),
            "boolean" => json!(false),
            "integer" => number(schema, 42),
            "number" => json!(1.5),
            _ => json!({}),
        }
    }

    fn referred<'a>(&'a self, kind: &'a str, name: &str, within: &mut Vec<&'a str>) -> Value {
        if let Some(given) = self.given.get(kind) {
            return given.clone();
        }
        let schema = &self.schemas[kind];
        if within.contains(&kind) {
            return json!({});
        }
        // A field's own name says more than that of a string's type, but not of an id's.
        let simple = type_of(schema) != "object";
        let name = if simple && WORDS.iter().any(|(names, _)| names.contains(&kind)) { kind } else { name };
        within.push(kind);
        let value = self.value(schema, name, within);
        within.pop();
        value
    }

    fn object<'a>(&'a self, schema: &'a Value, within: &mut Vec<&'a str>) -> Value {
        let mut made = Map::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let must = schema["required"].as_array().is_some_and(|all| all.contains(&json!(name)));
            if must
                || self.is_given(property)
                || !(may_be_absent(property) || within.len() >= DEPTH_MAX || self.recurs(property, within))
            {
                made.insert(name.clone(), self.value(property, name, within));
            }
        }
        if made.is_empty() && schema["additionalProperties"].is_object() && within.len() < DEPTH_MAX {
            let values = &schema["additionalProperties"];
            if !self.recurs(values, within) {
                made.insert("web".to_owned(), self.value(values, "", within));
            }
        }
        Value::Object(made)
    }

    fn is_given(&self, schema: &Value) -> bool {
        let parts = schema["oneOf"].as_array().into_iter().flatten();
        parts.chain([schema]).filter_map(referred).any(|kind| self.given.contains_key(kind))
    }

    /// Whether the schema is one that is being made already, or an object when deep: those are left out.
    fn recurs(&self, schema: &Value, within: &[&str]) -> bool {
        let text = schema.to_string();
        let met = within.iter().any(|kind| text.contains(&format!("schemas/{kind}\"")));
        met || (within.len() >= 2 && text.contains("$ref") && self.leads_to_object(schema))
    }

    fn leads_to_object(&self, schema: &Value) -> bool {
        if let Some(kind) = referred(schema) {
            return self.schemas[kind]["properties"].is_object();
        }
        let inner = ["oneOf", "anyOf", "allOf"].iter().flat_map(|key| schema[*key].as_array().into_iter().flatten());
        inner
            .chain([&schema["items"], &schema["additionalProperties"]])
            .any(|s| s.is_object() && self.leads_to_object(s))
    }
}

/// The name of the type that a schema refers to.
pub fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// Whether it is an object or a map that may be `null`: most are, most of the time.
fn may_be_absent(schema: &Value) -> bool {
    let of_null = |all: &Value| all.as_array().is_some_and(|all| all.iter().any(|s| s["type"] == "null"));
    let map =
        schema["type"].as_array().is_some_and(|all| all.contains(&json!("object")) && all.contains(&json!("null")));
    map || of_null(&schema["oneOf"]) || of_null(&schema["anyOf"])
}

/// The type beside `null`.
fn type_of(schema: &Value) -> &str {
    match &schema["type"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).find(|t| *t != "null").unwrap_or("null"),
        Value::String(one) => one,
        _ => "",
    }
}

fn text(schema: &Value, name: &str) -> &'static str {
    match schema["format"].as_str() {
        Some("date-time") => return "2026-11-21T18:00:00Z",
        Some("binary") => return "…",
        Some("byte") => return "aGVsbG8K",
        _ => {}
    }
    WORDS.iter().find(|(names, _)| names.contains(&name)).map_or("", |(_, word)| *word)
}

fn number(schema: &Value, wished: i64) -> Value {
    let bound = |key: &str| schema[key].as_i64();
    let low = bound("minimum").unwrap_or(i64::MIN);
    json!(wished.clamp(low, bound("maximum").unwrap_or(i64::MAX).max(low)))
}

fn shared_name(schema: &Value) -> String {
    let mut name = String::new();
    collect(schema, &mut name);
    if name.is_empty() { format!("Plain{}", type_of(schema)) } else { name }
}

fn collect(schema: &Value, name: &mut String) {
    if let Some(kind) = referred(schema) {
        name.push_str(kind);
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        schema[key].as_array().into_iter().flatten().for_each(|s| collect(s, name));
    }
    for (key, suffix) in [("items", "List"), ("additionalProperties", "Map")] {
        if schema[key].is_object() {
            collect(&schema[key], name);
            if name.is_empty() {
                name.push_str(type_of(&schema[key]));
            }
            name.push_str(suffix);
        }
    }
}
