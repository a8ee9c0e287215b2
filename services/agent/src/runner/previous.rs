//! Who was here before: an allocation begins when what it takes the place of has ended.
//!
//! * What it preempts is on this node, and holds what the new one was promised: it is waited for, until its
//!   ports and devices are free.
//! * What it replaces may be here or elsewhere. Here, its runner says when it is over; elsewhere, the cluster
//!   does: ended, unknown (its node is out of touch and nobody can wait for it) or forgotten.
//! * With `sticky`, the files of one that was here move to the new one: what tasks share and each task's
//!   `local`. Where that fails, the new one begins without.
//!
//! Nobody waits in vain: an allocation that is stopped or forgotten meanwhile waits no longer, and starts
//! nothing. After a restart of the agent one that has not begun waits again.

use std::time::Duration;

use axum::http::HeaderValue;
use client::error::CallError;
use client::http::{Call, Http, Target};
use driver::taskdir::AllocDirs;
use model::{AllocId, ClientStatus, Role};
use tokio::sync::watch;

use super::{View, Wanted};
use crate::gateways::Gateways;

/// A gateway answers at the latest after this long.
const WAIT: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What has ended here gives back its ports and devices; nobody waits longer for that.
const RELEASE_MAX: Duration = Duration::from_secs(60);
/// As the public API says that it knows none of that id. Any other 404 says nothing about the allocation.
const FORGOTTEN: &str = "alloc not found";

/// Asks the cluster about allocations of other nodes.
#[derive(Clone)]
pub struct Elsewhere {
    pub http: Http,
    pub gateways: Gateways,
}

/// What is waited for.
#[derive(Default)]
pub struct Previous {
    pub here: Vec<watch::Receiver<View>>,
    /// Not on this node, or forgotten here.
    pub elsewhere: Option<AllocId>,
    /// Whose files move over.
    pub files: Option<AllocDirs>,
}

impl Previous {
    /// Waits for all of them, but no longer than the allocation is wanted.
    pub async fn ended(self, by: &Elsewhere, wanted: &mut watch::Receiver<Wanted>) -> Option<AllocDirs> {
        let Self { here, elsewhere, files } = self;
        let all = async {
            for mut view in here {
                // A view that is gone is one of an allocation that is removed.
                if view.wait_for(|view| view.finished.is_some()).await.is_ok() {
                    let released = view.wait_for(|view| view.released);
                    let _ = tokio::time::timeout(RELEASE_MAX, released).await;
                }
            }
            if let Some(id) = elsewhere {
                by.ended(&id).await;
            }
        };
        let unwanted = wanted.wait_for(|wanted| wanted.gone || wanted.alloc.server_terminal());
        let over = tokio::select! {
            () = all => true,
            _ = unwanted => false,
        };
        // Whatever came meanwhile is taken up as anything that comes later is.
        wanted.mark_changed();
        files.filter(|_| over)
    }
}

/// As much of a row as counts here.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Standing {
    client_status: ClientStatus,
    modify_index: u64,
}

impl Elsewhere {
    async fn ended(&self, id: &AllocId) {
        let (mut index, mut pause) = (0, PAUSE_MIN);
        for attempt in 0_usize.. {
            match self.read(id, index, attempt).await {
                Ok(None) => return,
                Ok(Some(row)) if row.client_status.is_terminal() || row.client_status == ClientStatus::Unknown => {
                    return;
                }
                Ok(Some(row)) if row.modify_index > index => {
                    (index, pause) = (row.modify_index, PAUSE_MIN);
                    continue;
                }
                Ok(Some(_)) => {}
                Err(error) => tracing::debug!(alloc_id = %id, error, "cluster does not say how an allocation stands"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The row once it is newer than the index, or as it is when the wait is over; `None` when there is none.
    async fn read(&self, id: &AllocId, index: u64, attempt: usize) -> Result<Option<Standing>, String> {
        let mut gateways = self.gateways.in_order();
        if gateways.is_empty() {
            gateways.extend(self.gateways.pick(None).await);
        }
        let addr = gateways.get(attempt % gateways.len().max(1)).ok_or("no gateway is known")?;
        let path = format!("/v1/allocation/{id}?index={index}&wait={}s", WAIT.as_secs());
        // Answered as anybody's: what agents may ask as agents has no such path.
        let call = Call::get(path, WAIT + Duration::from_secs(10))
            .header(api::headers::PASSED_ON, HeaderValue::from_static("1"));
        match self.http.poll(&Target::new(*addr, Role::Gateway), call).await {
            Ok(reply) => serde_json::from_slice(&reply.body).map(Some).map_err(|error| error.to_string()),
            Err(CallError::Status { status, body, .. }) if status == 404 && body.message.trim() == FORGOTTEN => {
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
