//! Where a command's requests go: to a running server, or to the same routes over an opened data folder.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use super::admin_key;
use super::failure::{Exit, Failure, chain};
use super::local::{Local, Purpose};
use super::target::Target;
use crate::config::Settings;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The longest wait for an answer, in seconds: `verify` of a large store takes minutes.
const ANSWER_SECONDS_MAX: u64 = 3_600;

/// Where requests go.
pub enum Backend {
    /// A server, by its base URL without a slash at the end.
    Remote {
        /// Keeps the connection open between requests.
        agent: ureq::Agent,
        /// Such as `http://127.0.0.1:8080`.
        base_url: String,
        /// Shown as a bearer token; without one only open routes answer.
        key: Option<String>,
    },
    /// The data folder, opened by this process.
    Local(Local),
}

/// What a route answered.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as it came.
    pub text: String,
    /// The body read as JSON; null when it is not JSON.
    pub json: Value,
}

impl Backend {
    /// The server named by `--server` or METERGATE_SERVER, else the data folder.
    pub fn open(target: &Target, settings: &Settings, purpose: Purpose) -> Result<Self, Failure> {
        let Some(url) = target.server.as_deref().or(settings.value("server")) else {
            return Local::open(settings, purpose).map(Self::Local);
        };
        let base_url = url.trim_end_matches('/').to_owned();
        if base_url.starts_with("https://") {
            return Err(Failure::usage(format!(
                "`{url}`: this build speaks plain http only: name the server's own address, or a tunnel to it"
            )));
        }
        if !base_url.starts_with("http://") {
            return Err(Failure::usage(format!("`{url}` is not a server's URL, such as http://127.0.0.1:8080")));
        }
        let key = match target.key.as_deref().or(settings.value("key")) {
            Some(key) => Some(key.to_owned()),
            None => admin_key::read(&settings.data_dir())?,
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_global(Some(Duration::from_secs(ANSWER_SECONDS_MAX)))
            .build();
        Ok(Self::Remote { agent: config.into(), base_url, key })
    }

    /// Sends one request. `query` values are encoded here; `path` is encoded by the caller ([`segment`]).
    /// Fails when there is no answer; a status of any kind is an answer.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, String)],
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Answer, Failure> {
        let mut path_and_query = path.to_owned();
        for (index, (name, value)) in query.iter().enumerate() {
            path_and_query.push(if index == 0 { '?' } else { '&' });
            path_and_query.push_str(&format!("{name}={}", segment(value)));
        }
        let (status, bytes) = match self {
            Self::Local(local) => local.call(method, &path_and_query, body)?,
            Self::Remote { agent, base_url, key } => {
                send(agent, base_url, key.as_deref(), method, &path_and_query, body)?
            }
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::new(Exit::Failed, format!("{method} {path}: the answer is not UTF-8")))?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, text, json })
    }

    /// [`Backend::call`], where every status but 2xx is a failure.
    pub fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Answer, Failure> {
        self.call("GET", path, query, None)?.or_failure()
    }

    /// Gets a long answer and copies it to `out` as it comes; every status but 2xx is a failure.
    pub fn download(&self, path: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let (status, bytes) = match self {
            Self::Local(local) => local.download(path, out)?,
            Self::Remote { agent, base_url, key } => {
                let mut request = ureq::http::Request::builder().uri(format!("{base_url}{path}"));
                if let Some(key) = key {
                    request = request.header("authorization", format!("Bearer {key}"));
                }
                let mut answer =
                    agent.run(request.body(()).map_err(bad_request)?).map_err(|error| unreachable(base_url, &error))?;
                let status = answer.status().as_u16();
                if (200..300).contains(&status) {
                    let copied = std::io::copy(&mut answer.body_mut().as_reader(), out);
                    copied.map_err(|error| Failure::caused(Exit::Failed, "the answer broke off", &error))?;
                    (status, Vec::new())
                } else {
                    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
                    (status, body.map_err(|error| unreachable(base_url, &error))?)
                }
            }
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, text, json }.or_failure().map(|_| ())
    }

    /// Sends a JSON value; every status but 2xx is a failure.
    pub fn send_json(&self, method: &str, path: &str, value: &Value) -> Result<Answer, Failure> {
        self.call(method, path, &[], Some(("application/json", value.to_string().into_bytes())))?.or_failure()
    }

    /// Closes what was opened, so that it is saved before the command ends.
    pub fn close(self) {
        if let Self::Local(local) = self {
            local.close();
        }
    }
}

impl Answer {
    /// The answer when its status is 2xx, else what the server said as a failure.
    pub fn or_failure(self) -> Result<Self, Failure> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(self.failure()) }
    }

    /// What the server said, with its code and what to do about it.
    pub fn failure(&self) -> Failure {
        let said =
            self.json["error"].as_str().map_or_else(|| self.text.trim().chars().take(200).collect(), str::to_owned);
        let code = self.json["code"].as_str().map_or_else(String::new, |code| format!(", {code}"));
        let remedy = match self.status {
            401 => ": give the server's key with --key or METERGATE_KEY",
            403 if self.json["code"] == "INSUFFICIENT_PERMISSIONS" => ": this key may not do that, use the admin key",
            503 => ": try again in a moment",
            _ => "",
        };
        Failure::new(Exit::Failed, format!("{said} ({}{code}){remedy}", self.status))
    }
}

fn send(
    agent: &ureq::Agent,
    base_url: &str,
    key: Option<&str>,
    method: &str,
    path_and_query: &str,
    body: Option<(&str, Vec<u8>)>,
) -> Result<(u16, Vec<u8>), Failure> {
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{base_url}{path_and_query}"));
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let answer = match body {
        Some((content_type, bytes)) => {
            agent.run(request.header("content-type", content_type).body(bytes).map_err(bad_request)?)
        }
        None => agent.run(request.body(()).map_err(bad_request)?),
    };
    let mut answer = answer.map_err(|error| unreachable(base_url, &error))?;
    let status = answer.status().as_u16();
    let bytes = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    Ok((status, bytes.map_err(|error| unreachable(base_url, &error))?))
}

fn bad_request(error: ureq::http::Error) -> Failure {
    Failure::usage(format!("the request cannot be made: {error}: look at --server and --key"))
}

fn unreachable(base_url: &str, error: &ureq::Error) -> Failure {
    Failure::new(
        Exit::Unreachable,
        format!("the server {base_url} does not answer: {}: is `metergate serve` running there?", chain(error)),
    )
}

/// A text as one segment of a path or one value of a query.
pub fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_the_server_said_and_what_to_do() {
        let text = r#"{"error":"Unauthorized","code":"ADMIN_AUTH_REQUIRED"}"#.to_owned();
        let json = serde_json::from_str(&text).unwrap();
        let failure = Answer { status: 401, text, json }.failure();
        assert!(failure.message.starts_with("Unauthorized (401, ADMIN_AUTH_REQUIRED): give"), "{failure}");
        assert_eq!(failure.exit, Exit::Failed);
    }

    #[test]
    fn a_slash_or_a_space_stays_inside_its_segment() {
        assert_eq!(segment("a/b c?d"), "a%2Fb%20c%3Fd");
        assert_eq!(segment("team:eu@2.x_y-z"), "team:eu@2.x_y-z");
    }
}
