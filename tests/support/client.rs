//! A JSON client of the server's HTTP interface.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::server::{ADMIN_KEY, CRON_SECRET, Server};

/// The most that is read of an answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What the server answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in the answer {self:?}"))
    }

    /// The body, when the status is this one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// The body of an error: this status, an `error` that names `word`, and a `code`.
    #[track_caller]
    pub fn expect_error(&self, status: u16, word: &str) -> Value {
        let body = self.expect(status);
        let told = body["error"].as_str().is_some_and(|error| self.text.contains(word) && !error.is_empty());
        assert!(told && body["code"].is_string(), "an error about {word:?}: {self:?}");
        body
    }
}

impl Server {
    /// Sends anything, with these headers and nothing else.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Answer {
        self.try_send(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// [`Server::send`] where the server may be gone.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = match body {
            Some(body) => self.agent.run(request.body(body)?)?,
            None => self.agent.run(request.body(())?)?,
        };
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()));
        Ok(Answer {
            status: response.status().as_u16(),
            headers: headers.collect(),
            // A backup is no text.
            text: String::from_utf8_lossy(&response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?)
                .into(),
        })
    }

    /// Sends JSON, or nothing, with the admin key.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let bearer = format!("Bearer {ADMIN_KEY}");
        let mut headers = vec![("authorization", bearer.as_str())];
        let bytes = body.map(|body| body.to_string().into_bytes());
        if bytes.is_some() {
            headers.push(("content-type", "application/json"));
        }
        self.send(method, path, &headers, bytes.as_deref())
    }

    /// GET with the admin key.
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    /// POST of JSON with the admin key.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, Some(body))
    }

    /// PUT of JSON with the admin key.
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, Some(body))
    }

    /// DELETE with the admin key.
    pub fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None)
    }

    /// POST of a body of another kind with the admin key and these headers.
    pub fn post_as(&self, content_type: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> Answer {
        let bearer = format!("Bearer {ADMIN_KEY}");
        let mut headers = vec![("authorization", bearer.as_str()), ("content-type", content_type)];
        headers.extend_from_slice(more);
        self.send("POST", path, &headers, Some(body))
    }

    /// Records one event or an array, all of which must be accepted now.
    #[track_caller]
    pub fn record(&self, events: &Value) {
        let sent = events.as_array().map_or(1, Vec::len);
        is_counted(&self.post("/api/usage/events", events).expect(200), sent as u64, 0);
    }

    /// The cron job's call.
    #[track_caller]
    pub fn aggregate(&self) -> Value {
        let answer = self.send("POST", "/api/admin/metrics/aggregate", &[("x-cron-secret", CRON_SECRET)], None);
        let body = answer.expect(200);
        assert_eq!(body["success"], json!(true), "{body}");
        body
    }

    /// Reserves these amounts for a minute.
    pub fn reserve(&self, tenant: &str, items: &[(&str, u64)]) -> Answer {
        self.post("/api/quota/reserve", &json!({"tenant_id": tenant, "items": items_json(items)}))
    }

    /// Registers or changes a tenant.
    #[track_caller]
    pub fn put_tenant(&self, tenant: &str, body: &Value) {
        let answer = self.put(&format!("/api/admin/tenants/{tenant}"), body);
        assert!([200, 201].contains(&answer.status), "{answer:?}");
    }

    /// The documented status of one quota type.
    #[track_caller]
    pub fn quota(&self, tenant: &str, quota_type: &str) -> Value {
        let mut status = self.get(&format!("/api/quota/{tenant}")).expect(200);
        status["quotas"][quota_type].take()
    }
}

/// An answer to recorded events: so many accepted and known before, none rejected.
#[track_caller]
pub fn is_counted(answer: &Value, accepted: u64, duplicates: u64) {
    let counted = (&answer["accepted"], &answer["duplicates"], &answer["rejected"]);
    assert_eq!(counted, (&json!(accepted), &json!(duplicates), &json!([])), "{answer}");
}

/// The `items` of a request.
pub fn items_json(items: &[(&str, u64)]) -> Value {
    items.iter().map(|(quota_type, amount)| json!({"quota_type": quota_type, "amount": amount})).collect()
}

/// A client that takes every status as an answer, opens a connection for each request, and uses no proxy.
pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    config.max_idle_connections(0).timeout_global(Some(Duration::from_secs(60))).build().into()
}
