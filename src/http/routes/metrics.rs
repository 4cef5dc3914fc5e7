//! `/metrics`: what the server and its engine count, as Prometheus text. Labels are bounded: no tenant is one.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::super::HttpState;
use super::super::auth::REFUSALS;
use super::super::error::ApiError;
use super::super::exposition::{Exposition, MEDIA_TYPE};
use super::super::meter::CLASSES;
use super::super::metrics_table::{
    ALARMS, AUDIT_SAMPLED_OUT, CLOCK_ALARM, CLOCK_UNCONFIRMED, COMMIT_DURATION, DECISIONS, EVENTS, FINGERPRINT_BYTES,
    FINGERPRINTS, GATEWAY_BEFORE, GATEWAY_ESTIMATED, GATEWAY_OPEN, GATEWAY_REQUESTS, GATEWAY_UNSETTLED,
    GRANTS_NOT_DURABLE, HTTP_DURATION, HTTP_REQUESTS, JOB_FAILURES, JOB_LAST_SUCCESS, JOB_OVERLAPS, MEMORY_BUDGET,
    MEMORY_RESIDENT, MetricInfo, PLATFORM_CEILING, PLATFORM_HELD, PLATFORM_USED, QUEUE_COMMANDS, QUEUE_EVENTS,
    RECORDING_ERRORS, REFUSED_REQUESTS, SCHEDULE_RESTARTS, STORE_FILE_BYTES, STORE_FREE_BYTES, STORE_NEXT_GROWTH,
    STORE_REOPENED, TENANTS, THRESHOLDS_CROSSED, UNFILED_GENERATIONS, UNFOLDED_HOURS, UNPRICED_EVENTS, UNPRICED_MODELS,
    WRITER_READY,
};
use super::blocking;
use crate::domain::quota::LimitState;
use crate::gateway::UPSTREAM_CLASSES;
use crate::rules::memory::{memory_budget, resident_bytes};
use crate::writer::UnpricedModels;

/// The text of now.
pub async fn show(State(state): State<HttpState>) -> Result<Response, ApiError> {
    let text = blocking(move || render(&state)).await?;
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
}

fn render(state: &HttpState) -> String {
    let mut text = Exposition::default();
    engine(state, &mut text);
    jobs(state, &mut text);
    requests(state, &mut text);
    gateway(state, &mut text);
    text.text()
}

fn engine(state: &HttpState, text: &mut Exposition) {
    let writer = state.engine.writer();
    let (shared, meter) = (writer.shared(), &writer.shared().meter);
    text.family(&EVENTS);
    let outcomes = [&meter.recorded, &meter.duplicates, &meter.conflicts, &meter.rejected];
    for (outcome, count) in ["recorded", "duplicate", "conflict", "rejected"].into_iter().zip(outcomes) {
        text.sample(&EVENTS, &format!("{{outcome=\"{outcome}\"}}"), count.get());
    }
    text.family(&DECISIONS);
    text.sample(&DECISIONS, "{decision=\"granted\"}", meter.granted.get());
    text.sample(&DECISIONS, "{decision=\"denied\"}", meter.denied.get());
    text.family(&THRESHOLDS_CROSSED);
    for (quota_type, window, count) in shared.alerts.counts() {
        text.sample(&THRESHOLDS_CROSSED, &format!("{{quota_type=\"{quota_type}\",window=\"{window}\"}}"), count);
    }
    platform(&shared.platform_status(), text);
    text.family(&COMMIT_DURATION);
    text.histogram(&COMMIT_DURATION, "", &meter.commits);
    let (events, commands) = writer.queued();
    text.one(&QUEUE_EVENTS, events);
    text.one(&QUEUE_COMMANDS, commands);
    let live = shared.live.read();
    let (unfiled, unfolded) = (live.closed_generations(), live.waiting_deltas());
    drop(live);
    text.one(&UNFILED_GENERATIONS, unfiled);
    text.one(&UNFOLDED_HOURS, unfolded);
    text.one(&TENANTS, shared.counters.len());
    let (prints, bytes) = (shared.fingerprints.len(), shared.fingerprints.bytes());
    text.one(&FINGERPRINTS, prints);
    text.one(&FINGERPRINT_BYTES, bytes);
    text.family(&MEMORY_RESIDENT);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(resident) = resident_bytes(&status) {
        text.sample(&MEMORY_RESIDENT, "", resident);
    }
    text.one(&MEMORY_BUDGET, memory_budget(shared.counters.len() as u64, prints as u64));
    text.one(&STORE_FILE_BYTES, shared.store.file_bytes());
    let errors = shared.recording_errors.load(std::sync::atomic::Ordering::Relaxed);
    text.one(&RECORDING_ERRORS, errors);
    text.one(&AUDIT_SAMPLED_OUT, meter.sampled_out.get());
    unpriced(&shared.unpriced, text);
    let alarm = u8::from(shared.clock.alarm().is_some());
    text.one(&CLOCK_ALARM, alarm);
    let waiting = u8::from(shared.clock_unconfirmed.load(std::sync::atomic::Ordering::Relaxed));
    text.one(&CLOCK_UNCONFIRMED, waiting);
    let ready = u8::from(writer.failure().is_none());
    text.one(&WRITER_READY, ready);
    text.family(&STORE_FREE_BYTES);
    if let Some(free) = shared.store.free_bytes() {
        text.sample(&STORE_FREE_BYTES, "", free);
    }
    text.one(&STORE_NEXT_GROWTH, shared.store.next_growth_bytes());
    let health = writer.health();
    text.one(&STORE_REOPENED, health.reopened.get());
    text.one(&GRANTS_NOT_DURABLE, health.not_durable.get());
}

