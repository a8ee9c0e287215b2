//! `job restart`: the tasks of a job again, a batch of allocations after the other.
//!
//! ```text
//!   allocations that run ─► batches ─► in place: restart each ────────────────► wait ─► next batch
//!                                  └─► -reschedule: stop each ─► replacement runs ─► wait ─► next batch
//! ```
//!
//! A batch is done when each of its allocations was told to restart, or its replacement runs. What fails in a batch is
//! said; whether the next one follows is asked, unless `-yes` or `-on-error=fail` has said it. An allocation that ended
//! meanwhile is passed over.

use api::public::AllocStopResponse;
use client::public::Query;
use futures::future::join_all;
use model::alloc::AllocStub;
use model::time::parse_go_duration;
use model::{Allocation, ClientStatus, DesiredStatus, EvalStatus, Evaluation, Job, Nanos};
use serde_json::{Value, json};

use super::monitor::{ask, headline, stamped};
use super::{Cx, Failure, job_status, lookup};
use crate::format::{count, id};

/// What was asked for.
struct Wish {
    groups: Vec<String>,
    tasks: Vec<String>,
    all_tasks: bool,
    reschedule: bool,
    no_shutdown_delay: bool,
    size: Size,
    wait: Wait,
    /// An error ends it, and nobody is asked.
    fails: bool,
    yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Count(usize),
    Percent(usize),
}

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let (digits, percent) = text.strip_suffix('%').map_or((text, false), |digits| (digits, true));
        let number = digits.parse::<usize>().ok().filter(|number| *number > 0)?;
        match percent {
            true => (number <= 100).then_some(Self::Percent(number)),
            false => Some(Self::Count(number)),
        }
    }

    /// Allocations of a batch, of so many; at least one.
    fn of(self, all: usize) -> usize {
        match self {
            Self::Count(number) => number,
            Self::Percent(number) => all.saturating_mul(number).div_ceil(100).max(1),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    For(Nanos),
    Ask,
}

impl Wait {
    fn parse(text: &str) -> Option<Self> {
        if text == "ask" {
            return Some(Self::Ask);
        }
        parse_go_duration(text).filter(|span| span.0 >= 0).map(Self::For)
    }
}

impl Wish {
    fn of(cx: &Cx) -> Result<Self, Failure> {
        let refused = |text: &str| Failure::new(format!("Invalid command options: {text}"));
        let flags = &cx.flags;
        let (tasks, all_tasks) = (flags.list("task").to_vec(), flags.is("all-tasks"));
        let (reschedule, no_shutdown_delay) = (flags.is("reschedule"), flags.is("no-shutdown-delay"));
        if all_tasks && !tasks.is_empty() {
            return Err(refused("-all-tasks and -task cannot be used together"));
        }
        if reschedule && (all_tasks || !tasks.is_empty()) {
            return Err(refused("-reschedule cannot be used with -task or -all-tasks"));
        }
        if no_shutdown_delay && !reschedule {
            return Err(refused("-no-shutdown-delay can only be used with -reschedule"));
        }
        let size = Size::parse(flags.text("batch-size"));
        let size = size.ok_or_else(|| refused("-batch-size must be a number above zero or a percentage up to 100%"))?;
        let wait = Wait::parse(flags.text("batch-wait"));
        let wait = wait.ok_or_else(|| refused("-batch-wait must be a duration such as 30s, or ask"))?;
        let yes = flags.is("yes");
        let fails = match flags.text("on-error") {
            "fail" => true,
            "ask" => !yes && !cx.ui.interactive,
            _ => return Err(refused("-on-error must be ask or fail")),
        };
        if wait == Wait::Ask && !cx.ui.interactive && !yes {
            return Err(refused("-batch-wait=ask needs a terminal"));
        }
        let groups = flags.list("group").to_vec();
        Ok(Self { groups, tasks, all_tasks, reschedule, no_shutdown_delay, size, wait, fails, yes })
    }

    /// Groups and tasks that were named are there.
    fn check(&self, job: &Job) -> Result<(), Failure> {
        if let Some(missing) = self.groups.iter().find(|group| job.lookup_group(group).is_none()) {
            return Err(Failure::new(format!("Group {missing:?} not found in job {:?}", job.id().as_str())));
        }
        let asked = job.task_groups.iter().filter(|group| self.wants(group.name()));
        let names: Vec<&str> = asked.flat_map(|group| &group.tasks).map(|task| task.name.as_str()).collect();
        match self.tasks.iter().find(|task| !names.contains(&task.as_str())) {
            Some(missing) => Err(Failure::new(format!("Task {missing:?} not found in the selected groups"))),
            None => Ok(()),
        }
    }

    fn wants(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|wanted| wanted == group)
    }

    /// The tasks that were named and that the allocation has.
    fn tasks_in<'a>(&'a self, job: &'a Job, group: &str) -> impl Iterator<Item = &'a str> {
        let has = job.lookup_group(group).map_or(&[][..], |group| group.tasks.as_slice());
        self.tasks.iter().filter(|wanted| has.iter().any(|task| task.name == **wanted)).map(String::as_str)
    }
}

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let mut wish = Wish::of(cx)?;
    let found = lookup::job(cx, cx.arg(0)).await?;
    agreed(cx, &found, &wish)?;
    let job: Job = job_status::about(cx, &found.id, &found.namespace, "").await?;
    wish.check(&job)?;
    let allocs: Option<Vec<AllocStub>> = job_status::about(cx, &found.id, &found.namespace, "/allocations").await?;
    let mut allocs = allocs.unwrap_or_default();
    allocs.retain(|alloc| runs(alloc) && concerned(&wish, &job, alloc));
    allocs.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    if allocs.is_empty() {
        cx.ui.line("No allocations to restart");
        return Ok(0);
    }
    headline(cx, &format!("Restarting {}", count(allocs.len(), "allocation")));
    let size = wish.size.of(allocs.len());
    let batches = allocs.len().div_ceil(size);
    let mut failed = 0;
    for (at, batch) in allocs.chunks(size).enumerate() {
        if at > 0 && !proceed(cx, &mut wish, at + 1, batches).await {
            cx.ui.note("Job restart was not finished");
            return Ok(1);
        }
        let problems = restart(cx, &wish, &job, batch).await;
        failed += problems.len();
        for problem in &problems {
            cx.ui.error(problem);
        }
        if problems.is_empty() || at + 1 == batches || wish.yes && !wish.fails {
            continue;
        }
        if wish.fails || !cx.ui.confirm("Proceed with the remaining batches?") {
            cx.ui.note(format!("Job restart ended after batch {} of {batches}", at + 1));
            return Ok(1);
        }
    }
    headline(cx, "Job restart finished");
    if failed > 0 {
        cx.ui.note(format!("{} could not be restarted", count(failed, "allocation")));
        return Ok(1);
    }
    cx.ui.line("\nJob restarted successfully!");
    Ok(0)
}

