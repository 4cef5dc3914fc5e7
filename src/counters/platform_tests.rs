//! The platform is the sum of its tenants, whatever they do, and is rebuilt as that.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::quota::{HoldId, Item, Limit, QuotaSnapshot, QuotaType, Window};
use crate::domain::tenant::Tenant;
use crate::domain::time::{MICROS_PER_SECOND, Timestamp};

const TENANTS: u32 = 4;
const CEILING: u128 = 300;

#[derive(Clone, Debug)]
enum Act {
    Wait(i64),
    Reserve { tenant_no: u32, id: u8, tokens: u128, ttl: i64 },
    Enforce { tenant_no: u32, tokens: u128 },
    Undo { tenant_no: u32, id: u8 },
    Settle { tenant_no: u32, id: u8, tokens: u128 },
    Release { tenant_no: u32, id: u8 },
    Record { tenant_no: u32, tokens: u128, late: i64 },
    SaveAndRestore,
}

fn acts() -> impl Strategy<Value = Act> {
    let tenant = || 0..TENANTS;
    prop_oneof![
        // Up to some hours, so that days end as well.
        (prop_oneof![0..90_i64, 3_000..20_000_i64]).prop_map(Act::Wait),
        (tenant(), 0..6_u8, 0..120_u128, 1..120_i64).prop_map(|(tenant_no, id, tokens, ttl)| Act::Reserve {
            tenant_no,
            id,
            tokens,
            ttl
        }),
        (tenant(), 0..120_u128).prop_map(|(tenant_no, tokens)| Act::Enforce { tenant_no, tokens }),
        (tenant(), 0..6_u8).prop_map(|(tenant_no, id)| Act::Undo { tenant_no, id }),
        (tenant(), 0..6_u8, 0..90_u128).prop_map(|(tenant_no, id, tokens)| Act::Settle { tenant_no, id, tokens }),
        (tenant(), 0..6_u8).prop_map(|(tenant_no, id)| Act::Release { tenant_no, id }),
        (tenant(), 0..40_u128, 0..4_000_i64).prop_map(|(tenant_no, tokens, late)| Act::Record {
            tenant_no,
            tokens,
            late
        }),
        Just(Act::SaveAndRestore),
    ]
}

fn ceilings() -> Arc<[Limit]> {
    Window::ALL.map(|window| Limit { quota_type: QuotaType::Tokens, window, limit: CEILING, observe: false }).into()
}

/// Tenants under high limits of their own, so that every window is shown.
fn tenants() -> Vec<TenantState> {
    let high: Arc<[Limit]> = ceilings().iter().map(|limit| Limit { limit: 1_000_000, ..*limit }).collect();
    let tenant = |no: u32| Tenant::new(format!("t{no}").parse().unwrap(), "p", chrono_tz::UTC, Timestamp::default());
    (0..TENANTS).map(|no| TenantState::new(Arc::new(tenant(no)), Arc::clone(&high))).collect()
}

/// (used, held) by window of all tenants, added up.
fn sum(tenants: &mut [TenantState], now: Timestamp) -> Vec<(u128, u128)> {
    let mut sums = vec![(0, 0); Window::ALL.len()];
    for state in tenants {
        let of_tokens = state.status(now).limits.into_iter().filter(|limit| limit.quota_type == QuotaType::Tokens);
        for (sum, limit) in sums.iter_mut().zip(of_tokens) {
            *sum = (sum.0 + limit.used, sum.1 + limit.held);
        }
    }
    sums
}

fn figures(platform: &mut Platform, now: Timestamp) -> Vec<(u128, u128)> {
    platform.status(now).into_iter().map(|limit| (limit.used, limit.held)).collect()
}

