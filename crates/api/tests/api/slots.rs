//! `/slots` and slot actions.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use reprise_engine::StateKey;
use reprise_engine::testing::text;
use serde_json::json;

use crate::harness::{Server, api_config, engine_config, ids, model, request};

#[test]
fn fresh_slots_have_no_history() {
    let mut server = Server::new();
    let fresh = |id: u32| json!({"id": id, "n_ctx": 64, "speculative": false, "is_processing": false});
    assert_eq!(server.get("/slots").json(), json!([fresh(0), fresh(1)]));
}

#[test]
fn a_used_slot_shows_its_request() {
    let mut server = Server::new();
    let body =
        json!({"prompt": ids("abc"), "n_predict": 2, "id_slot": 1, "ignore_eos": true, "stop": ["secret"]});
    server.ask("/completion", &body);
    let slot = server.get("/slots").json()[1].take();
    // Three prompt tokens and BOS, and the first of two sampled tokens.
    assert_eq!(slot["n_prompt_tokens"], 5);
    assert_eq!((&slot["n_prompt_tokens_processed"], &slot["n_prompt_tokens_cache"]), (&json!(0), &json!(0)));
    assert_eq!(
        slot["next_token"],
        json!([{"has_next_token": false, "has_new_line": false, "n_remain": -1, "n_decoded": 0}])
    );
    assert_eq!(slot["params"]["n_predict"], 2);
    assert!(slot["params"].get("stop").is_none() && slot.get("prompt").is_none());
    // The account stays when llama-server's counts are gone.
    let placement = &slot["placement"];
    assert_eq!((&placement["reason"], &placement["cached"]), (&json!("pinned"), &json!(0)));
    assert_eq!((&placement["processed"], &placement["generated"]), (&json!(4), &json!(2)));
}

#[test]
fn a_slot_tells_what_its_cache_has_saved() {
    let model = model();
    model.controls().set_cost(Duration::ZERO, Duration::from_millis(10));
    let mut server = Server::with(model, api_config());
    let body = json!({"prompt": ids("abcdefg"), "n_predict": 1, "id_slot": 0});
    server.ask("/completion", &body);
    let account = |server: &mut Server| server.get("/slots").json()[0]["placement"].take();
    let first = account(&mut server);
    assert_eq!(
        (&first["processed"], &first["prompt_ms"], &first["saved_ms"]),
        (&json!(8), &json!(80.0), &json!(0.0))
    );
    server.ask("/completion", &body);
    let second = account(&mut server);
    assert_eq!((&second["cached"], &second["processed"]), (&json!(7), &json!(1)));
    assert_eq!((&second["prompt_ms"], &second["saved_ms"]), (&json!(10.0), &json!(70.0)));
}

#[test]
fn texts_are_shown_only_on_request() {
    let mut config = api_config();
    config.endpoints.slots_debug = true;
    let mut server = Server::with(model(), config);
    let body = json!({"prompt": ids("abc"), "n_predict": 2, "id_slot": 0, "stop": ["q!"]});
    let answer = server.ask("/completion", &body);
    let slot = server.get("/slots").json()[0].take();
    assert_eq!((&slot["prompt"], &slot["generated"]), (&json!("<s>abc"), &answer["content"]));
    assert_eq!(slot["params"]["stop"], json!(["q!"]));
}

#[test]
fn busy_slots_can_be_an_error() {
    let mut server = Server::with(model().with_next(|_| reprise_engine::testing::letter(0)), api_config());
    let open = |server: &mut Server| {
        let body = json!({"prompt": "x", "stream": true, "n_predict": 40}).to_string();
        server.open(request(Method::POST, "/completion", Body::from(body)))
    };
    assert_eq!(server.get("/slots?fail_on_no_slot=1").status, StatusCode::OK);
    let _first = open(&mut server);
    let _second = open(&mut server);
    let reply = server.get("/slots?fail_on_no_slot=0");
    assert_eq!(reply.error(503, "unavailable_error"), "no slot available");
    assert_eq!(server.get("/slots?fail_on_no_slot=").status, StatusCode::OK);
    let slots = server.get("/slots").json();
    assert_eq!((&slots[0]["is_processing"], &slots[1]["is_processing"]), (&json!(true), &json!(true)));
    assert_eq!(slots[0]["next_token"][0]["has_next_token"], true);
}

