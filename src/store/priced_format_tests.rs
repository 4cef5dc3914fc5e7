//! What priced events, prices and tenants with prices of their own were once written as is read for ever.

use std::path::PathBuf;
use std::sync::Arc;

use super::block::{Block, cut_into_blocks};
use super::format_tests::{acme, at, bytes_in, bytes_of, commit, event, third_operations, warned_tenant, write_lines};
use super::*;
use crate::domain::compact_event::CompactEvent;
use crate::domain::event::{Estimate, UsageEvent};
use crate::domain::models::ModelSums;
use crate::domain::price::{PriceClass, PriceRow, Rate, Tier, TierRule, TieredRate, Validity};
use crate::domain::price_terms::{Markup, OwnRate, PriceTerms};
use crate::domain::tenant::Tenant;
use crate::domain::usage::UsageCounts;

/// Blocks whose events have fields that came later: the provider, its usage, and the estimate.
fn priced_fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/fixtures/priced-events.txt")
}

pub(super) fn priced_event() -> StoredEvent {
    let mut stored = event();
    let usage = UsageCounts { cache_write_tokens: Some(40), web_searches: Some(0), ..UsageCounts::default() };
    stored.event = CompactEvent::from_usage(UsageEvent {
        cost_usd: None,
        provider: Some("openai".into()),
        usage: Some(Box::new(usage)),
        estimate: Some(Estimate { cost: "0.000012345".parse().unwrap(), price_no: 300, markup: Markup::NONE }),
        ..stored.to_usage(acme())
    });
    stored
}

pub(super) fn priced_commit() -> Commit {
    let plain = StoredEvent { entry_id: 42, event_id: "call-2".parse().unwrap(), ..event() };
    Commit { entries: 2, events: vec![priced_event(), plain], ..commit() }
}

pub(super) fn price() -> StoredPrice {
    let rate = |femtos| Rate::from_femtos(femtos);
    let input = TieredRate { base: rate(150_000_000), tiers: vec![Tier { above: 200_000, rate: rate(300_000_000) }] };
    let row = PriceRow {
        id: "openai/gpt-x@2026-11-01~0123456789abcdef".to_owned(),
        provider: "openai".to_owned(),
        model: "gpt-x".to_owned(),
        validity: Validity { from: Some(at("2026-11-01T00:00:00Z")), daily: Some((59_400, 1_800)) },
        tier_rule: TierRule::Graduated,
        rates: [(PriceClass::Input, input), (PriceClass::WebSearch, rate(10).into())].into(),
    };
    StoredPrice { row, source: Some("https://prices.example/".to_owned()), checked: None, tenant_id: None }
}

fn book() -> StoredBook {
    let text = "[providers.p]\n".to_owned();
    StoredBook { format: "metergate".to_owned(), text, applied_at: at("2026-11-24T12:00:01Z") }
}

pub(super) fn row_with_models() -> MetricsRow {
    let mut row = MetricsRow {
        created_at: at("2026-11-24T12:00:01Z"),
        updated_at: at("2026-11-24T12:00:01Z"),
        ..MetricsRow::default()
    };
    row.rollup.api_calls_total = 3;
    let mut sums = ModelSums { cost: "0.5".parse().unwrap(), ..ModelSums::default() };
    (sums.counts[0], sums.counts[13]) = (2, 7);
    (0..70).for_each(|model| row.rollup.models.add(&format!("m{model:02}"), &sums));
    row
}

#[test]
fn what_priced_events_wrote_is_read_for_ever() {
    let read = |name: &str| bytes_in(&priced_fixture(), name);
    let commit = journal::decode(9, &read("commit")).unwrap();
    assert_eq!(format!("{commit:?}"), format!("{:?}", priced_commit()));
    assert_eq!(Block::read(&read("block")).unwrap().events().unwrap(), [priced_event()]);
    assert_eq!(records::decode_price(&read("price")).unwrap(), price());
    assert_eq!(records::decode_book(&read("book")).unwrap(), book());
    assert_eq!(
        metrics_rows::RowsBlock::read(&read("rows")).unwrap().rows_within(&(0..=9)).unwrap(),
        [(7, row_with_models())]
    );
}

/// What came with tenants' own prices: events with a markup, and price rows that are a tenant's.
fn marked_fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/fixtures/marked-events.txt")
}

fn marked_events() -> Vec<StoredEvent> {
    let marked = |entry_id, points| {
        let mut stored =
            StoredEvent { entry_id, event_id: format!("call-{entry_id}").parse().unwrap(), ..priced_event() };
        let markup = Markup::from_basis_points(points).unwrap();
        let estimate = stored.event.estimate().unwrap();
        stored.event.set_estimate(Estimate { markup, ..estimate });
        stored
    };
    vec![marked(41, 1_250), marked(42, -10_000), marked(43, 1_000_000), marked(44, 0)]
}

