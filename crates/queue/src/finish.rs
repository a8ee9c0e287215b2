//! Evaluations that the queue gives up: what their rows shall say, and asking until they say it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::hash::fnv1a;
use model::ids::NewId;
use model::{EvalId, EvalStatus, Evaluation, Nanos};

use crate::effect::Effect;
use crate::kind::Kind;
use crate::limits::Limits;
use crate::ready::{JobKey, job_key};
use crate::time::Now;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Another evaluation of the job was decided on a state that included this one.
    Superseded,
    /// Another blocked evaluation of the job is kept.
    BlockedDuplicate,
    /// Workers said too often that they failed.
    Failures(u32),
    /// No scheduler serves its type.
    UnknownKind,
}

#[derive(Debug)]
struct Item {
    row: Arc<Evaluation>,
    why: Why,
    due_ms: u64,
    /// Built once, so that asking again names the same follow-up.
    built: Option<(Evaluation, Option<Evaluation>)>,
}

/// What the outside knows that the rows of evaluations do not.
pub(crate) struct Outside<'a> {
    pub new_id: NewId<'a>,
    pub job_exists: &'a dyn Fn(&JobKey) -> bool,
}

#[derive(Debug, Default)]
pub(crate) struct Finishing {
    items: BTreeMap<EvalId, Item>,
    due: BTreeSet<(u64, EvalId)>,
}

impl Finishing {
    pub fn add(&mut self, row: Arc<Evaluation>, why: Why) {
        let id = row.id.clone();
        if self.items.contains_key(&id) {
            return;
        }
        self.due.insert((0, id.clone()));
        self.items.insert(id, Item { row, why, due_ms: 0, built: None });
    }

    pub fn contains(&self, id: &EvalId) -> bool {
        self.items.contains_key(id)
    }

    pub fn remove(&mut self, id: &EvalId) -> Option<Arc<Evaluation>> {
        let item = self.items.remove(id)?;
        self.due.remove(&(item.due_ms, id.clone()));
        Some(item.row)
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn ids(&self) -> impl Iterator<Item = &EvalId> {
        self.items.keys()
    }

    pub fn drain_rows(&mut self) -> Vec<Arc<Evaluation>> {
        self.due.clear();
        std::mem::take(&mut self.items).into_values().map(|item| item.row).collect()
    }

    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// One effect with what is due, or `None`.
    pub fn effect(&mut self, now: Now, limits: &Limits, outside: &mut Outside<'_>) -> Option<Effect> {
        let (mut evals, mut create) = (Vec::new(), Vec::new());
        while evals.len() < limits.effect_evals_max {
            let Some((due, id)) = self.due.first().filter(|(due, _)| *due <= now.mono_ms).cloned() else { break };
            self.due.remove(&(due, id.clone()));
            let Some(item) = self.items.get_mut(&id) else { continue };
            let (row, follow_up) =
                item.built.get_or_insert_with(|| build(&item.row, item.why, now, limits, outside)).clone();
            evals.push(row);
            create.extend(follow_up);
            item.due_ms = now.mono_ms.saturating_add(limits.effect_retry_ms.max(1));
            self.due.insert((item.due_ms, id));
        }
        if evals.is_empty() { None } else { Some(Effect::Finish { evals, create }) }
    }
}

fn build(
    row: &Evaluation,
    why: Why,
    now: Now,
    limits: &Limits,
    outside: &mut Outside<'_>,
) -> (Evaluation, Option<Evaluation>) {
    let mut done = row.clone();
    done.modify_time = now.wall.unix_nanos().max(row.create_time.saturating_add(1));
    let mut follow_up = None;
    (done.status, done.status_description) = match why {
        Why::Superseded => (EvalStatus::Cancelled, "superseded by another evaluation of the job".to_owned()),
        Why::BlockedDuplicate => (EvalStatus::Cancelled, "another evaluation of the job is blocked already".to_owned()),
        Why::UnknownKind => (EvalStatus::Failed, format!("no scheduler serves type {:?}", row.kind)),
        Why::Failures(n) => (EvalStatus::Failed, format!("evaluation reached delivery limit ({n})")),
    };
    if matches!(why, Why::Failures(_)) && Kind::of(row) != Some(Kind::Core) && (outside.job_exists)(&job_key(row)) {
        let next = next_try(row, now, limits, (outside.new_id)());
        done.next_eval = next.id.clone();
        follow_up = Some(next);
    }
    (done, follow_up)
}

/// The evaluation that tries again later. The spread comes from its random id, so that many which
/// failed together do not return together.
fn next_try(row: &Evaluation, now: Now, limits: &Limits, id: String) -> Evaluation {
    let spread_ms = fnv1a(id.as_bytes()).checked_rem(limits.follow_up_spread_ms).unwrap_or(0);
    let wait_ms = limits.follow_up_ms.saturating_add(spread_ms);
    let at = now.wall.unix_nanos();
    Evaluation {
        id: EvalId::from(id),
        namespace: row.namespace.clone(),
        priority: row.priority,
        kind: row.kind.clone(),
        triggered_by: "failed-follow-up".to_owned(),
        job_id: row.job_id.clone(),
        job_modify_index: row.job_modify_index,
        status: EvalStatus::Pending,
        wait: Nanos::from_millis(i64::try_from(wait_ms).unwrap_or(i64::MAX / 1_000_000)),
        previous_eval: row.id.clone(),
        create_time: at,
        modify_time: at,
        ..Evaluation::default()
    }
}
