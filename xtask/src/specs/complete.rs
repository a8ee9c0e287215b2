//! What belongs to every operation of a document, and is therefore written once, here: answers of the shell
//! that carries the handlers (limits, a cluster without a leader), and examples.
//!
//! A handler's own words win: only what is missing is added. An example is made from the schema, with values by
//! the field's name, and shared: `components/examples` has one for each type that is sent or answered, so that it
//! cannot drift from the type.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::example::{Examples, referred};

/// An answer that any operation may give: status, words.
type Common = (&'static str, &'static str);

const PUBLIC: &[Common] = &[
    ("400", "A parameter, a header or the body cannot be understood"),
    ("429", "A limit is reached; `Retry-After` says when to ask again"),
    ("500", "The cluster has no leader, or something failed; the log says what, under the request's id"),
    ("503", "This gateway cannot answer now; ask again, or another one"),
];
const PUBLIC_WITH_BODY: &[Common] = &[("413", "The body is too large")];

const INTERNAL: &[Common] = &[
    ("400", "A parameter or the body cannot be understood"),
    ("403", "The caller's certificate does not allow this"),
    ("429", "A limit is reached"),
    ("500", "Something failed; the log says what, under the request's id"),
    ("503", "Not able to answer now"),
];
const INTERNAL_WITH_BODY: &[Common] = &[("413", "The body is too large")];

/// Adds what is missing, and takes away what is not so.
pub fn complete(document: &mut Value, service: &str) {
    if let Some(schemas) = document.pointer_mut("/components/schemas") {
        forget_zeros(schemas);
    }
    let mut examples = Examples::new(&document["components"]["schemas"], given(document));
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths.iter_mut() {
        let public = service == "gateway" && !path.starts_with("/v1/internal");
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            answers(operation, public);
            parameters(operation, &mut examples);
            bodies(operation, &mut examples);
        }
    }
    let shared = examples.into_shared();
    if !shared.is_empty() {
        document["components"]["examples"] = Value::Object(shared);
    }
}

/// What is read where a field is absent is Go's zero, and no default of the API: a job's are filled in by rules of
/// their own. Generated clients would send such a value, and Go's cannot write one that is an object.
fn forget_zeros(schema: &mut Value) {
    for (_, property) in schema.as_object_mut().into_iter().flatten() {
        let zero = match property.get("default") {
            Some(Value::String(text)) => text.is_empty() || text.starts_with("0001-01-01T"),
            // A span that is a number in here and text on the wire.
            Some(Value::Number(number)) => number.as_f64() == Some(0.0) || property["type"] == "string",
            Some(Value::Bool(set)) => !set,
            Some(_) => true,
            None => false,
        };
        if let (true, Value::Object(property)) = (zero, &mut *property) {
            property.remove("default");
        }
        forget_zeros(property);
    }
}

/// Examples that handlers carry, by type: what serves one operation serves the others that take the same.
fn given(document: &Value) -> BTreeMap<String, Value> {
    let mut given = BTreeMap::new();
    let items = document["paths"].as_object().into_iter().flat_map(Map::values);
    for operation in items.filter_map(Value::as_object).flat_map(Map::values) {
        let answers = operation["responses"].as_object().into_iter().flatten().filter(|(s, _)| s.starts_with('2'));
        for carrier in answers.map(|(_, answer)| answer).chain(operation.get("requestBody")) {
            let Some(media) = carrier.pointer("/content/application~1json") else { continue };
            if let (Some(kind), Some(example)) = (referred(&media["schema"]), media.get("example")) {
                given.entry(kind.to_owned()).or_insert_with(|| example.clone());
            }
        }
    }
    if let Some(job) = given.get("JobRegisterRequest").map(|request| request["Job"].clone()) {
        given.insert("Job".to_owned(), job);
    }
    given
}

fn answers(operation: &mut Value, public: bool) {
    let has_body = operation.get("requestBody").is_some();
    let (common, with_body) = if public { (PUBLIC, PUBLIC_WITH_BODY) } else { (INTERNAL, INTERNAL_WITH_BODY) };
    let content = if public {
        json!({"text/plain": {"schema": {"type": "string"}}})
    } else {
        json!({"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}})
    };
    let Some(answers) = operation["responses"].as_object_mut() else { return };
    for (status, words) in common.iter().chain(with_body.iter().filter(|_| has_body)) {
        if !answers.contains_key(*status) {
            let mut answer = json!({"description": words, "content": content});
            if public && *status == "500" {
                answer["content"]["text/plain"]["example"] = json!("No cluster leader");
            }
            answers.insert((*status).to_owned(), answer);
        }
    }
}

/// Parameters that must be there need one: without it nobody can try the operation.
fn parameters(operation: &mut Value, examples: &mut Examples) {
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        // Of the others only those that change nothing: who tries an operation in a browser sends what is shown.
        let harmless = parameter["name"] == "region" || parameter["name"] == "namespace";
        if parameter.get("example").is_some() || !(harmless || parameter["required"] == true) {
            continue;
        }
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        parameter["example"] = examples.of(&parameter["schema"], &name);
    }
}

fn bodies(operation: &mut Value, examples: &mut Examples) {
    if let Some(content) = operation.pointer_mut("/requestBody/content") {
        content_examples(content, examples);
    }
    for (status, answer) in operation["responses"].as_object_mut().into_iter().flatten() {
        let good = status.starts_with('2');
        let Some(content) = answer.get_mut("content") else { continue };
        if good || content.get("application/json").is_some() {
            content_examples(content, examples);
        }
    }
}

fn content_examples(content: &mut Value, examples: &mut Examples) {
    for (kind, media) in content.as_object_mut().into_iter().flatten() {
        if matches!(kind.as_str(), "application/octet-stream" | "application/x-gzip" | "*/*") {
            // Raw bytes; not what a list of numbers would be as JSON.
            media["schema"] = json!({"type": "string", "format": "binary"});
        }
        if media.get("example").is_some() || media.get("examples").is_some() || media.get("schema").is_none() {
            continue;
        }
        if kind.ends_with("json") {
            let name = examples.share(&media["schema"]);
            media["examples"] = json!({"one": {"$ref": format!("#/components/examples/{name}")}});
        } else {
            media["example"] = json!("…");
        }
    }
}
