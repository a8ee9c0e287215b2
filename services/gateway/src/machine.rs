//! Which machine was asked? The one this gateway runs on; or, for a request that an agent passed on, the
//! agent's.
//!
//! The reference's agent is server and client in one process; here they are several processes of one machine.
//! Whoever starts them tells the gateway where the node's id and the machine's settings are written.

use std::convert::Infallible;
use std::path::PathBuf;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use kit::guard::Peer;
use model::{NodeId, Role};
use serde_json::{Map, Value};

use crate::app::App;
use crate::errors::ApiError;

/// A file of settings is not longer.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a gateway was told of its machine.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Machine {
    /// File with the id of the node on this machine, if there is one.
    #[arg(long)]
    pub node_id_file: Option<PathBuf>,
    /// File with this machine's settings as `/v1/agent/self` shows them, JSON without secrets.
    #[arg(long)]
    pub machine_file: Option<PathBuf>,
    /// Answer what helps to find out about this process itself.
    #[arg(long)]
    pub enable_debug: bool,
}

impl Machine {
    pub fn node(&self) -> Option<NodeId> {
        let text = std::fs::read_to_string(self.node_id_file.as_ref()?).ok()?;
        Some(text.trim()).filter(|id| !id.is_empty()).map(NodeId::from)
    }

    /// The settings; none when nobody wrote them.
    pub fn settings(&self) -> Map<String, Value> {
        let read = || -> Option<Map<String, Value>> {
            let path = self.machine_file.as_ref()?;
            let short = std::fs::metadata(path).ok()?.len() <= FILE_BYTES_MAX;
            serde_json::from_slice(&std::fs::read(path).ok().filter(|_| short)?).ok()
        };
        read().unwrap_or_default()
    }
}

/// The machine that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its node, if it has one.
    pub node: Option<NodeId>,
    /// It takes part in the control plane.
    pub server: bool,
}

impl Asked {
    /// # Errors
    /// It does not take part in the control plane.
    pub fn server_only(&self) -> Result<(), ApiError> {
        if self.server { Ok(()) } else { Err(not_here()) }
    }

    /// # Errors
    /// It has no node.
    pub fn client_only(&self) -> Result<&NodeId, ApiError> {
        self.node.as_ref().ok_or_else(not_here)
    }
}

fn not_here() -> ApiError {
    ApiError::new(StatusCode::NOT_IMPLEMENTED, "Invalid method")
}

impl FromRequestParts<App> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Peer>().filter(|peer| peer.role == Role::Agent);
        Ok(match peer {
            Some(peer) => Self { node: Some(NodeId::from(peer.name.to_string())), server: false },
            None => Self { node: app.machine.node(), server: true },
        })
    }
}
