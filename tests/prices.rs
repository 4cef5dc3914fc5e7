//! The price book and the extractors against usage that providers really sent, and prices that others computed of it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use flate2::read::GzDecoder;
use metergate::domain::money::Money;
use metergate::domain::price::{PriceClass, Side};
use metergate::domain::time::Timestamp;
use metergate::rules::extract::{Api, Extracted, extract_body};
use metergate::rules::prices::{Cost, MatchRule, PriceBook, PriceFormat, SHIPPED_PRICES, diff, read_prices};
use serde_json::Value;

use support::traces::data_file;

const GOLDEN: &str = "prices/golden_dev.jsonl.gz";
const GENAI: &str = "prices/genai-prices-data.json";
const GENAI_V2: &str = "prices/genai-prices-data_v2.json.gz";
const LITELLM: &str = "prices/litellm-model_prices.json.gz";
/// The golden prices were computed before the cuts of 2026-07-30.
const GOLDEN_TIME: &str = "2026-07-15T12:00:00Z";

fn text_of(name: &str) -> Option<String> {
    let path = data_file(name)?;
    let mut text = String::new();
    if name.ends_with(".gz") {
        GzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    } else {
        File::open(path).unwrap().read_to_string(&mut text).unwrap();
    }
    Some(text)
}

fn book(format: PriceFormat, text: &str) -> PriceBook {
    read_prices(format, text).unwrap().book
}

struct Golden {
    provider: String,
    flavor: String,
    model: String,
    matched: Option<String>,
    body: Vec<u8>,
    usage: BTreeMap<String, u64>,
    prices: Option<(Money, Money, Money)>,
}

fn golden() -> Option<Vec<Golden>> {
    let lines = BufReader::new(GzDecoder::new(File::open(data_file(GOLDEN)?).unwrap())).lines();
    let row = |line: String| {
        let row: Value = serde_json::from_str(&line).unwrap();
        let text = |field: &str| row[field].as_str().map(str::to_owned);
        let price = |field: &str| text(field).map(|price| price.parse::<Money>().unwrap());
        let prices = price("input_price").zip(price("output_price"));
        Golden {
            provider: text("provider").unwrap(),
            flavor: text("api_flavor").unwrap(),
            model: text("model").unwrap(),
            matched: text("matched_model"),
            body: row["body"].to_string().into_bytes(),
            usage: serde_json::from_value(row["usage"].clone()).unwrap(),
            // A total is only written where it is not the sum of the two.
            prices: prices.map(|(input, output)| (input, output, price("total_price").unwrap_or(input + output))),
        }
    };
    Some(lines.map(|line| row(line.unwrap())).collect())
}

impl Golden {
    fn extracted(&self) -> Extracted {
        let api = Api::named(&self.provider, &self.flavor).unwrap();
        extract_body(Some(&self.provider), Some(api), &self.body).unwrap()
    }

    fn cost(&self, book: &PriceBook) -> Result<Cost, String> {
        let at = GOLDEN_TIME.parse::<Timestamp>().unwrap();
        let found = book.find(Some(&self.provider), &self.model, at).ok_or("the book does not list this model")?;
        if let Some(matched) = &self.matched
            && found.row.provider == self.provider
            && !found.row.model.eq_ignore_ascii_case(matched)
        {
            return Err(format!("found as {}, not as {matched}", found.row.model));
        }
        found.cost(&self.extracted().counts).map_err(|error| error.to_string())
    }

    /// Whether the prices agree to the last digit.
    fn agrees(&self, book: &PriceBook) -> bool {
        match (self.cost(book), self.prices) {
            (Ok(cost), Some(prices)) => (cost.input, cost.output, cost.total) == prices,
            (priced, prices) => priced.is_err() && prices.is_none(),
        }
    }

    fn name(&self) -> String {
        format!("{} {} {}", self.provider, self.flavor, self.model)
    }
}

