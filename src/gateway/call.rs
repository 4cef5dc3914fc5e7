//! The way of one call: read, bounded, reserved, forwarded, answered, settled.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::HeaderMap;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

use super::call_body::{CallBody, InvalidCall};
use super::endpoint::Endpoint;
use super::event_stream::EventStream;
use super::exchange::{Ended, Ending, Exchange, Granted};
use super::metered_body::MeteredBody;
use super::places::Place;
use super::upstream::{Upstream, headers_for_caller, was_never_asked};
use super::{Gateway, Parts};
use crate::domain::event::{EventId, UsageEvent};
use crate::domain::quota::{Decision, Item, QuotaType};
use crate::domain::tenant::TenantId;
use crate::domain::usage::UsageCounts;
use crate::enforcer::{EnforceError, ReserveOutcome, ReserveRequest};

/// What the ids of the door's own holds begin with.
const RESERVED_PREFIX: &str = "door-";
/// How much longer than its upstream's timeout a hold lives.
const HOLD_SECONDS_AFTER: u32 = 30;
/// The largest answer that is not a stream.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often a call without a maximum of its own is bounded anew, while others take what it had counted on.
const RESERVE_TRIES: usize = 4;

/// A call as it comes in.
pub struct Call {
    /// Where.
    pub endpoint: Endpoint,
    /// Whose.
    pub tenant_id: TenantId,
    /// Its place, kept until it is settled.
    pub place: Place,
    /// The id of the caller's request.
    pub request_id: Option<String>,
    /// The chat session it belongs to.
    pub chat_session_id: Option<String>,
    /// The upstream that must answer; default: the one that has the model.
    pub upstream: Option<String>,
    /// Done when the call is let in, before the upstream is asked.
    pub on_granted: Option<Box<dyn FnOnce() + Send>>,
    /// The caller's headers.
    pub headers: HeaderMap,
    /// The caller's body.
    pub body: Bytes,
}

/// An answer of an upstream, whatever its status.
pub struct Answer {
    /// The upstream's.
    pub status: u16,
    /// The upstream's, without what is not for the caller.
    pub headers: HeaderMap,
    /// The upstream's.
    pub body: AnswerBody,
    /// The event that the call is recorded as.
    pub event_id: Uuid,
    /// The decision that let it in.
    pub decision: Decision,
    /// What it used; `None` while it streams.
    pub used: Option<UsageCounts>,
}

/// The body of an answer.
pub enum AnswerBody {
    /// All of it.
    Whole(Bytes),
    /// As it comes.
    Stream(Box<MeteredBody>),
}

/// Why there is no answer of an upstream.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The body cannot be understood.
    #[error(transparent)]
    Invalid(#[from] InvalidCall),
    /// No upstream has the model.
    #[error("the model `{0}` does not exist or is not configured here")]
    UnknownModel(String),
    /// A limit said no.
    #[error("quota exceeded")]
    Denied(Box<ReserveOutcome>),
    /// The gate could not answer, or must not.
    #[error(transparent)]
    Refused(#[from] EnforceError),
    /// The upstream gave no answer that can be passed on.
    #[error("{failure}")]
    Upstream {
        /// Which way.
        failure: UpstreamFailure,
        /// The event that the call is recorded as.
        event_id: Uuid,
        /// The decision that let it in.
        decision: Box<Decision>,
    },
    /// Nobody waits for the answer any more.
    #[error("the caller is gone")]
    Gone,
}

/// Why an upstream gave no answer that can be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFailure {
    /// No connection: it was not asked.
    #[error("the upstream cannot be reached")]
    Unreachable,
    /// Longer than its timeout.
    #[error("the upstream did not answer in time")]
    TimedOut,
    /// It broke off, in its answer or before it.
    #[error("the upstream's answer broke off")]
    BrokeOff,
    /// Compressed, although that was not asked for.
    #[error("the upstream's answer is compressed, so that its usage cannot be read")]
    Compressed,
    /// Larger than 64 MiB.
    #[error("the upstream's answer is too large")]
    TooLarge,
    /// A redirect, which is never followed.
    #[error("the upstream answered with a redirect, which is not followed")]
    Redirect,
    /// It does not know the operator's key.
    #[error("the upstream refused the key it is configured with")]
    KeyRefused,
}

