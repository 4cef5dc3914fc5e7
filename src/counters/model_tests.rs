//! The state machine against a naive model that keeps every operation and recomputes everything from them.

use std::sync::Arc;

use proptest::prelude::*;

use super::settle::Found;
use super::*;
use crate::domain::quota::{Charges, HoldId, HoldState, Item, Limit, LimitState, QuotaType, Window};
use crate::domain::tenant::Tenant;
use crate::domain::time::{MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, Timestamp};
use crate::rules::window::{CalendarWindow, window_at};

const ZONE: chrono_tz::Tz = chrono_tz::America::Havana;

fn limits() -> Arc<[Limit]> {
    [
        (QuotaType::Tokens, Window::Minute, 60),
        (QuotaType::Tokens, Window::Day, 150),
        (QuotaType::Tokens, Window::Month, 400),
        (QuotaType::ApiCalls, Window::Minute, 5),
        (QuotaType::Cost, Window::Day, 1 << 90),
    ]
    .map(|(quota_type, window, limit)| Limit { quota_type, window, limit, observe: false })
    .into()
}

fn tenant() -> Arc<Tenant> {
    Arc::new(Tenant::new("t".parse().unwrap(), "p", ZONE, Timestamp::default()))
}

fn charges(tokens: u64, cost: u64) -> Charges {
    [u128::from(tokens), 1, 0, 0, u128::from(cost) << 85]
}

#[derive(Clone, Debug)]
enum Operation {
    Wait(i64),
    Take { name: Option<u8>, tokens: u64, cost: u64, ttl_seconds: i64 },
    Record { tokens: u64, cost: u64, event_age_micros: i64, rate_limited: bool },
    Settle { name: u8, tokens: u64, cost: u64 },
    Release { name: u8 },
    SaveAndRestore,
}

