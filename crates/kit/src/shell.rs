//! What every control-plane service is built in: one start, one way to serve, one end.
//!
//! ```text
//!   Shell::start ─► identity ─► listener bound (port known) ─► gossip ─► metrics, readiness
//!   Shell::serve ─► ops routes + gossip route + the service's own, mutual TLS, until shutdown
//! ```
//!
//! It decides nothing. A service adds its replica, its lease and its routes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use client::http::Http;
use client::lease::LeaseKeeper;
use client::peers::Peers;
use client::replica::{Observer, Replica};
use client::state::StateClient;
use client::tls::{Identity, TlsError};
use fsm::{LeaseName, Table};
use model::Role;
use tokio::task::JoinHandle;

use crate::background::{Background, Spec};
use crate::error_bodies;
use crate::gossip::{Directory, Gossip, GossipConfig, GossipError, KeyError, KeyRing, Tags, Timing};
use crate::metrics::Metrics;
use crate::pki::PkiError;
use crate::process::ready::Readiness;
use crate::process::{Settings, Shutdown, advertised, name_of, ops};
use crate::renew;
use crate::server::{self, Limits, Listener, Tls};
use crate::vouched::Vouching;

/// How often the address is looked at that others were told.
const ADDRESS_LOOK: Duration = Duration::from_secs(2);
/// Tag with the build's version.
pub const TAG_VERSION: &str = "version";

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    #[error("identity cannot be used")]
    Identity(#[from] TlsError),
    #[error("the certificate is for a {have}, this is a {want}")]
    Role { have: Role, want: Role },
    #[error("cannot listen on {addr}")]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error("gossip key cannot be used")]
    Key(#[from] KeyError),
    #[error("gossip does not start")]
    Gossip(#[from] GossipError),
    #[error("certificate authority cannot be used")]
    Pki(#[source] PkiError),
    #[error("{0} ended, which this service cannot do without")]
    Ended(&'static str),
    #[error("{0}")]
    Other(String),
}

/// A started service's surroundings. Clones share them.
#[derive(Clone)]
pub struct Shell {
    pub name: String,
    pub role: Role,
    pub settings: Arc<Settings>,
    /// Where others reach the internal listener.
    pub addr: SocketAddr,
    pub http: Http,
    pub gossip: Gossip,
    pub directory: Directory,
    pub readiness: Readiness,
    pub metrics: Metrics,
    pub background: Arc<Background>,
    pub shutdown: Shutdown,
    listener: Arc<Mutex<Option<Listener>>>,
    tags: Arc<Mutex<Tags>>,
    ended: Arc<OnceLock<&'static str>>,
}

/// What callers without a certificate of the cluster may do.
pub struct Stranger {
    /// The one path that they reach.
    pub path: &'static str,
    /// Some may have an operator's.
    pub vouching: Option<Vouching>,
}

impl Shell {
    /// Loads the identity, binds, joins.
    ///
    /// # Errors
    /// See [`ShellError`].
    pub async fn start(settings: Settings, role: Role, shutdown: Shutdown) -> Result<Self, ShellError> {
        let identity = Identity::load(&settings.identity_dir)?;
        let me = identity.me();
        if me.role != role {
            return Err(ShellError::Role { have: me.role, want: role });
        }
        let name = name_of(&settings, &me.name)
            .map_err(|error| ShellError::Other(format!("the host's name cannot be read: {error}")))?;
        let fail = |source| ShellError::Listen { addr: settings.bind, source };
        let listener = Listener::bind(settings.bind).map_err(fail)?;
        let addr = advertised(listener.local_addr().map_err(fail)?, settings.advertise, None);
        let http = Http::new(identity.clone());
        let keys = KeyRing::load(&settings.identity_dir.join("gossip.key"))?;
        let tags = BTreeMap::from([(TAG_VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
        let config = GossipConfig {
            name: name.clone(),
            role,
            region: settings.region.clone(),
            datacenter: settings.datacenter.clone(),
            api: addr,
            tags: tags.clone(),
            bind: settings.gossip_bind,
            advertise: settings.advertise,
            seeds: settings.join.clone(),
            keys,
            timing: Timing::default(),
        };
        let gossip = Gossip::start(config, http.clone(), shutdown.clone()).await?;
        tracing::info!(role = %role, name, addr = %addr, gossip = %gossip.local_addr(), "service started");
        let background = Arc::new(Background::new(shutdown.clone()));
        let shell = Self {
            name,
            role,
            settings: Arc::new(settings),
            addr,
            http,
            directory: gossip.directory(),
            gossip,
            readiness: Readiness::new(),
            metrics: Metrics::new(&[]),
            background,
            shutdown,
            listener: Arc::new(Mutex::new(Some(listener))),
            tags: Arc::new(Mutex::new(tags)),
            ended: Arc::default(),
        };
        shell.keep_identity(identity);
        shell.keep_address();
        Ok(shell)
    }

    /// The processes of this region, by role.
    pub fn peers(&self) -> Arc<dyn Peers> {
        Arc::new(self.directory.clone())
    }

    /// Tells everybody facts about this process, all at once, if they are news.
    pub async fn set_tags(&self, facts: impl IntoIterator<Item = (&str, String)>) {
        let tags = {
            let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
            let before = tags.clone();
            tags.extend(facts.into_iter().map(|(name, value)| (name.to_owned(), value)));
            if *tags == before {
                return;
            }
            tags.clone()
        };
        if let Err(error) = self.gossip.set_tags(tags).await {
            tracing::warn!(error = %error, "facts about this process are not told");
        }
    }

    /// A copy of these tables, which this process is not ready without.
    pub fn replica(&self, tables: &[Table], observer: Box<dyn Observer>) -> Replica {
        let replica = Replica::start(self.http.clone(), self.peers(), tables.to_vec(), observer, self.shutdown.token());
        let condition = self.readiness.condition("replica", "copy of the state is not there yet");
        let waiting = replica.clone();
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let day = Duration::from_secs(86_400);
            while shutdown.or(waiting.reached(model::Index(0), day)).await.is_some_and(|r| r.is_err()) {}
            condition.met();
        });
        replica
    }

    /// A caller of the state servers, in this process's role.
    pub fn state(&self) -> StateClient {
        StateClient::new(self.http.clone(), self.peers(), self.role)
    }

    /// Keeps, or waits for, the lease of this service's work, served at its internal listener. The task
    /// ends after shutdown, with the lease released.
    pub fn lease(&self, name: LeaseName, state: &StateClient, replica: &Replica) -> (LeaseKeeper, JoinHandle<()>) {
        let (holder, addr) = (self.name.clone(), self.addr.to_string());
        LeaseKeeper::start(state.clone(), replica.clone(), name, holder, addr, self.shutdown.token())
    }

    /// Runs work that the service is nothing without. Should it end before shutdown, by a panic say, the
    /// whole service ends, so that a standby takes over and whoever started it starts it again: better
    /// than to go on answering as if it were alive.
    pub fn vital(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let (shutdown, ended) = (self.shutdown.clone(), Arc::clone(&self.ended));
        let working = tokio::spawn(work);
        tokio::spawn(async move {
            let result = working.await;
            if !shutdown.is_requested() {
                let panicked = result.is_err_and(|e| e.is_panic());
                tracing::error!(name, panicked, "work ended that this service cannot do without, shutting down");
                let _ = ended.set(name);
                shutdown.request();
            }
        })
    }

    /// What the service ends with.
    ///
    /// # Errors
    /// [`ShellError::Ended`] when vital work ended.
    pub fn outcome(&self) -> Result<(), ShellError> {
        self.ended.get().map_or(Ok(()), |name| Err(ShellError::Ended(name)))
    }

    /// Serves until shutdown, then says goodbye.
    ///
    /// # Errors
    /// It serves already.
    pub async fn serve(&self, router: Router, openapi_json: &'static str) -> Result<(), ShellError> {
        self.serve_with(router, openapi_json, None, Limits::internal()).await
    }

    /// The same; callers without a certificate of the cluster get as far as is said.
    ///
    /// # Errors
    /// It serves already.
    pub async fn serve_with(
        &self,
        router: Router,
        openapi_json: &'static str,
        stranger: Option<Stranger>,
        limits: Limits,
    ) -> Result<(), ShellError> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listener = listener.ok_or_else(|| ShellError::Other("the listener is in use already".to_owned()))?;
        let router = router
            .merge(ops::router(self.readiness.clone(), self.metrics.clone(), openapi_json, &self.shutdown))
            .merge(self.gossip.router());
        let router = error_bodies::everywhere(router);
        let identity = self.http.identity().clone();
        let (tls, router) = match stranger {
            Some(Stranger { path, vouching }) => {
                (Tls::Doorstep(identity, vouching), server::only_known_but(router, path))
            }
            None => (Tls::Mutual(identity), router),
        };
        server::serve(listener, tls, router, limits, self.shutdown.clone()).await;
        self.gossip.left().await;
        self.background.finished().await;
        Ok(())
    }

    /// A container that is taken off its network and put back may have another address, which nobody was
    /// told: the process ends, and whoever started it starts it again under the new one.
    fn keep_address(&self) {
        let (settings, told) = (Arc::clone(&self.settings), self.addr);
        if settings.advertise.is_some() || !settings.bind.ip().is_unspecified() {
            return;
        }
        let bound = SocketAddr::new(settings.bind.ip(), told.port());
        self.vital("the address that others were told", async move {
            loop {
                client::calm::about(ADDRESS_LOOK).await;
                let now = advertised(bound, None, None);
                // Loopback: there is no network at present.
                if now != told && !now.ip().is_loopback() {
                    tracing::warn!(told = %told, now = %now, "address has changed");
                    return;
                }
            }
        });
    }

    fn keep_identity(&self, identity: Identity) {
        let (http, peers) = (self.http.clone(), self.peers());
        let spec = Spec { name: "identity", period: Duration::from_secs(30), limit: Duration::from_secs(20) };
        self.background.spawn(spec, move || {
            let (identity, http, peers) = (identity.clone(), http.clone(), Arc::clone(&peers));
            async move { renew::tend(&identity, &http, &*peers, Role::State).await }
        });
    }
}