#[test]
fn a_saved_slot_comes_back() {
    let mut server = Server::new();
    let prompt = ids("abcdefgh");
    let body = |slot: u32| json!({"prompt": prompt, "n_predict": 1, "id_slot": slot, "temperature": 0});
    server.ask("/completion", &body(1));
    let file = json!({"filename": "one.bin"});
    let saved = server.ask("/slots/1?action=save", &file);
    assert_eq!(
        (&saved["id_slot"], &saved["filename"], &saved["n_saved"]),
        (&json!(1), &json!("one.bin"), &json!(9))
    );
    assert!(saved["n_written"].as_u64().unwrap() > 0 && saved["timings"]["save_ms"].is_f64());
    assert_eq!(server.ask("/slots/1?action=erase", &json!(null)), json!({"id_slot": 1, "n_erased": 9}));
    assert_eq!(server.ask("/slots/1?action=erase", &json!(null)), json!({"id_slot": 1, "n_erased": 0}));
    // 98 wraps around to slot 0, and the answer repeats what was asked.
    let restored = server.ask("/slots/98?action=restore", &file);
    assert_eq!((&restored["id_slot"], &restored["n_restored"]), (&json!(98), &json!(9)));
    assert_eq!(restored["n_read"], saved["n_written"]);
    assert!(restored["timings"]["restore_ms"].is_f64());
    // A slot that was restored and never ran anything shows its tokens.
    assert_eq!(server.get("/slots").json()[0]["n_prompt_tokens"], 9);
    assert_eq!(server.ask("/completion", &body(0))["timings"]["cache_n"], 8);
}

#[test]
fn a_slot_is_saved_for_llama_server_and_read_back() {
    let mut server = Server::new();
    let body = |slot: u32| json!({"prompt": ids("abcdefgh"), "n_predict": 1, "id_slot": slot});
    server.ask("/completion", &body(1));
    let own = server.ask("/slots/1?action=save", &json!({"filename": "own", "format": "reprise"}));
    let plain = server.ask("/slots/1?action=save", &json!({"filename": "own", "format": null}));
    assert_eq!(own["n_written"], plain["n_written"]);
    let saved = server.ask("/slots/1?action=save", &json!({"filename": "theirs", "format": "llama.cpp"}));
    assert_eq!(saved["n_saved"], 9);
    assert_ne!(saved["n_written"], own["n_written"]);
    let restored = server.ask("/slots/0?action=restore", &json!({"filename": "theirs"}));
    assert_eq!((&restored["n_restored"], &restored["n_read"]), (&json!(9), &saved["n_written"]));
    assert_eq!(server.ask("/completion", &body(0))["timings"]["cache_n"], 8);
}

