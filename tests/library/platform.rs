//! Ceilings over all tenants together: taken in the same step, kept over crashes, and told without anybody's figures.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::config::EngineSettings;
use metergate::domain::quota::{Limit, LimitState, Mode, QuotaType, Scope, Window};
use metergate::domain::tenant::{TenantChange, TenantPut};
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_SECOND, PeriodType, Timestamp};
use metergate::enforcer::ExplainQuery;

use crate::{
    NOON, at, change, crash_copy, event, open, put_zone, record, request, reserve, rows, tenant, tokens, try_reserve,
};

fn ceiling(window: Window, limit: u128) -> Limit {
    Limit { quota_type: QuotaType::Tokens, window, limit, observe: false }
}

/// An engine with these ceilings.
fn open_under(folder: &Path, now: Timestamp, ceilings: &[Limit]) -> (Metergate, Clock) {
    let clock = Clock::manual(now);
    let settings = EngineSettings { ceilings: ceilings.to_vec(), ..EngineSettings::new(folder) };
    (Metergate::open_at(settings, |_| clock.clone()).unwrap(), clock)
}

/// (used, held) of the first ceiling.
fn used(engine: &Metergate) -> (u128, u128) {
    let LimitState { used, held, .. } = engine.writer().shared().platform_status()[0];
    (used, held)
}

fn settle(engine: &Metergate, name: &str, id: &str, tokens: u64) {
    engine.quota_enforcer().settle_blocking(Some(&tenant(name)), id, vec![event(name, tokens)]).unwrap();
}

#[test]
fn all_tenants_together_stay_under_the_ceiling_and_a_denial_tells_no_figures() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open_under(folder.path(), at(NOON), &[ceiling(Window::Day, 10_000)]);
    record(&engine, vec![event("one", 3_000), event("two", 1_000)]);
    assert!(reserve(&engine, "three", 5_000, 60).allowed);
    assert_eq!(used(&engine), (4_000, 5_000));
    clock.advance(MICROS_PER_SECOND);
    let outcome = try_reserve(&engine, request("four", None, 1_001, 60)).unwrap();
    let decision = outcome.decision;
    assert!(!decision.allowed && outcome.reservation.is_none());
    let denied = decision.denied_by[0];
    assert_eq!((decision.denied_by.len(), denied.scope, denied.asked), (1, Scope::Platform, 1_001));
    assert_eq!((denied.state.limit, denied.state.used, denied.state.held), (None, 0, 0));
    assert_eq!((denied.state.quota_type, denied.state.window), (QuotaType::Tokens, Window::Day));
    assert_eq!(decision.retry_after_seconds, Some(12 * 3_600 - 1));
    let result = &decision.results[&QuotaType::Tokens];
    assert_eq!((result.allowed, result.tokens_remaining, result.quota_limit), (false, Some(10_000), Some(10_000)));
    assert_eq!(result.error.as_deref(), Some("Quota exceeded: the platform's ceiling of tokens per day is reached"));
    assert_eq!((used(&engine), tokens(&engine, "four").2), ((4_000, 5_000), 0), "a denial burns nothing of either");
    assert!(!engine.quota_enforcer().check_tenant_quota(&tenant("four"), 1_001).unwrap());
    assert!(engine.quota_enforcer().check_tenant_quota(&tenant("nobody-yet"), 1_000).unwrap());
    assert!(reserve(&engine, "four", 1_000, 60).allowed, "what is left passes");
    assert!(!reserve(&engine, "one", 1, 60).allowed);

    let explained = engine.quota_enforcer().explain(&tenant("four"), &ExplainQuery::Latest).unwrap();
    assert_eq!(explained.denial.denied_by, denied);
    record(&engine, vec![event("somebody", 0)]);
    let exceeded: u64 = rows(&engine, "four", PeriodType::Daily).iter().map(|row| row.quota_exceeded_count).sum();
    assert_eq!(exceeded, 1);
    // Recording is never gated.
    record(&engine, vec![event("one", 50_000)]);
    assert_eq!(used(&engine).0, 54_000);
    clock.advance(MICROS_PER_DAY);
    assert_eq!(used(&engine), (0, 0));
    assert!(reserve(&engine, "one", 10_000, 60).allowed);
    let never = reserve(&engine, "two", 10_001, 60);
    assert_eq!((never.allowed, never.retry_after_seconds), (false, None), "waiting cannot help");
}

