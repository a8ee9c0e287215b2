//! `job stop`: one or several jobs to stop, and what that leads to.

use api::public::JobDeregisterResponse;
use client::public::segment;

use super::{Cx, Failure, lookup, monitor};

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    // All of them are looked up before any is stopped.
    let mut found = Vec::new();
    for at in 0..cx.flags.args.len() {
        found.push(lookup::job(cx, cx.arg(at)).await?);
    }
    let mut code = 0;
    for job in found {
        if !agreed(cx, &job)? {
            cx.ui.note(format!("Job {:?} is left as it is", job.id));
            continue;
        }
        code = code.max(stop(cx, &job).await?);
    }
    Ok(code)
}

/// A shortened id is confirmed by whoever typed it.
fn agreed(cx: &mut Cx, job: &lookup::FoundJob) -> Result<bool, Failure> {
    if job.exact || cx.flags.is("yes") {
        return Ok(true);
    }
    if !cx.ui.interactive {
        return Err(Failure::new(format!("The id was shortened and means job {:?}", job.id))
            .hint("give it in full, or -yes to stop without being asked"));
    }
    Ok(cx.ui.confirm(&format!("Are you sure you want to stop job {:?}?", job.id)))
}

async fn stop(cx: &mut Cx, job: &lookup::FoundJob) -> Result<u8, Failure> {
    let mut query = cx.within(&job.namespace);
    for (flag, name) in [("purge", "purge"), ("global", "global"), ("no-shutdown-delay", "no_shutdown_delay")] {
        if cx.flags.is(flag) {
            query = query.with(name, "true");
        }
    }
    if cx.flags.given("eval-priority") {
        query = query.with("eval_priority", cx.flags.text("eval-priority"));
    }
    let path = format!("/v1/job/{}", segment(&job.id));
    let (answer, _) = cx
        .writer()?
        .delete::<JobDeregisterResponse>(&path, &query)
        .await
        .map_err(|error| Failure::api("Error deregistering job", &error))?;
    monitor::or_detach(cx, &answer.eval_id, &job.namespace).await
}
