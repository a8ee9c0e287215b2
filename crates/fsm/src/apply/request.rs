//! A request that was answered is answered again the same way, and not run again.
//!
//! What tells two uses of an id apart is the hash of their body: who asks, and what for. When and under which lease is
//! no part of it, for whoever tries again may say those anew. The text of a log entry is the same on all servers, and
//! our own proposers write the command last: then it is hashed as it stands there, else it is written once more to be
//! hashed. Both give the same for a command as [`model::sparse`] writes it, which all our proposers do; the same
//! command written otherwise counts as another body.

use model::{Index, Role};
use serde::Serialize;

use crate::change::Change;
use crate::command::{Command, Envelope, LeaseFence, Refusal, Reply, RequestId};
use crate::hash;
use crate::state::State;
use crate::window::Seen;

type Run = fn(&mut State, Index, &Envelope) -> (Reply, Vec<Change>);

/// Runs the command unless its request is known. `entry` is the envelope's text, where that is at hand.
pub(super) fn once(
    state: &mut State,
    index: Index,
    envelope: &Envelope,
    entry: Option<&[u8]>,
    run: Run,
) -> (Reply, Vec<Change>) {
    let Some(id) = envelope.request else { return run(state, index, envelope) };
    let body = match entry.and_then(|entry| command_text(envelope, entry)) {
        Some(text) => hash_text(envelope.proposer, text),
        None => hash_value(envelope.proposer, &envelope.command),
    };
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

fn hash_text(proposer: Role, command: &[u8]) -> u64 {
    let mut hash = hash::Hash::default();
    hash.update(proposer.as_str().as_bytes());
    hash.update(b"\n");
    hash.update(command);
    hash.value()
}

fn hash_value(proposer: Role, command: &Command) -> u64 {
    // What was read can be written, and if not, then on no server.
    hash_text(proposer, &model::sparse::to_vec(command).unwrap_or_default())
}

/// The text of the command in the envelope's, if everything else of the envelope comes before it.
fn command_text<'a>(envelope: &Envelope, entry: &'a [u8]) -> Option<&'a [u8]> {
    let Envelope { request, proposer, lease, now, command: _ } = envelope;
    let head = Head { request: *request, proposer: *proposer, lease: lease.as_ref(), now: *now };
    let head = model::sparse::to_vec(&head).ok()?;
    let behind = entry.strip_prefix(head.strip_suffix(b"}")?)?;
    behind.strip_prefix(b",\"command\":")?.strip_suffix(b"}")
}

/// An [`Envelope`] but for its command, written like one.
#[derive(Serialize)]
struct Head<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestId>,
    proposer: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<&'a LeaseFence>,
    now: i64,
}

#[cfg(test)]
mod tests {
    use model::Term;

    use super::*;
    use crate::command::LeaseName;
    use crate::plan::Plan;

    fn envelope(lease: bool, command: Command) -> Envelope {
        Envelope {
            request: Some(RequestId { at_ms: 5, random: 6 }),
            proposer: Role::Applier,
            lease: lease.then_some(LeaseFence { lease: LeaseName::Applier, term: Term(7) }),
            now: -8,
            command,
        }
    }

    #[test]
    fn a_command_as_proposers_write_it_is_hashed_as_it_stands_and_any_other_way_of_writing_it_comes_to_the_same() {
        let commands = [
            Command::SummariesReconcile,
            Command::LeaseExpire { lease: LeaseName::Broker, term: Term(3) },
            Command::PlanApply { plans: vec![Plan { job_id: "j".into(), ..Plan::default() }] },
        ];
        for (command, lease) in commands.into_iter().flat_map(|command| [(command.clone(), false), (command, true)]) {
            let envelope = envelope(lease, command);
            let entry = model::sparse::to_vec(&envelope).unwrap();
            let text = command_text(&envelope, &entry).expect("our own order");
            assert_eq!(text, model::sparse::to_vec(&envelope.command).unwrap());
            assert_eq!(hash_text(Role::Applier, text), hash_value(Role::Applier, &envelope.command));
            // Sorted by name, as other clients write it, and in rows of its own.
            let other: serde_json::Value = serde_json::from_slice(&entry).unwrap();
            for other in [serde_json::to_vec(&other).unwrap(), serde_json::to_vec_pretty(&envelope).unwrap()] {
                assert_eq!(serde_json::from_slice::<Envelope>(&other).unwrap(), envelope);
                assert_eq!(command_text(&envelope, &other), None);
            }
        }
    }

    #[test]
    fn another_command_or_another_proposer_is_another_body() {
        let (one, two) = (Command::EvalUnblock { evals: Vec::new(), reason: "a".into() }, Command::SummariesReconcile);
        assert_ne!(hash_value(Role::Broker, &one), hash_value(Role::Broker, &two));
        assert_ne!(hash_value(Role::Broker, &one), hash_value(Role::Applier, &one));
    }
}
