//! Filling in what an author left out.
//!
//! A job goes through two steps on its way from an author to the state:
//!
//! ```text
//!   parsed or posted job ──client──▶ every field with a default is set; job-level update, reschedule
//!                                    and migrate are merged into the groups, group restart into tasks
//!                        ──server──▶ stored form: fields that only a client writes are gone, those
//!                                    that only the cluster writes are zero, tasks have an identity,
//!                                    services of the mesh bring their proxies (`mesh`), what is used is
//!                                    asked of the node (`implied`)
//! ```
//!
//! `/v1/jobs/parse` with `Canonicalize` stops after the first. Register, plan and validate do both.
//!
//! Invariants: both steps are idempotent and total (no input makes them fail; what is wrong is left for
//! [`crate::validate`]); a stored job that is read and registered again comes out as it went in. Nothing
//! here knows a server's configuration: region, namespace of the request and job priority caps are the
//! caller's. Not done: the identities that a server's configuration gives to users of Consul and Vault, since
//! no such configuration is taken.
//!
//! Source: `types.json` (`_defaults`, `_server_diff`), recorded answers.

mod client;
mod connect;
mod implied;
mod mesh;
mod server;
mod service;
mod task;

use crate::job::Job;

impl Job {
    /// Fills in all that a client's library fills in. What `/v1/jobs/parse` does on `Canonicalize`.
    pub fn canonicalize_parsed(&mut self) {
        client::job(self);
    }

    /// Turns a posted or parsed job into the stored form.
    pub fn canonicalize(&mut self) {
        client::job(self);
        server::job(self);
        if mesh::bring(self) {
            client::job(self);
            server::job(self);
        }
        mesh::name_identities(self);
        implied::constraints(self);
    }
}

/// Sets a field that is unset.
fn default<T>(field: &mut Option<T>, value: T) {
    field.get_or_insert(value);
}

/// Sets a text that is unset.
fn default_text(field: &mut Option<String>, value: &str) {
    if field.is_none() {
        *field = Some(value.to_owned());
    }
}

/// Sets a text that is empty.
fn default_empty(field: &mut String, value: &str) {
    if field.is_empty() {
        value.clone_into(field);
    }
}