impl Gateway {
    /// Forwards a call, metered. It goes on when the returned future is dropped: a whole answer is read to its end, so that
    /// its usage is known; a stream is closed and settled with what was seen.
    pub async fn call(&self, call: Call) -> Result<Answer, CallError> {
        let (waits, gone) = oneshot::channel::<()>();
        let parts = Arc::clone(&self.0);
        let answered = tokio::spawn(parts.run(call, gone)).await;
        drop(waits);
        answered.unwrap_or_else(|error| {
            // A panic, which the process has told of, or the end of the runtime.
            tracing::error!(%error, "a call failed inside");
            Err(CallError::Gone)
        })
    }
}

impl Parts {
    async fn run(self: Arc<Self>, call: Call, gone: oneshot::Receiver<()>) -> Result<Answer, CallError> {
        let started = self.now();
        let mut gone = gone;
        let body = CallBody::read(call.endpoint, call.body)?;
        let upstream = self.upstream_of(&body.model, call.upstream.as_deref())?;
        let reserved =
            self.reserve(call.endpoint, &call.tenant_id, call.request_id.as_deref(), &upstream, &body).await?;
        let Reserved { event_id, reservation_id, decision, output, cap } = reserved;
        let tenant_id = call.tenant_id;
        let granted = Granted {
            tenant_id: tenant_id.clone(),
            event_id,
            reservation_id,
            endpoint: call.endpoint,
            started,
            request_id: call.request_id,
            chat_session_id: call.chat_session_id,
            output_reserved: output,
        };
        let mut exchange = Exchange::open(Arc::clone(&self), Arc::clone(&upstream), granted, &body, call.place);
        if let Some(on_granted) = call.on_granted {
            on_granted();
        }
        let fails = |failure, decision| CallError::Upstream { failure, event_id, decision: Box::new(decision) };
        if gone.try_recv() == Err(oneshot::error::TryRecvError::Closed) {
            exchange.end(Ending::NeverSent);
            return Err(CallError::Gone);
        }
        let takes_usage_out = body.stream && call.endpoint.asks_for_usage() && !body.wants_usage;
        let cap = cap.and_then(|most| call.endpoint.cap_field(&upstream.provider).map(|name| (name, most)));
        let forwarded = body.forwarded(cap, takes_usage_out);
        self.meter.before.note(Duration::from_micros(self.now().micros_since(started).max(0) as u64));

        let asked = self.now();
        let sent = timeout(upstream.timeout, upstream.send(call.endpoint, &tenant_id, &call.headers, forwarded));
        let sent = tokio::select! {
            sent = sent => sent,
            // Who streams and hangs up wants no more of it; a whole answer is waited for, since it will be billed.
            _ = &mut gone, if body.stream => {
                exchange.end(Ending::CallerGone);
                return Err(CallError::Gone);
            }
        };
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                upstream.meter.note(None);
                let (ending, failure) = if was_never_asked(&error) {
                    tracing::warn!(upstream = upstream.name, %error, "an upstream could not be asked");
                    (Ending::Unreachable, UpstreamFailure::Unreachable)
                } else {
                    // It had the call, and may have worked on it: what it will bill is not known, and not nothing.
                    tracing::warn!(upstream = upstream.name, %error, "an upstream hung up without an answer");
                    (Ending::BrokeOff, UpstreamFailure::BrokeOff)
                };
                exchange.end(ending);
                return Err(fails(failure, decision));
            }
            Err(_) => {
                upstream.meter.note(None);
                exchange.end(Ending::TimedOut);
                return Err(fails(UpstreamFailure::TimedOut, decision));
            }
        };
        let (head, answered) = response.into_parts();
        let status = head.status.as_u16();
        upstream.meter.note(Some(status));
        if let Some(failure) = withheld(status) {
            tracing::warn!(upstream = upstream.name, status, "an upstream's answer is not passed on: {failure}");
            exchange.end(Ending::Answered(502));
            return Err(fails(failure, decision));
        }
        if status < 400 && is_encoded(&head.headers) {
            tracing::warn!(upstream = upstream.name, "an upstream compresses its answers: their usage cannot be read");
            exchange.end(Ending::Unreadable);
            return Err(fails(UpstreamFailure::Compressed, decision));
        }
        let time_left =
            upstream.timeout.saturating_sub(Duration::from_micros(self.now().micros_since(asked).max(0) as u64));
        let headers = headers_for_caller(&head.headers);
        let media = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let is_frames = media.starts_with(b"application/vnd.amazon.eventstream");
        if is_frames {
            exchange.reads_bedrock();
        }
        if (is_frames || media.starts_with(b"text/event-stream")) && status < 400 {
            let events = if is_frames { EventStream::blind() } else { EventStream::new(takes_usage_out) };
            let body = MeteredBody::new(answered, exchange, status, events, time_left);
            return Ok(Answer {
                status,
                headers,
                body: AnswerBody::Stream(Box::new(body)),
                event_id,
                decision,
                used: None,
            });
        }
        match whole(answered, time_left).await {
            Ok(bytes) => {
                exchange.read(&bytes);
                exchange.look_at_whole(&bytes);
                let Ended { counts } = exchange.end(Ending::Answered(status));
                Ok(Answer { status, headers, body: AnswerBody::Whole(bytes), event_id, decision, used: Some(counts) })
            }
            Err(failure) => {
                let ending = if failure == UpstreamFailure::TimedOut { Ending::TimedOut } else { Ending::BrokeOff };
                exchange.end(ending);
                Err(fails(failure, decision))
            }
        }
    }

    fn upstream_of(&self, model: &str, named: Option<&str>) -> Result<Arc<Upstream>, CallError> {
        let unknown = || CallError::UnknownModel(model.to_owned());
        if let Some(name) = named {
            return self.upstreams.iter().find(|upstream| upstream.name == name).cloned().ok_or_else(unknown);
        }
        let ranked = self.upstreams.iter().filter_map(|upstream| upstream.rank(model).map(|rank| (rank, upstream)));
        // Of equals the first in the file.
        ranked.rev().max_by_key(|(rank, _)| *rank).map(|(_, upstream)| Arc::clone(upstream)).ok_or_else(unknown)
    }

    /// Holds the upper bound of what the call can use. What a limit refuses is recorded as a call of status 429.
    async fn reserve(
        &self,
        endpoint: Endpoint,
        tenant_id: &TenantId,
        request_id: Option<&str>,
        upstream: &Upstream,
        body: &CallBody,
    ) -> Result<Reserved, CallError> {
        self.enforcer.require_price(tenant_id, Some(&upstream.provider), Some(&body.model))?;
        let event_id = crate::ids::new_uuid_v7(self.now());
        let reservation_id = new_reservation_id();
        for attempt in 1.. {
            let (output, cap, shrunk) = self.output_bound(endpoint, tenant_id, upstream, body)?;
            let item = |quota_type, amount| Item { quota_type, amount };
            let mut items = vec![
                item(QuotaType::Tokens, u128::from(body.prompt_bound) + u128::from(output)),
                item(QuotaType::ApiCalls, 1),
                item(endpoint.quota_type(), 1),
            ];
            match self.cost_bound(endpoint, tenant_id, upstream, body, output) {
                Some(cost) => items.push(item(QuotaType::Cost, cost)),
                // A price that does not cover such a call is none.
                None => self.enforcer.require_no_cost_limit(tenant_id, &body.model)?,
            }
            // The same id each time: a denial holds nothing under it.
            let outcome = self.enforcer.reserve(ReserveRequest {
                tenant_id: tenant_id.clone(),
                items,
                ttl_seconds: Some(upstream.timeout.as_secs() as u32 + HOLD_SECONDS_AFTER),
                reservation_id: Some(reservation_id.clone()),
                request_id: request_id.map(str::to_owned),
            });
            let outcome = outcome.await?;
            if outcome.decision.allowed {
                return Ok(Reserved { event_id, reservation_id, decision: outcome.decision, output, cap });
            }
            let by_tokens_alone =
                outcome.decision.denied_by.iter().all(|denied| denied.state.quota_type == QuotaType::Tokens);
            if !(shrunk && by_tokens_alone && attempt < RESERVE_TRIES) {
                self.record_denied(endpoint, tenant_id, &body.model, event_id);
                return Err(CallError::Denied(Box::new(outcome)));
            }
        }
        unreachable!("the loop returns")
    }

    /// The output to reserve over all choices, the cap to send for each, and whether it was made to fit what is left.
    fn output_bound(
        &self,
        endpoint: Endpoint,
        tenant_id: &TenantId,
        upstream: &Upstream,
        body: &CallBody,
    ) -> Result<(u64, Option<u64>, bool), CallError> {
        if endpoint.output_fields().is_empty() {
            return Ok((0, None, false));
        }
        let configured = upstream.max_output_tokens(&body.model);
        if let Some(given) = body.output_max {
            // Only the operator's word makes it less than what the upstream was asked for: a price list can be wrong.
            let most = given.min(configured.unwrap_or(u64::MAX));
            let heeded = endpoint.heeded_cap_field(&upstream.provider);
            let cap = heeded.filter(|field| !body.gives(field)).map(|_| most);
            return Ok((most.saturating_mul(body.choices), cap, false));
        }
        let listed =
            || self.writer.shared().prices.load().limits(Some(&upstream.provider), &body.model).max_output_tokens;
        let default = self.default_output_tokens.min(configured.or_else(listed).unwrap_or(u64::MAX));
        let item = Item { quota_type: QuotaType::Tokens, amount: 0 };
        let decision = self.enforcer.check(tenant_id, &[item])?;
        let left = decision.results.get(&QuotaType::Tokens).and_then(|result| result.tokens_remaining);
        let left = left.map(|left| left.saturating_sub(body.prompt_bound.into()) / u128::from(body.choices));
        let fitting = left.map_or(u64::MAX, |left| u64::try_from(left).unwrap_or(u64::MAX));
        // Where not even the least fits, the usual amount is asked for, and the denial speaks of that.
        let shrunk = fitting < default && fitting >= endpoint.cap_min();
        let output = if shrunk { fitting } else { default };
        Ok((output.saturating_mul(body.choices), self.cap_output.then_some(output), shrunk))
    }

    /// What the bound of the prompt and of the output cost the tenant, in femto-dollars; `None` without a price.
    fn cost_bound(
        &self,
        endpoint: Endpoint,
        tenant_id: &TenantId,
        upstream: &Upstream,
        body: &CallBody,
        output: u64,
    ) -> Option<u128> {
        let mut event = UsageEvent::new(tenant_id.clone(), endpoint.event_type());
        event.model = Some(body.model.as_str().into());
        event.provider = Some(upstream.provider.as_str().into());
        event.input_tokens = Some(body.prompt_bound);
        event.output_tokens = Some(output);
        event.tokens_consumed = Some(body.prompt_bound.saturating_add(output));
        let shared = self.writer.shared();
        let own = shared.own_prices(tenant_id);
        let estimate = shared.prices.load().estimate_for(own.as_deref(), &event, self.now());
        estimate.ok().map(|estimate| estimate.cost.femtos().min(QuotaType::Cost.max()))
    }

    fn record_denied(&self, endpoint: Endpoint, tenant_id: &TenantId, model: &str, event_id: Uuid) {
        let mut event = UsageEvent::new(tenant_id.clone(), endpoint.event_type());
        event.event_id = Some(EventId::Uuid(event_id));
        event.api_method = Some("POST".into());
        event.api_endpoint = Some(endpoint.path().into());
        event.api_status_code = Some(429);
        event.api_response_time_ms = Some(0);
        event.tokens_consumed = Some(0);
        event.model = Some(model.into());
        match self.tracker.record(vec![event]) {
            // The denial itself is kept elsewhere; this is one event more or less in its log.
            Ok(receipt) => drop(receipt),
            Err(error) => tracing::warn!(%error, "a refused call could not be recorded"),
        }
    }
}

