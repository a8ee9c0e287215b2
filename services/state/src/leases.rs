//! How long is a lease held whose holder says nothing?
//!
//! Who holds a lease, and at which term, is in the log. Signs of life are not: they come in each second,
//! change no row, and are worth nothing after a few seconds. The raft leader remembers when the last one
//! came ([`Renewals`]) and proposes the expiry of what has been silent for [`TTL`]. A new leader knows of
//! none and gives every holder the full time.
//!
//! A sign of life is answered with how long ago a quorum was with the leader. A deposed leader, which does
//! not know it yet, can take one in vain, but its answer carries an age that grows: its successor was elected
//! after that, and waits for [`TTL`] from then on.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::state::{LEASE, RaftContact, RenewLease};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use client::clock::boot_time;
use client::http::Call;
use fsm::LeaseName;
use kit::guard::{Peer, Refused, require};
use model::{Role, Term};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::routes::{App, FORWARD, millis};

/// A holder that was silent for this long loses its lease.
pub const TTL: Duration = Duration::from_secs(3);
/// A leader whom no quorum has answered for so long takes no sign of life.
const QUORUM: Duration = Duration::from_secs(1);

/// The holders, and state servers, which hand on what is the leader's.
const HOLDERS: &[Role] = &[Role::Broker, Role::Applier, Role::Controller, Role::State];

/// When this server last heard of each holder. Only a leader's is up to date.
#[derive(Debug, Default)]
pub struct Renewals(Mutex<HashMap<LeaseName, (Term, Duration)>>);

impl Renewals {
    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<LeaseName, (Term, Duration)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sign of life of the holder that `state` names; or why it is none.
    fn renew(&self, state: &fsm::State, renewal: &RenewLease, now: Duration) -> Result<(), Refused> {
        let row = state.lease(renewal.lease);
        let term = row.map_or(Term(0), |row| row.term);
        if term < renewal.term {
            return Err(Refused::new(Code::NotReady, "the leader has not applied its own log yet"));
        }
        if term > renewal.term || row.is_none_or(|row| row.holder.is_empty() || row.holder != renewal.holder) {
            let text = format!("term {} is over, the lease's present one is {}", renewal.term.get(), term.get());
            return Err(Refused::new(Code::StaleTerm, text));
        }
        self.seen().insert(renewal.lease, (term, now));
        Ok(())
    }

    /// Leases whose holder was silent for [`TTL`]. Forgets nothing: the caller proposes their expiry, which
    /// the log decides. One not heard of yet has its time from now on.
    pub fn silent(&self, state: &fsm::State, now: Duration) -> Vec<(LeaseName, Term)> {
        let mut seen = self.seen();
        let held =
            LeaseName::ALL.into_iter().filter_map(|name| state.lease(name)).filter(|lease| !lease.holder.is_empty());
        held.filter_map(|lease| {
            let last = seen.entry(lease.name).or_insert((lease.term, now));
            if last.0 != lease.term {
                *last = (lease.term, now);
            }
            (now.saturating_sub(last.1) > TTL).then_some((lease.name, lease.term))
        })
        .collect()
    }

    /// Gives every holder the full time again: this server has just become the leader.
    pub fn restart(&self) {
        self.seen().clear();
    }
}

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(renew_lease)).layer(require(HOLDERS))
}

/// Go on holding a lease
///
/// A sign of life from the holder; nothing is written. Any state server takes it and hands it to the leader.
#[utoipa::path(post, path = LEASE, operation_id = "renewLease", tag = "log", request_body = RenewLease,
    responses(
        (status = 200, description = "Held on, as of so long ago", body = RaftContact),
        (status = 403, description = "Another role's lease", body = ErrorBody),
        (status = 409, description = "The term is over", body = ErrorBody),
        (status = 503, description = "No leader", body = ErrorBody)))]
