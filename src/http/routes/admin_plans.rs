//! Administering plans: what there is, what a change would do, and the change.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::Uri;
use axum::http::request::Parts;
use serde_json::{Value, json};

use super::super::HttpState;
use super::super::body::JsonBody;
use super::super::caller::By;
use super::super::error::ApiError;
use super::super::params::{Params, segment};
use super::super::wire::plan::{PlanChangedJson, PlanJson, read_plan};
use super::blocking;
use crate::rules::plan_changes::PlanChange;

/// The plan that the path names.
pub struct PathPlan(String);

impl<S: Sync + Send> FromRequestParts<S> for PathPlan {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        segment(parts, state, "plan").await.map(Self)
    }
}

/// `{plans: [{name, limits, thresholds}]}`.
pub async fn list(State(state): State<HttpState>, uri: Uri) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    let plans: Vec<PlanJson> = state.tenants.plans().iter().map(PlanJson::from).collect();
    Ok(Json(json!({ "plans": plans })))
}

/// `{limits: [{quota_type, window, limit, mode?}], mode?, thresholds?}`; with `?dry_run=true` nothing changes.
pub async fn change(
    State(state): State<HttpState>,
    PathPlan(name): PathPlan,
    By(actor): By,
    uri: Uri,
    JsonBody(body): JsonBody,
) -> Result<Json<PlanChangedJson>, ApiError> {
    let dry_run = Params::read(&uri, &["dry_run"])?.parsed::<bool>("dry_run")?.unwrap_or(false);
    let plan = read_plan(name, &body)?;
    let (tenants, looked_at) = (state.tenants.clone(), plan.clone());
    // Looks at every tenant on the plan.
    let effect = blocking(move || tenants.plan_effect(&looked_at)).await??;
    if !dry_run {
        state.tenants.change_plan(PlanChange::Put(plan.clone()), &actor).await?;
    }
    Ok(Json(PlanChangedJson::new(&plan, effect, !dry_run)))
}

/// Removes a plan that nobody is on.
pub async fn remove(
    State(state): State<HttpState>,
    PathPlan(name): PathPlan,
    By(actor): By,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    Params::read(&uri, &[])?;
    state.tenants.change_plan(PlanChange::Remove(name.clone()), &actor).await?;
    Ok(Json(json!({ "plan": name, "removed": true })))
}
