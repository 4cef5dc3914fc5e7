//! Every format of the store over bytes that were changed: damage is an error, never a panic, and what is read reads the
//! same once it was written again. Checksums are made to fit, so that what lies behind them is reached.

use super::block::{Block, cut_into_blocks};
use super::bytes::{put_planes, put_varint};
use super::columns::put_events;
use super::format_tests::{acme, at, bytes_in, bytes_of, commit, event, third_operations, warned_tenant};
use super::id_column::put_ids;
use super::metrics_rows::RowsBlock;
use super::priced_format_tests::{price, priced_commit, priced_event, row_with_models};
use super::*;
use crate::domain::compact_event::CompactEvent;
use crate::domain::event::UsageEvent;
use crate::domain::time::Timestamp;
use crate::fuzz::fuzz;

const HEADER: usize = 9;

/// The lines of every fixture whose name begins so.
fn fixtures(name: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fixtures");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines() {
            let (known, hex) = line.split_once(' ').unwrap();
            if known.trim_end_matches(|c: char| c == '_' || c.is_ascii_digit()) == name {
                let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
                found.push(bytes.collect());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no fixture of {name}");
    found
}

/// The bytes with a checksum that fits them.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= HEADER {
        let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[HEADER..]);
        bytes[1..HEADER].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

/// Events with every kind of id and field.
fn events() -> Vec<StoredEvent> {
    let mut events = vec![event(), priced_event()];
    for place in 0..30u32 {
        let time = at("2026-11-24T12:00:00Z").plus_micros(i64::from(place) * 1_234_567);
        let bits = u128::from(place + 1) * 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210;
        let event_id = match place % 3 {
            0 => format!("call-{place}").parse().unwrap(),
            1 => uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string().parse().unwrap(),
            _ => {
                let random: [u8; 10] = bits.to_be_bytes()[..10].try_into().unwrap();
                uuid::Builder::from_unix_timestamp_millis((time.micros() / 1_000) as u64, &random)
                    .into_uuid()
                    .to_string()
                    .parse()
                    .unwrap()
            }
        };
        let mut usage = UsageEvent::new(acme(), ["api_call", "chat_message", "search"][place as usize % 3]);
        usage.api_status_code = Some(200 + place as u16);
        usage.tokens_consumed = Some(u64::from(place) << (place % 40));
        usage.cost_usd = Some(format!("0.{place:09}").parse().unwrap());
        usage.chat_session_id = (place % 2 == 0).then(|| format!("session-{}", place / 4).into());
        events.push(StoredEvent {
            tenant_no: place / 8,
            entry_id: 50 + u64::from(place),
            created_at: time,
            event_timestamp: time,
            event_id,
            event_id_given: place % 2 == 0,
            event: CompactEvent::from_usage(usage),
        });
    }
    events
}

fn commits() -> Vec<Commit> {
    let events = events();
    let many = Commit { entries: events.len() as u64, events, ..commit() };
    let operations = Commit { operations: third_operations(), ..commit() };
    vec![commit(), priced_commit(), many, operations]
}

