//! A tenant's own prices and markup: exact, from an instant on, and what an event cost never changes afterwards.

use metergate::Metergate;
use metergate::config::EngineSettings;
use metergate::domain::actor::Actor;
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::money::Money;
use metergate::domain::quota::{QuotaType, Window};
use metergate::domain::tenant::{TenantChange, TenantPut};
use metergate::domain::time::{PeriodType, Timestamp};
use metergate::rules::prices::{PriceFormat, own_rates};
use metergate::tenants::{AdminError, TenantPrice};
use metergate::tracker::{EstimatedCost, ExplainedCost, RepriceRequest};

use super::{NOON, at, change, crash_copy, open, record, rows, tenant};

/// Dollars for a million tokens.
const PRICES: &str = r#"
[providers.openai]
speaks_for = ["gpt-*"]

[prices.openai.gpt-x]
also = ["gpt-x-*"]
input = { base = "0.15", above_200000 = "0.30" }
cached_input = "0.075"
output = "0.60"
"#;

/// 801 x 0.15 + 200 x 0.075 + 333 x 0.60 millionths by the list.
const LISTED: &str = "0.00033495";

fn put_prices(engine: &Metergate, text: &str) {
    let actor = Actor::named("a test");
    engine.tenants().change_prices_blocking(PriceFormat::Toml, text.to_owned(), &actor).unwrap();
}

fn register(engine: &Metergate, name: &str) {
    change(engine, name, TenantChange::Put(TenantPut::default()));
}

fn terms(from: Option<Timestamp>, markup: &str, rates: &str) -> TenantChange {
    let rates = own_rates(&serde_json::from_str(rates).unwrap()).unwrap();
    TenantChange::SetPrices { from, markup: markup.parse().unwrap(), rates }
}

/// A call with an id.
fn call(id: &str, name: &str, model: &str) -> UsageEvent {
    UsageEvent {
        event_id: Some(id.parse().unwrap()),
        model: Some(model.into()),
        input_tokens: Some(1_001),
        cached_input_tokens: Some(200),
        output_tokens: Some(333),
        ..UsageEvent::new(tenant(name), "api_call")
    }
}

fn explained(engine: &Metergate, name: &str, id: &str) -> EstimatedCost {
    let found = engine.usage_tracker().get_tenant_event(&tenant(name), &id.parse().unwrap()).unwrap().unwrap();
    match found.cost {
        ExplainedCost::Estimated(estimated) => *estimated,
        other => panic!("{id}: {other:?}"),
    }
}

/// What it cost, by whose price, with which markup.
fn cost(engine: &Metergate, name: &str, id: &str) -> (String, bool, i32) {
    let estimated = explained(engine, name, id);
    let lines = estimated.cost.unwrap_or_else(|| panic!("{id} is not explained"));
    let sum: Money = lines.lines.iter().map(|line| line.amount).sum();
    assert_eq!(estimated.markup.on(sum), estimated.amount, "{id}");
    (estimated.amount.to_string(), estimated.price.tenant_id.is_some(), estimated.markup.basis_points())
}

fn told(cost: &str, own: bool, points: i32) -> (String, bool, i32) {
    (cost.to_owned(), own, points)
}

fn day_cost(engine: &Metergate, name: &str) -> Option<String> {
    rows(engine, name, PeriodType::Daily).pop().unwrap().estimated_cost_usd.map(|cost| cost.to_string())
}

