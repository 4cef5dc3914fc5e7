//! What is written reads back: blocks, journal and the whole store, with any mix of fields.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::block::{BLOCK_BYTES, Block, cut_into_blocks};
use super::*;
use crate::domain::compact_event::CompactEvent;
use crate::domain::event::{Estimate, EventId, UsageEvent};
use crate::domain::money::Money;
use crate::domain::price_terms::Markup;
use crate::domain::time::{MICROS_PER_DAY, Timestamp};
use crate::domain::usage::UsageCounts;

fn tenant(number: u32) -> TenantId {
    format!("tenant-{number}").parse().unwrap()
}

fn any_id() -> impl Strategy<Value = EventId> {
    prop_oneof![
        any::<u128>().prop_map(|bits| EventId::Uuid(uuid::Uuid::from_u128(bits))),
        any::<[u8; 16]>().prop_map(|random| EventId::Uuid(uuid::Builder::from_random_bytes(random).into_uuid())),
        (0u64..1 << 48, any::<[u8; 10]>()).prop_map(|(ms, random)| {
            EventId::Uuid(uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid())
        }),
        "[a-zA-Z0-9 :/é]{1,40}".prop_map(|text| EventId::Text(text.into())),
    ]
}

fn any_event() -> impl Strategy<Value = StoredEvent> {
    let texts = (
        prop_oneof![Just("api_call"), Just("chat_message"), Just("eigen")],
        prop::option::of("[A-Z]{1,10}"),
        prop::option::of("/[a-z/]{0,60}"),
        prop::option::of("s-[0-9]{1,8}"),
        prop::option::of(prop_oneof![Just("gpt"), Just("claude")]),
        prop::option::of(r#"\{"a":[0-9]{1,3}\}"#),
    );
    let numbers = prop::collection::vec(prop::option::of(prop_oneof![0u64..100, 0u64..1_000_000_000_000]), 8);
    let small = (prop::option::of(100u16..600), prop::option::of(any::<u32>()), any::<bool>(), any::<bool>());
    let cost =
        prop::option::of(prop_oneof![(0u128..1_000_000).prop_map(|n| n * 1_000_000_000), 0u128..Money::MAX.femtos(),]);
    let count = || prop::option::of(prop_oneof![0u64..3, any::<u64>()]);
    let usage = prop::collection::vec(count(), UsageCounts::FIELDS).prop_map(|counts| {
        let mut usage = UsageCounts::default();
        usage.all_mut().into_iter().zip(counts).for_each(|(field, count)| *field = count);
        Box::new(usage)
    });
    let estimate = (any::<u64>(), any::<u32>(), prop_oneof![Just(0_i64), -10_000_i64..=1_000_000]);
    let estimate = estimate.prop_map(|(femtos, price_no, points)| Estimate {
        cost: Money::from_femtos(femtos.into()),
        price_no,
        markup: Markup::from_basis_points(points).unwrap(),
    });
    let priced =
        (prop::option::of(Just("openai")), prop::option::weighted(0.2, usage), prop::option::weighted(0.3, estimate));
    (0u32..5, 0i64..200_000_000_000_000_000, any_id(), texts, numbers, small, (cost, priced)).prop_map(
        |(number, time, event_id, texts, numbers, small, (cost, (provider, usage, estimate)))| {
            let (event_type, method, endpoint, session, model, metadata) = texts;
            let event_timestamp = Timestamp::from_micros(time / 1_000 * 1_000);
            StoredEvent {
                tenant_no: number,
                entry_id: 0,
                created_at: Timestamp::from_micros(1_800_000_000_000_000),
                event_timestamp,
                event_id,
                event_id_given: small.2,
                event: CompactEvent::from_usage(UsageEvent {
                    event_timestamp: small.3.then_some(event_timestamp),
                    api_method: method.map(Into::into),
                    api_endpoint: endpoint.map(Into::into),
                    api_status_code: small.0,
                    api_response_time_ms: small.1,
                    chat_session_id: session.map(Into::into),
                    model: model.map(Into::into),
                    embedding_tokens: numbers[0],
                    search_query_tokens: numbers[1],
                    search_result_count: numbers[2],
                    tokens_consumed: numbers[3],
                    input_tokens: numbers[4],
                    cached_input_tokens: numbers[5],
                    output_tokens: numbers[6],
                    reasoning_tokens: numbers[7],
                    provider: provider.map(Into::into),
                    usage,
                    // What its caller priced is not estimated.
                    estimate: estimate.filter(|_| cost.is_none()),
                    cost_usd: cost.map(Money::from_femtos),
                    metadata: metadata.map(Into::into),
                    ..UsageEvent::new(tenant(number), event_type)
                }),
            }
        },
    )
}

fn numbered(mut events: Vec<StoredEvent>) -> Vec<StoredEvent> {
    events.iter_mut().enumerate().for_each(|(place, event)| event.entry_id = 100 + place as u64);
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn events_read_back_from_blocks(events in prop::collection::vec(any_event(), 1..120)) {
        let events = numbered(events);
        let mut sorted: Vec<&StoredEvent> = events.iter().collect();
        sorted.sort_by_key(|event| (event.tenant_no, event.event_timestamp, event.entry_id));
        let blocks = cut_into_blocks(&sorted).unwrap();
        let mut read = Vec::new();
        for (first, bytes) in &blocks {
            prop_assert!(bytes.len() <= BLOCK_BYTES);
            let block = Block::read(bytes).unwrap();
            prop_assert_eq!(block.places_of(*first).start, 0);
            let places = block.places_of(2);
            let events = Block::read(bytes).unwrap().events().unwrap();
            for (place, event) in events.iter().enumerate() {
                prop_assert_eq!(places.contains(&place), event.tenant_no == 2);
            }
            let mut of_events = events.iter().map(|event| (event.tenant_no, event.event_id.key()));
            block.each_id_key(|tenant_no, key| assert_eq!(Some((tenant_no, key)), of_events.next()));
            prop_assert_eq!(of_events.next(), None);
            read.extend(events);
        }
        prop_assert_eq!(read, sorted.into_iter().cloned().collect::<Vec<_>>());
    }

    #[test]
    fn a_commit_reads_back_from_the_journal(events in prop::collection::vec(any_event(), 0..80), seq in 1u64..1_000) {
        let store = Store::in_memory([7; 32], uuid::Uuid::nil()).unwrap();
        let events = numbered(events);
        let committed_at = Timestamp::from_micros(1_800_000_000_000_000);
        let commit = Commit { seq, committed_at, first_entry_id: 100, entries: events.len() as u64, events, operations: Vec::new() };
        let mut write = store.begin().unwrap();
        for number in 0..5 {
            let tenant = crate::domain::tenant::Tenant::new(tenant(number), "trial", chrono_tz::UTC, committed_at);
            write.put_tenant(number, &tenant).unwrap();
        }
        write.put_commit(&commit).unwrap();
        write.commit().unwrap();
        let mut read = Vec::new();
        store.snapshot().unwrap().commits_after(seq - 1, |commit| { read.push(commit); ControlFlow::Continue(()) }).unwrap();
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!((read[0].seq, read[0].committed_at, read[0].first_entry_id), (seq, committed_at, 100));
        prop_assert_eq!(&read[0].events, &commit.events);
    }
}

#[test]
fn a_flipped_byte_in_a_block_is_found_before_anything_is_believed() {
    let event = StoredEvent {
        tenant_no: 1,
        entry_id: 1,
        created_at: Timestamp::from_seconds(5),
        event_timestamp: Timestamp::from_seconds(4),
        event_id: "an-id".parse().unwrap(),
        event_id_given: true,
        event: CompactEvent::from_usage(UsageEvent::new(tenant(1), "api_call")),
    };
    let (_, bytes) = cut_into_blocks(&[&event]).unwrap().remove(0);
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x10;
        assert!(Block::read(&flipped).is_err(), "byte {place}");
    }
}

