//! Talking to the cluster: register, beat, follow the stream, send news.
//!
//! ```text
//!   Apart ──pick a gateway──► Registering ──► Following ──line──► roster
//!     ▲                          │ failed        │ broken, stale, or asked to leave
//!     └────── jittered pause ◄───┴───────────────┘        beats and news run beside, to whom answers
//! ```
//!
//! * One stream is open at a time. It is resumed where it ended, by index and epoch; a listing that is older
//!   than what was seen (a gateway that has not caught up) is not believed, and another gateway asked.
//! * Rows have their job before anybody else sees them; a line that lacks one ends the stream and changes nothing.
//! * Beats do not depend on the stream: while it is being opened again they go to any gateway that answers,
//!   so a node is not declared down because one gateway died.
//! * The node is registered before the first stream, when the cluster says it does not know it, when the
//!   cluster's history is another one (a snapshot was restored), and when something about it changed.
//!
//! Driven by tasks that end with the process. It fails by being late: tasks run on, news waits.

pub mod beats;
pub mod news;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::Code;
use api::node::{Jobless, REGISTER, Register, Registered, STREAM, StreamLine};
use client::error::CallError;
use client::http::{Call, Http, Lines, Target};
use fsm::command::AllocClientUpdate;
use kit::process::Shutdown;
use kit::process::ready::Condition;
use model::{Node, NodeId, Role};
use tokio::sync::{Notify, watch};

use crate::gateways::Gateways;
pub use crate::roster::Listing;

/// For one call.
const CALL: Duration = Duration::from_secs(5);
/// Gateways say something each second.
const SILENCE: Duration = Duration::from_secs(4);
const LINE_BYTES_MAX: usize = 64 << 20;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Does what the cluster wants of a node.
pub trait Wishes: Send + Sync {
    /// What should run now; it does not wait for any of it.
    fn apply(&self, listing: Listing);
}

/// Remembers what the cluster has been told.
pub trait Told: Send + Sync {
    /// False: not yet.
    fn told(&self, update: Arc<AllocClientUpdate>) -> impl Future<Output = bool> + Send;
}

/// What the parts of the link share.
pub struct Link {
    pub http: Http,
    pub gateways: Gateways,
    pub node_id: NodeId,
    pub node: watch::Receiver<Arc<Node>>,
    pub wishes: Box<dyn Wishes>,
    pub period_ms: AtomicU64,
    /// The cluster wants the node registered again.
    pub register: Notify,
    /// A beat is wanted now.
    pub beat: Notify,
    pub registered: watch::Sender<bool>,
    /// A refusal of beats was told of.
    pub refused: AtomicBool,
    /// When a gateway last took a beat.
    pub beaten: Mutex<Option<Instant>>,
}

