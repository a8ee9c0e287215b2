//! Did anything that clients were told turn out not to be so?
//!
//! Clients write and read jobs while processes die, and note each call with when it began and ended and what
//! was answered. A job is a register: what it holds is the number of its last write. The log orders all
//! writes by their indexes, which is what makes the check simple:
//!
//! 1. indexes of acknowledged writes are their own, and follow real time: what began after another had ended
//!    has the larger one;
//! 2. a default read shows a write that was really made, no older than any that was acknowledged, or shown
//!    to somebody, before the read began;
//! 3. what is left at the end is such a read, too.
//!
//! A write of which nothing is known (no answer, or one that says so) may have happened at any time after it
//! began, once, or never. One that was refused did not happen. Pure: driven by tests and by [`check`]'s own.

use std::collections::BTreeMap;
use std::time::Duration;

/// The number of a write; 0 = the job is not there.
pub type Value = u64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `index` when it was acknowledged; `None` when nothing is known.
    Wrote { value: Value, index: Option<u64> },
    /// A default read; `index` is that of the job's last change, 0 when it is not there.
    Read { value: Value, index: u64 },
}

/// One call of one client. Times are those of one clock.
#[derive(Clone, Debug)]
pub struct Event {
    pub key: String,
    pub began: Duration,
    pub ended: Duration,
    pub call: Call,
}

#[derive(Clone, Debug, Default)]
pub struct History(pub Vec<Event>);

impl History {
    pub fn note(&mut self, key: &str, began: Duration, ended: Duration, call: Call) {
        self.0.push(Event { key: key.to_owned(), began, ended, call });
    }

    pub fn acknowledged(&self) -> usize {
        self.0.iter().filter(|e| matches!(e.call, Call::Wrote { index: Some(_), .. })).count()
    }

    pub fn reads(&self) -> usize {
        self.0.iter().filter(|e| matches!(e.call, Call::Read { .. })).count()
    }

    /// Every contradiction, in words.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = self.order_of_writes();
        let mut keys: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for event in &self.0 {
            keys.entry(&event.key).or_default().push(event);
        }
        for (key, events) in keys {
            reads_of(key, &events, &mut wrong);
        }
        wrong
    }

    fn order_of_writes(&self) -> Vec<String> {
        let acknowledged = |e: &Event| match e.call {
            Call::Wrote { index: Some(index), value } => Some((index, value, e.began, e.ended, e.key.clone())),
            _ => None,
        };
        let mut writes: Vec<_> = self.0.iter().filter_map(acknowledged).collect();
        writes.sort();
        let mut wrong = Vec::new();
        for pair in writes.windows(2) {
            if pair[0].0 == pair[1].0 {
                wrong.push(format!("two writes have index {}: {} and {}", pair[0].0, pair[0].1, pair[1].1));
            }
        }
        // By falling index: none may have ended before one with a smaller index... began after it.
        let mut first_end: Option<(Duration, u64, Value)> = None;
        for (index, value, began, ended, key) in writes.iter().rev() {
            if let Some((end, later, other)) = first_end
                && end < *began
            {
                wrong.push(format!(
                    "{key}: write {value} has index {index} and began after write {other} with index {later} had ended"
                ));
            }
            if first_end.is_none_or(|(end, ..)| *ended < end) {
                first_end = Some((*ended, *index, *value));
            }
        }
        wrong
    }
}

