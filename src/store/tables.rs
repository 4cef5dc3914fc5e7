//! The tables of the one redb file, and the version of their formats.

use redb::{Key, TableDefinition, Value};

use super::StoreError;

/// The format this version writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 3;

/// Single values: see the `META_*` keys.
pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
/// Commit sequence -> one block with everything of that commit, in order.
pub(super) const JOURNAL: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("journal");
/// (UTC day, run) -> what the run holds. The run's blocks stand in the day's own table.
pub(super) const RUNS: TableDefinition<'static, (u32, u64), &[u8]> = TableDefinition::new("runs");
/// (UTC day, run) -> the quota denials that this filing brought.
pub(super) const DENIALS: TableDefinition<'static, (u32, u64), &[u8]> = TableDefinition::new("denials");
/// (UTC hour, slice of tenants) -> how far their events were filed, and how far their rows are folded.
pub(super) const HOURS: TableDefinition<'static, (u32, u32), (u64, u64)> = TableDefinition::new("slice_hours");
/// Format 2: UTC hour -> the same, for all tenants together.
pub(super) const HOURS_2: TableDefinition<'static, u32, (u64, u64)> = TableDefinition::new("hours");
/// (period type, period, first tenant number) -> packed rows.
pub(super) const METRICS: TableDefinition<'static, (u8, u32, u32), &[u8]> =
    TableDefinition::new("tenant_usage_metrics");
/// Tenant number -> tenant.
pub(super) const TENANTS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("tenants");
/// Plan name -> plan.
pub(super) const PLANS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("plans");
/// `book` -> the price book in force, as its file was written. Stores of before there were prices lack it and the next.
pub(super) const PRICES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("prices");
/// Price row number -> the row, for ever: events name it.
pub(super) const PRICE_ROWS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("price_rows");
/// Block of 256 tenant numbers -> their quota counters and holds at the checkpoint.
pub(super) const QUOTA_STATE: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("quota_state");
/// Job name -> its last run. Stores of before there were jobs lack it until the first run.
pub(super) const JOBS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("jobs");
/// Key id -> key, without its secret. Stores of before there were keys lack it until the first key.
pub(super) const API_KEYS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("api_keys");
/// Index -> audit record: what a leaf commits to, and what may be erased.
pub(super) const AUDIT: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("audit_events");
/// Index -> the record's leaf, as it is hashed. Without gaps from 0.
pub(super) const AUDIT_LEAVES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("audit_leaves");
/// (level, place) -> hash of a complete subtree over the leaves; level 0, the leaves themselves, is not kept.
pub(super) const AUDIT_NODES: TableDefinition<'static, (u8, u64), [u8; 32]> = TableDefinition::new("audit_nodes");
/// (event id, hash of its tenant) -> (index, digest of the caller's fields). Two tenants may use the same id.
pub(super) const AUDIT_IDS: TableDefinition<'static, (u128, u64), (u64, u64)> = TableDefinition::new("audit_event_ids");
/// Format 1: event id -> (index, digest), one id for all tenants together.
pub(super) const AUDIT_IDS_1: TableDefinition<'static, u128, (u64, u64)> = TableDefinition::new("audit_ids");
/// (hash of a field's value, index): what a record is found by.
pub(super) const AUDIT_KEYS: TableDefinition<'static, (u64, u64), ()> = TableDefinition::new("audit_keys");
/// Index of a resolved record -> index of the record of its resolution.
pub(super) const AUDIT_RESOLUTIONS: TableDefinition<'static, u64, u64> = TableDefinition::new("audit_resolutions");
/// Index of an erased audit record -> (event id, hash of its tenant): its id stays known, so that a repeat does not bring it
/// back. Stores of before there was erasure lack it until the first.
pub(super) const AUDIT_ERASED: TableDefinition<'static, u64, (u128, u64)> = TableDefinition::new("audit_erased");
/// Name -> backup. Stores of before there were backups lack it until the first.
pub(super) const BACKUPS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("backups");
/// `manifest` -> what a backup holds, as JSON. Only in backups.
pub(super) const BACKUP_MANIFEST: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("backup_manifest");

