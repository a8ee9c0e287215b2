//! Read indexes: many callers, one round to the quorum.
//!
//! A caller that arrives while a round is under way joins the next one, never the one that may have
//! started before it: its answer would not cover what was committed in between.

use openraft::ReadPolicy;
use openraft::errors::{ForwardReason, LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::contract::ProposeError;
use crate::node::{Inner, Outcome, Retry, forwarded};

pub(crate) type ReadResult = Result<u64, ProposeError>;
pub(crate) const QUEUE_LEN: usize = 4_096;

/// Serves read indexes until every caller's handle is gone.
pub(crate) async fn serve(raft: Inner, retry: Retry, mut queue: mpsc::Receiver<oneshot::Sender<ReadResult>>) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, QUEUE_LEN).await > 0 {
        let result = retry.run(|| round(&raft)).await;
        for caller in waiting.drain(..) {
            let _ = caller.send(result.clone());
        }
    }
}

async fn round(raft: &Inner) -> Outcome<u64> {
    match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((read, _)) => Outcome::Done(Ok(read.log_id().index)),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
            let again = to.reason != ForwardReason::NotLeader;
            let error = forwarded(to);
            if again { Outcome::Again(error) } else { Outcome::Done(Err(error)) }
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(e))) => {
            Outcome::Done(Err(ProposeError::Unavailable(format!("no quorum answers: {e}"))))
        }
        Err(RaftError::Fatal(e)) => Outcome::Done(Err(ProposeError::Unavailable(e.to_string()))),
    }
}
