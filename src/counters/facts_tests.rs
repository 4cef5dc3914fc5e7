//! Facts about one tenant's quotas, and about many threads at one tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::domain::quota::{Decision, HoldId, Item, Limit, QuotaType, Window};
use crate::domain::tenant::{Override, Tenant, TenantStatus};
use crate::domain::time::{MICROS_PER_SECOND, Timestamp};

const NOW: &str = "2026-11-24T09:30:00.5Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn limit(quota_type: QuotaType, window: Window, limit: u128) -> Limit {
    Limit { quota_type, window, limit, observe: false }
}

fn tenant() -> Tenant {
    Tenant::new("t".parse().unwrap(), "p", chrono_tz::UTC, Timestamp::default())
}

fn state(limits: &[Limit]) -> TenantState {
    TenantState::new(Arc::new(tenant()), limits.into())
}

fn tokens(amount: u128) -> Item {
    Item { quota_type: QuotaType::Tokens, amount }
}

fn named(id: &str, now: Timestamp) -> HoldRequest {
    HoldRequest { id: HoldId::Named(id.to_owned()), expires_at: now.plus_micros(60 * MICROS_PER_SECOND) }
}

fn denied(taken: Taken) -> Decision {
    match taken {
        Taken::Denied(decision) => decision,
        other => panic!("{other:?}"),
    }
}

