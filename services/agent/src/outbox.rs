//! What the cluster has still to be told about allocations.
//!
//! ```text
//!   put ──► pending (newest per allocation) ──one batch at a time──► gateway ──committed──► told
//!              ▲                                    │ failed: back, unless something newer came
//!              └────────────────────────────────────┘
//! ```
//!
//! * Nothing leaves before the first listing from the cluster was applied: what a restarted agent says must
//!   not be older than what it was asked for.
//! * News of a changed status leaves at once when it is the first for a while, and in batches after that;
//!   everything else waits a little for company.
//! * What equals the last acknowledged news is dropped.
//! * A batch that is refused as it is gets halved; a single piece of news that is refused is dropped with a
//!   line in the log, so that it does not hold up everything else.
//!
//! Driven by [`crate::link::news`]. Bounded by the number of allocations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fsm::command::AllocClientUpdate;
use model::AllocId;
use tokio::sync::Notify;
use tokio::time::Instant;

/// News of a changed status is at most this much later than the batch before it.
const URGENT_GAP: Duration = Duration::from_millis(20);
/// All other news waits this long for company.
const PATIENCE: Duration = Duration::from_millis(200);
pub const BATCH_MAX: usize = 256;

type Update = Arc<AllocClientUpdate>;

/// Pending and acknowledged news. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Outbox(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    book: Mutex<Book>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Book {
    pending: BTreeMap<AllocId, Update>,
    told: BTreeMap<AllocId, Update>,
    open: bool,
    /// When the next batch leaves.
    due: Option<Instant>,
    last_batch: Option<Instant>,
}

/// Everything but the time at which it was said.
fn same(a: &AllocClientUpdate, b: &AllocClientUpdate) -> bool {
    a.id == b.id
        && a.node_id == b.node_id
        && a.client_status == b.client_status
        && a.client_description == b.client_description
        && a.task_states == b.task_states
        && a.deployment_status == b.deployment_status
        && a.network_status == b.network_status
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster's first listing was applied: news may leave when it is due.
    pub fn open(&self) {
        self.lock().open = true;
        self.0.wake.notify_one();
    }

    /// What an earlier agent had acknowledged.
    pub fn restore(&self, told: AllocClientUpdate) {
        self.lock().told.insert(told.id.clone(), Arc::new(told));
    }

    pub fn put(&self, update: AllocClientUpdate, urgent: bool) {
        let now = Instant::now();
        let mut book = self.lock();
        if book.told.get(&update.id).is_some_and(|told| same(told, &update)) {
            book.pending.remove(&update.id);
            return;
        }
        let at = match (urgent, book.last_batch) {
            (true, Some(last)) => now.max(last + URGENT_GAP),
            (true, None) => now,
            (false, _) => now + PATIENCE,
        };
        book.due = Some(book.due.map_or(at, |due| due.min(at)));
        book.pending.insert(update.id.clone(), Arc::new(update));
        drop(book);
        self.0.wake.notify_one();
    }

    /// The cluster lost sight of it: the same news is worth saying again.
    pub fn renew(&self, id: &AllocId) {
        self.lock().told.remove(id);
    }

    pub fn forget(&self, id: &AllocId) {
        let mut book = self.lock();
        book.told.remove(id);
        book.pending.remove(id);
    }

    /// Whether the cluster knows all there is to know about an allocation.
    pub fn is_told(&self, id: &AllocId) -> bool {
        let book = self.lock();
        book.told.contains_key(id) && !book.pending.contains_key(id)
    }

    pub fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    /// Waits for the next batch, of at most `max`.
    pub async fn batch(&self, max: usize) -> Vec<Update> {
        loop {
            let woken = self.0.wake.notified();
            let due = {
                let mut book = self.lock();
                match book.due {
                    _ if !book.open || book.pending.is_empty() => None,
                    Some(due) if due > Instant::now() => Some(due),
                    _ => return book.take(max.clamp(1, BATCH_MAX)),
                }
            };
            tokio::select! {
                () = woken => {}
                () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {}
            }
        }
    }

    /// The batch was committed.
    pub fn acknowledge(&self, batch: &[Update]) {
        let mut book = self.lock();
        for update in batch {
            book.told.insert(update.id.clone(), update.clone());
        }
    }

    /// The batch was not committed, or nobody knows: it is sent again, unless there is newer news.
    pub fn give_back(&self, batch: Vec<Update>) {
        let mut book = self.lock();
        for update in batch {
            book.pending.entry(update.id.clone()).or_insert(update);
        }
        book.due = Some(Instant::now());
        drop(book);
        self.0.wake.notify_one();
    }
}

