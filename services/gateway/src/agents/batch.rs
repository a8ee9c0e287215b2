//! Many small messages, few calls; and fewer while there is much else to do.
//!
//! ```text
//!   submit ─► queue (bounded by weight) ─► the first at once ─► call ─► answers
//!                        ▲                                       │ took
//!                        └── the next call: a pace after this one began, and `Yielding::after(took)` after it ended;
//!                            at once where a whole batch waits
//! ```
//!
//! A message of a quiet moment goes out at once. What comes within `pace` of the last call, or while it is on its way,
//! gathers for the next one, so a busy time makes larger batches by itself. A message is answered with its batch.
//!
//! **Yielding.** A call costs processor time in five processes and a commit, and others want the same: above all placing,
//! which people wait for, while what is handed on here is already true and only not known yet. How much others want
//! shows in how long a call takes. So the pause follows from the last call alone: what a call takes
//! in a quiet cluster asks for nothing; what it takes beyond that asks for `factor` times as long without a call, `most`
//! at most. Calls are then under way for 1 / (1 + `factor`) of the time, whatever comes. What comes meanwhile gathers: a
//! longer pause makes larger calls that take longer, until the pause is the longest, or a larger call hardly takes
//! longer. It falls back with the first call that is short: nothing is to be reset. A call that is slow by chance costs
//! one pause.
//!
//! Invariants
//! * Calls follow one another: what was said later never overtakes what was said earlier.
//! * What waits and is on its way weighs at most `queued_max` and is at most [`MESSAGES_MAX`]; more is refused,
//!   not kept.
//! * A call weighs at most `batch_max`, unless one message alone weighs more.
//! * Yielding adds `most` at most to what a message waits for the calls before it; what fills a batch waits for no
//!   company, so yielding never bounds what gets through.
//!
//! Driven by one task. It fails by refusing, and by handing a failed call's reason to its messages; a call that fails after
//! seconds, while there is no leader, is followed by one longest pause.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kit::process::Shutdown;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// Messages that may wait, whatever they weigh.
pub const MESSAGES_MAX: usize = 16_384;

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

/// Bounds of a batcher, in whatever its messages are weighed by.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the start of one call to the start of the next.
    pub pace: Duration,
    pub batch_max: u32,
    pub queued_max: u32,
    pub yielding: Yielding,
}

/// How long a call makes the next one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yielding {
    /// What a call takes in a quiet cluster.
    pub quiet: Duration,
    pub factor: u32,
    pub most: Duration,
}

impl Yielding {
    pub const NEVER: Self = Self { quiet: Duration::ZERO, factor: 0, most: Duration::ZERO };

    /// After a call that took so long.
    pub fn after(&self, took: Duration) -> Duration {
        took.saturating_sub(self.quiet).saturating_mul(self.factor).min(self.most)
    }
}

/// What the last call asks for.
#[derive(Clone, Copy, Debug)]
struct Pause {
    /// No call before.
    until: Instant,
    /// Of it what yields to others.
    yields: Duration,
}

impl Pause {
    fn new(began: Instant, ended: Instant, bounds: &Bounds) -> Self {
        let yields = bounds.yielding.after(ended - began);
        Self { until: (began + bounds.pace).max(ended + yields), yields }
    }
}

/// What a batcher and its task share.
struct Shared {
    room: Arc<Semaphore>,
    /// There may be a whole batch.
    full: Notify,
    pause: Mutex<Pause>,
}

impl Shared {
    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what waits, and is on its way, is a whole batch.
    fn is_full(&self, bounds: &Bounds) -> bool {
        let used = (bounds.queued_max as usize).saturating_sub(self.room.available_permits());
        used >= bounds.batch_max as usize
    }

    /// Waits until the next call may be made. No call is under way.
    async fn rest(&self, bounds: &Bounds) {
        let until = self.pause().until;
        while Instant::now() < until && !self.is_full(bounds) {
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = self.full.notified() => {}
            }
        }
    }
}

struct Waiting<I, O> {
    message: I,
    weight: u32,
    /// Nobody, when only told.
    answer: Option<oneshot::Sender<Result<O, BatchError>>>,
    _room: OwnedSemaphorePermit,
}

/// Takes messages.
pub struct Batcher<I, O> {
    bounds: Bounds,
    shared: Arc<Shared>,
    queue: mpsc::Sender<Waiting<I, O>>,
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// `call` gets a batch and gives one answer for each message, in order.
    pub fn start<C, F>(bounds: Bounds, shutdown: Shutdown, call: C) -> Self
    where
        C: Fn(Vec<I>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<O>, String>> + Send + 'static,
    {
        let (queue, messages) = mpsc::channel(MESSAGES_MAX);
        let shared = Arc::new(Shared {
            room: Arc::new(Semaphore::new(bounds.queued_max as usize)),
            full: Notify::new(),
            pause: Mutex::new(Pause { until: Instant::now(), yields: Duration::ZERO }),
        });
        let of_task = Arc::clone(&shared);
        tokio::spawn(async move { shutdown.or(run(messages, bounds, &of_task, call)).await });
        Self { bounds, shared, queue }
    }

    /// What the last call leaves to others, so that who competes with the same may leave as much; nothing once its
    /// time is over and long past.
    pub fn yields(&self) -> Duration {
        let pause = *self.shared.pause();
        if Instant::now() < pause.until + self.bounds.yielding.most { pause.yields } else { Duration::ZERO }
    }

    /// Sends a message and waits for its batch.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub async fn submit(&self, message: I, weight: u32) -> Result<O, BatchError> {
        let (send, answer) = oneshot::channel();
        self.put(message, weight, Some(send))?;
        answer.await.unwrap_or(Err(BatchError::Ending))
    }

