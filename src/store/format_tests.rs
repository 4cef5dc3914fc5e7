//! What a version of the format once wrote is read for ever; what a newer one wrote is refused with what to do.

use std::path::{Path, PathBuf};

use super::block::{Block, cut_into_blocks};
use super::*;
use crate::domain::audit::{AuditAction, AuditEntry, AuditFilter, AuditRecord};
use crate::domain::compact_event::CompactEvent;
use crate::domain::event::UsageEvent;
use crate::domain::key::{ApiKey, KeyDigest, KeyRole, TenantScope};
use crate::domain::quota::{
    Denial, DeniedBy, Hold, HoldId, Item, Limit, LimitState, Mode, Plan, QuotaType, Scope, Window,
};
use crate::domain::slice::Slice;
use crate::domain::tenant::{Override, Tenant};
use crate::domain::time::Timestamp;

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn tenant() -> Tenant {
    let set_at = at("2026-11-24T12:00:00Z");
    let own = Override { limit: Some(250), reason: Some("a trial week".to_owned()), until: None, set_at };
    let mut tenant = Tenant::new(acme(), "trial", chrono_tz::America::Santiago, set_at);
    tenant.name = Some("Acme".to_owned());
    tenant.labels.insert("tier".to_owned(), "gold".to_owned());
    tenant.overrides.insert((QuotaType::Tokens, Window::Day), own);
    tenant
}

pub(super) fn event() -> StoredEvent {
    StoredEvent {
        tenant_no: 0,
        entry_id: 41,
        created_at: at("2026-11-24T12:00:01Z"),
        event_timestamp: at("2026-11-24T12:00:00.25Z"),
        event_id: "call-1".parse().unwrap(),
        event_id_given: true,
        event: CompactEvent::from_usage(UsageEvent {
            event_timestamp: Some(at("2026-11-24T12:00:00.25Z")),
            api_method: Some("POST".into()),
            api_status_code: Some(200),
            api_response_time_ms: Some(321),
            model: Some("gpt-x".into()),
            input_tokens: Some(120),
            cached_input_tokens: Some(20),
            output_tokens: Some(30),
            cost_usd: Some("0.0123".parse().unwrap()),
            metadata: Some(r#"{"a":1}"#.into()),
            ..UsageEvent::new(acme(), "api_call")
        }),
    }
}

pub(super) fn commit() -> Commit {
    let midnight = at("2026-11-24T03:00:00Z");
    let hold = Hold {
        id: HoldId::Named("r1".to_owned()),
        items: vec![Item { quota_type: QuotaType::Tokens, amount: 7 }],
        granted_at: at("2026-11-24T12:00:01Z"),
        expires_at: at("2026-11-24T12:01:01Z"),
        day_start: midnight,
        month_start: at("2026-11-01T03:00:00Z"),
    };
    let operations = [
        Operation::Tenant { tenant_no: 0, tenant: Box::new(tenant()) },
        Operation::Hold { tenant_no: 0, hold },
        Operation::Release { tenant_no: 0, reservation_id: "r0".to_owned() },
    ];
    let place = |operation| PlacedOperation { before_event: 0, operation };
    let operations = operations.into_iter().map(place).collect();
    let committed_at = at("2026-11-24T12:00:01Z");
    Commit { seq: 9, committed_at, first_entry_id: 41, entries: 1, events: vec![event()], operations }
}

fn audit() -> AuditRecord {
    AuditRecord {
        index: 3,
        event_id: uuid::Uuid::from_u128(7),
        timestamp: at("2026-11-24T12:00:01Z"),
        entry: AuditEntry {
            new_values: Some(r#"{"plan":"trial"}"#.to_owned()),
            ..AuditEntry::system(Some(acme()), "tenant_created", "tenant", AuditAction::Create)
        },
    }
}

/// With every field that version 2 of audit records added.
fn audit_2() -> AuditRecord {
    let mut record = audit();
    record.entry.ip_address = Some("10.0.0.1".to_owned());
    record.entry.user_agent = Some("curl/8".to_owned());
    record.entry.request_id = Some("req-1".to_owned());
    record.entry.occurred_at = Some(at("2026-11-24T11:00:00.25Z"));
    record.entry.key_id = Some("admin-key".to_owned());
    record
}

fn checkpoint() -> Checkpoint {
    Checkpoint { filed_seq: 8, filed_next_entry_id: 41, state_seq: 7, saved_at: at("2026-11-24T11:59:00Z") }
}

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/fixtures/format-1.txt")
}

/// The records that have a second version since tenants have a mode and denials may be observed.
fn second_fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/fixtures/second-versions.txt")
}

