//! What moves next off the nodes that are being drained, and when is a drain over?
//!
//! ```text
//!   strategy set ─► service work, group by group, as fast as its migrate block lets it go
//!       │           batch work is left to end
//!       │             └─ deadline passed, or none was granted: whatever is left, all at once
//!       ▼ nothing but system work left
//!   system work (unless it is to stay) ─► all of it has ended ─► drain complete, node stays ineligible
//! ```
//!
//! Everything is read from rows: the strategy from the node, what moves already from the allocations' wish
//! to migrate. So a controller that takes over goes on where the last one stopped, with the same deadline,
//! and a drain that somebody cancels asks for nothing more. Whoever stops the allocations and places others
//! is the scheduler; what is marked here is only the wish.
//!
//! Invariants
//! * Of a group with `count` allocations at least `count - max_parallel` healthy ones stay in place, over all
//!   nodes, until a deadline; and at most `max_parallel` are without a verdict on their health at once.
//! * Nothing of a node that is not draining is marked, nothing twice.
//! * System work goes only when nothing else is left on its node.
//!
//! A group that cannot get healthy elsewhere (no room, or the replacement is unhealthy) stays where it is
//! until the deadline; without a deadline, until somebody mends it. The node's history and
//! `node drain -monitor` show what is left.

use std::collections::BTreeMap;

use fsm::State;
use fsm::command::Command;
use model::alloc::DesiredTransition;
use model::ids::NewId;
use model::node::DrainStrategy;
use model::{AllocId, Allocation, Evaluation, Job, JobId, JobKind, NamespaceName, Nanos, Node, Timestamp};

use crate::node::{event, node_event};
use crate::trigger::Trigger;

/// Nodes whose deadlines lie this close together are forced together: a job with work on several of them
/// is looked at once. Source: the reference's drain-007.
const COALESCED: Nanos = Nanos::from_secs(5);
/// Moves in one command.
const MOVES_MAX: usize = 1_000;
/// Says in a node's history that the deadline ended its drain.
const DEADLINE_REACHED: &str = "deadline_reached";

/// What to propose now, and when to look again though nothing happened.
#[derive(Debug, Default, PartialEq)]
pub struct Decision {
    pub commands: Vec<Command>,
    pub wake_at: Option<Timestamp>,
}

type GroupKey<'a> = (NamespaceName, JobId, &'a str);
type Moves<'a> = BTreeMap<&'a AllocId, &'a Allocation>;

/// Looks at all nodes that are being drained.
pub fn decide(state: &State, now: Timestamp, new_id: NewId<'_>) -> Decision {
    let mut drains: Vec<Drain<'_>> = state.nodes().filter_map(|node| Drain::of(state, node)).collect();
    let due = drains.iter().any(|drain| drain.is_due(now));
    let horizon = if due { now.plus(COALESCED) } else { now };
    for drain in &mut drains {
        drain.forced = drain.is_due(horizon);
    }
    let mut moves = Moves::new();
    let mut paced: BTreeMap<GroupKey<'_>, Vec<&Allocation>> = BTreeMap::new();
    for drain in drains.iter().filter(|drain| !drain.node.is_down()) {
        if drain.forced || drain.work.is_empty() {
            moves.extend(drain.leaving().map(|alloc| (&alloc.id, alloc)));
        } else {
            let service = drain.work.iter().filter(|(_, kind)| *kind == Some(JobKind::Service));
            for (alloc, _) in service.filter(|(alloc, _)| may_move(alloc)) {
                let (namespace, job_id) = alloc.job_key();
                paced.entry((namespace, job_id, &alloc.task_group)).or_default().push(alloc);
            }
        }
    }
    for ((namespace, job_id, group), candidates) in paced {
        if let Some(job) = state.job(&namespace, &job_id).filter(|job| !job.is_stopped()) {
            let next = next_of_group(state, job, group, candidates);
            moves.extend(next.into_iter().map(|alloc| (&alloc.id, alloc)));
        }
    }
    let mut commands = transitions(state, moves, now, new_id);
    commands.extend(drains.iter().filter(|drain| drain.is_over()).map(|drain| drain.completion(now)));
    let wake_at = drains.iter().filter(|drain| !drain.forced).filter_map(Drain::deadline).min();
    Decision { commands, wake_at }
}

/// One node's drain with what still lives there.
struct Drain<'a> {
    node: &'a Node,
    strategy: &'a DrainStrategy,
    forced: bool,
    work: Vec<(&'a Allocation, Option<JobKind>)>,
    system: Vec<&'a Allocation>,
}

impl<'a> Drain<'a> {
    fn of(state: &'a State, node: &'a Node) -> Option<Self> {
        let strategy = node.drain_strategy.as_ref()?;
        let (mut work, mut system) = (Vec::new(), Vec::new());
        for alloc in state.allocs_of_node(&node.id).filter(|alloc| !alloc.client_terminal()) {
            let job = state.job_of_alloc(alloc).or_else(|| state.job(&alloc.namespace, &alloc.job_id));
            match job.and_then(|job| job.kind()) {
                Some(JobKind::System) => system.push(alloc.as_ref()),
                kind => work.push((alloc.as_ref(), kind)),
            }
        }
        Some(Self { node, strategy, forced: false, work, system })
    }

