//! Files that an operator or another project wrote: plans, prices, settings, signed notes.

use std::cell::RefCell;

use metergate::config::{Settings, Sources};
use metergate::domain::time::Timestamp;
use metergate::domain::usage::UsageCounts;
use metergate::rules::checkpoint::{AuditCheckpoint, CheckpointSigner, VerifierKey};
use metergate::rules::plans::parse_plans;
use metergate::rules::prices::{MatchRule, PriceBook, PriceFormat, own_rates, read_prices};

use super::driver::fuzz;
use super::text;

/// Reads a price file, and prices with whatever came out of it.
fn prices(format: PriceFormat, bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    match read_prices(format, text) {
        Ok(imported) => {
            price_with(&imported.book);
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

fn price_with(book: &PriceBook) {
    let at: Timestamp = "2026-11-24T10:30:00Z".parse().unwrap();
    let some = UsageCounts { input_tokens: Some(1_000), output_tokens: Some(300), ..UsageCounts::default() };
    let most = Some(1_000_000_000_000);
    let much = UsageCounts { input_tokens: most, cached_input_tokens: most, output_tokens: most, ..some };
    for provider in book.providers().iter().take(3) {
        for model in provider.models().iter().take(5) {
            let _in_force = model.at(at);
            if let Some(found) = book.find(None, "gpt-4o-mini", at) {
                let _costs = (found.cost(&some), found.cost(&much));
            }
        }
    }
    for name in ["gpt-4o-mini", "openai/GPT-4o", "", "a.b:c@d/e", "\u{130}"] {
        let _found = (book.find(None, name, at).is_some(), book.find_model(Some("openai"), name).is_some());
    }
}

const OWN_PRICES: &str = r#"
[providers.openai]
name = "OpenAI"
match = "gpt-*|o1*"

[providers.openai.models."gpt-4o-mini"]
aliases = ["gpt-4o-mini-2024-07-18"]
input = "0.15"
cached_input = "0.075"
output = "0.6"

[[providers.openai.models."gpt-x".prices]]
from = "2026-01-01"
input = { base = "2.5", above_200000 = "5" }
output = "10"
"#;

/// A part of the shipped file that is small enough to be read thousands of times.
fn shipped_part() -> String {
    let text = metergate::rules::prices::SHIPPED_PRICES;
    let mut part = String::new();
    // Whole tables only: a table begins at the start of a line.
    for table in text.split_inclusive("\n\n").take(12) {
        part.push_str(table);
    }
    part
}

#[test]
fn changed_price_files_of_ours_are_errors() {
    let mut corpus = vec![shipped_part()];
    if read_prices(PriceFormat::Toml, OWN_PRICES).is_ok() {
        corpus.push(OWN_PRICES.to_owned());
    }
    fuzz("price files", 3_000, &corpus, |bytes| prices(PriceFormat::Toml, bytes));
}

const GENAI: &str = r#"[{"id":"openai","name":"OpenAI","api_pattern":"https://api\\.openai\\.com","model_match":
    {"or":[{"starts_with":"gpt-"},{"regex":"^o[134]"}]},"models":[{"id":"gpt-4o-mini","name":"gpt 4o mini","match":{"or":
    [{"equals":"gpt-4o-mini"},{"starts_with":"gpt-4o-mini-2024"},{"and":[{"contains":"mini"},{"ends_with":"x"}]}]},
    "context_window":128000,"prices":{"input_mtok":0.15,"cache_read_mtok":0.075,"output_mtok":{"base":0.6,"tiers":
    [{"start":200000,"price":1.2}]}}},{"id":"gpt-x","match":{"equals":"gpt-x"},"prices":[{"constraint":{"start_date":
    "2026-01-01"},"prices":{"input_mtok":2.5,"output_mtok":10}},{"prices":{"input_mtok":5,"output_mtok":10}}]}]}]"#;

const LITELLM: &str = r#"{"sample_spec":{"input_cost_per_token":0,"litellm_provider":"one of"},"gpt-4o-mini":{"litellm_provider":
    "openai","mode":"chat","input_cost_per_token":1.5e-07,"output_cost_per_token":6e-07,"cache_read_input_token_cost":7.5e-08,
    "max_tokens":16384,"supports_vision":true},"gemini/g":{"litellm_provider":"gemini","mode":"chat","input_cost_per_token":
    1.25e-06,"input_cost_per_token_above_200k_tokens":2.5e-06,"output_cost_per_token":1e-05,
    "output_cost_per_token_above_200k_tokens":1.5e-05}}"#;

