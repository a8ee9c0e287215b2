//! One 64-bit hash for everything that must be the same on all servers: the rolling hash of row
//! changes, the hash of a request's body, the checksum of a snapshot.
//!
//! Eight bytes at a time: each step is a bijection of the state for a given word, and of the word for a
//! given state, so a single damaged word always shows. It begins like FNV-1a and multiplies by the golden
//! ratio; for short keys there is [`model::hash`]. Not for secrets: an enemy can make two inputs hash alike.

use std::io;

use model::hash::START;
use serde::Serialize;

use crate::change::Change;

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash being made. What is written to it is hashed; how it is cut into writes does not matter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hash {
    state: u64,
    /// The last bytes written, of a word that is not full yet.
    tail: u64,
    tail_bits: u32,
}

impl Default for Hash {
    fn default() -> Self {
        Self { state: START, tail: 0, tail_bits: 0 }
    }
}

impl Hash {
    /// Of what follows something whose hash is `before`.
    fn after(before: u64) -> Self {
        let mut hash = Self::default();
        hash.update(&before.to_le_bytes());
        hash
    }

    pub fn update(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.tail_bits > 0
            && let Some((byte, behind)) = rest.split_first()
        {
            self.push(*byte);
            rest = behind;
        }
        let mut words = rest.chunks_exact(8);
        for word in &mut words {
            let mut full = [0; 8];
            full.copy_from_slice(word);
            self.step(u64::from_le_bytes(full));
        }
        for byte in words.remainder() {
            self.push(*byte);
        }
    }

    fn push(&mut self, byte: u8) {
        self.tail |= u64::from(byte) << self.tail_bits;
        self.tail_bits += 8;
        if self.tail_bits == 64 {
            self.step(self.tail);
            (self.tail, self.tail_bits) = (0, 0);
        }
    }

    fn step(&mut self, word: u64) {
        self.state = (self.state ^ word).rotate_left(29).wrapping_mul(FACTOR);
    }

    /// The hash of everything written so far; more may follow.
    pub fn value(&self) -> u64 {
        let mut last = *self;
        last.step(self.tail);
        last.step(u64::from(self.tail_bits) + 1);
        last.state ^ (last.state >> 32)
    }
}

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The hash after changes whose JSON is `texts`, from the one before: the same as [`roll`].
pub(crate) fn roll_texts(before: u64, texts: &[String]) -> u64 {
    if texts.is_empty() {
        return before;
    }
    let mut hash = Hash::after(before);
    for (at, text) in texts.iter().enumerate() {
        hash.update(if at == 0 { b"[" } else { b"," });
        hash.update(text.as_bytes());
    }
    hash.update(b"]");
    hash.value()
}

/// The same of a JSON list of changes, as it was written. An empty one leaves the hash as it is.
pub(crate) fn roll_list(before: u64, list: &str) -> u64 {
    if list == "[]" {
        return before;
    }
    let mut hash = Hash::after(before);
    hash.update(list.as_bytes());
    hash.value()
}

/// The hash after `changes`, from the one before. No changes leave it as it is.
pub(crate) fn roll(before: u64, changes: &[Change]) -> u64 {
    if changes.is_empty() {
        return before;
    }
    let mut hash = Hash::after(before);
    write(&mut hash, &changes);
    hash.value()
}

fn write(hash: &mut Hash, value: &impl Serialize) {
    // Writing to a hash cannot fail; a value that has no JSON form hashes as far as it was written,
    // the same on every server.
    let _ = model::sparse::to_writer(hash, value);
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
        assert_eq!(roll(7, &[]), 7);
        let mut whole = Hash::default();
        whole.update(b"how it is cut does not matter");
        for cut in 0..29 {
            let mut parts = Hash::default();
            let (a, b) = b"how it is cut does not matter".split_at(cut);
            parts.update(a);
            parts.update(b);
            assert_eq!(parts.value(), whole.value(), "{cut}");
        }
        let change = Change::JobFence { namespace: "n".into(), id: "j".into(), incarnation: 1.into(), index: 2.into() };
        assert_ne!(roll(7, std::slice::from_ref(&change)), roll(8, std::slice::from_ref(&change)));
        let changes = [change.clone(), Change::EvalGone { id: "e".into() }, change];
        let texts: Vec<String> = changes.iter().map(|c| model::sparse::to_string(c).unwrap()).collect();
        assert_eq!((roll_texts(7, &texts), roll_texts(7, &[])), (roll(7, &changes), 7));
        let list = model::sparse::to_string(&changes).unwrap();
        assert_eq!((roll_list(7, &list), roll_list(7, "[]")), (roll(7, &changes), 7));
    }
}
