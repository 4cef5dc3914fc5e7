//! Deciding in memory: all limits of a plan at once, found by the tenant's id, with the clock read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use metergate::clock::Clock;
use metergate::counters::{Amounts, Counters, HoldRequest, TenantState};
use metergate::domain::quota::{HoldId, Item, Limit, QuotaType, Window};
use metergate::domain::tenant::{Tenant, TenantId};
use metergate::domain::time::Timestamp;
use serde_json::{Value, json};

use crate::traffic::arguments::Arguments;
use crate::traffic::tenants;

const FAR_AWAY: u128 = 1_000_000_000_000;

fn limits(tokens: u128) -> Arc<[Limit]> {
    let limit = |quota_type, window, limit| Limit { quota_type, window, limit, observe: false };
    [
        limit(QuotaType::Tokens, Window::Day, tokens),
        limit(QuotaType::ApiCalls, Window::Minute, FAR_AWAY),
        limit(QuotaType::ChatMessages, Window::Day, FAR_AWAY),
        limit(QuotaType::Embeddings, Window::Day, FAR_AWAY),
    ]
    .into()
}

/// Tenants with four limits, and what takes one of each.
pub struct Gate {
    clock: Clock,
    counters: Counters,
    ids: Vec<TenantId>,
    amounts: Amounts,
}

impl Gate {
    /// So many tenants, with a day's tokens each.
    pub fn new(number: u32, tokens: u128) -> Self {
        Self::at(Clock::system(Timestamp::default()), number, tokens)
    }

    /// The same by a clock of the caller's.
    pub fn at(clock: Clock, number: u32, tokens: u128) -> Self {
        let (counters, ids) = (Counters::new(), tenants(number));
        // One list for all tenants of a plan, as in the engine.
        let limits = limits(tokens);
        for (no, id) in (0..).zip(&ids) {
            let tenant = Tenant::new(id.clone(), "pro", chrono_tz::UTC, clock.now());
            counters.insert(no, TenantState::new(Arc::new(tenant), Arc::clone(&limits)));
        }
        let types = [QuotaType::Tokens, QuotaType::ApiCalls, QuotaType::ChatMessages, QuotaType::Embeddings];
        let amounts = Amounts::sum(&types.map(|quota_type| Item { quota_type, amount: 1 }));
        Self { clock, counters, ids, amounts }
    }

    /// Finds the tenant, decides, takes, and charges what was taken.
    pub fn take(&self, round: u64) -> bool {
        let slot = self.counters.get(&self.ids[(round.wrapping_mul(7_919) % self.ids.len() as u64) as usize]).unwrap();
        let now = self.clock.now();
        let request = HoldRequest { id: HoldId::Anonymous(round), expires_at: now.plus_micros(60_000_000) };
        let mut state = slot.lock();
        let taken = state.try_take(now, &self.amounts, &request);
        if taken {
            state.charge(now, now, &[1, 1, 1, 1, 0], false);
        }
        taken
    }
}

/// One thread.
pub fn one_by_one(arguments: &Arguments) -> Value {
    let (tenants, rounds): (u32, u64) = (arguments.number("tenants"), arguments.number("rounds"));
    let gate = Gate::new(tenants, FAR_AWAY);
    for round in 0..u64::from(tenants) {
        assert!(gate.take(round));
    }
    let started = Instant::now();
    for round in 0..rounds {
        assert!(gate.take(u64::from(tenants) + round));
    }
    json!({ "ns": started.elapsed().as_secs_f64() * 1e9 / rounds as f64 })
}

/// Two threads on one tenant: how fast, and then, under a limit that is reached, how much is granted in all.
pub fn hot_tenant(arguments: &Arguments) -> Value {
    let rounds: u64 = arguments.number("rounds");
    let threads = 2;
    let run = |gate: &Gate| {
        let granted = AtomicU64::new(0);
        let started = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let granted = &granted;
                scope.spawn(move || {
                    let mine = (0..rounds / threads).filter(|round| gate.take(round * threads + thread)).count();
                    granted.fetch_add(mine as u64, Ordering::Relaxed);
                });
            }
        });
        (granted.into_inner(), started.elapsed().as_secs_f64())
    };
    let (granted, seconds) = run(&Gate::new(1, FAR_AWAY));
    assert_eq!(granted, rounds / threads * threads);
    let limit = rounds / 3;
    let (at_limit, _) = run(&Gate::new(1, u128::from(limit)));
    json!({ "rate": granted as f64 / seconds, "over_the_limit": at_limit as i64 - limit as i64 })
}
