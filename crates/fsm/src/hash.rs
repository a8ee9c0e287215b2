//! One 64-bit hash for everything that must be the same on all servers: the rolling hash of row
//! changes, the hash of a request's body, the checksum of a snapshot.
//!
//! FNV-1a. Source: Fowler, Noll, Vo, "The FNV Non-Cryptographic Hash Algorithm". Each step is a
//! bijection of the state, so a single damaged byte always shows.

use std::io;

use serde::Serialize;

use crate::change::Change;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// A hash being made. What is written to it is hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(OFFSET)
    }
}

impl Fnv {
    pub fn update(&mut self, bytes: &[u8]) {
        let mut hash = self.0;
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
        self.0 = hash;
    }
}

impl io::Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hash of a value's JSON.
pub(crate) fn of(value: &impl Serialize) -> u64 {
    let mut hash = Fnv::default();
    write(&mut hash, value);
    hash.0
}

/// The hash after `changes`, from the one before. No changes leave it as it is.
pub(crate) fn roll(before: u64, changes: &[Change]) -> u64 {
    if changes.is_empty() {
        return before;
    }
    let mut hash = Fnv::default();
    hash.update(&before.to_le_bytes());
    write(&mut hash, &changes);
    hash.0
}

fn write(hash: &mut Fnv, value: &impl Serialize) {
    // Writing to a hash cannot fail; a value that has no JSON form hashes as far as it was written,
    // the same on every server.
    let _ = serde_json::to_writer(hash, value);
}

/// As the feed carries it: 16 hexadecimal digits.
pub(crate) fn text(hash: u64) -> String {
    format!("{hash:016x}")
}

pub(crate) fn parse(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_survives_its_text_and_depends_on_every_byte() {
        assert_eq!(parse(&text(0x00ab_cdef)), Some(0x00ab_cdef));
        assert_ne!(of(&"a"), of(&"b"));
        assert_eq!(roll(7, &[]), 7);
        let change = Change::JobFence { namespace: "n".into(), id: "j".into(), incarnation: 1.into(), index: 2.into() };
        assert_ne!(roll(7, std::slice::from_ref(&change)), roll(8, &[change]));
    }
}
