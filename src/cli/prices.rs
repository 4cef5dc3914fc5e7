//! `metergate prices`: what models cost, how a price file differs, and changes with their effect shown first.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::backend::Backend;
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;
use crate::domain::price::ModelLimits;
use crate::domain::price_terms::Markup;
use crate::rules::price_changes::format_name;
use crate::rules::prices::PriceFormat;

/// What `prices` can do.
#[derive(Subcommand, Debug)]
pub enum PricesCommand {
    /// List the prices in force
    #[command(after_help = "Examples:\n  metergate prices list --provider anthropic\n  metergate prices list --json")]
    List(ListArgs),
    /// Show what a model's name is priced by, since when, and in which tiers
    #[command(
        after_help = "Example:\n  metergate prices show gpt-4o-2024-08-06\n  metergate prices show claude-sonnet-4-5 --provider bedrock\n  metergate prices show gpt-4o --tenant acme"
    )]
    Show(ShowArgs),
    /// Put a price file in force, ours or another catalogue's; shows what differs, and changes nothing without --yes
    #[command(after_help = "Examples:\n  metergate prices import data.json --format genai-prices\n  \
        metergate prices import model_prices_and_context_window.json --format litellm --yes\n\n\
        The file replaces the whole book. What events cost so far stays.")]
    Import(FileArgs),
    /// Show how a price file differs from the prices in force
    #[command(after_help = "Example:\n  metergate prices diff prices.toml")]
    Diff(DiffArgs),
    /// Put a file like the shipped data/prices.toml in force; shows what differs, and changes nothing without --yes
    #[command(after_help = "Example:\n  metergate prices apply prices.toml --yes\n\nThe file replaces the whole book.")]
    Apply(FileArgs),
    /// List models of the last 30 days without a price, and prices that nobody looked at for long; exit code 3 when a model has none
    #[command(after_help = "Example:\n  metergate prices check --stale-days 60")]
    Check(CheckArgs),
    /// Price the kept events of a range again by the prices in force; shows the difference, and changes nothing without --yes
    #[command(after_help = "Example:\n  metergate prices reprice --from 2026-11-01 --to 2026-11-07 --yes\n\n\
        Costs that callers gave stay, and so does what was charged to limits.")]
    Reprice(RepriceArgs),
}

/// Flags of `prices reprice`.
#[derive(Args, Debug)]
pub struct RepriceArgs {
    /// The first day, or a time
    #[arg(long)]
    from: String,
    /// The last day, included, or a time
    #[arg(long)]
    to: String,
    /// Only this tenant's events
    #[arg(long)]
    tenant: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

/// Flags of `prices list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only this provider's
    #[arg(long)]
    provider: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Flags of `prices show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The model, as events name it
    model: String,
    /// Who serves it
    #[arg(long)]
    provider: Option<String>,
    /// What this tenant pays for it
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Whose file it is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FileFormat {
    /// Like the shipped data/prices.toml
    Metergate,
    /// The data.json of genai-prices
    GenaiPrices,
    /// The model_prices_and_context_window.json of LiteLLM
    Litellm,
}

impl FileFormat {
    const fn name(self) -> &'static str {
        format_name(match self {
            Self::Metergate => PriceFormat::Toml,
            Self::GenaiPrices => PriceFormat::GenaiPrices,
            Self::Litellm => PriceFormat::LiteLlm,
        })
    }
}

/// Flags of `prices import` and `prices apply`.
#[derive(Args, Debug)]
pub struct FileArgs {
    /// The file
    file: PathBuf,
    /// Whose format it has; default: what it looks like
    #[arg(long)]
    format: Option<FileFormat>,
    /// Do it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

/// Flags of `prices diff`.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// The file
    file: PathBuf,
    /// Whose format it has; default: what it looks like
    #[arg(long)]
    format: Option<FileFormat>,
    #[command(flatten)]
    target: Target,
}

/// Flags of `prices check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Prices that were compared with their source longer ago are listed
    #[arg(long, default_value_t = 90)]
    stale_days: u32,
    #[command(flatten)]
    target: Target,
}

const PATH: &str = "/api/admin/prices";

impl PricesCommand {
    /// Whom to ask.
    pub const fn target(&self) -> &Target {
        match self {
            Self::List(args) => &args.target,
            Self::Show(args) => &args.target,
            Self::Import(args) | Self::Apply(args) => &args.target,
            Self::Diff(args) => &args.target,
            Self::Check(args) => &args.target,
            Self::Reprice(args) => &args.target,
        }
    }

