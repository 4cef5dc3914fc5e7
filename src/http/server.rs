//! Connections: accepted within limits, never waited for without end, and ended in peace.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// How much one server takes on.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at once; further ones wait in the system's queue.
    pub connections_max: usize,
    /// How long a request's headers may take, from the end of the request before: it bounds idle connections too.
    pub header_time_max: Duration,
    /// The largest request head, in bytes; at least 8 KiB.
    pub header_bytes_max: usize,
    /// The most headers of one request.
    pub headers_max: usize,
    /// How long a stop waits for requests in flight.
    pub stop_time_max: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            header_time_max: Duration::from_secs(10),
            header_bytes_max: 32 * 1024,
            headers_max: 100,
            stop_time_max: Duration::from_secs(30),
        }
    }
}

/// Serves until `shutdown` resolves; then takes no more, lets requests in flight end, and returns.
pub async fn serve(listener: TcpListener, router: Router, limits: ServerLimits, shutdown: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept(), if connections.len() < limits.connections_max => match accepted {
                Ok((stream, _)) => {
                    let connection = connect(stream, router.clone(), limits);
                    connections.spawn(run(graceful.watch(connection)));
                }
                Err(error) => {
                    // Such as no file descriptors left: wait for connections to end rather than spin.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    let open = connections.len();
    tracing::info!(open, "stopping: requests in flight may end");
    if tokio::time::timeout(limits.stop_time_max, graceful.shutdown()).await.is_err() {
        tracing::warn!(open = connections.len(), "some requests did not end in time and are cut off");
    }
    connections.shutdown().await;
}

/// A connection that speaks HTTP/1.1 to the router.
fn connect(
    stream: TcpStream,
    router: Router,
    limits: ServerLimits,
) -> http1::Connection<
    TokioIo<TcpStream>,
    impl hyper::service::HttpService<
        Incoming,
        ResBody = Body,
        Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        Future: Send,
    >,
> {
    // An answer is one write; waiting to fill a packet would only delay it.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request.map(Body::new)).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time_max)
        .max_buf_size(limits.header_bytes_max)
        .max_headers(limits.headers_max)
        .serve_connection(TokioIo::new(stream), service)
}

async fn answer(router: Router, request: Request<Body>) -> axum::response::Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn run(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        // The other side broke off, was too slow, or spoke something else: its affair.
        tracing::debug!(%error, "a connection ended early");
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}

/// A request made in this process, for a command on a stopped data folder.
#[derive(Clone, Debug)]
pub struct LocalRequest<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The key.
    pub key: &'a str,
    /// The body's media type; `None` for no body.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: Vec<u8>,
}

/// The answer to a [`LocalRequest`].
#[derive(Clone, Debug)]
pub struct LocalAnswer {
    /// The HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
}

/// Asks the router without a connection. Fails on a method or target that is none.
pub async fn in_process(router: Router, request: LocalRequest<'_>) -> Result<LocalAnswer, axum::Error> {
    let mut builder = Request::builder().method(request.method).uri(request.target);
    builder = builder.header(axum::http::header::AUTHORIZATION, format!("Bearer {}", request.key));
    if let Some(media) = request.content_type {
        builder = builder.header(axum::http::header::CONTENT_TYPE, media);
    }
    let response = answer(router, builder.body(Body::from(request.body)).map_err(axum::Error::new)?).await;
    let status = response.status().as_u16();
    // Our own answers are in memory already: there is nothing to bound.
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await?;
    Ok(LocalAnswer { status, body: body.to_vec() })
}
