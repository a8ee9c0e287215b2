//! What do followers get, and from where on?
//!
//! The window holds the last lines of history, bounded in number and bytes. Each line is serialized once
//! per set of tables, whoever and however many follow. Who follows some tables only gets the newest lines without
//! what only people read ([`Change::brief`]).
//!
//! ```text
//!   apply ──push──► [ line line line ]  ◄── after=n: wait, send all behind n, wait …
//!                    └ oldest dropped      n before the window: Gone (start from a snapshot)
//! ```
//!
//! Invariants
//! * Lines are in index order, and a line's `previous` is the index of the line before it, in the window
//!   or just dropped from it. So a follower at `n` may go on with the first line behind `n` exactly if
//!   that line's `previous` is not behind `n`.
//! * A restored state empties the window: nobody goes on across a restore.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fsm::{Change, Table};
use model::Index;
use serde::Serialize;
use tokio::sync::watch;

/// Sets of tables whose text of a line is kept: each service has one.
const SETS_MAX: usize = 8;
/// This many of the newest lines keep their texts; who is further behind has his made for him. So the
/// window's bound in bytes holds whatever sets of tables are asked for.
const WARM_LINES: usize = 256;

/// Bounds of the window.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub lines_max: usize,
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lines_max: 16_384, bytes_max: 8 << 20 }
    }
}

/// Which tables a follower asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableSet(u32);

impl TableSet {
    pub const ALL: Self = Self(u32::MAX);

    /// Reads `jobs,nodes,…`; `None` for an unknown name. No names: all tables.
    pub fn parse(names: &str) -> Option<Self> {
        if names.is_empty() {
            return Some(Self::ALL);
        }
        let mut set = 0;
        for name in names.split(',') {
            set |= Self::bit(Table::parse(name)?);
        }
        Some(Self(set))
    }

    /// Whether rows are wanted as they are.
    fn is_all(self) -> bool {
        Table::ALL.into_iter().all(|table| self.contains(table))
    }

    pub fn contains(self, table: Table) -> bool {
        self.0 & Self::bit(table) != 0
    }

    pub fn tables(self) -> Vec<Table> {
        Table::ALL.into_iter().filter(|t| self.contains(*t)).collect()
    }

    const fn bit(table: Table) -> u32 {
        1 << table as u32
    }
}

/// One committed index.
pub struct Line {
    pub index: Index,
    pub previous: Index,
    epoch: Arc<str>,
    hash: String,
    cause: &'static str,
    changes: Vec<(Table, String)>,
    /// `None` once the line is no longer among the newest.
    rendered: Mutex<Option<Rendered>>,
}

/// What is kept of a line while it is new.
#[derive(Default)]
struct Rendered {
    texts: Vec<(TableSet, Bytes)>,
    /// Changes that can be told in brief, by their place in the line.
    long: Vec<(usize, Change)>,
    /// Those, as they are told.
    brief: Vec<(usize, String)>,
}

impl Rendered {
    /// Makes the brief texts, once somebody wants them.
    fn make_brief(&mut self) {
        for (at, change) in std::mem::take(&mut self.long) {
            // What cannot be said in brief is said at length.
            let text = change.brief().and_then(|brief| model::sparse::to_string(&brief).ok());
            self.brief.extend(text.map(|text| (at, text)));
        }
    }

    fn brief_of(&self, at: usize) -> Option<&str> {
        let found = self.brief.binary_search_by_key(&at, |(at, _)| *at).ok()?;
        self.brief.get(found).map(|(_, text)| text.as_str())
    }
}

impl Line {
    /// `None` if `texts` are not those of `changes`: one of them has no JSON form.
    pub fn new(
        index: Index,
        previous: Index,
        epoch: Arc<str>,
        hash: String,
        cause: &'static str,
        changes: Vec<Change>,
        texts: Vec<String>,
    ) -> Option<Self> {
        if changes.len() != texts.len() {
            return None;
        }
        let told = changes.iter().map(Change::table).zip(texts).collect();
        let long = changes.into_iter().enumerate().filter(|(_, change)| change.has_brief()).collect();
        let rendered = Mutex::new(Some(Rendered { long, ..Rendered::default() }));
        Some(Self { index, previous, epoch, hash, cause, changes: told, rendered })
    }

    fn size(&self) -> usize {
        200 + self.changes.iter().map(|(_, json)| json.len() + 32).sum::<usize>()
    }

