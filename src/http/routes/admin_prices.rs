//! Administering prices: what is in force, what a file would change, the change, and what wants a look.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::body::{JsonBody, read_batch};
use super::super::caller::By;
use super::super::cursor;
use super::super::error::ApiError;
use super::super::params::{Params, read_date};
use super::super::wire::Fault;
use super::super::wire::object::{INVALID_REQUEST, Object};
use super::super::wire::price::{NoticeJson, PriceJson, PricesChangedJson, RepricedJson};
use super::super::wire::usage::ModelRow;
use super::blocking;
use crate::domain::models::{ModelKey, ModelSums};
use crate::domain::price::ModelLimits;
use crate::domain::price_terms::Markup;
use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_DAY, PeriodType};
use crate::rules::price_changes::{format_name, format_named};
use crate::rules::prices::PriceFormat;
use crate::tenants::TenantPrice;
use crate::tracker::RepriceRequest;

const ROWS: usize = 100;
const ROWS_MAX: usize = 1_000;
const DIFFERENCES_MAX: usize = 1_000;
const NOTICES_MAX: usize = 100;
/// How far back models are looked for that have no price.
const CHECKED_DAYS: i64 = 30;
/// Prices that were compared with their source longer ago want a look.
const STALE_DAYS: u64 = 90;

/// `?provider&model&tenant_id&limit&cursor` -> the book in force: its file, its providers, its rows by cursor. `model` shows what a
/// name means: the rows that it is priced by, the alias it is found by, and its most tokens where the book has
/// them; `borrowed` when
/// another provider's hold, without what that one charges by request and by search. With `tenant_id`, what that tenant pays.
pub async fn list(State(state): State<HttpState>, uri: Uri) -> Result<Json<Value>, ApiError> {
    let params = Params::read(&uri, &["provider", "model", "tenant_id", "limit", "cursor"])?;
    let limit = params.limit(ROWS, ROWS_MAX)?;
    let prices = state.tenants.prices();
    let (book, provider) = (&prices.book, params.get("provider"));
    let mut answer = json!({
        "format": prices.file.format,
        "applied_at": (prices.file.applied_at.micros() > 0).then(|| prices.file.applied_at.to_string()),
        "models": book.models(),
    });
    if let Some(model) = params.get("model") {
        let tenant_price = match params.parsed::<TenantId>("tenant_id")? {
            None => TenantPrice::List(Markup::NONE),
            Some(tenant_id) => state.tenants.price_for(&tenant_id, provider, model)?,
        };
        let found = book.find_model(provider, model);
        let limits = found.as_ref().map_or_else(ModelLimits::default, |found| found.model.limits);
        for (name, limit) in limits.named() {
            answer[name] = limit.into();
        }
        let markup = match tenant_price {
            TenantPrice::List(markup) => markup,
            TenantPrice::Own(row, alias) => {
                answer["layer"] = "own".into();
                answer["markup_bp"] = 0.into();
                answer["alias"] = json!(alias);
                answer["borrowed"] = false.into();
                answer["prices"] = json!([PriceJson::from(&*row)]);
                return Ok(Json(answer));
            }
        };
        let unknown = || {
            let message = format!("the price book knows no model `{}`", model.chars().take(128).collect::<String>());
            ApiError::new(axum::http::StatusCode::NOT_FOUND, "price_unknown", message)
        };
        let found = found.ok_or_else(unknown)?;
        answer["layer"] = if markup.is_none() { "list" } else { "list_with_markup" }.into();
        answer["markup_bp"] = markup.basis_points().into();
        answer["alias"] = found.alias.into();
        answer["borrowed"] = found.borrowed.into();
        answer["prices"] = json!(found.model.rows.iter().map(PriceJson::from).collect::<Vec<_>>());
        return Ok(Json(answer));
    }
    if params.get("tenant_id").is_some() {
        return Err(ApiError::parameter("tenant_id", "wants `model` beside it"));
    }
    let listed = match provider {
        None => book.providers().iter().collect::<Vec<_>>(),
        Some(name) => {
            let reason = "is not known to the price book";
            vec![book.provider(name).ok_or_else(|| ApiError::parameter("provider", reason))?]
        }
    };
    // A cursor is for this book: after a change the list starts again.
    let key = state.engine.cursor_key();
    let applied = prices.file.applied_at.micros().to_string();
    let scope = ["prices", applied.as_str(), provider.unwrap_or_default()];
    let from = match params.get("cursor") {
        None => 0,
        Some(text) => {
            let payload: [u8; 8] = cursor::open(&key, &scope, text)?.try_into().map_err(|_| cursor::invalid())?;
            u64::from_be_bytes(payload) as usize
        }
    };
    let rows = || listed.iter().flat_map(|list| list.models()).flat_map(|model| &model.rows);
    let page: Vec<PriceJson> = rows().skip(from).take(limit).map(PriceJson::from).collect();
    let more = from + page.len() < rows().count();
    let next = more.then(|| cursor::seal(&key, &scope, &((from + page.len()) as u64).to_be_bytes()));
    let about = |list: &&crate::rules::prices::ProviderPrices| json!({"provider": list.id, "source": list.source, "checked": list.checked, "models": list.models().len()});
    answer["providers"] = listed.iter().map(about).collect();
    answer["prices"] = json!(page);
    answer["next_cursor"] = json!(next);
    Ok(Json(answer))
}

