//! Raft for bytes: a thin, strict shell around openraft.
//!
//! # What question it answers
//!
//! "Has a majority of us made this command durable, at which index, and what did the state machine
//! say?" — and, for readers, "which index must I have seen to miss nothing committed before now?".
//! It knows bytes and peers, no nouns. Only the state service uses it.
//!
//! # Picture
//!
//! ```text
//!  propose ─▶ ┌──────── own runtime, own threads ────────┐
//!  read_index │ openraft core ── log::LogStore ─▶ writer thread ─▶ redb (one commit per batch)
//!  handle ──▶ │      │         ╲                               ╲▶ vote file
//!  (lanes)    │      │          net::Connection ─▶ Network (the owner's HTTP)
//!             │      └─ machine::MachineAdapter ─▶ Machine (the owner's state)
//!             │                  └─ snapshot::SnapshotDir (streamed, checked files)
//!             └─ status::publish ─▶ watch<Status>
//! ```
//!
//! States of a node: learner, follower, candidate, leader ([`Role`]), and stopped, which is final for
//! one [`Raft`]: the owner drops it and calls [`Raft::start`] again in place.
//!
//! # Invariants
//!
//! 1. A command answered by [`Raft::propose`] is durable on a majority and applied here.
//! 2. One leader per term; a vote is durable before it is told.
//! 3. Several appends share one commit and one flush; callbacks come after it, in order.
//! 4. Nothing read from disk is used before its checksum matched; a log that ends before what was
//!    acknowledged, a row that does not follow its predecessor, a missing vote or snapshot, and a
//!    directory of another id all refuse to start.
//! 5. The previous snapshot stays until the next is durable; entries are purged only after that.
//! 6. Every queue, batch, cache and stream has a bound.
//!
//! Absent on purpose: knowledge of commands, clocks in any decision that is replicated, reads that
//! rest on leases, an HTTP client, a file of settings.
//!
//! # Failure
//!
//! | what | who notices | what follows |
//! |---|---|---|
//! | leader dies or is cut off | followers, after `election_min..election_max`; at once when the owner sees it gone ([`Raft::suspect_leader`]) | pre-vote, election; `propose` says `NotLeader` or `Unknown` |
//! | write or flush fails | the writer thread | nothing more is acknowledged, openraft ends, [`Status::fault`] says why; start again in place |
//! | a byte flips in log, vote or snapshot | [`Raft::start`], or the read that meets it | [`Error::Damaged`]; the server must come back under a new id as a learner |
//! | machine panics or miscounts replies | the adapter | the node ends rather than diverge |
//! | peer lost its data but kept its id | nobody safely | never do that: ids are not reused ([`stored_id`] tells what a directory holds) |
//!
//! openraft logs much at INFO; owners run it at WARN.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod codec;
mod contract;
mod lanes;
mod log;
mod machine;
mod net;
mod node;
mod offline;
mod reads;
mod ride;
mod snapshot;
mod start;
mod status;
#[cfg(test)]
mod suite_test;
mod suspect;
mod ticks;
mod types;

pub use contract::{
    Config, Error, Frozen, Machine, Network, NetworkError, Peer, PeerId, ProposeError, Role, Status, Verb,
};
pub use node::Raft;
pub use offline::{LogEntry, Rest, What};
pub use start::stored_id;
