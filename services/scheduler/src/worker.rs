//! A worker: takes evaluations from the broker, decides, submits plans, gives verdicts.
//!
//! ```text
//!   session ─► dequeue several ─► wait until the replica has their wait index
//!      ▲            ▲                      │
//!      │            │          schedule one after the other, each seeing the plans before it
//!      │            │                      │
//!      │            └─ verdicts ◄─ submit all plans at once ─► refused or trimmed: look again, at most
//!      └─ broken: open another                                  so many times, then give up as blocked
//! ```
//!
//! A plan with more placements than one command may carry goes in pieces: the first as many, then the
//! evaluation is looked at again. An evaluation whose decision panics has failed; the others go on. When a
//! call to the broker breaks off, what it was about is unknown, so the session ends and everything in it
//! is delivered again at once.
//!
//! Nothing here is state: whatever a worker held when it died is delivered again, and reconciled against
//! what was committed.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use api::Code;
use api::applier::{PLACEMENTS_MAX, PLANS, PlansSubmitted, SubmitPlans};
use api::broker::{DEQUEUE, Delivered, Dequeue, Dequeued, Outcome, VERDICTS, Verdict, Verdicts};
use api::explain::Happening;
use client::active::{Active, ActiveError};
use client::error::CallError;
use client::http::{Call, Http};
use client::replica::Replica;
use client::state::{StateClient, new_uuid};
use fsm::{Plan, PlanRefusal, PlanResult};
use kit::process::Shutdown;
use model::{EvalStatus, Index};

use crate::Counts;
use crate::narrate;
use crate::pieces;
use crate::session::Session;
use crate::traces::Traces;
use crate::view::Views;

const DEQUEUE_WAIT: Duration = Duration::from_secs(20);
/// Evaluations of one dequeue.
const BATCH_MAX: usize = 32;
const CATCH_UP: Duration = Duration::from_secs(5);
const SUBMIT: Duration = Duration::from_secs(30);
const SUBMIT_RETRY: Duration = Duration::from_millis(50);
const VERDICT: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_millis(100);
/// Plans of one evaluation that may come to nothing before it is set aside. Source: the reference's limit for
/// services; its limit of two for batch jobs would set some aside in every burst.
const ATTEMPTS: u32 = 5;

#[derive(Clone)]
pub struct Worker {
    pub name: String,
    pub http: Http,
    pub broker: Active,
    pub applier: Active,
    pub state: StateClient,
    pub replica: Replica,
    pub views: Views,
    pub traces: Traces,
    pub counts: Counts,
}

/// One evaluation being worked on.
struct Work {
    delivered: Delivered,
    attempts: u32,
    /// The next look must see at least this.
    refresh: Index,
    /// The plan was too large for one command: there is more to do.
    goes_on: bool,
}

impl Work {
    fn verdict(&self, outcome: Outcome) -> Verdict {
        Verdict { eval_id: self.delivered.eval.id.clone(), token: self.delivered.token.clone(), outcome }
    }
}

