//! Forgets what is over: now and then what is old enough, and when somebody asks all of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use control::reap::{Settings, decide};
use fsm::{Command, State};
use kit::background::{Background, Spec};
use model::time::parse_go_duration;
use model::{Index, Nanos, Timestamp};

use crate::Controller;

const PROPOSE: Duration = Duration::from_secs(10);
/// How long a collection that was asked for goes on, and in how many rounds at most.
const COLLECT: Duration = Duration::from_secs(20);
const ROUNDS_MAX: usize = 1_000;

const PERIOD_MIN: Duration = Duration::from_secs(1);

/// How long what is over is kept.
#[derive(Clone, Debug, clap::Args)]
pub struct Collection {
    /// How often rows that are old enough are looked for, such as `5m`.
    #[arg(long, value_parser = span, default_value = "1m")]
    pub gc_interval: Nanos,
    /// How long evaluations are kept that are over, with their allocations.
    #[arg(long, value_parser = span, default_value = "1h")]
    pub eval_gc_threshold: Nanos,
    /// The same of batch jobs.
    #[arg(long, value_parser = span, default_value = "24h")]
    pub batch_eval_gc_threshold: Nanos,
    /// How long jobs are kept that are over.
    #[arg(long, value_parser = span, default_value = "4h")]
    pub job_gc_threshold: Nanos,
    /// How long deployments are kept that are over.
    #[arg(long, value_parser = span, default_value = "1h")]
    pub deployment_gc_threshold: Nanos,
    /// How long nodes are kept that are down.
    #[arg(long, value_parser = span, default_value = "24h")]
    pub node_gc_threshold: Nanos,
}

impl Default for Collection {
    fn default() -> Self {
        let Settings { eval, batch_eval, job, deployment, node, .. } = Settings::default();
        Self {
            gc_interval: Nanos::from_secs(60),
            eval_gc_threshold: eval,
            batch_eval_gc_threshold: batch_eval,
            job_gc_threshold: job,
            deployment_gc_threshold: deployment,
            node_gc_threshold: node,
        }
    }
}

impl Collection {
    fn settings(&self) -> Settings {
        Settings {
            eval: self.eval_gc_threshold,
            batch_eval: self.batch_eval_gc_threshold,
            job: self.job_gc_threshold,
            deployment: self.deployment_gc_threshold,
            node: self.node_gc_threshold,
            ..Settings::default()
        }
    }
}

fn span(text: &str) -> Result<Nanos, String> {
    parse_go_duration(text)
        .filter(|span| span.0 >= 0)
        .ok_or_else(|| format!("{text:?} is no span of time such as 1h30m"))
}

/// Starts the background task.
pub fn start(controller: &Arc<Controller>, config: &Collection, background: &Background) {
    let period = config.gc_interval.to_std().max(PERIOD_MIN);
    let spec = Spec { name: "reap", period, limit: Duration::from_secs(120) };
    let settings = config.settings();
    let controller = Arc::clone(controller);
    background.spawn(spec, move || {
        let (controller, settings) = (Arc::clone(&controller), settings.clone());
        async move {
            match controller.active().await {
                Some(_) => {
                    let commands = over(&controller.replica.state(), &settings);
                    let count = commands.len();
                    write(&controller, commands).await.map(|_| format!("{count} commands"))
                }
                None => Ok("standing by".to_owned()),
            }
        }
    });
}

/// What is over now.
fn over(state: &State, settings: &Settings) -> Vec<Command> {
    decide(state, settings, Timestamp(client::clock::unix_nanos()))
}

/// Writes commands; up to which index.
async fn write(controller: &Controller, commands: Vec<Command>) -> Result<Index, String> {
    let held = controller.active().await.ok_or("this controller is not the active one")?;
    let mut written = Index(0);
    for command in commands {
        let proposed = controller.state.propose(command, Some(held.fence()), PROPOSE).await;
        written = proposed.map_err(|e| e.to_string())?.0;
    }
    Ok(written)
}

/// Forgets all that is over at this index, however young. Rows that go make others free to go (an evaluation
/// its deployment, a job its node), so this looks until there is nothing more, or only what was refused before.
///
/// # Errors
/// Not the active controller, or a command was not written.
pub async fn collect(controller: &Controller, index: Index) -> Result<usize, String> {
    let (deadline, settings) = (Instant::now() + COLLECT, Settings::forced());
    let (mut total, mut seen, mut last) = (0, index, Vec::new());
    for _ in 0..ROUNDS_MAX {
        // What was just written is seen before the next look, or it would be named again.
        let state = controller.replica.reached(seen, PROPOSE).await;
        let commands = over(&*state.map_err(|_| "the copy of the state lags behind".to_owned())?, &settings);
        if commands.is_empty() || commands == last || Instant::now() >= deadline {
            break;
        }
        last.clone_from(&commands);
        total += commands.len();
        seen = write(controller, commands).await?;
    }
    tracing::info!(commands = total, "garbage was collected because somebody asked");
    Ok(total)
}
