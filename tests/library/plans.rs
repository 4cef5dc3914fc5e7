//! Plans change while running: at once, for everybody on them, with their audit record, over filing and restart.

use metergate::Metergate;
use metergate::domain::quota::{Limit, Plan, QuotaType, Window};
use metergate::domain::tenant::{TenantChange, TenantPut};
use metergate::domain::time::PeriodType;
use metergate::rules::plan_changes::PlanChange;
use metergate::tenants::{Actor, AdminError, PlanEffect};

use crate::{NOON, at, audit_of, change, crash_copy, event, open, put_override, record, reserve, rows, tokens};

fn plan(name: &str, tokens: u128) -> Plan {
    let limit = Limit { quota_type: QuotaType::Tokens, window: Window::Day, limit: tokens, observe: false };
    Plan::new(name, vec![limit])
}

fn change_plan(engine: &Metergate, change: PlanChange) -> Result<(), AdminError> {
    engine.tenants().change_plan_blocking(change, &Actor::named("a test"))
}

fn put_on(plan: &str) -> TenantChange {
    TenantChange::Put(TenantPut { plan: Some(plan.to_owned()), ..TenantPut::default() })
}

#[test]
fn new_limits_bind_the_next_decision_of_everybody_on_the_plan_and_survive() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    record(&engine, vec![event("a", 9_000), event("b", 100), event("own", 10_000), event("else", 9_000)]);
    put_override(&engine, "own", Window::Day, Some(20_000), None);
    change(&engine, "else", put_on("pro"));
    let lower = plan("trial", 5_000);
    let effect = engine.tenants().plan_effect(&lower).unwrap();
    assert_eq!(effect, PlanEffect { tenants: 3, exceeded_before: 0, exceeded_after: 1 });
    assert_eq!(tokens(&engine, "a").0, Some(10_000), "looking changes nothing");

    clock.set(at("2026-11-25T12:00:00Z"));
    change_plan(&engine, PlanChange::Put(lower.clone())).unwrap();
    change_plan(&engine, PlanChange::Put(lower)).unwrap();
    record(&engine, vec![event("a", 4_000), event("new", 1)]);
    let hold_and_see = |engine: &Metergate| {
        let limits = ["a", "b", "own", "else", "new"].map(|name| tokens(engine, name).0.unwrap());
        assert_eq!(limits, [5_000, 5_000, 20_000, 500_000, 5_000]);
        assert_eq!(tokens(engine, "a").1, 4_000, "what was used stays");
        assert!(!reserve(engine, "a", 1_001, 60).allowed);
        assert!(reserve(engine, "b", 5_000, 1).allowed && !reserve(engine, "b", 5_001, 1).allowed);
        let days = rows(engine, "a", PeriodType::Daily);
        assert_eq!(days.iter().map(|row| row.quota_limit).collect::<Vec<_>>(), [Some(10_000), Some(5_000)]);
    };
    hold_and_see(&engine);
    let crashed = crash_copy(folder.path());
    engine.close();
    drop(engine);
    for folder in [crashed.path(), folder.path()] {
        let (engine, clock) = open(folder, at("2026-11-25T12:00:00Z"));
        clock.advance(61_000_000);
        hold_and_see(&engine);
        engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
        assert_eq!(engine.usage_tracker().verify().unwrap().differences, []);
        engine.close();
        drop(engine);
        let audit = audit_of(folder);
        let of_plans: Vec<_> = audit.iter().filter(|record| record.entry.entity_type == "plan").collect();
        assert_eq!(of_plans.len(), 1, "the same plan again is no change");
        let entry = &of_plans[0].entry;
        assert_eq!((entry.event_type.as_str(), entry.actor_id.as_deref()), ("plan_updated", Some("a test")));
        assert!(entry.changes_summary.as_ref().unwrap().starts_with("tokens per day: 10000 -> 5000"));
    }
}

#[test]
fn a_plan_in_use_or_of_new_tenants_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    let remove = |engine: &Metergate, name: &str| change_plan(engine, PlanChange::Remove(name.to_owned()));
    change_plan(&engine, PlanChange::Put(plan("tiny", 7))).unwrap();
    change(&engine, "acme", put_on("tiny"));
    assert_eq!(tokens(&engine, "acme").0, Some(7));
    assert!(matches!(remove(&engine, "tiny"), Err(AdminError::PlanInUse { .. })));
    assert!(matches!(remove(&engine, "trial"), Err(AdminError::PlanInUse { .. })));
    assert!(matches!(remove(&engine, "none"), Err(AdminError::UnknownPlan { .. })));
    assert!(matches!(change_plan(&engine, PlanChange::Put(plan("A b", 7))), Err(AdminError::Invalid { .. })));
    change(&engine, "acme", TenantChange::Delete);
    remove(&engine, "tiny").unwrap();
    assert!(engine.tenants().plans().iter().all(|plan| plan.name != "tiny"));
    engine.close();
    drop(engine);
    let (engine, _clock) = open(folder.path(), at(NOON));
    assert!(engine.tenants().plans().iter().all(|plan| plan.name != "tiny"));
    change(&engine, "acme", put_on("trial"));
    assert_eq!(tokens(&engine, "acme").0, Some(10_000), "a tombstone of a removed plan can be revived on another");
}
