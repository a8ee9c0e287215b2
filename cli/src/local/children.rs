//! Child processes that are kept running: what `steppe agent` and `steppe dev` are made of.
//!
//! ```text
//!   start_all ─► tend, again and again: who has ended is started again after a growing pause ─► stop_all
//! ```
//!
//! Children end with the *thread* that started them, so all of this happens on the main thread. One that ran
//! for a while before it ended is started again soon; one that ends at once is left alone longer each time.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use model::Role;
use rustix::process::Signal;

use super::plan::Spec;
use super::process::{self, Noted, Tie};

const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// One that ran this long did not end for the reason it ended for before.
const STEADY: Duration = Duration::from_secs(60);
const IDLE_MIN: Duration = Duration::from_millis(20);
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Longest line that is passed on in one piece.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Takes a line of a child's output: name of the child, line.
pub type Hear = Arc<dyn Fn(&str, &str) + Send + Sync>;

struct Running {
    child: Child,
    since: Instant,
}

/// When one that ended is started again, and after which pause.
struct Again {
    at: Instant,
    pause: Duration,
}

pub struct Children {
    pub specs: Vec<Spec>,
    /// `None`: output goes into files.
    hear: Option<Hear>,
    running: HashMap<String, Running>,
    again: HashMap<String, Again>,
}

impl Children {
    pub fn new(specs: Vec<Spec>, hear: Option<Hear>) -> Self {
        Self { specs, hear, running: HashMap::new(), again: HashMap::new() }
    }

    /// # Errors
    /// One of them cannot be started.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        for spec in self.specs.clone() {
            self.start(&spec).with_context(|| format!("starting {}", spec.name))?;
        }
        Ok(())
    }

    fn start(&mut self, spec: &Spec) -> std::io::Result<()> {
        let tie = if self.hear.is_some() { Tie::Heard } else { Tie::Child };
        let mut child = process::start(spec, tie)?;
        if let (Some(hear), Some(stderr)) = (&self.hear, child.stderr.take()) {
            let (hear, name) = (Arc::clone(hear), spec.name.clone());
            std::thread::Builder::new().name(format!("hear {name}")).stack_size(128 << 10).spawn(move || {
                listen(&name, stderr, &hear);
            })?;
        }
        self.running.insert(spec.name.clone(), Running { child, since: Instant::now() });
        Ok(())
    }

    /// Starts again what has ended; `say` gets a sentence for each.
    pub fn tend(&mut self, say: &mut dyn FnMut(String)) {
        let now = Instant::now();
        for spec in self.specs.clone() {
            let ended = self.running.get_mut(&spec.name).and_then(|r| r.child.try_wait().ok().flatten());
            if let Some(status) = ended {
                let ran = self.running.remove(&spec.name).map_or(Duration::ZERO, |r| r.since.elapsed());
                let before = self.again.get(&spec.name).filter(|_| ran < STEADY);
                let pause = before.map_or(PAUSE_MIN, |again| (again.pause * 2).min(PAUSE_MAX));
                say(format!("{} has ended ({status}), starting it again in {:.1} s", spec.name, pause.as_secs_f64()));
                self.again.insert(spec.name.clone(), Again { at: now + pause, pause });
            }
            let due = self.again.get(&spec.name).is_some_and(|again| again.at <= now);
            if due
                && !self.running.contains_key(&spec.name)
                && let Err(error) = self.start(&spec)
            {
                say(format!("{} does not start: {error}", spec.name));
            }
        }
    }

    /// How long nothing need be done, unless one of them ends.
    pub fn idle(&self) -> Duration {
        let waiting = self.again.iter().filter(|(name, _)| !self.running.contains_key(*name));
        let due = waiting.map(|(_, again)| again.at).min();
        due.map_or(IDLE_MAX, |at| at.saturating_duration_since(Instant::now()).clamp(IDLE_MIN, IDLE_MAX))
    }

    /// The process that has ended without having been started again, if there is one.
    pub fn ended(&mut self) -> Option<&Spec> {
        let running = &mut self.running;
        self.specs.iter().find(|spec| {
            running.get_mut(&spec.name).is_none_or(|r| r.child.try_wait().is_ok_and(|status| status.is_some()))
        })
    }

    pub fn signal(&self, signal: Signal) {
        for running in self.running.values() {
            if let Some(noted) = Noted::of(running.child.id()) {
                noted.signal(signal);
            }
        }
    }

    /// Agents first: they stop their tasks, or say goodbye, while there is somebody to tell.
    pub fn stop_all(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let mut ending: Vec<(bool, Noted)> = Vec::new();
        for spec in &self.specs {
            let noted = self.running.get(&spec.name).and_then(|r| Noted::of(r.child.id()));
            ending.extend(noted.map(|noted| (spec.role == Role::Agent, noted)));
        }
        for agents in [true, false] {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(500));
            let grace = if agents { left.mul_f64(0.7) } else { left };
            std::thread::scope(|scope| {
                for (_, noted) in ending.iter().filter(|(is_agent, _)| *is_agent == agents) {
                    scope.spawn(move || noted.end(grace));
                }
            });
        }
        for running in self.running.values_mut() {
            // It has ended; this takes its status.
            let _ = running.child.wait();
        }
    }
}

fn listen(name: &str, stderr: ChildStderr, hear: &Hear) {
    let mut lines = BufReader::with_capacity(4 << 10, stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => hear(name, String::from_utf8_lossy(&line).trim_end()),
        }
    }
}
