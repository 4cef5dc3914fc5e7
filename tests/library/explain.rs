//! Why a request was denied: answered at once, after filing and folding, after a restart, and for what only observes.

use metergate::Metergate;
use metergate::domain::event::UsageEvent;
use metergate::domain::quota::{Mode, QuotaType, Window};
use metergate::domain::tenant::{TenantChange, TenantPut};
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_MINUTE, MICROS_PER_SECOND, PeriodType};
use metergate::enforcer::{EnforceError, ExplainQuery, Explanation, ReserveRequest};

use crate::{NOON, at, audit_of, change, crash_copy, event, open, record, request, rows, tenant, tokens, try_reserve};

fn explain(engine: &Metergate, name: &str, query: ExplainQuery) -> Explanation {
    engine.quota_enforcer().explain(&tenant(name), &query).unwrap()
}

fn of_model(name: &str, model: &str, tokens: u64) -> UsageEvent {
    UsageEvent { model: Some(model.into()), ..event(name, tokens) }
}

fn asked_as(name: &str, request_id: &str, tokens: u128) -> ReserveRequest {
    ReserveRequest { request_id: Some(request_id.to_owned()), ..request(name, None, tokens, 60) }
}

#[test]
fn a_denial_is_explained_at_once_after_filing_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    record(&engine, vec![of_model("acme", "large", 6_000), of_model("acme", "small", 1_000), event("acme", 500)]);
    record(&engine, vec![of_model("other", "large", 9_000)]);
    assert!(try_reserve(&engine, request("acme", Some("held"), 2_000, 3_600)).unwrap().decision.allowed);
    clock.advance(MICROS_PER_MINUTE);
    let denied = try_reserve(&engine, asked_as("acme", "req-7", 600)).unwrap();
    assert!(!denied.decision.allowed);
    let id = denied.decision_id.unwrap();
    let when = engine.now();

    let is_told = |engine: &Metergate, holds: bool| {
        let explanation = explain(engine, "acme", ExplainQuery::Decision(id));
        let denial = &explanation.denial;
        let state = denial.denied_by.state;
        assert_eq!((denial.at, denial.request_id.as_deref(), denial.count), (when, Some("req-7"), 1));
        assert_eq!((state.quota_type, state.window, state.limit), (QuotaType::Tokens, Window::Day, Some(10_000)));
        assert_eq!((state.used, state.held, denial.denied_by.asked, denial.observed), (7_500, 2_000, 600, false));
        assert_eq!(state.resets_at, at("2026-11-25T00:00:00Z"));
        let usage = &explanation.usage;
        assert_eq!((usage.from, usage.to, usage.complete), (at("2026-11-24T00:00:00Z"), when, true));
        assert_eq!((usage.events, usage.amount), (3, 7_500), "neither what came later nor another tenant's");
        let models: Vec<_> = usage.models.iter().map(|share| (share.name.as_deref(), share.amount)).collect();
        assert_eq!(models, [(Some("large"), 6_000), (Some("small"), 1_000), (None, 500)]);
        assert_eq!((usage.event_types.len(), usage.event_types[0].events), (1, 3));
        let held: Vec<u128> = explanation.holds.iter().map(|hold| hold.items[0].amount).collect();
        assert!(held == [2_000] || held.is_empty() && !holds, "{held:?}");
        assert_eq!(explain(engine, "acme", ExplainQuery::Request("req-7".to_owned())), explanation);
    };
    is_told(&engine, true);
    clock.advance(MICROS_PER_MINUTE);
    record(&engine, vec![of_model("acme", "large", 50)]);
    is_told(&engine, true);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    is_told(&engine, true);
    let crashed = crash_copy(folder.path());
    engine.close();
    drop(engine);
    for folder in [crashed.path(), folder.path()] {
        let (engine, clock) = open(folder, at("2026-11-24T12:02:00Z"));
        is_told(&engine, true);
        clock.advance(2 * 60 * MICROS_PER_MINUTE);
        record(&engine, vec![event("other", 1)]);
        engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
        // The hold has lapsed: who held what is remembered for as long as the journal lasts, what was held is kept.
        is_told(&engine, false);
        assert_eq!(engine.usage_tracker().verify().unwrap().differences, []);
    }
}

