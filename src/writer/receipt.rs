//! The promise of a commit: wait for it in a thread, await it in a task, or drop it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::bell;
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

/// The other end of a [`Receipt`]. Dropped untold it reads as unavailable.
#[derive(Debug)]
pub(crate) struct Promise<T>(Option<oneshot::Sender<Result<T, WriteError>>>);

impl<T> Promise<T> {
    /// Tells the outcome. A thread that waits for it is woken by the next [`bell::ring`], a task at once.
    pub(super) fn tell_quietly(mut self, outcome: Result<T, WriteError>) {
        if let Some(sender) = self.0.take() {
            // Whoever dropped the receipt did not want to know.
            let _ = sender.send(outcome);
        }
    }

    /// Tells the outcome.
    pub(super) fn tell(self, outcome: Result<T, WriteError>) {
        self.tell_quietly(outcome);
        bell::ring();
    }

    /// Whether nobody waits any more.
    pub(super) fn is_dropped(&self) -> bool {
        self.0.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if self.0.take().is_some() {
            bell::ring();
        }
    }
}

impl<T> Receipt<T> {
    /// A receipt and the promise that fulfils it.
    pub(crate) fn new() -> (Promise<T>, Self) {
        let (promise, receipt) = oneshot::channel();
        (Promise(Some(promise)), Self(receipt))
    }

    /// A receipt that is fulfilled already.
    pub(crate) fn ready(value: Result<T, WriteError>) -> Self {
        let (promise, receipt) = Self::new();
        promise.tell_quietly(value);
        receipt
    }

    /// Blocks this thread until the outcome is known. Inside an async task, await it instead: a blocked worker serves
    /// nobody else.
    pub fn wait(mut self) -> Result<T, WriteError> {
        bell::wait_until(|| match self.0.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Closed) => Some(Err(stopped())),
            Err(TryRecvError::Empty) => None,
        })
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
