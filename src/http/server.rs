//! Connections: accepted within limits, never waited for without end, and ended in peace.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::frame::Surface;
use super::write_deadline::WriteDeadline;

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
    /// How long one write may wait for a client that does not read.
    pub write_time_max: Duration,
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
            write_time_max: Duration::from_secs(60),
            stop_time_max: Duration::from_secs(30),
        }
    }
}

/// Serves until `shutdown` resolves; then takes no more, lets requests in flight end, and returns.
pub async fn serve(listener: TcpListener, surface: Surface, limits: ServerLimits, shutdown: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept(), if connections.len() < limits.connections_max => match accepted {
                Ok((stream, peer)) => {
                    let connection = connect(stream, peer.ip(), surface.clone(), limits);
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

/// A connection that speaks HTTP/1.1 to the surface.
fn connect(
    stream: TcpStream,
    peer: IpAddr,
    surface: Surface,
    limits: ServerLimits,
) -> http1::Connection<
    TokioIo<WriteDeadline<TcpStream>>,
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
        let answer = surface.clone().answer(request.map(Body::new), Some(peer));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time_max)
        .max_buf_size(limits.header_bytes_max)
        .max_headers(limits.headers_max)
        .serve_connection(TokioIo::new(WriteDeadline::new(stream, limits.write_time_max)), service)
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

/// Asks without a connection. Fails on a method or target that is none.
pub async fn in_process(surface: Surface, request: LocalRequest<'_>) -> Result<LocalAnswer, axum::Error> {
    let mut body = Vec::new();
    let status = in_process_to(surface, request, |piece| {
        body.extend_from_slice(piece);
        Ok(())
    });
    Ok(LocalAnswer { status: status.await?, body })
}

/// [`in_process`] for answers of any length: each piece of the body is handed to `take` as it comes. Gives the status.
/// Fails when `take` does, and when the answer is broken off.
pub async fn in_process_to(
    surface: Surface,
    request: LocalRequest<'_>,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<u16, axum::Error> {
    let mut builder = Request::builder().method(request.method).uri(request.target);
    builder = builder.header(axum::http::header::AUTHORIZATION, format!("Bearer {}", request.key));
    if let Some(media) = request.content_type {
        builder = builder.header(axum::http::header::CONTENT_TYPE, media);
    }
    let response = surface.answer(builder.body(Body::from(request.body)).map_err(axum::Error::new)?, None).await;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            take(&piece).map_err(axum::Error::new)?;
        }
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream as Client};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::routing::{get, post};
    use tokio::sync::{Barrier, Notify, oneshot};
    use tokio::task::{JoinHandle, spawn_blocking};

    use super::super::meter::HttpMeter;
    use super::*;
    use crate::config::Networks;

    fn bare(router: Router) -> Surface {
        Surface::new(router, HttpMeter::new(), Networks::default())
    }

    /// A server of `router`, with what stops it.
    async fn started(
        router: Router,
        limits: ServerLimits,
    ) -> Result<(SocketAddr, oneshot::Sender<()>, JoinHandle<()>), std::io::Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, bare(router), limits, async {
            let _ = stopped.await;
        }));
        Ok((address, stop, served))
    }

    /// Sends bytes and reads until the other side closes.
    fn exchange(address: SocketAddr, sent: &'static [u8]) -> JoinHandle<String> {
        spawn_blocking(move || {
            let mut client = Client::connect(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client.write_all(sent).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        })
    }

    #[tokio::test]
    async fn a_stop_lets_the_request_in_flight_end() {
        let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (arrived.clone(), go_on.clone());
        let slow = move || async move {
            tell.notify_one();
            wait.notified().await;
            "done"
        };
        let (address, stop, served) =
            started(Router::new().route("/", get(slow)), ServerLimits::default()).await.unwrap();
        let answer = exchange(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        arrived.notified().await;
        stop.send(()).unwrap();
        go_on.notify_one();
        let answer = answer.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("done"), "{answer}");
        served.await.unwrap();
        assert!(Client::connect(address).is_err());
    }

    #[tokio::test]
    async fn a_request_that_never_ends_is_cut_off_at_a_stop() {
        let arrived = Arc::new(Notify::new());
        let tell = arrived.clone();
        let never = move || async move {
            tell.notify_one();
            std::future::pending::<()>().await
        };
        let limits = ServerLimits { stop_time_max: Duration::from_millis(10), ..ServerLimits::default() };
        let (address, stop, served) = started(Router::new().route("/", get(never)), limits).await.unwrap();
        let answer = exchange(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        arrived.notified().await;
        stop.send(()).unwrap();
        served.await.unwrap();
        assert_eq!(answer.await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_half_sent_head_is_closed_and_one_with_too_many_headers_is_refused() {
        let limits = ServerLimits { header_time_max: Duration::from_millis(50), ..ServerLimits::default() };
        let (address, _stop, _served) = started(Router::new(), limits).await.unwrap();
        let answer = exchange(address, b"GET / HTTP/1.1\r\nhos").await.unwrap();
        assert!(!answer.contains("200"), "{answer}");
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(limits.headers_max + 1));
        let large: &'static [u8] = many.into_bytes().leak();
        let answer = exchange(address, large).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn more_connections_than_there_may_be_wait_for_their_turn() {
        const ALLOWED: usize = 2;
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let company = Arc::new(Barrier::new(ALLOWED));
        let (entered, seen) = (Arc::clone(&inside), Arc::clone(&most));
        let handler = move || async move {
            let now = entered.fetch_add(1, Ordering::SeqCst) + 1;
            seen.fetch_max(now, Ordering::SeqCst);
            // As many as there may be are in here at once, and stay long enough for one more to come in.
            company.wait().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            entered.fetch_sub(1, Ordering::SeqCst);
            "done"
        };
        let limits = ServerLimits { connections_max: ALLOWED, ..ServerLimits::default() };
        let (address, _stop, _served) = started(Router::new().route("/", get(handler)), limits).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answers: Vec<_> = (0..20).map(|_| exchange(address, request)).collect();
        for answer in answers {
            assert!(answer.await.unwrap().ends_with("done"));
        }
        assert_eq!((most.load(Ordering::SeqCst), inside.load(Ordering::SeqCst)), (ALLOWED, 0));
    }

    #[tokio::test]
    async fn a_request_in_process_needs_no_connection() {
        let router = Router::new().route("/echo", post(|body: String| async move { format!("got {body}") }));
        let request = |method, target| LocalRequest {
            method,
            target,
            key: "k",
            content_type: Some("text/plain"),
            body: b"it".to_vec(),
        };
        let answer = in_process(bare(router.clone()), request("POST", "/echo?x=1")).await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"got it"[..]));
        assert!(in_process(bare(router), request("PO ST", "/echo")).await.is_err());
    }
}
