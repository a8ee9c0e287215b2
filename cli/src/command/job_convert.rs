//! `job convert`: a job file as JSON, a job's JSON as a file, a docker-compose file as a job file.

use serde_json::{Value, json};

use super::{Cx, Failure, jobfile};
use crate::format;

/// What a text is, when nobody says it.
fn kind_of(path: &str, text: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.ends_with(".yml") || name.ends_with(".yaml") {
        return "compose";
    }
    match serde_json::from_str::<Value>(text) {
        // The API's form; a job file in JSON syntax has HCL's names.
        Ok(value) if value.get("Job").is_some() || value.get("TaskGroups").is_some() || value.get("ID").is_some() => {
            "json"
        }
        _ if text.lines().any(|line| line.trim_end() == "services:") => "compose",
        _ => "hcl",
    }
}

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let path = cx.arg(0).to_owned();
    let text = jobfile::read(&path).await?;
    let from = cx.flags.some("from").unwrap_or_else(|| kind_of(&path, &text)).to_owned();
    let to = cx.flags.some("to").unwrap_or(if from == "hcl" { "json" } else { "hcl" }).to_owned();
    let (job, notes) = match from.as_str() {
        "hcl" => (jobfile::from_hcl(cx, &path, text).await?.job, Vec::new()),
        "json" => (jobfile::from_json(&text)?.job, Vec::new()),
        "compose" => composed(cx, &path, &text)?,
        other => return Err(unknown(other, "from", "hcl, json or compose")),
    };
    let (out, more) = match to.as_str() {
        "json" => (format::json(&json!({ "Job": job })), Vec::new()),
        "hcl" => {
            let written = jobspec::write(&job);
            (written.text, written.notes)
        }
        other => return Err(unknown(other, "to", "hcl or json")),
    };
    for note in notes.iter().chain(&more) {
        cx.ui.note(format!("not carried over: {note}"));
    }
    match cx.flags.some("out") {
        Some(file) => std::fs::write(file, format!("{}\n", out.trim_end()))
            .map_err(|error| Failure::new(format!("Error writing {file}: {error}")))?,
        None => cx.ui.line(out.trim_end()),
    }
    Ok(0)
}

fn unknown(given: &str, flag: &str, known: &str) -> Failure {
    Failure::new(format!("-{flag} {given:?} is unknown")).hint(format!("it may be {known}"))
}

fn composed(cx: &Cx, path: &str, text: &str) -> Result<(Value, Vec<String>), Failure> {
    let full = std::path::absolute(path).unwrap_or_default();
    let folder = full.parent().and_then(|dir| dir.file_name()).and_then(|name| name.to_str()).unwrap_or("app");
    let env = cx.env.all();
    let composed = jobspec::compose(text, &env, folder)
        .map_err(|error| Failure::new(format!("Error reading compose file {path}: {error}")))?;
    Ok((composed.job, composed.notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_it_is() {
        for (path, text, kind) in [
            ("docker-compose.yml", "services: {}", "compose"),
            ("-", "version: '3'\nservices:\n  a: {}\n", "compose"),
            ("a.json", "{\"Job\": {\"ID\": \"a\"}}", "json"),
            ("a.json", "{\"ID\": \"a\"}", "json"),
            ("a.json", "{\"job\": {\"a\": {}}}", "hcl"),
            ("a.nomad.hcl", "job \"a\" {}", "hcl"),
        ] {
            assert_eq!(kind_of(path, text), kind, "{path} {text}");
        }
    }
}
