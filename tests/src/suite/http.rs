//! One HTTP request, its answer brought into one JSON value that the checks look into.

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::step::{Raw, Request};

/// A request that hangs longer than this fails the scenario.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of a slot's state: far more than any scenario has.
const LARGEST_IMAGE: u64 = 1 << 30;

/// Sends a request. The answer: `{"status", "headers", "body"}`, the body JSON or text; fields of a JSON object stand
/// beside it too, unless they have one of these names. An event stream gives `"events"` (JSON of each `data:` line), `"count"` of them and the `"streamed"`
/// text; bytes give how many `"bytes"`; Prometheus' text format `"metrics"`. A stream is left when `cancelled` is set.
pub(super) fn send(url: &str, request: &Request, cancelled: &AtomicBool) -> Result<Value> {
    let patience = request.leave_after_ms.map_or(PATIENCE, Duration::from_millis);
    let agent = agent(patience);
    let mut builder =
        ureq::http::Request::builder().method(request.method.as_str()).uri(format!("{url}{}", request.path));
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    if request.json.is_some() && !request.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"))
    {
        builder = builder.header("content-type", "application/json");
    }
    let body = match (&request.json, &request.raw) {
        (Some(json), _) => json.to_string().into_bytes(),
        (None, Some(Raw::Text(text))) => text.clone().into_bytes(),
        (None, Some(Raw::Bytes(bytes))) => bytes.clone(),
        (None, None) => Vec::new(),
    };
    let response = if body.is_empty() && request.method != "POST" {
        agent.run(builder.body(())?)
    } else {
        agent.run(builder.body(&body[..])?)
    };
    let response = match response {
        Err(ureq::Error::Timeout(_)) if request.leave_after_ms.is_some() => return Ok(json!({"left": true})),
        other => other.with_context(|| format!("{} {}", request.method, request.path))?,
    };

    let mut answer = Map::new();
    answer.insert("status".into(), response.status().as_u16().into());
    let headers = response.headers().iter().map(|(name, value)| {
        (name.as_str().to_owned(), Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned()))
    });
    answer.insert("headers".into(), Value::Object(headers.collect()));
    let kind = answer["headers"]["content-type"].as_str().unwrap_or_default().to_owned();
    if kind.starts_with("text/event-stream") {
        let reader = BufReader::new(response.into_body().into_reader());
        let leave = |events: usize| {
            cancelled.load(Ordering::Relaxed) || request.abort_after.is_some_and(|most| events >= most)
        };
        let events = events(reader, leave)?;
        answer.insert("streamed".into(), events.iter().filter_map(piece).collect::<String>().into());
        answer.insert("count".into(), events.len().into());
        answer.insert("events".into(), events.into());
    } else if kind.starts_with("application/octet-stream") {
        let bytes = response.into_body().with_config().limit(LARGEST_IMAGE).read_to_vec()?;
        answer.insert("bytes".into(), bytes.len().into());
    } else {
        let text = response.into_body().read_to_string()?;
        if kind.starts_with("text/plain") {
            answer.insert("metrics".into(), metrics(&text));
        }
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if let Value::Object(fields) = &body {
            for (name, value) in fields {
                answer.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        answer.insert("body".into(), body);
    }
    Ok(Value::Object(answer))
}

fn agent(patience: Duration) -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(patience)).build().into()
}

/// Carries the state of a slot from one host to another; the answer is that of the taking one.
pub(super) fn move_slot(from: (&str, u32), to: (&str, u32)) -> Result<Value> {
    let agent = agent(PATIENCE);
    let url = |(host, slot): (&str, u32)| format!("{host}/slots/{slot}/state");
    let mut given = agent.get(url(from)).call().context("GET state")?;
    if !given.status().is_success() {
        return Ok(json!({"status": given.status().as_u16(), "body": given.body_mut().read_to_string()?}));
    }
    let image = given.body_mut().with_config().limit(LARGEST_IMAGE).read_to_vec()?;
    let mut taken = agent
        .put(url(to))
        .header("content-type", "application/octet-stream")
        .send(&image[..])
        .context("PUT state")?;
    let mut answer = Map::new();
    answer.insert("status".into(), taken.status().as_u16().into());
    answer.insert("bytes".into(), image.len().into());
    let body: Value = taken.body_mut().read_json()?;
    if let Value::Object(fields) = body {
        answer.extend(fields);
    }
    Ok(answer.into())
}

/// The events of a stream; returning early drops the connection.
fn events(reader: impl BufRead, leave: impl Fn(usize) -> bool) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    for line in reader.lines() {
        if leave(events.len()) {
            break;
        }
        let line = line?;
        if let Some(data) = line.strip_prefix("data: ") {
            events.push(serde_json::from_str(data).unwrap_or_else(|_| json!(data)));
        }
    }
    Ok(events)
}

/// The text that an event of any of the three kinds of streams brings.
fn piece(event: &Value) -> Option<&str> {
    let choice = &event["choices"][0];
    [&event["content"], &choice["text"], &choice["delta"]["content"]].into_iter().find_map(Value::as_str)
}

/// Values by name.
fn metrics(text: &str) -> Value {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let values = lines.filter_map(|line| line.rsplit_once(' ')).filter_map(|(name, value)| {
        let value: f64 = value.parse().ok()?;
        Some((name.to_owned(), value.into()))
    });
    Value::Object(values.collect())
}
