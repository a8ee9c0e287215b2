//! How a machine comes by its certificates.
//!
//! ```text
//!   server:  <server>/ca there? ──yes──► load ─┐
//!                │ no                          ├─► a certificate for each of its processes, at each start
//!                └─ made (from `encrypt`, if that is said: every server makes the same) ┘
//!   client:  <client>/identity good? ──yes──► the servers' authority is ours? ─► start; the agent renews it
//!                │ no
//!                └─ introduced once: by a token, or by a certificate of the operator's (`tls { rpc }`)
//! ```
//!
//! A node on a machine with a server gets its certificate from the machine itself. If it was purged, that one is not
//! taken: with a token, it is introduced to its own cluster once that runs, as any other node is ([`come_back`]).

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use api::state::{CERTIFICATES, Introduce, SignRequest, Signed};
use base64::Engine as _;
use client::error::CallError;
use client::http::{Call, Http, Target};
use client::introduce::{IntroduceError, introduce};
use client::tls::{CERT_FILE, Identity};
use client::voucher::{Voucher, VoucherFiles};
use config::Config;
use kit::introduction::Token;
use kit::pki::{Authority, CA_KEY_FILE, GOSSIP_KEY_FILE, Pem};
use model::Role;

use super::address::{Places, with_port};
use super::log::Log;
use super::plan::Machine;
use crate::local::cluster::{identify, node_id};
use crate::local::plan::Spec;

/// Between rounds of asking servers that do not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a server that starts may take until it answers for its own machine's node.
const FOUNDING: Duration = Duration::from_secs(600);
const KNOCK: Duration = Duration::from_secs(3);