/// Rows that agree, and the others grouped by why they do not.
fn measure(name: &str, rows: &[Golden], book: &PriceBook, why: impl Fn(&Golden) -> String) -> (usize, usize) {
    let mut misses: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.agrees(book)) {
        *misses.entry(why(row)).or_default() += 1;
    }
    let missed: usize = misses.values().sum();
    let agreed = rows.len() - missed;
    println!("{name}: {agreed} of {} golden rows to the last digit", rows.len());
    for (why, count) in &misses {
        println!("  {count} x {why}");
    }
    (agreed, rows.len())
}

#[test]
fn the_counts_of_every_golden_row_are_what_others_read_out_of_it() {
    let Some(rows) = golden() else { return };
    for row in &rows {
        let counts = row.extracted().counts;
        for (field, count) in [
            ("input_tokens", counts.input_tokens),
            ("output_tokens", counts.output_tokens),
            ("cache_read_tokens", counts.cached_input_tokens),
            ("input_audio_tokens", counts.audio_input_tokens),
            ("input_image_tokens", counts.image_input_tokens),
            ("input_video_tokens", counts.video_input_tokens),
            ("input_tool_tokens", counts.tool_input_tokens),
            ("cache_audio_read_tokens", counts.cached_audio_tokens),
            ("cache_image_read_tokens", counts.cached_image_tokens),
            ("output_image_tokens", counts.image_output_tokens),
        ] {
            assert_eq!(count.unwrap_or(0), row.usage.get(field).copied().unwrap_or(0), "{field} of {}", row.name());
        }
        // These are read wherever they are here; others read them only for some providers.
        for (field, count) in [
            ("output_reasoning_tokens", counts.reasoning_tokens),
            ("web_searches", counts.web_searches),
            ("cache_write_tokens", counts.cache_write_tokens),
        ] {
            let theirs = row.usage.get(field).copied().unwrap_or(0);
            assert!(theirs == 0 || count == Some(theirs), "{field} of {}", row.name());
        }
    }
}

/// Why a row misses although its price is known; anything else is a fault here.
fn explained(row: &Golden, book: &PriceBook) -> String {
    let counts = row.extracted().counts;
    match row.cost(book) {
        Err(error) if row.prices.is_some_and(|(_, _, total)| total == Money::ZERO) => {
            format!("{}: priced at 0 by others, unpriced here: {error}", row.name())
        }
        Ok(_)
            if counts.cache_write_tokens.is_some_and(|count| count > 0)
                && !row.usage.contains_key("cache_write_tokens") =>
        {
            format!("{}: others do not read its cache writes, which cost more than input", row.name())
        }
        priced => panic!("{}: {priced:?}, not {:?}, of {counts:?}", row.name(), row.prices),
    }
}

#[test]
fn golden_prices_agree_to_the_last_digit() {
    let (Some(rows), Some(first), Some(second)) = (golden(), text_of(GENAI), text_of(GENAI_V2)) else { return };
    let first = book(PriceFormat::GenaiPrices, &first);
    let second = book(PriceFormat::GenaiPrices, &second);
    let why_second = |row: &Golden| explained(row, &second);
    let (agreed, all) = measure("genai-prices data_v2.json", &rows, &second, why_second);
    assert!(agreed * 1_000 >= all * 995, "{agreed} of {all}");

    // The golden prices come from the second file; the first lacks some of its models and classes, and nothing else may
    // make a row miss.
    let changed: BTreeMap<(String, String), String> = diff(&first, &second)
        .into_iter()
        .map(|difference| {
            use metergate::rules::prices::Difference::{Added, Changed, Removed};
            match difference {
                Added { provider, model } | Removed { provider, model } => {
                    ((provider, model), "not in both".to_owned())
                }
                Changed { provider, model, rates, .. } => {
                    let classes: Vec<&str> = rates.iter().map(|rate| rate.class.name()).collect();
                    ((provider, model), format!("other prices of {}", classes.join(", ")))
                }
            }
        })
        .collect();
    let why_first = |row: &Golden| {
        let at = GOLDEN_TIME.parse::<Timestamp>().unwrap();
        if !row.agrees(&second) {
            return explained(row, &second);
        }
        let found = second.find(Some(&row.provider), &row.model, at).unwrap();
        let key = (found.row.provider.clone(), found.row.model.clone());
        let data = changed.get(&key).unwrap_or_else(|| panic!("{} misses, and not for its data", row.name()));
        format!("{} in the two files: {data}", row.name())
    };
    let (agreed, all) = measure("genai-prices data.json", &rows, &first, why_first);
    assert!(agreed * 1_000 >= all * 990, "{agreed} of {all}");

    // With the shipped prices on top the first file does too.
    let shipped = book(PriceFormat::Toml, SHIPPED_PRICES);
    let at = GOLDEN_TIME.parse::<Timestamp>().unwrap();
    let hits = rows.iter().filter(|row| {
        let find = |book: &'_ PriceBook| {
            let found = book.find(Some(&row.provider), &row.model, at)?;
            Some(found.cost(&row.extracted().counts))
        };
        let cost = find(&shipped).or_else(|| find(&first)).and_then(Result::ok);
        let costs = cost.map(|cost| (cost.input, cost.output, cost.total));
        costs == row.prices
    });
    let hits = hits.count();
    println!("data/prices.toml over genai-prices data.json: {hits} of {all}");
    assert!(hits * 1_000 >= all * 995, "{hits} of {all}");
}

