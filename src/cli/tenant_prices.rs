//! `metergate tenants prices`: what a tenant pays that differs from the price list.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::backend::{Backend, segment};
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;
use crate::domain::price_terms::Markup;

/// What `tenants prices` can do.
#[derive(Subcommand, Debug)]
pub enum TenantPricesCommand {
    /// Show a tenant's own prices and markup over time
    #[command(after_help = "Example:\n  metergate tenants prices show acme")]
    Show(ShowArgs),
    /// Set them from an instant on; they replace the whole of what held then, until the tenant's next terms
    #[command(after_help = "Examples:\n  metergate tenants prices set acme --markup 12.5%\n  \
        metergate tenants prices set acme --file acme.toml --markup 10% --from 2026-12-01\n\n\
        The file has tables like the shipped data/prices.toml, without [providers]:\n\n  \
        [prices.openai.gpt-4o]\n  input = \"2\"\n  output = \"8\"\n\n\
        Own prices carry no markup, and hold for the provider they name: rates for openai are not those of azure, so \
        write both.\n\n\
        What events cost so far stays: `metergate prices reprice` prices a range again.")]
    Set(SetArgs),
    /// Let list prices hold again from an instant on; terms that were to begin later go
    #[command(after_help = "Example:\n  metergate tenants prices remove acme --from 2027-01-01")]
    Remove(RemoveArgs),
}

/// Flags of `tenants prices show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The tenant
    tenant: String,
    #[command(flatten)]
    target: Target,
}

/// Flags of `tenants prices set`.
#[derive(Args, Debug)]
pub struct SetArgs {
    /// The tenant
    tenant: String,
    /// Its own prices
    #[arg(long, value_name = "FILE", required_unless_present = "markup")]
    file: Option<PathBuf>,
    /// What is put on list prices, such as 12.5% or -10%
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    markup: Option<Markup>,
    /// From this day, or time, on; default: now
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Flags of `tenants prices remove`.
#[derive(Args, Debug)]
pub struct RemoveArgs {
    /// The tenant
    tenant: String,
    /// From this day, or time, on; default: now
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl TenantPricesCommand {
    /// Whom to ask.
    pub const fn target(&self) -> &Target {
        match self {
            Self::Show(args) => &args.target,
            Self::Set(args) => &args.target,
            Self::Remove(args) => &args.target,
        }
    }

    /// Whether it changes anything.
    pub const fn writes(&self) -> bool {
        !matches!(self, Self::Show(_))
    }

    /// Runs it.
    pub fn run(&self, backend: &Backend) -> Result<Exit, Failure> {
        let answer = match self {
            Self::Show(args) => backend.get(&path(&args.tenant), &[])?,
            Self::Set(args) => backend.send_json("PUT", &path(&args.tenant), &terms(args)?)?,
            Self::Remove(args) => {
                let query: Vec<_> = args.from.iter().map(|from| ("from", from.clone())).collect();
                backend.call("DELETE", &path(&args.tenant), &query, None)?.or_failure()?
            }
        };
        show::print(if self.target().json { answer.text } else { told(&answer.json) });
        Ok(Exit::Ok)
    }
}

fn path(tenant: &str) -> String {
    format!("/api/admin/tenants/{}/prices", segment(tenant))
}

fn terms(args: &SetArgs) -> Result<Value, Failure> {
    let mut body = Map::new();
    body.extend(args.from.iter().map(|from| ("from".to_owned(), Value::from(from.as_str()))));
    body.extend(args.markup.map(|markup| ("markup_bp".to_owned(), Value::from(markup.basis_points()))));
    if let Some(file) = &args.file {
        body.insert("rates".to_owned(), rates(file)?);
    }
    Ok(Value::Object(body))
}

/// The `[prices]` of a file as JSON; what they mean, the server looks at.
fn rates(file: &Path) -> Result<Value, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::caused(Exit::Failed, format!("{} cannot be read", file.display()), &error))?;
    let wrong = |reason: &dyn std::fmt::Display| Failure::usage(format!("{}: {reason}", file.display()));
    let mut tables: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(&error))?;
    let prices = tables.remove("prices").ok_or_else(|| wrong(&"there is no [prices.PROVIDER.MODEL]"))?;
    match tables.keys().next() {
        Some(key) => Err(wrong(&format!("`{key}` is not known here: write [prices.PROVIDER.MODEL]"))),
        None => serde_json::to_value(prices).map_err(|error| wrong(&error)),
    }
}

fn told(answer: &Value) -> String {
    let terms = answer["terms"].as_array().map_or(&[][..], Vec::as_slice);
    if terms.is_empty() {
        return format!("{} pays list prices", show::field(answer, "tenant_id"));
    }
    let mut table = show::table(&["from", "in force", "markup", "model", "class", "price"]);
    for term in terms {
        let markup = term["markup_bp"].as_i64().and_then(|points| Markup::from_basis_points(points).ok());
        let in_force = if term["in_force"] == true { "yes" } else { "" };
        let mut first = [show::field(term, "from"), in_force.to_owned(), markup.unwrap_or_default().to_string()];
        let mut row = |cells: [String; 3]| {
            show::row(&mut table, [std::mem::take(&mut first).to_vec(), cells.to_vec()].concat());
        };
        let rates = term["rates"].as_array().map_or(&[][..], Vec::as_slice);
        row(["the price list".to_owned(), String::new(), String::new()]);
        for rate in rates {
            let model = format!("{}/{}", show::field(rate, "provider"), show::field(rate, "model"));
            for (class, price) in rate["rates"].as_object().into_iter().flatten() {
                let tiers = if price["tiers"].is_array() { " +" } else { "" };
                row([model.clone(), class.clone(), format!("{}{tiers}", show::text(&price["base"]))]);
            }
        }
    }
    show::draw(table)
}