    /// Whether it changes anything.
    pub const fn writes(&self) -> bool {
        match self {
            Self::Import(args) | Self::Apply(args) => args.yes,
            Self::Reprice(args) => args.yes,
            Self::List(_) | Self::Show(_) | Self::Diff(_) | Self::Check(_) => false,
        }
    }

    /// Runs it.
    pub fn run(&self, backend: &Backend) -> Result<Exit, Failure> {
        match self {
            Self::List(args) => list(args, backend),
            Self::Show(args) => show_model(args, backend),
            Self::Import(args) => change(args, args.format, backend),
            Self::Apply(args) => change(args, args.format.or(Some(FileFormat::Metergate)), backend),
            Self::Diff(args) => {
                let answer = send(backend, &args.file, args.format, true)?;
                show::print(if args.target.json { answer.text } else { differences(&answer.json) });
                Ok(Exit::Ok)
            }
            Self::Check(args) => check(args, backend),
            Self::Reprice(args) => reprice(args, backend),
        }
    }
}

fn list(args: &ListArgs, backend: &Backend) -> Result<Exit, Failure> {
    let mut query = vec![("limit", "1000".to_owned())];
    query.extend(args.provider.iter().map(|provider| ("provider", provider.clone())));
    let mut prices = Vec::new();
    let mut first = None;
    loop {
        let mut answer = backend.get(PATH, &query)?.json;
        if let Value::Array(page) = answer["prices"].take() {
            prices.extend(page);
        }
        let next = answer["next_cursor"].as_str().map(str::to_owned);
        first.get_or_insert(answer);
        query.retain(|(name, _)| *name != "cursor");
        match next {
            Some(cursor) => query.push(("cursor", cursor)),
            None => break,
        }
    }
    if args.target.json {
        let mut answer = first.unwrap_or_default();
        answer["prices"] = prices.into();
        answer["next_cursor"] = Value::Null;
        show::print(answer);
        return Ok(Exit::Ok);
    }
    let mut table = show::table(&["provider", "model", "from", "input", "cached", "output"]);
    for price in &prices {
        let rate = |class: &str| rate_text(&price["rates"][class]);
        let mut cells: Vec<String> = ["provider", "model"].map(|name| show::field(price, name)).into();
        cells.push(
            price["effective_from"].as_str().map_or_else(|| "-".to_owned(), |from| from.chars().take(10).collect()),
        );
        cells.extend(["input", "cached_input", "output"].map(rate));
        show::row(&mut table, cells);
    }
    show::print(show::draw(table));
    show::print("dollars for a million tokens; `metergate prices show MODEL` has every class and tier");
    Ok(Exit::Ok)
}

/// A base price and, where there are some, a sign for its tiers.
fn rate_text(rate: &Value) -> String {
    let tiers = if rate["tiers"].is_array() { " +" } else { "" };
    match &rate["base"] {
        Value::Null => "-".to_owned(),
        base => format!("{}{tiers}", show::text(base)),
    }
}

fn show_model(args: &ShowArgs, backend: &Backend) -> Result<Exit, Failure> {
    let mut query = vec![("model", args.model.clone())];
    query.extend(args.provider.iter().map(|provider| ("provider", provider.clone())));
    query.extend(args.tenant.iter().map(|tenant| ("tenant_id", tenant.clone())));
    let answer = backend.get(PATH, &query)?;
    if args.target.json {
        show::print(answer.text);
        return Ok(Exit::Ok);
    }
    if let Some(tenant) = &args.tenant {
        let markup = answer.json["markup_bp"].as_i64().and_then(|points| Markup::from_basis_points(points).ok());
        show::print(match (answer.json["layer"].as_str(), markup) {
            (Some("own"), _) => format!("{tenant} has a price of its own"),
            (_, Some(markup)) if !markup.is_none() => format!("{tenant} pays list prices and {markup}"),
            _ => format!("{tenant} pays list prices"),
        });
    }
    let alias = show::field(&answer.json, "alias");
    for price in answer.json["prices"].as_array().into_iter().flatten() {
        let from = price["effective_from"].as_str().map_or_else(|| "always".to_owned(), |from| format!("from {from}"));
        let daily = price["daily"].as_str().map_or_else(String::new, |hours| format!(", {hours} UTC"));
        let (provider, model) = (show::field(price, "provider"), show::field(price, "model"));
        show::print(format!("{provider}/{model} (found as {alias}), {from}{daily}"));
        let mut table = show::table(&["class", "price", "above tokens"]);
        for (class, rate) in price["rates"].as_object().into_iter().flatten() {
            show::row(&mut table, vec![class.clone(), show::text(&rate["base"]), "-".to_owned()]);
            for tier in rate["tiers"].as_array().into_iter().flatten() {
                show::row(&mut table, vec![class.clone(), show::field(tier, "rate"), show::field(tier, "above")]);
            }
        }
        show::print(show::draw(table));
    }
    for name in ModelLimits::NAMES {
        if let Some(tokens) = answer.json[name].as_u64() {
            show::print(format!("{name}: {tokens}"));
        }
    }
    Ok(Exit::Ok)
}

