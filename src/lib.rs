//! Usage metering, quota enforcement and an audit log in one binary with its storage embedded.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod counters;
pub mod domain;
pub mod enforcer;
pub mod engine;
pub mod http;
pub mod ids;
pub mod live;
pub mod rules;
pub mod store;
pub mod tenants;
pub mod tracker;
pub mod writer;

pub use engine::{Metergate, OpenError};
