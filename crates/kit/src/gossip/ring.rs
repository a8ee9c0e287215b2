//! Which keys there are, and how they change: rules only, no I/O.
//!
//! ```text
//!   install K ─► [A, K]   all open with K      use K ─► [K, A]   all seal with K      remove A ─► [K]
//! ```
//!
//! A ring is one value with a version: whoever has an older one takes the newer one whole. So a process that
//! was away when the keys changed has them as soon as it talks to anybody, and no order of news matters.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde::{Deserialize, Serialize};

use super::seal::{KEY_BYTES, KeyError, widened};

pub const KEYS_MAX: usize = 8;
/// Marks the line of a key file that holds the version.
const VERSION: &str = "# version ";

/// The keys of a cluster's gossip; the first one seals. They are not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// Grows with each change: unix milliseconds, or one more than before. 0: never changed.
    pub version: u64,
    /// Base64 of 32 bytes each.
    keys: Vec<String>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({}, {:?})", self.version, self.fingerprints())
    }
}

/// A change that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error("a gossip key is 16, 24 or 32 bytes in base64; `steppe operator gossip keyring generate` makes one")]
    NotAKey,
    #[error("there is no such key; install it first")]
    Unknown,
    #[error("the key seals what is sent, and cannot be removed; use another first")]
    Primary,
    #[error("there are {KEYS_MAX} keys already; remove one first")]
    Full,
}

/// What is wished of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Install,
    Use,
    Remove,
}

impl Ring {
    /// Reads a key file: keys, one per line, the first seals; and a line with the version.
    ///
    /// # Errors
    /// A line is none of these, or there are too few or too many keys.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let (mut version, mut keys) = (0, Vec::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(number) = line.strip_prefix(VERSION) {
                version = number.trim().parse().map_err(|_| KeyError::Key { line: at + 1 })?;
            } else if !line.is_empty() && !line.starts_with('#') {
                let bytes = STANDARD.decode(line).ok().filter(|b| b.len() == KEY_BYTES);
                bytes.ok_or(KeyError::Key { line: at + 1 })?;
                keys.push(line.to_owned());
            }
        }
        let ring = Self { version, keys };
        ring.check().map(|()| ring)
    }

    /// As [`Ring::read`] reads it.
    pub fn text(&self) -> String {
        format!("{VERSION}{}\n{}\n", self.version, self.keys.join("\n"))
    }

    /// Whether it can be used, wherever it comes from.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self) -> Result<(), KeyError> {
        if self.keys.is_empty() || self.keys.len() > KEYS_MAX {
            return Err(KeyError::Count);
        }
        self.bytes().map(|_| ())
    }

    pub(super) fn bytes(&self) -> Result<Vec<[u8; KEY_BYTES]>, KeyError> {
        let one = |(at, key): (usize, &String)| {
            let bytes = STANDARD.decode(key).ok().and_then(|b| <[u8; KEY_BYTES]>::try_from(b).ok());
            bytes.ok_or(KeyError::Key { line: at + 1 })
        };
        self.keys.iter().enumerate().map(one).collect()
    }

    /// What may be shown of the keys; the first seals.
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(|key| fingerprint(key)).collect()
    }

    /// The ring after a change; `key` is a key, or the fingerprint of one that is there.
    ///
    /// # Errors
    /// See [`RingError`].
    pub fn changed(&self, change: Change, key: &str, now_ms: u64) -> Result<Self, RingError> {
        let at = self.keys.iter().position(|known| fingerprint(known) == key);
        let key = match at {
            Some(at) => self.keys[at].clone(),
            None => canonical(key)?,
        };
        let at = at.or_else(|| self.keys.iter().position(|known| *known == key));
        let mut keys = self.keys.clone();
        match (change, at) {
            (Change::Install, Some(_)) | (Change::Use, Some(0)) => return Ok(self.clone()),
            (Change::Install, None) if keys.len() >= KEYS_MAX => return Err(RingError::Full),
            (Change::Install, None) => keys.push(key),
            (Change::Use | Change::Remove, None) => return Err(RingError::Unknown),
            (Change::Use, Some(at)) => {
                let key = keys.remove(at);
                keys.insert(0, key);
            }
            (Change::Remove, Some(0)) => return Err(RingError::Primary),
            (Change::Remove, Some(at)) => drop(keys.remove(at)),
        }
        Ok(Self { version: now_ms.max(self.version.saturating_add(1)), keys })
    }
}

/// Of a key, as it is kept: whoever sees it knows which key is meant, not the key.
fn fingerprint(key: &str) -> String {
    let bytes = STANDARD.decode(key).unwrap_or_default();
    let hash = digest::digest(&digest::SHA256, &[b"steppe gossip key 1".as_slice(), &bytes].concat());
    let hex: String = hash.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// A key of any usual length, as it is kept.
fn canonical(text: &str) -> Result<String, RingError> {
    let bytes = STANDARD.decode(text.trim()).map_err(|_| RingError::NotAKey)?;
    if !matches!(bytes.len(), 16 | 24 | 32) {
        return Err(RingError::NotAKey);
    }
    Ok(STANDARD.encode(widened(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fill: u8) -> String {
        STANDARD.encode([fill; KEY_BYTES])
    }

    #[test]
    fn a_ring_turns_key_by_key_and_the_one_that_seals_stays() {
        let one = Ring::read(&key(1)).unwrap();
        assert_eq!(one.version, 0);
        let both = one.changed(Change::Install, &key(2), 100).unwrap();
        assert_eq!((both.version, both.fingerprints()[0].clone()), (100, one.fingerprints()[0].clone()));
        let turned = both.changed(Change::Use, &both.fingerprints()[1], 50).unwrap();
        assert_eq!(turned.version, 101, "a clock that goes back does not undo a change");
        assert_eq!(turned.changed(Change::Remove, &key(2), 200), Err(RingError::Primary));
        let new = turned.changed(Change::Remove, &key(1), 200).unwrap();
        assert_eq!(new.fingerprints(), [both.fingerprints()[1].clone()]);
        assert_eq!(new.changed(Change::Use, &key(1), 300), Err(RingError::Unknown));
        assert_eq!(new.changed(Change::Remove, &key(1), 300), Err(RingError::Unknown));
        // What is so already is no change.
        assert_eq!(new.changed(Change::Use, &key(2), 300).unwrap(), new);
        assert_eq!(new.changed(Change::Install, &key(2), 300).unwrap(), new);
        assert_eq!(Ring::read(&new.text()).unwrap(), new);
    }

    #[test]
    fn what_is_no_key_is_refused_and_nothing_shows_a_key() {
        let one = Ring::read(&key(1)).unwrap();
        for bad in ["", "x", "AAAA", "sha256:0000000000000000", &key(1)[..40]] {
            assert_eq!(one.changed(Change::Install, bad, 1), Err(RingError::NotAKey), "{bad}");
        }
        one.changed(Change::Install, &STANDARD.encode([7; 16]), 1).unwrap();
        assert!(!format!("{one:?}").contains(&key(1)));
        let full = (2..=8).fold(one, |ring, fill| ring.changed(Change::Install, &key(fill), 1).unwrap());
        assert_eq!(full.changed(Change::Install, &key(9), 1), Err(RingError::Full));
    }
}
