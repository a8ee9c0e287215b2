//! What has this process counted?
//!
//! ```text
//!   Counter / Gauge / Sample handles ──► series ──► prometheus()   all time, text
//!                                               └─► summary()      last whole 10 s, Nomad's JSON
//! ```
//!
//! Names are Nomad's, with dots (`nomad.broker.total_ready`); in the Prometheus form everything
//! but letters, digits, `_` and `:` becomes `_`. A handle is looked up once and kept; using it
//! costs an uncontended lock. A gauge that was never set, or was cleared, is absent: gauges that
//! only a leader knows disappear with its lead.
//!
//! Invariants: a name has one kind; the number of series is limited (a label with unbounded values
//! is a mistake that must not eat the process), beyond it handles count into nothing and one line
//! is logged.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

/// Length of the interval that [`Metrics::summary`] reports.
const INTERVAL: Duration = Duration::from_secs(10);
const SERIES_MAX: usize = 4096;
/// Buckets per factor of two of a sample's histogram, and their number: 2^-10 … 2^22.
const BUCKETS_PER_OCTAVE: f64 = 4.0;
const BUCKETS: usize = 128;
const BUCKET_LOG2_MIN: f64 = -10.0;
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

type Labels = BTreeMap<String, String>;

/// A process's metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Registry>);

struct Registry {
    started: Instant,
    base: Labels,
    series: Mutex<BTreeMap<String, Family>>,
    full: AtomicBool,
}

struct Family {
    kind: Kind,
    members: BTreeMap<Labels, Series>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Counter,
    Gauge,
    Sample,
}

#[derive(Clone)]
enum Series {
    Gauge(Arc<AtomicU64>),
    /// Counters and samples.
    Events(Arc<Mutex<Events>>),
}

/// A value that only grows.
#[derive(Clone)]
pub struct Counter {
    started: Instant,
    events: Arc<Mutex<Events>>,
}

impl Counter {
    pub fn increment(&self) {
        self.add(1.0);
    }

    pub fn add(&self, by: f64) {
        lock(&self.events).record(interval(self.started), by);
    }
}

/// A value that goes up and down.
#[derive(Clone)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Makes the gauge absent until it is set again.
    pub fn clear(&self) {
        self.set(f64::NAN);
    }
}

/// A distribution; times are in milliseconds.
#[derive(Clone)]
pub struct Sample {
    started: Instant,
    events: Arc<Mutex<Events>>,
}

impl Sample {
    pub fn record(&self, value: f64) {
        lock(&self.events).record(interval(self.started), value);
    }

