//! Each format against its real shape, and whole imports against a server made of a few lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use clap::Parser;
use serde_json::{Value, json};

use super::*;

#[derive(Parser)]
struct Words {
    #[command(flatten)]
    args: ImportArgs,
}

pub(super) fn arguments(words: &[&str]) -> ImportArgs {
    Words::try_parse_from(["import"].iter().chain(words)).unwrap().args
}

/// Every row of `bytes` as JSON, or why not.
fn rows(words: &[&str], bytes: &[u8]) -> Vec<(u64, Result<Value, String>)> {
    let args = arguments(words);
    args.check().unwrap();
    let (map, defaults) = args.map_and_defaults().unwrap();
    let name = args.id_name(&args.files[0]);
    let decoder = Decoder::new(args.format, map, defaults, Shift::new(args.start_at), name);
    let mut source = Source::new(Lines::over(std::io::Cursor::new(bytes.to_vec())).unwrap(), decoder);
    let (mut all, mut json) = (Vec::new(), Vec::new());
    while let Some(row) = source.next_row(&mut json).unwrap() {
        all.push((row.number, row.outcome.map(|()| serde_json::from_slice(&json).unwrap())));
        json.clear();
    }
    all
}

#[test]
fn azure_lines_keep_their_microseconds_and_get_a_tenant() {
    let text = b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109";
    let all = rows(&["azure.csv", "--format", "azure-llm", "--start-at", "2026-11-20", "--model", "m"], text);
    let expected = json!({"event_timestamp": "2026-11-20T00:00:04.314579Z", "input_tokens": 396, "output_tokens": 109,
        "tenant_id": "azure", "event_type": "chat_message", "model": "m", "event_id": "azure.csv:3"});
    assert_eq!(all[1], (3, Ok(expected)));
    assert_eq!(all.len(), 2);
    let kept = rows(&["azure.csv", "--format", "azure-llm"], text);
    assert_eq!(kept[0].1.as_ref().unwrap()["event_timestamp"], "2023-11-16T18:15:46.680590Z");
}

#[test]
fn servegen_lines_are_their_clients_and_mooncake_lines_count_cache_hits() {
    let text = b"t_ms,client,model,input_tokens,output_tokens,reasoning_tokens,image_count\n563,deepseek-r1-c019,deepseek-r1,2557,144,115,0\n";
    let words = ["x/stream.csv.gz", "--format", "servegen", "--start-at", "2026-11-20T00:00:00Z"];
    let expected = json!({"event_timestamp": "2026-11-20T00:00:00Z", "tenant_id": "deepseek-r1-c019", "model": "deepseek-r1",
        "input_tokens": 2557, "output_tokens": 144, "reasoning_tokens": 115, "metadata": {"image_count": 0},
        "event_type": "api_call", "event_id": "stream.csv:2"});
    assert_eq!(rows(&words, text), [(2, Ok(expected))]);

    let text = b"t_ms,input_tokens,cached_tokens,output_tokens,first_block\n0,6758,0,500,0\n3000,7322,512,490,0\n";
    let all = rows(&["m.csv", "--format", "mooncake", "--start-at", "2026-11-20"], text);
    let expected = json!({"event_timestamp": "2026-11-20T00:00:03Z", "tenant_id": "mooncake", "input_tokens": 7322,
        "cached_input_tokens": 512, "output_tokens": 490, "event_type": "chat_message", "event_id": "m.csv:3"});
    assert_eq!(all[1], (3, Ok(expected)));
}