    /// When what is left is forced; `None` for a drain that waits for ever.
    fn deadline(&self) -> Option<Timestamp> {
        (self.strategy.deadline.0 > 0).then_some(self.strategy.force_deadline)
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.strategy.deadline.0 < 0 || self.deadline().is_some_and(|at| at <= now)
    }

    /// What goes when nothing is waited for any more.
    fn leaving(&self) -> impl Iterator<Item = &'a Allocation> {
        let system = self.system.iter().copied().filter(|_| !self.strategy.ignore_system_jobs);
        let work: Vec<_> = self.work.iter().map(|(alloc, _)| *alloc).chain(system).collect();
        work.into_iter().filter(|alloc| may_move(alloc))
    }

    fn is_over(&self) -> bool {
        self.work.is_empty() && (self.strategy.ignore_system_jobs || self.system.is_empty())
    }

    fn completion(&self, now: Timestamp) -> Command {
        let mut event = node_event(event::DRAIN_COMPLETE, now);
        if self.forced && self.strategy.deadline.0 > 0 {
            event.details.insert(DEADLINE_REACHED.to_owned(), "true".to_owned());
        }
        Command::NodeDrain {
            node_id: self.node.id.clone(),
            drain: None,
            mark_eligible: false,
            meta: BTreeMap::new(),
            event: Some(event),
            evals: Vec::new(),
        }
    }
}

/// Still wanted where it is, and not asked to leave before.
fn may_move(alloc: &Allocation) -> bool {
    !alloc.is_terminal() && !alloc.desired_transition.should_migrate()
}

/// Those of a group's allocations on draining nodes that may go now. Canaries are no part of the group's
/// count; of the others the unhealthy go first, since nobody loses anything by it.
fn next_of_group<'a>(state: &State, job: &Job, group: &str, candidates: Vec<&'a Allocation>) -> Vec<&'a Allocation> {
    let Some(spec) = job.lookup_group(group) else { return Vec::new() };
    let count = spec.count.unwrap_or(1).max(0);
    let max_parallel = spec.migrate.as_ref().and_then(|migrate| migrate.max_parallel).unwrap_or(1).max(0);
    let (namespace, id) = job.key();
    let (mut healthy, mut settled) = (0_i64, 0_i64);
    for alloc in state.allocs_of_job(&namespace, &id) {
        let counts = alloc.task_group == group
            && may_move(alloc)
            && !alloc.is_canary()
            && alloc.job_incarnation() == Some(job.incarnation());
        if counts && let Some(verdict) = alloc.is_healthy() {
            settled += 1;
            healthy += i64::from(verdict);
        }
    }
    let room = max_parallel - (count - settled).max(0);
    let spare = healthy - (count - max_parallel);
    let (canaries, rest): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|alloc| alloc.is_canary());
    let of = |verdict: bool| rest.iter().copied().filter(move |alloc| alloc.is_healthy() == Some(verdict));
    let mut next: Vec<&Allocation> = of(false).take(at_least_0(room)).collect();
    let left = room - i64::try_from(next.len()).unwrap_or(i64::MAX);
    next.extend(of(true).take(at_least_0(left.min(spare))));
    next.extend(canaries);
    next
}

fn at_least_0(number: i64) -> usize {
    usize::try_from(number.max(0)).unwrap_or(usize::MAX)
}

/// The moves, with one evaluation for each job in a command.
fn transitions(state: &State, moves: Moves<'_>, now: Timestamp, new_id: NewId<'_>) -> Vec<Command> {
    let mut moves: Vec<&Allocation> = moves.into_values().collect();
    moves.sort_by(|a, b| (&a.namespace, &a.job_id, &a.id).cmp(&(&b.namespace, &b.job_id, &b.id)));
    let mut commands = Vec::new();
    for part in moves.chunks(MOVES_MAX) {
        let mut transitions = BTreeMap::new();
        let mut evals: Vec<Evaluation> = Vec::new();
        for alloc in part {
            let (namespace, job_id) = alloc.job_key();
            let current = state.job(&namespace, &job_id);
            let Some(job) = current.or_else(|| state.job_of_alloc(alloc)) else { continue };
            let ends = matches!(job.kind(), Some(JobKind::Batch | JobKind::SysBatch));
            let wish = DesiredTransition {
                migrate: Some(true),
                migrate_disable_placement: ends.then_some(true),
                ..DesiredTransition::default()
            };
            transitions.insert(alloc.id.clone(), wish);
            if evals.last().is_none_or(|last| (&last.namespace, &last.job_id) != (&namespace, &job_id)) {
                let mut eval = Trigger::NodeDrain.eval(&namespace, &job_id, job, now, &mut *new_id);
                eval.node_id = alloc.node_id.clone();
                evals.push(eval);
            }
        }
        if !transitions.is_empty() {
            commands.push(Command::AllocDesiredTransition { transitions, evals });
        }
    }
    commands
}
