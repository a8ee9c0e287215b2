//! What the processes of a task use, from its cgroup where it has one, else from its process tree.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cgroup::{Scope, Version, keyed};
use crate::contract::{ProcessUsage, Usage};
use crate::procfs;

/// Clock ticks per second in `/proc`: fixed at 100 on Linux, whatever the kernel's own rate.
const TICKS_PER_SECOND: u64 = 100;

/// What a process tree without a cgroup of its own tells.
const OF_PROCESSES: &[&str] = &["RSS", "Swap"];
const OF_CGROUP: &[&str] = &["RSS", "Cache", "Swap", "Usage", "Max Usage"];
const OF_CGROUP_V1: &[&str] = &["RSS", "Cache", "Swap", "Usage", "Max Usage", "Kernel Usage", "Kernel Max Usage"];

pub(crate) fn of_task(pid: i32, scope: &Scope) -> Usage {
    let members = scope.pids();
    let stats: Vec<_> = if members.is_empty() || !scope.owned {
        procfs::tree(pid)
    } else {
        members.into_iter().filter_map(procfs::stat).collect()
    };
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|n| u64::try_from(n).ok()).unwrap_or(4096);
    let ticks = |n: u64| Duration::from_millis(n * 1000 / TICKS_PER_SECOND);
    let one = |s: &procfs::Stat| ProcessUsage {
        pid: s.pid,
        rss_bytes: s.rss_pages * page,
        user_cpu: ticks(s.utime_ticks),
        system_cpu: ticks(s.stime_ticks),
    };
    let mut usage = Usage {
        rss_bytes: stats.iter().map(|s| s.rss_pages * page).sum(),
        user_cpu: ticks(stats.iter().map(|s| s.utime_ticks).sum()),
        system_cpu: ticks(stats.iter().map(|s| s.stime_ticks).sum()),
        pids: stats.iter().map(|s| s.pid).collect(),
        processes: stats.iter().map(one).collect(),
        measured_memory: OF_PROCESSES,
        ..Usage::default()
    };
    if scope.owned {
        from_cgroup(scope, &mut usage);
    }
    usage
}

fn from_cgroup(scope: &Scope, usage: &mut Usage) {
    let number = |dir: &Path, name: &str| {
        fs::read_to_string(dir.join(name)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    match (scope.version, scope.dirs.as_slice()) {
        (Some(Version::V1), [_, memory, cpu, ..]) => {
            let stat = fs::read_to_string(memory.join("memory.stat")).unwrap_or_default();
            // The kernel counts in batches per processor: a small task may still read as nothing.
            usage.rss_bytes = keyed(&stat, "rss").filter(|n| *n > 0).unwrap_or(usage.rss_bytes);
            usage.cache_bytes = keyed(&stat, "cache").unwrap_or(0);
            usage.swap_bytes = keyed(&stat, "swap").unwrap_or(0);
            usage.usage_bytes = number(memory, "memory.usage_in_bytes");
            usage.max_usage_bytes = number(memory, "memory.max_usage_in_bytes");
            usage.kernel_bytes = number(memory, "memory.kmem.usage_in_bytes");
            usage.kernel_max_bytes = number(memory, "memory.kmem.max_usage_in_bytes");
            usage.measured_memory = OF_CGROUP_V1;
            let cpu = fs::read_to_string(cpu.join("cpu.stat")).unwrap_or_default();
            usage.throttled_periods = keyed(&cpu, "nr_throttled").unwrap_or(0);
            usage.throttled_time = Duration::from_nanos(keyed(&cpu, "throttled_time").unwrap_or(0));
        }
        (Some(Version::V2), [dir]) => {
            let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
            usage.rss_bytes = keyed(&stat, "anon").filter(|n| *n > 0).unwrap_or(usage.rss_bytes);
            usage.cache_bytes = keyed(&stat, "file").unwrap_or(0);
            usage.swap_bytes = number(dir, "memory.swap.current");
            usage.usage_bytes = number(dir, "memory.current");
            usage.max_usage_bytes = number(dir, "memory.peak");
            usage.measured_memory = OF_CGROUP;
            let cpu = fs::read_to_string(dir.join("cpu.stat")).unwrap_or_default();
            usage.user_cpu = keyed(&cpu, "user_usec").map_or(usage.user_cpu, Duration::from_micros);
            usage.system_cpu = keyed(&cpu, "system_usec").map_or(usage.system_cpu, Duration::from_micros);
            usage.throttled_periods = keyed(&cpu, "nr_throttled").unwrap_or(0);
            usage.throttled_time = keyed(&cpu, "throttled_usec").map_or(Duration::ZERO, Duration::from_micros);
        }
        _ => {}
    }
}
