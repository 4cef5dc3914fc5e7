//! Quota requests and decisions on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Fault;
use super::object::{INVALID_REQUEST, Object, read_array};
use super::scalar::{Number, amount, remaining, text, text_or_null};
use crate::domain::quota::{
    Decision, DeniedBy, Hold, HoldId, Item, LimitState, MAX_ITEMS, QuotaCheckResult, QuotaStatus, QuotaType, Scope,
    Window,
};
use crate::domain::tenant::TenantId;
use crate::domain::threshold::ThresholdState;
use crate::domain::time::Timestamp;

/// A request to check, enforce or reserve.
#[derive(Clone, Debug)]
pub struct QuotaRequest {
    /// Who.
    pub tenant_id: TenantId,
    /// What.
    pub items: Vec<Item>,
    /// The type, when it was asked in the single form.
    pub single: Option<QuotaType>,
    /// The model that will be used, if the caller names it.
    pub model: Option<String>,
    /// Who serves it.
    pub provider: Option<String>,
    /// Only of a reserve: seconds to live.
    pub ttl_seconds: Option<u32>,
    /// Only of a reserve: the idempotency key.
    pub reservation_id: Option<String>,
}

impl QuotaRequest {
    /// The provider and the model that are named.
    pub fn named_model(&self) -> (Option<&str>, Option<&str>) {
        (self.provider.as_deref(), self.model.as_deref())
    }

    /// Reads `{tenant_id, quota_type, amount}` or `{tenant_id, items}`.
    pub fn read(json: &[u8]) -> Result<Self, Fault> {
        let mut object = Object::read(json)?;
        let request = Self::of(&mut object)?;
        object.finish("tenant_id, quota_type and amount, or tenant_id and items; model and provider")?;
        Ok(request)
    }

    /// Reads the same with `ttl_seconds` and `reservation_id`.
    pub fn read_reserve(json: &[u8]) -> Result<Self, Fault> {
        let mut object = Object::read(json)?;
        let (ttl_seconds, reservation_id) = (object.value("ttl_seconds")?, object.value("reservation_id")?);
        let request = Self { ttl_seconds, reservation_id, ..Self::of(&mut object)? };
        object.finish("tenant_id, items, ttl_seconds, reservation_id, model and provider")?;
        Ok(request)
    }

    fn of(object: &mut Object<'_>) -> Result<Self, Fault> {
        let tenant_id = object.parsed_as("tenant_id", "invalid_tenant_id")?;
        let tenant_id = tenant_id.ok_or_else(|| object.missing("tenant_id"))?;
        let (items, single) = match object.take("items") {
            Some(_) if object.take("quota_type").is_some() => {
                return Err(Fault::field(INVALID_REQUEST, "items", "and quota_type cannot be given together"));
            }
            Some(items) => (read_items(items)?, None),
            None if !object.has("quota_type") => {
                return Err(Fault::field(INVALID_REQUEST, "items", "is required, or quota_type and amount"));
            }
            None => {
                let item = read_item(object)?;
                (vec![item], Some(item.quota_type))
            }
        };
        let (model, provider) = (object.value("model")?, object.value("provider")?);
        Ok(Self { tenant_id, items, single, model, provider, ttl_seconds: None, reservation_id: None })
    }
}

fn read_items(raw: &RawValue) -> Result<Vec<Item>, Fault> {
    let bounds = || Fault::field(INVALID_REQUEST, "items", format_args!("must be an array of 1 to {MAX_ITEMS} items"));
    let elements = read_array(raw.get().as_bytes(), MAX_ITEMS).map_err(|_| bounds())?;
    if elements.is_empty() {
        return Err(bounds());
    }
    let read = |element: &&RawValue| {
        let mut object = Object::read(element.get().as_bytes())?;
        let item = read_item(&mut object)?;
        object.finish("quota_type and amount").map(|()| item)
    };
    elements.iter().map(read).collect()
}

fn read_item(object: &mut Object<'_>) -> Result<Item, Fault> {
    let quota_type: Option<QuotaType> = object.parsed_as("quota_type", "unknown_quota_type")?;
    let quota_type = quota_type.ok_or_else(|| object.missing("quota_type"))?;
    let raw = object.take("amount").ok_or_else(|| object.missing("amount"))?;
    Ok(Item { quota_type, amount: read_amount(quota_type, raw, "amount")? })
}

