//! Deciding in memory: limitador, governor, and the least that anybody could do.

use std::collections::HashMap;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Instant;

use serde_json::{Value, json};

use crate::arguments::Arguments;

struct Asked {
    names: Vec<String>,
    rounds: u64,
}

impl Asked {
    fn read(arguments: &Arguments) -> Self {
        let tenants: u32 = arguments.number("tenants");
        Self { names: (0..tenants).map(|no| format!("tenant-{no}")).collect(), rounds: arguments.number("rounds") }
    }

    /// Each round's tenant, in the order that our own side asks in.
    fn measure(&self, mut decide: impl FnMut(&str) -> bool) -> Value {
        let mut granted = 0u64;
        let mut all = |rounds: u64| {
            for round in 0..rounds {
                let tenant = &self.names[(round.wrapping_mul(7_919) % self.names.len() as u64) as usize];
                granted += u64::from(decide(tenant));
            }
        };
        all(self.names.len() as u64);
        let started = Instant::now();
        all(self.rounds);
        let seconds = started.elapsed().as_secs_f64();
        assert_eq!(granted, self.rounds + self.names.len() as u64, "the limits are far away");
        json!({ "ns": seconds * 1e9 / self.rounds as f64 })
    }
}

/// In its in-memory storage, with the tenant as the variable of each limit.
pub fn limitador(arguments: &Arguments) -> Value {
    use ::limitador::RateLimiter;
    use ::limitador::limit::{Context, Limit, Namespace};
    let asked = Asked::read(arguments);
    let limiter = RateLimiter::new(4 * asked.names.len() as u64 + 1_000);
    let limits: u64 = arguments.number("limits");
    let windows = [86_400, 60, 3_600, 43_200];
    for place in 0..limits as usize {
        let variable = "tenant".try_into().expect("a variable's name");
        limiter.add_limit(Limit::new("metergate", 1_000_000_000_000, windows[place], vec![], vec![variable]));
    }
    let namespace: Namespace = "metergate".into();
    asked.measure(|tenant| {
        let values = HashMap::from([("tenant".to_owned(), tenant.to_owned())]);
        let context: Context<'_> = values.into();
        let answer = limiter.check_rate_limited_and_update(&namespace, &context, 1).expect("memory does not fail");
        !answer.limited
    })
}

/// A keyed limiter: one limit.
pub fn governor(arguments: &Arguments) -> Value {
    use ::governor::{Quota, RateLimiter};
    let asked = Asked::read(arguments);
    let limiter = RateLimiter::keyed(Quota::per_second(NonZeroU32::MAX));
    let names: HashMap<&str, String> = asked.names.iter().map(|name| (name.as_str(), name.clone())).collect();
    asked.measure(|tenant| limiter.check_key(&names[tenant]).is_ok())
}

/// A look-up and an addition under a limit, with nothing around it.
pub fn map(arguments: &Arguments) -> Value {
    let asked = Asked::read(arguments);
    let mut used: HashMap<&str, u64> = asked.names.iter().map(|name| (name.as_str(), 0)).collect();
    asked.measure(|tenant| {
        let Some(used) = used.get_mut(tenant) else { return false };
        *used += black_box(1);
        *used < 1_000_000_000_000
    })
}
