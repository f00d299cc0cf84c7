//! A router, an engine behind it, and a client in front of it, all in one thread.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use futures::FutureExt;
use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use reprise_api::{ApiConfig, router};
use reprise_engine::testing::{ScriptedModel, letters, text};
use reprise_engine::{Engine, EngineConfig, MemoryBlocks, MemoryStore, Speculation, Stores};
use reprise_gguf::TokenId;
use reprise_kv::Ppm;
use reprise_text::Text;
use serde_json::{Value, json};
use tower::ServiceExt;

/// Unix time in these tests.
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) struct Server {
    pool: LocalPool,
    router: Router,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// Two slots of 64 tokens.
pub(crate) fn engine_config() -> EngineConfig {
    EngineConfig {
        slots: 2,
        slot_context: 64,
        pool_tokens: 128,
        unified: false,
        similarity: Ppm(100_000),
        batch: 16,
        micro_batch: 8,
        continuous_batching: true,
        context_shift: false,
        speculation: None,
        ram_blocks: 16,
        cache_idle_slots: true,
        max_image: 1 << 20,
        state_key: None,
    }
}

/// Everything that can be switched on is on.
pub(crate) fn api_config() -> ApiConfig {
    let mut config = ApiConfig::new(|| NOW, || 0x0123_4567_89ab_cdef);
    config.model.path = "scripted.gguf".to_owned();
    config.endpoints.slot_actions = true;
    config.endpoints.props = true;
    config.endpoints.metrics = true;
    config
}

/// A model that answers a prompt of `prompt` tokens with these words.
pub(crate) fn saying(prompt: usize, answer: &str) -> ScriptedModel {
    model().saying(prompt, letters(answer))
}

pub(crate) fn model() -> ScriptedModel {
    let config = engine_config();
    ScriptedModel::new(config.kv_blocks(), config.micro_batch)
}

/// A prompt as ids: BOS and the tokens of a text.
pub(crate) fn ids(text: &str) -> Value {
    let ids = std::iter::once(1).chain(letters(text).into_iter().map(|TokenId(id)| id));
    Value::from(ids.collect::<Vec<_>>())
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(model(), api_config())
    }

    pub(crate) fn with(model: ScriptedModel, config: ApiConfig) -> Self {
        Self::with_text(model, text(), config)
    }

    pub(crate) fn with_text(model: ScriptedModel, text: Text, config: ApiConfig) -> Self {
        Self::with_engine(model, text, config, engine_config())
    }

    /// A server that drafts what followed the last token before.
    pub(crate) fn speculating(model: ScriptedModel) -> Self {
        let speculation = Some(Speculation { lookup: 1, draft: 4, hits: 1 });
        Self::with_engine(model, text(), api_config(), EngineConfig { speculation, ..engine_config() })
    }

    pub(crate) fn with_engine(
        model: ScriptedModel,
        text: Text,
        config: ApiConfig,
        engine: EngineConfig,
    ) -> Self {
        let clock = model.controls().clock().clone();
        let stores = Stores { slots: Some(MemoryStore::default()), blocks: None::<MemoryBlocks> };
        let (engine, handle) = Engine::new(model, text, stores, clock, engine);
        let pool = LocalPool::new();
        pool.spawner().spawn_local(engine.run().map(drop)).expect("a fresh pool takes tasks");
        Self { pool, router: router(handle, config) }
    }

    /// The answer's head; its body is still to be read.
    pub(crate) fn open(&mut self, request: Request<Body>) -> axum::response::Response {
        let answer = self.router.clone().oneshot(request);
        self.pool.run_until(answer).expect("a router does not fail")
    }

    pub(crate) fn send(&mut self, request: Request<Body>) -> Reply {
        let (head, body) = self.open(request).into_parts();
        let bytes = self.pool.run_until(to_bytes(body, usize::MAX)).expect("a whole body");
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Reply { status: head.status, headers: head.headers, text }
    }

    /// A download.
    pub(crate) fn bytes(&mut self, request: Request<Body>) -> Vec<u8> {
        let (head, body) = self.open(request).into_parts();
        let bytes = self.pool.run_until(to_bytes(body, usize::MAX)).expect("a whole body").to_vec();
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.headers["content-type"], "application/octet-stream");
        assert_eq!(head.headers["content-length"], bytes.len().to_string().as_str());
        bytes
    }

    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.send(request(Method::GET, path, Body::empty()))
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.raw(path, body.to_string())
    }

    /// Posts a body as it stands.
    pub(crate) fn raw(&mut self, path: &str, body: impl Into<Body>) -> Reply {
        self.send(request(Method::POST, path, body.into()))
    }

    /// Posts and expects success.
    pub(crate) fn ask(&mut self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body);
        assert_eq!(reply.status, StatusCode::OK, "{path} {body}: {}", reply.text);
        reply.json()
    }
}

pub(crate) fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(path).body(body).expect("a valid request")
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("readable"))
    }

    /// The values of a stream's events, and whether `[DONE]` ended it.
    pub(crate) fn events(&self) -> (Vec<Value>, bool) {
        let mut events: Vec<_> = self.text.split_terminator("\n\n").collect();
        let done = events.last() == Some(&"data: [DONE]");
        if done {
            events.pop();
        }
        let value = |event: &str| {
            let data = event.strip_prefix("data: ").unwrap_or_else(|| panic!("no event: {event}"));
            serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
        };
        (events.into_iter().map(value).collect(), done)
    }

    /// Expects an error with this status and type, and gives its message.
    pub(crate) fn error(&self, status: u16, kind: &str) -> String {
        let error = &self.json()["error"];
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(error["code"], json!(status));
        assert_eq!(error["type"], json!(kind), "{}", self.text);
        assert_eq!(self.header("content-type"), "application/json; charset=utf-8");
        error["message"].as_str().expect("a message").to_owned()
    }
}
