//! Server-sent events of `/completion`, and what happens when a stream fails or is left.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Server, api_config, ids, model, request, saying};

fn content(events: &[Value]) -> String {
    events.iter().map(|event| event["content"].as_str().expect("text")).collect()
}

#[test]
fn a_stream_has_a_chunk_a_token_and_an_end() {
    let mut server = Server::with(saying(4, "hello"), api_config());
    let body = json!({"prompt": ids("abc"), "temperature": 0, "stream": true, "n_predict": 3});
    let reply = server.post("/completion", &body);
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("content-type"), "text/event-stream");
    assert_eq!(reply.header("x-accel-buffering"), "no");
    let (events, done) = reply.events();
    assert!(!done);
    assert_eq!(events.len(), 4);
    assert_eq!(
        events[0],
        json!({
            "index": 0, "content": "h", "tokens": [266], "stop": false, "id_slot": -1,
            "tokens_predicted": 1, "tokens_evaluated": 4,
        })
    );
    assert_eq!(content(&events), "hel");
    let last = &events[3];
    assert_eq!((&last["stop"], &last["content"], &last["tokens"]), (&json!(true), &json!(""), &json!([])));
    assert_eq!(last["timings"]["predicted_n"], 3);
    assert_eq!(last["generation_settings"]["stream"], true);
}

#[test]
fn held_back_text_is_not_lost() {
    let mut server = Server::with(saying(2, "ab st"), api_config());
    let body =
        json!({"prompt": ids("q"), "temperature": 0, "stream": true, "stop": ["stop"], "n_predict": 5});
    let (events, _) = server.post("/completion", &body).events();
    assert_eq!(content(&events), "ab st");
    assert_eq!(events.last().unwrap()["stop_type"], "limit");
}

#[test]
fn a_stop_string_is_never_sent() {
    let mut server = Server::with(saying(2, "ab stop cd"), api_config());
    let body = json!({"prompt": ids("q"), "temperature": 0, "stream": true, "stop": ["stop"]});
    let (events, _) = server.post("/completion", &body).events();
    assert_eq!(content(&events), "ab ");
    assert_eq!(events.last().unwrap()["stopping_word"], "stop");
}

#[test]
fn progress_and_timings_on_request() {
    let mut server = Server::new();
    let prompt = ids(&"ab".repeat(14));
    let body = json!({"prompt": prompt, "n_predict": 2, "stream": true, "return_progress": true, "timings_per_token": true});
    let (events, _) = server.post("/completion", &body).events();
    let progress: Vec<_> = events.iter().filter_map(|event| event.get("prompt_progress")).collect();
    assert_eq!(progress[0]["processed"], 0);
    assert_eq!(progress.last().unwrap()["processed"], 29);
    assert!(progress.iter().all(|progress| progress["total"] == 29 && progress["cache"] == 0));
    assert_eq!((&events[0]["content"], &events[0]["tokens"]), (&json!(""), &json!([0])));
    assert!(events.iter().all(|event| event.get("timings").is_some()));
}

#[test]
fn probabilities_go_with_their_token() {
    let mut server = Server::with(saying(2, "xy"), api_config());
    let body = json!({"prompt": ids("a"), "temperature": 0, "stream": true, "n_probs": 1, "n_predict": 2});
    let (events, _) = server.post("/completion", &body).events();
    assert_eq!(events[0]["completion_probabilities"][0]["token"], "x");
    assert_eq!(events[1]["completion_probabilities"].as_array().unwrap().len(), 1);
    assert!(events[2].get("completion_probabilities").is_none());
}

#[test]
fn only_the_last_chunk_is_cut_down() {
    let mut server = Server::new();
    let body = json!({"prompt": "a", "n_predict": 1, "stream": true, "response_fields": ["stop_type"], "ignore_eos": true});
    let (events, _) = server.post("/completion", &body).events();
    assert_eq!(events.last(), Some(&json!({"stop_type": "limit"})));
    assert!(events[0].get("content").is_some());
}

#[test]
fn several_prompts_share_a_stream() {
    let mut server = Server::new();
    let body = json!({"prompt": ["a", "b", "c"], "n_predict": 2, "stream": true, "ignore_eos": true});
    let (events, _) = server.post("/completion", &body).events();
    for index in 0..3 {
        let own: Vec<_> = events.iter().filter(|event| event["index"] == index).collect();
        assert_eq!(own.len(), 3);
        assert_eq!(own[2]["stop"], true);
    }
}

#[test]
fn an_error_before_the_first_result_is_an_ordinary_error() {
    let mut server = Server::new();
    for stream in [false, true] {
        let body = json!({"prompt": ids(&"a".repeat(63)), "stream": stream});
        let reply = server.post("/completion", &body);
        let message = reply.error(400, "exceed_context_size_error");
        assert_eq!(
            message,
            "request (64 tokens) exceeds the available context size (64 tokens), try increasing it"
        );
        let error = &reply.json()["error"];
        assert_eq!((&error["n_prompt_tokens"], &error["n_ctx"]), (&json!(64), &json!(64)));
    }
}

#[test]
fn an_error_later_is_the_last_event() {
    let model = model();
    let controls = model.controls();
    // The third pass of a short prompt with three tokens to come.
    let mut server = Server::with(
        model.with_next(move |prefix| {
            if prefix.len() == 4 {
                controls.fail_next(1);
            }
            reprise_engine::testing::letter(0)
        }),
        api_config(),
    );
    for path in ["/completion", "/v1/completions"] {
        let body = json!({"prompt": ids("ab"), "n_predict": 9, "stream": true, "cache_prompt": false});
        let (events, done) = server.post(path, &body).events();
        assert!(!done);
        let error = &events.last().unwrap()["error"];
        assert_eq!((&error["code"], &error["type"]), (&json!(500), &json!("server_error")));
    }
}

#[test]
fn leaving_a_stream_frees_its_slot_and_keeps_what_was_computed() {
    let mut server = Server::with(model().with_next(|_| reprise_engine::testing::letter(0)), api_config());
    let body = json!({"prompt": ids("abcdef"), "stream": true, "id_slot": 0}).to_string();
    let response = server.open(request(Method::POST, "/completion", Body::from(body)));
    assert_eq!(server.get("/slots").json()[0]["is_processing"], true);
    drop(response);
    let slots = server.get("/slots").json();
    let slots = if slots[0]["is_processing"] == true { server.get("/slots").json() } else { slots };
    assert_eq!(slots[0]["is_processing"], false);
    let body = json!({"prompt": ids("abcdef"), "n_predict": 1, "id_slot": 0});
    assert_eq!(server.ask("/completion", &body)["timings"]["cache_n"], 6);
}

#[test]
fn silence_is_filled_with_comments() {
    let model = model();
    model.controls().set_cost(std::time::Duration::from_secs(2), std::time::Duration::ZERO);
    let mut server = Server::with(model, api_config());
    let mut pings = |interval: i64| {
        let body = json!({
            "prompt": ids(&"ab".repeat(14)), "n_predict": 1, "stream": true, "cache_prompt": false,
            "sse_ping_interval": interval,
        });
        server.post("/completion", &body).text.split("\n\n").filter(|event| *event == ":").count()
    };
    assert!(pings(1) > 0);
    assert_eq!(pings(-1), 0);
    assert_eq!(pings(100), 0);
}
