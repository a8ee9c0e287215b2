//! `mock_driver`: tasks that only exist in the agent, for tests and for trying out schedules.
//!
//! A task runs for `run_for`, says `stdout_string` and ends as told. It is found again after an agent
//! restart as if it had gone on: its handle keeps when it began.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use model::node::DriverInfo;
use model::time::parse_go_duration;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

use crate::contract::{
    Capabilities, Driver, DriverError, EXEC_QUEUE, ExecInput, ExecOutput, ExecRequest, ExecSession, ExitResult,
    FsIsolation, Handle, Later, TaskConfig, Usage, healthy_info, signal_number,
};
use crate::rotate::Rotator;

const NAME: &str = "mock_driver";
const REPEATS_MAX: u64 = 100_000;

/// The `config` block of a task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// How long the start itself takes.
    #[serde(deserialize_with = "span")]
    start_block_for: Duration,
    start_error: String,
    start_error_recoverable: bool,
    /// Zero: it ends at once.
    #[serde(deserialize_with = "span")]
    run_for: Duration,
    exit_code: i32,
    exit_signal: i32,
    exit_err_msg: String,
    oom_killed: bool,
    /// How long it takes to end after being asked to; longer than the kill timeout, and it is killed.
    #[serde(deserialize_with = "span")]
    kill_after: Duration,
    /// What sending a signal fails with.
    signal_error: String,
    stdout_string: String,
    /// Written this many times more.
    stdout_repeat: u64,
    #[serde(deserialize_with = "span")]
    stdout_repeat_duration: Duration,
    stderr_string: String,
    stderr_repeat: u64,
    #[serde(deserialize_with = "span")]
    stderr_repeat_duration: Duration,
    exec_command: ExecPlan,
}

/// What a command beside the task does, whatever it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ExecPlan {
    /// Refuses to begin.
    start_error: String,
    #[serde(deserialize_with = "span")]
    run_for: Duration,
    exit_code: i32,
    exit_signal: i32,
    stdout_string: String,
    stderr_string: String,
}

/// A Go duration, or a number of nanoseconds.
fn span<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Nanos(u64),
        Text(String),
        /// Our own serialized form.
        Span(Duration),
    }
    match Given::deserialize(d)? {
        Given::Nanos(n) => Ok(Duration::from_nanos(n)),
        Given::Span(span) => Ok(span),
        Given::Text(text) if text.is_empty() => Ok(Duration::ZERO),
        Given::Text(text) => match parse_go_duration(&text) {
            Some(nanos) if nanos.0 >= 0 => Ok(nanos.to_std()),
            _ => Err(D::Error::custom(format!("{text:?} is no duration"))),
        },
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    config: Config,
    began_unix_ms: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    config: Arc<Config>,
    exit: Arc<watch::Sender<Option<ExitResult>>>,
}

