//! A snapshot of the cluster as a file: what `operator snapshot save` writes and `restore` takes.
//!
//! ```text
//!   gzip member: tar { meta.json, state.jsonl }
//!   gzip member of fixed length: "steppe-snapshot sha256 <hex of everything before>"
//! ```
//!
//! `tar tzf` lists it. The state is in fsm's snapshot codec, which has checksums of its own.
//!
//! Invariants
//! * A file that is cut, or differs in one bit, anywhere, is refused: the second member is exactly what the
//!   first one's bytes make it.
//! * A file of a newer format is refused by that name, and so is one that is something else.
//! * Nothing is held in memory but buffers; what is unpacked lies in an unnamed temporary file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use flate2::read::GzDecoder;
use flate2::{Compression, Crc, GzBuilder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const FORMAT: &str = "steppe-snapshot";
pub const VERSION: u32 = 1;
/// Largest archive, and largest state in one.
pub const BYTES_MAX: u64 = 4 << 30;
const META_BYTES_MAX: u64 = 64 << 10;
const BLOCK: usize = 512;
const META_NAME: &str = "meta.json";
const STATE_NAME: &str = "state.jsonl";
const TRAILER_TEXT: &str = "steppe-snapshot sha256 ";
const TRAILER_BYTES: usize = 10 + 5 + TRAILER_TEXT.len() + 64 + 1 + 8;

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("this is no snapshot of a steppe cluster")]
    NotAnArchive,
    #[error(
        "snapshot has format version {0}, this program reads up to version {VERSION}: use the program that wrote it, or a newer one"
    )]
    Newer(u32),
    #[error("snapshot is damaged: {0}")]
    Damaged(&'static str),
    #[error("snapshot is larger than {BYTES_MAX} bytes")]
    TooLarge,
    #[error("snapshot cannot be read or written")]
    Io(#[from] io::Error),
}

/// What an archive says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    pub format: String,
    pub version: u32,
    pub id: String,
    /// Unix nanoseconds.
    pub created: i64,
    /// Version of the program that wrote it.
    pub program: String,
    pub region: String,
    pub index: u64,
    pub term: u64,
    pub state_bytes: u64,
    pub state_sha256: String,
}

/// A whole archive, at its beginning.
pub struct Packed {
    pub file: File,
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// Packs a state, given whole, at its beginning. `meta` says what it is of; the rest is filled in. Blocks.
///
/// # Errors
/// Those of the files.
pub fn pack(state: &mut File, meta: Meta) -> Result<Packed, ArchiveError> {
    let (state_bytes, sum) = copy(state, &mut io::sink(), BYTES_MAX)?;
    state.seek(SeekFrom::Start(0))?;
    let meta = Meta { format: FORMAT.to_owned(), version: VERSION, state_bytes, state_sha256: hex(&sum), ..meta };
    let meta_json = serde_json::to_vec_pretty(&meta).map_err(io::Error::from)?;
    let out = Summed { out: io::BufWriter::new(tempfile::tempfile()?), sum: Sha256::new(), bytes: 0 };
    let mut gz = GzBuilder::new().write(out, Compression::fast());
    entry(&mut gz, META_NAME, meta_json.len() as u64, &mut &meta_json[..], meta.created)?;
    entry(&mut gz, STATE_NAME, state_bytes, state, meta.created)?;
    gz.write_all(&[0; BLOCK * 2])?;
    let mut out = gz.finish()?;
    let before: [u8; 32] = out.sum.clone().finalize().into();
    out.write_all(&trailer(&before))?;
    let (sha256, bytes) = (out.sum.finalize().into(), out.bytes);
    let mut file = out.out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Packed { file, bytes, sha256 })
}

/// Checks an archive from its first to its last bit, and gives the state in it. Blocks.
///
/// # Errors
/// See [`ArchiveError`].
pub fn unpack(archive: &mut (impl Read + Seek)) -> Result<(Meta, File), ArchiveError> {
    let bytes = archive.seek(SeekFrom::End(0))?;
    if bytes > BYTES_MAX {
        return Err(ArchiveError::TooLarge);
    }
    let body = bytes.checked_sub(TRAILER_BYTES as u64).ok_or(ArchiveError::NotAnArchive)?;
    archive.seek(SeekFrom::Start(0))?;
    let (_, sum) = copy(&mut archive.take(body), &mut io::sink(), BYTES_MAX)?;
    let mut end = Vec::new();
    archive.read_to_end(&mut end)?;
    archive.seek(SeekFrom::Start(0))?;
    if end != trailer(&sum) {
        let mut gz = GzDecoder::new(io::BufReader::new(archive.take(bytes)));
        return Err(match meta(&mut gz) {
            Ok(_) => ArchiveError::Damaged("its checksum does not fit, or it is cut"),
            Err(error) => error,
        });
    }
    let mut gz = GzDecoder::new(io::BufReader::new(archive.take(body)));
    let meta = meta(&mut gz)?;
    let state_bytes = header(&mut gz, STATE_NAME)?;
    let mut state = tempfile::tempfile()?;
    let (copied, sum) = copy(&mut (&mut gz).take(state_bytes), &mut state, BYTES_MAX)?;
    if copied != state_bytes || meta.state_bytes != state_bytes || hex(&sum) != meta.state_sha256 {
        return Err(ArchiveError::Damaged("its state is not what it says"));
    }
    state.seek(SeekFrom::Start(0))?;
    Ok((meta, state))
}