fn reads_of(key: &str, events: &[&Event], wrong: &mut Vec<String>) {
    // Value → index it was acknowledged with, if it was, and when it began.
    let mut writes: BTreeMap<Value, (Option<u64>, Duration)> = BTreeMap::new();
    for event in events {
        if let Call::Wrote { value, index } = event.call {
            writes.insert(value, (index, event.began));
        }
    }
    for event in events {
        let Call::Read { value, index } = event.call else { continue };
        match writes.get(&value) {
            None if value == 0 && index == 0 => {}
            None => wrong.push(format!("{key}: a read shows {value} at index {index}, which nobody wrote")),
            Some((Some(at), _)) if *at != index => {
                wrong.push(format!("{key}: write {value} was acknowledged at index {at} and is read at {index}"));
            }
            Some((_, began)) if *began > event.ended => {
                wrong.push(format!("{key}: a read shows {value} before it was written"));
            }
            Some(_) => {}
        }
        // The newest thing anybody was told of before this read began.
        let told = events.iter().filter(|e| e.ended < event.began).filter_map(|e| match e.call {
            Call::Wrote { index: Some(index), value } => Some((index, value, "acknowledged")),
            Call::Read { index, value } if index > 0 => Some((index, value, "read")),
            _ => None,
        });
        if let Some((newest, of, how)) = told.max()
            && index < newest
        {
            wrong.push(format!("{key}: a read shows {value} at index {index}; {of} at {newest} had been {how} before"));
        }
    }
    let mut shown: BTreeMap<Value, u64> = BTreeMap::new();
    for event in events {
        if let Call::Read { value, index } = event.call
            && let Some(before) = shown.insert(value, index)
            && before != index
        {
            wrong.push(format!("{key}: {value} is shown at index {before} and at {index}: it was made twice"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(events: &[(u64, u64, Call)]) -> Vec<String> {
        let mut history = History::default();
        for (began, ended, call) in events {
            history.note("j", Duration::from_secs(*began), Duration::from_secs(*ended), call.clone());
        }
        history.check()
    }

    fn wrote(value: Value, index: u64) -> Call {
        Call::Wrote { value, index: Some(index) }
    }

    fn lost_sight_of(value: Value) -> Call {
        Call::Wrote { value, index: None }
    }

    fn read(value: Value, index: u64) -> Call {
        Call::Read { value, index }
    }

    #[test]
    fn what_a_log_would_answer_passes() {
        let good = [
            (0, 1, wrote(1, 10)),
            (1, 3, lost_sight_of(2)),
            (2, 4, wrote(3, 12)),
            (2, 3, read(1, 10)),
            (5, 6, read(2, 13)),
            (7, 8, wrote(4, 20)),
            (7, 8, read(4, 20)),
            (9, 9, read(4, 20)),
        ];
        assert_eq!(history(&good), Vec::<String>::new());
    }

    #[test]
    fn a_lost_acknowledged_write_is_found() {
        let wrong = history(&[(0, 1, wrote(1, 10)), (2, 3, wrote(2, 11)), (4, 5, read(1, 10))]);
        assert!(wrong[0].contains("2 at 11 had been acknowledged before"), "{wrong:?}");
        let wrong = history(&[(0, 1, wrote(1, 10)), (2, 3, read(0, 0))]);
        assert!(wrong[0].contains("1 at 10 had been acknowledged before"), "{wrong:?}");
    }

    #[test]
    fn reads_that_go_back_are_found_though_no_write_was_acknowledged() {
        let wrong = history(&[(0, 1, lost_sight_of(1)), (2, 3, read(1, 10)), (4, 5, read(0, 0))]);
        assert!(wrong[0].contains("had been read before"), "{wrong:?}");
    }

    #[test]
    fn a_write_that_was_made_twice_or_at_another_index_is_found() {
        let wrong = history(&[(0, 1, wrote(1, 10)), (2, 3, read(1, 12))]);
        assert!(wrong[0].contains("acknowledged at index 10 and is read at 12"), "{wrong:?}");
        let wrong = history(&[(0, 9, lost_sight_of(1)), (2, 3, read(1, 10)), (4, 5, read(1, 12))]);
        assert!(wrong[0].contains("made twice"), "{wrong:?}");
    }

    #[test]
    fn what_nobody_wrote_and_what_was_not_written_yet_are_found() {
        assert!(history(&[(2, 3, read(7, 12))])[0].contains("nobody wrote"));
        assert!(history(&[(5, 6, lost_sight_of(1)), (2, 3, read(1, 12))])[0].contains("before it was written"));
    }

    #[test]
    fn indexes_that_do_not_follow_real_time_are_found() {
        let wrong = history(&[(0, 1, wrote(1, 10)), (2, 3, wrote(2, 9))]);
        assert!(wrong[0].contains("index 9 and began after write 1 with index 10 had ended"), "{wrong:?}");
        let wrong = history(&[(0, 1, wrote(1, 10)), (0, 1, wrote(2, 10))]);
        assert!(wrong[0].contains("two writes have index 10"), "{wrong:?}");
    }
}
