//! Facts about changes of tenants.
use super::*;
