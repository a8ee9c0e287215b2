//! Which allocations of a node may the cluster have changed its mind about, since its stream was last told?
//!
//! A stream that is woken looks these up instead of walking everything its node has. They are hints: the stream looks at
//! each row and tells what is news by its index.
//!
//! Invariants
//! * Whatever a view shows was noted before the view could be seen, and a list that is opened has what came behind
//!   [`List::since`]: so rows that changed between that and any view are in it, or it says that it is not whole.
//! * A list is bounded; one that was full says so ([`List::take`]), and its stream walks its node's rows once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{AllocId, Index, NodeId};

/// Hints that one stream keeps; a burst puts some hundred allocations on a node.
const LIST_MAX: usize = 1_024;

#[derive(Default)]
struct Noted {
    allocs: Vec<(Index, AllocId)>,
    /// Nothing that changed up to here is known one by one.
    lost: Index,
}

/// The lists of all streams.
#[derive(Default)]
pub struct Wishes(Mutex<HashMap<NodeId, Arc<Mutex<Noted>>>>);

/// One stream's. That of a newer stream of the same node takes its place; the older one is not whole from then on, and
/// its stream, should it be the one that lives, walks its node's rows.
pub struct List {
    noted: Arc<Mutex<Noted>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wishes {
    /// Opens a node's list; `now` gives the index of the view that is shown.
    pub fn open(&self, node: &NodeId, now: impl FnOnce() -> Index) -> List {
        let mut lists = lock(&self.0);
        // Those of streams that have ended.
        if lists.len() >= lists.capacity() {
            lists.retain(|_, noted| Arc::strong_count(noted) > 1);
        }
        let noted = Arc::new(Mutex::new(Noted { allocs: Vec::new(), lost: now() }));
        if let Some(old) = lists.insert(node.clone(), Arc::clone(&noted)) {
            lock(&old).lost = Index(u64::MAX);
        }
        List { noted }
    }

    /// Notes what changed, and shows it: nobody opens a list between the two.
    pub fn note(&self, changed: impl Iterator<Item = (Index, NodeId, AllocId)>, show: impl FnOnce()) {
        let lists = lock(&self.0);
        for (index, node, alloc) in changed {
            let Some(noted) = lists.get(&node) else { continue };
            let mut noted = lock(noted);
            if noted.allocs.len() >= LIST_MAX {
                noted.allocs.clear();
                noted.lost = index;
            }
            noted.allocs.push((index, alloc));
        }
        show();
    }
}

impl List {
    /// Whether `is_news` holds for anything noted up to `until`; `None` when that is not all that changed behind `told`.
    pub fn any(&self, told: Index, until: Index, is_news: impl Fn(&AllocId) -> bool) -> Option<bool> {
        let noted = lock(&self.noted);
        let mut shown = noted.allocs.iter().filter(|(index, _)| told < *index && *index <= until);
        (noted.lost <= told).then(|| shown.any(|(_, alloc)| is_news(alloc)))
    }

    /// Takes what was noted up to `until`, each once, in order of their ids; `None` when that is not all that changed
    /// behind `told`.
    pub fn take(&self, told: Index, until: Index) -> Option<Vec<AllocId>> {
        let mut noted = lock(&self.noted);
        let end = noted.allocs.partition_point(|(index, _)| *index <= until);
        let taken: Vec<AllocId> = noted.allocs.drain(..end).map(|(_, alloc)| alloc).collect();
        if noted.lost > told {
            return None;
        }
        drop(noted);
        let mut ids = taken;
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(index: u64, alloc: &str) -> (Index, NodeId, AllocId) {
        (Index(index), "n".into(), alloc.into())
    }

    fn ids(taken: Option<Vec<AllocId>>) -> Option<Vec<String>> {
        taken.map(|ids| ids.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_changed_behind_a_view_is_named_once_and_later_changes_wait_for_theirs() {
        let wishes = Wishes::default();
        let list = wishes.open(&"n".into(), || Index(4));
        wishes.note([change(5, "b"), change(6, "a"), change(6, "b"), change(9, "c")].into_iter(), || ());
        wishes.note([(Index(7), "other".into(), "x".into())].into_iter(), || ());
        let any = |told, until| list.any(Index(told), Index(until), |_| true);
        assert_eq!((any(4, 6), any(6, 8), any(3, 8)), (Some(true), Some(false), None));
        assert_eq!(list.any(Index(4), Index(6), |id| id.as_str() == "c"), Some(false), "that is not shown yet");
        assert_eq!(ids(list.take(Index(4), Index(6))), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(ids(list.take(Index(6), Index(9))), Some(vec!["c".to_owned()]));
        assert_eq!(list.any(Index(9), Index(99), |_| true), Some(false));
    }

    #[test]
    fn a_list_that_is_not_whole_says_so() {
        let wishes = Wishes::default();
        let list = wishes.open(&"n".into(), || Index(4));
        assert_eq!(list.take(Index(3), Index(4)), None, "it was opened later");
        let many = (0..=LIST_MAX as u64).map(|n| change(5 + n, "a"));
        wishes.note(many, || ());
        assert_eq!(list.any(Index(4), Index(5), |_| true), None);
        assert_eq!(list.take(Index(4), Index(9_999)), None, "it was full");
        assert_eq!(ids(list.take(Index(9_999), Index(9_999))), Some(Vec::new()), "from then on it is whole again");
    }

    #[test]
    fn a_newer_stream_takes_the_place_of_an_older_one_and_ended_ones_are_forgotten() {
        let wishes = Wishes::default();
        let old = wishes.open(&"n".into(), || Index(0));
        let new = wishes.open(&"n".into(), || Index(0));
        wishes.note([change(5, "a")].into_iter(), || ());
        let any = |list: &List| list.any(Index(0), Index(5), |_| true);
        assert_eq!((any(&new), any(&old)), (Some(true), None), "nothing is noted in the old one any more");
        assert_eq!(old.take(Index(9), Index(9)), None);
        for n in 0..1_000 {
            drop(wishes.open(&format!("gone-{n}").into(), || Index(0)));
        }
        assert!(lock(&wishes.0).len() < 1_000);
    }
}
