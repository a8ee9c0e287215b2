//! HTTPS of the public API, with an operator's certificate.
//!
//! ```text
//!   files ─ load ─► rustls configuration ─► every new connection
//!     └── changed (looked at each 5 s), or SIGHUP ── load again: good ─► in use from here on
//!                                                          bad  ─► a line in the log, the old one stays
//! ```
//!
//! Connections that are open go on under the certificate they began with; nothing restarts. Only these files
//! decide who is believed: the cluster's own certificates (see [`crate::pki`]) play no part here.
//!
//! Driven by [`Https::keep`], a task per listener. It fails by keeping what it has.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use client::tls::{TlsError, not_after, provider, read_certs, read_key};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::process::Shutdown;

const LOOK: Duration = Duration::from_secs(5);
/// An operator renews by hand: told so long before.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);
const WARN_EVERY: Duration = Duration::from_secs(86_400);

/// The files, and what is asked of callers.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct HttpsSettings {
    /// Certificate of the public API, PEM: it is served by HTTPS.
    #[arg(long = "http-cert-file", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Key of that certificate, PEM.
    #[arg(long = "http-key-file", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Authority of callers' certificates, PEM: only callers that have one are served.
    #[arg(long = "http-client-ca-file", requires = "cert")]
    pub client_ca: Option<PathBuf>,
    /// Offer TLS 1.3 only, not 1.2.
    #[arg(long = "http-tls13", requires = "cert")]
    pub tls13: bool,
}

impl HttpsSettings {
    /// Whether callers must show who they are.
    pub fn verifies(&self) -> bool {
        self.cert.is_some() && self.client_ca.is_some()
    }
}

/// What a listener serves with; clones share it.
#[derive(Clone)]
pub struct Https(Arc<Inner>);

struct Inner {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    tls13: bool,
    in_use: ArcSwap<InUse>,
}

struct InUse {
    config: Arc<ServerConfig>,
    not_after: SystemTime,
    stamp: Vec<Option<(SystemTime, u64)>>,
}

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Https({})", self.0.cert.display())
    }
}

impl Https {
    /// Reads the files; `None` when there is to be no HTTPS.
    ///
    /// # Errors
    /// They cannot be read, or do not fit together.
    pub fn load(settings: &HttpsSettings) -> Result<Option<Self>, TlsError> {
        let (Some(cert), Some(key)) = (settings.cert.clone(), settings.key.clone()) else {
            return Ok(None);
        };
        let files = Files { cert: &cert, key: &key, client_ca: settings.client_ca.as_ref(), tls13: settings.tls13 };
        let in_use = ArcSwap::from_pointee(files.read()?);
        let (client_ca, tls13) = (settings.client_ca.clone(), settings.tls13);
        Ok(Some(Self(Arc::new(Inner { cert, key, client_ca, tls13, in_use }))))
    }

    /// What a new connection is served with.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.in_use.load().config.clone()
    }

    /// Reads the files again; those that are not good change nothing.
    ///
    /// # Errors
    /// As [`Https::load`].
    pub fn reload(&self) -> Result<(), TlsError> {
        self.0.in_use.store(Arc::new(self.files().read()?));
        Ok(())
    }

    fn files(&self) -> Files<'_> {
        let Inner { cert, key, client_ca, tls13, .. } = &*self.0;
        Files { cert, key, client_ca: client_ca.as_ref(), tls13: *tls13 }
    }

    /// Keeps what is served up to date until shutdown.
    ///
    /// # Errors
    /// SIGHUP cannot be listened for.
    pub fn keep(&self, shutdown: Shutdown) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup())?;
        let this = self.clone();
        tokio::spawn(async move {
            let (mut refused, mut warned) = (None, None);
            loop {
                this.warn_of_the_end(&mut warned);
                let asked = tokio::select! {
                    _ = hangup.recv() => true,
                    () = client::calm::about(LOOK) => false,
                    () = shutdown.requested() => return,
                };
                let stamp = this.files().stamp();
                let changed = stamp != this.0.in_use.load().stamp && refused.as_ref() != Some(&stamp);
                if !asked && !changed {
                    continue;
                }
                match this.reload() {
                    Ok(()) => {
                        (refused, warned) = (None, None);
                        tracing::info!(cert = %this.0.cert.display(), "an operator's certificate was read again");
                    }
                    Err(error) => {
                        // Said once for these files; a renewal that is under way changes them again.
                        refused = Some(stamp);
                        tracing::warn!(error = %chain(&error), "an operator's certificate cannot be read again, the old one stays");
                    }
                }
            }
        });
        Ok(())
    }

    fn warn_of_the_end(&self, warned: &mut Option<SystemTime>) {
        let now = SystemTime::now();
        if warned.is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < WARN_EVERY)) {
            return;
        }
        match self.0.in_use.load().not_after.duration_since(now) {
            Ok(left) if left > WARN_BEFORE => return,
            Ok(left) => {
                tracing::warn!(
                    cert = %self.0.cert.display(),
                    hours = left.as_secs() / 3600,
                    "an operator's certificate ends soon, replace its files"
                );
            }
            Err(_) => {
                tracing::error!(cert = %self.0.cert.display(), "an operator's certificate has expired, replace its files")
            }
        }
        *warned = Some(now);
    }
}

struct Files<'a> {
    cert: &'a PathBuf,
    key: &'a PathBuf,
    client_ca: Option<&'a PathBuf>,
    tls13: bool,
}

impl Files<'_> {
    fn stamp(&self) -> Vec<Option<(SystemTime, u64)>> {
        let files = [Some(self.cert), Some(self.key), self.client_ca];
        let stamp = |file: &PathBuf| {
            let meta = std::fs::metadata(file).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        files.into_iter().flatten().map(stamp).collect()
    }

    fn read(&self) -> Result<InUse, TlsError> {
        // Stamped before reading: a change while we read is seen the next time.
        let stamp = self.stamp();
        let chain = read_certs(self.cert)?;
        let not_after = chain.first().ok_or(TlsError::Certificate).and_then(not_after)?;
        let versions: &[_] = if self.tls13 { &[&rustls::version::TLS13] } else { rustls::ALL_VERSIONS };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(TlsError::Material)?;
        let builder = match self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for cert in read_certs(ca)? {
                    roots.add(cert).map_err(TlsError::Material)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                builder.with_client_cert_verifier(verifier.build().map_err(TlsError::Ca)?)
            }
        };
        let mut config = builder.with_single_cert(chain, read_key(self.key)?).map_err(TlsError::Material)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if self.client_ca.is_some() {
            // A session must not outlive the trust in whoever began it.
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        }
        Ok(InUse { config: Arc::new(config), not_after, stamp })
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
