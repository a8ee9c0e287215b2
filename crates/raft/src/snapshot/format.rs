//! The layout of a snapshot file, written and read as a stream.
//!
//! ```text
//! magic 8 | head length u32 | head crc32c u32 | head (JSON)
//! ( length u32 > 0 | crc32c u32 | that many bytes )*
//! 0 u32 | total length u64 | crc32c u32 of the total
//! ```
//!
//! No byte of a section is handed on before the section's checksum matched, and the end is only
//! reported once the trailer agreed with what was read.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::types::SnapshotMeta;

const MAGIC: &[u8; 8] = b"RAFTSNP1";
const FORMAT_VERSION: u32 = 1;
const SECTION_BYTES: usize = 1 << 20;
const HEAD_BYTES_MAX: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    last_log_id: Option<crate::types::LogId>,
    last_membership: crate::types::StoredMembership,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the snapshot {what}"))
}

/// Cuts what is written into checked sections. [`SnapshotWriter::finish`] makes it whole.
pub(crate) struct SnapshotWriter<W: Write> {
    out: W,
    section: Vec<u8>,
    total: u64,
}

impl<W: Write> SnapshotWriter<W> {
    pub fn begin(mut out: W, meta: &SnapshotMeta) -> io::Result<Self> {
        let head = serde_json::to_vec(&Head {
            version: FORMAT_VERSION,
            last_log_id: meta.last_log_id,
            last_membership: meta.last_membership.clone(),
        })?;
        out.write_all(MAGIC)?;
        out.write_all(&(head.len() as u32).to_le_bytes())?;
        out.write_all(&crc32c::crc32c(&head).to_le_bytes())?;
        out.write_all(&head)?;
        Ok(Self { out, section: Vec::with_capacity(SECTION_BYTES), total: 0 })
    }

    fn cut(&mut self) -> io::Result<()> {
        if self.section.is_empty() {
            return Ok(());
        }
        self.out.write_all(&(self.section.len() as u32).to_le_bytes())?;
        self.out.write_all(&crc32c::crc32c(&self.section).to_le_bytes())?;
        self.out.write_all(&self.section)?;
        self.total += self.section.len() as u64;
        self.section.clear();
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.cut()?;
        let total = self.total.to_le_bytes();
        self.out.write_all(&0u32.to_le_bytes())?;
        self.out.write_all(&total)?;
        self.out.write_all(&crc32c::crc32c(&total).to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for SnapshotWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = bytes.len().min(SECTION_BYTES - self.section.len());
        self.section.extend_from_slice(&bytes[..some]);
        if self.section.len() == SECTION_BYTES {
            self.cut()?;
        }
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hands out the content of a snapshot, section by checked section.
pub(crate) struct SnapshotReader<R: Read> {
    input: R,
    section: Vec<u8>,
    at: usize,
    total: u64,
    ended: bool,
}

fn word<R: Read>(input: &mut R) -> io::Result<u32> {
    let mut bytes = [0u8; 4];
    input.read_exact(&mut bytes).map_err(cut_short)?;
    Ok(u32::from_le_bytes(bytes))
}

fn cut_short(e: io::Error) -> io::Error {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => damaged("ends too early"),
        _ => e,
    }
}

impl<R: Read> SnapshotReader<R> {
    pub fn begin(mut input: R) -> io::Result<(SnapshotMeta, Self)> {
        let mut magic = [0u8; 8];
        input.read_exact(&mut magic).map_err(cut_short)?;
        if &magic != MAGIC {
            return Err(damaged("has no valid head"));
        }
        let (length, crc) = (word(&mut input)? as usize, word(&mut input)?);
        if length > HEAD_BYTES_MAX {
            return Err(damaged("has no valid head"));
        }
        let mut head = vec![0u8; length];
        input.read_exact(&mut head).map_err(cut_short)?;
        if crc32c::crc32c(&head) != crc {
            return Err(damaged("head fails its checksum"));
        }
        let head: Head = serde_json::from_slice(&head).map_err(|_| damaged("head cannot be read"))?;
        if head.version != FORMAT_VERSION {
            return Err(damaged("has a format this version does not know"));
        }
        let meta = SnapshotMeta { last_log_id: head.last_log_id, last_membership: head.last_membership };
        let reader = Self { input, section: Vec::new(), at: 0, total: 0, ended: false };
        Ok((meta, reader))
    }

    fn next_section(&mut self) -> io::Result<()> {
        let length = word(&mut self.input)? as usize;
        if length == 0 {
            let mut total = [0u8; 8];
            self.input.read_exact(&mut total).map_err(cut_short)?;
            let crc = word(&mut self.input)?;
            if crc32c::crc32c(&total) != crc || u64::from_le_bytes(total) != self.total {
                return Err(damaged("is not complete"));
            }
            if self.input.read(&mut [0u8])? != 0 {
                return Err(damaged("has bytes after its end"));
            }
            self.ended = true;
            return Ok(());
        }
        if length > SECTION_BYTES {
            return Err(damaged("has a section that is too long"));
        }
        let crc = word(&mut self.input)?;
        self.section.resize(length, 0);
        self.at = 0;
        self.input.read_exact(&mut self.section).map_err(cut_short)?;
        if crc32c::crc32c(&self.section) != crc {
            return Err(damaged("has a section that fails its checksum"));
        }
        self.total += length as u64;
        Ok(())
    }

    /// Reads what is left, so that a bad end is noticed even by a consumer that stopped early.
    pub fn drain(&mut self) -> io::Result<()> {
        while !self.ended {
            self.next_section()?;
        }
        Ok(())
    }
}

impl<R: Read> Read for SnapshotReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.section.len() && !self.ended && !out.is_empty() {
            self.section.clear();
            self.at = 0;
            self.next_section()?;
        }
        let some = out.len().min(self.section.len() - self.at);
        out[..some].copy_from_slice(&self.section[self.at..self.at + some]);
        self.at += some;
        Ok(some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> SnapshotMeta {
        SnapshotMeta { last_log_id: Some(crate::types::log_id(3, 77)), last_membership: Default::default() }
    }

    fn file(content: &[u8]) -> Vec<u8> {
        let mut w = SnapshotWriter::begin(Vec::new(), &meta()).unwrap();
        w.write_all(content).unwrap();
        w.finish().unwrap()
    }

    fn read(file: &[u8]) -> io::Result<Vec<u8>> {
        let (_, mut r) = SnapshotReader::begin(file)?;
        let mut out = Vec::new();
        r.read_to_end(&mut out)?;
        r.drain()?;
        Ok(out)
    }

    #[test]
    fn a_snapshot_reads_back_as_it_was_written_at_every_section_boundary() {
        for length in [0, 1, SECTION_BYTES - 1, SECTION_BYTES, SECTION_BYTES + 1, 3 * SECTION_BYTES] {
            let content: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            assert!(read(&file(&content)).unwrap() == content, "{length}");
        }
        let whole = file(b"x");
        assert_eq!(SnapshotReader::begin(&whole[..]).unwrap().0, meta());
    }

    #[test]
    fn any_flipped_missing_or_added_byte_of_a_snapshot_is_noticed() {
        let good = file(b"some content that is longer than nothing");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(read(&bad).is_err(), "flipped {at}");
            assert!(read(&good[..at]).is_err(), "cut at {at}");
        }
        let mut longer = good;
        longer.push(0);
        assert!(read(&longer).is_err());
    }
}
