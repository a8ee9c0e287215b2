//! How a machine comes by its certificates.
//!
//! ```text
//!   server:  <server>/ca there? ──yes──► load ─┐
//!                │ no                          ├─► a certificate for each of its processes, at each start
//!                └─ made (from `encrypt`, if that is said: every server makes the same) ┘
//! ```

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use kit::pki::{Authority, CA_KEY_FILE, GOSSIP_KEY_FILE};
use model::Role;

use super::plan::Machine;
use crate::local::cluster::identify;
use crate::local::plan::Spec;

/// Gives every process its certificate.
///
/// # Errors
/// One sentence about what stands in the way.
pub fn prepare(machine: &Machine, specs: &[Spec]) -> anyhow::Result<()> {
    let authority = authority(machine)?;
    for spec in specs {
        let name = if spec.role == Role::Agent { "" } else { &machine.name };
        identify(&authority, spec, name, &machine.config.region)
            .with_context(|| format!("identity of {}", spec.name))?;
    }
    Ok(())
}

fn authority(machine: &Machine) -> anyhow::Result<Authority> {
    let dir = machine.ca_dir();
    let about = || format!("the cluster's authority in {}", dir.display());
    if dir.join(CA_KEY_FILE).exists() {
        return Authority::load(&dir).with_context(about);
    }
    let region = &machine.config.region;
    let Some(secret) = config::gossip_key(&machine.config.server.encrypt) else {
        return Authority::create(&dir, region).with_context(about);
    };
    write_gossip_key(&dir, &secret)?;
    Authority::create_from(&dir, region, &secret).with_context(about)
}

fn write_gossip_key(dir: &Path, secret: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let path = dir.join(GOSSIP_KEY_FILE);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let text = base64::engine::general_purpose::STANDARD.encode(kit::gossip::widened(secret));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}
