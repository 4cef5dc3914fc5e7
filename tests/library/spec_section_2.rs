//! Where the documented system was wrong: each line of section 2 of the specification that part 1 covers.
//!
//! | line | covered by |
//! |---|---|
//! | 1 live check | `line_1_...` here; `quota_gate::recording_is_never_refused_and_the_next_reserve_is` |
//! | 2 one step | `line_2_...` here; `quota_gate::the_busiest_minute_of_azure_never_takes_a_token_more_than_the_limit` |
//! | 3 real windows | `windows_and_holds::in_no_sixty_seconds_...`; `quota_gate::the_thirty_first_call_of_a_minute_is_denied` |
//! | 4 overrides | `overrides_and_denials`; `quota_gate::an_override_beats_the_plan_and_sticks` |
//! | 5 failures count | `counting::a_status_is_a_success_a_failure_a_rate_limit_or_neither`; `quick_start` |
//! | 6 any range, catches up | `line_6_...` here; `usage_days::an_event_a_day_late_finds_its_hour_...` |
//! | 7 same rows | `line_7_...` here; `engine::usage_is_exact_at_once_and_the_same_after_filing_...` |
//! | 8 months are kept | `line_8_...` here; `engine::retention_removes_a_bounded_span_...` |
//! | 9 UTC days | `usage_days::midnight_belongs_to_the_new_day`; `zones` |
//! | 10 exact cost | `counting::costs_are_added_exactly_and_an_unknown_one_is_never_zero`; prices are part 3 |
//! | 11 busiest second | `counting::latencies_and_the_busiest_second_come_from_the_events_themselves` |
//! | 12, 13 audit | part 2; the engine's own records: `overrides_and_denials::each_change_leaves_its_audit_record` |
//! | 14 unknown plan | `line_14_...` here; `bad_input::a_bad_amount_limit_or_name_is_refused_and_takes_nothing` |
//! | 15 top consumers | `engine::top_consumers_are_tenants_over_the_range_and_nothing_is_cut` |
//! | 16 dates | `bad_input::a_bad_query_is_400_and_names_the_parameter` |
//! | 17 secrets | `bad_input::every_route_but_health_asks_for_the_key`, `..the_cron_door_opens_for_its_secret_alone` |
//! | 18 every way out | `quick_start::a_tracker_that_is_dropped_records_499`; the chat door is part 3 |
//! | 19 denials | `line_19_...` here |
//! | 20 clean-up | `line_20_...` here; `clock` and `rules::retention` have tests of their own |

use std::sync::Barrier;

use metergate::domain::quota::{QuotaType, Window};
use metergate::domain::tenant::{TenantChange, TenantPut};
use metergate::domain::time::{MICROS_PER_DAY, PeriodType};
use metergate::tenants::{Actor, AdminError};

use crate::{NOON, at, event, event_at, open, record, request, reserve, rows, tenant, tokens, try_reserve};

#[test]
fn line_1_a_check_sees_every_event_that_was_acknowledged_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    let enforcer = engine.quota_enforcer();
    for used in (1_000..=10_000u64).step_by(1_000) {
        record(&engine, vec![event("live", 1_000)]);
        assert!(enforcer.check_tenant_quota(&tenant("live"), 10_000 - used).unwrap());
        assert!(!enforcer.check_tenant_quota(&tenant("live"), 10_001 - used).unwrap());
    }
}

#[test]
fn line_2_parallel_requests_together_never_pass_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    let barrier = Barrier::new(16);
    let granted: u64 = std::thread::scope(|scope| {
        let caller = || {
            barrier.wait();
            (0..20).filter(|_| reserve(&engine, "race", 97, 600).allowed).count() as u64
        };
        let callers: Vec<_> = (0..16).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    assert_eq!(granted, 103, "10,000 / 97");
    assert_eq!(tokens(&engine, "race"), (Some(10_000), 0, 9_991));
}

#[test]
fn line_6_a_run_that_was_missed_for_days_is_caught_up_for_every_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    for day in 0..5 {
        record(&engine, (0..40).map(|n| event(&format!("t{n}"), 10 + day)).collect());
        clock.advance(MICROS_PER_DAY);
    }
    let late = at(NOON);
    record(&engine, vec![event_at("t3", late, 1_000)]);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    assert_eq!(engine.usage_tracker().aggregate_usage_metrics(None).unwrap().rows_written, 0, "all is caught up");
    for name in ["t0", "t3", "t39"] {
        let more = if name == "t3" { 1_000 } else { 0 };
        let days: Vec<u64> = rows(&engine, name, PeriodType::Daily).iter().map(|row| row.total_tokens_used).collect();
        assert_eq!(days, [10 + more, 11, 12, 13, 14], "{name}");
        assert_eq!(rows(&engine, name, PeriodType::Monthly)[0].total_tokens_used, 60 + more, "{name}");
    }
}

