//! Thresholds: crossed once a window, recorded, listed and shown, whatever the process goes through.

use metergate::Metergate;
use metergate::audit::AlertQuery;
use metergate::domain::audit::{AuditEntry, AuditFilter, AuditResult};
use metergate::domain::quota::{Limit, Mode, Plan, QuotaType, Window};
use metergate::domain::tenant::{TenantChange, TenantPut};
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_SECOND};
use metergate::enforcer::EnforceError;
use metergate::rules::plan_changes::PlanChange;
use metergate::tenants::Actor;

use crate::{NOON, at, change, crash_copy, event, open, put_override, record, request, reserve, tenant, try_reserve};

/// (percent, limit, used) of the tenant's alerts, oldest first, once everything noticed is on disk.
fn alerts(engine: &Metergate, name: &str) -> Vec<(u16, u128, u128)> {
    // What a commit crosses rides on the next one.
    record(engine, vec![event("somebody-else", 0)]);
    let query = AlertQuery { tenant_id: Some(tenant(name)), ..AlertQuery::default() };
    let mut alerts = engine.audit_logger().get_alerts(&query, None, 100).unwrap().alerts;
    alerts.reverse();
    alerts.iter().map(|alert| (alert.crossing.percent, alert.crossing.limit, alert.crossing.used)).collect()
}

fn put(engine: &Metergate, name: &str, put: TenantPut) {
    change(engine, name, TenantChange::Put(put));
}

/// Percentages of tokens a day that the status shows as crossed.
fn crossed(engine: &Metergate, name: &str) -> Vec<u16> {
    let status = engine.quota_enforcer().get_quota_status(&tenant(name)).unwrap();
    let tokens = |state: &&metergate::domain::threshold::ThresholdState| state.quota_type == QuotaType::Tokens;
    status.thresholds.iter().find(tokens).unwrap().crossed.clone()
}

#[test]
fn each_percentage_is_told_once_a_window_by_what_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    assert!(reserve(&engine, "acme", 9_000, 60).allowed);
    assert_eq!(alerts(&engine, "acme"), [], "what is held is not used");
    clock.advance(61 * MICROS_PER_SECOND);
    record(&engine, vec![event("acme", 7_999)]);
    assert_eq!((alerts(&engine, "acme"), crossed(&engine, "acme")), (vec![], vec![]));
    record(&engine, vec![event("acme", 1)]);
    assert_eq!(alerts(&engine, "acme"), [(80, 10_000, 8_000)]);
    record(&engine, vec![event("acme", 3_000), event("acme", 3_000)]);
    let all = [(80, 10_000, 8_000), (95, 10_000, 11_000), (100, 10_000, 11_000)];
    assert_eq!((alerts(&engine, "acme"), crossed(&engine, "acme")), (all.to_vec(), vec![80, 95, 100]));
    put(&engine, "acme", TenantPut { name: Some("Acme".to_owned()), ..TenantPut::default() });
    record(&engine, vec![event("acme", 1)]);
    assert_eq!(alerts(&engine, "acme"), all, "a change of the tenant tells nothing again");

    clock.advance(MICROS_PER_DAY);
    assert_eq!(crossed(&engine, "acme"), Vec::<u16>::new());
    record(&engine, vec![event("acme", 9_500)]);
    assert_eq!(alerts(&engine, "acme")[3..], [(80, 10_000, 9_500), (95, 10_000, 9_500)]);

    let filter = AuditFilter {
        tenant_id: Some(tenant("acme")),
        event_types: vec!["quota_threshold_crossed".to_owned()],
        ..AuditFilter::default()
    };
    let newest = engine.audit_logger().get_audit_events(&filter, None, 1).unwrap().events.remove(0).record.entry;
    assert_eq!((newest.entity_type.as_str(), newest.entity_id.as_deref()), ("usage_quota", Some("tokens-day")));
    assert_eq!(newest.result, AuditResult::Success);
    let values: serde_json::Value = serde_json::from_str(newest.new_values.as_deref().unwrap()).unwrap();
    assert_eq!(
        values,
        serde_json::json!({
            "quota_type": "tokens", "window": "day", "window_start": "2026-11-25T00:00:00Z", "percent": 95,
            "limit": "10000", "used": "9500", "mode": "enforce",
        })
    );
}

