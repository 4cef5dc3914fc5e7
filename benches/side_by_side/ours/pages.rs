//! What a closed store takes on disk, counted from outside by redb itself.

use std::path::Path;

use metergate::domain::time::PeriodType;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition, TableHandle};

/// (period type, period, first tenant) -> rows.
const METRICS: TableDefinition<'static, (u8, u32, u32), &[u8]> = TableDefinition::new("tenant_usage_metrics");
const DAILY: u8 = PeriodType::Daily as u8;

/// Bytes of allocated pages.
pub struct Pages {
    /// All but the metrics rows.
    pub events: u64,
    /// Of the metrics rows.
    pub metrics: u64,
    /// Bytes of the blocks of daily rows among them.
    pub daily_rows: u64,
}

/// Counts them; two empty commits first give back what earlier ones freed.
pub fn of(folder: &Path) -> Pages {
    let db = Database::open(folder.join(metergate::store::FILE_NAME)).unwrap();
    for _ in 0..2 {
        db.begin_write().unwrap().commit().unwrap();
    }
    let read = db.begin_read().unwrap();
    let metrics = read
        .list_tables()
        .unwrap()
        .filter(|table| table.name() == "tenant_usage_metrics")
        .map(|table| {
            let stats = read.open_untyped_table(table).unwrap().stats().unwrap();
            stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes()
        })
        .sum();
    let rows = read.open_table(METRICS).unwrap();
    let daily = (DAILY, 0, 0)..(DAILY + 1, 0, 0);
    let daily_rows = rows.range(daily).unwrap().map(|row| row.unwrap().1.value().len() as u64).sum();
    drop((rows, read));
    let write = db.begin_write().unwrap();
    let stats = write.stats().unwrap();
    let all = stats.allocated_pages() * stats.page_size() as u64;
    write.abort().unwrap();
    Pages { events: all - metrics, metrics, daily_rows }
}
