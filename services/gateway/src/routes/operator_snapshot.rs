//! Saving the whole state as a file, and bringing it back.
//!
//! ```text
//!   save     state server ─► temporary file ─► archive, checksummed ─► caller
//!   restore  caller ─► temporary file ─► checked from end to end ─► Begin, pieces, Commit in the log
//! ```
//!
//! A file that is not whole and ours never gets to the log. What is half-way when this gateway dies is given
//! up by the leader; nothing of it has taken effect.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::time::Duration;

use api::state::ARCHIVE;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::archive::{self, ArchiveError, BYTES_MAX, Meta, Packed};
use client::http::{Streaming, Target};
use client::state::{Patience, new_uuid};
use fsm::{Command, RestoreStep};
use futures::StreamExt as _;
use model::{Index, Role};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::public::Streamed;
use crate::raft_status;
use crate::read::{LEADER_HOLD, LEADERLESS};

const DIGEST: HeaderName = HeaderName::from_static("digest");
const OPEN: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(30);
/// For one step of a restore; the last one reads all of it on every server.
const STEP: Duration = Duration::from_secs(60);
const ELECTION: Duration = Duration::from_secs(10);
/// Lines of one piece, about.
const PIECE_BYTES: usize = 2 << 20;
const CHUNK_BYTES: usize = 256 << 10;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(save, restore))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct SaveParams {
    /// Take it from any server without asking the leader.
    stale: Option<bool>,
}

/// Save a snapshot
///
/// The whole state, keys included: keep it as you keep secrets.
#[utoipa::path(get, path = "/v1/operator/snapshot", operation_id = "saveSnapshot", tag = "operator", params(SaveParams),
    responses(
        (status = 200, description = "An archive; the `Digest` header has its SHA-256", body = Vec<u8>, content_type = "application/x-gzip"),
        (status = 500, description = "No cluster leader", body = String, content_type = "text/plain")))]
async fn save(State(app): State<App>, options: Options) -> Answered {
    let index = if options.stale { Index(0) } else { app.state.read_index(LEADER_HOLD).await? };
    let term = raft_status::ask(&app).await.map_or(0, |status| status.term.get());
    let state = fetch(&app, index).await?;
    let packed = blocking(move || pack(state, term)).await?.map_err(|e| unsaved(&e))?;
    let digest = format!("sha-256={}", STANDARD.encode(packed.sha256));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-gzip")),
        (header::CONTENT_LENGTH, HeaderValue::from(packed.bytes)),
        (DIGEST, HeaderValue::from_str(&digest).map_err(|e| ApiError::internal("no digest", &e))?),
    ];
    let file = tokio::fs::File::from_std(packed.file);
    let pieces = futures::stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; CHUNK_BYTES];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        std::io::Result::Ok((read > 0).then(|| (Bytes::from(piece), file)))
    });
    let mut response = (headers, Body::from_stream(pieces)).into_response();
    response.extensions_mut().insert(Streamed);
    Ok(response)
}

/// The state as a state server gives it, in a temporary file.
async fn fetch(app: &App, index: Index) -> Result<File, ApiError> {
    let path = format!("{ARCHIVE}?index={index}");
    for peer in app.peers.peers(Role::State) {
        let target = Target::new(peer.addr, Role::State);
        let opened = app.http.open_stream(&target, &path, OPEN, SILENCE).await;
        match opened {
            Ok(stream) => match spool(stream).await {
                Ok(file) => return Ok(file),
                Err(error) => tracing::warn!(peer = peer.name, error, "a server's state did not come whole"),
            },
            Err(error) => tracing::info!(peer = peer.name, error = %error, "a server gives no state"),
        }
    }
    Err(ApiError::not_ready("no state server gives its state"))
}

async fn spool(mut stream: Streaming) -> Result<File, String> {
    let mut file = tempfile::tempfile().map_err(|e| e.to_string())?;
    while let Some(piece) = stream.chunk().await.map_err(|e| e.to_string())? {
        file = blocking(move || file.write_all(&piece).map(|()| file))
            .await
            .map_err(|e| e.text().to_owned())?
            .map_err(|e| e.to_string())?;
    }
    file.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
    Ok(file)
}

fn pack(mut state: File, term: u64) -> Result<Packed, ArchiveError> {
    #[derive(Deserialize)]
    struct Head {
        index: u64,
        cluster: Cluster,
    }
    #[derive(Deserialize)]
    struct Cluster {
        region: String,
    }
    let mut first = String::new();
    BufReader::new(&mut state).take(CHUNK_BYTES as u64).read_line(&mut first)?;
    state.seek(SeekFrom::Start(0))?;
    let head: Head = serde_json::from_str(&first).map_err(std::io::Error::from)?;
    let created = client::clock::unix_nanos();
    let meta = Meta {
        id: format!("{term}-{}-{}", head.index, created / 1_000_000),
        created,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        region: head.cluster.region,
        index: head.index,
        term,
        ..Meta::default()
    };
    archive::pack(&mut state, meta)
}

