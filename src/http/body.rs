//! Reading bodies: of the right media type, within their size, within their time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::error::ApiError;

/// The largest ordinary JSON body, in bytes.
pub const JSON_BYTES_MAX: usize = 64 * 1024;
/// The largest JSON batch of events, in bytes.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The largest body of a call that is forwarded to an upstream, in bytes: pictures and files stand in it.
pub const CALL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The longest silence within a body.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How much of a body that is too large is read and thrown away.
const DISCARDED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long an ordinary body may take in all.
const JSON_TIME_MAX: Duration = Duration::from_secs(15);
/// How long a batch may take in all: 8 MiB at 70 KiB/s.
const BATCH_TIME_MAX: Duration = Duration::from_secs(120);

/// What a body says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`
    Json,
    /// `application/x-ndjson`
    Ndjson,
    /// `application/cloudevents+json`
    CloudEvent,
    /// `application/cloudevents-batch+json`
    CloudEventBatch,
}

/// The media type of a body. Fails with 415.
pub fn media_of(headers: &HeaderMap) -> Result<Media, ApiError> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = value.split(';').next().unwrap_or_default().trim();
    let known = [
        ("application/json", Media::Json),
        ("application/x-ndjson", Media::Ndjson),
        ("application/ndjson", Media::Ndjson),
        ("application/cloudevents+json", Media::CloudEvent),
        ("application/cloudevents-batch+json", Media::CloudEventBatch),
    ];
    let found = known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
    found.map(|(_, media)| media).ok_or_else(|| unsupported("application/json"))
}

/// 415: what to send instead.
pub fn unsupported(expected: &str) -> ApiError {
    let message = format!("send the header content-type: {expected}");
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
}

/// An ordinary JSON body, not yet read as JSON.
pub struct JsonBody(pub Bytes);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if media_of(request.headers())? != Media::Json {
            return Err(unsupported("application/json"));
        }
        let waits = waits_for_continue(request.headers());
        within(request.into_body(), JSON_BYTES_MAX, JSON_TIME_MAX, waits).await.map(Self)
    }
}

/// A JSON batch of events, not yet read as JSON.
pub async fn read_batch(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    within(body, BATCH_BYTES_MAX, BATCH_TIME_MAX, waits_for_continue(headers)).await
}

/// The body of a call that is forwarded, not read here.
pub async fn read_call(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    within(body, CALL_BYTES_MAX, BATCH_TIME_MAX, waits_for_continue(headers)).await
}

/// Whether the sender waits for our word before it sends a body.
fn waits_for_continue(headers: &HeaderMap) -> bool {
    headers.contains_key(header::EXPECT)
}

/// The whole body, or why not. A body that is too large is read to its end within bounds and thrown away, since most
/// senders hear no answer before they have sent; those that wait for our word hear it at once.
async fn within(mut body: Body, bytes_max: usize, time_max: Duration, waits: bool) -> Result<Bytes, ApiError> {
    let mut end = End::After(time_max);
    let announced = body.size_hint().lower() > bytes_max as u64;
    let read = if announced { Err(too_large(bytes_max)) } else { read_whole(&mut body, bytes_max, &mut end).await };
    if let (Err(error), false) = (&read, announced && waits)
        && error.is_too_large()
    {
        let mut discarded = 0;
        while let Ok(Some(piece)) = next_chunk(&mut body, &mut end).await {
            discarded += piece.len();
            if discarded > DISCARDED_BYTES_MAX {
                break;
            }
        }
    }
    read
}

/// When a body has to be whole. The clock is looked at once something is waited for: most bodies are there already.
enum End {
    /// So long after that.
    After(Duration),
    At(Instant),
}

impl End {
    /// Until when the next piece may be waited for.
    fn of_piece(&mut self) -> Instant {
        let now = Instant::now();
        let end = match *self {
            Self::After(time) => now + time,
            Self::At(end) => end,
        };
        *self = Self::At(end);
        end.min(now + SILENCE_MAX)
    }
}

async fn read_whole(body: &mut Body, bytes_max: usize, end: &mut End) -> Result<Bytes, ApiError> {
    let Some(first) = next_chunk(body, end).await? else { return Ok(Bytes::new()) };
    if first.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    // Most bodies come in one piece.
    if body.is_end_stream() {
        return Ok(first);
    }
    let Some(second) = next_chunk(body, end).await? else { return Ok(first) };
    let mut whole = Vec::with_capacity(first.len() + second.len());
    whole.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        if whole.len() + chunk.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        whole.extend_from_slice(&chunk);
        next = next_chunk(body, end).await?;
    }
    Ok(whole.into())
}

/// The next piece of a stream, at most [`SILENCE_MAX`] after the one before.
pub async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    next_chunk(body, &mut End::After(SILENCE_MAX)).await
}

async fn next_chunk(body: &mut Body, end: &mut End) -> Result<Option<Bytes>, ApiError> {
    let mut until = None;
    loop {
        let at_hand = poll_fn(|context| Poll::Ready(Pin::new(&mut *body).poll_frame(context))).await;
        let read = match at_hand {
            Poll::Ready(read) => Ok(read),
            Poll::Pending => timeout_at(*until.get_or_insert_with(|| end.of_piece()), body.frame()).await,
        };
        match read {
            Err(_) => {
                let message = "the body did not arrive in time";
                return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message));
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => {
                let message = "the body broke off before its end";
                return Err(ApiError::new(StatusCode::BAD_REQUEST, "body_incomplete", message));
            }
            // Trailers carry nothing for us.
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(_) => {}
            },
        }
    }
}

fn too_large(bytes_max: usize) -> ApiError {
    let message = format!("the body is larger than {} KiB", bytes_max / 1024);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Context;

    use hyper::body::Frame;

    use super::*;

    /// Sends its pieces, then nothing more and no end.
    struct Halting(Vec<Bytes>);

    impl HttpBody for Halting {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.pop().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece)))))
        }
    }

    #[tokio::test]
    async fn a_body_above_its_size_is_413_and_one_at_its_size_is_read() {
        for waits in [false, true] {
            let read = |bytes: usize| within(Body::from(vec![b' '; bytes]), 10, JSON_TIME_MAX, waits);
            assert_eq!(read(10).await.unwrap().len(), 10);
            let error = read(11).await.unwrap_err();
            assert_eq!((error.status().as_u16(), error.code()), (413, "body_too_large"));
        }
    }

    #[tokio::test]
    async fn a_body_that_halts_is_given_up() {
        let halting = |piece: &'static [u8]| Body::new(Halting(vec![Bytes::from_static(piece)]));
        let error = within(halting(b"{\"a\":"), 10, Duration::from_millis(5), false).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (408, "body_timeout"));
        let error = within(halting(b"0123456789 too long"), 10, Duration::from_millis(5), false).await.unwrap_err();
        assert_eq!(error.code(), "body_too_large");
    }

    #[test]
    fn a_media_type_is_known_by_its_name_alone() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            media_of(&headers).map_err(|error| error.status().as_u16())
        };
        assert_eq!(of("application/json; charset=utf-8"), Ok(Media::Json));
        assert_eq!(of("Application/X-NDJSON"), Ok(Media::Ndjson));
        assert_eq!(of("application/cloudevents-batch+json"), Ok(Media::CloudEventBatch));
        assert_eq!(of("text/plain"), Err(415));
        assert_eq!(media_of(&HeaderMap::new()).map_err(|error| error.code()), Err("unsupported_media_type"));
    }
}
