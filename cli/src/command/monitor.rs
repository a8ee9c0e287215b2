//! Watching what a change leads to, as it happens: an evaluation until it is decided, then the deployment
//! it made until that ends.
//!
//! ```text
//!   evaluation ──(blocking query)──► its allocations ──► next evaluation, or
//!                                                        deployment ──(blocking query)──► its end
//! ```
//!
//! On a terminal the deployment is one block drawn over itself; elsewhere a line for each change. A
//! gateway that goes away meanwhile is waited for. Answers the command's exit code: 0, 1 for a failure,
//! 2 when not everything could be placed.

use std::time::Duration;

use client::public::{PublicError, Query};
use model::alloc::AllocStub;
use model::{Deployment, DeploymentStatus, EvalStatus, Evaluation, Index};
use serde::de::DeserializeOwned;

use super::{CODE_UNPLACED, Cx, Failure, placement, show};
use crate::format::{id, indent, table};
use crate::ui::Tone;

const WAIT: Duration = Duration::from_secs(60);
/// How often a call that failed on its way is repeated, and after which pause.
const TRIES: usize = 60;
const PAUSE: Duration = Duration::from_millis(500);
/// Evaluations in a row, each following from the one before.
const CHAIN_MAX: usize = 16;

/// What was asked for, which decides what a deployment's end means to the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// What a deployment rolls out.
    Rollout,
    /// The deployment's failure.
    Failure,
    /// Something beside deployments: one that was over before is nobody's matter.
    Beside,
}

/// Watches an evaluation and what follows from it.
///
/// # Errors
/// The API's, if it stays unreachable or refuses.
pub async fn evaluation(cx: &mut Cx, eval_id: &str, namespace: &str) -> Result<u8, Failure> {
    evaluation_for(cx, eval_id, namespace, Aim::Rollout).await
}

/// The same for what was asked for by `aim`.
///
/// # Errors
/// As [`evaluation`].
pub async fn evaluation_for(cx: &mut Cx, eval_id: &str, namespace: &str, aim: Aim) -> Result<u8, Failure> {
    let mut next = eval_id.to_owned();
    for _ in 0..CHAIN_MAX {
        let eval = until_decided(cx, &next, namespace).await?;
        let shown = id(&eval.id, cx.verbose());
        if eval.status == EvalStatus::Failed || eval.status == EvalStatus::Cancelled {
            let why = if eval.status_description.is_empty() {
                String::new()
            } else {
                format!(": {}", eval.status_description)
            };
            headline(cx, &format!("Evaluation {shown:?} finished with status \"{}\"{why}", eval.status));
            return Ok(1);
        }
        if !eval.failed_tg_allocs.is_empty() {
            headline(
                cx,
                &format!(
                    "Evaluation {shown:?} finished with status \"{}\" but failed to place all allocations:",
                    eval.status
                ),
            );
            let reasons = indent(&placement::failures(&eval.failed_tg_allocs), 4);
            cx.ui.line(reasons);
            if let Some(blocked) = eval.blocked_eval.non_empty() {
                let blocked = id(blocked, cx.verbose());
                cx.ui.line(format!("    Evaluation {blocked:?} waiting for additional capacity to place remainder"));
            }
            return Ok(CODE_UNPLACED);
        }
        headline(cx, &format!("Evaluation {shown:?} finished with status \"{}\"", eval.status));
        if let Some(following) = eval.next_eval.non_empty() {
            next = following.to_string();
            continue;
        }
        return match eval.deployment_id.non_empty() {
            Some(deployment_id) if eval.triggered_by != "job-deregister" => {
                let deployment_id = deployment_id.to_string();
                if aim == Aim::Beside && was_over(cx, &deployment_id, &eval).await? {
                    return Ok(0);
                }
                watch_deployment(cx, &deployment_id, namespace, aim).await
            }
            _ => Ok(0),
        };
    }
    Ok(0)
}

/// Whether the deployment had ended before the evaluation was made.
async fn was_over(cx: &Cx, deployment_id: &str, eval: &Evaluation) -> Result<bool, Failure> {
    let path = format!("/v1/deployment/{deployment_id}");
    let (now, _): (Deployment, u64) = ask(cx, &path, eval.namespace.as_str(), 0, "deployment").await?;
    Ok(!now.status.is_active() && now.modify_index < eval.create_index)
}