/// Reads an amount from the text of a number (for cost also of a string).
pub fn read_amount(quota_type: QuotaType, raw: &RawValue, field: &'static str) -> Result<u128, Fault> {
    let number = |text: &str| {
        quota_type.read(text).map_err(|error| Fault::field(INVALID_REQUEST, field, format_args!("is {error}")))
    };
    match raw.get().as_bytes().first() {
        Some(b'-' | b'0'..=b'9') => number(raw.get()),
        Some(b'"') if quota_type == QuotaType::Cost => {
            let text: String = serde_json::from_str(raw.get()).map_err(|error| Fault::syntax(&error))?;
            number(&text)
        }
        _ => Err(Fault::field(INVALID_REQUEST, field, "must be a number of 0 or more")),
    }
}

/// An open hold with all it holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenHoldJson {
    /// Null for one of `enforce`, which has none.
    pub reservation_id: Option<String>,
    /// What it holds, by type.
    pub items: BTreeMap<String, Number>,
    /// Since when.
    #[serde(with = "text")]
    pub granted_at: Timestamp,
    /// Until when at most.
    #[serde(with = "text")]
    pub expires_at: Timestamp,
}

impl From<&Hold> for OpenHoldJson {
    fn from(hold: &Hold) -> Self {
        let reservation_id = match &hold.id {
            HoldId::Named(id) => Some(id.clone()),
            HoldId::Anonymous(_) => None,
        };
        let item = |item: &Item| (item.quota_type.name().to_owned(), amount(item.quota_type, item.amount));
        Self {
            reservation_id,
            items: hold.items.iter().map(item).collect(),
            granted_at: hold.granted_at,
            expires_at: hold.expires_at,
        }
    }
}

/// The documented answer for one type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuotaCheckJson {
    /// Whether it was, or would be, granted.
    pub allowed: bool,
    /// What is left; -1 is unlimited.
    pub tokens_remaining: Number,
    /// Null is unlimited.
    pub quota_limit: Option<Number>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl QuotaCheckJson {
    fn new(quota_type: QuotaType, result: &QuotaCheckResult) -> Self {
        Self {
            allowed: result.allowed,
            tokens_remaining: remaining(quota_type, result.tokens_remaining),
            quota_limit: result.quota_limit.map(|limit| amount(quota_type, limit)),
            error: result.error.clone(),
        }
    }
}

/// A limit that said no. Of a ceiling of the platform there are no figures: those are other tenants' business.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of LimitState and DeniedBy")]
pub struct DeniedByJson {
    /// `tenant` or `platform`.
    pub scope: String,
    #[serde(with = "text")]
    pub quota_type: QuotaType,
    #[serde(with = "text")]
    pub window: Window,
    /// The inner `None` is null, unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Option<Number>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<Number>,
    #[serde(with = "text")]
    pub resets_at: Timestamp,
    pub asked: Number,
}

impl From<&DeniedBy> for DeniedByJson {
    fn from(denied: &DeniedBy) -> Self {
        let state = &denied.state;
        let show = |figure: u128| Some(amount(state.quota_type, figure)).filter(|_| denied.scope == Scope::Tenant);
        let of_tenant = denied.scope == Scope::Tenant;
        Self {
            scope: denied.scope.name().to_owned(),
            quota_type: state.quota_type,
            window: state.window,
            limit: of_tenant.then(|| state.limit.map(|limit| amount(state.quota_type, limit))),
            used: show(state.used),
            held: show(state.held),
            remaining: of_tenant.then(|| remaining(state.quota_type, state.remaining())),
            resets_at: state.resets_at,
            asked: amount(state.quota_type, denied.asked),
        }
    }
}

/// The sentence of a denial: the limit, its window, what is left, when it resets.
pub fn denial_sentence(denied: &DeniedBy) -> String {
    let state = &denied.state;
    let kind = state.quota_type;
    let unit = if kind == QuotaType::Cost { "US dollars of cost" } else { kind.name() };
    if denied.scope == Scope::Platform {
        return format!(
            "Quota exceeded: the platform's ceiling of {unit} per {} has no room for the {} asked for",
            state.window,
            kind.show(denied.asked),
        );
    }
    format!(
        "Quota exceeded: the limit is {} {unit} per {}, {} of it left, {} asked for; it resets at {}",
        state.limit.map_or_else(|| "unlimited".to_owned(), |limit| kind.show(limit)),
        state.window,
        kind.show(state.remaining().unwrap_or(0)),
        kind.show(denied.asked),
        state.resets_at,
    )
}