#[test]
fn the_shipped_prices_agree_with_every_golden_row_of_the_providers_they_list() {
    let Some(rows) = golden() else { return };
    let shipped = book(PriceFormat::Toml, SHIPPED_PRICES);
    let (listed, others): (Vec<Golden>, Vec<Golden>) =
        rows.into_iter().partition(|row| shipped.provider(&row.provider).is_some());
    let why = |row: &Golden| explained(row, &shipped);
    let (agreed, all) = measure("data/prices.toml", &listed, &shipped, why);
    println!("  and {} rows of providers that it does not list", others.len());
    assert!(agreed * 1_000 >= all * 995, "{agreed} of {all}");
    assert!(others.iter().all(|row| row.cost(&shipped).is_err()), "an unknown provider is never priced");
}

#[test]
fn the_shipped_prices_mean_the_same_model_by_each_name_as_the_list_they_were_checked_against() {
    let Some(text) = text_of(GENAI_V2) else { return };
    let theirs = book(PriceFormat::GenaiPrices, &text);
    let shipped = book(PriceFormat::Toml, SHIPPED_PRICES);
    for list in shipped.providers() {
        let their_list = theirs.provider(&list.id).unwrap();
        let priced = their_list.models().iter().filter(|model| model.rows.iter().any(|row| !row.rates.is_empty()));
        for name in priced.flat_map(|model| texts(&model.rule)).flat_map(|name| [format!("{name}-x"), name]) {
            for date in ["2025-01-01T00:00:00Z", "2026-08-21T12:00:00Z", "2027-01-01T20:00:00Z"] {
                let at = date.parse::<Timestamp>().unwrap();
                let Some(there) = theirs.find(Some(&list.id), &name, at) else { continue };
                let here = shipped.find(Some(&list.id), &name, at).unwrap_or_else(|| panic!("{} {name}", list.id));
                // Theirs has no fees of the tools that OpenAI runs.
                let mut rates = here.row.rates.clone();
                rates.retain(|class, _| class.side() != Side::Extra || there.row.rates.contains_key(class));
                assert_eq!(rates, there.row.rates, "{} {name} at {date}", list.id);
            }
        }
    }
}

/// The texts of a rule, which are names that it means.
fn texts(rule: &MatchRule) -> Vec<String> {
    match rule {
        MatchRule::Equals(text)
        | MatchRule::StartsWith(text)
        | MatchRule::EndsWith(text)
        | MatchRule::Contains(text) => {
            vec![text.clone()]
        }
        MatchRule::AnyOf(rules) => rules.iter().flat_map(texts).collect(),
        MatchRule::Regex(_) | MatchRule::AllOf(_) => Vec::new(),
    }
}