#[derive(Debug, Default)]
pub struct Mock {
    tasks: Mutex<HashMap<String, Entry>>,
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn decode(config: &Map<String, Value>) -> Result<Config, DriverError> {
    serde_json::from_value(Value::Object(config.clone())).map_err(|e| DriverError::Config(e.to_string()))
}

impl Mock {
    fn entry(&self, task_id: &str) -> Result<Entry, DriverError> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).get(task_id).cloned().ok_or(DriverError::NotFound)
    }

    /// Puts the task in the table and lets it end after `left`.
    fn run(&self, task_id: &str, config: Config, left: Duration) -> Result<(), DriverError> {
        let entry = Entry { config: Arc::new(config), exit: Arc::new(watch::Sender::new(None)) };
        {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            if tasks.contains_key(task_id) {
                return Err(DriverError::AlreadyStarted(task_id.to_owned()));
            }
            tasks.insert(task_id.to_owned(), entry.clone());
        }
        tokio::spawn(async move {
            let mut exit = entry.exit.subscribe();
            tokio::select! {
                () = tokio::time::sleep(left) => end(&entry, planned(&entry.config)),
                _ = exit.wait_for(Option::is_some) => {}
            }
        });
        Ok(())
    }

    async fn start_task(&self, task: TaskConfig) -> Result<Handle, DriverError> {
        let config = decode(&task.config)?;
        if self.entry(&task.task_id).is_ok() {
            return Err(DriverError::AlreadyStarted(task.task_id));
        }
        tokio::time::sleep(config.start_block_for).await;
        if !config.start_error.is_empty() {
            let recoverable = config.start_error_recoverable;
            return Err(DriverError::Start { message: config.start_error, recoverable });
        }
        let state = State { config: config.clone(), began_unix_ms: unix_ms() };
        let state = serde_json::to_value(state).map_err(|e| DriverError::Config(e.to_string()))?;
        for (stream, text, repeat, gap) in [
            ("stdout", &config.stdout_string, config.stdout_repeat, config.stdout_repeat_duration),
            ("stderr", &config.stderr_string, config.stderr_repeat, config.stderr_repeat_duration),
        ] {
            speak(&task, stream, text.clone(), repeat.min(REPEATS_MAX), gap).await?;
        }
        let run_for = config.run_for;
        self.run(&task.task_id, config, run_for)?;
        Ok(Handle { driver: NAME.to_owned(), version: 1, task_id: task.task_id, state })
    }

    async fn kill_task(&self, task_id: &str, timeout: Duration) -> Result<(), DriverError> {
        let entry = self.entry(task_id)?;
        if entry.exit.borrow().is_some() {
            return Ok(());
        }
        let patient = entry.config.kill_after <= timeout;
        let mut exit = entry.exit.subscribe();
        tokio::select! {
            () = tokio::time::sleep(entry.config.kill_after.min(timeout)) => {}
            _ = exit.wait_for(Option::is_some) => {}
        }
        let killed = ExitResult { code: 137, signal: 9, ..ExitResult::default() };
        end(&entry, if patient { ExitResult::default() } else { killed });
        Ok(())
    }
}

/// Says and ends as planned, unless the task or the caller is gone before.
async fn converse(
    plan: ExecPlan,
    mut input: mpsc::Receiver<ExecInput>,
    output: mpsc::Sender<ExecOutput>,
    mut task: watch::Receiver<Option<ExitResult>>,
) {
    for (text, piece) in
        [(plan.stdout_string, ExecOutput::Stdout as fn(_) -> _), (plan.stderr_string, ExecOutput::Stderr)]
    {
        if !text.is_empty() && output.send(piece(text.into_bytes())).await.is_err() {
            return;
        }
    }
    let taking = async {
        while input.recv().await.is_some() {}
        std::future::pending::<()>().await;
    };
    let killed = tokio::select! {
        () = tokio::time::sleep(plan.run_for) => false,
        _ = task.wait_for(Option::is_some) => true,
        () = output.closed() => return,
        () = taking => true,
    };
    let exit = match (killed, plan.exit_signal) {
        (true, _) => ExitResult { code: 137, signal: 9, ..ExitResult::default() },
        (false, 0) => ExitResult { code: plan.exit_code, ..ExitResult::default() },
        (false, signal) => ExitResult { code: 128 + signal, signal, ..ExitResult::default() },
    };
    for last in [ExecOutput::StdoutClosed, ExecOutput::StderrClosed, ExecOutput::Exited(exit)] {
        let _ = output.send(last).await;
    }
}

/// The first end counts.
fn end(entry: &Entry, result: ExitResult) {
    entry.exit.send_if_modified(|now| now.is_none().then(|| *now = Some(result)).is_some());
}

fn planned(config: &Config) -> ExitResult {
    let code =
        if config.exit_signal != 0 && config.exit_code == 0 { 128 + config.exit_signal } else { config.exit_code };
    let error = (!config.exit_err_msg.is_empty()).then(|| config.exit_err_msg.clone());
    ExitResult { code, signal: config.exit_signal, oom_killed: config.oom_killed, error }
}