pub(super) const META_FORMAT: &str = "format_version";
pub(super) const META_STORE_ID: &str = "store_id";
pub(super) const META_SECRET: &str = "secret";
pub(super) const META_CHECKPOINT: &str = "checkpoint";
pub(super) const META_AUDIT_CUT: &str = "audit_cut";
/// The last signed checkpoint, as its text.
pub(super) const META_AUDIT_CHECKPOINT: &str = "audit_checkpoint";
/// The verifier key of who signs, as its text.
pub(super) const META_AUDIT_VERIFIER: &str = "audit_verifier";
/// There from the first piece of an erasure until the file is written anew without what was erased.
pub(super) const META_ERASURE_OPEN: &str = "erasure_open";
/// Since when this store goes on from a backup: there after the first restore.
pub(super) const META_EPOCH: &str = "epoch";
/// What a restore leaves for the first start, which records it.
pub(super) const META_RESTORED: &str = "restored";
pub(super) const META_CUT: &str = "realtime_cut";
/// The number of the last transaction that changed no journal: by it such a one is known again after a failed commit.
pub(super) const META_MARK: &str = "mark";

/// Makes every table that is not there yet; a day's own are made when it gets its first events.
pub(super) fn make_all(write: &redb::WriteTransaction) -> Result<(), redb::TableError> {
    write.open_table(META)?;
    write.open_table(JOURNAL)?;
    write.open_table(RUNS)?;
    write.open_table(DENIALS)?;
    write.open_table(HOURS)?;
    write.open_table(METRICS)?;
    write.open_table(TENANTS)?;
    write.open_table(PLANS)?;
    write.open_table(PRICES)?;
    write.open_table(PRICE_ROWS)?;
    write.open_table(QUOTA_STATE)?;
    write.open_table(JOBS)?;
    write.open_table(API_KEYS)?;
    write.open_table(AUDIT)?;
    write.open_table(AUDIT_LEAVES)?;
    write.open_table(AUDIT_NODES)?;
    write.open_table(AUDIT_IDS)?;
    write.open_table(AUDIT_KEYS)?;
    write.open_table(AUDIT_RESOLUTIONS)?;
    Ok(())
}

/// The name of the table of one UTC day's events; key: (run, first tenant number, block).
pub(super) fn day_table_name(day: u32) -> String {
    format!("tenant_usage_realtime_{day:06}")
}

/// A day's table by its name.
pub(super) fn day_table(name: &str) -> TableDefinition<'_, (u64, u32, u32), &'static [u8]> {
    TableDefinition::new(name)
}

/// Something to be done with every table, whatever its types.
pub(super) trait TableVisitor {
    /// Called with each table's definition.
    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<(), StoreError>;
}

/// Calls `visitor` with the table of this name. Fails for a name that is not known here: what cannot be read must not be
/// left out of a copy.
pub(super) fn visit(name: &str, visitor: &mut impl TableVisitor) -> Result<(), StoreError> {
    match name {
        "meta" => visitor.visit(META),
        "journal" => visitor.visit(JOURNAL),
        "runs" => visitor.visit(RUNS),
        "denials" => visitor.visit(DENIALS),
        "slice_hours" => visitor.visit(HOURS),
        "hours" => visitor.visit(HOURS_2),
        "tenant_usage_metrics" => visitor.visit(METRICS),
        "tenants" => visitor.visit(TENANTS),
        "plans" => visitor.visit(PLANS),
        "prices" => visitor.visit(PRICES),
        "price_rows" => visitor.visit(PRICE_ROWS),
        "quota_state" => visitor.visit(QUOTA_STATE),
        "jobs" => visitor.visit(JOBS),
        "api_keys" => visitor.visit(API_KEYS),
        "audit_events" => visitor.visit(AUDIT),
        "audit_leaves" => visitor.visit(AUDIT_LEAVES),
        "audit_nodes" => visitor.visit(AUDIT_NODES),
        "audit_event_ids" => visitor.visit(AUDIT_IDS),
        "audit_ids" => visitor.visit(AUDIT_IDS_1),
        "audit_keys" => visitor.visit(AUDIT_KEYS),
        "audit_resolutions" => visitor.visit(AUDIT_RESOLUTIONS),
        "audit_erased" => visitor.visit(AUDIT_ERASED),
        "backups" => visitor.visit(BACKUPS),
        "backup_manifest" => visitor.visit(BACKUP_MANIFEST),
        day if day.starts_with("tenant_usage_realtime_") => visitor.visit(day_table(day)),
        _ => Err(StoreError::Damaged("there is a table that this version does not know")),
    }
}
