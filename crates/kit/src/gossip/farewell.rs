//! Which of the failed members will not come back?
//!
//! Somebody says so by hand (`server force-leave`), and every member is told: at once by whoever was asked,
//! and by push-pull. A farewell is to one incarnation of a member. It takes effect when that has failed; one
//! that is alive keeps it for [`PATIENCE`] only, in case its failure is not noticed yet. A member that comes
//! back does so with a higher incarnation, to which nobody said farewell.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::member::Key;
use super::{Member, Status};

/// A member that is alive for longer after it was said farewell to did not fail.
const PATIENCE: Duration = Duration::from_secs(10);
/// Farewells remembered; the oldest go first.
const MAX: usize = 256;

/// Said of one incarnation of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Farewell {
    pub key: Key,
    pub incarnation: u64,
    /// It is not even to be listed.
    pub prune: bool,
}

struct Entry {
    incarnation: u64,
    prune: bool,
    since: Instant,
}

/// All that is known.
#[derive(Default)]
pub(super) struct Farewells(BTreeMap<Key, Entry>);

impl Farewells {
    /// Takes in what somebody said; `true` if it is news.
    pub fn take(&mut self, said: &Farewell, now: Instant) -> bool {
        let known = self.0.get(&said.key);
        if known.is_some_and(|k| {
            k.incarnation > said.incarnation || k.incarnation == said.incarnation && (k.prune || !said.prune)
        }) {
            return false;
        }
        if self.0.len() >= MAX && !self.0.contains_key(&said.key) {
            let oldest = self.0.iter().min_by_key(|(_, entry)| entry.since).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.0.remove(&key));
        }
        self.0.insert(said.key.clone(), Entry { incarnation: said.incarnation, prune: said.prune, since: now });
        true
    }

    /// What becomes of a member's status; `None` if it is not to be listed.
    pub fn seen(&mut self, member: &Member, status: Status, now: Instant) -> Option<Status> {
        let Some(entry) = self.0.get(&member.key()) else { return Some(status) };
        let over = member.incarnation > entry.incarnation;
        if over || status.is_there() {
            if over || now.saturating_duration_since(entry.since) > PATIENCE {
                self.0.remove(&member.key());
            }
            return Some(status);
        }
        (!entry.prune).then_some(Status::Left)
    }

    pub fn all(&self) -> Vec<Farewell> {
        let one = |(key, e): (&Key, &Entry)| Farewell { key: key.clone(), incarnation: e.incarnation, prune: e.prune };
        self.0.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::tls::Role;

    fn member(incarnation: u64) -> Member {
        Member {
            name: "a".into(),
            role: Role::State,
            region: "global".into(),
            datacenter: "dc1".into(),
            gossip: ([127, 0, 0, 1], 1).into(),
            api: ([127, 0, 0, 1], 2).into(),
            incarnation,
            tags: BTreeMap::new(),
        }
    }

    fn said(incarnation: u64, prune: bool) -> Farewell {
        Farewell { key: member(0).key(), incarnation, prune }
    }

    #[test]
    fn a_farewell_is_to_one_incarnation_and_only_when_that_has_failed() {
        let now = Instant::now();
        let mut all = Farewells::default();
        assert!(all.take(&said(5, false), now));
        assert!(!all.take(&said(5, false), now), "no news");
        assert!(!all.take(&said(4, true), now), "of what it was before");
        assert_eq!(all.seen(&member(5), Status::Alive, now), Some(Status::Alive));
        assert_eq!(all.seen(&member(5), Status::Failed, now), Some(Status::Left));
        assert!(all.take(&said(5, true), now));
        assert_eq!(all.seen(&member(5), Status::Failed, now), None, "pruned");
        assert_eq!(all.seen(&member(6), Status::Alive, now), Some(Status::Alive), "it is back");
        assert_eq!(all.seen(&member(6), Status::Failed, now), Some(Status::Failed), "and failed again");
    }

    #[test]
    fn one_that_stays_alive_is_not_said_farewell_to_later() {
        let now = Instant::now();
        let mut all = Farewells::default();
        all.take(&said(5, true), now);
        let later = now + PATIENCE + Duration::from_secs(1);
        assert_eq!(all.seen(&member(5), Status::Alive, later), Some(Status::Alive));
        assert_eq!(all.seen(&member(5), Status::Failed, later), Some(Status::Failed));
    }

    #[test]
    fn farewells_are_bounded() {
        let mut all = Farewells::default();
        let now = Instant::now();
        for n in 0..2 * MAX {
            let key = (Role::State, format!("s{n}").into(), "global".into());
            all.take(&Farewell { key, incarnation: 1, prune: false }, now);
        }
        assert_eq!(all.all().len(), MAX);
    }
}
