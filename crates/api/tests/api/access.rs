//! Keys, origins, the prefix, and the time before the model is there.

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use futures::executor::block_on;
use reprise_api::loading_router;
use serde_json::json;
use tower::ServiceExt;

use crate::harness::{Reply, Server, api_config, model};

fn with_header(method: Method, path: &str, name: &str, value: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(name, value)
        .body(Body::empty())
        .expect("a valid request")
}

#[test]
fn keys_guard_all_but_health() {
    let mut config = api_config();
    config.api_keys = vec!["k1".to_owned(), "k2".to_owned()];
    let mut server = Server::with(model(), config);
    assert_eq!(server.get("/health").status, StatusCode::OK);
    for path in ["/slots", "/v1/models", "/metrics", "/nope"] {
        assert_eq!(server.get(path).error(401, "authentication_error"), "Invalid API Key", "{path}");
    }
    for (name, value) in [("authorization", "Bearer k1"), ("authorization", "k2"), ("x-api-key", "k2")] {
        let reply = server.send(with_header(Method::GET, "/slots", name, value));
        assert_eq!(reply.status, StatusCode::OK, "{name}: {value}");
    }
    server
        .send(with_header(Method::GET, "/slots", "authorization", "Bearer k3"))
        .error(401, "authentication_error");
    assert_eq!(
        server.send(with_header(Method::OPTIONS, "/slots", "origin", "http://a")).status,
        StatusCode::OK
    );
}

#[test]
fn preflights_are_answered_everywhere() {
    let mut server = Server::new();
    for path in ["/completion", "/nope"] {
        let reply = server.send(with_header(Method::OPTIONS, path, "origin", "http://a.b"));
        assert_eq!((reply.status, reply.text.as_str()), (StatusCode::OK, ""));
        assert_eq!(reply.header("access-control-allow-origin"), "http://a.b");
        assert_eq!(reply.header("access-control-allow-credentials"), "true");
        assert_eq!(reply.header("access-control-allow-methods"), "GET, POST, DELETE, OPTIONS");
        assert_eq!(reply.header("access-control-allow-headers"), "*");
        assert_eq!(reply.header("content-type"), "text/html");
    }
    for (path, methods) in [
        ("/slots/0/state", "GET, POST, DELETE, OPTIONS, PUT"),
        ("/slots/0", "GET, POST, DELETE, OPTIONS"),
        ("/state", "GET, POST, DELETE, OPTIONS"),
    ] {
        let reply = server.send(with_header(Method::OPTIONS, path, "origin", "http://a.b"));
        assert_eq!(reply.header("access-control-allow-methods"), methods, "{path}");
    }
    let reply = server.send(with_header(Method::GET, "/health", "origin", "http://a.b"));
    assert_eq!(reply.header("access-control-allow-origin"), "http://a.b");
}

#[test]
fn foreign_pages_may_not_act_on_slots() {
    let erase = |origin| with_header(Method::POST, "/slots/0?action=erase", "origin", origin);
    let mut server = Server::new();
    let message = server.send(erase("http://evil.example")).error(403, "permission_error");
    assert!(message.contains("--cors-origins"), "{message}");
    assert_eq!(server.send(erase("http://localhost:3000")).status, StatusCode::OK);
    assert_eq!(server.raw("/slots/0?action=erase", "").status, StatusCode::OK);
    for method in [Method::GET, Method::PUT] {
        let state = with_header(method, "/slots/0/state", "origin", "http://evil.example");
        server.send(state).error(403, "permission_error");
    }
    let state = with_header(Method::GET, "/slots/0/state", "origin", "http://localhost:3000");
    assert_eq!(server.open(state).status(), StatusCode::OK);
    // Reading and asking stay open, as in the reference.
    assert_eq!(
        server.send(with_header(Method::GET, "/slots", "origin", "http://evil.example")).status,
        StatusCode::OK
    );
    let mut config = api_config();
    config.cors.origins = Some("*".to_owned());
    let mut server = Server::with(model(), config);
    assert_eq!(server.send(erase("http://evil.example")).status, StatusCode::OK);
    let mut config = api_config();
    config.api_keys = vec!["k".to_owned()];
    let mut server = Server::with(model(), config);
    let mut request = erase("http://app.example");
    request.headers_mut().insert("x-api-key", "k".parse().unwrap());
    assert_eq!(server.send(request).status, StatusCode::OK);
}

#[test]
fn a_prefix_stands_before_every_path() {
    let mut config = api_config();
    config.prefix = "/llm".to_owned();
    config.api_keys = vec!["k".to_owned()];
    let mut server = Server::with(model(), config);
    assert_eq!(server.get("/llm/health").status, StatusCode::OK);
    server.get("/llm/slots").error(401, "authentication_error");
    let reply = server.send(with_header(Method::GET, "/llm/slots", "x-api-key", "k"));
    assert_eq!(reply.status, StatusCode::OK);
    for path in ["/slots", "/llm/nope", "/llmslots"] {
        server.send(with_header(Method::GET, path, "x-api-key", "k")).error(404, "not_found_error");
    }
}

#[test]
fn while_loading_everything_is_unavailable() {
    let mut config = api_config();
    config.api_keys = vec!["k".to_owned()];
    let router = loading_router(config);
    for (method, path) in [(Method::GET, "/health"), (Method::POST, "/completion"), (Method::GET, "/nope")] {
        let response =
            block_on(router.clone().oneshot(with_header(method, path, "origin", "http://a"))).unwrap();
        let (head, body) = response.into_parts();
        let text = String::from_utf8(block_on(to_bytes(body, usize::MAX)).unwrap().to_vec()).unwrap();
        let reply = Reply { status: head.status, headers: head.headers, text };
        assert_eq!(reply.error(503, "unavailable_error"), "Loading model");
        assert_eq!(reply.header("access-control-allow-origin"), "http://a");
    }
}

#[test]
fn large_bodies_are_refused() {
    let mut config = api_config();
    config.body_limit = 100;
    let mut server = Server::with(model(), config);
    let body = json!({"prompt": "x".repeat(200)});
    let message = server.post("/completion", &body).error(413, "invalid_request_error");
    assert_eq!(message, "the request body is larger than 100 bytes");
    assert_eq!(server.get("/health").status, StatusCode::OK);
}
