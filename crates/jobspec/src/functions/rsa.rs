//! Just enough RSA for `rsadecrypt`: read a private key, undo PKCS #1 v1.5 encryption.
//!
//! The arithmetic is plain and not constant in time. That is fit for this use: whoever submits
//! the job file supplies key and ciphertext both and sees the result.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const KEY_BITS_MAX: usize = 8192;

/// Little-endian 32-bit digits without leading zeros.
type Digits = Vec<u32>;

pub(super) struct PrivateKey {
    modulus: Digits,
    exponent: Digits,
}

impl PrivateKey {
    /// Reads `RSA PRIVATE KEY` (PKCS #1) and `PRIVATE KEY` (PKCS #8).
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let body: String =
            pem.lines().map(str::trim).filter(|line| !line.starts_with("-----") && !line.contains(':')).collect();
        if !pem.contains("PRIVATE KEY-----") {
            return Err("failed to parse key: no key found".to_owned());
        }
        if pem.contains("ENCRYPTED") {
            return Err("failed to parse key: password protected keys are not supported".to_owned());
        }
        let der = STANDARD.decode(body).map_err(|_| "failed to parse key: it is not base64".to_owned())?;
        let malformed = || "failed to parse key: it is not an RSA private key".to_owned();
        let mut outer = Der(&der).enter(0x30).ok_or_else(malformed)?;
        outer.integer().ok_or_else(malformed)?;
        if outer.0.first() == Some(&0x30) {
            // PKCS #8 wraps the same structure in an octet string.
            outer.enter_and_skip(0x30).ok_or_else(malformed)?;
            let octets = outer.enter_and_skip(0x04).ok_or_else(malformed)?;
            outer = Der(octets).enter(0x30).ok_or_else(malformed)?;
            outer.integer().ok_or_else(malformed)?;
        }
        let modulus = outer.integer().ok_or_else(malformed)?;
        outer.integer().ok_or_else(malformed)?;
        let exponent = outer.integer().ok_or_else(malformed)?;
        if modulus.len() * 32 > KEY_BITS_MAX || exponent.len() > modulus.len() || modulus.is_empty() {
            return Err("failed to parse key: unsupported key size".to_owned());
        }
        Ok(PrivateKey { modulus, exponent })
    }

    /// What one decryption costs, in units of work.
    pub fn cost(&self) -> u64 {
        let digits = self.modulus.len() as u64;
        digits * digits * digits * 32
    }

    pub fn decrypt(&self, ciphertext: &[u8]) -> Result<Vec<u8>, String> {
        let failed = || "failed to decrypt".to_owned();
        let cipher = from_bytes(ciphertext);
        if compare(&cipher, &self.modulus) != Ordering::Less {
            return Err(failed());
        }
        let plain = to_bytes(&power(&cipher, &self.exponent, &self.modulus));
        // The leading zero byte of the padding is lost in the conversion: 02, filler, 00, message.
        let rest = plain.strip_prefix(&[2]).ok_or_else(failed)?;
        let end = rest.iter().position(|byte| *byte == 0).filter(|end| *end >= 8).ok_or_else(failed)?;
        Ok(rest[end + 1..].to_vec())
    }
}

struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn enter_and_skip(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let bytes = usize::from(first & 0x7f);
            if bytes == 0 || bytes > 3 {
                return None;
            }
            length = rest.get(..bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            rest = &rest[bytes..];
        }
        let inner = rest.get(..length)?;
        self.0 = &rest[length..];
        (found == tag).then_some(inner)
    }

    fn enter(mut self, tag: u8) -> Option<Der<'a>> {
        self.enter_and_skip(tag).map(Der)
    }

    fn integer(&mut self) -> Option<Digits> {
        self.enter_and_skip(0x02).map(from_bytes)
    }
}

fn from_bytes(bytes: &[u8]) -> Digits {
    let mut out: Digits =
        bytes.rchunks(4).map(|chunk| chunk.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte))).collect();
    strip(&mut out);
    out
}

fn to_bytes(digits: &[u32]) -> Vec<u8> {
    let bytes: Vec<u8> = digits.iter().rev().flat_map(|digit| digit.to_be_bytes()).collect();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes[zeros..].to_vec()
}

fn strip(digits: &mut Digits) {
    while digits.last() == Some(&0) {
        digits.pop();
    }
}

fn compare(a: &[u32], b: &[u32]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()))
}

fn multiply(a: &[u32], b: &[u32]) -> Digits {
    let mut out = vec![0u32; a.len() + b.len()];
    for (i, x) in a.iter().enumerate() {
        let mut carry = 0u64;
        for (j, y) in b.iter().enumerate() {
            let sum = u64::from(out[i + j]) + u64::from(*x) * u64::from(*y) + carry;
            out[i + j] = (sum & 0xffff_ffff) as u32;
            carry = sum >> 32;
        }
        out[i + b.len()] = carry as u32;
    }
    strip(&mut out);
    out
}

