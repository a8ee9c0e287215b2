//! A job file as somebody names it: read, parsed, ready to send.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use client::public::{PublicClient, PublicError, Query, Settings};
use jobspec::{FileReader, Inputs, Places, Source};
use model::job::JobSubmission;
use serde_json::Value;

use super::{Cx, Failure};
use crate::env;

/// A job with where it came from.
pub struct JobFile {
    /// The job in the wire's parse shape.
    pub job: Value,
    pub submission: JobSubmission,
    /// Where its parts stand in the file, of a job made from HCL.
    pub places: Option<Places>,
}

impl JobFile {
    pub fn id(&self) -> &str {
        self.job["ID"].as_str().unwrap_or("")
    }

    /// A query that goes where the job goes.
    pub fn query(&self) -> Query {
        Query {
            namespace: Some(self.field("Namespace").unwrap_or("default").to_owned()),
            // `global` in a job is the region of whoever receives it.
            region: self.field("Region").filter(|region| *region != "global").map(str::to_owned),
            // with places, findings can be shown where they are
            accept: self.places.as_ref().map(|_| super::findings::ACCEPT),
            ..Query::default()
        }
    }

    /// The job was refused, or could not be sent.
    pub fn failure(&self, cx: &mut Cx, doing: &str, error: &PublicError) -> Failure {
        match &self.places {
            Some(places) => super::findings::failure(cx, places, doing, error),
            None => Failure::api(doing, error),
        }
    }

    /// A text field of the job that says something.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.job[name].as_str().filter(|text| !text.is_empty())
    }
}

/// Reads the job file that the first argument names, with the command's variables.
///
/// # Errors
/// It cannot be read, or it is no job: then the text is all findings, each with its place.
pub async fn load(cx: &mut Cx) -> Result<JobFile, Failure> {
    let path = cx.arg(0).to_owned();
    let text = read(&path).await?;
    let mut file = if cx.flags.is("json") { from_json(&text)? } else { from_hcl(cx, &path, text).await? };
    for (flag, field) in [("vault-namespace", "VaultNamespace"), ("consul-namespace", "ConsulNamespace")] {
        if let Some(value) = cx.flags.some(flag) {
            file.job[field] = Value::from(value);
        }
    }
    // Where the job goes: the command line decides, then the file, then the environment.
    for (flag, field, names) in [("namespace", "Namespace", env::NAMESPACE), ("region", "Region", env::REGION)] {
        let typed = cx.flags.some(flag).map(str::to_owned);
        let fallback = if file.field(field).is_none() { cx.env.get(names).map(str::to_owned) } else { None };
        if let Some(value) = typed.or(fallback).filter(|value| value != "*") {
            file.job[field] = Value::from(value);
        }
    }
    Ok(file)
}

fn getting(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("Error getting job struct: {error}"))
}

/// A file, `-` for stdin, or what a web address answers.
///
/// # Errors
/// It cannot be read.
pub async fn read(path: &str) -> Result<String, Failure> {
    let limit = jobspec::limits::SOURCE_BYTES as u64 + 1;
    let mut text = String::new();
    let done = if path == "-" {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else if path.starts_with("http://") || path.starts_with("https://") {
        return fetch(path).await;
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    done.map(|_| text).map_err(|error| missing(path, &error))
}

/// How long a server may take to begin its answer, and to finish it.
const FETCH: std::time::Duration = std::time::Duration::from_secs(30);

/// Reads a job file from the web: the system's roots are trusted, no token and no certificate is sent.
async fn fetch(url: &str) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| getting(format!("Error reading job file from {url}: {error}"));
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let settings = Settings { address: format!("{scheme}://{host}"), timeout: FETCH, ..Settings::default() };
    let client = PublicClient::new(settings).map_err(|error| failed(&chain(&error)))?;
    let reading = async {
        let mut stream = client.stream(path, &Query::default()).await.map_err(|error| failed(&chain(&error)))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.chunk().await.map_err(|error| failed(&chain(&error)))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > jobspec::limits::SOURCE_BYTES {
                return Err(failed(&format!("it has more than {} bytes", jobspec::limits::SOURCE_BYTES)));
            }
        }
        String::from_utf8(bytes).map_err(|_| failed(&"it is no UTF-8 text"))
    };
    match tokio::time::timeout(FETCH, reading).await {
        Ok(outcome) => outcome,
        Err(_) => Err(failed(&format!("no whole answer within {} s", FETCH.as_secs()))),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

fn missing(path: &str, error: &std::io::Error) -> Failure {
    let failure = getting(format!("Error reading job file from {path}: {error}"));
    if error.kind() != std::io::ErrorKind::NotFound {
        return failure;
    }
    let dir = Path::new(path).parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names: Vec<String> = std::fs::read_dir(dir)
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).take(1_000).collect())
        .unwrap_or_default();
    let wanted = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
    match crate::flags::nearest(wanted, names.iter().map(String::as_str)) {
        Some(near) => failure.hint(format!("did you mean {}?", dir.join(near).display())),
        None => failure,
    }
}

