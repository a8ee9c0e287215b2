//! A cluster's directory: authority, identities, and what was decided when it was made.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use kit::pki::Authority;
use model::Role;
use serde::{Deserialize, Serialize};

use super::plan::{Ports, Size, Spec, processes};
use super::ready::Waiting;

/// How long the certificates made here last; each process renews its own in time.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
const MARKER: &str = "cluster.json";

/// What stays the same from one `up` to the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Marker {
    region: String,
    http: u16,
    rpc: u16,
    gossip: u16,
}

/// A cluster on this machine.
pub struct Cluster {
    pub data: PathBuf,
    pub ports: Ports,
    region: String,
    pub specs: Vec<Spec>,
}

impl Cluster {
    /// Opens the cluster in `data`, or makes a new one there.
    ///
    /// # Errors
    /// The directory is somebody else's, or cannot be written.
    pub fn open(data: &Path, ports: Ports, size: Size) -> anyhow::Result<Self> {
        let marker = data.join(MARKER);
        let known: Option<Marker> = match fs::read(&marker) {
            Ok(text) => {
                Some(serde_json::from_slice(&text).with_context(|| format!("{} is damaged", marker.display()))?)
            }
            Err(_) => None,
        };
        if known.is_none() {
            let strange = fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some());
            anyhow::ensure!(!strange, "{} is not empty and holds no cluster: name another directory", data.display());
        }
        fs::create_dir_all(data).with_context(|| format!("creating {}", data.display()))?;
        let data = data.canonicalize()?;
        let region = known.map_or_else(|| "global".to_owned(), |k| k.region);
        let now = Marker { region: region.clone(), http: ports.http, rpc: ports.rpc, gossip: ports.gossip };
        fs::write(data.join(MARKER), serde_json::to_vec_pretty(&now)?)?;
        let specs = processes(&data, ports, size);
        Ok(Self { data, ports, region, specs })
    }

    /// The ports of the cluster in `data`, if there is one.
    pub fn ports_of(data: &Path) -> Option<Ports> {
        let known: Marker = serde_json::from_slice(&fs::read(data.join(MARKER)).ok()?).ok()?;
        Some(Ports { http: known.http, rpc: known.rpc, gossip: known.gossip })
    }

    /// Makes sure that a process has a valid identity before it is started.
    ///
    /// # Errors
    /// Keys or files cannot be made.
    pub fn identify(&self, spec: &Spec) -> anyhow::Result<()> {
        let authority =
            Authority::load_or_create(self.data.join("ca"), &self.region).context("certificate authority")?;
        identify(&authority, spec, &spec.name, &self.region)
    }

    /// What to wait for until it can work.
    pub fn waiting(&self) -> Waiting<'_> {
        Waiting { address: self.address(), specs: &self.specs, settings: client::public::Settings::default() }
    }

    /// Address of the public API.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.http)
    }
}

/// Gives a process its certificate, and its place.
///
/// # Errors
/// Keys or files cannot be made.
pub fn identify(authority: &Authority, spec: &Spec, name: &str, region: &str) -> anyhow::Result<()> {
    fs::create_dir_all(&spec.home).with_context(|| format!("creating {}", spec.home.display()))?;
    let name = match spec.role {
        Role::Agent => node_id(&spec.home)?,
        _ => name.to_owned(),
    };
    authority.write_identity(spec.home.join("identity"), spec.role, &name, region, LIFETIME)?;
    Ok(())
}

/// Where a node's id is kept.
pub fn node_id_file(home: &Path) -> PathBuf {
    home.join("node-id")
}

/// The node's id: made once, kept beside its identity.
///
/// # Errors
/// It cannot be read or written.
pub fn node_id(home: &Path) -> anyhow::Result<String> {
    let path = node_id_file(home);
    if let Ok(id) = fs::read_to_string(&path) {
        return Ok(id.trim().to_owned());
    }
    let id = client::state::new_uuid();
    fs::write(&path, &id)?;
    Ok(id)
}
