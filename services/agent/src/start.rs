//! Putting an agent together, and taking it apart.
//!
//! ```text
//!   identity, directories, local state ─► sweep orphans ─► restore runners ─► listener, link, background
//!   shutdown ─► listener drains ─► runners end (tasks run on, or are stopped) ─► news, local state
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::http::{Http, HttpLimits};
use client::tls::{Identity, TlsError};
use driver::cgroup::Cgroups;
use driver::cores::Cores;
use driver::docker::{self, Docker};
use driver::fingerprint::FingerprintError;
use driver::mock::Mock;
use driver::raw_exec::RawExec;
use kit::background::{Background, Spec, Task};
use kit::https::Https;
use kit::metrics::Metrics;
use kit::process::ready::Readiness;
use kit::process::{Shutdown, advertised, ops};
use kit::renew;
use kit::server::live::Live;
use kit::server::{self, Limits, Listener, Tls};
use model::{NodeId, Role};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::collect;
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::gateways::Gateways;
use crate::gauges::Gauges;
use crate::host::{Drivers, Host, Parts};
use crate::link::Link;
use crate::meta::DynamicMeta;
use crate::node::{self, Maker};
use crate::outbox::Outbox;
use crate::roster::Roster;
use crate::runner::previous::Elsewhere;
use crate::store::{Store, StoreError, Stored, Writer};
use crate::{OPENAPI, routes, sweep, teardown};