/// A decision. The single form shows its result at the top, the others under `results`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DecisionJson {
    /// Whether everything asked for was, or would be, granted.
    pub allowed: bool,
    /// Of a reserve that was granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation_id: Option<String>,
    /// `false` for a grant that is not on disk, while `on_storage_failure` is `open`; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    /// When the reservation lapses.
    #[serde(with = "text_or_null", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Single form: what is left; -1 is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_remaining: Option<Number>,
    /// Single form: the limit; the inner `None` is null, unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_limit: Option<Option<Number>>,
    /// By type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<BTreeMap<String, QuotaCheckJson>>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `quota_exceeded` when denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The limits that denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied_by: Vec<DeniedByJson>,
    /// Limits in observe mode that would have denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would_deny: Vec<DeniedByJson>,
    /// When it can fit; absent when waiting cannot help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    /// Names a denial for `quota explain`.
    #[serde(with = "text_or_null", skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<Uuid>,
}

impl DecisionJson {
    /// From a decision; `single` shows that type's result at the top.
    pub fn new(decision: &Decision, single: Option<QuotaType>, decision_id: Option<Uuid>) -> Self {
        let mut json = Self { allowed: decision.allowed, decision_id, ..Self::default() };
        match single.and_then(|kind| decision.results.get(&kind).map(|result| QuotaCheckJson::new(kind, result))) {
            Some(result) => {
                json.tokens_remaining = Some(result.tokens_remaining);
                json.quota_limit = Some(result.quota_limit);
            }
            None => {
                let results = decision.results.iter();
                let results =
                    results.map(|(kind, result)| (kind.name().to_owned(), QuotaCheckJson::new(*kind, result)));
                json.results = Some(results.collect());
            }
        }
        if !decision.allowed {
            json.error = decision
                .denied_by
                .first()
                .map(denial_sentence)
                .or_else(|| decision.results.values().find_map(|result| result.error.clone()));
            json.code = Some("quota_exceeded".to_owned());
            json.retry_after_seconds = decision.retry_after_seconds;
        }
        json.denied_by = decision.denied_by.iter().map(DeniedByJson::from).collect();
        json.would_deny = decision.would_deny.iter().map(DeniedByJson::from).collect();
        json
    }
}

/// One limit, looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of LimitState")]
pub struct LimitJson {
    #[serde(with = "text")]
    pub quota_type: QuotaType,
    #[serde(with = "text")]
    pub window: Window,
    pub limit: Option<Number>,
    pub used: Number,
    pub held: Number,
    /// -1 is unlimited.
    pub remaining: Number,
    /// Percent of the limit used.
    pub percentage: f64,
    #[serde(with = "text")]
    pub resets_at: Timestamp,
    /// The percentages of a day or month limit that are told; absent for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Vec<u16>>,
    /// Those that use has reached in the current window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds_crossed: Option<Vec<u16>>,
}

impl From<&LimitState> for LimitJson {
    fn from(state: &LimitState) -> Self {
        Self {
            quota_type: state.quota_type,
            window: state.window,
            limit: state.limit.map(|limit| amount(state.quota_type, limit)),
            used: amount(state.quota_type, state.used),
            held: amount(state.quota_type, state.held),
            remaining: remaining(state.quota_type, state.remaining()),
            percentage: state.percentage(),
            resets_at: state.resets_at,
            thresholds: None,
            thresholds_crossed: None,
        }
    }
}

impl LimitJson {
    /// With its thresholds, if it has any.
    fn of(state: &LimitState, status: &QuotaStatus) -> Self {
        let same = |told: &&ThresholdState| (told.quota_type, told.window) == (state.quota_type, state.window);
        let told = status.thresholds.iter().find(same);
        Self {
            thresholds: told.map(|told| told.percents.clone()),
            thresholds_crossed: told.map(|told| told.crossed.clone()),
            ..state.into()
        }
    }
}

/// The documented answer of `get_quota_status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuotaStatusJson {
    /// The plan's name.
    pub plan: String,
    /// What the tenant may do.
    pub status: String,
    /// By type, in the window of the documented interface.
    pub quotas: BTreeMap<String, LimitJson>,
    /// Every limit in force, with its window.
    pub limits: Vec<LimitJson>,
    /// Whether any limit is used up.
    #[serde(rename = "anyExceeded")]
    pub any_exceeded: bool,
}

