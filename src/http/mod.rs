//! The HTTP surface: JSON in, JSON out, and the only place that knows axum. The routes stand on one page in `routes`.

mod auth;
mod body;
mod caller;
mod client_address;
mod cursor;
mod error;
mod error_table;
mod exposition;
mod frame;
#[cfg(test)]
mod fuzz_tests;
mod ingest_cap;
mod lock;
mod meter;
mod metrics_table;
mod openai_shape;
mod params;
mod route_notes;
mod routes;
mod server;
mod stream_body;
pub mod wire;
mod write_deadline;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;

pub use auth::{Role, TenantCheck};
pub use client_address::{ClientAddress, client_address};
pub use error_table::{ErrorInfo, error_table};
pub use frame::Surface;
pub use metrics_table::{MetricInfo, metrics_table};
pub use route_notes::route_note;
pub use routes::{RouteInfo, route_table};
pub use server::{LocalAnswer, LocalRequest, ServerLimits, in_process, in_process_to, serve};

use crate::audit::AuditLogger;
use crate::config::Networks;
use crate::enforcer::QuotaEnforcer;
use crate::engine::Metergate;
use crate::gateway::{Gateway, Widget, WidgetSettings};
use crate::jobs::Jobs;
use crate::keys::ApiKeys;
use crate::tenants::Tenants;
use crate::tracker::UsageTracker;
use auth::Keys;
use ingest_cap::IngestCap;
use lock::{Lock, LockLayer};
use meter::HttpMeter;

/// The one route that a setting may open.
const METRICS_PATH: &str = "/metrics";

/// What every route works with; cheap to clone.
#[derive(Clone)]
pub struct HttpState(Arc<Parts>);

/// The engine's parts, as the routes use them.
pub struct Parts {
    engine: Arc<Metergate>,
    tracker: UsageTracker,
    enforcer: QuotaEnforcer,
    audit: AuditLogger,
    tenants: Tenants,
    api_keys: ApiKeys,
    keys: Keys,
    jobs: Jobs,
    meter: HttpMeter,
    gateway: Gateway,
    widget: Widget,
    trusted_proxies: Networks,
    ingest_cap: IngestCap,
    metrics_open: bool,
    started: Instant,
}

impl Deref for HttpState {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl HttpState {
    /// The engine and the keys that open the doors to it. An unset or empty cron secret closes the cron door.
    ///
    /// With `metrics_open`, `/metrics` answers without a key.
    pub fn new(
        engine: Arc<Metergate>,
        jobs: Jobs,
        admin_key: &str,
        cron_secret: Option<&str>,
        metrics_open: bool,
    ) -> Self {
        let gateway = Gateway::closed(engine.quota_enforcer(), engine.usage_tracker(), engine.writer());
        Self(Arc::new(Parts {
            tracker: engine.usage_tracker(),
            enforcer: engine.quota_enforcer(),
            audit: engine.audit_logger(),
            tenants: engine.tenants(),
            widget: Widget::new(gateway.clone(), engine.audit_logger(), WidgetSettings::default()),
            gateway,
            api_keys: engine.api_keys(),
            keys: Keys::new(admin_key, cron_secret, engine.api_keys()),
            engine,
            jobs,
            meter: HttpMeter::new(),
            trusted_proxies: Networks::default(),
            ingest_cap: IngestCap::new(None),
            metrics_open,
            started: Instant::now(),
        }))
    }
}

impl HttpState {
    /// Opens the door to upstreams, and the chat widget. For a state that is not shared yet.
    pub fn with_gateway(mut self, gateway: Gateway, widget: WidgetSettings) -> Self {
        match Arc::get_mut(&mut self.0) {
            Some(parts) => {
                parts.widget = Widget::new(gateway.clone(), parts.audit.clone(), widget);
                parts.gateway = gateway;
            }
            None => tracing::error!("the state is shared already: the door stays closed"),
        }
        self
    }

    /// Believes what these proxies say about where a request comes from. For a state that is not shared yet.
    pub fn trusting(mut self, proxies: Networks) -> Self {
        match Arc::get_mut(&mut self.0) {
            Some(parts) => parts.trusted_proxies = proxies,
            None => tracing::error!("the state is shared already: no proxy is trusted"),
        }
        self
    }

    /// Lets each key but the built-in one record so many events a second. For a state that is not shared yet.
    pub fn capping_ingest(mut self, per_key_events_per_second: Option<u64>) -> Self {
        match Arc::get_mut(&mut self.0) {
            Some(parts) => parts.ingest_cap = IngestCap::new(per_key_events_per_second),
            None => tracing::error!("the state is shared already: keys record without a cap"),
        }
        self
    }
}

/// Every route of [`route_table`], each behind its lock, all within one frame.
pub fn surface(state: HttpState) -> Surface {
    let development = state.engine.writer().shared().clock.can_be_moved();
    let (meter, trusted_proxies) = (state.meter.clone(), state.trusted_proxies.clone());
    let router = locked_routes(&state.keys, state.metrics_open, development)
        .fallback(frame::unknown_route)
        .method_not_allowed_fallback(frame::wrong_method)
        .with_state(state);
    Surface::new(router, meter, trusted_proxies)
}

fn locked_routes(keys: &Keys, metrics_open: bool, development: bool) -> Router<HttpState> {
    let mut router = Router::new();
    for (place, route) in route_table().iter().enumerate() {
        if route.is_for_development() && !development {
            continue;
        }
        let role = if metrics_open && route.path == METRICS_PATH { Role::Open } else { route.role };
        let lock =
            Lock { keys: keys.clone(), role, tenants: route.tenants, place, method: route.method, path: route.path };
        let lock = Arc::new(lock);
        router = router.route(route.path, route.endpoint().route_layer(LockLayer(Arc::clone(&lock))));
        for path in routes::fixed_beside(route) {
            router = router.route(path, route.endpoint().route_layer(LockLayer(Arc::clone(&lock))));
        }
    }
    router
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_routes_are_in_each_others_way() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Metergate::open(folder.path()).unwrap();
        // axum panics when they are.
        let router = locked_routes(&Keys::new("k3y", None, engine.api_keys()), false, true);
        assert!(router.has_routes());
    }
}
