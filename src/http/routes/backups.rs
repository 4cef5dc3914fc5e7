//! Backups: made, listed, taken away.

use std::io::Read;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::caller::By;
use super::super::error::ApiError;
use super::super::params::Params;
use super::super::stream_body::stream_body;
use super::super::wire::base64;
use super::blocking;
use crate::backup::{ListedBackup, MakeBackupError};
use crate::domain::backup::BackupRecord;
use crate::tracker::ReadError;

/// Bytes of a file that are sent at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Makes one, and says what it holds.
pub async fn make(State(state): State<HttpState>, By(actor): By, uri: Uri) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let made = blocking(move || state.engine.backups().make(&actor)).await?.map_err(not_made)?;
    let mut answer = shown(&made.backup);
    answer["path"] = made.path.display().to_string().into();
    answer["took_ms"] = (made.took.as_millis() as u64).into();
    answer["file_bytes_before"] = made.file_bytes.0.into();
    answer["file_bytes_after"] = made.file_bytes.1.into();
    Ok(Json(answer))
}

fn not_made(error: MakeBackupError) -> ApiError {
    match error {
        MakeBackupError::Write(error) => error.into(),
        MakeBackupError::Copy(error) => {
            tracing::error!(%error, "a backup was not made");
            ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "backup_failed",
                format!("the backup was not made: {error}"),
            )
        }
    }
}

/// Every backup that was made of this store, newest first.
pub async fn list(State(state): State<HttpState>, uri: Uri) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let backups = state.engine.backups();
    let folder = backups.folder().display().to_string();
    let listed = blocking(move || backups.list()).await?.map_err(unreadable)?;
    Ok(Json(json!({ "folder": folder, "backups": listed.iter().map(listed_json).collect::<Vec<_>>() })))
}

/// The file of one.
pub async fn download(
    State(state): State<HttpState>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, ApiError> {
    Params::read(&uri, &[])?;
    let backups = state.engine.backups();
    let wanted = name.clone();
    let path = blocking(move || backups.file_of(&wanted)).await?.map_err(unreadable)?;
    let unknown =
        || ApiError::new(StatusCode::NOT_FOUND, "backup_unknown", "no backup has this name, or its file is gone");
    let path = path.ok_or_else(unknown)?;
    let mut file = std::fs::File::open(path).map_err(ApiError::internal)?;
    let (pieces, body) = stream_body();
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let sent = match file.read(&mut piece) {
                Ok(0) => return,
                Ok(read) => {
                    piece.truncate(read);
                    pieces.blocking_send(Ok(Bytes::from(piece)))
                }
                Err(error) => pieces.blocking_send(Err(ApiError::internal(error).into())),
            };
            if sent.is_err() {
                return;
            }
        }
    });
    let as_file = format!("attachment; filename=\"{name}\"");
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_DISPOSITION, as_file)];
    Ok((headers, body).into_response())
}

pub(super) fn unreadable(error: crate::store::StoreError) -> ApiError {
    ReadError::Storage(error.to_string()).into()
}

fn shown(backup: &BackupRecord) -> Value {
    json!({
        "name": backup.name,
        "backup_id": backup.backup_id.to_string(),
        "created_at": backup.created_at.to_string(),
        "bytes": backup.bytes,
        "rows": backup.rows,
        "audit_size": backup.audit_size,
        "audit_root": base64(&backup.audit_root),
    })
}

/// A backup in a list.
pub(super) fn listed_json(listed: &ListedBackup) -> Value {
    let mut json = shown(&listed.backup);
    json["present"] = listed.present.into();
    json
}