fn granted(taken: Taken) -> Decision {
    match taken {
        Taken::Granted { decision, .. } => decision,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_remains_passes_and_one_more_fails() {
    let now = at(NOW);
    let mut state = state(&[limit(QuotaType::Tokens, Window::Day, 100)]);
    granted(state.take(now, &[tokens(40)], named("a", now)).unwrap());
    let refused = denied(state.take(now, &[tokens(30), tokens(31)], named("b", now)).unwrap());
    assert_eq!((refused.denied_by[0].asked, refused.denied_by[0].state.held), (61, 40));
    assert_eq!(refused.retry_after_seconds, Some(14 * 3_600 + 1_800));
    let result = &refused.results[&QuotaType::Tokens];
    assert_eq!((result.tokens_remaining, result.quota_limit), (Some(60), Some(100)));
    assert_eq!(result.error.as_deref(), Some("Quota exceeded: 60 of 100 tokens per day left, 61 asked for"));
    let last = granted(state.take(now, &[tokens(30), tokens(30)], named("b", now)).unwrap());
    assert_eq!(last.results[&QuotaType::Tokens].tokens_remaining, Some(0));
    assert!(state.check(now, &[tokens(0)]).unwrap().allowed, "nothing fits where nothing is left");
    state.charge(now, now, &[1, 0, 0, 0, 0], false);
    assert!(!state.check(now, &[tokens(0)]).unwrap().allowed, "above its limit everything is denied");
}

#[test]
fn a_denied_request_burns_nothing_of_any_type() {
    let now = at(NOW);
    let mut state = state(&[limit(QuotaType::Tokens, Window::Day, 100), limit(QuotaType::Embeddings, Window::Day, 1)]);
    let items = [tokens(50), Item { quota_type: QuotaType::Embeddings, amount: 2 }];
    let before = state.status(now);
    let decision = denied(state.take(now, &items, named("a", now)).unwrap());
    assert_eq!(state.status(now), before);
    assert!(decision.results[&QuotaType::Tokens].allowed && !decision.results[&QuotaType::Embeddings].allowed);
    assert_eq!(decision.retry_after_seconds, None, "2 never fit in a limit of 1");
    assert_eq!(decision.limits.len(), 2);
}

#[test]
fn a_type_without_a_limit_is_unlimited() {
    let now = at(NOW);
    let mut state = state(&[]);
    let decision = granted(state.take(now, &[tokens(u128::MAX)], named("a", now)).unwrap());
    let result = &decision.results[&QuotaType::Tokens];
    assert_eq!((result.tokens_remaining, result.quota_limit, decision.limits.len()), (None, None, 0));
    assert_eq!(state.status(now).limits.len(), QuotaType::COUNT);
    assert!(!state.status(now).any_exceeded());
}

#[test]
fn amounts_beyond_every_limit_fit_in_none_and_come_to_no_end() {
    let now = at(NOW);
    let mut limited = state(&[limit(QuotaType::Tokens, Window::Day, QuotaType::Tokens.max())]);
    denied(limited.take(now, &[tokens(u128::MAX)], named("a", now)).unwrap());
    let mut unlimited = state(&[]);
    let held = |state: &mut TenantState| {
        let limits = state.status(now).limits;
        limits.iter().find(|limit| limit.quota_type == QuotaType::Tokens).map(|limit| limit.held)
    };
    for id in 0..1_000u32 {
        granted(unlimited.take(now, &[tokens(u128::MAX), tokens(1)], named(&id.to_string(), now)).unwrap());
    }
    assert_eq!(held(&mut unlimited), Some(1_000 << 96));
    for id in 0..1_000u32 {
        unlimited.release(now, &id.to_string());
    }
    assert_eq!(held(&mut unlimited), Some(0));
}

#[test]
fn the_tightest_window_is_what_is_left() {
    let now = at(NOW);
    let mut state = state(&[limit(QuotaType::Tokens, Window::Minute, 10), limit(QuotaType::Tokens, Window::Day, 100)]);
    state.charge(now, now, &[95, 0, 0, 0, 0], false);
    let later = now.plus_micros(61 * MICROS_PER_SECOND);
    let decision = granted(state.take(later, &[tokens(2)], named("a", later)).unwrap());
    let result = &decision.results[&QuotaType::Tokens];
    assert_eq!((result.tokens_remaining, result.quota_limit), (Some(3), Some(100)));
}

#[test]
fn what_only_observes_grants_and_says_what_it_would_have_denied() {
    let now = at(NOW);
    let mut state = state(&[Limit { observe: true, ..limit(QuotaType::Tokens, Window::Day, 10) }]);
    let decision = granted(state.take(now, &[tokens(11)], named("a", now)).unwrap());
    assert_eq!((decision.would_deny.len(), decision.would_deny[0].asked), (1, 11));
    assert_eq!(decision.limits[0].held, 11);
}

#[test]
fn a_reservation_answers_the_same_until_it_ends() {
    let now = at(NOW);
    let mut state = state(&[limit(QuotaType::Tokens, Window::Day, 100)]);
    granted(state.take(now, &[tokens(60)], named("a", now)).unwrap());
    let again = state.take(now, &[tokens(20), tokens(40)], named("a", now.plus_micros(7))).unwrap();
    assert!(matches!(again, Taken::Again { hold, .. } if hold.expires_at == named("a", now).expires_at));
    assert_eq!(state.take(now, &[tokens(61)], named("a", now)), Ok(Taken::Conflict));
    assert_eq!(state.release(now, "a"), Released::Held);
    assert!(matches!(state.take(now, &[tokens(60)], named("a", now)), Ok(Taken::Finished { .. })));
    assert_eq!(state.take(now, &[tokens(61)], named("a", now)), Ok(Taken::Conflict));
    let day_later = now.plus_micros(FINISHED_KEPT_MICROS + 60 * MICROS_PER_SECOND);
    granted(state.take(day_later, &[tokens(61)], named("a", day_later)).unwrap());
}

#[test]
fn a_hold_that_could_not_be_journaled_is_as_if_it_had_never_been() {
    let now = at(NOW);
    let mut state = state(&[limit(QuotaType::Tokens, Window::Day, 100)]);
    let before = {
        state.tidy(now);
        state.snapshot()
    };
    granted(state.take(now, &[tokens(60)], named("a", now)).unwrap());
    assert!(state.undo_hold(now, &HoldId::Named("a".to_owned())));
    assert_eq!((state.status(now).limits[0].held, state.snapshot().open), (0, before.open));
    granted(state.take(now, &[tokens(61)], named("a", now)).unwrap());
}

#[test]
fn enforce_then_record_charges_once() {
    let now = at(NOW);
    let mut state = state(&[limit(QuotaType::Tokens, Window::Day, 100), limit(QuotaType::ApiCalls, Window::Minute, 2)]);
    let items = [tokens(50), Item { quota_type: QuotaType::ApiCalls, amount: 1 }];
    for number in [1, 2] {
        let request =
            HoldRequest { id: HoldId::Anonymous(number), expires_at: now.plus_micros(60 * MICROS_PER_SECOND) };
        granted(state.take(now, &items, request).unwrap());
    }
    state.charge(now, now, &[0; 5], true);
    let counted = |state: &mut TenantState| {
        state.status(now).limits.iter().take(2).map(|limit| (limit.used, limit.held)).collect::<Vec<_>>()
    };
    assert_eq!(counted(&mut state), [(0, 100), (0, 2)], "a 429 closes nothing");
    state.charge(now, now, &[45, 1, 0, 0, 0], false);
    assert_eq!(counted(&mut state), [(45, 50), (1, 1)]);
    assert_eq!(state.tidy(now.plus_micros(60 * MICROS_PER_SECOND)), ());
    assert_eq!(counted(&mut state), [(45, 0), (1, 0)], "the other lapsed");
}

#[test]
fn a_blocked_tenant_reserves_nothing_but_is_counted() {
    let now = at(NOW);
    for (change, status) in [
        (Tenant { status: TenantStatus::Suspended, ..tenant() }, TenantStatus::Suspended),
        (Tenant { plan_expires_at: Some(now), ..tenant() }, TenantStatus::Expired),
    ] {
        let mut state = state(&[]);
        state.set_tenant(Arc::new(change), [].into(), now);
        assert_eq!(state.check(now, &[tokens(1)]).unwrap_err().status, status);
        assert_eq!(state.take(now, &[tokens(1)], named("a", now)).unwrap_err().status, status);
        state.charge(now, now, &[5, 1, 0, 0, 0], false);
        assert_eq!(state.status(now).limits[0].used, 5);
    }
}

#[test]
fn an_override_beats_the_plan_until_it_ends_and_usage_stays() {
    let now = at(NOW);
    let plan: Arc<[Limit]> = [limit(QuotaType::Tokens, Window::Day, 100)].into();
    let mut state = TenantState::new(Arc::new(tenant()), Arc::clone(&plan));
    state.charge(now, now, &[90, 1, 0, 0, 0], false);
    let mut changed = tenant();
    let until = now.plus_micros(10 * MICROS_PER_SECOND);
    let own = Override { limit: Some(50), reason: None, until: Some(until), set_at: now };
    changed.overrides.insert((QuotaType::Tokens, Window::Day), own);
    state.set_tenant(Arc::new(changed), plan, now);
    let lowered = state.check(now, &[tokens(1)]).unwrap();
    assert_eq!((lowered.allowed, lowered.limits[0].limit, lowered.limits[0].used), (false, Some(50), 90));
    assert!(!state.check(until.plus_micros(-1), &[tokens(1)]).unwrap().allowed);
    assert!(state.check(until, &[tokens(10)]).unwrap().allowed);
}

#[test]
fn a_change_of_zone_waits_for_the_end_of_the_window() {
    let now = at(NOW);
    let mut state = state(&[limit(QuotaType::Tokens, Window::Day, 100)]);
    state.charge(now, now, &[90, 1, 0, 0, 0], false);
    let changed = Tenant { zone: chrono_tz::Asia::Kathmandu, ..tenant() };
    state.set_tenant(Arc::new(changed), state.plan_limits().clone(), now);
    let ends: Vec<String> = ["2026-11-24T23:59:59Z", "2026-11-25T00:00:00Z", "2026-11-25T18:15:00Z"]
        .map(|time| {
            let day = state.status(at(time)).limits[0];
            format!("{} used, until {}", day.used, day.resets_at)
        })
        .into();
    assert_eq!(
        ends,
        [
            "90 used, until 2026-11-25T00:00:00Z",
            "0 used, until 2026-11-25T18:15:00Z",
            "0 used, until 2026-11-26T18:15:00Z"
        ]
    );
}

#[test]
fn an_event_ahead_of_midnight_counts_in_the_day_it_belongs_to() {
    let now = at("2026-11-30T23:59:59.999999Z");
    let mut state = state(&[limit(QuotaType::Tokens, Window::Day, 100), limit(QuotaType::Tokens, Window::Month, 900)]);
    state.charge(now, at("2026-12-01T00:00:00Z"), &[7, 1, 0, 0, 0], false);
    state.charge(now, now, &[5, 1, 0, 0, 0], false);
    state.charge(now, at("2026-11-29T23:59:59.999999Z"), &[3, 1, 0, 0, 0], false);
    let used = |state: &mut TenantState, time| {
        let limits = state.status(time).limits;
        (limits[0].used, limits[1].used)
    };
    assert_eq!(used(&mut state, now), (5, 8));
    assert_eq!(used(&mut state, at("2026-12-01T00:00:00Z")), (7, 7));
    assert_eq!(used(&mut state, at("2026-12-02T00:00:00Z")), (0, 7));
}

#[test]
fn reservations_are_found_by_their_id_alone_until_forgotten() {
    let now = at(NOW);
    let counters = Counters::new();
    for (no, id) in [(0, "one"), (3, "two")] {
        let tenant = Tenant::new(id.parse().unwrap(), "p", chrono_tz::UTC, now);
        let slot = counters.insert(no, TenantState::new(Arc::new(tenant), [].into()));
        slot.lock().take(now, &[tokens(1)], named("shared", now)).unwrap();
        counters.index_reservation("shared", &slot);
        counters.index_reservation("shared", &slot);
    }
    assert_eq!(counters.find_reservation("shared").iter().map(|slot| slot.no).collect::<Vec<_>>(), [0, 3]);
    counters.by_no(3).unwrap().lock().undo_hold(now, &HoldId::Named("shared".to_owned()));
    assert_eq!(counters.find_reservation("shared").len(), 1);
    counters.tidy(now.plus_micros(2 * FINISHED_KEPT_MICROS));
    assert!(counters.find_reservation("shared").is_empty() && counters.find_reservation("other").is_empty());
    assert_eq!((counters.len(), counters.all().len(), counters.get(&"two".parse().unwrap()).unwrap().no), (2, 2, 3));
    assert!(counters.by_no(1).is_none() && counters.by_no(9).is_none());
}

#[test]
fn sixty_four_threads_never_pass_the_limit_of_one_tenant() {
    const LIMIT: u128 = 5_000;
    let now = at(NOW);
    let counters = Counters::new();
    counters.insert(0, state(&[limit(QuotaType::Tokens, Window::Day, LIMIT)]));
    let (given, number) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..64_u128 {
            let (counters, given, number) = (&counters, &given, &number);
            scope.spawn(move || {
                for round in 0..100 {
                    let amount = 1 + (thread + round) % 5;
                    let slot = counters.get(&"t".parse().unwrap()).unwrap();
                    let id = HoldId::Anonymous(number.fetch_add(1, Ordering::Relaxed));
                    let request = HoldRequest { id, expires_at: now.plus_micros(MICROS_PER_SECOND) };
                    let taken = slot.lock().take(now, &[tokens(amount)], request).unwrap();
                    if matches!(taken, Taken::Granted { .. }) {
                        given.fetch_add(amount as u64, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let given = u128::from(given.into_inner());
    assert!((LIMIT - 5..=LIMIT).contains(&given), "{given} of {LIMIT}");
    assert_eq!(counters.get(&"t".parse().unwrap()).unwrap().lock().status(now).limits[0].held, given);
}

#[test]
fn a_threshold_is_noticed_once_by_the_charge_that_reaches_it() {
    let day = |limit| [Limit { quota_type: QuotaType::Tokens, window: Window::Day, limit, observe: false }];
    let mut state = TenantState::new(Arc::new(tenant()), day(100).into()).with_thresholds([80, 95, 100].into());
    let now = at(NOW);
    let charge = |state: &mut TenantState, time: Timestamp, tokens: u128| -> Vec<(u16, u128)> {
        state.charge(time, time, &[tokens, 1, 0, 0, 0], false);
        state.take_crossings().into_iter().map(|crossing| (crossing.percent, crossing.used)).collect()
    };
    assert_eq!(charge(&mut state, now, 79), []);
    assert_eq!(charge(&mut state, now, 1), [(80, 80)]);
    assert_eq!(charge(&mut state, now, 14), []);
    assert_eq!(charge(&mut state, now, 30), [(95, 124), (100, 124)], "each of those that one charge passes");
    assert_eq!(charge(&mut state, now, 1_000), []);

    let plan: Arc<[Limit]> = day(10_000).into();
    state.set_tenant(Arc::new(tenant()), plan, now);
    assert_eq!(charge(&mut state, now, 0), [], "a higher limit");
    state.set_tenant(Arc::new(tenant()), day(1_200).into(), now);
    assert_eq!(charge(&mut state, now, 0), [(80, 1_124)], "a lower one is crossed by the next charge");
    let told = Tenant { thresholds: Some(vec![]), ..tenant() };
    state.set_tenant(Arc::new(told), day(1).into(), now);
    assert_eq!(charge(&mut state, now, 5), [], "none");
    state.set_tenant(Arc::new(tenant()), day(100).into(), now);
    let tomorrow = now.plus_micros(24 * crate::domain::time::MICROS_PER_HOUR);
    assert_eq!(charge(&mut state, tomorrow, 96), [(80, 96), (95, 96)], "a new window begins anew");
}
