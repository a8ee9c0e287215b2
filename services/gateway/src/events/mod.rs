//! What happened, as it happens: the event stream.
//!
//! ```text
//!   feed line ─► shape: one event per row that changed ─► Log: the last lines, one for all readers
//!                                                          ▲ each reader remembers an index
//!   GET /v1/event/stream ─► topics ─► stream: `{}`, lines, `{}` when nothing happens … or `{"Err":…}`
//! ```
//!
//! Invariants
//! * A reader gets every event it asked for exactly once, in index order, or its stream ends with a sentence
//!   that says behind which index something is missing. Nothing is passed over in silence.
//! * A reader costs its connection and a number: the events and their JSON are kept once, for all, within
//!   [`log::Limits`]. Who does not keep up falls out of the log and is told so.
//! * No secret of a node is in an event.
//!
//! Driven by the replica's task (which never waits here) and by the readers' connections.

pub mod log;
pub mod shape;
pub mod stream;
pub mod topics;
