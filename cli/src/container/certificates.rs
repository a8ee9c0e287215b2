//! `steppe container certificates`: the trust of a composed cluster, made before anything of it runs.
//!
//! Run again it makes what is missing, what is of another authority, and what ends before long; processes take
//! up a replaced certificate without a restart. The agents' token is made anew each time.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use client::tls::{CA_FILE, Identity};
use kit::introduction::{Claims, Token};
use kit::pki::{Authority, GOSSIP_KEY_FILE};
use model::Role;

use crate::env::{self, Env};
use crate::flags::parse;
use crate::local::report;
use crate::ui::Ui;

/// Containers see their certificates for reading only, and so do not renew them: `up` does.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
const STATES_MAX: u64 = 7;
/// Those that share a certificate among their replicas.
const ROLES: [Role; 5] = [Role::Broker, Role::Applier, Role::Controller, Role::Scheduler, Role::Gateway];
/// In the agents' directory.
pub const TOKEN_FILE: &str = "intro-token";
pub const AGENTS: &str = "agent";

/// `steppe container certificates`.
pub fn certificates(words: &[String], env: &Env, ui: &mut Ui) -> u8 {
    let result = run(words, env, ui);
    report(ui, result)
}

fn run(words: &[String], env: &Env, ui: &mut Ui) -> anyhow::Result<u8> {
    let typed = parse(&[super::CERTIFICATES_FLAGS], words)?;
    let region = env.get(env::REGION).unwrap_or("global");
    let states = typed.uint("states");
    anyhow::ensure!((1..=STATES_MAX).contains(&states), "there are 1 to {STATES_MAX} state servers, not {states}");
    let made = make(Path::new(typed.text("trust")), region, states)?;
    ui.note(format!("certificates are there, {made} of them new"));
    Ok(0)
}

/// Makes what is missing; answers how many certificates are new.
fn make(trust: &Path, region: &str, states: u64) -> anyhow::Result<usize> {
    let authority = trust.join("authority");
    let ca = Authority::load_or_create(authority.join("ca"), region)
        .with_context(|| format!("the cluster's authority in {}", authority.display()))?;
    let mut made = 0;
    for n in 1..=states {
        let name = format!("state-{n}");
        made += usize::from(keep(&ca, &authority.join(&name), Role::State, &name, region)?);
    }
    for role in ROLES {
        made += usize::from(keep(&ca, &trust.join(role.as_str()), role, role.as_str(), region)?);
    }
    let expires = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + LIFETIME;
    let claims = Claims {
        region: region.to_owned(),
        expires: expires.as_secs(),
        nonce: client::state::new_uuid(),
        ..Claims::default()
    };
    let agents = trust.join(AGENTS);
    let about = || format!("writing into {}", agents.display());
    fs::create_dir_all(&agents).with_context(about)?;
    let token = Token::mint(&ca.introduction_key(), &claims).text();
    files::replace(&agents.join(CA_FILE), ca.ca_pem().as_bytes(), 0o644).with_context(about)?;
    files::replace(&agents.join(TOKEN_FILE), token.as_bytes(), 0o600).with_context(about)?;
    Ok(made)
}

/// Makes a certificate, unless there is a good one; `true` when it is new.
fn keep(ca: &Authority, dir: &Path, role: Role, name: &str, region: &str) -> anyhow::Result<bool> {
    let same = fs::read_to_string(dir.join(CA_FILE)).is_ok_and(|pem| pem == ca.ca_pem());
    let good = Identity::load(dir).is_ok_and(|identity| {
        let me = identity.me();
        let left = identity.not_after().duration_since(SystemTime::now()).unwrap_or_default();
        me.role == role && *me.name == *name && me.region == region && left > LIFETIME / 2
    });
    if same && good && dir.join(GOSSIP_KEY_FILE).exists() {
        return Ok(false);
    }
    if !same {
        // Packets are sealed with the key of the authority that is gone.
        let _ = fs::remove_file(dir.join(GOSSIP_KEY_FILE));
    }
    ca.write_identity(dir, role, name, region, LIFETIME)
        .with_context(|| format!("certificate in {}", dir.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_made_once_and_anew_for_another_authority() {
        let dir = tempfile::tempdir().unwrap();
        let trust = dir.path();
        assert_eq!(make(trust, "global", 3).unwrap(), 8);
        let key = |role: &str| fs::read_to_string(trust.join(role).join(GOSSIP_KEY_FILE)).unwrap();
        let (token, gossip) = (fs::read_to_string(trust.join("agent/intro-token")).unwrap(), key("broker"));
        assert_eq!(make(trust, "global", 3).unwrap(), 0);
        assert_ne!(fs::read_to_string(trust.join("agent/intro-token")).unwrap(), token, "a token is made each time");
        let broker = Identity::load(trust.join("broker")).unwrap();
        assert_eq!(broker.me().to_string(), "broker.broker.global.steppe");

        fs::remove_file(trust.join("broker/cert.pem")).unwrap();
        assert_eq!(make(trust, "global", 3).unwrap(), 1);
        assert_eq!(key("broker"), gossip);
        fs::remove_dir_all(trust.join("authority")).unwrap();
        assert_eq!(make(trust, "global", 3).unwrap(), 8);
        assert_ne!(key("broker"), gossip);
        assert_eq!(key("broker"), key("gateway"));
    }

    #[test]
    fn only_state_servers_have_the_authority_s_key_and_agents_have_none() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), "global", 1).unwrap();
        for role in ROLES {
            assert!(!dir.path().join(role.as_str()).join("ca-key.pem").exists());
        }
        let mut agents: Vec<_> =
            fs::read_dir(dir.path().join(AGENTS)).unwrap().map(|e| e.unwrap().file_name()).collect();
        agents.sort();
        assert_eq!(agents, ["ca.pem", TOKEN_FILE]);
    }
}
