//! What a host decides about the API before it serves it; llama-server's flags in our words.

use std::time::Duration;

use reprise_engine::sample::Sampling;
use serde_json::{Map, Value};

use crate::{CorsConfig, Pooling};

/// Everything the router needs besides the engine. [`ApiConfig::new`] has llama-server's defaults.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// How the model is called.
    pub model: ModelCard,
    /// Which endpoints answer.
    pub endpoints: Endpoints,
    /// What a request gets that does not ask.
    pub defaults: Defaults,
    /// Accepted keys (`--api-key`, `--api-key-file`); empty leaves the API open.
    pub api_keys: Vec<String>,
    /// Keys share one prompt cache (`--cache-shared`).
    pub cache_shared: bool,
    /// Cross-origin requests.
    pub cors: CorsConfig,
    /// Path in front of every endpoint (`--api-prefix`), without a slash at its end; empty for none.
    pub prefix: String,
    /// Largest request body, bytes.
    pub body_limit: usize,
    /// `build_info` of `/props` and `system_fingerprint` of OpenAI answers.
    pub build: String,
    /// A web page is served beside the API (`ui` of `/props`).
    pub ui: bool,
    /// Unix time, seconds. The API has no clock of its own, so that it also runs where there is none.
    pub now: fn() -> u64,
    /// Seconds that local time is ahead of UTC; only chat templates that tell the date see it.
    pub utc_offset: i64,
    /// Random bits, for the ids of completions.
    pub entropy: fn() -> u64,
}

/// The names of the model.
#[derive(Debug, Clone, Default)]
pub struct ModelCard {
    /// `--alias`; the alphabetically first one is the model's id. Without any the path is.
    pub aliases: Vec<String>,
    /// `--tags`.
    pub tags: Vec<String>,
    /// Path or name of the model file.
    pub path: String,
}

/// Endpoints that can be switched.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// `GET /slots` (`--slots`).
    pub slots: bool,
    /// `POST /slots/{id}` (`--slot-save-path`).
    pub slot_actions: bool,
    /// `GET /slots` shows prompts and texts (`LLAMA_SERVER_SLOTS_DEBUG=1`).
    pub slots_debug: bool,
    /// `POST /props` (`--props`).
    pub props: bool,
    /// `GET /metrics` (`--metrics`).
    pub metrics: bool,
    /// `/embedding` and `/v1/embeddings` (`--embeddings`), and how token states become one vector (`--pooling`).
    pub embeddings: Option<Pooling>,
}

/// Values of fields that a request leaves out or sets to null.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// `n_predict` (`-n`); `None` is unlimited.
    pub predict: Option<u32>,
    /// `n_keep` (`--keep`).
    pub keep: i32,
    /// `cache_prompt` (`--cache-prompt`).
    pub cache_prompt: bool,
    /// `n_cache_reuse` (`--cache-reuse`), tokens.
    pub reuse_chunk: u32,
    /// `sse_ping_interval` (`--sse-ping-interval`); `None` turns pings off.
    pub heartbeat: Option<Duration>,
    /// Control tokens appear in generated text (`--special`).
    pub special: bool,
    /// `/infill` puts the suffix first (`--spm-infill`).
    pub suffix_first: bool,
    /// `chat_template_kwargs` (`--chat-template-kwargs`); a request's own go over them.
    pub template_arguments: Map<String, Value>,
    /// A conversation that ends with the assistant's words is continued (`--prefill-assistant`).
    pub prefill_assistant: bool,
}

impl ApiConfig {
    /// llama-server's defaults, with the host's clock and randomness.
    #[must_use]
    pub fn new(now: fn() -> u64, entropy: fn() -> u64) -> Self {
        Self {
            model: ModelCard::default(),
            endpoints: Endpoints::default(),
            defaults: Defaults::default(),
            api_keys: Vec::new(),
            cache_shared: false,
            cors: CorsConfig::default(),
            prefix: String::new(),
            body_limit: 64 << 20,
            build: format!("reprise-{}", env!("CARGO_PKG_VERSION")),
            ui: false,
            now,
            utc_offset: 0,
            entropy,
        }
    }
}

impl ModelCard {
    /// The id of the model in answers: its alphabetically first alias, or its path.
    #[must_use]
    pub fn id(&self) -> &str {
        self.aliases.iter().min().unwrap_or(&self.path)
    }
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            slots: true,
            slot_actions: false,
            slots_debug: false,
            props: false,
            metrics: false,
            embeddings: None,
        }
    }
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            predict: None,
            keep: 0,
            cache_prompt: true,
            reuse_chunk: 0,
            heartbeat: Some(Duration::from_secs(30)),
            special: false,
            suffix_first: false,
            template_arguments: Map::new(),
            prefill_assistant: true,
        }
    }
}