fn own_price() -> StoredPrice {
    StoredPrice { tenant_id: Some("acme".parse().unwrap()), source: None, ..price() }
}

#[test]
fn what_own_prices_wrote_is_read_for_ever() {
    let read = |name: &str| bytes_in(&marked_fixture(), name);
    assert_eq!(Block::read(&read("block")).unwrap().events().unwrap(), marked_events());
    assert_eq!(records::decode_price(&read("price")).unwrap(), own_price());
    // Where there is no markup, nothing is written that was not written before.
    assert_eq!(cut_into_blocks(&[&priced_event()]).unwrap().remove(0).1, bytes_in(&priced_fixture(), "block"));
    assert_eq!(records::encode_price(&price()).unwrap(), bytes_in(&priced_fixture(), "price"));
}

#[test]
#[ignore = "it writes the fixture that the test above reads"]
fn write_the_marked_fixture() {
    let events = marked_events();
    let block = cut_into_blocks(&events.iter().collect::<Vec<_>>()).unwrap().remove(0).1;
    write_lines(&marked_fixture(), &[("block", block), ("price", records::encode_price(&own_price()).unwrap())]);
}

#[test]
fn blocks_without_priced_events_are_byte_for_byte_what_they_were() {
    assert_eq!(cut_into_blocks(&[&event()]).unwrap().remove(0).1, bytes_of("block"));
    let block = journal::encode(&Commit { operations: Vec::new(), ..commit() }, 5).unwrap();
    assert_eq!(block[0], columns::FIRST);
    assert_eq!(journal::encode(&priced_commit(), 5).unwrap()[0], columns::WITH_LATER);
}

#[test]
#[ignore = "it writes the fixture that the test above reads"]
fn write_the_priced_fixture() {
    let row = row_with_models();
    let lines = [
        ("commit", journal::encode(&priced_commit(), 5).unwrap()),
        ("block", cut_into_blocks(&[&priced_event()]).unwrap().remove(0).1),
        ("price", records::encode_price(&price()).unwrap()),
        ("book", records::encode_book(&book()).unwrap()),
        ("rows", metrics_rows::merge_blocks(None, &[(7, &row)]).unwrap().remove(0).1),
    ];
    write_lines(&priced_fixture(), &lines);
}

/// The records that have changed again since tenants have prices of their own.
fn fourth_fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/fixtures/fourth-versions.txt")
}

fn negotiated_tenant() -> Tenant {
    let rate = |femtos| TieredRate::from(Rate::from_femtos(femtos));
    let row = PriceRow {
        id: "tenant acme: openai/gpt-x*@2026-12-01~0123456789abcdef".to_owned(),
        provider: "openai".to_owned(),
        model: "gpt-x*".to_owned(),
        validity: Validity { from: Some(at("2026-12-01T00:00:00Z")), daily: None },
        tier_rule: TierRule::WholeRequest,
        rates: [(PriceClass::Input, rate(2_000_000_000)), (PriceClass::Output, rate(8_000_000_000))].into(),
    };
    let rates = vec![OwnRate { price_no: Some(301), row }];
    let terms = |from, points, rates| {
        Arc::new(PriceTerms { from: at(from), markup: Markup::from_basis_points(points).unwrap(), rates })
    };
    let terms = vec![terms("2026-11-01T00:00:00Z", -1_000, vec![]), terms("2026-12-01T00:00:00Z", 1_250, rates)];
    Tenant { price_terms: terms, ..warned_tenant() }
}

fn fourth_operations() -> Vec<PlacedOperation> {
    let mut operations = third_operations();
    let operation = Operation::Tenant { tenant_no: 0, tenant: Box::new(negotiated_tenant()) };
    operations.push(PlacedOperation { before_event: 0, operation });
    operations
}

#[test]
fn what_the_fourth_versions_wrote_is_read_for_ever() {
    let read = |name: &str| bytes_in(&fourth_fixture(), name);
    assert_eq!(records::decode_tenant(&read("tenant")).unwrap(), negotiated_tenant());
    let operations = records::decode_operations(&read("operations")).unwrap();
    assert_eq!(format!("{operations:?}"), format!("{:?}", fourth_operations()));
}

#[test]
#[ignore = "it writes the fixture that the test above reads"]
fn write_the_fourth_fixture() {
    let lines = [
        ("tenant", records::encode_tenant(&negotiated_tenant()).unwrap()),
        ("operations", records::encode_operations(&fourth_operations()).unwrap()),
    ];
    write_lines(&fourth_fixture(), &lines);
}