/// Connections, and then starts, that are under way when the agent ends get this long.
const PATIENCE: Duration = Duration::from_secs(2);
/// The last news gets this long.
const NEWS_PATIENCE: Duration = Duration::from_secs(1);

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("{0}")]
    Config(String),
    #[error("identity cannot be used")]
    Identity(#[from] TlsError),
    #[error("the certificate is for a {0}, this is an agent")]
    Role(Role),
    #[error("cannot listen on {addr}")]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error("data directory cannot be used")]
    DataDir(#[from] DataDirError),
    #[error("local state cannot be used")]
    Store(#[from] StoreError),
    #[error("the host cannot be fingerprinted")]
    Fingerprint(#[from] FingerprintError),
    #[error("docker options cannot be used: {0}")]
    Docker(String),
    #[error("cannot listen for SIGHUP")]
    Hangup(#[source] std::io::Error),
    #[error("a part of the start did not end")]
    Start(#[from] tokio::task::JoinError),
}

/// Runs an agent until shutdown. Tasks run on, unless the configuration says otherwise.
///
/// # Errors
/// It cannot start: certificates, listener, directories, local state.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), AgentError> {
    config.check().map_err(AgentError::Config)?;
    let identity = Identity::load(&config.settings.identity_dir)?;
    let me = identity.me();
    if me.role != Role::Agent {
        return Err(AgentError::Role(me.role));
    }
    let id = NodeId::from(me.name);
    let bind = config.settings.bind;
    let fail = |source| AgentError::Listen { addr: bind, source };
    let listener = Listener::bind(bind).map_err(fail)?;
    let mut public = Vec::new();
    for addr in config.http_binds() {
        public.push(Listener::bind(addr).map_err(|source| AgentError::Listen { addr, source })?);
    }
    let public = if public.is_empty() { None } else { Some((public, https(&config, &shutdown)?)) };
    let addr = advertised(listener.local_addr().map_err(fail)?, config.settings.advertise, None);
    let agent = Agent::assemble(config, id, addr, identity, shutdown).await?;
    agent.serve(listener, public).await;
    Ok(())
}

/// How the public API is served here.
fn https(config: &Config, shutdown: &Shutdown) -> Result<Tls, AgentError> {
    let Some(https) = Https::load(&config.https)? else {
        return Ok(Tls::Plain);
    };
    https.keep(shutdown.clone()).map_err(AgentError::Hangup)?;
    Ok(Tls::Public(https))
}

/// An agent, put together.
struct Agent {
    config: Config,
    id: NodeId,
    identity: Identity,
    http: Http,
    gateways: Gateways,
    shutdown: Shutdown,
    maker: Maker,
    node: watch::Sender<Arc<model::Node>>,
    roster: Roster,
    outbox: Outbox,
    store: Store,
    writer: Writer,
}

impl Agent {
    async fn assemble(
        config: Config,
        id: NodeId,
        addr: SocketAddr,
        identity: Identity,
        shutdown: Shutdown,
    ) -> Result<Self, AgentError> {
        let opening = (config.clone(), id.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let (config, id) = opening;
            config.check_host_volumes().map_err(AgentError::Config)?;
            let dir = DataDir::open(&config.settings.data_dir, config.alloc_dir.as_deref(), &id)?;
            let store = Store::open(&dir.store)?;
            let cores = Arc::new(Cores::of_host());
            let cgroups = Cgroups::detect(&config.cgroup_parent, id.as_str());
            let cgroups = cgroups.map(|cgroups| cgroups.with_cores(Arc::clone(&cores)));
            Ok::<_, AgentError>((dir, store, cgroups, cores))
        });
        let (dir, (store, writer, stored), cgroups, cores) = opened.await??;
        if cgroups.is_none() {
            tracing::warn!("cgroups cannot be used, tasks are held by their process groups alone");
        }
        let images = dir.store.with_file_name("images.json");
        let drivers = drivers(&config, cgroups.clone(), &cores, &id, images).await?;
        let maker =
            Maker::new(config.clone(), dir.alloc_base.clone(), id.clone(), dir.secret_id, addr, drivers.clone())
                .at_place(dir.place)
                .with_meta(DynamicMeta::open(dir.store.with_file_name("meta.json")));
        let making = maker.clone();
        let node = watch::Sender::new(Arc::new(tokio::task::spawn_blocking(move || making.make()).await??));
        let outbox = Outbox::default();
        let http = Http::with_limits(identity.clone(), limits_out());
        let gateways = Gateways::new(config.gateways.clone());
        let host = Arc::new(Host::new(Parts {
            drivers,
            cgroups,
            cores,
            devices: config.devices(),
            elsewhere: Elsewhere { http: http.clone(), gateways: gateways.clone() },
            cgroup_parent: config.cgroup_parent.clone(),
            region: config.settings.region.clone(),
            alloc_base: dir.alloc_base,
            node: node.subscribe(),
            denied: config.denied.clone(),
            removals_max: config.gc_parallel_destroys,
            kill_timeout_max: config.max_kill_timeout,
            bridging: config.bridging(),
            store: store.clone(),
            outbox: outbox.clone(),
        }));
        let roster = begin(&host, stored).await;
        Ok(Self { config, id, identity, http, gateways, shutdown, maker, node, roster, outbox, store, writer })
    }

    /// Everything runs from here on until shutdown.
    async fn serve(self, listener: Listener, public: Option<(Vec<Listener>, Tls)>) {
        let Self { config, id, identity, http, gateways, shutdown, maker, node, roster, outbox, store, writer } = self;
        let (readiness, metrics) = (Readiness::new(), Metrics::new(&[]));
        let link = Arc::new(Link::new(http.clone(), gateways.clone(), node.subscribe(), roster.clone()));
        // News goes on for a moment after everything else has ended, local state to the very last.
        let (news_end, writer_end) = (Shutdown::new(), Shutdown::new());
        let writing = tokio::spawn(writer.run(writer_end.clone()));
        let talking = spawn_link(&link, &readiness, &outbox, &store, &shutdown, &news_end);
        let background = Background::new(shutdown.clone());
        let fingerprint = spawn_background(
            &background,
            Work { config: &config, id: &id, maker: maker.clone(), node, roster: &roster, metrics: &metrics },
        );
        let (public, tls) = public.unwrap_or((Vec::new(), Tls::Plain));
        let live = Live::of(&crate::pass_on::limits(&config.bounds));
        let pass_on = |listener| {
            let (http, gateways) = (http.clone(), gateways.clone());
            crate::pass_on::spawn(listener, tls.clone(), http, gateways, &config.bounds, &live, shutdown.clone())
        };
        let passing_on: Vec<_> = public.into_iter().map(pass_on).collect();
        keep_identity(&background, identity.clone(), http, gateways);
        watch_silence(&background, &link, &roster);
        tracing::info!(node_id = %id, name = %link.node.borrow().name, "agent started");
        follow(&config, &maker, &fingerprint, live);
        let app = routes::App::new(Arc::clone(&link), roster.clone(), maker, fingerprint, shutdown.clone());
        let router = routes::router().into_router();
        let router = router.with_state(app).merge(ops::router(readiness, metrics, OPENAPI, &shutdown));
        let asked = tokio::spawn({
            let shutdown = shutdown.clone();
            async move {
                shutdown.requested().await;
                Instant::now()
            }
        });
        let patience = patience(&config);
        let limits = Limits { drain: patience, ..limits_in() };
        server::serve(listener, Tls::Mutual(identity), router, limits, shutdown).await;

        for passing_on in passing_on {
            let _ = passing_on.await;
        }
        let host = Arc::clone(roster.host());
        let live = roster.close().await;
        host.starts.close();
        if tokio::time::timeout(patience, host.starts.wait()).await.is_err() {
            tracing::warn!("a start under way did not end");
        }
        if config.stop_tasks_on_exit {
            let (asked, within) = (asked.await.unwrap_or_else(|_| Instant::now()), config.stop_tasks_within.to_std());
            teardown::run(&host, live, asked + within / 2, asked + within).await;
        } else {
            tracing::info!(tasks = live.len(), "tasks run on");
        }
        news_end.request();
        for task in talking {
            let _ = tokio::time::timeout(NEWS_PATIENCE, task).await;
        }
        background.finished().await;
        writer_end.request();
        let _ = writing.await;
    }
}

/// Who must end its tasks in time has less of it for everything else.
fn patience(config: &Config) -> Duration {
    if config.stop_tasks_on_exit { PATIENCE.min(config.stop_tasks_within.to_std() / 8) } else { PATIENCE }
}

/// Ends what nobody knows, then takes up what an earlier agent left.
async fn begin(host: &Arc<Host>, stored: Vec<Stored>) -> Roster {
    sweep::at_start(host, &stored).await;
    tokio::spawn(share_cores(Arc::clone(host)));
    let roster = Roster::new(Arc::clone(host));
    roster.restore(stored);
    roster
}

/// Keeps tasks without cores of their own off the cores of others, whenever those change.
async fn share_cores(host: Arc<Host>) {
    let Some(cgroups) = host.cgroups.clone() else { return };
    let mut changes = host.cores.changes();
    // What an earlier agent left may not fit any more.
    let mut fits = changes.borrow_and_update().whole;
    loop {
        if !fits {
            let cgroups = cgroups.clone();
            let _ = tokio::task::spawn_blocking(move || cgroups.share_out()).await;
        }
        let Some(Ok(())) = host.halt.or(changes.changed()).await else { return };
        changes.borrow_and_update();
        fits = false;
    }
}

async fn drivers(
    config: &Config,
    cgroups: Option<Cgroups>,
    cores: &Arc<Cores>,
    id: &NodeId,
    images: PathBuf,
) -> Result<Drivers, AgentError> {
    let mut drivers = Drivers::new();
    let launch = config.launch.clone().unwrap_or_default();
    // A disabled driver is there to say so, and to attach to what was started when it was not.
    drivers.insert("raw_exec", Arc::new(RawExec::new(config.raw_exec_options(), launch, cgroups)));
    if config.mock_driver && config.denied.offers("mock_driver") {
        drivers.insert("mock_driver", Arc::new(Mock::default()));
    }
    if !config.no_docker && config.denied.offers(docker::NAME) {
        let text = config.docker_options.clone();
        let options = tokio::task::spawn_blocking(move || text.read()).await?.map_err(AgentError::Docker)?;
        let docker = Docker::new(options, id.as_str()).await.map_err(AgentError::Docker)?;
        drivers.insert(docker::NAME, Arc::new(docker.with_cores(Arc::clone(cores)).with_memory(images)));
    }
    Ok(drivers)
}

fn spawn_link(
    link: &Arc<Link>,
    readiness: &Readiness,
    outbox: &Outbox,
    store: &Store,
    shutdown: &Shutdown,
    news_end: &Shutdown,
) -> Vec<tokio::task::JoinHandle<()>> {
    let registered = readiness.condition("registered", "the node is not registered yet");
    let listing = readiness.condition("allocations", "the cluster has not said yet what should run here");
    let (a, b, c) = (Arc::clone(link), Arc::clone(link), Arc::clone(link));
    let (end_a, end_b, end_c) = (shutdown.clone(), shutdown.clone(), news_end.clone());
    let (outbox, store) = (outbox.clone(), store.clone());
    vec![
        tokio::spawn(async move { a.follow(registered, listing, end_a).await }),
        tokio::spawn(async move { b.beats(end_b).await }),
        tokio::spawn(async move { c.news(outbox, store, end_c).await }),
    ]
}

struct Work<'a> {
    config: &'a Config,
    id: &'a NodeId,
    maker: Maker,
    node: watch::Sender<Arc<model::Node>>,
    roster: &'a Roster,
    metrics: &'a Metrics,
}

/// Answers what makes the host be looked at again.
fn spawn_background(background: &Background, work: Work<'_>) -> Task {
    let Work { config, id, maker, node, roster, metrics } = work;
    let minute = Duration::from_secs(60);
    let spec = |name, period| Spec { name, period, limit: Duration::from_secs(30) };
    let node = Arc::new(node);
    let news: Vec<_> = roster.host().drivers.values().filter_map(|driver| driver.news()).collect();
    let looking = background.spawn(spec("fingerprint", node::PERIOD), move || {
        let (maker, node) = (maker.clone(), Arc::clone(&node));
        async move {
            let made = tokio::task::spawn_blocking(move || maker.make()).await.map_err(|e| e.to_string())?;
            let changed = node::replace(&node, made.map_err(|e| e.to_string())?);
            Ok::<_, String>(if changed { "something changed" } else { "nothing changed" }.to_owned())
        }
    });
    for mut changes in news {
        let (looking, halt) = (looking.clone(), roster.host().halt.clone());
        tokio::spawn(async move {
            while let Some(Ok(())) = halt.or(changes.changed()).await {
                looking.poke();
            }
        });
    }
    let sweeping = roster.clone();
    background.spawn(spec("orphans", minute), move || {
        let roster = sweeping.clone();
        async move { Ok::<_, String>(sweep::again(&roster).await) }
    });
    let (collecting, limits) = (roster.clone(), collect::Limits::of(config));
    let collect = background.spawn(spec("collect", config.gc_interval.to_std().max(minute / 60)), move || {
        let (roster, limits) = (collecting.clone(), limits.clone());
        async move { Ok::<_, String>(collect::look(&roster, &limits)) }
    });
    let (changed, halt) = (roster.changed(), roster.host().halt.clone());
    tokio::spawn(async move {
        while halt.or(changed.notified()).await.is_some() {
            collect.poke();
        }
    });
    let gauges = Arc::new(Gauges::new(metrics, id.as_str(), &config.settings.datacenter));
    let counted = roster.clone();
    background.spawn(spec("gauges", Duration::from_secs(5)), move || {
        let (gauges, roster) = (Arc::clone(&gauges), counted.clone());
        async move {
            gauges.set(&roster);
            Ok::<_, String>("set".to_owned())
        }
    });
    looking
}

/// Without word from the cluster for long, what is not to run alone is stopped. An agent that was begun anew
/// counts from its start.
fn watch_silence(background: &Background, link: &Arc<Link>, roster: &Roster) {
    let spec = Spec { name: "silence", period: Duration::from_secs(1), limit: Duration::from_secs(5) };
    let (link, roster, started) = (Arc::clone(link), roster.clone(), std::time::Instant::now());
    background.spawn(spec, move || {
        let (link, roster) = (Arc::clone(&link), roster.clone());
        async move {
            let heard = link.heard().unwrap_or(started);
            let stopped = roster.stop_unheard(heard.elapsed());
            Ok::<_, String>(if stopped > 0 { "stopped what is not to run alone" } else { "nothing to stop" }.to_owned())
        }
    });
}

fn keep_identity(background: &Background, identity: Identity, http: Http, gateways: Gateways) {
    let spec = Spec { name: "identity", period: Duration::from_secs(30), limit: Duration::from_secs(20) };
    background.spawn(spec, move || {
        let (identity, http, gateways) = (identity.clone(), http.clone(), gateways.clone());
        async move { renew::tend(&identity, &http, &gateways, Role::Gateway).await }
    });
}

/// An agent calls few and holds little.
pub fn limits_out() -> HttpLimits {
    HttpLimits {
        idle_per_target_max: 2,
        answer_bytes_max: 4 << 20,
        h2_stream_window_bytes: 256 << 10,
        h2_connection_window_bytes: 512 << 10,
        ..HttpLimits::default()
    }
}

fn limits_in() -> Limits {
    Limits {
        connections_max: 512,
        body_bytes: 1 << 20,
        h2_streams_max: 128,
        h2_stream_window_bytes: 64 << 10,
        h2_connection_window_bytes: 256 << 10,
        h2_send_buffer_bytes: 64 << 10,
        ..Limits::internal()
    }
}

/// Takes up what may change while the agent runs: metadata of the node, limits of the public listener.
fn follow(config: &Config, maker: &Maker, fingerprint: &kit::background::Task, live: Live) {
    let (maker, fingerprint) = (maker.clone(), fingerprint.clone());
    let followed = kit::again::follow(config.settings.log_level_file.as_deref(), move |now: Config| {
        live.set(&crate::pass_on::limits(&now.bounds));
        maker.configure_meta(now.meta());
        // The node is registered again if that changes it.
        fingerprint.poke();
        tracing::info!("metadata and limits were read again");
    });
    if let Err(error) = followed {
        tracing::warn!(%error, "metadata and limits cannot be read again while this runs");
    }
}
