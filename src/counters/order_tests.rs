//! Every order of threads (R9): a checker runs a few threads over the counters again and again, and decides at each lock
//! who goes on. Whatever the order, no limit is passed, nothing is counted twice, and nobody waits for ever.
//!
//! `cargo test --features model-check --lib order_tests`; with `METERGATE_LONG` many more orders.

use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::{AtomicU64, Ordering};

use super::lock::Mutex;
use super::*;
use crate::domain::quota::{Charges, HoldId, Item, Limit, QuotaType, Window};
use crate::domain::tenant::Tenant;
use crate::domain::time::{MICROS_PER_SECOND, Timestamp};

const LIMIT: u128 = 10;
const CEILING: u128 = 14;
const THREADS: usize = 4;

fn limit(limit: u128) -> Limit {
    Limit { quota_type: QuotaType::Tokens, window: Window::Day, limit, observe: false }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + second as i64)
}

fn charges(tokens: u128) -> Charges {
    [tokens, 1, 0, 0, 0]
}

/// Two tenants under a ceiling, and what threads did to them.
struct World {
    counters: Counters,
    platform: Option<Mutex<Platform>>,
    /// Nothing is recorded that was not reserved, and nothing lapses: then nothing at all passes the ceiling.
    gated: bool,
    second: AtomicU64,
    /// Tokens that were recorded, whether or not they fitted.
    recorded: AtomicU64,
    grants: AtomicU64,
}

impl World {
    fn new(gated: bool) -> Arc<Self> {
        let counters = Counters::new();
        for (no, name) in ["one", "two"].into_iter().enumerate() {
            let tenant = Tenant::new(name.parse().unwrap(), "p", chrono_tz::UTC, at(0));
            counters.insert(no as u32, TenantState::new(Arc::new(tenant), [limit(LIMIT)].into()));
        }
        let platform = Some(Mutex::new(Platform::new(chrono_tz::UTC, [limit(CEILING)].into())));
        let (second, recorded, grants) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { counters, platform, gated, second, recorded, grants })
    }

    fn slot(&self, name: &str) -> Arc<TenantSlot> {
        self.counters.get(&name.parse().unwrap()).unwrap()
    }

    fn now(&self) -> Timestamp {
        at(self.second.load(Ordering::SeqCst))
    }

    /// Reserves as the enforcer does; what was granted fits with all that is used and held at that moment.
    fn reserve(&self, name: &str, id: &str, tokens: u128, keep: bool) -> bool {
        let slot = self.slot(name);
        let now = self.now();
        let request =
            HoldRequest { id: HoldId::Named(id.to_owned()), expires_at: now.plus_micros(2 * MICROS_PER_SECOND) };
        let items = [Item { quota_type: QuotaType::Tokens, amount: tokens }];
        let (mut state, taken) = slot.take(self.platform.as_ref(), now, &items, request);
        let Taken::Granted { decision, hold } = taken.unwrap() else { return false };
        let seen = decision.limits[0];
        assert!(seen.used + seen.held <= LIMIT, "over the limit: {seen:?}");
        if !keep {
            slot.undo(&mut state, self.platform.as_ref(), now, &hold.id);
        }
        drop(state);
        if keep {
            self.counters.index_reservation(id, &slot);
            self.grants.fetch_add(1, Ordering::SeqCst);
        }
        keep
    }

    fn settle(&self, name: &str, id: &str, tokens: u128) {
        let slot = self.slot(name);
        slot.with(self.platform.as_ref(), |state, platform| {
            settle(slot.no, state, platform, self.now(), id, &charges(tokens))
        });
        self.recorded.fetch_add(tokens as u64, Ordering::SeqCst);
    }

    fn release(&self, name: &str, id: &str) {
        let slot = self.slot(name);
        slot.with(self.platform.as_ref(), |state, platform| release(slot.no, state, platform, self.now(), id));
    }

    fn record(&self, name: &str, tokens: u128) {
        let (slot, now) = (self.slot(name), self.now());
        slot.with(self.platform.as_ref(), |state, platform| {
            charge(slot.no, state, platform, (now, now), &charges(tokens), false);
        });
        self.recorded.fetch_add(tokens as u64, Ordering::SeqCst);
    }

    /// What all tenants use and hold, and that the platform says the same.
    fn totals(&self) -> (u128, u128) {
        let (mut used, mut held) = (0, 0);
        for slot in self.counters.all() {
            let status = slot.lock().status(self.now());
            let state = status.limits.iter().find(|state| state.limit.is_some()).unwrap();
            (used, held) = (used + state.used, held + state.held);
        }
        if let Some(platform) = &self.platform {
            let together = platform.lock().status(self.now())[0];
            assert_eq!((together.used, together.held), (used, held), "the platform is the sum of its tenants");
        }
        (used, held)
    }
}

/// What the threads do: each a life of reservations, with records and lapses between.
fn live(world: &World, thread: usize) {
    let name = ["one", "two"][thread % 2];
    let id = format!("r{thread}");
    let granted = world.reserve(name, &id, 4, true);
    match thread {
        0 if granted => world.settle(name, &id, 3),
        1 if granted => world.release(name, &id),
        2 if !world.gated => {
            world.second.fetch_add(3, Ordering::SeqCst);
            // It has lapsed by now, whoever looks first.
            world.counters.tidy(world.now());
        }
        3 => {
            world.reserve("one", "undone", 3, false);
            world.record("one", u128::from(!world.gated));
        }
        _ => {}
    }
    world.reserve(name, &format!("again{thread}"), 3, true);
    if let Some(platform) = world.platform.as_ref().filter(|_| world.gated) {
        let together = platform.lock().status(world.now())[0];
        assert!(together.used + together.held <= CEILING, "over the ceiling: {together:?}");
    }
}

fn threads_in_any_order(gated: bool) {
    let world = World::new(gated);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let world = Arc::clone(&world);
            shuttle::thread::spawn(move || live(&world, thread))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (used, held) = world.totals();
    assert_eq!(used, u128::from(world.recorded.load(Ordering::SeqCst)), "counted once each");
    assert!(held <= 2 * LIMIT && world.grants.load(Ordering::SeqCst) > 0);
    // In the end everything lapses.
    world.second.fetch_add(10, Ordering::SeqCst);
    assert_eq!(world.totals(), (used, 0));
}

/// Two threads with the same id: one hold, and one settlement of it.
fn one_id_in_any_order() {
    let world = World::new(true);
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let world = Arc::clone(&world);
            shuttle::thread::spawn(move || {
                world.reserve("one", "same", 6, true);
                if thread == 2 {
                    world.release("one", "same");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let grants = world.grants.load(Ordering::SeqCst);
    assert_eq!((grants, world.totals()), (1, (0, 0)), "granted once, and released once");
}

#[test]
fn in_every_order_of_threads_no_limit_is_passed_and_nothing_is_counted_twice() {
    // Read when this is compiled: a test of the counters asks neither the clock nor the environment.
    let orders = if option_env!("METERGATE_LONG").is_some() { 500_000 } else { 4_000 };
    // Unoptimized code needs more stack than the checker's threads have by themselves.
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 20;
        config
    };
    let random = || shuttle::Runner::new(RandomScheduler::new(orders), config());
    random().run(|| threads_in_any_order(true));
    random().run(|| threads_in_any_order(false));
    random().run(one_id_in_any_order);
    // Few changes of threads at the worst places: another way to choose orders.
    shuttle::Runner::new(PctScheduler::new(3, orders), config()).run(|| threads_in_any_order(true));
    println!("R9: {} orders of {THREADS} threads, no limit passed, nothing counted twice", 4 * orders);
}
