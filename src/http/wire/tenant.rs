//! Tenants and their own limits on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::object::{INVALID_REQUEST, Object};
use super::plan::read_thresholds;
use super::quota::read_amount;
use super::scalar::{Number, amount, text, text_or_null};
use super::{Fault, unquoted};
use crate::domain::quota::{QuotaType, Window};
use crate::domain::tenant::{Tenant, TenantChange, TenantId, TenantPut, TenantStatus};
use crate::domain::time::Timestamp;

/// One tenant, as administered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields of Tenant")]
pub struct TenantJson {
    #[serde(with = "text")]
    pub tenant_id: TenantId,
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub plan: String,
    #[serde(with = "text_or_null")]
    pub plan_expires_at: Option<Timestamp>,
    /// An IANA name.
    pub zone: String,
    /// The status now: an active tenant whose plan has run out reads `expired`.
    pub status: String,
    /// `enforce`, or `observe`: everything is granted, and what would have been denied is listed.
    pub mode: String,
    /// The tenant's own percentages of a limit that are told; null: its plan's.
    pub thresholds: Option<Vec<u16>>,
    pub overrides: Vec<OverrideJson>,
    /// How many terms of its own prices it has, past and future ones together.
    #[serde(default)]
    pub price_terms: u64,
    #[serde(with = "text")]
    pub created_at: Timestamp,
    #[serde(with = "text")]
    pub updated_at: Timestamp,
}

/// A tenant's own limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields of Override")]
pub struct OverrideJson {
    #[serde(with = "text")]
    pub quota_type: QuotaType,
    #[serde(with = "text")]
    pub window: Window,
    /// Null is unlimited.
    pub limit: Option<Number>,
    pub reason: Option<String>,
    #[serde(with = "text_or_null")]
    pub until: Option<Timestamp>,
    #[serde(with = "text")]
    pub set_at: Timestamp,
}

impl TenantJson {
    /// The tenant as it stands at `now`.
    pub fn at(tenant: &Tenant, now: Timestamp) -> Self {
        let own = tenant.overrides.iter().map(|(&(quota_type, window), own)| OverrideJson {
            quota_type,
            window,
            limit: own.limit.map(|limit| amount(quota_type, limit)),
            reason: own.reason.clone(),
            until: own.until,
            set_at: own.set_at,
        });
        Self {
            tenant_id: tenant.tenant_id.clone(),
            name: tenant.name.clone(),
            labels: tenant.labels.clone(),
            plan: tenant.plan.clone(),
            plan_expires_at: tenant.plan_expires_at,
            zone: tenant.zone.name().to_owned(),
            status: tenant.status_at(now).name().to_owned(),
            mode: tenant.mode.name().to_owned(),
            thresholds: tenant.thresholds.clone(),
            overrides: own.collect(),
            price_terms: tenant.price_terms.len() as u64,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        }
    }
}

/// A page of tenants, in order of their ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TenantsJson {
    /// The page.
    pub tenants: Vec<TenantJson>,
    /// Where to go on; null at the end.
    pub next_cursor: Option<String>,
    /// How many there are in all.
    pub total: u64,
}

/// Reads what a PUT of a tenant sets; `plan_expires_at: null` is never, `thresholds: null` those of the plan.
pub fn read_put(json: &[u8]) -> Result<TenantPut, Fault> {
    let mut object = Object::read(json)?;
    let plan_expires_at = match object.take("plan_expires_at") {
        None => None,
        Some(raw) if raw.get() == "null" => Some(None),
        Some(raw) => Some(Some(read_time(raw.get(), "plan_expires_at")?)),
    };
    let thresholds = match object.take("thresholds") {
        None => None,
        Some(raw) if raw.get() == "null" => Some(None),
        Some(raw) => Some(Some(read_thresholds(raw)?)),
    };
    let status = object.parsed("status")?;
    if status == Some(TenantStatus::Deleted) {
        return Err(Fault::field(INVALID_REQUEST, "status", "cannot be set to deleted: use DELETE"));
    }
    let put = TenantPut {
        name: object.value("name")?,
        labels: object.value("labels")?,
        plan: object.value("plan")?,
        plan_expires_at,
        zone: object.parsed("zone")?,
        status,
        mode: object.parsed("mode")?,
        thresholds,
    };
    object.finish("name, labels, plan, plan_expires_at, zone, status, mode and thresholds")?;
    Ok(put)
}