#[test]
fn json_lines_keep_what_they_say_and_a_cost_keeps_its_digits() {
    let text = b"{\"tenant_id\":\"a\",\"event_type\":\"x\",\"event_id\":\"own\",\"cost_usd\":123456.123456789012345}\nnonsense\n\n{\"who\":\"b\",\"metadata\":{\"n\":1},\"model\":null}\n";
    let words = ["e.jsonl", "--map", "who=tenant_id", "--event-type", "search", "--model", "m"];
    let args = arguments(&words);
    let (map, defaults) = args.map_and_defaults().unwrap();
    let mut decoder = Decoder::new(args.format, map, defaults, Shift::new(None), "e.jsonl".to_owned());
    let mut out = Vec::new();
    decoder.decode(1, std::str::from_utf8(text).unwrap().lines().next().unwrap(), &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("\"cost_usd\":123456.123456789012345"));

    let all = rows(&words, text);
    assert_eq!((all[0].1.as_ref().unwrap()["event_id"].as_str(), all[1].0), (Some("own"), 2));
    assert!(all[1].1.as_ref().unwrap_err().contains("not a JSON object"));
    let expected =
        json!({"tenant_id": "b", "metadata": {"n": 1}, "model": "m", "event_type": "search", "event_id": "e.jsonl:4"});
    assert_eq!(all[2], (4, Ok(expected)));
    let array = rows(&["a.jsonl"], b" [{\"tenant_id\":\"a\"},\n {\"tenant_id\":\"b\"}]");
    assert_eq!(array[1], (2, Ok(json!({"tenant_id": "b", "event_id": "a.jsonl:2"}))));
}

#[test]
fn a_cloudevent_is_its_data_and_the_envelope_fills_the_gaps() {
    let text = br#"{"specversion":"1.0","type":"com.example.chat","source":"/app","id":"A-1","time":"2026-11-20T17:31:00Z","subject":"acme","data":{"event_type":"chat_message","input_tokens":3}}
{"specversion":"0.3","id":"A-2"}"#;
    let all = rows(&["c.jsonl", "--format", "cloudevents", "--start-at", "2026-11-21"], text);
    let expected = json!({"tenant_id": "acme", "event_type": "chat_message", "event_id": "A-1",
        "event_timestamp": "2026-11-21T00:00:00Z", "input_tokens": 3});
    assert_eq!(all[0], (1, Ok(expected)));
    assert!(all[1].1.as_ref().unwrap_err().contains("specversion"));
}

#[test]
fn a_bad_line_of_columns_is_named_and_the_rest_is_kept() {
    let text = b"tenant_id,event_type,tokens_consumed,cost_usd,metadata.note\na,x,1.5,,\na,x,7\na,x,7,0.00125,\"say \"\"hi\"\", you\"\n\"a,x,7,,\na,x,,-1,\n";
    let all = rows(&["p.csv", "--format", "csv"], text);
    let reason = |index: usize| all[index].1.as_ref().unwrap_err().clone();
    assert!(reason(0).contains("tokens_consumed: `1.5`"));
    assert!(reason(1).contains("3 cells where the heading has 5"));
    let expected = json!({"tenant_id": "a", "event_type": "x", "tokens_consumed": 7, "cost_usd": 0.00125,
        "metadata": {"note": "say \"hi\", you"}, "event_id": "p.csv:4"});
    assert_eq!(all[2], (4, Ok(expected)));
    assert!(reason(3).contains("quote is not closed") && reason(4).contains("cost_usd"));
}

#[test]
fn flags_that_cannot_work_are_refused_before_anything_is_opened() {
    for (words, part) in [
        (vec!["m.csv", "--format", "mooncake"], "--start-at"),
        (vec!["a/x.csv", "b/x.csv.gz", "--format", "csv"], "two inputs are named `x.csv`"),
        (vec!["a", "b", "--name", "n"], "--name"),
        (vec!["a", "--map", "x=nothing"], "not a field"),
        (vec!["a", "--map", "x=metadata.y"], "only renames"),
    ] {
        let failure = arguments(&words).check().unwrap_err();
        assert!(failure.exit == Exit::Usage && failure.message.contains(part), "{failure}");
    }
    let long = format!("{}.csv", "n".repeat(300));
    assert_eq!(arguments(&[&long]).id_name(&long).chars().count(), NAME_CHARS_MAX);
}