async fn until_decided(cx: &mut Cx, eval_id: &str, namespace: &str) -> Result<Evaluation, Failure> {
    let verbose = cx.verbose();
    let shown = id(eval_id, verbose);
    headline(cx, &format!("Monitoring evaluation {shown:?}"));
    let path = format!("/v1/evaluation/{eval_id}");
    let mut index = 0;
    let mut last: Option<Evaluation> = None;
    let eval = loop {
        let (eval, at): (Evaluation, u64) = ask(cx, &path, namespace, index, "evaluation").await?;
        index = at;
        if last.is_none() {
            let what = match eval.node_id.non_empty() {
                Some(node) => format!("node {:?}", id(node, verbose)),
                None => format!("job \"{}\"", eval.job_id),
            };
            stamped(cx, &format!("Evaluation triggered by {what}"));
        }
        let before = last.as_ref().map_or(EvalStatus::Pending, |last| last.status);
        if let Some(deployment) = eval.deployment_id.non_empty()
            && last.as_ref().is_none_or(|last| last.deployment_id.is_empty())
        {
            let deployment = id(deployment, verbose);
            stamped(cx, &format!("Evaluation within deployment: {deployment:?}"));
        }
        if eval.status.is_terminal() || eval.status == EvalStatus::Blocked {
            allocations(cx, &eval).await?;
        }
        if eval.status != before {
            stamped(cx, &format!("Evaluation status changed: \"{before}\" -> \"{}\"", eval.status));
        }
        if eval.status != EvalStatus::Pending {
            break eval;
        }
        last = Some(eval);
    };
    Ok(eval)
}

/// What the evaluation did to allocations.
async fn allocations(cx: &mut Cx, eval: &Evaluation) -> Result<(), Failure> {
    let path = format!("/v1/evaluation/{}/allocations", eval.id);
    let (allocs, _): (Option<Vec<AllocStub>>, u64) = ask(cx, &path, eval.namespace.as_str(), 0, "allocations").await?;
    let mut allocs = allocs.unwrap_or_default();
    allocs.sort_by(|a, b| a.name.cmp(&b.name));
    for alloc in allocs {
        let verb = if alloc.create_index >= eval.create_index { "created" } else { "modified" };
        let verbose = cx.verbose();
        stamped(
            cx,
            &format!(
                "Allocation {:?} {verb}: node {:?}, group {:?}",
                id(&alloc.id, verbose),
                id(&alloc.node_id, verbose),
                alloc.task_group
            ),
        );
    }
    Ok(())
}

/// Watches a deployment until it ends.
///
/// # Errors
/// The API's.
pub async fn deployment(cx: &mut Cx, deployment_id: &str, namespace: &str) -> Result<u8, Failure> {
    watch_deployment(cx, deployment_id, namespace, Aim::Rollout).await
}

async fn watch_deployment(cx: &mut Cx, deployment_id: &str, namespace: &str, aim: Aim) -> Result<u8, Failure> {
    let shown = id(deployment_id, cx.verbose());
    headline(cx, &format!("Monitoring deployment {shown:?}"));
    let path = format!("/v1/deployment/{deployment_id}");
    let mut index = 0;
    let mut drawn = Drawn::default();
    loop {
        let (now, at): (Deployment, u64) = ask(cx, &path, namespace, index, "deployment").await?;
        index = at;
        let ended = !now.status.is_active();
        if cx.ui.live || ended {
            let mut block = deployment_frame(cx, &now, &shown);
            if cx.verbose() && ended {
                block.push_str(&format!(
                    "\n\n    {}\n{}",
                    cx.ui.bold("Allocations"),
                    indent(&allocs_of(cx, &now).await?, 4)
                ));
            }
            drawn.draw(cx, &block);
        } else {
            drawn.progress(cx, &now);
        }
        if ended || cx.ui.is_closed() {
            let asked_for = aim == Aim::Failure && now.status == DeploymentStatus::Failed;
            return Ok(u8::from(now.status != DeploymentStatus::Successful && !asked_for));
        }
    }
}

fn deployment_frame(cx: &Cx, deployment: &Deployment, shown: &str) -> String {
    let head = match deployment.status {
        DeploymentStatus::Successful => cx.ui.tone(Tone::Good, &format!("  ✓ Deployment {shown:?} successful")),
        DeploymentStatus::Failed => cx.ui.tone(Tone::Bad, &format!("  ! Deployment {shown:?} failed")),
        DeploymentStatus::Cancelled => cx.ui.tone(Tone::Warn, &format!("  ! Deployment {shown:?} cancelled")),
        _ => format!("  ⠿ Deployment {shown:?} in progress..."),
    };
    let stamp = cx.stamp(cx.ui.now());
    let block = show::deployment_block(cx, deployment, cx.verbose());
    format!("{head}\n\n    {stamp}\n{}", indent(&block, 4))
}

