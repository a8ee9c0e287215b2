//! One allocation on this node: waits for what happens, asks the machine, does what it says.
//!
//! ```text
//!   wanted row ─┐
//!   first contact ─┤                                       ┌─► start, recover, kill, free: tasks of their own
//!   results ────┼─► next() ──Event──► Machine::step ──Effect──► perform()
//!   timers ─────┘                                          ├─► local state, then news
//!                                                          └─► timers
//! ```
//!
//! * Only this task changes the allocation; everything that takes time runs beside it and comes back as a
//!   result with the number of the start it is about.
//! * A start waits until the previous start of the same task was freed: both would use one cgroup. After the end of all
//!   tasks every start waits until drivers have let go of the allocation.
//! * A handle is stored before the cluster hears that the task runs.
//! * When the agent ends, runners end and tasks run on. When the allocation is gone, the runner ends its
//!   tasks, removes the directory and the local state, in this order, and then itself.
//!
//! Driven by [`crate::roster`], one per allocation. It cannot fail; what a driver or the disk refuses becomes
//! an event of a task, or a line in the log.

pub mod asks;
mod perform;
pub mod prepare;
pub mod previous;
mod tasks;
#[cfg(test)]
mod tests;
pub mod volumes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use driver::contract::Namespace;
use driver::taskdir::AllocDirs;
use driver::{Driver, Handle};
use fsm::command::AllocClientUpdate;
use futures::future::{BoxFuture, Shared};
use lifecycle::{AllocSpec, Effect, Event, Machine, Report, Timer};
use model::{AllocId, Allocation, ClientStatus, Timestamp};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bridge;
use crate::host::Host;
use crate::store::{Held, Progress};
use asks::Ask;
use previous::Previous;

const INBOX: usize = 32;
/// Tries of removing an allocation's directory, a second apart.
const REMOVE_TRIES: u32 = 5;

/// The newest row of the cluster.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub alloc: Arc<Allocation>,
    /// The cluster forgot it, or its files are collected: everything of it goes.
    pub gone: bool,
}

/// What others may know about an allocation.
#[derive(Clone, Debug)]
pub struct View {
    pub alloc: Arc<Allocation>,
    pub report: Arc<Report>,
    /// Nothing of it lives or will start by itself, since then.
    pub finished: Option<Instant>,
    /// What was held for it is free, too: ports, devices.
    pub released: bool,
}

impl View {
    pub fn new(alloc: &Arc<Allocation>) -> Self {
        Self { alloc: Arc::clone(alloc), report: Arc::default(), finished: None, released: false }
    }
}

/// A task that lives, for whoever ends it when the agent ends.
#[derive(Clone)]
pub struct Live {
    pub driver: Arc<dyn Driver>,
    pub task_id: String,
    pub signal: String,
    pub timeout: Duration,
}

/// How a runner ended.
pub enum Ended {
    /// The agent ends; these tasks run on.
    Left(Vec<Live>),
    /// Nothing of the allocation is left.
    Removed,
}

/// What a runner begins with.
pub struct Origin {
    pub host: Arc<Host>,
    pub alloc: Arc<Allocation>,
    pub spec: AllocSpec,
    pub dirs: AllocDirs,
    /// Where an earlier agent stopped.
    pub progress: Option<Progress>,
    pub previous: Previous,
}

/// How a runner is connected.
pub struct Channels {
    pub wanted: watch::Receiver<Wanted>,
    pub contact: watch::Receiver<bool>,
    pub view: watch::Sender<View>,
    pub changed: Arc<Notify>,
    pub asks: mpsc::Receiver<Ask>,
}

/// What the tasks beside the runner send it.
#[derive(Debug)]
enum Message {
    /// The driver holds the task.
    Launched {
        task: String,
        start: u64,
        handle: Handle,
    },
    /// The network its tasks share is there.
    Networked(Namespace),
    Event(Event),
}

/// What wakes a runner.
enum Woken {
    Message(Message),
    Timer(Timer),
    Wanted(Wanted),
    Contact,
    Ask(Ask),
    Halt,
}

/// The end of something that runs beside the runner, for all who wait for it.
type Over = Shared<BoxFuture<'static, ()>>;

