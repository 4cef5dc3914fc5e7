//! A body whose pieces come from a thread or task, while the caller reads: a slow reader slows the writer, not memory.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::error::ApiError;

/// Pieces that may wait for the reader.
const PIECES_WAITING: usize = 8;

/// Where the pieces are put. An error breaks the body off, so that its reader sees that it is not whole.
pub type Pieces = mpsc::Sender<Result<Bytes, Broken>>;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
#[error("the answer was broken off: {0}")]
pub struct Broken(String);

impl From<ApiError> for Broken {
    fn from(error: ApiError) -> Self {
        Self(error.message().to_owned())
    }
}

/// A body and where its pieces are put.
pub fn stream_body() -> (Pieces, Body) {
    let (pieces, waiting) = mpsc::channel(PIECES_WAITING);
    (pieces, Body::new(Waiting(waiting)))
}

struct Waiting(mpsc::Receiver<Result<Bytes, Broken>>);

impl hyper::body::Body for Waiting {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