fn change(args: &FileArgs, format: Option<FileFormat>, backend: &Backend) -> Result<Exit, Failure> {
    let answer = send(backend, &args.file, format, !args.yes)?;
    if args.target.json {
        show::print(answer.text);
        return Ok(Exit::Ok);
    }
    show::print(differences(&answer.json));
    show::print(match args.yes {
        true => "done: it prices the next event",
        false => "nothing was changed: add --yes to do it",
    });
    Ok(Exit::Ok)
}

fn send(
    backend: &Backend,
    file: &Path,
    format: Option<FileFormat>,
    dry_run: bool,
) -> Result<super::backend::Answer, Failure> {
    let text = std::fs::read(file)
        .map_err(|error| Failure::caused(Exit::Failed, format!("{} cannot be read", file.display()), &error))?;
    let mut query = vec![("dry_run", dry_run.to_string())];
    query.extend(format.map(|format| ("format", format.name().to_owned())));
    backend.call("PUT", PATH, &query, Some(("application/octet-stream", text)))?.or_failure()
}

fn differences(answer: &Value) -> String {
    let lines = |name: &str| answer[name].as_array().map_or(&[][..], Vec::as_slice);
    let mut text: Vec<String> = lines("differences").iter().map(show::text).collect();
    let total = answer["differences_total"].as_u64().unwrap_or(0);
    if total > text.len() as u64 {
        text.push(format!("... {total} differences in all"));
    }
    if text.is_empty() {
        text.push("the prices in force are those of the file".to_owned());
    }
    text.push(format!("{} models of {} providers", show::field(answer, "models"), show::field(answer, "providers")));
    let notices = answer["notices_total"].as_u64().unwrap_or(0);
    if notices > 0 {
        text.push(format!("{notices} remarks: entries that were not taken as they stand; --json lists them"));
    }
    text.join("\n")
}

fn check(args: &CheckArgs, backend: &Backend) -> Result<Exit, Failure> {
    let query = [("stale_days", args.stale_days.to_string())];
    let answer = backend.get("/api/admin/prices/check", &query)?;
    let list = |name: &str| answer.json[name].as_array().map_or(&[][..], Vec::as_slice);
    let unpriced = list("unpriced");
    if args.target.json {
        show::print(&answer.text);
    } else {
        let mut table = show::table(&["model", "requests", "without cost", "price now"]);
        for model in unpriced {
            let mut cells: Vec<String> =
                ["model", "requests", "unpriced_events"].map(|name| show::field(model, name)).into();
            cells.push(if model["has_price_now"] == true { "yes" } else { "no" }.to_owned());
            show::row(&mut table, cells);
        }
        show::print(match unpriced.is_empty() {
            true => "every model of the last 30 days has a price".to_owned(),
            false => show::draw(table),
        });
        for stale in list("stale") {
            let checked = stale["checked"].as_str().unwrap_or("never");
            show::print(format!("{}: last compared with its source: {checked}", show::field(stale, "provider")));
        }
    }
    Ok(if unpriced.iter().any(|model| model["has_price_now"] != true) { Exit::Denied } else { Exit::Ok })
}

fn reprice(args: &RepriceArgs, backend: &Backend) -> Result<Exit, Failure> {
    let body = json!({"from": args.from, "to": args.to, "tenant_id": args.tenant, "dry_run": !args.yes});
    let answer = backend.send_json("POST", "/api/admin/prices/reprice", &body)?;
    if args.target.json {
        show::print(answer.text);
        return Ok(Exit::Ok);
    }
    let mut table = show::table(&["tenant", "model", "events", "before", "after"]);
    for difference in answer.json["differences"].as_array().into_iter().flatten() {
        let mut cells: Vec<String> = ["tenant_id", "model", "events"].map(|name| show::field(difference, name)).into();
        cells.extend(["before", "after"].map(|name| show::cost(difference, name)));
        show::row(&mut table, cells);
    }
    show::print(show::draw(table));
    let (changed, events) = (show::field(&answer.json, "changed"), show::field(&answer.json, "events"));
    show::print(match args.yes {
        true => format!("done: {changed} of {events} events have another cost"),
        false => format!("{changed} of {events} events would have another cost: add --yes to do it"),
    });
    Ok(Exit::Ok)
}