    /// Records the time since `start`.
    pub fn since(&self, start: Instant) {
        self.record(start.elapsed().as_secs_f64() * 1000.0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of the interval we are in.
fn interval(started: Instant) -> u64 {
    started.elapsed().as_secs() / INTERVAL.as_secs()
}

#[derive(Clone, Default)]
struct Window {
    count: u64,
    sum: f64,
    sum_of_squares: f64,
    min: f64,
    max: f64,
    /// Only samples have one.
    buckets: Option<Box<[u32; BUCKETS]>>,
}

impl Window {
    fn record(&mut self, value: f64) {
        if self.count == 0 {
            (self.min, self.max) = (value, value);
        }
        self.count += 1;
        self.sum += value;
        self.sum_of_squares += value * value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if let Some(buckets) = &mut self.buckets {
            buckets[bucket(value)] += 1;
        }
    }

    fn clear(&mut self) {
        let buckets = self.buckets.take().map(|mut b| {
            b.fill(0);
            b
        });
        *self = Self { buckets, ..Self::default() };
    }

    fn stddev(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let n = self.count as f64;
        let variance = (self.sum_of_squares - self.sum * self.sum / n) / (n - 1.0);
        variance.max(0.0).sqrt()
    }
}

fn bucket(value: f64) -> usize {
    if value.is_nan() || value <= 0.0 {
        return 0;
    }
    let at = (value.log2() - BUCKET_LOG2_MIN) * BUCKETS_PER_OCTAVE;
    at.clamp(0.0, (BUCKETS - 1) as f64) as usize
}

/// Middle of a bucket.
fn bucket_value(bucket: usize) -> f64 {
    ((bucket as f64 + 0.5) / BUCKETS_PER_OCTAVE + BUCKET_LOG2_MIN).exp2()
}

struct Events {
    interval: u64,
    current: Window,
    last: Window,
    count: u64,
    sum: f64,
}

impl Events {
    fn new(kind: Kind, interval: u64) -> Self {
        let buckets = (kind == Kind::Sample).then(|| Box::new([0; BUCKETS]));
        let window = Window { buckets, ..Window::default() };
        Self { interval, current: window.clone(), last: window, count: 0, sum: 0.0 }
    }

    fn roll(&mut self, now: u64) {
        if now == self.interval {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.last);
        if now > self.interval + 1 {
            self.last.clear();
        }
        self.current.clear();
        self.interval = now;
    }

    fn record(&mut self, now: u64, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.roll(now);
        self.count += 1;
        self.sum += value;
        self.current.record(value);
    }

    /// The last whole interval; in a process's first one, what there is.
    fn recent(&mut self, now: u64) -> &Window {
        self.roll(now);
        if now == 0 { &self.current } else { &self.last }
    }

    /// Quantiles of the last ten to twenty seconds.
    fn quantiles(&mut self, now: u64) -> Option<[f64; 3]> {
        self.roll(now);
        let (Some(a), Some(b)) = (&self.last.buckets, &self.current.buckets) else {
            return None;
        };
        let total: u64 = self.last.count + self.current.count;
        if total == 0 {
            return None;
        }
        Some(QUANTILES.map(|q| {
            let rank = ((q * total as f64).ceil() as u64).max(1);
            let mut seen = 0;
            let mut counts = a.iter().zip(b.iter()).map(|(a, b)| u64::from(*a) + u64::from(*b));
            let at = counts.position(|n| {
                seen += n;
                seen >= rank
            });
            bucket_value(at.unwrap_or(BUCKETS - 1))
        }))
    }
}

/// Nomad's JSON form of a process's metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MetricsSummary {
    pub timestamp: String,
    pub gauges: Vec<GaugeValue>,
    pub points: Vec<PointValue>,
    pub counters: Vec<SampledValue>,
    pub samples: Vec<SampledValue>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GaugeValue {
    pub name: String,
    pub value: f64,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PointValue {
    pub name: String,
    pub points: Vec<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SampledValue {
    pub name: String,
    pub count: u64,
    pub rate: f64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub stddev: f64,
    pub labels: BTreeMap<String, String>,
}

impl MetricsSummary {
    /// Adds another process's metrics, as a gateway does for the whole control plane.
    pub fn merge(&mut self, other: MetricsSummary) {
        self.gauges.extend(other.gauges);
        self.points.extend(other.points);
        self.counters.extend(other.counters);
        self.samples.extend(other.samples);
        self.gauges.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
        for list in [&mut self.counters, &mut self.samples] {
            list.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Metrics {
    /// `base` labels stand on every series (`host`, say).
    pub fn new(base: &[(&str, &str)]) -> Self {
        Self(Arc::new(Registry {
            started: Instant::now(),
            base: labels(base),
            series: Mutex::default(),
            full: AtomicBool::new(false),
        }))
    }

    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> Counter {
        Counter { started: self.0.started, events: self.events(Kind::Counter, name, labels) }
    }

    pub fn sample(&self, name: &str, labels: &[(&str, &str)]) -> Sample {
        Sample { started: self.0.started, events: self.events(Kind::Sample, name, labels) }
    }

    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Gauge {
        let unset = || Arc::new(AtomicU64::new(f64::NAN.to_bits()));
        match self.series(Kind::Gauge, name, labels, || Series::Gauge(unset())) {
            Some(Series::Gauge(bits)) => Gauge(bits),
            _ => Gauge(unset()),
        }
    }

    /// A gauge of a registry that is made, read and dropped: as many as there are rows, which their maker limits.
    pub fn gauge_of_many(&self, name: &str, with: &[(&str, &str)]) -> Gauge {
        let bits = Arc::new(AtomicU64::new(f64::NAN.to_bits()));
        let mut all = lock(&self.0.series);
        let family =
            all.entry(name.to_owned()).or_insert_with(|| Family { kind: Kind::Gauge, members: BTreeMap::new() });
        family.members.insert(labels(with), Series::Gauge(Arc::clone(&bits)));
        Gauge(bits)
    }

    fn events(&self, kind: Kind, name: &str, labels: &[(&str, &str)]) -> Arc<Mutex<Events>> {
        let now = interval(self.0.started);
        let fresh = || Arc::new(Mutex::new(Events::new(kind, now)));
        match self.series(kind, name, labels, || Series::Events(fresh())) {
            Some(Series::Events(events)) => events,
            _ => fresh(),
        }
    }

    /// The series of that name and labels; `None` if there is no room or the name has another kind.
    fn series(&self, kind: Kind, name: &str, with: &[(&str, &str)], make: impl FnOnce() -> Series) -> Option<Series> {
        let mut key = self.0.base.clone();
        key.extend(labels(with));
        let mut all = lock(&self.0.series);
        let room = all.values().map(|f| f.members.len()).sum::<usize>() < SERIES_MAX;
        let known = all.get(name).map(|f| (f.kind, f.members.get(&key).cloned()));
        match known {
            Some((other, _)) if other != kind => {
                tracing::warn!(metric = name, kind = ?other, wanted = ?kind, "metric has another kind");
                return None;
            }
            Some((_, Some(series))) => return Some(series),
            _ if !room => {
                if !self.0.full.swap(true, Ordering::Relaxed) {
                    tracing::warn!(metric = name, limit = SERIES_MAX, "too many metric series, new ones are not kept");
                }
                return None;
            }
            _ => {}
        }
        let series = make();
        let family = all.entry(name.to_owned()).or_insert_with(|| Family { kind, members: BTreeMap::new() });
        family.members.insert(key, series.clone());
        Some(series)
    }

    /// Everything in Prometheus text form.
    pub fn prometheus(&self) -> String {
        let now = interval(self.0.started);
        let mut out = String::new();
        for (name, family) in lock(&self.0.series).iter() {
            let name = prometheus_name(name);
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Sample => "summary",
            };
            let mut body = String::new();
            for (labels, series) in &family.members {
                write_series(&mut body, &name, labels, series, family.kind, now);
            }
            if !body.is_empty() {
                let _ = writeln!(out, "# TYPE {name} {kind}");
                out.push_str(&body);
            }
        }
        out
    }

    /// The last whole interval in Nomad's JSON form.
    pub fn summary(&self) -> MetricsSummary {
        let now = interval(self.0.started);
        let mut summary = MetricsSummary { timestamp: timestamp(SystemTime::now()), ..MetricsSummary::default() };
        for (name, family) in lock(&self.0.series).iter() {
            for (labels, series) in &family.members {
                match series {
                    Series::Gauge(bits) => {
                        let value = f64::from_bits(bits.load(Ordering::Relaxed));
                        if value.is_finite() {
                            summary.gauges.push(GaugeValue { name: name.clone(), value, labels: labels.clone() });
                        }
                    }
                    Series::Events(events) => {
                        let value = sampled(name, labels, lock(events).recent(now));
                        let list = match family.kind {
                            Kind::Counter => &mut summary.counters,
                            _ => &mut summary.samples,
                        };
                        list.extend(value);
                    }
                }
            }
        }
        summary
    }
}

fn sampled(name: &str, labels: &Labels, window: &Window) -> Option<SampledValue> {
    (window.count > 0).then(|| SampledValue {
        name: name.to_owned(),
        count: window.count,
        rate: window.sum / INTERVAL.as_secs_f64(),
        sum: window.sum,
        min: window.min,
        max: window.max,
        mean: window.sum / window.count as f64,
        stddev: window.stddev(),
        labels: labels.clone(),
    })
}

fn write_series(out: &mut String, name: &str, labels: &Labels, series: &Series, kind: Kind, now: u64) {
    // Writing to a string cannot fail.
    match series {
        Series::Gauge(bits) => {
            let value = f64::from_bits(bits.load(Ordering::Relaxed));
            if value.is_finite() {
                let _ = writeln!(out, "{name}{} {value}", prometheus_labels(labels, None));
            }
        }
        Series::Events(events) if kind == Kind::Counter => {
            let _ = writeln!(out, "{name}{} {}", prometheus_labels(labels, None), lock(events).sum);
        }
        Series::Events(events) => {
            let mut events = lock(events);
            for (q, value) in QUANTILES.iter().zip(events.quantiles(now).unwrap_or([f64::NAN; 3])) {
                let _ = writeln!(out, "{name}{} {value}", prometheus_labels(labels, Some(*q)));
            }
            let plain = prometheus_labels(labels, None);
            let _ = writeln!(out, "{name}_sum{plain} {}", events.sum);
            let _ = writeln!(out, "{name}_count{plain} {}", events.count);
        }
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn prometheus_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' }).collect()
}

fn prometheus_labels(labels: &Labels, quantile: Option<f64>) -> String {
    let escape = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut parts: Vec<String> =
        labels.iter().map(|(k, v)| format!("{}=\"{}\"", prometheus_name(k), escape(v))).collect();
    parts.extend(quantile.map(|q| format!("quantile=\"{q}\"")));
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

/// As Go prints a time, cut to the interval: `2026-11-21 06:39:30 +0000 UTC`.
fn timestamp(now: SystemTime) -> String {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let cut = i64::try_from(seconds - seconds % INTERVAL.as_secs()).unwrap_or(0);
    let time = jiff::Timestamp::from_second(cut).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_its_labels_is_one_series_in_both_forms() {
        let metrics = Metrics::new(&[("host", "n\"1")]);
        metrics.counter("nomad.nomad.rpc.query", &[]).increment();
        metrics.counter("nomad.nomad.rpc.query", &[]).add(2.0);
        metrics.gauge("nomad.broker.total_ready", &[("queue", "a-b")]).set(7.5);
        metrics.sample("nomad.plan.submit", &[]).record(10.0);
        let text = metrics.prometheus();
        for line in [
            "# TYPE nomad_nomad_rpc_query counter",
            "nomad_nomad_rpc_query{host=\"n\\\"1\"} 3",
            "# TYPE nomad_broker_total_ready gauge",
            "nomad_broker_total_ready{host=\"n\\\"1\",queue=\"a-b\"} 7.5",
            "# TYPE nomad_plan_submit summary",
            "nomad_plan_submit_sum{host=\"n\\\"1\"} 10",
            "nomad_plan_submit_count{host=\"n\\\"1\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
        }
        let json = serde_json::to_value(metrics.summary()).unwrap();
        assert_eq!(json["Counters"][0]["Count"], 2);
        assert_eq!(json["Counters"][0]["Sum"], 3.0);
        assert_eq!(json["Gauges"][0]["Value"], 7.5);
        assert_eq!(json["Samples"][0]["Labels"]["host"], "n\"1");
        assert_eq!(json["Points"], serde_json::json!([]));
    }

    #[test]
    fn a_gauge_is_absent_until_set_and_after_clear() {
        let metrics = Metrics::default();
        let gauge = metrics.gauge("g", &[]);
        assert_eq!(metrics.prometheus(), "");
        gauge.set(0.0);
        assert_eq!(metrics.prometheus(), "# TYPE g gauge\ng 0\n");
        gauge.clear();
        assert_eq!(metrics.prometheus(), "");
        assert!(metrics.summary().gauges.is_empty());
    }

    #[test]
    fn the_summary_reports_the_last_whole_interval() {
        let mut events = Events::new(Kind::Sample, 0);
        events.record(0, 1.0);
        events.record(0, 3.0);
        assert_eq!(events.recent(0).count, 2);
        events.record(1, 5.0);
        let window = events.recent(1);
        assert_eq!((window.count, window.sum, window.min, window.max), (2, 4.0, 1.0, 3.0));
        assert!((window.stddev() - std::f64::consts::SQRT_2).abs() < 1e-9);
        assert_eq!(events.recent(2).sum, 5.0);
        assert_eq!(events.recent(9).count, 0);
        assert_eq!((events.count, events.sum), (3, 9.0));
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let mut events = Events::new(Kind::Sample, 0);
        for i in 1..=1000 {
            events.record(0, f64::from(i));
        }
        let quantiles = events.quantiles(0).unwrap();
        for (got, want) in quantiles.iter().zip([500.0, 900.0, 990.0]) {
            assert!((got / want - 1.0).abs() < 0.2, "{got} for {want}");
        }
        for odd in [0.0, -1.0, 1e300, f64::NAN, f64::INFINITY] {
            events.record(0, odd);
        }
        assert_eq!(events.count, 1003);
    }

    #[test]
    fn labels_without_bound_do_not_eat_the_process() {
        let metrics = Metrics::default();
        for i in 0..SERIES_MAX + 10 {
            metrics.counter("c", &[("id", &i.to_string())]).increment();
        }
        assert_eq!(metrics.prometheus().lines().count(), SERIES_MAX + 1);
        // Another kind under a taken name counts into nothing.
        metrics.gauge("c", &[]).set(1.0);
        assert_eq!(metrics.prometheus().lines().count(), SERIES_MAX + 1);
    }

    #[test]
    fn the_timestamp_is_cut_to_the_interval() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_243_177);
        assert_eq!(timestamp(time), "2026-11-21 06:39:30 +0000 UTC");
    }
}
