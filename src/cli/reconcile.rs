//! `metergate reconcile`: metered usage and cost against the provider's own report, by UTC day and model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::backend::{Backend, segment};
use super::failure::{Exit, Failure};
use super::target::Target;
use super::{moment, show};
use crate::domain::time::Timestamp;
use crate::rules::reconcile::{
    Figures, Line, Measure, Metered, Report, Tolerance, read_dollars, read_openai, reconcile,
};

/// Shown under `--help`.
pub const AFTER_HELP: &str = "\
Examples:
  metergate reconcile usage.json costs.json                    pages of OpenAI's organization usage and costs
  metergate reconcile bill.csv --map day=Date,model=Model,input_tokens=Input,output_tokens=Output,cost=Amount
  metergate reconcile usage.json --tolerance 0.5% --json

OpenAI's pages are the answers of /v1/organization/usage/completions (and embeddings) with bucket_width=1d and
group_by=model, and of /v1/organization/costs with group_by=line_item; without models a day is compared as a whole.
With --map FIELD=COLUMN a file is CSV; the fields are day, model, input_tokens, cached_input_tokens, output_tokens,
requests and cost. Input includes what came from a cache. Names of one model are matched through the price book.

Exit codes: 0 everything is within the tolerance; 1 something is beyond it, or only one side has it.
The number of requests is shown, and decides only with --requests: metered ones include failures and denials.";

/// The largest report, in bytes.
const REPORT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The most models that are asked for in the price book.
const MODELS_MAX: usize = 2_000;

