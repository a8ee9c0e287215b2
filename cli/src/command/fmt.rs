//! `fmt`: the canonical layout of job files.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::{Cx, Failure};

/// Directories are not followed deeper than this.
const DEPTH_MAX: usize = 32;
/// Files looked at in one call.
const FILES_MAX: usize = 100_000;

/// What became of the files.
#[derive(Default)]
struct Outcome {
    changed: usize,
    broken: usize,
}

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let given = cx.flags.args.clone();
    let paths = if given.is_empty() { vec![".".to_owned()] } else { given };
    let mut out = Outcome::default();
    for path in paths {
        if path == "-" {
            stdin(cx, &mut out)?;
            continue;
        }
        let mut files = Vec::new();
        if Path::new(&path).is_dir() {
            below(Path::new(&path), cx.flags.is("recursive"), 0, &mut files)?;
            files.sort();
        } else {
            files.push(PathBuf::from(&path));
        }
        for file in files {
            one(cx, &file, &mut out)?;
        }
    }
    let unformatted = cx.flags.is("check") && out.changed > 0;
    Ok(u8::from(out.broken > 0 || unformatted))
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("Error formatting {}: {error}", path.display()))
}

fn is_job_file(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "hcl" || end == "nomad")
}

fn below(dir: &Path, recursive: bool, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(dir).map_err(|e| failed(dir, &e))?.flatten() {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && recursive && !hidden && depth < DEPTH_MAX {
            below(&entry.path(), recursive, depth + 1, files)?;
        } else if kind.is_file() && is_job_file(&entry.path()) {
            files.push(entry.path());
            if files.len() > FILES_MAX {
                return Err(Failure::new(format!("there are more than {FILES_MAX} files below {}", dir.display())));
            }
        }
    }
    Ok(())
}

/// Stdin to stdout, whatever the flags.
fn stdin(cx: &mut Cx, out: &mut Outcome) -> Result<(), Failure> {
    let mut text = String::new();
    let limit = jobspec::limits::SOURCE_BYTES as u64 + 1;
    std::io::stdin().take(limit).read_to_string(&mut text).map_err(|e| failed(Path::new("stdin"), &e))?;
    if let Some(formatted) = formatted(cx, "stdin", &text, out) {
        out.changed += usize::from(formatted != text);
        if !cx.flags.is("check") {
            cx.ui.line(formatted.strip_suffix('\n').unwrap_or(&formatted));
        }
    }
    Ok(())
}

/// The text laid out; `None` when it does not parse, which is told.
fn formatted(cx: &mut Cx, name: &str, text: &str, out: &mut Outcome) -> Option<String> {
    let (owned, text) = (name.to_owned(), text.to_owned());
    let outcome = super::jobfile::on_deep_stack(move || jobspec::format(&owned, &text));
    match outcome {
        Ok(Ok(formatted)) => Some(formatted),
        Ok(Err(problems)) => {
            let text = problems.render(cx.ui.colour_err);
            cx.ui.note(text.trim_end());
            out.broken += 1;
            None
        }
        Err(failure) => {
            cx.ui.note(&failure.text);
            out.broken += 1;
            None
        }
    }
}

fn one(cx: &mut Cx, path: &Path, out: &mut Outcome) -> Result<(), Failure> {
    let file = std::fs::File::open(path).map_err(|e| failed(path, &e))?;
    let (mut text, limit) = (String::new(), jobspec::limits::SOURCE_BYTES as u64 + 1);
    file.take(limit).read_to_string(&mut text).map_err(|e| failed(path, &e))?;
    let name = path.display().to_string();
    let Some(formatted) = formatted(cx, &name, &text, out) else { return Ok(()) };
    if formatted == text {
        return Ok(());
    }
    out.changed += 1;
    if cx.flags.is("list") {
        cx.ui.line(&name);
    }
    if cx.flags.is("write") && !cx.flags.is("check") {
        replace(path, &formatted).map_err(|e| failed(path, &e))?;
    }
    Ok(())
}

/// The file is always whole: written beside it, then put in its place with its permissions.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = std::fs::File::create_new(&beside).and_then(|mut file| {
        file.set_permissions(std::fs::metadata(&path)?.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}