/// Writes once, and goes on repeating beside the task.
async fn speak(task: &TaskConfig, stream: &str, text: String, repeat: u64, gap: Duration) -> Result<(), DriverError> {
    let Some(logs) = task.logs else { return Ok(()) };
    let opened =
        Rotator::open(&task.dirs.alloc.logs(), &format!("{}.{stream}", task.task), logs.max_files, logs.max_file_bytes);
    let mut log =
        opened.map_err(|e| DriverError::Start { message: format!("failed to open logs: {e}"), recoverable: false })?;
    if text.is_empty() {
        return Ok(());
    }
    log.write(text.as_bytes());
    if gap.is_zero() {
        (0..repeat).for_each(|_| log.write(text.as_bytes()));
        return Ok(());
    }
    tokio::spawn(async move {
        for _ in 0..repeat {
            tokio::time::sleep(gap).await;
            log.write(text.as_bytes());
        }
    });
    Ok(())
}

impl Driver for Mock {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { send_signals: true, exec: true, fs_isolation: FsIsolation::None, mounts: true }
    }

    fn fingerprint(&self) -> DriverInfo {
        healthy_info(NAME)
    }

    fn validate(&self, config: &Map<String, Value>) -> Result<(), DriverError> {
        decode(config).map(drop)
    }

    fn start(&self, config: TaskConfig) -> Later<'_, Handle> {
        Box::pin(self.start_task(config))
    }

    fn recover(&self, handle: Handle) -> Later<'_, ()> {
        Box::pin(async move {
            if self.entry(&handle.task_id).is_ok() {
                return Ok(());
            }
            let state: State = serde_json::from_value(handle.state).map_err(|e| DriverError::Lost(e.to_string()))?;
            let ran = Duration::from_millis(unix_ms().saturating_sub(state.began_unix_ms));
            let left = state.config.run_for.saturating_sub(ran);
            self.run(&handle.task_id, state.config, left)
        })
    }

    fn wait<'a>(&'a self, task_id: &'a str) -> Later<'a, ExitResult> {
        Box::pin(async move {
            let mut exit = self.entry(task_id)?.exit.subscribe();
            let result = exit.wait_for(Option::is_some).await.map_err(|_| DriverError::NotFound)?;
            result.clone().ok_or(DriverError::NotFound)
        })
    }

    fn kill<'a>(&'a self, task_id: &'a str, _signal: &'a str, timeout: Duration) -> Later<'a, ()> {
        Box::pin(self.kill_task(task_id, timeout))
    }

    fn signal<'a>(&'a self, task_id: &'a str, signal: &'a str) -> Later<'a, ()> {
        Box::pin(async move {
            let entry = self.entry(task_id)?;
            if !entry.config.signal_error.is_empty() {
                return Err(DriverError::Signal(entry.config.signal_error.clone()));
            }
            signal_number(signal).map(drop).ok_or_else(|| DriverError::Signal(format!("unknown signal {signal:?}")))
        })
    }

    fn stats<'a>(&'a self, task_id: &'a str) -> Later<'a, Usage> {
        Box::pin(async move { self.entry(task_id).map(|_| Usage::default()) })
    }

    fn exec<'a>(&'a self, task_id: &'a str, _: ExecRequest) -> Later<'a, ExecSession> {
        Box::pin(async move {
            let entry = self.entry(task_id)?;
            if entry.exit.borrow().is_some() {
                return Err(DriverError::Exec("the task is not running".to_owned()));
            }
            let plan = entry.config.exec_command.clone();
            if !plan.start_error.is_empty() {
                return Err(DriverError::Exec(plan.start_error));
            }
            let (input, taken) = mpsc::channel(EXEC_QUEUE);
            let (said, output) = mpsc::channel(EXEC_QUEUE);
            tokio::spawn(converse(plan, taken, said, entry.exit.subscribe()));
            Ok(ExecSession { input, output })
        })
    }

    fn destroy<'a>(&'a self, task_id: &'a str, force: bool) -> Later<'a, ()> {
        Box::pin(async move {
            let entry = self.entry(task_id)?;
            if entry.exit.borrow().is_none() {
                if !force {
                    return Err(DriverError::StillRunning);
                }
                self.kill_task(task_id, Duration::ZERO).await?;
            }
            self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(task_id);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::LogSettings;
    use serde_json::json;

    fn task(dir: &std::path::Path, config: Value) -> TaskConfig {
        let alloc = crate::taskdir::AllocDirs::new(dir, "a").unwrap();
        std::fs::create_dir_all(alloc.logs()).unwrap();
        TaskConfig {
            task_id: "a/t/1".into(),
            alloc_id: "a".into(),
            task: "t".into(),
            config: config.as_object().unwrap().clone(),
            env: Default::default(),
            user: String::new(),
            limits: Default::default(),
            dirs: alloc.task("t").unwrap(),
            logs: Some(LogSettings { max_files: 2, max_file_bytes: 100 }),
            around: Default::default(),
        }
    }

    #[tokio::test]
    async fn it_runs_and_ends_as_told() {
        let dir = tempfile::tempdir().unwrap();
        let mock = Mock::default();
        let config = json!({"run_for": "20ms", "exit_code": 3, "stdout_string": "hi\n", "stdout_repeat": 2});
        let handle = mock.start(task(dir.path(), config.clone())).await.unwrap();
        assert!(matches!(mock.start(task(dir.path(), config)).await, Err(DriverError::AlreadyStarted(_))));
        assert!(matches!(mock.destroy("a/t/1", false).await, Err(DriverError::StillRunning)));
        let exit = mock.wait("a/t/1").await.unwrap();
        assert_eq!((exit.code, exit.signal), (3, 0));
        assert_eq!(std::fs::read_to_string(dir.path().join("a/alloc/logs/t.stdout.0")).unwrap(), "hi\nhi\nhi\n");
        mock.destroy("a/t/1", false).await.unwrap();
        assert!(matches!(mock.wait("a/t/1").await, Err(DriverError::NotFound)));
        // Another agent: it went on meanwhile.
        let other = Mock::default();
        other.recover(handle).await.unwrap();
        assert_eq!(other.wait("a/t/1").await.unwrap().code, 3);
    }

    #[tokio::test]
    async fn a_command_beside_it_says_and_ends_as_told() {
        let dir = tempfile::tempdir().unwrap();
        let mock = Mock::default();
        let plan = json!({"stdout_string": "out", "exit_code": 4});
        mock.start(task(dir.path(), json!({"run_for": "1h", "exec_command": plan}))).await.unwrap();
        let mut session = mock.exec("a/t/1", ExecRequest::default()).await.unwrap();
        assert_eq!(session.output.recv().await, Some(ExecOutput::Stdout(b"out".to_vec())));
        let mut last = None;
        while let Some(piece) = session.output.recv().await {
            last = Some(piece);
        }
        assert!(matches!(last, Some(ExecOutput::Exited(exit)) if exit.code == 4));
        mock.destroy("a/t/1", true).await.unwrap();
        assert!(matches!(mock.exec("a/t/1", ExecRequest::default()).await, Err(DriverError::NotFound)));
    }

    #[tokio::test]
    async fn start_errors_are_as_told_task_run_04_task_run_05() {
        let dir = tempfile::tempdir().unwrap();
        let mock = Mock::default();
        let config = json!({"start_error": "no", "start_error_recoverable": true, "start_block_for": "1ms"});
        let error = mock.start(task(dir.path(), config)).await.unwrap_err();
        assert!(error.is_recoverable() && error.to_string() == "no");
        let error = mock.start(task(dir.path(), json!({"start_error": "no"}))).await.unwrap_err();
        assert!(!error.is_recoverable());
        assert!(mock.validate(&task(dir.path(), json!({"run_four": "1s"})).config).is_err());
        assert!(mock.validate(&task(dir.path(), json!({"run_for": "soon"})).config).is_err());
    }

    #[tokio::test]
    async fn a_kill_ends_it_early_and_hard_when_it_dawdles_task_run_13() {
        let dir = tempfile::tempdir().unwrap();
        let mock = Mock::default();
        mock.start(task(dir.path(), json!({"run_for": "1h"}))).await.unwrap();
        mock.kill("a/t/1", "", Duration::from_secs(5)).await.unwrap();
        assert_eq!(mock.wait("a/t/1").await.unwrap().signal, 0);
        mock.destroy("a/t/1", true).await.unwrap();
        mock.start(task(dir.path(), json!({"run_for": "1h", "kill_after": "1h"}))).await.unwrap();
        mock.kill("a/t/1", "", Duration::from_millis(5)).await.unwrap();
        assert_eq!(mock.wait("a/t/1").await.unwrap().code, 137);
    }
}
