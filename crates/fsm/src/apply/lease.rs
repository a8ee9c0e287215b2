//! Leases: who owns a piece of work. Time is no concern here: the raft leader watches the clock and
//! proposes the expiry.

use model::Term;

use super::tx::Tx;
use crate::change::{Change, Lease};
use crate::command::{LeaseName, Refusal, Reply};

/// Free, or left over from an earlier life of the same process. The term grows in both cases: what the
/// earlier life has still on its way is refused.
pub(super) fn acquire(tx: &mut Tx, name: LeaseName, holder: &str, addr: &str) -> Result<Reply, Refusal> {
    if holder.is_empty() {
        return Err(Refusal::Invalid("a lease needs a holder".to_owned()));
    }
    let current = tx.state.lease(name);
    if let Some(row) = current.filter(|row| !row.holder.is_empty() && row.holder != holder) {
        return Err(Refusal::LeaseHeld { lease: name, holder: row.holder.clone(), term: row.term });
    }
    let term = Term(current.map_or(0, |row| row.term.get()) + 1);
    let index = tx.index;
    tx.put(Change::Lease(Lease { name, holder: holder.to_owned(), addr: addr.to_owned(), term, index }));
    Ok(Reply::Lease { term })
}

pub(super) fn release(tx: &mut Tx, name: LeaseName, holder: &str, term: Term) -> Result<Reply, Refusal> {
    let row = held_by(tx, name, holder, term)?;
    tx.put(Change::Lease(free(&row)));
    Ok(Reply::Done)
}

/// Of a lease that is free already, or that another has meanwhile, nothing is taken.
pub(super) fn expire(tx: &mut Tx, name: LeaseName, term: Term) -> Result<Reply, Refusal> {
    let current = tx.state.lease(name).cloned();
    match current {
        Some(row) if row.term == term => {
            if !row.holder.is_empty() {
                tx.put(Change::Lease(free(&row)));
            }
            Ok(Reply::Done)
        }
        row => Err(stale(name, term, row.as_deref())),
    }
}

fn free(row: &Lease) -> Lease {
    Lease { holder: String::new(), addr: String::new(), ..row.clone() }
}

fn held_by(tx: &Tx, name: LeaseName, holder: &str, term: Term) -> Result<Lease, Refusal> {
    let row = tx.state.lease(name);
    match row {
        Some(row) if row.term == term && row.holder == holder && !holder.is_empty() => Ok(Lease::clone(row)),
        row => Err(stale(name, term, row.map(AsRef::as_ref))),
    }
}

fn stale(lease: LeaseName, given: Term, row: Option<&Lease>) -> Refusal {
    Refusal::StaleLease { lease, given, current: row.map_or(Term(0), |row| row.term) }
}
