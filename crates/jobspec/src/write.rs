//! A job → a job file: what `parse` does, backwards.
//!
//! The schema's tables say for each wire field which attribute or block it is; a few bodies need the steps
//! of `normalize` undone. What is unset, or the zero that a field has when nobody says it, is left out, so
//! that the text holds what was said. Parsing the text gives the job again; what no job file can say (what
//! the cluster writes, an odd key in a driver's configuration) comes back as a list of notes.
//!
//! A `${…}` that a node resolves stays one; any other is escaped, so that no text is read as an expression.

use serde_json::{Map, Value as Json};

use crate::schema::{Body, Field, Hidden, Kind, Shape, Unset, job};

/// Roots of what nodes resolve at run time.
const RUN_TIME: [&str; 6] = ["attr.", "node.", "meta.", "env[", "device.", "secret."];

/// A job file, and what of the job is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub text: String,
    pub notes: Vec<String>,
}

/// Writes a job in the wire's form, parsed or stored, as a job file.
pub fn write(job: &Json) -> Written {
    let mut out = Writer::default();
    let empty = Map::new();
    let fields = job.as_object().unwrap_or(&empty);
    let id = text(fields, "ID").or(text(fields, "Name")).unwrap_or("job");
    out.open("job", Some(id));
    let mut fields = fields.clone();
    fields.remove("ID");
    if fields.get("Name").and_then(Json::as_str) == Some(id) {
        fields.remove("Name");
    }
    out.body(&job::JOB, &fields, "job");
    out.close();
    let text = crate::format("job", &out.text).unwrap_or(out.text);
    Written { text, notes: out.notes }
}

fn text<'j>(fields: &'j Map<String, Json>, name: &str) -> Option<&'j str> {
    fields.get(name).and_then(Json::as_str).filter(|text| !text.is_empty())
}

#[derive(Default)]
struct Writer {
    text: String,
    notes: Vec<String>,
}

impl Writer {
    fn open(&mut self, name: &str, label: Option<&str>) {
        // Blocks of some length stand apart.
        if !self.text.is_empty() && !self.text.ends_with("{\n") {
            self.text.push('\n');
        }
        self.text.push_str(name);
        if let Some(label) = label {
            self.text.push_str(&format!(" {}", quoted_label(label)));
        }
        self.text.push_str(" {\n");
    }