async fn allocs_of(cx: &Cx, deployment: &Deployment) -> Result<String, Failure> {
    let path = format!("/v1/deployment/allocations/{}", deployment.id);
    let (allocs, _): (Option<Vec<AllocStub>>, u64) =
        ask(cx, &path, deployment.namespace.as_str(), 0, "allocations").await?;
    let mut allocs = allocs.unwrap_or_default();
    show::newest_first(&mut allocs);
    Ok(table(&show::alloc_table(cx, &allocs, true)))
}

/// What was shown of a deployment so far.
#[derive(Default)]
struct Drawn {
    /// Lines of the block on the terminal.
    lines: usize,
    said: String,
}

impl Drawn {
    /// Draws over what was drawn before.
    fn draw(&mut self, cx: &mut Cx, block: &str) {
        if cx.ui.live && self.lines > 0 {
            let up = format!("\x1b[{}A\x1b[J", self.lines);
            cx.ui.raw(up.as_bytes());
        }
        self.lines = block.lines().count();
        cx.ui.line(block);
    }

    /// A line if something changed.
    fn progress(&mut self, cx: &mut Cx, deployment: &Deployment) {
        let groups = deployment.task_groups.iter().map(|(name, state)| {
            format!(
                "group {name:?} {}/{} healthy, {} unhealthy",
                state.healthy_allocs, state.desired_total, state.unhealthy_allocs
            )
        });
        let groups = groups.collect::<Vec<_>>().join("; ");
        let text = format!("{}: {groups}", deployment.status_description);
        if text != self.said {
            stamped(cx, &text);
            self.said = text;
        }
    }
}

/// One question, repeated while the API cannot be reached; the index to wait for next.
///
/// # Errors
/// The API's, or it stays unreachable.
pub async fn ask<T: DeserializeOwned>(
    cx: &Cx,
    path: &str,
    namespace: &str,
    index: u64,
    what: &str,
) -> Result<(T, u64), Failure> {
    let query = Query { index, wait: Some(WAIT), ..cx.within(namespace) };
    for attempt in 0.. {
        match cx.client.get(path, &query).await {
            Ok((value, meta)) => {
                let newer = if meta.index < index { 0 } else { meta.index };
                return Ok((value, newer));
            }
            Err(error) if passing(&error) && attempt < TRIES => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(Failure::api(&format!("Error querying {what}"), &error)),
        }
    }
    Err(Failure::new(format!("Error querying {what}")))
}

/// Whether an error may be gone at the next try.
pub fn passing(error: &PublicError) -> bool {
    match error {
        PublicError::Status { status, .. } => status.is_server_error() && status.as_u16() != 501,
        PublicError::Connect { .. } | PublicError::Timeout { .. } | PublicError::Broken { .. } => true,
        _ => false,
    }
}

pub fn headline(cx: &mut Cx, text: &str) {
    let line = format!("==> {}: {text}", cx.stamp(cx.ui.now()));
    let line = cx.ui.bold(&line);
    cx.ui.line(line);
}

pub fn stamped(cx: &mut Cx, text: &str) {
    let line = format!("    {}: {text}", cx.stamp(cx.ui.now()));
    cx.ui.line(line);
}

/// Ends a command that made an evaluation: with `-detach` by its id, otherwise by watching it.
///
/// # Errors
/// Those of watching.
pub async fn or_detach(cx: &mut Cx, eval_id: &str, namespace: &str) -> Result<u8, Failure> {
    or_detach_for(cx, eval_id, namespace, Aim::Rollout).await
}

/// The same for what was asked for by `aim`.
///
/// # Errors
/// Those of watching.
pub async fn or_detach_for(cx: &mut Cx, eval_id: &str, namespace: &str, aim: Aim) -> Result<u8, Failure> {
    if eval_id.is_empty() {
        return Ok(0);
    }
    if cx.flags.is("detach") {
        cx.ui.line(format!("Evaluation ID: {eval_id}"));
        return Ok(0);
    }
    evaluation_for(cx, eval_id, namespace, aim).await
}

/// For ordering by index.
pub fn newest(index: Index) -> std::cmp::Reverse<u64> {
    std::cmp::Reverse(index.0)
}