/// A shortened id is confirmed by whoever typed it.
fn agreed(cx: &mut Cx, job: &lookup::FoundJob, wish: &Wish) -> Result<(), Failure> {
    if job.exact || wish.yes {
        return Ok(());
    }
    if !cx.ui.interactive {
        return Err(Failure::new(format!("The id was shortened and means job {:?}", job.id))
            .hint("give it in full, or -yes to restart without being asked"));
    }
    match cx.ui.confirm(&format!("Are you sure you want to restart job {:?}?", job.id)) {
        true => Ok(()),
        false => Err(Failure::new("Job restart canceled")),
    }
}

fn runs(alloc: &AllocStub) -> bool {
    alloc.desired_status == DesiredStatus::Run && alloc.client_status == ClientStatus::Running
}

fn concerned(wish: &Wish, job: &Job, alloc: &AllocStub) -> bool {
    wish.wants(&alloc.task_group) && (wish.tasks.is_empty() || wish.tasks_in(job, &alloc.task_group).next().is_some())
}

/// What lies between two batches: a wait, or a question.
async fn proceed(cx: &mut Cx, wish: &mut Wish, next: usize, of: usize) -> bool {
    let span = match wish.wait {
        Wait::Ask if wish.yes => Nanos::default(),
        Wait::Ask => {
            let question = format!("Restart batch {next} of {of}? [y/N, or a time to wait between all that follow] ");
            let answer = cx.ui.answer(&question);
            match (answer.as_str(), Wait::parse(&answer)) {
                ("y" | "Y" | "yes", _) => Nanos::default(),
                (_, Some(Wait::For(span))) => {
                    wish.wait = Wait::For(span);
                    span
                }
                _ => return false,
            }
        }
        Wait::For(span) => span,
    };
    if span > Nanos::default() {
        headline(cx, &format!("Waiting {} before batch {next} of {of}", span));
        tokio::time::sleep(span.to_std()).await;
    }
    true
}

