//! `POST /api/usage/events`: one event, an array, NDJSON or CloudEvents; one bad event never sinks its batch.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::super::HttpState;
use super::super::body::{JSON_BYTES_MAX, Media, media_of, read_batch};
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::params::Params;
use super::super::wire::Fault;
use super::super::wire::cloudevent::read_cloudevent;
use super::super::wire::event::{BATCH_EVENTS_MAX, EventDraft};
use super::super::wire::object::read_array;
use super::super::wire::usage::{Queued, REJECTED_LISTED_MAX, Recorded, RejectedEvent};
use super::{blocking, lines};
use crate::domain::event::{EventId, EventOutcome, UsageEvent};

/// `?ack=queued` answers before the disk does.
pub async fn record(State(state): State<HttpState>, caller: Caller, request: Request) -> Result<Response, ApiError> {
    let (Parts { uri, headers, .. }, body) = request.into_parts();
    let params = Params::read(&uri, &["ack"])?;
    let queued = match params.get("ack") {
        None | Some("durable") => false,
        Some("queued") => true,
        Some(_) => return Err(ApiError::parameter("ack", "must be durable or queued")),
    };
    let ids = Ids::read(&headers)?;
    let read: fn(&[u8]) -> Result<Submission, Fault> = match media_of(&headers)? {
        Media::Ndjson => return lines::record(&state, &caller, body, &ids, queued).await,
        Media::Json => read_json,
        Media::CloudEvent => |json| read_cloudevent(json).map(Submission::One),
        Media::CloudEventBatch => read_cloudevents,
    };
    let bytes = read_batch(&headers, body).await?;
    let submission = if bytes.len() <= JSON_BYTES_MAX { read(&bytes)? } else { read_apart(bytes, read).await? };
    match submission {
        Submission::One(draft) => record_one(&state, &caller, draft, &ids, queued).await,
        Submission::Batch(drafts) => record_batch(&state, &caller, drafts, &ids, queued).await,
    }
}

/// Reading megabytes takes milliseconds, in which this thread would serve nobody else.
async fn read_apart(bytes: Bytes, read: fn(&[u8]) -> Result<Submission, Fault>) -> Result<Submission, ApiError> {
    Ok(blocking(move || read(&bytes)).await??)
}

#[allow(clippy::large_enum_variant, reason = "one a request, moved twice: a box would cost more")]
enum Submission {
    One(EventDraft),
    Batch(Vec<Result<EventDraft, Fault>>),
}

fn read_json(json: &[u8]) -> Result<Submission, Fault> {
    match json.trim_ascii_start().first() {
        Some(b'[') => EventDraft::read_batch(json).map(Submission::Batch),
        _ => EventDraft::read(json).map(Submission::One),
    }
}

fn read_cloudevents(json: &[u8]) -> Result<Submission, Fault> {
    let envelopes = read_array(json, BATCH_EVENTS_MAX)?;
    Ok(Submission::Batch(envelopes.into_iter().map(|one| read_cloudevent(one.get().as_bytes())).collect()))
}

async fn record_one(
    state: &HttpState,
    caller: &Caller,
    draft: EventDraft,
    ids: &Ids,
    queued: bool,
) -> Result<Response, ApiError> {
    let event = ids.finish(draft, 0)?;
    caller.check(&event.tenant_id)?;
    state.ingest_cap.admit(caller, 1)?;
    let receipt = state.tracker.record(vec![event])?;
    let mut tally = Tally::default();
    if queued {
        drop(receipt);
        return Ok(tally.finish_queued(1));
    }
    match receipt.await?.pop() {
        Some(EventOutcome::Conflict) => {
            Err(ApiError::new(StatusCode::CONFLICT, "conflict", CONFLICT).at_field("event_id"))
        }
        Some(EventOutcome::Rejected(rejection)) => Err(rejection.into()),
        Some(outcome) => {
            tally.count(0, outcome);
            Ok(Json(tally.finish()).into_response())
        }
        None => Err(ApiError::internal("an event was recorded without an outcome")),
    }
}

async fn record_batch(
    state: &HttpState,
    caller: &Caller,
    drafts: Vec<Result<EventDraft, Fault>>,
    ids: &Ids,
    queued: bool,
) -> Result<Response, ApiError> {
    let mut tally = Tally::default();
    let mut places = Vec::with_capacity(drafts.len());
    let mut events = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.into_iter().enumerate() {
        match draft.and_then(|draft| ids.finish(draft, index as u64)).and_then(|event| caller.own(event)) {
            Ok(event) => {
                places.push(index as u64);
                events.push(event);
            }
            Err(fault) => tally.reject(index as u64, fault.code, &fault.message),
        }
    }
    let taken = events.len() as u64;
    if !events.is_empty() {
        state.ingest_cap.admit(caller, events.len())?;
        let receipt = state.tracker.record(events)?;
        if queued {
            drop(receipt);
        } else {
            tally.count_all(&places, receipt.await?);
        }
    }
    if queued {
        return Ok(tally.finish_queued(taken));
    }
    Ok(Json(tally.finish()).into_response())
}

pub(super) const CONFLICT: &str = "this event_id is known with other content: nothing was changed";

/// Gives events without an id of their own one made of the `Idempotency-Key` header.
pub(super) struct Ids(Option<String>);