/// A task as its driver knows it.
#[derive(Default)]
struct Slot {
    start: u64,
    task_id: String,
    driver: Option<Arc<dyn Driver>>,
    cancel: CancellationToken,
    /// The freeing of an earlier start.
    freeing: Option<Over>,
}

pub struct Runner {
    host: Arc<Host>,
    id: AllocId,
    alloc: Arc<Allocation>,
    /// The row has changed since it was stored.
    alloc_unsaved: bool,
    dirs: AllocDirs,
    machine: Machine,
    slots: BTreeMap<String, Slot>,
    held: BTreeMap<String, Held>,
    /// The network its tasks share, if they share one.
    network: Option<Box<Namespace>>,
    timers: Vec<(Instant, Timer)>,
    /// Found out while performing; taken before anything is waited for.
    soon: VecDeque<Event>,
    outlet: mpsc::Sender<Message>,
    inbox: mpsc::Receiver<Message>,
    channels: Channels,
    contacted: bool,
    finished: Option<Instant>,
    /// What finishing took up last; starts after it wait for it, and so does the removal.
    releasing: Option<Over>,
    gone: bool,
}

fn now() -> Timestamp {
    Timestamp(client::clock::unix_nanos())
}

impl Runner {
    /// Runs the allocation until it is removed or the agent ends.
    pub async fn run(origin: Origin, mut channels: Channels) -> Ended {
        let Origin { host, mut alloc, mut spec, dirs, progress, previous } = origin;
        if host.halt.or(host.may_begin()).await.is_none() {
            return Ended::Left(Vec::new());
        }
        let restored = progress.is_some();
        let mut files = None;
        if !restored && !spec.wants_stop() {
            let waited = previous.ended(&host.elsewhere, &mut channels.wanted);
            let Some(over) = host.halt.or(waited).await else { return Ended::Left(Vec::new()) };
            files = over;
            (alloc, spec) = newest(&channels.wanted.borrow(), (alloc, spec), host.of_node());
        }
        let problem = build(&dirs, restored).await;
        if let Some(from) = files {
            // Known from here on: what moves in is no leftover of nobody's if the agent dies meanwhile.
            host.store.save(&alloc.id, Some(Arc::clone(&alloc)), Progress::default()).await;
            take_over(&dirs, from, &alloc).await;
        }
        let (outlet, inbox) = mpsc::channel(INBOX);
        let Progress { saved, held, network } = progress.unwrap_or_default();
        let saved = restored.then_some(saved);
        let (machine, effects) = match saved {
            Some(saved) => Machine::restore(spec, saved, now()),
            None => Machine::new(spec, now()),
        };
        let mut runner = Self {
            id: alloc.id.clone(),
            host,
            alloc,
            alloc_unsaved: !restored,
            dirs,
            machine,
            slots: BTreeMap::new(),
            held,
            network,
            timers: Vec::new(),
            soon: VecDeque::new(),
            outlet,
            inbox,
            channels,
            contacted: false,
            finished: None,
            releasing: None,
            gone: false,
        };
        runner.drop_stale(&effects);
        match problem {
            None => runner.perform(effects).await,
            Some(reason) => {
                tracing::warn!(alloc_id = %runner.id, reason, "allocation cannot be prepared");
                // What would be started has nowhere to live.
                let begun = effects.into_iter().filter(|e| !matches!(e, Effect::StartTask { .. })).collect();
                runner.perform(begun).await;
                runner.step(Event::SetupFailed { reason }).await;
            }
        }
        runner.attend().await
    }

    /// Handles that nothing will be made of are not kept: what is behind them is an orphan.
    fn drop_stale(&mut self, effects: &[Effect]) {
        let host = &self.host;
        self.held.retain(|name, held| {
            let wanted =
                |e: &Effect| matches!(e, Effect::RecoverTask { task, start } if task == name && *start == held.start);
            let keep = effects.iter().any(wanted);
            if !keep {
                host.lets_go(&held.handle.task_id);
            }
            keep
        });
    }

