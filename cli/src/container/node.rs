//! `steppe container agent`: a node for each replica of the agent's container.
//!
//! Replicas are all started in the same way and see the same directory of the host. Each takes the first place
//! in it that nobody holds, `agent-1` and so on, by a lock that ends with its process: whoever comes in the
//! place of a container, by a restart or with a newer image, is the same node with the same data. Places of
//! different clusters lie apart. Everything else is said as to `steppe serve agent`, in the environment.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use client::tls::CA_FILE;
use config::Config;
use model::Role;
use rustix::fs::{FlockOperation, flock};

use super::certificates::{AGENTS, TOKEN_FILE};
use crate::agent::address::{Interfaces, Places};
use crate::agent::log::Log;
use crate::agent::plan::Machine;
use crate::agent::trust;
use crate::env::{self, Env, SERVICE_PREFIX};
use crate::flags::parse;
use crate::local::plan::Spec;
use crate::local::report;
use crate::serve;
use crate::ui::Ui;

const PLACES_MAX: u16 = 32;
/// Docker publishes tasks' ports on the host, which replicas share: each place has ports of its own.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000 / PLACES_MAX;

/// `steppe container agent`.
pub fn agent(words: &[String], env: &Env, ui: &mut Ui) -> u8 {
    match prepare(words, env) {
        Ok((place, words)) => {
            let code = serve::run(&words, env, ui);
            drop(place.lock);
            code
        }
        Err(error) => report(ui, Err(error)),
    }
}

/// A replica's own directory, held as long as this lives.
struct Place {
    number: u16,
    dir: PathBuf,
    lock: File,
}

impl Place {
    fn name(&self) -> String {
        format!("agent-{}", self.number)
    }

    fn ports(&self) -> (u16, u16) {
        let first = FIRST_PORT + (self.number - 1) * PORTS;
        (first, first + PORTS - 1)
    }
}

/// Takes a place, makes sure of its certificate; answers what is served.
fn prepare(words: &[String], env: &Env) -> anyhow::Result<(Place, Vec<String>)> {
    let typed = parse(&[super::AGENT_FLAGS], words)?;
    let trust = Path::new(typed.text("trust")).join(AGENTS);
    let ca = fs::read(trust.join(CA_FILE)).with_context(|| {
        format!(
            "there are no certificates in {}: `docker compose up certificates` (`steppe container certificates`) makes them",
            trust.display()
        )
    })?;
    let place = take(&Path::new(typed.text("root")).join(cluster(&ca)))?;
    introduce(&place, &trust, env)?;
    let identity = place.dir.join("identity");
    if let Some(link) = env.0.get(&format!("{SERVICE_PREFIX}IDENTITY_DIR")) {
        // Where the health check looks.
        let _ = fs::remove_file(link);
        std::os::unix::fs::symlink(&identity, link).with_context(|| format!("linking {link}"))?;
    }
    let (first, last) = place.ports();
    let words = [
        "agent".to_owned(),
        format!("--data-dir={}", place.dir.display()),
        format!("--identity-dir={}", identity.display()),
        format!("--node-name={}", place.name()),
        format!("--min-dynamic-port={first}"),
        format!("--max-dynamic-port={last}"),
    ];
    Ok((place, words.into()))
}

/// Short, so that paths below stay short.
fn cluster(ca: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(ca))
}

fn take(root: &Path) -> anyhow::Result<Place> {
    let about = || format!("the agents' directory {}", root.display());
    fs::create_dir_all(root).with_context(about)?;
    for number in 1..=PLACES_MAX {
        let lock = File::create(root.join(format!("agent-{number}.lock"))).with_context(about)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let dir = root.join(format!("agent-{number}"));
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir).with_context(about)?;
            return Ok(Place { number, dir, lock });
        }
    }
    bail!("all {PLACES_MAX} places in {} are taken by other agents", root.display())
}

/// The place's certificate is there and good, or comes from the servers now.
fn introduce(place: &Place, trust: &Path, env: &Env) -> anyhow::Result<()> {
    let gateways = env.0.get(&format!("{SERVICE_PREFIX}GATEWAY")).map(String::as_str).unwrap_or_default();
    ensure!(!gateways.is_empty(), "STEPPE_GATEWAY is not set: say where a gateway is, such as gateway:4647");
    let mut config = Config { name: Some(place.name()), ..Config::default() };
    config.region = env.get(env::REGION).unwrap_or("global").to_owned();
    config.client.enabled = true;
    config.client.servers = gateways.split(',').map(str::to_owned).collect();
    config.client.intro_token = trust.join(TOKEN_FILE).display().to_string();
    let log = Log::open(&config)?;
    let places = Places::of(&config, false, &Interfaces::new())?;
    let machine = Machine { config, places, name: place.name(), data: place.dir.clone(), dev: false };
    let spec = Spec {
        name: Role::Agent.as_str().to_owned(),
        role: Role::Agent,
        home: place.dir.clone(),
        words: Vec::new(),
        log_level: String::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    trust::prepare(&machine, &[spec], &runtime, &log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_replica_takes_a_place_of_its_own_and_its_successor_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let one = take(dir.path()).unwrap();
        let two = take(dir.path()).unwrap();
        assert_eq!((one.name().as_str(), two.name().as_str()), ("agent-1", "agent-2"));
        assert_eq!((one.ports(), two.ports()), ((20_000, 20_374), (20_375, 20_749)));
        fs::write(one.dir.join("file"), "kept").unwrap();
        drop(one);
        let again = take(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(again.dir.join("file")).unwrap(), "kept");
        let all: Vec<_> = (3..=PLACES_MAX).map(|_| take(dir.path()).unwrap()).collect();
        assert_eq!(all.last().unwrap().ports().1, 31_999);
        assert!(take(dir.path()).is_err());
    }

    #[test]
    fn without_certificates_it_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let words = ["-trust", dir.path().to_str().unwrap()].map(str::to_owned);
        let error = format!("{:#}", prepare(&words, &Env::default()).err().unwrap());
        assert!(error.contains("docker compose up certificates"), "{error}");
    }
}