impl Worker {
    /// Works until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        while !shutdown.is_requested() {
            match Session::open(&self.http, &self.broker, &self.name).await {
                Ok(session) => {
                    let _ = shutdown.or(self.serve(&session)).await;
                }
                Err(error) => tracing::debug!(error = %error, "no session with a broker"),
            }
            let _ = shutdown.or(tokio::time::sleep(IDLE)).await;
        }
    }

    /// Works within one session until it ends.
    async fn serve(&self, session: &Session) {
        let mut seen = Index(0);
        while !session.ended.is_cancelled() {
            let Some(found) = session.ended.run_until_cancelled(self.dequeue(session)).await else { return };
            if let Some(found) = found.filter(|found| !found.is_empty()) {
                seen = self.work(session, found, seen).await;
            }
        }
    }

    async fn dequeue(&self, session: &Session) -> Option<Vec<Delivered>> {
        let wait_ms = u64::try_from(DEQUEUE_WAIT.as_millis()).unwrap_or(0);
        let ask = Dequeue { session: session.name.to_string(), max: BATCH_MAX, wait_ms };
        let within = DEQUEUE_WAIT + Duration::from_secs(5);
        let found: Result<Dequeued, _> = self.http.poll_json(session.target.clone(), DEQUEUE, &ask, within).await;
        match found {
            Ok(found) => Some(found.deliveries),
            // Something may have been delivered and lost on the way: only the session's end brings it back.
            Err(error) => {
                tracing::debug!(error = %error, "nothing dequeued, opening another session");
                session.ended.cancel();
                None
            }
        }
    }

    /// Looks only at what is at least as new as `seen`, and returns where its own plans have led: the next look must
    /// see them, or it would place onto the room that they have taken.
    async fn work(&self, session: &Session, found: Vec<Delivered>, mut seen: Index) -> Index {
        let fresh =
            |delivered: Delivered| Work { refresh: delivered.wait_index, delivered, attempts: 0, goes_on: false };
        for delivered in &found {
            let detail = format!("by scheduler {}", self.name);
            self.traces.note(&delivered.eval.id, Happening::Dequeued, detail);
        }
        let mut todo: VecDeque<Work> = found.into_iter().map(fresh).collect();
        let mut verdicts = Vec::new();
        while !todo.is_empty() {
            let wanted = todo.iter().map(|w| w.refresh).max().unwrap_or_default().max(seen);
            if self.replica.committed(wanted, CATCH_UP).await.is_err() {
                tracing::warn!(index = wanted.get(), "replica lags, evaluations are returned");
                verdicts.extend(todo.drain(..).map(|w| w.verdict(Outcome::Returned)));
                break;
            }
            let batch: Vec<Work> = todo.drain(..).collect();
            let decided = tokio::task::block_in_place(|| self.decide(batch, &mut verdicts));
            let (batch, plans): (Vec<Work>, Vec<Plan>) = decided.into_iter().unzip();
            let mut batch = batch.into_iter();
            for plans in submissions(plans) {
                let of_these = batch.by_ref().take(plans.len());
                match self.submit(plans).await {
                    Some(results) => {
                        seen = results.iter().map(led_to).max().unwrap_or_default().max(seen);
                        for (work, result) in of_these.zip(results) {
                            self.conclude(work, result, &mut todo, &mut verdicts).await;
                        }
                    }
                    None => verdicts.extend(of_these.map(|w| w.verdict(Outcome::Returned))),
                }
            }
            // What is done is said at once, so that the next evaluation of the same job may go.
            self.give(session, std::mem::take(&mut verdicts)).await;
        }
        self.give(session, verdicts).await;
        seen
    }

    /// One plan per evaluation, each made on the ones before it.
    fn decide(&self, batch: Vec<Work>, verdicts: &mut Vec<Verdict>) -> Vec<(Work, Plan)> {
        let view = self.views.load_full();
        let mut fleet = view.fleet.clone();
        let mut decided = Vec::with_capacity(batch.len());
        for mut work in batch {
            let started = std::time::Instant::now();
            let eval = &work.delivered.eval;
            let decide = || {
                placement::schedule(placement::Request {
                    state: &view.state,
                    fleet: &fleet,
                    eval,
                    now: client::clock::unix_nanos(),
                    seed: seed(eval.id.as_str(), work.attempts),
                    retry: work.attempts > 0,
                    new_id: &mut new_uuid,
                    suspects: &|id| view.state.is_suspect(id),
                    clock: &client::clock::unix_nanos,
                })
            };
            let Some(decision) = guarded(decide) else {
                tracing::error!(eval_id = %eval.id, job_id = %eval.job_id, "deciding panicked, the evaluation failed");
                verdicts.push(work.verdict(Outcome::Failed));
                continue;
            };
            if let Some((_, sample)) = self.counts.schedule.iter().find(|(kind, _)| *kind == eval.kind) {
                sample.since(started);
            }
            self.traces.keep(&eval.id, decision.traces);
            let mut plan = decision.plan;
            work.goes_on = pieces::shorten(&mut plan, PLACEMENTS_MAX);
            fleet.assume(&plan);
            pieces::say_only_what_changes(&mut plan);
            self.traces.note(&eval.id, Happening::PlanSubmitted, narrate::plan(&plan));
            decided.push((work, plan));
        }
        decided
    }

    /// What became of the plans; `None` when no applier took them in time, which is nobody's fault.
    async fn submit(&self, plans: Vec<Plan>) -> Option<Vec<PlanResult>> {
        let deadline = tokio::time::Instant::now() + SUBMIT;
        let body = SubmitPlans { plans };
        let started = std::time::Instant::now();
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return None;
            }
            match self.applier.post::<_, PlansSubmitted>(PLANS, &body, left).await {
                Ok(submitted) if submitted.results.len() == body.plans.len() => {
                    self.counts.submit.since(started);
                    return Some(submitted.results);
                }
                Ok(_) => tracing::warn!("applier answered for another number of plans"),
                Err(ActiveError::Call(error)) if is_final(&error) => {
                    tracing::warn!(error = %error, "applier does not take these plans");
                    let refused = || PlanResult { refused: Some(PlanRefusal::TooLarge), ..PlanResult::default() };
                    return Some(body.plans.iter().map(|_| refused()).collect());
                }
                // Asking again is safe: a plan that went through makes the next one stale.
                Err(error) => tracing::debug!(error = %error, "plans not taken"),
            }
            tokio::time::sleep(SUBMIT_RETRY).await;
        }
    }

    async fn conclude(
        &self,
        mut work: Work,
        result: PlanResult,
        todo: &mut VecDeque<Work>,
        verdicts: &mut Vec<Verdict>,
    ) {
        let (what, detail) = narrate::result(&result);
        self.traces.note(&work.delivered.eval.id, what, detail);
        if result.is_full() && work.goes_on {
            // As much as fits into one command is done; the rest is decided on what that has changed.
            work.attempts = 0;
            work.refresh = work.refresh.max(result.index);
            todo.push_back(work);
            return;
        }
        if result.is_full() {
            verdicts.push(work.verdict(Outcome::Ack { index: result.index }));
            return;
        }
        match result.refused {
            // Somebody else finished it: nothing is left to do.
            Some(PlanRefusal::EvalFinished | PlanRefusal::EvalNotFound) => {
                verdicts.push(work.verdict(Outcome::Ack { index: result.refresh_index }));
                return;
            }
            Some(PlanRefusal::TooLarge | PlanRefusal::StaleDelivery) => {
                verdicts.push(work.verdict(Outcome::Failed));
                return;
            }
            _ => {}
        }
        work.attempts = attempts_after(work.attempts, &result);
        tracing::debug!(
            eval_id = %work.delivered.eval.id,
            job_id = %work.delivered.eval.job_id,
            attempt = work.attempts,
            refused = ?result.refused,
            dropped = ?result.dropped,
            "plan did not pass whole"
        );
        work.refresh = work.refresh.max(result.refresh_index).max(result.index);
        if work.attempts < ATTEMPTS {
            todo.push_back(work);
            return;
        }
        match self.give_up(&work).await {
            Some(index) => verdicts.push(work.verdict(Outcome::Ack { index })),
            None => verdicts.push(work.verdict(Outcome::Failed)),
        }
    }

    /// Too many conflicts: the evaluation fails and a blocked one takes its place.
    async fn give_up(&self, work: &Work) -> Option<Index> {
        let eval = &work.delivered.eval;
        tracing::warn!(eval_id = %eval.id, job_id = %eval.job_id, "plans kept conflicting, evaluation is set aside");
        let (failed, blocked) = placement::give_up(eval, work.attempts, client::clock::unix_nanos(), &mut new_uuid);
        debug_assert_eq!(failed.status, EvalStatus::Failed);
        let command = fsm::Command::EvalUpdate {
            evals: vec![fsm::command::EvalUpdate { eval: failed }],
            create: blocked.into_iter().collect(),
        };
        match self.state.propose(command, None, SUBMIT).await {
            Ok((index, _)) => Some(index),
            Err(error) => {
                tracing::warn!(error = %error, "evaluation cannot be set aside");
                None
            }
        }
    }

    async fn give(&self, session: &Session, verdicts: Vec<Verdict>) {
        if verdicts.is_empty() {
            return;
        }
        let body = Verdicts { session: session.name.to_string(), verdicts };
        let Ok(call) = Call::post(VERDICTS, VERDICT).json(&body) else { return };
        if let Err(error) = self.http.call(&session.target, call).await {
            tracing::debug!(error = %error, "verdicts not taken");
            // Stale ones were somebody else's; any other are delivered again with the session's end, and
            // found to be done.
            if error.code() != Code::StaleDelivery.as_str() {
                session.ended.cancel();
            }
        }
    }
}

