//! Packets that only the cluster's members can write or read.
//!
//! ```text
//!   format 1 | key id 4 | salt 16 · counter 8 | ciphertext | tag 16
//! ```
//!
//! ChaCha20-Poly1305. A nonce of 96 bits is too short to be drawn at random for as long as a
//! cluster runs, so it is made 192 bits long: each process draws a salt when it starts, packets are
//! sealed with HMAC-SHA-256(key, salt), and the counter is the nonce under that. The head is
//! authenticated with the packet.
//!
//! The ring holds several keys: the first seals, all open. How it changes is said in [`super::ring`]. A packet
//! may be answered with the key that it came with, so that one who knows no newer key hears of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac};

use super::ring::Ring;
use crate::pki::{PkiError, replace};

const FORMAT: u8 = 1;
pub(super) const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 4;
const SALT_BYTES: usize = 16;
const COUNTER_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + ID_BYTES + SALT_BYTES + COUNTER_BYTES;
/// How much longer a sealed packet is.
pub(super) const OVERHEAD_BYTES: usize = HEAD_BYTES + 16;
/// A ring of a time that is further away than this is not believed.
const AHEAD_MAX: Duration = Duration::from_secs(86_400);

/// Why a key ring is not usable.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the gossip key")]
    Read(#[from] std::io::Error),
    #[error("line {line} of the gossip key is not 32 bytes in base64")]
    Key { line: usize },
    #[error("the gossip key file holds no key, or more than 8")]
    Count,
    #[error("no randomness to be had")]
    Randomness,
    #[error("the gossip keys are of a time to come; is a clock wrong?")]
    Ahead,
    #[error("cannot keep the gossip keys")]
    Keep(#[from] PkiError),
}

struct Key {
    id: [u8; ID_BYTES],
    secret: hmac::Key,
}

impl Key {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let hash = digest::digest(&digest::SHA256, bytes);
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&hash.as_ref()[..ID_BYTES]);
        Self { id, secret: hmac::Key::new(hmac::HMAC_SHA256, bytes) }
    }

    fn cipher(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let derived = hmac::sign(&self.secret, salt);
        Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, derived.as_ref()).ok()?))
    }
}

/// A key of any length as one of ours: 32 bytes stay as they are, others are hashed.
pub fn widened(key: &[u8]) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    if key.len() == KEY_BYTES {
        bytes.copy_from_slice(key);
    } else {
        bytes.copy_from_slice(digest::digest(&digest::SHA256, key).as_ref());
    }
    bytes
}

fn nonce(counter: [u8; COUNTER_BYTES]) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter);
    Nonce::assume_unique_for_key(bytes)
}

/// The keys of a cluster's gossip. Clones share them. Those from a file are read again, by the
/// gossip engine, when the file changes.
#[derive(Clone)]
pub struct KeyRing(Arc<Shared>);

struct InUse {
    ring: Ring,
    keys: Vec<Key>,
}

impl InUse {
    fn of(ring: Ring) -> Result<Self, KeyError> {
        ring.check()?;
        Ok(Self { keys: ring.bytes()?.iter().map(Key::new).collect(), ring })
    }
}

/// Which key a packet came with.
pub(super) type KeyId = [u8; ID_BYTES];

struct Shared {
    file: Option<File>,
    /// Held while the keys change.
    also: Mutex<Option<PathBuf>>,
    in_use: ArcSwap<InUse>,
    salt: [u8; SALT_BYTES],
    counter: AtomicU64,
}

/// Where keys came from, and the change of it that is in use.
struct File {
    path: PathBuf,
    changed: Mutex<Option<SystemTime>>,
}

