//! Figures with names and units, as a table or as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// Figures in the order they were taken.
#[derive(Default)]
pub struct Report(Vec<(String, f64, &'static str)>);

impl Report {
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.0.push((name.into(), value, unit));
    }

    /// p50, p90, p99 and the largest of a set of times, in milliseconds.
    pub fn add_times(&mut self, name: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        let at = |share: f64| {
            let last = times.len().saturating_sub(1) as f64;
            times.get((last * share).round() as usize).copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        for (label, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
            self.add(format!("{name} {label}"), at(share), "ms");
        }
    }

    pub fn print(&self, as_json: bool) {
        if as_json {
            let fields: Map<String, Value> = self
                .0
                .iter()
                .map(|(name, value, unit)| (name.clone(), json!({"value": value, "unit": unit})))
                .collect();
            println!("{}", Value::Object(fields));
            return;
        }
        let width = self.0.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        for (name, value, unit) in &self.0 {
            println!("{name:width$}  {value:10.2} {unit}");
        }
    }
}
