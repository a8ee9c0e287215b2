//! What a test's processes leave behind: tasks and their supervisors, which outlive their agent on purpose, and
//! what those mounted.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cluster::text;

/// Ends what has the directory in its command line or environment, and unmounts what is mounted beneath it.
pub fn sweep(home: &Path) {
    let beneath = format!("{}/", home.display());
    for _ in 0..100 {
        let left = left_of(&beneath);
        left.iter().for_each(|pid| signal_pid(*pid, "-KILL"));
        if left.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| line.split_whitespace().nth(1)).filter(|at| at.starts_with(&beneath));
    for at in mounts.collect::<Vec<_>>().into_iter().rev() {
        let _ = Command::new("umount").args(["-l", at]).status();
    }
}

/// Living processes that have the text in their command line or environment, ours excepted.
fn left_of(beneath: &str) -> Vec<u32> {
    let told = |file: String| std::fs::read(file).is_ok_and(|told| text(&told).contains(beneath));
    let left = pids().filter(|pid| ["cmdline", "environ"].iter().any(|file| told(format!("/proc/{pid}/{file}"))));
    left.filter(|pid| *pid != std::process::id()).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
}

/// Of every process.
pub fn environments() -> impl Iterator<Item = (u32, String)> {
    pids().filter_map(|pid| Some((pid, text(&std::fs::read(format!("/proc/{pid}/environ")).ok()?))))
}

pub fn signal_pid(pid: u32, signal: &str) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}
