//! The disk is full (R4): 507 and no panic, checks, reads and releases go on, and it goes on by itself once there is room.

use metergate::domain::quota::{Item, QuotaType};
use metergate::writer::Trouble;

use super::disk::{Disk, Faults};
use super::model::{Model, look};
use super::steps::{Ended, Step, Steps, tenant};
use super::{open, seeds, start, until_ready};

/// Fills the disk at `capacity`; gives whether it came to that.
fn run(seed: u64, capacity: u64, tells_free: bool) -> bool {
    let told = format!("seed {seed}, {capacity} bytes, free space told: {tells_free}");
    let disk = Disk::default();
    let (engine, clock) = open(&disk, start()).unwrap();
    let _ = &clock;
    let put = Step::Put { tenant: "acme".to_owned() };
    let mut model = Model::default();
    let held = Step::Reserve { tenant: "acme".to_owned(), id: "held".to_owned(), tokens: 10, ttl_seconds: 3_600 };
    for step in [put, held] {
        assert_eq!(step.run(&engine), Ended::Done);
        model.apply(&step, start());
    }
    disk.set_faults(Faults { capacity: Some(capacity), tells_free, ..Faults::default() });
    let filling = |n: u64| Step::Record {
        tenant: "acme".to_owned(),
        events: (0..100).map(|e| (format!("f{seed}-{n}-{e}-{:0>60}", e * 7 % 13), 1)).collect(),
    };
    let mut full_at = None;
    for n in 0..1_600 {
        let step = filling(n);
        match step.run(&engine) {
            Ended::Done => model.apply(&step, start()),
            Ended::Full | Ended::Unknown | Ended::Unavailable => {
                full_at = Some(n);
                break;
            }
            ended => panic!("{told}, step {n}: {ended:?}"),
        }
    }
    let Some(full_at) = full_at else {
        engine.abandon();
        return false;
    };
    // Told apart from a failure, once the store is open again.
    let mut refused = Ended::Done;
    for _ in 0..2_000 {
        refused = filling(full_at).run(&engine);
        if refused == Ended::Full {
            break;
        }
        assert!(matches!(refused, Ended::Unknown | Ended::Unavailable), "{told}: {refused:?}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(refused, Ended::Full, "{told}");
    let trouble = engine.writer().health().trouble();
    if tells_free {
        assert!(matches!(trouble.as_deref(), Some(Trouble::Full(_))), "{told}: {trouble:?}");
    }
    let item = Item { quota_type: QuotaType::Tokens, amount: 1 };
    assert!(engine.quota_enforcer().check(&tenant("acme"), &[item]).is_ok(), "{told}: checks go on");
    if tells_free {
        // But for those that were under way when the store was opened again.
        let seen = (0..1_000).find_map(|_| look(&engine, start()).ok());
        let seen = seen.unwrap_or_else(|| panic!("{told}: reads go on: {:?}", look(&engine, start())));
        assert_eq!(seen, model.seen(start()), "{told}");
        let release = Step::Release { tenant: "acme".to_owned(), id: "held".to_owned() };
        match release.run(&engine) {
            Ended::Done => model.apply(&release, start()),
            // Where not a page is left.
            Ended::Full | Ended::Unavailable => {}
            Ended::Unknown => panic!("{told}: a release that was refused room is not open"),
            ended => panic!("{told}: {ended:?}"),
        }
    }
    disk.set_faults(Faults::default());
    until_ready(&engine);
    let mut last = Ended::Done;
    for _ in 0..2_000 {
        last = filling(full_at).run(&engine);
        if last == Ended::Done {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(last, Ended::Done, "{told}: it goes on");
    model.apply(&filling(full_at), start());
    assert_eq!(look(&engine, start()).unwrap(), model.seen(start()), "{told}");
    let mut steps = Steps::new(seed);
    for _ in 0..20 {
        let step = steps.next(&model, start());
        if !matches!(step, Step::Wait { .. }) {
            assert!(matches!(step.run(&engine), Ended::Done | Ended::Denied), "{told}: {step:?}");
            model.apply(&step, start());
        }
    }
    assert_eq!(look(&engine, start()).unwrap(), model.seen(start()), "{told}");
    engine.abandon();
    true
}

#[test]
fn a_full_disk_refuses_what_is_new_lets_go_on_what_needs_no_room_and_recovers_without_a_restart() {
    let started = std::time::Instant::now();
    let mut positions = 0;
    for seed in seeds(1) {
        let fresh = {
            let disk = Disk::default();
            open(&disk, start()).unwrap().0.abandon();
            disk.contents().len() as u64
        };
        for place in 0..20 {
            let tells_free = place % 2 == 0;
            let capacity = fresh + place * 40_960 + if tells_free { 1 << 20 } else { 0 };
            positions += u64::from(run(seed, capacity, tells_free));
        }
    }
    assert!(positions >= 20, "the disk was full at {positions} positions only");
    super::bars::tell("R4", &format!("the disk full at {positions} positions, in {:.1?}", started.elapsed()));
}
