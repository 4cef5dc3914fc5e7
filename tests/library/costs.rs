//! Costs: events are priced when they are recorded, to the last digit, and what one cost never changes afterwards.

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::config::EngineSettings;
use metergate::domain::actor::Actor;
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::metrics::UsageMetrics;
use metergate::domain::models::{MODELS_MAX, ModelKey, ModelSums};
use metergate::domain::money::Money;
use metergate::domain::quota::{Item, QuotaType, Window};
use metergate::domain::tenant::{TenantChange, TenantPut};
use metergate::domain::time::PeriodType;
use metergate::enforcer::{EnforceError, ReserveRequest};
use metergate::rules::prices::PriceFormat;
use metergate::tracker::{ExplainedCost, RepriceRequest};

use super::{NOON, at, crash_copy, open, record, rows, tenant};

/// Dollars for a million tokens: 0.15 in, 0.075 cached, 0.60 out; above 200,000 tokens of input 0.30 in.
const PRICES: &str = r#"
[providers.openai]
source = "https://prices.example/"
checked = "2026-11-01"
speaks_for = ["gpt-*"]

[prices.openai.gpt-x]
also = ["gpt-x-*"]
input = { base = "0.15", above_200000 = "0.30" }
cached_input = "0.075"
output = "0.60"
"#;

fn put_prices(engine: &Metergate, text: &str) {
    let actor = Actor::named("a test");
    engine.tenants().change_prices_blocking(PriceFormat::Toml, text.to_owned(), &actor).unwrap();
}

/// A call of a model with so many tokens in, cached and out.
fn call(name: &str, model: &str, input: u64, cached: u64, output: u64) -> UsageEvent {
    UsageEvent {
        model: Some(model.into()),
        input_tokens: Some(input),
        cached_input_tokens: Some(cached),
        output_tokens: Some(output),
        ..UsageEvent::new(tenant(name), "api_call")
    }
}

fn with_id(id: &str, event: UsageEvent) -> UsageEvent {
    UsageEvent { event_id: Some(id.parse().unwrap()), ..event }
}

fn day(engine: &Metergate, name: &str) -> UsageMetrics {
    rows(engine, name, PeriodType::Daily).pop().unwrap()
}

fn dollars(text: &str) -> Money {
    text.parse().unwrap()
}

fn explained(engine: &Metergate, name: &str, id: &str) -> ExplainedCost {
    engine.usage_tracker().get_tenant_event(&tenant(name), &id.parse().unwrap()).unwrap().unwrap().cost
}

fn cost_used(engine: &Metergate, name: &str) -> u128 {
    super::state(engine, name, QuotaType::Cost, Window::Day).used
}

fn limit_cost(engine: &Metergate, name: &str, limit: &str) {
    let (quota_type, window) = (QuotaType::Cost, Window::Day);
    super::change(engine, name, TenantChange::Put(TenantPut::default()));
    let (limit, reason) = (Some(dollars(limit).femtos()), Some("a test".to_owned()));
    super::change(engine, name, TenantChange::SetOverride { quota_type, window, limit, reason, until: None });
}

#[test]
fn an_event_costs_its_counts_times_the_rates_to_the_last_digit() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    // 801 x 0.15 + 200 x 0.075 + 333 x 0.60 = 334.95 millionths.
    record(&engine, vec![call("acme", "gpt-x-2026-10-01", 1_001, 200, 333)]);
    assert_eq!(day(&engine, "acme").estimated_cost_usd, Some(dollars("0.00033495")));
    // Above 200,000 the whole request costs the tier: 200,001 x 0.30 millionths.
    record(&engine, vec![call("big", "gpt-x", 200_001, 0, 0), call("edge", "gpt-x", 200_000, 0, 0)]);
    assert_eq!(day(&engine, "big").estimated_cost_usd, Some(dollars("0.0600003")));
    assert_eq!(day(&engine, "edge").estimated_cost_usd, Some(dollars("0.03")));
}

