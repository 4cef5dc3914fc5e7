//! Tenants and plans on disk.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::price::PriceV1;
use super::{
    FOURTH_VERSION, Labels, SECOND_VERSION, THIRD_VERSION, decode_body, decode_either, encode_as, instant, micros,
};
use crate::domain::price_terms::{Markup, OwnRate, PriceTerms};
use crate::domain::quota::{Limit, Mode, Plan, QuotaType, Window};
use crate::domain::tenant::{Override, Tenant, TenantStatus, TokenLimits};
use crate::domain::threshold::DEFAULT_THRESHOLDS;
use crate::store::StoreError;

#[derive(Serialize, Deserialize)]
pub(super) struct TenantV1 {
    tenant_id: String,
    name: Option<String>,
    labels: Labels,
    plan: String,
    plan_expires_at: Option<i64>,
    zone: String,
    status: String,
    overrides: Vec<OverrideV1>,
    token_limits: Vec<(i64, Option<u64>, Option<u64>)>,
    created_at: i64,
    updated_at: i64,
}

/// The first version and the tenant's mode.
#[derive(Serialize, Deserialize)]
pub(super) struct TenantV2(TenantV1, String);

impl TenantV2 {
    /// When there was no mode, every tenant was enforced.
    pub(super) fn of_the_first(record: TenantV1) -> Self {
        Self(record, Mode::Enforce.name().to_owned())
    }
}

/// The second version and the tenant's thresholds.
#[derive(Serialize, Deserialize)]
pub(super) struct TenantV3(TenantV2, Option<Vec<u16>>);

impl TenantV3 {
    /// When there were no thresholds, nothing was told; by now those of the plan are.
    pub(super) const fn of_the_second(record: TenantV2) -> Self {
        Self(record, None)
    }
}

/// The third version and the tenant's own prices.
#[derive(Serialize, Deserialize)]
pub(super) struct TenantV4(TenantV3, Vec<TermsV1>);

impl TenantV4 {
    /// Before, list prices held for everybody.
    pub(super) const fn of_the_third(record: TenantV3) -> Self {
        Self(record, Vec::new())
    }
}

/// Since when, the markup in basis points, the rates with their numbers.
#[derive(Serialize, Deserialize)]
struct TermsV1(i64, i32, Vec<(Option<u32>, PriceV1)>);

#[derive(Serialize, Deserialize)]
struct OverrideV1 {
    quota_type: String,
    window: String,
    limit: Option<u128>,
    reason: Option<String>,
    until: Option<i64>,
    set_at: i64,
}

#[derive(Serialize, Deserialize)]
struct LimitV1 {
    quota_type: String,
    window: String,
    limit: u128,
    observe: bool,
}

pub(in crate::store) fn encode_tenant(tenant: &Tenant) -> Result<Vec<u8>, StoreError> {
    encode_as(FOURTH_VERSION, &to_record(tenant))
}

pub(super) fn to_record(tenant: &Tenant) -> TenantV4 {
    let record = TenantV1 {
        tenant_id: tenant.tenant_id.to_string(),
        name: tenant.name.clone(),
        labels: tenant.labels.clone(),
        plan: tenant.plan.clone(),
        plan_expires_at: tenant.plan_expires_at.map(micros),
        zone: tenant.zone.name().to_owned(),
        status: tenant.status.name().to_owned(),
        overrides: tenant
            .overrides
            .iter()
            .map(|((quota_type, window), own)| OverrideV1 {
                quota_type: quota_type.name().to_owned(),
                window: window.name().to_owned(),
                limit: own.limit,
                reason: own.reason.clone(),
                until: own.until.map(micros),
                set_at: micros(own.set_at),
            })
            .collect(),
        token_limits: tenant.token_limits.iter().map(|past| (micros(past.since), past.day, past.month)).collect(),
        created_at: micros(tenant.created_at),
        updated_at: micros(tenant.updated_at),
    };
    let third = TenantV3(TenantV2(record, tenant.mode.name().to_owned()), tenant.thresholds.clone());
    let rate = |rate: &OwnRate| (rate.price_no, PriceV1::of(&rate.row, None, None));
    let terms = tenant
        .price_terms
        .iter()
        .map(|terms| TermsV1(micros(terms.from), terms.markup.basis_points(), terms.rates.iter().map(rate).collect()));
    TenantV4(third, terms.collect())
}

