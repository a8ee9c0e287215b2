//! What a node is to run, as it changes.
//!
//! ```text
//!   connect(after, epoch) ─► can the deltas since `after` be told? ─ yes ─► delta
//!                                   │ no: other epoch, too old, something was removed
//!                                   └► full: everything there is for the node
//!   then: the cluster's wish for the node changed ─► delta (or full after a removal)
//!         a second of silence ─► keepalive
//!         age reached, gateway ends ─► close
//!
//!   Teller::next ─► line ─► one place in a channel ─► the connection
//!                             └ not taken for a while, or nobody there ─► the stream ends
//! ```
//!
//! A stream keeps an index and nothing else of its node: what changed since is found in the replica by
//! `AllocModifyIndex`, which news from the node itself does not move, so a node is not told its own news. Which rows to
//! look at is known from the feed ([`crate::wishes`]); at the stream's start, and when that is not whole, all of the node's.
//! What follows a line closely, in a busy time, waits for company: as long as news is held back ([`super::batch`]).
//! Removals leave no row; after one the node is told everything, and what is not in it is gone.
//!
//! Invariants
//! * A node ends what a full line does not name, so a stream that is not resumed begins with what is true
//!   in the whole cluster, not with what this copy of the state happens to have; and a node that is not
//!   registered gets no line at all.
//! * One line at most waits for a slow reader, and not for ever: see [`SLOW`].
//! * A node has one stream here, see [`super::streams`].
//!
//! Driven by a task for each stream, which the replica's watches wake by the node's key. It fails by
//! ending; the agent connects again, and the controller is told at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::node::{STREAM, StreamLine};
use api::{Code, ErrorBody};
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use fsm::State as Rows;
use kit::guard::{Peer, Refused};
use model::{Allocation, Index, Job, NodeId};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::streams::Open;
pub use super::streams::{STREAMS_MAX, Streams};
use super::{fresh, own_node, reached, taken};
use crate::app::{App, random_unit};
use crate::blocking::{Key, View, Waiter};
use crate::wishes::List;

const KEEPALIVE: Duration = Duration::from_secs(1);
/// A stream lives so long, and up to half as long again: a gateway that comes back fills up again.
pub const AGE_MIN: Duration = Duration::from_secs(600);
/// How long the replica may take to come up to what the node is to be told. An agent waits 5 s.
const CATCH_UP: Duration = Duration::from_secs(4);
/// How long a line may wait until the connection takes it.
pub const SLOW: Duration = Duration::from_secs(10);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// The caller's node.
    node: String,
    /// The node has everything up to this index.
    #[serde(default)]
    after: u64,
    /// The line of history that index is on.
    #[serde(default)]
    epoch: String,
}

impl StreamQuery {
    /// Whether the stream goes on where another one ended.
    fn resumes(&self, view: &View) -> bool {
        self.after > 0 && self.epoch == view.state.cluster().epoch
    }
}

/// Follow a node's allocations
///
/// Newline-delimited JSON without end. The first line is full unless the stream goes on where another one
/// ended. A newer stream of the same node ends an older one.
#[utoipa::path(get, path = STREAM, operation_id = "followNode", tag = "agents", params(StreamQuery),
    responses(
        (status = 200, description = "Lines", body = StreamLine, content_type = "application/x-ndjson"),
        (status = 403, description = "Not the caller's node", body = ErrorBody),
        (status = 404, description = "The node is not registered", body = ErrorBody),
        (status = 429, description = "No room for another stream", body = ErrorBody),
        (status = 503, description = "This gateway's copy of the state lags behind, or there is no leader", body = ErrorBody)))]
pub async fn stream(State(app): State<App>, peer: Peer, Query(query): Query<StreamQuery>) -> Result<Response, Refused> {
    let node = own_node(&peer, &query.node)?;
    let view = reach(&app, &node, &query).await?;
    if !view.state.is_revoked(&node) {
        taken(&view.state, &node, &peer.admission)?;
    }
    let told = if query.resumes(&view) { Index(query.after) } else { Index(0) };
    let beats = app.clone();
    let open = app.streams.enter(node, move |node| beats.beats.broken(node));
    let open = open.ok_or_else(|| Refused::new(Code::TooMany, "no room for another stream"))?;
    let epoch = view.state.cluster().epoch.clone();
    let teller = Teller::new(app, open.node().clone(), peer.admission.clone(), told, epoch);
    let (lines, mut taken) = mpsc::channel(1);
    tokio::spawn(run(teller, open, lines, SLOW));
    let body = futures::stream::poll_fn(move |cx| taken.poll_recv(cx).map(|line| line.map(Ok::<_, std::io::Error>)));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response())
}

