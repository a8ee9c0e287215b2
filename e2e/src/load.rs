//! What clients want of a cluster while its processes fail, by chance that a seed repeats.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use client::public::{PublicClient, Query};
use serde_json::Value;

use crate::fleet::{Fleet, sleeping_job};

/// Chance that can be had again: splitmix64.
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    /// From `STEPPE_SEED`, or from the clock; printed, so that a failure can be had again.
    pub fn new(test: &str) -> Self {
        let given = std::env::var("STEPPE_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let seed = given.unwrap_or_else(now);
        println!("{test}: STEPPE_SEED={seed} repeats it");
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.draw() % (to - from).max(1))
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// `--long` of `scripts/test`: what takes longer is wanted, too.
pub fn is_long() -> bool {
    std::env::var_os("STEPPE_LONG").is_some_and(|v| !v.is_empty() && v != "0")
}

/// Jobs of one sleeping task each, submitted while things fail; what became known of each.
#[derive(Clone, Default)]
pub struct Submitted {
    acknowledged: Rc<RefCell<BTreeSet<String>>>,
    /// Asked for, and nobody knows whether they are there.
    unknown: Rc<RefCell<BTreeSet<String>>>,
}

impl Submitted {
    pub fn acknowledged(&self) -> BTreeSet<String> {
        self.acknowledged.borrow().clone()
    }

    /// Submits one job once, as a client without a request id does.
    pub async fn submit(&self, api: PublicClient, id: String) {
        let sent: Result<(Value, _), _> = api.put("/v1/jobs", &Query::default(), &sleeping_job(&id, 1)).await;
        match sent {
            Ok(_) => self.acknowledged.borrow_mut().insert(id),
            // Only what cannot be due to the fault is the test's mistake.
            Err(error) if error.status().is_some_and(|s| s.is_client_error()) => panic!("{id}: {error}"),
            Err(error) => {
                println!("{id} is not acknowledged: {error}");
                self.unknown.borrow_mut().insert(id)
            }
        };
    }

    /// What is not yet as it should be: every acknowledged job runs exactly once, by the API and on this
    /// machine, and none of the others more than once.
    pub async fn missing(&self, fleet: &Fleet) -> Vec<String> {
        let allocs = fleet.get("/v1/allocations?task_states=false").await;
        let Some(Value::Array(allocs)) = allocs else { return vec!["the API does not answer".to_owned()] };
        let mut by_api: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for alloc in allocs {
            let is_over = matches!(alloc["ClientStatus"].as_str(), Some("complete" | "failed" | "lost"));
            if alloc["DesiredStatus"] == "run" && !is_over {
                let status = alloc["ClientStatus"].as_str().unwrap_or_default().to_owned();
                by_api.entry(alloc["Name"].as_str().unwrap_or_default().to_owned()).or_default().push(status);
            }
        }
        let on_host = fleet.census();
        let mut wrong = Vec::new();
        let unknown = self.unknown.borrow();
        let acknowledged = self.acknowledged.borrow();
        let all = acknowledged.iter().map(|id| (id, true)).chain(unknown.iter().map(|id| (id, false)));
        for (id, must) in all {
            let name = format!("{id}.g[0]");
            let api = by_api.get(&name).cloned().unwrap_or_default();
            let host = on_host.get(&name).map_or(0, Vec::len);
            let runs = api == ["running"] && host == 1;
            let is_absent = api.is_empty() && host == 0;
            if !(runs || !must && is_absent) {
                wrong.push(format!("{name}: {api:?} by the API, {host} on the host"));
            }
        }
        let known = |name: &String| acknowledged.iter().chain(unknown.iter()).any(|id| *name == format!("{id}.g[0]"));
        wrong.extend(by_api.keys().chain(on_host.keys()).filter(|name| !known(name)).map(|n| format!("{n}: nobody's")));
        wrong
    }

    /// Waits until nothing is missing; how long it took.
    pub async fn until_exact(&self, fleet: &Fleet, within: Duration, after: &str) -> Duration {
        let began = Instant::now();
        loop {
            let wrong = self.missing(fleet).await;
            if wrong.is_empty() {
                return began.elapsed();
            }
            if began.elapsed() > within {
                let of = self.acknowledged.borrow().len();
                panic!("{after}: not within {within:?} ({} of {of}): {wrong:#?}\n{}", wrong.len(), fleet.complaints());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