    fn close(&mut self) {
        self.text.push_str("}\n");
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.text.push_str(&format!("{name} = {value}\n"));
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn body(&mut self, schema: &'static Body, fields: &Map<String, Json>, place: &str) {
        let fields = undone(schema.kind, fields.clone());
        // Attributes first: what they say of the block is read before its parts.
        for field in schema.fields.iter().filter(|field| field.is_attribute() && !field.is_block()) {
            if let Some(value) = fields.get(field.wire).filter(|value| is_said(field, value)) {
                match literal(field, value) {
                    Some(literal) => self.attribute(field.name, &literal),
                    None => self.note(format!("{place}: {} {value} cannot be written", field.wire)),
                }
            }
        }
        for field in schema.fields.iter().filter(|field| field.is_block()) {
            if let Some(value) = fields.get(field.wire) {
                self.block(schema, field, value, place);
            }
        }
        for (name, value) in &fields {
            let known = schema.fields.iter().any(|field| field.wire == name);
            let written_by_cluster = CLUSTER.contains(&name.as_str()) || is_nothing(value);
            let hidden = schema.hidden.iter().any(|(wire, hidden)| wire == name && is_unset(*hidden, value));
            if !known && !hidden && !written_by_cluster {
                self.note(format!("{place}: {name} has no place in a job file"));
            }
        }
    }

    fn block(&mut self, schema: &'static Body, field: &'static Field, value: &Json, place: &str) {
        let inner_place = |label: &str| {
            if label.is_empty() {
                format!("{place}.{}", field.name)
            } else {
                format!("{place}.{} {label:?}", field.name)
            }
        };
        match (field.shape, value) {
            (Shape::One(inner), Json::Object(fields)) => {
                self.labelled(inner, field.name, fields, &inner_place);
            }
            (Shape::Many(inner), Json::Array(items)) => {
                for fields in items.iter().filter_map(Json::as_object) {
                    self.labelled(inner, field.name, fields, &inner_place);
                }
            }
            (Shape::ByLabel(inner), Json::Object(items)) => {
                for (label, item) in items {
                    if let Some(fields) = item.as_object() {
                        self.open(field.name, Some(label));
                        let mut fields = fields.clone();
                        inner.label().map(|wire| fields.remove(wire));
                        self.body(inner, &fields, &inner_place(label));
                        self.close();
                    }
                }
            }
            (Shape::TextMap | Shape::TextListMap, Json::Object(items)) if !items.is_empty() => {
                if items.keys().all(|key| is_name(key)) && schema.kind != Kind::Network {
                    self.open(field.name, None);
                    for (key, value) in items {
                        self.attribute(key, &expression(value));
                    }
                    self.close();
                } else {
                    self.attribute(field.name, &expression(value));
                }
            }
            (Shape::Opaque, Json::Object(items)) => {
                self.open(field.name, None);
                self.opaque(items, &inner_place(""));
                self.close();
            }
            _ => {}
        }
    }

    fn labelled(
        &mut self,
        schema: &'static Body,
        name: &str,
        fields: &Map<String, Json>,
        place: &dyn Fn(&str) -> String,
    ) {
        let mut fields = fields.clone();
        let label = schema.label().map(|wire| {
            let given = fields.remove(wire).and_then(|label| label.as_str().map(str::to_owned));
            // a scaling policy of a task is called by what it scales
            let kind = fields.get("Type").and_then(Json::as_str).unwrap_or_default();
            given.unwrap_or_else(|| kind.trim_start_matches("vertical_").to_owned())
        });
        self.open(name, label.as_deref());
        self.body(schema, &fields, &place(label.as_deref().unwrap_or("")));
        self.close();
    }

    /// A body without a schema. Lists of maps are nested blocks; a lone map stands in parentheses, because
    /// one that is written out would become a list of one.
    fn opaque(&mut self, items: &Map<String, Json>, place: &str) {
        for (name, value) in items {
            if !is_name(name) {
                self.note(format!("{place}: the key {name:?} is no name, and is left out"));
                continue;
            }
            let nested = match value {
                Json::Array(all) if !all.is_empty() => all.iter().map(Json::as_object).collect::<Option<Vec<_>>>(),
                _ => None,
            };
            match (nested, value) {
                (Some(blocks), _) if blocks.iter().all(|block| block.keys().all(|key| is_name(key))) => {
                    for block in blocks {
                        self.open(name, None);
                        self.opaque(block, place);
                        self.close();
                    }
                }
                (_, Json::Object(_)) => self.attribute(name, &format!("({})", expression(value))),
                _ => self.attribute(name, &expression(value)),
            }
        }
    }
}

/// What the cluster or a client's library writes beside what an author says.
const CLUSTER: [&str; 14] = [
    "Status",
    "StatusDescription",
    "Stable",
    "Version",
    "SubmitTime",
    "CreateIndex",
    "ModifyIndex",
    "JobModifyIndex",
    "VersionTag",
    "Target",
    "ID",
    "Namespace",
    "SpecType",
    "Name",
];

/// Takes back what `normalize` does.
fn undone(kind: Kind, mut fields: Map<String, Json>) -> Map<String, Json> {
    match kind {
        Kind::Network => {
            let ports: Vec<Json> = ["ReservedPorts", "DynamicPorts"]
                .iter()
                .filter_map(|name| fields.remove(*name))
                .flat_map(|ports| match ports {
                    Json::Array(ports) => ports,
                    _ => Vec::new(),
                })
                .collect();
            fields.insert("@port".to_owned(), Json::Array(ports));
        }
        Kind::Task => {
            // The default identity, unless it is only what every task has.
            if let Some(Json::Object(mut own)) = fields.remove("Identity") {
                own.remove("Audience");
                if own.iter().any(|(name, value)| name != "Name" && !is_nothing(value)) {
                    let mut all = vec![Json::Object(own)];
                    if let Some(Json::Array(others)) = fields.remove("Identities") {
                        all.extend(others);
                    }
                    fields.insert("Identities".to_owned(), Json::Array(all));
                }
            }
        }
        Kind::Constraint | Kind::Affinity if fields.get("Operand").is_some_and(|operand| operand == "=") => {
            fields.remove("Operand");
        }
        Kind::GroupScaling | Kind::TaskScaling => {
            fields.remove("Type");
        }
        _ => {}
    }
    fields
}

fn is_nothing(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(items) => items.is_empty(),
        Json::Bool(true) => false,
    }
}

