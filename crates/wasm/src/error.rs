//! What JavaScript gets thrown: a `RepriseError` with the status, type and message that a wire error has.

use reprise_compute::ComputeError;
use reprise_engine::EngineError;
use reprise_gguf::{GgufError, SourceError};
use reprise_model::ModelError;
use reprise_text::TextError;
use wasm_bindgen::JsValue;

/// Why the host cannot do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
}

/// What a page tells its user depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Options that no engine could run with.
    Options,
    /// The file is no model that we can run.
    Model,
    /// The file could not be read.
    Source,
    /// The model alone is larger than the memory.
    ModelTooLarge,
    /// The model fits, its context does not.
    ContextTooLarge,
    /// No WebGPU, or a device that fails.
    Gpu,
    /// Slot images cannot be stored.
    Storage,
    /// The engine has ended.
    Closed,
    /// Something that should not happen.
    Internal,
}

impl Kind {
    /// Status and type of the error, as on the wire.
    fn class(self) -> (u16, &'static str) {
        match self {
            Self::Options => (400, "invalid_request_error"),
            Self::Model => (422, "invalid_model_error"),
            Self::Source => (500, "source_error"),
            Self::ModelTooLarge => (507, "model_too_large_error"),
            Self::ContextTooLarge => (507, "context_too_large_error"),
            Self::Gpu => (501, "gpu_error"),
            Self::Storage => (507, "storage_error"),
            Self::Closed => (503, "unavailable_error"),
            Self::Internal => (500, "server_error"),
        }
    }
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::new(Kind::Source, error.to_string())
    }
}

impl From<GgufError> for Failure {
    fn from(error: GgufError) -> Self {
        match error {
            GgufError::Source(error) => error.into(),
            error => Self::new(Kind::Model, error.to_string()),
        }
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        Self::new(Kind::Model, error.to_string())
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Gguf(error) => error.into(),
            ModelError::Source(error) => error.into(),
            ModelError::Compute(error @ ComputeError::Device(_)) => Self::new(Kind::Gpu, error.to_string()),
            ModelError::DeviceLost(_) => Self::new(Kind::Gpu, error.to_string()),
            error => Self::new(Kind::Model, error.to_string()),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let kind = match error {
            EngineError::Save(_) | EngineError::Restore(_) => Kind::Storage,
            EngineError::Closed => Kind::Closed,
            _ => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        let (code, r#type) = failure.kind.class();
        let error = js_sys::Error::new(&failure.message);
        error.set_name("RepriseError");
        for (name, value) in [("code", Self::from(code)), ("type", Self::from(r#type))] {
            // A fresh error takes properties.
            let _ = js_sys::Reflect::set(&error, &Self::from(name), &value);
        }
        error.into()
    }
}

/// What a value that JavaScript threw says.
pub(crate) fn thrown(value: &JsValue) -> String {
    use wasm_bindgen::JsCast;
    match value.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => value.as_string().unwrap_or_else(|| format!("{value:?}")),
    }
}
