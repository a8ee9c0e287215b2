//! Reading `/proc`: what processes are there, whose children they are, what they use.

use std::fs;
use std::path::Path;

/// The fields of `/proc/<pid>/stat` this crate needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub pid: i32,
    pub ppid: i32,
    pub pgrp: i32,
    pub session: i32,
    pub zombie: bool,
    pub utime_ticks: u64,
    pub stime_ticks: u64,
    pub start_ticks: u64,
    pub rss_pages: u64,
}

/// `None` when there is no such process.
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command name stands in parentheses and may hold anything, so fields are counted from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(')')?;
    let pid = head.split('(').next()?.trim().parse().ok()?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok());
    Some(Stat {
        pid,
        zombie: matches!(fields.first(), Some(&"Z" | &"X")),
        ppid: i32::try_from(number(1)?).ok()?,
        pgrp: i32::try_from(number(2)?).ok()?,
        session: i32::try_from(number(3)?).ok()?,
        utime_ticks: number(11)?,
        stime_ticks: number(12)?,
        start_ticks: number(19)?,
        rss_pages: number(21)?,
    })
}

/// True while the process that had `pid` and `start_ticks` is there and not a zombie.
pub fn is_alive(pid: i32, start_ticks: u64) -> bool {
    stat(pid).is_some_and(|s| s.start_ticks == start_ticks && !s.zombie)
}

/// All process ids.
pub fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// `pid` and everything below it.
pub fn tree(pid: i32) -> Vec<Stat> {
    let all: Vec<Stat> = pids().into_iter().filter_map(stat).collect();
    let mut found: Vec<Stat> = all.iter().copied().filter(|s| s.pid == pid).collect();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next].pid;
        found.extend(all.iter().filter(|s| s.ppid == parent && s.pid != parent));
        next += 1;
    }
    found
}

/// The children of this process.
///
/// A scan, and not the kernel's `children` file: that one may skip a child while its sibling exits.
pub fn own_children() -> Vec<Stat> {
    let me = std::process::id();
    pids().into_iter().filter_map(stat).filter(|s| s.ppid.cast_unsigned() == me).collect()
}

/// The environment a process was started with. Empty while it is being replaced by `exec`, once it is
/// exiting, and when it is another user's.
#[derive(Clone, Debug, Default)]
pub struct Environ(Vec<u8>);

impl Environ {
    pub fn of(pid: i32) -> Self {
        Self(fs::read(format!("/proc/{pid}/environ")).unwrap_or_default())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.split(|b| *b == 0).find_map(|entry| {
            let text = std::str::from_utf8(entry).ok()?;
            text.strip_prefix(name)?.strip_prefix('=')
        })
    }
}

/// The arguments a process was started with.
pub fn cmdline(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let parts = bytes.split(|b| *b == 0).filter(|p| !p.is_empty());
    parts.map(|p| String::from_utf8_lossy(p).into_owned()).collect()
}

/// Proportional set size in KiB, where the kernel tells it.
pub fn pss_kib(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("smaps_rollup")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) (b c)) S 7 42 42 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 999 1000 33 1";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.pid, stat.ppid, stat.pgrp), (42, 7, 42));
        assert_eq!((stat.utime_ticks, stat.stime_ticks, stat.start_ticks, stat.rss_pages), (5, 6, 999, 33));
    }

    #[test]
    fn this_process_is_alive_and_in_its_own_tree() {
        let me = i32::try_from(std::process::id()).unwrap();
        let stat = stat(me).unwrap();
        assert!(is_alive(me, stat.start_ticks));
        assert!(!is_alive(me, stat.start_ticks + 1));
        assert!(tree(me).iter().any(|s| s.pid == me));
    }
}