fn is_unset(hidden: Hidden, value: &Json) -> bool {
    match hidden {
        Hidden::Null => value.is_null(),
        Hidden::False | Hidden::Empty | Hidden::Nought => is_nothing(value),
    }
}

/// Whether a value says something that leaving it out would not.
fn is_said(field: &Field, value: &Json) -> bool {
    match field.shape {
        Shape::Text(Unset::Zero)
        | Shape::Bool(Unset::Zero)
        | Shape::Int(_, Unset::Zero)
        | Shape::Duration(Unset::Zero) => field.required || !is_nothing(value),
        _ => !value.is_null(),
    }
}

fn literal(field: &Field, value: &Json) -> Option<String> {
    match (field.shape, value) {
        (Shape::Duration(_), value) => value.as_i64().map(duration),
        (_, Json::Object(_)) if !matches!(field.shape, Shape::TextMap) => None,
        _ => Some(expression(value)),
    }
}

fn duration(nanos: i64) -> String {
    for (unit, of) in [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)] {
        if nanos != 0 && nanos % of == 0 {
            return format!("\"{}{unit}\"", nanos / of);
        }
    }
    nanos.to_string()
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

fn expression(value: &Json) -> String {
    match value {
        Json::String(text) => string(text),
        Json::Array(items) if items.iter().any(|item| item.is_object() || item.as_str().is_some_and(is_long)) => {
            let items: Vec<String> = items.iter().map(|item| format!("{},\n", expression(item))).collect();
            format!("[\n{}]", items.concat())
        }
        Json::Array(items) => format!("[{}]", items.iter().map(expression).collect::<Vec<_>>().join(", ")),
        Json::Object(items) if items.is_empty() => "{}".to_owned(),
        Json::Object(items) => {
            let key = |key: &str| if is_name(key) { key.to_owned() } else { quoted(key) };
            let items: Vec<String> =
                items.iter().map(|(name, value)| format!("{} = {}\n", key(name), expression(value))).collect();
            format!("{{\n{}}}", items.concat())
        }
        other => other.to_string(),
    }
}

fn is_long(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
}

/// Text of several lines is a heredoc where it can be one.
fn string(text: &str) -> String {
    let plain = !text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t'));
    if !is_long(text) || !text.ends_with('\n') || !plain {
        return quoted(text);
    }
    let mark = (0..).map(|n| if n == 0 { "EOT".to_owned() } else { format!("EOT{n}") });
    let mut free = mark.filter(|mark| !text.lines().any(|line| line.trim_start().starts_with(mark.as_str())));
    let mark = free.next().unwrap_or_default();
    format!("<<{mark}\n{}{mark}\n", escaped_templates(text)).trim_end().to_owned()
}

fn quoted_label(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in escaped_templates(text).chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' => out.push_str("\\\""),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    // What is inside of an interpolation is no text: its quotes stand as they are.
    out.push('"');
    unescape_inside(&out)
}

