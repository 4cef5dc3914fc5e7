//! One thread, one transaction, one fsync, many receipts.

mod receipt;

pub use receipt::{Receipt, WriteError};