fn operation() -> impl Strategy<Value = Operation> {
    let wait = prop_oneof![
        4 => 0..3 * MICROS_PER_SECOND,
        3 => 0..90 * MICROS_PER_SECOND,
        1 => 0..30 * MICROS_PER_HOUR,
        1 => Just(MICROS_PER_SECOND),
    ];
    let age = prop_oneof![
        3 => Just(0),
        1 => -5 * MICROS_PER_MINUTE..5 * MICROS_PER_MINUTE,
        1 => 0..30 * MICROS_PER_HOUR,
    ];
    prop_oneof![
        3 => wait.prop_map(Operation::Wait),
        5 => (proptest::option::of(0..4u8), 0..70u64, 0..9u64, 1..120i64)
            .prop_map(|(name, tokens, cost, ttl_seconds)| Operation::Take { name, tokens, cost, ttl_seconds }),
        3 => (0..40u64, 0..9u64, age, proptest::bool::weighted(0.2)).prop_map(
            |(tokens, cost, event_age_micros, rate_limited)| {
                Operation::Record { tokens, cost, event_age_micros, rate_limited }
            }
        ),
        3 => (0..4u8, 0..70u64, 0..9u64).prop_map(|(name, tokens, cost)| Operation::Settle { name, tokens, cost }),
        1 => (0..4u8).prop_map(|name| Operation::Release { name }),
        1 => Just(Operation::SaveAndRestore),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Open,
    Lapsed,
    Ended(HoldState),
}

#[derive(Clone, Debug)]
struct ModelHold {
    id: HoldId,
    amounts: Charges,
    granted_at: Timestamp,
    expires_at: Timestamp,
    stage: Stage,
}

#[derive(Debug, Default)]
struct Model {
    now: Timestamp,
    /// When it counts in the minute, when in day and month, how much.
    used: Vec<(Timestamp, Timestamp, Charges)>,
    holds: Vec<ModelHold>,
}

impl Model {
    fn start(window: Window, time: Timestamp) -> Timestamp {
        let window = if window == Window::Day { CalendarWindow::Day } else { CalendarWindow::Month };
        window_at(window, ZONE, time).start
    }

    /// (used, held) by recounting everything.
    fn count(&self, quota_type: QuotaType, window: Window) -> (u128, u128) {
        let in_window = |accepted: Timestamp, time: Timestamp| match window {
            Window::Minute => accepted.seconds() + 61 > self.now.seconds(),
            _ => Self::start(window, time) == Self::start(window, self.now),
        };
        let used = self.used.iter().filter(|(accepted, time, _)| in_window(*accepted, *time));
        let held = self.holds.iter().filter(|hold| hold.stage == Stage::Open);
        let held = held.filter(|hold| in_window(hold.granted_at, hold.granted_at));
        (
            used.map(|(_, _, amounts)| amounts[quota_type.index()]).sum(),
            held.map(|hold| hold.amounts[quota_type.index()]).sum(),
        )
    }

    fn lapse(&mut self) {
        for hold in &mut self.holds {
            if hold.stage == Stage::Open && self.now >= hold.expires_at {
                hold.stage = Stage::Lapsed;
            }
        }
    }

    fn named(&mut self, id: &HoldId) -> Option<&mut ModelHold> {
        let now = self.now;
        let remembered = |hold: &&mut ModelHold| {
            hold.id == *id && (hold.stage == Stage::Open || now < hold.expires_at.plus_micros(FINISHED_KEPT_MICROS))
        };
        self.holds.iter_mut().rev().find(remembered)
    }

    fn fits(&self, amounts: &Charges) -> bool {
        limits().iter().filter(|limit| limit.quota_type != QuotaType::ChatMessages).all(|limit| {
            let (used, held) = self.count(limit.quota_type, limit.window);
            used + held + amounts[limit.quota_type.index()] <= limit.limit
        })
    }

    fn assert_agrees(&self, state: &mut TenantState) {
        for LimitState { quota_type, window, used, held, .. } in state.status(self.now).limits {
            assert_eq!((used, held), self.count(quota_type, window), "{quota_type} per {window}");
        }
    }
}

fn items_of(amounts: &Charges) -> Vec<Item> {
    [QuotaType::Tokens, QuotaType::ApiCalls, QuotaType::Cost]
        .map(|quota_type| Item { quota_type, amount: amounts[quota_type.index()] })
        .into()
}

/// Runs the operations on both; the shadow gets what a journal would hold.
fn run(operations: &[Operation]) {
    let start: Timestamp = "2026-10-31T22:00:00Z".parse().unwrap();
    let mut model = Model { now: start, ..Model::default() };
    let mut state = TenantState::new(tenant(), limits());
    let mut shadow = state.clone();
    for (step, operation) in operations.iter().enumerate() {
        model.lapse();
        match *operation {
            Operation::Wait(micros) => model.now = model.now.plus_micros(micros),
            Operation::Take { name, tokens, cost, ttl_seconds } => {
                let id = name.map_or(HoldId::Anonymous(step as u64), |name| HoldId::Named(format!("r{name}")));
                let amounts = charges(tokens, cost);
                let expires_at = model.now.plus_micros(ttl_seconds * MICROS_PER_SECOND);
                let fits = model.fits(&amounts);
                let now = model.now;
                let known = model.named(&id).map(|hold| (hold.amounts == amounts, hold.stage));
                let request = HoldRequest { id: id.clone(), expires_at };
                let taken = state.take(now, &items_of(&amounts), request).unwrap();
                match (known, taken) {
                    (Some((true, Stage::Open)), Taken::Again { decision, .. }) => assert!(decision.allowed),
                    (Some((true, Stage::Lapsed)), Taken::Finished { state: HoldState::Lapsed, .. }) => {}
                    (Some((true, Stage::Ended(ended))), Taken::Finished { state, .. }) => assert_eq!(ended, state),
                    (Some((false, _)), Taken::Conflict) => {}
                    (None, Taken::Granted { decision, hold }) => {
                        assert!(fits && decision.allowed);
                        for limit in &decision.limits {
                            assert!(limit.used + limit.held <= limit.limit.unwrap(), "over the limit: {limit:?}");
                        }
                        model.holds.push(ModelHold { id, amounts, granted_at: now, expires_at, stage: Stage::Open });
                        shadow.insert_hold(&hold);
                        shadow.insert_hold(&hold);
                    }
                    (None, Taken::Denied(decision)) => {
                        assert!(!fits && !decision.allowed && !decision.denied_by.is_empty());
                    }
                    other => panic!("{other:?}"),
                }
            }
            Operation::Record { tokens, cost, event_age_micros, rate_limited } => {
                let now = model.now;
                let amounts = if rate_limited { Charges::default() } else { charges(tokens, cost) };
                let event_time = now.plus_micros(-event_age_micros);
                if !rate_limited {
                    let open = model
                        .holds
                        .iter_mut()
                        .find(|hold| hold.stage == Stage::Open && matches!(hold.id, HoldId::Anonymous(_)));
                    if let Some(hold) = open {
                        hold.stage = Stage::Ended(HoldState::Released);
                    }
                }
                model.used.push((now, event_time, amounts));
                state.charge(now, event_time, &amounts, rate_limited);
                shadow.charge(now, event_time, &amounts, rate_limited);
            }
            Operation::Settle { name, tokens, cost } => {
                let (now, id) = (model.now, format!("r{name}"));
                let amounts = charges(tokens, cost);
                let expected = match model.named(&HoldId::Named(id.clone())) {
                    None => {
                        model.used.push((now, now, amounts));
                        Settled { found: Found::Unknown, overage: true, lapsed: false }
                    }
                    Some(hold) => {
                        let over = amounts.iter().zip(&hold.amounts).any(|(charge, held)| *held > 0 && charge > held);
                        let granted_at = hold.granted_at;
                        let (found, overage, lapsed) = match hold.stage {
                            Stage::Open => (Found::Open, over, false),
                            Stage::Lapsed | Stage::Ended(HoldState::Lapsed) => (Found::Lapsed, over, true),
                            Stage::Ended(HoldState::Released) => (Found::Released, true, false),
                            Stage::Ended(HoldState::Settled { lapsed, .. }) => (Found::Settled, true, lapsed),
                        };
                        hold.stage = Stage::Ended(HoldState::Settled { overage, lapsed });
                        model.used.push((granted_at, granted_at, amounts));
                        Settled { found, overage, lapsed }
                    }
                };
                assert_eq!(state.settle(now, &id, &amounts), expected);
                assert_eq!(shadow.settle(now, &id, &amounts), expected);
            }
            Operation::Release { name } => {
                let (now, id) = (model.now, format!("r{name}"));
                let expected = match model.named(&HoldId::Named(id.clone())) {
                    None => Released::Unknown,
                    Some(hold) if hold.stage == Stage::Open => {
                        hold.stage = Stage::Ended(HoldState::Released);
                        Released::Held
                    }
                    Some(_) => Released::Nothing,
                };
                assert_eq!(state.release(now, &id), expected);
                assert_eq!(shadow.release(now, &id), expected);
            }
            Operation::SaveAndRestore => {
                let saved = state.snapshot();
                state = TenantState::restore(tenant(), limits(), &saved);
                assert_eq!(state.snapshot(), saved);
            }
        }
        model.lapse();
        model.assert_agrees(&mut state);
    }
    shadow.tidy(model.now);
    state.tidy(model.now);
    assert_eq!(shadow.snapshot(), state.snapshot(), "the replayed shadow");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_state_agrees_with_a_model_that_recounts_everything(
        operations in proptest::collection::vec(operation(), 1..60),
    ) {
        run(&operations);
    }

    #[test]
    fn in_no_sixty_seconds_is_more_than_the_limit_granted(
        steps in proptest::collection::vec((0..4 * MICROS_PER_SECOND, 1..30u128), 1..200),
    ) {
        let limit = Limit { quota_type: QuotaType::Tokens, window: Window::Minute, limit: 60, observe: false };
        let mut state = TenantState::new(tenant(), [limit].into());
        let mut now: Timestamp = "2026-11-24T09:30:00Z".parse().unwrap();
        let mut granted: Vec<(Timestamp, u128)> = Vec::new();
        for (number, (wait, amount)) in steps.into_iter().enumerate() {
            now = now.plus_micros(wait);
            let items = [Item { quota_type: QuotaType::Tokens, amount }];
            let request = HoldRequest {
                id: HoldId::Anonymous(number as u64),
                expires_at: now.plus_micros(MICROS_PER_HOUR),
            };
            let taken = state.take(now, &items, request).unwrap();
            if let Taken::Granted { .. } = taken {
                granted.push((now, amount));
            } else if let Taken::Denied(decision) = taken {
                // The wait that is promised is enough, and not a second longer than needed.
                let wait = decision.retry_after_seconds.unwrap() as i64 * MICROS_PER_SECOND;
                prop_assert!(state.clone().check(now.plus_micros(wait), &items).unwrap().allowed);
                prop_assert!(!state.clone().check(now.plus_micros(wait - MICROS_PER_SECOND), &items).unwrap().allowed);
            }
        }
        for (place, (from, _)) in granted.iter().enumerate() {
            let minute = granted[place..].iter().take_while(|(time, _)| time.micros_since(*from) < MICROS_PER_MINUTE);
            prop_assert!(minute.map(|(_, amount)| amount).sum::<u128>() <= 60);
        }
    }
}
