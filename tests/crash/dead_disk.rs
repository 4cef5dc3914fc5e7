//! The disk is dead for a while (SPEC 4.8): what memory decides meanwhile, by `on_storage_failure`, and how soon.

use std::time::{Duration, Instant};

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::config::OnStorageFailure;
use metergate::domain::quota::{Item, QuotaType};
use metergate::enforcer::{EnforceError, ReserveOutcome, ReserveRequest};

use super::disk::{Disk, Faults};
use super::folder::FOLDER;
use super::steps::{Ended, Step, tenant};
use super::{settings, start, until_ready};

/// The longest that a decision may take while the disk is dead.
const SOON: Duration = Duration::from_millis(10);

fn open(disk: &Disk, on_storage_failure: OnStorageFailure) -> Metergate {
    let settings = metergate::config::EngineSettings { on_storage_failure, ..settings(FOLDER.path()) };
    Metergate::open_on(settings, Box::new(disk.clone()), |_| Clock::manual(start())).unwrap()
}

/// An engine that knows a tenant of 10,000 tokens a day, whose disk has died and has been seen to be dead.
fn over_a_dead_disk(on_storage_failure: OnStorageFailure) -> (Metergate, Disk) {
    let disk = Disk::default();
    let engine = open(&disk, on_storage_failure);
    assert_eq!(Step::Put { tenant: "acme".to_owned() }.run(&engine), Ended::Done);
    disk.set_faults(Faults { dead: true, ..Faults::default() });
    let unseen = Step::Record { tenant: "acme".to_owned(), events: vec![("seen-by".to_owned(), 1)] };
    assert!(matches!(unseen.run(&engine), Ended::Unknown | Ended::Unavailable));
    assert!(engine.is_ready().is_err());
    (engine, disk)
}

fn reserve(engine: &Metergate, id: &str, tokens: u128) -> Result<ReserveOutcome, EnforceError> {
    engine.quota_enforcer().reserve_blocking(ReserveRequest {
        tenant_id: tenant("acme"),
        items: vec![Item { quota_type: QuotaType::Tokens, amount: tokens }],
        ttl_seconds: Some(3_600),
        reservation_id: Some(id.to_owned()),
        request_id: None,
    })
}

/// The median time of what is asked forty times: a machine that is busy elsewhere makes some of them late.
fn soon(mut ask: impl FnMut(u32)) {
    let mut times: Vec<Duration> = (0..40)
        .map(|round| {
            let started = Instant::now();
            ask(round);
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    assert!(times[20] <= SOON, "{times:?}");
}

#[test]
fn while_the_disk_is_dead_checks_go_on_and_grants_are_refused_soon_and_afterwards_all_is_as_before() {
    let (engine, disk) = over_a_dead_disk(OnStorageFailure::Closed);
    let item = || [Item { quota_type: QuotaType::Tokens, amount: 10_000 }];
    soon(|_| assert!(engine.quota_enforcer().check(&tenant("acme"), &item()).unwrap().allowed));
    soon(|round| {
        let refused = reserve(&engine, &format!("r{round}"), 1);
        assert!(matches!(refused, Err(EnforceError::Write(_) | EnforceError::GrantUnknown(_))), "{refused:?}");
    });
    disk.set_faults(Faults::default());
    until_ready(&engine);
    // What was refused holds nothing; what was left open may hold its token until it lapses.
    assert!(reserve(&engine, "all", 9_900).unwrap().decision.allowed);
    engine.abandon();
}

#[test]
fn memory_decides_alone_where_that_is_set_never_over_the_limit_and_its_grants_reach_the_disk_later() {
    let (engine, disk) = over_a_dead_disk(OnStorageFailure::Open);
    soon(|round| {
        let granted = reserve(&engine, &format!("r{round}"), 100).unwrap();
        assert!(granted.decision.allowed && !granted.durable, "{granted:?}");
    });
    let rest = reserve(&engine, "too much", 6_001).unwrap();
    assert!(!rest.decision.allowed, "{rest:?}");
    disk.set_faults(Faults::default());
    until_ready(&engine);
    let durable = reserve(&engine, "durable", 6_000).unwrap();
    assert!(durable.decision.allowed && durable.durable, "{durable:?}");
    engine.abandon();

    let again = open(&Disk::of(disk.contents()), OnStorageFailure::Closed);
    assert!(!reserve(&again, "one more", 1).unwrap().decision.allowed, "every grant of memory alone is on the disk");
    let released = Step::Release { tenant: "acme".to_owned(), id: "r7".to_owned() };
    assert_eq!(released.run(&again), Ended::Done);
    assert!(reserve(&again, "one more now", 100).unwrap().decision.allowed);
    again.abandon();
}
