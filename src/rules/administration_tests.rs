//! Facts about changes of tenants.

use super::*;
use crate::domain::audit::ActorType;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn id() -> TenantId {
    "acme".parse().unwrap()
}

fn change(existing: Option<&Tenant>, change: TenantChange) -> Result<(Tenant, Vec<AuditEntry>), ChangeRefused> {
    change_by(&Actor::named("root-key"), existing, change)
}

fn change_by(
    actor: &Actor,
    existing: Option<&Tenant>,
    change: TenantChange,
) -> Result<(Tenant, Vec<AuditEntry>), ChangeRefused> {
    let defaults = TenantDefaults { plan: "trial", zone: chrono_tz::UTC };
    apply_change(existing, &id(), &change, |plan| ["trial", "pro"].contains(&plan), defaults, actor, NOW)
}

fn acme() -> Tenant {
    Tenant::new(id(), "trial", chrono_tz::UTC, Timestamp::from_seconds(1))
}

fn override_of(limit: Option<u128>, until: Option<Timestamp>) -> TenantChange {
    let (quota_type, window) = (QuotaType::Tokens, Window::Day);
    TenantChange::SetOverride { quota_type, window, limit, reason: Some("pilot".to_owned()), until }
}

fn types(entries: &[AuditEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.event_type.as_str()).collect()
}

