//! Header names of the public and the internal interface.

/// Log index an answer reflects.
pub const INDEX: &str = "x-nomad-index";
/// Whether a leader was known when the answer was made.
pub const KNOWN_LEADER: &str = "x-nomad-knownleader";
/// Milliseconds since the answering replica last heard from the leader.
pub const LAST_CONTACT: &str = "x-nomad-lastcontact";
/// Token of the next page.
pub const NEXT_TOKEN: &str = "x-nomad-nexttoken";
/// Secret of the caller.
pub const TOKEN: &str = "x-nomad-token";
/// Name of a request, to make a retry harmless: `<unix ms>-<16 hex digits>`.
pub const REQUEST_ID: &str = "x-steppe-request-id";
/// Address of the raft leader as the answering state server knows it.
pub const LEADER: &str = "x-steppe-leader";
/// Marks a request of somebody else's that an agent passes on to the public API.
pub const PASSED_ON: http::HeaderName = http::HeaderName::from_static("x-steppe-passed-on");