#[test]
fn observing_lifts_no_ceiling_and_both_limits_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open_under(folder.path(), at(NOON), &[ceiling(Window::Day, 12_000)]);
    let observe = TenantPut { mode: Some(Mode::Observe), ..TenantPut::default() };
    change(&engine, "watched", TenantChange::Put(observe));
    let decision = reserve(&engine, "watched", 11_000, 60);
    assert!(decision.allowed && decision.would_deny.len() == 1);
    let decision = reserve(&engine, "watched", 2_000, 60);
    assert_eq!((decision.allowed, decision.denied_by.len(), decision.would_deny.len()), (false, 1, 1));
    let decision = reserve(&engine, "other", 10_001, 60);
    let scopes: Vec<Scope> = decision.denied_by.iter().map(|denied| denied.scope).collect();
    assert_eq!(scopes, [Scope::Tenant, Scope::Platform]);
    assert_eq!(decision.retry_after_seconds, None, "the tenant's own limit never has room for it");
}

#[test]
fn holds_end_on_the_platform_as_they_end_for_their_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open_under(folder.path(), at(NOON), &[ceiling(Window::Day, 10_000)]);
    let hold = |name: &str, id: &str, tokens| {
        assert!(try_reserve(&engine, request(name, Some(id), tokens, 60)).unwrap().decision.allowed);
    };
    hold("one", "a", 1_000);
    hold("two", "a", 2_000);
    hold("two", "b", 3_000);
    hold("two", "b", 3_000);
    assert_eq!(used(&engine), (0, 6_000), "the same id again holds nothing more");
    settle(&engine, "one", "a", 400);
    assert_eq!(used(&engine), (400, 5_000));
    engine.quota_enforcer().release_blocking(Some(&tenant("two")), "a").unwrap();
    assert_eq!(used(&engine), (400, 3_000));
    let enforced = engine.quota_enforcer().enforce_quota(&tenant("three"), QuotaType::Tokens, 500).unwrap();
    assert!(enforced.allowed && used(&engine) == (400, 3_500));
    record(&engine, vec![event("three", 90)]);
    assert_eq!(used(&engine), (490, 3_000), "the next event closes it");
    clock.advance(60 * MICROS_PER_SECOND);
    assert_eq!(used(&engine), (490, 0), "nobody looked at the tenant, and its hold has lapsed here");
    settle(&engine, "two", "b", 10);
    assert_eq!(used(&engine), (500, 0), "a late settle counts all the same");
}

#[test]
fn a_minute_frees_what_was_taken_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open_under(folder.path(), at(NOON), &[ceiling(Window::Minute, 100)]);
    record(&engine, vec![event("one", 60)]);
    clock.advance(10 * MICROS_PER_SECOND);
    record(&engine, vec![event("two", 40)]);
    let decision = reserve(&engine, "three", 50, 60);
    assert_eq!((decision.allowed, decision.retry_after_seconds), (false, Some(51)));
    clock.advance(51 * MICROS_PER_SECOND);
    assert!(reserve(&engine, "three", 50, 60).allowed);
}