#[test]
fn own_rates_and_a_markup_are_exact_and_nobody_else_pays_them() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    ["plain", "marked", "own", "both"].iter().for_each(|name| register(&engine, name));
    let own = r#"{"openai": {"gpt-x": {"input": "0.1", "cached_input": "0.01", "output": "0.5"}}}"#;
    change(&engine, "marked", terms(None, "12.5%", "{}"));
    change(&engine, "own", terms(None, "0%", own));
    change(&engine, "both", terms(None, "-10%", own));
    for name in ["plain", "marked", "own", "both", "stranger"] {
        // By a dated name: the tenant's own price is found by every name of the list's model.
        record(&engine, vec![call("x", name, "gpt-x-2026-10-01")]);
    }
    let costs = ["plain", "marked", "own", "both", "stranger"].map(|name| cost(&engine, name, "x"));
    assert_eq!(
        costs,
        [
            told(LISTED, false, 0),
            told("0.00037681875", false, 1_250),
            // 801 x 0.1 + 200 x 0.01 + 333 x 0.5 = 248.6 millionths, and no markup on it.
            told("0.0002486", true, 0),
            told("0.0002486", true, 0),
            told(LISTED, false, 0),
        ]
    );
    assert_eq!(explained(&engine, "own", "x").alias.as_deref(), Some("gpt-x-2026-10-01"));
    assert_eq!(explained(&engine, "own", "x").price.tenant_id, Some(tenant("own")));
    assert_eq!(explained(&engine, "marked", "x").alias.as_deref(), Some("gpt-x-2026-10-01"));
    assert!(explained(&engine, "own", "x").price.row.id.starts_with("tenant own: openai/gpt-x@2026-11-24~"));
}

#[test]
fn terms_begin_at_their_instant_by_the_time_of_the_event() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    register(&engine, "acme");
    let on = |id: &str, time: &str| UsageEvent { event_timestamp: Some(at(time)), ..call(id, "acme", "gpt-x") };
    change(&engine, "acme", terms(Some(at("2026-11-24T11:00:00Z")), "100%", "{}"));
    change(&engine, "acme", terms(Some(at("2026-11-25T00:00:00Z")), "200%", "{}"));
    record(&engine, vec![on("before", "2026-11-24T10:59:59.999999Z"), on("at", "2026-11-24T11:00:00Z")]);
    clock.set(at("2026-11-25T00:00:00Z"));
    record(&engine, vec![on("late", "2026-11-24T23:59:59Z"), call("next day", "acme", "gpt-x")]);
    change(&engine, "acme", TenantChange::EndPrices { from: None });
    clock.set(at("2026-11-25T00:00:01Z"));
    record(&engine, vec![call("ended", "acme", "gpt-x"), on("still late", "2026-11-24T12:00:00Z")]);
    let double = "0.0006699";
    for (id, expected, points) in [
        ("before", LISTED, 0),
        ("at", double, 10_000),
        ("late", double, 10_000),
        ("next day", "0.00100485", 20_000),
        ("ended", LISTED, 0),
        ("still late", double, 10_000),
    ] {
        assert_eq!(cost(&engine, "acme", id), told(expected, false, points), "{id}");
    }
}