#[test]
fn a_put_registers_and_then_changes_with_a_record_of_what_changed() {
    let (tenant, entries) = change_by(ACTOR_SYSTEM, None, TenantChange::Put(TenantPut::default())).unwrap();
    assert_eq!((tenant.plan.as_str(), tenant.created_at, types(&entries)), ("trial", NOW, vec!["tenant_created"]));
    assert_eq!((entries[0].actor_type, &entries[0].actor_id), (ActorType::System, &None));
    let put = TenantPut { plan: Some("pro".to_owned()), ..TenantPut::default() };
    let (tenant, entries) = change(Some(&acme()), TenantChange::Put(put.clone())).unwrap();
    assert_eq!((tenant.plan.as_str(), tenant.updated_at), ("pro", NOW));
    let entry = &entries[0];
    assert_eq!((entry.event_type.as_str(), entry.entity_type.as_str()), ("tenant_updated", "tenant"));
    assert_eq!((entry.actor_type, entry.actor_id.as_deref()), (ActorType::Admin, Some("root-key")));
    assert_eq!(entry.old_values.as_deref(), Some(r#"{"plan":"trial"}"#));
    assert_eq!(entry.new_values.as_deref(), Some(r#"{"plan":"pro"}"#));
    assert_eq!(entry.changes_summary.as_deref(), Some("Plan changed from trial to pro"));
    assert_eq!(change(Some(&tenant), TenantChange::Put(put)).unwrap(), (tenant, vec![]), "the same again");
}

#[test]
fn an_override_registers_the_tenant_sticks_and_goes() {
    let (tenant, entries) = change(None, override_of(Some(500), None)).unwrap();
    assert_eq!(types(&entries), ["tenant_created", "quota_override_set"]);
    assert_eq!((entries[1].entity_type.as_str(), entries[1].entity_id.as_deref()), ("usage_quota", Some("tokens-day")));
    let new: Value = serde_json::from_str(entries[1].new_values.as_deref().unwrap()).unwrap();
    assert_eq!((&new["limit"], &new["reason"], &new["until"]), (&json!(500), &json!("pilot"), &Value::Null));
    let put = TenantPut { plan: Some("pro".to_owned()), ..TenantPut::default() };
    let (tenant, _) = change(Some(&tenant), TenantChange::Put(put)).unwrap();
    assert_eq!(tenant.overrides.len(), 1, "a change of plan leaves it");
    let removal = TenantChange::RemoveOverride { quota_type: QuotaType::Tokens, window: Window::Day };
    let (tenant, entries) = change(Some(&tenant), removal.clone()).unwrap();
    assert_eq!((types(&entries), tenant.overrides.len()), (vec!["quota_override_removed"], 0));
    assert!(entries[0].old_values.is_some() && entries[0].new_values.is_none());
    assert_eq!(change(Some(&tenant), removal).unwrap().1, [], "a second removal changes nothing");
}

#[test]
fn what_is_wrong_is_refused_with_its_field() {
    let put = |put: TenantPut| TenantChange::Put(put);
    let labels = (0..65).map(|number| (number.to_string(), String::new())).collect();
    let removal = TenantChange::RemoveOverride { quota_type: QuotaType::Tokens, window: Window::Day };
    for (asked, message) in [
        (put(TenantPut { plan: Some("gold".into()), ..TenantPut::default() }), "the plan `gold` does not exist"),
        (put(TenantPut { status: Some(TenantStatus::Deleted), ..TenantPut::default() }), "status cannot be set"),
        (put(TenantPut { labels: Some(labels), ..TenantPut::default() }), "labels are more than 64"),
        (put(TenantPut { name: Some("x".repeat(201)), ..TenantPut::default() }), "name is longer than 200"),
        (override_of(Some(QuotaType::Tokens.max() + 1), None), "limit is above 1000000000000000"),
        (override_of(None, Some(NOW)), "until is not in the future"),
        (removal, "the tenant is unknown"),
        (TenantChange::Delete, "the tenant is unknown"),
    ] {
        let message_given = change(None, asked).unwrap_err().to_string();
        assert!(message_given.starts_with(message), "{message_given}");
    }
}

#[test]
fn a_deleted_tenant_is_a_tombstone_that_only_a_put_revives() {
    let (deleted, entries) = change(Some(&acme()), TenantChange::Delete).unwrap();
    assert_eq!((deleted.status, types(&entries)), (TenantStatus::Deleted, vec!["tenant_deleted"]));
    for refused in [TenantChange::Delete, override_of(Some(1), None)] {
        assert_eq!(change(Some(&deleted), refused), Err(ChangeRefused::UnknownTenant));
    }
    let (revived, entries) = change(Some(&deleted), TenantChange::Put(TenantPut::default())).unwrap();
    assert_eq!((revived.status, types(&entries)), (TenantStatus::Active, vec!["tenant_updated"]));
}

#[test]
fn an_extended_plan_is_active_again() {
    let mut expired = acme();
    expired.status = TenantStatus::Expired;
    let put = TenantPut { plan_expires_at: Some(Some(NOW.plus_micros(1))), ..TenantPut::default() };
    assert_eq!(change(Some(&expired), TenantChange::Put(put)).unwrap().0.status, TenantStatus::Active);
}

#[test]
fn a_plan_that_ran_out_is_stored_and_recorded_once_by_the_system() {
    let ended = Tenant { plan_expires_at: Some(NOW), ..acme() };
    let (expired, entries) = change_by(ACTOR_SYSTEM, Some(&ended), TenantChange::Expire).unwrap();
    assert_eq!((expired.status, types(&entries)), (TenantStatus::Expired, vec!["trial_expired"]));
    assert_eq!((entries[0].entity_type.as_str(), entries[0].entity_id.as_deref()), ("trial", Some("acme")));
    let put = |put: TenantPut| TenantChange::Put(put);
    for (existing, nothing) in [
        (&expired, TenantChange::Expire),
        (&acme(), TenantChange::Expire),
        (&expired, put(TenantPut { status: Some(TenantStatus::Active), ..TenantPut::default() })),
    ] {
        assert_eq!(change(Some(existing), nothing).unwrap(), (existing.clone(), vec![]));
    }
    assert_eq!(change(None, TenantChange::Expire), Err(ChangeRefused::UnknownTenant));

    let end = Some(Some(NOW.plus_micros(1)));
    let extension = put(TenantPut { plan_expires_at: end, ..TenantPut::default() });
    let (tenant, entries) = change(Some(&ended), extension).unwrap();
    assert_eq!((tenant.status, types(&entries)), (TenantStatus::Active, vec!["trial_expired", "tenant_updated"]));
    assert_eq!((entries[0].actor_type, entries[1].actor_type), (ActorType::System, ActorType::Admin));
    let ending = put(TenantPut { plan_expires_at: Some(Some(NOW)), ..TenantPut::default() });
    let (tenant, entries) = change(Some(&expired), ending.clone()).unwrap();
    assert_eq!((tenant.status, entries), (TenantStatus::Expired, vec![]), "the same end again");
    let (tenant, entries) = change(Some(&acme()), ending).unwrap();
    assert_eq!((tenant.status, types(&entries)), (TenantStatus::Expired, vec!["tenant_updated", "trial_expired"]));
}

#[test]
fn the_history_of_token_limits_follows_changes_and_is_bounded() {
    let plan = |limit| [Limit { quota_type: QuotaType::Tokens, window: Window::Day, limit, observe: false }];
    let day = |number: i64| NOW.plus_micros(number * MICROS_PER_DAY);
    let mut tenant = acme();
    for (number, limit) in [(0, 100), (1, 100), (2, 200), (3, 300)] {
        record_token_limits(&mut tenant, &plan(limit), day(number));
    }
    let history = |tenant: &Tenant| {
        tenant.token_limits.iter().map(|entry| (entry.since, entry.day, entry.month)).collect::<Vec<_>>()
    };
    assert_eq!(history(&tenant), [(day(0), Some(100), None), (day(2), Some(200), None), (day(3), Some(300), None)]);
    let own = Override { limit: None, reason: None, until: Some(day(70)), set_at: day(66) };
    tenant.overrides.insert((QuotaType::Tokens, Window::Day), own);
    record_token_limits(&mut tenant, &plan(300), day(66));
    assert_eq!(
        history(&tenant),
        [(day(3), Some(300), None), (day(66), None, None), (day(70), Some(300), None)],
        "the newest of the old ones stays, and the end of an override is known ahead"
    );
}
