//! Containers of this node that no task is behind.
//!
//! Only containers whose label names this node are looked at: several clusters may share a daemon. The first
//! sweep that reaches the daemon takes whatever no stored handle names, since the agent that began it is gone;
//! later ones come once per `period` and take what no task holds. A node that leaves nothing behind ends them all.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::{KillContainerOptions, ListContainersOptions};
use futures::StreamExt as _;
use tokio::time::Instant;

use super::container::LABEL_OWNER;
use super::engine::{self, Meaning, meaning, sentence, timely};
use super::network::LABEL_HOLDER;
use super::options::Options;
use super::{Docker, State, locked, remove};
use crate::contract::DriverError;
use crate::orphans::Keep;

/// Containers that are ended at the same time.
const AT_ONCE: usize = 32;

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
        let found = list(&self.0.docker).await.map_err(|e| DriverError::Stop(sentence(&e)))?;
        locked(&self.0.sweeps).last = Some(Instant::now());
        if last.is_none() {
            self.0.images.resume();
        }
        let grace = if last.is_none() { Duration::ZERO } else { settings.creation_grace };
        let mut ended = 0;
        for id in self.unknown(&found, keep, grace) {
            if settings.dry_run {
                tracing::info!(container = id, "a container without a task would be removed");
                continue;
            }
            match remove(&self.0.docker, &id).await {
                Ok(()) => ended += 1,
                Err(error) => tracing::warn!(container = id, error = sentence(&error), "container is not removed"),
            }
        }
        Ok(ended)
    }

    pub(super) async fn end_everything(&self) -> Result<usize, DriverError> {
        self.0.closed.store(true, Ordering::SeqCst);
        end_of_node(&self.0.docker, &self.0.node_id, self.0.options.gc.container).await
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
            let runs = one.state == Some(ContainerSummaryStateEnum::RUNNING);
            // Kept on purpose.
            let left = !runs && !self.0.options.gc.container;
            // Whatever holds an allocation's network goes when the allocation has ended.
            if let Some(alloc) = labels.get(LABEL_HOLDER) {
                let old = one.created.is_none_or(|created| created <= oldest);
                return (!keep.networks.contains(alloc) && old).then(|| id.clone());
            }
            let held = keep.task_ids.contains(task_id) || known.contains(id) || left;
            (!held && one.created.is_none_or(|created| created <= oldest)).then(|| id.clone())
        });
        unknown.collect()
    }
}

/// Every container that carries an owner's mark, whoever that is.
async fn list(docker: &bollard::Docker) -> Result<Vec<ContainerSummary>, Error> {
    let filters = HashMap::from([("label".to_owned(), vec![LABEL_OWNER.to_owned()])]);
    let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
    timely(docker.list_containers(Some(options))).await
}

/// Ends all containers of a node, for when its agent could not. Says how many ran.
///
/// # Errors
/// The engine cannot be asked, or keeps one.
pub async fn end_all_of(options: &Options, node_id: &str) -> Result<usize, DriverError> {
    let docker = engine::connect(options).map_err(DriverError::Stop)?;
    end_of_node(&docker, node_id, options.gc.container).await
}

/// Containers that are kept on purpose are killed, and not removed.
async fn end_of_node(docker: &bollard::Docker, node_id: &str, removes: bool) -> Result<usize, DriverError> {
    let mark = format!("{node_id}/");
    let stop = |e: Error| DriverError::Stop(sentence(&e));
    let found = list(docker).await.map_err(stop)?;
    let ours = found.into_iter().filter_map(|one| {
        one.labels.as_ref()?.get(LABEL_OWNER)?.strip_prefix(&mark)?;
        Some((one.id?, one.state == Some(ContainerSummaryStateEnum::RUNNING)))
    });
    let ending = ours.map(|(id, runs)| async move {
        if removes {
            remove(docker, &id).await?;
        } else if runs {
            let options = KillContainerOptions { signal: "SIGKILL".to_owned() };
            match timely(docker.kill_container(&id, Some(options))).await {
                Err(error) if !matches!(meaning(&error), Meaning::NotFound | Meaning::Conflict) => return Err(error),
                _ => {}
            }
        }
        Ok(usize::from(runs))
    });
    let ended: Vec<Result<usize, Error>> = futures::stream::iter(ending).buffer_unordered(AT_ONCE).collect().await;
    ended.into_iter().sum::<Result<usize, Error>>().map_err(stop)
}

fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
