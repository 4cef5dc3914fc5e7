//! Sixty-four threads on the counters (R9): reserve, settle, release, lapse and record on a few tenants under a ceiling, and
//! not one token over a limit. `METERGATE_LONG=1` does ten million operations.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metergate::counters::{Counters, HoldRequest, Platform, StateMutex, Taken, TenantState, charge, release, settle};
use metergate::domain::quota::{HoldId, Item, Limit, QuotaType, Window};
use metergate::domain::tenant::Tenant;
use metergate::domain::time::Timestamp;

const THREADS: u64 = 64;
const TENANTS: u64 = 4;
/// Operations of the short and of the long version, all threads together.
const OPERATIONS: u64 = 1_000_000;
const OPERATIONS_LONG: u64 = 10_000_000;
/// Tokens a day of a tenant, and of all together: nothing fits after some time but what is given back.
const LIMIT: u128 = 40_000;
const CEILING: u128 = 130_000;

fn limit(limit: u128) -> Limit {
    Limit { quota_type: QuotaType::Tokens, window: Window::Day, limit, observe: false }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000 + millis as i64 * 1_000)
}

#[test]
fn sixty_four_threads_never_pass_a_limit_or_a_ceiling() {
    let started = std::time::Instant::now();
    let long = std::env::var("METERGATE_LONG").is_ok_and(|value| value == "1");
    let rounds = if long { OPERATIONS_LONG } else { OPERATIONS } / THREADS;
    let counters = Counters::new();
    for no in 0..TENANTS {
        let tenant = Tenant::new(format!("t{no}").parse().unwrap(), "p", chrono_tz::UTC, at(0));
        counters.insert(no as u32, TenantState::new(Arc::new(tenant), [limit(LIMIT)].into()));
    }
    let platform = StateMutex::new(Platform::new(chrono_tz::UTC, [limit(CEILING)].into()));
    // Time goes on by a millisecond every so many operations, so that holds lapse, and a day is not over.
    let (operations, granted, denied, used) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (counters, platform) = (&counters, &platform);
            let (operations, granted, denied, used) = (&operations, &granted, &denied, &used);
            scope.spawn(move || {
                let mut open: Vec<(u64, String)> = Vec::new();
                for round in 0..rounds {
                    let now = at(operations.fetch_add(1, Ordering::Relaxed) / 1_000);
                    let no = (thread + round) % TENANTS;
                    match (round * 7 + thread) % 5 {
                        0..3 => {
                            let slot = counters.by_no(no as u32).unwrap();
                            let id = format!("{thread}-{round}");
                            let amount = u128::from(1 + (thread * 31 + round * 17) % 900);
                            let items = [Item { quota_type: QuotaType::Tokens, amount }];
                            let expires_at = now.plus_micros(200_000);
                            let request = HoldRequest { id: HoldId::Named(id.clone()), expires_at };
                            let (state, taken) = slot.take(Some(platform), now, &items, request);
                            drop(state);
                            match taken.unwrap() {
                                Taken::Granted { decision, .. } => {
                                    let seen = decision.limits[0];
                                    assert!(seen.used + seen.held <= LIMIT, "over the limit: {seen:?}");
                                    granted.fetch_add(1, Ordering::Relaxed);
                                    open.push((no, id));
                                }
                                _ => drop(denied.fetch_add(1, Ordering::Relaxed)),
                            }
                        }
                        3 => {
                            let Some((no, id)) = open.pop() else { continue };
                            let slot = counters.by_no(no as u32).unwrap();
                            let tokens = u128::from(round % 1_024 < 5);
                            used.fetch_add(tokens as u64, Ordering::Relaxed);
                            slot.with(Some(platform), |state, platform| {
                                settle(no as u32, state, platform, now, &id, &[tokens, 1, 0, 0, 0]);
                            });
                        }
                        _ if round % 3 == 0 => {
                            let slot = counters.by_no(no as u32).unwrap();
                            slot.with(Some(platform), |state, platform| {
                                charge(no as u32, state, platform, (now, now), &[0, 1, 0, 0, 0], false);
                            });
                        }
                        // The rest lapse.
                        _ if round % 3 == 1 => drop(open.pop()),
                        _ => {
                            let Some((no, id)) = open.pop() else { continue };
                            let slot = counters.by_no(no as u32).unwrap();
                            slot.with(Some(platform), |state, platform| release(no as u32, state, platform, now, &id));
                        }
                    }
                    let together = platform.lock().status(now)[0];
                    // A settlement that comes when its hold has lapsed is recorded all the same.
                    let late = u128::from(used.load(Ordering::Relaxed));
                    assert!(together.used + together.held <= CEILING + late, "over the ceiling: {together:?}");
                }
            });
        }
    });
    let end = at(operations.load(Ordering::Relaxed) / 1_000 + 10_000);
    let together = platform.lock().status(end)[0];
    let (granted, denied, used) = (granted.into_inner(), denied.into_inner(), u128::from(used.into_inner()));
    assert_eq!((together.used, together.held), (used, 0), "used once each, and everything else lapsed");
    let of_tenants: u128 = counters.all().iter().map(|slot| slot.lock().status(end).limits[0].used).sum();
    assert_eq!(of_tenants, used, "the tenants' sum");
    assert!(granted > 1_000 && denied > 1_000, "{granted} granted, {denied} denied");
    println!(
        "R9: {} operations of {THREADS} threads, {granted} granted, {denied} denied, 0 over a limit, in {:.1?}",
        rounds * THREADS,
        started.elapsed()
    );
}
