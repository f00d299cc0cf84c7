//! Every kind of wrong request, with the status and the words of the reference.

use serde_json::json;

use crate::harness::{Server, ids};

/// `[body, message]`; a message that ends in `..` need only begin so.
const COMPLETIONS: [[&str; 2]; 58] = [
    ["[]", "[json.exception.type_error.304] cannot use at() with array"],
    ["5", "[json.exception.type_error.304] cannot use at() with number"],
    ["null", "[json.exception.type_error.304] cannot use at() with null"],
    ["{}", "[json.exception.out_of_range.403] key 'prompt' not found"],
    [r#"{"prompt":null}"#, "\"prompt\" elements must be a string, a list of tokens, .."],
    [r#"{"prompt":5}"#, "\"prompt\" elements must be a string, a list of tokens, .."],
    [r#"{"prompt":{}}"#, "\"prompt\" elements must be a string, a list of tokens, .."],
    [r#"{"prompt":[1.5]}"#, "\"prompt\" elements must be a string, a list of tokens, .."],
    [r#"{"prompt":[1,{"a":1}]}"#, "\"prompt\" elements must be a string, a list of tokens, .."],
    [r#"{"prompt":[]}"#, "\"prompt\" must not be empty"],
    [r#"{"prompt":["a",1,null]}"#, "[json.exception.type_error.302] type must be number, but is null"],
    [r#"{"prompt":[99999]}"#, "Prompt contains invalid tokens"],
    [r#"{"prompt":[-1]}"#, "Prompt contains invalid tokens"],
    [r#"{"prompt":[4294967297]}"#, "Prompt contains invalid tokens"],
    [
        r#"{"prompt":{"prompt_string":5}}"#,
        "[json.exception.type_error.302] type must be string, but is number",
    ],
    [
        r#"{"prompt":{"prompt_string":"a","multimodal_data":["x"]}}"#,
        "Multimodal data provided, but model does not ..",
    ],
    [
        r#"{"prompt":"a","n_predict":-2}"#,
        "Field 'n_predict': Value must be between -1 <= value <= 2147483647, but got -2",
    ],
    [
        r#"{"prompt":"a","max_tokens":4294967297}"#,
        "Field 'max_tokens': Value must be between -1 <= value <= 2147483647, but got 4294967297",
    ],
    [r#"{"prompt":"a","n_predict":1e300}"#, "Field 'n_predict': Value must be between .."],
    [
        r#"{"prompt":"a","n_predict":"x"}"#,
        "Field 'n_predict': [json.exception.type_error.302] type must be number, ..",
    ],
    [
        r#"{"prompt":"a","n_predict":[]}"#,
        "Field 'n_predict': [json.exception.type_error.302] type must be number, ..",
    ],
    [
        r#"{"prompt":"a","stream":1}"#,
        "Field 'stream': [json.exception.type_error.302] type must be boolean, ..",
    ],
    [
        r#"{"prompt":"a","stream_options":{"include_usage":5}}"#,
        "Field 'include_usage': [json.exception.type_error.302] type must be boolean, but is number",
    ],
    [r#"{"prompt":"a","temperature":"hot"}"#, "Field 'temperature': [json.exception.type_error.302] .."],
    [
        r#"{"prompt":"a","top_k":{}}"#,
        "Field 'top_k': [json.exception.type_error.302] type must be number, ..",
    ],
    [r#"{"prompt":"a","cache_prompt":"yes"}"#, "Field 'cache_prompt': [json.exception.type_error.302] .."],
    [r#"{"prompt":"a","return_tokens":0}"#, "Field 'return_tokens': .."],
    [r#"{"prompt":"a","return_progress":0}"#, "Field 'return_progress': .."],
    [r#"{"prompt":"a","timings_per_token":0}"#, "Field 'timings_per_token': .."],
    [r#"{"prompt":"a","post_sampling_probs":0}"#, "Field 'post_sampling_probs': .."],
    [
        r#"{"prompt":"a","ignore_eos":"x"}"#,
        "Field 'ignore_eos': [json.exception.type_error.302] type must be boolean, ..",
    ],
    [
        r#"{"prompt":"a","t_max_predict_ms":true}"#,
        "Field 't_max_predict_ms': [json.exception.type_error.302] ..",
    ],
    [
        r#"{"prompt":"a","t_max_predict_ms":-2}"#,
        "Field 't_max_predict_ms': Value must be between -1 <= value <= ..",
    ],
    [
        r#"{"prompt":"a","sse_ping_interval":-2}"#,
        "Field 'sse_ping_interval': Value must be between -1 <= value <= ..",
    ],
    [
        r#"{"prompt":"a","n_keep":-2}"#,
        "Field 'n_keep': Value must be between -1 <= value <= 2147483647, but got -2",
    ],
    [
        r#"{"prompt":"a","n_discard":-1}"#,
        "Field 'n_discard': Value must be between 0 <= value <= 2147483647, ..",
    ],
    [
        r#"{"prompt":"a","n_indent":-1}"#,
        "Field 'n_indent': Value must be between 0 <= value <= 2147483647, ..",
    ],
    [r#"{"prompt":"a","n_cache_reuse":-1}"#, "Field 'n_cache_reuse': Value must be between 0 <= .."],
    [r#"{"prompt":"a","n_cmpl":3}"#, "Field 'n_cmpl': Value must be between 1 <= value <= 2, but got 3"],
    [r#"{"prompt":"a","n":0}"#, "Field 'n': Value must be between 1 <= value <= 2, but got 0"],
    [r#"{"prompt":"a","repeat_last_n":-1}"#, "Field 'repeat_last_n': Value must be between 0 <= .."],
    [
        r#"{"prompt":"a","dry_penalty_last_n":-1}"#,
        "Field 'dry_penalty_last_n': Value must be between 0 <= ..",
    ],
    [
        r#"{"prompt":"a","dry_allowed_length":-1}"#,
        "Field 'dry_allowed_length': Value must be between 0 <= ..",
    ],
    [r#"{"prompt":"a","min_keep":-1}"#, "Field 'min_keep': Value must be between 0 <= .."],
    [
        r#"{"prompt":"a","adaptive_decay":1}"#,
        "Field 'adaptive_decay': Value must be between 0.000000 <= value <= 0.990000, but got 1.000000",
    ],
    [
        r#"{"prompt":"a","dry_sequence_breakers":5}"#,
        "Field 'dry_sequence_breakers': Error: dry_sequence_breakers must be a non-empty array of strings",
    ],
    [
        r#"{"prompt":"a","dry_base":"x"}"#,
        "Field 'dry_base': [json.exception.type_error.302] type must be number, ..",
    ],
    [r#"{"prompt":"a","seed":"x"}"#, "Field 'seed': [json.exception.type_error.302] type must be number, .."],
    [
        r#"{"prompt":"a","stop":[5]}"#,
        "Field 'stop': [json.exception.type_error.302] type must be string, but is number",
    ],
    [
        r#"{"prompt":"a","samplers":[1]}"#,
        "Field 'samplers': [json.exception.type_error.302] type must be string, ..",
    ],
    [
        r#"{"prompt":"a","samplers":["infill"]}"#,
        "Field 'samplers': the sampler 'infill' is not supported by this server",
    ],
    [
        r#"{"prompt":"a","lora":5}"#,
        "Field 'lora': Error: 'lora' must be an array of objects with 'id' and 'scale' fields",
    ],
    [r#"{"prompt":"a","reasoning_format":"x"}"#, "Field 'reasoning_format': Unknown reasoning format: x"],
    [
        r#"{"prompt":"a","grammar":5}"#,
        "Field 'grammar': [json.exception.type_error.302] type must be string, ..",
    ],
    [
        r#"{"prompt":"a","grammar_lazy":true}"#,
        "Field 'grammar_lazy': lazy grammars are not supported by this server",
    ],
    [r#"{"prompt":"a","grammar":"root ::= ("}"#, "Failed to initialize samplers: .."],
    [
        r#"{"prompt":"a","json_schema":5}"#,
        "Field 'json_schema': \"json_schema\": JSON schema error at #: schema must ..",
    ],
    [r#"{"prompt":"a","json_schema":{"type":"foo"}}"#, ".."],
];

const CHATS: [[&str; 2]; 21] = [
    ["{}", "'messages' is required"],
    ["5", "'messages' is required"],
    [r#"{"messages":5}"#, "Expected 'messages' to be an array"],
    [r#"{"messages":null}"#, "Expected 'messages' to be an array"],
    [r#"{"messages":[5]}"#, "All non-assistant messages must contain 'content'"],
    [r#"{"messages":[{"role":"user"}]}"#, "All non-assistant messages must contain 'content'"],
    [
        r#"{"messages":[{"role":"assistant"}]}"#,
        "Assistant message must contain either 'content' or 'tool_calls'!",
    ],
    [
        r#"{"messages":[{"content":"a"}]}"#,
        "Failed to parse messages: Missing 'role' in message: {\"content\":\"a\"}",
    ],
    [r#"{"messages":[{"role":5,"content":"a"}]}"#, "Failed to parse messages: .."],
    [r#"{"messages":[{"role":"user","content":5}]}"#, "Expected 'content' to be a string or an array"],
    [r#"{"messages":[{"role":"user","content":[{"type":"foo"}]}]}"#, "unsupported content[].type"],
    [r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#, "Failed to parse messages: .."],
    [r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#, "image input is not supported.."],
    [
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"assistant","content":"c"}]}"#,
        "Cannot have 2 or more assistant messages at the end of the list.",
    ],
    [
        r#"{"messages":[{"role":"user","content":"a"}],"continue_final_message":true}"#,
        "Cannot set both add_generation_prompt and continue_final_message to true.",
    ],
    [
        r#"{"messages":[{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f","arguments":"{}"}}]}]}"#,
        "Cannot continue an assistant message that contains tool calls.",
    ],
    [r#"{"messages":[],"tool_choice":"foo"}"#, "Invalid tool_choice: foo"],
    [r#"{"messages":[],"tools":5}"#, "Failed to parse tools: .."],
    [r#"{"messages":[],"top_logprobs":3}"#, "top_logprobs requires logprobs to be set to true"],
    [
        r#"{"messages":[],"response_format":{"type":"foo"}}"#,
        "response_format type must be one of \"text\" or \"json_object\", but got: foo",
    ],
    [
        r#"{"messages":[],"json_schema":{"type":"object"},"grammar":"x"}"#,
        "Cannot use both json_schema and grammar",
    ],
];

fn check(path: &str, cases: &[[&str; 2]]) {
    let mut server = Server::new();
    for [body, expected] in cases {
        let message = server.raw(path, (*body).to_owned()).error(400, "invalid_request_error");
        let fits = match expected.strip_suffix("..") {
            Some(beginning) => message.starts_with(beginning),
            None => message == *expected,
        };
        assert!(fits, "{body}\n expected {expected}\n    found {message}");
    }
    // Nothing of all this has hurt the server.
    server.ask("/completion", &json!({"prompt": "a", "n_predict": 1}));
}

#[test]
fn completions() {
    check("/completion", &COMPLETIONS);
    check("/v1/completions", &COMPLETIONS);
}

#[test]
fn chats() {
    check("/v1/chat/completions", &CHATS);
    check("/apply-template", &CHATS);
    check("/v1/chat/completions/input_tokens", &CHATS);
}

#[test]
fn bodies_that_are_no_json() {
    let mut server = Server::new();
    let deep = "[".repeat(100_000);
    for path in ["/completion", "/v1/chat/completions", "/tokenize", "/detokenize", "/slots/0?action=save"] {
        let empty = server.raw(path, "").error(400, "invalid_request_error");
        assert_eq!(
            empty,
            "[json.exception.parse_error.101] parse error at line 1, column 1: attempting to parse an empty input; check \
             that your input string or stream contains the expected JSON"
        );
        let bad: [&[u8]; 7] = [
            b"{",
            b"{\"prompt\":\"a\",}",
            b"{\"a\":1}{",
            b"{\"prompt\":\"\xff\"}",
            br#"{"prompt":"\ud800"}"#,
            b"nul",
            deep.as_bytes(),
        ];
        for body in bad {
            let message = server.raw(path, body.to_vec()).error(400, "invalid_request_error");
            assert!(
                message.starts_with("[json.exception.parse_error.101] parse error at line 1, column "),
                "{message}"
            );
        }
        let message =
            server.raw(path, r#"{"prompt":"a","n_predict":1e400}"#).error(400, "invalid_request_error");
        assert!(message.starts_with("[json.exception.out_of_range.406] number overflow"), "{message}");
    }
}

#[test]
fn tokens_that_are_none() {
    let mut server = Server::new();
    let mut message = |path: &str, body| server.post(path, &body).error(400, "invalid_request_error");
    assert_eq!(
        message("/tokenize", json!({"content": 5})),
        "[json.exception.type_error.302] type must be string, but is number"
    );
    assert_eq!(
        message("/tokenize", json!({"content": null})),
        "[json.exception.type_error.302] type must be string, but is null"
    );
    assert_eq!(
        message("/tokenize", json!({"content": [null]})),
        "[json.exception.type_error.302] type must be number, but is null"
    );
    assert_eq!(
        message("/detokenize", json!({"tokens": 5})),
        "[json.exception.type_error.302] type must be array, but is number"
    );
    assert_eq!(
        message("/detokenize", json!({"tokens": ["a"]})),
        "[json.exception.type_error.302] type must be number, but is string"
    );
    assert_eq!(message("/detokenize", json!({"tokens": [99999]})), "Prompt contains invalid tokens");
}

#[test]
fn one_bad_prompt_fails_the_request() {
    let mut server = Server::new();
    let body = json!({"prompt": ["a", ids(&"b".repeat(80)), "c"], "n_predict": 1});
    server.post("/completion", &body).error(400, "exceed_context_size_error");
    let body = json!({"prompt": ["a", [99999]], "n_predict": 1});
    server.post("/completion", &body).error(400, "invalid_request_error");
    assert!(
        server.get("/slots").json().as_array().unwrap().iter().all(|slot| slot["is_processing"] == false)
    );
}