/// Flags of `reconcile`.
#[derive(Args, Debug)]
pub struct ReconcileArgs {
    /// The provider's reports: OpenAI's JSON, or CSV with --map
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What the columns of a CSV file are, such as day=Date,model=Model,cost=Amount
    #[arg(long, value_name = "FIELD=COLUMN,...", value_delimiter = ',')]
    map: Vec<String>,
    /// Leave out metered models of other providers [default: openai for OpenAI's JSON, else none]
    #[arg(long)]
    provider: Option<String>,
    /// Only what this tenant used
    #[arg(long)]
    tenant: Option<String>,
    /// How far metered may be from reported
    #[arg(long, default_value = "2%", value_name = "PERCENT")]
    tolerance: Tolerance,
    /// Let the number of requests decide, too
    #[arg(long)]
    requests: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Compares; [`Exit::Failed`] when something is beyond the tolerance.
pub fn run(args: &ReconcileArgs, backend: &Backend) -> Result<Exit, Failure> {
    let report = read(args)?;
    let Some((first, last)) = report.span() else {
        return Err(Failure::usage("the report covers no day: there is nothing to compare"));
    };
    let (mut metered, nameless) = metered(args, backend, first, last)?;
    let provider = args.provider.as_deref().or(args.map.is_empty().then_some("openai"));
    let names = Names::look_up(report.models().into_iter().chain(metered.keys().map(|(_, model)| &**model)), backend)?;
    let reported: BTreeSet<String> = report.models().into_iter().map(|name| names.canonical(name)).collect();
    let mut left_out = BTreeSet::new();
    if let Some(provider) = provider {
        metered.retain(|(_, model), _| {
            let kept = names.is_of(model, provider) || reported.contains(&names.canonical(model));
            if !kept {
                left_out.insert(model.clone());
            }
            kept
        });
    }
    let lines = reconcile(&report, &metered, |name| names.canonical(name), args.tolerance, args.requests);
    let beyond = lines.iter().filter(|line| line.is_beyond()).count();
    let notes = notes(&report, &left_out, nameless);
    if args.target.json {
        show::print(as_json(&lines, beyond, (first, last), &left_out, nameless));
    } else {
        if lines.is_empty() {
            show::print("neither side has any use in these days");
        } else {
            show::print(table(&lines));
            show::print(match beyond {
                0 => format!("all {} are within the tolerance", lines.len()),
                _ => format!("{beyond} of {} days and models are beyond the tolerance", lines.len()),
            });
        }
        notes.iter().for_each(show::note);
    }
    Ok(if beyond == 0 { Exit::Ok } else { Exit::Failed })
}

fn read(args: &ReconcileArgs) -> Result<Report, Failure> {
    let columns = args.map.iter().map(|pair| column(pair)).collect::<Result<BTreeMap<_, _>, _>>()?;
    if !columns.is_empty() && !columns.contains_key("day") {
        return Err(Failure::usage("--map names no day: add day=COLUMN"));
    }
    if !columns.is_empty() && !columns.keys().any(|field| measure(field).is_some()) {
        return Err(Failure::usage("--map names nothing to compare: add input_tokens=COLUMN, or cost=COLUMN"));
    }
    let mut report = Report::default();
    for path in &args.files {
        let failed = |reason: String| Failure::new(Exit::Failed, format!("{}: {reason}", path.display()));
        let text = read_text(path)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        if columns.is_empty() {
            let remedy = "; for CSV say what its columns are with --map day=COLUMN,model=COLUMN,cost=COLUMN";
            read_openai(text, &mut report).map_err(|error| failed(format!("{error}{remedy}")))?;
        } else {
            read_csv(text, &columns, &mut report).map_err(failed)?;
        }
    }
    Ok(report)
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let unread = |error: &dyn std::error::Error| {
        Failure::caused(Exit::Failed, format!("{} cannot be read", path.display()), error)
    };
    let size = std::fs::metadata(path).map_err(|error| unread(&error))?.len();
    if size > REPORT_BYTES_MAX {
        return Err(Failure::new(Exit::Failed, format!("{} has more than 256 MiB: split it", path.display())));
    }
    std::fs::read_to_string(path).map_err(|error| unread(&error))
}

fn measure(field: &str) -> Option<Measure> {
    let field = if field == "cost" { "cost_usd" } else { field };
    Measure::ALL.into_iter().find(|measure| measure.name() == field)
}

pub(super) fn column(pair: &str) -> Result<(String, String), Failure> {
    let (field, column) = pair
        .split_once('=')
        .map(|(field, column)| (field.trim(), column.trim()))
        .ok_or_else(|| Failure::usage(format!("--map `{pair}`: write it as FIELD=COLUMN")))?;
    if !matches!(field, "day" | "model") && measure(field).is_none() {
        return Err(Failure::usage(format!(
            "--map `{pair}`: the fields are day, model, input_tokens, cached_input_tokens, output_tokens, requests, cost"
        )));
    }
    Ok((field.to_owned(), column.to_owned()))
}

pub(super) fn read_csv(text: &str, columns: &BTreeMap<String, String>, report: &mut Report) -> Result<(), String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| format!("it is not CSV: {error}"))?.clone();
    let mut places = BTreeMap::new();
    for (field, column) in columns {
        let place = header.iter().position(|name| name == column).ok_or_else(|| {
            let known = header.iter().collect::<Vec<_>>().join(", ");
            format!("there is no column `{column}`: its first line has {}", known.chars().take(300).collect::<String>())
        })?;
        places.insert(field.as_str(), place);
    }
    for (index, record) in reader.records().enumerate() {
        // The header is line 1.
        let at = |reason: String| format!("row {}: {reason}", index + 2);
        let record = record.map_err(|error| at(format!("it is not CSV: {error}")))?;
        let cell = |field: &str| places.get(field).and_then(|place| record.get(*place)).filter(|cell| !cell.is_empty());
        let day = day_of(cell("day").ok_or_else(|| at("it has no day".to_owned()))?).map_err(at)?;
        let mut figures = Figures::default();
        for field in places.keys() {
            let (Some(measure), Some(text)) = (measure(field), cell(field)) else { continue };
            match measure {
                Measure::Cost => match read_dollars(text).map_err(|error| at(format!("cost {error}")))? {
                    Some(cost) => figures.add(measure, cost.femtos()),
                    None => report.credits += 1,
                },
                _ => {
                    let count: u64 = text.parse().map_err(|_| at(format!("{field} `{text}` is not a whole number")))?;
                    figures.add(measure, u128::from(count));
                }
            }
        }
        report.add(day, cell("model"), &figures).map_err(|error| at(error.to_string()))?;
    }
    Ok(())
}