/// A hold, and what it allows.
struct Reserved {
    event_id: Uuid,
    reservation_id: String,
    decision: Decision,
    output: u64,
    cap: Option<u64>,
}

/// An id that no caller can name: the door settles its holds itself. Not the event's, which callers are told.
fn new_reservation_id() -> String {
    format!("{RESERVED_PREFIX}{:032x}", u128::from_le_bytes(crate::ids::random_bytes()))
}

/// Whether a reservation is the door's own, which callers may neither make nor settle nor release.
pub fn is_door_s(reservation_id: &str) -> bool {
    reservation_id.starts_with(RESERVED_PREFIX)
}

/// Answers that are about the operator and not the caller.
fn withheld(status: u16) -> Option<UpstreamFailure> {
    match status {
        401 => Some(UpstreamFailure::KeyRefused),
        100..=199 | 300..=399 => Some(UpstreamFailure::Redirect),
        _ => None,
    }
}

/// Whether an answer's bytes are not what they stand for.
fn is_encoded(headers: &HeaderMap) -> bool {
    let identity = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    headers.get_all(CONTENT_ENCODING).iter().any(|value| !value.is_empty() && !identity(value))
}

async fn whole(body: Incoming, time_left: Duration) -> Result<Bytes, UpstreamFailure> {
    match timeout(time_left, Limited::new(body, ANSWER_BYTES_MAX).collect()).await {
        Err(_) => Err(UpstreamFailure::TimedOut),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(UpstreamFailure::TooLarge),
        Ok(Err(_)) => Err(UpstreamFailure::BrokeOff),
    }
}
