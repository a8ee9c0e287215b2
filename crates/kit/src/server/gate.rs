//! How many connections a listener has, in all and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::live::Live;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many refusals are answered at once; beyond, a connection is just closed.
const REFUSALS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    TooMany,
    TooManyFromAddress,
}

pub(super) struct Gate {
    connections_max: usize,
    live: Live,
    counts: Mutex<Counts>,
    refusals: Arc<Semaphore>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// The right to be connected; given back by dropping it.
pub(super) struct Pass {
    gate: Arc<Gate>,
    ip: IpAddr,
}

impl Gate {
    pub(super) fn new(connections_max: usize, live: Live) -> Arc<Self> {
        let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
        Arc::new(Self { connections_max, live, counts: Mutex::default(), refusals })
    }

    pub(super) fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Pass, Denied> {
        let ip = ip.to_canonical();
        let mut counts = self.lock();
        if counts.total >= self.connections_max {
            return Err(Denied::TooMany);
        }
        // Counted without a limit, too: there may be one while they last.
        let count = counts.by_ip.get(&ip).copied().unwrap_or(0);
        if self.live.per_ip_max().is_some_and(|max| count >= max) {
            return Err(Denied::TooManyFromAddress);
        }
        counts.by_ip.insert(ip, count + 1);
        counts.total += 1;
        Ok(Pass { gate: self.clone(), ip })
    }

    pub(super) fn refusal_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.refusals.clone().try_acquire_owned().ok()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.gate.lock();
        counts.total -= 1;
        if let Some(count) = counts.by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Limits;

    #[test]
    fn an_address_may_hold_its_share_and_gets_it_back() {
        let limits = |most: usize| Limits { connections_per_ip_max: Some(most), ..Limits::internal() };
        let live = Live::of(&limits(2));
        let gate = Gate::new(3, live.clone());
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = gate.enter(a).ok();
        let _second = gate.enter(a).ok();
        assert_eq!(gate.enter(a).err(), Some(Denied::TooManyFromAddress));
        let _third = gate.enter(b).ok();
        assert_eq!(gate.enter(b).err(), Some(Denied::TooMany));
        drop(first);
        assert!(gate.enter(a).is_ok());
        assert_eq!(gate.lock().total, 2);
        assert_eq!(gate.lock().by_ip.len(), 2);
        live.set(&limits(1));
        assert_eq!(gate.enter(a).err(), Some(Denied::TooManyFromAddress));
        live.set(&Limits { connections_per_ip_max: None, ..limits(1) });
        assert!(gate.enter(a).is_ok());
    }
}
