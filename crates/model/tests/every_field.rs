//! A job with every field of the API set: what comes in as JSON goes out as JSON, nothing is lost.
//!
//! data/types.json is the fields of Job and of all it contains, by their names in the API's types.
#![allow(clippy::unwrap_used)]

use model::{Job, parse_shape};
use serde_json::{Map, Value, json};

fn types() -> Map<String, Value> {
    serde_json::from_str(include_str!("data/types.json")).unwrap()
}

/// A value of a type that is not what the type is without being set. `within` ends what contains itself.
fn sample(types: &Map<String, Value>, of: &str, field: &str, within: &mut Vec<String>, count: &mut usize) -> Value {
    if let Some(inner) = of.strip_prefix('*') {
        return sample(types, inner, field, within, count);
    }
    if of == "[]byte" {
        return json!("aGVsbG8=");
    }
    if let Some(inner) = of.strip_prefix("[]") {
        return json!([sample(types, inner, field, within, count)]);
    }
    if let Some(inner) = of.strip_prefix("map[string]") {
        return json!({ "k": sample(types, inner, field, within, count) });
    }
    match of {
        "string" | "CSIPluginType" | "ReconcileOption" => json!(format!("of {field}")),
        "bool" => json!(true),
        "any" => json!({"deep": [1, {"x": null}, "y", 1.5, true]}),
        "int8" | "uint8" => json!(7),
        "uint16" => json!(65_535),
        "uint32" => json!(4_294_967_295_u32),
        "int" | "int64" | "uint64" | "time.Duration" => json!(9_007_199_254_740_993_i64),
        named => {
            let fields = types.get(named).unwrap_or_else(|| panic!("{named} is no type")).as_object().unwrap();
            if within.iter().filter(|outer| *outer == named).count() > 1 {
                return Value::Null;
            }
            within.push(named.to_owned());
            let mut out = Map::new();
            for (name, kind) in fields {
                *count += 1;
                out.insert(name.clone(), sample(types, kind.as_str().unwrap(), name, within, count));
            }
            within.pop();
            Value::Object(out)
        }
    }
}

fn lost(path: &str, sent: &Value, got: &Value, out: &mut Vec<String>) {
    match (sent, got) {
        (Value::Object(sent), Value::Object(got)) => {
            for (name, value) in sent {
                lost(&format!("{path}.{name}"), value, got.get(name).unwrap_or(&Value::Null), out);
            }
            for name in got.keys().filter(|name| !sent.contains_key(*name)) {
                out.push(format!("{path}.{name} was not there"));
            }
        }
        (Value::Array(sent), Value::Array(got)) if sent.len() == got.len() => {
            for (i, (sent, got)) in sent.iter().zip(got).enumerate() {
                lost(&format!("{path}[{i}]"), sent, got, out);
            }
        }
        (sent, got) if sent == got => {}
        (sent, got) => out.push(format!("{path}: {sent} became {got}")),
    }
}

#[test]
fn no_field_of_a_job_or_of_what_it_contains_is_lost() {
    let types = types();
    let mut count = 0;
    let sent = sample(&types, "Job", "Job", &mut Vec::new(), &mut count);
    assert!(count > 600, "{count}");
    let job: Job = serde_json::from_value(sent.clone()).unwrap();
    let mut out = Vec::new();
    lost("Job", &sent, &parse_shape(&job), &mut out);
    assert_eq!(out, Vec::<String>::new(), "{} of {count}", out.len());
    // again from the stored form, which is what the state keeps
    let again: Job = serde_json::from_value(serde_json::to_value(&job).unwrap()).unwrap();
    assert_eq!(job, again);
}