/// What all tenants together use of each ceiling; no samples when there is none.
fn platform(ceilings: &[LimitState], text: &mut Exposition) {
    let mut family = |metric: &MetricInfo, figure: fn(&LimitState) -> u128| {
        text.family(metric);
        for state in ceilings {
            let labels = format!("{{quota_type=\"{}\",window=\"{}\"}}", state.quota_type, state.window);
            text.sample(metric, &labels, state.quota_type.show(figure(state)));
        }
    };
    family(&PLATFORM_CEILING, |state| state.limit.unwrap_or(0));
    family(&PLATFORM_USED, |state| state.used);
    family(&PLATFORM_HELD, |state| state.held);
}

/// Labels are bounded: so many models by name, then the rest together.
fn unpriced(models: &UnpricedModels, text: &mut Exposition) {
    const NAMED_MAX: usize = 64;
    let (listed, unlisted_events) = models.listed();
    text.one(&UNPRICED_MODELS, listed.len());
    text.family(&UNPRICED_EVENTS);
    let escaped = |model: &str| model.replace('\\', "\\\\").replace('"', "\\\"");
    let mut named = std::collections::BTreeMap::<&str, u64>::new();
    let mut other = unlisted_events;
    for model in &listed {
        match named.len() < NAMED_MAX || named.contains_key(model.model.as_str()) {
            true => *named.entry(model.model.as_str()).or_default() += model.events,
            false => other += model.events,
        }
    }
    for (model, events) in named {
        text.sample(&UNPRICED_EVENTS, &format!("{{model=\"{}\"}}", escaped(model)), events);
    }
    text.sample(&UNPRICED_EVENTS, "{model=\"\"}", other);
}

fn jobs(state: &HttpState, text: &mut Exposition) {
    // A store that cannot be read shows as not ready; then the samples are missing, not wrong.
    let jobs = state.jobs.status().unwrap_or_default();
    let label = |job: crate::jobs::JobName| format!("{{job=\"{job}\"}}");
    text.family(&JOB_LAST_SUCCESS);
    for status in &jobs {
        let last = status.last.as_ref().and_then(|last| last.last_success).map_or(0, |time| time.seconds());
        text.sample(&JOB_LAST_SUCCESS, &label(status.job), last);
    }
    text.family(&JOB_FAILURES);
    for status in &jobs {
        text.sample(&JOB_FAILURES, &label(status.job), status.last.as_ref().map_or(0, |last| last.failures));
    }
    text.family(&JOB_OVERLAPS);
    for status in &jobs {
        text.sample(&JOB_OVERLAPS, &label(status.job), status.overlaps_refused);
    }
    text.one(&SCHEDULE_RESTARTS, state.jobs.restarts());
    text.one(&ALARMS, state.jobs.alarms().len());
}

fn requests(state: &HttpState, text: &mut Exposition) {
    let asked = || state.meter.routes().iter().filter(|route| route.classes.iter().any(|class| class.get() > 0));
    text.family(&HTTP_REQUESTS);
    for route in asked() {
        for (class, count) in CLASSES.into_iter().zip(&route.classes).filter(|(_, count)| count.get() > 0) {
            let labels = format!("{{method=\"{}\",route=\"{}\",status=\"{class}\"}}", route.method, route.route);
            text.sample(&HTTP_REQUESTS, &labels, count.get());
        }
    }
    text.family(&REFUSED_REQUESTS);
    for (reason, count) in REFUSALS.into_iter().zip(state.keys.refused()) {
        text.sample(&REFUSED_REQUESTS, &format!("{{reason=\"{reason}\"}}"), count.get());
    }
    text.sample(&REFUSED_REQUESTS, "{reason=\"rate\"}", state.ingest_cap.refused());
    text.family(&HTTP_DURATION);
    for route in asked() {
        text.histogram(
            &HTTP_DURATION,
            &format!("method=\"{}\",route=\"{}\"", route.method, route.route),
            &route.latency,
        );
    }
}

fn gateway(state: &HttpState, text: &mut Exposition) {
    text.family(&GATEWAY_REQUESTS);
    for (upstream, meter) in state.gateway.upstream_meters() {
        for (class, count) in UPSTREAM_CLASSES.into_iter().zip(&meter.classes).filter(|(_, count)| count.get() > 0) {
            text.sample(&GATEWAY_REQUESTS, &format!("{{upstream=\"{upstream}\",status=\"{class}\"}}"), count.get());
        }
    }
    let meter = state.gateway.meter();
    text.family(&GATEWAY_BEFORE);
    text.histogram(&GATEWAY_BEFORE, "", &meter.before);
    text.one(&GATEWAY_OPEN, meter.open());
    text.one(&GATEWAY_ESTIMATED, meter.estimated.get());
    text.one(&GATEWAY_UNSETTLED, meter.unsettled.get());
}
