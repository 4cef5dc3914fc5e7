//! How long a decision takes: `cargo bench --bench decision`.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use metergate::clock::Clock;
use metergate::counters::{Amounts, Counters, HoldRequest, TenantState};
use metergate::domain::quota::{HoldId, Item, Limit, QuotaType, Window};
use metergate::domain::tenant::{Tenant, TenantId};
use metergate::domain::time::Timestamp;

const TENANTS: u32 = 1_000;
const ROUNDS: u64 = 3_000_000;

fn four_limits() -> Arc<[Limit]> {
    let limit = |quota_type, window| Limit { quota_type, window, limit: 1_000_000_000_000, observe: false };
    [
        limit(QuotaType::Tokens, Window::Day),
        limit(QuotaType::ApiCalls, Window::Minute),
        limit(QuotaType::ChatMessages, Window::Day),
        limit(QuotaType::Embeddings, Window::Day),
    ]
    .into()
}

fn main() {
    let clock = Clock::system(Timestamp::default());
    let counters = Counters::new();
    let ids: Vec<TenantId> = (0..TENANTS).filter_map(|no| format!("tenant-{no}").parse().ok()).collect();
    for (no, id) in (0..).zip(&ids) {
        let tenant = Tenant::new(id.clone(), "pro", chrono_tz::UTC, clock.now());
        counters.insert(no, TenantState::new(Arc::new(tenant), four_limits()));
    }
    let items = [QuotaType::Tokens, QuotaType::ApiCalls, QuotaType::ChatMessages, QuotaType::Embeddings]
        .map(|quota_type| Item { quota_type, amount: 1 });
    let amounts = Amounts::sum(&items);
    let charges = [1, 1, 1, 1, 0];

    measure("clock.now()", ROUNDS, |_| {
        black_box(clock.now());
    });
    let now = clock.now();
    let request = |round: u64| HoldRequest { id: HoldId::Anonymous(round), expires_at: now.plus_micros(60_000_000) };
    let tenant = |round: u64| counters.get(&ids[(round.wrapping_mul(7_919) % u64::from(TENANTS)) as usize]);
    let find = |round: u64| tenant(round).unwrap_or_else(|| unreachable!("every id was inserted"));
    measure("find a tenant", ROUNDS, |round| {
        black_box(find(round));
    });
    let slot = find(1);
    measure("take + record, four limits, one warm tenant", ROUNDS, |round| {
        let mut state = slot.lock();
        assert!(state.try_take(now, &amounts, &request(round)));
        state.charge(now, now, &charges, false);
    });
    measure("the same, 1,000 tenants, found by id, clock read", ROUNDS, |round| {
        let slot = find(round);
        let now = clock.now();
        let mut state = slot.lock();
        assert!(state.try_take(now, &amounts, &request(round)));
        state.charge(now, now, &charges, false);
    });
    measure("take with its whole answer + record, 1,000 tenants", ROUNDS / 4, |round| {
        let slot = find(round);
        let mut state = slot.lock();
        black_box(state.take(now, &items, request(ROUNDS + round)).is_ok());
        state.charge(now, now, &charges, false);
    });
    measure("check with its whole answer, 1,000 tenants", ROUNDS / 4, |round| {
        black_box(find(round).lock().check(now, &items).is_ok());
    });

    let next = AtomicU64::new(10 * ROUNDS);
    let (started, each) = (Instant::now(), ROUNDS / 2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..each {
                    let request = request(next.fetch_add(1, Ordering::Relaxed));
                    let slot = find(2);
                    let mut state = slot.lock();
                    assert!(state.try_take(now, &amounts, &request));
                    state.charge(now, now, &charges, false);
                }
            });
        }
    });
    let rate = (2 * each) as f64 / started.elapsed().as_secs_f64() / 1e6;
    println!("{:<62} {rate:>8.2} M/s", "take + record, two threads, one hot tenant, found by id");
}

fn measure(name: &str, rounds: u64, mut work: impl FnMut(u64)) {
    let started = Instant::now();
    for round in 0..rounds {
        work(round);
    }
    println!("{name:<62} {:>8.1} ns", started.elapsed().as_nanos() as f64 / rounds as f64);
}
