//! The requests of the benchmark, timed at the client.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// What a streamed completion took.
pub(super) struct Streamed {
    /// From the request to the first token.
    pub first_token: Duration,
    /// From the first token to the last.
    pub rest: Duration,
    /// Tokens received.
    pub tokens: usize,
    /// Prompt tokens that were not computed again.
    pub cached: u64,
}

/// Completes `prompt` greedily, as a stream.
pub(super) fn stream(url: &str, prompt: &[u32], predict: usize, slot: i64) -> Result<Streamed> {
    let body = json!({
        "prompt": prompt, "n_predict": predict, "id_slot": slot, "stream": true, "temperature": 0, "ignore_eos": true,
    });
    let start = Instant::now();
    let response = ureq::post(format!("{url}/completion")).send_json(body)?;
    let (mut first, mut last, mut tokens, mut cached) = (None, start, 0, 0);
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let event: Value = serde_json::from_str(data)?;
        ensure!(event.get("error").is_none(), "the server answered {event}");
        if event["stop"] == true {
            cached = event["timings"]["cache_n"].as_u64().unwrap_or(0);
        } else {
            tokens += 1;
            last = Instant::now();
            first.get_or_insert(last);
        }
    }
    let first = first.context("no token came")?;
    Ok(Streamed { first_token: first - start, rest: last - first, tokens, cached })
}

/// What a completion used and gave.
pub(super) struct Completed {
    /// Generated tokens.
    pub tokens: Vec<u32>,
    /// Prompt tokens that were not computed again.
    pub cached: usize,
    /// Prompt tokens that were.
    pub computed: usize,
    /// How long these took, by the server's clock.
    pub prompt_time: Duration,
}

/// Completes `prompt` greedily, in one answer; `more` has further fields.
pub(super) fn completed(url: &str, prompt: &[u32], predict: usize, more: &Value) -> Result<Completed> {
    let mut body = json!({
        "prompt": prompt, "n_predict": predict, "temperature": 0, "ignore_eos": true, "return_tokens": true,
    });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more.clone());
    }
    let answer: Value = ureq::post(format!("{url}/completion")).send_json(body)?.body_mut().read_json()?;
    let count = |name: &str| answer["timings"][name].as_u64().context("no timings in the answer");
    let milliseconds = answer["timings"]["prompt_ms"].as_f64().context("no timings in the answer")?;
    Ok(Completed {
        tokens: serde_json::from_value(answer["tokens"].clone()).context("no tokens in the answer")?,
        cached: count("cache_n")? as usize,
        computed: count("prompt_n")? as usize,
        prompt_time: Duration::from_secs_f64(milliseconds / 1e3),
    })
}

/// Completes a text greedily, in one answer.
pub(super) fn complete(url: &str, prompt: &str, predict: usize) -> Result<()> {
    let body = json!({ "prompt": prompt, "n_predict": predict, "temperature": 0, "cache_prompt": false });
    ureq::post(format!("{url}/completion")).send_json(body)?.body_mut().read_to_string()?;
    Ok(())
}

/// From the request to the answer of a chat that is one token long.
pub(super) fn chat(url: &str, message: &str) -> Result<Duration> {
    let body = json!({
        "messages": [{ "role": "user", "content": message }], "max_tokens": 1, "temperature": 0, "cache_prompt": false,
    });
    let start = Instant::now();
    ureq::post(format!("{url}/v1/chat/completions")).send_json(body)?.body_mut().read_to_string()?;
    Ok(start.elapsed())
}

/// Tokens of a text, with those that the model wants at a beginning if `special`.
pub(super) fn tokenize(url: &str, text: &str, special: bool) -> Result<Vec<u32>> {
    let mut response = ureq::post(format!("{url}/tokenize"))
        .send_json(json!({ "content": text, "add_special": special }))?;
    let answer: Value = response.body_mut().read_json()?;
    serde_json::from_value(answer["tokens"].clone()).context("no tokens in the answer")
}

/// Saves or restores a slot; the bytes moved and the time at the client.
pub(super) fn slot_file(url: &str, slot: u32, action: &str) -> Result<(u64, Duration)> {
    let start = Instant::now();
    let mut response = ureq::post(format!("{url}/slots/{slot}?action={action}"))
        .send_json(json!({ "filename": "bench" }))?;
    let answer: Value = response.body_mut().read_json()?;
    let bytes =
        answer["n_written"].as_u64().or(answer["n_read"].as_u64()).context("no byte count in the answer")?;
    Ok((bytes, start.elapsed()))
}
