//! How does a snapshot become the state?
//!
//! ```text
//!   Begin ─► Piece ─► Piece … ─► Commit ─► read whole? ─► the state is the snapshot's
//!     │                             │ no: refused, nothing changed, the pieces are dropped
//!     └ Abort, or another Begin: the pieces are dropped
//! ```
//!
//! It goes through the log like everything else, so every server takes it at the same place, and a server
//! that was away replays it.
//!
//! Invariants
//! * All or nothing: the pieces mean nothing before they were read as one snapshot, checksums included.
//! * Indexes never fall: the restored state stands beyond every index of its own and of the present history,
//!   and so do the fences of its nodes. What was decided before fits nowhere.
//! * It is on a line of history of its own: followers begin anew.
//! * The holders of leases stay who they are, and requests stay answered: both are about processes that live
//!   now, and not about the rows.

use std::sync::Arc;

use model::{DeploymentStatus, Index, NodeFence};

use super::tx::Tx;
use crate::change::Table;
use crate::command::{Refusal, Reply, RestoreStep};
use crate::commit::FENCE_SHIFT;
use crate::snapshot::read_snapshot;
use crate::state::State;

/// Text of a snapshot on its way in, at most.
pub const STAGED_BYTES_MAX: usize = 1 << 30;
const PIECES_MAX: usize = 4_096;

/// The pieces of a snapshot that are here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Staged {
    pub id: String,
    pub pieces: Vec<Arc<str>>,
}

impl Staged {
    fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }
}

pub(super) fn step(tx: &mut Tx, step: &RestoreStep) -> Result<Reply, Refusal> {
    match step {
        RestoreStep::Begin { id } => {
            tx.state.staged = Some(Arc::new(Staged { id: id.clone(), pieces: Vec::new() }));
        }
        RestoreStep::Piece { id, at, lines } => piece(tx, id, *at, lines)?,
        RestoreStep::Commit { id, epoch } => commit(tx, id, epoch)?,
        RestoreStep::Abort { id } => {
            staged(tx, id)?;
            tx.state.staged = None;
        }
    }
    Ok(Reply::Done)
}

fn staged<'a>(tx: &'a mut Tx, id: &str) -> Result<&'a mut Arc<Staged>, Refusal> {
    let staged = tx.state.staged.as_mut().filter(|staged| staged.id == id);
    staged.ok_or_else(|| Refusal::Conflict("this restore is over: another one began, or it was given up".to_owned()))
}

fn piece(tx: &mut Tx, id: &str, at: usize, lines: &str) -> Result<(), Refusal> {
    let staged = Arc::make_mut(staged(tx, id)?);
    if at != staged.pieces.len() {
        return Err(Refusal::Conflict(format!("piece {at} of a snapshot comes after {} others", staged.pieces.len())));
    }
    if staged.pieces.len() >= PIECES_MAX || staged.bytes() + lines.len() > STAGED_BYTES_MAX {
        return Err(Refusal::Invalid(format!("snapshot is larger than {STAGED_BYTES_MAX} bytes")));
    }
    staged.pieces.push(lines.into());
    Ok(())
}

fn commit(tx: &mut Tx, id: &str, epoch: &str) -> Result<(), Refusal> {
    let staged = Arc::clone(staged(tx, id)?);
    let text: String = staged.pieces.iter().map(AsRef::as_ref).collect();
    let restored = read_snapshot(text.as_bytes()).map_err(|e| Refusal::Invalid(e.to_string()))?;
    check(&tx.state, &restored, epoch)?;
    tx.state = settled(&tx.state, restored, tx.index, epoch);
    Ok(())
}

fn check(present: &State, restored: &State, epoch: &str) -> Result<(), Refusal> {
    let (ours, theirs) = (&present.cluster.region, &restored.cluster.region);
    if ours != theirs {
        return Err(Refusal::Conflict(format!("snapshot is of region {theirs:?}, this cluster is {ours:?}")));
    }
    if restored.followed.is_some() {
        return Err(Refusal::Invalid("snapshot does not hold all tables".to_owned()));
    }
    if epoch.is_empty() || epoch == present.cluster.epoch {
        return Err(Refusal::Invalid("a restored state needs an epoch of its own".to_owned()));
    }
    Ok(())
}

/// What stands after the restore that is committed at `at`.
fn settled(present: &State, restored: State, at: Index, epoch: &str) -> State {
    let index = Index(at.get().max(restored.index.get() + 1));
    let mut new = restored;
    new.offset = present.offset + (index.get() - at.get());
    new.index = index;
    new.table_index = [index; Table::ALL.len()];
    new.cluster.epoch = epoch.to_owned();
    new.cluster.feature_level = new.cluster.feature_level.max(present.cluster.feature_level);
    new.leases = present.leases.clone();
    new.requests = present.requests.clone();
    new.staged = None;
    let nodes: Vec<_> = new.nodes.keys().cloned().collect();
    for node in nodes {
        new.node_fences.insert(node, NodeFence(index.get() << FENCE_SHIFT));
    }
    cancel_orphans(&mut new);
    new
}

/// A deployment whose job is not in the snapshot goes nowhere.
fn cancel_orphans(state: &mut State) {
    let orphan = |row: &&Arc<model::Deployment>| {
        row.status.is_active() && !state.jobs.contains_key(&(row.namespace.clone(), row.job_id.clone()))
    };
    let orphans: Vec<_> = state.deployments.values().filter(orphan).cloned().collect();
    for row in orphans {
        let mut row = model::Deployment::clone(&row);
        row.status = DeploymentStatus::Cancelled;
        row.status_description = "Cancelled because its job is not in the restored snapshot".to_owned();
        row.modify_index = state.index;
        state.write_deployment(Arc::new(row));
    }
}