#[test]
fn runs_of_many_tenants_are_found_by_tenant_and_by_id() {
    let store = Store::in_memory([7; 32], uuid::Uuid::nil()).unwrap();
    let day = 20_000;
    let start = Timestamp::of_day(day);
    let mut write = store.begin().unwrap();
    for number in 0..400 {
        let tenant = crate::domain::tenant::Tenant::new(tenant(number), "trial", chrono_tz::UTC, start);
        write.put_tenant(number, &tenant).unwrap();
    }
    let make = |run: u64, place: u64| {
        let number = (place * 7 % 400) as u32;
        let mut event = UsageEvent::new(tenant(number), "api_call");
        event.input_tokens = Some(place * place % 9_973);
        StoredEvent {
            tenant_no: number,
            entry_id: run * 100_000 + place,
            created_at: start,
            event_timestamp: start.plus_micros((place * 977_123 % 86_400_000_000) as i64),
            event_id: format!("run{run}-{}", place.wrapping_mul(0x9e37_79b9_7f4a_7c15)).parse().unwrap(),
            event_id_given: true,
            event: CompactEvent::from_usage(event),
        }
    };
    let mut all = Vec::new();
    for run in [3, 9] {
        let events: Vec<StoredEvent> = (0..6_000).map(|place| make(run, place)).collect();
        for prepared in prepare_runs(&events).unwrap() {
            assert!(prepared.blocks.len() > 2, "several blocks, or the test tests nothing");
            write.put_run(run, &prepared).unwrap();
        }
        all.extend(events);
    }
    write.commit().unwrap();

    let snapshot = store.snapshot().unwrap();
    let mut seen = 0;
    for number in 0..400 {
        let mut read = snapshot.tenant_events(day, number, start, Timestamp::of_day(day + 1)).unwrap();
        let mut expected: Vec<StoredEvent> = all.iter().filter(|event| event.tenant_no == number).cloned().collect();
        read.sort_by_key(|event| event.entry_id);
        expected.sort_by_key(|event| event.entry_id);
        assert_eq!(read, expected);
        seen += read.len();
    }
    assert_eq!(seen, all.len());
    for event in all.iter().step_by(131) {
        let blocks = snapshot.blocks_with_tenant(day, event.tenant_no).unwrap();
        let found = blocks
            .iter()
            .flat_map(|key| snapshot.block_events(*key).unwrap())
            .find(|found| found.tenant_no == event.tenant_no && found.event_id == event.event_id);
        assert_eq!(found.as_ref(), Some(event));
    }
    // Both edges in the middle of blocks, one of them, none, and nothing at all.
    let counted_between = |snapshot: &Snapshot, from: i64, to: i64| {
        let (from, to) = (start.plus_micros(from), start.plus_micros(to));
        let expected = all.iter().filter(|event| (from..to).contains(&event.event_timestamp)).count();
        assert_eq!(snapshot.count_day_events(day, from, to).unwrap(), expected as u64);
        expected
    };
    let borders = [(-1, MICROS_PER_DAY), (0, 5_000_000_000), (977_123, 977_124), (977_124, 1_954_246), (70, 60)];
    let counted = borders.map(|(from, to)| counted_between(&snapshot, from, to));
    assert_eq!((counted[0], &counted[2..]), (all.len(), &[2, 0, 0][..]));
    assert!((1..all.len()).contains(&counted[1]));
    let mut ids = 0;
    for run in [3, 9] {
        snapshot.run_ids(day, run, |_, _| ids += 1).unwrap();
    }
    assert_eq!(ids, all.len());

    // A merge into one run changes nothing that can be read.
    drop(snapshot);
    let merged = prepare_runs(&all).unwrap().remove(0);
    let mut write = store.begin().unwrap();
    write.replace_runs(&[3, 9], 9, &merged).unwrap();
    write.commit().unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.runs(day..=day).unwrap().len(), 1);
    let read = snapshot.tenant_events(day, 11, start, Timestamp::of_day(day + 1)).unwrap();
    assert_eq!(read.len(), all.iter().filter(|event| event.tenant_no == 11).count());
    assert_eq!(borders.map(|(from, to)| counted_between(&snapshot, from, to)), counted);
}