/// Puts back the quotes of `${env["X"]}`.
fn unescape_inside(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${env[\\\"") {
        let end = rest[at..].find('}').map_or(rest.len(), |end| at + end);
        out.push_str(&rest[..at]);
        if at > 0 && rest[..at].ends_with('$') {
            out.push_str(&rest[at..end]);
        } else {
            out.push_str(&rest[at..end].replace("\\\"", "\""));
        }
        rest = &rest[end..];
    }
    out + rest
}

/// Doubles the sign of each `${` and `%{` that is not left to the node.
fn escaped_templates(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${").into_iter().chain(rest.find("%{")).min() {
        out.push_str(&rest[..at]);
        let sequence = &rest[at..];
        if !is_run_time(sequence) || rest[..at].ends_with(['$', '%']) {
            out.push_str(&sequence[..1]);
        }
        out.push_str(&sequence[..2]);
        rest = &sequence[2..];
    }
    out + rest
}

fn is_run_time(sequence: &str) -> bool {
    let Some(inner) = sequence.strip_prefix("${").and_then(|rest| rest.split_once('}')).map(|(inner, _)| inner) else {
        return false;
    };
    let known = RUN_TIME.iter().any(|root| inner.starts_with(root))
        || inner.starts_with("NOMAD_")
        || matches!(inner, "JOB" | "TASKGROUP" | "TASK" | "BASE");
    // Names that begin with a letter, steps by dots, and one quoted name in brackets.
    let quoted = inner.strip_prefix("env[\"").and_then(|rest| rest.strip_suffix("\"]"));
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    known
        && match quoted {
            Some(name) => plain(name) && !name.is_empty(),
            None => inner.split('.').enumerate().all(|(i, part)| {
                let starts = part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                !part.is_empty() && plain(part) && (starts || i > 0 && part.bytes().all(|b| b.is_ascii_digit()))
            }),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Inputs, Source};
    use serde_json::json;

    fn parse(text: &str) -> Json {
        crate::parse(Source { name: "a.hcl", text }, &Inputs::default())
            .unwrap_or_else(|problems| panic!("{text}\n{}", problems.reference_text()))
            .json
    }

    #[test]
    fn a_sample_that_is_written_and_parsed_is_the_same_job() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/samples");
        let mut checked = 0;
        for entry in std::fs::read_dir(folder).unwrap().flatten().filter(|e| e.path().is_file()) {
            let job = parse(&std::fs::read_to_string(entry.path()).unwrap());
            let written = write(&job);
            assert_eq!(parse(&written.text), job, "{}\n{}", entry.path().display(), written.text);
            assert_eq!(written.notes, Vec::<String>::new(), "{}", entry.path().display());
            assert_eq!(crate::format("a", &written.text).unwrap(), written.text);
            checked += 1;
        }
        assert_eq!(checked, 40);
    }

    #[test]
    fn text_stays_text_whatever_it_looks_like() {
        for text in [
            "${attr.kernel.name} ${NOMAD_PORT_http} ${env[\"HOME\"]} ${meta.a-b.0}",
            "${var.x} ${upper(\"a\")} ${local.y} ${unknown} ${} ${",
            "%{ if true }x%{ endif } $${attr.x} $$${x}",
            "a\"b\\c\td\u{7}",
            "two\nlines\n",
            "two\nlines",
            "EOT\n${NOMAD_DC} \\n \"quoted\" $${x} ${var.x}\nEOT1\n",
            "ends in $",
            "{{ key \"x\" }}\n%{ for }\n",
        ] {
            let job = json!({"ID": "a", "Meta": {"v": text, "k.dotted": text}});
            let written = write(&job);
            assert_eq!(parse(&written.text)["Meta"]["v"], text, "{}", written.text);
            assert_eq!(parse(&written.text)["Meta"]["k.dotted"], text, "{}", written.text);
        }
    }

    #[test]
    fn what_no_file_can_say_is_noted() {
        let written = write(&json!({"ID": "a", "ParentID": "b", "Version": 3, "TaskGroups": [{"Name": "g", "Tasks": [
            {"Name": "t", "Driver": "docker", "Config": {"a.b": 1, "labels": {"x": "y"}, "ports": ["a"]}}]}]}));
        assert_eq!(written.notes.len(), 2, "{:?}", written.notes);
        assert!(written.notes.iter().any(|note| note.contains("ParentID")));
        assert!(written.notes.iter().any(|note| note.contains("\"a.b\" is no name")));
        let task = parse(&written.text)["TaskGroups"][0]["Tasks"][0].clone();
        assert_eq!(task["Config"], json!({"labels": {"x": "y"}, "ports": ["a"]}));
    }
}