/// Answers one connection's requests in turn; rejects every event whose tokens are 13.
fn serve_once(listener: TcpListener, busy_first: bool) -> std::thread::JoinHandle<Vec<usize>> {
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut writer, mut sizes, mut busy) = (stream, Vec::new(), busy_first);
        loop {
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            if length == 0 {
                return sizes;
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let events: Vec<Value> = serde_json::from_slice(&body).unwrap();
            sizes.push(events.len());
            let bad: Vec<usize> = (0..events.len()).filter(|at| events[*at]["tokens_consumed"] == 13).collect();
            let listed: Vec<Value> = bad
                .iter()
                .take(100)
                .map(|at| json!({"index": at, "code": "event_too_old", "error": "too old"}))
                .collect();
            let answer = json!({"accepted": events.len() - bad.len(), "duplicates": 0, "rejected": listed, "rejected_total": bad.len()});
            let (status, answer) =
                if std::mem::take(&mut busy) { (503, json!({"error": "busy"})) } else { (200, answer) };
            let answer = answer.to_string();
            write!(
                writer,
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
        }
    })
}

#[test]
fn batches_reach_the_server_and_every_rejection_gets_its_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = serve_once(listener, true);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    let mut text = "tenant_id,event_type,tokens_consumed\n".to_owned();
    for number in 0..450 {
        text += if number < 150 { "a,x,13\n" } else { "a,x,7\n" };
    }
    std::fs::write(&path, text + "broken\n").unwrap();
    let path = path.to_string_lossy().into_owned();
    let args = arguments(&[&path, "--format", "csv", "--batch", "300", "--server", &url, "--key", "k"]);
    let settings = crate::config::Settings::from_sources(crate::config::Sources {
        flags: vec![("data_dir", folder.path().to_string_lossy().into_owned())],
        config_file: None,
        environment: &|_| None,
    })
    .unwrap();
    let backend = Backend::open(&args.target, &settings, super::super::local::Purpose::Write).unwrap();
    let mut report = Report::default();
    import_file(&args, &path, &backend, &mut report).unwrap();
    drop(backend);
    // Busy, again, then 150 rejections of which only 100 are described: asked again in three parts.
    assert_eq!(server.join().unwrap(), [300, 300, 100, 100, 100, 150]);
    let file = report.add(FileReport::default());
    assert_eq!(file.accepted, 0);
    assert_eq!(report.rejected(), 151);
}

/// The real traces, where they are.
fn real_data() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    ["../shared/data", "../../shared/data"].iter().map(|path| root.join(path)).find(|path| path.is_dir())
}

#[test]
fn the_real_traces_add_up_to_the_expected_totals() {
    let Some(folder) = real_data() else { return };
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("EXPECTED.json")).unwrap()).unwrap();
    for (path, format) in [
        ("azure/AzureLLMInferenceTrace_conv.csv", "azure-llm"),
        ("servegen/stream_r1_mm_24h.csv.gz", "servegen"),
        ("mooncake/conversation_trace_cached.csv", "mooncake"),
    ] {
        let file = folder.join(path).to_string_lossy().into_owned();
        let all = rows(&[&file, "--format", format, "--start-at", "2026-11-20"], &std::fs::read(&file).unwrap());
        let events: Vec<Value> = all.into_iter().map(|(_, row)| row.unwrap()).collect();
        let expected = &expected[path];
        let sum = |field: &str| events.iter().filter_map(|event| event[field].as_u64()).sum::<u64>();
        assert_eq!(expected["rows"], events.len());
        if format == "servegen" {
            let models = expected["by_model"].as_object().unwrap();
            for (column, field) in [(1, "input_tokens"), (2, "output_tokens"), (3, "reasoning_tokens")] {
                assert_eq!(
                    sum(field),
                    models.values().filter_map(|sums| sums[column].as_u64()).sum::<u64>(),
                    "{field}"
                );
            }
            let tenants: BTreeSet<&str> = events.iter().filter_map(|event| event["tenant_id"].as_str()).collect();
            assert_eq!(expected["clients"], tenants.len());
        } else {
            assert_eq!(expected["input_tokens"], sum("input_tokens"), "{path}");
            assert_eq!(expected["output_tokens"], sum("output_tokens"), "{path}");
            assert_eq!(expected["cached_tokens"].as_u64().unwrap_or(0), sum("cached_input_tokens"), "{path}");
        }
    }
}
