//! What the processes of a task use, from its cgroup where it has one, else from its process tree.

use std::fs;
use std::time::Duration;

use crate::cgroup::{Scope, Version, keyed};
use crate::contract::Usage;
use crate::procfs;

/// Clock ticks per second in `/proc`: fixed at 100 on Linux, whatever the kernel's own rate.
const TICKS_PER_SECOND: u64 = 100;

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
    let mut usage = Usage {
        rss_bytes: stats.iter().map(|s| s.rss_pages * page).sum(),
        user_cpu: ticks(stats.iter().map(|s| s.utime_ticks).sum()),
        system_cpu: ticks(stats.iter().map(|s| s.stime_ticks).sum()),
        pids: stats.iter().map(|s| s.pid).collect(),
        ..Usage::default()
    };
    if scope.owned {
        from_cgroup(scope, &mut usage);
    }
    usage
}

fn from_cgroup(scope: &Scope, usage: &mut Usage) {
    match (scope.version, scope.dirs.as_slice()) {
        (Some(Version::V1), [_, memory, _]) => {
            let stat = fs::read_to_string(memory.join("memory.stat")).unwrap_or_default();
            // The kernel counts in batches per processor: a small task may still read as nothing.
            usage.rss_bytes = keyed(&stat, "rss").filter(|n| *n > 0).unwrap_or(usage.rss_bytes);
            usage.cache_bytes = keyed(&stat, "cache").unwrap_or(0);
            usage.swap_bytes = keyed(&stat, "swap").unwrap_or(0);
            let max = fs::read_to_string(memory.join("memory.max_usage_in_bytes")).unwrap_or_default();
            usage.max_usage_bytes = max.trim().parse().unwrap_or(0);
        }
        (Some(Version::V2), [dir]) => {
            let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
            let stat = read("memory.stat");
            usage.rss_bytes = keyed(&stat, "anon").filter(|n| *n > 0).unwrap_or(usage.rss_bytes);
            usage.cache_bytes = keyed(&stat, "file").unwrap_or(0);
            usage.swap_bytes = read("memory.swap.current").trim().parse().unwrap_or(0);
            usage.max_usage_bytes = read("memory.peak").trim().parse().unwrap_or(0);
            let cpu = read("cpu.stat");
            usage.user_cpu = keyed(&cpu, "user_usec").map_or(usage.user_cpu, Duration::from_micros);
            usage.system_cpu = keyed(&cpu, "system_usec").map_or(usage.system_cpu, Duration::from_micros);
        }
        _ => {}
    }
}
