//! Containers without cores of their own run on the share that nobody has reserved.
//!
//! Compared with what the engine was last told: whenever the share changes, and every [`PERIOD`] for what could not
//! be told then. Ends with the driver.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerUpdateBody};

use super::engine::{sentence, timely};
use super::{Entry, Shared, locked};
use crate::cores::{Cores, Share};

const PERIOD: Duration = Duration::from_secs(3);

/// What the engine holds a container to.
pub(super) fn of(found: &ContainerInspectResponse) -> String {
    found.host_config.as_ref().and_then(|host| host.cpuset_cpus.clone()).unwrap_or_default()
}

/// What a new container is told; nothing while all cores are shared.
pub(super) fn for_new(cores: Option<&Arc<Cores>>) -> Option<String> {
    cores.map(|cores| cores.share()).filter(|share| !share.whole).map(|share| share.list)
}

/// Keeps all containers on the share.
pub(super) async fn keep(shared: Weak<Shared>, cores: Arc<Cores>) {
    let mut changes = cores.changes();
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let share = changes.borrow_and_update().clone();
        let entries: Vec<Arc<Entry>> = locked(&shared.tasks).values().cloned().collect();
        for entry in entries.iter().filter(|entry| differs(entry, &share)) {
            tell(&shared, entry, &share).await;
        }
        drop((shared, entries));
        if let Ok(Err(_)) = tokio::time::timeout(PERIOD, changes.changed()).await {
            return;
        }
    }
}

fn differs(entry: &Entry, share: &Share) -> bool {
    let now = locked(&entry.cpuset);
    // Never told anything, it has them all.
    entry.state.shares_cores && entry.exit.borrow().is_none() && *now != share.list && !(now.is_empty() && share.whole)
}

async fn tell(shared: &Shared, entry: &Entry, share: &Share) {
    let body = ContainerUpdateBody { cpuset_cpus: Some(share.list.clone()), ..ContainerUpdateBody::default() };
    match timely(shared.docker.update_container(&entry.state.container, body)).await {
        Ok(()) => share.list.clone_into(&mut locked(&entry.cpuset)),
        // It may have ended just now, or the engine is away.
        Err(error) => {
            tracing::debug!(container = entry.state.container, error = sentence(&error), "container keeps its cores");
        }
    }
}
