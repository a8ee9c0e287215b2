//! Figures with names, units and floors, as a table or as one JSON object.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::machine::{Ceilings, Machine};
use crate::usage::Used;

/// What a figure has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Floor {
    AtLeast(f64),
    AtMost(f64),
}

impl Floor {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(floor) => value >= floor,
            Self::AtMost(floor) => value <= floor,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(floor) => format!("≥ {floor}"),
            Self::AtMost(floor) => format!("≤ {floor}"),
        }
    }
}

#[derive(Clone, Debug)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    floor: Option<Floor>,
}

/// Figures in the order they were taken, and what they cost.
#[derive(Default)]
pub struct Report {
    figures: Vec<Figure>,
    /// By stage: what each kind of process used meanwhile.
    used: Vec<(String, Vec<Used>)>,
}

impl Report {
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit, floor: None });
    }

    /// A figure that a floor is set for, at least in this shape of the case.
    pub fn add_for(&mut self, name: impl Into<String>, value: f64, unit: &'static str, floor: Option<Floor>) {
        self.figures.push(Figure { name: name.into(), value, unit, floor });
    }

    /// p50, p90, p99 and the largest of a set of times, in milliseconds.
    pub fn add_times(&mut self, name: &str, times: Vec<Duration>) {
        self.add_times_for(name, times, &[]);
    }

    /// The same, with floors in milliseconds for some of them by name.
    pub fn add_times_for(&mut self, name: &str, mut times: Vec<Duration>, at_most_ms: &[(&str, f64)]) {
        times.sort_unstable();
        for (label, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
            let floor = at_most_ms.iter().find(|(of, _)| *of == label).map(|(_, ms)| Floor::AtMost(*ms));
            self.add_for(format!("{name} {label}"), quantile(&times, share) * 1e3, "ms", floor);
        }
    }

    pub fn add_used(&mut self, stage: impl Into<String>, used: Vec<Used>) {
        self.used.push((stage.into(), used));
    }

    /// The case, its figures, what they cost, and what the machine could do before and after.
    pub fn print(&self, case: &str, machine: &Machine, ceilings: &[Ceilings; 2], as_json: bool) {
        self.print_table();
        self.print_used();
        println!();
        for (when, ceilings) in ["before", "after"].iter().zip(ceilings) {
            println!(
                "ceilings {when}: {:.0} flushes/s (p50 {:.2} ms, p99 {:.2} ms), {:.0} exchanges/s over the loopback \
                 (p50 {:.0} µs, p99 {:.0} µs), load average {:.1}",
                ceilings.flushes_per_s,
                ceilings.flush_p50_ms,
                ceilings.flush_p99_ms,
                ceilings.exchanges_per_s,
                ceilings.exchange_p50_us,
                ceilings.exchange_p99_us,
                ceilings.load_average,
            );
        }
        println!(
            "machine: {} cores, {}, {} MiB, Linux {}",
            machine.cores, machine.processor, machine.memory_mib, machine.kernel
        );
        if as_json {
            println!("{}", self.json(case, machine, ceilings));
        }
    }

    fn print_table(&self) {
        let width = self.figures.iter().map(|f| f.name.chars().count()).max().unwrap_or(0);
        for Figure { name, value, unit, floor } in &self.figures {
            let verdict = floor.map_or_else(String::new, |floor| {
                format!("{}: {}", floor.text(), if floor.is_met(*value) { "met" } else { "MISSED" })
            });
            println!("{}", format!("{name:width$}  {value:12.2} {unit:<9} {verdict}").trim_end());
        }
    }

    fn print_used(&self) {
        for (stage, used) in &self.used {
            println!("\n{:<34} processes     CPU s  peak RSS MiB  PSS MiB", format!("used ({stage})"));
            for used in used {
                println!(
                    "  {:<32} {:>9} {:>9.2} {:>13.1} {:>8.1}",
                    used.kind, used.processes, used.cpu_s, used.peak_rss_mib, used.pss_mib
                );
            }
        }
    }

    fn json(&self, case: &str, machine: &Machine, ceilings: &[Ceilings; 2]) -> Value {
        let figure = |f: &Figure| {
            let mut fields = json!({"value": f.value, "unit": f.unit});
            if let Some(floor) = f.floor {
                fields["floor"] = floor.text().into();
                fields["met"] = floor.is_met(f.value).into();
            }
            (f.name.clone(), fields)
        };
        let figures: Map<String, Value> = self.figures.iter().map(figure).collect();
        let used: Map<String, Value> = self.used.iter().map(|(stage, used)| (stage.clone(), json!(used))).collect();
        let [before, after] = ceilings;
        json!({"case": case, "figures": figures, "used": used, "machine": machine,
            "ceilings": {"before": before, "after": after}})
    }
}

/// Of sorted times, in seconds.
pub fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * share).round() as usize).copied().unwrap_or_default().as_secs_f64()
}

pub fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_taken() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_secs).collect();
        assert_eq!((quantile(&times, 0.0), quantile(&times, 1.0)), (1.0, 100.0));
        assert!((quantile(&times, 0.99) - 99.0).abs() < 1e-9);
        assert!(quantile(&[], 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_floor_says_whether_it_is_met() {
        assert!(Floor::AtLeast(5.0).is_met(5.0) && !Floor::AtLeast(5.0).is_met(4.9));
        assert!(Floor::AtMost(5.0).is_met(5.0) && !Floor::AtMost(5.0).is_met(5.1));
    }
}
