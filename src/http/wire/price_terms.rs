//! A tenant's own prices on the wire.

use serde::Serialize;

use super::Fault;
use super::object::{INVALID_REQUEST, Object};
use super::price::PriceJson;
use crate::domain::price_terms::{Markup, PriceTerms, terms_at};
use crate::domain::tenant::{Tenant, TenantChange};
use crate::domain::time::Timestamp;
use crate::rules::prices::own_rates;

/// A tenant's own prices over time.
#[derive(Debug, Serialize)]
pub struct TenantPricesJson {
    /// Whose.
    pub tenant_id: String,
    /// In order of their beginnings; before the first, list prices hold.
    pub terms: Vec<TermsJson>,
}

/// What holds from an instant on, until the next.
#[derive(Debug, Serialize)]
pub struct TermsJson {
    /// From when, by the time of the event.
    pub from: String,
    /// Whether they hold now.
    pub in_force: bool,
    /// On list prices, in basis points.
    pub markup_bp: i32,
    /// Its own rates, which carry no markup.
    pub rates: Vec<OwnRateJson>,
}

/// A rate of a tenant's own.
#[derive(Debug, Serialize)]
pub struct OwnRateJson {
    /// The number of its price row, which events keep.
    pub price_no: Option<u32>,
    /// The row.
    #[serde(flatten)]
    pub price: PriceJson,
}

impl TenantPricesJson {
    /// The tenant's terms, and which hold at `now`.
    pub fn at(tenant: &Tenant, now: Timestamp) -> Self {
        let in_force = terms_at(&tenant.price_terms, now).map(|terms| terms.from);
        let terms = tenant.price_terms.iter();
        Self {
            tenant_id: tenant.tenant_id.to_string(),
            terms: terms.map(|terms| TermsJson::new(terms, in_force == Some(terms.from))).collect(),
        }
    }
}

impl TermsJson {
    fn new(terms: &PriceTerms, in_force: bool) -> Self {
        let rates = terms.rates.iter();
        Self {
            from: terms.from.to_string(),
            in_force,
            markup_bp: terms.markup.basis_points(),
            rates: rates.map(|rate| OwnRateJson { price_no: rate.price_no, price: (&rate.row).into() }).collect(),
        }
    }
}

/// Reads `{from?, markup_bp?, rates?}`; `read_time` reads a day or a time.
pub fn read_terms(json: &[u8], read_time: impl Fn(&str) -> Option<Timestamp>) -> Result<TenantChange, Fault> {
    let mut object = Object::read(json)?;
    let from = match object.value::<String>("from")? {
        None => None,
        Some(text) => {
            let reason = "is neither a day (2026-11-24) nor an RFC 3339 time";
            Some(read_time(&text).ok_or_else(|| Fault::field(INVALID_REQUEST, "from", reason))?)
        }
    };
    let points: i64 = object.value("markup_bp")?.unwrap_or_default();
    let markup = Markup::from_basis_points(points)
        .map_err(|error| Fault::field(INVALID_REQUEST, "markup_bp", format_args!("is wrong: {error}")))?;
    let rates = match object.value::<serde_json::Value>("rates")? {
        None => Vec::new(),
        Some(rates) => own_rates(&rates)
            .map_err(|error| Fault::field(INVALID_REQUEST, "rates", format_args!("cannot be taken: {error}")))?,
    };
    object.finish("from, markup_bp and rates")?;
    Ok(TenantChange::SetPrices { from, markup, rates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_names_its_field() {
        let read = |json: &str| read_terms(json.as_bytes(), |text| text.parse().ok());
        let terms =
            read(r#"{"from":"2026-12-01T00:00:00Z","markup_bp":-250,"rates":{"openai":{"gpt-x":{"input":"2"}}}}"#);
        let Ok(TenantChange::SetPrices { from, markup, rates }) = terms else { panic!("{terms:?}") };
        assert_eq!((from.unwrap().to_string().as_str(), markup.basis_points()), ("2026-12-01T00:00:00Z", -250));
        assert_eq!((rates[0].provider.as_str(), rates[0].model.as_str()), ("openai", "gpt-x"));
        for (json, field) in [
            (r#"{"from":"soon"}"#, "from"),
            (r#"{"markup_bp":12.5}"#, "markup_bp"),
            (r#"{"markup_bp":-10001}"#, "markup_bp"),
            (r#"{"markup_bp":1000001}"#, "markup_bp"),
            (r#"{"rates":[]}"#, "rates"),
            (r#"{"rates":{"openai":{"gpt-x":{"input":2.5}}}}"#, "rates"),
            (r#"{"rates":{"openai":{"gpt-x":{"inptu":"2.5"}}}}"#, "rates"),
            (r#"{"rates":{"openai":{"gpt-x":{"from":"2026-01-01","input":"2"}}}}"#, "rates"),
            (r#"{"rates":{"openai":{"a*b":{"input":"2"}}}}"#, "rates"),
            (r#"{"rates":{"openai":{"GPT-x":{"input":"2"},"gpt-x":{"input":"3"}}}}"#, "rates"),
            (r#"{"markup":1}"#, "markup"),
        ] {
            assert_eq!(read(json).unwrap_err().field.as_deref(), Some(field), "{json}");
        }
    }
}
