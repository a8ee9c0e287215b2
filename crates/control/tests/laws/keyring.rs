//! Root keys over months, with a clock that is only counted.

use control::keyring::{KNOWN, Rules, Wish, decide};
use model::Nanos;
use model::keyring::{RootKeyMeta, RootKeyState};

const MINUTE: i64 = 60 * 1_000_000_000;
const HOUR: i64 = 60 * MINUTE;
const RULES: Rules = Rules { rotation: Nanos(720 * HOUR), kept: Nanos(HOUR) };

/// What the log makes of wishes.
struct Ring {
    now: i64,
    rules: Rules,
    keys: Vec<RootKeyMeta>,
    /// When each key became public.
    public: Vec<(String, i64)>,
    used: Vec<String>,
    made: usize,
}

impl Ring {
    fn new(rules: Rules) -> Self {
        let mut ring = Self { now: HOUR, rules, keys: vec![], public: vec![], used: vec![], made: 0 };
        ring.add(RootKeyState::Active, 0);
        ring
    }

    fn add(&mut self, state: RootKeyState, publish_time: i64) {
        self.made += 1;
        let key_id = format!("key-{}", self.made);
        self.public.push((key_id.clone(), self.now));
        self.keys.push(RootKeyMeta { key_id, create_time: self.now, state, publish_time, ..RootKeyMeta::default() });
    }

    fn active(&self) -> &RootKeyMeta {
        let mut all = self.keys.iter().filter(|key| key.state == RootKeyState::Active);
        let active = all.next().unwrap();
        assert!(all.next().is_none(), "one key is active: {:?}", self.keys);
        active
    }

    /// As an operator does by hand.
    fn rotate_now(&mut self) {
        self.retire();
        self.add(RootKeyState::Active, 0);
    }

    fn retire(&mut self) {
        self.keys.iter_mut().filter(|k| k.state == RootKeyState::Active).for_each(|k| k.state = RootKeyState::Inactive);
    }

    fn look(&mut self) -> Option<Wish> {
        let keys: Vec<_> = self.keys.iter().collect();
        let wish = decide(&keys, self.now, self.rules, |id| self.used.iter().any(|used| used == id))?;
        match &wish {
            Wish::Publish { at } => self.add(RootKeyState::Prepublished, *at),
            Wish::Activate { key_id } => {
                let ahead = self.now - self.public.iter().find(|(id, _)| id == key_id).unwrap().1;
                let enough = (self.rules.rotation.0 / 2).min(KNOWN.0);
                assert!(ahead >= enough, "{key_id} was public for {ahead} only");
                self.retire();
                self.keys.iter_mut().filter(|k| k.key_id == *key_id).for_each(|k| k.state = RootKeyState::Active);
            }
            Wish::Remove { key_id } => {
                let gone = self.keys.iter().find(|key| key.key_id == *key_id).unwrap();
                assert_eq!(gone.state, RootKeyState::Inactive, "only what does nothing any more is removed");
                assert!(!self.used.contains(key_id), "a key in use stays");
                self.keys.retain(|key| key.key_id != *key_id);
            }
        }
        self.active();
        Some(wish)
    }

    /// Looks every ten minutes for so long.
    fn pass(&mut self, time: i64) {
        let until = self.now + time;
        while self.now < until {
            self.look();
            self.now += 10 * MINUTE;
        }
    }
}

/// gc-015: half of its time over, the next is published; at its publish time it signs.
#[test]
fn a_key_signs_for_its_time_and_its_successor_is_public_for_half_of_it_before() {
    let mut ring = Ring::new(RULES);
    let began = ring.now;
    ring.pass(360 * HOUR);
    assert_eq!(ring.keys.len(), 1, "nothing before half of its time");
    assert_eq!(ring.look(), Some(Wish::Publish { at: began + 720 * HOUR }));
    assert_eq!((ring.look(), ring.active().key_id.as_str()), (None, "key-1"));
    ring.pass(360 * HOUR - 10 * MINUTE);
    assert_eq!(ring.active().key_id, "key-1", "not before its time");
    ring.pass(20 * MINUTE);
    assert_eq!((ring.active().key_id.as_str(), ring.keys.len()), ("key-2", 2), "the old one verifies on");
    ring.pass(2 * HOUR);
    assert_eq!(ring.keys.len(), 1, "and is forgotten when nothing needs it");
    // A year of it: always one that signs, and never more than three.
    for _ in 0..(365 * 24) {
        ring.pass(HOUR);
        assert!(ring.keys.len() <= 3);
    }
    assert_eq!(ring.made, 14, "one each 30 days, the next ahead");
}

/// keyring-004.
#[test]
fn a_key_in_use_stays_until_it_is_not() {
    let mut ring = Ring::new(RULES);
    ring.used.push("key-1".to_owned());
    ring.pass(1_500 * HOUR);
    assert!(ring.keys.iter().any(|key| key.key_id == "key-1"), "{:?}", ring.keys);
    assert!(!ring.keys.iter().any(|key| key.key_id == "key-2"), "its successor came and went");
    ring.used.clear();
    ring.pass(HOUR);
    assert!(!ring.keys.iter().any(|key| key.key_id == "key-1"));
}

#[test]
fn what_was_not_looked_at_for_long_is_caught_up_with_and_nobody_meets_an_unknown_key() {
    let mut ring = Ring::new(RULES);
    ring.now += 5_000 * HOUR;
    assert_eq!(ring.look(), Some(Wish::Publish { at: ring.now + KNOWN.0 }));
    ring.now += 5_000 * HOUR;
    assert!(matches!(ring.look(), Some(Wish::Activate { .. })));
    // A threshold that was made shorter counts from here on, by the same rules.
    ring.rules.rotation = Nanos(4 * HOUR);
    ring.pass(5 * HOUR);
    let age = ring.now - ring.active().publish_time;
    assert!(age <= 5 * HOUR, "{:?}", ring.active());
    ring.pass(100 * HOUR);
    assert!(ring.keys.len() <= 3);
}

#[test]
fn a_rotation_by_hand_begins_a_key_s_time_anew() {
    let mut ring = Ring::new(RULES);
    ring.pass(300 * HOUR);
    ring.rotate_now();
    ring.pass(300 * HOUR);
    assert_eq!((ring.active().key_id.as_str(), ring.keys.len()), ("key-2", 1));
}
