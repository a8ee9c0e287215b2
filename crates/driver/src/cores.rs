//! Which processor cores belong to one task alone, and which do all others share?
//!
//! ```text
//!   usable = reserved by tasks (by task id) + shared          reserve, release ─► the shared list changes ─► news
//! ```
//!
//! * A core is shared while no task has reserved it. Where every core is reserved all of them are shared: tasks
//!   without cores of their own must run somewhere.
//! * The agent reserves before a driver hears of a task and releases after the driver has forgotten it; whoever
//!   holds tasks ([`crate::cgroup::Cgroups`], the Docker driver) follows the news.
//!
//! * Cores that the agent itself may not run on (an operator's `taskset`, a container's cpuset) are nobody's here.
//!
//! Cannot fail: a list that does not fit this host only takes away what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::env::core_list;

/// The cores that all tasks without cores of their own may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// As the kernel writes it: `0-2,5`.
    pub list: String,
    /// Every core of the host: nothing is reserved, and the agent is not confined.
    pub whole: bool,
}

/// The cores of this host and who has them.
#[derive(Debug)]
pub struct Cores {
    usable: BTreeSet<u16>,
    /// The host has others, too.
    confined: bool,
    held: Mutex<BTreeMap<String, Vec<u16>>>,
    share: watch::Sender<Share>,
}

impl Cores {
    pub fn new(usable: impl IntoIterator<Item = u16>) -> Self {
        Self::among(usable.into_iter().collect(), false)
    }

    fn among(usable: BTreeSet<u16>, confined: bool) -> Self {
        let share = watch::Sender::new(share_of(&usable, &BTreeMap::new(), confined));
        Self { usable, confined, held: Mutex::default(), share }
    }

    /// Those that are online and this process may run on.
    pub fn of_host() -> Self {
        let online = online();
        let usable: BTreeSet<u16> = usable(&online).into_iter().collect();
        let confined = usable.len() < online.len();
        Self::among(usable, confined)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u16>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a task its cores. Before it is started.
    pub fn reserve(&self, task_id: &str, cores: &[u16]) {
        if cores.is_empty() {
            return;
        }
        let mut held = self.held();
        held.insert(task_id.to_owned(), cores.to_vec());
        self.tell(&held);
    }

    /// Takes them back. After its end.
    pub fn release(&self, task_id: &str) {
        let mut held = self.held();
        if held.remove(task_id).is_some() {
            self.tell(&held);
        }
    }

    fn tell(&self, held: &BTreeMap<String, Vec<u16>>) {
        let now = share_of(&self.usable, held, self.confined);
        self.share.send_if_modified(|share| {
            let changed = *share != now;
            *share = now;
            changed
        });
    }

    pub fn share(&self) -> Share {
        self.share.borrow().clone()
    }

    /// Wakes when the share is another.
    pub fn changes(&self) -> watch::Receiver<Share> {
        self.share.subscribe()
    }

    /// Whether some start of this task has cores of its own.
    pub(crate) fn is_apart(&self, alloc: &str, task: &str) -> bool {
        self.held().keys().any(|id| {
            let mut parts = id.split('/');
            parts.next() == Some(alloc) && parts.next() == Some(task)
        })
    }
}

/// The host's cores that are online.
pub(crate) fn online() -> Vec<u16> {
    parse_list(&std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default())
}

/// Those of them that this process may run on; all, where the kernel does not say, or names none of them.
pub(crate) fn usable(online: &[u16]) -> Vec<u16> {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return online.to_vec() };
    let may = |core: &u16| usize::from(*core) < rustix::thread::CpuSet::MAX_CPU && allowed.is_set(usize::from(*core));
    let found: Vec<u16> = online.iter().copied().filter(may).collect();
    if found.is_empty() { online.to_vec() } else { found }
}

/// Reads `0-3,7`; what is no range is left out.
fn parse_list(text: &str) -> Vec<u16> {
    let mut cores = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>()) {
            cores.extend(low..=high.min(low.saturating_add(8191)));
        }
    }
    cores
}

fn share_of(usable: &BTreeSet<u16>, held: &BTreeMap<String, Vec<u16>>, confined: bool) -> Share {
    let taken: BTreeSet<u16> = held.values().flatten().copied().collect();
    let mut left: Vec<u16> = usable.difference(&taken).copied().collect();
    if left.is_empty() {
        left = usable.iter().copied().collect();
    }
    Share { whole: !confined && left.len() == usable.len(), list: core_list(&left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_core_is_shared_again_after_the_last_who_has_it() {
        let cores = Cores::new(0..4);
        let changes = cores.changes();
        cores.reserve("a/t/1", &[]);
        assert!(cores.share().whole && !changes.has_changed().unwrap());
        cores.reserve("a/t/1", &[0, 1]);
        // A start that takes over from an earlier one has the same for a moment.
        cores.reserve("a/t/2", &[1]);
        assert_eq!(cores.share(), Share { list: "2-3".into(), whole: false });
        assert!(changes.has_changed().unwrap() && cores.is_apart("a", "t") && !cores.is_apart("a", "u"));
        cores.release("a/t/1");
        assert_eq!(cores.share().list, "0,2-3");
        cores.release("a/t/2");
        cores.release("a/t/2");
        assert_eq!(cores.share(), Share { list: "0-3".into(), whole: true });
    }

    #[test]
    fn an_agent_that_is_confined_gives_away_its_own_cores_only() {
        let cores = Cores::among([2, 3].into(), true);
        assert_eq!(cores.share(), Share { list: "2-3".into(), whole: false });
        cores.reserve("a/t/1", &[2]);
        assert_eq!(cores.share().list, "3");
        // A thread of its own, as what it may run on is a thread's.
        let confined = std::thread::spawn(|| {
            let first = usable(&online())[0];
            let mut only = rustix::thread::CpuSet::new();
            only.set(usize::from(first));
            rustix::thread::sched_setaffinity(None, &only).unwrap();
            (first, usable(&online()), online().len(), Cores::of_host().share())
        });
        let (first, found, online, share) = confined.join().unwrap();
        assert_eq!((found, share.list), (vec![first], first.to_string()));
        assert_eq!(share.whole, online == 1);
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse_list("0-2,5,x,9-"), [0, 1, 2, 5]);
        assert!(parse_list("").is_empty());
    }

    #[test]
    fn tasks_without_cores_run_somewhere_even_where_all_are_reserved() {
        let cores = Cores::new(0..2);
        cores.reserve("a/t/1", &[0, 1, 7]);
        assert_eq!(cores.share(), Share { list: "0-1".into(), whole: true });
    }
}