impl KeyRing {
    /// Reads a file with one key per line, base64; the first one seals.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let changed = Mutex::new(changed(path));
        let text = std::fs::read_to_string(path)?;
        Self::new(&text, Some(File { path: path.to_owned(), changed }))
    }

    /// The keys in `text`, one per line.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::new(text, None)
    }

    fn new(text: &str, file: Option<File>) -> Result<Self, KeyError> {
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).map_err(|_| KeyError::Randomness)?;
        let in_use = ArcSwap::from_pointee(InUse::of(Ring::read(text)?)?);
        Ok(Self(Arc::new(Shared { file, also: Mutex::new(None), in_use, salt, counter: AtomicU64::new(0) })))
    }

    /// The keys in use.
    pub fn ring(&self) -> Ring {
        self.0.in_use.load().ring.clone()
    }

    /// Keeps the keys in this file, too, from now on.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_also(&self, path: PathBuf) -> Result<(), KeyError> {
        let mut also = self.0.also.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = self.ring();
        let there = std::fs::read_to_string(&path).ok().and_then(|text| Ring::read(&text).ok());
        if there.is_none_or(|there| there.version < ours.version) {
            replace(&path, ours.text().as_bytes(), 0o600)?;
        }
        *also = Some(path);
        Ok(())
    }

    /// Takes over a ring, if it is newer, and keeps it; `Ok(true)` if it was.
    ///
    /// # Errors
    /// It is not usable, or cannot be kept; the keys stay as they were.
    pub fn adopt(&self, ring: Ring) -> Result<bool, KeyError> {
        let also = self.0.also.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.version <= self.0.in_use.load().ring.version {
            return Ok(false);
        }
        let latest = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + AHEAD_MAX;
        if u128::from(ring.version) > latest.as_millis() {
            return Err(KeyError::Ahead);
        }
        let in_use = InUse::of(ring)?;
        let text = in_use.ring.text();
        if let Some(file) = &self.0.file {
            let mut known = file.changed.lock().unwrap_or_else(PoisonError::into_inner);
            replace(&file.path, text.as_bytes(), 0o600)?;
            *known = changed(&file.path);
        }
        if let Some(path) = &*also {
            replace(path, text.as_bytes(), 0o600)?;
        }
        self.0.in_use.store(Arc::new(in_use));
        Ok(true)
    }

    /// Takes over the keys that are in the file now; `Ok(true)` if it had changed.
    ///
    /// # Errors
    /// The file is not usable; the keys stay as they were.
    pub fn reload_if_changed(&self) -> Result<bool, KeyError> {
        let Some(file) = &self.0.file else {
            return Ok(false);
        };
        let now = changed(&file.path);
        let mut known = file.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now {
            return Ok(false);
        }
        let ring = Ring::read(&std::fs::read_to_string(&file.path)?)?;
        self.0.in_use.store(Arc::new(InUse::of(ring)?));
        *known = now;
        Ok(true)
    }

    #[cfg(test)]
    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal_with(plain, None)
    }

    /// A packet with this content, sealed with the key of that id if it is still there; `None` cannot happen with
    /// a valid ring.
    pub(super) fn seal_with(&self, plain: &[u8], id: Option<KeyId>) -> Option<Vec<u8>> {
        let in_use = self.0.in_use.load();
        let named = id.and_then(|id| in_use.keys.iter().find(|k| k.id == id));
        let key = named.or(in_use.keys.first())?;
        let counter = self.0.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut packet = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
        packet.push(FORMAT);
        packet.extend_from_slice(&key.id);
        packet.extend_from_slice(&self.0.salt);
        packet.extend_from_slice(&counter);
        let mut body = plain.to_vec();
        let cipher = key.cipher(&self.0.salt)?;
        cipher.seal_in_place_append_tag(nonce(counter), Aad::from(packet.as_slice()), &mut body).ok()?;
        packet.extend_from_slice(&body);
        Some(packet)
    }

    /// The content of a packet, decrypted in place, and which key it came with; `None` if it is not from a member.
    pub(super) fn open<'a>(&self, packet: &'a mut [u8]) -> Option<(&'a [u8], KeyId)> {
        let (head, body) = packet.split_at_mut_checked(HEAD_BYTES)?;
        let (&mut format, rest) = head.split_first_mut()?;
        let (id, rest) = rest.split_at(ID_BYTES);
        let (salt, counter) = rest.split_at(SALT_BYTES);
        let in_use = self.0.in_use.load();
        let key = in_use.keys.iter().find(|k| k.id == id)?;
        let nonce = nonce(counter.try_into().ok()?);
        let cipher = (format == FORMAT).then(|| key.cipher(salt))??;
        cipher.open_in_place(nonce, Aad::from(&*head), body).ok().map(|plain| (&*plain, key.id))
    }
}

