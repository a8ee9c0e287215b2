//! The supervisor's loop: wait for the socket, pipes, children and deadlines; do what is due.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::fs::{FlockOperation, flock};

use super::conn::Conn;
use super::protocol::{Call, Line, Refusal, Reply, Request, StartTask, TaskStatus, VERSION};
use super::task::{self, Phase, Task};
use crate::procfs;

const CONNECTIONS_MAX: usize = 8;
const TASKS_MAX: usize = 64;
const BUFFER_BYTES: usize = 32 << 10;
/// Without tasks and without agents, the supervisor leaves after this long.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How often strays of an ending task are looked for.
const STRAY_PERIOD: Duration = Duration::from_millis(20);

/// What became readable or writable.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Children,
    Conn(usize),
    Pipe { task: usize, index: usize },
}

struct Supervisor {
    dir: PathBuf,
    listener: UnixListener,
    children: SignalFd,
    conns: Vec<Option<Conn>>,
    tasks: Vec<Task>,
    buffer: Vec<u8>,
    idle_since: Instant,
    leaving: bool,
    /// Nothing that descends from here is left: known from the last look at the children.
    childless: bool,
}

pub(super) fn run(dir: &Path) -> io::Result<()> {
    // Fails when this already leads a session, which is as good.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir(dir)?;
    let lock = std::fs::File::create(super::LOCK_NAME)?;
    // A predecessor that is just leaving gets a moment. The socket's path is never removed from this side:
    // by then it may be a successor's.
    lock_within(&lock, Duration::from_secs(2))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    crate::signals::ignore_none()?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    // Blocked and read away: whoever wants a supervisor gone asks it, so that its tasks are looked after.
    for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
        mask.add(ignored);
    }
    mask.thread_block()?;
    let children = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let mut supervisor = Supervisor {
        dir: PathBuf::from("."),
        listener,
        children,
        conns: Vec::new(),
        tasks: Vec::new(),
        buffer: vec![0; BUFFER_BYTES],
        idle_since: Instant::now(),
        leaving: false,
        childless: true,
    };
    while !supervisor.leaving {
        supervisor.turn()?;
    }
    Ok(())
}

fn lock_within(file: &std::fs::File, limit: Duration) -> io::Result<()> {
    let until = Instant::now() + limit;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return Ok(other?),
        }
    }
}

