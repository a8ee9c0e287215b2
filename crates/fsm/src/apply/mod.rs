//! How does a command change the state?
//!
//! ```text
//!   envelope ─► answered before? ─► role ─► lease ─► command ─► settle ─► new state, changes, reply
//!                   │ reply            └──────┴─────────┴ refused: the old state, no changes
//! ```
//!
//! A command works on a copy of the state (cheap: the tables share what they do not change), so a
//! refusal half-way leaves nothing behind. What follows from several rows is written once, at the end
//! ([`tx::Tx::settle`]): deployments' counters, versions no longer needed, job status, summaries, and the
//! news that room appeared.
//!
//! Invariants
//! * Every command moves the index, refused or not; only an accepted one changes rows.
//! * No row is written but through [`State::commit`], and each write is in `changes`, in order: a follower
//!   that commits them holds the same.
//! * Everything a command needs of time and chance is in its envelope.

mod access;
mod alloc;
mod care;
mod config;
mod delete;
mod deployment;
mod eval;
mod job;
mod launch;
mod lease;
mod node;
mod plan;
mod plan_verdict;
mod plan_write;
mod reap;
mod request;
mod restore;
mod scaling;
mod summaries;
mod tx;

pub(crate) use restore::Staged;
pub(crate) use tx::bucket;

use model::Index;

use crate::change::{Change, FeedLine};
use crate::command::{Command, Envelope, Refusal, Reply};
use crate::hash;
use crate::state::State;
use tx::Tx;

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub reply: Reply,
    /// The row changes, in order. None when it was refused.
    pub changes: Vec<Change>,
    /// The changes as JSON, one by one: the hash needs it, and so does the feed. None if one has no such form.
    pub texts: Vec<String>,
    /// Index of the command before.
    pub previous: Index,
    /// [`Command::cause`]; empty when it was refused.
    pub cause: &'static str,
}

impl Outcome {
    /// The line of the feed; `state` is the one the command was applied to.
    pub fn into_line(self, state: &State) -> FeedLine {
        FeedLine {
            index: state.index(),
            previous: self.previous,
            epoch: state.cluster().epoch.clone(),
            hash: state.hash_text(),
            cause: self.cause.to_owned(),
            changes: self.changes,
        }
    }
}

/// Applies the log entry at `index`. Never fails: what cannot be done is refused in the reply.
pub fn apply(state: &mut State, index: Index, envelope: &Envelope) -> Outcome {
    apply_text(state, index, envelope, None)
}

/// As [`apply`], of an entry that reads `entry`: its request is told from others without being written anew.
pub fn apply_entry(state: &mut State, index: Index, envelope: &Envelope, entry: &[u8]) -> Outcome {
    apply_text(state, index, envelope, Some(entry))
}

fn apply_text(state: &mut State, index: Index, envelope: &Envelope, entry: Option<&[u8]>) -> Outcome {
    let previous = state.index();
    if index <= previous {
        let refusal = Refusal::Invalid(format!("log index {index} is not behind {previous}"));
        return Outcome { reply: Reply::Refused(refusal), changes: Vec::new(), texts: Vec::new(), previous, cause: "" };
    }
    let (reply, changes) = request::once(state, index, envelope, entry, run);
    // A restore takes it further.
    state.index = state.index.max(index);
    let texts = texts(&changes).unwrap_or_default();
    let is_whole = texts.len() == changes.len();
    state.hash = if is_whole { hash::roll_texts(state.hash, &texts) } else { hash::roll(state.hash, &changes) };
    let cause = if changes.is_empty() { "" } else { envelope.command.cause() };
    Outcome { reply, changes, texts, previous, cause }
}

/// The changes as JSON, each in a text of its size: the feed keeps them.
fn texts(changes: &[Change]) -> Option<Vec<String>> {
    let mut buffer = Vec::new();
    let text = |change| {
        buffer.clear();
        model::sparse::to_writer(&mut buffer, change).ok()?;
        str::from_utf8(&buffer).ok().map(str::to_owned)
    };
    changes.iter().map(text).collect()
}

