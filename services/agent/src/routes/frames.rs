//! A task's output as the body of an answer.
//!
//! Each piece that is read goes out at once.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use driver::logs::{Frame, LogError, LogReader};
use driver::tail::FileReader;
use futures::Stream;
use kit::process::Shutdown;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

/// Nothing for this long, and an empty frame says that the stream lives.
const BEAT: Duration = Duration::from_secs(1);

/// A frame on the wire; what is nothing is left out.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wire<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    file: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    file_event: &'a str,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn encode(frame: &Frame, plain: bool) -> Bytes {
    if plain {
        return Bytes::copy_from_slice(&frame.data);
    }
    let wire = Wire {
        offset: frame.offset,
        data: STANDARD.encode(&frame.data),
        file: &frame.file,
        file_event: &frame.file_event,
    };
    serde_json::to_vec(&wire).unwrap_or_default().into()
}

/// What frames are read from: each reading gives the reader back.
pub trait Source: Sized + Send + 'static {
    fn read(self) -> Next<Self>;
}

impl Source for LogReader {
    fn read(self) -> Next<Self> {
        Box::pin(self.next())
    }
}

impl Source for FileReader {
    fn read(self) -> Next<Self> {
        Box::pin(self.next())
    }
}

type Next<S> = Pin<Box<dyn Future<Output = Result<Option<(Frame, S)>, LogError>> + Send>>;

struct Reading<S> {
    next: Next<S>,
    plain: bool,
    /// Held as long as the stream is.
    _permit: OwnedSemaphorePermit,
    shutdown: Shutdown,
}

/// The rest of `reader`, frame by frame. Ends when the output ends, cannot be read any more, or the process
/// ends: there is no way to say why once it has begun.
pub fn stream<S: Source>(
    reader: S,
    plain: bool,
    permit: OwnedSemaphorePermit,
    shutdown: Shutdown,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let reading = Reading { next: reader.read(), plain, _permit: permit, shutdown };
    futures::stream::unfold(reading, |mut reading| async move {
        loop {
            let beat = tokio::time::timeout(BEAT, &mut reading.next);
            match reading.shutdown.or(beat).await? {
                Ok(Ok(Some((frame, reader)))) => {
                    reading.next = reader.read();
                    let bytes = encode(&frame, reading.plain);
                    if !bytes.is_empty() {
                        return Some((Ok(bytes), reading));
                    }
                }
                Ok(Ok(None)) => return None,
                Ok(Err(error)) => {
                    tracing::debug!(error = %error, "output cannot be read any more");
                    return None;
                }
                Err(_) if reading.plain => {}
                Err(_) => return Some((Ok(Bytes::from_static(b"{}")), reading)),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_written_as_recorded() {
        let frame = Frame {
            offset: 6,
            data: b"hello\n".to_vec(),
            file: "alloc/logs/t.stdout.0".into(),
            file_event: String::new(),
        };
        let text = encode(&frame, false);
        assert_eq!(&text[..], br#"{"Offset":6,"Data":"aGVsbG8K","File":"alloc/logs/t.stdout.0"}"#);
        assert_eq!(&encode(&frame, true)[..], b"hello\n");
        let event = Frame { file_event: "file truncated".into(), ..Frame::default() };
        assert_eq!(&encode(&event, false)[..], br#"{"FileEvent":"file truncated"}"#);
    }
}
