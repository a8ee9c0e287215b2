//! As much of a registry as a pull needs, on the loopback: one image, or one way to fail.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine as _;
use serde_json::json;

/// Parts of a layer that comes bit by bit.
const PIECES: usize = 100;
/// What is smaller is no layer.
const LAYER_BYTES_MIN: usize = 100_000;
/// Whether what is held may go is looked at this often.
const HELD_LOOK: Duration = Duration::from_millis(10);

/// How the registry treats who asks.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    Serves,
    /// 404 for everything.
    Denies,
    /// Takes the connection and says nothing.
    Hangs,
    /// Sends the layer bit by bit, over this long.
    Dribbles(Duration),
    /// Sends the layer when it is let.
    Holds,
    /// Wants credentials.
    Asks {
        user: &'static str,
        password: &'static str,
    },
}

pub struct Registry {
    pub port: u16,
    /// Manifests that were handed out.
    pub manifests: Arc<AtomicU32>,
    let_go: Arc<AtomicBool>,
}

struct Content {
    manifest: Vec<u8>,
    blobs: Vec<(String, Vec<u8>)>,
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let sum = sha2::Sha256::digest(bytes);
    format!("sha256:{}", sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn content(port: u16) -> Content {
    let mut layer = super::engine::rootfs();
    // Another layer for each registry: none is there from an earlier pull.
    layer.truncate(layer.len() - 1024);
    super::engine::entry(&mut layer, "etc/of", b'0', 0o644, "", format!("{port} {}", std::process::id()).as_bytes());
    layer.resize(layer.len() + 1024, 0);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        "created": "2026-01-01T00:00:00Z",
    });
    let config = serde_json::to_vec(&config).unwrap();
    let kind = "application/vnd.docker";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": format!("{kind}.distribution.manifest.v2+json"),
        "config": {"mediaType": format!("{kind}.container.image.v1+json"), "size": config.len(), "digest": digest(&config)},
        "layers": [{"mediaType": format!("{kind}.image.rootfs.diff.tar.gzip"), "size": layer.len(), "digest": digest(&layer)}],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    Content { manifest, blobs: vec![(digest(&config), config), (digest(&layer), layer)] }
}

impl Registry {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let manifests = Arc::new(AtomicU32::new(0));
        let let_go = Arc::<AtomicBool>::default();
        let (counted, held, content) = (Arc::clone(&manifests), Arc::clone(&let_go), Arc::new(content(port)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counted, held, content) = (Arc::clone(&counted), Arc::clone(&held), Arc::clone(&content));
                std::thread::spawn(move || drop(serve(stream, manner, &content, &counted, &held)));
            }
        });
        Self { port, manifests, let_go }
    }

    /// What is held is sent from now on.
    pub fn let_go(&self) {
        self.let_go.store(true, Ordering::SeqCst);
    }
}

fn serve(
    stream: TcpStream,
    manner: Manner,
    content: &Content,
    counted: &AtomicU32,
    let_go: &AtomicBool,
) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(first) = lines.next() {
        let first = first?;
        let mut authorization = String::new();
        for line in lines.by_ref() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("authorization")
            {
                authorization = value.trim().to_owned();
            }
        }
        let words: Vec<&str> = first.split(' ').collect();
        let (method, path) = (words[0], words[1]);
        match manner {
            Manner::Hangs => {
                std::thread::sleep(Duration::from_secs(600));
                return Ok(());
            }
            Manner::Denies if path != "/v2/" => {
                let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                answer(&mut out, method, "404 Not Found", "application/json", "", body)?;
                continue;
            }
            Manner::Asks { user, password } => {
                let wanted = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                if authorization != format!("Basic {wanted}") {
                    let header = "Www-Authenticate: Basic realm=\"test\"\r\n";
                    answer(&mut out, method, "401 Unauthorized", "application/json", header, b"{}")?;
                    continue;
                }
            }
            _ => {}
        }
        let blob = content.blobs.iter().find(|(digest, _)| path.ends_with(digest.as_str()));
        if path == "/v2/" {
            answer(&mut out, method, "200 OK", "application/json", "", b"{}")?;
        } else if path.contains("/manifests/") {
            if method == "GET" && !path.contains("sha256:") || method == "HEAD" {
                counted.fetch_add(u32::from(method == "HEAD" || !path.contains("sha256:")), Ordering::SeqCst);
            }
            let header = format!("Docker-Content-Digest: {}\r\n", digest(&content.manifest));
            let kind = "application/vnd.docker.distribution.manifest.v2+json";
            answer(&mut out, method, "200 OK", kind, &header, &content.manifest)?;
        } else if let Some((_, bytes)) = blob {
            while matches!(manner, Manner::Holds) && bytes.len() > LAYER_BYTES_MIN && !let_go.load(Ordering::SeqCst) {
                std::thread::sleep(HELD_LOOK);
            }
            match manner {
                Manner::Dribbles(over) if bytes.len() > LAYER_BYTES_MIN => dribble(&mut out, bytes, over)?,
                _ => answer(&mut out, method, "200 OK", "application/octet-stream", "", bytes)?,
            }
        } else {
            answer(&mut out, method, "404 Not Found", "application/json", "", b"{}")?;
        }
    }
    Ok(())
}

fn dribble(out: &mut TcpStream, bytes: &[u8], over: Duration) -> std::io::Result<()> {
    let length = bytes.len();
    write!(out, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n")?;
    for piece in bytes.chunks(length.div_ceil(PIECES)) {
        out.write_all(piece)?;
        out.flush()?;
        std::thread::sleep(over / u32::try_from(PIECES).unwrap());
    }
    Ok(())
}

fn answer(
    out: &mut TcpStream,
    method: &str,
    status: &str,
    kind: &str,
    header: &str,
    body: &[u8],
) -> std::io::Result<()> {
    let length = body.len();
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\n{header}\r\n"
    )?;
    if method != "HEAD" {
        out.write_all(body)?;
    }
    out.flush()
}
