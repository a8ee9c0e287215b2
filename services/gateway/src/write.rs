//! From a wish to a command in the log.

use std::time::Duration;

use client::state::Patience;
use fsm::command::Envelope;
use fsm::{Command, Reply};
use model::{EvalStatus, Evaluation, Index, Job, Role};

use crate::app::App;
use crate::body::Write;
use crate::errors::ApiError;
use crate::read::LEADERLESS;

/// How long a write may take, and how long it looks for a leader while there is none.
const PROPOSE: Patience = Patience { within: Duration::from_secs(10), leaderless: LEADERLESS };

/// Why this gateway wants a job looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    JobRegister,
    JobDeregister,
    AllocStop,
    JobScaling,
    PeriodicJob,
}

impl Trigger {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JobRegister => "job-register",
            Self::JobDeregister => "job-deregister",
            Self::AllocStop => "alloc-stop",
            Self::JobScaling => "job-scaling",
            Self::PeriodicJob => "periodic-job",
        }
    }
}

/// Proposes under the write's name.
///
/// # Errors
/// It was refused, or there is no leader.
pub async fn propose(app: &App, write: &Write, command: Command) -> Result<(Index, Reply), ApiError> {
    let now = client::clock::unix_nanos();
    let envelope = Envelope { request: Some(write.request), proposer: Role::Gateway, lease: None, now, command };
    Ok(app.state.propose_envelope(&envelope, PROPOSE).await?)
}

/// A pending evaluation of a job. Its times are filled in where the command is applied.
pub fn evaluation(write: &mut Write, job: &Job, trigger: Trigger, priority: Option<i64>) -> Evaluation {
    let (namespace, job_id) = job.key();
    Evaluation {
        id: write.mint().into(),
        namespace,
        job_id,
        priority: priority.unwrap_or_else(|| job.priority()),
        kind: job.kind_text().to_owned(),
        triggered_by: trigger.as_str().to_owned(),
        job_modify_index: job.job_modify_index(),
        status: EvalStatus::Pending,
        ..Evaluation::default()
    }
}

/// Checks a wished priority; 0 is none.
///
/// # Errors
/// It is out of bounds.
pub fn eval_priority(wish: i64) -> Result<Option<i64>, ApiError> {
    match wish {
        0 => Ok(None),
        1..=100 => Ok(Some(wish)),
        _ => Err(ApiError::bad("Eval priority must be between 1 and 100 inclusively")),
    }
}