fn observed() -> FiledDenial {
    let resets_at = at("2026-11-25T03:00:00Z");
    let (quota_type, window) = (QuotaType::Tokens, Window::Day);
    let state = LimitState { quota_type, window, limit: Some(250), used: 240, held: 7, resets_at };
    let denial = Denial {
        decision_id: Some(uuid::Uuid::from_u128(9)),
        at: at("2026-11-24T12:00:01Z"),
        request_id: Some("req-7".to_owned()),
        denied_by: DeniedBy { state, asked: 4, scope: Scope::Tenant },
        count: 2,
        observed: true,
    };
    FiledDenial { tenant_no: 0, entry_id: 42, denial }
}

fn observing_tenant() -> Tenant {
    Tenant { mode: Mode::Observe, ..tenant() }
}

/// The records that have changed again since tenants and plans have thresholds.
fn third_fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/fixtures/third-versions.txt")
}

pub(super) fn warned_tenant() -> Tenant {
    Tenant { thresholds: Some(vec![50, 100]), ..observing_tenant() }
}

fn plan() -> Plan {
    let limit = Limit { quota_type: QuotaType::Tokens, window: Window::Day, limit: 250, observe: true };
    Plan { thresholds: vec![], ..Plan::new("trial", vec![limit]) }
}

fn under_a_ceiling() -> FiledDenial {
    let mut filed = observed();
    filed.denial.observed = false;
    filed.denial.denied_by.scope = Scope::Platform;
    filed
}

pub(super) fn third_operations() -> Vec<PlacedOperation> {
    let FiledDenial { tenant_no, entry_id, denial } = under_a_ceiling();
    let added = [
        Operation::Tenant { tenant_no, tenant: Box::new(warned_tenant()) },
        Operation::Denied { tenant_no, entry_id, denial },
    ];
    let mut operations = second_operations();
    operations.extend(added.into_iter().map(|operation| PlacedOperation { before_event: 0, operation }));
    operations
}

fn second_operations() -> Vec<PlacedOperation> {
    let FiledDenial { tenant_no, entry_id, denial } = observed();
    let refused = Denial { observed: false, ..denial.clone() };
    let operations = [
        Operation::Tenant { tenant_no, tenant: Box::new(observing_tenant()) },
        Operation::Denied { tenant_no, entry_id, denial },
        Operation::Denied { tenant_no, entry_id: 43, denial: refused },
    ];
    operations.into_iter().map(|operation| PlacedOperation { before_event: 0, operation }).collect()
}

/// The bytes of one line of a fixture: a name, a space, hexadecimal.
pub(super) fn bytes_of(name: &str) -> Vec<u8> {
    bytes_in(&fixture(), name)
}

pub(super) fn bytes_in(fixture: &Path, name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(fixture).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let hex = line.unwrap_or_else(|| panic!("the fixture has no line `{name}`"));
    (0..hex.len()).step_by(2).map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap()).collect()
}

#[test]
fn what_format_1_wrote_is_read_for_ever() {
    let read = journal::decode(9, &bytes_of("commit")).unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", commit()));
    let block = bytes_of("block");
    assert_eq!(Block::read(&block).unwrap().events().unwrap(), [event()]);
    assert_eq!(records::decode_tenant(&bytes_of("tenant")).unwrap(), tenant());
    assert_eq!(records::decode_audit(&bytes_of("audit")).unwrap(), audit());
    assert_eq!(records::decode_audit(&bytes_of("audit_2")).unwrap(), audit_2());
    assert_eq!(records::decode_checkpoint(&bytes_of("checkpoint")).unwrap(), checkpoint());
}

#[test]
fn what_the_second_versions_wrote_is_read_for_ever() {
    let read = |name: &str| bytes_in(&second_fixture(), name);
    assert_eq!(records::decode_tenant(&read("tenant")).unwrap(), observing_tenant());
    let refused = FiledDenial { denial: Denial { observed: false, ..observed().denial }, ..observed() };
    assert_eq!(records::decode_denials(&read("denials")).unwrap(), [observed(), refused]);
    let operations = records::decode_operations(&read("operations")).unwrap();
    assert_eq!(format!("{operations:?}"), format!("{:?}", second_operations()));
}

