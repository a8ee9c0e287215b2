//! Files of one short line beside the log: the format, the raft id. Each is there as a whole or
//! not at all, whenever the power fails.

use std::io;
use std::path::Path;

/// The line, without its end; `None` when there is no such file.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes it durably; makes its directory.
pub fn write(path: &Path, line: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    files::replace(path, format!("{line}\n").as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_last_is_read_and_nothing_when_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("line");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert!(read(dir.path()).is_err(), "a directory is no line");
    }
}
