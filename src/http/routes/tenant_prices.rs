//! A tenant's own prices: shown, set from an instant on, and removed.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;

use super::super::HttpState;
use super::super::body::JsonBody;
use super::super::caller::By;
use super::super::error::ApiError;
use super::super::params::{Params, PathTenant, read_date};
use super::super::wire::price_terms::{TenantPricesJson, read_terms};
use crate::domain::actor::Actor;
use crate::domain::tenant::{TenantChange, TenantId};

/// `{tenant_id, terms: [{from, in_force, markup_bp, rates}]}`.
pub async fn show(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    uri: Uri,
) -> Result<Json<TenantPricesJson>, ApiError> {
    Params::read(&uri, &[])?;
    Ok(Json(TenantPricesJson::at(&state.tenants.get(&tenant_id)?, state.engine.now())))
}

/// `{from?, markup_bp?, rates?}`: what holds from then on, until the tenant's next terms.
pub async fn set(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    By(actor): By,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<Json<TenantPricesJson>, ApiError> {
    Params::read(&uri, &[])?;
    apply(&state, &actor, &tenant_id, read_terms(&body, |text| read_date(text, false))?).await
}

/// `?from=`: list prices from then on; what was to begin later goes.
pub async fn remove(
    State(state): State<HttpState>,
    PathTenant(tenant_id): PathTenant,
    By(actor): By,
    uri: Uri,
) -> Result<Json<TenantPricesJson>, ApiError> {
    let from = Params::read(&uri, &["from"])?.date("from", false)?;
    apply(&state, &actor, &tenant_id, TenantChange::EndPrices { from }).await
}

async fn apply(
    state: &HttpState,
    actor: &Actor,
    tenant_id: &TenantId,
    change: TenantChange,
) -> Result<Json<TenantPricesJson>, ApiError> {
    let tenant = state.tenants.change(tenant_id, change, actor).await?;
    Ok(Json(TenantPricesJson::at(&tenant, state.engine.now())))
}