/// Remainder by schoolbook long division (Knuth, TAOCP vol. 2, 4.3.1, algorithm D).
fn remainder(value: &[u32], by: &[u32]) -> Digits {
    if compare(value, by) == Ordering::Less {
        return value.to_vec();
    }
    let Some(shift) = by.last().map(|digit| digit.leading_zeros()) else { return Vec::new() };
    let divisor = shifted(by, shift);
    let mut rest = shifted(value, shift);
    rest.push(0);
    let n = divisor.len();
    let high = u64::from(divisor[n - 1]);
    let second = n.checked_sub(2).map_or(0, |at| u64::from(divisor[at]));
    for at in (0..rest.len() - n).rev() {
        let top = u64::from(rest[at + n]) << 32 | u64::from(rest[at + n - 1]);
        let (mut guess, mut left) = (top / high, top % high);
        let third = (at + n).checked_sub(2).map_or(0, |at| u64::from(rest[at]));
        while guess > 0xffff_ffff || guess * second > (left << 32 | third) {
            guess -= 1;
            left += high;
            if left > 0xffff_ffff {
                break;
            }
        }
        if subtract_product(&mut rest[at..=at + n], &divisor, guess) {
            add_back(&mut rest[at..=at + n], &divisor);
        }
    }
    rest.truncate(n);
    for i in 0..n {
        let next = rest.get(i + 1).copied().unwrap_or(0);
        rest[i] = if shift == 0 { rest[i] } else { rest[i] >> shift | next << (32 - shift) };
    }
    strip(&mut rest);
    rest
}

fn shifted(digits: &[u32], shift: u32) -> Digits {
    let mut out = Vec::with_capacity(digits.len() + 1);
    let mut carry = 0u64;
    for digit in digits {
        let wide = u64::from(*digit) << shift | carry;
        out.push((wide & 0xffff_ffff) as u32);
        carry = wide >> 32;
    }
    if carry > 0 {
        out.push(carry as u32);
    }
    out
}

/// Subtracts `by * times`; answers whether that went below zero.
fn subtract_product(from: &mut [u32], by: &[u32], times: u64) -> bool {
    let (mut carry, mut borrow) = (0u64, false);
    for (i, slot) in from.iter_mut().enumerate() {
        let product = by.get(i).map_or(0, |digit| u64::from(*digit)) * times + carry;
        carry = product >> 32;
        let (less, first) = slot.overflowing_sub((product & 0xffff_ffff) as u32);
        let (less, second) = less.overflowing_sub(u32::from(borrow));
        *slot = less;
        borrow = first || second;
    }
    borrow
}

fn add_back(to: &mut [u32], by: &[u32]) {
    let mut carry = 0u64;
    for (i, slot) in to.iter_mut().enumerate() {
        let sum = u64::from(*slot) + by.get(i).map_or(0, |digit| u64::from(*digit)) + carry;
        *slot = (sum & 0xffff_ffff) as u32;
        carry = sum >> 32;
    }
}

fn power(base: &[u32], exponent: &[u32], modulus: &[u32]) -> Digits {
    let mut result = vec![1];
    for digit in exponent.iter().rev() {
        for bit in (0..32).rev() {
            result = remainder(&multiply(&result, &result), modulus);
            if digit >> bit & 1 == 1 {
                result = remainder(&multiply(&result, base), modulus);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u128) -> Digits {
        from_bytes(&value.to_be_bytes())
    }

    #[test]
    fn powers_agree_with_small_arithmetic() {
        let modulus = 0xffff_fffb_u128 * 0x1_0000_000f;
        for (base, exponent) in [(3u128, 200u128), (0xdead_beef_cafe, 65537), (modulus - 1, 3)] {
            let mut expected = 1u128;
            for bit in (0..128).rev() {
                expected = mul_mod(expected, expected, modulus);
                if exponent >> bit & 1 == 1 {
                    expected = mul_mod(expected, base, modulus);
                }
            }
            assert_eq!(power(&number(base), &number(exponent), &number(modulus)), number(expected));
        }
    }

    fn mul_mod(mut a: u128, mut b: u128, modulus: u128) -> u128 {
        let mut sum = 0;
        a %= modulus;
        while b > 0 {
            if b & 1 == 1 {
                sum = (sum + a) % modulus;
            }
            a = (a + a) % modulus;
            b >>= 1;
        }
        sum
    }

    /// Made with another implementation, for this test only.
    #[test]
    fn what_another_implementation_encrypted_is_read_with_both_forms_of_the_key() {
        let ciphertext = STANDARD.decode(include_str!("../../tests/data/rsa/ciphertext.base64").trim()).unwrap();
        for pem in [
            include_str!("../../tests/data/rsa/throwaway-pkcs1.pem"),
            include_str!("../../tests/data/rsa/throwaway-pkcs8.pem"),
        ] {
            let key = PrivateKey::from_pem(pem).unwrap();
            assert_eq!(key.decrypt(&ciphertext).as_deref(), Ok(&b"attack at dawn"[..]));
            assert!(key.decrypt(&[0xff; 200]).is_err() && key.decrypt(&[]).is_err());
        }
    }

    #[test]
    fn broken_keys_are_refused() {
        assert!(PrivateKey::from_pem("").is_err());
        assert!(PrivateKey::from_pem("-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----").is_err());
    }
}
