//! `/v1/completions`.

use serde_json::json;

use crate::harness::{NOW, Server, api_config, ids, saying};

#[test]
fn answers_as_openai_does() {
    let mut server = Server::with(saying(3, "hello"), api_config());
    let body = json!({"prompt": ids("ab"), "temperature": 0, "max_tokens": 3, "model": "ignored"});
    let mut answer = server.ask("/v1/completions", &body);
    let id = answer["id"].take();
    let id = id.as_str().unwrap();
    assert!(id.starts_with("chatcmpl-") && id.len() == 41, "{id}");
    assert_eq!(
        answer["choices"],
        json!([{"text": "hel", "index": 0, "logprobs": null, "finish_reason": "length"}])
    );
    assert_eq!((&answer["object"], &answer["created"]), (&json!("text_completion"), &json!(NOW)));
    assert_eq!(answer["model"], "scripted.gguf");
    assert_eq!(
        answer["usage"],
        json!({
            "completion_tokens": 3, "prompt_tokens": 3, "total_tokens": 6,
            "prompt_tokens_details": {"cached_tokens": 0},
        })
    );
    assert_eq!(answer["timings"]["predicted_n"], 3);
}

#[test]
fn usage_covers_all_prompts_and_copies() {
    let mut server = Server::new();
    let body = json!({"prompt": [ids("aaaa"), ids("bb")], "n": 2, "max_tokens": 3, "ignore_eos": true});
    let answer = server.ask("/v1/completions", &body);
    assert_eq!(answer["choices"].as_array().unwrap().len(), 4);
    assert_eq!(answer["choices"][3]["index"], 3);
    // Prompts count once, texts each.
    assert_eq!(answer["usage"]["prompt_tokens"], 5 + 3);
    assert_eq!(answer["usage"]["completion_tokens"], 4 * 3);
    assert_eq!(answer["usage"]["total_tokens"], 20);
    let timings = &answer["timings"];
    assert_eq!(timings["predicted_n"], 12);
    assert_eq!(timings["prompt_n"].as_u64().unwrap() + timings["cache_n"].as_u64().unwrap(), 8);
}

#[test]
fn a_stream_ends_with_usage_and_done() {
    let mut server = Server::with(saying(3, "hi"), api_config());
    let body = json!({"prompt": ids("ab"), "temperature": 0, "stream": true, "logprobs": 1});
    let (events, done) = server.post("/v1/completions", &body).events();
    assert!(done);
    let texts: Vec<_> = events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(texts.concat(), "hi");
    let first = &events[0]["choices"][0];
    assert_eq!(first["logprobs"]["content"][0]["token"], "h");
    assert_eq!(first["finish_reason"], json!(null));
    assert!(events[0].get("usage").is_none());
    let last = events.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["usage"]["prompt_tokens"], 3);
    assert_eq!(last["timings"]["prompt_n"], 3);
    assert!(events.iter().all(|event| event["id"] == events[0]["id"]));
}

#[test]
fn verbose_carries_the_native_answer() {
    let mut server = Server::new();
    let body = json!({"prompt": ids("ab"), "max_tokens": 1, "verbose": true});
    assert_eq!(server.ask("/v1/completions", &body)["__verbose"]["tokens_evaluated"], 3);
    let native = server.ask("/completion", &body);
    assert!(native.get("__verbose").is_none());
}

#[test]
fn logprobs_are_openais_word_for_n_probs() {
    let mut server = Server::with(saying(3, "hi"), api_config());
    let body = json!({"prompt": ids("ab"), "temperature": 0, "logprobs": 2, "max_tokens": 1});
    let answer = server.ask("/v1/completions", &body);
    let content = &answer["choices"][0]["logprobs"]["content"];
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);
}
