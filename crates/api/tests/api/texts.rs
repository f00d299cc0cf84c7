//! `/tokenize`, `/detokenize`, `/embedding`, `/v1/embeddings`, `/infill`.

use futures::executor::block_on;
use reprise_api::Pooling;
use reprise_engine::testing::VOCAB;
use reprise_gguf::build::GgufBuilder;
use reprise_gguf::{Gguf, MemorySource};
use reprise_text::Text;
use serde_json::{Value, json};

use crate::harness::{Server, api_config, ids, model};

#[test]
fn texts_become_tokens_and_texts_again() {
    let mut server = Server::new();
    let tokens = server.ask("/tokenize", &json!({"content": "abc", "add_special": true}))["tokens"].take();
    assert_eq!(tokens[0], 1);
    let plain = server.ask("/tokenize", &json!({"content": "abc"}))["tokens"].take();
    assert_eq!(plain.as_array().unwrap()[..], tokens.as_array().unwrap()[1..]);
    let text = server.ask("/detokenize", &json!({"tokens": tokens}));
    assert_eq!(text["content"].as_str().unwrap().replace(' ', ""), "<s>abc");
    let mixed = server.ask("/tokenize", &json!({"content": [1, "</s>", 5]}))["tokens"].take();
    assert_eq!(mixed, json!([1, 2, 5]));
}

#[test]
fn pieces_are_text_or_bytes() {
    let mut server = Server::new();
    let answer = server.ask("/tokenize", &json!({"content": [259, 229], "with_pieces": true}));
    assert_eq!(answer["tokens"], json!([{"id": 259, "piece": "a"}, {"id": 229, "piece": [226]}]));
}

#[test]
fn what_is_left_out_is_empty() {
    let mut server = Server::new();
    assert_eq!(server.ask("/tokenize", &json!({})), json!({"tokens": []}));
    assert_eq!(server.ask("/tokenize", &json!([])), json!({"tokens": []}));
    assert_eq!(server.ask("/detokenize", &json!({})), json!({"content": ""}));
}

fn embedder(pooling: Option<Pooling>) -> Server {
    let mut config = api_config();
    config.endpoints.embeddings = pooling;
    Server::with(model(), config)
}

/// The scripted model's hidden state of a token is the token and its position.
#[test]
fn embeddings_in_the_reference_form() {
    let mut server = embedder(Some(Pooling::None));
    let answer = server.ask("/embedding", &json!({"content": ids("a")}));
    assert_eq!(answer, json!([{"index": 0, "embedding": [[1.0, 0.0], [259.0, 1.0]]}]));
    let mut server = embedder(Some(Pooling::Mean));
    let answer = server.ask("/embeddings", &json!({"content": [ids("a"), ids("b")], "embd_normalize": -1}));
    assert_eq!(
        answer,
        json!([{"index": 0, "embedding": [[130.0, 0.5]]}, {"index": 1, "embedding": [[130.5, 0.5]]}])
    );
}

#[test]
fn embeddings_in_openais_form() {
    let mut server = embedder(Some(Pooling::Cls));
    let answer = server.ask("/v1/embeddings", &json!({"input": [ids("abc"), "x"], "model": "m"}));
    assert_eq!((&answer["model"], &answer["object"]), (&json!("m"), &json!("list")));
    assert_eq!(answer["data"][0], json!({"embedding": [1.0, 0.0], "index": 0, "object": "embedding"}));
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    let tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens > 4 && answer["usage"]["total_tokens"] == tokens);
    let parts = json!({"input": {"content": [{"type": "text", "text": "x"}]}, "encoding_format": "base64"});
    let answer = server.ask("/v1/embeddings", &parts);
    assert_eq!(answer["data"][0]["embedding"], "AACAPwAAAAA=");
    // `content` is not OpenAI's: the answer is the reference's own form.
    assert!(server.ask("/v1/embeddings", &json!({"content": "x"})).is_array());
}

