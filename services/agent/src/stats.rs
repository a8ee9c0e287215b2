//! What tasks and the host use, measured when somebody asks.
//!
//! Percentages need two readings. The earlier one is kept from the last time somebody asked, if that was not long
//! ago; otherwise it is taken now, and the asker waits for [`PAUSE`]. Nothing is measured while nobody asks.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::usage::{
    AllocResourceUsage, CpuStats, HostCpuStats, HostDiskStats, HostMemoryStats, HostStats, MemoryStats, ResourceUsage,
    TaskResourceUsage,
};
use driver::DriverError;
use driver::contract::{ProcessUsage, Usage};
use driver::host_stats::{self, CpuTicks, Disk};
use futures::future::join_all;
use model::Node;
use tokio::time::Instant;

use crate::runner::asks::Running;

/// Between two readings of one answer.
const PAUSE: Duration = Duration::from_millis(200);
/// A reading is compared with one at least this old,
const WINDOW_MIN: Duration = Duration::from_millis(150);
/// and not older than this.
const WINDOW_MAX: Duration = Duration::from_secs(15);
/// Readings kept.
const KEPT_MAX: usize = 4096;
const CPU_MEASURED: [&str; 3] = ["System Mode", "User Mode", "Percent"];
const CPU_MEASURED_CGROUP: [&str; 5] = ["Throttled Periods", "Throttled Time", "System Mode", "User Mode", "Percent"];

