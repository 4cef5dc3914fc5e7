//! Counters: every tenant's quotas in memory, decided and taken in one step.
//!
//! A [`TenantState`] is a deterministic state machine of one tenant. It lives twice: behind the lock of its
//! [`TenantSlot`], where requests are decided, and as a shadow that is replayed from the journal and saved.

mod amounts;
mod calendar;
mod decide;
mod holds;
mod lock;
mod minute;
mod own_prices;
mod platform;
mod registry;
mod saved;
mod settle;
mod step;
mod tenant_state;
mod thresholds;

#[cfg(test)]
mod facts_tests;
#[cfg(test)]
mod model_tests;
#[cfg(all(test, feature = "model-check"))]
mod order_tests;
#[cfg(test)]
mod platform_tests;

pub use amounts::Amounts;
pub use holds::{FINISHED_KEPT_MICROS, FINISHED_MAX};
pub use lock::Mutex as StateMutex;
pub use own_prices::{OwnPrice, OwnPrices};
pub use platform::Platform;
pub use registry::{Counters, TenantSlot};
pub use settle::{Found, Released, Settled};
pub use step::{charge, insert_hold, release, settle};
pub use tenant_state::{HoldRequest, Taken, TenantState};