proptest! {
    #[test]
    fn it_is_the_sum_of_its_tenants_and_no_grant_passes_a_ceiling(acts in proptest::collection::vec(acts(), 1..80)) {
        let (mut tenants, mut platform) = (tenants(), Platform::new(chrono_tz::UTC, ceilings()));
        let mut now: Timestamp = "2026-11-29T20:00:00Z".parse().unwrap();
        for (number, act) in (0u64..).zip(acts) {
            let named = |id: u8| format!("r{id}");
            match act {
                Act::Wait(seconds) => now = now.plus_micros(seconds * MICROS_PER_SECOND),
                Act::Reserve { tenant_no, id, tokens, ttl } => {
                    let items = [Item { quota_type: QuotaType::Tokens, amount: tokens }];
                    let expires_at = now.plus_micros(ttl * MICROS_PER_SECOND);
                    let request = HoldRequest { id: HoldId::Named(named(id)), expires_at };
                    let under = Some((&mut platform, tenant_no));
                    let taken = tenants[tenant_no as usize].take_under(now, &items, request, under).unwrap();
                    is_under(&taken, &figures(&mut platform, now), tokens)?;
                }
                Act::Enforce { tenant_no, tokens } => {
                    let items = [Item { quota_type: QuotaType::Tokens, amount: tokens }];
                    let expires_at = now.plus_micros(60 * MICROS_PER_SECOND);
                    let request = HoldRequest { id: HoldId::Anonymous(number), expires_at };
                    let under = Some((&mut platform, tenant_no));
                    let taken = tenants[tenant_no as usize].take_under(now, &items, request, under).unwrap();
                    is_under(&taken, &figures(&mut platform, now), tokens)?;
                }
                Act::Undo { tenant_no, id } => {
                    let id = HoldId::Named(named(id));
                    tenants[tenant_no as usize].undo_hold(now, &id);
                    platform.give_back(now, tenant_no, &id);
                }
                Act::Settle { tenant_no, id, tokens } => {
                    let (state, id, charges) = (&mut tenants[tenant_no as usize], named(id), [tokens, 1, 0, 0, 0]);
                    let granted_at = state.granted_at(now, &id).unwrap_or(now);
                    platform.settle(tenant_no, now, &id, granted_at, &charges);
                    state.settle(now, &id, &charges);
                }
                Act::Release { tenant_no, id } => {
                    platform.give_back(now, tenant_no, &HoldId::Named(named(id)));
                    tenants[tenant_no as usize].release(now, &named(id));
                }
                Act::Record { tenant_no, tokens, late } => {
                    let (time, charges) = (now.plus_micros(-late * MICROS_PER_SECOND), [tokens, 1, 0, 0, 0]);
                    let closed = tenants[tenant_no as usize].charge(now, time, &charges, false);
                    platform.charge(tenant_no, now, time, &charges, closed);
                }
                Act::SaveAndRestore => {
                    let saved: Vec<(u32, QuotaSnapshot)> =
                        (0..).zip(&tenants).map(|(no, state)| (no, state.snapshot())).collect();
                    // Nobody looks at the tenants before: some of their holds have lapsed and are saved all the same.
                    platform = Platform::restore(chrono_tz::UTC, ceilings(), &platform.snapshot(), &saved);
                    let mut rebuilt = Platform::of_tenants(chrono_tz::UTC, ceilings(), &saved);
                    prop_assert_eq!(figures(&mut rebuilt, now), sum(&mut tenants, now));
                }
            }
            prop_assert_eq!(figures(&mut platform, now), sum(&mut tenants, now));
        }
    }
}

/// A grant stays under the ceilings; a denial was one.
fn is_under(taken: &Taken, figures: &[(u128, u128)], asked: u128) -> Result<(), TestCaseError> {
    let highest = figures.iter().map(|(used, held)| used + held).max().unwrap_or(0);
    match taken {
        Taken::Granted { .. } => prop_assert!(highest <= CEILING, "{highest}"),
        Taken::Denied(decision) => {
            prop_assert!(highest + asked > CEILING, "{highest} and {asked}");
            prop_assert!(
                decision.denied_by.iter().all(|denied| denied.state.used == 0 && denied.state.limit.is_none())
            );
        }
        _ => {}
    }
    Ok(())
}
