//! Keys on a clock that the test owns: they end to the instant, and their use is written down once a minute.

use metergate::Metergate;
use metergate::domain::key::{KeyEnd, KeyRole, TenantScope};
use metergate::domain::time::{MICROS_PER_MINUTE, MICROS_PER_SECOND};
use metergate::keys::{KeyRequest, MadeKey, Shut};
use metergate::tenants::Actor;

use super::{NOON, at, open};

fn make(engine: &Metergate, expires_at: Option<&str>) -> MadeKey {
    let request = KeyRequest {
        name: "gateway".to_owned(),
        role: KeyRole::Service,
        tenants: TenantScope::All,
        expires_at: expires_at.map(at),
    };
    engine.api_keys().create_blocking(request, &Actor::named("ada")).unwrap()
}

fn opens(engine: &Metergate, key: &MadeKey) -> Result<(), Shut> {
    engine.api_keys().authenticate(key.secret.expose().as_bytes()).map(drop)
}

#[test]
fn a_key_ends_at_its_instant_and_a_rotated_one_with_its_overlap() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    let short = make(&engine, Some("2026-11-24T12:01:00Z"));
    let old = make(&engine, None);
    let new = engine.api_keys().rotate_blocking(old.key.key_id, 86_400, &Actor::named("ada")).unwrap();
    clock.advance(MICROS_PER_MINUTE - 1);
    assert_eq!([&short, &old, &new].map(|key| opens(&engine, key)), [Ok(()); 3]);
    clock.advance(1);
    assert_eq!(opens(&engine, &short), Err(Shut::Ended(KeyEnd::Expired)));
    clock.advance(86_400 * MICROS_PER_SECOND - MICROS_PER_MINUTE - 1);
    assert_eq!((opens(&engine, &old), opens(&engine, &new)), (Ok(()), Ok(())));
    clock.advance(1);
    assert_eq!((opens(&engine, &old), opens(&engine, &new)), (Err(Shut::Ended(KeyEnd::Expired)), Ok(())));
    let guess = engine.api_keys().authenticate(b"mg_guess").map(drop);
    assert_eq!(guess, Err(Shut::Unknown));
    assert_eq!(engine.api_keys().authenticate(&[b'x'; 5_000]).map(drop), Err(Shut::Unknown));
    engine.close();
}

#[test]
fn a_use_is_written_at_most_once_a_minute_and_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    let key = make(&engine, None);
    let commits = || engine.writer().shared().meter.commits.cumulative()[metergate::writer::Histogram::BOUNDS.len()];
    let record = |expected: u64| {
        let before = commits();
        (0..100).for_each(|_| opens(&engine, &key).unwrap());
        engine.api_keys().keep_record(false);
        assert_eq!(commits() - before, expected);
    };
    record(1);
    record(0);
    clock.advance(MICROS_PER_MINUTE - MICROS_PER_SECOND);
    record(0);
    // A use is known to the second.
    clock.advance(MICROS_PER_SECOND);
    record(1);
    clock.advance(7 * MICROS_PER_SECOND);
    opens(&engine, &key).unwrap();
    engine.close();

    let (engine, _clock) = open(folder.path(), at("2026-11-24T13:00:00Z"));
    let listed = engine.api_keys().list(None, 10);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].last_used_at, Some(at("2026-11-24T12:01:07Z")), "a close writes down the last one");
    assert_eq!(opens(&engine, &key), Ok(()));
    engine.close();
}
