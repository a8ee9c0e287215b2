//! What a task inherits of signals: nothing. An agent that was started in the background of a script, or by
//! `nohup`, ignores some; a program started from it would ignore them too, and could not be interrupted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Above stand the C library's own, and real-time signals, which nobody ignores by custom.
const STANDARD: i32 = 31;

/// Makes this process ignore nothing any more: what it ignored it notes instead, and what it starts begins with
/// the default of each signal. (A program that is started keeps what was ignored and forgets what was caught.)
pub(crate) fn ignore_none() -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    for signal in ignored(&status) {
        // Rust itself ignores this one, and undoes it in what it starts.
        if signal == signal_hook::consts::SIGPIPE || signal_hook::consts::FORBIDDEN.contains(&signal) {
            continue;
        }
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

fn ignored(status: &str) -> impl Iterator<Item = i32> {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    let set = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
    (1..=STANDARD).filter(move |signal| set >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignored_ones_are_read_from_the_set() {
        let status = "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000180001007\nSigCgt:\t0\n";
        assert_eq!(ignored(status).collect::<Vec<_>>(), [1, 2, 3, 13]);
        assert_eq!(ignored("").count(), 0);
    }
}
