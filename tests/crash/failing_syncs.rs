//! The k-th sync fails, for every k (R5): nothing false is acknowledged, the store is opened again by itself, and every
//! step that is repeated with the same ids comes out as though nothing had failed.

use std::collections::BTreeSet;

use super::disk::{Disk, Faults};
use super::model::{Model, look};
use super::steps::{Ended, Step, Steps};
use super::{open, seeds, start, until_ready};

const STEPS: u64 = 60;

/// Runs steps over a disk that fails the given syncs; gives the number of syncs, and how many steps were left open.
fn run(seed: u64, fail: BTreeSet<u64>, failed_syncs_keep: bool) -> (u64, u64) {
    let told = format!("seed {seed}, failing syncs {fail:?}, which keep: {failed_syncs_keep}");
    let disk = Disk::default();
    let (engine, clock) = open(&disk, start()).unwrap_or_else(|error| panic!("{told}: {error}"));
    let faults = Faults { syncs: fail, failed_syncs_keep, ..Faults::default() };
    let before = disk.syncs();
    disk.set_faults(Faults { syncs: faults.syncs.iter().map(|sync| sync + before).collect(), ..faults });
    let (mut model, mut steps, mut now, mut unknown) = (Model::default(), Steps::new(seed), start(), 0);
    for number in 0..STEPS {
        let step = steps.next(&model, now);
        if let Step::Wait { micros } = step {
            clock.advance(micros);
            now = now.plus_micros(micros);
        }
        let mut tries = 0;
        let ended = loop {
            let ended = step.run(&engine);
            match ended {
                Ended::Done | Ended::Denied => break ended,
                Ended::Unknown | Ended::Unavailable => {
                    unknown += u64::from(ended == Ended::Unknown);
                    until_ready(&engine);
                    // A key has no id of its caller's: whether it was made is looked up.
                    if let Step::Key { name } = &step
                        && engine.api_keys().list(None, 1_000).iter().any(|key| key.name == *name)
                    {
                        break Ended::Done;
                    }
                }
                Ended::Full | Ended::Wrong(_) => panic!("{told}, step {number} {step:?}: {ended:?}"),
            }
            tries += 1;
            assert!(tries < 50, "{told}, step {number} {step:?}: no end of failing");
        };
        if let Step::Reserve { tenant, id, tokens, .. } = &step {
            let granted = model.grants(tenant, id, *tokens, now);
            assert_eq!(ended == Ended::Done, granted, "{told}, step {number} {step:?}");
        }
        model.apply(&step, now);
    }
    until_ready(&engine);
    assert_eq!(look(&engine, now).unwrap(), model.seen(now), "{told}");
    let syncs = disk.syncs() - before;
    engine.abandon();
    // And so it is on the disk.
    disk.set_faults(Faults::default());
    let (again, _clock) = open(&Disk::of(disk.contents()), now).unwrap_or_else(|error| panic!("{told}: {error}"));
    assert_eq!(look(&again, now).unwrap(), model.seen(now), "{told}, opened again");
    assert!(again.audit_logger().verify_audit(None, None).unwrap().is_whole(), "{told}");
    again.abandon();
    (syncs, unknown)
}

#[test]
fn the_kth_sync_fails_for_every_k_and_nothing_is_lost_or_counted_twice() {
    let started = std::time::Instant::now();
    let (mut runs, mut unknown) = (0, 0);
    for seed in seeds(3) {
        let (syncs, _) = run(seed, BTreeSet::new(), false);
        for sync in 1..=syncs {
            for keep in [false, true] {
                unknown += run(seed, BTreeSet::from([sync]), keep).1;
                runs += 1;
            }
        }
        // Several in a row, as a disk does that is gone for a while.
        for sync in (1..=syncs).step_by(7) {
            unknown += run(seed, (sync..sync + 4).collect(), sync % 2 == 0).1;
            runs += 1;
        }
    }
    assert!(unknown > 0, "no commit was ever left open: the faults did not bite");
    let seen = format!("{runs} failing syncs, {unknown} outcomes unknown, 0 false, in {:.1?}", started.elapsed());
    super::bars::tell("R5", &seen);
}
