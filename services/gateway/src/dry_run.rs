//! Asks a scheduler what registering a job would do; when one does not answer, another.

use std::time::Duration;

use api::scheduler::{DRY_RUN, DryRun, DryRunResult};
use client::anyone::Unheard;
use client::http::Call;
use model::{Job, Role};

use crate::app::App;
use crate::errors::ApiError;
use crate::read::LEADER_HOLD;

const ASK: Duration = Duration::from_secs(10);

/// # Errors
/// No scheduler answers, for as long as a read waits for a leader.
pub async fn ask(app: &App, job: Job) -> Result<DryRunResult, ApiError> {
    let request = DryRun { job, wait_index: app.watches.view().state.index() };
    let call = Call::post(DRY_RUN, ASK).json(&request);
    let call = call.map_err(|e| ApiError::internal("dry run cannot be written", &e))?;
    // Any of them first; who asks takes it modulo their number.
    let first = (crate::app::random_unit() * 1000.0) as usize;
    let asked = app.any(Role::Scheduler).beginning_at(first).patient(LEADER_HOLD.within).ask(&call).await;
    asked.map_err(|error| match error {
        Unheard::Refused { status, body } => ApiError::new(status, body.message),
        Unheard::Silent { .. } => ApiError::not_ready("no scheduler answers at the moment"),
    })
}