#[test]
fn a_callers_cost_wins_and_an_unknown_model_is_never_free() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    let given = UsageEvent { cost_usd: Some(dollars("7")), ..call("acme", "gpt-x", 1_000_000, 0, 0) };
    let refused = UsageEvent { api_status_code: Some(429), ..call("acme", "gpt-x", 1_000_000, 0, 0) };
    let unclear = UsageEvent { model: Some("gpt-x".into()), ..super::event("acme", 50) };
    record(
        &engine,
        vec![
            with_id("given", given),
            with_id("unknown", call("acme", "nobody-knows", 5, 0, 5)),
            with_id("refused", refused),
            with_id("unclear", unclear),
            with_id("odd", call("acme", "gpt-x", 5, 6, 0)),
        ],
    );
    let row = day(&engine, "acme");
    assert_eq!((row.estimated_cost_usd, row.unpriced_events), (Some(dollars("7")), 3));
    assert!(matches!(explained(&engine, "acme", "given"), ExplainedCost::Given));
    for (id, part) in [
        ("unknown", "no price for this model"),
        ("refused", "rate limit"),
        ("unclear", "how many tokens were input"),
        ("odd", "cached"),
    ] {
        let ExplainedCost::Unpriced(reason) = explained(&engine, "acme", id) else { panic!("{id}") };
        assert!(reason.contains(part), "{id}: {reason}");
    }
    let (named, unlisted) = engine.tenants().unpriced_models();
    let named: Vec<(&str, u64)> = named.iter().map(|model| (model.model.as_str(), model.events)).collect();
    assert_eq!((named, unlisted), (vec![("gpt-x", 2), ("nobody-knows", 1)], 0));
}

#[test]
fn what_an_event_cost_stays_when_prices_change_and_is_explained_by_its_own_price() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    record(&engine, vec![with_id("before", call("acme", "gpt-x-1", 1_000_000, 0, 0))]);
    put_prices(&engine, &PRICES.replace("0.15", "1.5").replace("0.30", "3"));
    record(&engine, vec![with_id("after", call("acme", "gpt-x-1", 1_000_000, 0, 0))]);
    let look = |engine: &Metergate| {
        let total = |id| match explained(engine, "acme", id) {
            ExplainedCost::Estimated(estimated) => {
                assert_eq!(estimated.price.source.as_deref(), Some("https://prices.example/"));
                assert_eq!(estimated.alias.as_deref(), Some("gpt-x-1"));
                let cost = estimated.cost.unwrap();
                let sum: Money = cost.lines.iter().map(|line| line.amount).sum();
                assert_eq!((sum, cost.total), (estimated.amount, estimated.amount));
                (sum, cost.lines[0].above)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(total("before"), (dollars("0.3"), Some(200_000)));
        assert_eq!(total("after"), (dollars("3"), Some(200_000)));
        assert_eq!(day(engine, "acme").estimated_cost_usd, Some(dollars("3.3")));
    };
    look(&engine);
    let crashed = crash_copy(folder.path());
    engine.close();
    for folder in [folder.path(), crashed.path()] {
        let engine = Metergate::open_at(EngineSettings::new(folder), |_| clock.clone()).unwrap();
        look(&engine);
        let tracker = engine.usage_tracker();
        tracker.aggregate_usage_metrics(Some((at("2026-11-24T00:00:00Z"), at("2026-11-25T00:00:00Z")))).unwrap();
        look(&engine);
        assert_eq!(tracker.verify().unwrap().differences, []);
        // The same file again is no change, and the book is the one that was put.
        assert!(engine.tenants().prices().file.text.contains("1.5"));
    }
}

#[test]
fn a_retry_is_a_retry_whatever_prices_say_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    let event = || with_id("once", call("acme", "gpt-x", 1_000, 0, 0));
    let outcome = |engine: &Metergate, event| engine.usage_tracker().record_blocking(vec![event]).unwrap().remove(0);
    put_prices(&engine, "[providers.p]\n[prices.p.other]\ninput = \"1\"\n");
    assert_eq!(outcome(&engine, event()), EventOutcome::Accepted);
    put_prices(&engine, PRICES);
    assert_eq!(outcome(&engine, event()), EventOutcome::Duplicate);
    let other = UsageEvent { provider: Some("azure".into()), ..event() };
    assert_eq!(outcome(&engine, other), EventOutcome::Conflict);
    engine.close();
    let engine = Metergate::open_at(EngineSettings::new(folder.path()), |_| clock.clone()).unwrap();
    assert_eq!(outcome(&engine, event()), EventOutcome::Duplicate);
    let row = day(&engine, "acme");
    assert_eq!((row.api_calls_total, row.unpriced_events, row.estimated_cost_usd), (1, 1, None));
    let ExplainedCost::Unpriced(reason) = explained(&engine, "acme", "once") else { panic!() };
    assert!(reason.contains("has one now"), "{reason}");
}