#[test]
fn a_crossing_is_recorded_once_over_crashes_filings_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    // In the last commit before the copy: its record has not been written, or just now.
    record(&engine, vec![event("acme", 9_600)]);
    let crashed = crash_copy(folder.path());
    let expected = [(80, 10_000, 9_600), (95, 10_000, 9_600)];
    assert_eq!(alerts(&engine, "acme"), expected);
    let told = crash_copy(folder.path());
    clock.advance(120 * MICROS_PER_SECOND);
    // Filed, and the counters saved.
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    let filed = crash_copy(folder.path());
    engine.close();
    drop(engine);
    for folder in [crashed.path(), told.path(), filed.path(), folder.path()] {
        for _start in 0..2 {
            let (engine, _clock) = open(folder, at(NOON).plus_micros(600 * MICROS_PER_SECOND));
            assert_eq!(alerts(&engine, "acme"), expected);
            record(&engine, vec![event("acme", 0)]);
            assert_eq!(alerts(&engine, "acme"), expected);
            engine.close();
        }
    }
}

#[test]
fn a_replay_tells_of_no_limit_that_came_later() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    record(&engine, vec![event("acme", 1)]);
    // The counters are saved; what follows is in the journal alone.
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    record(&engine, vec![event("acme", 899)]);
    clock.advance(MICROS_PER_DAY);
    put_override(&engine, "acme", Window::Day, Some(1_000), None);
    record(&engine, vec![event("acme", 10)]);
    assert_eq!(alerts(&engine, "acme"), []);
    let crashed = crash_copy(folder.path());
    let (again, _clock) = open(crashed.path(), at(NOON).plus_micros(MICROS_PER_DAY));
    assert_eq!(alerts(&again, "acme"), [], "yesterday's 900 were never 90 % of a limit");
}

#[test]
fn what_the_last_commit_before_a_close_crossed_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    record(&engine, vec![event("acme", 10_000)]);
    engine.close();
    drop(engine);
    let audit = crate::audit_of(folder.path());
    let crossings = audit.iter().filter(|record| record.entry.event_type == "quota_threshold_crossed");
    assert_eq!(crossings.count(), 3);
}

#[test]
fn settled_use_observed_limits_and_new_limits_are_told_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    assert!(try_reserve(&engine, request("settler", Some("r"), 9_000, 60)).unwrap().decision.allowed);
    let settled = engine.quota_enforcer().settle_blocking(None, "r", vec![event("settler", 8_500)]);
    settled.unwrap();
    assert_eq!(alerts(&engine, "settler"), [(80, 10_000, 8_500)]);

    put(&engine, "watched", TenantPut { mode: Some(Mode::Observe), ..TenantPut::default() });
    record(&engine, vec![event("watched", 20_000)]);
    assert_eq!(alerts(&engine, "watched").len(), 3);
    let query = AlertQuery { tenant_id: Some(tenant("watched")), ..AlertQuery::default() };
    let watched = engine.audit_logger().get_alerts(&query, None, 10).unwrap().alerts;
    assert!(watched.iter().all(|alert| alert.crossing.observed));

    record(&engine, vec![event("grower", 9_000)]);
    put_override(&engine, "grower", Window::Day, Some(100_000), None);
    record(&engine, vec![event("grower", 70_999)]);
    assert_eq!(alerts(&engine, "grower"), [(80, 10_000, 9_000)]);
    record(&engine, vec![event("grower", 1)]);
    assert_eq!(alerts(&engine, "grower")[1..], [(80, 100_000, 80_000)], "80 % of the higher limit is another crossing");
    put_override(&engine, "grower", Window::Day, Some(80_000), None);
    record(&engine, vec![event("grower", 0)]);
    let lowered = [(80, 80_000, 80_000), (95, 80_000, 80_000), (100, 80_000, 80_000)];
    assert_eq!(alerts(&engine, "grower")[2..], lowered, "a limit lowered below the use is crossed by the next event");
}