/// Reads the body of an override, `{limit, reason?, until?, window?}`, for a type.
pub fn read_override(json: &[u8], quota_type: QuotaType, window: Option<Window>) -> Result<TenantChange, Fault> {
    let mut object = Object::read(json)?;
    let limit = match object.take("limit") {
        None => return Err(Fault::field(INVALID_REQUEST, "limit", "is required: a number, or null for unlimited")),
        Some(raw) if raw.get() == "null" => None,
        Some(raw) => Some(read_amount(quota_type, raw, "limit")?),
    };
    let named: Option<Window> = object.parsed("window")?;
    if let (Some(named), Some(window)) = (named, window)
        && named != window
    {
        return Err(Fault::field(INVALID_REQUEST, "window", "differs between the body and the query"));
    }
    let change = TenantChange::SetOverride {
        quota_type,
        window: named.or(window).unwrap_or(quota_type.default_window()),
        limit,
        reason: object.value("reason")?,
        until: object.parsed("until")?,
    };
    object.finish("limit, reason, until and window")?;
    Ok(change)
}

fn read_time(json: &str, field: &'static str) -> Result<Timestamp, Fault> {
    let text: String =
        serde_json::from_str(json).map_err(|_| Fault::field(INVALID_REQUEST, field, "must be a string or null"))?;
    let wrong = |error| Fault::field(INVALID_REQUEST, field, format_args!("is wrong: {}", unquoted(error, &text)));
    text.parse::<Timestamp>().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_sets_what_it_names_and_null_ends_an_expiry() {
        let put = read_put(br#"{"plan":"pro","zone":"Asia/Kathmandu","plan_expires_at":null,"status":"suspended"}"#);
        let put = put.unwrap();
        assert_eq!((put.plan.as_deref(), put.zone, put.name), (Some("pro"), Some(chrono_tz::Asia::Kathmandu), None));
        assert_eq!((put.plan_expires_at, put.status), (Some(None), Some(TenantStatus::Suspended)));
        assert_eq!(read_put(b"{}").unwrap(), TenantPut::default());
        let told = |json: &str| read_put(json.as_bytes()).unwrap().thresholds;
        assert_eq!(
            (told(r#"{"thresholds":null}"#), told(r#"{"thresholds":[9,7]}"#)),
            (Some(None), Some(Some(vec![7, 9])))
        );
        for (json, field) in [
            (r#"{"zone":"Mars/Olympus"}"#, "zone"),
            (r#"{"status":"deleted"}"#, "status"),
            (r#"{"status":"gone"}"#, "status"),
            (r#"{"plan":7}"#, "plan"),
            (r#"{"plan_expires_at":"soon"}"#, "plan_expires_at"),
            (r#"{"labels":["a"]}"#, "labels"),
            (r#"{"thresholds":[0]}"#, "thresholds"),
            (r#"{"thresholds":[80.5]}"#, "thresholds"),
            (r#"{"plam":"pro"}"#, "plam"),
        ] {
            assert_eq!(read_put(json.as_bytes()).unwrap_err().field.as_deref(), Some(field), "{json}");
        }
    }

    #[test]
    fn an_override_has_its_types_window_unless_told_otherwise() {
        let read = |json: &str, window| read_override(json.as_bytes(), QuotaType::Tokens, window);
        let of = |change| match change {
            Ok(TenantChange::SetOverride { window, limit, .. }) => Ok((window, limit)),
            Ok(other) => panic!("{other:?}"),
            Err(Fault { field, .. }) => Err(field.unwrap()),
        };
        assert_eq!(of(read(r#"{"limit":7}"#, None)), Ok((Window::Day, Some(7))));
        assert_eq!(of(read(r#"{"limit":null}"#, Some(Window::Month))), Ok((Window::Month, None)));
        assert_eq!(of(read(r#"{"limit":7,"window":"minute"}"#, None)), Ok((Window::Minute, Some(7))));
        for (json, window, field) in [
            ("{}", None, "limit"),
            (r#"{"limit":-7}"#, None, "limit"),
            (r#"{"limit":"many"}"#, None, "limit"),
            (r#"{"limit":1,"window":"day"}"#, Some(Window::Month), "window"),
            (r#"{"limit":1,"window":"week"}"#, None, "window"),
            (r#"{"limit":1,"until":"later"}"#, None, "until"),
        ] {
            assert_eq!(of(read(json, window)), Err(field.into()), "{json}");
        }
    }
}