#[test]
fn an_estimate_charges_a_cost_limit_to_the_last_digit_and_the_same_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    limit_cost(&engine, "acme", "0.001");
    record(&engine, vec![call("acme", "gpt-x", 1_001, 200, 333)]);
    assert_eq!(cost_used(&engine, "acme"), dollars("0.00033495").femtos());
    let reserve = |engine: &Metergate, amount: u128| {
        let items = vec![Item { quota_type: QuotaType::Cost, amount }];
        let (tenant_id, ttl_seconds) = (tenant("acme"), Some(60));
        let request = ReserveRequest { tenant_id, items, ttl_seconds, reservation_id: None, request_id: None };
        engine.quota_enforcer().reserve_blocking(request).unwrap()
    };
    let left = dollars("0.00066505").femtos();
    assert!(!reserve(&engine, left + 1).decision.allowed);
    let granted = reserve(&engine, left);
    assert!(granted.decision.allowed);
    // The hold is settled by what was really used: 100 x 0.15 millionths.
    let id = granted.reservation.unwrap().reservation_id;
    let settled = engine.quota_enforcer().settle_blocking(None, &id, vec![call("acme", "gpt-x", 100, 0, 0)]).unwrap();
    assert!(!settled.overage);
    let used = dollars("0.00034995").femtos();
    assert_eq!(cost_used(&engine, "acme"), used);
    let crashed = crash_copy(folder.path());
    engine.close();
    for folder in [folder.path(), crashed.path()] {
        let engine = Metergate::open_at(EngineSettings::new(folder), |_| clock.clone()).unwrap();
        assert_eq!(cost_used(&engine, "acme"), used);
        assert_eq!(day(&engine, "acme").estimated_cost_usd, Some(Money::from_femtos(used)));
    }
}

#[test]
fn a_tenant_with_a_cost_limit_is_denied_a_named_model_without_a_price() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    limit_cost(&engine, "acme", "1");
    let asked = |engine: &Metergate, name, model| engine.quota_enforcer().require_price(&tenant(name), None, model);
    let denied = asked(&engine, "acme", Some("nobody-knows")).unwrap_err();
    assert!(matches!(denied, EnforceError::UnpricedModel { .. }), "{denied}");
    assert_eq!(asked(&engine, "acme", Some("gpt-x-7")), Ok(()));
    assert_eq!(asked(&engine, "acme", None), Ok(()), "who names no model is decided by amounts");
    assert_eq!(asked(&engine, "free", Some("nobody-knows")), Ok(()), "no cost limit");
    engine.close();
    let settings = EngineSettings { allow_unpriced_models: true, ..EngineSettings::new(folder.path()) };
    let engine = Metergate::open_at(settings, |_| clock.clone()).unwrap();
    assert_eq!(asked(&engine, "acme", Some("nobody-knows")), Ok(()));
}

