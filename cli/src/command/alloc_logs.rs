//! `alloc logs`: what a task wrote, and with `-f` what it writes.
//!
//! stdout goes to stdout and stderr to stderr. With both, each is read on a connection of its own; Ctrl-C
//! or a reader that goes away ends it.

use client::public::{PublicError, PublicStream, Query};
use model::Allocation;
use model::alloc::AllocStub;

use super::{Cx, Failure, job_status, lookup, show};
use crate::flags::nearest;

/// Bytes of an end of so many lines, generously.
const LINE_BYTES: i64 = 120;
const LINES_DEFAULT: i64 = 10;
const FOLLOWED_TRIES: usize = 20;

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let alloc_id = if cx.flags.is("job") { of_job(cx).await? } else { of_id(cx).await? };
    let path = format!("/v1/allocation/{alloc_id}");
    let (alloc, _) = cx
        .client
        .get::<Allocation>(&path, &Query::default())
        .await
        .map_err(|error| Failure::api("Error querying allocation", &error))?;
    let task = task_of(cx, &alloc)?;
    let (out, err) = (cx.flags.is("stdout"), cx.flags.is("stderr"));
    let kinds: &[&str] = match (out, err) {
        (true, false) => &["stdout"],
        (false, true) => &["stderr"],
        _ => &["stdout", "stderr"],
    };
    match kinds {
        [one] => {
            let mut stream = open(cx, &alloc, &task, one).await?;
            let mut tail = Tail::of(cx);
            while let Some(piece) = next(&mut stream).await? {
                put(cx, one, tail.take(&piece));
                if cx.ui.is_closed() {
                    return Ok(0);
                }
            }
            put(cx, one, tail.rest());
        }
        _ => both(cx, &alloc, &task).await?,
    }
    Ok(0)
}

async fn both(cx: &mut Cx, alloc: &Allocation, task: &str) -> Result<(), Failure> {
    let (mut out, mut err) = (open(cx, alloc, task, "stdout").await?, open(cx, alloc, task, "stderr").await?);
    let (mut out_tail, mut err_tail) = (Tail::of(cx), Tail::of(cx));
    let (mut out_open, mut err_open) = (true, true);
    while (out_open || err_open) && !cx.ui.is_closed() {
        tokio::select! {
            piece = next(&mut out), if out_open => match piece? {
                Some(piece) => put(cx, "stdout", out_tail.take(&piece)),
                None => out_open = false,
            },
            piece = next(&mut err), if err_open => match piece? {
                Some(piece) => put(cx, "stderr", err_tail.take(&piece)),
                None => err_open = false,
            },
        }
    }
    put(cx, "stdout", out_tail.rest());
    put(cx, "stderr", err_tail.rest());
    Ok(())
}

fn put(cx: &mut Cx, kind: &str, bytes: Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    if kind == "stderr" && !cx.flags.is("stderr") { cx.ui.raw_err(&bytes) } else { cx.ui.raw(&bytes) }
}

async fn next(stream: &mut PublicStream) -> Result<Option<bytes::Bytes>, Failure> {
    stream.chunk().await.map_err(|error| Failure::api("Error reading logs", &error))
}

/// Opens the logs of one kind. A task that is only being started has none for a moment.
async fn open(cx: &Cx, alloc: &Allocation, task: &str, kind: &str) -> Result<PublicStream, Failure> {
    let path = format!("/v1/client/fs/logs/{}", alloc.id);
    let follow = cx.flags.is("f");
    let mut query = cx
        .within(alloc.namespace.as_str())
        .with("task", task)
        .with("type", kind)
        .with("plain", "true")
        .with("follow", follow.to_string());
    let offset = Tail::offset(cx);
    query = match offset {
        Some(bytes) => query.with("origin", "end").with("offset", bytes.to_string()),
        None => query.with("origin", "start").with("offset", "0"),
    };
    let mut tries = 0;
    loop {
        match cx.client.stream(&path, &query).await {
            Ok(stream) => return Ok(stream),
            Err(PublicError::Status { status, .. })
                if follow && status.as_u16() == 404 && !alloc.client_terminal() && tries < FOLLOWED_TRIES =>
            {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(250)).await;
            }
            Err(error) => {
                let failure = Failure::api("Error reading file", &error);
                return Err(match error.status().map(|s| s.as_u16()) {
                    Some(404) if alloc.task_states.is_empty() => failure.hint("the allocation has not started yet"),
                    _ => failure,
                });
            }
        }
    }
}

/// Keeps the last lines of what comes first; after that, everything passes.
pub(super) struct Tail {
    lines: Option<usize>,
    held: Vec<u8>,
    follow: bool,
}

