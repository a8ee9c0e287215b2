//! How entries, log rows and append calls are laid out as bytes.
//!
//! All integers are little-endian.
//!
//! ```text
//! entry   kind u8 | term u64 | index u64 | length u32 | payload
//! row     version u8 | crc32c u32 | count u32 | entry*          (crc over everything after it)
//! append  version u8 | session u64 | sequence u64 | head length u32 | head (JSON) | count u32 | entry*
//! answer  0 | JSON                 done
//!         1 | session u64          a newer session is known: go on with a higher one
//! ```
//!
//! A command's bytes are copied once into a row or a call and never re-encoded. Decoding slices the
//! input without copying and never trusts a length it did not check.

use bytes::{Buf, BufMut, Bytes};
use openraft::EntryPayload;
use openraft::raft::AppendEntriesRequest;
use serde::{Deserialize, Serialize};

use crate::types::{Command, Entry, LogId, TypeConfig, Vote, log_id};

const ROW_VERSION: u8 = 1;
const APPEND_VERSION: u8 = 1;
pub(crate) const ENTRY_HEAD_BYTES: usize = 21;
const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Why bytes could not be read back.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum CodecError {
    #[error("it ends too early")]
    Short,
    #[error("its version {0} is unknown")]
    Version(u8),
    #[error("its checksum does not match")]
    Checksum,
    #[error("it has an entry of unknown kind {0}")]
    Kind(u8),
    #[error("it has a part that is not valid json: {0}")]
    Json(String),
    #[error("it has bytes left over")]
    Trailing,
}

pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_HEAD_BYTES
        + match &entry.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(command) => command.0.len(),
            EntryPayload::Membership(_) => 256,
        }
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let membership;
    let (kind, payload): (u8, &[u8]) = match &entry.payload {
        EntryPayload::Blank => (BLANK, &[]),
        EntryPayload::Normal(command) => (NORMAL, &command.0),
        EntryPayload::Membership(m) => {
            membership = serde_json::to_vec(m).expect("a membership is plain data");
            (MEMBERSHIP, &membership)
        }
    };
    out.put_u8(kind);
    out.put_u64_le(entry.log_id.leader_id.term);
    out.put_u64_le(entry.log_id.index);
    out.put_u32_le(u32::try_from(payload.len()).expect("command_bytes_max is below 4 GiB"));
    out.put_slice(payload);
}

fn take_entry(input: &mut Bytes) -> Result<Entry, CodecError> {
    if input.len() < ENTRY_HEAD_BYTES {
        return Err(CodecError::Short);
    }
    let kind = input.get_u8();
    let id = {
        let term = input.get_u64_le();
        log_id(term, input.get_u64_le())
    };
    let length = input.get_u32_le() as usize;
    if input.len() < length {
        return Err(CodecError::Short);
    }
    let payload = input.split_to(length);
    let payload = match kind {
        BLANK => EntryPayload::Blank,
        NORMAL => EntryPayload::Normal(Command(payload)),
        MEMBERSHIP => {
            EntryPayload::Membership(serde_json::from_slice(&payload).map_err(|e| CodecError::Json(e.to_string()))?)
        }
        other => return Err(CodecError::Kind(other)),
    };
    Ok(Entry { log_id: id, payload })
}

fn put_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    out.put_u32_le(u32::try_from(entries.len()).expect("a batch is bounded"));
    for entry in entries {
        put_entry(out, entry);
    }
}

fn take_entries(input: &mut Bytes) -> Result<Vec<Entry>, CodecError> {
    if input.len() < 4 {
        return Err(CodecError::Short);
    }
    let count = input.get_u32_le() as usize;
    let mut entries = Vec::with_capacity(count.min(input.len() / ENTRY_HEAD_BYTES));
    for _ in 0..count {
        entries.push(take_entry(input)?);
    }
    if input.is_empty() { Ok(entries) } else { Err(CodecError::Trailing) }
}

fn size_of(entries: &[Entry]) -> usize {
    entries.iter().map(entry_bytes).sum()
}

pub(crate) fn encode_row(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(size_of(entries) + 16);
    out.put_u8(ROW_VERSION);
    out.put_u32_le(0);
    put_entries(&mut out, entries);
    let crc = crc32c::crc32c(&out[5..]);
    out[1..5].copy_from_slice(&crc.to_le_bytes());
    out
}

pub(crate) fn decode_row(mut row: Bytes) -> Result<Vec<Entry>, CodecError> {
    if row.len() < 5 {
        return Err(CodecError::Short);
    }
    let version = row.get_u8();
    let crc = row.get_u32_le();
    // The checksum first: a flipped version byte is damage, not a newer format.
    if crc32c::crc32c(&row) != crc {
        return Err(CodecError::Checksum);
    }
    if version != ROW_VERSION {
        return Err(CodecError::Version(version));
    }
    take_entries(&mut row)
}

