//! What should run here, and what does.
//!
//! ```text
//!   listing (from the stream) ──compare──► Begin / Adopt / Destroy ──► one runner per allocation
//!        stored rows (at start) ─────────► restored runners ─┘              │ removed
//!                                                        ▲──────────────────┘
//! ```
//!
//! * A listing says what should be, as a whole or for some allocations. Comparing is a pure function; what
//!   it says is carried out without waiting for any task.
//! * An allocation that is over for the cluster and unknown here is left alone: it is one whose files were
//!   collected. Everything else unknown here is begun, even to be stopped at once, so that the cluster hears
//!   how it ended.
//! * A row older than the one at hand is not believed.
//! * One that cannot be run at all (no job, no such group) is reported failed, once per row.
//! * An allocation that comes back while its predecessor is being removed begins when that is done.
//!
//! Driven by [`crate::link`]. Runners are tasks; this holds the end of a channel and a view of each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use driver::taskdir::AllocDirs;
use fsm::command::AllocClientUpdate;
use lifecycle::AllocSpec;
use model::alloc::AllocDeploymentStatus;
use model::{AllocId, Allocation, ClientStatus, DesiredStatus, Index};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::host::Host;
use crate::link::Wishes;
use crate::runner::asks::{ASKS, Answer, Ask, AskError};
use crate::runner::previous::Previous;
use crate::runner::{self, Ended, Live, Origin, Runner, View, Wanted};
use crate::store::{Progress, Stored};

/// A runner answers at once, unless its driver or the disk holds it up.
const ASK_WITHIN: Duration = Duration::from_secs(8);

/// What the cluster wants, of some allocations or (`full`) of all.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub full: bool,
    pub upserts: Vec<Allocation>,
    pub gone: Vec<AllocId>,
}

/// Clones share the runners.
#[derive(Clone)]
pub struct Roster(Arc<Inner>);

struct Inner {
    host: Arc<Host>,
    book: Mutex<Book>,
    contact: watch::Sender<bool>,
    /// Something ended or became removable.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Book {
    entries: BTreeMap<AllocId, Entry>,
    /// Rows that cannot be run, so that each is reported once.
    refused: BTreeMap<AllocId, Index>,
    closed: bool,
}

struct Entry {
    wanted: watch::Sender<Wanted>,
    view: watch::Receiver<View>,
    asks: mpsc::Sender<Ask>,
    task: Option<JoinHandle<Vec<Live>>>,
}

/// What is to be done about one allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Begin(usize),
    Adopt(usize),
    Destroy(AllocId),
}

/// The rows at hand: modify index, and whether it is being removed.
type Known = BTreeMap<AllocId, Index>;

/// What a listing asks for, given what is here. Removal comes first, then changes, then what is new.
fn compare(listing: &Listing, known: &Known) -> Vec<Action> {
    let (mut changes, mut new) = (Vec::new(), Vec::new());
    for (at, alloc) in listing.upserts.iter().enumerate() {
        match known.get(&alloc.id) {
            Some(have) if !listing.full && alloc.modify_index < *have => {}
            Some(_) => changes.push(Action::Adopt(at)),
            None if alloc.client_status.is_terminal() => {}
            None => new.push(Action::Begin(at)),
        }
    }
    let mut actions: Vec<Action> =
        listing.gone.iter().filter(|id| known.contains_key(*id)).cloned().map(Action::Destroy).collect();
    if listing.full {
        let listed: std::collections::BTreeSet<&AllocId> = listing.upserts.iter().map(|alloc| &alloc.id).collect();
        actions.extend(known.keys().filter(|id| !listed.contains(id)).cloned().map(Action::Destroy));
    }
    actions.extend(changes);
    actions.extend(new);
    actions
}

/// It is wanted, and not for so long without word from the cluster.
fn may_not_run_alone(alloc: &Allocation, silent: Duration) -> bool {
    let group = alloc.job.as_deref().and_then(|job| job.lookup_group(&alloc.task_group));
    let after = group.and_then(model::TaskGroup::stop_on_client_after);
    !alloc.server_terminal() && after.is_some_and(|after| after.to_std() <= silent)
}

