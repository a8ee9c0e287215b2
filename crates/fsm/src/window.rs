//! Which requests were answered lately, and how: what makes a retry harmless.
//!
//! ```text
//!   id unknown, newer than the floor ──► apply, remember the reply
//!   id remembered, same body         ──► the remembered reply
//!   id remembered, other body        ──► RequestReused
//!   id at or below the floor, or older than the window by its proposer's clock ──► RequestTooOld
//! ```
//!
//! Time is what commands carry; no clock is read. The floor is the newest id that was forgotten, so an id
//! is either remembered or refused, never run twice. Clocks of proposers are assumed to agree within
//! seconds: one that runs ahead by more makes the others' requests too old until they are newer.

use std::sync::Arc;

use imbl::OrdMap;
use model::Index;
use serde::{Deserialize, Serialize};

use crate::command::{Refusal, Reply, RequestId};

/// How long a request is remembered, by the time in commands.
pub const WINDOW_MS: u64 = 120_000;
/// How many requests are remembered; beyond, the oldest are forgotten early.
pub const REQUESTS_MAX: usize = 100_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    pub seen: OrdMap<RequestId, Arc<Seen>>,
    pub floor: Option<RequestId>,
}

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    #[serde(rename = "b")]
    pub body: u64,
    #[serde(rename = "i")]
    pub index: Index,
    #[serde(rename = "r")]
    pub reply: Reply,
}

impl Window {
    /// The reply to give at once; `None` when the request is new.
    pub fn answer(&self, id: RequestId, body: u64, now_ms: u64) -> Option<Reply> {
        if let Some(seen) = self.seen.get(&id) {
            let same = seen.body == body;
            return Some(if same { seen.reply.clone() } else { Reply::Refused(Refusal::RequestReused) });
        }
        let forgotten = self.floor.is_some_and(|floor| id <= floor);
        let old = id.at_ms.saturating_add(WINDOW_MS) < now_ms;
        (forgotten || old).then_some(Reply::Refused(Refusal::RequestTooOld))
    }

    pub fn remember(&mut self, id: RequestId, seen: Seen, now_ms: u64) {
        self.seen.insert(id, Arc::new(seen));
        while let Some((oldest, _)) = self.seen.get_min() {
            let oldest = *oldest;
            let old = oldest.at_ms.saturating_add(WINDOW_MS) < now_ms;
            if !old && self.seen.len() <= REQUESTS_MAX {
                break;
            }
            self.seen.remove(&oldest);
            self.floor = self.floor.max(Some(oldest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(at_ms: u64) -> RequestId {
        RequestId { at_ms, random: 7 }
    }

    fn seen(body: u64) -> Seen {
        Seen { body, index: Index(1), reply: Reply::Done }
    }

    #[test]
    fn an_id_is_remembered_or_refused_but_never_forgotten_and_run() {
        let mut window = Window::default();
        window.remember(id(1_000), seen(5), 1_000);
        assert_eq!(window.answer(id(1_000), 5, 1_500), Some(Reply::Done));
        assert_eq!(window.answer(id(1_000), 6, 1_500), Some(Reply::Refused(Refusal::RequestReused)));
        assert_eq!(window.answer(id(1_001), 5, 1_500), None);
        window.remember(id(130_000), seen(5), 130_000);
        for old in [1, 999, 1_000] {
            assert_eq!(window.answer(id(old), 5, 1_000), Some(Reply::Refused(Refusal::RequestTooOld)), "{old}");
        }
        assert_eq!(window.answer(id(2_000), 5, 122_001), Some(Reply::Refused(Refusal::RequestTooOld)));
        assert_eq!(window.answer(id(2_000), 5, 122_000), None);
    }

    #[test]
    fn the_window_is_bounded_in_number() {
        let mut window = Window::default();
        for at in 0..REQUESTS_MAX as u64 + 3 {
            window.remember(id(at), seen(0), 0);
        }
        assert_eq!(window.seen.len(), REQUESTS_MAX);
        assert_eq!(window.floor, Some(id(2)));
    }
}