    /// Sends a message whose answer is of no interest.
    ///
    /// # Errors
    /// [`BatchError::Full`], [`BatchError::Ending`].
    pub fn tell(&self, message: I, weight: u32) -> Result<(), BatchError> {
        self.put(message, weight, None)
    }

    fn put(
        &self,
        message: I,
        weight: u32,
        answer: Option<oneshot::Sender<Result<O, BatchError>>>,
    ) -> Result<(), BatchError> {
        // Even nothing takes a place.
        let weight = weight.max(1);
        let room = Arc::clone(&self.shared.room).try_acquire_many_owned(weight).map_err(|_| BatchError::Full)?;
        let waiting = Waiting { message, weight, answer, _room: room };
        self.queue.try_send(waiting).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => BatchError::Full,
            mpsc::error::TrySendError::Closed(_) => BatchError::Ending,
        })?;
        if self.shared.is_full(&self.bounds) {
            self.shared.full.notify_one();
        }
        Ok(())
    }
}

async fn run<I, O, C, F>(mut messages: mpsc::Receiver<Waiting<I, O>>, bounds: Bounds, shared: &Shared, call: C)
where
    C: Fn(Vec<I>) -> F,
    F: Future<Output = Result<Vec<O>, String>>,
{
    // Too much for the last batch.
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(first) => first,
            None => match messages.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        shared.rest(&bounds).await;
        let mut weight = first.weight;
        let mut batch = vec![first];
        while let Ok(more) = messages.try_recv() {
            weight = weight.saturating_add(more.weight);
            if weight > bounds.batch_max {
                left_over = Some(more);
                break;
            }
            batch.push(more);
        }
        let began = Instant::now();
        answer(batch, &call).await;
        *shared.pause() = Pause::new(began, Instant::now(), &bounds);
    }
}