    /// The loop.
    async fn attend(mut self) -> Ended {
        loop {
            while let Some(event) = self.soon.pop_front() {
                self.step(event).await;
            }
            if self.gone && self.finished.is_some() {
                self.remove().await;
                return Ended::Removed;
            }
            match self.next().await {
                Woken::Message(Message::Event(event)) => self.step(event).await,
                Woken::Message(Message::Networked(made)) => self.networked(made).await,
                Woken::Message(Message::Launched { task, start, handle }) => self.launched(task, start, handle).await,
                Woken::Timer(timer) => self.step(Event::Timer(timer)).await,
                Woken::Contact => {
                    self.contacted = true;
                    self.step(Event::ServerContact).await;
                }
                Woken::Wanted(wanted) => self.adopt(wanted).await,
                Woken::Ask(ask) => self.asked(ask).await,
                Woken::Halt => return Ended::Left(self.live()),
            }
        }
    }

    /// Waits for whatever comes first. Decides nothing.
    async fn next(&mut self) -> Woken {
        let due = self.timers.iter().map(|(at, _)| *at).min();
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.host.halt.requested() => Woken::Halt,
            message = self.inbox.recv() => message.map_or(Woken::Halt, Woken::Message),
            changed = self.channels.wanted.changed(), if !self.gone => match changed {
                Ok(()) => Woken::Wanted(self.channels.wanted.borrow_and_update().clone()),
                Err(_) => Woken::Halt,
            },
            contact = self.channels.contact.wait_for(|yes| *yes), if !self.contacted => match contact {
                Ok(_) => Woken::Contact,
                Err(_) => Woken::Halt,
            },
            Some(ask) = self.channels.asks.recv() => Woken::Ask(ask),
            () = timer => match self.timers.iter().position(|(at, _)| Some(*at) == due) {
                Some(at) => Woken::Timer(self.timers.swap_remove(at).1),
                None => Woken::Halt,
            },
        }
    }

    async fn step(&mut self, event: Event) {
        let effects = self.machine.step(event, now());
        self.perform(effects).await;
    }

    /// The driver holds a task: that is stored together with its state.
    async fn launched(&mut self, task: String, start: u64, handle: Handle) {
        self.held.insert(task.clone(), Held { start, handle });
        self.step(Event::Started { task: task.clone(), start }).await;
        let saved = self.machine.saved();
        if saved.tasks.get(&task).is_none_or(|now| !now.held || now.start != start) {
            // It came up although nobody wanted it any more.
            self.free_task(&task, start);
        }
    }

    /// Stored before anything lives in it.
    async fn networked(&mut self, made: Namespace) {
        if self.network.as_deref() == Some(&made) {
            return;
        }
        self.network = Some(Box::new(made));
        self.report(false).await;
        if self.finished.is_some() {
            // It came up after the end.
            self.finish();
        }
    }

    /// Takes in the cluster's newest row.
    async fn adopt(&mut self, wanted: Wanted) {
        if wanted.gone {
            self.gone = true;
            self.step(Event::Destroy).await;
            return;
        }
        let alloc = wanted.alloc;
        let spec = match alloc.job.as_deref() {
            Some(job) => AllocSpec::new(&alloc, job, self.host.of_node()),
            None => return,
        };
        let spec = match spec {
            Ok(spec) => spec,
            Err(error) => {
                tracing::warn!(alloc_id = %self.id, error = %error, "changed allocation cannot be run, keeping the old one");
                return;
            }
        };
        let reconnected = alloc.client_status == ClientStatus::Unknown && !spec.wants_stop();
        self.alloc_unsaved |= alloc.alloc_modify_index != self.alloc.alloc_modify_index || spec != *self.machine.spec();
        self.alloc = alloc;
        self.show();
        if reconnected {
            self.host.outbox.renew(&self.id);
            self.step(Event::Reconnected).await;
        }
        if spec != *self.machine.spec() {
            self.step(Event::Updated(Box::new(spec))).await;
        }
        if self.alloc_unsaved {
            self.save().await;
        }
    }

    /// Stores everything that is needed to go on after a restart.
    async fn save(&mut self) {
        let alloc = self.alloc_unsaved.then(|| Arc::clone(&self.alloc));
        let progress = Progress { saved: self.machine.saved(), held: self.held.clone(), network: self.network.clone() };
        self.alloc_unsaved = false;
        // The store says itself what it cannot write, and keeps it.
        self.host.store.save(&self.id, alloc, progress).await;
    }

    /// Shows others how things stand.
    fn show(&self) {
        self.channels.view.send_modify(|view| {
            view.alloc = Arc::clone(&self.alloc);
            view.report = Arc::new(self.machine.report());
            view.finished = self.finished;
            view.released &= self.finished.is_some();
        });
    }

    fn update(&self) -> AllocClientUpdate {
        let report = self.machine.report();
        AllocClientUpdate {
            id: self.id.clone(),
            node_id: self.alloc.node_id.clone(),
            client_status: report.client_status,
            client_description: report.client_description,
            task_states: report.task_states,
            deployment_status: report.deployment_status,
            network_status: Some(Arc::new(bridge::status(self.network.as_deref()))),
            modify_time: client::clock::unix_nanos(),
        }
    }

    /// What a driver holds, for whoever ends it.
    fn live(&self) -> Vec<Live> {
        let held = self.host.held();
        let slots = self.slots.iter().filter(|(_, slot)| held.contains(&slot.task_id));
        slots
            .filter_map(|(name, slot)| {
                let spec = self.machine.spec().tasks.iter().find(|t| t.name == *name);
                Some(Live {
                    driver: slot.driver.clone()?,
                    task_id: slot.task_id.clone(),
                    signal: spec.map(|t| t.kill_signal.clone()).unwrap_or_default(),
                    timeout: spec.map_or(Duration::from_secs(5), |t| t.kill_timeout.to_std()),
                })
            })
            .collect()
    }

    /// Leaves nothing of the allocation.
    async fn remove(&mut self) {
        if let Some(releasing) = self.releasing.take() {
            releasing.await;
        }
        let _turn = self.host.removals.acquire().await;
        for attempt in 1..=REMOVE_TRIES {
            let dirs = self.dirs.clone();
            match tokio::task::spawn_blocking(move || dirs.destroy()).await {
                Ok(Err(error)) if attempt == REMOVE_TRIES => {
                    tracing::warn!(alloc_id = %self.id, error = %error, "allocation's directory is not removed");
                }
                Ok(Err(_)) => tokio::time::sleep(Duration::from_secs(1)).await,
                _ => break,
            }
        }
        self.host.store.forget(&self.id).await;
        self.host.outbox.forget(&self.id);
        tracing::info!(alloc_id = %self.id, "allocation is removed");
    }
}