/// A price file as the body; `?format=metergate|genai-prices|litellm` (default: what it looks like). With `?dry_run=true`
/// nothing changes.
pub async fn change(
    State(state): State<HttpState>,
    By(actor): By,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PricesChangedJson>, ApiError> {
    let params = Params::read(&uri, &["format", "dry_run"])?;
    let dry_run = params.parsed::<bool>("dry_run")?.unwrap_or(false);
    let named = |name| {
        let reason = "must be metergate, genai-prices or litellm";
        format_named(name).ok_or_else(|| ApiError::parameter("format", reason))
    };
    let format = params.get("format").map(named).transpose()?;
    let invalid = |message: &str| ApiError::new(axum::http::StatusCode::BAD_REQUEST, "invalid_prices", message);
    let text = String::from_utf8(read_batch(&headers, body).await?.to_vec())
        .map_err(|_| invalid("the prices cannot be taken: the file is not UTF-8"))?;
    let format = format.unwrap_or_else(|| PriceFormat::sniff(&text));
    let tenants = state.tenants.clone();
    let (diff, text) = blocking(move || tenants.prices_diff(format, &text).map(|diff| (diff, text))).await??;
    if !dry_run {
        state.tenants.change_prices(format, text, &actor).await?;
    }
    let (imported, mut differences) = (diff.imported, diff.differences);
    let differences_total = differences.len() as u64;
    differences.truncate(DIFFERENCES_MAX);
    Ok(Json(PricesChangedJson {
        applied: !dry_run,
        format: format_name(format),
        providers: imported.book.providers().len() as u64,
        models: imported.book.models() as u64,
        differences,
        differences_total,
        notices: imported.notices.iter().take(NOTICES_MAX).map(NoticeJson::from).collect(),
        notices_total: imported.notices_total as u64,
    }))
}

/// `{from, to, tenant_id?, dry_run?}` -> prices the kept events of the range again, by the book in force.
pub async fn reprice(
    State(state): State<HttpState>,
    By(actor): By,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<Json<RepricedJson>, ApiError> {
    Params::read(&uri, &[])?;
    let mut object = Object::read(&body)?;
    let mut date = |name: &'static str, last_day_included| {
        let text: String = object.value(name)?.ok_or_else(|| object.missing(name))?;
        let reason = "is neither a day (2026-11-24) nor an RFC 3339 time";
        read_date(&text, last_day_included).ok_or_else(|| Fault::field(INVALID_REQUEST, name, reason))
    };
    let (from, to) = (date("from", false)?, date("to", true)?);
    if from >= to {
        return Err(Fault::field(INVALID_REQUEST, "from", "must be before to").into());
    }
    let tenant_id = object.parsed_as("tenant_id", "invalid_tenant_id")?;
    let dry_run: Option<bool> = object.value("dry_run")?;
    object.finish("from, to, tenant_id and dry_run")?;
    let request = RepriceRequest { from, to, tenant_id, dry_run: dry_run.unwrap_or(false), actor };
    blocking(move || Ok(Json(RepricedJson::new(&state.tracker.reprice(&request)?, !request.dry_run)))).await?
}

/// `?stale_days` -> models of the last 30 days without a price, and providers whose prices were not looked at for long.
pub async fn check(State(state): State<HttpState>, uri: Uri) -> Result<Json<Value>, ApiError> {
    let params = Params::read(&uri, &["stale_days"])?;
    let days = params.parsed::<u64>("stale_days")?.unwrap_or(STALE_DAYS).min(36_500) as i64;
    blocking(move || {
        let now = state.engine.now();
        let from = PeriodType::Daily.containing(now.plus_micros(-CHECKED_DAYS * MICROS_PER_DAY)).start();
        let used = state.tracker.get_usage_by_model(PeriodType::Daily, from, now.plus_micros(MICROS_PER_DAY))?;
        let prices = state.tenants.prices();
        let unpriced = used.into_iter().filter(|(key, sums)| match key {
            ModelKey::Model(_) | ModelKey::Other => sums.counts[ModelSums::UNPRICED] > 0,
            ModelKey::None => false,
        });
        let unpriced = unpriced.map(|(key, sums)| {
            let has_price = matches!(&key, ModelKey::Model(model) if prices.has_price(None, model, now));
            let row = ModelRow::from((key, sums));
            json!({
                "model": row.model,
                "requests": row.requests,
                "unpriced_events": row.unpriced_events,
                "has_price_now": has_price,
            })
        });
        let unpriced: Vec<Value> = unpriced.collect();
        let (since_start, unlisted_events) = state.tenants.unpriced_models();
        let reason = |model: &crate::writer::UnpricedModel| {
            json!({
                "model": model.model.as_str(),
                "provider": model.provider.as_deref(),
                "events": model.events,
                "reason": model.reason,
            })
        };
        let stale = state.tenants.stale_prices(days, now);
        let stale =
            stale.iter().map(|stale| json!({"provider": stale.provider, "checked": stale.checked, "days": stale.days}));
        Ok(Json(json!({
            "unpriced": unpriced,
            "unpriced_since_start": since_start.iter().map(reason).collect::<Vec<_>>(),
            "unlisted_events": unlisted_events,
            "stale": stale.collect::<Vec<_>>(),
            "stale_days": days,
        })))
    })
    .await?
}
