//! Which format do the files of a state server have? One number for log, vote and snapshots together, in a
//! file of its own, looked at before anything else is: a program that does not know the format must leave
//! the data as they are, and neither misread them nor take them for damaged.

use std::path::Path;

use crate::small_file;

/// Grows whenever an older program could no longer read what is written; 2 came with root keys.
pub const FORMAT: u32 = 2;
const FILE: &str = "format";

/// Whether this program may use the directory; marks it as its own format.
///
/// # Errors
/// One sentence that says why not.
pub fn claim(dir: &Path) -> Result<(), String> {
    if found(dir)? == FORMAT {
        return Ok(());
    }
    let path = dir.join(FILE);
    small_file::write(&path, &FORMAT.to_string()).map_err(|e| format!("{} cannot be used: {e}", path.display()))
}

/// The format of what is there, which this program knows; 0: none is noted.
///
/// # Errors
/// One sentence that says why it cannot be used.
pub fn found(dir: &Path) -> Result<u32, String> {
    let path = dir.join(FILE);
    let text = small_file::read(&path).map_err(|error| format!("{} cannot be used: {error}", path.display()))?;
    let Some(text) = text else { return Ok(0) };
    let found: u32 = text.parse().map_err(|_| format!("{} holds no format number", path.display()))?;
    if found > FORMAT {
        return Err(format!(
            "{} was written by a newer steppe: its format is {found}, this program reads up to {FORMAT}",
            dir.display()
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_a_newer_format_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        claim(dir.path()).unwrap();
        claim(dir.path()).unwrap();
        let newer = (FORMAT + 1).to_string();
        std::fs::write(dir.path().join(FILE), &newer).unwrap();
        let why = claim(dir.path()).unwrap_err();
        assert!(why.contains("newer steppe"), "{why}");
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), newer);
        std::fs::write(dir.path().join(FILE), "1").unwrap();
        claim(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap().trim(), FORMAT.to_string());
        std::fs::write(dir.path().join(FILE), "x").unwrap();
        assert!(claim(dir.path()).is_err());
    }
}
