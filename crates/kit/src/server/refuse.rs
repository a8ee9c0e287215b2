//! Telling a plain connection that there is no room for it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::Denied;

const LIMIT: Duration = Duration::from_secs(1);
const READ_BYTES_MAX: usize = 64 * 1024;

/// Writes the answer and reads a little of what comes: closing with unread bytes would reset the
/// connection and take the answer with it.
pub(super) async fn answer(mut tcp: TcpStream, denied: Denied, _slot: OwnedSemaphorePermit) {
    let (status, text) = match denied {
        Denied::TooManyFromAddress => ("429 Too Many Requests", "too many connections from this address\n"),
        Denied::TooMany => ("503 Service Unavailable", "too many connections\n"),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    let work = async {
        tcp.write_all(answer.as_bytes()).await?;
        tcp.shutdown().await?;
        let mut left = READ_BYTES_MAX;
        let mut buffer = [0; 4096];
        while left > 0 {
            let n = tcp.read(&mut buffer).await?;
            if n == 0 {
                break;
            }
            left = left.saturating_sub(n);
        }
        std::io::Result::Ok(())
    };
    // Whether it arrived is the other end's concern.
    let _ = tokio::time::timeout(LIMIT, work).await;
}