/// Gives the newest of these files' keys to the others: a process of a machine that was away when the keys changed
/// has them when the machine starts again. Files that are not there stay so.
///
/// # Errors
/// A file cannot be read or written.
pub fn share(files: &[PathBuf]) -> Result<(), KeyError> {
    let mut rings = Vec::new();
    for path in files.iter().filter(|path| path.exists()) {
        rings.push((path, Ring::read(&std::fs::read_to_string(path)?)?));
    }
    let Some(newest) = rings.iter().map(|(_, ring)| ring).max_by_key(|ring| ring.version).cloned() else {
        return Ok(());
    };
    for (path, _) in rings.iter().filter(|(_, ring)| ring.version < newest.version) {
        replace(path, newest.text().as_bytes(), 0o600)?;
    }
    Ok(())
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::super::ring::Change;
    use super::*;

    fn text(fill: u8) -> String {
        base64::engine::general_purpose::STANDARD.encode([fill; KEY_BYTES])
    }

    #[test]
    fn only_a_member_can_open_a_packet_and_no_bit_of_it_may_change() {
        let (a, b) = (KeyRing::parse(&text(1)).unwrap(), KeyRing::parse(&text(1)).unwrap());
        let packet = a.seal(b"hello").unwrap();
        assert_eq!(packet.len(), 5 + OVERHEAD_BYTES);
        assert_eq!(b.open(&mut packet.clone()).unwrap().0, b"hello");
        for at in 0..packet.len() {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            assert!(b.open(&mut changed).is_none(), "byte {at}");
        }
        for length in 0..packet.len() {
            assert!(b.open(&mut packet[..length].to_vec()).is_none(), "length {length}");
        }
        assert!(KeyRing::parse(&text(2)).unwrap().open(&mut packet.clone()).is_none());
    }

    #[test]
    fn no_two_packets_are_alike() {
        let ring = KeyRing::parse(&text(1)).unwrap();
        let other = KeyRing::parse(&text(1)).unwrap();
        let (a, b, c) = (ring.seal(b"x"), ring.seal(b"x"), other.seal(b"x"));
        assert!(a != b && a != c && b != c);
    }

    #[test]
    fn keys_rotate_without_a_moment_in_which_members_cannot_read_each_other() {
        let [old, both, turned, new] =
            [text(1), format!("{}\n{}\n", text(1), text(2)), format!("{}\n\n{}", text(2), text(1)), text(2)]
                .map(|t| KeyRing::parse(&t).unwrap());
        for (a, b) in [(&old, &both), (&both, &turned), (&turned, &new)] {
            for (from, to) in [(a, b), (b, a)] {
                assert!(to.open(&mut from.seal(b"x").unwrap()).is_some());
            }
        }
        assert!(new.open(&mut old.seal(b"x").unwrap()).is_none());
    }

    #[test]
    fn a_changed_file_is_taken_up_and_a_damaged_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gossip.key");
        std::fs::write(&path, text(1)).unwrap();
        let ring = KeyRing::load(&path).unwrap();
        assert!(!ring.reload_if_changed().unwrap());
        let write = |content: &str, seconds: u64| {
            std::fs::write(&path, content).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        write("damaged", 1);
        assert!(ring.reload_if_changed().is_err());
        let old = KeyRing::parse(&text(1)).unwrap();
        assert!(old.open(&mut ring.seal(b"x").unwrap()).is_some());
        write(&text(2), 2);
        assert!(ring.reload_if_changed().unwrap());
        assert!(old.open(&mut ring.seal(b"x").unwrap()).is_none());
    }

    #[test]
    fn a_newer_ring_is_taken_over_and_kept_an_older_one_never() {
        let dir = tempfile::tempdir().unwrap();
        let (path, also) = (dir.path().join("gossip.key"), dir.path().join("also.key"));
        std::fs::write(&path, text(1)).unwrap();
        let ring = KeyRing::load(&path).unwrap();
        ring.keep_also(also.clone()).unwrap();
        let first = ring.ring();
        let both = first.changed(Change::Install, &text(2), 1_000).unwrap();
        let turned = both.changed(Change::Use, &text(2), 2_000).unwrap();
        assert!(ring.adopt(turned.clone()).unwrap());
        assert!(!ring.adopt(both).unwrap() && !ring.adopt(first.clone()).unwrap());
        let far = first.changed(Change::Install, &text(3), u64::MAX).unwrap();
        assert!(matches!(ring.adopt(far), Err(KeyError::Ahead)));
        assert_eq!(ring.ring(), turned);
        for file in [&path, &also] {
            assert_eq!(KeyRing::load(file).unwrap().ring(), turned);
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(!ring.reload_if_changed().unwrap(), "its own change is no news");
        let away = dir.path().join("away.key");
        std::fs::write(&away, text(1)).unwrap();
        share(&[away.clone(), path, dir.path().join("nowhere.key")]).unwrap();
        assert_eq!(KeyRing::load(&away).unwrap().ring(), turned);
    }

    #[test]
    fn a_packet_is_answered_with_the_key_it_came_with() {
        let (old, turned) =
            (KeyRing::parse(&text(1)).unwrap(), KeyRing::parse(&format!("{}\n{}", text(2), text(1))).unwrap());
        let mut packet = old.seal(b"hello").unwrap();
        let (_, id) = turned.open(&mut packet).unwrap();
        assert!(old.open(&mut turned.seal(b"x").unwrap()).is_none());
        assert!(old.open(&mut turned.seal_with(b"x", Some(id)).unwrap()).is_some());
    }

    #[test]
    fn a_key_that_is_no_key_is_refused_with_its_line() {
        assert!(matches!(KeyRing::parse(""), Err(KeyError::Count)));
        assert!(matches!(KeyRing::parse(&format!("{}\nshort", text(1))), Err(KeyError::Key { line: 2 })));
        assert!(matches!(KeyRing::parse(&vec![text(1); 9].join("\n")), Err(KeyError::Count)));
    }
}
