//! Spans that the wire writes as text, such as `24h0m0s`, and an empty text for none; they are read as text
//! or as nanoseconds.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

use crate::time::{Nanos, parse_go_duration};

/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(span: &Nanos, s: S) -> Result<S::Ok, S::Error> {
    if span.0 == 0 { s.serialize_str("") } else { s.collect_str(span) }
}

/// # Errors
/// It is no span.
pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Nanos, D::Error> {
    d.deserialize_any(Span)
}

struct Span;

impl<'de> Visitor<'de> for Span {
    type Value = Nanos;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a span such as \"1h30m\", or nanoseconds")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Nanos, E> {
        if text.is_empty() {
            return Ok(Nanos(0));
        }
        parse_go_duration(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, nanos: i64) -> Result<Nanos, E> {
        Ok(Nanos(nanos))
    }

    fn visit_u64<E: de::Error>(self, nanos: u64) -> Result<Nanos, E> {
        i64::try_from(nanos).map(Nanos).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(nanos), &self))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Nanos, E> {
        Ok(Nanos(0))
    }
}

#[cfg(test)]
mod tests {
    use crate::namespace::NodePool;

    #[test]
    fn a_span_is_written_as_text_and_read_as_text_or_number() {
        for (wire, nanos, text) in [
            ("\"1h30m\"", 5_400_000_000_000_i64, "\"1h30m0s\""),
            ("86400000000000", 86_400_000_000_000, "\"24h0m0s\""),
            ("\"\"", 0, "\"\""),
            ("null", 0, "\"\""),
        ] {
            let pool: NodePool = serde_json::from_str(&format!("{{\"NodeIdentityTTL\":{wire}}}")).unwrap();
            assert_eq!(pool.node_identity_ttl.0, nanos);
            assert!(serde_json::to_string(&pool).unwrap().contains(&format!("\"NodeIdentityTTL\":{text}")));
        }
        for bad in ["\"soon\"", "true", "[]", "18446744073709551615"] {
            assert!(serde_json::from_str::<NodePool>(&format!("{{\"NodeIdentityTTL\":{bad}}}")).is_err(), "{bad}");
        }
    }
}