#[test]
fn the_state_of_a_slot_is_downloaded_and_uploaded() {
    let mut server = Server::new();
    let body = |slot: u32| json!({"prompt": ids("abcdefgh"), "n_predict": 1, "id_slot": slot});
    server.ask("/completion", &body(1));
    let state = server.bytes(request(Method::GET, "/slots/1/state", Body::empty()));
    let saved = server.ask("/slots/1?action=save", &json!({"filename": "one.bin"}));
    assert_eq!(saved["n_written"], state.len());

    // 98 wraps around to slot 0, and the answer repeats what was asked.
    let put = |server: &mut Server, path: &str, state: Vec<u8>| {
        server.send(request(Method::PUT, path, Body::from(state)))
    };
    let taken = put(&mut server, "/slots/98/state", state.clone()).json();
    assert_eq!((&taken["id_slot"], &taken["n_restored"]), (&json!(98), &json!(9)));
    assert_eq!(taken["n_read"], state.len());
    assert!(taken["timings"]["restore_ms"].is_f64() && taken.get("filename").is_none());
    assert_eq!(server.ask("/completion", &body(0))["timings"]["cache_n"], 8);

    for bad in [Vec::new(), state[..state.len() - 1].to_vec(), b"no state of a slot".to_vec()] {
        let message = put(&mut server, "/slots/0/state", bad).error(400, "invalid_request_error");
        assert!(message.starts_with("Unable to restore slot: "), "{message}");
    }
    assert_eq!(
        put(&mut server, "/slots/x/state", state).error(400, "invalid_request_error"),
        "Invalid slot ID"
    );
    assert_eq!(server.ask("/completion", &body(0))["timings"]["cache_n"], 8);
}

#[test]
fn a_state_that_the_client_has_is_not_sent_again() {
    let mut server = Server::new();
    let body = |slot: u32| json!({"prompt": ids("abcdefgh"), "n_predict": 1, "id_slot": slot});
    let get = |server: &mut Server, slot: u32, known: &str| {
        let mut request = request(Method::GET, &format!("/slots/{slot}/state"), Body::empty());
        request.headers_mut().insert("if-none-match", known.parse().unwrap());
        request.headers_mut().insert("origin", "http://localhost:3000".parse().unwrap());
        let reply = server.open(request);
        let header = |name| reply.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("access-control-expose-headers").as_deref(), Some("ETag"));
        assert_eq!(header("content-length").is_some(), reply.status() == StatusCode::OK);
        (reply.status(), header("etag").unwrap())
    };
    server.ask("/completion", &body(1));
    let (status, tag) = get(&mut server, 1, "\"other\"");
    assert_eq!((status, tag.len()), (StatusCode::OK, 66));
    assert_eq!(get(&mut server, 1, &tag), (StatusCode::NOT_MODIFIED, tag.clone()));
    for known in [format!("W/{tag}"), format!("\"a\", {tag}"), "*".to_owned()] {
        assert_eq!(get(&mut server, 1, &known).0, StatusCode::NOT_MODIFIED, "{known}");
    }
    let state = server.bytes(request(Method::GET, "/slots/1/state", Body::empty()));
    // An empty slot is another image, and the same image in another slot is the same.
    let (status, empty) = get(&mut server, 0, &tag);
    assert_eq!((status, empty != tag), (StatusCode::OK, true));
    server.send(request(Method::PUT, "/slots/0/state", Body::from(state)));
    assert_eq!(get(&mut server, 0, &tag), (StatusCode::NOT_MODIFIED, tag.clone()));
    server.ask("/completion", &json!({"prompt": ids("abcdefgz"), "n_predict": 1, "id_slot": 1}));
    let (status, changed) = get(&mut server, 1, &tag);
    assert_eq!((status, changed != tag), (StatusCode::OK, true));
}

#[test]
fn a_server_with_a_key_refuses_states_that_are_not_its_own() {
    let mut plain = Server::new();
    let state = plain.bytes(request(Method::GET, "/slots/0/state", Body::empty()));
    let mut config = engine_config();
    config.state_key = StateKey::derive(b"sixteen letters.").ok();
    let mut server = Server::with_engine(model(), text(), api_config(), config);
    let put = |server: &mut Server, state: Vec<u8>| {
        server.send(request(Method::PUT, "/slots/0/state", Body::from(state)))
    };
    let message = put(&mut server, state).error(400, "invalid_request_error");
    assert!(message.contains("--state-key"), "{message}");
    let mut own = server.bytes(request(Method::GET, "/slots/0/state", Body::empty()));
    assert_eq!(put(&mut server, own.clone()).json()["n_read"], own.len());
    let last = own.len() - 1;
    own[last] ^= 1;
    let message = put(&mut server, own).error(400, "invalid_request_error");
    assert!(message.starts_with("Unable to restore slot: the slot image's tag is wrong"), "{message}");
}

