//! The metered door: calls of OpenAI's API are bounded, reserved, forwarded to configured upstreams, and settled with what
//! they really used, however they end.
//!
//! Neither prompts nor answers are stored or logged.

mod call;
mod call_body;
mod endpoint;
mod event_stream;
mod exchange;
#[cfg(test)]
mod fuzz_tests;
mod meter;
mod metered_body;
mod places;
mod prompt;
mod sessions;
mod token_bound;
mod upstream;
mod widget;
mod widget_stream;

use std::sync::Arc;
use std::time::Duration;

pub use call::{Answer, AnswerBody, Call, CallError, UpstreamFailure, is_door_s};
pub use call_body::InvalidCall;
pub use endpoint::Endpoint;
pub use meter::{GatewayMeter, UPSTREAM_CLASSES, UpstreamMeter};
pub use metered_body::{MeteredBody, StreamBroken};
pub use places::{NoPlace, Place};
pub use sessions::SessionRefused;
pub use widget::{ChatMessage, ChatRefused, ChatReply, Widget, WidgetSettings};
pub use widget_stream::WidgetStream;

use crate::config::UpstreamSettings;
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;
use crate::enforcer::QuotaEnforcer;
use crate::tracker::UsageTracker;
use crate::writer::Writer;
use places::Places;
use upstream::Upstream;

/// What the door needs to know.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// Where calls go, each with its key.
    pub upstreams: Vec<(UpstreamSettings, Option<String>)>,
    /// The output that is reserved where a call names no maximum.
    pub default_output_tokens: u64,
    /// Whether that is sent upstream as the call's maximum.
    pub cap_output: bool,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self { upstreams: Vec::new(), default_output_tokens: 1_024, cap_output: true }
    }
}

/// Why the door cannot be opened: an upstream, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream `{name}` cannot be used: {reason}")]
pub struct UnusableUpstream {
    name: String,
    reason: String,
}

/// The door. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Gateway(Arc<Parts>);

struct Parts {
    enforcer: QuotaEnforcer,
    tracker: UsageTracker,
    writer: Arc<Writer>,
    upstreams: Vec<Arc<Upstream>>,
    default_output_tokens: u64,
    cap_output: bool,
    meter: GatewayMeter,
    places: Arc<Places>,
}

impl Parts {
    fn now(&self) -> Timestamp {
        self.writer.shared().clock.now()
    }
}

impl Gateway {
    /// A door in front of an engine's parts.
    pub fn new(
        enforcer: QuotaEnforcer,
        tracker: UsageTracker,
        writer: Arc<Writer>,
        settings: &GatewaySettings,
    ) -> Result<Self, UnusableUpstream> {
        let ready = |(settings, key): &(UpstreamSettings, Option<String>)| {
            let upstream = Upstream::new(settings, key.as_deref());
            upstream.map(Arc::new).map_err(|reason| UnusableUpstream { name: settings.name.clone(), reason })
        };
        Ok(Self(Arc::new(Parts {
            enforcer,
            tracker,
            writer,
            upstreams: settings.upstreams.iter().map(ready).collect::<Result<_, _>>()?,
            default_output_tokens: settings.default_output_tokens,
            cap_output: settings.cap_output,
            meter: GatewayMeter::default(),
            places: Arc::default(),
        })))
    }

    /// A door that leads nowhere: no model is known.
    pub fn closed(enforcer: QuotaEnforcer, tracker: UsageTracker, writer: Arc<Writer>) -> Self {
        let GatewaySettings { default_output_tokens, cap_output, .. } = GatewaySettings::default();
        let (upstreams, meter, places) = (Vec::new(), GatewayMeter::default(), Arc::default());
        Self(Arc::new(Parts { enforcer, tracker, writer, upstreams, default_output_tokens, cap_output, meter, places }))
    }

    /// A place for a call of this tenant, to be taken before its body is read.
    pub fn place(&self, tenant_id: &TenantId) -> Result<Place, NoPlace> {
        self.0.places.take(tenant_id)
    }

    /// The configured models by name, each with its provider; patterns name none.
    pub fn models(&self) -> Vec<(String, String)> {
        let named = |upstream: &Arc<Upstream>| {
            let provider = upstream.provider.clone();
            upstream.named_models().map(|model| (model.to_owned(), provider.clone())).collect::<Vec<_>>()
        };
        self.0.upstreams.iter().flat_map(named).collect()
    }

    /// What the door counts.
    pub fn meter(&self) -> &GatewayMeter {
        &self.0.meter
    }

    /// What each upstream answered, by its name.
    pub fn upstream_meters(&self) -> impl Iterator<Item = (&str, &UpstreamMeter)> {
        self.0.upstreams.iter().map(|upstream| (upstream.name.as_str(), &upstream.meter))
    }

    /// Waits until every open call is settled, at most so long. Gives how many are not.
    pub async fn finish(&self, at_most: Duration) -> u64 {
        const LOOK_EVERY: Duration = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        while self.0.meter.open() > 0 && waited < at_most {
            tokio::time::sleep(LOOK_EVERY).await;
            waited += LOOK_EVERY;
        }
        self.0.meter.open()
    }
}
