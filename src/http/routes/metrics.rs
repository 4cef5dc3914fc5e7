//! `/metrics`: what the server and its engine count, as Prometheus text. Labels are bounded: no tenant is one.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::super::HttpState;
use super::super::error::ApiError;
use super::super::exposition::{Exposition, MEDIA_TYPE};
use super::super::meter::CLASSES;
use super::blocking;
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
    text.text()
}

fn engine(state: &HttpState, text: &mut Exposition) {
    let writer = state.engine.writer();
    let (shared, meter) = (writer.shared(), &writer.shared().meter);
    let name = "metergate_events_total";
    text.family(name, "counter", "Events handed in since the start, by what became of them.");
    let outcomes = [&meter.recorded, &meter.duplicates, &meter.conflicts, &meter.rejected];
    for (outcome, count) in ["recorded", "duplicate", "conflict", "rejected"].into_iter().zip(outcomes) {
        text.sample(name, &format!("{{outcome=\"{outcome}\"}}"), count.get());
    }
    let name = "metergate_decisions_total";
    text.family(name, "counter", "Reserve and enforce decisions since the start.");
    text.sample(name, "{decision=\"granted\"}", meter.granted.get());
    text.sample(name, "{decision=\"denied\"}", meter.denied.get());
    let name = "metergate_commit_duration_seconds";
    text.family(name, "histogram", "Write transactions, each with its sync.");
    text.histogram(name, "", &meter.commits);
    let (events, commands) = writer.queued();
    text.one("metergate_queue_events", "gauge", "Events that wait for the writer.", events);
    text.one("metergate_queue_commands", "gauge", "Commands that wait for the writer.", commands);
    let unfiled = shared.live.read().closed_generations();
    text.one("metergate_unfiled_generations", "gauge", "Closed generations that wait to be filed.", unfiled);
    text.one("metergate_tenants", "gauge", "Tenants registered, tombstones included.", shared.counters.len());
    let (prints, bytes) = (shared.fingerprints.len(), shared.fingerprints.bytes());
    text.one("metergate_fingerprints", "gauge", "Event ids remembered to know repeats.", prints);
    text.one("metergate_fingerprint_bytes", "gauge", "Memory they take.", bytes);
    text.one("metergate_store_file_bytes", "gauge", "Size of the store's file.", shared.store.file_bytes());
    let errors = shared.recording_errors.load(std::sync::atomic::Ordering::Relaxed);
    text.one("metergate_recording_errors_total", "counter", "Calls whose tracker could not record them.", errors);
    let help = "Audit events that the sampling of their type left out.";
    text.one("metergate_audit_sampled_out_total", "counter", help, meter.sampled_out.get());
    unpriced(&shared.unpriced, text);
    let alarm = u8::from(shared.clock.alarm().is_some());
    text.one("metergate_clock_alarm", "gauge", "1 while the wall clock is not believed.", alarm);
    let waiting = u8::from(shared.clock_unconfirmed.load(std::sync::atomic::Ordering::Relaxed));
    text.one("metergate_clock_unconfirmed", "gauge", "1 while retention waits for confirm-clock.", waiting);
    let ready = u8::from(writer.failure().is_none());
    text.one("metergate_writer_ready", "gauge", "1 while writes are possible.", ready);
}

/// Labels are bounded: so many models by name, then the rest together.
fn unpriced(models: &UnpricedModels, text: &mut Exposition) {
    const NAMED_MAX: usize = 64;
    let (listed, unlisted_events) = models.listed();
    let name = "metergate_unpriced_models";
    text.one(name, "gauge", "Models used since the start that have no price, as far as they are listed.", listed.len());
    let name = "metergate_unpriced_events_total";
    text.family(name, "counter", "Events without a cost since the prices last changed, by model; those of an empty label are of all further ones.");
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
        text.sample(name, &format!("{{model=\"{}\"}}", escaped(model)), events);
    }
    if other > 0 {
        text.sample(name, "{model=\"\"}", other);
    }
}

fn jobs(state: &HttpState, text: &mut Exposition) {
    // A store that cannot be read shows as not ready; then the samples are missing, not wrong.
    let jobs = state.jobs.status().unwrap_or_default();
    let label = |job: crate::jobs::JobName| format!("{{job=\"{job}\"}}");
    let name = "metergate_job_last_success_timestamp_seconds";
    text.family(name, "gauge", "When the last run that succeeded started; 0 for never.");
    for status in &jobs {
        let last = status.last.as_ref().and_then(|last| last.last_success).map_or(0, |time| time.seconds());
        text.sample(name, &label(status.job), last);
    }
    let name = "metergate_job_failures_total";
    text.family(name, "counter", "Runs that failed, ever.");
    for status in &jobs {
        text.sample(name, &label(status.job), status.last.as_ref().map_or(0, |last| last.failures));
    }
    let name = "metergate_job_overlaps_refused_total";
    text.family(name, "counter", "Triggers that found the job still running.");
    for status in &jobs {
        text.sample(name, &label(status.job), status.overlaps_refused);
    }
    let help = "How often the schedule had stopped triggering and was started again.";
    text.one("metergate_schedule_restarts_total", "counter", help, state.jobs.restarts());
    text.one("metergate_alarms", "gauge", "Alarms that metergate status shows.", state.jobs.alarms().len());
}

fn requests(state: &HttpState, text: &mut Exposition) {
    let asked = || state.meter.routes().iter().filter(|route| route.classes.iter().any(|class| class.get() > 0));
    let name = "metergate_http_requests_total";
    text.family(name, "counter", "Answers by route pattern and class of status.");
    for route in asked() {
        for (class, count) in CLASSES.into_iter().zip(&route.classes).filter(|(_, count)| count.get() > 0) {
            let labels = format!("{{method=\"{}\",route=\"{}\",status=\"{class}\"}}", route.method, route.route);
            text.sample(name, &labels, count.get());
        }
    }
    let name = "metergate_http_request_duration_seconds";
    text.family(name, "histogram", "From the request's head to the head of its answer.");
    for route in asked() {
        text.histogram(name, &format!("method=\"{}\",route=\"{}\"", route.method, route.route), &route.latency);
    }
}
