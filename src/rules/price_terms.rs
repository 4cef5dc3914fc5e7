//! A tenant's own prices over time: what a change makes of them, and its audit record.

use std::sync::Arc;

use serde_json::{Value, json};

use super::administration::ChangeRefused;
use super::price_changes::show_rate;
use super::prices::own_row;
use crate::domain::audit::AuditAction;
use crate::domain::price::{PriceClass, PriceRow, TieredRate};
use crate::domain::price_terms::{MAX_RATES, MAX_TERMS, Markup, OwnRate, PriceTerms, terms_at};
use crate::domain::tenant::Tenant;
use crate::domain::time::{MICROS_PER_DAY, Timestamp};

/// How long terms are kept that others have followed: as long as events of their time may come, or be priced again.
const KEPT_MICROS: i64 = 62 * MICROS_PER_DAY;

/// What the audit log says of a change of a tenant's own prices.
pub(super) struct TermsChanged {
    pub(super) event_type: &'static str,
    pub(super) action: AuditAction,
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
    pub(super) summary: String,
}

/// Sets what holds from an instant on, until the next terms. The same again changes nothing, and is `None`.
pub(super) fn set_terms(
    tenant: &mut Tenant,
    from: Timestamp,
    markup: Markup,
    rates: &[PriceRow],
    now: Timestamp,
) -> Result<Option<TermsChanged>, ChangeRefused> {
    let refused = |field, reason: String| Err(ChangeRefused::Invalid { field, reason });
    if rates.len() > MAX_RATES {
        return refused("rates", format!("are more than {MAX_RATES}"));
    }
    if rates.is_empty() && markup.is_none() {
        return refused(
            "markup_bp",
            "and rates say nothing: to go back to list prices, remove the tenant's own".to_owned(),
        );
    }
    let named = |row: &PriceRow| own_row(tenant.tenant_id.as_str(), from, row.clone());
    let rates: Vec<PriceRow> = rates.iter().map(named).collect();
    let before = terms_at(&tenant.price_terms, from).cloned();
    if before.as_ref().is_some_and(|before| before.from == from && before.says(markup, &rates)) {
        return Ok(None);
    }
    let rates = rates.into_iter().map(|row| OwnRate { price_no: None, row }).collect();
    let terms = PriceTerms { from, markup, rates };
    let summary = match (terms.rates.len(), markup) {
        (0, markup) => format!("Markup of {markup} on list prices from {from}"),
        (rates, Markup::NONE) => format!("{rates} own prices from {from}"),
        (rates, markup) => format!("{rates} own prices, and a markup of {markup} on list prices, from {from}"),
    };
    let changed = TermsChanged {
        event_type: "tenant_prices_set",
        action: if before.is_some() { AuditAction::Update } else { AuditAction::Create },
        old: before.as_deref().map(shown),
        new: Some(shown(&terms)),
        summary,
    };
    tenant.price_terms.retain(|known| known.from != from);
    tenant.price_terms.push(Arc::new(terms));
    tenant.price_terms.sort_by_key(|terms| terms.from);
    forget(tenant, now);
    if tenant.price_terms.len() > MAX_TERMS {
        return refused(
            "from",
            format!("makes more than {MAX_TERMS} terms of one tenant: end those that are not needed"),
        );
    }
    Ok(Some(changed))
}

/// Lets list prices hold from an instant on, whatever was to begin later. `None` where they do already.
pub(super) fn end_terms(tenant: &mut Tenant, from: Timestamp, now: Timestamp) -> Option<TermsChanged> {
    let before = terms_at(&tenant.price_terms, from).filter(|terms| !terms.is_list()).cloned();
    let later = tenant.price_terms.iter().filter(|terms| terms.from > from).count();
    if before.is_none() && later == 0 {
        return None;
    }
    let mut summary = format!("List prices from {from}");
    if later > 0 {
        summary.push_str(&format!("; {later} later terms go"));
    }
    tenant.price_terms.retain(|terms| terms.from < from);
    if before.is_some() && !tenant.price_terms.is_empty() {
        tenant.price_terms.push(Arc::new(PriceTerms { from, markup: Markup::NONE, rates: Vec::new() }));
    }
    forget(tenant, now);
    Some(TermsChanged {
        event_type: "tenant_prices_removed",
        action: AuditAction::Delete,
        old: before.as_deref().map(shown),
        new: None,
        summary,
    })
}

/// Lets terms go that others followed long ago, and list prices at the beginning, which hold without being said.
fn forget(tenant: &mut Tenant, now: Timestamp) {
    let kept_from = now.plus_micros(-KEPT_MICROS);
    let old = tenant.price_terms.iter().filter(|terms| terms.from <= kept_from).count();
    tenant.price_terms.drain(..old.saturating_sub(1));
    let list = tenant.price_terms.iter().take_while(|terms| terms.is_list()).count();
    tenant.price_terms.drain(..list);
}

