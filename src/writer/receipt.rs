//! The promise of a commit: wait for it in a thread, await it in a task, or drop it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::store::StoreError;

/// Why something could not be made durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The queue to the disk is full. Nothing was taken; try again shortly.
    #[error("the write queue is full: nothing was recorded, try again in a moment")]
    QueueFull,
    /// The commit failed in a way that leaves open whether it is on disk.
    #[error("the commit failed and may or may not be on disk: repeat it with the same ids")]
    OutcomeUnknown,
    /// The disk is full. Nothing was recorded.
    #[error("the disk is full, nothing was recorded: {0}")]
    Full(String),
    /// The store has failed or is closed. Nothing was recorded.
    #[error("the storage is not available: {0}")]
    Unavailable(String),
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        match error {
            StoreError::Full(_) => Self::Full(format!("{error}{cause}")),
            _ => Self::Unavailable(format!("{error}{cause}")),
        }
    }
}

/// Resolves once the commit it stands for is on disk and counted.
#[must_use = "a receipt tells whether the write reached the disk; drop it on purpose with `drop`"]
#[derive(Debug)]
pub struct Receipt<T>(oneshot::Receiver<Result<T, WriteError>>);

/// The other end of a [`Receipt`].
pub(crate) type Promise<T> = oneshot::Sender<Result<T, WriteError>>;

impl<T> Receipt<T> {
    /// A receipt and the promise that fulfils it. A promise dropped unkept reads as unavailable.
    pub(crate) fn new() -> (Promise<T>, Self) {
        let (promise, receipt) = oneshot::channel();
        (promise, Self(receipt))
    }

    /// A receipt that is fulfilled already.
    pub(crate) fn ready(value: Result<T, WriteError>) -> Self {
        let (promise, receipt) = Self::new();
        // The receiver is in our hand.
        let _ = promise.send(value);
        receipt
    }

    /// Blocks this thread until the outcome is known. Panics inside an async task: await it there.
    pub fn wait(self) -> Result<T, WriteError> {
        self.0.blocking_recv().unwrap_or_else(|_| Err(stopped()))
    }
}

impl<T> Future for Receipt<T> {
    type Output = Result<T, WriteError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|received| received.unwrap_or_else(|_| Err(stopped())))
    }
}

fn stopped() -> WriteError {
    WriteError::Unavailable("the writer has stopped".to_owned())
}
