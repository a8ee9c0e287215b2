//! A request that was answered is answered again the same way, and not run again.

use model::Index;

use crate::change::Change;
use crate::command::{Envelope, Refusal, Reply};
use crate::hash;
use crate::state::State;
use crate::window::Seen;

type Run = fn(&mut State, Index, &Envelope) -> (Reply, Vec<Change>);

/// Runs the command unless its request is known.
pub(super) fn once(state: &mut State, index: Index, envelope: &Envelope, run: Run) -> (Reply, Vec<Change>) {
    let Some(id) = envelope.request else { return run(state, index, envelope) };
    let body = hash::of(&(envelope.proposer, &envelope.command));
    let now_ms = u64::try_from(envelope.now / 1_000_000).unwrap_or(0);
    if let Some(reply) = state.requests.answer(id, body, now_ms) {
        return (reply, Vec::new());
    }
    let (reply, changes) = run(state, index, envelope);
    // A caller in the wrong role learns nothing of others' requests and takes none of their ids.
    if !matches!(reply, Reply::Refused(Refusal::WrongRole { .. })) {
        state.requests.remember(id, Seen { body, index, reply: reply.clone() }, now_ms);
    }
    (reply, changes)
}