#[derive(Default)]
pub struct Sampler {
    /// The last reading of each start of a task.
    tasks: Mutex<HashMap<String, (Instant, Usage)>>,
    host: Mutex<Option<(Instant, Vec<CpuTicks>)>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn strings(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

impl Sampler {
    /// What these tasks use. One whose driver cannot tell is left out.
    ///
    /// # Errors
    /// A driver's, when it is the only one asked.
    pub async fn tasks(&self, running: Vec<Running>, mhz: f64) -> Result<AllocResourceUsage, DriverError> {
        let fresh = |at: &Instant| (WINDOW_MIN..WINDOW_MAX).contains(&at.elapsed());
        let unknown: Vec<_> = {
            let mut kept = locked(&self.tasks);
            kept.retain(|_, (at, _)| at.elapsed() < WINDOW_MAX);
            running.iter().filter(|r| kept.get(&r.task_id).is_none_or(|(at, _)| !fresh(at))).collect()
        };
        if !unknown.is_empty() {
            let first = join_all(unknown.iter().map(|r| r.driver.stats(&r.task_id))).await;
            for (task, usage) in unknown.iter().zip(first) {
                self.keep(&task.task_id, usage?);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let read = join_all(running.iter().map(|r| r.driver.stats(&r.task_id))).await;
        let timestamp = client::clock::unix_nanos();
        let mut all = AllocResourceUsage { timestamp, ..AllocResourceUsage::default() };
        all.resource_usage.device_stats = Some(Vec::new());
        for (task, usage) in running.into_iter().zip(read) {
            let usage = match usage {
                Ok(usage) => usage,
                // It ended meanwhile.
                Err(DriverError::NotFound) => continue,
                Err(error) => return Err(error),
            };
            let earlier = locked(&self.tasks).get(&task.task_id).cloned();
            let before = earlier.as_ref().map(|(at, usage)| (at.elapsed(), usage));
            let of_task = task_usage(&usage, before, mhz, timestamp);
            if earlier.is_none_or(|(at, _)| at.elapsed() >= Duration::from_secs(1)) {
                self.keep(&task.task_id, usage);
            }
            add(&mut all.resource_usage, &of_task.resource_usage);
            all.tasks.insert(task.task, of_task);
        }
        Ok(all)
    }

    fn keep(&self, task_id: &str, usage: Usage) {
        let mut kept = locked(&self.tasks);
        if kept.len() < KEPT_MAX {
            kept.insert(task_id.to_owned(), (Instant::now(), usage));
        }
    }

    /// What the host uses. Asks file systems, off the async threads.
    pub async fn host(&self, alloc_dir: &Path, mhz: f64) -> HostStats {
        let kept = locked(&self.host).clone().filter(|(at, _)| (WINDOW_MIN..WINDOW_MAX).contains(&at.elapsed()));
        let before = match kept {
            Some((_, ticks)) => ticks,
            None => {
                let ticks = host_stats::cpus();
                tokio::time::sleep(PAUSE).await;
                ticks
            }
        };
        let now = host_stats::cpus();
        *locked(&self.host) = Some((Instant::now(), now.clone()));
        let dir = alloc_dir.to_path_buf();
        let reading = tokio::task::spawn_blocking(move || (host_stats::disks(), host_stats::disk_of(&dir)));
        let (disks, alloc_disk) = reading.await.unwrap_or_default();
        let cpu: Vec<HostCpuStats> = now.iter().map(|cpu| cpu_stats(&before, cpu, mhz)).collect();
        let memory = host_stats::memory();
        HostStats {
            memory: HostMemoryStats {
                total: memory.total_bytes,
                available: memory.available_bytes,
                used: memory.used_bytes,
                free: memory.free_bytes,
            },
            cpu_ticks_consumed: cpu.iter().map(|cpu| cpu.total_ticks).sum(),
            cpu,
            disk_stats: disks.into_iter().map(disk_stats).collect(),
            alloc_dir_stats: alloc_disk.map(disk_stats).unwrap_or_default(),
            device_stats: None,
            uptime: host_stats::uptime_s(),
            timestamp: client::clock::unix_nanos(),
        }
    }
}

/// How fast one core of the node is.
pub fn core_mhz(node: &Node) -> f64 {
    let number = |name: &str| node.attributes.get(name).and_then(|text| text.parse::<f64>().ok()).filter(|n| *n > 0.0);
    number("cpu.frequency").or_else(|| Some(number("cpu.totalcompute")? / number("cpu.numcores")?)).unwrap_or_default()
}

fn cpu_stats(before: &[CpuTicks], now: &CpuTicks, mhz: f64) -> HostCpuStats {
    let zero = CpuTicks::default();
    let earlier = before.iter().find(|cpu| cpu.name == now.name).unwrap_or(&zero);
    let total = now.total.saturating_sub(earlier.total);
    #[allow(clippy::cast_precision_loss)]
    let percent = |now: u64, before: u64| {
        if total == 0 { 0.0 } else { 100.0 * now.saturating_sub(before) as f64 / total as f64 }
    };
    let idle = if total == 0 { 100.0 } else { percent(now.idle, earlier.idle) };
    let total_percent = 100.0 - idle;
    HostCpuStats {
        cpu: now.name.clone(),
        user: percent(now.user, earlier.user),
        system: percent(now.system, earlier.system),
        idle,
        total_percent,
        total_ticks: total_percent / 100.0 * mhz,
    }
}

fn disk_stats(disk: Disk) -> HostDiskStats {
    HostDiskStats {
        device: disk.device,
        mountpoint: disk.mountpoint,
        size: disk.size_bytes,
        used: disk.used_bytes,
        available: disk.available_bytes,
        used_percent: disk.used_percent,
        inodes_used_percent: disk.inodes_used_percent,
    }
}

/// `before` is an earlier reading, and how long ago it was.
fn task_usage(now: &Usage, before: Option<(Duration, &Usage)>, mhz: f64, timestamp: i64) -> TaskResourceUsage {
    let (span, earlier) = before.map_or((Duration::ZERO, None), |(span, usage)| (span, Some(usage)));
    let rate = |now: Duration, before: Option<Duration>| {
        let Some(before) = before.filter(|_| !span.is_zero()) else { return 0.0 };
        100.0 * now.saturating_sub(before).as_secs_f64() / span.as_secs_f64()
    };
    let cpu = |user: f64, system: f64, of_cgroup: bool| CpuStats {
        system_mode: system,
        user_mode: user,
        percent: user + system,
        total_ticks: (user + system) / 100.0 * mhz,
        throttled_periods: if of_cgroup { now.throttled_periods } else { 0 },
        throttled_time: if of_cgroup { u64::try_from(now.throttled_time.as_nanos()).unwrap_or(u64::MAX) } else { 0 },
        measured: if of_cgroup { strings(&CPU_MEASURED_CGROUP) } else { strings(&CPU_MEASURED) },
    };
    let of_cgroup = now.usage_bytes > 0;
    let of_process = |process: &ProcessUsage| {
        let before = earlier.and_then(|usage| usage.processes.iter().find(|p| p.pid == process.pid));
        let user = rate(process.user_cpu, before.map(|p| p.user_cpu));
        let system = rate(process.system_cpu, before.map(|p| p.system_cpu));
        let measured = strings(&["RSS", "Swap"]);
        let memory_stats = MemoryStats { rss: process.rss_bytes, measured, ..MemoryStats::default() };
        ResourceUsage { memory_stats, cpu_stats: cpu(user, system, false), device_stats: None }
    };
    let pids: BTreeMap<String, ResourceUsage> =
        now.processes.iter().map(|process| (process.pid.to_string(), of_process(process))).collect();
    let user = rate(now.user_cpu, earlier.map(|u| u.user_cpu));
    let system = rate(now.system_cpu, earlier.map(|u| u.system_cpu));
    let memory_stats = MemoryStats {
        rss: now.rss_bytes,
        cache: now.cache_bytes,
        swap: now.swap_bytes,
        mapped_file: 0,
        usage: now.usage_bytes,
        max_usage: now.max_usage_bytes,
        kernel_usage: now.kernel_bytes,
        kernel_max_usage: now.kernel_max_bytes,
        measured: strings(now.measured_memory),
    };
    let resource_usage = ResourceUsage { memory_stats, cpu_stats: cpu(user, system, of_cgroup), device_stats: None };
    TaskResourceUsage { resource_usage, timestamp, pids: Some(pids) }
}

fn add(sum: &mut ResourceUsage, one: &ResourceUsage) {
    let (memory, cpu) = (&mut sum.memory_stats, &mut sum.cpu_stats);
    memory.rss += one.memory_stats.rss;
    memory.cache += one.memory_stats.cache;
    memory.swap += one.memory_stats.swap;
    memory.mapped_file += one.memory_stats.mapped_file;
    memory.usage += one.memory_stats.usage;
    memory.max_usage += one.memory_stats.max_usage;
    memory.kernel_usage += one.memory_stats.kernel_usage;
    memory.kernel_max_usage += one.memory_stats.kernel_max_usage;
    memory.measured = union(memory.measured.take(), one.memory_stats.measured.as_ref());
    cpu.system_mode += one.cpu_stats.system_mode;
    cpu.user_mode += one.cpu_stats.user_mode;
    cpu.total_ticks += one.cpu_stats.total_ticks;
    cpu.percent += one.cpu_stats.percent;
    cpu.throttled_periods += one.cpu_stats.throttled_periods;
    cpu.throttled_time += one.cpu_stats.throttled_time;
    cpu.measured = union(cpu.measured.take(), one.cpu_stats.measured.as_ref());
}

fn union(all: Option<Vec<String>>, more: Option<&Vec<String>>) -> Option<Vec<String>> {
    let mut all = all.unwrap_or_default();
    for word in more.into_iter().flatten() {
        if !all.contains(word) {
            all.push(word.clone());
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_s_share_is_what_changed_between_two_readings() {
        let ticks =
            |user, system, idle| CpuTicks { name: "cpu0".into(), user, system, idle, total: user + system + idle };
        let stats = cpu_stats(&[ticks(100, 100, 800)], &ticks(110, 110, 880), 2000.0);
        assert_eq!((stats.user, stats.system, stats.idle, stats.total_percent), (10.0, 10.0, 80.0, 20.0));
        assert_eq!(stats.total_ticks, 400.0);
        let still = cpu_stats(&[ticks(1, 1, 1)], &ticks(1, 1, 1), 2000.0);
        assert_eq!((still.total_percent, still.idle), (0.0, 100.0));
    }

    #[test]
    fn a_task_s_share_is_of_one_core_and_the_whole_is_the_sum() {
        let process = ProcessUsage { pid: 7, user_cpu: Duration::from_millis(100), ..ProcessUsage::default() };
        let before = Usage { user_cpu: Duration::from_millis(100), processes: vec![process], ..Usage::default() };
        let now = Usage {
            rss_bytes: 5,
            user_cpu: Duration::from_millis(600),
            system_cpu: Duration::from_millis(250),
            processes: vec![ProcessUsage { user_cpu: Duration::from_millis(600), ..process }],
            measured_memory: &["RSS"],
            ..Usage::default()
        };
        let used = task_usage(&now, Some((Duration::from_secs(1), &before)), 1000.0, 1);
        let cpu = &used.resource_usage.cpu_stats;
        assert_eq!((cpu.user_mode, cpu.system_mode, cpu.percent, cpu.total_ticks), (50.0, 25.0, 75.0, 750.0));
        assert_eq!(used.pids.as_ref().unwrap()["7"].cpu_stats.percent, 50.0);
        let mut sum = ResourceUsage::default();
        add(&mut sum, &used.resource_usage);
        add(&mut sum, &used.resource_usage);
        assert_eq!((sum.memory_stats.rss, sum.cpu_stats.percent), (10, 150.0));
        assert_eq!(sum.memory_stats.measured, strings(&["RSS"]));
    }
}
