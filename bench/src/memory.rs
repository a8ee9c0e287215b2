//! Memory of processes as PSS: what is shared counts once among those who share it.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::report::Report;

#[derive(clap::Args)]
pub struct Args {
    /// Name of the program whose processes are counted.
    #[arg(long, default_value = "steppe")]
    program: String,
}

pub fn run(args: &Args) -> anyhow::Result<Report> {
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        // Processes come and go while we look.
        let Ok(command) = std::fs::read_to_string(entry.path().join("cmdline")) else { continue };
        let words: Vec<&str> = command.split('\0').collect();
        let program = words.first().and_then(|w| w.rsplit('/').next()).unwrap_or_default();
        let of_us = program == args.program
            || std::fs::read_link(entry.path().join("exe"))
                .is_ok_and(|exe| exe.file_name().is_some_and(|n| n == args.program.as_str()));
        if !of_us {
            continue;
        }
        let name = match words.get(1..) {
            Some(["serve", service, ..]) => (*service).to_owned(),
            Some([word, ..]) => (*word).to_owned(),
            _ => program.to_owned(),
        };
        if let Ok(mib) = pss_mib(pid) {
            found.entry(name).or_default().push(mib);
        }
    }
    let mut report = Report::default();
    for (name, sizes) in found {
        let largest = sizes.iter().copied().fold(0.0, f64::max);
        let all: f64 = sizes.iter().sum();
        report.add(format!("{name}: processes"), sizes.len() as f64, "");
        report.add(format!("{name}: largest"), largest, "MiB");
        report.add(format!("{name}: mean"), all / sizes.len() as f64, "MiB");
    }
    Ok(report)
}

fn pss_mib(pid: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).context("no Pss")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
