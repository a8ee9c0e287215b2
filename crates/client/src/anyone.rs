//! Asks whoever of a role can be reached, for work that each of its processes can do.
//!
//! A process that is frozen, starting or gone is passed over; what one of them refuses for good, all would
//! refuse. While nobody answers, all are asked again until the asker's patience ends: a cluster that has just
//! started, or lost a machine, has them a moment later.

use std::time::Duration;

use api::ErrorBody;
use futures::Stream;
use futures::stream::{FuturesUnordered, StreamExt};
use http::StatusCode;
use model::Role;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::error::CallError;
use crate::http::{Call, Http, Target, decode};
use crate::peers::{PeerAddr, Peers};

const AGAIN: Duration = Duration::from_millis(100);
/// As many are asked in any case; each that is frozen costs a call's whole deadline.
const ASKED_MIN: usize = 3;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unheard {
    #[error("{}", body.message)]
    Refused { status: StatusCode, body: Box<ErrorBody> },
    #[error("no {role} answers")]
    Silent {
        role: Role,
        /// Of whom was asked last; without, none is known.
        #[source]
        last: Option<CallError>,
    },
}

/// The processes of one role, as askable.
#[derive(Clone, Copy)]
pub struct Anyone<'a> {
    http: &'a Http,
    peers: &'a dyn Peers,
    role: Role,
    first: usize,
    patience: Duration,
}

impl<'a> Anyone<'a> {
    /// All once, and no more than three when they do not answer at once; see [`Self::patient`].
    pub fn new(http: &'a Http, peers: &'a dyn Peers, role: Role) -> Self {
        Self { http, peers, role, first: 0, patience: Duration::ZERO }
    }

    /// Asks again and again for so long, one round or three of them at the least. For calls that are as good made twice.
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Begins with another than the first of them.
    #[must_use]
    pub fn beginning_at(mut self, first: usize) -> Self {
        self.first = first;
        self
    }

    /// The first answer, of one after the other.
    ///
    /// # Errors
    /// One refuses for good, or none answers.
    pub async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Unheard> {
        let until = Instant::now() + self.patience.max(AGAIN);
        let (mut last, mut asked) = (None, 0);
        loop {
            let peers = self.peers.peers(self.role);
            for at in 0..peers.len() {
                if asked >= ASKED_MIN && Instant::now() >= until {
                    return Err(Unheard::Silent { role: self.role, last });
                }
                asked += 1;
                let peer = &peers[(self.first + at) % peers.len()];
                match self.of(peer, call).await {
                    Ok(answer) => return Ok(answer),
                    Err(CallError::Status { status, body, .. }) if lasting(status) => {
                        return Err(Unheard::Refused { status, body: Box::new(body) });
                    }
                    Err(error) => last = Some(error),
                }
            }
            if Instant::now() + AGAIN >= until {
                return Err(Unheard::Silent { role: self.role, last });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The answers of all of them, asked at once, as they come.
    pub fn ask_all<T: DeserializeOwned + 'a>(&self, call: &'a Call) -> impl Stream<Item = T> + use<'a, T> {
        let asker = *self;
        let asked: FuturesUnordered<_> =
            asker.peers.peers(asker.role).into_iter().map(|peer| async move { asker.of(&peer, call).await }).collect();
        asked.filter_map(|answer| async { answer.ok() })
    }

    async fn of<T: DeserializeOwned>(&self, peer: &PeerAddr, call: &Call) -> Result<T, CallError> {
        let target = Target::new(peer.addr, self.role);
        let answer = self.http.call(&target, call.clone()).await.and_then(|reply| decode(peer.addr, &reply.body));
        answer.inspect_err(|error| {
            tracing::debug!(peer = peer.name, role = %self.role, path = call.path, %error, "asked in vain");
        })
    }
}

/// Every process of the role would refuse it, now and later: not one that is slow, busy, or of another version.
pub fn lasting(status: StatusCode) -> bool {
    let passing = [StatusCode::METHOD_NOT_ALLOWED, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    status.is_client_error() && !passing.contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_or_a_later_moment_may_take_is_not_refused_for_good() {
        let lasts = |code| lasting(StatusCode::from_u16(code).expect("it is a status"));
        assert!([400, 403, 404, 409, 413, 422].into_iter().all(lasts));
        assert!(![200, 405, 408, 429, 500, 503].into_iter().any(lasts));
    }
}
