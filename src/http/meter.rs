//! What the server counts of its requests, for `/metrics`: by route pattern and status class, never by tenant.

use std::collections::HashMap;
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
pub struct HttpMeter(Arc<Meters>);

#[derive(Debug)]
struct Meters {
    /// One for each route of the table, then one for the rest.
    routes: Vec<RouteMeter>,
    places: HashMap<(&'static str, &'static str), usize>,
}

impl HttpMeter {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let meter =
            |(method, route)| RouteMeter { method, route, classes: Default::default(), latency: Histogram::default() };
        let names = route_table().iter().map(|route| (route.method, route.path));
        let places = names.clone().enumerate().map(|(place, name)| (name, place)).collect();
        let routes = names.chain([("-", "unmatched")]).map(meter).collect();
        Self(Arc::new(Meters { routes, places }))
    }

    /// Notes one answer.
    pub fn note(&self, method: &str, route: Option<&str>, status: u16, took: Duration) {
        let place = route.and_then(|route| self.0.places.get(&(method, route)));
        // The last one takes what has no route.
        let meter = &self.0.routes[place.copied().unwrap_or(self.0.routes.len() - 1)];
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        meter.classes[class].add(1);
        meter.latency.note(took);
    }

    /// Every route, whether asked or not.
    pub fn routes(&self) -> &[RouteMeter] {
        &self.0.routes
    }
}