/// A view from which the first line may be told.
async fn reach(app: &App, node: &NodeId, query: &StreamQuery) -> Result<Arc<View>, Refused> {
    let deadline = Instant::now() + CATCH_UP;
    let view = reached(app, Index(0), deadline).await?;
    if query.resumes(&view) && view.state.node(node).is_some() {
        return reached(app, Index(query.after), deadline).await;
    }
    let view = fresh(app, deadline.saturating_duration_since(Instant::now())).await?;
    match view.state.node(node) {
        Some(_) => Ok(view),
        // It is told that nothing is wanted of it any more.
        None if view.state.is_revoked(node) => Ok(view),
        None => Err(Refused::new(Code::NotFound, "the node is not registered")),
    }
}

/// Where a stream's lines come from.
trait Lines {
    fn next(&mut self) -> impl Future<Output = StreamLine> + Send;
}

/// As it goes over the wire.
fn written(line: &StreamLine) -> serde_json::Result<Bytes> {
    // What they usually take, so that a long line is not copied again and again while it grows.
    let mut bytes = Vec::with_capacity(256 + line.jobs.len() * 2_048 + line.upserts.len() * 1_024);
    model::sparse::to_writer(&mut bytes, line)?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

/// Tells lines until one says that it is the last, nobody takes them, or a newer stream is there.
async fn run(mut source: impl Lines, mut open: Open, lines: mpsc::Sender<Bytes>, slow: Duration) {
    loop {
        let line = tokio::select! {
            biased;
            () = lines.closed() => return,
            () = open.replaced() => return,
            line = source.next() => line,
        };
        let bytes = match written(&line) {
            Ok(bytes) => bytes,
            Err(error) => return tracing::error!(node_id = %open.node(), %error, "a line cannot be written"),
        };
        match lines.send_timeout(bytes, slow).await {
            Ok(()) if line.close => return open.close(),
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return,
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                return tracing::warn!(node_id = %open.node(), "an agent does not read its stream, which is ended");
            }
        }
    }
}

/// Tells a node what it does not know yet.
struct Teller {
    app: App,
    node: NodeId,
    waiter: Waiter,
    wishes: List,
    /// The node knows the cluster's wishes up to here; 0: nothing.
    told: Index,
    /// When the node was last told something.
    spoke: Instant,
    epoch: String,
    ends: Instant,
    /// The first line comes whether or not there is something to tell.
    first: bool,
    /// What the caller's certificate carries.
    admission: String,
    /// The caller's certificate is taken no longer, and it was told that nothing is wanted of it any more.
    shut_out: bool,
}

impl Teller {
    fn new(app: App, node: NodeId, admission: String, told: Index, epoch: String) -> Self {
        let waiter = app.watches.enlist(Key::NodeWishes(node.clone()));
        let wishes = app.watches.wishes_of(&node);
        let spoke = Instant::now();
        let ends = spoke + AGE_MIN.mul_f64(1.0 + random_unit() / 2.0);
        Self { app, node, waiter, wishes, told, spoke, epoch, ends, first: true, admission, shut_out: false }
    }

    /// Whether the changes since the last line cannot be told as changes.
    fn is_full(&self, view: &View) -> bool {
        self.told == Index(0) || view.state.cluster().epoch != self.epoch || self.is_removed(view)
    }

    /// Whether the view is past a removal that the node was not told of. A removal is noted before the view
    /// shows it.
    fn is_removed(&self, view: &View) -> bool {
        let removed = self.app.watches.removed_from_node(&self.node);
        removed > self.told && removed <= view.state.index()
    }

    fn is_news(&self, view: &View) -> bool {
        if view.state.shuts_out(&self.node, &self.admission) {
            return !self.shut_out;
        }
        let newer = |row: &Arc<Allocation>| row.alloc_modify_index > self.told;
        let state = &view.state;
        let noted = || self.wishes.any(self.told, state.index(), |id| state.alloc(id).is_some_and(newer));
        self.is_full(view) || noted().unwrap_or_else(|| state.allocs_of_node(&self.node).any(newer))
    }

    fn line(&mut self, view: &View) -> StreamLine {
        let state = &view.state;
        self.shut_out = state.shuts_out(&self.node, &self.admission);
        if self.shut_out {
            return StreamLine { full: true, ..self.bare() };
        }
        let full = self.is_full(view);
        let changed = self.wishes.take(self.told, state.index()).filter(|_| !full);
        let is_news = |row: &&Arc<Allocation>| full || row.alloc_modify_index > self.told;
        let rows: Vec<&Arc<Allocation>> = match changed {
            Some(ids) => {
                let rows = ids.iter().filter_map(|id| state.alloc(id)).filter(|row| row.node_id == self.node);
                rows.filter(is_news).collect()
            }
            None => state.allocs_of_node(&self.node).filter(is_news).collect(),
        };
        let (jobs, upserts) = apart(state, &rows);
        self.told = state.index();
        self.spoke = Instant::now();
        self.epoch.clone_from(&state.cluster().epoch);
        StreamLine { full, jobs, upserts, ..self.bare() }
    }

