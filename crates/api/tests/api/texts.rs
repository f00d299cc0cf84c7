//! `/tokenize`, `/detokenize`, `/embedding`, `/v1/embeddings`, `/infill`.

use reprise_api::Pooling;
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
