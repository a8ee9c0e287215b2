//! Asks a scheduler what registering a job would do; when one does not answer, another.

use std::time::Duration;

use api::scheduler::{DRY_RUN, DryRun, DryRunResult};
use client::http::Target;
use model::{Job, Role};

use crate::app::App;
use crate::errors::ApiError;

const ASK: Duration = Duration::from_secs(10);
const SCHEDULERS_MAX: usize = 3;

/// # Errors
/// No scheduler answers.
pub async fn ask(app: &App, job: Job) -> Result<DryRunResult, ApiError> {
    let request = DryRun { job, wait_index: app.watches.view().state.index() };
    let schedulers = app.peers.peers(Role::Scheduler);
    // Not always the same one first.
    let first = usize::from(schedulers.len() > 1 && crate::app::random_unit() < 0.5);
    for scheduler in schedulers.iter().cycle().skip(first).take(schedulers.len().min(SCHEDULERS_MAX)) {
        let target = Target::new(scheduler.addr, Role::Scheduler);
        match app.http.post_json::<_, DryRunResult>(target, DRY_RUN, &request, ASK).await {
            Ok(result) => return Ok(result),
            Err(error) => tracing::warn!(scheduler = scheduler.name, error = %error, "dry run failed"),
        }
    }
    Err(ApiError::not_ready("no scheduler answers at the moment"))
}