/// A day, a time, or seconds since 1970.
fn day_of(text: &str) -> Result<u32, String> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(Timestamp::from_seconds(seconds).day());
    }
    moment::read(text).map(Timestamp::day).map_err(|reason| format!("day `{text}`: {reason}"))
}

fn day_text(day: u32) -> String {
    Timestamp::of_day(day).to_string().chars().take(10).collect()
}

#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow, rename = "byModel", default)]
    by_model: Vec<ModelSums<'a>>,
    #[serde(borrow, default)]
    usage: Vec<Row<'a>>,
}

#[derive(Deserialize)]
struct Row<'a> {
    period_start: String,
    #[serde(borrow)]
    by_model: Vec<ModelSums<'a>>,
}

/// A model's sums; the cost as the server wrote it, digit by digit.
#[derive(Deserialize)]
struct ModelSums<'a> {
    model: Option<String>,
    #[serde(default)]
    other: bool,
    requests: u64,
    total_tokens: u64,
    input_tokens: u64,
    cached_input_tokens: u64,
    output_tokens: u64,
    #[serde(borrow)]
    estimated_cost_usd: &'a RawValue,
    unpriced_events: u64,
}

type ByDay = BTreeMap<(u32, String), Metered>;

/// What was metered by day and model; and the tokens of events whose model is not known.
fn metered(args: &ReconcileArgs, backend: &Backend, first: u32, last: u32) -> Result<(ByDay, u64), Failure> {
    let query = |from: u32, to: u32| {
        let named = |name, value: &str| (name, value.to_owned());
        vec![
            named("period", "daily"),
            named("group_by", "model"),
            named("startDate", &day_text(from)),
            named("endDate", &day_text(to)),
        ]
    };
    let unread = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Failed, format!("the server's answer is not understood: {error}"))
    };
    let (mut by_day, mut nameless) = (ByDay::new(), 0u64);
    let mut take = |day: u32, sums: ModelSums<'_>| -> Result<(), Failure> {
        let Some(model) = sums.model.filter(|_| !sums.other) else {
            nameless = nameless.saturating_add(sums.total_tokens);
            return Ok(());
        };
        let cost = match sums.estimated_cost_usd.get() {
            "null" => None,
            text => read_dollars(text).map_err(|error| unread(&error))?,
        };
        // Tokens that came without a split, as of embeddings, are input.
        let input = if sums.input_tokens > 0 {
            sums.input_tokens
        } else {
            sums.total_tokens.saturating_sub(sums.output_tokens)
        };
        let line = by_day.entry((day, model)).or_default();
        let counts = [input, sums.cached_input_tokens, sums.output_tokens, sums.requests];
        Measure::ALL.into_iter().zip(counts).for_each(|(measure, count)| line.figures.add(measure, u128::from(count)));
        line.figures.add(Measure::Cost, cost.unwrap_or_default().femtos());
        line.unpriced += sums.unpriced_events;
        Ok(())
    };
    if let Some(tenant) = &args.tenant {
        let answer = backend.get(&format!("/api/usage/{}", segment(tenant)), &query(first, last))?;
        let answered: Answered<'_> = serde_json::from_str(&answer.text).map_err(|error| unread(&error))?;
        for row in answered.usage {
            let day = row.period_start.parse::<Timestamp>().map_err(|error| unread(&error))?.day();
            row.by_model.into_iter().try_for_each(|sums| take(day, sums))?;
        }
        return Ok((by_day, nameless));
    }
    for day in first..=last {
        let answer = backend.get("/api/admin/usage", &query(day, day))?;
        let answered: Answered<'_> = serde_json::from_str(&answer.text).map_err(|error| unread(&error))?;
        answered.by_model.into_iter().try_for_each(|sums| take(day, sums))?;
    }
    Ok((by_day, nameless))
}

/// What the price book calls a model, and whose it is.
struct Names(BTreeMap<String, (String, String)>);