#[test]
fn the_catalogues_of_others_load_whole_and_a_remark_names_what_was_left_out() {
    for (name, format, models) in [
        (GENAI, PriceFormat::GenaiPrices, 1_442),
        (GENAI_V2, PriceFormat::GenaiPrices, 1_466),
        (LITELLM, PriceFormat::LiteLlm, 3_500),
    ] {
        let Some(text) = text_of(name) else { return };
        assert_eq!(PriceFormat::sniff(&text), format, "{name}");
        let imported = read_prices(format, &text).unwrap();
        println!("{name}: {} models, {} remarks", imported.book.models(), imported.notices_total);
        assert!(imported.book.models() >= models, "{name}: {}", imported.book.models());
        assert!(imported.notices.iter().all(|notice| !notice.model.is_empty() && !notice.remark.is_empty()));
        assert_eq!(diff(&imported.book, &imported.book), []);
        let limits = |provider, model| imported.book.find_model(Some(provider), model).unwrap().model.limits;
        let known = limits("openai", "gpt-4o-mini");
        match format {
            PriceFormat::LiteLlm => {
                assert_eq!((known.max_input_tokens, known.max_output_tokens), (Some(128_000), Some(16_384)))
            }
            _ => assert_eq!((known.context_tokens, known.max_output_tokens), (Some(128_000), None)),
        }
        let limits = ["context_window", "max_input_tokens", "max_output_tokens"];
        let odd = imported.notices.iter().filter(|notice| limits.contains(&notice.field.as_str()));
        assert!(odd.clone().all(|notice| notice.remark.contains("not a number of tokens")) && odd.count() < 30);
    }
}

#[test]
fn a_limit_that_is_not_a_number_of_tokens_is_left_out_with_a_remark() {
    let entry = |limit: &str| {
        format!(r#"{{"m": {{"litellm_provider": "p", "input_cost_per_token": 1e-6, "max_output_tokens": {limit}}}}}"#)
    };
    for (limit, read, remarks) in
        [("4096", Some(4_096), 0), ("null", None, 0), ("\"4k\"", None, 1), ("0", None, 1), ("1e12", None, 1)]
    {
        let imported = read_prices(PriceFormat::LiteLlm, &entry(limit)).unwrap();
        let limits = imported.book.find_model(Some("p"), "m").unwrap().model.limits;
        assert_eq!((limits.max_output_tokens, imported.notices_total), (read, remarks), "{limit}");
    }
}

#[test]
fn two_catalogues_agree_about_what_everybody_knows() {
    let (Some(genai), Some(litellm)) = (text_of(GENAI), text_of(LITELLM)) else { return };
    let books = [
        book(PriceFormat::GenaiPrices, &genai),
        book(PriceFormat::LiteLlm, &litellm),
        book(PriceFormat::Toml, SHIPPED_PRICES),
    ];
    let at = GOLDEN_TIME.parse::<Timestamp>().unwrap();
    for (provider, model, input, output) in [
        (None, "gpt-4o", "2.5", "10"),
        (None, "openai/gpt-4o-mini", "0.15", "0.6"),
        (Some("openai"), "gpt-4o-2024-08-06", "2.5", "10"),
        (Some("anthropic"), "claude-sonnet-4-5-20250929", "3", "15"),
        (Some("gemini"), "gemini-2.5-pro", "1.25", "10"),
        (Some("mistral"), "mistral-large-2512", "0.5", "1.5"),
    ] {
        for book in &books {
            let row = book.find(provider, model, at).unwrap_or_else(|| panic!("{model}")).row;
            let price = |class: PriceClass| row.rates[&class].base.published(class).to_string();
            assert_eq!(
                (price(PriceClass::Input), price(PriceClass::Output)),
                (input.to_owned(), output.to_owned()),
                "{model}"
            );
        }
    }
    for book in &books {
        assert_eq!(book.find(None, "no-such-model", at), None);
        assert_eq!(book.find(Some("nobody"), "gpt-4o", at), None);
    }
}
