//! Configuration files from the disk, and what flags put over them.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use config::syntax::FILE_BYTES_MAX;
use config::{Loaded, Source};

use super::host;
use crate::command::Cx;

/// Most files of one directory.
const FILES_MAX: usize = 1_000;

/// The files that `paths` name, in order; of a directory, `*.hcl` and `*.json` by name.
///
/// # Errors
/// One of them cannot be read, or is too long.
pub fn sources(paths: &[String]) -> anyhow::Result<Vec<Source>> {
    let mut all = Vec::new();
    for path in paths {
        let path = Path::new(path);
        let about = || format!("cannot read {}", path.display());
        if fs::metadata(path).with_context(about)?.is_dir() {
            for file in of_dir(path).with_context(about)? {
                all.push(source(&file)?);
            }
        } else {
            all.push(source(path)?);
        }
    }
    Ok(all)
}

fn of_dir(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)?.take(FILES_MAX) {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let wanted = (name.ends_with(".hcl") || name.ends_with(".json")) && !name.starts_with(['.', '#']);
        if wanted && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn source(path: &Path) -> anyhow::Result<Source> {
    let about = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    // One more than may be, so that the parser sees that it is too long.
    let most = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    fs::File::open(path).with_context(about)?.take(most).read_to_end(&mut bytes).with_context(about)?;
    let text = String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{}: it is not UTF-8 text", path.display()))?;
    Ok(Source { name: path.display().to_string(), text })
}

/// Refuses settings of drivers that are of the right type and cannot be meant: the driver knows which.
pub fn drivers_fit(loaded: Loaded) -> Result<Loaded, Vec<String>> {
    let Some(docker) = loaded.config.plugin.0.get("docker") else { return Ok(loaded) };
    match driver::docker::Options::parse(serde_json::Value::Object(docker.config.0.clone())) {
        Ok(_) => Ok(loaded),
        Err(text) => Err(vec![format!("plugin \"docker\".config: {text}")]),
    }
}

/// `steppe config validate`.
pub fn validate(cx: &mut Cx) -> u8 {
    let paths = cx.flags.args.clone();
    let loaded = match sources(&paths) {
        Ok(sources) => config::load(&sources, &[], false).and_then(drivers_fit),
        Err(error) => Err(vec![format!("{error:#}")]),
    };
    let loaded = loaded.and_then(|loaded| match host::problems(&loaded.config, false) {
        problems if problems.is_empty() => Ok(loaded),
        problems => Err(problems),
    });
    match loaded {
        Ok(loaded) => {
            for warning in loaded.warnings {
                cx.ui.warn(&format!("Warning: {warning}"));
            }
            cx.ui.line("Configuration is valid!");
            0
        }
        Err(errors) => {
            for error in errors {
                cx.ui.error(&format!("Error: {error}"));
            }
            1
        }
    }
}