async fn answer<I, O, F>(batch: Vec<Waiting<I, O>>, call: impl Fn(Vec<I>) -> F)
where
    F: Future<Output = Result<Vec<O>, String>>,
{
    let (mut bodies, mut answers) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    for waiting in batch {
        bodies.push(waiting.message);
        answers.push((waiting.answer, waiting._room));
    }
    match call(bodies).await {
        Ok(results) => {
            debug_assert_eq!(results.len(), answers.len(), "one answer for each message");
            for ((answer, _room), result) in answers.into_iter().zip(results) {
                // Whoever asked may be gone.
                answer.map(|answer| answer.send(Ok(result)));
            }
        }
        Err(error) => {
            for (answer, _room) in answers {
                answer.map(|answer| answer.send(Err(BatchError::Failed(error.clone()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn bounds(pace_ms: u64) -> Bounds {
        Bounds { pace: Duration::from_millis(pace_ms), batch_max: 1_000, queued_max: 1_000, yielding: Yielding::NEVER }
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_call_leaves_a_share_of_the_time_to_others_and_a_quick_one_nothing() {
        let bounds = Bounds { yielding: Yielding { quiet: ms(10), factor: 2, most: ms(250) }, ..bounds(3) };
        let began = Instant::now();
        // From the call's begin to the next one.
        let next = |took| (Pause::new(began, began + ms(took), &bounds).until - began).as_millis();
        assert_eq!([next(0), next(2), next(5), next(10)], [3, 3, 5, 10], "the pace, or at once");
        assert_eq!([next(11), next(40), next(100)], [13, 100, 280]);
        assert_eq!([next(135), next(136), next(8_000)], [385, 386, 8_250], "and not for longer than the most");
    }

    type Batches = Arc<Mutex<Vec<Vec<u32>>>>;

    /// Each call makes the next one wait for an hour.
    fn slow(batch_max: u32) -> (Arc<Batcher<u32, u32>>, Batches) {
        let seen = Batches::default();
        let noted = Arc::clone(&seen);
        let yielding = Yielding { quiet: Duration::ZERO, factor: u32::MAX, most: HOUR };
        let bounds = Bounds { batch_max, yielding, ..bounds(0) };
        let batcher = Batcher::start(bounds, Shutdown::new(), move |batch: Vec<u32>| {
            noted.lock().unwrap().push(batch.clone());
            async move {
                tokio::time::sleep(ms(2)).await;
                Ok(batch)
            }
        });
        (Arc::new(batcher), seen)
    }

    #[tokio::test]
    async fn what_comes_in_a_busy_time_gathers_and_a_whole_batch_waits_no_longer() {
        let (batcher, seen) = slow(4);
        assert_eq!(batcher.yields(), Duration::ZERO);
        batcher.submit(0, 1).await.unwrap();
        assert_eq!(batcher.yields(), HOUR);
        let waiting: Vec<_> = (1..=4)
            .map(|n| {
                let batcher = Arc::clone(&batcher);
                tokio::spawn(async move { batcher.submit(n, 1).await })
            })
            .collect();
        for (n, answer) in waiting.into_iter().enumerate() {
            let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.expect("not an hour");
            assert_eq!(answer.unwrap(), Ok(n as u32 + 1));
        }
        assert_eq!(*seen.lock().unwrap(), [vec![0], vec![1, 2, 3, 4]]);
    }

    #[tokio::test]
    async fn who_waits_in_a_busy_time_is_told_of_the_end() {
        let shutdown = Shutdown::new();
        let yielding = Yielding { quiet: Duration::ZERO, factor: u32::MAX, most: HOUR };
        let batcher = Batcher::start(Bounds { yielding, ..bounds(0) }, shutdown.clone(), |batch: Vec<()>| async move {
            tokio::time::sleep(ms(2)).await;
            Ok(batch)
        });
        batcher.submit((), 1).await.unwrap();
        let (answer, ()) = tokio::join!(batcher.submit((), 1), async { shutdown.request() });
        assert_eq!(answer, Err(BatchError::Ending));
    }

    #[tokio::test]
    async fn messages_share_calls_and_each_gets_its_own_answer() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let batcher = Batcher::start(bounds(20), Shutdown::new(), move |batch: Vec<u32>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { Ok(batch.into_iter().map(|n| n * 2).collect()) }
        });
        let asked = futures::future::join_all((0..100).map(|n| batcher.submit(n, 1))).await;
        let answers: Vec<u32> = asked.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (0..100).map(|n| n * 2).collect::<Vec<_>>());
        assert!(calls.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn a_message_of_a_quiet_moment_does_not_wait_and_the_next_one_keeps_the_pace() {
        let batcher = Batcher::start(bounds(2_000), Shutdown::new(), |batch: Vec<()>| async move { Ok(batch) });
        let start = Instant::now();
        batcher.submit((), 1).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(1_000), "{:?}", start.elapsed());
        batcher.submit((), 1).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(2_000), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_failed_call_fails_its_messages_and_not_the_next_ones() {
        let calls = Arc::new(AtomicUsize::new(0));
        let batcher = Batcher::start(bounds(0), Shutdown::new(), move |batch: Vec<()>| {
            let fails = calls.fetch_add(1, Ordering::SeqCst) == 0;
            async move { if fails { Err("no".to_owned()) } else { Ok(batch) } }
        });
        assert_eq!(batcher.submit((), 1).await, Err(BatchError::Failed("no".to_owned())));
        assert_eq!(batcher.submit((), 1).await, Ok(()));
    }

    #[tokio::test]
    async fn a_batch_is_bounded_by_weight_and_keeps_the_order() {
        let seen: Arc<Mutex<Vec<Vec<u32>>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let heavy = Bounds { batch_max: 10, ..bounds(20) };
        let batcher = Batcher::start(heavy, Shutdown::new(), move |batch: Vec<u32>| {
            noted.lock().unwrap().push(batch.clone());
            async move { Ok(batch) }
        });
        // One alone may weigh more than a batch.
        let weights = [4_u32, 4, 4, 50, 1, 9, 1];
        let asked = weights.iter().map(|weight| batcher.submit(*weight, *weight));
        let answers: Result<Vec<u32>, _> = futures::future::join_all(asked).await.into_iter().collect();
        assert_eq!(answers.unwrap(), weights);
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|batch| batch.len() == 1 || batch.iter().sum::<u32>() <= 10), "{seen:?}");
        assert_eq!(seen.concat(), weights);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_room_comes_back_with_the_answer() {
        let go = Arc::new(Notify::new());
        let gate = Arc::clone(&go);
        let small = Bounds { queued_max: 5, ..bounds(0) };
        let batcher = Arc::new(Batcher::start(small, Shutdown::new(), move |batch: Vec<()>| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Ok(batch)
            }
        }));
        let waiting = tokio::spawn({
            let batcher = Arc::clone(&batcher);
            async move { batcher.submit((), 5).await }
        });
        while batcher.shared.room.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(batcher.submit((), 1).await, Err(BatchError::Full));
        go.notify_one();
        waiting.await.unwrap().unwrap();
        go.notify_one();
        assert_eq!(batcher.submit((), 1).await, Ok(()));
    }

    #[tokio::test]
    async fn at_the_end_nobody_is_left_waiting() {
        let shutdown = Shutdown::new();
        let batcher = Batcher::start(bounds(0), shutdown.clone(), |batch: Vec<()>| async move {
            std::future::pending::<()>().await;
            Ok(batch)
        });
        let (answer, ()) = tokio::join!(batcher.submit((), 1), async { shutdown.request() });
        assert_eq!(answer, Err(BatchError::Ending));
    }
}
