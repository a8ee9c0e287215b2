//! The ceiling that durability sets: how often this disk can flush a small append.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::report::Report;

#[derive(clap::Args)]
pub struct Args {
    /// Directory on the disk in question.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Flushes.
    #[arg(long, default_value_t = 2000)]
    count: usize,
}

pub fn run(args: &Args) -> anyhow::Result<Report> {
    let path = args.dir.join(format!(".steppe-bench-fsync-{}", std::process::id()));
    let mut file = File::create(&path)?;
    let times = flush_times(&mut file, args.count);
    let removed = std::fs::remove_file(&path);
    let times = times?;
    removed?;
    let took: Duration = times.iter().sum();
    let mut report = Report::default();
    report.add("flushes", args.count as f64 / took.as_secs_f64(), "per s");
    report.add_times("append 4 KiB and fdatasync", times);
    Ok(report)
}

fn flush_times(file: &mut File, count: usize) -> anyhow::Result<Vec<Duration>> {
    let block = [7_u8; 4096];
    (0..count)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&block)?;
            file.sync_data()?;
            Ok(start.elapsed())
        })
        .collect()
}