#[test]
fn a_change_of_terms_or_prices_never_alters_what_an_event_cost_over_crash_and_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    register(&engine, "acme");
    let own = |input: &str| format!(r#"{{"openai": {{"gpt-x": {{"input": "{input}", "output": "0"}}}}}}"#);
    record(&engine, vec![call("list", "acme", "gpt-x")]);
    change(&engine, "acme", terms(None, "50%", &own("1")));
    record(&engine, vec![call("own", "acme", "gpt-x")]);
    // Rows of the list and of tenants are numbered together: neither takes a number of the other.
    put_prices(&engine, &PRICES.replace("0.15", "0.45").replace("0.30", "0.90"));
    clock.advance(1_000_000);
    change(&engine, "acme", terms(None, "50%", &own("2")));
    record(&engine, vec![call("dearer", "acme", "gpt-x")]);
    clock.advance(1_000_000);
    change(&engine, "acme", terms(None, "50%", "{}"));
    record(&engine, vec![call("marked", "acme", "gpt-x")]);
    let look = |engine: &Metergate| {
        assert_eq!(cost(engine, "acme", "list"), told(LISTED, false, 0));
        assert_eq!(cost(engine, "acme", "own"), told("0.001001", true, 0));
        assert_eq!(cost(engine, "acme", "dearer"), told("0.002002", true, 0));
        // (801 x 0.45 + 200 x 0.075 + 333 x 0.60) x 1.5 = 862.875 millionths.
        assert_eq!(cost(engine, "acme", "marked"), told("0.000862875", false, 5_000));
        assert_eq!(day_cost(engine, "acme").as_deref(), Some("0.004200825"));
        let numbers = ["list", "own", "dearer", "marked"].map(|id| explained(engine, "acme", id).price_no);
        let mut apart = numbers.to_vec();
        apart.sort_unstable();
        apart.dedup();
        assert_eq!(apart.len(), 4, "{numbers:?}");
        assert_eq!(engine.tenants().get(&tenant("acme")).unwrap().price_terms.len(), 3);
    };
    look(&engine);
    let crashed = crash_copy(folder.path());
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    look(&engine);
    engine.close();
    for (place, folder) in [folder.path(), crashed.path()].into_iter().enumerate() {
        let engine = Metergate::open_at(EngineSettings::new(folder), |_| clock.clone()).unwrap();
        look(&engine);
        assert_eq!(engine.usage_tracker().verify().unwrap().differences, []);
        // What comes now is priced by what was set, and a further change gets numbers of its own.
        record(&engine, vec![call("later", "acme", "gpt-x")]);
        assert_eq!(cost(&engine, "acme", "later"), told("0.000862875", false, 5_000), "{place}");
        clock.advance(1_000_000);
        change(&engine, "acme", terms(None, "0%", &own("3")));
        record(&engine, vec![call("last", "acme", "gpt-x")]);
        assert_eq!(cost(&engine, "acme", "last"), told("0.003003", true, 0), "{place}");
        assert_eq!(cost(&engine, "acme", "own"), told("0.001001", true, 0), "{place}");
    }
}

#[test]
fn a_retry_is_a_retry_whatever_a_tenant_pays_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    record(&engine, vec![call("once", "acme", "gpt-x")]);
    change(&engine, "acme", terms(Some(at("2026-11-01T00:00:00Z")), "50%", "{}"));
    let again = engine.usage_tracker().record_blocking(vec![call("once", "acme", "gpt-x")]).unwrap();
    assert_eq!(again, [EventOutcome::Duplicate]);
    assert_eq!(
        (cost(&engine, "acme", "once"), day_cost(&engine, "acme").unwrap()),
        (told(LISTED, false, 0), LISTED.to_owned())
    );
}

#[test]
fn a_correction_of_the_past_is_priced_again_with_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    register(&engine, "acme");
    record(&engine, vec![call("a", "acme", "gpt-x"), call("b", "acme", "gpt-x"), call("c", "other", "gpt-x")]);
    let from = Some(at("2026-11-24T00:00:00Z"));
    change(&engine, "acme", terms(from, "12.5%", "{}"));
    let ask = || RepriceRequest {
        from: at("2026-11-24T00:00:00Z"),
        to: at("2026-11-25T00:00:00Z"),
        tenant_id: None,
        dry_run: false,
        actor: Actor::named("a test"),
    };
    let told_of = engine.usage_tracker().reprice(&ask()).unwrap();
    assert_eq!((told_of.events, told_of.changed), (3, 2), "only this tenant's have another cost");
    let difference = &told_of.differences[&(tenant("acme"), "gpt-x".to_owned())];
    assert_eq!(
        (difference.before.to_string(), difference.after.to_string()),
        ("0.0006699".to_owned(), "0.0007536375".to_owned())
    );
    let look = |engine: &Metergate| {
        assert_eq!(cost(engine, "acme", "a"), told("0.00037681875", false, 1_250));
        assert_eq!(day_cost(engine, "acme").as_deref(), Some("0.0007536375"));
        assert_eq!(cost(engine, "other", "c"), told(LISTED, false, 0));
        assert_eq!(engine.usage_tracker().verify().unwrap().differences, []);
    };
    look(&engine);
    assert_eq!(engine.usage_tracker().reprice(&ask()).unwrap().changed, 0, "a second time changes nothing");
    engine.close();
    let engine = Metergate::open_at(EngineSettings::new(folder.path()), |_| clock.clone()).unwrap();
    look(&engine);
    engine.close();
    let audit = super::audit_of(folder.path());
    let repriced = audit.iter().find(|record| record.entry.event_type == "events_repriced").unwrap();
    assert!(repriced.entry.new_values.as_ref().unwrap().contains("0.0007536375"));
}

