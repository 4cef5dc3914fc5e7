//! A plan that runs out is refused at once, and recorded once: by the housekeeping, the start, or the change before it.

use metergate::Metergate;
use metergate::domain::audit::{ActorType, AuditFilter};
use metergate::domain::tenant::{TenantChange, TenantPut, TenantStatus};
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, Timestamp};
use metergate::enforcer::EnforceError;

use crate::{NOON, at, change, crash_copy, event, open, record, request, tenant, try_reserve};

fn ends(engine: &Metergate, name: &str, end: Option<Timestamp>) {
    change(engine, name, TenantChange::Put(TenantPut { plan_expires_at: Some(end), ..TenantPut::default() }));
}

/// The types of the tenant's audit records, oldest first, without its registration.
fn trail(engine: &Metergate, name: &str) -> Vec<String> {
    let filter = AuditFilter { tenant_id: Some(tenant(name)), ..AuditFilter::default() };
    let mut events = engine.audit_logger().get_audit_events(&filter, None, 100).unwrap().events;
    events.reverse();
    let types = events.into_iter().map(|event| event.record.entry.event_type);
    types.filter(|event_type| event_type != "tenant_created").collect()
}

fn is_refused(engine: &Metergate, name: &str) -> bool {
    match try_reserve(engine, request(name, None, 1, 60)) {
        Err(EnforceError::Blocked { status, .. }) => status == TenantStatus::Expired,
        granted => !granted.unwrap().decision.allowed,
    }
}

#[test]
fn an_expiry_is_recorded_once_and_an_extension_revives() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    let end = at(NOON).plus_micros(MICROS_PER_HOUR);
    for name in ["acme", "later", "never"] {
        record(&engine, vec![event(name, 1)]);
    }
    ends(&engine, "acme", Some(end));
    ends(&engine, "later", Some(end.plus_micros(1_000)));
    assert_eq!(engine.tenants().expire_due().unwrap(), 0);
    clock.set(end);
    assert!(is_refused(&engine, "acme"), "at once, before anything is stored");
    assert_eq!(trail(&engine, "acme"), ["tenant_updated"]);
    assert_eq!([1, 0].map(|_| engine.tenants().expire_due().unwrap()), [1, 0], "once");
    assert_eq!(engine.tenants().get(&tenant("acme")).unwrap().status, TenantStatus::Expired);
    assert_eq!(trail(&engine, "acme"), ["tenant_updated", "trial_expired"]);
    assert_eq!(trail(&engine, "later"), ["tenant_updated"]);

    let again = end.plus_micros(MICROS_PER_DAY);
    ends(&engine, "acme", Some(again));
    assert!(!is_refused(&engine, "acme"));
    clock.set(again);
    // The extension comes before anybody stored that the second term is over: the trail has it all the same.
    ends(&engine, "acme", None);
    assert!(!is_refused(&engine, "acme"));
    let story = ["tenant_updated", "trial_expired", "tenant_updated", "trial_expired", "tenant_updated"];
    assert_eq!(trail(&engine, "acme"), story);
    engine.tenants().expire_due().unwrap();
    assert_eq!((trail(&engine, "acme").len(), trail(&engine, "never").len()), (5, 0));

    let filter = AuditFilter { event_types: vec!["trial_expired".to_owned()], ..AuditFilter::default() };
    for event in engine.audit_logger().get_audit_events(&filter, None, 100).unwrap().events {
        let entry = event.record.entry;
        assert_eq!((entry.entity_type.as_str(), entry.actor_type), ("trial", ActorType::System));
    }
}

#[test]
fn what_ran_out_while_nobody_served_is_recorded_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    record(&engine, vec![event("acme", 1)]);
    ends(&engine, "acme", Some(at(NOON).plus_micros(MICROS_PER_HOUR)));
    let crashed = crash_copy(folder.path());
    engine.close();
    drop(engine);
    let tomorrow = at(NOON).plus_micros(MICROS_PER_DAY);
    for folder in [crashed.path(), folder.path()] {
        for _start in 0..2 {
            let (engine, _clock) = open(folder, tomorrow);
            assert_eq!(trail(&engine, "acme"), ["tenant_updated", "trial_expired"]);
            assert!(is_refused(&engine, "acme"));
            engine.close();
        }
    }
}
