//! Forgets what is over, now and then.

use std::sync::Arc;
use std::time::Duration;

use control::reap::{Settings, decide};
use kit::background::{Background, Spec};
use model::Timestamp;

use crate::Controller;

const PROPOSE: Duration = Duration::from_secs(10);

/// Starts the background task.
pub fn start(controller: &Arc<Controller>, background: &Background) {
    let spec = Spec { name: "reap", period: Duration::from_secs(60), limit: Duration::from_secs(120) };
    let controller = Arc::clone(controller);
    background.spawn(spec, move || {
        let controller = Arc::clone(&controller);
        async move { reap(&controller).await }
    });
}

async fn reap(controller: &Controller) -> Result<String, String> {
    let Some(held) = controller.active().await else { return Ok("standing by".to_owned()) };
    let state = controller.replica.state();
    let commands = decide(&state, &Settings::default(), Timestamp(client::clock::unix_nanos()));
    let count = commands.len();
    for command in commands {
        controller.state.propose(command, Some(held.fence()), PROPOSE).await.map_err(|e| e.to_string())?;
    }
    Ok(format!("{count} commands"))
}
