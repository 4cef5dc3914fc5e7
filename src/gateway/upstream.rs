//! Upstreams: which one has a model, and the connections to it. Nothing but configured hosts is ever connected to:
//! redirects are not followed, and no proxy is taken from the environment.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, Uri, header};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::endpoint::Endpoint;
use super::meter::UpstreamMeter;
use crate::config::UpstreamSettings;
use crate::domain::tenant::TenantId;

/// How long a connection may take to be made.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Idle connections kept for one upstream.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// How long an idle connection is kept. Many servers close theirs after 5 s of silence, and a call that meets the closing
/// fails; far ones, behind TLS, keep theirs for minutes.
const IDLE_TIME_NEAR: Duration = Duration::from_secs(4);
const IDLE_TIME_FAR: Duration = Duration::from_secs(60);

/// Headers of a call that go upstream as they are; the rest stays here, keys, addresses and names among it.
const FORWARDED: [&str; 4] = ["accept", "user-agent", "openai-beta", "traceparent"];
/// Goes upstream as a name of the tenant's own: all tenants share the upstream's key, and none may get another's answer.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Headers of an answer that do not reach the caller: of the connection, of the upstream's own limits and accounts.
const WITHHELD: [&str; 17] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "set-cookie",
    "alt-svc",
    "strict-transport-security",
    "openai-organization",
    "openai-project",
    "location",
    "www-authenticate",
    "x-request-id",
];

/// One upstream, ready to be called.
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) provider: String,
    pub(super) timeout: Duration,
    pub(super) meter: UpstreamMeter,
    base_url: String,
    models: Vec<String>,
    max_output_tokens: Vec<(String, u64)>,
    headers: HeaderMap,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Upstream {
    /// Of settings and the key that was read for it. Fails with what cannot be sent as a header or stand in an address.
    pub(super) fn new(settings: &UpstreamSettings, api_key: Option<&str>) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            headers.insert(name, value.clone());
        }
        if let Some(key) = api_key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| "its key has characters that cannot be sent".to_owned())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Usage is read out of the answer as it passes.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let base_url = settings.base_url.to_string().trim_end_matches('/').to_owned();
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT_TIME_MAX));
        http.set_nodelay(true);
        http.enforce_http(false);
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let far = settings.base_url.scheme_str() == Some("https");
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(if far { IDLE_TIME_FAR } else { IDLE_TIME_NEAR })
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(https);
        Ok(Self {
            name: settings.name.clone(),
            provider: settings.provider.clone(),
            timeout: Duration::from_secs(settings.timeout_seconds.into()),
            meter: UpstreamMeter::default(),
            base_url,
            models: settings.models.clone(),
            max_output_tokens: settings.max_output_tokens.clone(),
            headers,
            client,
        })
    }

    /// The most that `model` can answer, where that is configured: by its name, else by the longest pattern.
    pub(super) fn max_output_tokens(&self, model: &str) -> Option<u64> {
        let fitting = self.max_output_tokens.iter().filter(|(pattern, _)| rank(pattern, model).is_some());
        fitting.max_by_key(|(pattern, _)| rank(pattern, model)).map(|(_, most)| *most)
    }

    /// Names of its models that are no patterns.
    pub(super) fn named_models(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(String::as_str).filter(|model| !model.ends_with('*'))
    }

    /// How well it has `model`; `None`: it has not.
    pub(super) fn rank(&self, model: &str) -> Option<usize> {
        self.models.iter().filter_map(|pattern| rank(pattern, model)).max()
    }

    /// Asks it. The answer's body is still on its way.
    pub(super) async fn send(
        &self,
        endpoint: Endpoint,
        tenant_id: &TenantId,
        callers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        // Read as a URI at the start, and the path is ours.
        *request.uri_mut() = format!("{}{}", self.base_url, endpoint.upstream_path()).parse().unwrap_or(Uri::default());
        *request.headers_mut() = headers_for_upstream(tenant_id, callers);
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        self.client.request(request).await
    }
}

