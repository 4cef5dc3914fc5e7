//! A streamed reply of the chat widget: the upstream's events, told anew as `delta`, `done` and `error`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame};
use serde_json::{Value, json};

use super::event_stream::{EventStream, data_of};
use super::metered_body::MeteredBody;
use super::widget::{Talk, first_chars, sources_of};

/// Events `{"type":"delta","delta":TEXT}`, then one `{"type":"done","sources":[...],"metadata":{...}}`; or one
/// `{"type":"error","error":TEXT}`.
pub struct WidgetStream {
    upstream: MeteredBody,
    talk: Talk,
    events: EventStream,
    sources: Vec<Value>,
    model: Option<String>,
    /// Characters that may still be said.
    left: usize,
    ended: bool,
}

impl WidgetStream {
    pub(super) fn new(upstream: MeteredBody, talk: Talk, sources: Vec<Value>) -> Self {
        let left = talk.limit.unwrap_or(usize::MAX);
        Self { upstream, talk, events: EventStream::new(false), sources, model: None, left, ended: false }
    }

    fn retell(&mut self, chunk: Bytes) -> String {
        let mut told = String::new();
        let Self { events, sources, model, left, .. } = self;
        events.pass(chunk, |event| {
            let Some(chunk) = data_of(event).and_then(|data| serde_json::from_slice::<Value>(data).ok()) else {
                return;
            };
            if let Some(name) = chunk["model"].as_str() {
                *model = Some(name.to_owned());
            }
            if let Some(found) = sources_of(&chunk) {
                *sources = found;
            }
            let delta = first_chars(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default(), *left);
            if !delta.is_empty() {
                *left -= delta.chars().count();
                told.push_str(&event_of(&json!({"type": "delta", "delta": delta})));
            }
        });
        told
    }

    fn last(&mut self) -> String {
        let used = self.upstream.used().unwrap_or_default();
        let metadata = self.talk.sent(&used, self.upstream.event_id(), self.model.as_deref());
        event_of(&json!({"type": "done", "sources": self.sources, "metadata": metadata}))
    }
}

fn event_of(value: &Value) -> String {
    format!("data: {value}\n\n")
}

impl Body for WidgetStream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while !self.ended {
            let told = match ready!(Pin::new(&mut self.upstream).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => self.retell(chunk),
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    self.ended = true;
                    drop(self.talk.failed(502, &error.to_string()));
                    event_of(&json!({"type": "error", "error": "The answer could not be finished"}))
                }
                None => {
                    self.ended = true;
                    self.last()
                }
            };
            if !told.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(told.into()))));
            }
        }
        Poll::Ready(None)
    }
}
