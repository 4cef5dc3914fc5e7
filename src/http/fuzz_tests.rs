//! Everything that HTTP reads, over changed bodies, queries, cursors and headers: what is wrong is a fault with a known code
//! and a short sentence.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, Uri};
use serde_json::json;
use serde_json::value::RawValue;

use super::cursor;
use super::error::ApiError;
use super::error_table::error_table;
use super::params::{Params, read_date};
use super::wire::Fault;
use super::wire::audit::{read_audit_batch, read_audit_event};
use super::wire::cloudevent::read_cloudevent;
use super::wire::event::EventDraft;
use super::wire::key::{read_key_request, read_rotation};
use super::wire::plan::{read_plan, read_thresholds};
use super::wire::price_terms::read_terms;
use super::wire::quota::QuotaRequest;
use super::wire::tenant::{read_override, read_put};
use super::wire::usage::SentEvent;
use crate::domain::quota::{QuotaType, Window};
use crate::domain::time::{PeriodType, Timestamp};
use crate::fuzz::fuzz;

/// Whether something was read; a fault must be one that its caller can work with.
fn fine<T>(read: Result<T, Fault>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(fault) => {
            assert!(error_table().iter().any(|info| info.code == fault.code), "{fault:?}");
            assert!(!fault.message.is_empty() && fault.message.len() < 4_000, "{} bytes", fault.message.len());
            None
        }
    }
}

fn known<T>(read: Result<T, ApiError>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(error) => {
            assert!((400..500).contains(&error.status().as_u16()), "{error:?}");
            assert!(error_table().iter().any(|info| info.code == error.code()), "{error:?}");
            assert!(!error.message().is_empty() && error.message().len() < 4_000, "{error:?}");
            None
        }
    }
}

const FULL_EVENT: &str = r#"{"tenant_id":"acme","event_type":"chat_message","event_id":"call-7","api_method":"POST",
    "event_timestamp":"2026-11-24T10:30:00.123456Z","api_endpoint":"/v1/chat","api_status_code":200,
    "api_response_time_ms":321,"chat_session_id":"s-1","model":"gpt-4o-mini","provider":"openai","tokens_consumed":150,
    "input_tokens":120,"cached_input_tokens":20,"output_tokens":30,"reasoning_tokens":7,"cost_usd":"0.000012345",
    "metadata":{"a":[1,null,"x"],"deep":{"er":true}}}"#;

fn events() -> Vec<String> {
    let mut events = vec![
        FULL_EVENT.to_owned(),
        json!({"tenant_id": "a", "event_type": "api_call"}).to_string(),
        json!({"tenant_id": "a", "event_type": "embedding", "embedding_tokens": 9, "cost_usd": 0.25}).to_string(),
        json!({"tenant_id": "a", "event_type": "search", "search_query_tokens": 9, "search_result_count": 3})
            .to_string(),
    ];
    for usage in [
        json!({"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29, "prompt_tokens_details":
            {"cached_tokens": 4, "audio_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 2}}),
        json!({"input_tokens": 5, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 9, "output_tokens": 3,
            "server_tool_use": {"web_search_requests": 1}}),
        json!({"promptTokenCount": 8, "candidatesTokenCount": 12, "totalTokenCount": 20, "thoughtsTokenCount": 3}),
    ] {
        events.push(json!({"tenant_id": "a", "event_type": "api_call", "model": "m", "usage": usage}).to_string());
    }
    events
}

#[test]
fn changed_events_are_faults_or_events_that_read_back() {
    fuzz("events", 8_000, &events(), |json| {
        let Some(event) = fine(EventDraft::read(json).and_then(EventDraft::finish)) else { return false };
        if event.usage.is_some() {
            return true;
        }
        // As our own client would send it.
        let sent = serde_json::to_vec(&SentEvent::from(&event)).unwrap();
        let mut again = EventDraft::read(&sent).and_then(EventDraft::finish).unwrap();
        // Metadata keep their text, which another writer spaces otherwise; numbers of any size stay text.
        again.metadata.clone_from(&event.metadata);
        assert_eq!(again, event);
        true
    });
}

#[test]
fn changed_batches_and_envelopes_are_faults() {
    let batch = format!("[{}]", events().join(",\n"));
    fuzz("batches", 3_000, &[batch, "[]".to_owned()], |json| {
        let Some(drafts) = fine(EventDraft::read_batch(json)) else { return false };
        drafts.into_iter().for_each(|draft| drop(fine(draft.and_then(EventDraft::finish))));
        true
    });
    let envelope = |data: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"e-1","source":"/app","type":"chat","time":"2026-11-24T09:30:00Z","subject":"acme",
            "datacontenttype":"application/json","traceparent":"00-1","data":{data}}}"#
        )
    };
    let envelopes: Vec<String> = events().iter().map(|event| envelope(event)).chain([envelope("null")]).collect();
    fuzz("cloudevents", 4_000, &envelopes, |json| fine(read_cloudevent(json).and_then(EventDraft::finish)).is_some());
}

