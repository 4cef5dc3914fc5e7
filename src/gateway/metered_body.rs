//! The body of a streamed answer: the upstream's bytes as they come, watched as they pass.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming};
use tokio::time::Sleep;
use uuid::Uuid;

use super::event_stream::EventStream;
use super::exchange::{Ending, Exchange};
use crate::domain::usage::UsageCounts;

/// Streams an answer to the caller. Dropped before its end, it closes the upstream's stream and settles what was seen.
pub struct MeteredBody {
    upstream: Incoming,
    events: EventStream,
    exchange: Exchange,
    status: u16,
    deadline: Pin<Box<Sleep>>,
    ended: bool,
}

/// Why a stream ended early; its bytes so far were passed on.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum StreamBroken {
    /// The upstream took too long.
    #[error("the upstream's answer took longer than its timeout")]
    TimedOut,
    /// The upstream broke off.
    #[error("the upstream's answer broke off")]
    BrokeOff,
}

impl MeteredBody {
    pub(super) fn new(
        upstream: Incoming,
        exchange: Exchange,
        status: u16,
        events: EventStream,
        time_left: Duration,
    ) -> Self {
        let deadline = Box::pin(tokio::time::sleep(time_left));
        Self { upstream, events, exchange, status, deadline, ended: false }
    }

    /// What the call used, once that is known.
    pub fn used(&self) -> Option<UsageCounts> {
        self.exchange.used()
    }

    /// The event that the call is recorded as.
    pub const fn event_id(&self) -> Uuid {
        self.exchange.event_id()
    }

    fn take(&mut self, chunk: Bytes) -> Bytes {
        self.exchange.read(&chunk);
        let exchange = &mut self.exchange;
        let passed = self.events.pass(chunk, |event| exchange.look(event));
        if exchange.complete {
            // Queued before the caller sees the end: clients hang up at the last event, not at the end of the body.
            exchange.end(Ending::Answered(self.status));
        }
        passed
    }
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = StreamBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamBroken>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if this.deadline.as_mut().poll(context).is_ready() {
            this.ended = true;
            this.exchange.end(Ending::TimedOut);
            return Poll::Ready(Some(Err(StreamBroken::TimedOut)));
        }
        loop {
            match ready!(Pin::new(&mut this.upstream).poll_frame(context)) {
                Some(Ok(frame)) => {
                    // Trailers carry nothing for the caller.
                    let Ok(chunk) = frame.into_data() else { continue };
                    let passed = this.take(chunk);
                    if !passed.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(passed))));
                    }
                }
                Some(Err(_)) => {
                    this.ended = true;
                    this.exchange.end(Ending::BrokeOff);
                    return Poll::Ready(Some(Err(StreamBroken::BrokeOff)));
                }
                None => {
                    this.ended = true;
                    this.exchange.end(Ending::Answered(this.status));
                    let rest = this.events.rest();
                    let frame = (!rest.is_empty()).then(|| Ok(Frame::data(rest)));
                    return Poll::Ready(frame);
                }
            }
        }
    }
}
