//! Overrides stick until they end or are removed; denials are counted one by one and audited sparingly.

use metergate::domain::audit::AuditRecord;
use metergate::domain::quota::{QuotaType, Window};
use metergate::domain::tenant::{TenantChange, TenantPut};
use metergate::domain::time::{MICROS_PER_MINUTE, MICROS_PER_SECOND, PeriodType};

use crate::{NOON, at, audit_of, change, crash_copy, event, open, put_override, record, reserve, rows, tenant, tokens};

#[test]
fn an_override_ends_at_its_instant_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let until = at("2026-11-24T13:00:00Z");
    let (engine, clock) = open(folder.path(), at(NOON));
    put_override(&engine, "own", Window::Day, Some(50_000), Some(until));
    assert!(reserve(&engine, "own", 50_000, 60).allowed);
    clock.advance(61 * MICROS_PER_SECOND);
    record(&engine, vec![event("own", 9_999)]);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    change(&engine, "own", TenantChange::Put(TenantPut { plan: Some("starter".to_owned()), ..TenantPut::default() }));
    change(&engine, "own", TenantChange::Put(TenantPut { plan: Some("trial".to_owned()), ..TenantPut::default() }));
    assert_eq!(tokens(&engine, "own"), (Some(50_000), 9_999, 0));
    let crashed = crash_copy(folder.path());
    engine.close();
    drop(engine);
    for folder in [crashed.path(), folder.path()] {
        let (engine, clock) = open(folder, until.plus_micros(-1));
        assert_eq!(tokens(&engine, "own"), (Some(50_000), 9_999, 0));
        assert!(engine.quota_enforcer().check_tenant_quota(&tenant("own"), 40_001).unwrap());
        clock.advance(1);
        assert_eq!(tokens(&engine, "own"), (Some(10_000), 9_999, 0), "the plan's limit is back, what was used stays");
        assert!(!reserve(&engine, "own", 2, 60).allowed);
        assert!(reserve(&engine, "own", 1, 60).allowed);
    }
}

#[test]
fn a_closed_day_shows_the_limit_that_was_in_force_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    put_override(&engine, "own", Window::Day, Some(400), None);
    record(&engine, vec![event("own", 100)]);
    clock.set(at("2026-11-25T12:00:00Z"));
    put_override(&engine, "own", Window::Day, Some(700), None);
    record(&engine, vec![event("own", 900)]);
    clock.set(at("2026-11-26T12:00:00Z"));
    change(&engine, "own", TenantChange::RemoveOverride { quota_type: QuotaType::Tokens, window: Window::Day });
    record(&engine, vec![event("own", 30)]);
    let expected = [(Some(400), Some(300)), (Some(700), Some(0)), (Some(10_000), Some(9_970))];
    let shown = |engine: &metergate::Metergate| -> Vec<_> {
        rows(engine, "own", PeriodType::Daily).iter().map(|row| (row.quota_limit, row.quota_remaining)).collect()
    };
    assert_eq!(shown(&engine), expected);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    let range = Some((at("2026-11-24T00:00:00Z"), at("2026-11-27T00:00:00Z")));
    assert_eq!(engine.usage_tracker().aggregate_usage_metrics(range).unwrap().rows_written, 0);
    assert_eq!(shown(&engine), expected, "folding changes nothing");
    engine.close();
    drop(engine);
    let (engine, _clock) = open(folder.path(), at("2026-11-26T12:00:00Z"));
    assert_eq!(shown(&engine), expected, "nor does a restart");
}

#[test]
fn each_change_leaves_its_audit_record() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    record(&engine, vec![event("own", 1)]);
    put_override(&engine, "own", Window::Day, Some(50), None);
    let window = Window::Day;
    change(&engine, "own", TenantChange::RemoveOverride { quota_type: QuotaType::Tokens, window });
    assert!(!reserve(&engine, "own", 10_000, 60).allowed);
    record(&engine, vec![event("own", 1)]);
    engine.close();
    drop(engine);
    let audit = audit_of(folder.path());
    let own: Vec<&AuditRecord> = audit.iter().filter(|record| record.entry.tenant_id == Some(tenant("own"))).collect();
    let types: Vec<&str> = own.iter().map(|record| record.entry.event_type.as_str()).collect();
    assert_eq!(types, ["tenant_created", "quota_override_set", "quota_override_removed", "quota_exceeded"]);
    assert_eq!(
        audit.iter().map(|record| record.index).collect::<Vec<_>>(),
        (0..audit.len() as u64).collect::<Vec<_>>()
    );
    assert!(own.iter().all(|record| record.timestamp == at(NOON)));
    let denied: serde_json::Value = serde_json::from_str(own[3].entry.new_values.as_ref().unwrap()).unwrap();
    for (field, value) in [("quota_type", "tokens"), ("limit", "10000"), ("used", "1"), ("exceeded_by", "1")] {
        assert_eq!(denied[field], value, "{field} of {denied}");
    }
}

#[test]
fn a_flood_of_denials_is_counted_exactly_and_audited_at_most_once_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    record(&engine, vec![event("flood", 10_000)]);
    let deny = |times: u64| {
        for _ in 0..times {
            assert!(!reserve(&engine, "flood", 1, 60).allowed);
        }
    };
    deny(1);
    // A commit takes noted denials along.
    record(&engine, vec![event("flood", 0)]);
    deny(499);
    record(&engine, vec![event("flood", 0)]);
    let denials = |engine: &metergate::Metergate| {
        metergate::domain::time::PeriodType::ALL
            .map(|period| rows(engine, "flood", period).iter().map(|row| row.quota_exceeded_count).sum::<u64>())
    };
    assert_eq!(denials(&engine), [500; 3]);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    assert_eq!(denials(&engine), [500; 3], "after the fold");
    // Noted before the minute is over: whoever writes next takes all of them together.
    deny(3);
    clock.advance(MICROS_PER_MINUTE);
    record(&engine, vec![event("flood", 0)]);
    let crashed = crash_copy(folder.path());
    engine.close();
    drop(engine);
    for folder in [crashed.path(), folder.path()] {
        let (engine, _clock) = open(folder, at("2026-11-24T12:01:00Z"));
        assert_eq!(denials(&engine), [503; 3], "after a restart");
        engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
        assert_eq!(denials(&engine), [503; 3]);
        assert_eq!(engine.usage_tracker().verify().unwrap().differences, []);
        engine.close();
        drop(engine);
        let audit = audit_of(folder);
        let exceeded = audit.iter().filter(|record| record.entry.event_type == "quota_exceeded");
        let stands_for: Vec<_> = exceeded
            .map(|record| {
                let values: serde_json::Value =
                    serde_json::from_str(record.entry.new_values.as_ref().unwrap()).unwrap();
                values["denials"].as_u64().unwrap()
            })
            .collect();
        assert_eq!(stands_for, [1, 502], "the first at once, the others with the number they stand for");
    }
}
