//! Request bodies and request ids, as they come in.

use api::go_json;
use axum::body::{Body, Bytes};
use axum::extract::FromRequest;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use client::state::{new_request_id, new_uuid};
use fsm::RequestId;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::errors::ApiError;
use crate::options::Options;

/// Largest body of a public request.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// A body, whole.
pub struct Whole(pub Bytes);

impl FromRequest<App> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, _: &App) -> Result<Self, ApiError> {
        axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await.map(Self).map_err(|_| {
            let text = format!("request body is larger than {BODY_BYTES_MAX} bytes, or broke off");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
        })
    }
}

impl Whole {
    /// Reads the body as Go does. Fields nobody knows come back as warnings; with `?strict` they are
    /// refused.
    ///
    /// # Errors
    /// The body is empty, malformed or does not fit.
    pub fn decode<T: DeserializeOwned>(&self, options: &Options) -> Result<(T, Vec<String>), ApiError> {
        let decoded = go_json::from_slice::<T>(&self.0)?;
        let unknown: Vec<String> = decoded.unknown.iter().map(ToString::to_string).collect();
        if options.strict() && !unknown.is_empty() {
            return Err(ApiError::bad(unknown.join("\n")));
        }
        Ok((decoded.value, unknown))
    }

    /// As [`Whole::decode`], for routes whose body may be absent.
    ///
    /// # Errors
    /// The body is malformed or does not fit.
    pub fn decode_optional<T: DeserializeOwned>(&self, options: &Options) -> Result<Option<T>, ApiError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.decode(options).map(|(value, _)| Some(value))
    }
}

/// The name of a write, and where its ids come from: a write that the caller names makes the same
/// command each time it is sent, so that a retry is recognized.
pub struct Write {
    pub request: RequestId,
    named: bool,
    minted: u64,
}

impl Write {
    /// Another command of the same write, with a name of its own.
    #[must_use]
    pub fn part(&self) -> Self {
        let request = RequestId { random: mix(self.request.random), ..self.request };
        Self { request, named: self.named, minted: 0 }
    }

    /// A new UUID of this write.
    pub fn mint(&mut self) -> String {
        if !self.named {
            return new_uuid();
        }
        self.minted += 1;
        let (high, low) = (self.draw(0), self.draw(1));
        let high = (high & !0xf000) | 0x4000;
        let low = (low & !(0b11 << 62)) | (0b10 << 62);
        let [a, b, c, d, e] = [high >> 32, high >> 16 & 0xffff, high & 0xffff, low >> 48, low & 0xffff_ffff_ffff];
        format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }

    fn draw(&self, half: u64) -> u64 {
        let seed = mix(self.request.random ^ mix(self.request.at_ms));
        mix(seed.wrapping_add(mix(self.minted * 2 + half)))
    }
}

/// SplitMix64's finalizer. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators".
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

impl FromRequestParts<App> for Write {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let Some(header) = parts.headers.get(api::headers::REQUEST_ID) else {
            return Ok(Self { request: new_request_id(), named: false, minted: 0 });
        };
        let request = header.to_str().ok().and_then(parse_request_id);
        let request = request.ok_or_else(|| {
            ApiError::bad("X-Steppe-Request-Id must be unix milliseconds, a dash and 16 hexadecimal digits")
        })?;
        Ok(Self { request, named: true, minted: 0 })
    }
}

fn parse_request_id(text: &str) -> Option<RequestId> {
    let (at_ms, random) = text.trim().split_once('-')?;
    if random.len() != 16 {
        return None;
    }
    Some(RequestId { at_ms: at_ms.parse().ok()?, random: u64::from_str_radix(random, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_write_mints_the_same_ids_again_and_different_ones_in_turn() {
        let request = parse_request_id("1700000000000-00000000000000ff").unwrap();
        let mut a = Write { request, named: true, minted: 0 };
        let mut b = Write { request, named: true, minted: 0 };
        let ids = [a.mint(), a.mint()];
        assert_eq!(ids, [b.mint(), b.mint()]);
        assert_ne!(ids[0], ids[1]);
        assert!(crate::list::check_uuid("x", &ids[0]).is_ok(), "{}", ids[0]);
        for odd in ["", "x", "1-2", "1700000000000-zz000000000000ff", "-00000000000000ff"] {
            assert!(parse_request_id(odd).is_none(), "{odd}");
        }
    }
}
