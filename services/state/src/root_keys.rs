//! Root keys turn by themselves: what [`control::keyring`] decides, the raft leader does.
//!
//! Looked at each `--root-key-gc-interval`, and only by who leads. A key that is due to sign does not wait for that:
//! see [`crate::leader`]. If a wish cannot be committed, the next look comes to the same one.

use std::sync::Arc;
use std::time::Duration;

use control::keyring::{Rules, Wish, decide};
use fsm::Command;
use fsm::State;
use kit::background::Spec;
use kit::shell::Shell;
use model::Nanos;
use model::keyring::RootKeyState;

use crate::keyring;
use crate::leader::propose;
use crate::server::Server;

const PERIOD_MIN: Duration = Duration::from_secs(1);

/// How root keys turn.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Turning {
    /// How long a root key signs.
    #[arg(long, default_value = "720h", value_parser = crate::span)]
    pub root_key_rotation_threshold: Nanos,
    /// How long a root key that signs no more is kept although nothing needs it.
    #[arg(long, default_value = "1h", value_parser = crate::span)]
    pub root_key_gc_threshold: Nanos,
    /// Pause between looks at root keys.
    #[arg(long, default_value = "10m", value_parser = crate::span)]
    pub root_key_gc_interval: Nanos,
}

impl Default for Turning {
    fn default() -> Self {
        let minutes = |n: i64| Nanos::from_secs(n * 60);
        Self {
            root_key_rotation_threshold: minutes(720 * 60),
            root_key_gc_threshold: minutes(60),
            root_key_gc_interval: minutes(10),
        }
    }
}

impl Turning {
    fn rules(&self) -> Rules {
        Rules { rotation: self.root_key_rotation_threshold, kept: self.root_key_gc_threshold }
    }
}

/// Looks again and again.
pub fn start(shell: &Shell, server: &Server, turning: Turning) {
    let period = turning.root_key_gc_interval.to_std().max(PERIOD_MIN);
    let spec = Spec { name: "root_keys", period, limit: Duration::from_secs(10) };
    let (server, turning) = (server.clone(), Arc::new(turning));
    shell.background.spawn(spec, move || {
        let (server, turning) = (server.clone(), Arc::clone(&turning));
        async move { tend(&server, &turning).await }
    });
}

/// One look.
///
/// # Errors
/// What raft says; the next activation looks again.
pub async fn tend(server: &Server, settings: &Turning) -> Result<String, String> {
    let Some(running) = server.get() else { return Ok("raft is not running".to_owned()) };
    if !running.raft.status().borrow().is_leader() {
        return Ok("not leading".to_owned());
    }
    let (state, now) = (running.machine.state(), client::clock::unix_nanos());
    let keys: Vec<_> = state.root_keys().map(|key| &key.meta).collect();
    let Some(wish) = decide(&keys, now, settings.rules(), |id| is_used(&state, id)) else {
        return Ok("nothing to do".to_owned());
    };
    let command = match wish {
        Wish::Publish { at } => {
            let key_id = client::state::new_uuid();
            let made = keyring::new_key(key_id.clone(), now).map_err(str::to_owned)?;
            let Command::RootKeyAdd { mut key, material, .. } = made else {
                return Err("no key was made".to_owned());
            };
            (key.meta.state, key.meta.publish_time) = (RootKeyState::Prepublished, at);
            tracing::info!(key_id, "a root key is published ahead");
            Command::RootKeyAdd { key, material, replaces: true }
        }
        Wish::Activate { key_id } => Command::RootKeyActivate { key_id },
        Wish::Remove { key_id } => {
            tracing::info!(key_id, "a root key that nothing needs any more is removed");
            Command::RootKeyRemove { key_id, force: false }
        }
    };
    propose(&running, command).await?;
    Ok("acted".to_owned())
}

/// Whether somebody may still meet what the key signed.
fn is_used(state: &State, id: &str) -> bool {
    state.allocs().any(|alloc| alloc.signing_key_id == id && !(alloc.server_terminal() && alloc.client_terminal()))
}