#[test]
fn rows_by_model_add_up_to_their_row_at_every_moment() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    let hours = ["2026-11-24T08:00:00Z", "2026-11-24T09:30:00Z", "2026-11-24T11:59:00Z"];
    let batch = |from: usize| {
        let models = (from..from + 40).map(|number| format!("gpt-x-{number:03}"));
        let mut events: Vec<UsageEvent> = models
            .enumerate()
            .map(|(place, model)| {
                let event = call("acme", &model, 100 + place as u64, 10, 7);
                UsageEvent { event_timestamp: Some(at(hours[place % 3])), ..event }
            })
            .collect();
        events.push(super::event_at("acme", at(hours[0]), 17));
        events
    };
    let mut previous = None;
    let mut look = |engine: &Metergate, unchanged: bool| {
        let tracker = engine.usage_tracker();
        let (from, to) = (at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z"));
        let mut shown = Vec::new();
        for period in PeriodType::ALL {
            for (row, models) in tracker.get_tenant_usage_by_model(&tenant("acme"), from, to, period).unwrap() {
                let mut sum = ModelSums::default();
                models.iter().for_each(|(_, sums)| sum.add(sums));
                let whole = [
                    row.api_calls_total,
                    row.total_tokens_used,
                    row.input_tokens,
                    row.cached_input_tokens,
                    row.output_tokens,
                    row.reasoning_tokens,
                    row.embeddings_tokens_used,
                    row.unpriced_events,
                ];
                assert_eq!(sum.counts[..ModelSums::OF_PERIOD], whole);
                assert_eq!(Some(sum.cost), row.estimated_cost_usd.or(Some(Money::ZERO)));
                let named = models.iter().filter(|(key, _)| matches!(key, ModelKey::Model(_))).count();
                assert!(named <= MODELS_MAX);
                shown.push((row.period, models));
            }
        }
        if unchanged {
            assert_eq!(previous.as_ref(), Some(&shown));
        }
        previous = Some(shown);
    };
    record(&engine, batch(40));
    look(&engine, false);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    look(&engine, true);
    // Forty more that come before those by name: sixteen of the first give way to `other`.
    record(&engine, batch(0));
    look(&engine, false);
    let day = |engine: &Metergate| {
        let (from, to) = (at("2026-11-24T00:00:00Z"), at("2026-11-25T00:00:00Z"));
        let tracker = engine.usage_tracker();
        tracker.get_tenant_usage_by_model(&tenant("acme"), from, to, PeriodType::Daily).unwrap().remove(0).1
    };
    let models = day(&engine);
    assert_eq!(models.len(), MODELS_MAX + 2);
    assert_eq!((&models[64].0, models[64].1.counts[0]), (&ModelKey::Other, 16));
    assert_eq!((&models[65].0, models[65].1.counts[0], models[65].1.counts[1]), (&ModelKey::None, 2, 34));
    let crashed = crash_copy(folder.path());
    engine.close();
    for folder in [folder.path(), crashed.path()] {
        let engine = Metergate::open_at(EngineSettings::new(folder), |_| clock.clone()).unwrap();
        look(&engine, true);
        let tracker = engine.usage_tracker();
        tracker.aggregate_usage_metrics(None).unwrap();
        look(&engine, true);
        tracker.aggregate_usage_metrics(Some((at("2026-11-24T00:00:00Z"), at("2026-11-25T00:00:00Z")))).unwrap();
        look(&engine, true);
        let again = tracker.aggregate_usage_metrics(Some((at(hours[0]), at(NOON)))).unwrap();
        assert_eq!(again.rows_written, 0);
        assert_eq!(tracker.verify().unwrap().differences, []);
        let (from, to) = (at("2026-11-24T00:00:00Z"), at("2026-11-25T00:00:00Z"));
        assert_eq!(tracker.get_usage_by_model(PeriodType::Daily, from, to).unwrap(), day(&engine));
    }
}

#[test]
fn prices_change_with_an_audit_record_and_fill_only_an_empty_store() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    let shipped = engine.tenants().prices();
    assert!(shipped.book.models() > 100 && shipped.has_price(None, "gpt-4o", at(NOON)));
    put_prices(&engine, PRICES);
    let refused = engine.tenants().prices_diff(PriceFormat::Toml, "[prices]\nnonsense = 1");
    assert!(refused.is_err());
    engine.close();
    let audit = super::audit_of(folder.path());
    let [changed] = audit.as_slice() else { panic!("{audit:?}") };
    assert_eq!(changed.entry.event_type, "prices_changed");
    assert!(changed.entry.new_values.as_ref().unwrap().contains("openai/gpt-x: added"));
    let engine = Metergate::open_at(EngineSettings::new(folder.path()), |_| clock.clone()).unwrap();
    assert_eq!(engine.tenants().prices().file.text, PRICES);
}

#[test]
fn the_clock_of_an_event_decides_which_price_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _): (Metergate, Clock) = open(folder.path(), at(NOON));
    let later = "[[prices.openai.gpt-x.later]]\nfrom = \"2026-11-24\"\ninput = \"0.10\"\n";
    put_prices(&engine, &format!("{PRICES}\n{later}"));
    let on = |time: &str| UsageEvent { event_timestamp: Some(at(time)), ..call("acme", "gpt-x", 1_000_000, 0, 0) };
    record(&engine, vec![on("2026-11-23T23:59:59Z"), on("2026-11-24T00:00:00Z")]);
    let costs: Vec<_> = rows(&engine, "acme", PeriodType::Daily).iter().map(|row| row.estimated_cost_usd).collect();
    assert_eq!(costs, [Some(dollars("0.3")), Some(dollars("0.1"))]);
}

