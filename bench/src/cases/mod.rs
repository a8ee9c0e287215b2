//! What can be measured. A case starts what it needs, or takes the cluster whose address it is given.

pub mod burst;
pub mod events;
pub mod failover;
pub mod idle;
pub mod jobs;
pub mod nodes;
pub mod plan;
pub mod read;

use std::path::Path;

use anyhow::{Context as _, bail};
use cli::local::process::Tie;
use client::public::{PublicClient, Settings};

use crate::cluster::{Cluster, Place, Shape};
use crate::report::Report;
use crate::usage::{Process, Usage};

/// Where a case measures.
pub struct Ground {
    pub place: Place,
    /// A cluster of somebody's.
    pub address: Option<String>,
}

/// A cluster to measure.
pub struct Stage {
    pub api: PublicClient,
    /// `None`: somebody's.
    pub cluster: Option<Cluster>,
}

impl Ground {
    /// # Errors
    /// In words: the cluster cannot be started, or the address is not usable.
    pub async fn stage(&self, shape: Shape) -> anyhow::Result<Stage> {
        if let Some(address) = &self.address {
            let api = PublicClient::new(Settings { address: address.clone(), ..Settings::default() })?;
            return Ok(Stage { api, cluster: None });
        }
        eprintln!(
            "starting 3 state servers, {} schedulers, {} agents and {} simulated nodes in {}",
            shape.schedulers,
            shape.agents,
            shape.nodes,
            self.place.dir.display()
        );
        let cluster = Cluster::start(&self.place, shape, Tie::Child).await?;
        Ok(Stage { api: cluster.api()?, cluster: Some(cluster) })
    }

    /// For cases that do to the cluster what nobody should do to somebody's.
    ///
    /// # Errors
    /// An address was given.
    pub fn must_be_ours(&self, case: &str) -> anyhow::Result<()> {
        if self.address.is_some() {
            bail!("`{case}` measures only a cluster that it starts itself: leave --address away");
        }
        Ok(())
    }

    /// A directory on the disk that is measured, made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn disk(&self) -> anyhow::Result<&Path> {
        let parent = self.place.dir.parent().context("the data directory has no parent")?;
        std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        Ok(parent)
    }
}

impl Stage {
    fn processes(&self) -> Vec<Process> {
        self.cluster.as_ref().map(Cluster::processes).unwrap_or_default()
    }

    /// From here on it is counted what processes use.
    pub fn usage(&self) -> Usage {
        Usage::now(&self.processes())
    }

    /// Notes what they have used since; `None` of somebody's cluster.
    pub fn note(&self, report: &mut Report, stage: &str, since: &Usage) -> Option<Noted> {
        self.cluster.as_ref()?;
        let used = since.since(&self.processes());
        let services = used.iter().filter(|used| !used.kind.starts_with('('));
        let noted = services.fold(Noted::default(), |all, used| Noted {
            cpu_s: all.cpu_s + used.cpu_s,
            peak_rss_mib: all.peak_rss_mib.max(used.peak_rss_mib),
        });
        report.add_used(stage, used);
        Some(noted)
    }
}

/// What the services used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noted {
    pub cpu_s: f64,
    /// Of the largest of them.
    pub peak_rss_mib: f64,
}
