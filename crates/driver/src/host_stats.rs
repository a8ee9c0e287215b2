//! How busy the host is: processors, memory, disks, as `/proc` and the file systems tell.
//!
//! Processors are told as counters: two readings make a percentage.

use std::fs;
use std::path::Path;

/// File systems that are told of.
const DISKS_MAX: usize = 64;

/// Counters of one processor, in ticks since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuTicks {
    /// `cpu0`.
    pub name: String,
    pub user: u64,
    pub system: u64,
    pub idle: u64,
    pub total: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub total_bytes: u64,
    pub available_bytes: u64,
    pub used_bytes: u64,
    pub free_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disk {
    pub device: String,
    pub mountpoint: String,
    pub size_bytes: u64,
    pub used_bytes: u64,
    pub available_bytes: u64,
    pub used_percent: f64,
    pub inodes_used_percent: f64,
}

/// Each processor's counters.
pub fn cpus() -> Vec<CpuTicks> {
    parse_cpus(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

fn parse_cpus(text: &str) -> Vec<CpuTicks> {
    let numbered = |name: &str| name.strip_prefix("cpu").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()));
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next().filter(|name| numbered(name))?.to_owned();
            // user nice system idle iowait irq softirq steal
            let n: Vec<u64> = words.take(8).map(|word| word.parse().unwrap_or(0)).collect();
            let at = |i: usize| n.get(i).copied().unwrap_or(0);
            let (user, system, idle) = (at(0) + at(1), at(2) + at(5) + at(6), at(3) + at(4));
            Some(CpuTicks { name, user, system, idle, total: user + system + idle + at(7) })
        })
        .collect()
}

pub fn memory() -> Memory {
    parse_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn parse_memory(text: &str) -> Memory {
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let (total, free) = (kib("MemTotal"), kib("MemFree"));
    let cached = kib("Buffers") + kib("Cached") + kib("SReclaimable");
    Memory {
        total_bytes: total,
        available_bytes: kib("MemAvailable"),
        used_bytes: total.saturating_sub(free + cached),
        free_bytes: free,
    }
}

/// Seconds since the start.
pub fn uptime_s() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(['.', ' ']).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The file systems on devices, each once however often it is mounted. Others may be far away, and are not asked.
pub fn disks() -> Vec<Disk> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = device_mounts(&text).into_iter().filter_map(|(device, mountpoint)| {
        let disk = disk_of(Path::new(&mountpoint))?;
        Some(Disk { device, mountpoint, ..disk })
    });
    found.take(DISKS_MAX).collect()
}

/// Devices and where each is mounted as a whole, or else first.
fn device_mounts(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String, bool)> = Vec::new();
    for line in text.lines() {
        // id parent major:minor root mountpoint options [fields] - type device options
        let mut words = line.split(' ').skip(3);
        let (Some(root), Some(mountpoint)) = (words.next(), words.next()) else { continue };
        let Some(device) = words.skip_while(|word| *word != "-").nth(2).filter(|d| d.starts_with("/dev/")) else {
            continue;
        };
        let (device, mountpoint, whole) = (unescaped(device), unescaped(mountpoint), root == "/");
        match found.iter_mut().find(|known| known.0 == device) {
            None => found.push((device, mountpoint, whole)),
            Some(known) if whole && !known.2 => (known.1, known.2) = (mountpoint, true),
            Some(_) => {}
        }
    }
    found.into_iter().map(|(device, mountpoint, _)| (device, mountpoint)).collect()
}

/// Blanks in paths are written as octal numbers.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// The file system that holds `path`, without its names.
pub fn disk_of(path: &Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(path).ok()?;
    #[allow(clippy::cast_precision_loss)]
    let percent = |used: u64, total: u64| if total == 0 { 0.0 } else { 100.0 * used as f64 / total as f64 };
    let block = stat.f_frsize;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree) * block;
    let available = stat.f_bavail * block;
    Some(Disk {
        size_bytes: stat.f_blocks * block,
        used_bytes: used,
        available_bytes: available,
        // Of what may be used at all: some is kept for root.
        used_percent: percent(used, used + available),
        inodes_used_percent: percent(stat.f_files.saturating_sub(stat.f_ffree), stat.f_files),
        ..Disk::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_per_processor() {
        let text = "cpu  9 9 9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 9 9\ncpu1 0 0 0 100\nintr 5\n";
        let cpus = parse_cpus(text);
        assert_eq!(cpus.len(), 2);
        assert_eq!(cpus[0], CpuTicks { name: "cpu0".into(), user: 3, system: 16, idle: 9, total: 36 });
        assert_eq!((cpus[1].idle, cpus[1].total), (100, 100));
    }

    #[test]
    fn memory_in_use_is_what_is_neither_free_nor_cache() {
        let text = "MemTotal: 100 kB\nMemFree: 40 kB\nMemAvailable: 70 kB\nBuffers: 5 kB\nCached: 20 kB\n";
        let memory = parse_memory(text);
        assert_eq!((memory.total_bytes, memory.used_bytes, memory.available_bytes), (102_400, 35_840, 71_680));
    }

    #[test]
    fn a_file_system_of_a_device_is_told_of_once_however_often_it_is_mounted() {
        let text = "20 1 0:5 / / rw - overlay overlay rw\n\
            21 20 8:1 /etc/hosts /etc/hosts rw shared:1 - ext4 /dev/sda1 rw\n\
            22 20 8:1 / /mnt/my\\040disk rw shared:1 master:2 - ext4 /dev/sda1 rw\n\
            23 20 0:9 / /far rw - nfs host:/x rw\n\
            24 20 8:1 /alloc/local/conf /alloc/.supervisor/mounts/t/0 rw - ext4 /dev/sda1 rw\n\
            25 20 8:2 /part /part rw - ext4 /dev/sdb1 rw\nnonsense\n";
        let wanted = [("/dev/sda1", "/mnt/my disk"), ("/dev/sdb1", "/part")];
        assert_eq!(device_mounts(text), wanted.map(|(device, at)| (device.to_owned(), at.to_owned())));
        assert!(disk_of(Path::new("/")).unwrap().size_bytes > 0);
        assert!(!cpus().is_empty() && memory().total_bytes > 0 && uptime_s() > 0);
    }
}
