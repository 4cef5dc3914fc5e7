//! Changed traces of every format, plain and compressed: each line is an event of JSON or an error of its own, and a broken
//! file ends where it breaks.

use std::io::{Cursor, Write};

use super::columns::Field;
use super::format::Decoder;
use super::lines::Lines;
use super::shift::{Shift, TimeUnit};
use super::source::Source;
use super::tests::arguments;
use super::*;
use crate::fuzz::fuzz;

/// Reads all of a file; gives how many rows were events.
fn events_in(words: &[&str], bytes: &[u8]) -> usize {
    let args = arguments(words);
    args.check().unwrap();
    let (map, defaults) = args.map_and_defaults().unwrap();
    let name = args.id_name(&args.files[0]);
    let decoder = Decoder::new(args.format, map, defaults, Shift::new(args.start_at), name);
    let Ok(lines) = Lines::over(Cursor::new(bytes.to_vec())) else { return 0 };
    let mut source = Source::new(lines, decoder);
    let (mut events, mut rows, mut json) = (0, 0, Vec::new());
    while let Ok(Some(row)) = source.next_row(&mut json) {
        rows += 1;
        assert!(rows <= bytes.len() * 2_000, "rows without end");
        match row.outcome {
            Ok(()) => {
                let event: Result<serde_json::Value, _> = serde_json::from_slice(&json);
                // Numbers that no double holds stay as they were written: the server refuses them.
                let is_json = event.is_ok_and(|event| event.is_object())
                    || serde_json::from_slice::<&serde_json::value::RawValue>(&json).is_ok();
                assert!(is_json, "{}", String::from_utf8_lossy(&json));
                events += 1;
            }
            Err(reason) => assert!(json.is_empty() && !reason.is_empty(), "{reason}"),
        }
        json.clear();
    }
    events
}

const JSONL: &str = "{\"tenant_id\":\"a\",\"event_type\":\"api_call\",\"cost_usd\":0.10,\"event_timestamp\":\"2026-11-24T10:00:00Z\"}\n\
    {\"tenant_id\":\"b\",\"event_type\":\"search\",\"metadata\":{\"x\":[1]}}\n";
const CSV: &str = "tenant_id,event_type,event_timestamp,input_tokens,metadata.region,cost_usd\n\
    acme,api_call,2026-11-24T10:00:00Z,12,\"eu, west\",0.5\nacme,api_call,2026-11-24T10:00:01Z,,,\n";
const CLOUDEVENTS: &str = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/a\",\"type\":\"chat\",\"subject\":\"acme\",\
    \"data\":{\"input_tokens\":3}}\n";
const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n";

#[test]
fn changed_traces_give_events_or_errors_line_by_line() {
    let array = format!("[{}]", JSONL.trim_end().replace('\n', ","));
    for (format, corpus, more) in [
        ("jsonl", vec![JSONL, &array], &["--start-at", "2026-11-24T00:00:00Z"][..]),
        ("jsonl", vec![JSONL], &["--map", "tenant_id=chat_session_id"]),
        ("csv", vec![CSV], &[]),
        ("cloudevents", vec![CLOUDEVENTS], &[]),
        ("azure-llm", vec![AZURE], &["--start-at", "2026-11-24T00:00:00Z"]),
    ] {
        let words: Vec<&str> = ["trace.x", "--format", format].into_iter().chain(more.iter().copied()).collect();
        fuzz(&format!("traces as {format}"), 2_000, &corpus, |bytes| events_in(&words, bytes) > 0);
    }
}

#[test]
fn changed_compressed_traces_end_where_they_break() {
    let packed = |text: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    // A line of 200 MB in 200 kB: it is told, and never held.
    let corpus = [packed(JSONL), [packed(JSONL), packed(JSONL)].concat(), packed(&JSONL.repeat(200))];
    fuzz("compressed traces", 2_000, &corpus, |bytes| events_in(&["t.gz", "--format", "jsonl"], bytes) > 0);
}

#[test]
fn changed_maps_columns_and_times_are_errors() {
    fuzz("columns", 3_000, &["input_tokens", "event_timestamp:milliseconds", "metadata.image_count", "-"], |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| Field::read(text).is_ok())
    });
    fuzz("column maps", 3_000, &["tenant=tenant_id", "a=b=metadata.x"], |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| ColumnMap::default().add(text).is_ok())
    });
    let times = ["2023-11-16 18:15:46.6805900", "2023-11-16T18:15:46", "2026-11-24T10:00:00+01:00", "12345.678"];
    fuzz("times of traces", 6_000, &times, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let read = [TimeUnit::Any, TimeUnit::Naive, TimeUnit::Milliseconds].map(|unit| unit.read(text));
        let mut shift = Shift::new("2026-11-24T00:00:00Z".parse().ok());
        let mut any = false;
        for micros in read.into_iter().flatten() {
            any = true;
            let _moved = (shift.apply(micros), shift.apply(0), shift.apply(i64::MAX), shift.apply(i64::MIN));
        }
        any
    });
}