impl Roster {
    pub fn new(host: Arc<Host>) -> Self {
        let inner = Inner { host, book: Mutex::default(), contact: watch::Sender::new(false), changed: Arc::default() };
        Self(Arc::new(inner))
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn host(&self) -> &Arc<Host> {
        &self.0.host
    }

    /// Wakes who waits for something to have ended.
    pub fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.0.changed)
    }

    /// Takes up what an earlier agent left. One that was never begun waits to be sent again.
    pub fn restore(&self, stored: Vec<Stored>) {
        let mut book = self.lock();
        for Stored { alloc, progress, told } in stored {
            let Some(progress) = progress else { continue };
            if let Some(told) = told {
                self.0.host.outbox.restore(told);
            }
            // From here on, before its runner comes to it, a task counts as known.
            progress.held.iter().for_each(|(task, held)| self.0.host.holds(&held.handle.task_id, task, &alloc));
            self.begin(&mut book, Arc::new(alloc), Some(progress));
        }
    }

    fn carry_out(&self, mut listing: Listing) {
        let me = self.0.host.node.borrow().id.clone();
        let foreign = listing.upserts.iter().filter(|alloc| alloc.node_id != me).count();
        if foreign > 0 {
            tracing::error!(foreign, "the gateway sent allocations of other nodes, leaving them out");
            listing.upserts.retain(|alloc| alloc.node_id == me);
        }
        let mut book = self.lock();
        if book.closed {
            return;
        }
        let known = book.entries.iter().map(|(id, e)| (id.clone(), e.wanted.borrow().alloc.modify_index)).collect();
        let actions = compare(&listing, &known);
        let mut rows: Vec<Option<Arc<Allocation>>> =
            listing.upserts.into_iter().map(|alloc| Some(Arc::new(alloc))).collect();
        for action in actions {
            match action {
                Action::Destroy(id) => {
                    if let Some(entry) = book.entries.get(&id) {
                        tracing::info!(alloc_id = %id, "allocation is gone, removing it");
                        entry.wanted.send_modify(|wanted| wanted.gone = true);
                    }
                }
                Action::Adopt(at) => {
                    let Some(alloc) = rows[at].take() else { continue };
                    if let Some(entry) = book.entries.get(&alloc.id) {
                        entry.wanted.send_replace(Wanted { alloc, gone: false });
                    }
                }
                Action::Begin(at) => {
                    let Some(alloc) = rows[at].take() else { continue };
                    self.begin(&mut book, alloc, None);
                }
            }
        }
        if listing.full {
            let listed: std::collections::BTreeSet<AllocId> =
                rows.iter().flatten().map(|alloc| alloc.id.clone()).collect();
            book.refused.retain(|id, _| listed.contains(id));
        }
        drop(book);
        if self.0.contact.send_if_modified(|yes| !std::mem::replace(yes, true)) {
            self.0.host.outbox.open();
        }
    }

    fn begin(&self, book: &mut Book, alloc: Arc<Allocation>, progress: Option<Progress>) {
        let id = alloc.id.clone();
        let prepared = self.prepare(&alloc);
        let (spec, dirs) = match prepared {
            Ok(prepared) => prepared,
            Err(reason) => {
                if book.refused.insert(id, alloc.modify_index) != Some(alloc.modify_index) {
                    self.refuse(&alloc, &reason);
                }
                return;
            }
        };
        book.refused.remove(&id);
        tracing::info!(alloc_id = %id, job_id = %alloc.job_id, restored = progress.is_some(), "allocation is taken up");
        let (wanted, wants) = watch::channel(Wanted { alloc: Arc::clone(&alloc), gone: false });
        let (view, views) = watch::channel(View::new(&alloc));
        let (asks, asked) = mpsc::channel(ASKS);
        let previous = self.previous(book, &alloc);
        let origin = Origin { host: Arc::clone(&self.0.host), alloc, spec, dirs, progress, previous };
        let channels = runner::Channels {
            wanted: wants,
            contact: self.0.contact.subscribe(),
            view,
            changed: Arc::clone(&self.0.changed),
            asks: asked,
        };
        let back = Arc::downgrade(&self.0);
        let task = tokio::spawn(async move {
            let (id, ended) = (origin.alloc.id.clone(), Runner::run(origin, channels).await);
            match ended {
                Ended::Left(live) => live,
                Ended::Removed => {
                    ended_removed(&back, &id);
                    Vec::new()
                }
            }
        });
        book.entries.insert(id, Entry { wanted, view: views, asks, task: Some(task) });
    }

    /// Whose end it waits for.
    fn previous(&self, book: &Book, alloc: &Allocation) -> Previous {
        let here = |id: &AllocId| book.entries.get(id).map(|entry| entry.view.clone());
        let mut previous =
            Previous { here: alloc.preempted_allocations.iter().filter_map(here).collect(), ..Previous::default() };
        let Some(id) = alloc.previous_allocation.non_empty() else { return previous };
        let Some(view) = here(id) else { return Previous { elsewhere: Some(id.clone()), ..previous } };
        previous.here.push(view);
        let group = alloc.job.as_deref().and_then(|job| job.lookup_group(&alloc.task_group));
        let disk = group.and_then(|group| group.ephemeral_disk.as_ref());
        if disk.is_some_and(|disk| disk.sticky == Some(true)) {
            previous.files = AllocDirs::new(&self.0.host.alloc_base, id.as_str()).ok();
        }
        previous
    }

    fn prepare(&self, alloc: &Allocation) -> Result<(AllocSpec, AllocDirs), String> {
        let job = alloc.job.as_deref().ok_or("the allocation came without its job")?;
        let spec = AllocSpec::new(alloc, job, self.0.host.of_node()).map_err(|e| e.to_string())?;
        let dirs = AllocDirs::new(&self.0.host.alloc_base, alloc.id.as_str()).map_err(|e| e.to_string())?;
        Ok((spec, dirs))
    }

    fn refuse(&self, alloc: &Allocation, reason: &str) {
        tracing::warn!(alloc_id = %alloc.id, reason, "allocation cannot be run here");
        let now = client::clock::unix_nanos();
        let deployment_status = alloc.deployment_id.non_empty().map(|_| AllocDeploymentStatus {
            healthy: Some(false),
            timestamp: model::Timestamp(now),
            ..AllocDeploymentStatus::default()
        });
        let update = AllocClientUpdate {
            id: alloc.id.clone(),
            node_id: alloc.node_id.clone(),
            client_status: ClientStatus::Failed,
            client_description: format!("Unable to add allocation: {reason}"),
            deployment_status,
            modify_time: now,
            ..AllocClientUpdate::default()
        };
        self.0.host.outbox.put(update, true);
    }

    /// The view of one allocation that has not been removed.
    pub fn view(&self, id: &AllocId) -> Option<View> {
        let book = self.lock();
        let entry = book.entries.get(id)?;
        let gone = entry.wanted.borrow().gone;
        if gone { None } else { Some(entry.view.borrow().clone()) }
    }

    /// Asks the runner of an allocation.
    ///
    /// # Errors
    /// What the runner says; [`AskError::Gone`] if there is none, [`AskError::Busy`] if it does not come to it.
    pub async fn ask<T>(&self, id: &AllocId, make: impl FnOnce(Answer<T>) -> Ask) -> Result<T, AskError> {
        let asks = {
            let book = self.lock();
            let entry = book.entries.get(id).filter(|entry| !entry.wanted.borrow().gone);
            entry.map(|entry| entry.asks.clone()).ok_or(AskError::Gone)?
        };
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            asks.send(make(answer)).await.map_err(|_| AskError::Gone)?;
            answered.await.map_err(|_| AskError::Gone)?
        };
        tokio::time::timeout(ASK_WITHIN, exchange).await.unwrap_or(Err(AskError::Busy))
    }

    pub fn views(&self) -> Vec<View> {
        self.lock().entries.values().map(|e| e.view.borrow().clone()).collect()
    }

    pub fn knows(&self, id: &AllocId) -> bool {
        self.lock().entries.contains_key(id)
    }

    pub fn ids(&self) -> Vec<AllocId> {
        self.lock().entries.keys().cloned().collect()
    }

    /// Stops allocations that are not to run for so long without the cluster (`stop_on_client_after`); says
    /// how many. The cluster has others run in their place when it comes to know.
    pub fn stop_unheard(&self, silent: Duration) -> usize {
        let book = self.lock();
        let stops = |wanted: &mut Wanted| {
            if wanted.gone || !may_not_run_alone(&wanted.alloc, silent) {
                return false;
            }
            tracing::info!(alloc_id = %wanted.alloc.id, "without word from the cluster for too long, stopping");
            wanted.alloc =
                Arc::new(Allocation { desired_status: DesiredStatus::Stop, ..Allocation::clone(&wanted.alloc) });
            true
        };
        book.entries.values().filter(|entry| entry.wanted.send_if_modified(stops)).count()
    }

    /// Removes one that has ended. False if it is not there any more.
    pub fn collect(&self, id: &AllocId) -> bool {
        let book = self.lock();
        let Some(entry) = book.entries.get(id) else { return false };
        entry.wanted.send_if_modified(|wanted| !std::mem::replace(&mut wanted.gone, true))
    }

    /// Ends all runners and says what still runs. Nothing is begun after that.
    pub async fn close(&self) -> Vec<Live> {
        let tasks: Vec<_> = {
            let mut book = self.lock();
            book.closed = true;
            book.entries.values_mut().filter_map(|e| e.task.take()).collect()
        };
        self.0.host.halt.request();
        let mut live = Vec::new();
        for task in tasks {
            live.extend(task.await.unwrap_or_default());
        }
        live
    }
}