/// A job as the API takes it: bare, or in `{"Job": …}`.
pub fn from_json(text: &str) -> Result<JobFile, Failure> {
    let mut value: Value = serde_json::from_str(text).map_err(|e| getting(format!("Failed to parse JSON job: {e}")))?;
    let job = match value.get_mut("Job") {
        Some(job) if !job.is_null() => job.take(),
        _ => value,
    };
    if !job.is_object() || job["ID"].as_str().is_none_or(str::is_empty) {
        return Err(getting("Failed to parse JSON job: there is no job with an ID in it"));
    }
    let submission = JobSubmission { source: text.to_owned(), format: "json".to_owned(), ..JobSubmission::default() };
    Ok(JobFile { job, submission, places: None })
}

/// A job file in HCL, native or in JSON syntax, with the command's variables.
///
/// # Errors
/// It is no job: all findings are told.
pub async fn from_hcl(cx: &mut Cx, path: &str, text: String) -> Result<JobFile, Failure> {
    let mut vars = Vec::new();
    for given in cx.flags.list("var") {
        let (name, value) = given
            .split_once('=')
            .ok_or_else(|| getting(format!("-var {given:?} has no value")).hint("write -var name=value"))?;
        vars.push((name.trim().to_owned(), value.to_owned()));
    }
    let mut var_files = Vec::new();
    for file in &cx.flags.list("var-file").to_vec() {
        var_files.push((file.clone(), read(file).await?));
    }
    let name = if path == "-" { "stdin" } else { path };
    let now_unix_ns = cx.ui.now();
    let strict_vars = cx.flags.is("hcl2-strict");
    let submission = JobSubmission {
        source: text.clone(),
        format: "hcl2".to_owned(),
        variable_flags: vars.iter().cloned().collect(),
        variables: var_files.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n"),
        ..JobSubmission::default()
    };
    let env = cx.env.job_variables();
    let (name, home) = (name.to_owned(), cx.env.get(&["HOME"]).map(str::to_owned));
    let parsed = on_deep_stack(move || {
        let disk = Disk { home };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // any bits do for a seed
        let seed = uuid::Uuid::new_v4().as_u128() as u64 ^ now_unix_ns as u64;
        let inputs = Inputs { var_files, vars, env, strict_vars, now_unix_ns, seed, files: Some(&disk) };
        jobspec::parse(Source { name: &name, text: &text }, &inputs)
    })?;
    match parsed {
        Ok(parsed) => {
            for warning in &parsed.warnings {
                let text = warning.render(cx.ui.colour_err);
                cx.ui.note(text.trim_end());
            }
            Ok(JobFile { job: parsed.json, submission, places: Some(parsed.places) })
        }
        Err(diagnostics) => {
            let rendered = diagnostics.render(cx.ui.colour_err);
            cx.ui.note(format!("Error getting job struct: Error parsing job file from {path}:\n"));
            cx.ui.note(rendered.trim_end());
            // All is said.
            Err(Failure::new(""))
        }
    }
}

