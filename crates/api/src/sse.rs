//! Stage 12: events out, as server-sent events written by hand (axum's own need a tokio timer).

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use futures::stream::{StreamExt, unfold};
use reprise_engine::{EngineError, Event};
use serde::Serialize;

use crate::ApiError;
use crate::generation::Events;
use crate::wire::reply::Reply;
use crate::wire::timings::Totals;

/// Events that are ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Vec<u8>);

impl Outbox {
    /// One event with a JSON value.
    pub(crate) fn send(&mut self, value: &impl Serialize) {
        self.0.extend_from_slice(b"data: ");
        // Serialising a wire type does not fail; see `json_response`.
        let _ = serde_json::to_writer(&mut self.0, value);
        self.0.extend_from_slice(b"\n\n");
    }

    /// A comment that keeps the connection open.
    fn ping(&mut self) {
        self.0.extend_from_slice(b":\n\n");
    }

    /// OpenAI's end of a stream.
    fn done(&mut self) {
        self.0.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// Answers with a stream. Headers go out when the first prompt is started, not at the first token; until then a failure
/// is an ordinary error.
///
/// # Errors
/// The failure that came first.
pub(crate) async fn respond(reply: Reply, mut events: Events, expected: usize) -> Result<Response, ApiError> {
    let first = loop {
        match events.next().await {
            Some((_, Event::Heartbeat)) => {}
            Some((_, Event::Failed(error))) => return Err(error.into()),
            Some(event) => break event,
            None => return Err(EngineError::Closed.into()),
        }
    };
    let live = Live { reply, events, first: Some(first), totals: Totals::default(), expected };
    let body = unfold(Some(live), |live| async {
        let (bytes, live) = live?.next().await;
        Some((Ok::<_, Infallible>(bytes), live))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Tells nginx to pass events on at once.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// A stream under way.
struct Live {
    reply: Reply,
    events: Events,
    first: Option<(usize, Event)>,
    totals: Totals,
    /// Results still to come.
    expected: usize,
}

impl Live {
    /// The next bytes, and the stream after them if it goes on.
    async fn next(mut self) -> (Bytes, Option<Self>) {
        let mut out = Outbox::default();
        let mut goes_on = true;
        while goes_on && out.0.is_empty() {
            let event = match self.first.take() {
                Some(event) => Some(event),
                None => self.events.next().await,
            };
            goes_on = self.write(event, &mut out);
        }
        (out.0.into(), goes_on.then_some(self))
    }

    /// Answers whether more follows.
    fn write(&mut self, event: Option<(usize, Event)>, out: &mut Outbox) -> bool {
        match event {
            Some((_, Event::Started(_))) => {}
            Some((_, Event::Heartbeat)) => out.ping(),
            Some((index, Event::Progress(progress))) => self.reply.progress(index, &progress, out),
            Some((index, Event::Step(step))) => self.reply.step(index, &step, out),
            Some((index, Event::Finished(finished))) => {
                self.totals.add(&finished);
                self.expected = self.expected.saturating_sub(1);
                self.reply.finished(index, &finished, &self.totals, out);
                if self.expected == 0 {
                    if self.reply.end(&self.totals, out) {
                        out.done();
                    }
                    return false;
                }
            }
            Some((_, Event::Failed(error))) => return fail(error, out),
            None => return fail(EngineError::Closed, out),
        }
        true
    }
}

/// The last event of a stream that failed; no `[DONE]` follows it.
fn fail(error: EngineError, out: &mut Outbox) -> bool {
    tracing::warn!(%error, "stream failed");
    out.send(&ApiError::from(error).reply());
    false
}
