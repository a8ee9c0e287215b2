//! How many connections a listener has, in all and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    per_ip_max: Option<usize>,
    counts: Mutex<Counts>,
    refusals: Arc<Semaphore>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    /// Only kept where there is a limit by address.
    by_ip: HashMap<IpAddr, usize>,
}

/// The right to be connected; given back by dropping it.
pub(super) struct Pass {
    gate: Arc<Gate>,
    ip: IpAddr,
}

impl Gate {
    pub(super) fn new(connections_max: usize, per_ip_max: Option<usize>) -> Arc<Self> {
        let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
        Arc::new(Self { connections_max, per_ip_max, counts: Mutex::default(), refusals })
    }

    pub(super) fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Pass, Denied> {
        let ip = ip.to_canonical();
        let mut counts = self.lock();
        if counts.total >= self.connections_max {
            return Err(Denied::TooMany);
        }
        if let Some(max) = self.per_ip_max {
            let count = counts.by_ip.entry(ip).or_default();
            if *count >= max {
                return Err(Denied::TooManyFromAddress);
            }
            *count += 1;
        }
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

    #[test]
    fn an_address_may_hold_its_share_and_gets_it_back() {
        let gate = Gate::new(3, Some(2));
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
    }
}
