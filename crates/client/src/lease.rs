//! Who owns a piece of work that must have one owner: this process, or another?
//!
//! ```text
//!   standby ──(row free)──► LeaseAcquire ──► holder ──renew each second──► holder
//!      ▲                                        │ refused, or 2 s since the last good renewal was sent
//!      └────────────────────────────────────────┘
//! ```
//!
//! Invariants
//! * A renewal is a sign of life, kept by the raft leader in memory and not in the log: nothing is written
//!   while nothing happens. The leader answers how long ago a quorum was with it.
//! * [`Held::is_valid`] is false 2 s after the last successful renewal was *sent*, less that age, measured
//!   on a clock that counts sleep. The leader, or its successor, which was elected after that, has the lease
//!   expire 3 s later at the earliest. So two holders never both believe.
//! * A lease that has lapsed is never taken up again: the holder acquires it anew, at a higher term.
//! * A row under this process's own name but with another address is left over from an earlier life, or
//!   another process has the same name. It is taken over once, at the start; so of two processes of one
//!   name the younger holds the lease, and they do not take it from each other for ever.
//! * Belief is a courtesy all the same: every command carries the term, and the state machine refuses a
//!   stale one.
//!
//! Driven by one task; services watch [`LeaseKeeper::held`].

use std::sync::Arc;
use std::time::Duration;

use api::Code;
use api::state::RenewLease;
use fsm::Reply;
use fsm::command::{Command, LeaseFence, LeaseName};
use model::{Index, Term};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::replica::Replica;
use crate::state::{ProposeError, StateClient};
use crate::{calm, clock};

/// At the latest: a call that takes all its time must still be over before the lease is.
const RENEW_EVERY: Duration = Duration::from_millis(900);
const VALID_FOR: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_millis(900);
const POLL: Duration = Duration::from_millis(100);
/// While another holds it: a change of the row is seen at once, that the whole state was replaced may not be.
const LOOK: Duration = Duration::from_secs(3);

/// The lease as this process holds it.
#[derive(Clone, Debug)]
pub struct Held {
    pub name: LeaseName,
    pub term: Term,
    /// Where it was acquired: everything earlier must be seen before acting.
    pub index: Index,
    valid_until: Arc<std::sync::atomic::AtomicU64>,
}

impl Held {
    /// Whether this process may still act.
    pub fn is_valid(&self) -> bool {
        let until = self.valid_until.load(std::sync::atomic::Ordering::Acquire);
        u64::try_from(clock::boot_time().as_millis()).unwrap_or(u64::MAX) < until
    }

    /// Goes with every command.
    pub fn fence(&self) -> LeaseFence {
        LeaseFence { lease: self.name, term: self.term }
    }

    fn extend(&self, sent: Duration) {
        let until = u64::try_from((sent + VALID_FOR).as_millis()).unwrap_or(u64::MAX);
        self.valid_until.store(until, std::sync::atomic::Ordering::Release);
    }
}

/// Keeps, or waits for, one lease.
#[derive(Clone)]
pub struct LeaseKeeper {
    held: watch::Receiver<Option<Held>>,
}

impl LeaseKeeper {
    /// `holder` is this process's name, `addr` where the work is served.
    pub fn start(
        state: StateClient,
        replica: Replica,
        name: LeaseName,
        holder: String,
        addr: String,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, held) = watch::channel(None);
        let keeper = Keeper { state, replica, name, holder, addr, held: sender, young: true };
        let task = tokio::spawn(keeper.run(stop));
        (Self { held }, task)
    }

    /// The lease, if this process holds it and may act.
    pub fn current(&self) -> Option<Held> {
        self.held.borrow().clone().filter(Held::is_valid)
    }

    /// Changes hands: `Some` when acquired, `None` when lost.
    pub fn watch(&self) -> watch::Receiver<Option<Held>> {
        self.held.clone()
    }
}

struct Keeper {
    state: StateClient,
    replica: Replica,
    name: LeaseName,
    holder: String,
    addr: String,
    held: watch::Sender<Option<Held>>,
    /// It has not held the lease yet: a row of its name may be its former self's.
    young: bool,
}

impl Keeper {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.turn() => {}
            }
        }
        let held = self.held.borrow().clone();
        if let Some(held) = held {
            self.held.send_replace(None);
            let release = Command::LeaseRelease { lease: self.name, holder: self.holder.clone(), term: held.term };
            // At worst it runs out by itself.
            let _ = self.state.propose(release, None, CALL).await;
        }
    }

    async fn turn(&mut self) {
        let held = self.held.borrow().clone();
        match held {
            Some(held) => self.renew(&held).await,
            None => self.acquire().await,
        }
    }

    async fn acquire(&mut self) {
        let seen = self.replica.index();
        if !self.is_free() {
            // Until the row may have changed.
            let _ = self.replica.past(seen, LOOK).await;
            return;
        }
        let sent = clock::boot_time();
        let acquire = Command::LeaseAcquire { lease: self.name, holder: self.holder.clone(), addr: self.addr.clone() };
        match self.state.propose(acquire, None, CALL).await {
            Ok((index, Reply::Lease { term })) => {
                let held = Held { name: self.name, term, index, valid_until: Arc::default() };
                held.extend(sent);
                tracing::info!(lease = ?self.name, term = term.get(), "lease acquired");
                self.young = false;
                self.held.send_replace(Some(held));
            }
            Ok(_) | Err(ProposeError::Refused(_)) => tokio::time::sleep(POLL).await,
            Err(error) => {
                tracing::debug!(lease = ?self.name, error = %error, "lease not acquired");
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// Free, or this process's own: acquired without its knowing, lapsed, or of an earlier life.
    fn is_free(&self) -> bool {
        if !self.replica.is_ready() {
            return false;
        }
        let state = self.replica.state();
        state.lease(self.name).is_none_or(|lease| {
            lease.holder.is_empty() || lease.holder == self.holder && (self.young || lease.addr == self.addr)
        })
    }

    async fn renew(&self, held: &Held) {
        let sent = clock::boot_time();
        let renewal = RenewLease { lease: self.name, holder: self.holder.clone(), term: held.term };
        let result = self.state.renew_lease(&renewal, CALL).await;
        let lost = match &result {
            // A standstill in between may have been long enough for somebody to notice: begin anew.
            Ok(_) if !held.is_valid() => true,
            Ok(age) => {
                held.extend(sent.saturating_sub(*age));
                false
            }
            Err(ProposeError::Rejected(error)) if error.code() == Code::StaleTerm.as_str() => true,
            Err(_) => !held.is_valid(),
        };
        if lost {
            tracing::warn!(lease = ?self.name, term = held.term.get(), "lease lost");
            self.held.send_replace(None);
            return;
        }
        let left = |pause: Duration| pause.saturating_sub(clock::boot_time().saturating_sub(sent));
        if result.is_ok() {
            calm::between(left(RENEW_EVERY / 2), left(RENEW_EVERY)).await;
        } else {
            tokio::time::sleep(left(POLL)).await;
        }
    }
}
