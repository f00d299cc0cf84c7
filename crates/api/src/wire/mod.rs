//! llama-server's and OpenAI's JSON: the one place where their field names stand.
//!
//! Answers are plain serde types. Requests are read field by field from a [`serde_json::Value`], because the
//! reference's leniency (null is absent, aliases, numbers in several guises, errors that name the field) is not
//! serde's.

pub(crate) mod bias;
pub(crate) mod chat;
mod defaults;
pub(crate) mod embedding;
pub(crate) mod field;
pub(crate) mod native;
pub(crate) mod number;
pub(crate) mod oai;
pub(crate) mod options;
pub(crate) mod probs;
pub(crate) mod prompt;
pub(crate) mod reply;
pub(crate) mod sampling;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod slot;
pub(crate) mod timings;
