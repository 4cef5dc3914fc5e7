//! tenants export: everything held of one tenant, as JSON Lines, while it is read.
//!
//! Each line names its `kind`. The first says what is exported and when, the last (`end`) how many lines of each kind there
//! were: a file without it is not whole.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::error::ApiError;
use super::super::params::{Params, PathTenant};
use super::super::stream_body::{Pieces, stream_body};
use super::super::wire::audit::AuditEventJson;
use super::super::wire::explain::DenialJson;
use super::super::wire::price_terms::TenantPricesJson;
use super::super::wire::quota::{OpenHoldJson, QuotaStatusJson};
use super::super::wire::tenant::TenantJson;
use super::super::wire::usage::{EventRow, UsageRow};
use crate::audit::MAX_RECORDS_PER_PAGE;
use crate::domain::audit::AuditFilter;
use crate::domain::tenant::TenantId;
use crate::tracker::ExportedUsage;

/// The layout of the lines.
const EXPORT_FORMAT: u32 = 1;
/// Bytes that are gathered before they are sent.
const PIECE_BYTES: usize = 64 * 1024;

/// Everything held of a tenant, also of a deleted one.
pub async fn tenant(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    uri: Uri,
) -> Result<Response, ApiError> {
    Params::read(&uri, &[])?;
    // An unknown tenant is told before the first byte.
    let tenant = state.tenants.get_or_deleted(&tenant_id)?;
    let first = json!({
        "kind": "export",
        "format": EXPORT_FORMAT,
        "tenant_id": tenant_id.as_str(),
        "exported_at": state.engine.now().to_string(),
    });
    let file_name = tenant_id.as_str().replace(':', "_");
    let (pieces, body) = stream_body();
    let prices = TenantPricesJson::at(&tenant, state.engine.now());
    let tenant = TenantJson::at(&tenant, state.engine.now());
    tokio::task::spawn_blocking(move || {
        let mut lines = Lines { pieces, waiting: Vec::new(), counts: BTreeMap::new() };
        match export(&state, &tenant_id, &first, (&tenant, &prices), &mut lines) {
            // Its reader is gone.
            Ok(ControlFlow::Break(())) => {}
            Ok(ControlFlow::Continue(())) => lines.end(),
            Err(error) => {
                tracing::error!(tenant = %tenant_id, error = error.message(), "an export is broken off");
                let _reader_may_be_gone = lines.pieces.blocking_send(Err(error.into()));
            }
        }
    });
    let name = format!("attachment; filename=\"{}.jsonl\"", file_name);
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, body).into_response())
}

fn export(
    state: &HttpState,
    tenant_id: &TenantId,
    first: &Value,
    (tenant, prices): (&TenantJson, &TenantPricesJson),
    lines: &mut Lines,
) -> Result<ControlFlow<()>, ApiError> {
    lines.waiting.extend_from_slice(first.to_string().as_bytes());
    lines.waiting.push(b'\n');
    if lines.add("tenant", tenant).is_break() {
        return Ok(ControlFlow::Break(()));
    }
    for terms in &prices.terms {
        if lines.add("price_terms", terms).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    // A deleted tenant has no quota any more.
    if let Ok(status) = state.enforcer.get_quota_status(tenant_id)
        && lines.add("quota_status", &QuotaStatusJson::from(&status)).is_break()
    {
        return Ok(ControlFlow::Break(()));
    }
    for hold in state.enforcer.open_holds(tenant_id)? {
        if lines.add("open_hold", &OpenHoldJson::from(&hold)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    let usage = state.tracker.export_usage(tenant_id, &mut |usage| match usage {
        ExportedUsage::Metrics(row) => lines.add("tenant_usage_metrics", &UsageRow::from(*row)),
        ExportedUsage::Event(event) => lines.add("tenant_usage_realtime", &EventRow::from(*event)),
    });
    if usage?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    let denials =
        state.enforcer.export_denials(tenant_id, &mut |denial| lines.add("denial", &DenialJson::from(&denial)));
    if denials?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    let filter = AuditFilter { tenant_id: Some(tenant_id.clone()), ..AuditFilter::default() };
    let mut before = None;
    loop {
        let page = state.audit.get_audit_events(&filter, before, MAX_RECORDS_PER_PAGE)?;
        for event in page.events {
            if lines.add("audit_event", &AuditEventJson::from(event)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        before = page.next;
        if before.is_none() {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

/// Lines on their way to the reader.
struct Lines {
    pieces: Pieces,
    waiting: Vec<u8>,
    counts: BTreeMap<&'static str, u64>,
}

impl Lines {
    /// Breaks when the reader is gone.
    fn add(&mut self, kind: &'static str, row: &impl Serialize) -> ControlFlow<()> {
        *self.counts.entry(kind).or_default() += 1;
        self.waiting.extend_from_slice(format!("{{\"kind\":\"{kind}\",\"row\":").as_bytes());
        // A row of ours is JSON: maps have text keys, and writing to memory does not fail.
        if let Err(error) = serde_json::to_writer(&mut self.waiting, row) {
            tracing::error!(%error, kind, "a row cannot be written as JSON");
            return ControlFlow::Break(());
        }
        self.waiting.extend_from_slice(b"}\n");
        if self.waiting.len() < PIECE_BYTES { ControlFlow::Continue(()) } else { self.send() }
    }

    fn send(&mut self) -> ControlFlow<()> {
        let piece = Bytes::from(std::mem::take(&mut self.waiting));
        match self.pieces.blocking_send(Ok(piece)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn end(mut self) {
        let end = json!({ "kind": "end", "lines": self.counts });
        self.waiting.extend_from_slice(end.to_string().as_bytes());
        self.waiting.push(b'\n');
        let _reader_may_be_gone = self.send();
    }
}
