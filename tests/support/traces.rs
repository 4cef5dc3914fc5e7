//! The real traces, and the figures expected of them. They are read where they lie and never copied into the project.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use serde_json::Value;

use super::Totals;

/// The Azure trace: one hour of a conversation service.
pub const AZURE: &str = "azure/AzureLLMInferenceTrace_conv.csv";
/// The ServeGen stream: a day of 108 clients, gzip.
pub const SERVEGEN: &str = "servegen/stream_r1_mm_24h.csv.gz";

/// A file of the folder of traces, or `None` with a word about it where the folder is not at hand.
pub fn data_file(name: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("METERGATE_TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    let path = folder.join(name);
    if path.is_file() {
        return Some(path.canonicalize().expect("a file that exists has a path"));
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED: {test}: {name} is not in the folder of traces (METERGATE_TEST_DATA)");
    eprintln!("{line}");
    if let Some(log) = std::env::var_os("METERGATE_SKIP_LOG") {
        let mut log = File::options().create(true).append(true).open(log).expect("the log of skipped tests");
        writeln!(log, "{line}").expect("the log of skipped tests takes a line");
    }
    None
}

/// What the Azure trace adds up to; it knows no reasoning tokens.
pub fn expected_of_azure() -> Option<Totals> {
    let expected = &expectations()?[AZURE];
    let figure = |name: &str| expected[name].as_u64().expect("a figure of the Azure trace");
    Some(Totals {
        requests: figure("rows"),
        input: figure("input_tokens"),
        output: figure("output_tokens"),
        reasoning: 0,
    })
}

/// What the ServeGen stream adds up to, by client; checked against its total in EXPECTED.json.
pub fn expected_by_client() -> Option<BTreeMap<String, Totals>> {
    let mut reader = csv::Reader::from_path(data_file("servegen/expected_by_client.csv")?).expect("expected figures");
    let mut clients = BTreeMap::new();
    for row in reader.deserialize() {
        let (client, requests, input, output, reasoning, _images): (String, u64, u64, u64, u64, u64) =
            row.expect("a row of expected figures");
        clients.insert(client, Totals { requests, input, output, reasoning });
    }
    let expected = &expectations()?[SERVEGEN];
    assert_eq!(expected["clients"].as_u64(), Some(clients.len() as u64));
    assert_eq!(expected["rows"].as_u64(), Some(sum(&clients).requests));
    Some(clients)
}

/// All clients together.
pub fn sum(clients: &BTreeMap<String, Totals>) -> Totals {
    clients.values().fold(Totals::default(), |mut sum, client| {
        sum += *client;
        sum
    })
}

/// Input and output tokens of every request of the busiest minute of the Azure trace, checked against EXPECTED.json.
pub fn busiest_minute_of_azure() -> Option<Vec<(u64, u64)>> {
    let expected = &expectations()?[AZURE];
    let minute = expected["peak_minute"].as_str().expect("the busiest minute");
    let mut reader = csv::Reader::from_path(data_file(AZURE)?).expect("the Azure trace");
    let rows = reader.deserialize().map(|row| row.expect("a row of the Azure trace"));
    let busiest: Vec<(u64, u64)> = rows
        .filter(|row: &(String, u64, u64)| row.0.starts_with(minute))
        .map(|(_, input, output)| (input, output))
        .collect();
    assert_eq!(expected["peak_minute_requests"].as_u64(), Some(busiest.len() as u64));
    let tokens = busiest.iter().map(|(input, output)| input + output).sum();
    assert_eq!(expected["peak_minute_tokens"].as_u64(), Some(tokens));
    Some(busiest)
}

fn expectations() -> Option<Value> {
    let file = File::open(data_file("EXPECTED.json")?).expect("EXPECTED.json");
    Some(serde_json::from_reader(file).expect("EXPECTED.json is JSON"))
}