impl Supervisor {
    /// Waits once and handles everything that came of it.
    fn turn(&mut self) -> io::Result<()> {
        for (source, events) in self.wait()? {
            match source {
                Source::Listener => self.accept(),
                Source::Children => self.drain_signals(),
                Source::Conn(at) => self.serve(at, events),
                Source::Pipe { task, index } => self.tasks[task].pump(index, &mut self.buffer),
            }
        }
        // Signals coalesce, so every turn looks at all children.
        self.reap()?;
        self.advance();
        self.conns.retain(Option::is_some);
        Ok(())
    }

    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let read = PollFlags::POLLIN;
        let (mut sources, mut fds) = (Vec::new(), Vec::new());
        // The order matters: serving a connection may remove tasks, accepting one may remove connections.
        for (task, held) in self.tasks.iter().enumerate() {
            for (index, pipe) in held.pipes() {
                sources.push(Source::Pipe { task, index });
                fds.push(PollFd::new(pipe, read));
            }
        }
        for (at, conn) in self.conns.iter().enumerate() {
            let Some(conn) = conn else { continue };
            let flags = if conn.wants_write() { read | PollFlags::POLLOUT } else { read };
            sources.push(Source::Conn(at));
            fds.push(PollFd::new(conn.as_fd(), flags));
        }
        sources.extend([Source::Children, Source::Listener]);
        fds.extend([PollFd::new(self.children.as_fd(), read), PollFd::new(self.listener.as_fd(), read)]);
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        Ok(sources.into_iter().zip(events).filter(|(_, e)| !e.is_empty()).collect())
    }

    fn timeout(&self) -> PollTimeout {
        let now = Instant::now();
        let mut next = self.tasks.iter().filter_map(Task::deadline).min();
        if self.tasks.iter().any(|t| matches!(t.phase, Phase::Draining { .. })) {
            next = Some(next.map_or(now + STRAY_PERIOD, |at| at.min(now + STRAY_PERIOD)));
        }
        if self.tasks.is_empty() && self.conns.is_empty() {
            next = Some(self.idle_since + IDLE_MAX);
        }
        let Some(at) = next else { return PollTimeout::NONE };
        // Rounded up: waking a fraction early would spin.
        let millis = at.saturating_duration_since(now).as_millis() + 1;
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let me = rustix::process::geteuid().as_raw();
            let peer = rustix::net::sockopt::socket_peercred(&stream).map(|c| c.uid.as_raw());
            if !peer.is_ok_and(|uid| uid == me || uid == 0) {
                continue;
            }
            if self.conns.len() >= CONNECTIONS_MAX {
                // The oldest agent is most likely dead; the newest must get in.
                self.conns.remove(0);
            }
            self.conns.extend(Conn::new(stream).ok().map(Some));
        }
    }

    fn drain_signals(&mut self) {
        while let Ok(Some(_)) = self.children.read_signal() {}
    }

    fn serve(&mut self, at: usize, events: PollFlags) {
        let Some(mut conn) = self.conns.get_mut(at).and_then(Option::take) else { return };
        let keep = self.serve_conn(&mut conn, events).unwrap_or(false);
        if keep {
            self.conns[at] = Some(conn);
        } else {
            self.idle_since = Instant::now();
        }
    }

    fn serve_conn(&mut self, conn: &mut Conn, events: PollFlags) -> io::Result<bool> {
        if events.contains(PollFlags::POLLOUT) {
            conn.flush()?;
        }
        let open = conn.fill()?;
        while let Some(line) = conn.line() {
            let reply = match serde_json::from_slice::<Call>(&line) {
                Ok(call) => {
                    let subscribing = matches!(call.request, Request::Subscribe);
                    let reply = self.handle(call.request);
                    conn.send(&Line::Reply { id: call.id, reply })?;
                    if subscribing {
                        self.subscribe(conn)?;
                    }
                    continue;
                }
                Err(error) => refuse(Refusal::Malformed, error.to_string()),
            };
            conn.send(&Line::Reply { id: 0, reply })?;
        }
        Ok(open)
    }

    fn subscribe(&self, conn: &mut Conn) -> io::Result<()> {
        conn.subscribed = true;
        for ended in self.tasks.iter().filter(|t| t.has_ended()) {
            conn.send(&Line::Exit { status: ended.status.clone() })?;
        }
        Ok(())
    }

    fn handle(&mut self, request: Request) -> Reply {
        match request {
            Request::Hello => Reply::Hello { version: VERSION, pid: std::process::id() },
            Request::Subscribe => Reply::Done,
            Request::Status => Reply::Tasks { tasks: self.tasks.iter().map(|t| t.status.clone()).collect() },
            Request::Start(start) => self.start(*start),
            Request::Signal { task_id, signal } => match self.running(&task_id) {
                Some(task) => match task.signal(signal) {
                    Ok(()) => Reply::Done,
                    Err(error) => refuse(Refusal::Malformed, error.to_string()),
                },
                None => not_found(&task_id),
            },
            Request::Kill { task_id, signal, grace_ms } => match self.running(&task_id) {
                Some(task) => {
                    task.stop(signal, Duration::from_millis(grace_ms.min(86_400_000)), Instant::now());
                    Reply::Done
                }
                None => not_found(&task_id),
            },
            Request::Surroundings { task_id } => match self.running(&task_id) {
                Some(task) => Reply::Surroundings { surroundings: task.surroundings.clone() },
                None => not_found(&task_id),
            },
            Request::Ack { task_id } => self.forget(&task_id),
            Request::Shutdown => {
                if self.tasks.iter().any(|t| !t.has_ended()) {
                    return refuse(Refusal::AlreadyRunning, "tasks are still running".to_owned());
                }
                self.leaving = true;
                Reply::Done
            }
        }
    }

    fn running(&mut self, task_id: &str) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|t| t.status.task_id == task_id && t.is_running())
    }

    fn start(&mut self, start: StartTask) -> Reply {
        if self.tasks.iter().any(|t| t.status.task == start.task && !t.has_ended()) {
            return refuse(Refusal::AlreadyRunning, format!("task {:?} is already running", start.task));
        }
        self.tasks.retain(|t| t.status.task != start.task);
        if self.tasks.len() >= TASKS_MAX {
            return refuse(Refusal::Limit, format!("more than {TASKS_MAX} tasks in one allocation"));
        }
        let task = match Task::spawn(start) {
            Ok(task) => task,
            Err(message) => return refuse(Refusal::Spawn, message),
        };
        let saved = task::save(&self.dir, &task.status);
        let status = task.status.clone();
        self.tasks.push(task);
        if let Err(error) = saved {
            super::note(&format!("task state not written: {error}"));
        }
        Reply::Started { status }
    }

    fn forget(&mut self, task_id: &str) -> Reply {
        let before = self.tasks.len();
        self.tasks.retain(|t| t.status.task_id != task_id || !t.has_ended());
        if self.tasks.len() == before {
            return not_found(task_id);
        }
        self.idle_since = Instant::now();
        Reply::Done
    }

    /// Collects every child that has ended.
    ///
    /// A task's main process is looked at first and reaped last: while it is a zombie its group's number
    /// cannot be taken by anybody else.
    fn reap(&mut self) -> io::Result<()> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        loop {
            let (pid, code, signal) = match waitid(Id::All, flags | WaitPidFlag::WNOWAIT) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, 0),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32, signal as i32),
                Ok(_) => {
                    self.childless = false;
                    return Ok(());
                }
                Err(Errno::ECHILD) => {
                    self.childless = true;
                    return Ok(());
                }
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let main = self.tasks.iter_mut().find(|t| t.is_running() && t.status.pid == pid.as_raw());
            if let Some(task) = main {
                task.main_ended(code, signal, Instant::now());
            }
            waitid(Id::Pid(pid), flags)?;
        }
    }

    /// Deadlines, strays, and exits that are ready to be told.
    fn advance(&mut self) {
        let now = Instant::now();
        for task in self.tasks.iter().filter(|t| t.is_running() && t.kill_at.is_some_and(|at| at <= now)) {
            task.kill_all();
        }
        for task in &mut self.tasks {
            if task.is_running() && task.kill_at.is_some_and(|at| at <= now) {
                task.kill_at = Some(now + Duration::from_secs(1));
            }
        }
        for at in 0..self.tasks.len() {
            if !matches!(self.tasks[at].phase, Phase::Draining { .. }) {
                continue;
            }
            let strays = self.kill_strays(at);
            if self.tasks[at].try_end(strays, now) {
                let status = self.tasks[at].status.clone();
                self.announce(&status);
            }
        }
        if self.tasks.is_empty() && self.conns.is_empty() && now.duration_since(self.idle_since) >= IDLE_MAX {
            self.leaving = true;
        }
    }

    fn announce(&mut self, status: &TaskStatus) {
        if let Err(error) = task::save(&self.dir, status) {
            super::note(&format!("task exit not written: {error}"));
        }
        for slot in &mut self.conns {
            if let Some(conn) = slot.as_mut().filter(|c| c.subscribed)
                && conn.send(&Line::Exit { status: status.clone() }).is_err()
            {
                *slot = None;
            }
        }
    }

    /// Kills what an ending task left behind in other process groups. True while some of it is there.
    ///
    /// Whoever survives its parent becomes our child. With a cgroup there is nobody left to find; without
    /// one, a stray belongs to the task its environment names, or to the only task there is.
    fn kill_strays(&self, at: usize) -> bool {
        let alone = self.tasks.iter().enumerate().all(|(i, t)| i == at || t.has_ended());
        let mains: Vec<i32> = self.tasks.iter().filter(|t| t.is_running()).map(|t| t.status.pid).collect();
        let name = &self.tasks[at].status.task;
        let mut found = false;
        if self.childless {
            return false;
        }
        for child in procfs::own_children() {
            if child.zombie || mains.contains(&child.pid) {
                continue;
            }
            let environ = procfs::Environ::of(child.pid);
            if alone || environ.get("NOMAD_TASK_NAME") == Some(name) {
                let _ = nix::sys::signal::kill(Pid::from_raw(child.pid), Signal::SIGKILL);
                found = true;
            }
            // In the middle of exec or exit it does not say whose it is: look again.
            found |= environ.is_empty();
        }
        found
    }
}

fn refuse(code: Refusal, message: String) -> Reply {
    Reply::Refused { code, message }
}

fn not_found(task_id: &str) -> Reply {
    refuse(Refusal::NotFound, format!("no running task {task_id:?}"))
}
