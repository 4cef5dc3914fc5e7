//! SQLite as it is bundled with rusqlite: WAL, synchronous = FULL, the documented table with its index.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use crate::arguments::Arguments;

/// So many events a transaction.
pub fn record(arguments: &Arguments) -> Value {
    let happenings = crate::happenings(arguments);
    let path = Path::new(arguments.text("folder")).join("sqlite.db");
    let mut connection = Connection::open(&path).expect("a new database");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE tenant_usage_realtime (
                 entry_id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL, event_type TEXT NOT NULL,
                 event_timestamp INTEGER NOT NULL, api_method TEXT, api_endpoint TEXT, api_status_code INTEGER,
                 api_response_time_ms INTEGER, chat_session_id TEXT, embedding_tokens INTEGER,
                 search_query_tokens INTEGER, search_result_count INTEGER, tokens_consumed INTEGER, cost_usd TEXT,
                 created_at INTEGER);
             CREATE INDEX realtime_by_tenant ON tenant_usage_realtime (tenant_id, event_timestamp DESC);",
        )
        .expect("the documented table");
    let names: Vec<String> = {
        let most = happenings.iter().map(|happening| happening.tenant_no).max().unwrap_or(0);
        (0..=most).map(|no| format!("tenant-{no}")).collect()
    };
    let started = Instant::now();
    for batch in happenings.chunks(arguments.number("batch")) {
        let transaction = connection.transaction().expect("a transaction");
        {
            let mut insert = transaction
                .prepare_cached(
                    "INSERT INTO tenant_usage_realtime (tenant_id, event_type, event_timestamp, api_method, api_endpoint,
                     api_status_code, api_response_time_ms, tokens_consumed, created_at)
                     VALUES (?1, ?2, ?3, 'POST', ?4, ?5, ?6, ?7, ?3)",
                )
                .expect("a statement");
            for event in batch {
                let tokens = (event.input + event.output) as i64;
                let (tenant, kind) = (&names[event.tenant_no as usize], event.event_type);
                insert
                    .execute(params![
                        tenant,
                        kind,
                        event.micros,
                        event.endpoint,
                        event.status,
                        event.response_ms,
                        tokens
                    ])
                    .expect("a row");
            }
        }
        transaction.commit().expect("a commit");
    }
    let seconds = started.elapsed().as_secs_f64();
    let count = "SELECT count(*), sum(tokens_consumed) FROM tenant_usage_realtime";
    let (rows, tokens): (i64, i64) =
        connection.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("a count");
    assert_eq!(rows as usize, happenings.len());
    assert_eq!(tokens as u64, happenings.iter().map(|event| event.input + event.output).sum::<u64>());
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("a checkpoint");
    let bytes = std::fs::metadata(&path).expect("its file").len();
    json!({ "rate": rows as f64 / seconds, "bytes_per_event": bytes as f64 / rows as f64 })
}