impl Book {
    fn take(&mut self, max: usize) -> Vec<Update> {
        let now = Instant::now();
        let ids: Vec<AllocId> = self.pending.keys().take(max).cloned().collect();
        let batch = ids.iter().filter_map(|id| self.pending.remove(id)).collect();
        self.last_batch = Some(now);
        self.due = (!self.pending.is_empty()).then_some(now);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ClientStatus;

    fn update(id: &str, status: ClientStatus) -> AllocClientUpdate {
        AllocClientUpdate { id: id.into(), client_status: status, ..AllocClientUpdate::default() }
    }

    async fn batch(outbox: &Outbox) -> Vec<Update> {
        tokio::time::timeout(Duration::from_secs(5), outbox.batch(BATCH_MAX)).await.unwrap()
    }

    fn ids(batch: &[Update]) -> Vec<&str> {
        batch.iter().map(|u| u.id.as_str()).collect()
    }

    #[tokio::test]
    async fn nothing_leaves_before_the_first_listing_alloc_sync_08() {
        let outbox = Outbox::default();
        outbox.put(update("a", ClientStatus::Running), true);
        assert!(tokio::time::timeout(PATIENCE * 2, outbox.batch(9)).await.is_err());
        outbox.open();
        assert_eq!(ids(&batch(&outbox).await), ["a"]);
    }

    #[tokio::test]
    async fn a_changed_status_leaves_at_once_and_events_wait_for_company_alloc_sync_04_alloc_sync_05() {
        let outbox = Outbox::default();
        outbox.open();
        // What is decided, and not when a thread comes to it.
        let due = || outbox.lock().due.unwrap();
        let begun = Instant::now();
        outbox.put(update("a", ClientStatus::Pending), false);
        assert!(due() >= begun + PATIENCE, "for company");
        outbox.put(update("b", ClientStatus::Running), true);
        assert!(due() <= Instant::now(), "at once");
        assert_eq!(ids(&batch(&outbox).await), ["a", "b"]);
        let left = Instant::now();
        outbox.put(update("c", ClientStatus::Running), true);
        let gap_ends = due();
        assert!(gap_ends <= Instant::now().max(left + URGENT_GAP), "after the gap at the latest");
        batch(&outbox).await;
        assert!(Instant::now() >= gap_ends && gap_ends >= begun + URGENT_GAP, "not before its end");
        let put = Instant::now();
        outbox.put(update("d", ClientStatus::Pending), false);
        batch(&outbox).await;
        assert!(put.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn what_waits_for_company_goes_on_waiting_when_news_may_leave() {
        let outbox = Outbox::default();
        let begun = Instant::now();
        outbox.put(update("a", ClientStatus::Pending), false);
        outbox.open();
        assert!(outbox.lock().due.unwrap() >= begun + PATIENCE);
        assert_eq!(ids(&batch(&outbox).await), ["a"]);
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_not_said_again_alloc_sync_06() {
        let outbox = Outbox::default();
        outbox.open();
        outbox.put(update("a", ClientStatus::Running), true);
        assert!(!outbox.is_told(&"a".into()));
        let sent = batch(&outbox).await;
        outbox.acknowledge(&sent);
        assert!(outbox.is_told(&"a".into()));
        outbox.put(AllocClientUpdate { modify_time: 7, ..update("a", ClientStatus::Running) }, true);
        assert!(tokio::time::timeout(PATIENCE * 2, outbox.batch(9)).await.is_err());
        outbox.renew(&"a".into());
        outbox.put(update("a", ClientStatus::Running), true);
        assert_eq!(batch(&outbox).await.len(), 1);
    }

    #[tokio::test]
    async fn the_latest_news_survives_a_failed_batch_alloc_sync_07() {
        let outbox = Outbox::default();
        outbox.open();
        outbox.put(update("a", ClientStatus::Running), true);
        outbox.put(update("b", ClientStatus::Running), true);
        let failed = batch(&outbox).await;
        outbox.put(update("a", ClientStatus::Complete), true);
        outbox.give_back(failed);
        let again = batch(&outbox).await;
        let states: Vec<_> = again.iter().map(|u| u.client_status).collect();
        assert_eq!(states, [ClientStatus::Complete, ClientStatus::Running]);
    }
}
