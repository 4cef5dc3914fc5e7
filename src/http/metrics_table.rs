//! The one table of metrics: `/metrics` can write nothing else, and the reference is made from it.

/// One family of samples.
#[derive(Debug)]
pub struct MetricInfo {
    /// With its unit, such as `metergate_commit_duration_seconds`.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The labels of each sample, apart from a histogram's `le`. Their values are bounded: none names a tenant.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident $name:literal $kind:literal $labels:tt $help:literal;)*) => {
        $(#[doc = $help] pub static $id: MetricInfo =
            MetricInfo { name: $name, kind: $kind, labels: &$labels, help: $help };)*
        static TABLE: &[&MetricInfo] = &[$(&$id),*];
    };
}

#[rustfmt::skip]
metrics! {
    EVENTS "metergate_events_total" "counter" ["outcome"] "Events handed in since the start, by what became of them.";
    DECISIONS "metergate_decisions_total" "counter" ["decision"] "Reserve and enforce decisions since the start.";
    THRESHOLDS_CROSSED "metergate_quota_thresholds_crossed_total" "counter" ["quota_type", "window"] "Thresholds of limits that were crossed and recorded since the start.";
    PLATFORM_CEILING "metergate_platform_ceiling" "gauge" ["quota_type", "window"] "Ceilings over all tenants together, cost in dollars; no samples when none is set.";
    PLATFORM_USED "metergate_platform_used" "gauge" ["quota_type", "window"] "Used by all tenants in the ceiling's window.";
    PLATFORM_HELD "metergate_platform_held" "gauge" ["quota_type", "window"] "Held by all tenants in the ceiling's window.";
    COMMIT_DURATION "metergate_commit_duration_seconds" "histogram" [] "Write transactions, each with its sync.";
    QUEUE_EVENTS "metergate_queue_events" "gauge" [] "Events that wait for the writer.";
    QUEUE_COMMANDS "metergate_queue_commands" "gauge" [] "Commands that wait for the writer.";
    UNFILED_GENERATIONS "metergate_unfiled_generations" "gauge" [] "Closed generations that wait to be filed; above 40 new events wait.";
    UNFOLDED_HOURS "metergate_unfolded_tenant_hours" "gauge" [] "Tenant hours that wait in memory for their rows; above 200,000 and 5 a tenant new events wait.";
    TENANTS "metergate_tenants" "gauge" [] "Tenants registered, tombstones included.";
    FINGERPRINTS "metergate_fingerprints" "gauge" [] "Event ids remembered to know repeats.";
    FINGERPRINT_BYTES "metergate_fingerprint_bytes" "gauge" [] "Memory they take.";
    MEMORY_RESIDENT "metergate_memory_resident_bytes" "gauge" [] "Memory that the process has, as the kernel counts it; no sample where it does not say.";
    MEMORY_BUDGET "metergate_memory_budget_bytes" "gauge" [] "Memory that it is to keep to: 320 MB, 8 kB a tenant and 12 MB a million events that are kept with an id.";
    STORE_FILE_BYTES "metergate_store_file_bytes" "gauge" [] "Size of the store's file.";
    RECORDING_ERRORS "metergate_recording_errors_total" "counter" [] "Calls whose tracker could not record them.";
    AUDIT_SAMPLED_OUT "metergate_audit_sampled_out_total" "counter" [] "Audit events that the sampling of their type left out.";
    UNPRICED_MODELS "metergate_unpriced_models" "gauge" [] "Models used since the prices last changed that had no price, as far as they are listed.";
    UNPRICED_EVENTS "metergate_unpriced_events_total" "counter" ["model"] "Events whose model had no price since the prices last changed; an empty label stands for models beyond 64.";
    CLOCK_ALARM "metergate_clock_alarm" "gauge" [] "1 while the wall clock is not believed.";
    CLOCK_UNCONFIRMED "metergate_clock_unconfirmed" "gauge" [] "1 while retention waits for confirm-clock.";
    WRITER_READY "metergate_writer_ready" "gauge" [] "1 while writes are possible.";
    STORE_FREE_BYTES "metergate_store_free_bytes" "gauge" [] "Bytes free on the store's disk; no sample where that cannot be told.";
    STORE_NEXT_GROWTH "metergate_store_next_growth_bytes" "gauge" [] "Bytes by which the store's file grows when it next must.";
    STORE_REOPENED "metergate_store_reopened_total" "counter" [] "How often the store had failed and was opened again.";
    GRANTS_NOT_DURABLE "metergate_grants_not_durable_total" "counter" [] "Grants of memory alone, while on_storage_failure is open and the store failed.";
    JOB_LAST_SUCCESS "metergate_job_last_success_timestamp_seconds" "gauge" ["job"] "When the last run that succeeded started; 0 for never.";
    JOB_FAILURES "metergate_job_failures_total" "counter" ["job"] "Runs that failed, ever.";
    JOB_OVERLAPS "metergate_job_overlaps_refused_total" "counter" ["job"] "Triggers that found the job still running.";
    SCHEDULE_RESTARTS "metergate_schedule_restarts_total" "counter" [] "How often the schedule had stopped triggering and was started again.";
    ALARMS "metergate_alarms" "gauge" [] "Alarms that metergate status shows.";
    HTTP_REQUESTS "metergate_http_requests_total" "counter" ["method", "route", "status"] "Answers by route pattern and class of status.";
    REFUSED_REQUESTS "metergate_refused_requests_total" "counter" ["reason"] "Requests refused at the door, by what their key lacked; `rate`: it records faster than it may.";
    HTTP_DURATION "metergate_http_request_duration_seconds" "histogram" ["method", "route"] "From the request's head to the head of its answer.";
    GATEWAY_REQUESTS "metergate_gateway_upstream_answers_total" "counter" ["upstream", "status"] "Answers of upstreams by class of status; `none` where there was none.";
    GATEWAY_BEFORE "metergate_gateway_before_upstream_seconds" "histogram" [] "What a forwarded call waits for us: from its body to the asking of its upstream, the hold on disk included.";
    GATEWAY_OPEN "metergate_gateway_open_calls" "gauge" [] "Forwarded calls and streams that are not settled yet.";
    GATEWAY_ESTIMATED "metergate_gateway_estimated_total" "counter" [] "Forwarded calls whose upstream told no usage, so that it was estimated.";
    GATEWAY_UNSETTLED "metergate_gateway_unsettled_total" "counter" [] "Forwarded calls that could not be recorded; their holds lapse.";
}

/// Every metric there is, in the order of the text.
pub fn metrics_table() -> &'static [&'static MetricInfo] {
    TABLE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::memory::{BASE_BYTES, EVENT_BYTES, TENANT_BYTES};
    use crate::writer::{WAITING_MAX, WAITING_PER_TENANT};

    #[test]
    fn the_budget_that_is_told_is_the_one_that_is_reckoned() {
        let (base, tenant, million) = (BASE_BYTES / 1_000_000, TENANT_BYTES / 1_000, EVENT_BYTES);
        let told = format!(": {base} MB, {tenant} kB a tenant and {million} MB a million events");
        assert!(MEMORY_BUDGET.help.contains(&told), "{told}");
    }

    #[test]
    fn what_is_told_of_unfolded_hours_is_what_recording_waits_by() {
        let told = format!("above {},000 and {WAITING_PER_TENANT} a tenant", WAITING_MAX / 1_000);
        assert!(UNFOLDED_HOURS.help.contains(&told), "{told}");
    }
}