#[test]
fn changed_quota_requests_are_faults() {
    let corpus = [
        json!({"tenant_id": "acme", "quota_type": "tokens", "amount": 2_000}),
        json!({"tenant_id": "acme", "quota_type": "cost", "amount": "0.125", "model": "gpt-4o", "provider": "openai"}),
        json!({"tenant_id": "acme", "items": [{"quota_type": "tokens", "amount": 1}, {"quota_type": "api_calls", "amount": 1}]}),
    ];
    let corpus: Vec<String> = corpus.iter().map(ToString::to_string).collect();
    fuzz("quota requests", 4_000, &corpus, |json| fine(QuotaRequest::read(json)).is_some());
    let mut reserve = corpus.clone();
    reserve.push(
        json!({"tenant_id": "acme", "items": [{"quota_type": "tokens", "amount": 1}], "ttl_seconds": 60,
            "reservation_id": "job-7"})
        .to_string(),
    );
    fuzz("reservations", 4_000, &reserve, |json| {
        let Some(request) = fine(QuotaRequest::read_reserve(json)) else { return false };
        for item in request.items {
            // As a limit is shown, so it is read.
            let shown = super::wire::scalar::amount(item.quota_type, item.amount);
            assert_eq!(item.quota_type.read(&shown.text()), Ok(item.amount));
        }
        true
    });
}

#[test]
fn changed_audit_events_are_faults() {
    let full = json!({"tenant_id": "acme", "event_id": "019ab3f0-0000-7d2a-9f00-4b6f0c1d2e3f", "event_type": "kb_uploaded",
        "entity_type": "knowledge_base", "entity_id": "kb-1", "action": "create", "actor_type": "admin", "actor_id": "ada",
        "old_values": {"a": 1}, "new_values": [1, "x"], "changes_summary": "made", "result": "failure",
        "error_message": "no", "ip_address": "10.0.0.1", "user_agent": "curl", "request_id": "r-1",
        "occurred_at": "2026-11-24T10:00:00Z"});
    let least = json!({"event_type": "x", "entity_type": "y", "action": "access"});
    let corpus = [full.to_string(), least.to_string()];
    fuzz("audit events", 4_000, &corpus, |json| fine(read_audit_event(json)).is_some());
    fuzz("audit batches", 2_000, &[format!("[{full},{least}]")], |json| {
        let Some(batch) = fine(read_audit_batch(json)) else { return false };
        batch.into_iter().for_each(|one| drop(fine(one)));
        true
    });
}

