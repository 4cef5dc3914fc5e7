//! The engine as a library, on a clock that the test owns: what issue and specification ask of part 1.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod audit;
mod costs;
mod exact_usage;
mod expiry;
mod explain;
mod keys;
mod overrides_and_denials;
mod plans;
mod platform;
mod quick_start;
mod repaired;
mod repeats;
mod spec_section_2;
mod tenant_prices;
mod thresholds;
mod windows_and_holds;
mod zones;

use std::path::Path;

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::config::EngineSettings;
use metergate::domain::audit::AuditRecord;
use metergate::domain::event::UsageEvent;
use metergate::domain::metrics::UsageMetrics;
use metergate::domain::quota::{Decision, Item, LimitState, QuotaType, Window};
use metergate::domain::tenant::{TenantChange, TenantId, TenantPut};
use metergate::domain::time::{PeriodType, Timestamp};
use metergate::enforcer::{EnforceError, ReserveOutcome, ReserveRequest};
use metergate::tenants::Actor;

const NOON: &str = "2026-11-24T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// An engine on a clock that the test owns.
fn open(folder: &Path, now: Timestamp) -> (Metergate, Clock) {
    let clock = Clock::manual(now);
    let engine = Metergate::open_at(EngineSettings::new(folder), |_| clock.clone()).unwrap();
    (engine, clock)
}

/// The store as a crash would leave it: copied while the engine runs, without closing it.
fn crash_copy(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// An event of so many tokens, now.
fn event(name: &str, tokens: u64) -> UsageEvent {
    UsageEvent { tokens_consumed: Some(tokens), ..UsageEvent::new(tenant(name), "api_call") }
}

/// An event of so many tokens at this time.
fn event_at(name: &str, time: Timestamp, tokens: u64) -> UsageEvent {
    UsageEvent { event_timestamp: Some(time), ..event(name, tokens) }
}

fn record(engine: &Metergate, events: Vec<UsageEvent>) {
    let outcomes = engine.usage_tracker().record_blocking(events).unwrap();
    assert!(
        outcomes.iter().all(|outcome| *outcome == metergate::domain::event::EventOutcome::Accepted),
        "{outcomes:?}"
    );
}

fn request(name: &str, id: Option<&str>, tokens: u128, ttl_seconds: u32) -> ReserveRequest {
    ReserveRequest {
        tenant_id: tenant(name),
        items: vec![Item { quota_type: QuotaType::Tokens, amount: tokens }],
        ttl_seconds: Some(ttl_seconds),
        reservation_id: id.map(str::to_owned),
        request_id: None,
    }
}

fn try_reserve(engine: &Metergate, request: ReserveRequest) -> Result<ReserveOutcome, EnforceError> {
    engine.quota_enforcer().reserve_blocking(request)
}

/// Reserves tokens for an hour at most.
fn reserve(engine: &Metergate, name: &str, tokens: u128, ttl_seconds: u32) -> Decision {
    try_reserve(engine, request(name, None, tokens, ttl_seconds)).unwrap().decision
}

/// The state of a limit now.
fn state(engine: &Metergate, name: &str, quota_type: QuotaType, window: Window) -> LimitState {
    let status = engine.quota_enforcer().get_quota_status(&tenant(name)).unwrap();
    let found = status.limits.iter().find(|state| (state.quota_type, state.window) == (quota_type, window));
    *found.unwrap_or_else(|| panic!("{name} has no {quota_type} per {window}"))
}

/// (limit, used, held) of tokens a day now.
fn tokens(engine: &Metergate, name: &str) -> (Option<u128>, u128, u128) {
    let state = state(engine, name, QuotaType::Tokens, Window::Day);
    (state.limit, state.used, state.held)
}

fn change(engine: &Metergate, name: &str, change: TenantChange) {
    engine.tenants().change_blocking(&tenant(name), change, &Actor::named("a test")).unwrap();
}

fn put_zone(engine: &Metergate, name: &str, zone: &str) {
    change(engine, name, TenantChange::Put(TenantPut { zone: Some(zone.parse().unwrap()), ..TenantPut::default() }));
}

fn put_override(engine: &Metergate, name: &str, window: Window, limit: Option<u128>, until: Option<Timestamp>) {
    let reason = Some("a test".to_owned());
    change(engine, name, TenantChange::SetOverride { quota_type: QuotaType::Tokens, window, limit, reason, until });
}

/// Every row of the tenant, oldest first.
fn rows(engine: &Metergate, name: &str, period: PeriodType) -> Vec<UsageMetrics> {
    let tracker = engine.usage_tracker();
    let mut rows =
        tracker.get_tenant_usage(&tenant(name), Timestamp::default(), at("2040-01-01T00:00:00Z"), period).unwrap();
    rows.reverse();
    rows
}

/// The audit log of a folder whose engine is closed.
fn audit_of(folder: &Path) -> Vec<AuditRecord> {
    let store = metergate::store::Store::open(folder, 1 << 20, [0; 32], uuid::Uuid::nil()).unwrap();
    store.snapshot().unwrap().audit_records(0, 100).unwrap()
}
