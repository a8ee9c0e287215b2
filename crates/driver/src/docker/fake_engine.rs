//! As much of an engine as a test needs: a socket that answers each request by its path, for what a real one does
//! only now and then.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::Options;

/// A path and query, to a status and a body.
type Answer = fn(&str) -> (u16, Vec<u8>);

pub(super) struct FakeEngine {
    dir: tempfile::TempDir,
}

impl FakeEngine {
    /// Within a runtime only, with which it ends.
    pub fn start(answer: Answer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer));
            }
        });
        Self { dir }
    }

    pub fn options(&self) -> Options {
        Options { endpoint: format!("unix://{}", self.dir.path().join("socket").display()), ..Options::default() }
    }
}

/// One request: the driver opens a connection for each.
async fn serve(stream: UnixStream, answer: Answer) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut line) = (String::new(), String::new());
    stream.read_line(&mut first).await?;
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let (status, body) = answer(first.split(' ').nth(1).unwrap_or_default());
    let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), &body].concat()).await?;
    stream.shutdown().await
}
