//! Answers of the public API: JSON as clients of the compatible interface expect it, and the headers that
//! say at which index.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use model::Index;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::errors::{Answered, ApiError};

pub const INDEX: HeaderName = HeaderName::from_static(api::headers::INDEX);
const KNOWN_LEADER: HeaderName = HeaderName::from_static(api::headers::KNOWN_LEADER);
const LAST_CONTACT: HeaderName = HeaderName::from_static(api::headers::LAST_CONTACT);
const NEXT_TOKEN: HeaderName = HeaderName::from_static(api::headers::NEXT_TOKEN);

/// What an answer to a read says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub index: Index,
    pub known_leader: bool,
    pub last_contact: Duration,
    pub next_token: Option<String>,
}

impl Meta {
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        // Never 0: who asks on from there would not wait, but ask again and again.
        headers.insert(INDEX, self.index.get().max(1).into());
        let known = if self.known_leader { "true" } else { "false" };
        headers.insert(KNOWN_LEADER, HeaderValue::from_static(known));
        let contact = u64::try_from(self.last_contact.as_millis()).unwrap_or(u64::MAX);
        headers.insert(LAST_CONTACT, contact.into());
        // A token that is no header value (a job id with odd letters) is written as bytes.
        let token = self.next_token.as_ref().and_then(|t| HeaderValue::from_bytes(t.as_bytes()).ok());
        if let Some(token) = token {
            headers.insert(NEXT_TOKEN, token);
        }
    }
}

/// How the caller wants JSON written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Four blanks an indent, and a line end at the end.
    pub pretty: bool,
}

impl Style {
    /// A value without any header about the state.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Answered {
        let bytes = self.bytes(value).map_err(|e| ApiError::internal("answer cannot be written", &e))?;
        Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
    }

    /// The answer to a read.
    pub fn read<T: Serialize + ?Sized>(self, value: &T, meta: &Meta) -> Answered {
        let mut response = self.json(value)?;
        meta.write(response.headers_mut());
        Ok(response)
    }

    /// The answer to a write.
    pub fn write<T: Serialize + ?Sized>(self, value: &T, index: Index) -> Answered {
        let mut response = self.json(value)?;
        response.headers_mut().insert(INDEX, index.get().into());
        Ok(response)
    }

    fn bytes<T: Serialize + ?Sized>(self, value: &T) -> serde_json::Result<Vec<u8>> {
        if !self.pretty {
            return serde_json::to_vec(value);
        }
        let mut out = Vec::with_capacity(512);
        value.serialize(&mut Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    ")))?;
        out.push(b'\n');
        Ok(out)
    }
}
