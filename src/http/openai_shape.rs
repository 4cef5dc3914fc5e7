//! Errors of the OpenAI-compatible door in the shape that OpenAI's clients read: `{"error": {message, type, code, param}}`.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Where the door's routes begin.
pub const DOOR: &str = "/v1/";

/// What an error said, kept with its answer so that the door can say it in its own shape.
#[derive(Clone, Debug)]
pub struct Told {
    /// The stable code.
    pub code: &'static str,
    /// The sentence.
    pub message: String,
    /// The field at fault.
    pub field: Option<String>,
}

/// The same answer, with an error of ours in OpenAI's shape; all others as they are.
pub fn reshaped(mut response: Response) -> Response {
    let Some(told) = response.extensions_mut().remove::<Told>() else { return response };
    let status = response.status();
    let code = if told.code == "ADMIN_AUTH_REQUIRED" { "invalid_api_key" } else { told.code };
    let body = json!({
        "error": { "message": told.message, "type": type_of(status), "code": code, "param": told.field },
    });
    let mut reshaped = (status, Json(body)).into_response();
    for (name, value) in response.headers() {
        if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
            reshaped.headers_mut().append(name.clone(), value.clone());
        }
    }
    reshaped
}

/// OpenAI's word for errors of this status.
pub fn type_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}
