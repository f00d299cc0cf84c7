//! `/v1/chat/completions`, `/apply-template`, `/v1/chat/completions/input_tokens`.

use serde_json::{Value, json};

use crate::harness::{Server, api_config, model};

fn chat(extra: &Value) -> Value {
    let mut body =
        json!({"messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 3});
    if let (Some(body), Some(extra)) = (body.as_object_mut(), extra.as_object()) {
        body.extend(extra.clone());
    }
    body
}

/// Always says `hahaha`, however long the prompt.
fn laughing() -> Server {
    let next = |prefix: &[reprise_gguf::TokenId]| {
        let h = reprise_engine::testing::letter(7);
        reprise_engine::testing::letter(if prefix.last() == Some(&h) { 0 } else { 7 })
    };
    Server::with(model().with_next(next), api_config())
}

/// Short enough for a slot of 64 tokens: the template spells every character in bytes.
const PROMPT: &str = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";

#[test]
fn answers_with_a_message() {
    let mut server = laughing();
    let answer = server.ask("/v1/chat/completions", &chat(&json!({})));
    assert_eq!(
        answer["choices"],
        json!([{"finish_reason": "length", "index": 0, "message": {"role": "assistant", "content": "hah"}}])
    );
    assert_eq!(answer["object"], "chat.completion");
    let counted = server.ask("/v1/chat/completions/input_tokens", &chat(&json!({})));
    assert_eq!(counted["object"], "response.input_tokens");
    assert_eq!(answer["usage"]["prompt_tokens"], counted["input_tokens"]);
}

#[test]
fn a_stream_opens_with_the_role() {
    let mut server = laughing();
    let (events, done) = server.post("/v1/chat/completions", &chat(&json!({"stream": true}))).events();
    assert!(done);
    let deltas: Vec<_> = events.iter().map(|event| event["choices"][0]["delta"].clone()).collect();
    assert_eq!(
        deltas,
        [
            json!({"role": "assistant", "content": null}),
            json!({"content": "h"}),
            json!({"content": "a"}),
            json!({"content": "h"}),
            json!({}),
        ]
    );
    let last = events.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert!(last.get("timings").is_some() && last.get("usage").is_none());
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk"));
}

#[test]
fn usage_is_a_chunk_of_its_own_and_covers_all_copies() {
    let mut server = laughing();
    let body = chat(&json!({"stream": true, "n": 2, "stream_options": {"include_usage": true}}));
    let (events, done) = server.post("/v1/chat/completions", &body).events();
    assert!(done);
    let with_usage: Vec<_> = events.iter().filter(|event| event.get("usage").is_some()).collect();
    assert_eq!(with_usage.len(), 1);
    let last = events.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(6)));
    assert!(last.get("timings").is_some());
    let ends = events.iter().filter(|event| event["choices"][0]["finish_reason"] == "length");
    assert_eq!(ends.count(), 2);
}

#[test]
fn probabilities_need_logprobs() {
    let mut server = laughing();
    let answer = server.ask("/v1/chat/completions", &chat(&json!({"logprobs": true, "top_logprobs": 1})));
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 3);
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 1);
    let answer = server.ask("/v1/chat/completions", &chat(&json!({"logprobs": false})));
    assert!(answer["choices"][0].get("logprobs").is_none());
}

#[test]
fn templates_are_applied_as_the_reference_applies_them() {
    let mut server = laughing();
    let mut prompt =
        |body: Value| server.ask("/apply-template", &body)["prompt"].as_str().unwrap().to_owned();
    let user = json!({"role": "user", "content": "hi"});
    assert_eq!(prompt(json!({"messages": [user]})), PROMPT);
    assert_eq!(
        prompt(json!({"messages": [user], "add_generation_prompt": false})),
        "<|im_start|>user\nhi<|im_end|>\n"
    );
    // A conversation that ends with the assistant's words goes on from them.
    let words = json!({"role": "assistant", "content": "b  "});
    assert_eq!(prompt(json!({"messages": [user, words]})), format!("{PROMPT}b  "));
    let asked =
        json!({"messages": [user, words], "continue_final_message": true, "add_generation_prompt": false});
    assert_eq!(prompt(asked), format!("{PROMPT}b  "));
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    assert_eq!(
        prompt(json!({"messages": [{"role": "user", "content": parts}], "add_generation_prompt": false})),
        "<|im_start|>user\na\nb<|im_end|>\n"
    );
}

#[test]
fn an_answer_can_be_held_to_a_schema() {
    let mut server = Server::new();
    for constraint in [
        json!({"response_format": {"type": "json_object"}}),
        json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}}),
        json!({"json_schema": {"type": "object"}}),
        json!({"grammar": "root ::= \"{\" [a-z]*"}),
    ] {
        let answer = server.ask("/v1/chat/completions", &chat(&constraint));
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        assert!(content.starts_with('{'), "{constraint}: {content}");
    }
    let free = json!({"response_format": {"type": "text"}});
    server.ask("/v1/chat/completions", &chat(&free));
}

#[test]
fn tools_are_rendered_and_do_not_disturb() {
    let mut server = laughing();
    let tools =
        json!([{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}]);
    for choice in [json!("auto"), json!("none"), json!("required"), json!({"type": "function"})] {
        let answer =
            server.ask("/v1/chat/completions", &chat(&json!({"tools": tools, "tool_choice": choice})));
        assert_eq!(answer["choices"][0]["message"]["content"], "hah");
    }
}