#[test]
fn the_denial_nearest_to_a_time_comes_first_and_old_ones_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    let mut ids = Vec::new();
    for minute in 0..4 {
        clock.set(at(NOON).plus_micros(minute * 2 * MICROS_PER_MINUTE));
        ids.push(try_reserve(&engine, asked_as("acme", &format!("r{minute}"), 20_000)).unwrap().decision_id.unwrap());
        record(&engine, vec![event("acme", 1)]);
    }
    let unknown = |query: ExplainQuery| {
        let refused = engine.quota_enforcer().explain(&tenant("acme"), &query);
        assert!(matches!(refused, Err(EnforceError::UnknownDenial(..))), "{query:?}: {refused:?}");
    };
    let asked = |query: ExplainQuery| {
        let explanation = explain(&engine, "acme", query);
        let all = std::iter::once(&explanation.denial).chain(&explanation.others);
        all.map(|denial| denial.request_id.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(asked(ExplainQuery::Latest), ["r3", "r2", "r1", "r0"]);
    let shortly_after_the_second = at(NOON).plus_micros(2 * MICROS_PER_MINUTE + MICROS_PER_SECOND);
    assert_eq!(asked(ExplainQuery::At(shortly_after_the_second)), ["r1", "r2", "r0", "r3"]);
    let before_all = at(NOON).plus_micros(-4 * MICROS_PER_MINUTE);
    assert_eq!(asked(ExplainQuery::At(before_all)), ["r0"]);
    unknown(ExplainQuery::At(at(NOON).plus_micros(-6 * MICROS_PER_MINUTE)));
    unknown(ExplainQuery::Request("r9".to_owned()));
    unknown(ExplainQuery::Decision(uuid::Uuid::nil()));
    let nobody = engine.quota_enforcer().explain(&tenant("nobody"), &ExplainQuery::Latest);
    assert!(matches!(nobody, Err(EnforceError::UnknownTenant(_))));

    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    for _ in 0..3 {
        clock.advance(10 * MICROS_PER_DAY);
        record(&engine, vec![event("acme", 1)]);
    }
    assert_eq!(asked(ExplainQuery::Decision(ids[3])), ["r3"]);
    clock.advance(MICROS_PER_DAY);
    unknown(ExplainQuery::Decision(ids[3]));
    unknown(ExplainQuery::Latest);
}

#[test]
fn a_minute_is_explained_by_what_was_accepted_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    record(&engine, vec![event("acme", 1); 20]);
    clock.advance(2 * MICROS_PER_MINUTE);
    record(&engine, vec![UsageEvent { chat_session_id: Some("s1".into()), ..event("acme", 1) }; 30]);
    let item = metergate::domain::quota::Item { quota_type: QuotaType::ApiCalls, amount: 1 };
    let denied = engine.quota_enforcer().enforce_multiple_quotas(&tenant("acme"), &[item]).unwrap();
    assert_eq!(denied.denied_by[0].state.used, 30);
    let explanation = explain(&engine, "acme", ExplainQuery::Latest);
    assert_eq!(explanation.denial.denied_by, denied.denied_by[0]);
    assert_eq!((explanation.usage.events, explanation.usage.amount), (30, 30));
    assert_eq!((explanation.usage.sessions[0].name.as_deref(), explanation.usage.sessions[0].events), (Some("s1"), 30));
}

#[test]
fn a_flood_is_explained_with_the_number_it_stands_for() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    for _ in 0..100 {
        assert!(!try_reserve(&engine, request("flood", None, 20_000, 60)).unwrap().decision.allowed);
    }
    record(&engine, vec![event("flood", 1)]);
    let explanation = explain(&engine, "flood", ExplainQuery::Latest);
    assert_eq!(explanation.others.len(), 20);
    engine.close();
    drop(engine);
    let (engine, _clock) = open(folder.path(), at(NOON));
    let sum = rows(&engine, "flood", PeriodType::Daily)[0].quota_exceeded_count;
    assert_eq!(sum, 100);
    assert_eq!(explain(&engine, "flood", ExplainQuery::Latest).denial.denied_by.asked, 20_000);
}