#[test]
fn plans_and_tenants_name_their_own_percentages() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    let limit = |quota_type, window, limit| Limit { quota_type, window, limit, observe: false };
    let limits = vec![
        limit(QuotaType::Tokens, Window::Minute, 10),
        limit(QuotaType::Tokens, Window::Day, 100),
        limit(QuotaType::Tokens, Window::Month, 1_000),
    ];
    let plan = Plan { thresholds: vec![150, 50], ..Plan::new("team", limits) };
    let actor = Actor::named("a test");
    engine.tenants().change_plan_blocking(PlanChange::Put(plan), &actor).unwrap();
    let stored = engine.tenants().plans().into_iter().find(|plan| plan.name == "team").unwrap();
    assert_eq!(stored.thresholds, [50, 150], "in order");
    for (name, thresholds) in [("plain", None), ("own", Some(vec![10])), ("silent", Some(vec![]))] {
        let plan = Some("team".to_owned());
        put(&engine, name, TenantPut { plan, thresholds: Some(thresholds), ..TenantPut::default() });
        record(&engine, vec![event(name, 60)]);
    }
    assert_eq!(alerts(&engine, "plain"), [(50, 100, 60)], "a minute's limit is not told");
    assert_eq!(alerts(&engine, "own"), [(10, 100, 60)]);
    assert_eq!(alerts(&engine, "silent"), []);
    record(&engine, vec![event("plain", 440), event("own", 40)]);
    assert_eq!(alerts(&engine, "plain")[1..], [(150, 100, 500), (50, 1_000, 500)]);
    assert_eq!(alerts(&engine, "own")[1..], [(10, 1_000, 100)]);

    put(&engine, "silent", TenantPut { thresholds: Some(None), ..TenantPut::default() });
    record(&engine, vec![event("silent", 0)]);
    assert_eq!(alerts(&engine, "silent"), [(50, 100, 60)], "the plan's again");
    let wrong = TenantChange::Put(TenantPut { thresholds: Some(Some(vec![80, 80])), ..TenantPut::default() });
    let refused = engine.tenants().change_blocking(&tenant("own"), wrong, &actor);
    assert_eq!(refused.unwrap_err().to_string(), "thresholds name 80 twice");
    assert!(matches!(engine.quota_enforcer().get_quota_status(&tenant("nobody")), Err(EnforceError::UnknownTenant(_))));
}

#[test]
fn a_record_that_a_caller_writes_is_no_alert() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    record(&engine, vec![event("acme", 8_000)]);
    assert_eq!(alerts(&engine, "acme").len(), 1);
    let filter = AuditFilter { tenant_id: Some(tenant("acme")), ..AuditFilter::default() };
    let page = engine.audit_logger().get_audit_events(&filter, None, 1).unwrap();
    let forged: AuditEntry = page.events.into_iter().next().unwrap().record.entry;
    engine.audit_logger().record_blocking(vec![forged.into()]).unwrap();
    assert_eq!(alerts(&engine, "acme").len(), 1);
}

#[test]
fn alerts_are_paged_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    for number in 0..20 {
        record(&engine, vec![event(&format!("t{number:02}"), 10_000)]);
    }
    record(&engine, vec![event("acme", 0)]);
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = engine.audit_logger().get_alerts(&AlertQuery::default(), before, 7).unwrap();
        seen.extend(page.alerts.into_iter().map(|alert| (alert.tenant_id.to_string(), alert.crossing.percent)));
        record(&engine, vec![event("late", 10_000)]);
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!((seen.len(), seen[0].0.as_str(), seen[59].0.as_str()), (60, "t19", "t00"));
}
