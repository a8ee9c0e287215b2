//! `steppe operator raft info|logs|state|migrate-backend`: a stopped server's data, read from its disk.

use std::io::Write;
use std::path::Path;

use state::offline::Data;

use super::{Cx, Failure};
use crate::format::pairs;
use crate::ui::Ui;

fn data(cx: &Cx) -> Result<Data, Failure> {
    Data::open(Path::new(cx.arg(0))).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("Error reading raft data: {error}"))
}

/// # Errors
/// The data cannot be read, or a server is running on them.
pub fn info(cx: &mut Cx) -> Result<u8, Failure> {
    let data = data(cx)?;
    cx.ui.line(pairs(&data.info()));
    Ok(0)
}

/// # Errors
/// As [`info`].
pub fn logs(cx: &mut Cx) -> Result<u8, Failure> {
    let data = data(cx)?;
    let pretty = cx.flags.is("pretty");
    data.logs(&mut Out(&mut cx.ui), pretty).map_err(failed)?;
    Ok(0)
}

/// # Errors
/// As [`info`]; or the state at that index is gone.
pub fn state(cx: &mut Cx) -> Result<u8, Failure> {
    let data = data(cx)?;
    let last = cx.flags.some("last-index").map(str::parse::<i64>).transpose();
    let last = last.map_err(|_| Failure::new("Error: -last-index is a whole number"))?;
    // As with no index at all, 0 is all that is known to be committed.
    let state = data.state(last.filter(|n| *n > 0).map(i64::unsigned_abs)).map_err(failed)?;
    let text = serde_json::to_string_pretty(&state).map_err(failed)?;
    cx.ui.line(text);
    Ok(0)
}

/// # Errors
/// As [`info`].
pub fn migrate_backend(cx: &mut Cx) -> Result<u8, Failure> {
    data(cx)?;
    cx.ui.line("Nothing to migrate: Steppe has one kind of log store, and these data are in it.");
    Ok(0)
}

struct Out<'a>(&'a mut Ui);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.raw(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
