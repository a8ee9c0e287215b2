//! The sending side: openraft's network over [`Network`].
//!
//! Appends to one peer are pipelined: up to `pipeline_depth` calls are on their way at once. As the
//! transport may let calls overtake each other, each carries the session of its stream and its place
//! in it, and the receiver ([`crate::lanes`]) restores the order. Answers are consumed in order; the
//! first that is not a plain success ends the stream, and openraft opens the next one.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError as RaftNetworkError, RPCError, ReplicationClosed};
use openraft::errors::{StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{AppendAnswer, decode_answer, encode_append};
use crate::contract::{Network, NetworkError, Peer, PeerId, Verb};
use crate::ride::ride;
use crate::snapshot::SnapshotFile;
use crate::types::{LogId, SnapshotMeta, TypeConfig, Vote};

type C = TypeConfig;
type RpcError = RPCError<C>;

/// What all connections of one node share.
pub(crate) struct Shared {
    pub me: PeerId,
    pub network: Arc<dyn Network>,
    pub append_timeout: Duration,
    pub snapshot_timeout: Duration,
    pub pipeline_depth: usize,
    pub commit_patience: Duration,
    /// Sessions grow over restarts because they start from the wall clock; a receiver that knows a
    /// higher one says so, and we go on from there.
    pub sessions: AtomicU64,
}

pub(crate) struct Factory(pub Arc<Shared>);

impl RaftNetworkFactory<C> for Factory {
    type Network = Connection;

    async fn new_client(&mut self, _target: PeerId, peer: &Peer) -> Connection {
        Connection { shared: self.0.clone(), to: peer.clone() }
    }
}

pub(crate) struct Connection {
    shared: Arc<Shared>,
    to: Peer,
}

/// What goes ahead of a snapshot's bytes.
#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    pub from: PeerId,
    pub vote: Vote,
    pub last_log_id: Option<LogId>,
}

fn unreadable(e: impl ToString) -> RpcError {
    RPCError::Network(RaftNetworkError::from_string(e))
}

impl Connection {
    fn fail(&self, action: RPCTypes, deadline: Duration, e: NetworkError) -> RpcError {
        match e {
            NetworkError::Unreachable(_) => RPCError::Unreachable(Unreachable::new(&e)),
            NetworkError::Remote(_) => RPCError::Unreachable(Unreachable::new(&e)),
            NetworkError::Timeout => {
                RPCError::Timeout(Timeout { action, id: self.shared.me, target: self.to.id, timeout: deadline })
            }
        }
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        verb: Verb,
        action: RPCTypes,
        question: &Q,
        deadline: Duration,
    ) -> Result<A, RpcError> {
        let body = Bytes::from(serde_json::to_vec(question).map_err(unreadable)?);
        let call = self.shared.network.call(self.to.clone(), verb, body, deadline);
        let answer = bounded(call, deadline).await.map_err(|e| self.fail(action, deadline, e))?;
        serde_json::from_slice(&answer).map_err(unreadable)
    }

    /// Starts one append call; the result is what openraft wants to hear about it.
    fn append(
        &self,
        session: u64,
        sequence: u64,
        request: AppendEntriesRequest<C>,
        deadline: Duration,
    ) -> impl Future<Output = Result<StreamAppendResult<C>, RpcError>> + Send + 'static {
        let body = encode_append(self.shared.me, session, sequence, &request);
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|e| e.log_id).or(prev);
        let call = self.shared.network.call(self.to.clone(), Verb::Append, body, deadline);
        let (shared, to) = (self.shared.clone(), self.to.clone());
        async move {
            let this = Connection { shared, to };
            let answer = bounded(call, deadline).await.map_err(|e| this.fail(RPCTypes::AppendEntries, deadline, e))?;
            let answer: AppendEntriesResponse<C> = match decode_answer(answer).map_err(unreadable)? {
                AppendAnswer::Done(answer) => answer,
                AppendAnswer::StaleSession { known } => {
                    this.shared.sessions.fetch_max(known, Ordering::Relaxed);
                    return Err(unreadable("the peer knows a newer append session"));
                }
            };
            match (answer, prev) {
                (AppendEntriesResponse::Conflict, None) => {
                    Err(unreadable("the peer reports a conflict before the first entry"))
                }
                (answer, prev) => Ok(answer.into_stream_result(prev, last)),
            }
        }
    }
}

async fn bounded(
    call: impl Future<Output = Result<Bytes, NetworkError>>,
    deadline: Duration,
) -> Result<Bytes, NetworkError> {
    tokio::time::timeout(deadline, call).await.unwrap_or(Err(NetworkError::Timeout))
}

impl RaftNetworkV2<C> for Connection {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RpcError> {
        Ok(match self.append(0, 0, request, option.hard_ttl()).await? {
            Ok(_) => AppendEntriesResponse::Success,
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<C>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
    {
        let session = self.shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let deadline = self.shared.append_timeout;
        let depth = self.shared.pipeline_depth;
        let this = &*self;
        // A heartbeat is a stream of one call without entries; it must not end a stream of entries.
        let answers = ride(input, self.shared.commit_patience)
            .scan(0u64, move |sequence, request| {
                let alone = *sequence == 0 && request.entries.is_empty();
                let session = if alone { 0 } else { session };
                let call = this.append(session, *sequence, request, deadline);
                *sequence += u64::from(!alone);
                futures::future::ready(Some(call))
            })
            .buffered(depth);
        let until_first_failure = answers.scan(false, |ended, answer| {
            let pass = !std::mem::replace(ended, !matches!(answer, Ok(Ok(_))));
            futures::future::ready(pass.then_some(answer))
        });
        let stream: BoxStream<'s, _> = Box::pin(until_first_failure);
        Box::pin(futures::future::ready(Ok(stream)))
    }

    async fn vote(&mut self, request: VoteRequest<C>, option: RPCOption) -> Result<VoteResponse<C>, RpcError> {
        self.ask(Verb::Vote, RPCTypes::Vote, &request, option.hard_ttl()).await
    }

    async fn pre_vote(&mut self, request: VoteRequest<C>, option: RPCOption) -> Result<VoteResponse<C>, RpcError> {
        self.ask(Verb::PreVote, RPCTypes::Vote, &request, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<C, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let SnapshotMeta { last_log_id, .. } = snapshot.meta;
        let head = SnapshotHead { from: self.shared.me, vote, last_log_id };
        let head = Bytes::from(serde_json::to_vec(&head).map_err(unreadable)?);
        let deadline = self.shared.snapshot_timeout;
        // The handle stays here until the transfer ends, and with it the file.
        let path = snapshot.snapshot.path().to_owned();
        let call = self.shared.network.send_snapshot(self.to.clone(), head, path, deadline);
        let answer = tokio::select! {
            answer = bounded(call, deadline) => answer,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        let answer = answer.map_err(|e| self.fail(RPCTypes::InstallSnapshot, deadline, e))?;
        Ok(serde_json::from_slice(&answer).map_err(unreadable)?)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<C>, RpcError> {
        let deadline = option.hard_ttl().max(self.shared.append_timeout);
        self.ask(Verb::Transfer, RPCTypes::TransferLeader, &request, deadline).await
    }

    fn backoff(&self) -> Option<Backoff> {
        None
    }
}
