//! Stage 2: which request goes to which handler, and what stands before all of them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use reprise_engine::{EngineHandle, Metrics};
use serde_json::Value;

use crate::body::read_json;
use crate::{
    ApiConfig, ApiError, auth, chat, completion, embeddings, infill, metrics, models, slots, tokens,
};

/// What every handler may use.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) engine: EngineHandle,
    pub(crate) config: Arc<ApiConfig>,
    /// Unix time, seconds.
    pub(crate) started: u64,
    /// The counters at the last `GET /metrics`: its gauges are averages since then.
    pub(crate) scraped: Arc<Mutex<Metrics>>,
}

impl Api {
    /// Reads a body as JSON.
    ///
    /// # Errors
    /// As [`read_json`].
    pub(crate) async fn json(&self, body: Body) -> Result<Value, ApiError> {
        read_json(body, self.config.body_limit).await
    }
}

/// The whole API over an engine.
///
/// Routes that the host adds to the result (a web page) are outside of the key check.
pub fn router(engine: EngineHandle, config: ApiConfig) -> Router {
    let config = Arc::new(config);
    let started = (config.now)();
    let api = Api { engine, config: Arc::clone(&config), started, scraped: Arc::default() };
    let routes = routes().method_not_allowed_fallback(not_found).with_state(Arc::new(api));
    let routes = match config.prefix.trim_matches('/') {
        "" => routes,
        prefix => Router::new().nest(&format!("/{prefix}"), routes),
    };
    guarded(routes.fallback(not_found), config)
}

/// Answers every request with 503 while the model is loaded. A request that comes too early is told so whether it has
/// a key or not; preflights are answered.
pub fn loading_router(config: ApiConfig) -> Router {
    let routes = Router::new().fallback(async || ApiError::Unavailable("Loading model"));
    guarded(routes, Arc::new(ApiConfig { api_keys: Vec::new(), ..config }))
}

fn routes() -> Router<Arc<Api>> {
    let completions = Router::new()
        .route("/completion", post(completion::native))
        .route("/completions", post(completion::native))
        .route("/v1/completions", post(completion::openai))
        .route("/chat/completions", post(chat::chat))
        .route("/v1/chat/completions", post(chat::chat))
        .route("/infill", post(infill::infill));
    let texts = Router::new()
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/apply-template", post(chat::apply_template))
        .route("/chat/completions/input_tokens", post(chat::input_tokens))
        .route("/v1/chat/completions/input_tokens", post(chat::input_tokens))
        .route("/embedding", post(embeddings::native))
        .route("/embeddings", post(embeddings::native))
        .route("/v1/embeddings", post(embeddings::openai));
    let server = Router::new()
        .route("/health", get(models::health))
        .route("/v1/health", get(models::health))
        .route("/models", get(models::models))
        .route("/v1/models", get(models::models))
        .route("/props", get(models::props).post(models::change_props))
        .route("/metrics", get(metrics::metrics))
        .route("/slots", get(slots::list))
        .route("/slots/plan", post(slots::plan))
        .route("/slots/{id}", post(slots::action))
        .route("/slots/{id}/state", get(slots::export).put(slots::import));
    let reranking = ["/rerank", "/reranking", "/v1/rerank", "/v1/reranking"];
    let reranking =
        reranking.iter().fold(Router::new(), |router, path| router.route(path, post(no_reranking)));
    completions.merge(texts).merge(server).merge(reranking)
}

/// Puts the guard around everything, the 404 of unknown paths included.
fn guarded(routes: Router, config: Arc<ApiConfig>) -> Router {
    routes.layer(from_fn_with_state(config, guard))
}

/// Before every request: preflights, keys, and the mark for its origin.
async fn guard(State(config): State<Arc<ApiConfig>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let path = without_prefix(request.uri().path(), config.prefix.trim_matches('/'));
    let mut response = if request.method() == Method::OPTIONS {
        config.cors.preflight(path)
    } else if auth::allows(&config.api_keys, path, request.headers()) {
        next.run(request).await
    } else {
        ApiError::Unauthorized.into_response()
    };
    config.cors.mark(origin.as_ref(), &mut response);
    response
}

fn without_prefix<'a>(path: &'a str, prefix: &str) -> &'a str {
    let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(prefix));
    rest.filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

async fn not_found() -> ApiError {
    ApiError::NotFound
}

async fn no_reranking() -> ApiError {
    ApiError::NotSupported("This server does not support reranking.".to_owned())
}
