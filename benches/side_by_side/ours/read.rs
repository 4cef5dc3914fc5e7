//! Starting and reading over a store that was filled before.

use std::path::Path;
use std::time::Instant;

use metergate::domain::time::{PeriodType, Timestamp};
use metergate::tracker::ConsumerMetric;
use serde_json::{Value, json};

use super::{check_totals, open};
use crate::bench::now;
use crate::traffic::arguments::{Arguments, percentiles};
use crate::traffic::{DAY, tenant};

/// How long until it answers; and whether all that was acknowledged is there.
pub fn start(arguments: &Arguments) -> Value {
    let started = Instant::now();
    let engine = open(Path::new(arguments.text("folder")));
    engine.is_ready().unwrap();
    engine.quota_enforcer().check_tenant_quota(&tenant(0), 1).unwrap();
    let ms = started.elapsed().as_secs_f64() * 1e3;
    check_totals(&engine, arguments.number("events"), arguments.number("tokens"));
    json!({ "ms": ms, "rss_mb": crate::memory::resident_mb("self", "VmHWM") })
}

/// One tenant's 30 days, tenant after tenant.
pub fn usage(arguments: &Arguments) -> Value {
    let engine = open(Path::new(arguments.text("folder")));
    let tracker = engine.usage_tracker();
    let tenants: u32 = arguments.number("tenants");
    let (from, to) = (Timestamp::from_micros(now() - 30 * DAY), Timestamp::from_micros(now() + DAY));
    let (mut rows, mut kept) = (0, Vec::new());
    for round in 0..4_000u32 {
        let tenant = tenant(round.wrapping_mul(7_919) % tenants);
        let begun = Instant::now();
        // A tenant to whom no event fell is none.
        let Ok(answer) = tracker.get_tenant_usage(&tenant, from, to, PeriodType::Daily) else { continue };
        kept.push(begun.elapsed().as_nanos() as u64);
        rows += answer.len();
    }
    let number = kept.len();
    let [p50, p99, _, _] = percentiles(&mut kept[number.min(1_000) / 2..]);
    json!({ "p50_ms": p50, "p99_ms": p99, "rows": rows as f64 / number as f64 })
}

/// What the admin's first page asks: totals, the top ten, and who exceeds; over 30 days.
pub fn overview(arguments: &Arguments) -> Value {
    let engine = open(Path::new(arguments.text("folder")));
    let tracker = engine.usage_tracker();
    let (from, to) = (Timestamp::from_micros(now() - 30 * DAY), Timestamp::from_micros(now() + DAY));
    let once = |_| {
        let begun = Instant::now();
        let totals = tracker.get_multi_tenant_stats(PeriodType::Daily, from, to).unwrap();
        let top = tracker.get_top_consumers(ConsumerMetric::Tokens, PeriodType::Daily, from, to, 10).unwrap();
        tracker.get_tenants_exceeding_quota(PeriodType::Daily, from, to).unwrap();
        assert!(totals.total_tenants > 0 && !top.is_empty());
        begun.elapsed().as_nanos() as u64
    };
    let mut times: Vec<u64> = (0..7).map(once).collect();
    // Nothing is kept from before it.
    let first = times[0] as f64 / 1e6;
    let [p50, _, _, most] = percentiles(&mut times);
    json!({ "first_ms": first, "p50_ms": p50, "max_ms": most })
}