impl Names {
    fn look_up<'a>(names: impl Iterator<Item = &'a str>, backend: &Backend) -> Result<Self, Failure> {
        let mut known = BTreeMap::new();
        let names: BTreeSet<&str> = names.collect();
        // Beyond that many a name stands for itself.
        for name in names.into_iter().take(MODELS_MAX) {
            let answer = backend.call("GET", "/api/admin/prices", &[("model", name.to_owned())], None)?;
            if answer.status == 404 {
                continue;
            }
            let answer = answer.or_failure()?;
            let of = |field: &str| answer.json["prices"][0][field].as_str().map(str::to_owned);
            if let (Some(provider), Some(model)) = (of("provider"), of("model")) {
                known.insert(name.to_owned(), (provider, model));
            }
        }
        Ok(Self(known))
    }

    fn canonical(&self, name: &str) -> String {
        self.0.get(name).map_or_else(|| name.to_lowercase(), |(_, model)| model.clone())
    }

    fn is_of(&self, name: &str, provider: &str) -> bool {
        self.0.get(name).is_some_and(|(owner, _)| owner.eq_ignore_ascii_case(provider))
    }
}

fn table(lines: &[Line]) -> String {
    let mut table = show::table(&["day", "model", "what", "metered", "reported", "difference", ""]);
    for line in lines {
        for compared in &line.compared {
            let amount = |amount: Option<u128>| match amount {
                None => "-".to_owned(),
                Some(count) if compared.measure != Measure::Cost => {
                    u64::try_from(count).map_or_else(|_| count.to_string(), show::grouped)
                }
                Some(cost) => compared.measure.show(cost),
            };
            let unmatched = match (compared.metered, compared.reported) {
                (None, _) => "only reported",
                (_, None) => "only metered",
                _ if compared.beyond => "beyond",
                _ if compared.measure == Measure::Cost && line.unpriced > 0 => "some unpriced",
                _ => "",
            };
            let cells = vec![
                day_text(line.day),
                line.model.clone().unwrap_or_else(|| "(all)".to_owned()),
                compared.measure.name().to_owned(),
                amount(compared.metered),
                amount(compared.reported),
                compared.percent().map_or_else(|| "-".to_owned(), |percent| format!("{percent}%")),
                unmatched.to_owned(),
            ];
            show::row(&mut table, cells);
        }
    }
    show::draw(table)
}

fn as_json(lines: &[Line], beyond: usize, days: (u32, u32), left_out: &BTreeSet<String>, nameless: u64) -> Value {
    let shown = |line: &Line| {
        // As text, so that no digit of a cost passes through a float.
        let amount = |measure: Measure, amount: Option<u128>| match amount {
            None => Value::Null,
            Some(amount) if measure == Measure::Cost => measure.show(amount).into(),
            Some(amount) => u64::try_from(amount).map_or_else(|_| amount.to_string().into(), Value::from),
        };
        let compared = line.compared.iter().map(|compared| {
            json!({
                "measure": compared.measure.name(),
                "metered": amount(compared.measure, compared.metered),
                "reported": amount(compared.measure, compared.reported),
                "difference_percent": compared.percent(),
                "within": !compared.beyond,
            })
        });
        json!({
            "day": day_text(line.day),
            "model": line.model,
            "within": !line.is_beyond(),
            "unpriced_events": line.unpriced,
            "compared": compared.collect::<Vec<_>>(),
        })
    };
    json!({
        "from": day_text(days.0),
        "to": day_text(days.1),
        "within": beyond == 0,
        "beyond": beyond,
        "lines": lines.iter().map(shown).collect::<Vec<_>>(),
        "models_left_out": left_out,
        "tokens_without_model": nameless,
    })
}

fn notes(report: &Report, left_out: &BTreeSet<String>, nameless: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if report.has_more() {
        notes.push("the report goes on (has_more): give all its pages, one FILE after the other".to_owned());
    }
    if report.credits > 0 {
        notes.push(format!("{} amounts below zero are credits, not use: left out", report.credits));
    }
    if !left_out.is_empty() {
        let names = left_out.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        notes.push(format!("metered models of other providers, left out: {names} ({} in all)", left_out.len()));
    }
    if nameless > 0 {
        notes.push(format!("{} metered tokens name no model, and are not compared", show::grouped(nameless)));
    }
    notes
}