/// Reads a record, and again once it is written.
fn record<T: std::fmt::Debug>(
    name: &str,
    corpus: &[Vec<u8>],
    decode: impl Fn(&[u8]) -> Result<T, StoreError>,
    encode: impl Fn(&T) -> Result<Vec<u8>, StoreError>,
) {
    fuzz(name, 2_000, corpus, |bytes| {
        let Ok(read) = decode(bytes) else { return false };
        let again = decode(&encode(&read).unwrap()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{read:?}"));
        true
    });
}

#[test]
fn damaged_records_of_tenants_plans_and_keys_are_errors() {
    let mut tenants = fixtures("tenant");
    tenants.push(records::encode_tenant(&warned_tenant()).unwrap());
    record("stored tenants", &tenants, records::decode_tenant, records::encode_tenant);
    record("stored plans", &fixtures("plan"), records::decode_plan, records::encode_plan);
    record("stored keys", &fixtures("api_key"), records::decode_api_key, records::encode_api_key);
    record("stored price books", &fixtures("book"), records::decode_book, records::encode_book);
    let mut prices = fixtures("price");
    prices.push(records::encode_price(&price()).unwrap());
    record("stored prices", &prices, records::decode_price, records::encode_price);
}

#[test]
fn damaged_records_of_quotas_are_errors() {
    let denials = fixtures("denials");
    record("stored denials", &denials, records::decode_denials, |read: &Vec<_>| records::encode_denials(read));
    let operations = fixtures("operations");
    record("stored operations", &operations, records::decode_operations, |read: &Vec<_>| {
        records::encode_operations(read)
    });
    let states = [records::merge_quota_states(None, &saved_states()).unwrap()];
    record("stored counters", &states, records::decode_quota_states, |read: &Vec<_>| {
        records::merge_quota_states(None, read)
    });
}

fn saved_states() -> Vec<(u32, crate::domain::quota::QuotaSnapshot)> {
    use crate::domain::quota::{FinishedHold, HoldState, QuotaSnapshot, SecondSnapshot};
    let hold = commit().operations.into_iter().find_map(|placed| match placed.operation {
        Operation::Hold { hold, .. } => Some(hold),
        _ => None,
    });
    let mut snapshot = QuotaSnapshot { as_of: at("2026-11-24T12:00:01Z"), ..QuotaSnapshot::default() };
    snapshot.minute.push(SecondSnapshot { second: 1_790_000_000, ..SecondSnapshot::default() });
    let hold = hold.unwrap();
    snapshot.finished.push(FinishedHold {
        id_hash: 7,
        items_digest: 9,
        state: HoldState::Settled { overage: true, lapsed: false },
        granted_at: hold.granted_at,
        expires_at: hold.expires_at,
        day_start: hold.day_start,
        month_start: hold.month_start,
        reserved: None,
    });
    snapshot.open.push(hold);
    vec![(3, QuotaSnapshot::default()), (900, snapshot)]
}

#[test]
fn damaged_marks_jobs_and_backup_records_are_errors() {
    let checkpoints = fixtures("checkpoint");
    record("stored checkpoints", &checkpoints, records::decode_checkpoint, records::encode_checkpoint);
    let cut = RealtimeCut { cut: at("2026-11-24T00:00:00Z"), removed: 70_000 };
    record("stored cuts", &[records::encode_cut(&cut).unwrap()], records::decode_cut, records::encode_cut);
    let cut = AuditCut { cut: at("2026-11-24T00:00:00Z"), min_index: 300, removed: 70_000 };
    let cuts = [records::encode_audit_cut(&cut).unwrap()];
    record("stored audit cuts", &cuts, records::decode_audit_cut, records::encode_audit_cut);
    let run = RunInfo { events: 9, first_entry_id: 41, last_entry_id: 300, first_time: 1 << 40, last_time: 1 << 41 };
    record("stored runs", &[records::encode_run(&run).unwrap()], records::decode_run, records::encode_run);
    let marks = [records::encode_mark(70_000).unwrap()];
    record("stored marks", &marks, records::decode_mark, |mark| records::encode_mark(*mark));
}

#[test]
fn damaged_audit_records_are_errors() {
    let corpus = fixtures("audit");
    record("audit records", &corpus, records::decode_audit, |read| records::encode_audit(read, &[7; 32]));
    fuzz("audit records that tell of erasures", 2_000, &corpus, |bytes| {
        erased_by_stored(bytes).iter().for_each(|(from, to)| assert!(from <= to));
        records::decode_audit(bytes).is_ok()
    });
    let read = records::decode_audit(&corpus[0]).unwrap();
    fuzz("audit leaves", 1_000, &[records::audit_leaf(&read, &corpus[0]).to_vec()], |bytes| {
        records::recorded_at(bytes).is_ok()
    });
}

#[test]
fn damaged_journal_blocks_are_errors() {
    let mut corpus = fixtures("commit");
    corpus.extend(commits().iter().map(|commit| journal::encode(commit, 5).unwrap()));
    fuzz("journal blocks", 4_000, &corpus, |bytes| reads_back(&sealed(bytes)));
}

#[test]
fn damaged_columns_within_a_journal_block_are_errors() {
    // A byte that says how many events there are, then the columns as they are before they are compressed.
    let corpus: Vec<Vec<u8>> = commits()
        .iter()
        .map(|commit| {
            let mut bytes = vec![commit.events.len() as u8];
            let tenants: Vec<u64> = commit.events.iter().map(|stored| u64::from(stored.tenant_no)).collect();
            put_planes(&mut bytes, &tenants);
            let mut clocks = Vec::new();
            put_ids(&mut bytes, &mut clocks, commit.events.iter(), false).unwrap();
            bytes.extend_from_slice(&clocks);
            put_events(&mut bytes, commit.events.iter(), false);
            bytes
        })
        .collect();
    fuzz("columns of journal blocks", 6_000, &corpus, |bytes| {
        let Some((&count, columns)) = bytes.split_first() else { return false };
        let mut block = vec![2, 0, 0, 0, 0, 0, 0, 0, 0];
        block.extend_from_slice(&5u64.to_le_bytes());
        put_varint(&mut block, at("2026-11-24T12:00:01Z").micros() as u64);
        put_varint(&mut block, 41);
        put_varint(&mut block, u64::from(count));
        let operations = records::encode_operations(&[]).unwrap();
        put_varint(&mut block, operations.len() as u64);
        block.extend_from_slice(&operations);
        put_varint(&mut block, u64::from(count));
        put_varint(&mut block, columns.len() as u64);
        block.extend_from_slice(&lz4_flex::block::compress(columns));
        reads_back(&sealed(&block))
    });
}

/// Whether a journal block is read; then it is read again once it was written, and says the same.
fn reads_back(block: &[u8]) -> bool {
    let Ok(commit) = journal::decode(9, block) else { return false };
    let again = journal::decode(9, &journal::encode(&commit, 5).unwrap()).unwrap();
    assert_eq!(format!("{again:?}"), format!("{commit:?}"));
    for stored in &commit.events {
        let _its_cost_is_summed = stored.to_usage(acme());
    }
    true
}

fn blocks() -> Vec<Vec<u8>> {
    let events = events();
    let mut by_tenant: Vec<&StoredEvent> = events.iter().collect();
    by_tenant.sort_by_key(|stored| (stored.tenant_no, stored.event_timestamp));
    let mut blocks = fixtures("block");
    blocks.extend(cut_into_blocks(&by_tenant).unwrap().into_iter().map(|(_, block)| block));
    blocks
}

#[test]
fn damaged_segment_blocks_are_errors() {
    fuzz("segment blocks", 4_000, &blocks(), |bytes| inflates(&sealed(bytes)));
}

#[test]
fn damaged_columns_within_a_segment_block_are_errors() {
    // The directory of a block whose columns are exchanged; its place in the list goes ahead of the columns.
    let (mut heads, mut corpus) = (Vec::new(), Vec::new());
    for block in blocks() {
        let read = Block::read(&block).unwrap();
        let (inflated, compressed) = read.parts();
        let mut length = Vec::new();
        put_varint(&mut length, inflated as u64);
        let head = block[..block.len() - compressed.len() - length.len()].to_vec();
        let mut input = vec![heads.len() as u8];
        input.extend(zstd::bulk::decompress(compressed, inflated).unwrap());
        heads.push(head);
        corpus.push(input);
    }
    fuzz("columns of segment blocks", 6_000, &corpus, |bytes| {
        let Some((&place, columns)) = bytes.split_first() else { return false };
        let mut block = heads[usize::from(place) % heads.len()].clone();
        put_varint(&mut block, columns.len() as u64);
        block.extend(zstd::bulk::compress(columns, 1).unwrap());
        inflates(&sealed(&block))
    });
}

fn inflates(block: &[u8]) -> bool {
    let Ok(read) = Block::read(block) else { return false };
    let _counted: usize = (0..5).map(|tenant_no| read.places_of(tenant_no).len()).sum();
    let mut ids = 0;
    read.each_id_key(|_, _| ids += 1);
    let Ok(events) = read.events() else { return false };
    assert_eq!(events.len(), ids);
    for stored in &events {
        let _its_cost_is_summed = stored.to_usage(acme());
        assert!((Timestamp::default()..=Timestamp::MAX).contains(&stored.event_timestamp));
    }
    true
}

#[test]
fn damaged_blocks_of_metrics_rows_are_errors() {
    let mut corpus = fixtures("rows");
    let row = row_with_models();
    let rows = [3, 7, 70_000].map(|tenant_no| (tenant_no, &row));
    corpus.extend(metrics_rows::merge_blocks(None, &rows).unwrap().into_iter().map(|(_, block)| block));
    fuzz("metrics rows", 4_000, &corpus, |bytes| {
        let block = sealed(bytes);
        let read = || RowsBlock::read(&block);
        let totals = read().and_then(|rows| rows.totals(|_, _| ()));
        let row = read().and_then(|rows| rows.row(7));
        let Ok(rows) = read().and_then(|block| block.rows_within(&(0..=u32::MAX))) else { return false };
        assert!(totals.is_ok() && row.is_ok(), "what is read whole is read in part");
        // A row that is written again is read again as it was.
        for (tenant_no, row) in rows {
            let written = metrics_rows::merge_blocks(None, &[(tenant_no, &row)]).unwrap();
            let again = RowsBlock::read(&written[0].1).and_then(|rows| rows.row(tenant_no)).unwrap();
            assert_eq!(again, Some(row));
        }
        true
    });
}

#[test]
fn a_damaged_manifest_of_a_backup_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), 1 << 20, [7; 32], uuid::Uuid::nil()).unwrap();
    store.back_up(folder.path(), "b.redb", uuid::Uuid::from_u128(3), at("2026-11-24T12:00:01Z")).unwrap();
    let made = Database::open(folder.path().join("b.redb")).unwrap();
    let read = made.begin_read().unwrap();
    let whole = read.open_table(tables::BACKUP_MANIFEST).unwrap().get(backup::MANIFEST).unwrap();
    let whole = whole.unwrap().value().to_vec();
    let kept = Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
    fuzz("manifests of backups", 2_000, &[whole], |bytes| {
        let write = kept.begin_write().unwrap();
        write.open_table(tables::BACKUP_MANIFEST).unwrap().insert(backup::MANIFEST, bytes).unwrap();
        write.commit().unwrap();
        matches!(backup::read_manifest(&kept.begin_read().unwrap()), Ok(Some(_)))
    });
}

#[test]
fn fixtures_are_found_by_their_names() {
    assert_eq!(fixtures("commit").len(), 2);
    assert!(fixtures("audit").contains(&bytes_of("audit_2")));
    let keys = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fixtures/api-keys.txt");
    assert_eq!(fixtures("api_key"), [bytes_in(&keys, "api_key")]);
}
