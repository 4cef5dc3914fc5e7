//! What the server counts of its requests, for `/metrics`: by route pattern and status class, never by tenant.

use std::sync::Arc;
use std::time::Duration;

use super::routes::route_table;
use crate::writer::{Counter, Histogram};

/// Classes of status, as labels.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The requests of one route.
#[derive(Debug)]
pub struct RouteMeter {
    /// In capitals; `-` for what no route has.
    pub method: &'static str,
    /// The pattern, or `unmatched`.
    pub route: &'static str,
    /// By [`CLASSES`].
    pub classes: [Counter; 5],
    /// How long they took.
    pub latency: Histogram,
}

/// The requests of every route. Clones count together.
#[derive(Clone, Debug)]
pub struct HttpMeter(Arc<[RouteMeter]>);

/// The place of what no route has.
pub const UNMATCHED: usize = usize::MAX;

impl HttpMeter {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let meter =
            |(method, route)| RouteMeter { method, route, classes: Default::default(), latency: Histogram::default() };
        // One for each route of the table, then one for the rest.
        let names = route_table().iter().map(|route| (route.method, route.path));
        Self(names.chain([("-", "unmatched")]).map(meter).collect())
    }

    /// Notes one answer of the route that stands at `place` in the table, or of none. Gives the route's pattern.
    pub fn note(&self, place: usize, status: u16, took: Duration) -> &'static str {
        let meter = &self.0[place.min(self.0.len() - 1)];
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        meter.classes[class].add(1);
        meter.latency.note(took);
        meter.route
    }

    /// Every route, whether asked or not.
    pub fn routes(&self) -> &[RouteMeter] {
        &self.0
    }
}