pub(in crate::store) fn decode_tenant(bytes: &[u8]) -> Result<Tenant, StoreError> {
    match bytes.split_first() {
        Some((&FOURTH_VERSION, body)) => from_record(decode_body(body)?),
        Some((&THIRD_VERSION, body)) => from_record(TenantV4::of_the_third(decode_body(body)?)),
        _ => {
            let first = |body: &[u8]| decode_body(body).map(TenantV2::of_the_first);
            let second = decode_either(bytes, first, decode_body)?;
            from_record(TenantV4::of_the_third(TenantV3::of_the_second(second)))
        }
    }
}

pub(super) fn from_record(TenantV4(third, terms): TenantV4) -> Result<Tenant, StoreError> {
    let TenantV3(TenantV2(record, mode), thresholds) = third;
    let unknown = |_| StoreError::Damaged("a tenant holds a word that is not known");
    let mut overrides = std::collections::BTreeMap::new();
    for own in record.overrides {
        let key = (quota_type(&own.quota_type)?, window(&own.window)?);
        let value = Override {
            limit: own.limit,
            reason: own.reason,
            until: own.until.map(instant),
            set_at: instant(own.set_at),
        };
        overrides.insert(key, value);
    }
    Ok(Tenant {
        tenant_id: record.tenant_id.parse().map_err(|_| StoreError::Damaged("a tenant has no valid id"))?,
        name: record.name,
        labels: record.labels,
        plan: record.plan,
        plan_expires_at: record.plan_expires_at.map(instant),
        zone: record.zone.parse().map_err(|_| StoreError::Damaged("a tenant has an unknown zone"))?,
        status: record.status.parse::<TenantStatus>().map_err(unknown)?,
        mode: mode.parse::<Mode>().map_err(|_| StoreError::Damaged("a tenant has an unknown mode"))?,
        thresholds,
        overrides,
        token_limits: record
            .token_limits
            .into_iter()
            .map(|(since, day, month)| TokenLimits { since: instant(since), day, month })
            .collect(),
        price_terms: terms.into_iter().map(TermsV1::read).collect::<Result<_, _>>()?,
        created_at: instant(record.created_at),
        updated_at: instant(record.updated_at),
    })
}

impl TermsV1 {
    fn read(self) -> Result<Arc<PriceTerms>, StoreError> {
        let Self(from, points, rates) = self;
        let markup = Markup::from_basis_points(points.into());
        let rate = |(price_no, record): (Option<u32>, PriceV1)| Ok(OwnRate { price_no, row: record.read()?.0 });
        Ok(Arc::new(PriceTerms {
            from: instant(from),
            markup: markup.map_err(|_| StoreError::Damaged("a tenant has an impossible markup"))?,
            rates: rates.into_iter().map(rate).collect::<Result<_, StoreError>>()?,
        }))
    }
}

pub(in crate::store) fn encode_plan(plan: &Plan) -> Result<Vec<u8>, StoreError> {
    let limits: Vec<LimitV1> = plan
        .limits
        .iter()
        .map(|limit| LimitV1 {
            quota_type: limit.quota_type.name().to_owned(),
            window: limit.window.name().to_owned(),
            limit: limit.limit,
            observe: limit.observe,
        })
        .collect();
    encode_as(SECOND_VERSION, &(&plan.name, limits, &plan.thresholds))
}

pub(in crate::store) fn decode_plan(bytes: &[u8]) -> Result<Plan, StoreError> {
    let first = |body: &[u8]| {
        let (name, limits): (String, Vec<LimitV1>) = decode_body(body)?;
        Ok((name, limits, DEFAULT_THRESHOLDS.to_vec()))
    };
    let (name, records, thresholds): (String, Vec<LimitV1>, Vec<u16>) = decode_either(bytes, first, decode_body)?;
    let mut limits = Vec::with_capacity(records.len());
    for record in records {
        limits.push(Limit {
            quota_type: quota_type(&record.quota_type)?,
            window: window(&record.window)?,
            limit: record.limit,
            observe: record.observe,
        });
    }
    Ok(Plan { name, limits, thresholds })
}

fn quota_type(name: &str) -> Result<QuotaType, StoreError> {
    name.parse().map_err(|_| StoreError::Damaged("a limit has an unknown type"))
}

fn window(name: &str) -> Result<Window, StoreError> {
    name.parse().map_err(|_| StoreError::Damaged("a limit has an unknown window"))
}
