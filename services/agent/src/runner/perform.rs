//! Doing what the machine says.

use lifecycle::{Effect, Event, StartFailure, StartFailureKind};
use std::sync::Arc;
use std::time::Duration;

use driver::Driver;
use driver::contract::new_task_id;
use futures::FutureExt as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::tasks::{self, Outlet, Start};
use super::{Over, Runner, Slot};

fn over(task: JoinHandle<()>) -> Over {
    task.map(drop).boxed().shared()
}

impl Runner {
    pub(super) async fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::StartTask { task, start } => self.start_task(task, start),
                Effect::CancelStart { task, start } => {
                    if let Some(slot) = self.slot(&task, start) {
                        slot.cancel.cancel();
                    }
                }
                Effect::RecoverTask { task, start } => self.recover_task(task, start),
                Effect::KillTask { task, start, signal, timeout } => self.kill_task(task, start, signal, timeout),
                Effect::FreeTask { task, start } => self.free_task(&task, start),
                Effect::SignalTask { task, start, signal } => self.signal_task(&task, start, signal),
                Effect::SetTimer { timer, after } => {
                    self.timers.retain(|(_, t)| t.kind != timer.kind);
                    self.timers.push((Instant::now() + after, timer));
                }
                // Nothing is registered anywhere yet.
                Effect::Stopping { .. } => {}
                Effect::Report { urgent } => self.report(urgent).await,
                Effect::Finished => self.finish(),
            }
        }
    }

    /// Local state first, then what others see, then the cluster.
    pub(super) async fn report(&mut self, urgent: bool) {
        self.save().await;
        self.show();
        if !self.gone {
            self.host.outbox.put(self.update(), urgent);
        }
    }

    fn slot(&mut self, task: &str, start: u64) -> Option<&mut Slot> {
        self.slots.get_mut(task).filter(|slot| slot.start == start)
    }

    fn outlet(&self, task: &str, start: u64) -> Outlet {
        Outlet { task: task.to_owned(), start, messages: self.outlet.clone() }
    }

    fn driver_of(&self, task: &str) -> Result<Arc<dyn Driver>, String> {
        let group = self.alloc.job.as_deref().and_then(|job| job.lookup_group(&self.alloc.task_group));
        let spec = group.and_then(|group| group.lookup_task(task));
        let name = &spec.ok_or_else(|| format!("task {task:?} is not part of the job"))?.driver;
        self.host.driver(name).ok_or_else(|| format!("driver {name:?} is not available on this node"))
    }

    fn start_task(&mut self, task: String, start: u64) {
        self.finished = None;
        let driver = match self.driver_of(&task) {
            Ok(driver) => driver,
            Err(message) => {
                let failure = StartFailure { kind: StartFailureKind::Driver, message, recoverable: false };
                self.soon.push_back(Event::StartFailed { task, start, failure });
                return;
            }
        };
        let task_id = new_task_id(&self.id, &task);
        self.host.holds(&task_id, &task, &self.alloc);
        let cancel = CancellationToken::new();
        let earlier = self.slots.get_mut(&task).and_then(|slot| slot.freeing.take());
        let work = Start {
            host: Arc::clone(&self.host),
            alloc: Arc::clone(&self.alloc),
            dirs: self.dirs.clone(),
            driver: Arc::clone(&driver),
            task_id: task_id.clone(),
            cancel: cancel.clone(),
            after: earlier.into_iter().chain(self.releasing.clone()).collect(),
            outlet: self.outlet(&task, start),
        };
        self.slots.insert(task, Slot { start, task_id, driver: Some(driver), cancel, freeing: None });
        self.host.starts.spawn(work.run());
    }

    fn recover_task(&mut self, task: String, start: u64) {
        let held = self.held.get(&task).filter(|held| held.start == start).cloned();
        let driver = held.as_ref().and_then(|held| self.host.driver(&held.handle.driver));
        let (Some(held), Some(driver)) = (held, driver) else {
            if let Some(unusable) = self.held.remove(&task) {
                self.host.lets_go(&unusable.handle.task_id);
            }
            self.soon.push_back(Event::RecoverFailed { task, start });
            return;
        };
        let task_id = held.handle.task_id.clone();
        self.host.holds(&task_id, &task, &self.alloc);
        let outlet = self.outlet(&task, start);
        let cancel = CancellationToken::new();
        let slot = Slot { start, task_id, driver: Some(Arc::clone(&driver)), cancel, freeing: None };
        self.slots.insert(task, slot);
        tokio::spawn(tasks::recover(Arc::clone(&self.host), driver, held.handle, outlet));
    }

    fn kill_task(&mut self, task: String, start: u64, signal: String, timeout: Duration) {
        let outlet = self.outlet(&task, start);
        let Some(slot) = self.slot(&task, start) else { return };
        let Some(driver) = slot.driver.clone() else { return };
        let task_id = slot.task_id.clone();
        tokio::spawn(async move {
            // The exit is told by whoever waits for the task.
            if let Err(error) = driver.kill(&task_id, &signal, timeout).await {
                let Outlet { task, start, .. } = &outlet;
                let (task, start) = (task.clone(), *start);
                outlet.event(Event::KillFailed { task, start, message: error.to_string() }).await;
            }
        });
    }

    fn signal_task(&mut self, task: &str, start: u64, signal: String) {
        let Some(slot) = self.slot(task, start) else { return };
        let (Some(driver), task_id) = (slot.driver.clone(), slot.task_id.clone()) else { return };
        tokio::spawn(async move {
            if let Err(error) = driver.signal(&task_id, &signal).await {
                tracing::warn!(task_id, signal, error = %error, "task was not signalled");
            }
        });
    }

    pub(super) fn free_task(&mut self, task: &str, start: u64) {
        if self.held.get(task).is_some_and(|held| held.start == start) {
            self.held.remove(task);
        }
        let host = Arc::clone(&self.host);
        let Some(slot) = self.slot(task, start) else { return };
        let (Some(driver), task_id) = (slot.driver.clone(), slot.task_id.clone()) else { return };
        slot.freeing = Some(over(tokio::spawn(async move { tasks::free(&host, &*driver, &task_id).await })));
    }

    /// No task lives: once all are freed, drivers let go of what they hold for the allocation as a whole.
    pub(super) fn finish(&mut self) {
        if self.finished.is_none() {
            self.finished = Some(Instant::now());
        }
        let freeing: Vec<_> = self.slots.values_mut().filter_map(|slot| slot.freeing.take()).collect();
        let earlier = self.releasing.take();
        let drivers: Vec<Arc<dyn Driver>> = self.host.drivers.values().cloned().collect();
        let (dirs, id) = (self.dirs.clone(), self.id.clone());
        let (host, network) = (Arc::clone(&self.host), self.network.take());
        let view = self.channels.view.clone();
        view.send_modify(|view| view.released = false);
        self.releasing = Some(over(tokio::spawn(async move {
            for task in freeing.into_iter().chain(earlier) {
                task.await;
            }
            if network.is_some() {
                crate::bridge::end(&host, &id).await;
            }
            for driver in drivers {
                if let Err(error) = driver.release(&dirs).await {
                    tracing::warn!(alloc_id = %id, driver = driver.name(), error = %error, "driver does not let go of the allocation");
                }
            }
            view.send_modify(|view| view.released = true);
        })));
        self.show();
        self.channels.changed.notify_one();
    }
}