#[test]
fn wrong_embedding_requests_say_why() {
    let mut server = embedder(Some(Pooling::Mean));
    let mut message = |body: Value| server.post("/v1/embeddings", &body).error(400, "invalid_request_error");
    assert_eq!(message(json!({})), "\"input\" or \"content\" must be provided");
    assert_eq!(message(json!({"input": []})), "\"input\" must not be empty");
    assert_eq!(message(json!({"input": [[]]})), "Input content cannot be empty");
    assert_eq!(message(json!({"input": [99999]})), "Prompt contains invalid tokens");
    assert!(message(json!({"input": 5})).starts_with("\"prompt\" elements must be"));
    assert!(message(json!({"input": "x", "encoding_format": "x"})).starts_with("The format to return"));
    assert!(message(json!({"input": "x", "encoding_format": 5})).contains("type must be string"));
    assert!(message(json!({"input": "x", "embd_normalize": "x"})).contains("type must be number"));
    let long = server.post("/v1/embeddings", &json!({"input": ids(&"a".repeat(80))}));
    long.error(400, "exceed_context_size_error");
    let mut server = embedder(Some(Pooling::None));
    let reply = server.post("/v1/embeddings", &json!({"input": "x"}));
    assert!(reply.error(400, "invalid_request_error").starts_with("Pooling type 'none'"));
    let mut server = embedder(None);
    for path in ["/embedding", "/embeddings", "/v1/embeddings"] {
        let message = server.post(path, &json!({})).error(501, "not_supported_error");
        assert_eq!(message, "This server does not support embeddings. Start it with `--embeddings`");
    }
}

#[test]
fn infill_needs_its_tokens() {
    let mut server = Server::new();
    assert_eq!(
        server.raw("/infill", "{}").error(501, "not_supported_error"),
        "Infill is not supported by this model: prefix token is missing. suffix token is missing. middle token is \
         missing. "
    );
}

/// A vocabulary of the scripted model's size whose tokens are called `t0`, `t1`, ...; 10 to 14 are for infilling.
fn infill_text() -> Text {
    let file = GgufBuilder::new("llama")
        .string("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", (0..VOCAB).map(|id| format!("t{id}")))
        .f32s("tokenizer.ggml.scores", [0.0; VOCAB])
        .i32s("tokenizer.ggml.token_type", [1; VOCAB])
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .u32("tokenizer.ggml.fim_pre_token_id", 10)
        .u32("tokenizer.ggml.fim_suf_token_id", 11)
        .u32("tokenizer.ggml.fim_mid_token_id", 12)
        .to_bytes()
        .expect("metadata can be written");
    let file = block_on(Gguf::open(&MemorySource(file.into()))).expect("what was written can be read");
    Text::from_metadata(&file.metadata).expect("the vocabulary is complete")
}

#[test]
fn infill_puts_the_gap_at_the_end() {
    let mut server = Server::with_text(model(), infill_text(), api_config());
    let prompt = |server: &mut Server, extra: &Value| {
        let mut body = json!({"input_prefix": [31, 32], "input_suffix": [41, 42], "n_predict": 0});
        if let (Some(body), Some(extra)) = (body.as_object_mut(), extra.as_object()) {
            body.extend(extra.clone());
        }
        server.ask("/infill", &body)["prompt"].as_str().expect("text").to_owned()
    };
    assert_eq!(prompt(&mut server, &json!({})), "t1t10t31t32t11t41t42t12");
    // With a batch of 16, twelve tokens of the prefix are kept, its last ones, and two of the suffix, its first ones.
    let long: Vec<_> = (100..130).collect();
    let cut = prompt(&mut server, &json!({"input_prefix": long, "input_suffix": long}));
    assert_eq!(cut, "t1t10t118t119t120t121t122t123t124t125t126t127t128t129t11t100t101t12");
    let mut config = api_config();
    config.defaults.suffix_first = true;
    let mut server = Server::with_text(model(), infill_text(), config);
    assert_eq!(prompt(&mut server, &json!({})), "t1t11t41t42t10t31t32t12");
}

#[test]
fn wrong_infill_requests_say_why() {
    let mut server = Server::with_text(model(), infill_text(), api_config());
    let mut message = |body: Value| server.post("/infill", &body).error(400, "invalid_request_error");
    assert_eq!(message(json!({"input_suffix": "b"})), "\"input_prefix\" is required");
    assert_eq!(message(json!({"input_prefix": "a"})), "\"input_suffix\" is required");
    let with = |name: &str, value: Value| json!({"input_prefix": [31], "input_suffix": [41], name: value});
    assert_eq!(message(with("prompt", json!(5))), "\"prompt\" must be a string");
    assert!(message(with("input_extra", json!(5))).starts_with("\"input_extra\" must be an array"));
    assert!(
        message(with("input_extra", json!([{}]))).starts_with("extra_context chunk must contain a \"text\"")
    );
    assert!(message(with("input_extra", json!([{"text": "t", "filename": 5}]))).contains("must be a string"));
}