impl PriceTerms {
    fn says(&self, markup: Markup, rates: &[PriceRow]) -> bool {
        self.markup == markup && self.rates.iter().map(|rate| &rate.row).eq(rates)
    }
}

fn shown(terms: &PriceTerms) -> Value {
    let rate = |(class, rate): (&PriceClass, &TieredRate)| format!("{}: {}", class.name(), show_rate(*class, rate));
    let line = |own: &OwnRate| {
        let rates = own.row.rates.iter().map(rate).collect::<Vec<_>>().join("; ");
        format!("{}/{} {rates}", own.row.provider, own.row.model)
    };
    json!({
        "from": terms.from.to_string(),
        "markup_bp": terms.markup.basis_points(),
        "rates": terms.rates.iter().map(line).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::prices::own_rates;

    fn tenant() -> Tenant {
        Tenant::new("acme".parse().unwrap(), "trial", chrono_tz::UTC, day(100))
    }

    fn day(day: i64) -> Timestamp {
        Timestamp::from_seconds(day * 86_400)
    }

    fn set(tenant: &mut Tenant, from: i64, markup: &str) -> Option<String> {
        let now = day(100);
        set_terms(tenant, day(from), markup.parse().unwrap(), &[], now).unwrap().map(|changed| changed.summary)
    }

    /// (day, markup) of each.
    fn told(tenant: &Tenant) -> Vec<(i64, String)> {
        let terms = tenant.price_terms.iter();
        terms.map(|terms| (i64::from(terms.from.day()), terms.markup.to_string())).collect()
    }

    #[test]
    fn terms_hold_until_the_next_and_the_same_again_changes_nothing() {
        let mut acme = tenant();
        set(&mut acme, 110, "20%");
        set(&mut acme, 100, "10%");
        assert_eq!(told(&acme), [(100, "10%".to_owned()), (110, "20%".to_owned())]);
        assert_eq!(set(&mut acme, 100, "10%"), None);
        assert!(set(&mut acme, 100, "12.5%").unwrap().starts_with("Markup of 12.5% on list prices from "));
        let markup = |at| terms_at(&acme.price_terms, day(at)).map(|terms| terms.markup.to_string());
        assert_eq!([99, 100, 109, 110].map(markup).map(|text| text.unwrap_or_default()), ["", "12.5%", "12.5%", "20%"]);
    }

    #[test]
    fn ending_them_leaves_what_was_before() {
        let mut acme = tenant();
        assert!(end_terms(&mut acme, day(100), day(100)).is_none());
        set(&mut acme, 95, "10%");
        set(&mut acme, 110, "20%");
        let ended = end_terms(&mut acme, day(100), day(100)).unwrap();
        assert!(ended.summary.ends_with("1 later terms go"), "{}", ended.summary);
        assert_eq!(told(&acme), [(95, "10%".to_owned()), (100, "0%".to_owned())]);
        assert!(end_terms(&mut acme, day(100), day(100)).is_none());
        end_terms(&mut acme, day(90), day(100)).unwrap();
        assert_eq!(told(&acme), []);
    }

    #[test]
    fn what_is_followed_for_62_days_goes_and_there_is_never_more_than_24() {
        let mut acme = tenant();
        set(&mut acme, 20, "1%");
        set(&mut acme, 30, "2%");
        set(&mut acme, 40, "3%");
        assert_eq!(told(&acme), [(30, "2%".to_owned()), (40, "3%".to_owned())]);
        (100..122).for_each(|from| _ = set(&mut acme, from, "1%"));
        let refused = set_terms(&mut acme, day(200), "7%".parse().unwrap(), &[], day(100)).err().unwrap();
        assert!(refused.to_string().contains("more than 24 terms"), "{refused}");
    }

    #[test]
    fn rates_are_named_by_their_tenant_and_told_in_the_record() {
        let mut acme = tenant();
        let rates = own_rates(&json!({"openai": {"gpt-x": {"input": "2", "output": "8.5"}}})).unwrap();
        let changed = set_terms(&mut acme, day(100), Markup::NONE, &rates, day(100)).unwrap().unwrap();
        assert_eq!(changed.new.unwrap()["rates"], json!(["openai/gpt-x input: 2; output: 8.5"]));
        let id = &acme.price_terms[0].rates[0].row.id;
        assert!(id.starts_with("tenant acme: openai/gpt-x@1970-04-11~"), "{id}");
    }
}
