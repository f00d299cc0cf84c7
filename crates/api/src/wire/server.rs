//! `/health`, `/v1/models` and `/props`.

use reprise_engine::EngineHandle;
use reprise_gguf::TokenId;
use serde::Serialize;
use serde_json::{Map, Value};

use super::settings::Settings;
use crate::ApiConfig;

/// The server is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Health {
    status: &'static str,
}

impl Health {
    pub(crate) const OK: Self = Self { status: "ok" };
}

/// Something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Success {
    success: bool,
}

impl Success {
    pub(crate) const YES: Self = Self { success: true };
}

/// The list of the one model, in two styles at once: `models` as Ollama has it, `data` as OpenAI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Models {
    models: [OllamaModel; 1],
    object: &'static str,
    data: [OpenAiModel; 1],
}

/// Only the names are real; clients check that the other fields are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct OllamaModel {
    name: String,
    model: String,
    modified_at: &'static str,
    size: &'static str,
    digest: &'static str,
    r#type: &'static str,
    description: &'static str,
    tags: [&'static str; 1],
    capabilities: [&'static str; 1],
    parameters: &'static str,
    details: OllamaDetails,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct OllamaDetails {
    parent_model: &'static str,
    format: &'static str,
    family: &'static str,
    families: [&'static str; 1],
    parameter_size: &'static str,
    quantization_level: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct OpenAiModel {
    id: String,
    aliases: Vec<String>,
    tags: Vec<String>,
    object: &'static str,
    architecture: Modalities,
    created: u64,
    owned_by: &'static str,
    meta: Meta,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Modalities {
    input_modalities: [&'static str; 1],
    output_modalities: [&'static str; 1],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Meta {
    vocab_type: u32,
    n_vocab: usize,
    n_ctx: u32,
    n_ctx_train: u32,
    n_embd: usize,
    n_params: u64,
    size: u64,
    ftype: String,
}

impl Models {
    /// The model of an engine.
    pub(crate) fn new(engine: &EngineHandle, config: &ApiConfig) -> Self {
        let id = config.model.id().to_owned();
        let model = engine.model();
        let mut aliases = config.model.aliases.clone();
        aliases.sort();
        aliases.dedup();
        if aliases.is_empty() {
            aliases.push(id.clone());
        }
        Self {
            models: [OllamaModel::named(&id)],
            object: "list",
            data: [OpenAiModel {
                id,
                aliases,
                tags: config.model.tags.clone(),
                object: "model",
                architecture: Modalities { input_modalities: ["text"], output_modalities: ["text"] },
                created: (config.now)(),
                owned_by: "llamacpp",
                meta: Meta {
                    vocab_type: engine.text().tokenizer.vocab().kind.number(),
                    n_vocab: model.vocab,
                    n_ctx: engine.config().slot_context,
                    n_ctx_train: model.train_context,
                    n_embd: model.embedding,
                    n_params: model.parameters,
                    size: model.bytes,
                    ftype: model.file_type.clone(),
                },
            }],
        }
    }
}

impl OllamaModel {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            model: name.to_owned(),
            modified_at: "",
            size: "",
            digest: "",
            r#type: "model",
            description: "",
            tags: [""],
            capabilities: ["completion"],
            parameters: "",
            details: OllamaDetails {
                parent_model: "",
                format: "gguf",
                family: "",
                families: [""],
                parameter_size: "",
                quantization_level: "",
            },
        }
    }
}

/// `/props`. What Reprise does not have stands as off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Props {
    default_generation_settings: DefaultSettings,
    total_slots: u32,
    model_alias: String,
    model_ftype: String,
    model_path: String,
    modalities: Media,
    media_marker: &'static str,
    endpoint_slots: bool,
    endpoint_props: bool,
    endpoint_metrics: bool,
    ui: bool,
    ui_settings: Map<String, Value>,
    chat_template: String,
    chat_template_caps: Value,
    bos_token: String,
    eos_token: String,
    build_info: String,
    is_sleeping: bool,
    cors_proxy_enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct DefaultSettings {
    params: Settings,
    n_ctx: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Media {
    vision: bool,
    video: bool,
    audio: bool,
}

impl Props {
    /// The properties of a server.
    pub(crate) fn new(engine: &EngineHandle, config: &ApiConfig) -> Self {
        let text = engine.text();
        let vocab = text.tokenizer.vocab();
        let token = |id: Option<TokenId>| id.map(|id| vocab.text(id).to_owned()).unwrap_or_default();
        Self {
            default_generation_settings: DefaultSettings {
                params: Settings::defaults(&config.defaults),
                n_ctx: engine.config().slot_context,
            },
            total_slots: engine.config().slots,
            model_alias: config.model.id().to_owned(),
            model_ftype: engine.model().file_type.clone(),
            model_path: config.model.path.clone(),
            modalities: Media { vision: false, video: false, audio: false },
            media_marker: "",
            endpoint_slots: config.endpoints.slots,
            endpoint_props: config.endpoints.props,
            endpoint_metrics: config.endpoints.metrics,
            ui: config.ui,
            ui_settings: Map::new(),
            chat_template: text.template.source().to_owned(),
            chat_template_caps: text.template.caps(),
            bos_token: token(vocab.bos),
            eos_token: token(vocab.eos),
            build_info: config.build.clone(),
            is_sleeping: false,
            cors_proxy_enabled: false,
        }
    }
}