#[test]
fn what_the_third_versions_wrote_is_read_for_ever() {
    let read = |name: &str| bytes_in(&third_fixture(), name);
    assert_eq!(records::decode_tenant(&read("tenant")).unwrap(), warned_tenant());
    assert_eq!(records::decode_plan(&read("plan")).unwrap(), plan());
    // The same plan without thresholds, as the first version wrote it.
    let first = Plan::new("trial", plan().limits);
    assert_eq!(records::decode_plan(&read("plan_1")).unwrap(), first);
    assert_eq!(records::decode_denials(&read("denials")).unwrap(), [observed(), under_a_ceiling()]);
    let operations = records::decode_operations(&read("operations")).unwrap();
    assert_eq!(format!("{operations:?}"), format!("{:?}", third_operations()));
}

/// As below, for the records that have changed twice; `plan_1` is the first version of a plan, which had no fixture.
#[test]
#[ignore = "it writes the fixture that the test above reads"]
fn write_the_third_fixture() {
    let mut first = records::encode_plan(&plan()).unwrap();
    first[0] = 1;
    // The empty list of thresholds is one byte at the end.
    first.pop();
    let lines = [
        ("tenant", records::encode_tenant(&warned_tenant()).unwrap()),
        ("plan", records::encode_plan(&plan()).unwrap()),
        ("plan_1", first),
        ("denials", records::encode_denials(&[observed(), under_a_ceiling()]).unwrap()),
        ("operations", records::encode_operations(&third_operations()).unwrap()),
    ];
    write_lines(&third_fixture(), &lines);
}

fn api_key() -> ApiKey {
    ApiKey {
        key_id: uuid::Uuid::from_u128(8),
        name: "ci".to_owned(),
        role: KeyRole::Service,
        tenants: TenantScope::Only([acme()].into()),
        digest: KeyDigest([9; 32]),
        created_by: "ada".to_owned(),
        created_at: at("2026-11-24T12:00:00Z"),
        expires_at: Some(at("2027-11-24T12:00:00Z")),
        revoked_at: Some(at("2026-11-25T12:00:00Z")),
        last_used_at: Some(at("2026-11-24T13:00:00Z")),
        replaces: Some(uuid::Uuid::from_u128(7)),
        replaced_by: Some(uuid::Uuid::from_u128(9)),
    }
}

fn key_fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/fixtures/api-keys.txt")
}

#[test]
fn what_the_first_keys_wrote_is_read_for_ever() {
    assert_eq!(records::decode_api_key(&bytes_in(&key_fixture(), "api_key")).unwrap(), api_key());
}

/// As below, for keys.
#[test]
#[ignore = "it writes the fixture that the test above reads"]
fn write_the_fixture_of_keys() {
    write_lines(&key_fixture(), &[("api_key", records::encode_api_key(&api_key()).unwrap())]);
}

/// As below, for the records that have a second version.
#[test]
#[ignore = "it writes the fixture that the test above reads"]
fn write_the_second_fixture() {
    let refused = FiledDenial { denial: Denial { observed: false, ..observed().denial }, ..observed() };
    let lines = [
        ("tenant", records::encode_tenant(&observing_tenant()).unwrap()),
        ("denials", records::encode_denials(&[observed(), refused]).unwrap()),
        ("operations", records::encode_operations(&second_operations()).unwrap()),
    ];
    write_lines(&second_fixture(), &lines);
}

/// Only for a new format: `cargo test --lib write_the_fixture -- --ignored`, under a new file name.
#[test]
#[ignore = "it writes the fixture that the test above reads"]
fn write_the_fixture_of_the_format() {
    let lines = [
        ("commit", journal::encode(&commit(), 5).unwrap()),
        ("block", cut_into_blocks(&[&event()]).unwrap().remove(0).1),
        ("tenant", records::encode_tenant(&tenant()).unwrap()),
        ("audit_2", records::encode_audit(&audit_2(), &[7; 32]).unwrap()),
        ("checkpoint", records::encode_checkpoint(&checkpoint()).unwrap()),
    ];
    write_lines(&fixture(), &lines);
}

pub(super) fn write_lines(fixture: &Path, lines: &[(&str, Vec<u8>)]) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let text: String = lines.iter().map(|(name, bytes)| format!("{name} {}\n", hex(bytes))).collect();
    std::fs::create_dir_all(fixture.parent().unwrap()).unwrap();
    std::fs::write(fixture, text).unwrap();
}

