//! Reading an answer that goes on: pieces, or lines of newline-delimited JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::connection::Trust;
use crate::error::CallError;

/// An open stream. Dropping it closes it.
pub struct Streaming {
    addr: SocketAddr,
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    silence: Duration,
    /// The shared connection that it is on, if it is on one.
    shared: Option<Arc<Trust>>,
}

impl Streaming {
    pub(super) fn new(addr: SocketAddr, response: Response<Incoming>, silence: Duration) -> Self {
        let (head, body) = response.into_parts();
        Self { addr, status: head.status, headers: head.headers, body, silence, shared: None }
    }

    pub(super) fn on(self, shared: Arc<Trust>) -> Self {
        Self { shared: Some(shared), ..self }
    }

    fn too_silent(&self) -> CallError {
        if let Some(connection) = &self.shared {
            connection.lose();
        }
        CallError::Timeout { addr: self.addr, within: self.silence, sent: true }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The next piece; `None` at the end. May be cancelled without loss.
    ///
    /// # Errors
    /// [`CallError::Timeout`] after too long a silence, [`CallError::Broken`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        let addr = self.addr;
        loop {
            let frame = match tokio::time::timeout(self.silence, self.body.frame()).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(_) => return Err(self.too_silent()),
            };
            let frame = frame.map_err(|source| CallError::Broken { addr, sent: true, source })?;
            match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                _ => {}
            }
        }
    }

    /// The pieces as a stream that ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, CallError>> + Send {
        futures::stream::try_unfold(self, |mut this| async move { Ok(this.chunk().await?.map(|piece| (piece, this))) })
    }

    /// Splits into lines of at most `bytes_max` each.
    pub fn lines(self, bytes_max: usize) -> Lines {
        Lines { stream: self, buffer: LineBuffer::new(bytes_max) }
    }
}

/// The lines of a stream, without their ends. Empty lines (beats) are passed over.
pub struct Lines {
    stream: Streaming,
    buffer: LineBuffer,
}

impl Lines {
    /// The next line; `None` at the end. May be cancelled without loss.
    ///
    /// # Errors
    /// As [`Streaming::chunk`]; [`CallError::TooLong`] for a line over the limit,
    /// [`CallError::Truncated`] if the stream ends inside a line.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let addr = self.stream.addr;
        loop {
            if let Some(line) = self.buffered()? {
                return Ok(Some(line));
            }
            match self.stream.chunk().await? {
                Some(piece) => self.buffer.push(&piece),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(CallError::Truncated { addr }),
            }
        }
    }

    /// A line that is here already, without waiting: for taking several at once.
    ///
    /// # Errors
    /// [`CallError::TooLong`] for a line over the limit.
    pub fn buffered(&mut self) -> Result<Option<Bytes>, CallError> {
        let addr = self.stream.addr;
        self.buffer.line().map_err(|limit_bytes| CallError::TooLong { addr, limit_bytes })
    }

    /// Bytes that are here of a line whose end is not.
    pub fn unfinished(&self) -> usize {
        self.buffer.bytes.len()
    }

    pub fn headers(&self) -> &HeaderMap {
        self.stream.headers()
    }
}

/// Bytes that arrive in pieces, taken out in lines.
pub(crate) struct LineBuffer {
    bytes: BytesMut,
    /// This much is known to hold no line end.
    scanned: usize,
    bytes_max: usize,
}

impl LineBuffer {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: BytesMut::new(), scanned: 0, bytes_max }
    }

    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next line that is not empty.
    ///
    /// # Errors
    /// The limit, if the line is longer.
    pub(crate) fn line(&mut self) -> Result<Option<Bytes>, usize> {
        loop {
            let end = self.bytes[self.scanned..].iter().position(|b| *b == b'\n');
            let length = end.map_or(self.bytes.len(), |at| self.scanned + at);
            if length > self.bytes_max {
                return Err(self.bytes_max);
            }
            if end.is_none() {
                self.scanned = self.bytes.len();
                return Ok(None);
            }
            let mut line = self.bytes.split_to(length + 1);
            line.truncate(length);
            self.scanned = 0;
            if !line.is_empty() {
                return Ok(Some(line.freeze()));
            }
        }
    }
}
