//! The one map from what can go wrong to llama-server's `{"error": {code, message, type}}`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use reprise_engine::EngineError;
use serde::Serialize;

use crate::body::json_response;

/// Why a request gets no answer of its own. The display text is the `message` on the wire.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// The request is wrong; the text says how.
    #[error("{0}")]
    Invalid(String),
    /// No such path, or not with this method.
    #[error("File Not Found")]
    NotFound,
    /// No key, or a wrong one.
    #[error("Invalid API Key")]
    Unauthorized,
    /// The request is fine but not from where it comes.
    #[error("{0}")]
    Forbidden(String),
    /// The body is larger than the server takes.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(usize),
    /// Switched off, or not possible with this model.
    #[error("{0}")]
    NotSupported(String),
    /// Not now.
    #[error("{0}")]
    Unavailable(&'static str),
    /// The engine's reason.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The object under `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorBody {
    code: u16,
    message: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_prompt_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_ctx: Option<u32>,
}

/// An error as a whole answer or as an event of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorReply {
    error: ErrorBody,
}

impl ApiError {
    /// A request error with its text.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// Status and `type` of the error.
    fn class(&self) -> (StatusCode, &'static str) {
        const INVALID: (StatusCode, &str) = (StatusCode::BAD_REQUEST, "invalid_request_error");
        const NOT_SUPPORTED: (StatusCode, &str) = (StatusCode::NOT_IMPLEMENTED, "not_supported_error");
        const SERVER: (StatusCode, &str) = (StatusCode::INTERNAL_SERVER_ERROR, "server_error");
        const UNAVAILABLE: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "unavailable_error");
        match self {
            Self::Invalid(_) => INVALID,
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found_error"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "authentication_error"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "permission_error"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, INVALID.1),
            Self::NotSupported(_) => NOT_SUPPORTED,
            Self::Unavailable(_) => UNAVAILABLE,
            Self::Engine(error) => match error {
                EngineError::ContextExceeded { .. } => (StatusCode::BAD_REQUEST, "exceed_context_size_error"),
                EngineError::Invalid(_)
                | EngineError::InvalidTokens
                | EngineError::Restore(_)
                | EngineError::Image(_)
                | EngineError::Room(_) => INVALID,
                EngineError::Foreign { .. } => (StatusCode::FORBIDDEN, "permission_error"),
                EngineError::Unsupported(_) => NOT_SUPPORTED,
                EngineError::PoolExhausted | EngineError::Save(_) | EngineError::Backend(_) => SERVER,
                EngineError::DeviceLost(_) | EngineError::Closed => UNAVAILABLE,
            },
        }
    }

    /// The error as it stands on the wire.
    pub(crate) fn reply(&self) -> ErrorReply {
        let (status, r#type) = self.class();
        let (n_prompt_tokens, n_ctx) = match self {
            Self::Engine(EngineError::ContextExceeded { prompt, context }) => (Some(*prompt), Some(*context)),
            _ => (None, None),
        };
        let message = self.to_string();
        ErrorReply { error: ErrorBody { code: status.as_u16(), message, r#type, n_prompt_tokens, n_ctx } }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, _) = self.class();
        if status.is_server_error() && !matches!(status, StatusCode::NOT_IMPLEMENTED) {
            tracing::warn!(%status, error = %self, "request failed");
        } else {
            tracing::debug!(%status, error = %self, "request refused");
        }
        json_response(status, &self.reply())
    }
}
