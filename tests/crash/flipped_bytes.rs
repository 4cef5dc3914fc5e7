//! Single bytes of a closed file change (R6): with the integrity check on, no total is wrong in silence.

use std::panic::AssertUnwindSafe;

use super::disk::Disk;
use super::model::{Model, look};
use super::random::Random;
use super::steps::{Step, Steps};
use super::{is_long, open, seeds, start};

const FLIPS: u64 = 4_000;

#[derive(Debug, Default)]
struct Tally {
    flips: u64,
    unharmed: u64,
    refused: u64,
    /// Panics inside the store's library, or of ours.
    panicked: u64,
}

#[test]
fn a_flipped_byte_is_never_a_wrong_total_in_silence() {
    let started = std::time::Instant::now();
    let mut tally = Tally::default();
    // What panics is counted, not shown.
    std::panic::set_hook(Box::new(|_| {}));
    for seed in seeds(1) {
        let disk = Disk::default();
        let (engine, clock) = open(&disk, start()).unwrap();
        let (mut model, mut steps, mut now) = (Model::default(), Steps::new(seed), start());
        for _ in 0..60 {
            let step = steps.next(&model, now);
            if let Step::Wait { micros } = step {
                clock.advance(micros);
                now = now.plus_micros(micros);
            }
            step.run(&engine);
            model.apply(&step, now);
        }
        engine.close();
        drop(engine);
        let (bytes, right) = (disk.contents(), model.seen(now));
        let mut random = Random::new(seed);
        for _ in 0..if is_long() { FLIPS * 10 } else { FLIPS } {
            let (place, bit) = (random.below(bytes.len() as u64) as usize, 1 << random.below(8));
            let mut flipped = bytes.clone();
            flipped[place] ^= bit;
            tally.flips += 1;
            let looked = std::panic::catch_unwind(AssertUnwindSafe(|| {
                let disk = Disk::of(flipped);
                check_every_page(&disk)?;
                let (engine, _clock) = open(&disk, now).map_err(|error| error.to_string())?;
                let seen = look(&engine, now);
                engine.abandon();
                seen
            }));
            match looked {
                Ok(Ok(seen)) => {
                    assert_eq!(
                        seen, right,
                        "METERGATE_SEED={seed}: byte {place} with bit {bit:#x} flipped, in silence"
                    );
                    tally.unharmed += 1;
                }
                Ok(Err(_)) => tally.refused += 1,
                Err(_) => tally.panicked += 1,
            }
        }
    }
    let _ = std::panic::take_hook();
    super::bars::tell("R6", &format!("flipped bytes: {tally:?}, in {:.1?}", started.elapsed()));
    assert!(tally.refused > 0, "no flip was ever found: the check does not bite");
}

/// redb's own check of every page, as an operator runs it.
fn check_every_page(disk: &Disk) -> Result<(), String> {
    let opened = redb::Database::builder().set_check_integrity_on_open(true).create_with_backend(disk.clone());
    opened.map(|_| ()).map_err(|error| error.to_string())
}
