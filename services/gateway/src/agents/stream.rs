//! What a node is to run, as it changes.
//!
//! ```text
//!   connect(after, epoch) ─► can the deltas since `after` be told? ─ yes ─► delta
//!                                   │ no: other epoch, too old, something was removed
//!                                   └► full: everything there is for the node
//!   then: the cluster's wish for the node changed ─► delta (or full after a removal)
//!         a second of silence ─► keepalive
//!         age reached, gateway ends ─► close
//! ```
//!
//! A stream keeps an index and nothing else of its node: what changed since is found in the replica by
//! `AllocModifyIndex`, which news from the node itself does not move, so a node is not told its own news.
//! Removals leave no row; after one the node is told everything, and what is not in it is gone.
//!
//! When a stream breaks without a word the controller is told at once. One that was closed in order, or
//! that another of the same node has replaced, is no news.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::node::{STREAM, StreamLine};
use api::{Code, ErrorBody};
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::Stream;
use kit::guard::{Peer, Refused};
use model::{Index, NodeId};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::own_node;
use crate::app::{App, random_unit};
use crate::blocking::{Key, View, Waiter};
use crate::routes::allocs::with_job;

/// Streams of one gateway.
pub const STREAMS_MAX: usize = 12_000;
const KEEPALIVE: Duration = Duration::from_secs(1);
/// A stream lives so long, and up to half as long again: a gateway that comes back fills up again.
pub const AGE_MIN: Duration = Duration::from_secs(600);
/// How long the replica may take to come up to what the node has seen already.
const CATCH_UP: Duration = Duration::from_secs(5);

#[derive(Deserialize, IntoParams)]
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

/// The open streams, newest of each node.
#[derive(Default)]
pub struct Streams {
    open: Arc<Mutex<HashMap<NodeId, u64>>>,
    next: std::sync::atomic::AtomicU64,
}

fn lock(open: &Mutex<HashMap<NodeId, u64>>) -> MutexGuard<'_, HashMap<NodeId, u64>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    pub fn count(&self) -> usize {
        lock(&self.open).len()
    }

    /// Takes the node's place; `None` when there is no room.
    fn enter(&self, node: NodeId, app: App) -> Option<Open> {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut open = lock(&self.open);
        if open.len() >= STREAMS_MAX && !open.contains_key(&node) {
            return None;
        }
        open.insert(node.clone(), number);
        Some(Open { streams: Arc::clone(&self.open), node, number, app, closed: false })
    }
}

/// An open stream's place among the others.
struct Open {
    streams: Arc<Mutex<HashMap<NodeId, u64>>>,
    node: NodeId,
    number: u64,
    app: App,
    /// It ended with a word.
    closed: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        let newest = match lock(&self.streams).entry(self.node.clone()) {
            Entry::Occupied(entry) if *entry.get() == self.number => {
                entry.remove();
                true
            }
            _ => false,
        };
        if newest && !self.closed {
            tracing::info!(node_id = %self.node, "agent's stream broke");
            self.app.beats.broken(self.node.clone());
        }
    }
}

/// Follow a node's allocations
///
/// Newline-delimited JSON without end. The first line is full unless the stream goes on where another one
/// ended.
#[utoipa::path(get, path = STREAM, operation_id = "followNode", tag = "agents", params(StreamQuery),
    responses(
        (status = 200, description = "Lines", body = StreamLine, content_type = "application/x-ndjson"),
        (status = 403, description = "Not the caller's node", body = ErrorBody),
        (status = 429, description = "No room for another stream", body = ErrorBody),
        (status = 503, description = "This gateway's copy of the state lags behind", body = ErrorBody)))]