impl Ids {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(value) = headers.get("idempotency-key") else { return Ok(Self(None)) };
        // With `:` and a line's number it is still an event id.
        match value.to_str() {
            Ok(key) if (1..=100).contains(&key.len()) && !key.contains('\t') => Ok(Self(Some(key.to_owned()))),
            _ => Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "invalid_idempotency_key",
                "Idempotency-Key must be 1 to 100 printable characters",
            )),
        }
    }

    /// The id that the header gives the event at this place.
    pub(super) fn of(&self, index: u64) -> Option<String> {
        self.0.as_ref().map(|key| format!("{key}:{index}"))
    }

    /// The finished event; `index` is its place in the submission.
    pub(super) fn finish(&self, mut draft: EventDraft, index: u64) -> Result<UsageEvent, Fault> {
        if let (None, Some(id)) = (&draft.event_id, self.of(index)) {
            draft.event_id = Some(EventId::Text(id.into()));
        }
        draft.finish()
    }
}

/// Counts outcomes, and lists the first of what was rejected.
#[derive(Default)]
pub(super) struct Tally(Recorded);

impl Tally {
    pub(super) fn count_all(&mut self, places: &[u64], outcomes: Vec<EventOutcome>) {
        for (&index, outcome) in places.iter().zip(outcomes) {
            self.count(index, outcome);
        }
    }

    pub(super) fn count(&mut self, index: u64, outcome: EventOutcome) {
        match outcome {
            EventOutcome::Accepted => self.0.accepted += 1,
            EventOutcome::Duplicate => self.0.duplicates += 1,
            EventOutcome::Conflict => self.reject(index, "conflict", CONFLICT),
            EventOutcome::Rejected(rejection) => self.reject(index, rejection.code, &rejection.message),
        }
    }

    pub(super) fn leave_out(&mut self) {
        self.0.sampled_out += 1;
    }

    pub(super) fn reject(&mut self, index: u64, code: &str, error: &str) {
        self.0.rejected_total += 1;
        if self.0.rejected.len() < REJECTED_LISTED_MAX {
            self.0.rejected.push(RejectedEvent { index, code: code.to_owned(), error: error.to_owned() });
        }
    }

    pub(super) fn so_far(&self) -> &Recorded {
        &self.0
    }

    pub(super) fn finish(mut self) -> Recorded {
        self.0.rejected.sort_by_key(|rejected| rejected.index);
        self.0
    }

    pub(super) fn finish_queued(self, queued: u64) -> Response {
        let Recorded { rejected, rejected_total, .. } = self.finish();
        (StatusCode::ACCEPTED, Json(Queued { queued, rejected, rejected_total })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(key: &str) -> Result<Ids, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", key.parse().unwrap());
        Ids::read(&headers)
    }

    #[test]
    fn an_idempotency_key_names_events_without_an_id() {
        let ids = keyed("order-7").unwrap();
        let finish = |json: &str, index| {
            let draft = EventDraft::read(json.as_bytes()).unwrap();
            ids.finish(draft, index).unwrap().event_id.unwrap().to_string()
        };
        assert_eq!(finish(r#"{"tenant_id":"a","event_type":"x"}"#, 0), "order-7:0");
        assert_eq!(finish(r#"{"tenant_id":"a","event_type":"x"}"#, 12), "order-7:12");
        assert_eq!(finish(r#"{"tenant_id":"a","event_type":"x","event_id":"own"}"#, 1), "own");
        for key in ["", &"k".repeat(101)] {
            assert!(keyed(key).is_err_and(|error| error.code() == "invalid_idempotency_key"), "{key}");
        }
    }

    #[test]
    fn outcomes_keep_their_places_and_the_list_is_bounded() {
        let mut tally = Tally::default();
        tally.reject(1, "invalid_event", "bad");
        tally.count_all(&[0, 2, 3], vec![EventOutcome::Accepted, EventOutcome::Duplicate, EventOutcome::Conflict]);
        let recorded = tally.finish();
        assert_eq!((recorded.accepted, recorded.duplicates, recorded.rejected_total), (1, 1, 2));
        let rejected: Vec<_> = recorded.rejected.iter().map(|one| (one.index, one.code.as_str())).collect();
        assert_eq!(rejected, [(1, "invalid_event"), (3, "conflict")]);

        let mut tally = Tally::default();
        (0..1_000).for_each(|index| tally.reject(index, "invalid_json", "bad"));
        let recorded = tally.finish();
        assert_eq!((recorded.rejected.len(), recorded.rejected_total), (100, 1_000));
    }

    #[test]
    fn a_batch_keeps_the_good_beside_the_bad() {
        let json = br#" [{"tenant_id":"a","event_type":"x"}, {"tenant_id":"a/b","event_type":"x"}, 7,
            {"tenant_id":"a","event_type":"x","prompt":"hi"}, {"tenant_id":"b","event_type":"y","input_tokens":1.5}]"#;
        let Ok(Submission::Batch(drafts)) = read_json(json) else { panic!("a batch") };
        let codes: Vec<_> =
            drafts.iter().map(|draft| draft.as_ref().map_or_else(|fault| fault.code, |_| "ok")).collect();
        assert_eq!(codes, ["ok", "invalid_tenant_id", "invalid_event", "invalid_event", "invalid_event"]);
        assert!(matches!(read_json(b"[{\"a\":1}, oops]"), Err(fault) if fault.code == "invalid_json"));
    }
}