fn meta(gz: &mut impl Read) -> Result<Meta, ArchiveError> {
    let bytes = header(gz, META_NAME).map_err(|_| ArchiveError::NotAnArchive)?;
    if bytes > META_BYTES_MAX {
        return Err(ArchiveError::NotAnArchive);
    }
    let padded = bytes.next_multiple_of(BLOCK as u64);
    let mut json = Vec::new();
    gz.take(padded).read_to_end(&mut json).map_err(|_| ArchiveError::NotAnArchive)?;
    json.truncate(usize::try_from(bytes).unwrap_or(0));
    let meta: Meta = serde_json::from_slice(&json).map_err(|_| ArchiveError::NotAnArchive)?;
    if meta.format != FORMAT {
        return Err(ArchiveError::NotAnArchive);
    }
    if meta.version > VERSION {
        return Err(ArchiveError::Newer(meta.version));
    }
    Ok(meta)
}

/// Reads the head of a file that must have this name; its length.
fn header(gz: &mut impl Read, name: &str) -> Result<u64, ArchiveError> {
    let mut head = [0; BLOCK];
    gz.read_exact(&mut head).map_err(|_| ArchiveError::Damaged("it ends too early"))?;
    let named = head.starts_with(name.as_bytes()) && head.get(name.len()) == Some(&0);
    let sum = head.get(148..154).and_then(octal);
    let size = head.get(124..135).and_then(octal);
    if !named || sum != Some(checksum(&head)) {
        return Err(ArchiveError::Damaged("it does not hold what it should"));
    }
    size.ok_or(ArchiveError::Damaged("it does not hold what it should"))
}

fn octal(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// Sum of a tar head's bytes, its own place taken as blanks.
fn checksum(head: &[u8; BLOCK]) -> u64 {
    let blank = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { u64::from(b' ') } else { u64::from(*byte) };
    head.iter().enumerate().map(blank).sum()
}

/// Writes one file into a tar stream (ustar).
fn entry(out: &mut impl Write, name: &str, bytes: u64, content: &mut impl Read, created: i64) -> io::Result<()> {
    let mut head = [0; BLOCK];
    let mut put = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{bytes:011o}\0"));
    put(136, &format!("{:011o}\0", created.max(0) / 1_000_000_000));
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum = checksum(&head);
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.write_all(&head)?;
    let copied = io::copy(content, out)?;
    if copied != bytes {
        return Err(io::Error::other("what is packed changed its length"));
    }
    let padding = usize::try_from(bytes.next_multiple_of(BLOCK as u64) - bytes).unwrap_or(0);
    out.write_all(&[0; BLOCK][..padding])
}

/// The whole second member.
fn trailer(before: &[u8; 32]) -> Vec<u8> {
    let text = format!("{TRAILER_TEXT}{}\n", hex(before));
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    let mut crc = Crc::new();
    crc.update(text.as_bytes());
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&u32::from(length).to_le_bytes());
    out
}

fn hex(sum: &[u8; 32]) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Copies at most `max` bytes; how many, and their SHA-256.
fn copy(from: &mut impl Read, to: &mut impl Write, max: u64) -> Result<(u64, [u8; 32]), ArchiveError> {
    let (mut sum, mut all, mut buffer) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok((all, sum.finalize().into())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        all += read as u64;
        if all > max {
            return Err(ArchiveError::TooLarge);
        }
        sum.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
    }
}

struct Summed<W> {
    out: W,
    sum: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn packed(state: &[u8]) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(state).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let meta = Meta { id: "s".into(), index: 7, created: 1_700_000_000_000_000_000, ..Meta::default() };
        let mut packed = pack(&mut file, meta).unwrap();
        let mut bytes = Vec::new();
        packed.file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, packed.bytes);
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&bytes)), packed.sha256);
        bytes
    }

    #[test]
    fn what_is_packed_comes_out_the_same() {
        for state in [&b""[..], b"x", &[7; BLOCK], &[b'y'; 100_000]] {
            let (meta, mut file) = unpack(&mut Cursor::new(packed(state))).unwrap();
            let mut back = Vec::new();
            file.read_to_end(&mut back).unwrap();
            assert!(back == state);
            assert_eq!((meta.index, meta.state_bytes), (7, state.len() as u64));
        }
    }

    /// snapshot-003
    #[test]
    fn a_file_that_is_cut_or_has_one_bit_flipped_anywhere_is_refused() {
        let good = packed(b"{\"format\":\"steppe-state\"}\nsome lines\n");
        for at in 0..good.len() {
            assert!(unpack(&mut Cursor::new(&good[..at])).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(unpack(&mut Cursor::new(bad)).is_err(), "byte {at} bit {bit}");
            }
        }
        let mut longer = good;
        longer.push(0);
        assert!(unpack(&mut Cursor::new(longer)).is_err());
    }

    #[test]
    fn a_foreign_file_and_a_newer_format_are_refused_by_what_they_are() {
        for foreign in
            [&b""[..], b"hello", &[0; 4096], &GzBuilder::new().write(Vec::new(), Compression::fast()).finish().unwrap()]
        {
            let error = unpack(&mut Cursor::new(foreign)).unwrap_err();
            assert!(matches!(error, ArchiveError::NotAnArchive), "{error}");
        }
        let json = br#"{"format":"steppe-snapshot","version":2}"#;
        let mut gz = GzBuilder::new().write(Vec::new(), Compression::fast());
        entry(&mut gz, META_NAME, json.len() as u64, &mut &json[..], 0).unwrap();
        let mut bytes = gz.finish().unwrap();
        let sum: [u8; 32] = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&trailer(&sum));
        assert!(matches!(unpack(&mut Cursor::new(bytes)).unwrap_err(), ArchiveError::Newer(2)));
    }
}
