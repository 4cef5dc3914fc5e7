//! Facts about changes of keys.

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn later(seconds: i64) -> Timestamp {
    NOW.plus_micros(seconds * MICROS_PER_SECOND)
}

fn ada() -> Actor {
    Actor { key_id: Some("admin-key".to_owned()), ip_address: Some("10.0.0.1".to_owned()), ..Actor::named("ada") }
}

fn new_key(role: KeyRole, tenants: TenantScope) -> NewKey {
    let (key_id, digest) = (Uuid::from_u128(7), digest_of(b"secret"));
    NewKey { key_id, name: "ci".to_owned(), role, tenants, digest, expires_at: None }
}

fn some(count: usize) -> TenantScope {
    TenantScope::Only((0..count).map(|number| format!("t{number}").parse().unwrap()).collect())
}

fn made() -> ApiKey {
    create(new_key(KeyRole::Service, some(1)), &ada(), NOW).unwrap().0
}

#[test]
fn a_key_is_made_with_a_record_that_says_who_made_it() {
    let (key, entry) = create(new_key(KeyRole::Service, some(60)), &ada(), NOW).unwrap();
    assert_eq!((key.created_by.as_str(), key.created_at, key.ended(later(1 << 30))), ("ada", NOW, None));
    assert_eq!((entry.event_type.as_str(), entry.entity_type.as_str()), ("key_created", "api_key"));
    assert_eq!((entry.actor_type, entry.actor_id.as_deref()), (ActorType::Admin, Some("ada")));
    assert_eq!((entry.key_id.as_deref(), entry.ip_address.as_deref()), (Some("admin-key"), Some("10.0.0.1")));
    let values: Value = serde_json::from_str(&entry.new_values.unwrap()).unwrap();
    assert_eq!((values["tenants"].as_array().unwrap().len(), &values["tenants_total"]), (50, &json!(60)));
    let digest: String = key.digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!values.to_string().contains(&digest));
}

#[test]
fn what_cannot_be_a_key_is_refused_by_the_name_of_its_field() {
    let refusal = |change: &dyn Fn(&mut NewKey)| {
        let mut new = new_key(KeyRole::Viewer, TenantScope::All);
        change(&mut new);
        match create(new, &ada(), NOW) {
            Err(KeyRefused::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal(&|new| new.name = " ".to_owned()), "name");
    assert_eq!(refusal(&|new| new.name = "x".repeat(201)), "name");
    assert_eq!(refusal(&|new| new.name = "a\nb".to_owned()), "name");
    assert_eq!(refusal(&|new| new.name = "admin-key".to_owned()), "name");
    assert_eq!(refusal(&|new| new.tenants = some(0)), "tenants");
    assert_eq!(refusal(&|new| new.tenants = some(1_001)), "tenants");
    assert_eq!(refusal(&|new| (new.role, new.tenants) = (KeyRole::Admin, some(1))), "tenants");
    assert_eq!(refusal(&|new| new.expires_at = Some(NOW)), "expires_at");
    assert!(create(new_key(KeyRole::Viewer, some(1_000)), &ada(), NOW).is_ok());
}

#[test]
fn a_rotated_key_works_on_for_its_overlap_and_not_past_its_own_end() {
    let with = |expires_at, overlap| {
        let old = ApiKey { expires_at, ..made() };
        let (old, new, entry) = rotate(&old, (Uuid::from_u128(8), digest_of(b"new")), overlap, &ada(), NOW).unwrap();
        assert_eq!((entry.event_type.as_str(), entry.entity_id), ("key_rotated", Some(old.shown_id())));
        assert_eq!((new.replaces, old.replaced_by), (Some(old.key_id), Some(new.key_id)));
        assert_eq!((new.role, &new.tenants, &new.name), (old.role, &old.tenants, &old.name));
        (old, new)
    };
    let (old, new) = with(None, 60);
    assert_eq!((old.ended(later(59)), old.ended(later(60))), (None, Some(KeyEnd::Expired)));
    assert_eq!(new.expires_at, None);
    let (old, new) = with(Some(later(30)), 60);
    assert_eq!((old.expires_at, new.expires_at), (Some(later(30)), Some(later(30))));
    assert_eq!(with(None, 0).0.ended(NOW), Some(KeyEnd::Expired));
}

#[test]
fn what_has_ended_or_was_replaced_is_not_rotated() {
    let rotated = |old: &ApiKey, overlap| {
        rotate(old, (Uuid::from_u128(9), digest_of(b"x")), overlap, &ada(), NOW).map(|(old, _, _)| old)
    };
    assert!(matches!(
        rotated(&made(), MAX_OVERLAP_SECONDS + 1),
        Err(KeyRefused::Invalid { field: "overlap_seconds", .. })
    ));
    let old = rotated(&made(), 60).unwrap();
    assert_eq!(rotated(&old, 60), Err(KeyRefused::Replaced(Uuid::from_u128(9))));
    let (revoked, _) = revoke(&made(), &ada(), NOW).unwrap();
    assert_eq!(rotated(&revoked, 60), Err(KeyRefused::Ended("revoked")));
    let expired = ApiKey { expires_at: Some(NOW), ..made() };
    assert_eq!(rotated(&expired, 60), Err(KeyRefused::Ended("expired")));
}

#[test]
fn a_key_is_revoked_at_once_and_once() {
    let (key, entry) = revoke(&made(), &ada(), NOW).unwrap();
    assert_eq!((key.ended(NOW), entry.event_type.as_str()), (Some(KeyEnd::Revoked), "key_revoked"));
    assert_eq!(revoke(&key, &ada(), later(1)), None);
}

#[test]
fn the_key_that_ended_first_is_forgotten_first_and_a_working_one_never() {
    let ended = |number, end| ApiKey { key_id: Uuid::from_u128(number), expires_at: end, ..made() };
    let keys = [ended(1, None), ended(2, Some(later(-5))), ended(3, Some(later(-9))), ended(4, Some(later(9)))];
    assert_eq!(to_forget(keys.iter(), NOW), Some(Uuid::from_u128(3)));
    assert_eq!(to_forget(keys[..1].iter(), NOW), None);
}