#[test]
fn line_7_aggregating_a_range_again_keeps_quota_cost_and_error_columns() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    let mut failed = event("cols", 20);
    (failed.api_status_code, failed.cost_usd) = (Some(500), Some("0.000000123".parse().unwrap()));
    record(&engine, vec![failed]);
    assert!(!reserve(&engine, "cols", 10_000, 60).allowed);
    record(&engine, vec![crate::UsageEvent { cost_usd: Some("1".parse().unwrap()), ..event("cols", 1) }]);
    let live = PeriodType::ALL.map(|period| rows(&engine, "cols", period));
    let range = Some((at("2026-11-24T00:00:00Z"), at("2026-11-25T00:00:00Z")));
    for run in [None, None, range, range] {
        engine.usage_tracker().aggregate_usage_metrics(run).unwrap();
        assert_eq!(PeriodType::ALL.map(|period| rows(&engine, "cols", period)), live, "{run:?}");
    }
    let day = &live[1][0];
    assert_eq!((day.error_count, day.quota_exceeded_count, day.quota_limit), (1, 1, Some(10_000)));
    assert_eq!(day.estimated_cost_usd, Some("1.000000123".parse().unwrap()));
}

#[test]
fn line_8_a_month_stands_when_its_events_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at("2026-11-02T12:00:00Z"));
    record(&engine, vec![event("month", 70)]);
    clock.set(at("2026-11-28T12:00:00Z"));
    record(&engine, vec![event("month", 5)]);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    clock.set(at("2026-12-10T12:00:00Z"));
    let mut removed = 0;
    for _ in 0..40 {
        removed += engine.usage_tracker().cleanup_old_realtime_events().unwrap().rows_removed;
    }
    assert_eq!(removed, 1, "the event of 2 November");
    // A late event of the same month folds into what is kept.
    record(&engine, vec![event_at("month", at("2026-11-28T12:30:00Z"), 25)]);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    let range = Some((at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z")));
    assert!(engine.usage_tracker().aggregate_usage_metrics(range).unwrap().hours_skipped > 0);
    let months: Vec<u64> =
        rows(&engine, "month", PeriodType::Monthly).iter().map(|row| row.total_tokens_used).collect();
    assert_eq!(months, [100]);
}

#[test]
fn line_14_an_unknown_plan_is_an_error_that_names_the_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    let put = |plan: &str| TenantChange::Put(TenantPut { plan: Some(plan.to_owned()), ..TenantPut::default() });
    let actor = Actor::named("a test");
    let refused = engine.tenants().change_blocking(&tenant("up"), put("professional"), &actor).unwrap_err();
    let known = "enterprise, pro, starter, trial".to_owned();
    assert_eq!(refused, AdminError::UnknownPlan { plan: "professional".to_owned(), known });
    assert!(engine.tenants().get(&tenant("up")).is_err(), "nothing is registered");
    engine.tenants().change_blocking(&tenant("up"), put("pro"), &actor).unwrap();
    assert_eq!(tokens(&engine, "up").0, Some(500_000));
}

#[test]
fn line_19_a_denial_names_the_limit_its_window_what_is_left_and_when_it_resets() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at(NOON));
    record(&engine, vec![event("asks", 6_000)]);
    assert!(reserve(&engine, "asks", 3_000, 60).allowed);
    let outcome = try_reserve(&engine, request("asks", None, 1_001, 60)).unwrap();
    assert!(outcome.reservation.is_none() && outcome.decision_id.is_some());
    let [denied] = outcome.decision.denied_by.as_slice() else { panic!("one limit said no") };
    let state = denied.state;
    assert_eq!((state.quota_type, state.window, state.limit), (QuotaType::Tokens, Window::Day, Some(10_000)));
    assert_eq!((state.used, state.held, state.remaining(), denied.asked), (6_000, 3_000, Some(1_000), 1_001));
    assert_eq!(state.resets_at, at("2026-11-25T00:00:00Z"));
    assert!(outcome.decision.retry_after_seconds.is_some_and(|wait| (1..=43_200).contains(&wait)));
}

#[test]
fn line_20_what_is_not_aggregated_is_never_removed_and_a_run_removes_a_day_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at("2026-11-01T12:00:00Z"));
    record(&engine, vec![event("kept", 1)]);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    clock.advance(3 * MICROS_PER_DAY);
    record(&engine, vec![event("kept", 10)]);
    // The clock jumps three years ahead: nothing after the aggregation mark goes, however often it runs.
    clock.set(at("2029-11-01T12:00:00Z"));
    let removed: Vec<u64> =
        (0..8).map(|_| engine.usage_tracker().cleanup_old_realtime_events().unwrap().rows_removed).collect();
    assert!(removed.iter().sum::<u64>() <= 1, "{removed:?}");
    assert_eq!(rows(&engine, "kept", PeriodType::Daily).iter().map(|row| row.total_tokens_used).sum::<u64>(), 11);
}
