//! 64-bit FNV-1a: a hash of bytes that is the same in every process and every version. Not for secrets.
//! Source: Fowler, Noll, Vo, "The FNV Non-Cryptographic Hash Algorithm".

/// What a hash begins with, unless it continues or is seeded.
pub const START: u64 = 0xcbf2_9ce4_8422_2325;

/// The hash of the bytes.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    fnv1a_from(START, bytes)
}

/// The hash of the bytes, going on from `start`: another hash, or [`START`] changed by a seed.
pub fn fnv1a_from(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_the_published_ones() {
        for (text, hash) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(fnv1a(text.as_bytes()), hash, "{text:?}");
        }
    }

    #[test]
    fn a_hash_goes_on_where_another_ended() {
        assert_eq!(fnv1a_from(fnv1a(b"foo"), b"bar"), fnv1a(b"foobar"));
    }
}