async fn renew_lease(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    Json(renewal): Json<RenewLease>,
) -> Result<Response, Refused> {
    if peer.role != Role::State && peer.role != renewal.lease.role() {
        return Err(Refused::new(Code::Forbidden, format!("a {} may not hold this lease", peer.role)));
    }
    let running = app.running()?;
    let status = running.raft.status().borrow().clone();
    if !status.is_leader() {
        let call = Call::post(LEASE, FORWARD).json(&renewal);
        let call = call.map_err(|e| Refused::new(Code::BadRequest, e.to_string()))?;
        return app.forward(status.leader, &headers, call).await;
    }
    let age = running.raft.contact().filter(|age| *age < QUORUM);
    let age = age.ok_or_else(|| Refused::new(Code::NoLeader, "no quorum answers this leader"))?;
    app.server.renewals().renew(&running.machine.state(), &renewal, boot_time())?;
    Ok((app.leader_header(&running), Json(RaftContact { age_ms: millis(age) })).into_response())
}

#[cfg(test)]
mod tests {
    use fsm::command::Envelope;
    use fsm::{Command, Reply};
    use model::Index;

    use super::*;

    fn apply(state: &mut fsm::State, proposer: Role, command: Command) {
        let envelope = Envelope { request: None, proposer, lease: None, now: 1, command };
        let index = Index(state.index().get() + 1);
        let reply = fsm::apply(state, index, &envelope).reply;
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
    }

    fn acquired(state: &mut fsm::State, holder: &str) {
        let lease = LeaseName::Broker;
        apply(state, Role::Broker, Command::LeaseAcquire { lease, holder: holder.into(), addr: "127.0.0.1:1".into() });
    }

    fn renewal(holder: &str, term: u64) -> RenewLease {
        RenewLease { lease: LeaseName::Broker, holder: holder.into(), term: Term(term) }
    }

    fn code(refused: Result<(), Refused>) -> Code {
        refused.unwrap_err().0.code()
    }

    #[test]
    fn a_holder_that_is_silent_for_three_seconds_is_named_and_one_that_renews_is_not() {
        let (mut state, renewals) = (fsm::State::default(), Renewals::default());
        acquired(&mut state, "one");
        let at = Duration::from_secs;
        assert!(renewals.silent(&state, at(10)).is_empty(), "its time begins");
        assert!(renewals.silent(&state, at(13)).is_empty());
        renewals.renew(&state, &renewal("one", 1), at(13)).unwrap();
        assert!(renewals.silent(&state, at(16)).is_empty());
        assert_eq!(renewals.silent(&state, at(17)), [(LeaseName::Broker, Term(1))]);
        renewals.restart();
        assert!(renewals.silent(&state, at(17)).is_empty(), "a new leader gives it the full time");
        acquired(&mut state, "one");
        assert!(renewals.silent(&state, at(21)).is_empty(), "another term, another time");
    }

    #[test]
    fn only_the_present_holder_at_its_present_term_renews() {
        let (mut state, renewals) = (fsm::State::default(), Renewals::default());
        assert_eq!(code(renewals.renew(&state, &renewal("one", 1), TTL)), Code::NotReady);
        acquired(&mut state, "one");
        acquired(&mut state, "one");
        assert_eq!(code(renewals.renew(&state, &renewal("one", 1), TTL)), Code::StaleTerm);
        assert_eq!(code(renewals.renew(&state, &renewal("two", 2), TTL)), Code::StaleTerm);
        assert_eq!(code(renewals.renew(&state, &renewal("one", 3), TTL)), Code::NotReady, "not applied here yet");
        apply(&mut state, Role::State, Command::LeaseExpire { lease: LeaseName::Broker, term: Term(2) });
        assert_eq!(code(renewals.renew(&state, &renewal("one", 2), TTL)), Code::StaleTerm);
        assert_eq!(code(renewals.renew(&state, &renewal("", 2), TTL)), Code::StaleTerm, "nobody holds it");
    }
}