impl From<&QuotaStatus> for QuotaStatusJson {
    fn from(status: &QuotaStatus) -> Self {
        let look = |state: &LimitState| LimitJson::of(state, status);
        let primary = |kind: QuotaType| status.primary(kind).map(|state| (kind.name().to_owned(), look(state)));
        Self {
            plan: status.plan.clone(),
            status: status.status.name().to_owned(),
            quotas: QuotaType::ALL.into_iter().filter_map(primary).collect(),
            limits: status.limits.iter().filter(|state| state.limit.is_some()).map(look).collect(),
            any_exceeded: status.any_exceeded(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_request_are_read() {
        let single = QuotaRequest::read(br#"{"tenant_id":"acme","quota_type":"tokens","amount":500}"#).unwrap();
        assert_eq!(single.items, [Item { quota_type: QuotaType::Tokens, amount: 500 }]);
        assert_eq!(single.single, Some(QuotaType::Tokens));

        let several = br#"{"tenant_id":"acme","ttl_seconds":9,"reservation_id":"r",
            "items":[{"quota_type":"cost","amount":0.25},{"quota_type":"cost","amount":"0.000000000000001"}]}"#;
        let several = QuotaRequest::read_reserve(several).unwrap();
        let amounts: Vec<u128> = several.items.iter().map(|item| item.amount).collect();
        assert_eq!(amounts, [250_000_000_000_000, 1]);
        assert_eq!(
            (several.single, several.ttl_seconds, several.reservation_id.as_deref()),
            (None, Some(9), Some("r"))
        );
    }

    #[test]
    fn each_bad_field_of_a_request_is_named() {
        let item = |fields: &str| format!(r#"{{"tenant_id":"acme",{fields}}}"#);
        for (json, code, field) in [
            (item(r#""quota_type":"tokens","amount":-1"#), INVALID_REQUEST, "amount"),
            (item(r#""quota_type":"tokens","amount":1.5"#), INVALID_REQUEST, "amount"),
            (item(r#""quota_type":"tokens","amount":"5""#), INVALID_REQUEST, "amount"),
            (item(r#""quota_type":"tokens","amount":1000000000000001"#), INVALID_REQUEST, "amount"),
            (item(r#""quota_type":"cost","amount":1e-16"#), INVALID_REQUEST, "amount"),
            (item(r#""quota_type":"tokens""#), INVALID_REQUEST, "amount"),
            (item(r#""quota_type":"words","amount":1"#), "unknown_quota_type", "quota_type"),
            (item(r#""amount":1"#), INVALID_REQUEST, "items"),
            (item(r#""items":[{"amount":1}]"#), INVALID_REQUEST, "quota_type"),
            (item(r#""items":[]"#), INVALID_REQUEST, "items"),
            (item(r#""items":{}"#), INVALID_REQUEST, "items"),
            (item(&format!(r#""items":[{}]"#, vec!["1"; 17].join(","))), INVALID_REQUEST, "items"),
            (item(r#""items":[{"quota_type":"tokens","amount":1,"x":1}]"#), INVALID_REQUEST, "x"),
            (item(r#""items":[],"quota_type":"tokens""#), INVALID_REQUEST, "items"),
            (item(r#""quota_type":"tokens","amount":1,"ttl":5"#), INVALID_REQUEST, "ttl"),
            (r#"{"tenant_id":"a/b"}"#.to_owned(), "invalid_tenant_id", "tenant_id"),
            ("{}".to_owned(), INVALID_REQUEST, "tenant_id"),
        ] {
            let fault = QuotaRequest::read(json.as_bytes()).unwrap_err();
            assert_eq!((fault.code, fault.field.as_deref()), (code, Some(field)), "{json}: {fault}");
        }
        let json = item(r#""quota_type":"tokens","amount":1,"ttl_seconds":"soon""#);
        let fault = QuotaRequest::read_reserve(json.as_bytes()).unwrap_err();
        assert_eq!(fault.field.as_deref(), Some("ttl_seconds"));
    }

    #[test]
    fn a_status_shows_each_type_in_its_documented_window() {
        let state = |window, limit| LimitState {
            quota_type: QuotaType::Tokens,
            window,
            limit,
            used: 75,
            held: 5,
            resets_at: Timestamp::from_seconds(0),
        };
        let status = QuotaStatus {
            plan: "trial".to_owned(),
            status: crate::domain::tenant::TenantStatus::Active,
            limits: vec![state(Window::Day, Some(100)), state(Window::Month, None)],
            thresholds: Vec::new(),
        };
        let shown = serde_json::to_value(QuotaStatusJson::from(&status)).unwrap();
        let day = serde_json::json!({
            "quota_type": "tokens", "window": "day", "limit": 100, "used": 75, "held": 5, "remaining": 20,
            "percentage": 75.0, "resets_at": "1970-01-01T00:00:00Z",
        });
        let whole = serde_json::json!({
            "plan": "trial", "status": "active", "quotas": { "tokens": day }, "limits": [day], "anyExceeded": false,
        });
        assert_eq!(shown, whole);
    }
}
