//! Containers of this node that no task is behind.
//!
//! Only containers whose label names this node are looked at: several clusters may share a daemon. The first
//! sweep that reaches the daemon takes whatever no stored handle names, since the agent that began it is gone;
//! later ones come once per `period` and take what no task holds.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptions;
use tokio::time::Instant;

use super::container::LABEL_OWNER;
use super::engine::{sentence, timely};
use super::{Docker, State, locked};
use crate::contract::DriverError;
use crate::orphans::Keep;

/// When containers were looked for.
#[derive(Default)]
pub(super) struct Sweeps {
    last: Option<Instant>,
}

impl Docker {
    pub(super) async fn sweep_dangling(&self, keep: &Keep) -> Result<usize, DriverError> {
        let settings = &self.0.options.gc.dangling_containers;
        let last = locked(&self.0.sweeps).last;
        // At the agent's start it is not a matter of housekeeping: what runs twice must not.
        let due = last.is_none_or(|last| settings.enabled && last.elapsed() >= settings.period);
        if !due || !self.0.health.info().healthy {
            return Ok(0);
        }
        let filters = HashMap::from([("label".to_owned(), vec![LABEL_OWNER.to_owned()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let found = timely(self.0.docker.list_containers(Some(options))).await;
        let found = found.map_err(|e| DriverError::Stop(sentence(&e)))?;
        locked(&self.0.sweeps).last = Some(Instant::now());
        let grace = if last.is_none() { Duration::ZERO } else { settings.creation_grace };
        let mut ended = 0;
        for id in self.unknown(&found, keep, grace) {
            if settings.dry_run {
                tracing::info!(container = id, "a container without a task would be removed");
                continue;
            }
            match self.remove(&id).await {
                Ok(()) => ended += 1,
                Err(error) => tracing::warn!(container = id, error = sentence(&error), "container is not removed"),
            }
        }
        Ok(ended)
    }

    /// The ids of ours that nobody knows.
    fn unknown(&self, found: &[ContainerSummary], keep: &Keep, grace: Duration) -> Vec<String> {
        let node = format!("{}/", self.0.node_id);
        let state = |handle: &crate::Handle| serde_json::from_value::<State>(handle.state.clone()).ok();
        let mut known: Vec<String> = keep.handles.iter().filter_map(state).map(|state| state.container).collect();
        known.extend(locked(&self.0.tasks).values().map(|entry| entry.state.container.clone()));
        let oldest = unix_seconds().saturating_sub(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX));
        let unknown = found.iter().filter_map(|one| {
            let (id, labels) = (one.id.as_ref()?, one.labels.as_ref()?);
            let task_id = labels.get(LABEL_OWNER)?.strip_prefix(&node)?;
            let runs = one.state == Some(bollard::models::ContainerSummaryStateEnum::RUNNING);
            // Kept on purpose.
            let left = !runs && !self.0.options.gc.container;
            let held = keep.task_ids.contains(task_id) || known.contains(id) || left;
            (!held && one.created.is_none_or(|created| created <= oldest)).then(|| id.clone())
        });
        unknown.collect()
    }
}

fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