#[test]
fn a_past_range_priced_again_changes_its_events_and_rows_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    put_prices(&engine, "[providers.openai]\nspeaks_for = [\"gpt-*\"]\n[prices.openai.gpt-x]\ninput = \"1\"\n");
    limit_cost(&engine, "acme", "100");
    let on = |id: &str, time: &str, event| with_id(id, UsageEvent { event_timestamp: Some(at(time)), ..event });
    let (day_before, hour, later) = ("2026-11-23T10:00:00Z", "2026-11-24T09:15:00Z", "2026-11-24T10:00:00Z");
    let given = UsageEvent { cost_usd: Some(dollars("9")), ..call("acme", "gpt-x", 1_000_000, 0, 0) };
    record(
        &engine,
        vec![
            on("yesterday", day_before, call("acme", "gpt-x", 1_000_000, 0, 0)),
            on("wrong", hour, call("acme", "gpt-x", 1_000_000, 0, 0)),
            on("unpriced", hour, call("acme", "gpt-x-new", 1_000_000, 0, 0)),
            on("given", hour, given),
            on("other", hour, call("other", "gpt-x", 1_000_000, 0, 0)),
            on("later", later, call("acme", "gpt-x", 1_000_000, 0, 0)),
            on("nobody", hour, call("acme", "nobody-knows", 1_000_000, 0, 0)),
        ],
    );
    let used = cost_used(&engine, "acme");
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    put_prices(&engine, PRICES);
    let ask = |dry_run| RepriceRequest {
        from: at("2026-11-24T09:00:00Z"),
        to: at(later),
        tenant_id: Some(tenant("acme")),
        dry_run,
        actor: Actor::named("a test"),
    };
    let before = (rows(&engine, "acme", PeriodType::Daily), rows(&engine, "other", PeriodType::Daily));
    let told = engine.usage_tracker().reprice(&ask(true)).unwrap();
    assert_eq!((told.events, told.changed, told.without_price), (3, 2, 1));
    assert_eq!(rows(&engine, "acme", PeriodType::Daily), before.0);
    assert_eq!(engine.usage_tracker().reprice(&ask(false)).unwrap(), told);
    let difference = &told.differences[&(tenant("acme"), "gpt-x".to_owned())];
    assert_eq!((difference.before, difference.after), (dollars("1"), dollars("0.3")));
    assert_eq!(told.differences[&(tenant("acme"), "gpt-x-new".to_owned())].newly_priced, 1);
    assert_eq!(engine.usage_tracker().reprice(&ask(false)).unwrap().changed, 0, "a second time changes nothing");

    let look = |engine: &Metergate| {
        let days: Vec<_> = rows(engine, "acme", PeriodType::Daily);
        let costs: Vec<_> = days.iter().map(|row| (row.estimated_cost_usd.unwrap(), row.unpriced_events)).collect();
        // 0.3 + 0.3 + 9 + 1, and the one that nobody knows.
        assert_eq!(costs, [(dollars("1"), 0), (dollars("10.6"), 1)]);
        assert_eq!(rows(engine, "acme", PeriodType::Monthly)[0].estimated_cost_usd, Some(dollars("11.6")));
        assert_eq!(rows(engine, "other", PeriodType::Daily), before.1);
        assert_eq!(cost_used(engine, "acme"), used, "what was charged stays charged");
        let tracker = engine.usage_tracker();
        assert_eq!(tracker.verify().unwrap().differences, []);
        let whole = (at("2026-11-23T00:00:00Z"), at("2026-11-25T00:00:00Z"));
        assert_eq!(tracker.aggregate_usage_metrics(Some(whole)).unwrap().rows_written, 0);
        for (id, cost) in [("wrong", "0.3"), ("unpriced", "0.3"), ("later", "1"), ("yesterday", "1")] {
            let ExplainedCost::Estimated(estimated) = explained(engine, "acme", id) else { panic!("{id}") };
            assert_eq!(estimated.amount, dollars(cost), "{id}");
        }
        let again = on("wrong", hour, call("acme", "gpt-x", 1_000_000, 0, 0));
        assert_eq!(tracker.record_blocking(vec![again]).unwrap(), [EventOutcome::Duplicate]);
    };
    look(&engine);
    let crashed = crash_copy(folder.path());
    engine.close();
    for folder in [folder.path(), crashed.path()] {
        look(&Metergate::open_at(EngineSettings::new(folder), |_| clock.clone()).unwrap());
    }
    let audit = super::audit_of(folder.path());
    let repriced = audit.iter().find(|record| record.entry.event_type == "events_repriced").unwrap();
    let values = repriced.entry.new_values.as_ref().unwrap();
    assert!(values.contains("old_prices") && values.contains("gpt-x-new"), "{values}");
}