/// `None` when it panicked.
fn guarded<T>(decide: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(decide)).ok()
}

/// Where a plan was committed; of one that was committed before and its answer lost, a later index.
fn led_to(result: &PlanResult) -> Index {
    result.index.max(result.refresh_index)
}

/// Progress resets the count: only rounds in which nothing was placed are held against an evaluation.
fn attempts_after(attempts: u32, result: &PlanResult) -> u32 {
    if result.placed.is_empty() { attempts + 1 } else { 0 }
}

/// Plans in order, cut where more would not go into one command.
fn submissions(plans: Vec<Plan>) -> Vec<Vec<Plan>> {
    let (mut all, mut placed) = (Vec::new(), 0);
    for plan in plans {
        let more = pieces::placements(&plan);
        if all.is_empty() || placed + more > PLACEMENTS_MAX {
            all.push(Vec::new());
            placed = 0;
        }
        placed += more;
        if let Some(last) = all.last_mut() {
            last.push(plan);
        }
    }
    all
}

/// The same plans will be refused again.
fn is_final(error: &CallError) -> bool {
    matches!(error.status().map(|s| s.as_u16()), Some(400 | 413 | 422))
}

/// Ties and ports are drawn from the evaluation, so that two schedulers do not like the same nodes.
pub fn seed(eval: &str, attempt: u32) -> u64 {
    let start = model::hash::START ^ u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    model::hash::fnv1a_from(start, eval.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// q-service-083: the verdict is then that it failed, and the queue delivers it again.
    #[test]
    fn service_083_a_decision_that_panics_is_an_error_of_its_evaluation_only() {
        assert_eq!(guarded(|| 7), Some(7));
        assert_eq!(guarded::<u32>(|| panic!("as a test")), None);
    }

    #[test]
    fn util_002_only_rounds_without_progress_count() {
        let placed = PlanResult { placed: vec!["a".into()], ..PlanResult::default() };
        let nothing = PlanResult::default();
        let mut attempts = 0;
        for _ in 0..ATTEMPTS - 1 {
            attempts = attempts_after(attempts, &nothing);
        }
        assert_eq!(attempts, ATTEMPTS - 1);
        assert_eq!(attempts_after(attempts, &placed), 0);
        assert_eq!(attempts_after(attempts, &nothing), ATTEMPTS, "the limit");
    }
}