/// A store with `count` audit records; gives what a check of it finds.
fn audited(count: u64) -> Store {
    let store = Store::in_memory([7; 32], uuid::Uuid::nil()).unwrap();
    for from in (0..count).step_by(7) {
        let records = (from..count.min(from + 7)).map(|index| {
            let entry = crate::domain::audit::AuditEntry::system(
                Some(tenant(0)),
                "kb_uploaded",
                "knowledge_base",
                crate::domain::audit::AuditAction::Create,
            );
            let event_id = uuid::Uuid::from_u128(u128::from(index) + 1);
            (
                crate::domain::audit::AuditRecord {
                    index,
                    event_id,
                    timestamp: Timestamp::from_seconds(index as i64),
                    entry,
                },
                0,
            )
        });
        let mut transaction = store.begin().unwrap();
        transaction.put_audit(&records.collect::<Vec<_>>()).unwrap();
        transaction.commit().unwrap();
    }
    store
}

fn tampered(store: &Store, change: impl FnOnce(&redb::WriteTransaction)) {
    let db = store.db.read();
    let write = db.open().unwrap().begin_write().unwrap();
    change(&write);
    write.commit().unwrap();
}

#[test]
fn the_tree_agrees_with_its_leaves_and_every_change_under_it_is_found() {
    type Change = fn(&redb::WriteTransaction);
    let changes: [(&str, Change); 7] = [
        ("a byte of a record", |write| {
            let mut payloads = write.open_table(tables::AUDIT).unwrap();
            let mut bytes = payloads.get(11).unwrap().unwrap().value().to_vec();
            bytes[40] ^= 1;
            payloads.insert(11, bytes.as_slice()).unwrap();
        }),
        ("a removed record", |write| drop(write.open_table(tables::AUDIT).unwrap().remove(11).unwrap())),
        ("two records in each other's place", |write| {
            let mut payloads = write.open_table(tables::AUDIT).unwrap();
            let (a, b) = (
                payloads.get(3).unwrap().unwrap().value().to_vec(),
                payloads.get(4).unwrap().unwrap().value().to_vec(),
            );
            payloads.insert(3, b.as_slice()).unwrap();
            payloads.insert(4, a.as_slice()).unwrap();
        }),
        ("a record and its leaf, changed to fit", |write| {
            let mut payloads = write.open_table(tables::AUDIT).unwrap();
            let mut bytes = payloads.get(11).unwrap().unwrap().value().to_vec();
            let record = records::decode_audit(&bytes).unwrap();
            bytes[5] ^= 1;
            payloads.insert(11, bytes.as_slice()).unwrap();
            let leaf = records::audit_leaf(&record, &bytes);
            write.open_table(tables::AUDIT_LEAVES).unwrap().insert(11, leaf.as_slice()).unwrap();
        }),
        ("a removed leaf", |write| drop(write.open_table(tables::AUDIT_LEAVES).unwrap().remove(20).unwrap())),
        ("a changed node", |write| {
            drop(write.open_table(tables::AUDIT_NODES).unwrap().insert((2, 3), [9; 32]).unwrap());
        }),
        ("a removed node", |write| drop(write.open_table(tables::AUDIT_NODES).unwrap().remove((1, 0)).unwrap())),
    ];
    let store = audited(45);
    let untouched = store.snapshot().unwrap();
    let check = untouched.check_audit(45, Some(20)).unwrap();
    assert_eq!((check.faults.as_slice(), check.missing.as_slice(), check.records), (&[][..], &[][..], 45));
    assert_eq!(
        (check.root, check.root_at_kept),
        (untouched.audit_root(45).unwrap(), Some(untouched.audit_root(20).unwrap()))
    );
    for (what, change) in changes {
        let store = audited(45);
        tampered(&store, change);
        let check = store.snapshot().unwrap().check_audit(45, None).unwrap();
        assert!(!check.faults.is_empty() || !check.missing.is_empty(), "{what} is not found");
    }
}