impl Wishes for Roster {
    fn apply(&self, listing: Listing) {
        self.carry_out(listing);
    }
}

/// A runner has removed everything of its allocation; it may be wanted again meanwhile.
fn ended_removed(roster: &Weak<Inner>, id: &AllocId) {
    let Some(inner) = roster.upgrade() else { return };
    let roster = Roster(inner);
    let mut book = roster.lock();
    let again = book.entries.remove(id).map(|entry| entry.wanted.borrow().clone()).filter(|wanted| !wanted.gone);
    if let Some(wanted) = again.filter(|w| !book.closed && !w.alloc.client_status.is_terminal()) {
        roster.begin(&mut book, wanted.alloc, None);
    }
    drop(book);
    roster.0.changed.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alloc(id: &str, index: u64, status: ClientStatus) -> Allocation {
        let modify_index = Index(index);
        Allocation { id: id.into(), modify_index, client_status: status, ..Allocation::default() }
    }

    fn known(rows: &[(&str, u64)]) -> Known {
        rows.iter().map(|(id, index)| (AllocId::from(*id), Index(*index))).collect()
    }

    #[test]
    fn what_stops_on_the_client_stops_after_its_time_and_nothing_else_does() {
        let block = model::group::DisconnectStrategy {
            stop_on_client_after: Some(model::Nanos::from_secs(10)),
            ..Default::default()
        };
        let group =
            |name: &str, disconnect| model::TaskGroup { name: Some(name.into()), disconnect, ..Default::default() };
        let task_groups = vec![group("alone", None), group("timed", Some(block))];
        let job = Arc::new(model::Job { task_groups, ..model::Job::default() });
        let of = |group: &str| {
            let (job, task_group) = (Some(Arc::clone(&job)), group.to_owned());
            Allocation { job, task_group, ..alloc("a", 1, ClientStatus::Running) }
        };
        let after = |group: &str, seconds| may_not_run_alone(&of(group), Duration::from_secs(seconds));
        assert_eq!([after("timed", 9), after("timed", 10), after("alone", 9_999)], [false, true, false]);
        let stopped = Allocation { desired_status: DesiredStatus::Stop, ..of("timed") };
        assert!(!may_not_run_alone(&stopped, Duration::from_secs(99)), "once");
    }

    #[test]
    fn a_full_listing_removes_what_it_does_not_name_alloc_sync_10() {
        let upserts = vec![alloc("a", 5, ClientStatus::Running), alloc("c", 6, ClientStatus::Pending)];
        let listing = Listing { full: true, upserts, gone: Vec::new() };
        let actions = compare(&listing, &known(&[("a", 4), ("b", 4)]));
        assert_eq!(actions, [Action::Destroy("b".into()), Action::Adopt(0), Action::Begin(1)]);
    }

    #[test]
    fn a_delta_touches_only_what_it_names_alloc_sync_01_alloc_sync_13() {
        let upserts = vec![alloc("a", 3, ClientStatus::Running), alloc("b", 9, ClientStatus::Running)];
        let listing = Listing { full: false, upserts, gone: vec!["z".into(), "c".into()] };
        let actions = compare(&listing, &known(&[("a", 4), ("b", 4), ("c", 4), ("d", 4)]));
        assert_eq!(actions, [Action::Destroy("c".into()), Action::Adopt(1)]);
    }

    #[test]
    fn what_is_over_and_unknown_is_left_alone_restore_06() {
        let upserts = vec![alloc("a", 3, ClientStatus::Complete), alloc("b", 3, ClientStatus::Lost)];
        let listing = Listing { full: true, upserts, gone: Vec::new() };
        assert!(compare(&listing, &Known::new()).is_empty());
    }
}