    /// The line as a follower of these tables gets it, newline included.
    pub fn render(&self, tables: TableSet) -> Bytes {
        let mut rendered = lock(&self.rendered);
        let known = rendered.as_ref().and_then(|kept| kept.texts.iter().find(|(set, _)| *set == tables));
        if let Some((_, bytes)) = known {
            return bytes.clone();
        }
        let in_brief = !tables.is_all();
        if let Some(kept) = rendered.as_mut().filter(|_| in_brief && tables.contains(Table::Allocs)) {
            kept.make_brief();
        }
        let brief_of = |at| rendered.as_ref().filter(|_| in_brief)?.brief_of(at);
        let mut head = format!(
            "{{\"i\":{},\"p\":{},\"e\":{},\"h\":\"{}\"",
            self.index,
            self.previous,
            quoted(&self.epoch),
            self.hash
        );
        if !self.cause.is_empty() {
            head.push_str(&format!(",\"t\":\"{}\"", self.cause));
        }
        let wanted = self.changes.iter().enumerate().filter(|(_, (table, _))| tables.contains(*table));
        let told: Vec<&str> = wanted.map(|(at, (_, json))| brief_of(at).unwrap_or(json)).collect();
        // Lines of megabytes: what grows as it is written would be copied several times over.
        let room = told.iter().map(|json| json.len() + 1).sum::<usize>() + head.len() + 8;
        let mut text = String::with_capacity(room);
        text.push_str(&head);
        let mut opening = ",\"c\":[";
        for json in told {
            text.push_str(opening);
            text.push_str(json);
            opening = ",";
        }
        if opening == "," {
            text.push(']');
        }
        text.push_str("}\n");
        let bytes = Bytes::from(text);
        if let Some(rendered) = rendered.as_mut().filter(|kept| kept.texts.len() < SETS_MAX) {
            rendered.texts.push((tables, bytes.clone()));
        }
        bytes
    }

    fn cool(&self) {
        *lock(&self.rendered) = None;
    }

    pub fn hash(&self) -> &str {
        &self.hash
    }
}

fn quoted(text: &impl Serialize) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// The follower is too far back, or on another line of history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    #[error("index {after} is before the window, which begins at {first}")]
    TooOld { after: Index, first: Index },
    #[error("the follower is on another line of history")]
    OtherHistory,
}

/// The last lines, shared by all followers.
pub struct Feed {
    limits: Limits,
    window: Mutex<Window>,
    last: watch::Sender<Index>,
}

struct Window {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    epoch: Arc<str>,
    /// Index before the first line of the window.
    floor: Index,
    last: Index,
}

impl Feed {
    pub fn new(limits: Limits) -> Self {
        let window = Window { lines: VecDeque::new(), bytes: 0, epoch: Arc::from(""), floor: Index(0), last: Index(0) };
        Self { limits, window: Mutex::new(window), last: watch::Sender::default() }
    }

    /// History begins anew at `index`: after a snapshot was installed or restored.
    pub fn reset(&self, index: Index, epoch: Arc<str>) {
        let mut window = lock(&self.window);
        *window = Window { lines: VecDeque::new(), bytes: 0, epoch, floor: index, last: index };
        drop(window);
        self.last.send_replace(index);
    }

    /// Index of the last line; the `previous` of the next.
    pub fn last(&self) -> Index {
        lock(&self.window).last
    }

    /// Adds the next line. Nobody is woken before [`Feed::announce`].
    pub fn push(&self, line: Line) {
        let mut window = lock(&self.window);
        window.bytes += line.size();
        window.last = line.index;
        window.epoch = Arc::clone(&line.epoch);
        window.lines.push_back(Arc::new(line));
        if let Some(cold) = window.lines.len().checked_sub(WARM_LINES + 1).and_then(|at| window.lines.get(at)) {
            cold.cool();
        }
        while window.lines.len() > self.limits.lines_max
            || window.bytes > self.limits.bytes_max && window.lines.len() > 1
        {
            if let Some(dropped) = window.lines.pop_front() {
                window.bytes -= dropped.size();
                window.floor = dropped.index;
            }
        }
    }

    /// Wakes the followers, once for all lines of a batch: they get them in one piece.
    pub fn announce(&self) {
        let last = self.last();
        self.last.send_replace(last);
    }

    /// Up to `max` lines behind `after`; none when there is nothing new.
    ///
    /// # Errors
    /// See [`FeedError`].
    pub fn behind(&self, after: Index, epoch: Option<&str>, max: usize) -> Result<Vec<Arc<Line>>, FeedError> {
        let window = lock(&self.window);
        if epoch.is_some_and(|e| !window.epoch.is_empty() && e != &*window.epoch) {
            return Err(FeedError::OtherHistory);
        }
        if after < window.floor {
            return Err(FeedError::TooOld { after, first: window.floor });
        }
        let start = window.lines.partition_point(|line| line.index <= after);
        Ok(window.lines.range(start..).take(max).cloned().collect())
    }