/// Restarts the allocations of a batch at the same time; answers what went wrong.
async fn restart(cx: &mut Cx, wish: &Wish, job: &Job, batch: &[AllocStub]) -> Vec<String> {
    for alloc in batch {
        let what = match (wish.reschedule, wish.all_tasks) {
            (true, _) => "Rescheduling".to_owned(),
            (false, true) => "Restarting all tasks in".to_owned(),
            (false, false) if wish.tasks.is_empty() => "Restarting running tasks in".to_owned(),
            (false, false) => {
                let tasks: Vec<String> = wish.tasks_in(job, &alloc.task_group).map(|t| format!("{t:?}")).collect();
                format!("Restarting task {} in", tasks.join(", "))
            }
        };
        let text = format!("{what} allocation {:?} for group {:?}", id(&alloc.id, cx.verbose()), alloc.task_group);
        stamped(cx, &text);
    }
    let cx: &Cx = cx;
    let done = join_all(batch.iter().map(|alloc| async move {
        let done = if wish.reschedule { reschedule(cx, wish, alloc).await } else { again(cx, wish, job, alloc).await };
        done.map_err(|failure| {
            format!("Error restarting allocation {:?}: {}", id(&alloc.id, cx.verbose()), failure.text)
        })
    }));
    done.await.into_iter().filter_map(Result::err).collect()
}

/// The tasks of an allocation, in place.
async fn again(cx: &Cx, wish: &Wish, job: &Job, alloc: &AllocStub) -> Result<(), Failure> {
    let path = format!("/v1/client/allocation/{}/restart", alloc.id);
    let named: Vec<&str> = wish.tasks_in(job, &alloc.task_group).collect();
    let tasks = if named.is_empty() { vec![""] } else { named };
    for task in tasks {
        let body = json!({"TaskName": task, "AllTasks": wish.all_tasks});
        let sent = cx.client.put::<_, Value>(&path, &cx.within(alloc.namespace.as_str()), &body).await;
        if let Err(error) = sent {
            let now = cx.client.get::<Allocation>(&format!("/v1/allocation/{}", alloc.id), &Query::default()).await;
            // It ended by itself meanwhile.
            if now.is_ok_and(|(now, _)| now.is_terminal()) {
                return Ok(());
            }
            return Err(Failure::api("Failed to restart allocation", &error));
        }
    }
    Ok(())
}

