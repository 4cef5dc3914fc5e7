//! The locks of the counters: parking_lot's, or in a build that checks every order of threads those of the checker.

#[cfg(not(all(test, feature = "model-check")))]
pub use parking_lot::{Mutex, MutexGuard, RwLock};

#[cfg(all(test, feature = "model-check"))]
pub use checked::{Mutex, MutexGuard, RwLock};

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