#[test]
fn sixty_four_threads_over_many_tenants_never_pass_the_ceiling() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open_under(folder.path(), at(NOON), &[ceiling(Window::Day, 5_000)]);
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..64_u64 {
            let (engine, granted) = (&engine, &granted);
            scope.spawn(move || {
                for round in 0..20 {
                    let name = format!("t{}", (thread + round) % 16);
                    let amount = 1 + (thread * 7 + round) % 9;
                    if reserve(engine, &name, u128::from(amount), 3_600).allowed {
                        granted.fetch_add(amount, Ordering::Relaxed);
                    }
                    if round % 7 == 0 {
                        record(engine, vec![event(&name, 1)]);
                    }
                    let (used, held) = used(engine);
                    // Recording is not gated: it alone may pass the ceiling, by as much as was recorded.
                    assert!(held <= 5_000 && used <= 64 * 3, "{used} used, {held} held");
                }
            });
        }
    });
    let (used, held) = used(&engine);
    assert_eq!((used, held), (64 * 3, u128::from(granted.load(Ordering::Relaxed))));
    assert!(held > 4_700, "what there was, was given: {held}");
}

#[test]
fn a_crash_and_a_restart_keep_what_was_used_and_held() {
    let folder = tempfile::tempdir().unwrap();
    let ceilings = [ceiling(Window::Day, 10_000), ceiling(Window::Month, 50_000)];
    let (engine, clock) = open_under(folder.path(), at(NOON), &ceilings);
    put_zone(&engine, "far", "Asia/Kathmandu");
    record(&engine, vec![event("one", 1_000), event("far", 2_000)]);
    for (id, tokens) in [("open", 1_500), ("settled", 700), ("released", 300)] {
        assert!(try_reserve(&engine, request("far", Some(id), tokens, 3_600)).unwrap().decision.allowed);
    }
    settle(&engine, "far", "settled", 600);
    engine.quota_enforcer().release_blocking(None, "released").unwrap();
    let expected = (3_600, 1_500);
    assert_eq!(used(&engine), expected);
    let crashed = crash_copy(folder.path());
    // Filed, and the counters saved; then more that is only in the journal.
    clock.advance(120 * MICROS_PER_SECOND);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    let filed = crash_copy(folder.path());
    record(&engine, vec![event("two", 5)]);
    let tail = crash_copy(folder.path());
    engine.close();
    drop(engine);
    let later = at(NOON).plus_micros(600 * MICROS_PER_SECOND);
    for (folder, more) in [(crashed.path(), 0), (filed.path(), 0), (tail.path(), 5), (folder.path(), 5)] {
        // Without ceilings in between: what happens then is counted as well.
        let (engine, _clock) = open(folder, later);
        assert_eq!(engine.writer().shared().platform_status(), []);
        record(&engine, vec![event("two", 10)]);
        engine.close();
        drop(engine);
        for last in [false, true] {
            let (engine, clock) = open_under(folder, later, &ceilings);
            assert_eq!(used(&engine), (3_610 + more, 1_500));
            let left = 10_000 - 3_610 - more - 1_500;
            assert!(!reserve(&engine, "two", left + 1, 60).allowed);
            if last {
                // No start after it: a server's time never runs backwards.
                clock.advance(3_600 * MICROS_PER_SECOND);
                assert_eq!(used(&engine), (3_610 + more, 0));
            }
            engine.close();
        }
    }
}

#[test]
fn days_are_those_of_the_default_zone() {
    let folder = tempfile::tempdir().unwrap();
    let zone = chrono_tz::Asia::Kathmandu;
    let clock = Clock::manual(at("2026-11-24T18:00:00Z"));
    let ceilings = vec![ceiling(Window::Day, 100)];
    let settings = EngineSettings { ceilings, default_zone: zone, ..EngineSettings::new(folder.path()) };
    let engine = Metergate::open_at(settings, |_| clock.clone()).unwrap();
    put_zone(&engine, "elsewhere", "America/Santiago");
    record(&engine, vec![event("elsewhere", 100)]);
    let decision = reserve(&engine, "one", 1, 60);
    assert_eq!((decision.allowed, decision.retry_after_seconds), (false, Some(15 * 60)));
    clock.advance(15 * 60 * MICROS_PER_SECOND);
    assert!(reserve(&engine, "one", 100, 60).allowed);
}
