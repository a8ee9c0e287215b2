//! Watching one container: its output and its end.
//!
//! ```text
//!   wait ─► ended ─► output read to its end (or 5 s) ─► how? ─► told
//!     └─ daemon away ─► pause ─► look ─► runs: wait again · ended: told · gone: told with an error
//! ```
//!
//! How it ended is what the container says of itself; of one that somebody removes as it ends, all there is is the
//! code that the wait was answered with.
//!
//! One watch per task, from its start or recovery to its end. It cannot fail: what it does not learn becomes
//! an error in the result.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerWaitResponse};
use bollard::query_parameters::WaitContainerOptions;
use futures::StreamExt as _;

use super::engine::{Meaning, meaning, sentence, timely};
use super::{Entry, Shared, locked, output};
use crate::contract::ExitResult;

/// What a container wrote before its end is waited for this long.
const OUTPUT_MAX: Duration = Duration::from_secs(5);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The main process on the host; 0 when it does not run.
pub(super) fn pid_of(found: &ContainerInspectResponse) -> i32 {
    let pid = found.state.as_ref().and_then(|state| state.pid).unwrap_or(0);
    i32::try_from(pid).unwrap_or(0)
}

pub(super) async fn watch(shared: Arc<Shared>, entry: Arc<Entry>) {
    let (docker, state) = (shared.docker.clone(), entry.state.clone());
    let engine = shared.health.info().attributes;
    let stops_early = output::may_stop_early(engine.get("driver.docker.version").map(String::as_str));
    let following = state.output.map(|place| tokio::spawn(output::follow(docker, place, state.tty, stops_early)));
    let result = end_of(&shared, &entry).await;
    entry.pid.store(0, Ordering::Relaxed);
    if let Some(mut following) = following
        && tokio::time::timeout(OUTPUT_MAX, &mut following).await.is_err()
    {
        following.abort();
        tracing::warn!(container = entry.state.container, "output of an ended container is not complete");
    }
    entry.exit.send_replace(Some(result));
}

/// Waits until the container has ended.
async fn end_of(shared: &Shared, entry: &Entry) -> ExitResult {
    let container = &entry.state.container;
    let mut pause = PAUSE_FIRST;
    // One that was taken over unseen is looked at first: its process is not known.
    let mut seen = entry.pid.load(Ordering::Relaxed) != 0;
    // What the wait was answered with since it was last seen to run.
    let mut code = None;
    loop {
        if seen {
            let options = WaitContainerOptions { condition: "not-running".to_owned() };
            let mut waiting = std::pin::pin!(shared.docker.wait_container(container, Some(options)));
            match waiting.next().await {
                Some(Ok(ContainerWaitResponse { status_code, error: None })) => code = Some(status_code),
                Some(Err(Error::DockerContainerWaitError { code: told, .. })) => code = Some(told),
                // The daemon could not wait.
                Some(Ok(_)) => {}
                Some(Err(error)) if meaning(&error) == Meaning::NotFound => {
                    return lost("the container was removed");
                }
                // Broken off, or the daemon failed: what is true is asked below.
                _ => {
                    shared.health.look_soon();
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        match timely(shared.docker.inspect_container(container, None)).await {
            Ok(found) => match result_of(&found) {
                Some(result) => return result,
                None => {
                    entry.pid.store(pid_of(&found), Ordering::Relaxed);
                    *locked(&entry.cpuset) = super::cpuset::of(&found);
                    (seen, code) = (true, None);
                }
            },
            Err(error) if meaning(&error) == Meaning::NotFound => {
                return code.map_or_else(|| lost("the container was removed"), |code| ended(code, false));
            }
            Err(error) => {
                tracing::debug!(container, error = sentence(&error), "the end of a container is not known");
                seen = false;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

fn lost(text: &str) -> ExitResult {
    ExitResult { code: -1, error: Some(text.to_owned()), ..ExitResult::default() }
}

/// How it ended; nothing while it runs.
fn result_of(found: &ContainerInspectResponse) -> Option<ExitResult> {
    let state = found.state.as_ref()?;
    if state.running == Some(true) || state.restarting == Some(true) {
        return None;
    }
    Some(ended(state.exit_code.unwrap_or(-1), state.oom_killed == Some(true)))
}

fn ended(code: i64, oom_killed: bool) -> ExitResult {
    let code = i32::try_from(code).unwrap_or(-1);
    let error = match code {
        0 => None,
        _ if oom_killed => Some("OOM Killed".to_owned()),
        code => Some(format!("Docker container exited with non-zero exit code: {code}")),
    };
    ExitResult { code, signal: 0, oom_killed, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Driver as _;
    use crate::docker::fake_engine::FakeEngine;
    use crate::docker::{Docker, Seen, State};
    use bollard::models::ContainerState;

    fn found(state: ContainerState) -> ContainerInspectResponse {
        ContainerInspectResponse { state: Some(state), ..ContainerInspectResponse::default() }
    }

    #[test]
    fn an_end_says_how_docker_33() {
        assert_eq!(result_of(&found(ContainerState { running: Some(true), ..Default::default() })), None);
        let ended = result_of(&found(ContainerState { exit_code: Some(0), ..Default::default() })).unwrap();
        assert!(ended.is_success());
        let state = ContainerState { exit_code: Some(137), oom_killed: Some(true), ..Default::default() };
        let ended = result_of(&found(state)).unwrap();
        assert_eq!((ended.code, ended.signal, ended.oom_killed), (137, 0, true));
        assert_eq!(ended.error.as_deref(), Some("OOM Killed"));
    }
    async fn told_by(answer: fn(&str) -> (u16, Vec<u8>)) -> ExitResult {
        let engine = FakeEngine::start(answer);
        let driver = Docker::new(engine.options(), "n").await.unwrap();
        let state = State {
            container: "c".into(),
            image: String::new(),
            reference: String::new(),
            stop_signal: String::new(),
            tty: false,
            shares_cores: false,
            output: None,
            root: "/".into(),
            task: "t".into(),
        };
        driver.hold("id".into(), state, Seen { pid: 1, ..Seen::default() });
        tokio::time::timeout(Duration::from_secs(20), driver.wait("id")).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn one_that_is_removed_as_it_ends_has_the_code_that_was_told() {
        let removed = |path: &str| match path {
            path if path.contains("/c/wait") => (200, br#"{"StatusCode":137}"#.to_vec()),
            _ => (404, br#"{"message":"No such container: c"}"#.to_vec()),
        };
        let exit = told_by(removed).await;
        assert_eq!((exit.code, exit.is_success()), (137, false));
        let unknown = |path: &str| match path {
            path if path.contains("/c/wait") => (200, br#"{"StatusCode":0,"Error":{"Message":"closing"}}"#.to_vec()),
            _ => (404, br#"{"message":"No such container: c"}"#.to_vec()),
        };
        assert_eq!(told_by(unknown).await, lost("the container was removed"));
    }
}
