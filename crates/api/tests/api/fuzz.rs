//! Valid requests with something changed in them: never a panic, always JSON or a stream.

use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::{Value, json};

use crate::harness::{Server, api_config, ids, model};
use reprise_api::Pooling;

/// Every field of a completion.
const COMPLETION: &str = r#"{
    "prompt": ["a", [1, 260], [1, "b"], {"prompt_string": "c"}], "n_predict": 2, "stream": false, "n_cmpl": 1,
    "stream_options": {"include_usage": true}, "cache_prompt": true, "return_tokens": true, "return_progress": true,
    "sse_ping_interval": 1, "n_indent": 1, "n_keep": 1, "n_discard": 1, "n_cache_reuse": 1, "t_max_predict_ms": 9,
    "response_fields": ["content", "timings/cache_n"], "top_k": 5, "top_p": 0.9, "min_p": 0.1, "top_n_sigma": 1.0,
    "xtc_probability": 0.5, "xtc_threshold": 0.1, "typical_p": 0.9, "temperature": 0.7, "dynatemp_range": 0.5,
    "dynatemp_exponent": 1.5, "repeat_last_n": 8, "repeat_penalty": 1.1, "frequency_penalty": 0.1,
    "presence_penalty": 0.1, "dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": 16,
    "dry_sequence_breakers": ["\n", ":"], "mirostat": 1, "mirostat_tau": 5.0, "mirostat_eta": 0.1,
    "adaptive_target": -1, "adaptive_decay": 0.9, "seed": 1, "n_probs": 2, "min_keep": 1, "post_sampling_probs": false,
    "logit_bias": [[259, 1.0], ["x", false]], "ignore_eos": false, "stop": ["zz", "q"],
    "samplers": ["top_k", "temperature"], "id_slot": 1, "verbose": true, "timings_per_token": true
}"#;

/// Requests to begin with.
fn seeds() -> Vec<(&'static str, Value)> {
    let completion: Value = serde_json::from_str(COMPLETION).expect("JSON");
    let chat = json!({
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "u"}]},
        ],
        "max_tokens": 1, "temperature": 0.5, "logprobs": true, "top_logprobs": 2, "stream": true, "n": 1,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "tool_choice": "auto",
        "response_format": {"type": "text"}, "chat_template_kwargs": {"a": 1}, "reasoning_effort": "low",
        "add_generation_prompt": true, "continue_final_message": false,
    });
    vec![
        ("/completion", completion.clone()),
        ("/v1/completions", completion),
        ("/v1/chat/completions", chat.clone()),
        ("/apply-template", chat.clone()),
        ("/v1/chat/completions/input_tokens", chat),
        ("/completion", json!({"prompt": ids("ab"), "grammar": "root ::= [a-z]+", "n_predict": 2})),
        (
            "/completion",
            json!({"prompt": "x", "json_schema": {"type": "object", "properties": {"a": {}}}, "n_predict": 2}),
        ),
        (
            "/tokenize",
            json!({"content": ["a", 5], "add_special": true, "parse_special": true, "with_pieces": true}),
        ),
        ("/detokenize", json!({"tokens": [1, 259]})),
        ("/embedding", json!({"content": ["a", [1, 260]], "embd_normalize": 2})),
        (
            "/v1/embeddings",
            json!({"input": ["a", {"content": [{"type": "text", "text": "x"}]}], "encoding_format": "base64"}),
        ),
        (
            "/infill",
            json!({"input_prefix": "a", "input_suffix": "b", "input_extra": [{"text": "t", "filename": "f"}]}),
        ),
        ("/slots/0?action=save", json!({"filename": "a.bin"})),
        ("/slots/1?action=restore", json!({"filename": "a.bin"})),
        ("/slots/7?action=erase", json!({})),
    ]
}

/// Values that have hurt servers before.
fn hostile() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(2_147_483_648_i64),
        json!(1e300),
        json!(-0.5),
        json!(""),
        json!("\u{0}"),
        json!("\u{feff}é☃\u{1F600}"),
        json!("x".repeat(300)),
        json!([]),
        json!({}),
        json!([[]]),
        json!([null]),
        json!([1, "a", null]),
        json!({"": ""}),
        json!({"type": {"type": []}}),
        json!("../../etc/passwd"),
    ]
}

/// Puts `with` at the `at`-th place of a value, counted through all its depths.
fn replace(value: &mut Value, at: &mut usize, with: &Value) -> bool {
    if *at == 0 {
        *value = with.clone();
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| replace(item, at, with)),
        Value::Object(fields) => fields.values_mut().any(|item| replace(item, at, with)),
        _ => false,
    }
}

fn places(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(places).sum(),
        Value::Object(fields) => fields.values().map(places).sum(),
        _ => 0,
    }
}

fn server() -> Server {
    let mut config = api_config();
    config.endpoints.embeddings = Some(Pooling::Mean);
    Server::with(model(), config)
}

/// Sends bytes and checks that the answer is one.
fn probe(server: &mut Server, path: &str, body: Vec<u8>) -> Result<(), TestCaseError> {
    let reply = server.raw(path, body);
    if reply.header("content-type") == "text/event-stream" {
        let whole = reply.text.lines().all(is_event_line);
        prop_assert!(whole, "{}", reply.text);
        return Ok(());
    }
    prop_assert!(matches!(reply.status.as_u16(), 200 | 400 | 501), "{path}: {} {}", reply.status, reply.text);
    let value: Value = serde_json::from_str(&reply.text).expect("JSON");
    prop_assert_eq!(reply.status.as_u16() != 200, value.get("error").is_some());
    Ok(())
}

fn is_event_line(line: &str) -> bool {
    let data = line.strip_prefix("data: ");
    matches!(line, "" | ":" | "data: [DONE]")
        || data.is_some_and(|data| serde_json::from_str::<Value>(data).is_ok())
}

#[test]
fn changed_values() {
    let (seeds, hostile) = (seeds(), hostile());
    let change = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let changes = prop::collection::vec(change, 1..4);
    let mut runner = proptest::test_runner::TestRunner::new(Config::with_cases(4000));
    let server = std::cell::RefCell::new(server());
    let strategy = (any::<prop::sample::Index>(), changes);
    runner
        .run(&strategy, |(seed, changes)| {
            let (path, mut body) = seed.get(&seeds).clone();
            for (at, with) in changes {
                let mut at = at.index(places(&body));
                replace(&mut body, &mut at, with.get(&hostile));
            }
            probe(&mut server.borrow_mut(), path, body.to_string().into_bytes())
        })
        .unwrap();
}

#[test]
fn changed_bytes() {
    let seeds = seeds();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let strategy = (any::<prop::sample::Index>(), changes, any::<prop::sample::Index>());
    let mut runner = proptest::test_runner::TestRunner::new(Config::with_cases(4000));
    let server = std::cell::RefCell::new(server());
    runner
        .run(&strategy, |(seed, changes, cut)| {
            let (path, body) = seed.get(&seeds).clone();
            let mut bytes = body.to_string().into_bytes();
            if changes.is_empty() {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            probe(&mut server.borrow_mut(), path, bytes)
        })
        .unwrap();
}
