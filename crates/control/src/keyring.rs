//! When is there a new root key, and when is an old one forgotten?
//!
//! ```text
//!   active ──half of its time──► the next is published ahead ──at its publish time──► it is active, the old one inactive
//!                                                                        inactive, unused, for the threshold ──► removed
//! ```
//!
//! A key's time begins when it becomes active. The next one is public for half of that time before it signs, or for
//! [`KNOWN`] if that is less: whoever verifies signatures keeps a list of keys for as long at most, and must not meet
//! a signature of a key that is not on it. Where nobody looked in time, the old key stays for as long as that takes.
//!
//! One wish at a time: the next look sees what came of it. Pure; the raft leader looks each `root_key_gc_interval`.
//! Removal asks whether the key is in use, and the log asks again.

use model::Nanos;
use model::keyring::{RootKeyMeta, RootKeyState};

/// Lists of keys are kept for at most so long by those who fetch them.
pub const KNOWN: Nanos = Nanos::from_secs(24 * 3600);

/// What an operator set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a key is active.
    pub rotation: Nanos,
    /// How long an inactive key is kept although nothing needs it.
    pub kept: Nanos,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Make a key that signs from then on; Unix nanoseconds.
    Publish {
        at: i64,
    },
    /// The key that was published ahead signs from now on.
    Activate {
        key_id: String,
    },
    Remove {
        key_id: String,
    },
}

/// When a key became active; Unix nanoseconds.
fn since(key: &RootKeyMeta) -> i64 {
    key.create_time.max(key.publish_time)
}

/// What is to be done at this moment, if anything is.
pub fn decide(keys: &[&RootKeyMeta], now: i64, rules: Rules, in_use: impl Fn(&str) -> bool) -> Option<Wish> {
    let of = |state: RootKeyState| keys.iter().filter(move |key| key.state == state);
    if let Some(due) = of(RootKeyState::Prepublished).find(|key| key.publish_time <= now) {
        return Some(Wish::Activate { key_id: due.key_id.clone() });
    }
    let active = of(RootKeyState::Active).next()?;
    let half = rules.rotation.0 / 2;
    let nobody_waits = of(RootKeyState::Prepublished).next().is_none();
    if nobody_waits && now.saturating_sub(since(active)) >= half {
        let ahead = half.min(KNOWN.0);
        let at = since(active).saturating_add(rules.rotation.0).max(now.saturating_add(ahead));
        return Some(Wish::Publish { at });
    }
    // Whoever is inactive has been so since this one is active, or longer.
    if now.saturating_sub(since(active)) < rules.kept.0 {
        return None;
    }
    let over = of(RootKeyState::Inactive).find(|key| !in_use(&key.key_id));
    over.map(|key| Wish::Remove { key_id: key.key_id.clone() })
}