    /// Hash at an index, if a line in the window says it.
    pub fn hash_at(&self, index: Index) -> Option<String> {
        let window = lock(&self.window);
        let at = window.lines.partition_point(|line| line.index < index);
        window.lines.get(at).filter(|line| line.index == index).map(|line| line.hash.clone())
    }

    /// Wakes when lines were announced.
    pub fn subscribe(&self) -> watch::Receiver<Index> {
        self.last.subscribe()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fsm::ClusterMeta;

    fn feed(lines_max: usize) -> Feed {
        let feed = Feed::new(Limits { lines_max, bytes_max: 1 << 20 });
        feed.reset(Index(10), Arc::from("e"));
        feed
    }

    fn push(feed: &Feed, index: u64) {
        let change = Change::Cluster(ClusterMeta::default());
        feed.push(line(index, feed.last(), change));
        feed.announce();
    }

    fn line(index: u64, previous: Index, change: Change) -> Line {
        let texts = vec![serde_json::to_string(&change).unwrap()];
        let hash = format!("h{index}");
        Line::new(Index(index), previous, Arc::from("e"), hash, "Word", vec![change], texts).unwrap()
    }

    #[test]
    fn who_follows_all_tables_gets_a_row_as_it_is_and_others_what_they_decide_by() {
        let metrics = model::metric::AllocMetric { nodes_evaluated: 77, ..Default::default() };
        let row =
            model::Allocation { id: "a".into(), metrics: Some(model::Carried::new(metrics)), ..Default::default() };
        let feed = feed(1_000);
        feed.push(line(11, feed.last(), Change::Alloc(Arc::new(row))));
        let told = |tables: &str| {
            let line = feed.behind(Index(10), None, 1).unwrap().remove(0);
            let line: fsm::FeedLine = serde_json::from_slice(&line.render(TableSet::parse(tables).unwrap())).unwrap();
            line.changes
        };
        let evaluated = |changes: Vec<Change>| match changes.as_slice() {
            [Change::Alloc(row)] => row.metrics.as_ref().map(|metrics| metrics.look().nodes_evaluated),
            _ => panic!("{changes:?}"),
        };
        let all = Table::ALL.map(Table::as_str).join(",");
        for _ in 0..2 {
            assert_eq!((evaluated(told("")), evaluated(told(&all))), (Some(77), Some(77)));
            assert_eq!(evaluated(told("allocs")), Some(0));
            assert_eq!(told("nodes"), []);
        }
        // It is no longer new: nobody is told less than he needs.
        (12..900).for_each(|index| push(&feed, index));
        assert_eq!(evaluated(told("allocs")), Some(77));
    }

    #[test]
    fn a_follower_gets_every_line_behind_its_index_once() {
        let feed = feed(100);
        for index in [11, 13, 14] {
            push(&feed, index);
        }
        let got =
            |after| feed.behind(Index(after), Some("e"), 10).unwrap().iter().map(|l| l.index.0).collect::<Vec<_>>();
        assert_eq!(got(10), [11, 13, 14]);
        assert_eq!(got(12), [13, 14]);
        assert_eq!(got(14), Vec::<u64>::new());
        assert_eq!(got(99), Vec::<u64>::new(), "beyond the last index: wait");
        assert_eq!(feed.behind(Index(13), None, 10).unwrap()[0].previous, Index(13));
    }

    #[test]
    fn a_follower_behind_the_window_or_on_another_history_starts_anew() {
        let feed = feed(2);
        for index in 11..=14 {
            push(&feed, index);
        }
        assert_eq!(
            feed.behind(Index(11), Some("e"), 10).err(),
            Some(FeedError::TooOld { after: Index(11), first: Index(12) })
        );
        assert!(feed.behind(Index(12), Some("e"), 10).is_ok());
        assert!(matches!(feed.behind(Index(13), Some("other"), 10), Err(FeedError::OtherHistory)));
        feed.reset(Index(20), Arc::from("e"));
        assert!(feed.behind(Index(14), Some("e"), 10).is_err());
    }

    #[test]
    fn a_line_carries_only_the_tables_asked_for_and_is_made_once_per_set() {
        let feed = feed(10);
        push(&feed, 11);
        let line = &feed.behind(Index(10), None, 1).unwrap()[0];
        let all: fsm::FeedLine = serde_json::from_slice(&line.render(TableSet::ALL)).unwrap();
        assert_eq!((all.index, all.previous, all.changes.len()), (Index(11), Index(10), 1));
        assert_eq!(all.cause, "Word");
        let nodes = TableSet::parse("nodes,allocs").unwrap();
        let none: fsm::FeedLine = serde_json::from_slice(&line.render(nodes)).unwrap();
        assert!(none.changes.is_empty());
        assert_eq!(line.render(nodes).as_ptr(), line.render(nodes).as_ptr());
        assert_eq!(TableSet::parse("nodes,nonsense"), None);
    }
}
