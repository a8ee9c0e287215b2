//! Making a root key. Its secrets are encrypted before they leave this module; who reads a state server's
//! disk can still open them, since what they are encrypted with is stored beside them
//! ([`fsm::KeyMaterial`]).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fsm::{Command, KeyMaterial};
use model::keyring::{RootKey, RootKeyMeta};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

const SECRET_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// The command that adds a new key; `now` in Unix nanoseconds.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_key(key_id: String, now: i64) -> Result<Command, &'static str> {
    let random = SystemRandom::new();
    let fill = |bytes: &mut [u8]| random.fill(bytes).map_err(|_| "the system gives no random bytes");
    let (mut secrets, mut wrapping, mut nonce) = ([0; SECRET_BYTES * 2], [0; SECRET_BYTES], [0; NONCE_BYTES]);
    fill(&mut secrets)?;
    fill(&mut wrapping)?;
    fill(&mut nonce)?;
    let signing = Ed25519KeyPair::from_seed_unchecked(&secrets[SECRET_BYTES..]).map_err(|_| "no signing key")?;
    let public = URL_SAFE_NO_PAD.encode(signing.public_key());
    let mut sealed = secrets.to_vec();
    let key = UnboundKey::new(&AES_256_GCM, &wrapping).map_err(|_| "no wrapping key")?;
    // The id is bound: one key's secrets cannot be given out as another's.
    let seal = LessSafeKey::new(key).seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(key_id.as_bytes()),
        &mut sealed,
    );
    seal.map_err(|_| "a key cannot be encrypted")?;
    let material = KeyMaterial {
        wrapped: STANDARD.encode([&nonce[..], &sealed].concat()),
        wrapping_key: STANDARD.encode(wrapping),
    };
    let meta = RootKeyMeta { key_id, algorithm: "aes256-gcm".to_owned(), create_time: now, ..RootKeyMeta::default() };
    Ok(Command::RootKeyAdd { key: Box::new(RootKey { meta, public }), material, replaces: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_s_secrets_are_not_readable_as_they_are_stored_and_no_two_are_alike() {
        let make = || match new_key("k".into(), 1).unwrap() {
            Command::RootKeyAdd { key, material, .. } => (key, material),
            other => panic!("{other:?}"),
        };
        let (one, two) = (make(), make());
        assert_ne!(one.0.public, two.0.public);
        assert_eq!(URL_SAFE_NO_PAD.decode(&one.0.public).unwrap().len(), 32);
        let mut sealed = STANDARD.decode(&one.1.wrapped).unwrap().split_off(NONCE_BYTES);
        let nonce: [u8; NONCE_BYTES] = STANDARD.decode(&one.1.wrapped).unwrap()[..NONCE_BYTES].try_into().unwrap();
        let key = UnboundKey::new(&AES_256_GCM, &STANDARD.decode(&one.1.wrapping_key).unwrap()).unwrap();
        let opened = LessSafeKey::new(key)
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(b"k"), &mut sealed)
            .unwrap();
        let signing = Ed25519KeyPair::from_seed_unchecked(&opened[SECRET_BYTES..]).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(signing.public_key()), one.0.public);
    }
}
