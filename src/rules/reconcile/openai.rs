//! Pages of OpenAI's organization usage and costs: `{"object": "page", "data": [buckets]}`, one or several after another.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Figures, Measure, Report, ReportError, read_dollars};

const SECONDS_PER_DAY: u64 = 86_400;

/// What any JSON may say of itself.
#[derive(Deserialize)]
struct Probe {
    object: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Bucket>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct Bucket {
    start_time: u64,
    end_time: u64,
    #[serde(alias = "result")]
    results: Vec<ResultRow>,
}

#[derive(Deserialize)]
struct ResultRow {
    object: String,
    model: Option<String>,
    input_tokens: Option<u64>,
    input_cached_tokens: Option<u64>,
    output_tokens: Option<u64>,
    num_model_requests: Option<u64>,
    amount: Option<Amount>,
    line_item: Option<String>,
}

#[derive(Deserialize)]
struct Amount {
    value: Box<RawValue>,
    currency: Option<String>,
}

/// Adds the pages of a text to the report. Fails for what is not such a page, saying what it is instead.
pub fn read_openai(text: &str, report: &mut Report) -> Result<(), ReportError> {
    let mut pages = 0;
    for value in serde_json::Deserializer::from_str(text).into_iter::<Box<RawValue>>() {
        let value = value.map_err(|error| ReportError(format!("it is not JSON: {error}")))?;
        let object = serde_json::from_str::<Probe>(value.get()).ok().and_then(|probe| probe.object);
        if object.as_deref() != Some("page") {
            let what = object.map_or_else(String::new, |object| {
                format!(", but an object `{}`", object.chars().take(64).collect::<String>())
            });
            return Err(ReportError(format!(
                "it is no page of OpenAI's organization usage or costs (\"object\": \"page\"){what}"
            )));
        }
        let page: Page = serde_json::from_str(value.get())
            .map_err(|error| ReportError(format!("it is no page of OpenAI's organization usage or costs: {error}")))?;
        page.data.iter().try_for_each(|bucket| add_bucket(bucket, report))?;
        if let Some(row) = page.data.iter().flat_map(|bucket| &bucket.results).next() {
            report.more.insert(row.object.clone(), page.has_more);
        }
        pages += 1;
    }
    if pages == 0 { Err(ReportError("it is empty".to_owned())) } else { Ok(()) }
}

fn add_bucket(bucket: &Bucket, report: &mut Report) -> Result<(), ReportError> {
    let day = bucket.start_time / SECONDS_PER_DAY;
    if bucket.end_time <= bucket.start_time || (bucket.end_time - 1) / SECONDS_PER_DAY != day {
        return Err(ReportError(format!(
            "the bucket {}..{} is not within one UTC day: ask for bucket_width=1d",
            bucket.start_time, bucket.end_time
        )));
    }
    let day = u32::try_from(day).map_err(|_| ReportError(format!("{} is not a time", bucket.start_time)))?;
    report.cover(day)?;
    bucket.results.iter().try_for_each(|row| add_row(day, row, report))
}

fn add_row(day: u32, row: &ResultRow, report: &mut Report) -> Result<(), ReportError> {
    let mut figures = Figures::default();
    match row.object.as_str() {
        "organization.usage.completions.result"
        | "organization.usage.embeddings.result"
        | "organization.usage.moderations.result" => {
            for (measure, count) in [
                (Measure::InputTokens, row.input_tokens),
                (Measure::CachedInputTokens, row.input_cached_tokens),
                (Measure::OutputTokens, row.output_tokens),
                (Measure::Requests, row.num_model_requests),
            ] {
                if let Some(count) = count {
                    figures.add(measure, u128::from(count));
                }
            }
            report.add(day, row.model.as_deref(), &figures)
        }
        "organization.costs.result" => {
            // `gpt-4o-2024-08-06, cached input`: the model, and what of it.
            let model = row.line_item.as_deref().map(|item| item.rsplit_once(", ").map_or(item, |(model, _)| model));
            let Some(amount) = &row.amount else { return Ok(()) };
            if amount.currency.as_deref().is_some_and(|currency| !currency.eq_ignore_ascii_case("usd")) {
                return Err(ReportError("its costs are not in US dollars".to_owned()));
            }
            match read_dollars(amount.value.get().trim_matches('"')).map_err(|error| ReportError(error.to_string()))? {
                Some(cost) => figures.add(Measure::Cost, cost.femtos()),
                None => report.credits += 1,
            }
            report.add(day, model, &figures)
        }
        other => Err(ReportError(format!(
            "`{}` has no tokens to compare: give usage of completions, embeddings or moderations, or costs",
            other.chars().take(64).collect::<String>()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::reconcile::{Metered, Tolerance, reconcile};

    fn page(result: &str) -> String {
        format!(
            r#"{{"object":"page","data":[{{"object":"bucket","start_time":1730419200,"end_time":1730505600,"results":[{result}]}}],"has_more":false,"next_page":null}}"#
        )
    }

    #[test]
    fn usage_and_costs_after_another_are_one_report() {
        let usage = r#"{"object":"organization.usage.completions.result","input_tokens":1000,"input_cached_tokens":400,
            "output_tokens":500,"num_model_requests":5,"model":"gpt-4o-mini-2024-07-18","batch":null}"#;
        let cost = |item: &str, value: &str| {
            format!(
                r#"{{"object":"organization.costs.result","amount":{{"value":{value},"currency":"usd"}},"line_item":{item}}}"#
            )
        };
        let costs =
            [cost(r#""gpt-4o-mini, input""#, "0.06"), cost(r#""gpt-4o-mini, output""#, "\"0.10000000000000000555\"")];
        let text = format!("{}\n{}", page(usage), page(&costs.join(",")));
        let mut report = Report::default();
        read_openai(&text, &mut report).unwrap();
        assert_eq!(report.span(), Some((20_028, 20_028)));
        let mut metered = Metered::default();
        for (measure, amount) in Measure::ALL.into_iter().zip([1_000, 400, 500, 5, 160_000_000_000_000]) {
            metered.figures.add(measure, amount);
        }
        let metered = [((20_028, "gpt-4o-mini".to_owned()), metered)].into();
        let canonical = |name: &str| name.trim_end_matches("-2024-07-18").to_owned();
        let lines = reconcile(&report, &metered, canonical, "0%".parse::<Tolerance>().unwrap(), true);
        assert_eq!((lines.len(), lines[0].compared.len(), lines[0].is_beyond()), (1, 5, false));
    }

    #[test]
    fn what_is_not_such_a_page_is_told_apart() {
        let wide = page("").replace("1730505600", "1730505601");
        let images = page(r#"{"object":"organization.usage.images.result","images":2}"#);
        for (text, word) in [
            ("", "empty"),
            ("day,model\n", "not JSON"),
            ("{\"object\":\"list\",\"data\":[]}", "`list`"),
            ("[1]", "no page"),
            ("{\"object\":\"page\",\"data\":[{}]}", "start_time"),
            (wide.as_str(), "bucket_width=1d"),
            (images.as_str(), "images"),
        ] {
            let error = read_openai(text, &mut Report::default()).unwrap_err();
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn each_kind_of_page_has_its_last_one() {
        let usage = page(r#"{"object":"organization.usage.completions.result","input_tokens":1,"model":"m"}"#);
        let costs = page(r#"{"object":"organization.costs.result","amount":{"value":1},"line_item":"m, input"}"#);
        let goes_on = usage.replace("\"has_more\":false", "\"has_more\":true");
        for (pages, more) in [([&goes_on, &costs], true), ([&goes_on, &usage], false), ([&usage, &costs], false)] {
            let mut report = Report::default();
            pages.iter().for_each(|text| read_openai(text, &mut report).unwrap());
            assert_eq!(report.has_more(), more);
        }
    }

    #[test]
    fn a_credit_is_counted_and_left_out() {
        let mut report = Report::default();
        let row = r#"{"object":"organization.costs.result","amount":{"value":-1.5,"currency":"usd"},"line_item":null}"#;
        read_openai(&page(row), &mut report).unwrap();
        assert_eq!(report.credits, 1);
    }
}
