//! What processes have used: processor time, memory, and what passed the loopback meanwhile.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

/// Ticks of `/proc/PID/stat` in a second.
const TICKS: f64 = 100.0;

/// A process to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// What its kind is called in reports.
    pub kind: String,
    pub pid: u32,
}

/// What the processes had used at a moment.
#[derive(Clone, Debug)]
pub struct Usage {
    cpu_s: BTreeMap<u32, f64>,
    loopback: Loopback,
}

#[derive(Clone, Copy, Debug, Default)]
struct Loopback {
    bytes: f64,
    packets: f64,
}

/// What the processes of one kind have used.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Used {
    pub kind: String,
    pub processes: usize,
    /// Of all of them together.
    pub cpu_s: f64,
    /// Of the one with the most, since it began.
    pub peak_rss_mib: f64,
    /// Of the one with the most, now.
    pub pss_mib: f64,
}

impl Usage {
    pub fn now(processes: &[Process]) -> Self {
        let cpu_s = processes.iter().map(|p| (p.pid, cpu_s(p.pid).unwrap_or(0.0))).collect();
        Self { cpu_s, loopback: Loopback::now() }
    }

    /// What was used since, by kind. Of a process that was not there before: all.
    pub fn since(&self, processes: &[Process]) -> Vec<Used> {
        let mut kinds: BTreeMap<&str, Used> = BTreeMap::new();
        for process in processes {
            let Some(cpu_s) = cpu_s(process.pid) else { continue };
            let used = kinds.entry(&process.kind).or_default();
            used.kind.clone_from(&process.kind);
            used.processes += 1;
            used.cpu_s += cpu_s - self.cpu_s.get(&process.pid).copied().unwrap_or(0.0);
            used.peak_rss_mib = used.peak_rss_mib.max(memory_mib(process.pid, "status", "VmHWM:"));
            used.pss_mib = used.pss_mib.max(memory_mib(process.pid, "smaps_rollup", "Pss:"));
        }
        kinds.into_values().collect()
    }

    /// MiB and packets over the loopback since, of everything on this machine.
    pub fn loopback_since(&self) -> (f64, f64) {
        let now = Loopback::now();
        ((now.bytes - self.loopback.bytes) / f64::from(1 << 20), now.packets - self.loopback.packets)
    }
}

impl Loopback {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
        let fields: Vec<f64> = line.unwrap_or_default().split_whitespace().filter_map(|n| n.parse().ok()).collect();
        Self { bytes: fields.first().copied().unwrap_or(0.0), packets: fields.get(1).copied().unwrap_or(0.0) }
    }
}

/// Of all threads, those that have ended too.
fn cpu_s(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; fields are counted from behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

fn memory_mib(pid: u32, file: &str, key: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let kib =
        text.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Tasks' supervisors, which are children of nobody the cluster knows.
pub fn supervisors(below: &std::path::Path) -> Vec<Process> {
    let below = below.display().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_us = pids.filter(|pid| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split('\0').nth(1) == Some("supervise") && command.contains(&below)
    });
    of_us.map(|pid| Process { kind: "supervisor".to_owned(), pid }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_very_process_uses_is_seen() {
        let me = [Process { kind: "me".to_owned(), pid: std::process::id() }];
        let before = Usage::now(&me);
        let began = std::time::Instant::now();
        while cpu_s(std::process::id()).unwrap() - before.cpu_s[&std::process::id()] < 0.05 {
            assert!(began.elapsed().as_secs() < 60, "the clock of processes stands still");
        }
        let used = before.since(&me);
        assert_eq!((used.len(), used[0].kind.as_str(), used[0].processes), (1, "me", 1));
        assert!(used[0].cpu_s >= 0.05 && used[0].cpu_s < 60.0, "{used:?}");
        assert!(used[0].pss_mib > 0.1 && used[0].peak_rss_mib >= used[0].pss_mib / 2.0, "{used:?}");
    }
}