pub async fn stream(State(app): State<App>, peer: Peer, Query(query): Query<StreamQuery>) -> Result<Response, Refused> {
    let node = own_node(&peer, &query.node)?;
    let view = reach(&app, &query).await?;
    let open = app.streams.enter(node.clone(), app.clone());
    let open = open.ok_or_else(|| Refused::new(Code::TooMany, "no room for another stream"))?;
    let resumes = query.after > 0 && query.epoch == view.state.cluster().epoch;
    let teller = Teller {
        waiter: app.watches.enlist(Key::NodeWishes(node.clone())),
        told: Index(if resumes { query.after } else { 0 }),
        full: !resumes,
        epoch: view.state.cluster().epoch.clone(),
        ends: Instant::now() + AGE_MIN.mul_f64(1.0 + random_unit() / 2.0),
        first: true,
        open,
    };
    let body = Body::from_stream(lines(teller));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// A view that has reached what the node has seen, where that is of the same history.
async fn reach(app: &App, query: &StreamQuery) -> Result<Arc<View>, Refused> {
    let lags = |_| Refused::new(Code::NotReady, "this gateway's copy of the state lags behind");
    app.replica.reached(Index(0), CATCH_UP).await.map_err(lags)?;
    if app.watches.view().state.cluster().epoch == query.epoch {
        app.replica.reached(Index(query.after), CATCH_UP).await.map_err(lags)?;
    }
    Ok(app.watches.view())
}

/// One stream.
struct Teller {
    open: Open,
    waiter: Waiter,
    /// The node knows the cluster's wishes up to here.
    told: Index,
    /// The next line must be full.
    full: bool,
    epoch: String,
    ends: Instant,
    /// The first line comes whether or not there is something to tell.
    first: bool,
}

fn lines(teller: Teller) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    futures::stream::unfold(Some(teller), |teller| async move {
        let mut teller = teller?;
        let line = teller.next().await;
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        let going_on = (!line.close).then_some(teller);
        Some((Ok(Bytes::from(bytes)), going_on))
    })
}

impl Teller {
    async fn next(&mut self) -> StreamLine {
        let app = self.open.app.clone();
        if app.shutdown.is_requested() || Instant::now() >= self.ends {
            return self.close();
        }
        if std::mem::take(&mut self.first) {
            return self.line(&app.watches.view());
        }
        let deadline = (Instant::now() + KEEPALIVE).min(self.ends);
        let (told, node, epoch) = (self.told, self.open.node.clone(), self.epoch.clone());
        let news = self.waiter.until(deadline, |view| {
            let news = is_news(&app, view, &node, told, &epoch);
            news.then(|| Arc::clone(view))
        });
        match app.shutdown.or(news).await {
            None => self.close(),
            Some(Some(view)) => self.line(&view),
            Some(None) if Instant::now() >= self.ends => self.close(),
            Some(None) => self.keepalive(),
        }
    }

    /// What the node does not know yet.
    fn line(&mut self, view: &View) -> StreamLine {
        let state = &view.state;
        let app = &self.open.app;
        let other_history = state.cluster().epoch != self.epoch;
        let removed = is_removed(app, view, &self.open.node, self.told);
        let full = std::mem::take(&mut self.full) || other_history || removed;
        let told = if full { Index(0) } else { self.told };
        let rows = state.allocs_of_node(&self.open.node).filter(|row| full || row.alloc_modify_index > told);
        let upserts = rows.map(|row| with_job(state, row)).collect();
        self.told = state.index();
        self.epoch.clone_from(&state.cluster().epoch);
        StreamLine { index: self.told, epoch: self.epoch.clone(), full, upserts, ..StreamLine::default() }
    }

    fn keepalive(&self) -> StreamLine {
        StreamLine { index: self.told, epoch: self.epoch.clone(), keepalive: true, ..StreamLine::default() }
    }

    fn close(&mut self) -> StreamLine {
        self.open.closed = true;
        StreamLine { index: self.told, epoch: self.epoch.clone(), close: true, ..StreamLine::default() }
    }
}

fn is_news(app: &App, view: &View, node: &NodeId, told: Index, epoch: &str) -> bool {
    view.state.cluster().epoch != epoch
        || is_removed(app, view, node, told)
        || view.state.allocs_of_node(node).any(|row| row.alloc_modify_index > told)
}

/// Whether an allocation of the node was forgotten since, as far as the view goes: a removal is noted
/// before the view that has it is there.
fn is_removed(app: &App, view: &View, node: &NodeId, told: Index) -> bool {
    let removed = app.watches.removed_from_node(node);
    removed > told && removed <= view.state.index()
}
