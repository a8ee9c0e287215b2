//! Tables of what tasks and hosts use.

use api::usage::{HostStats, ResourceUsage};

use crate::format::{bytes, pairs, row, table};

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

/// What is measured of a task, as two tables.
pub fn of_task(usage: &ResourceUsage) -> String {
    let (memory, cpu) = (&usage.memory_stats, &usage.cpu_stats);
    let of_memory = |name: &str| match name {
        "RSS" => bytes(memory.rss),
        "Cache" => bytes(memory.cache),
        "Swap" => bytes(memory.swap),
        "Mapped File" => bytes(memory.mapped_file),
        "Usage" => bytes(memory.usage),
        "Max Usage" => bytes(memory.max_usage),
        "Kernel Usage" => bytes(memory.kernel_usage),
        "Kernel Max Usage" => bytes(memory.kernel_max_usage),
        _ => String::new(),
    };
    let of_cpu = |name: &str| match name {
        "System Mode" => percent(cpu.system_mode),
        "User Mode" => percent(cpu.user_mode),
        "Percent" => percent(cpu.percent),
        "Throttled Periods" => cpu.throttled_periods.to_string(),
        "Throttled Time" => cpu.throttled_time.to_string(),
        _ => String::new(),
    };
    let one = |title: &str, measured: &Option<Vec<String>>, value: &dyn Fn(&str) -> String| {
        let mut names = measured.clone().unwrap_or_default();
        names.sort();
        let values = names.iter().map(|name| value(name)).collect();
        if names.is_empty() { String::new() } else { format!("{title}\n{}\n\n", table(&[names, values])) }
    };
    let text = one("Memory Stats", &memory.measured, &of_memory) + &one("CPU Stats", &cpu.measured, &of_cpu);
    text.trim_end().to_owned()
}

/// What a host uses now, in one row.
pub fn host_row(stats: &HostStats, mhz: i64) -> String {
    let disk = &stats.alloc_dir_stats;
    let cells = vec![
        format!("{:.0}/{mhz} MHz", stats.cpu_ticks_consumed),
        format!("{}/{}", bytes(stats.memory.used), bytes(stats.memory.total)),
        format!("{}/{}", bytes(disk.used), bytes(disk.size)),
    ];
    table(&[row(["CPU", "Memory", "Disk"]), cells])
}

/// Everything about a host: title and text of each section.
pub fn host_sections(stats: &HostStats) -> Vec<(&'static str, String)> {
    let cpus: Vec<String> = stats
        .cpu
        .iter()
        .map(|cpu| {
            pairs(&[
                ("CPU", cpu.cpu.clone()),
                ("User", percent(cpu.user)),
                ("System", percent(cpu.system)),
                ("Idle", percent(cpu.idle)),
            ])
        })
        .collect();
    let memory = pairs(&[
        ("Total", bytes(stats.memory.total)),
        ("Available", bytes(stats.memory.available)),
        ("Used", bytes(stats.memory.used)),
        ("Free", bytes(stats.memory.free)),
    ]);
    let disks: Vec<String> = stats
        .disk_stats
        .iter()
        .map(|disk| {
            pairs(&[
                ("Device", disk.device.clone()),
                ("MountPoint", disk.mountpoint.clone()),
                ("Size", bytes(disk.size)),
                ("Used", bytes(disk.used)),
                ("Available", bytes(disk.available)),
                ("Used Percent", percent(disk.used_percent)),
                ("Inodes Percent", percent(disk.inodes_used_percent)),
            ])
        })
        .collect();
    vec![("CPU Stats", cpus.join("\n\n")), ("Memory Stats", memory), ("Disk Stats", disks.join("\n\n"))]
}