#[test]
fn a_model_that_only_the_tenant_has_a_price_for_is_priced_and_charged_to_its_cost_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), at(NOON));
    put_prices(&engine, PRICES);
    register(&engine, "acme");
    let (quota_type, window, limit) = (QuotaType::Cost, Window::Day, Some(10_u128.pow(15)));
    change(&engine, "acme", TenantChange::SetOverride { quota_type, window, limit, reason: None, until: None });
    let asked = |provider| engine.quota_enforcer().require_price(&tenant("acme"), provider, Some("llm-7"));
    assert!(asked(None).is_err());
    change(&engine, "acme", terms(None, "10%", r#"{"house": {"llm-7": {"input": "3", "output": "0"}}}"#));
    assert_eq!((asked(None), asked(Some("house"))), (Ok(()), Ok(())));
    assert!(asked(Some("openai")).is_err(), "it is another provider's");
    record(&engine, vec![call("x", "acme", "llm-7"), call("y", "acme", "gpt-x")]);
    assert_eq!(cost(&engine, "acme", "x"), told("0.003003", true, 0));
    // 0.003003, and 0.00033495 x 1.1.
    let used = super::state(&engine, "acme", QuotaType::Cost, Window::Day).used;
    assert_eq!(Money::from_femtos(used).to_string(), "0.003371445");
    let price = |model| engine.tenants().price_for(&tenant("acme"), None, model).unwrap();
    assert!(matches!(price("llm-7"), TenantPrice::Own(row, _) if row.model == "llm-7"));
    assert_eq!(price("gpt-x"), TenantPrice::List("10%".parse().unwrap()));
}

#[test]
fn every_change_is_audited_once_and_what_says_nothing_or_nobody_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), at(NOON));
    let set = |name: &str, change| engine.tenants().change_blocking(&tenant(name), change, &Actor::named("ann"));
    let refused = set("nobody", terms(None, "10%", "{}")).unwrap_err();
    assert!(matches!(refused, AdminError::UnknownTenant(_)), "{refused}");
    register(&engine, "acme");
    let refused = set("acme", terms(None, "0%", "{}")).unwrap_err();
    assert!(matches!(refused, AdminError::Invalid { field: "markup_bp", .. }), "{refused}");
    let rates = r#"{"openai": {"gpt-x": {"input": "2", "output": {"base": "8", "above_200000": "12"}}}}"#;
    let from = Some(at("2026-12-01T00:00:00Z"));
    set("acme", terms(from, "12.5%", rates)).unwrap();
    set("acme", terms(from, "12.5%", rates)).unwrap();
    set("acme", terms(from, "15%", rates)).unwrap();
    set("acme", TenantChange::EndPrices { from: None }).unwrap();
    set("acme", TenantChange::EndPrices { from: None }).unwrap();
    assert!(engine.tenants().get(&tenant("acme")).unwrap().price_terms.is_empty());
    engine.close();
    let audit = super::audit_of(folder.path());
    let of_prices: Vec<_> =
        audit.iter().map(|record| &record.entry).filter(|entry| entry.entity_type == "tenant_prices").collect();
    let kinds: Vec<_> = of_prices.iter().map(|entry| (entry.event_type.as_str(), entry.actor_id.as_deref())).collect();
    let (set, removed) = (("tenant_prices_set", Some("ann")), ("tenant_prices_removed", Some("ann")));
    assert_eq!(kinds, [set, set, removed]);
    assert_eq!(of_prices[0].tenant_id, Some(tenant("acme")));
    let new = of_prices[1].new_values.as_deref().unwrap();
    assert!(
        new.contains(r#""markup_bp":1500"#) && new.contains("openai/gpt-x input: 2; output: 8, 12 above 200000"),
        "{new}"
    );
    assert!(of_prices[1].old_values.as_deref().unwrap().contains(r#""markup_bp":1250"#));
}
