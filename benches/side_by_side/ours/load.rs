//! Fills a store: events over 30 days, made while they are recorded, so that memory is the engine's.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use metergate::Metergate;
use metergate::domain::event::UsageEvent;
use metergate::domain::time::{PeriodType, Timestamp};
use serde_json::{Value, json};

use super::{all_accepted, check_totals, open, pages, record_all, register};
use crate::bench::now;
use crate::traffic::arguments::Arguments;
use crate::traffic::{DAY, Templates, Traffic, Wanted, tenants, usage_event};

/// Batches of traffic, with the tokens in them added up.
pub struct Batches<'a> {
    traffic: Traffic<'a>,
    names: &'a [metergate::domain::tenant::TenantId],
    tokens: &'a mut u64,
}

impl<'a> Batches<'a> {
    /// In batches of a thousand.
    pub fn new(traffic: Traffic<'a>, names: &'a [metergate::domain::tenant::TenantId], tokens: &'a mut u64) -> Self {
        Self { traffic, names, tokens }
    }
}

impl Iterator for Batches<'_> {
    type Item = Vec<UsageEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch: Vec<_> = self.traffic.by_ref().take(1_000).map(|event| usage_event(&event, self.names)).collect();
        *self.tokens += batch.iter().map(UsageEvent::tokens).sum::<u64>();
        (!batch.is_empty()).then_some(batch)
    }
}

/// `events` of `tenants` over `days` days, aggregated and closed.
pub fn load(arguments: &Arguments) -> Value {
    let folder = Path::new(arguments.text("folder"));
    let (events, number): (usize, u32) = (arguments.number("events"), arguments.number("tenants"));
    let (templates, names) = (Templates::load(), tenants(number));
    // An hour less: the first event is not to be at the very edge of what is kept.
    let span = arguments.number::<i64>("days") * DAY - DAY / 24;
    let v7 = arguments.text("ids") == "v7";
    let wanted = Wanted { events, tenants: number, end: now(), span, v7, seed: 42 };
    let engine = open(folder);
    let registered = register(&engine, names.iter().cloned());
    let mut tokens = 0;
    let started = Instant::now();
    let batches = Batches::new(Traffic::new(&templates, wanted), &names, &mut tokens);
    record_all(&engine, 3, batches, all_accepted);
    let rate = events as f64 / started.elapsed().as_secs_f64();
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    let counted = events as u64 + registered;
    check_totals(&engine, counted, tokens);
    let rows: u64 = (0..=span / DAY + 1).map(|back| tenants_of_day(&engine, back)).sum();
    engine.close();
    drop(engine);
    let pages = pages::of(folder);
    json!({
        "rate": rate, "events": counted, "tokens": tokens, "bytes_per_event": pages.events as f64 / counted as f64,
        "bytes_per_tenant_day": pages.daily_rows as f64 / rows as f64,
        "with_hourly": pages.metrics as f64 / rows as f64,
    })
}

/// How many tenants have a row of the day so many days back.
fn tenants_of_day(engine: &Metergate, back: i64) -> u64 {
    let day = now() - now() % DAY - back * DAY;
    let (from, to) = (Timestamp::from_micros(day), Timestamp::from_micros(day + DAY));
    engine.usage_tracker().get_multi_tenant_stats(PeriodType::Daily, from, to).unwrap().total_tenants
}

/// Records some more, says how many were acknowledged, and then waits to be killed.
pub fn dirty(arguments: &Arguments) -> Value {
    let engine = open(Path::new(arguments.text("folder")));
    let (events, number): (usize, u32) = (arguments.number("events"), arguments.number("tenants"));
    let (templates, names, mut tokens) = (Templates::load(), tenants(number), 0);
    let wanted =
        Wanted { events, tenants: number, end: now(), span: DAY / 24, v7: true, seed: arguments.number("seed") };
    record_all(&engine, 3, Batches::new(Traffic::new(&templates, wanted), &names, &mut tokens), all_accepted);
    println!("{}", json!({ "tokens": tokens }));
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}
