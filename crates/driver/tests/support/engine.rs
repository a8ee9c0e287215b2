//! The Docker Engine of this machine, for tests: is it there, and an image made on the spot.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

pub const SOCKET: &str = "/var/run/docker.sock";

/// Why tests with containers cannot run here.
pub fn missing() -> Option<String> {
    if busybox().is_none() {
        return Some("there is no static busybox (package busybox-static)".to_owned());
    }
    let ping = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(SOCKET)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ping() {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => {
            docker(&["version", "--format", "x"]).is_none().then(|| "there is no docker command".to_owned())
        }
        Ok(_) => Some("Docker does not answer".to_owned()),
        Err(error) => Some(format!("Docker cannot be reached: {error}")),
    }
}

fn busybox() -> Option<PathBuf> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| path.is_file())?;
    // A dynamic one names its loader.
    let bytes = std::fs::read(&found).ok()?;
    let dynamic = bytes.windows(8).take(4096).any(|window| window == b"/ld-linu" || window == b"lib64/ld");
    (!dynamic).then_some(found)
}

/// Runs the docker command; its output when it succeeds.
pub fn docker(args: &[&str]) -> Option<String> {
    let out = Command::new("docker").args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// An image with busybox and nothing else, imported under `name`.
pub fn import(name: &str) {
    let mut child = Command::new("docker")
        .args(["import", "-", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("docker runs");
    child.stdin.take().expect("piped").write_all(&rootfs()).expect("docker reads");
    assert!(child.wait().expect("docker ends").success());
}

/// The image's files as a tar archive.
pub fn rootfs() -> Vec<u8> {
    let mut tar = Vec::new();
    for dir in ["bin/", "tmp/", "etc/", "www/"] {
        entry(&mut tar, dir, b'5', 0o777, "", &[]);
    }
    entry(&mut tar, "bin/busybox", b'0', 0o755, "", &std::fs::read(busybox().expect("checked before")).expect("read"));
    for name in [
        "sh", "echo", "cat", "sleep", "id", "env", "nc", "httpd", "seq", "usleep", "kill", "touch", "pwd", "dd", "yes",
        "tail", "hostname", "ls", "head",
    ] {
        entry(&mut tar, &format!("bin/{name}"), b'2', 0o777, "busybox", &[]);
    }
    entry(&mut tar, "etc/passwd", b'0', 0o644, "", b"root:x:0:0::/:/bin/sh\nmail:x:8:8::/:/bin/sh\n");
    entry(&mut tar, "www/index.html", b'0', 0o644, "", b"hello from a container\n");
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// One file in the old tar format.
pub fn entry(tar: &mut Vec<u8>, name: &str, kind: u8, mode: u32, link: &str, content: &[u8]) {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", content.len()).as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(content);
    tar.resize(tar.len().div_ceil(512) * 512, 0);
}

#[allow(dead_code)]
/// Removes whatever carries a label of this kind.
pub fn remove_labelled(label: &str) {
    let ids = docker(&["ps", "-aq", "--filter", &format!("label={label}")]).unwrap_or_default();
    for id in ids.lines() {
        docker(&["rm", "-f", id]);
    }
}