impl Tail {
    pub(super) fn of(cx: &Cx) -> Self {
        let lines = (cx.flags.is("tail") && cx.flags.int("c") < 0).then(|| Self::lines(cx));
        Self { lines: lines.and_then(|n| usize::try_from(n).ok()), held: Vec::new(), follow: cx.flags.is("f") }
    }

    fn lines(cx: &Cx) -> i64 {
        if cx.flags.int("n") >= 0 { cx.flags.int("n") } else { LINES_DEFAULT }
    }

    /// How far before the end to begin.
    pub(super) fn offset(cx: &Cx) -> Option<i64> {
        if !cx.flags.is("tail") {
            return None;
        }
        let bytes = cx.flags.int("c");
        Some(if bytes >= 0 { bytes } else { Self::lines(cx).saturating_mul(LINE_BYTES) })
    }

    /// What of this piece to print now. When following, the first piece is the end of what was there.
    pub(super) fn take(&mut self, piece: &[u8]) -> Vec<u8> {
        match self.lines {
            None => piece.to_vec(),
            Some(lines) if self.follow => {
                self.lines = None;
                last_lines(piece, lines).to_vec()
            }
            Some(_) => {
                self.held.extend_from_slice(piece);
                Vec::new()
            }
        }
    }

    /// What was held back, at the end.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.lines.map_or_else(Vec::new, |lines| last_lines(&held, lines).to_vec())
    }
}

fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    let end = text.strip_suffix(b"\n").unwrap_or(text).len();
    let mut breaks = text[..end].iter().enumerate().rev().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
    match lines.checked_sub(1) {
        None => &[],
        Some(before) => &text[breaks.nth(before).unwrap_or(0)..],
    }
}

async fn of_id(cx: &Cx) -> Result<String, Failure> {
    let found: AllocStub = lookup::one(cx, cx.arg(0)).await?;
    Ok(found.id.to_string())
}

/// The newest allocation of a job, a running one before the others.
pub(super) async fn of_job(cx: &Cx) -> Result<String, Failure> {
    let found = lookup::job(cx, cx.arg(0)).await?;
    let allocs: Option<Vec<AllocStub>> = job_status::about(cx, &found.id, &found.namespace, "/allocations").await?;
    let mut allocs = allocs.unwrap_or_default();
    if let Some(group) = cx.flags.some("group") {
        allocs.retain(|alloc| alloc.task_group == group);
    }
    show::newest_first(&mut allocs);
    let running = allocs.iter().find(|alloc| alloc.client_status == model::ClientStatus::Running);
    let chosen = running.or(allocs.first());
    chosen.map(|alloc| alloc.id.to_string()).ok_or_else(|| {
        Failure::new(format!("Error fetching allocations: job {:?} has no allocations that fit", found.id))
    })
}

/// The task that is meant; without a name, the only one.
pub(super) fn task_of(cx: &Cx, alloc: &Allocation) -> Result<String, Failure> {
    let typed = cx.flags.some("task").or_else(|| cx.flags.args.get(1).map(String::as_str));
    task_named(typed, cx.verbose(), alloc)
}

/// The same, by what was typed.
pub(super) fn task_named(typed: Option<&str>, verbose: bool, alloc: &Allocation) -> Result<String, Failure> {
    let mut names: Vec<&str> = alloc.task_states.keys().map(String::as_str).collect();
    if let Some(job) = &alloc.job {
        let group = job.task_groups.iter().filter(|g| g.name.as_deref() == Some(alloc.task_group.as_str()));
        names.extend(group.flat_map(|g| &g.tasks).map(|t| t.name.as_str()));
    }
    names.sort_unstable();
    names.dedup();
    match (typed, names.as_slice()) {
        (Some(task), names) if names.is_empty() || names.contains(&task) => Ok(task.to_owned()),
        (Some(task), names) => {
            let failure = Failure::new(format!("Could not find task named: {task}"));
            Err(failure.hint(match nearest(task, names.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("tasks are {}", names.join(", ")),
            }))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, names) => Err(Failure::new(format!(
            "Allocation {:?} is running the following tasks:\n{}\n\nPlease specify the task.",
            crate::format::id(&alloc.id, verbose),
            names.iter().map(|name| format!("  * {name}")).collect::<Vec<_>>().join("\n")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_end_with_the_text() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\nc", 1), b"c");
        assert_eq!(last_lines(b"a\nb\n", 9), b"a\nb\n");
        assert_eq!(last_lines(b"a\n", 0), b"");
        assert_eq!(last_lines(b"", 3), b"");
    }
}
