//! What kind of content a file has, by its first bytes and its name.
//!
//! Source: the signatures of the WHATWG MIME sniffing standard, sections 6 and 7, those that matter here.

use std::path::Path;

const TEXT: &str = "text/plain; charset=utf-8";
const BINARY: &str = "application/octet-stream";
/// How many bytes are looked at.
pub const HEAD_BYTES: usize = 512;

const SIGNATURES: &[(&[u8], &str)] = &[
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"Rar!\x1a\x07", "application/x-rar-compressed"),
    (b"\0asm", "application/wasm"),
    (b"OggS\0", "application/ogg"),
    (b"\xfe\xff", "text/plain; charset=utf-16be"),
    (b"\xff\xfe", "text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf", TEXT),
];
const HTML: &[&str] = &[
    "<!doctype html",
    "<html",
    "<head",
    "<script",
    "<iframe",
    "<h1",
    "<div",
    "<font",
    "<table",
    "<a",
    "<style",
    "<title",
    "<b",
    "<body",
    "<br",
    "<p",
    "<!--",
];

/// The content type of a file that begins with `head`.
pub fn content_type(name: &str, head: &[u8]) -> &'static str {
    if Path::new(name).extension().is_some_and(|ext| ext == "json") {
        return "application/json";
    }
    let head = &head[..head.len().min(HEAD_BYTES)];
    let begin = head.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(head.len());
    let words = String::from_utf8_lossy(&head[begin..]).to_ascii_lowercase();
    let is_tag = |tag: &str| {
        let rest = words.strip_prefix(tag);
        rest.is_some_and(|rest| tag == "<!--" || rest.starts_with(' ') || rest.starts_with('>'))
    };
    if HTML.iter().any(|tag| is_tag(tag)) {
        return "text/html; charset=utf-8";
    }
    if words.starts_with("<?xml") {
        return "text/xml; charset=utf-8";
    }
    if let Some((_, kind)) = SIGNATURES.iter().find(|(signature, _)| head.starts_with(signature)) {
        return kind;
    }
    let binary = |b: &u8| matches!(b, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if head.iter().any(binary) { BINARY } else { TEXT }
}

/// The same, but nothing that a browser would carry out or draw: for bytes that a task wrote.
pub fn harmless_type(name: &str, head: &[u8]) -> &'static str {
    match content_type(name, head) {
        "text/html; charset=utf-8" | "text/xml; charset=utf-8" | "application/pdf" => TEXT,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_told_by_its_beginning_and_json_by_its_name_fs_06() {
        assert_eq!(content_type("a.json", b"\0\0"), "application/json");
        assert_eq!(content_type("a.txt", b"hello"), TEXT);
        assert_eq!(content_type("a", b""), TEXT);
        assert_eq!(content_type("a", b"\x7fELF\x02\x01\x01\0\0"), BINARY);
        assert_eq!(content_type("a", b"\x1f\x8b\x08\0"), "application/x-gzip");
        assert_eq!(content_type("a", b"  <HTML><body>"), "text/html; charset=utf-8");
        assert_eq!(content_type("a", b"<pre"), TEXT);
        assert_eq!(harmless_type("a", b"<script>alert(1)</script>"), TEXT);
        assert_eq!(harmless_type("x.png", b"\x89PNG\r\n\x1a\n"), "image/png");
    }
}