/// Where the stream was.
#[derive(Clone, Debug, Default)]
struct Position {
    index: u64,
    epoch: String,
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("no gateway is known")]
    NoGateway,
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("a line of the stream cannot be read")]
    Line(#[source] serde_json::Error),
    #[error("a line of the stream is not whole")]
    Jobless(#[from] Jobless),
    #[error("the gateway's listing is older than what was seen")]
    Stale,
    #[error("the stream does not continue where it was left")]
    Torn,
    #[error("the stream ended")]
    Ended,
}

/// Why a stream was left in good order.
enum Left {
    /// The gateway asked for it.
    Closed,
    Shutdown,
}

impl Link {
    pub fn new(
        http: Http,
        gateways: Gateways,
        node: watch::Receiver<Arc<Node>>,
        wishes: impl Wishes + 'static,
    ) -> Self {
        let node_id = node.borrow().id.clone();
        Self {
            http,
            gateways,
            node_id,
            node,
            wishes: Box::new(wishes),
            period_ms: AtomicU64::new(1_000),
            register: Notify::new(),
            beat: Notify::new(),
            registered: watch::Sender::new(false),
            refused: AtomicBool::new(false),
            beaten: Mutex::default(),
        }
    }

    /// When a gateway last took a beat.
    pub fn heard(&self) -> Option<Instant> {
        *self.beaten.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn target(addr: SocketAddr) -> Target {
        Target::new(addr, Role::Gateway)
    }

    /// Keeps the node registered and the stream open until shutdown.
    pub async fn follow(&self, registered: Condition, listing: Condition, shutdown: Shutdown) {
        let (mut position, mut failures, mut last) = (Position::default(), 0_u32, None);
        let mut must_register = true;
        while !shutdown.is_requested() {
            let before = position.index;
            let turn = self.turn(&mut position, &mut must_register, last, &registered, &listing, &shutdown);
            match shutdown.or(turn).await {
                None | Some(Ok(Left::Shutdown)) => return,
                Some(Ok(Left::Closed)) => (failures, last) = (0, self.gateways.current()),
                Some(Err(error)) => {
                    last = self.gateways.current().or(last);
                    if position.index > before {
                        failures = 0;
                    }
                    failures = failures.saturating_add(1);
                    if matches!(error, LinkError::Torn | LinkError::Line(_) | LinkError::Jobless(_)) {
                        position = Position::default();
                    }
                    // A stream that is torn may go on in another history, of a snapshot that was restored.
                    must_register |= asks_to_register(&error) || matches!(error, LinkError::Torn);
                    tell(failures, &error, last);
                    if let Some(addr) = last {
                        self.gateways.leave(addr);
                    }
                    listing.unmet(error.to_string());
                }
            }
            // A broken stream makes the node suspect until it beats.
            self.beat.notify_one();
            let _ = shutdown.or(tokio::time::sleep(pause(failures))).await;
        }
    }

    async fn turn(
        &self,
        position: &mut Position,
        must_register: &mut bool,
        last: Option<SocketAddr>,
        registered: &Condition,
        listing: &Condition,
        shutdown: &Shutdown,
    ) -> Result<Left, LinkError> {
        let addr = self.gateways.pick(last).await.ok_or(LinkError::NoGateway)?;
        self.gateways.settle(addr);
        if *must_register {
            self.register(addr).await?;
            *must_register = false;
            registered.met();
        }
        let Position { index, epoch } = &*position;
        let path = format!("{STREAM}?node={}&after={index}&epoch={epoch}", self.node_id);
        let stream = self.http.open_shared(Self::target(addr), Call::get(path, CALL), SILENCE).await?;
        tracing::info!(gateway = %addr, after = position.index, "following the gateway");
        self.beat.notify_one();
        self.read(stream.lines(LINE_BYTES_MAX), addr, position, listing, shutdown).await
    }

    async fn read(
        &self,
        mut lines: Lines,
        addr: SocketAddr,
        position: &mut Position,
        listing: &Condition,
        shutdown: &Shutdown,
    ) -> Result<Left, LinkError> {
        let mut node = self.node.clone();
        node.mark_unchanged();
        loop {
            let line = tokio::select! {
                line = lines.next() => line?.ok_or(LinkError::Ended)?,
                () = self.register.notified() => {
                    self.register(addr).await?;
                    continue;
                }
                changed = node.changed() => {
                    if changed.is_ok() {
                        self.register(addr).await?;
                    }
                    continue;
                }
                () = shutdown.requested() => return Ok(Left::Shutdown),
            };
            let mut line: StreamLine = serde_json::from_slice(&line).map_err(LinkError::Line)?;
            line.rejoin()?;
            if line.close {
                tracing::info!(gateway = %addr, "the gateway asks to be left");
                return Ok(Left::Closed);
            }
            self.take(line, position)?;
            listing.met();
        }
    }

    fn take(&self, line: StreamLine, position: &mut Position) -> Result<(), LinkError> {
        let same_epoch = line.epoch == position.epoch || line.epoch.is_empty();
        if line.full {
            if same_epoch && line.index.0 < position.index {
                return Err(LinkError::Stale);
            }
        } else if !same_epoch || position.epoch.is_empty() && position.index == 0 && !line.keepalive {
            return Err(LinkError::Torn);
        }
        let index = line.index.0;
        let epoch = line.epoch.clone();
        if !line.keepalive {
            let StreamLine { full, upserts, gone, .. } = line;
            self.wishes.apply(Listing { full, upserts, gone });
        }
        position.index = position.index.max(index);
        if !epoch.is_empty() && epoch != position.epoch {
            if !position.epoch.is_empty() {
                // A snapshot was restored: what it says of this node may be of another day.
                self.register.notify_one();
            }
            *position = Position { index, epoch };
        }
        Ok(())
    }

    async fn register(&self, addr: SocketAddr) -> Result<(), CallError> {
        let node = Node::clone(&self.node.borrow());
        // Not over the shared connection: HTTP/2 does not hand on why the peer does not take a certificate.
        let answer: Registered = self.http.post_json(Self::target(addr), REGISTER, &Register { node }, CALL).await?;
        self.adopt_period(answer.period_ms);
        tracing::info!(node_id = %self.node_id, gateway = %addr, index = answer.index.0, "node is registered");
        self.registered.send_replace(true);
        self.beat.notify_one();
        Ok(())
    }

    fn adopt_period(&self, period_ms: u64) {
        if period_ms > 0 {
            self.period_ms.store(period_ms.clamp(100, 600_000), Ordering::Relaxed);
        }
    }
}

/// The cluster does not know the node.
fn asks_to_register(error: &LinkError) -> bool {
    matches!(error, LinkError::Call(call) if call.code() == Code::NotFound.as_str())
}

/// The first failure of a series is worth a line, and then every tenth.
fn tell(failures: u32, error: &LinkError, gateway: Option<SocketAddr>) {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    let gateway = gateway.map(|addr| addr.to_string()).unwrap_or_default();
    let refused =
        matches!(error, LinkError::Call(call) if call.status().is_some_and(|s| matches!(s.as_u16(), 401 | 403 | 409)));
    let mistrust = match error {
        LinkError::Call(call) => call.mistrust(),
        _ => None,
    };
    if failures % 10 == 1
        && let Some(why) = mistrust
    {
        let advice = "introduce this node anew: an identity directory without certificate, and a token of its cluster";
        tracing::error!(
            gateway,
            error = text,
            failures,
            why,
            advice,
            "this node and the gateway do not believe each other"
        );
    } else if failures % 10 == 1 && refused {
        tracing::error!(gateway, error = text, failures, "the cluster refuses this node, trying again");
    } else if failures % 10 == 1 {
        tracing::warn!(gateway, error = text, failures, "no stream from the gateway, trying again");
    } else {
        tracing::debug!(gateway, error = text, failures, "no stream from the gateway, trying again");
    }
}

/// Longer with each failure in a row, and never the same for two agents.
fn pause(failures: u32) -> Duration {
    let most = PAUSE_MIN.saturating_mul(1 << failures.min(6)).min(PAUSE_MAX);
    rand::random_range(Duration::ZERO..=most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded_node_11() {
        for failures in [0, 1, 3, 10, 99] {
            for _ in 0..50 {
                let most = PAUSE_MIN.saturating_mul(1 << failures.min(6)).min(PAUSE_MAX);
                assert!(pause(failures) <= most);
            }
        }
    }
}