/// Stops an allocation, and waits until another runs in its place.
async fn reschedule(cx: &Cx, wish: &Wish, alloc: &AllocStub) -> Result<(), Failure> {
    let namespace = alloc.namespace.as_str();
    let mut query = cx.within(namespace);
    if wish.no_shutdown_delay {
        query = query.with("no_shutdown_delay", "true");
    }
    let path = format!("/v1/allocation/{}/stop", alloc.id);
    let sent = cx.writer()?.put::<_, AllocStopResponse>(&path, &query, &json!({})).await;
    let (answer, _) = sent.map_err(|error| Failure::api("Failed to stop allocation", &error))?;
    let path = format!("/v1/allocation/{}", alloc.id);
    loop {
        // The evaluations first: when none is under way any more, what they did is in the allocation.
        let evals: Option<Vec<Evaluation>> =
            job_status::about(cx, alloc.job_id.as_str(), namespace, "/evaluations").await?;
        let evals = evals.unwrap_or_default();
        let (now, _): (Allocation, u64) = ask(cx, &path, namespace, 0, "allocation").await?;
        if let Some(next) = now.next_allocation.non_empty() {
            return until_running(cx, next.as_str(), namespace).await;
        }
        match evals.iter().find(|eval| eval.status == EvalStatus::Pending) {
            Some(pending) => until_decided(cx, pending, namespace).await?,
            None => return nothing_follows(&evals, &answer.eval_id, &alloc.task_group),
        }
    }
}

/// Not a replacement, and nobody who would make one. Another evaluation of the job may have decided for this one.
fn nothing_follows(evals: &[Evaluation], own: &str, group: &str) -> Result<(), Failure> {
    let own = evals.iter().find(|eval| eval.id == own);
    if let Some(failed) = own.filter(|eval| eval.status == EvalStatus::Failed) {
        return Err(Failure::new(format!("its evaluation failed: {}", failed.status_description)));
    }
    let since = own.map_or_else(Default::default, |eval| eval.create_index);
    let decided = evals.iter().filter(|eval| eval.modify_index >= since);
    if decided.into_iter().any(|eval| eval.failed_tg_allocs.contains_key(group)) {
        return Err(Failure::new("there is no place for its replacement now"));
    }
    // A system job's allocation on a node that takes no more, or a job that was stopped meanwhile.
    Ok(())
}

async fn until_decided(cx: &Cx, eval: &Evaluation, namespace: &str) -> Result<(), Failure> {
    let path = format!("/v1/evaluation/{}", eval.id);
    let mut index = 0;
    loop {
        let (now, at): (Evaluation, u64) = ask(cx, &path, namespace, index, "evaluation").await?;
        if now.status != EvalStatus::Pending {
            return Ok(());
        }
        index = at;
    }
}

async fn until_running(cx: &Cx, alloc_id: &str, namespace: &str) -> Result<(), Failure> {
    let path = format!("/v1/allocation/{alloc_id}");
    let mut index = 0;
    loop {
        let (now, at): (Allocation, u64) = ask(cx, &path, namespace, index, "allocation").await?;
        index = at;
        let replacement = id(alloc_id, cx.verbose());
        match now.client_status {
            ClientStatus::Running | ClientStatus::Complete => return Ok(()),
            ClientStatus::Failed | ClientStatus::Lost => {
                return Err(Failure::new(format!("its replacement {replacement:?} ended as {}", now.client_status)));
            }
            _ if now.is_terminal() => return Err(Failure::new(format!("its replacement {replacement:?} was stopped"))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_number_or_a_share_and_never_empty() {
        assert_eq!(Size::parse("3").map(|size| size.of(10)), Some(3));
        for (share, all, batch) in [("50%", 5, 3), ("1%", 7, 1), ("100%", 7, 7), ("34%", 3, 2)] {
            assert_eq!(Size::parse(share).unwrap().of(all), batch, "{share} of {all}");
        }
        for bad in ["", "0", "0%", "101%", "-1", "x", "5 %", "1.5"] {
            assert_eq!(Size::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wait_is_a_duration_or_a_question() {
        assert_eq!(Wait::parse("90s"), Some(Wait::For(Nanos::from_secs(90))));
        assert_eq!(Wait::parse("ask"), Some(Wait::Ask));
        assert!(Wait::parse("-1s").is_none() && Wait::parse("soon").is_none() && Wait::parse("").is_none());
    }
}
