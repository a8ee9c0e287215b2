//! `steppe container health`: asks this container's service whether it can work, for the engine's health check.
//!
//! It looks at the same settings in the environment as the service, and shows the service's own certificate:
//! no other is at hand, and none is needed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use client::http::{Call, Http, Target};
use client::tls::Identity;

use crate::agent::address::Places;
use crate::env::{Env, SERVICE_PREFIX};
use crate::local::report;
use crate::ui::Ui;

const PATH: &str = "/health/ready";
const WITHIN: Duration = Duration::from_secs(3);

/// `steppe container health`.
pub fn health(_: &[String], env: &Env, ui: &mut Ui) -> u8 {
    let result = run(env);
    report(ui, result)
}

fn run(env: &Env) -> anyhow::Result<u8> {
    let setting = |name: &str| {
        let name = format!("{SERVICE_PREFIX}{name}");
        env.0.get(&name).cloned().with_context(|| format!("{name} is not set"))
    };
    let identity = Identity::load(setting("IDENTITY_DIR")?)?;
    let bind: SocketAddr = setting("BIND")?.parse().context("STEPPE_BIND is no address")?;
    let role = identity.me().role;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let target = Target::new(Places::own(bind), role);
    let reply = runtime.block_on(Http::new(identity).call(&target, Call::get(PATH, WITHIN)));
    match reply {
        Ok(_) => Ok(0),
        Err(error) => bail!("{role} is not ready: {error}"),
    }
}
