//! What the containers of `compose.yaml` need beside `steppe serve`: certificates before anything runs, a
//! node of its own for each replica of the agent, an answer for the engine's health checks.
//!
//! ```text
//!   certificates ─► <trust>/authority/{ca,state-N}   broker applier controller scheduler gateway   agent/intro-token
//!                        └─ state servers only            └─ each role sees its own                     │
//!   agent ─► first free <root>/<cluster>/agent-N ─► introduced by the token ◄────────────────────────────┘
//! ```
//!
//! Each directory of the trust is a volume that only its role's containers have. Replicas of a role share its
//! certificate and tell themselves apart by `--name-by-host`. Who fails says in one sentence what to do.

pub mod certificates;
pub mod health;
pub mod node;

use crate::flags::{Flag, Kind, flag};

/// Where the volumes with certificates are mounted.
const TRUST: Flag = flag("trust", Kind::Text, "/trust", "DIR", "Directory with the certificates of all roles.");

pub const CERTIFICATES_FLAGS: &[Flag] =
    &[TRUST, flag("states", Kind::Uint, "3", "N", "How many state servers: state-1 to state-N.")];
pub const AGENT_FLAGS: &[Flag] = &[
    TRUST,
    flag(
        "root",
        Kind::Text,
        "/var/lib/steppe/agents",
        "DIR",
        "Directory in which each replica takes one of its own; it has the same path on the host.",
    ),
];
