//! Which calls need not be made, because the next one says the same?
//!
//! A peer learns how far the log is committed from every append call. openraft makes one of its own, without entries,
//! where nothing else is to be sent at that moment: two calls for each command on a quiet leader, and peers busy with
//! them while whoever waits for the command wants the processor. So a call without entries waits a little for the next.
//!
//! ```text
//!   entries ─► passed on                      no entries ─► held ─┬─ another within `patience`: that one alone
//!                                                                 └─ none, or the end: passed on
//! ```
//!
//! Invariants
//! * A call with entries is never held, and none overtakes another.
//! * What is left out is said by the call after it: a leader's requests to one peer never go back.
//! * The first call of a stream is passed on as it is: it is a heartbeat or asks where the peer's log ends.

use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, timeout_at};

use crate::types::TypeConfig;

type Request = AppendEntriesRequest<TypeConfig>;

/// The requests of `input`, without those that only say what the next one says, too.
pub(crate) fn ride<S>(input: S, patience: Duration) -> impl Stream<Item = Request>
where
    S: Stream<Item = Request> + Unpin,
{
    futures::stream::unfold((input.fuse(), true), move |(mut input, first)| async move {
        let mut request = input.next().await?;
        let until = Instant::now() + patience;
        while !first && request.entries.is_empty() {
            match timeout_at(until, input.next()).await {
                Ok(Some(next)) => request = next,
                Ok(None) | Err(_) => break,
            }
        }
        Some((request, (input, false)))
    })
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use tokio::sync::mpsc;

    use super::*;
    use crate::types::{Entry, Vote, index_of, log_id};

    /// Long enough that no machine is too slow for what must come before it ends.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// With entries up to `last`, if it is past `prev`; it says that all up to `commit` are committed.
    fn request(prev: u64, last: u64, commit: u64) -> Request {
        let entry = |index| Entry { log_id: log_id(1, index), payload: EntryPayload::Blank };
        Request {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(log_id(1, prev)),
            leader_commit: Some(log_id(1, commit)),
            entries: (prev + 1..=last).map(entry).collect(),
        }
    }

    type Input = mpsc::UnboundedSender<Request>;

    fn riding(patience: Duration) -> (Input, std::pin::Pin<Box<dyn Stream<Item = Request>>>) {
        let (input, requests) = mpsc::unbounded_channel();
        let requests = futures::stream::unfold(requests, |mut r| async move { Some((r.recv().await?, r)) });
        (input, Box::pin(ride(Box::pin(requests), patience)))
    }

    fn said(request: &Request) -> (u64, usize, u64) {
        (index_of(&request.prev_log_id), request.entries.len(), index_of(&request.leader_commit))
    }

    #[tokio::test]
    async fn what_is_committed_rides_with_the_entries_that_follow() {
        let (input, mut calls) = riding(PATIENCE);
        for next in [request(4, 5, 4), request(5, 5, 5), request(5, 5, 5), request(5, 7, 5), request(7, 7, 7)] {
            input.send(next).unwrap();
        }
        assert_eq!(calls.next().await.as_ref().map(said), Some((4, 1, 4)));
        assert_eq!(calls.next().await.as_ref().map(said), Some((5, 2, 5)), "both without entries are said by it");
        drop(input);
        assert_eq!(calls.next().await.as_ref().map(said), Some((7, 0, 7)), "the end lets go of what is held");
        assert!(calls.next().await.is_none());
    }

    #[tokio::test]
    async fn what_nothing_follows_is_said_after_a_while() {
        let (input, mut calls) = riding(Duration::from_millis(20));
        input.send(request(4, 5, 4)).unwrap();
        input.send(request(5, 5, 5)).unwrap();
        assert_eq!(calls.next().await.as_ref().map(said), Some((4, 1, 4)));
        let held = Instant::now();
        assert_eq!(calls.next().await.as_ref().map(said), Some((5, 0, 5)));
        assert!(held.elapsed() >= Duration::from_millis(20), "an end of patience that comes too early");
    }

    #[tokio::test]
    async fn the_first_call_of_a_stream_is_not_held() {
        let (input, mut calls) = riding(PATIENCE);
        input.send(request(5, 5, 5)).unwrap();
        assert_eq!(calls.next().await.as_ref().map(said), Some((5, 0, 5)));
    }
}
