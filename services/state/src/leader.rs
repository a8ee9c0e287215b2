//! What only the raft leader does: the first command of a cluster, root keys whose time has come, and the expiry of silent leases.

use fsm::command::{Command, Envelope, Founding};
use model::Role;
use model::keyring::{RootKeyMeta, RootKeyState};

use crate::keyring;
use crate::members;
use crate::server::{Running, Server};

/// One activation. `led` remembers the term this server last led in.
///
/// # Errors
/// What raft says; the next activation looks again.
pub async fn tend(server: &Server, region: &str, founding: &Founding, led: &mut u64) -> Result<String, String> {
    let Some(running) = server.get() else { return Ok("raft is not running".to_owned()) };
    let status = running.raft.status().borrow().clone();
    if !status.is_leader() {
        *led = 0;
        return Ok("not leading".to_owned());
    }
    if *led != status.term {
        server.renewals().restart();
        *led = status.term;
    }
    if running.machine.state().cluster().epoch.is_empty() {
        propose(&running, members::first_command(region, client::state::new_uuid(), founding.clone())).await?;
    }
    let state = running.machine.state();
    if !state.cluster().epoch.is_empty() && state.active_root_key().is_none() {
        let key = keyring::new_key(client::state::new_uuid(), client::clock::unix_nanos());
        propose(&running, key.map_err(str::to_owned)?).await?;
    }
    let now = client::clock::unix_nanos();
    let due = |key: &RootKeyMeta| key.state == RootKeyState::Prepublished && key.publish_time <= now;
    if let Some(key) = state.root_keys().find(|key| due(&key.meta)) {
        let key_id = key.meta.key_id.clone();
        tracing::info!(key_id, "a root key that was published ahead is active now");
        propose(&running, Command::RootKeyActivate { key_id }).await?;
    }
    let silent = server.renewals().silent(&state, client::clock::boot_time());
    for (lease, term) in &silent {
        tracing::info!(lease = ?lease, term = term.get(), "lease expires, its holder is silent");
        propose(&running, Command::LeaseExpire { lease: *lease, term: *term }).await?;
    }
    Ok(format!("leading, {} leases expired", silent.len()))
}

/// Puts a command of this server's own into the log.
///
/// # Errors
/// What raft says.
pub async fn propose(running: &Running, command: Command) -> Result<(), String> {
    let envelope =
        Envelope { request: None, proposer: Role::State, lease: None, now: client::clock::unix_nanos(), command };
    let bytes = model::sparse::to_vec(&envelope).map_err(|e| e.to_string())?;
    running.raft.propose(bytes.into()).await.map(|_| ()).map_err(|e| e.to_string())
}
