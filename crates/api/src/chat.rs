//! Stage 2: `/v1/chat/completions`, `/apply-template`, and counting the tokens of a conversation.

use axum::body::Body;
use axum::response::Response;
use reprise_text::LocalTime;
use serde::Serialize;
use serde_json::Value;

use crate::auth::Caller;
use crate::body::ok;
use crate::router::Api;
use crate::wire::chat::{Conversation, completion_fields};
use crate::wire::prompt::WHOLE;
use crate::wire::reply::Shape;
use crate::{ApiError, completion};

/// `POST /v1/chat/completions`.
pub(crate) async fn chat(Caller(api): Caller, body: Body) -> Result<Response, ApiError> {
    let body = api.json(body).await?;
    let prompt = render(&api, &body)?;
    let fields = completion_fields(&body, prompt)?;
    completion::run(&api, &fields, Shape::Chat).await
}

/// `POST /apply-template`.
pub(crate) async fn apply_template(Caller(api): Caller, body: Body) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Rendered {
        prompt: String,
    }
    let body = api.json(body).await?;
    let prompt = render(&api, &body)?;
    completion_fields(&body, String::new())?;
    Ok(ok(&Rendered { prompt }))
}

/// `POST /v1/chat/completions/input_tokens`.
pub(crate) async fn input_tokens(Caller(api): Caller, body: Body) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Counted {
        input_tokens: usize,
        object: &'static str,
    }
    let body = api.json(body).await?;
    let prompt = render(&api, &body)?;
    completion_fields(&body, String::new())?;
    let input_tokens = api.engine.text().tokenizer.encode(&prompt, WHOLE).len();
    Ok(ok(&Counted { input_tokens, object: "response.input_tokens" }))
}

/// The text of the prompt.
pub(crate) fn render(api: &Api, body: &Value) -> Result<String, ApiError> {
    let conversation = Conversation::parse(body, &api.config.defaults)?;
    let utc = i64::try_from((api.config.now)()).unwrap_or(i64::MAX);
    let now = LocalTime(utc.saturating_add(api.config.utc_offset));
    let rendered = api.engine.text().template.render(&conversation.input(now));
    rendered.map_err(|error| ApiError::Invalid(error.to_string()))
}