/// What is to run by the newest row, which may be nothing any more.
fn newest(
    wanted: &Wanted,
    old: (Arc<Allocation>, AllocSpec),
    node: lifecycle::OfNode<'_>,
) -> (Arc<Allocation>, AllocSpec) {
    let mut alloc = Arc::clone(&wanted.alloc);
    if wanted.gone {
        Arc::make_mut(&mut alloc).desired_status = model::DesiredStatus::Stop;
    }
    let spec = alloc.job.as_deref().and_then(|job| AllocSpec::new(&alloc, job, node).ok());
    spec.map_or(old, |spec| (alloc, spec))
}

/// Files of the predecessor become this allocation's; where they cannot, it begins without.
async fn take_over(dirs: &AllocDirs, from: AllocDirs, alloc: &Allocation) {
    let group = alloc.job.as_deref().and_then(|job| job.lookup_group(&alloc.task_group));
    let tasks: Vec<String> = group.iter().flat_map(|group| &group.tasks).map(|task| task.name.clone()).collect();
    let into = dirs.clone();
    let moved = tokio::task::spawn_blocking(move || into.take_over(&from, &tasks)).await;
    match moved {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(alloc_id = %alloc.id, error = %chain(&error), "files of the predecessor stay behind")
        }
        Err(error) => tracing::warn!(alloc_id = %alloc.id, %error, "files of the predecessor stay behind"),
    }
}

/// Makes the allocation's directories; says why not. One that was there and is not any more is a problem.
async fn build(dirs: &AllocDirs, restored: bool) -> Option<String> {
    if restored && !dirs.root.exists() {
        return Some("the allocation's directory is gone".to_owned());
    }
    let dirs = dirs.clone();
    match tokio::task::spawn_blocking(move || dirs.build()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(chain(&error)),
        Err(error) => Some(error.to_string()),
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
