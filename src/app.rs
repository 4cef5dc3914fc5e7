//! Starts the parts in order, and stops them in reverse: nothing that was acknowledged is lost.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::config::{EngineSettings, Networks};
use crate::domain::schedule::Schedule;
use crate::engine::{Metergate, OpenError};
use crate::gateway::{Gateway, GatewaySettings, UnusableUpstream, WidgetSettings};
use crate::http::{self, HttpState, ServerLimits};
use crate::jobs::{JobName, Jobs, ScheduleFailed};

/// How long a stop waits for answers whose callers are gone, so that their usage is recorded.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(10);

/// What a server needs.
#[derive(Clone)]
pub struct AppSettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Opens every door but the cron job's.
    pub admin_key: String,
    /// Opens the cron job's door; unset or empty closes it.
    pub cron_secret: Option<String>,
    /// When the aggregation runs.
    pub aggregate_schedule: Schedule,
    /// When the clean-ups run.
    pub cleanup_schedule: Schedule,
    /// Whether `/metrics` answers without a key.
    pub metrics_open: bool,
    /// Whose word about a client's address is believed.
    pub trusted_proxies: Networks,
    /// How many events one key may record a second; `None` for no cap.
    pub per_key_events_per_second: Option<u64>,
    /// Where the OpenAI-compatible door leads.
    pub gateway: GatewaySettings,
    /// The chat widget.
    pub widget: WidgetSettings,
    /// The engine's own settings.
    pub engine: EngineSettings,
    /// Whether the clock can be moved through `/api/dev/clock`.
    pub development: bool,
    /// How much the server takes on.
    pub limits: ServerLimits,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address.
    #[error("cannot listen on {address}: choose another with --listen, or stop what is listening there")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// No admin key: every door would be closed.
    #[error("the admin key is empty: remove METERGATE_ADMIN_KEY to have one made, or set it")]
    NoAdminKey,
    /// An upstream.
    #[error(transparent)]
    Upstream(#[from] UnusableUpstream),
    /// The schedule of the jobs.
    #[error(transparent)]
    Schedule(#[from] ScheduleFailed),
    /// A thread of the start or the stop died.
    #[error("a thread failed: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Opens the engine, binds, tells `on_listening` where, and serves until `shutdown`; then closes the engine.
pub async fn run(
    settings: AppSettings,
    shutdown: impl Future<Output = ()>,
    on_listening: impl FnOnce(SocketAddr),
) -> Result<(), AppError> {
    if settings.admin_key.is_empty() {
        return Err(AppError::NoAdminKey);
    }
    let engine_settings = settings.engine;
    let make_clock = if settings.development { Clock::development } else { Clock::system };
    let engine = tokio::task::spawn_blocking(move || Metergate::open_at(engine_settings, make_clock)).await??;
    let engine = Arc::new(engine);
    let jobs = Jobs::new(engine.writer(), |job| match job {
        JobName::AggregateUsageMetrics => settings.aggregate_schedule.clone(),
        JobName::CleanupOldRealtimeEvents | JobName::CleanupOldAuditEvents => settings.cleanup_schedule.clone(),
    });

    let served = async {
        let refused = |source| AppError::Listen { address: settings.listen, source };
        let (enforcer, tracker) = (engine.quota_enforcer(), engine.usage_tracker());
        let gateway = Gateway::new(enforcer, tracker, engine.writer(), &settings.gateway)?;
        let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let scheduled = jobs.schedule().await?;
        on_listening(address);
        let cron_secret = settings.cron_secret.as_deref();
        let state =
            HttpState::new(engine.clone(), jobs.clone(), &settings.admin_key, cron_secret, settings.metrics_open);
        let state = state.trusting(settings.trusted_proxies).capping_ingest(settings.per_key_events_per_second);
        let state = state.with_gateway(gateway.clone(), settings.widget);
        http::serve(listener, http::surface(state), settings.limits, shutdown).await;
        let open = gateway.finish(SETTLE_TIME_MAX).await;
        if open > 0 {
            tracing::warn!(open, "calls to upstreams were given up: their holds lapse");
        }
        scheduled.stop().await;
        Ok(())
    }
    .await;

    // Also when it never listened: what was opened is closed.
    tokio::task::spawn_blocking(move || engine.close()).await?;
    served
}