/// The parser may need more stack than this thread has.
pub fn on_deep_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let stack_bytes = jobspec::STACK_BYTES + (1 << 20);
    let thread = std::thread::Builder::new().stack_size(stack_bytes).spawn(work).map_err(getting)?;
    thread.join().map_err(|_| getting("the parser failed, which it never should: please report this job file"))
}

/// The disk of whoever runs the command.
struct Disk {
    home: Option<String>,
}

const FILE_BYTES_MAX: u64 = 16 << 20;
const GLOB_FILES_MAX: usize = 10_000;

impl FileReader for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(|e| format!("{path}: {e}"))?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| format!("{path}: {e}"))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("{path} is longer than {FILE_BYTES_MAX} bytes"));
        }
        Ok(bytes)
    }

    fn exists(&self, path: &str) -> Result<bool, String> {
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() => Ok(true),
            Ok(_) => Err(format!("{path} is not a regular file, but a directory or something special")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(format!("{path}: {error}")),
        }
    }

    fn glob(&self, path: &str, pattern: &str) -> Result<Vec<String>, String> {
        let base = PathBuf::from(path);
        let mut found = Vec::new();
        let mut open = vec![base.clone()];
        let mut seen = 0;
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?.flatten() {
                seen += 1;
                if seen > GLOB_FILES_MAX {
                    return Err(format!("there are more than {GLOB_FILES_MAX} files below {path}"));
                }
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    open.push(entry.path());
                } else if let Some(name) = entry.path().strip_prefix(&base).ok().and_then(|p| p.to_str())
                    && matches(pattern, name)
                {
                    found.push(name.to_owned());
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn absolute(&self, path: &str) -> Result<String, String> {
        let full = std::path::absolute(path).map_err(|e| e.to_string())?;
        Ok(full.to_string_lossy().into_owned())
    }

    fn home(&self) -> Option<String> {
        self.home.clone().map(|home| home.trim_end_matches('/').to_owned())
    }
}

/// `*` and `?` stay within a directory, `**` crosses them. Work is bounded by pattern times name.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // reach[j]: the pattern so far matches the first j characters.
    let mut reach = vec![false; name.len() + 1];
    reach[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let deep = pattern[at] == '*' && pattern.get(at + 1) == Some(&'*');
        let mut next = vec![false; name.len() + 1];
        if pattern[at] == '*' {
            for j in 0..=name.len() {
                next[j] = reach[j] || j > 0 && next[j - 1] && (deep || name[j - 1] != '/');
            }
            at += if deep { 2 } else { 1 };
            // `**/` matches no directory too.
            if deep && pattern.get(at) == Some(&'/') {
                for j in 0..=name.len() {
                    next[j] = reach[j] || j > 0 && name[j - 1] == '/' && reach[..j].contains(&true);
                }
                at += 1;
            }
        } else {
            for j in 1..=name.len() {
                let same = pattern[at] == name[j - 1] || pattern[at] == '?' && name[j - 1] != '/';
                next[j] = reach[j - 1] && same;
            }
            at += 1;
        }
        reach = next;
    }
    reach[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cross_directories_only_with_two_stars() {
        for (pattern, name, expected) in [
            ("*.hcl", "a.hcl", true),
            ("*.hcl", "x/a.hcl", false),
            ("**/*.hcl", "x/y/a.hcl", true),
            ("**/*.hcl", "a.hcl", true),
            ("x/?.hcl", "x/a.hcl", true),
            ("x/?.hcl", "x/ab.hcl", false),
            ("**", "x/y", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_json_job_may_be_wrapped_or_bare() {
        for text in [r#"{"Job": {"ID": "a"}}"#, r#"{"ID": "a"}"#] {
            assert_eq!(from_json(text).map(|f| f.id().to_owned()).unwrap_or_default(), "a");
        }
        for bad in ["", "[]", "{}", r#"{"Job": {"ID": 3}}"#, r#"{"Job": null}"#] {
            assert!(from_json(bad).is_err(), "{bad}");
        }
    }
}
