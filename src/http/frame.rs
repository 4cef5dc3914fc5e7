//! What surrounds every request: an id, the time it took, a log line, fixed headers, and a net for panics.
//!
//! It is a function around the router and not a layer in it, which would box and clone for every request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tower::Service;

use super::client_address::client_address;
use super::error::ApiError;
use super::meter::{HttpMeter, UNMATCHED};
use super::openai_shape::{DOOR, reshaped};
use crate::config::Networks;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every route within its frame; cheap to clone.
#[derive(Clone)]
pub struct Surface {
    router: Router,
    frame: Arc<Frame>,
}

struct Frame {
    meter: HttpMeter,
    trusted_proxies: Networks,
}

/// What is known of a request beside what it says; in its extensions.
pub(super) struct Visit {
    request_id: HeaderValue,
    /// Where it comes from; `None` for one made in this process.
    pub(super) client: Option<IpAddr>,
    /// The place of the route that it found in the meter.
    route: AtomicUsize,
}

impl Visit {
    /// The visit that this request is.
    pub(super) fn of(extensions: &Extensions) -> Option<&Arc<Self>> {
        extensions.get()
    }

    /// Notes the route that the request found, by its place in the meter.
    pub(super) fn found(&self, route: usize) {
        self.route.store(route, Ordering::Relaxed);
    }
}

impl Surface {
    /// Counts into `meter`, and believes what these proxies say about their clients.
    pub(super) fn new(router: Router, meter: HttpMeter, trusted_proxies: Networks) -> Self {
        Self { router, frame: Arc::new(Frame { meter, trusted_proxies }) }
    }

    /// Runs one request that `peer` sent, or this process. Neither query, body nor headers reach the log.
    pub async fn answer(mut self, mut request: Request<Body>, peer: Option<IpAddr>) -> Response {
        let started = Instant::now();
        let headers = request.headers();
        let client = peer.map(|peer| client_address(peer, headers, &self.frame.trusted_proxies));
        let request_id = request_id(headers);
        let visit = Arc::new(Visit { request_id, client, route: AtomicUsize::new(UNMATCHED) });
        request.extensions_mut().insert(Arc::clone(&visit));
        let method = request.method().clone();
        let speaks_openai = request.uri().path().starts_with(DOOR);
        // A router is always ready.
        let mut running = pin!(self.router.call(request));
        let answered = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
            Ok(poll) => poll,
            // The panic hook has told where. The future is not polled again.
            Err(_) => Poll::Ready(Ok(ApiError::internal("a request handler panicked").into_response())),
        });
        let mut response = answered.await.unwrap_or_else(|never: Infallible| match never {});
        if speaks_openai {
            response = reshaped(response);
        }
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, visit.request_id.clone());
        let (status, took) = (response.status().as_u16(), started.elapsed());
        let route = self.frame.meter.note(visit.route.load(Ordering::Relaxed), status, took);
        tracing::debug!(
            request_id = visit.request_id.to_str().unwrap_or_default(),
            %method,
            route,
            status,
            duration_micros = took.as_micros() as u64,
            client = client.map(tracing::field::display),
            "request"
        );
        response
    }
}

/// The id of the request that is being answered, as the answer will show it.
pub struct RequestId(Option<Arc<Visit>>);

impl RequestId {
    /// Of this request: the frame made it, in visible characters.
    pub fn of(parts: &Parts) -> Self {
        Self(Visit::of(&parts.extensions).cloned())
    }

    /// Its text.
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_ref().and_then(|visit| visit.request_id.to_str().ok())
    }
}

impl<S: Sync + Send> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
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
            let text = Bytes::from(crate::ids::new_request_id().to_string());
            HeaderValue::from_maybe_shared(text).unwrap_or(HeaderValue::from_static("-"))
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
    use axum::routing::get;

    use super::*;

    async fn ask(method: &str, path: &str, id: Option<&str>) -> (StatusCode, HeaderMap, String) {
        async fn fall() -> &'static str {
            panic!("on purpose")
        }
        let router = Router::new()
            .route("/fine", get(|| async { "fine" }))
            .route("/fall", get(fall))
            .fallback(unknown_route)
            .method_not_allowed_fallback(wrong_method);
        let surface = Surface::new(router, HttpMeter::new(), Networks::default());
        let mut request = Request::builder().method(method).uri(path);
        if let Some(id) = id {
            request = request.header(REQUEST_ID, id);
        }
        let response = surface.answer(request.body(Body::empty()).unwrap(), None).await;
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
