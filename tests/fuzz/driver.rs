//! Runs a parser over inputs that a seed makes out of good ones: nothing may panic, hang or swallow memory.
//!
//! A failure names seed, case and input (hexadecimal); `METERGATE_SEED=N` runs that seed, `METERGATE_LONG=1` many more
//! cases. A run is the same whenever its seed is: what a parser takes becomes material for the cases behind it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::mutate::Mutator;
use crate::random::Random;

/// The seed of a run that is told none.
const SEED: u64 = 20_261_124;
/// How much longer the long run is.
const LONG: u64 = 100;
/// The longest that one input may take; asked three times, since this machine may have other work.
const CASE_TIME_MAX: Duration = Duration::from_secs(3);
/// After so many seconds in one input the run is ended with its input shown.
const HANG_SECONDS: u64 = 120;
/// What one parser may add to the most memory this process ever held, in KiB.
const MEMORY_KIB_MAX: u64 = 512 * 1024;
/// The most inputs that are kept as material, besides the first ones.
const KEPT_MAX: usize = 400;
/// The largest input that is kept as material, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The seed of this run.
pub fn seed() -> u64 {
    std::env::var("METERGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED)
}

/// So many cases, or many more in the long run.
pub fn at_length(cases: u64) -> u64 {
    if std::env::var_os("METERGATE_LONG").is_some() { cases * LONG } else { cases }
}

/// Hands `cases` mutations of `corpus` to `takes`, which says whether its parser took the input, and which checks what
/// must be true of what it took. Each input of `corpus` must be taken as it is.
pub fn fuzz(name: &str, cases: u64, corpus: &[impl AsRef<[u8]>], takes: impl Fn(&[u8]) -> bool) {
    let seed = seed();
    let cases = at_length(cases);
    let mut material: Vec<Vec<u8>> = corpus.iter().map(|input| input.as_ref().to_vec()).collect();
    for input in &material {
        assert!(takes(input), "{name}: its own corpus is refused: {}", String::from_utf8_lossy(input));
    }
    let first = material.len();
    let watch = Watch::start(name, seed);
    let memory = peak_memory_kib();
    let (started, mut taken) = (Instant::now(), 0u64);
    let mut mutator = Mutator::new(Random::new(seed ^ hash(name)));
    for case in 0..cases {
        let input = mutator.next(&material);
        watch.begin(case, &input);
        let (from, outcome) = (Instant::now(), catch_unwind(AssertUnwindSafe(|| takes(&input))));
        let took = from.elapsed();
        watch.end();
        let Ok(was_taken) = outcome else { fail(name, seed, case, &input, "panicked") };
        if took > CASE_TIME_MAX && (0..2).all(|_| timed(&takes, &input) > CASE_TIME_MAX) {
            fail(name, seed, case, &input, "takes too long");
        }
        if was_taken {
            taken += 1;
            // What was taken is new ground: a part of it is built upon.
            if input.len() <= KEPT_BYTES_MAX && case % 3 == 0 {
                match material.len() < first + KEPT_MAX {
                    true => material.push(input),
                    false => material[first + (case as usize % KEPT_MAX)] = input,
                }
            }
        }
    }
    if let (Some(before), Some(after)) = (memory, peak_memory_kib()) {
        let grown = after.saturating_sub(before);
        assert!(grown <= MEMORY_KIB_MAX, "METERGATE_SEED={seed}: {name} made memory grow by {grown} KiB");
    }
    let millis = started.elapsed().as_millis();
    println!("R11 {name}: {cases} cases in {millis} ms, {taken} taken, {} refused", cases - taken);
    assert!(cases < 500 || taken < cases, "{name}: nothing was refused: its parser looks at nothing");
    assert!(cases < 500 || taken > 0, "{name}: nothing was taken: the inputs are too far off");
}

fn timed(takes: &impl Fn(&[u8]) -> bool, input: &[u8]) -> Duration {
    let from = Instant::now();
    takes(input);
    from.elapsed()
}

fn fail(name: &str, seed: u64, case: u64, input: &[u8], what: &str) -> ! {
    panic!("{}", told(name, seed, case, input, what))
}

fn told(name: &str, seed: u64, case: u64, input: &[u8], what: &str) -> String {
    let hex: String = input.iter().take(16 * 1024).map(|byte| format!("{byte:02x}")).collect();
    let text: String = String::from_utf8_lossy(input).chars().take(2_000).collect();
    format!("METERGATE_SEED={seed}: {name}, case {case}: {what}\n{} bytes: {text:?}\nhex: {hex}", input.len())
}

/// The text's own number, so that parsers are not all given the same changes.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The most memory this process ever held, where the system tells.
fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Ends the process, with the input shown, when one case does not end. It counts its own seconds: a process that was
/// halted meanwhile has lost none.
struct Watch {
    /// The case's number + 1; 0 between cases.
    case: Arc<AtomicU64>,
    input: Arc<Mutex<Vec<u8>>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn start(name: &str, seed: u64) -> Self {
        let watch = Self { case: Arc::default(), input: Arc::default(), over: Arc::default() };
        let (case, input, over, name) =
            (Arc::clone(&watch.case), Arc::clone(&watch.input), Arc::clone(&watch.over), name.to_owned());
        std::thread::spawn(move || {
            let (mut last, mut seconds) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(1));
                let now = case.load(Ordering::Relaxed);
                seconds = if now != 0 && now == last { seconds + 1 } else { 0 };
                last = now;
                if seconds >= HANG_SECONDS {
                    let input = input.lock().map(|input| input.clone()).unwrap_or_default();
                    eprintln!("{}", told(&name, seed, now - 1, &input, "does not end"));
                    std::process::abort();
                }
            }
        });
        watch
    }

    fn begin(&self, case: u64, input: &[u8]) {
        if let Ok(mut kept) = self.input.lock() {
            kept.clear();
            kept.extend_from_slice(input);
        }
        self.case.store(case + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.case.store(0, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