#[test]
fn an_observing_tenant_is_granted_counted_and_told_what_would_have_been_denied() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    let mode = |mode: Mode| TenantChange::Put(TenantPut { mode: Some(mode), ..TenantPut::default() });
    change(&engine, "new", mode(Mode::Observe));
    let within = try_reserve(&engine, asked_as("new", "fits", 10_000)).unwrap();
    assert_eq!((within.decision.would_deny.len(), within.decision_id), (0, None));
    let above = try_reserve(&engine, asked_as("new", "above", 1)).unwrap();
    assert!(above.decision.allowed && above.reservation.is_some());
    assert_eq!(above.decision.would_deny[0].state.held, 10_000);
    record(&engine, vec![event("new", 30_000)]);
    assert_eq!(tokens(&engine, "new").1, 30_000);
    let is_listed = |engine: &Metergate| {
        let explanation = explain(engine, "new", ExplainQuery::Decision(above.decision_id.unwrap()));
        assert!(explanation.denial.observed);
        assert_eq!(explanation.denial.request_id.as_deref(), Some("above"));
        for period in PeriodType::ALL {
            assert!(rows(engine, "new", period).iter().all(|row| row.quota_exceeded_count == 0), "{period:?}");
        }
    };
    is_listed(&engine);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    is_listed(&engine);
    let crashed = crash_copy(folder.path());
    engine.close();
    drop(engine);
    for folder in [crashed.path(), folder.path()] {
        let (engine, _clock) = open(folder, at(NOON));
        is_listed(&engine);
        assert_eq!(engine.usage_tracker().verify().unwrap().differences, []);
        let day = Some((at("2026-11-24T00:00:00Z"), at("2026-11-25T00:00:00Z")));
        assert_eq!(engine.usage_tracker().aggregate_usage_metrics(day).unwrap().rows_written, 0);
        assert_eq!(engine.tenants().get(&tenant("new")).unwrap().mode, Mode::Observe);
        assert!(try_reserve(&engine, request("new", None, 1, 60)).unwrap().decision.allowed);
        change(&engine, "new", mode(Mode::Enforce));
        assert!(!try_reserve(&engine, request("new", None, 1, 60)).unwrap().decision.allowed);
        engine.close();
        drop(engine);
        let audit = audit_of(folder);
        let types = audit.iter().map(|record| record.entry.event_type.as_str());
        let types: Vec<&str> = types.filter(|event_type| *event_type != "quota_threshold_crossed").collect();
        assert_eq!(types, ["tenant_created", "tenant_updated", "quota_exceeded"], "what only observes is not audited");
    }
}

#[test]
fn denials_are_kept_thirty_days_though_events_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let clock = metergate::clock::Clock::manual(at(NOON));
    let settings =
        metergate::config::EngineSettings { realtime_days: 7, ..metergate::config::EngineSettings::new(folder.path()) };
    let engine = Metergate::open_at(settings, |_| clock.clone()).unwrap();
    record(&engine, vec![event("acme", 10_000)]);
    let id = try_reserve(&engine, asked_as("acme", "r", 1)).unwrap().decision_id.unwrap();
    for _ in 0..20 {
        clock.advance(MICROS_PER_DAY);
        record(&engine, vec![event("acme", 1)]);
        engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
        engine.usage_tracker().cleanup_old_realtime_events().unwrap();
    }
    let explanation = explain(&engine, "acme", ExplainQuery::Decision(id));
    assert_eq!(explanation.denial.denied_by.state.used, 10_000);
    assert_eq!(
        (explanation.usage.events, explanation.usage.complete),
        (0, false),
        "its events are gone, and it says so"
    );
    assert_eq!(engine.usage_tracker().verify().unwrap().differences, []);
}
