//! Stage 2: what the server is: `/health`, `/v1/models`, `/props`.

use axum::response::Response;

use crate::ApiError;
use crate::auth::Caller;
use crate::body::ok;
use crate::wire::server::{Health, Models, Props, Success};

/// `GET /health`: the model is loaded, or this router would not answer.
pub(crate) async fn health() -> Response {
    ok(&Health::OK)
}

/// `GET /v1/models`, `GET /models`.
pub(crate) async fn models(Caller(api): Caller) -> Response {
    ok(&Models::new(&api.engine, &api.config))
}

/// `GET /props`.
pub(crate) async fn props(Caller(api): Caller) -> Response {
    ok(&Props::new(&api.engine, &api.config))
}

/// `POST /props`: there is nothing to change, here as in the reference, but `--props` decides who may try.
pub(crate) async fn change_props(Caller(api): Caller) -> Result<Response, ApiError> {
    if api.config.endpoints.props {
        return Ok(ok(&Success::YES));
    }
    Err(ApiError::NotSupported(
        "This server does not support changing global properties. Start it with `--props`".to_owned(),
    ))
}
