//! The bell that wakes the threads which wait for a commit: they are told one by one, and woken together by one call to the
//! system. Waking each by itself kept the writer's thread busy for longer than its commit did.
//!
//! Who waits looks again whenever it rings, for whomever it rang: a thread whose commit is still to come goes on waiting.

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, PoisonError};

/// One for the process: receipts know no engine.
static BELL: Bell = Bell { waiting: AtomicUsize::new(0), lock: Mutex::new(()), rung: Condvar::new() };

struct Bell {
    /// Threads that wait, or are about to.
    waiting: AtomicUsize,
    /// Held from a look that finds nothing until the wait, so that no ring falls between the two.
    lock: Mutex<()>,
    rung: Condvar,
}

/// Wakes every thread that waits. To be called behind what they wait for.
pub(super) fn ring() {
    // Either this sees who waits, or who waits sees what was told.
    fence(Ordering::SeqCst);
    if BELL.waiting.load(Ordering::SeqCst) > 0 {
        drop(BELL.lock.lock().unwrap_or_else(PoisonError::into_inner));
        BELL.rung.notify_all();
    }
}

/// Blocks this thread until `look` finds something.
pub(super) fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    if let Some(found) = look() {
        return found;
    }
    let _waits = Waits::begin();
    fence(Ordering::SeqCst);
    let mut held = BELL.lock.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(found) = look() {
            return found;
        }
        held = BELL.rung.wait(held).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Counts a thread as waiting while it lives.
struct Waits;

impl Waits {
    fn begin() -> Self {
        BELL.waiting.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        BELL.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn no_ring_is_missed() {
        const THREADS: u64 = 8;
        const TURNS: u64 = 2_000;
        let (told, heard) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for turn in 1..=TURNS {
                        wait_until(|| (told.load(Ordering::Acquire) >= turn).then_some(()));
                        heard.fetch_add(1, Ordering::AcqRel);
                    }
                });
            }
            for turn in 1..=TURNS {
                told.store(turn, Ordering::Release);
                ring();
                // A ring that somebody missed would leave it waiting here for good.
                while heard.load(Ordering::Acquire) < turn * THREADS {
                    std::thread::yield_now();
                }
            }
        });
        assert_eq!(heard.into_inner(), THREADS * TURNS);
    }
}
