//! Administering keys: made with their secret shown once, listed without it, rotated, revoked.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use uuid::Uuid;

use super::super::HttpState;
use super::super::body::JsonBody;
use super::super::caller::By;
use super::super::cursor;
use super::super::error::ApiError;
use super::super::params::{Params, segment};
use super::super::wire::key::{KeyJson, KeysJson, MadeKeyJson, read_key_request, read_rotation};
use crate::domain::key::BUILT_IN_KEY;

/// Keys in a page unless told otherwise, and at most.
const PAGE_KEYS: usize = 100;
const PAGE_KEYS_MAX: usize = 1_000;

/// The key that the path names. The built-in one is none that can be changed here.
pub struct PathKey(Uuid);

impl<S: Sync + Send> FromRequestParts<S> for PathKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = segment(parts, state, "key_id").await?;
        if text == BUILT_IN_KEY {
            let message = "the built-in key is made anew by `metergate keys reset-admin` on the stopped data folder";
            return Err(ApiError::new(StatusCode::CONFLICT, "built_in_key", message));
        }
        text.parse().map(Self).map_err(|_| ApiError::parameter("key_id", "is no UUID"))
    }
}

/// `?limit&cursor` -> `{keys, next_cursor}`, in order of creation, the built-in key first.
pub async fn list(State(state): State<HttpState>, uri: Uri) -> Result<Json<KeysJson>, ApiError> {
    let params = Params::read(&uri, &["limit", "cursor"])?;
    let limit = params.limit(PAGE_KEYS, PAGE_KEYS_MAX)?;
    let cursor_key = state.engine.cursor_key();
    let after = match params.get("cursor") {
        None => None,
        Some(text) => {
            let payload = cursor::open(&cursor_key, &["keys"], text)?;
            Some(Uuid::from_slice(&payload).map_err(|_| cursor::invalid())?)
        }
    };
    let mut keys: Vec<_> = state.keys.built_in().filter(|_| after.is_none()).into_iter().collect();
    // One more tells whether there is a next page.
    keys.extend(state.api_keys.list(after, limit + 1 - keys.len()));
    let more = keys.len() > limit;
    keys.truncate(limit);
    let last = keys.last().filter(|_| more);
    let now = state.engine.now();
    Ok(Json(KeysJson {
        next_cursor: last.map(|last| cursor::seal(&cursor_key, &["keys"], last.key_id.as_bytes())),
        keys: keys.iter().map(|key| KeyJson::at(key, now)).collect(),
    }))
}

/// `{name, role, tenants?, expires_at?}` -> 201 with `key`, which is shown this once.
pub async fn create(
    State(state): State<HttpState>,
    By(actor): By,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<MadeKeyJson>), ApiError> {
    Params::read(&uri, &[])?;
    let made = state.api_keys.create(read_key_request(&body)?, &actor).await?;
    Ok((StatusCode::CREATED, Json(MadeKeyJson::new(&made, None, state.engine.now()))))
}

/// `{overlap_seconds?}` -> 201 with the new `key`, shown this once; the old one works for the overlap.
pub async fn rotate(
    State(state): State<HttpState>,
    PathKey(key_id): PathKey,
    By(actor): By,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<MadeKeyJson>), ApiError> {
    Params::read(&uri, &[])?;
    let made = state.api_keys.rotate(key_id, read_rotation(&body)?, &actor).await?;
    let old = state.api_keys.get(key_id);
    Ok((StatusCode::CREATED, Json(MadeKeyJson::new(&made, old.as_ref(), state.engine.now()))))
}

/// Ends a key at once.
pub async fn revoke(
    State(state): State<HttpState>,
    PathKey(key_id): PathKey,
    By(actor): By,
    uri: Uri,
) -> Result<Json<KeyJson>, ApiError> {
    Params::read(&uri, &[])?;
    let key = state.api_keys.revoke(key_id, &actor).await?;
    Ok(Json(KeyJson::at(&key, state.engine.now())))
}
