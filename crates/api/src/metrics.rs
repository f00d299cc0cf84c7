//! Stage 2: `GET /metrics`, in Prometheus' text format and with llama-server's names.

use std::fmt::{Display, Write};
use std::sync::PoisonError;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use reprise_engine::{BlockStoreStats, Metrics};

use crate::ApiError;
use crate::auth::Caller;

/// `GET /metrics`.
pub(crate) async fn metrics(Caller(api): Caller) -> Result<Response, ApiError> {
    if !api.config.endpoints.metrics {
        return Err(ApiError::NotSupported(
            "This server does not support metrics endpoint. Start it with `--metrics`".to_owned(),
        ));
    }
    let now = api.engine.metrics().await?;
    // A scrape that panicked left a whole value behind: it is replaced in one step.
    let before =
        std::mem::replace(&mut *api.scraped.lock().unwrap_or_else(PoisonError::into_inner), now.clone());
    let mut response = Response::new(Body::from(render(&now, &before)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    headers.insert(HeaderName::from_static("process-start-time-unix"), HeaderValue::from(api.started));
    Ok(response)
}

/// The counters as text; the two speeds are averages since the scrape `before`.
fn render(now: &Metrics, before: &Metrics) -> String {
    let prompt = (now.prompt_tokens - before.prompt_tokens.min(now.prompt_tokens)) as f64;
    let predicted = (now.predicted_steps - before.predicted_steps.min(now.predicted_steps)) as f64;
    let prompt_time = now.prompt_time.saturating_sub(before.prompt_time);
    let predicted_time = now.predicted_time.saturating_sub(before.predicted_time);
    let speculation = &now.speculation;
    let counters = [
        (
            "prompt_tokens_total",
            "Prompt tokens evaluated, without those from the cache",
            now.prompt_tokens as f64,
        ),
        ("prompt_tokens_cached_total", "Prompt tokens taken from the cache", now.prompt_tokens_cached as f64),
        ("prompt_seconds_total", "Time spent on prompts", now.prompt_time.as_secs_f64()),
        ("tokens_predicted_total", "Tokens generated", now.predicted_tokens as f64),
        ("tokens_predicted_seconds_total", "Time spent on generation", now.predicted_time.as_secs_f64()),
        ("n_decode_total", "Forward passes", now.decodes as f64),
        ("n_tokens_max", "Most tokens that a slot ever held", now.tokens_max as f64),
        ("spec_decode_num_draft_tokens_total", "Tokens drafted", speculation.drafted as f64),
        (
            "spec_decode_num_accepted_tokens_total",
            "Drafted tokens that the model accepted",
            speculation.accepted as f64,
        ),
        ("spec_decode_num_drafts_total", "Drafts that were verified", speculation.drafts as f64),
    ];
    let gauges = [
        (
            "prompt_tokens_seconds",
            "Prompt tokens per second since the last scrape",
            rate(prompt, prompt_time),
        ),
        (
            "predicted_tokens_seconds",
            "Tokens per second since the last scrape",
            rate(predicted, predicted_time),
        ),
        ("requests_processing", "Requests in a slot", now.processing.into()),
        ("requests_deferred", "Requests waiting for a slot", now.deferred.into()),
        (
            "n_busy_slots_per_decode",
            "Slots per forward pass",
            now.busy_slots as f64 / now.decodes.max(1) as f64,
        ),
    ];
    let mut text = String::new();
    for (kind, items) in [("counter", &counters[..]), ("gauge", &gauges[..])] {
        for (name, help, value) in items {
            item(&mut text, "llamacpp", kind, name, help, value);
        }
    }
    accepted_at(&speculation.accepted_at, &mut text);
    let help = "Blocks of 32 tokens in memory, shared ones counted once";
    item(&mut text, OWN, "gauge", "kv_blocks_used", help, &now.kv_blocks);
    if let Some(stored) = &now.stored {
        blocks(stored, &mut text);
    }
    text
}

/// In front of the names of what llama-server does not have.
const OWN: &str = "reprise";

fn item(text: &mut String, prefix: &str, kind: &str, name: &str, help: &str, value: &impl Display) {
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "# HELP {prefix}:{name} {help}\n# TYPE {prefix}:{name} {kind}\n{prefix}:{name} {value}\n"
    );
}

/// The prompt cache on disk.
fn blocks(stored: &BlockStoreStats, text: &mut String) {
    let items = [
        ("gauge", "cache_disk_blocks", "Blocks of the prompt cache on disk", stored.blocks),
        ("gauge", "cache_disk_bytes", "Bytes of these", stored.bytes),
        ("counter", "cache_disk_dropped_total", "Blocks that could not be written", stored.dropped),
        ("counter", "cache_disk_damaged_total", "Blocks that turned out to be damaged", stored.damaged),
    ];
    for (kind, name, help, value) in items {
        item(text, OWN, kind, name, help, &value);
    }
}

/// Accepted tokens by their place in the draft; nothing before there was one.
fn accepted_at(counts: &[u64], text: &mut String) {
    const NAME: &str = "llamacpp:spec_decode_num_accepted_tokens_per_pos_total";
    if counts.is_empty() {
        return;
    }
    let _ =
        write!(text, "# HELP {NAME} Accepted tokens by their place in the draft\n# TYPE {NAME} counter\n");
    for (position, count) in counts.iter().enumerate() {
        let _ = writeln!(text, "{NAME}{{position=\"{position}\"}} {count}");
    }
}

fn rate(count: f64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count / time.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use reprise_engine::Speculated;

    use super::*;

    fn value(text: &str, name: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("llamacpp:{name} ")));
        line.expect(name).parse().expect(name)
    }

    #[test]
    fn counters_are_totals_and_speeds_are_since_the_last_scrape() {
        let before = Metrics {
            prompt_tokens: 100,
            prompt_time: Duration::from_secs(1),
            predicted_steps: 10,
            predicted_time: Duration::from_secs(1),
            ..Metrics::default()
        };
        let now = Metrics {
            prompt_tokens: 300,
            prompt_time: Duration::from_secs(2),
            predicted_tokens: 31,
            predicted_steps: 30,
            predicted_time: Duration::from_secs(3),
            decodes: 4,
            busy_slots: 6,
            ..Metrics::default()
        };
        let text = render(&now, &before);
        assert_eq!(value(&text, "prompt_tokens_total"), 300.0);
        assert_eq!(value(&text, "tokens_predicted_total"), 31.0);
        assert_eq!(value(&text, "prompt_tokens_seconds"), 200.0);
        assert_eq!(value(&text, "predicted_tokens_seconds"), 10.0);
        assert_eq!(value(&text, "n_busy_slots_per_decode"), 1.5);
        assert!(text.contains("# TYPE llamacpp:prompt_seconds_total counter\n"));
        assert!(text.contains("# TYPE llamacpp:requests_deferred gauge\n"));
    }

    #[test]
    fn accepted_tokens_are_counted_by_their_place() {
        let speculation = Speculated { drafts: 2, drafted: 4, accepted: 3, accepted_at: vec![2, 1] };
        let text = render(&Metrics { speculation, ..Metrics::default() }, &Metrics::default());
        assert_eq!(value(&text, "spec_decode_num_draft_tokens_total"), 4.0);
        assert_eq!(value(&text, "spec_decode_num_accepted_tokens_total"), 3.0);
        assert_eq!(value(&text, "spec_decode_num_drafts_total"), 2.0);
        let name = "spec_decode_num_accepted_tokens_per_pos_total";
        let at = |position| value(&text, &format!("{name}{{position=\"{position}\"}}"));
        assert_eq!((at(0), at(1)), (2.0, 1.0));
        assert!(!render(&Metrics::default(), &Metrics::default()).contains(name));
    }

    #[test]
    fn the_cache_on_disk_is_told_of_where_there_is_one() {
        let stored = BlockStoreStats { blocks: 3, bytes: 99, budget: None, dropped: 1, damaged: 2 };
        let text = render(&Metrics { stored: Some(stored), ..Metrics::default() }, &Metrics::default());
        for line in [
            "cache_disk_blocks 3",
            "cache_disk_bytes 99",
            "cache_disk_dropped_total 1",
            "cache_disk_damaged_total 2",
        ] {
            assert!(text.contains(&format!("\nreprise:{line}\n")), "{line}");
        }
        assert!(!render(&Metrics::default(), &Metrics::default()).contains("cache_disk"));
    }

    #[test]
    fn a_fresh_server_has_no_speed() {
        let text = render(&Metrics::default(), &Metrics::default());
        assert_eq!(value(&text, "predicted_tokens_seconds"), 0.0);
        assert_eq!(value(&text, "n_busy_slots_per_decode"), 0.0);
    }
}