    /// A line that tells nothing.
    fn bare(&self) -> StreamLine {
        StreamLine { index: self.told, epoch: self.epoch.clone(), ..StreamLine::default() }
    }
}

/// Rows as a node needs them, and the jobs that they run, each version once.
fn apart(state: &Rows, rows: &[&Arc<Allocation>]) -> (Vec<Arc<Job>>, Vec<Allocation>) {
    let mut jobs = BTreeMap::new();
    let upserts = rows.iter().map(|row| {
        let version = (&row.namespace, &row.job_id, row.job_incarnation, row.job_version);
        jobs.entry(version).or_insert_with(|| {
            let job = state.job_of_alloc(row);
            if job.is_none() {
                tracing::error!(alloc_id = %row.id, node_id = %row.node_id, "the job of an allocation is missing, its node cannot take it");
            }
            job
        });
        // Why it was placed where it is is for people.
        Allocation { metrics: None, signed_identities: Default::default(), ..Allocation::clone(row) }
    });
    let upserts = upserts.collect();
    (jobs.into_values().flatten().cloned().collect(), upserts)
}

impl Lines for Teller {
    async fn next(&mut self) -> StreamLine {
        if self.app.shutdown.is_requested() || Instant::now() >= self.ends {
            return StreamLine { close: true, ..self.bare() };
        }
        if std::mem::take(&mut self.first) {
            return self.line(&self.app.watches.view());
        }
        let yields = self.app.news.yields();
        if !yields.is_zero() {
            // Even to look whether there is news costs: this stream is not woken before it may tell it.
            let _ = self.app.shutdown.or(tokio::time::sleep_until(self.spoke + yields)).await;
        }
        let deadline = (Instant::now() + KEEPALIVE).min(self.ends);
        let news = self.waiter.until(deadline, |view| self.is_news(view).then(|| Arc::clone(view)));
        match self.app.shutdown.or(news).await {
            Some(Some(view)) => self.line(&view),
            Some(None) if Instant::now() < self.ends => StreamLine { keepalive: true, ..self.bare() },
            None | Some(None) => StreamLine { close: true, ..self.bare() },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// Tells the same for ever, or says at once that it is the last.
    struct Same(StreamLine);

    impl Lines for Same {
        async fn next(&mut self) -> StreamLine {
            self.0.clone()
        }
    }

    /// Never has anything to tell.
    struct Silent;

    impl Lines for Silent {
        async fn next(&mut self) -> StreamLine {
            std::future::pending().await
        }
    }

    fn enter(streams: &Streams) -> (Open, Arc<Mutex<usize>>) {
        let broken: Arc<Mutex<usize>> = Arc::default();
        let told = Arc::clone(&broken);
        (streams.enter("n".into(), move |_| *told.lock().unwrap() += 1).unwrap(), broken)
    }

    async fn ends(task: impl Future<Output = ()>) {
        tokio::time::timeout(SOON, task).await.expect("the stream ends");
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_given_up_and_told() {
        let streams = Streams::default();
        let (open, broken) = enter(&streams);
        let (lines, taken) = mpsc::channel(1);
        ends(run(Same(StreamLine::default()), open, lines, Duration::from_millis(50))).await;
        assert_eq!((*broken.lock().unwrap(), streams.count(), taken.len()), (1, 0, 1));
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_is_told_at_once() {
        let streams = Streams::default();
        let (open, broken) = enter(&streams);
        let (lines, taken) = mpsc::channel(1);
        let task = tokio::spawn(run(Silent, open, lines, SLOW));
        drop(taken);
        ends(async { task.await.unwrap() }).await;
        assert_eq!((*broken.lock().unwrap(), streams.count()), (1, 0));
    }

    #[tokio::test]
    async fn a_stream_that_is_closed_with_a_word_or_replaced_is_not_told() {
        let streams = Streams::default();
        let (open, broken) = enter(&streams);
        let (lines, mut taken) = mpsc::channel(1);
        ends(run(Same(StreamLine { close: true, ..StreamLine::default() }), open, lines, SLOW)).await;
        let last: StreamLine = serde_json::from_slice(&taken.recv().await.unwrap()).unwrap();
        assert!(last.close && taken.recv().await.is_none());
        assert_eq!((*broken.lock().unwrap(), streams.count()), (0, 0));

        let (open, broken) = enter(&streams);
        let (lines, _taken) = mpsc::channel(1);
        let task = tokio::spawn(run(Silent, open, lines, SLOW));
        let (newer, _) = enter(&streams);
        ends(async { task.await.unwrap() }).await;
        assert_eq!((*broken.lock().unwrap(), streams.count()), (0, 1));
        newer.close();
    }
}
