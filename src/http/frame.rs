//! What surrounds every request: an id, the time it took, a log line, fixed headers, and a net for panics.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::client_address::{ClientAddress, PeerAddress, client_address};
use super::error::ApiError;
use super::meter::HttpMeter;
use super::openai_shape::{DOOR, reshaped};
use crate::config::Networks;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the frame works with.
#[derive(Clone)]
pub struct Frame {
    meter: HttpMeter,
    trusted_proxies: Arc<Networks>,
}

impl Frame {
    /// Counts into `meter`, and believes what these proxies say about their clients.
    pub fn new(meter: HttpMeter, trusted_proxies: Networks) -> Self {
        Self { meter, trusted_proxies: trusted_proxies.into() }
    }
}

/// Runs one request within the frame. Neither query, body nor headers reach the log.
pub async fn frame(State(frame): State<Frame>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
    let client = peer.map(|peer| client_address(peer, request.headers(), &frame.trusted_proxies));
    request.extensions_mut().insert(ClientAddress(client));
    let request_id = request_id(request.headers());
    request.headers_mut().insert(REQUEST_ID, request_id.clone());
    let method = request.method().clone();
    let speaks_openai = request.uri().path().starts_with(DOOR);
    let path = request.extensions().get::<MatchedPath>().cloned();

    let mut running = Box::pin(next.run(request));
    let mut response = poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
            Ok(poll) => poll,
            // The panic hook has told where. The future is not polled again.
            Err(_) => Poll::Ready(ApiError::internal("a request handler panicked").into_response()),
        }
    })
    .await;

    if speaks_openai {
        response = reshaped(response);
    }
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let status = response.status().as_u16();
    frame.meter.note(method.as_str(), path.as_ref().map(MatchedPath::as_str), status, started.elapsed());
    tracing::debug!(
        request_id = request_id.to_str().unwrap_or_default(),
        %method,
        route = path.as_ref().map_or("unmatched", |path| path.as_str()),
        status,
        duration_micros = started.elapsed().as_micros() as u64,
        client = client.map(tracing::field::display),
        "request"
    );
    response.headers_mut().insert(REQUEST_ID, request_id);
    response
}

/// The id of the request that is being answered, as the answer will show it.
pub struct RequestId(Option<HeaderValue>);

impl RequestId {
    /// Of this request: the frame put it there, in visible characters.
    pub fn of(parts: &Parts) -> Self {
        Self(parts.headers.get(REQUEST_ID).cloned())
    }

    /// Its text.
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_ref().and_then(|id| id.to_str().ok())
    }
}

impl<S: Sync + Send> FromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts))
    }
}

/// The caller's own id when it is sane, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane =
        |value: &&HeaderValue| (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    match headers.get(REQUEST_ID).filter(sane) {
        Some(given) => given.clone(),
        // The text of a UUID is a header value.
        None => {
            HeaderValue::from_str(&crate::ids::new_request_id().to_string()).unwrap_or(HeaderValue::from_static("-"))
        }
    }
}

/// 404 for a path that no route has.
pub async fn unknown_route(uri: Uri) -> ApiError {
    let shown: String = uri.path().chars().take(128).collect();
    ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at {shown}"))
}

/// 405 for a path that has other methods.
pub async fn wrong_method(method: Method) -> ApiError {
    let message = format!("{method} is not served here: see the allow header");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: &str, path: &str, id: Option<&str>) -> (StatusCode, HeaderMap, String) {
        async fn fall() -> &'static str {
            panic!("on purpose")
        }
        let router = Router::new()
            .route("/fine", get(|| async { "fine" }))
            .route("/fall", get(fall))
            .fallback(unknown_route)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn_with_state(Frame::new(HttpMeter::new(), Networks::default()), frame));
        let mut request = Request::builder().method(method).uri(path);
        if let Some(id) = id {
            request = request.header(REQUEST_ID, id);
        }
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 4096).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_answer_has_its_headers_and_echoes_a_sane_id() {
        let (status, headers, _) = ask("GET", "/fine", Some("req-7")).await;
        assert_eq!((status, &headers[REQUEST_ID]), (StatusCode::OK, &HeaderValue::from_static("req-7")));
        assert_eq!(
            (&headers["x-content-type-options"], &headers["cache-control"]),
            (&"nosniff".parse().unwrap(), &"no-store".parse().unwrap())
        );
        for insane in [None, Some("with space"), Some("")] {
            let (_, headers, _) = ask("GET", "/fine", insane).await;
            assert_eq!(headers[REQUEST_ID].len(), 36, "{insane:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_an_unknown_route_and_a_wrong_method_answer_json() {
        for (method, path, status, code) in [
            ("GET", "/fall", 500, "internal_error"),
            ("GET", "/nowhere", 404, "not_found"),
            ("POST", "/fine", 405, "method_not_allowed"),
        ] {
            let (answered, headers, body) = ask(method, path, None).await;
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((answered.as_u16(), json["code"].as_str()), (status, Some(code)), "{body}");
            assert!(headers.contains_key(REQUEST_ID) && json["error"].is_string());
            assert!(!body.contains("on purpose"));
        }
        assert_eq!(ask("POST", "/fine", None).await.1[header::ALLOW], "GET,HEAD");
    }
}
