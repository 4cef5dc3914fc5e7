//! Administering tenants: plan, status, zone, own limits.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::Uri;
use axum::http::request::Parts;

use super::super::HttpState;
use super::super::body::JsonBody;
use super::super::caller::{By, Caller};
use super::super::cursor;
use super::super::error::ApiError;
use super::super::params::{Params, PathTenant, segment};
use super::super::wire::Fault;
use super::super::wire::object::INVALID_REQUEST;
use super::super::wire::tenant::{TenantJson, TenantsJson, read_override, read_put};
use crate::domain::actor::Actor;
use crate::domain::key::KeyRole;
use crate::domain::quota::{QuotaType, Window};
use crate::domain::tenant::{TenantChange, TenantId};
use crate::tenants::TenantFilter;

/// Tenants in a page unless told otherwise, and at most.
const PAGE_TENANTS: usize = 100;
const PAGE_TENANTS_MAX: usize = 1_000;

/// The quota type that the path names.
pub struct PathQuotaType(QuotaType);

impl<S: Sync + Send> FromRequestParts<S> for PathQuotaType {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = segment(parts, state, "type").await?;
        let unknown =
            |error| Fault::field("unknown_quota_type", "quota_type", format_args!("is wrong: {error}")).into();
        text.parse().map(Self).map_err(unknown)
    }
}

/// What tenants are filtered by.
const FILTERS: [&str; 4] = ["search", "plan", "status", "label"];

/// `?search&plan&status&label&limit&after` -> `{tenants, next_cursor, total}`, those of
/// the caller.
pub async fn list(State(state): State<HttpState>, caller: Caller, uri: Uri) -> Result<Json<TenantsJson>, ApiError> {
    let params = Params::read(&uri, &["search", "plan", "status", "label", "limit", "after"])?;
    let limit = params.limit(PAGE_TENANTS, PAGE_TENANTS_MAX)?;
    let filter = TenantFilter { within: caller.scope().clone(), ..read_filter(&params)? };
    let key = state.engine.cursor_key();
    // A cursor is for the filters as they were given.
    let scope = [&["tenants"][..], &FILTERS.map(|name| params.get(name).unwrap_or_default())].concat();
    let after = match params.get("after") {
        None => None,
        Some(text) => Some(read_cursor(&key, &scope, text)?),
    };
    let page = state.tenants.list(&filter, after.as_ref(), limit);
    let last = page.tenants.last().filter(|_| page.more);
    let now = state.engine.now();
    Ok(Json(TenantsJson {
        next_cursor: last.map(|last| cursor::seal(&key, &scope, last.tenant_id.as_str().as_bytes())),
        tenants: page.tenants.iter().map(|tenant| TenantJson::at(tenant, now)).collect(),
        total: page.total,
    }))
}

fn read_filter(params: &Params) -> Result<TenantFilter, ApiError> {
    let short = |name: &str| match params.get(name) {
        Some(text) if text.is_empty() || text.chars().count() > 200 => {
            Err(ApiError::parameter(name, "must be 1 to 200 characters"))
        }
        text => Ok(text.map(str::to_owned)),
    };
    let label = short("label")?.map(|text| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text, None),
    });
    let (search, plan) = (short("search")?, short("plan")?);
    Ok(TenantFilter { search, plan, status: params.parsed("status")?, label, ..TenantFilter::default() })
}

fn read_cursor(key: &[u8; 16], scope: &[&str], text: &str) -> Result<TenantId, ApiError> {
    let payload = cursor::open(key, scope, text)?;
    let tenant_id = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok());
    tenant_id.ok_or_else(cursor::invalid)
}

/// One tenant.
pub async fn show(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    uri: Uri,
) -> Result<Json<TenantJson>, ApiError> {
    Params::read(&uri, &[])?;
    Ok(Json(TenantJson::at(&state.tenants.get(&tenant_id)?, state.engine.now())))
}

/// Registers or changes a tenant; what is not named stays.
pub async fn change(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    By(actor): By,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<Json<TenantJson>, ApiError> {
    Params::read(&uri, &[])?;
    apply(&state, &actor, &tenant_id, TenantChange::Put(read_put(&body)?)).await
}

/// Leaves a tombstone.
pub async fn remove(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    By(actor): By,
    uri: Uri,
) -> Result<Json<TenantJson>, ApiError> {
    Params::read(&uri, &[])?;
    apply(&state, &actor, &tenant_id, TenantChange::Delete).await
}

/// `{limit, reason?, until?, window?}`; the window also as `?window=`.
pub async fn set_override(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    PathQuotaType(quota_type): PathQuotaType,
    caller: Caller,
    By(actor): By,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<Json<TenantJson>, ApiError> {
    let window = Params::read(&uri, &["window"])?.parsed::<Window>("window")?;
    let change = read_override(&body, quota_type, window)?;
    if caller.role() == KeyRole::Support {
        with_reason_and_end(&change)?;
    }
    apply(&state, &actor, &tenant_id, change).await
}

/// `?window=`: the plan's limit is back.
pub async fn remove_override(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    PathQuotaType(quota_type): PathQuotaType,
    By(actor): By,
    uri: Uri,
) -> Result<Json<TenantJson>, ApiError> {
    let window = Params::read(&uri, &["window"])?.parsed::<Window>("window")?;
    let window = window.unwrap_or(quota_type.default_window());
    apply(&state, &actor, &tenant_id, TenantChange::RemoveOverride { quota_type, window }).await
}

/// Support gives a limit of a tenant's own for a reason and for a time.
fn with_reason_and_end(change: &TenantChange) -> Result<(), Fault> {
    let missing = |field| Err(Fault::field(INVALID_REQUEST, field, "is required with a support key"));
    match change {
        TenantChange::SetOverride { reason, .. } if reason.as_ref().is_none_or(|reason| reason.trim().is_empty()) => {
            missing("reason")
        }
        TenantChange::SetOverride { until: None, .. } => missing("until"),
        _ => Ok(()),
    }
}

async fn apply(
    state: &HttpState,
    actor: &Actor,
    tenant_id: &TenantId,
    change: TenantChange,
) -> Result<Json<TenantJson>, ApiError> {
    let tenant = state.tenants.change(tenant_id, change, actor).await?;
    Ok(Json(TenantJson::at(&tenant, state.engine.now())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let key = [3; 16];
        let own = cursor::seal(&key, &["tenants"], b"acme");
        assert_eq!(read_cursor(&key, &["tenants"], &own).unwrap().as_str(), "acme");
        let foreign = cursor::seal(&key, &["events"], b"acme");
        assert_eq!(read_cursor(&key, &["tenants"], &foreign).unwrap_err().code(), "invalid_cursor");
    }
}
