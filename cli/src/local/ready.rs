//! When can the cluster work? When it has a leader, and every agent's node is ready.

use std::time::{Duration, Instant};

use anyhow::bail;
use client::public::{PublicClient, Query, Settings};
use model::Role;
use serde_json::Value;

use super::plan::Spec;
use super::process;
use crate::ui::Ui;

const LOOK: Duration = Duration::from_millis(20);
const SAY: Duration = Duration::from_secs(5);

/// Whom to wait for.
pub struct Waiting<'a> {
    /// Of the public API.
    pub address: String,
    pub specs: &'a [Spec],
    /// How the API is reached; the address is not looked at.
    pub settings: Settings,
}

/// That a process has ended, with the end of its log.
pub fn has_ended(spec: &Spec) -> anyhow::Error {
    anyhow::anyhow!("{} has ended:\n{}", spec.name, process::log_tail(spec, 8))
}

/// Waits until the cluster can work and all its processes run; says on the way what is still missing. `ended` is told
/// of each process that does not run, and may start it.
///
/// # Errors
/// What `ended` says; it took too long, with the end of the gateway's log; or somebody gave up waiting.
pub fn wait(
    cluster: &Waiting<'_>,
    within: Duration,
    ui: &mut Ui,
    gave_up: impl Fn() -> bool,
    mut ended: impl FnMut(&Spec, &mut Ui) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let api = PublicClient::new(Settings { address: cluster.address.clone(), ..cluster.settings.clone() })?;
    let began = Instant::now();
    let mut said = Instant::now();
    let mut shown = String::new();
    loop {
        if gave_up() {
            bail!("stopped before it was ready");
        }
        let mut missing = runtime.block_on(missing(&api, cluster));
        for spec in cluster.specs {
            if process::running(spec).is_none() {
                ended(spec, ui)?;
                missing = Some(format!("{} is starting", spec.name));
            }
        }
        let Some(missing) = missing else {
            ui.note(format!("ready after {:.1} s", began.elapsed().as_secs_f64()));
            return Ok(());
        };
        if missing != shown && ui.interactive || said.elapsed() > SAY {
            ui.note(format!("waiting: {missing}"));
            said = Instant::now();
            shown.clone_from(&missing);
        }
        if began.elapsed() > within {
            let gateway = cluster.specs.iter().find(|s| s.role == Role::Gateway);
            let log = gateway.map(|spec| process::log_tail(spec, 8)).unwrap_or_default();
            bail!("not ready after {} s: {missing}\n{log}", within.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}

/// What is still missing; `None` when nothing is.
async fn missing(api: &PublicClient, cluster: &Waiting<'_>) -> Option<String> {
    let leader = api.get::<String>("/v1/status/leader", &Query::default()).await;
    if !leader.is_ok_and(|(addr, _)| !addr.is_empty()) {
        return Some("no leader yet".to_owned());
    }
    let agents = cluster.specs.iter().filter(|s| s.role == Role::Agent).count();
    match api.get::<Vec<Value>>("/v1/nodes", &Query::default()).await {
        Ok((nodes, _)) => {
            let ready = nodes.iter().filter(|n| n["Status"] == "ready").count();
            (ready < agents).then(|| format!("{ready} of {agents} nodes are ready"))
        }
        Err(error) => Some(format!("the API does not answer yet ({error})")),
    }
}
