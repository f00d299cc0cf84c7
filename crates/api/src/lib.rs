//! llama-server's HTTP API as an axum router: the only crate that knows HTTP or JSON.
//!
//! [`router`] takes an [`reprise_engine::EngineHandle`] and an [`ApiConfig`] and nothing else, so the same router
//! answers in the native server and in a browser worker. Wire names (`n_predict`, `id_slot`, ...) live in the private
//! `wire` module; everything the handlers pass on is typed.
//!
//! # Where it differs from llama-server, on purpose
//!
//! * Bad requests answer 400 also where the reference answers 500 (malformed chat messages and tools, token ids that
//!   do not exist in `/detokenize`), and numbers outside of their type are refused or clamped rather than wrapped.
//! * The `usage` and `timings` of an OpenAI answer cover all prompts and copies of a request, not the first only.
//! * Text that was held back as a possible stop string is part of the last chunk of a stream instead of being lost.
//! * Native answers and `/slots` say which slot was chosen and why: `placement: {slot, reason, cached, evicted}`; native
//!   answers also tell the `seed` that was used where the request left it to chance, and `/slots` what the request took:
//!   `placement: {.., processed, generated, prompt_ms, saved_ms}`, also when it is over.
//! * `GET /slots/{id}/state` gives a slot's image without a file, `PUT` takes one, also from another host with the same
//!   model; where slot actions are allowed, and up to the size of a full slot's image whatever the limit of bodies is.
//!   `GET` names the image with an `ETag` and answers 304 to an `If-None-Match` that holds it.
//! * `action=save` takes a `format`: `reprise` or `llama.cpp`, for llama-server's own slot files; `action=restore` and
//!   `PUT` state read both.
//! * Slot actions asked for by a foreign web page are refused unless `--cors-origins` or an API key was set
//!   ([`cors`](CorsConfig) explains).
//! * Tools are rendered into the prompt, but tool calls in the answer are not parsed, nor is reasoning separated from
//!   the content: both arrive as plain `content`. Lazy grammars and the `infill` and `adaptive_p` samplers are
//!   refused by name.
//! * A stream ends with its connection: resumable streams (`X-Conversation-Id`) are not offered.

mod auth;
mod body;
mod chat;
mod completion;
mod config;
mod cors;
mod embeddings;
mod error;
mod etag;
mod file_name;
mod generation;
mod infill;
mod metrics;
mod models;
mod router;
mod slots;
mod sse;
mod tokens;
mod wire;

pub use config::{ApiConfig, Defaults, Endpoints, ModelCard};
pub use cors::CorsConfig;
pub use embeddings::Pooling;
pub use error::ApiError;
pub use file_name::{FileName, InvalidFileName};
pub use router::{loading_router, router};
