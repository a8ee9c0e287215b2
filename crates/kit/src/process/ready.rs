//! Can this process do its work?
//!
//! A set of named conditions; the process is ready when all of them hold. Each part that something
//! depends on adds its condition before it starts and keeps it current. A change is logged once,
//! at its edge.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

/// A condition that does not hold, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unmet {
    pub condition: String,
    pub reason: String,
}

/// The conditions of a process. Clones share them.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Reason a condition does not hold, or `None` if it does.
    conditions: Mutex<BTreeMap<&'static str, Option<String>>>,
    ready: watch::Sender<bool>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Without conditions: ready.
    pub fn new() -> Self {
        Self(Arc::new(Inner { conditions: Mutex::default(), ready: watch::channel(true).0 }))
    }

    /// Adds a condition that does not hold yet. Names are constants: `raft`, `feed`, `lease` …
    pub fn condition(&self, name: &'static str, reason: impl Into<String>) -> Condition {
        self.set(name, Some(reason.into()));
        Condition { name, readiness: self.clone() }
    }

    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// What stands in the way, by name of condition.
    pub fn unmet(&self) -> Vec<Unmet> {
        let conditions = self.lock();
        let unmet = conditions
            .iter()
            .filter_map(|(name, reason)| Some(Unmet { condition: (*name).to_owned(), reason: reason.clone()? }));
        unmet.collect()
    }

    /// Waits until all conditions hold.
    pub async fn ready(&self) {
        let mut ready = self.0.ready.subscribe();
        // The sender is in `self`, so the wait cannot fail.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Follows the state.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.0.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, name: &'static str, reason: Option<String>) {
        let mut conditions = self.lock();
        let held = conditions.get(name).is_some_and(Option::is_none);
        let known = conditions.contains_key(name);
        match &reason {
            None if !held => tracing::info!(condition = name, "condition holds"),
            Some(reason) if held || !known => tracing::info!(condition = name, reason, "condition does not hold"),
            _ => {}
        }
        conditions.insert(name, reason);
        let ready = conditions.values().all(Option::is_none);
        self.0.ready.send_if_modified(|now| std::mem::replace(now, ready) != ready);
    }
}

/// One condition of a [`Readiness`].
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

impl Condition {
    pub fn met(&self) {
        self.readiness.set(self.name, None);
    }

    pub fn unmet(&self, reason: impl Into<String>) {
        self.readiness.set(self.name, Some(reason.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_ready_when_every_condition_holds() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let raft = readiness.condition("raft", "no leader");
        let feed = readiness.condition("feed", "not caught up");
        assert_eq!(readiness.unmet().len(), 2);
        raft.met();
        assert!(!readiness.is_ready());
        feed.met();
        readiness.ready().await;
        raft.unmet("lost quorum");
        let unmet = Unmet { condition: "raft".to_owned(), reason: "lost quorum".to_owned() };
        assert_eq!(readiness.unmet(), vec![unmet]);
    }
}
