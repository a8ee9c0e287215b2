//! What a process is told while it runs: its command line as whoever keeps it would write it now.
//!
//! ```text
//!   the machine reads its files again ─► <home>/words.json ─► SIGHUP ─► the service takes what it can
//! ```
//!
//! The file lies beside the one with the log filter. A process that nobody keeps has none, and takes nothing.
//! What cannot be read is said in the log, and everything stays as it was.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, FromArgMatches};
use tokio::signal::unix::{SignalKind, signal};

/// The file's name.
pub const WORDS: &str = "words.json";
const BYTES_MAX: u64 = 1 << 20;

/// Calls `take` at each SIGHUP with the settings as they are now. Ends with the runtime.
///
/// # Errors
/// SIGHUP cannot be listened for.
pub fn follow<C, T>(log_level_file: Option<&Path>, mut take: T) -> io::Result<()>
where
    C: Args + FromArgMatches,
    T: FnMut(C) + Send + 'static,
{
    let Some(file) = log_level_file.map(|path| path.with_file_name(WORDS)) else { return Ok(()) };
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let path = file.clone();
            let read = tokio::task::spawn_blocking(move || read(&path)).await;
            match read.unwrap_or_else(|error| Err(error.to_string())).and_then(|words| parse(&words)) {
                Ok(settings) => take(settings),
                Err(error) => tracing::warn!(error, "settings cannot be read again"),
            }
        }
    });
    Ok(())
}

fn read(path: &PathBuf) -> Result<Vec<String>, String> {
    let about = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(|e| about(&e))?.len();
    if size > BYTES_MAX {
        return Err(about(&"it is too long"));
    }
    let text = std::fs::read(path).map_err(|e| about(&e))?;
    serde_json::from_slice(&text).map_err(|e| about(&e))
}

fn parse<C: Args + FromArgMatches>(words: &[String]) -> Result<C, String> {
    let command = C::augment_args(Command::new("again").no_binary_name(true));
    let matches = command.try_get_matches_from(words).map_err(|e| e.to_string())?;
    C::from_arg_matches(&matches).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Args)]
    struct Settings {
        #[arg(long)]
        meta: Vec<String>,
    }

    #[test]
    fn words_are_read_as_a_command_line_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(WORDS);
        std::fs::write(&path, r#"["--meta=a=b", "--meta", "c=d"]"#).unwrap();
        let settings: Settings = parse(&read(&path).unwrap()).unwrap();
        assert_eq!(settings.meta, ["a=b", "c=d"]);
        assert!(parse::<Settings>(&["--other".to_owned()]).is_err());
        std::fs::write(&path, "{").unwrap();
        assert!(read(&path).unwrap_err().contains(WORDS));
        assert!(read(&dir.path().join("none")).is_err());
    }
}
