//! One agent's connection, seen from the supervisor: bounded lines in, bounded bytes out, never blocking.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use serde::Serialize;

use super::protocol::LINE_BYTES_MAX;

/// A peer that does not read this much is let go: to an agent that lives the supervisor is gone then, and it ends the tasks.
const OUT_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 8 << 10;

#[derive(Debug)]
pub(super) struct Conn {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    pub subscribed: bool,
}

impl Conn {
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, inbox: Vec::new(), outbox: Vec::new(), subscribed: false })
    }

    pub fn wants_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Reads what is there. `Ok(false)` at the end of the stream.
    pub fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0_u8; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => self.inbox.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.inbox.len() > LINE_BYTES_MAX && !self.inbox.contains(&b'\n') {
                return Err(io::Error::other("line too long"));
            }
            if self.inbox.len() > 2 * LINE_BYTES_MAX {
                return Ok(true);
            }
        }
    }

    /// The next whole line, without its end.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.inbox.iter().position(|b| *b == b'\n')?;
        let mut line: Vec<u8> = self.inbox.drain(..=end).collect();
        line.pop();
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
        Some(line)
    }

    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.outbox, message)?;
        self.outbox.push(b'\n');
        if self.outbox.len() > OUT_BYTES_MAX {
            return Err(io::Error::other("peer does not read"));
        }
        self.flush()
    }

    pub fn flush(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => drop(self.outbox.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.outbox = Vec::new();
        Ok(())
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
