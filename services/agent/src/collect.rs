//! Which finished allocations give up their files?
//!
//! Oldest end first, and only those whose end the cluster has acknowledged: removed when they ended too long
//! ago, when there are too many allocations, or when the disk is too full. What lives is never touched.

use std::path::Path;
use std::time::Duration;

use model::AllocId;
use tokio::time::Instant;

use crate::config::Config;
use crate::roster::Roster;

/// Removed in one go; the next look follows when they are gone.
const AT_ONCE: usize = 2;

/// When to remove.
#[derive(Clone, Debug)]
pub struct Limits {
    pub allocs_max: usize,
    pub age_max: Duration,
    pub disk_percent_max: f64,
    pub inode_percent_max: f64,
}

impl Limits {
    pub fn of(config: &Config) -> Self {
        Self {
            allocs_max: config.gc_max_allocs,
            age_max: config.gc_max_age.to_std(),
            disk_percent_max: config.gc_disk_usage_threshold,
            inode_percent_max: config.gc_inode_usage_threshold,
        }
    }
}

/// How full the disk is, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fullness {
    pub disk: f64,
    pub inodes: f64,
}

impl Fullness {
    #[allow(clippy::cast_precision_loss)]
    fn of(dir: &Path) -> Self {
        let Ok(stat) = rustix::fs::statvfs(dir) else { return Self::default() };
        let used = |total: u64, free: u64| {
            if total == 0 { 0.0 } else { 100.0 * total.saturating_sub(free) as f64 / total as f64 }
        };
        Self { disk: used(stat.f_blocks, stat.f_bfree), inodes: used(stat.f_files, stat.f_ffree) }
    }
}

/// One that may go: its name, and how long ago it ended.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub id: AllocId,
    pub age: Duration,
}

/// Which go now, out of `total` allocations. Pure.
pub fn choose(mut candidates: Vec<Candidate>, total: usize, full: Fullness, limits: &Limits) -> Vec<AllocId> {
    candidates.sort_by(|a, b| b.age.cmp(&a.age).then_with(|| a.id.cmp(&b.id)));
    let too_many = total.saturating_sub(limits.allocs_max);
    let too_full = full.disk > limits.disk_percent_max || full.inodes > limits.inode_percent_max;
    let chosen = candidates.into_iter().enumerate().filter(|(at, candidate)| {
        // A disk that is too full is looked at again after each removal.
        *at < too_many || (too_full && *at < AT_ONCE) || candidate.age > limits.age_max
    });
    chosen.map(|(_, candidate)| candidate.id).take(AT_ONCE).collect()
}

/// One look. Says what it did.
pub fn look(roster: &Roster, limits: &Limits) -> String {
    let views = roster.views();
    let host = roster.host();
    let now = Instant::now();
    let candidates = views.iter().filter(|v| v.report.client_status.is_terminal()).filter_map(|view| {
        let (id, age) = (view.alloc.id.clone(), now.saturating_duration_since(view.finished?));
        host.outbox.is_told(&id).then_some(Candidate { id, age })
    });
    let candidates: Vec<_> = candidates.collect();
    let full = Fullness::of(&host.alloc_base);
    let chosen = choose(candidates, views.len(), full, limits);
    let removed = chosen.iter().filter(|id| roster.collect(id)).count();
    if removed > 0 {
        tracing::info!(removed, allocs = views.len(), disk_percent = full.disk, "finished allocations are collected");
    }
    format!("removing {removed} of {}", views.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { allocs_max: 50, age_max: Duration::from_secs(1000), disk_percent_max: 80.0, inode_percent_max: 70.0 }
    }

    fn ended(ages: &[u64]) -> Vec<Candidate> {
        let one = |(at, age): (usize, &u64)| Candidate {
            id: format!("a{at}").as_str().into(),
            age: Duration::from_secs(*age),
        };
        ages.iter().enumerate().map(one).collect()
    }

    fn chosen(ages: &[u64], total: usize, disk: f64) -> Vec<String> {
        let full = Fullness { disk, inodes: 0.0 };
        choose(ended(ages), total, full, &limits()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn beyond_the_limit_the_oldest_goes_gc_01_gc_02() {
        assert_eq!(chosen(&[5, 9, 7], 51, 0.0), ["a1"]);
        assert!(chosen(&[5, 9, 7], 50, 0.0).is_empty());
        assert!(chosen(&[], 60, 0.0).is_empty());
    }

    #[test]
    fn a_full_disk_or_age_makes_them_go_a_few_at_a_time_gc_03_gc_04_gc_08() {
        assert_eq!(chosen(&[5, 9, 7], 3, 81.0), ["a1", "a2"]);
        assert_eq!(chosen(&[5, 2000, 7], 3, 0.0), ["a1"]);
        assert_eq!(chosen(&[5, 6, 7, 8], 54, 0.0).len(), AT_ONCE);
        let full = Fullness { disk: 0.0, inodes: 71.0 };
        assert_eq!(choose(ended(&[1]), 1, full, &limits()).len(), 1);
    }
}