/// Gives every process its certificate.
///
/// # Errors
/// One sentence about what stands in the way.
pub fn prepare(machine: &Machine, specs: &[Spec], runtime: &tokio::runtime::Runtime, log: &Log) -> anyhow::Result<()> {
    if machine.config.server.enabled {
        let authority = authority(machine)?;
        let homes = specs.iter().map(|spec| spec.home.join("identity"));
        let files: Vec<_> = homes.chain([machine.ca_dir()]).map(|dir| dir.join(GOSSIP_KEY_FILE)).collect();
        kit::gossip::share(&files).context("gossip keys of this machine")?;
        for spec in specs {
            identify(&authority, spec, &machine.name, &machine.config.region)
                .with_context(|| format!("identity of {}", spec.name))?;
        }
        return Ok(());
    }
    for spec in specs.iter().filter(|spec| spec.role == Role::Agent) {
        runtime.block_on(client_only(machine, spec, log))?;
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

/// A machine that is no server: its certificate comes from the servers.
async fn client_only(machine: &Machine, spec: &Spec, log: &Log) -> anyhow::Result<()> {
    let dir = spec.home.join("identity");
    let token = token(&machine.config.client.intro_token);
    let why = match identity(&dir, &machine.config.region)? {
        // A certificate needs no token, and so none that is good.
        Ok(identity) if !matches!(token, Ok(Some(_))) || !is_shut_out(machine, &identity).await => {
            return check_cluster(machine, &identity).await;
        }
        Ok(_) => "this node was purged".to_owned(),
        Err(why) => why,
    };
    match (token?, voucher(machine)?) {
        (Some(token), _) => introduced(machine, spec, By::Token(&token), log).await,
        (None, Some(voucher)) => introduced(machine, spec, By::Certificate(&voucher), log).await,
        (None, None) => bail!("{why}: give it a token of `steppe node intro create` by -client-intro-token"),
    }
}

/// A node beside a server that was purged: introduced by its token while the machine runs. It goes on trying until it
/// is in, or refused.
///
/// # Errors
/// No thread can be started.
pub fn come_back(machine: &Machine, specs: &[Spec], log: &Arc<Log>) -> anyhow::Result<()> {
    let Some(spec) = specs.iter().find(|spec| spec.role == Role::Agent && machine.config.server.enabled) else {
        return Ok(());
    };
    let token = match token(&machine.config.client.intro_token) {
        Ok(Some(token)) => token,
        Ok(None) => return Ok(()),
        Err(error) => {
            // A node that is trusted needs none.
            log.warn(&format!("the introduction token is of no use: {error:#}"));
            return Ok(());
        }
    };
    let (machine, spec, log) = (machine.clone(), spec.clone(), Arc::clone(log));
    let work = async move {
        if let Ok(Ok(identity)) = identity(&spec.home.join("identity"), &machine.config.region)
            && is_shut_out(&machine, &identity).await
            && let Err(error) = introduced(&machine, &spec, By::Token(&token), &log).await
        {
            log.warn(&format!("this node stays purged: {error:#}"));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("introduction".to_owned()).spawn(move || runtime.block_on(work))?;
    Ok(())
}

/// What a machine has to show for itself.
#[derive(Clone, Copy)]
enum By<'a> {
    Token(&'a Token),
    Certificate(&'a Voucher),
}

/// The operator's certificate, if nodes come in by such.
fn voucher(machine: &Machine) -> anyhow::Result<Option<Voucher>> {
    let settings = machine.vouching_settings();
    let (Some(ca), Some(cert), Some(key)) = (&settings.rpc_ca, &settings.rpc_cert, &settings.rpc_key) else {
        return Ok(None);
    };
    let files = VoucherFiles { ca, cert, key };
    let voucher = Voucher::load(files, &machine.config.region, settings.rpc_verify_name);
    voucher.map(Some).context("tls: the certificate for rpc cannot be used")
}

/// Asks until a server answers, and keeps what it gives.
async fn introduced(machine: &Machine, spec: &Spec, by: By<'_>, log: &Log) -> anyhow::Result<()> {
    let dir = spec.home.join("identity");
    let claims = match by {
        By::Token(token) => token.claims_text().to_owned(),
        By::Certificate(_) => String::new(),
    };
    fs::create_dir_all(&spec.home).with_context(|| format!("creating {}", spec.home.display()))?;
    let id = node_id(&spec.home)?;
    let request = kit::pki::request()?;
    let mut ask = Introduce {
        claims,
        csr: request.csr.clone(),
        node_id: id,
        node_name: machine.name.clone(),
        node_pool: machine.config.client.node_pool.clone(),
        proof: String::new(),
        admission: String::new(),
    };
    let voucher = match by {
        By::Token(token) => {
            ask.proof = token.prove("ask", &ask.parts());
            None
        }
        By::Certificate(voucher) => Some(voucher),
    };
    let answer = ask_around(machine, &ask, voucher, log).await?;
    if let By::Token(token) = by {
        token
            .check("answer", &[&ask.csr, &answer.ca, &answer.certificate], &answer.proof)
            .context("the server that answers cannot have made the token")?;
    }
    kit::pki::write_identity(&dir, &answer.ca, &Pem { cert: answer.certificate, key: request.key })?;
    log.info("this node was introduced to the cluster, and has a certificate of its own now");
    Ok(())
}

/// The identity in `dir`, or why there is none to be used.
fn identity(dir: &Path, region: &str) -> anyhow::Result<Result<Identity, String>> {
    if !dir.join(CERT_FILE).exists() {
        return Ok(Err("this node has no certificate yet".to_owned()));
    }
    let identity = Identity::load(dir).with_context(|| format!("the certificate in {}", dir.display()))?;
    let me = identity.me();
    if me.role != Role::Agent || me.region != region {
        bail!("the certificate in {} is of a {} in region {}", dir.display(), me.role, me.region);
    }
    if identity.not_after() <= SystemTime::now() {
        return Ok(Err(format!("the certificate in {} has expired", dir.display())));
    }
    Ok(Ok(identity))
}

/// Whether the cluster does not believe this node's certificate any more, since it was purged.
async fn is_shut_out(machine: &Machine, identity: &Identity) -> bool {
    let http = Http::new(identity.clone());
    // Its own server is only just starting, and is waited for.
    let deadline = Instant::now() + if machine.config.server.enabled { FOUNDING } else { Duration::ZERO };
    loop {
        for addr in servers(machine).await {
            let Ok(request) = kit::pki::request() else { continue };
            let name = identity.me().name;
            let ask = SignRequest { csr: request.csr, role: Role::Agent, name, admission: String::new() };
            match http.post_json::<_, Signed>(Target::new(addr, Role::Gateway), CERTIFICATES, &ask, KNOCK).await {
                Ok(_) => return false,
                Err(CallError::Status { body, .. }) if body.code() == api::Code::Forbidden => return true,
                Err(_) => {}
            }
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The token itself, or what is in the file of that name.
fn token(said: &str) -> anyhow::Result<Option<Token>> {
    let said = said.trim();
    if said.is_empty() {
        return Ok(None);
    }
    if let Ok(token) = Token::parse(said) {
        return Ok(Some(token));
    }
    let text = match fs::read_to_string(said) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && !said.contains('/') => {
            bail!("client.intro_token: this is neither an introduction token nor a file that holds one")
        }
        Err(error) => bail!("client.intro_token: cannot read {said}: {error}"),
    };
    ensure!(!text.trim().is_empty(), "client.intro_token: {said} is empty");
    Token::parse(&text).map(Some).with_context(|| format!("client.intro_token: {said}"))
}

/// What is wrong with the introduction token of a machine that needs one, having no certificate yet.
pub fn token_problem(config: &Config, client_dir: &Path) -> Option<String> {
    let needs = config.client.enabled && !config.server.enabled;
    if !needs || matches!(identity(&client_dir.join("identity"), &config.region), Ok(Ok(_))) {
        return None;
    }
    token(&config.client.intro_token).err().map(|error| format!("{error:#}"))
}

async fn servers(machine: &Machine) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    if machine.config.server.enabled {
        all.push(Places::own(machine.places.rpc));
    }
    for name in machine.config.client.join() {
        // A name that is not known now may be known later.
        all.extend(tokio::net::lookup_host(with_port(&name, 4647)).await.into_iter().flatten());
    }
    all
}

/// Asks one server after the other until one answers.
async fn ask_around(
    machine: &Machine,
    ask: &Introduce,
    voucher: Option<&Voucher>,
    log: &Log,
) -> anyhow::Result<api::state::Introduced> {
    let mut said = String::new();
    loop {
        let mut last = "no server's name is known".to_owned();
        for addr in servers(machine).await {
            match introduce(addr, ask, voucher).await {
                Ok(answer) => return Ok(answer),
                Err(IntroduceError::Refused(reason)) => bail!("{addr} refuses this node: {reason}"),
                Err(IntroduceError::Unbelieved { addr, source }) => bail!(
                    "{addr} and this node do not believe each other's certificates ({source}): both need `tls {{ rpc = true                      }}`, with certificates of one authority"
                ),
                Err(error) => last = format!("{:#}", anyhow::Error::from(error)),
            }
        }
        if said != last {
            log.warn(&format!("not introduced yet, asking again: {last}"));
            said = last;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A certificate of one cluster is of no use with another's servers; better said now than in every call.
async fn check_cluster(machine: &Machine, identity: &Identity) -> anyhow::Result<()> {
    let http = Http::new(identity.clone());
    for addr in servers(machine).await {
        let knock = http.call(&Target::new(addr, Role::Gateway), Call::get("/health/live", KNOCK)).await;
        let Err(CallError::Connect { source, .. }) = knock else { continue };
        let tls = source.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        if let Some(error @ (rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))) = tls {
            bail!("{addr} is of another cluster than the certificate in {}: {error}", identity.dir().display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, token: &str) -> Config {
        let text = format!(
            "data_dir = {dir:?}\nclient {{ enabled = true servers = [\"127.0.0.1\"] intro_token = {token:?} }}"
        );
        config::load(&[config::Source { name: String::new(), text }], &[], false).unwrap().config
    }

    #[test]
    fn a_token_matters_only_until_the_node_has_a_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let client = dir.path().join("client");
        let file = dir.path().join("token");
        let file = file.to_str().unwrap();
        let problem = |token: &str| token_problem(&config(dir.path(), token), &client);
        let missing = problem(file).unwrap();
        assert!(missing.starts_with(&format!("client.intro_token: cannot read {file}: No such file")), "{missing}");
        fs::write(file, " \n").unwrap();
        assert_eq!(problem(file), Some(format!("client.intro_token: {file} is empty")));
        fs::write(file, "garbage").unwrap();
        assert_eq!(problem(file), Some(format!("client.intro_token: {file}: this is no introduction token")));
        assert!(problem("garbage").unwrap().contains("neither an introduction token nor a file"));
        assert_eq!(problem(""), None, "a flag may give one at the start");
        let authority = Authority::create(dir.path().join("ca"), "global").unwrap();
        let spec = Spec {
            name: "agent".to_owned(),
            role: Role::Agent,
            home: client.clone(),
            words: Vec::new(),
            log_level: String::new(),
        };
        identify(&authority, &spec, "n", "global").unwrap();
        for token in [file, "/no/such/file", "garbage"] {
            assert_eq!(problem(token), None, "{token}");
        }
    }
}