fn unsaved(error: &ArchiveError) -> ApiError {
    ApiError::internal("snapshot cannot be made", error)
}

/// Restore a snapshot
///
/// The state becomes the snapshot's, whole or not at all. Everybody who follows the cluster begins anew.
#[utoipa::path(post, path = "/v1/operator/snapshot", operation_id = "restoreSnapshot", tag = "operator",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "It is the state now"),
        (status = 400, description = "Damaged, of a newer format, or no snapshot at all; nothing was changed", body = String, content_type = "text/plain"),
        (status = 409, description = "Of another region, or another restore came between; nothing was changed", body = String, content_type = "text/plain"),
        (status = 413, description = "Too large", body = String, content_type = "text/plain")))]
async fn restore(State(app): State<App>, _options: Options, body: Body) -> Answered {
    let file = take_in(body).await?;
    let (meta, state) = blocking(move || check(file)).await?.map_err(refused)?;
    if meta.region != app.region {
        let text = format!("snapshot is of region {:?}, this cluster is {:?}", meta.region, app.region);
        return Err(ApiError::new(StatusCode::CONFLICT, text));
    }
    let id = new_uuid();
    let restored = bring_in(&app, &id, state).await;
    if restored.is_err() {
        let _ = step(&app, RestoreStep::Abort { id }).await;
    }
    let index = restored?;
    tracing::warn!(snapshot = meta.id, from = meta.index, index = index.get(), "the cluster's state was restored");
    let caught_up = app.replica.reached(index, STEP).await;
    caught_up.map_err(|_| ApiError::not_ready("it is restored, but this gateway's copy is not that far yet"))?;
    Ok(StatusCode::OK.into_response())
}

async fn take_in(body: Body) -> Result<File, ApiError> {
    let broken = |e: &dyn std::fmt::Display| ApiError::internal("snapshot cannot be kept", e);
    let mut file = tempfile::tempfile().map_err(|e| broken(&e))?;
    let (mut pieces, mut bytes) = (body.into_data_stream(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| ApiError::bad("snapshot broke off"))?;
        bytes += piece.len() as u64;
        if bytes > BYTES_MAX {
            return Err(refused(ArchiveError::TooLarge));
        }
        file = blocking(move || file.write_all(&piece).map(|()| file)).await?.map_err(|e| broken(&e))?;
    }
    Ok(file)
}

/// The whole archive, and the state in it.
fn check(mut file: File) -> Result<(Meta, File), ArchiveError> {
    let (meta, mut state) = archive::unpack(&mut file)?;
    fsm::read_snapshot(BufReader::new(&mut state)).map_err(|error| match error {
        fsm::SnapshotError::UnknownVersion(version) => ArchiveError::Newer(version),
        fsm::SnapshotError::Io(error) => ArchiveError::Io(error),
        _ => ArchiveError::Damaged("its state cannot be read"),
    })?;
    state.seek(SeekFrom::Start(0))?;
    Ok((meta, state))
}

fn refused(error: ArchiveError) -> ApiError {
    match error {
        ArchiveError::Io(cause) => ApiError::internal("snapshot cannot be read", &cause),
        ArchiveError::TooLarge => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        error => ApiError::bad(error.to_string()),
    }
}

/// Through the log, piece by piece; the index of the restored state.
async fn bring_in(app: &App, id: &str, state: File) -> Result<Index, ApiError> {
    step(app, RestoreStep::Begin { id: id.to_owned() }).await?;
    let mut lines = Some(BufReader::with_capacity(CHUNK_BYTES, state));
    for at in 0.. {
        let Some(mut reader) = lines.take() else { break };
        let read = blocking(move || {
            let mut text = String::new();
            while text.len() < PIECE_BYTES && reader.read_line(&mut text)? > 0 {}
            std::io::Result::Ok((text, reader))
        });
        let (text, reader) = read.await?.map_err(|e| ApiError::internal("snapshot cannot be read", &e))?;
        if text.is_empty() {
            break;
        }
        lines = Some(reader);
        step(app, RestoreStep::Piece { id: id.to_owned(), at, lines: text }).await?;
    }
    step(app, RestoreStep::Commit { id: id.to_owned(), epoch: new_uuid() }).await
}

async fn step(app: &App, step: RestoreStep) -> Result<Index, ApiError> {
    // Where nobody leads nothing is begun; what was begun outlives an election.
    let leaderless = if matches!(step, RestoreStep::Begin { .. }) { LEADERLESS } else { ELECTION };
    let patience = Patience { within: STEP, leaderless };
    Ok(app.state.propose(Command::Restore(step), None, patience).await?.0)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| ApiError::internal("work on a file ended", &e))
}
