//! Stage 2: `/completion` and `/v1/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use reprise_engine::Kind;
use serde_json::{Map, Value};

use crate::ApiError;
use crate::generation::{self, Job};
use crate::router::Api;
use crate::wire::field::{object, required};
use crate::wire::options::Options;
use crate::wire::prompt::{WHOLE, prompts};
use crate::wire::reply::Shape;

/// `POST /completion`, `POST /completions`.
pub(crate) async fn native(State(api): State<Arc<Api>>, body: Body) -> Result<Response, ApiError> {
    let body = api.json(body).await?;
    run(&api, object(&body)?, Kind::Completion, Shape::Native).await
}

/// `POST /v1/completions`.
pub(crate) async fn openai(State(api): State<Arc<Api>>, body: Body) -> Result<Response, ApiError> {
    let body = api.json(body).await?;
    run(&api, object(&body)?, Kind::Completion, Shape::OpenAi).await
}

/// Completes the prompts of a request.
///
/// # Errors
/// [`ApiError::Invalid`] for a wrong field, and whatever the engine refuses before the first result.
pub(crate) async fn run(
    api: &Api,
    fields: &Map<String, Value>,
    kind: Kind,
    shape: Shape,
) -> Result<Response, ApiError> {
    let prompts = prompts(required(fields, "prompt")?, &api.engine.text().tokenizer, WHOLE)?;
    let options = Options::parse(fields, kind, &api.engine, &api.config)?;
    generation::run(api, Job { prompts, options, shape }).await
}
