//! The one table of error codes: what each means and what its caller does about it.
//!
//! `tests/documentation.rs` reads the source and fails for a code that is not here, or that nothing answers with.

/// One stable code.
#[derive(Clone, Copy, Debug)]
pub struct ErrorInfo {
    /// What stands in `code`.
    pub code: &'static str,
    /// The status it comes with; in the `rejected` list of a batch the answer itself is 200.
    pub status: u16,
    /// What happened.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// Every code there is, by status.
pub fn error_table() -> &'static [ErrorInfo] {
    TABLE
}

const fn row(status: u16, code: &'static str, meaning: &'static str, remedy: &'static str) -> ErrorInfo {
    ErrorInfo { code, status, meaning, remedy }
}

#[rustfmt::skip]
static TABLE: &[ErrorInfo] = &[
    row(400, "invalid_request", "A field of the body is missing, unknown or wrong.", "Change the field that `details.field` names."),
    row(400, "invalid_parameter", "A parameter of the query is unknown or wrong.", "Change the parameter that `details.field` names."),
    row(400, "invalid_tenant_id", "The tenant's id is none.", "Use 1 to 128 of `A-Z a-z 0-9 . _ : @ -`."),
    row(400, "invalid_cursor", "The cursor is not one of ours, or belongs to another list or other filters.", "Start again at the first page."),
    row(400, "invalid_idempotency_key", "The `Idempotency-Key` header is too long or has characters that do not print.", "Use a short printable key."),
    row(400, "invalid_event", "An event has a field that is missing, unknown or wrong; the rest of its batch is kept.", "Correct that event and send it again."),
    row(400, "invalid_json", "The body, or a line of it, is not JSON.", "`details` has line and column."),
    row(400, "body_incomplete", "The connection broke before the body's end.", "Send it again; ids make that safe."),
    row(400, "usage_unreadable", "An event's `usage` is of no shape that is known, or contradicts itself; the rest of its batch is kept.", "Send it as the provider did, name the `provider`, or send the token counts as fields."),
    row(400, "invalid_prices", "The price file cannot be read.", "Correct the provider, model and field that the sentence names; nothing changed."),
    row(400, "timestamp_in_future", "An event is more than 5 minutes ahead of the server's clock.", "Correct the sender's clock, or leave the time to the server."),
    row(400, "timestamp_too_old", "An event is older than raw events are kept.", "Drop it: its period is closed."),
    row(400, "tenant_deleted", "The tenant is a tombstone.", "Stop sending, or revive it with `PUT /api/admin/tenants/{tenant}`."),
    row(400, "tenant_refused", "The tenant cannot be registered.", "The sentence says why."),
    row(400, "unknown_plan", "No plan has this name.", "Use one that the sentence lists, or make it with `metergate plans set`."),
    row(400, "unknown_job", "No job has this name.", "Use one that the sentence lists."),
    row(400, "unknown_quota_type", "No quota type has this name.", "Use one that the sentence lists."),
    row(400, "tenant_required", "The key has several tenants, and the call to `/v1/` names none.", "Send `x-metergate-tenant`."),
    row(401, "ADMIN_AUTH_REQUIRED", "No key was sent, or one that is not known, is revoked or has expired.", "Send `Authorization: Bearer KEY`; `metergate keys list` shows which work."),
    row(403, "INSUFFICIENT_PERMISSIONS", "The key's role, or its tenants, do not reach that far.", "Use a key with the role that the reference names; a key of some tenants cannot ask about all."),
    row(403, "too_many_keys", "10,000 keys work, as many as there may be.", "Revoke some: `metergate keys list` shows when each was last used."),
    row(403, "plan_expired", "The tenant's plan is past its end: nothing is granted, usage is still recorded.", "Move `plan_expires_at` or the plan with `metergate tenants set`."),
    row(403, "tenant_suspended", "The tenant is suspended: nothing is granted, usage is still recorded.", "Set its status with `metergate tenants set`."),
    row(403, "tenant_cancelled", "The tenant is cancelled: nothing is granted, usage is still recorded.", "Set its status with `metergate tenants set`."),
    row(403, "tenant_blocked", "The tenant may reserve nothing at the moment.", "Look at it with `metergate tenants show`."),
    row(403, "model_unpriced", "The request names a model without a price, and the tenant has a cost limit.", "Give the model a price with `metergate prices apply`, or set `unpriced_models` to `allow`."),
    row(403, "too_many_tenants", "`tenants_max` tenants are registered.", "Raise the setting `tenants_max` and restart."),
    row(403, "session_expired", "The chat session was not used for 30 minutes.", "Open a new one: `POST /api/widget/session`."),
    row(403, "origin_not_allowed", "A page of another origin used the chat widget.", "Add it to the setting `widget.origins` and restart."),
    row(404, "session_unknown", "No such chat session.", "Open one: `POST /api/widget/session`."),
    row(404, "not_found", "There is no such route.", "See the routes of the reference."),
    row(404, "model_not_found", "No upstream has this model.", "Add it to an `[[upstream]]` of metergate.toml and restart."),
    row(404, "tenant_unknown", "The tenant was never seen, or is deleted.", "Record for it, or register it with `metergate tenants set`."),
    row(404, "reservation_unknown", "The reservation was never made, or lapsed more than 24 hours ago.", "Record the usage as events instead."),
    row(404, "denial_unknown", "No denial was kept that fits the question.", "Ask by time; denials are kept 30 days, 60 a minute and tenant."),
    row(404, "audit_log_empty", "The audit log has no record to sign for yet.", "Write one, or make any change: each writes its record."),
    row(404, "event_unknown", "The tenant has no such event, or retention took it.", "List events with `GET /api/usage/{tenant}/events`."),
    row(404, "price_unknown", "The price book knows no such model.", "See `metergate prices list`, or give it a price with `metergate prices apply`."),
    row(404, "audit_event_unknown", "The audit event was never written, or retention took it.", "List events with `metergate audit list`."),
    row(404, "backup_unknown", "No such backup was made, or its file is gone.", "List backups with `metergate backup --list`."),
    row(404, "key_unknown", "There is no key of this id.", "List keys with `metergate keys list`."),
    row(405, "method_not_allowed", "The path exists, but not with this method.", "Use one of the `Allow` header."),
    row(408, "body_timeout", "The body came too slowly.", "Send it again, in smaller pieces."),
    row(409, "conflict", "This id exists with other content; nothing changed.", "Give the new thing a new id."),
    row(409, "reservation_conflict", "This reservation exists with other items, or has ended.", "Use a new `reservation_id`."),
    row(409, "reservation_ambiguous", "Several tenants have a reservation of this id.", "Name the tenant."),
    row(409, "audit_event_ambiguous", "Several tenants have an audit event of this id.", "Name one with `tenant_id`."),
    row(409, "key_ended", "The key is revoked or has expired: there is nothing to rotate.", "Make a new one with `metergate keys create`."),
    row(409, "key_replaced", "The key was rotated already.", "Rotate the one that `details.replaced_by` names."),
    row(409, "built_in_key", "The built-in admin key is not changed over HTTP.", "Run `metergate keys reset-admin` on the stopped data folder."),
    row(409, "tenant_not_deleted", "A tenant that goes on is not erased.", "Delete it first: `metergate tenants delete`."),
    row(409, "plan_in_use", "Tenants are on the plan, or new ones would be.", "Move them first: `metergate tenants list` shows them."),
    row(409, "job_running", "That job runs already.", "Wait for it: `metergate jobs`."),
    row(409, "clock_unconfirmed", "Retention waits after a pause of more than 48 hours.", "Look at the clock, then run `metergate jobs confirm-clock`."),
    row(413, "body_too_large", "The body is above the limit that the sentence names.", "Send less at once, or NDJSON."),
    row(413, "batch_too_large", "The batch has more entries than one commit takes.", "Send several, or NDJSON."),
    row(413, "line_too_long", "A line of NDJSON is above 64 KiB.", "Shorten it; prompts and answers do not belong into events."),
    row(415, "unsupported_media_type", "The body is of a kind that this route does not read.", "Send one that the sentence names."),
    row(429, "quota_exceeded", "Denied: it does not fit. `denied_by` names limit, window, used, held and reset.", "Wait `Retry-After` seconds, or raise the limit."),
    row(429, "rate_limited", "A key has recorded more events than it may a second, or a session or an address sent too many chat messages in a minute; nothing of this was recorded.", "Send it again, with the same ids, after `Retry-After`; without that header wait a minute."),
    row(429, "too_many_calls", "The tenant has 256 calls to models open.", "Try again after `Retry-After`; keep fewer open at once."),
    row(500, "internal_error", "Something failed inside; the cause is in the log.", "Look the request id up in the log and report it."),
    row(500, "backup_failed", "The backup was not made; the sentence says why.", "See `metergate help runbook backup_failed`."),
    row(500, "erasure_unfinished", "All is erased, but the file could not be written anew.", "Make room and ask again; `metergate status` shows it until then."),
    row(500, "maintenance_failed", "The cron job's run failed; the sentence says at what.", "See `metergate jobs` and the log."),
    row(502, "answer_failed", "The chat widget's model gave no answer.", "See the audit log and the log."),
    row(502, "upstream_unreachable", "The model's upstream cannot be reached: it was not asked.", "Look at its `base_url` and at the log."),
    row(502, "upstream_key_refused", "The upstream refused the key it is configured with.", "Correct the variable that `api_key_env` names and restart."),
    row(502, "upstream_answer_unusable", "The upstream hung up without an answer, its answer broke off, was above 64 MiB or compressed, or was a redirect.", "Try again; see the log."),
    row(503, "widget_closed", "The chat widget has no model.", "Set `widget.model` and restart."),
    row(503, "door_full", "1,024 calls to models are open.", "Try again after `Retry-After`."),
    row(503, "too_many_sessions", "100,000 chat sessions are open, or 10,000 of the tenant.", "Try again when some have expired."),
    row(503, "queue_full", "More waits for the disk than is taken on; nothing was recorded.", "Try again after `Retry-After`."),
    row(503, "commit_outcome_unknown", "The commit failed: it may be on disk or not.", "Repeat it with the same ids: the store is opened again by itself."),
    row(503, "storage_unavailable", "The disk failed, or the server is stopping; nothing was recorded.", "Try again after `Retry-After`; see `metergate status`."),
    row(503, "not_ready", "Writes are not possible.", "See `metergate status` and the log."),
    row(504, "upstream_timeout", "The upstream took longer than its `timeout_seconds`.", "Try again, or raise it."),
    row(507, "storage_full", "The store's file must grow and the disk has no room; nothing was recorded. Reads and releases go on.", "Make room: `metergate doctor` shows how much is free. Writes go on by themselves then."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_stands_once_and_says_what_to_do() {
        for (index, info) in TABLE.iter().enumerate() {
            assert!(TABLE[..index].iter().all(|other| other.code != info.code), "{} stands twice", info.code);
            assert!(info.meaning.ends_with('.') && info.remedy.ends_with('.'), "{}: a sentence each", info.code);
        }
        assert!(TABLE.is_sorted_by_key(|info| info.status), "in order of status");
    }
}
