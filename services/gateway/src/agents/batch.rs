//! Many small messages, few calls.
//!
//! ```text
//!   submit ─► queue (bounded) ─► gather: what is there, and what comes within `pause` ─► one call ─► answers
//! ```
//!
//! While a call is on its way the next batch gathers, so a busy time makes larger batches by itself. A
//! message is answered with its batch. Driven by one task; a full queue refuses.

use std::time::Duration;

use kit::process::Shutdown;
use tokio::sync::{mpsc, oneshot};

/// Messages that may wait.
const QUEUE_MAX: usize = 16_384;
/// Messages in one call.
const BATCH_MAX: usize = 4_096;

/// A message got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("too many messages are waiting")]
    Full,
    #[error("the message could not be passed on: {0}")]
    Failed(String),
    #[error("the gateway is ending")]
    Ending,
}

type Answer<O> = oneshot::Sender<Result<O, BatchError>>;

/// Takes messages.
pub struct Batcher<I, O> {
    queue: mpsc::Sender<(I, Answer<O>)>,
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// `call` gets a batch and gives one answer for each message, in order.
    pub fn start<C, F>(pause: Duration, shutdown: Shutdown, call: C) -> Self
    where
        C: Fn(Vec<I>) -> F + Send + 'static,
        F: Future<Output = Result<Vec<O>, String>> + Send + 'static,
    {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(async move { shutdown.or(run(messages, pause, call)).await });
        Self { queue }
    }

    /// Sends a message and waits for its batch.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub async fn submit(&self, message: I) -> Result<O, BatchError> {
        let (send, answer) = oneshot::channel();
        self.queue.try_send((message, send)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => BatchError::Full,
            mpsc::error::TrySendError::Closed(_) => BatchError::Ending,
        })?;
        answer.await.unwrap_or(Err(BatchError::Ending))
    }

    /// Sends a message that nobody waits for.
    pub fn tell(&self, message: I) -> bool {
        let (send, _) = oneshot::channel();
        self.queue.try_send((message, send)).is_ok()
    }
}

async fn run<I, O, C, F>(mut messages: mpsc::Receiver<(I, Answer<O>)>, pause: Duration, call: C)
where
    C: Fn(Vec<I>) -> F,
    F: Future<Output = Result<Vec<O>, String>>,
{
    let mut waiting = Vec::new();
    while messages.recv_many(&mut waiting, BATCH_MAX).await > 0 {
        if !pause.is_zero() && waiting.len() < BATCH_MAX {
            tokio::time::sleep(pause).await;
        }
        while waiting.len() < BATCH_MAX
            && let Ok(more) = messages.try_recv()
        {
            waiting.push(more);
        }
        let (batch, answers): (Vec<I>, Vec<Answer<O>>) = waiting.drain(..).unzip();
        match call(batch).await {
            Ok(results) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    // Whoever asked may be gone.
                    let _ = answer.send(Ok(result));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(BatchError::Failed(error.clone())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn messages_share_calls_and_each_gets_its_own_answer() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let batcher = Batcher::start(Duration::from_millis(20), Shutdown::new(), move |batch: Vec<u32>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { Ok(batch.into_iter().map(|n| n * 2).collect()) }
        });
        let asked = futures::future::join_all((0..100).map(|n| batcher.submit(n))).await;
        let answers: Vec<u32> = asked.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (0..100).map(|n| n * 2).collect::<Vec<_>>());
        assert!(calls.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn a_failed_call_fails_its_messages_and_not_the_next_ones() {
        let calls = Arc::new(AtomicUsize::new(0));
        let batcher = Batcher::start(Duration::ZERO, Shutdown::new(), move |batch: Vec<()>| {
            let fails = calls.fetch_add(1, Ordering::SeqCst) == 0;
            async move { if fails { Err("no".to_owned()) } else { Ok(batch) } }
        });
        assert_eq!(batcher.submit(()).await, Err(BatchError::Failed("no".to_owned())));
        assert_eq!(batcher.submit(()).await, Ok(()));
    }
}