#[derive(Serialize, Deserialize)]
struct AppendHead {
    from: u64,
    vote: Vote,
    prev: Option<LogId>,
    commit: Option<LogId>,
}

/// One append call: which stream of calls it belongs to and its place in it. Session zero is a call
/// of its own, outside any stream.
pub(crate) struct AppendCall {
    pub from: u64,
    pub session: u64,
    pub sequence: u64,
    pub request: AppendEntriesRequest<TypeConfig>,
}

pub(crate) fn encode_append(
    from: u64,
    session: u64,
    sequence: u64,
    request: &AppendEntriesRequest<TypeConfig>,
) -> Bytes {
    let head = AppendHead { from, vote: request.vote, prev: request.prev_log_id, commit: request.leader_commit };
    let head = serde_json::to_vec(&head).expect("an append head is plain data");
    let mut out = Vec::with_capacity(size_of(&request.entries) + head.len() + 32);
    out.put_u8(APPEND_VERSION);
    out.put_u64_le(session);
    out.put_u64_le(sequence);
    out.put_u32_le(head.len() as u32);
    out.put_slice(&head);
    put_entries(&mut out, &request.entries);
    out.into()
}

pub(crate) fn decode_append(mut body: Bytes) -> Result<AppendCall, CodecError> {
    if body.len() < 21 {
        return Err(CodecError::Short);
    }
    let version = body.get_u8();
    if version != APPEND_VERSION {
        return Err(CodecError::Version(version));
    }
    let session = body.get_u64_le();
    let sequence = body.get_u64_le();
    let length = body.get_u32_le() as usize;
    if body.len() < length {
        return Err(CodecError::Short);
    }
    let head = body.split_to(length);
    let head: AppendHead = serde_json::from_slice(&head).map_err(|e| CodecError::Json(e.to_string()))?;
    let request = AppendEntriesRequest {
        vote: head.vote,
        prev_log_id: head.prev,
        leader_commit: head.commit,
        entries: take_entries(&mut body)?,
    };
    Ok(AppendCall { from: head.from, session, sequence, request })
}

pub(crate) enum AppendAnswer<T> {
    Done(T),
    StaleSession { known: u64 },
}

pub(crate) fn encode_answer<T: Serialize>(answer: &AppendAnswer<T>) -> Bytes {
    match answer {
        AppendAnswer::Done(value) => {
            let mut out = vec![0];
            serde_json::to_writer(&mut out, value).expect("an answer is plain data");
            out.into()
        }
        AppendAnswer::StaleSession { known } => {
            let mut out = vec![1];
            out.put_u64_le(*known);
            out.into()
        }
    }
}

pub(crate) fn decode_answer<T: for<'a> Deserialize<'a>>(mut body: Bytes) -> Result<AppendAnswer<T>, CodecError> {
    if body.is_empty() {
        return Err(CodecError::Short);
    }
    match body.get_u8() {
        0 => serde_json::from_slice(&body).map(AppendAnswer::Done).map_err(|e| CodecError::Json(e.to_string())),
        1 if body.len() == 8 => Ok(AppendAnswer::StaleSession { known: body.get_u64_le() }),
        other => Err(CodecError::Kind(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let mut nodes = std::collections::BTreeMap::new();
        nodes.insert(1u64, crate::contract::Peer { id: 1, name: "a".into(), addr: "b".into() });
        let members = openraft::Membership::new(vec![[1u64].into()], nodes).unwrap();
        vec![
            Entry { log_id: log_id(1, 4), payload: EntryPayload::Blank },
            Entry { log_id: log_id(1, 5), payload: EntryPayload::Normal(Command(Bytes::from_static(b"xy"))) },
            Entry { log_id: log_id(2, 6), payload: EntryPayload::Membership(members) },
        ]
    }

    #[test]
    fn a_row_reads_back_as_it_was_written() {
        let row = Bytes::from(encode_row(&entries()));
        assert_eq!(decode_row(row).unwrap(), entries());
    }

    #[test]
    fn any_flipped_or_missing_byte_of_a_row_is_noticed() {
        let row = encode_row(&entries());
        for at in 0..row.len() {
            let mut bad = row.clone();
            bad[at] ^= 0x10;
            assert!(decode_row(bad.into()).is_err(), "byte {at}");
            assert!(decode_row(row[..at].to_vec().into()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_cut_or_mangled_append_call_is_an_error_and_never_a_panic() {
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(3, 1),
            prev_log_id: Some(log_id(1, 3)),
            leader_commit: None,
            entries: entries(),
        };
        let body = encode_append(1, 7, 9, &request);
        let call = decode_append(body.clone()).unwrap();
        assert_eq!((call.from, call.session, call.sequence), (1, 7, 9));
        assert_eq!(call.request.entries, entries());
        for at in 0..body.len() {
            assert!(decode_append(body.slice(..at)).is_err());
            let mut bad = body.to_vec();
            bad[at] = !bad[at];
            let _ = decode_append(bad.into());
        }
    }
}
