//! `/health`, `/v1/models`, `/props`, `/metrics`, and what is not there.

use axum::body::Body;
use axum::http::Method;
use serde_json::json;

use crate::harness::{NOW, Server, api_config, model, request};

#[test]
fn health() {
    let mut server = Server::new();
    for path in ["/health", "/v1/health"] {
        assert_eq!(server.get(path).json(), json!({"status": "ok"}));
    }
}

#[test]
fn the_model_is_listed_under_its_first_alias() {
    let mut config = api_config();
    config.model.aliases = vec!["zed".to_owned(), "abc".to_owned()];
    config.model.tags = vec!["t".to_owned()];
    let mut server = Server::with(model(), config);
    for path in ["/v1/models", "/models"] {
        let models = server.get(path).json();
        assert_eq!((&models["object"], &models["models"][0]["name"]), (&json!("list"), &json!("abc")));
        let model = &models["data"][0];
        assert_eq!((&model["id"], &model["aliases"]), (&json!("abc"), &json!(["abc", "zed"])));
        assert_eq!((&model["tags"], &model["created"]), (&json!(["t"]), &json!(NOW)));
        assert_eq!((&model["meta"]["n_vocab"], &model["meta"]["n_ctx"]), (&json!(285), &json!(64)));
        assert_eq!(model["meta"]["vocab_type"], 1);
    }
}

#[test]
fn props_describe_the_server() {
    let mut server = Server::new();
    let props = server.get("/props").json();
    assert_eq!((&props["total_slots"], &props["model_path"]), (&json!(2), &json!("scripted.gguf")));
    assert_eq!((&props["bos_token"], &props["eos_token"]), (&json!("<s>"), &json!("</s>")));
    let settings = &props["default_generation_settings"];
    assert_eq!(
        (&settings["n_ctx"], &settings["params"]["temperature"]),
        (&json!(64), &json!(0.800000011920929))
    );
    assert!(settings["params"].get("stop").is_none());
    assert!(props["chat_template"].as_str().unwrap().contains("<|im_start|>"));
    assert!(props["chat_template_caps"].is_object());
    for flag in ["endpoint_slots", "endpoint_props", "endpoint_metrics"] {
        assert_eq!(props[flag], true, "{flag}");
    }
    assert_eq!(server.post("/props", &json!({})).json(), json!({"success": true}));
}

#[test]
fn metrics_count() {
    let mut server = Server::new();
    server.ask("/completion", &json!({"prompt": [1, 280, 281], "n_predict": 2, "ignore_eos": true}));
    let reply = server.get("/metrics");
    assert_eq!(reply.header("content-type"), "text/plain; version=0.0.4");
    assert_eq!(reply.header("process-start-time-unix"), NOW.to_string());
    for line in [
        "llamacpp:prompt_tokens_total 3",
        "llamacpp:tokens_predicted_total 2",
        "llamacpp:requests_processing 0",
    ] {
        assert!(reply.text.lines().any(|found| found == line), "{line}: {}", reply.text);
    }
}

#[test]
fn switched_off_endpoints_say_so() {
    let mut config = api_config();
    config.endpoints.metrics = false;
    config.endpoints.props = false;
    let mut server = Server::with(model(), config);
    assert_eq!(
        server.get("/metrics").error(501, "not_supported_error"),
        "This server does not support metrics endpoint. Start it with `--metrics`"
    );
    assert_eq!(
        server.raw("/props", "{}").error(501, "not_supported_error"),
        "This server does not support changing global properties. Start it with `--props`"
    );
    server.raw("/rerank", "{}").error(501, "not_supported_error");
}

#[test]
fn everything_else_is_not_found() {
    let mut server = Server::new();
    for (method, path) in [
        (Method::GET, "/nope"),
        (Method::GET, "/completion"),
        (Method::PUT, "/completion"),
        (Method::POST, "/health"),
        (Method::DELETE, "/v1/models"),
        (Method::GET, "/v1"),
        (Method::POST, "/completion/"),
    ] {
        let reply = server.send(request(method.clone(), path, Body::empty()));
        assert_eq!(reply.error(404, "not_found_error"), "File Not Found", "{method} {path}");
    }
}

#[test]
fn a_lost_device_is_a_reason_to_try_again() {
    let model = model();
    let controls = model.controls();
    let mut server = Server::with(model, api_config());
    server.ask("/completion", &json!({"prompt": "x", "n_predict": 1}));
    controls.lose_device();
    let message =
        server.post("/completion", &json!({"prompt": "x", "n_predict": 1})).error(503, "unavailable_error");
    assert!(message.contains("device was lost") && message.ends_with("try again"), "{message}");
    // The engine has ended; its host may start another one.
    server.get("/slots").error(503, "unavailable_error");
}