#[test]
fn a_state_may_be_larger_than_a_request_but_not_than_a_slot() {
    let mut config = api_config();
    config.body_limit = 10;
    let mut server = Server::with(model(), config);
    let put = |server: &mut Server, state: Vec<u8>| {
        server.send(request(Method::PUT, "/slots/0/state", Body::from(state)))
    };
    let state = server.bytes(request(Method::GET, "/slots/0/state", Body::empty()));
    assert!(state.len() > 10);
    assert_eq!(put(&mut server, state).json()["n_restored"], 0);
    put(&mut server, vec![0; (1 << 20) + 1]).error(413, "invalid_request_error");
}

#[test]
fn ids_actions_and_names_are_checked() {
    let mut server = Server::new();
    for (path, body, message) in [
        ("/slots/abc?action=save", "{}", "Invalid slot ID"),
        ("/slots/99999999999?action=save", "{}", "Invalid slot ID"),
        ("/slots/%FF?action=save", "{}", "Invalid slot ID"),
        ("/slots/0", "{}", "Invalid action"),
        ("/slots/0?action=foo", "{}", "Invalid action"),
        ("/slots/0?action=save", "{}", "[json.exception.out_of_range.403] key 'filename' not found"),
        ("/slots/0?action=save", "[]", "[json.exception.type_error.304] cannot use at() with array"),
        (
            "/slots/0?action=restore",
            r#"{"filename": 5}"#,
            "[json.exception.type_error.302] type must be string, but is number",
        ),
        ("/slots/0?action=save", r#"{"filename": "../a"}"#, "Invalid filename"),
        ("/slots/0?action=restore", r#"{"filename": "a/b"}"#, "Invalid filename"),
        ("/slots/0?action=save", r#"{"filename": ""}"#, "Invalid filename"),
        (
            "/slots/0?action=save",
            r#"{"filename": "a", "format": "zip"}"#,
            r#"Field 'format': must be "reprise" or "llama.cpp", but is "zip""#,
        ),
        (
            "/slots/0?action=save",
            r#"{"filename": "a", "format": 1}"#,
            "Field 'format': [json.exception.type_error.302] type must be string, but is number",
        ),
    ] {
        assert_eq!(server.raw(path, body).error(400, "invalid_request_error"), message, "{path} {body}");
    }
    let reply = server.post("/slots/0?action=restore", &json!({"filename": "none.bin"}));
    let message = reply.error(400, "invalid_request_error");
    assert!(message.starts_with("Unable to restore slot: "), "{message}");
    assert_eq!(server.raw("/slots/1abc?action=erase", "").json()["id_slot"], 1);
    assert_eq!(server.raw("/slots/-1?action=erase", "").json()["id_slot"], -1);
    for (method, path) in [(Method::GET, "/slots/0"), (Method::DELETE, "/slots/0"), (Method::POST, "/slots")]
    {
        server.send(request(method, path, Body::empty())).error(404, "not_found_error");
    }
}

#[test]
fn switched_off_endpoints_say_how_to_switch_them_on() {
    let mut config = api_config();
    config.endpoints.slots = false;
    config.endpoints.slot_actions = false;
    let mut server = Server::with(model(), config);
    let message = server.get("/slots").error(501, "not_supported_error");
    assert_eq!(message, "This server does not support slots endpoint. Start it with `--slots`");
    for method in [Method::GET, Method::PUT] {
        server.send(request(method, "/slots/0/state", Body::empty())).error(501, "not_supported_error");
    }
    let message = server.raw("/slots/0?action=erase", "").error(501, "not_supported_error");
    assert_eq!(message, "This server does not support slots action. Start it with `--slot-save-path`");
}
