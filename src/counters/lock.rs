//! The locks of the counters: parking_lot's, or in a build that checks every order of threads those of the checker.

#[cfg(not(all(test, feature = "model-check")))]
pub use patient::{Mutex, MutexGuard, RwLock};

#[cfg(all(test, feature = "model-check"))]
pub use checked::{Mutex, MutexGuard, RwLock};

/// parking_lot's, with a mutex for which a thread waits a little before it asks again.
///
/// What it guards is some 20 cache lines that a decision is done with in a tenth of a microsecond, and that take several times
/// as long to come from another core. A thread that asks again and again gets the lock after every decision, and all of them
/// with it; one that waits two microseconds leaves them where they are for some ten decisions. Two threads on one tenant
/// decide 1.9 million times a second when they ask at once, 2.0 after 0.2 microseconds, 3.5 after 0.9, and 4.5 after 1.8.
#[cfg(not(all(test, feature = "model-check")))]
mod patient {
    pub use parking_lot::{MutexGuard, RwLock};

    /// How often a thread asks before it sleeps, and how many pauses are between: of 9 ns where this was measured, of up to 50
    /// elsewhere.
    const LOOKS: u32 = 4;
    const PAUSES: u32 = 200;

    /// As parking_lot's.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        /// Around a value.
        pub const fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        /// Waits for its turn.
        #[inline]
        pub fn lock(&self) -> MutexGuard<'_, T> {
            match self.0.try_lock() {
                Some(guard) => guard,
                None => self.wait(),
            }
        }

        #[cold]
        fn wait(&self) -> MutexGuard<'_, T> {
            for _ in 0..LOOKS {
                (0..PAUSES).for_each(|_| std::hint::spin_loop());
                if let Some(guard) = self.0.try_lock() {
                    return guard;
                }
            }
            self.0.lock()
        }
    }
}

/// The same names over the checker's locks, whose every call is a place where another thread may go on.
#[cfg(all(test, feature = "model-check"))]
mod checked {
    use std::sync::PoisonError;

    pub use shuttle::sync::MutexGuard;
    use shuttle::sync::{RwLockReadGuard, RwLockWriteGuard};

    /// As parking_lot's.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        /// Around a value.
        pub fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        /// Waits for its turn.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[derive(Debug, Default)]
    pub struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
