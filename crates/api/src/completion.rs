//! Stage 2: `/completion` and `/v1/completions`.

use axum::body::Body;
use axum::response::Response;
use serde_json::{Map, Value};

use crate::ApiError;
use crate::auth::Caller;
use crate::generation::{self, Job};
use crate::router::Api;
use crate::wire::field::{object, required};
use crate::wire::options::Options;
use crate::wire::prompt::{WHOLE, prompts};
use crate::wire::reply::Shape;

/// `POST /completion`, `POST /completions`.
pub(crate) async fn native(Caller(api): Caller, body: Body) -> Result<Response, ApiError> {
    let body = api.json(body).await?;
    run(&api, object(&body)?, Shape::Native).await
}

/// `POST /v1/completions`.
pub(crate) async fn openai(Caller(api): Caller, body: Body) -> Result<Response, ApiError> {
    let body = api.json(body).await?;
    run(&api, object(&body)?, Shape::OpenAi).await
}

/// Completes the prompts of a request.
///
/// # Errors
/// [`ApiError::Invalid`] for a wrong field, and whatever the engine refuses before the first result.
pub(crate) async fn run(api: &Api, fields: &Map<String, Value>, shape: Shape) -> Result<Response, ApiError> {
    let prompts = prompts(required(fields, "prompt")?, &api.engine.text().tokenizer, WHOLE)?;
    let options = Options::parse(fields, &api.engine, &api.config)?;
    generation::run(api, Job { prompts, options, shape }).await
}
