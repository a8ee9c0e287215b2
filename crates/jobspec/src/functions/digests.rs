//! Hashes and ids. What is random elsewhere is derived from the seed of the parse here.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};
use md5::Digest as _;

use super::{Context, Failure, Function, Outcome, Want, param, text, whole};
use crate::limits;
use crate::value::Value;

const STR: &[super::Param] = &[param("str", Want::Text)];

pub(super) const TABLE: &[Function] = &[
    Function { name: "bcrypt", params: STR, rest: Some(param("cost", Want::Number)), body: bcrypt },
    Function { name: "md5", params: STR, rest: None, body: |_, a| Ok(hex(&md5::Md5::digest(text(a, 0)))) },
    Function { name: "sha1", params: STR, rest: None, body: |_, a| Ok(hex(&sha1::Sha1::digest(text(a, 0)))) },
    Function { name: "sha256", params: STR, rest: None, body: |_, a| Ok(hex(&sha2::Sha256::digest(text(a, 0)))) },
    Function { name: "sha512", params: STR, rest: None, body: |_, a| Ok(hex(&sha2::Sha512::digest(text(a, 0)))) },
    Function { name: "uuidv4", params: &[], rest: None, body: uuidv4 },
    Function {
        name: "uuidv5",
        params: &[param("namespace", Want::Text), param("name", Want::Text)],
        rest: None,
        body: uuidv5,
    },
];

fn hex(bytes: &[u8]) -> Value {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    Value::string(out)
}

/// The next 16 bytes of this parse's randomness: a hash of the seed and a counter.
fn random(cx: &Context<'_>) -> [u8; 16] {
    let made = cx.evaluator.uuids_made.get();
    cx.evaluator.uuids_made.set(made + 1);
    let mut hash = sha2::Sha256::new();
    hash.update(b"jobspec");
    hash.update(cx.evaluator.inputs.seed.to_be_bytes());
    hash.update(made.to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut out = [0; 16];
    out.copy_from_slice(&digest[..16]);
    out
}

fn uuid(mut bytes: [u8; 16], version: u8) -> Value {
    bytes[6] = (bytes[6] & 0x0f) | (version << 4);
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut out = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        let _ = write!(out, "{byte:02x}");
    }
    Value::string(out)
}

fn uuidv4(cx: &Context<'_>, _: &[Value]) -> Outcome {
    Ok(uuid(random(cx), 4))
}

fn uuidv5(_: &Context<'_>, args: &[Value]) -> Outcome {
    let namespace = match text(args, 0) {
        "dns" => "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "url" => "6ba7b811-9dad-11d1-80b4-00c04fd430c8",
        "oid" => "6ba7b812-9dad-11d1-80b4-00c04fd430c8",
        "x500" => "6ba7b814-9dad-11d1-80b4-00c04fd430c8",
        other => other,
    };
    let digits: String = namespace.chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16)
        .ok()
        .filter(|_| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .ok_or_else(|| {
            Failure::Argument(0, format!("{namespace:?} is neither a UUID nor one of dns, url, oid, x500"))
        })?;
    let mut hash = sha1::Sha1::new();
    hash.update(number.to_be_bytes());
    hash.update(text(args, 1));
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Ok(uuid(bytes, 5))
}

/// Source: the published EksBlowfish construction, `$2a$` form.
fn bcrypt(cx: &Context<'_>, args: &[Value]) -> Outcome {
    let cost = match args.len() {
        1 => 10,
        2 => u32::try_from(whole(args, 1)?)
            .ok()
            .filter(|cost| (4..=limits::BCRYPT_COST).contains(cost))
            .ok_or_else(|| Failure::Argument(1, format!("cost must be between 4 and {}", limits::BCRYPT_COST)))?,
        _ => return Err("bcrypt() takes no more than two arguments".into()),
    };
    let password = text(args, 0);
    if password.len() > 72 {
        return Err(Failure::Argument(0, "must be at most 72 bytes".to_owned()));
    }
    // About 40 µs per unit of work at cost 4, doubling with each step.
    cx.charge(1u64 << (cost + 14))?;
    Ok(Value::string(bcrypt_hash(cost, random(cx), password)))
}

fn bcrypt_hash(cost: u32, salt: [u8; 16], password: &str) -> String {
    let mut key = password.as_bytes().to_vec();
    key.push(0);
    key.truncate(72);
    let mut state = blowfish::Blowfish::bc_init_state();
    state.salted_expand_key(&salt, &key);
    for _ in 0..(1u32 << cost) {
        state.bc_expand_key(&key);
        state.bc_expand_key(&salt);
    }
    let mut words = [0x4f72_7068, 0x6561_6e42, 0x6568_6f6c, 0x6465_7253, 0x6372_7944, 0x6f75_6274];
    for pair in words.chunks_exact_mut(2) {
        for _ in 0..64 {
            let [left, right] = state.bc_encrypt([pair[0], pair[1]]);
            pair[0] = left;
            pair[1] = right;
        }
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).take(23).collect();
    let coder = GeneralPurpose::new(&BCRYPT, NO_PAD);
    format!("$2a${cost:02}${}{}", coder.encode(salt), coder.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: the test vectors of the crypt_blowfish implementation.
    #[test]
    fn password_hashes_equal_the_published_ones() {
        for (password, hash) in [
            ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
            ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
            ("", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
        ] {
            let coder = GeneralPurpose::new(&BCRYPT, NO_PAD);
            let salt: [u8; 16] = coder.decode(&hash[7..29]).unwrap().try_into().unwrap();
            assert_eq!(bcrypt_hash(5, salt, password), hash);
        }
    }
}
