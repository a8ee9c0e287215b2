//! Between a node's agent and a gateway, over mutual TLS. The agent's certificate names its node; a
//! gateway takes nothing from it that concerns another.
//!
//! A burst puts many allocations of few jobs on a node, and a job is more text than an allocation. So a line of the
//! stream carries each version of a job once, beside the rows.
//!
//! Invariants
//! * A line explains itself: no row needs what an earlier line said. Both ends forget a line with its end.
//! * A row is not believed without its job: [`StreamLine::rejoin`] gives each row the one Arc of its version, before
//!   anybody else sees the line, or the line is an error, and so is its stream.

use std::collections::HashMap;
use std::sync::Arc;

use fsm::command::AllocClientUpdate;
use model::{AllocId, Allocation, Index, Job, Node};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST` [`Register`], answered by [`Registered`].
pub const REGISTER: &str = "/v1/internal/node/register";
/// `POST` [`Beat`], answered by [`BeatTaken`].
pub const BEAT: &str = "/v1/internal/node/beat";
/// `GET` at an agent: its section of `/v1/agent/self`.
pub const CLIENT_STATS: &str = "/v1/agent/client";
/// `GET`, `POST` at an agent: the servers it talks to, `host:port` each.
pub const SERVERS: &str = "/v1/agent/servers";
/// `GET ?node=&after=&epoch=`: newline-delimited [`StreamLine`], without end.
pub const STREAM: &str = "/v1/internal/node/stream";
/// `POST` [`News`]: answered once it is committed.
pub const NEWS: &str = "/v1/internal/node/allocs";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Register {
    pub node: Node,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Registered {
    pub index: Index,
    /// Milliseconds between beats.
    pub period_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Beat {
    pub node_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BeatTaken {
    pub period_ms: u64,
    /// The cluster does not know the node (any more).
    pub register_again: bool,
    /// Addresses of the gateways' mutual-TLS listeners, for when this one is gone.
    pub gateways: Vec<String>,
}

/// What changed for one node. The first line of a stream is `full` unless it resumes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct StreamLine {
    pub index: Index,
    pub epoch: String,
    /// `upserts` is everything there is for the node: what is not in it is gone.
    pub full: bool,
    /// Jobs that `upserts` run, each version once.
    pub jobs: Vec<Arc<Job>>,
    /// Allocations, without `Job`: each runs the one of `jobs` that its `Namespace`, `JobID`, `JobIncarnation` (that
    /// job's `CreateIndex`) and `JobVersion` name.
    pub upserts: Vec<Allocation>,
    pub gone: Vec<AllocId>,
    /// Nothing happened; the stream is alive.
    pub keepalive: bool,
    /// The gateway is leaving or the stream has reached its age: connect again, somewhere.
    pub close: bool,
}

/// A row came without its job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the line lacks the job of allocation {0}")]
pub struct Jobless(pub AllocId);

impl StreamLine {
    /// Gives the rows their jobs: two of one version share it, and what named it is gone.
    ///
    /// # Errors
    /// One has none, and the line has none for it.
    pub fn rejoin(&mut self) -> Result<(), Jobless> {
        let jobs = std::mem::take(&mut self.jobs);
        let versions: HashMap<_, _> = jobs.iter().map(|job| (fsm::version_key(job), job)).collect();
        for row in &mut self.upserts {
            let job = fsm::version_of(row).and_then(|version| versions.get(&version).copied());
            row.job = Some(Arc::clone(job.ok_or_else(|| Jobless(row.id.clone()))?));
            (row.job_version, row.job_incarnation) = (None, None);
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct News {
    pub updates: Vec<AllocClientUpdate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(version: u64, incarnation: u64) -> Arc<Job> {
        Arc::new(Job {
            namespace: Some("default".into()),
            id: Some("web".into()),
            version: Some(version),
            create_index: Some(Index(incarnation)),
            ..Job::default()
        })
    }

    fn row(id: &str, version: u64, incarnation: u64) -> Allocation {
        Allocation {
            id: id.into(),
            namespace: "default".into(),
            job_id: "web".into(),
            job_version: Some(version),
            job_incarnation: Some(Index(incarnation)),
            ..Allocation::default()
        }
    }

    fn line(jobs: Vec<Arc<Job>>, upserts: Vec<Allocation>) -> StreamLine {
        let line = StreamLine { jobs, upserts, ..StreamLine::default() };
        serde_json::from_slice(&model::sparse::to_vec(&line).unwrap()).unwrap()
    }

    #[test]
    fn rows_of_one_version_share_their_job_and_those_of_others_get_theirs() {
        let jobs = vec![job(0, 5), job(1, 5), job(0, 9)];
        let mut line = line(jobs.clone(), vec![row("a", 1, 5), row("b", 0, 9), row("c", 1, 5), row("d", 0, 5)]);
        line.rejoin().unwrap();
        let of = |at: usize| line.upserts[at].job.as_ref().unwrap();
        assert!(Arc::ptr_eq(of(0), of(2)));
        assert_eq!([of(0), of(1), of(3)], [&jobs[1], &jobs[2], &jobs[0]]);
        let named = |row: &Allocation| row.job_version.is_some() || row.job_incarnation.is_some();
        assert!(line.jobs.is_empty() && !line.upserts.iter().any(named));
    }

    #[test]
    fn a_row_whose_job_the_line_lacks_makes_it_an_error() {
        let nameless = Allocation { job_version: None, ..row("x", 0, 5) };
        let elsewhere = Allocation { namespace: "other".into(), ..row("x", 0, 5) };
        for wrong in [row("x", 1, 5), row("x", 0, 6), nameless, elsewhere] {
            let mut line = line(vec![job(0, 5)], vec![row("a", 0, 5), wrong]);
            assert_eq!(line.rejoin(), Err(Jobless("x".into())));
        }
        assert_eq!(line(vec![], vec![row("a", 0, 5)]).rejoin(), Err(Jobless("a".into())));
    }
}