#[test]
fn changed_catalogues_of_others_are_errors() {
    fuzz("genai-prices", 4_000, &[GENAI], |bytes| prices(PriceFormat::GenaiPrices, bytes));
    fuzz("litellm prices", 4_000, &[LITELLM], |bytes| prices(PriceFormat::LiteLlm, bytes));
}

#[test]
fn changed_patterns_of_models_are_errors_and_match_in_bounded_time() {
    let corpus = ["gpt-*", "*claude*", "o1", "*-mini"];
    fuzz("patterns of models", 6_000, &corpus, |bytes| {
        let Some(Ok(rule)) = text(bytes).map(MatchRule::from_pattern) else { return false };
        let _shown = rule.to_string();
        let _matches = (rule.matches("gpt-4o-mini"), rule.matches(&"a".repeat(3_000)), rule.matches(""));
        true
    });
    let rates = r#"{"openai":{"gpt-x":{"input":"2","output":"8.5"}},"acme":{"m":{"request":"0.01"}}}"#;
    fuzz("own rates", 4_000, &[rates], |bytes| {
        serde_json::from_slice(bytes).is_ok_and(|value: serde_json::Value| own_rates(&value).is_ok())
    });
}

#[test]
fn changed_plan_files_are_errors() {
    let shipped = include_str!("../../data/plans.toml");
    fuzz("plan files", 4_000, &[shipped], |bytes| {
        let Some(text) = text(bytes) else { return false };
        match parse_plans(text) {
            Ok(_) => true,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                false
            }
        }
    });
}

const SETTINGS: &str = r#"listen = "127.0.0.1:8080"
default_zone = "Europe/Berlin"
[retention]
realtime_days = 30
[audit]
sampling = "chat_message_received=0.1"
[metrics]
open = true
[[upstream]]
name = "mock"
base_url = "https://api.example:8443/v1"
api_key_env = "OPENAI_API_KEY"
provider = "openai"
models = ["gpt-4o-mini", "gpt*"]
timeout_seconds = 60
headers = { x-team = "a" }
max_output_tokens = { "gpt-4o-mini" = 16384 }
"#;

#[test]
fn changed_files_of_settings_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metergate.toml");
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let sources = Sources { flags: Vec::new(), config_file: Some(path.clone()), environment: &|_| None };
        Settings::from_sources(sources)
    };
    if let Err(error) = load(SETTINGS.as_bytes()) {
        panic!("{error}");
    }
    fuzz("files of settings", 4_000, &[SETTINGS], |bytes| match load(bytes) {
        Ok(settings) => {
            settings.all().iter().for_each(|setting| assert!(!setting.shown().is_empty() || setting.value.is_some()));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    });
    let variables = "METERGATE_LISTEN=0.0.0.0:1\nMETERGATE_REALTIME_DAYS=30\nMETERGATE_METRICS_OPEN=true\n";
    fuzz("environments", 2_000, &[variables], |bytes| {
        let Some(text) = text(bytes) else { return false };
        let find =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
        let none = Some(path.with_file_name("none.toml"));
        std::fs::write(path.with_file_name("none.toml"), "").unwrap();
        Settings::from_sources(Sources { flags: Vec::new(), config_file: none, environment: &find }).is_ok()
    });
}

#[test]
fn changed_notes_are_never_taken_for_signed_ones() {
    let signer = CheckpointSigner::new("metergate.example/log", &[7; 32]);
    let note = signer.sign(70, &[9; 32]);
    let other = CheckpointSigner::new("metergate.example/log", &[8; 32]).sign(70, &[9; 32]);
    let said = AuditCheckpoint::open(&note, signer.verifier()).unwrap();
    let peeked = RefCell::new(0);
    fuzz("signed notes", 6_000, std::slice::from_ref(&note), |bytes| {
        let Some(text) = text(bytes) else { return false };
        *peeked.borrow_mut() += u64::from(AuditCheckpoint::peek(text).is_ok());
        match AuditCheckpoint::open(text, signer.verifier()) {
            Ok(opened) => {
                assert_eq!(opened, said, "a note that was not signed is believed: {text}");
                true
            }
            Err(_) => false,
        }
    });
    assert!(peeked.into_inner() > 100);
    assert!(AuditCheckpoint::open(&other, signer.verifier()).is_err());
    fuzz("verifier keys", 3_000, &[signer.verifier().to_string()], |bytes| {
        let Some(Ok(key)) = text(bytes).map(str::parse::<VerifierKey>) else { return false };
        let again: VerifierKey = key.to_string().parse().unwrap();
        assert_eq!(again.to_string(), key.to_string());
        true
    });
}
