//! What the reference says about a route beyond its summary: what to send, and what comes back.

/// The note of an operation, if it has one.
pub fn route_note(operation_id: &str) -> Option<&'static str> {
    NOTES.iter().find(|(operation, _)| *operation == operation_id).map(|(_, note)| *note)
}

#[rustfmt::skip]
static NOTES: &[(&str, &str)] = &[
    ("record_usage_events", "An event, an array (at most 10,000 and 8 MiB: one commit), NDJSON (`application/x-ndjson`, any length, in chunks) or CloudEvents. Answers `{accepted, duplicates, rejected: [{index, code, error}]}`. `?ack=queued` answers 202 before the disk does. `Idempotency-Key` gives ids to events that have none. Above `ingest.per_key_events_per_second`: 429 `rate_limited`, nothing of it was recorded, to be sent again with the same ids after `Retry-After`; a batch is taken whole, and paid for before the next; NDJSON is slowed down and not refused."),
    ("get_tenant_usage", "`?period=hourly\\|daily\\|monthly&startDate=&endDate=&limit=`."),
    ("get_tenant_events", "`?startDate=&endDate=&event_type=&limit=&cursor=`."),
    ("check_quota", "`{tenant_id, quota_type, amount}` or `{tenant_id, items: [{quota_type, amount}]}`."),
    ("enforce_quota", "As check."),
    ("reserve_quota", "`{tenant_id, items, ttl_seconds?, reservation_id?}`: 200 with `expires_at`, or 429 with `denied_by`."),
    ("settle_reservation", "`{events: [...], tenant_id?}`; answers as events do, and `overage`. Its events count for `ingest.per_key_events_per_second`; refused, it settles nothing."),
    ("release_reservation", "`?tenant_id=` where several tenants have a reservation of this id."),
    ("explain_denial", "`?decision_id=`, `?request_id=` or `?at=` (within 5 minutes); else the latest."),
    ("record_audit_events", "`{event_type, entity_type, action, tenant_id?, ...}` or an array of at most 1,000. They count for `ingest.per_key_events_per_second`."),
    ("get_audit_events", "Any field (`tenant_id`, `event_type`, `result`, ...), `startDate`, `endDate`, `limit`, `cursor`."),
    ("generate_audit_report", "`?tenant_id=&startDate=&endDate=`: totals, by type, by action, successes, failures, events."),
    ("resolve_audit_event", "`{resolution_action}`; answers `{resolved}`, false when it was before."),
    ("admin_usage", "`?tenantId=&period=&startDate=&endDate=&metric=all\\|tokens\\|cost\\|api_calls&limit=`."),
    ("run_aggregation", "The header `x-cron-secret` instead of a key; an unset secret closes the door."),
    ("put_tenant", "`{name?, labels?, plan?, plan_expires_at?, zone?, status?, mode?}`; revives a tombstone."),
    ("set_custom_quota", "`{limit, reason?, until?}`; null is unlimited. A support key must give reason and until."),
    ("set_tenant_prices", "`{from?, markup_bp?, rates?}`: until the next terms; `from` (a day or a time, default now) is compared with an event's time. `markup_bp` is put on list prices, in basis points (1250 is 12.5 %; -10000 to 1000000), and rounded once an event, half to even, to 10^-15 dollars. `rates` are the tenant's own, without markup: `{\"openai\": {\"gpt-4o\": {\"input\": \"2\", \"output\": {\"base\": \"8\", \"above_200000\": \"12\"}}}}`, at most 200; a model is a name of the price list, with its aliases and dated versions, or a pattern with a star. They hold for that provider alone: where list prices of `openai` hold at `azure`, a tenant's rates for `openai` do not, so name `azure` beside it. What events cost so far stays: see `reprice_events`."),
    ("remove_tenant_prices", "`?from=` (default now): terms that begin then or later go."),
    ("get_tenant_event", "`cost` says what priced it: `layer` is `list`, `list_with_markup` or `own`, with `markup_bp`, `before_markup` and each class's count x rate."),
    ("put_plan", "`{limits: [{quota_type, window, limit, mode?}]}`."),
    ("list_keys", "`?limit=&cursor=`; the built-in key (`admin-key`) first, then in order of creation."),
    ("create_key", "`{name, role, tenants?, expires_at?}`: 201 with `key`, shown this once. Roles are viewer, service, support and admin; without tenants, all."),
    ("rotate_key", "`{overlap_seconds?}`, 0 to 2,592,000, a day by default: 201 with the new `key`, shown this once, and `old_key_expires_at`."),
    ("chat_completions", "A key of one tenant is the tenant; others name it in `x-metergate-tenant`. Reserves the bound of the prompt (about twice its tokens) and the maximum of output, times `n`; where none is named, the least of `default_output_tokens`, the model's maximum and what is left, sent as the cap. At most 32 MiB. Errors are OpenAI's `{error: {message, type, code, param}}`; `x-ratelimit-*`, `x-should-retry` and `x-metergate-event-id` come with answers. Recorded as a `chat_message`. Where the upstream tells no usage, it is estimated from what was seen, or, where no answer was seen, as all the output that was reserved: `metadata.usage_estimated`. An upstream that takes the call and hangs up without an answer may have worked, and is counted so, too; one that could not be reached costs nothing."),
    ("responses", "As chat completions, also recorded as a `chat_message`. `background` is refused: its usage would not be seen. Web and file searches that the provider runs are counted from the answer's items and priced by `web_search` and `file_search` of the price list; with a search that has no price there, a code interpreter or a picture, the cost is unknown, not too low. They are not in what is reserved. What a search model charges by the call in chat completions is not told in its answers, and not in the cost."),
    ("embeddings", "As chat completions, without an output; recorded as an `embedding`."),
    ("list_models", "Models that are named in an `[[upstream]]`; patterns are not listed."),
    ("open_chat_session", "`{tenantId, visitorId?}` -> `{sessionId, expiresAt}`: 192 random bits, 30 minutes from the last use. In memory: a restart ends them."),
    ("chat", "`{sessionId, message, responseCharacterLimit?, sources?}` -> `{reply, sources, metadata}`. From `widget.origins` (CORS), 20 messages a minute and session, 60 an address. As events: `{type: delta, delta}`, then `{type: done, sources, metadata}` or `{type: error, error}`."),
    ("get_dev_clock", "Elsewhere 404."),
    ("move_dev_clock", "`{advance_seconds}` or `{set}` (RFC 3339), at most 366 days at once; 400 for a step back. Runs the jobs that became due, then answers `{now, jobs_run}`. Elsewhere 404."),
    ("make_backup", "No body. Answers `{name, path, created_at, bytes, rows, audit_size, audit_root, took_ms, file_bytes_before, file_bytes_after}`; into the setting `backup.folder`. The signing key, `admin.key` and `metergate.toml` are not in it."),
    ("list_backups", "`present` is false where the file is not in `backup.folder` any more; it may be elsewhere."),
    ("get_backup", "One redb file; `metergate backup --check FILE` verifies it, `metergate restore FILE` goes on from it."),
    ("erase", "`{subject: actor\\|session\\|tenant, id, tenant_id?, dry_run?}`; `tenant_id` narrows actor and session, a tenant must be deleted before. Audit payloads and salts go, leaves stay; sessions, endpoints, metadata and ids of events are blanked, totals stay; the file is written anew. `backups` are those that may still hold it. Safe to repeat."),
    ("run_job", "`{job, from?, to?}`: a job of the list, or `confirm_clock`."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_note_belongs_to_a_route() {
        for (operation, _) in NOTES {
            assert!(super::super::route_table().iter().any(|route| route.operation_id == *operation), "{operation}");
        }
    }
}