fn run(state: &mut State, index: Index, envelope: &Envelope) -> (Reply, Vec<Change>) {
    let checked = access::role(envelope).and_then(|()| access::lease(state, envelope));
    let mut tx = Tx::new(state.clone(), index, envelope);
    match checked.and_then(|()| dispatch(&mut tx, &envelope.command)) {
        Ok(reply) => {
            let (settled, changes) = tx.settle();
            *state = settled;
            (reply, changes)
        }
        Err(refusal) => (Reply::Refused(refusal), Vec::new()),
    }
}

fn dispatch(tx: &mut Tx, command: &Command) -> Result<Reply, Refusal> {
    match command {
        Command::ClusterInit { region, epoch, with } => config::cluster_init(tx, region, epoch, with.as_deref()),
        Command::FeatureLevel { level } => config::feature_level(tx, *level),
        Command::LeaseAcquire { lease, holder, addr } => lease::acquire(tx, *lease, holder, addr),
        Command::LeaseRelease { lease, holder, term } => lease::release(tx, *lease, holder, *term),
        Command::LeaseExpire { lease, term } => lease::expire(tx, *lease, *term),
        Command::JobRegister(register) => job::register(tx, register),
        Command::JobDeregister(deregister) => job::deregister(tx, deregister),
        Command::JobScale(scale) => scaling::scale(tx, scale),
        Command::JobTag(tag) => job::tag(tx, tag),
        Command::JobDispatch(dispatch) => launch::dispatch(tx, dispatch),
        Command::JobLaunch(launch) => launch::launch(tx, launch),
        Command::JobStability { namespace, job_id, version, stable } => {
            job::stability(tx, namespace, job_id, *version, *stable)
        }
        Command::EvalCreate { evals } => eval::create(tx, evals),
        Command::EvalUpdate { evals, create } => eval::update(tx, evals, create),
        Command::EvalUnblock { evals, reason } => eval::unblock(tx, evals, reason),
        Command::EvalFinish { evals, create } => eval::finish(tx, evals, create),
        Command::PlanApply { plans } => plan::apply(tx, plans),
        Command::NodeRegister { node, evals } => node::register(tx, node, evals),
        Command::NodeStatusUpdate { updates, evals } => node::status(tx, updates, evals),
        Command::NodeSuspect { suspects } => node::suspect(tx, suspects),
        Command::NodeEligibility { node_id, eligibility, event, evals } => {
            node::eligibility(tx, node_id, *eligibility, event.as_ref(), evals)
        }
        Command::NodeDrain { node_id, drain, mark_eligible, meta, event, evals } => {
            let wish = node::Drain { strategy: drain.as_ref(), mark_eligible: *mark_eligible, meta };
            node::drain(tx, node_id, &wish, event.as_ref(), evals)
        }
        Command::NodeDeregister { nodes, revoke, evals } => node::deregister(tx, nodes, *revoke, evals),
        Command::NodeAdmit { nodes, admission } => node::admit(tx, nodes, admission),
        Command::AllocClientUpdate { updates, evals } => alloc::client_update(tx, updates, evals),
        Command::AllocDesiredTransition { transitions, evals } => alloc::transition(tx, transitions, evals),
        Command::DeploymentUpdate(update) => deployment::update(tx, update),
        Command::SchedulerConfigSet { config, cas } => config::scheduler(tx, config, *cas),
        Command::NamespaceUpsert { namespaces } => config::namespaces(tx, namespaces),
        Command::NodePoolUpsert { pools } => config::node_pools(tx, pools),
        Command::AutopilotSet { config, cas } => care::autopilot(tx, config, *cas),
        Command::RootKeyAdd { key, material, replaces } => care::root_key(tx, key, material, *replaces),
        Command::RootKeyActivate { key_id } => care::activate(tx, key_id),
        Command::RootKeyRemove { key_id, force } => care::remove_key(tx, key_id, *force),
        Command::Restore(step) => restore::step(tx, step),
        Command::NodePoolDelete { names } => delete::node_pools(tx, names),
        Command::NamespaceDelete { names } => delete::namespaces(tx, names),
        Command::EvalDelete { evals } => delete::evals(tx, evals),
        Command::SummariesReconcile => summaries::reconcile(tx),
        Command::Reap { evals, allocs, deployments, jobs } => reap::reap(tx, evals, allocs, deployments, jobs),
    }
}
