//! What a client may ask of the engine.

use std::time::Duration;

use reprise_gguf::TokenId;

use crate::sample::Sampling;

/// A completion of one prompt.
#[derive(Debug, Clone)]
pub struct Generate {
    /// The prompt, BOS included where the model wants one.
    pub prompt: Vec<TokenId>,
    /// How many completions of the same prompt (`n_cmpl`, `n`), at least one.
    pub copies: u32,
    /// Raw `id_slot`. `None` and -1 mean any slot; everything else wraps, see [`crate::EngineHandle::slot_of`].
    pub pin: Option<i64>,
    /// Reuse the slot's KV for the common prefix (`cache_prompt`).
    pub cache_prompt: bool,
    /// Smallest chunk that is reused by shifting (`n_cache_reuse`); zero turns it off.
    pub reuse_chunk: u32,
    /// Put what this leaves into the store for blocks at its end, without waiting for another request to ask for it
    /// (`cache_store`).
    pub cache_store: bool,
    /// When to stop.
    pub limits: Limits,
    /// Stop strings.
    pub stops: Vec<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Report probabilities.
    pub probabilities: Option<Probabilities>,
    /// Control tokens appear in the text (llama-server's `--special`).
    pub special: bool,
    /// Send [`crate::Event::Progress`] (`return_progress`).
    pub progress: bool,
    /// The client reads a stream: wire-level detail kept for `/slots` and `generation_settings`.
    pub stream: bool,
    /// Send timings with every token; kept for `/slots` and `generation_settings`.
    pub timings_per_token: bool,
    /// Silence after which a [`crate::Event::Heartbeat`] is sent; `None` never.
    pub heartbeat: Option<Duration>,
}

/// When a generation stops by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens to sample (`n_predict`); `None` is unlimited. Zero samples nothing: the prompt is only evaluated.
    pub predict: Option<u32>,
    /// Prompt tokens kept by a context shift (`n_keep`); negative keeps the whole prompt.
    pub keep: i32,
    /// Tokens dropped by a context shift (`n_discard`); zero drops half.
    pub discard: u32,
    /// Least indentation of a generated line, in characters (`n_indent`); zero turns it off.
    pub indent: u32,
    /// Time after the first token (`t_max_predict_ms`), looked at on each new line.
    pub time: Option<Duration>,
    /// End-of-generation tokens are never sampled (`ignore_eos`).
    pub ignore_eos: bool,
}

/// Which probabilities are reported with each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probabilities {
    /// How many candidates (`n_probs`).
    pub top: u32,
    /// After the sampler chain rather than before (`post_sampling_probs`).
    pub post_sampling: bool,
}