#[test]
fn a_log_of_version_1_gets_leaves_and_is_found_by_its_fields() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(folder.path(), 1 << 20, [7; 32], uuid::Uuid::nil()).unwrap();
    drop(open());
    {
        // As version 1 left it: one record, and none of the tables beside it.
        let db = Database::create(folder.path().join(FILE_NAME)).unwrap();
        let write = db.begin_write().unwrap();
        write.open_table(tables::AUDIT).unwrap().insert(0, version_1_audit(0).as_slice()).unwrap();
        write.delete_table(tables::AUDIT_LEAVES).unwrap();
        write.delete_table(tables::AUDIT_IDS).unwrap();
        write.delete_table(tables::AUDIT_KEYS).unwrap();
        write.delete_table(tables::AUDIT_RESOLUTIONS).unwrap();
        write.commit().unwrap();
        drop(db);
        set_format(folder.path(), 1);
    }
    let expected = AuditRecord { index: 0, ..audit() };
    for _ in 0..2 {
        let store = open();
        let snapshot = store.snapshot().unwrap();
        let filter = AuditFilter { tenant_id: Some(acme()), ..AuditFilter::default() };
        let page = snapshot.audit_page(&filter, None, 10).unwrap();
        let found: Vec<AuditRecord> = page.records.into_iter().map(|logged| logged.record).collect();
        assert_eq!(found, std::slice::from_ref(&expected));
        assert_eq!(snapshot.find_audit(expected.event_id, Some(&acme())).unwrap(), Some((0, 0)));
        assert_eq!(snapshot.next_audit_index().unwrap(), 1);
    }
}

/// The fixture's record under another index, which is one byte behind the version while it is small.
fn version_1_audit(index: u8) -> Vec<u8> {
    let mut bytes = bytes_of("audit");
    assert_eq!(bytes[..2], [1, 3]);
    bytes[1] = index;
    bytes
}

#[test]
fn a_leaf_commits_to_every_byte_of_its_record() {
    let (record, salt) = (audit(), [7; 32]);
    let payload = records::encode_audit(&record, &salt).unwrap();
    assert_eq!(records::decode_audit(&payload).unwrap(), record);
    let leaf = records::audit_leaf(&record, &payload);
    assert_eq!(records::recorded_at(&leaf).unwrap(), record.timestamp);
    for place in 0..payload.len() {
        let mut other = payload.clone();
        other[place] ^= 1;
        assert_ne!(records::audit_leaf(&record, &other), leaf, "{place}");
    }
    // The same record under another salt tells nothing of it.
    let salted = records::encode_audit(&record, &[8; 32]).unwrap();
    assert_ne!(records::audit_leaf(&record, &salted)[17..], leaf[17..]);
}

fn set_format(folder: &Path, version: u8) {
    let db = Database::create(folder.join(FILE_NAME)).unwrap();
    let write = db.begin_write().unwrap();
    // The record's version byte, then the number, in one byte while it is small.
    write.open_table(tables::META).unwrap().insert(tables::META_FORMAT, [1, version].as_slice()).unwrap();
    write.commit().unwrap();
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path(), 1 << 20, [7; 32], uuid::Uuid::nil()).unwrap());
    set_format(folder.path(), FORMAT_VERSION as u8 + 1);
    let refused = Store::open(folder.path(), 1 << 20, [7; 32], uuid::Uuid::nil());
    assert!(matches!(refused, Err(StoreError::NewerFormat { found }) if found == FORMAT_VERSION + 1));
    // The refusal changed nothing that the newer version would miss.
    set_format(folder.path(), FORMAT_VERSION as u8);
    let store = Store::open(folder.path(), 1 << 20, [8; 32], uuid::Uuid::max()).unwrap();
    assert_eq!((store.secret(), store.store_id()), (&[7; 32], uuid::Uuid::nil()));
}

/// A store as format 1 left it: audit ids were one namespace for all tenants.
fn store_of_format_1(folder: &Path, records: &[AuditRecord]) {
    let store = Store::open(folder, 1 << 20, [7; 32], uuid::Uuid::nil()).unwrap();
    let mut transaction = store.begin().unwrap();
    let added: Vec<(AuditRecord, u64)> = records.iter().map(|record| (record.clone(), record.index + 40)).collect();
    transaction.put_audit(&added).unwrap();
    transaction.commit().unwrap();
    store.close();
    let db = Database::create(folder.join(FILE_NAME)).unwrap();
    let write = db.begin_write().unwrap();
    {
        let mut ids = write.open_table(tables::AUDIT_IDS_1).unwrap();
        for (record, content) in &added {
            ids.insert(record.event_id.as_u128(), (record.index, *content)).unwrap();
        }
    }
    write.delete_table(tables::AUDIT_IDS).unwrap();
    write.commit().unwrap();
    drop(db);
    set_format(folder, 1);
}