#[test]
fn changed_bodies_of_administration_are_faults() {
    let tenants = [
        json!({"name": "Acme", "labels": {"tier": "gold"}, "plan": "trial", "plan_expires_at": "2027-01-01T00:00:00Z",
            "zone": "Europe/Berlin", "status": "active", "mode": "observe", "thresholds": [50, 100]})
        .to_string(),
        json!({"plan_expires_at": null, "thresholds": null}).to_string(),
    ];
    fuzz("tenants", 3_000, &tenants, |json| fine(read_put(json)).is_some());
    let own = [
        json!({"limit": 20_000, "reason": "a pilot", "until": "2027-01-01T00:00:00Z", "window": "day"}).to_string(),
        json!({"limit": null, "reason": "x"}).to_string(),
    ];
    for quota_type in [QuotaType::Tokens, QuotaType::Cost] {
        fuzz("own limits", 2_000, &own, |json| fine(read_override(json, quota_type, Some(Window::Day))).is_some());
    }
    let plan = json!({"mode": "enforce", "thresholds": [80, 95, 100], "limits": [
        {"quota_type": "tokens", "window": "day", "limit": 10_000}, {"quota_type": "cost", "window": "month",
        "limit": "12.5", "mode": "observe"}]});
    fuzz("plans", 3_000, &[plan.to_string()], |json| fine(read_plan("p".to_owned(), json)).is_some());
    fuzz("thresholds", 2_000, &["[80, 95, 100]"], |json| {
        let Ok(text) = String::from_utf8(json.to_vec()) else { return false };
        RawValue::from_string(text).is_ok_and(|raw| fine(read_thresholds(&raw)).is_some())
    });
    let key = json!({"name": "ci", "role": "service", "tenants": ["a", "b"], "expires_at": "2027-01-01T00:00:00Z"});
    fuzz("keys", 3_000, &[key.to_string()], |json| fine(read_key_request(json)).is_some());
    fuzz("rotations", 1_000, &["{\"overlap_seconds\":60}"], |json| fine(read_rotation(json)).is_some());
    let terms = json!({"from": "2026-12-01T00:00:00Z", "markup_bp": -250, "rates": {"openai": {"gpt-x": {"input": "2",
        "output": "8.5", "cached_input": "0.5"}}, "acme": {"m": {"request": "0.01"}}}});
    fuzz("own prices", 4_000, &[terms.to_string()], |json| {
        fine(read_terms(json, |text| read_date(text, false))).is_some()
    });
}

#[test]
fn changed_cursors_open_nothing() {
    let key = [7; 16];
    let scope = ["events", "acme", "", ""];
    let sealed = cursor::seal(&key, &scope, b"a place of 40 bytes, as the events have.");
    fuzz("cursors", 4_000, std::slice::from_ref(&sealed), |text| {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let opened = known(cursor::open(&key, &scope, text)).is_some();
        assert!(!opened || text == sealed, "a cursor that was never given opens: {text}");
        opened
    });
}

#[test]
fn changed_queries_are_faults_that_name_their_parameter() {
    let names = ["startDate", "endDate", "limit", "period", "cursor", "tenantId"];
    let corpus = [
        "startDate=2026-11-01&endDate=2026-11-24T06:00:00.5Z&limit=10&period=daily&tenantId=acme",
        "startDate=2026-11-01T01:00:00%2B01:00&period=hourly&cursor=00ff",
        "",
    ];
    let now: Timestamp = "2026-11-24T10:30:00Z".parse().unwrap();
    fuzz("queries", 6_000, &corpus, |query| {
        let Ok(uri) = Uri::builder().path_and_query([b"/x?", query].concat()).build() else { return false };
        let Some(params) = known(Params::read(&uri, &names)) else { return false };
        let period = known(params.parsed::<PeriodType>("period")).flatten().unwrap_or(PeriodType::Daily);
        let range = known(params.range(period, now));
        range.iter().for_each(|(from, to)| assert!(from < to));
        let limit = known(params.limit(10, 1_000));
        limit.iter().for_each(|limit| assert!((1..=1_000).contains(limit)));
        known(params.tenant()).is_some() && range.is_some() && limit.is_some()
    });
}

#[test]
fn changed_addresses_of_proxies_are_never_more_than_one() {
    let peer: IpAddr = "10.0.0.1".parse().unwrap();
    let trusted = "10.0.0.0/8,fd00::/8".parse().unwrap();
    let corpus = ["203.0.113.9, 10.0.0.2", "[2001:db8::1]:443", "10.0.0.3, 198.51.100.7:1234,10.0.0.2", "unknown"];
    fuzz("x-forwarded-for", 1_000, &corpus, |value| {
        let Ok(value) = HeaderValue::from_bytes(value) else { return false };
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", value);
        let client = super::client_address(peer, &headers, &trusted);
        assert_eq!(client, client.to_canonical());
        true
    });
}