/// Whether a call that failed was certainly never sent: no connection, or one that was gone before its first byte.
pub(super) fn was_never_asked(error: &hyper_util::client::legacy::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<hyper::Error>());
    error.is_connect() || cause.is_some_and(hyper::Error::is_canceled)
}

fn headers_for_upstream(tenant_id: &TenantId, callers: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in callers.iter().filter(|(name, _)| FORWARDED.contains(&name.as_str())) {
        headers.append(name, value.clone());
    }
    if let Some(key) = callers.get(IDEMPOTENCY_KEY) {
        // No tenant's id has a line break.
        let named = [tenant_id.as_str().as_bytes(), b"\n", key.as_bytes()].concat();
        let own = crate::ids::uuid_of_name(&String::from_utf8_lossy(&named)).to_string();
        // Digits, letters and dashes: a header value.
        headers.extend(HeaderValue::try_from(own).ok().map(|value| (IDEMPOTENCY_KEY, value)));
    }
    headers
}

/// The headers of an answer that the caller gets.
pub(super) fn headers_for_caller(answered: &HeaderMap) -> HeaderMap {
    let shown = |name: &HeaderName| !WITHHELD.contains(&name.as_str()) && !name.as_str().starts_with("x-ratelimit-");
    answered.iter().filter(|(name, _)| shown(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// An exact name before any pattern, a longer pattern before a shorter.
fn rank(pattern: &str, model: &str) -> Option<usize> {
    match pattern.strip_suffix('*') {
        Some(stem) => model.starts_with(stem).then_some(stem.len()),
        None => (pattern == model).then_some(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(models: &[&str], maxima: &[(&str, u64)]) -> Upstream {
        let settings = UpstreamSettings {
            name: "a".to_owned(),
            base_url: "http://127.0.0.1:1/v1".parse().unwrap(),
            api_key_env: None,
            provider: "openai".to_owned(),
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            timeout_seconds: 1,
            max_output_tokens: maxima.iter().map(|(model, most)| ((*model).to_owned(), *most)).collect(),
            headers: Vec::new(),
        };
        Upstream::new(&settings, Some("sk-1")).unwrap()
    }

    #[test]
    fn a_name_beats_a_pattern_and_a_longer_pattern_a_shorter() {
        let one = upstream(&["gpt-4o", "gpt-4*", "gpt*"], &[("*", 9), ("gpt-4*", 8), ("gpt-4o", 7)]);
        assert_eq!(one.rank("gpt-4o"), Some(usize::MAX));
        assert_eq!(one.rank("gpt-4.1"), Some(5));
        assert_eq!(one.rank("o3"), None);
        let most = |model| one.max_output_tokens(model);
        assert_eq!((most("gpt-4o"), most("gpt-4o-mini"), most("o3")), (Some(7), Some(8), Some(9)));
        assert_eq!(one.named_models().collect::<Vec<_>>(), ["gpt-4o"]);
    }

    #[test]
    fn the_key_is_never_shown_and_limits_of_the_upstream_stay_here() {
        let one = upstream(&["m"], &[]);
        assert!(!format!("{:?}", one.headers).contains("sk-1"));
        let mut answered = HeaderMap::new();
        for name in ["x-ratelimit-limit-tokens", "set-cookie", "content-length", "content-type", "openai-processing-ms"]
        {
            answered.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        let shown = headers_for_caller(&answered);
        let names: Vec<&str> = shown.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "openai-processing-ms"]);
    }

    #[test]
    fn an_idempotency_key_is_the_tenant_s_own_and_who_asks_stays_here() {
        let mut callers = HeaderMap::new();
        for name in ["idempotency-key", "x-forwarded-for", "x-stainless-os", "tracestate", "cookie", "openai-beta"] {
            callers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        let sent = |tenant: &str| headers_for_upstream(&tenant.parse().unwrap(), &callers);
        let (one, other) = (sent("a"), sent("b"));
        let mut names: Vec<&str> = one.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["idempotency-key", "openai-beta"]);
        assert_eq!(one, sent("a"), "a retry is one");
        assert_ne!(one["idempotency-key"], other["idempotency-key"]);
        assert_ne!(one["idempotency-key"], "1");
    }
}