#[test]
fn a_store_of_format_1_is_copied_and_brought_up_once() {
    let folder = tempfile::tempdir().unwrap();
    let mine = AuditRecord { index: 0, event_id: uuid::Uuid::from_u128(5), ..audit() };
    let nobodys = AuditEntry { tenant_id: None, ..audit().entry };
    let nobodys = AuditRecord { index: 1, event_id: uuid::Uuid::from_u128(6), entry: nobodys, ..audit() };
    store_of_format_1(folder.path(), &[mine.clone(), nobodys.clone()]);
    let before = std::fs::read(folder.path().join(FILE_NAME)).unwrap();
    let copy = migration::copy_of(&folder.path().join(FILE_NAME), 1);

    for open in 0..2 {
        let store = Store::open(folder.path(), 1 << 20, [8; 32], uuid::Uuid::max()).unwrap();
        assert_eq!((store.secret(), store.store_id()), (&[7; 32], uuid::Uuid::nil()));
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.find_audit(mine.event_id, Some(&acme())).unwrap(), Some((0, 40)));
        assert_eq!(snapshot.find_audit(mine.event_id, None).unwrap(), None);
        assert_eq!(snapshot.find_audit(nobodys.event_id, None).unwrap(), Some((1, 41)));
        assert_eq!(snapshot.audit_with_id(mine.event_id, 9).unwrap(), [0]);
        drop(snapshot);
        store.close();
        assert_eq!(copy.exists(), open == 0, "the copy is made by the first start only");
        if open == 0 {
            // It is what an older metergate goes on with.
            let db = Database::create(&copy).unwrap();
            let read = db.begin_read().unwrap();
            assert_eq!(records::read_format(&read.open_table(tables::META).unwrap()).unwrap(), 1);
            drop((read, db));
            assert!(!before.is_empty());
            std::fs::remove_file(&copy).unwrap();
        }
    }
}

#[test]
fn a_store_of_format_2_has_its_hours_folded_as_far_in_every_slice() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), 1 << 20, [7; 32], uuid::Uuid::nil()).unwrap();
    let mut transaction = store.begin().unwrap();
    for number in 0..5_000 {
        let id = format!("tenant-{number}").parse().unwrap();
        let tenant = crate::domain::tenant::Tenant::new(id, "trial", chrono_tz::UTC, Timestamp::default());
        transaction.put_tenant(number, &tenant).unwrap();
    }
    transaction.commit().unwrap();
    store.close();
    let db = Database::create(folder.path().join(FILE_NAME)).unwrap();
    let write = db.begin_write().unwrap();
    write.delete_table(tables::HOURS).unwrap();
    {
        let mut hours = write.open_table(tables::HOURS_2).unwrap();
        hours.insert(500_000, (90, 90)).unwrap();
        hours.insert(500_001, (120, 95)).unwrap();
    }
    write.commit().unwrap();
    drop(db);
    set_format(folder.path(), 2);

    let store = Store::open(folder.path(), 1 << 20, [8; 32], uuid::Uuid::max()).unwrap();
    let snapshot = store.snapshot().unwrap();
    let mark = |filed_through, folded_through| HourMark { filed_through, folded_through };
    let expected = [(0, 500_000, mark(90, 90)), (1, 500_000, mark(90, 90)), (0, 500_001, mark(120, 95))];
    let expected = expected.into_iter().chain([(1, 500_001, mark(120, 95))]);
    let expected: Vec<_> = expected.map(|(slice, hour, mark)| ((Slice(slice), hour), mark)).collect();
    assert_eq!(snapshot.hour_marks().unwrap(), expected);
    let asked = [(Slice(1), 500_001), (Slice(2), 500_001), (Slice(0), 499_999)];
    assert_eq!(snapshot.hour_marks_of(asked).unwrap(), expected[3..]);
    assert!(migration::copy_of(&folder.path().join(FILE_NAME), 2).exists());
}

#[test]
fn a_store_that_cannot_be_copied_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    store_of_format_1(folder.path(), &[]);
    // What stands in the way is a folder of the copy's name.
    let copy = migration::copy_of(&folder.path().join(FILE_NAME), 1);
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("in the way"), "").unwrap();
    let refused = Store::open(folder.path(), 1 << 20, [7; 32], uuid::Uuid::nil()).err().unwrap();
    assert!(
        matches!(&refused, StoreError::NoBackup { found: 1, reason } if reason.contains("free space")),
        "{refused}"
    );
    std::fs::remove_dir_all(&copy).unwrap();
    assert!(Store::open(folder.path(), 1 << 20, [7; 32], uuid::Uuid::nil()).is_ok(), "nothing was changed before");
    assert!(copy.exists());
}
