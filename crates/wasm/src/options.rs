//! What the page asks for, in the words of the package; each field means llama-server's flag of that name.

use serde::Deserialize;
use serde_json::{Map, Value};
use wasm_bindgen::JsValue;

use crate::error::{Failure, Kind};

/// Which arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendChoice {
    /// Whichever a short probe finds faster.
    #[default]
    Auto,
    /// The GPU, or an error.
    WebGpu,
    /// The processor.
    Wasm,
}

/// How token states become one vector.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PoolingChoice {
    None,
    Mean,
    Cls,
    Last,
}

/// How RoPE is scaled.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RopeChoice {
    None,
    Linear,
}

/// How tokens are drafted.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SpeculationChoice {
    #[default]
    None,
    #[serde(alias = "ngram")]
    NgramSimple,
}

/// Options of `Engine.load`. A field that is not known is an error: it would be a typing mistake without effect.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoadOptions {
    /// Name or address of the model, for `/props` and `/v1/models`.
    pub model_name: String,
    #[serde(default)]
    pub backend: BackendChoice,
    /// Threads of the processor's backend; used where the module has shared memory.
    #[serde(default = "one")]
    pub threads: usize,
    #[serde(default)]
    pub aliases: Vec<String>,
    /// -1 is 4 slots that share one pool.
    #[serde(default = "auto")]
    pub slots: i32,
    /// Tokens over all slots; 0 takes the model's training context.
    #[serde(default)]
    pub context: u32,
    pub unified: Option<bool>,
    #[serde(default)]
    pub context_per_slot: u32,
    #[serde(default = "batch")]
    pub batch: u32,
    #[serde(default = "micro_batch")]
    pub micro_batch: u32,
    #[serde(default)]
    pub context_shift: bool,
    #[serde(default)]
    pub spec_type: SpeculationChoice,
    pub spec_ngram_simple_size_n: Option<u32>,
    pub spec_ngram_simple_size_m: Option<u32>,
    pub spec_ngram_simple_min_hits: Option<u32>,
    #[serde(default)]
    pub keep: i32,
    #[serde(default = "auto")]
    pub predict: i32,
    #[serde(default = "similarity")]
    pub similarity: f32,
    /// MiB.
    pub cache_ram: Option<i64>,
    /// MiB of blocks that outlive the page; -1 without a limit.
    pub cache_disk: Option<i64>,
    /// Requests with different API keys share the prompt cache.
    #[serde(default)]
    pub cache_shared: bool,
    #[serde(default = "yes")]
    pub cache_idle_slots: bool,
    #[serde(default = "yes")]
    pub cache_prompt: bool,
    #[serde(default)]
    pub cache_reuse: u32,
    /// Slots can be saved, restored and erased.
    #[serde(default = "yes")]
    pub slot_files: bool,
    #[serde(default)]
    pub api_keys: Vec<String>,
    #[serde(default)]
    pub api_prefix: String,
    pub cors_origins: Option<String>,
    #[serde(default = "yes")]
    pub cors_credentials: bool,
    #[serde(default)]
    pub metrics: bool,
    #[serde(default)]
    pub props: bool,
    #[serde(default = "yes")]
    pub slots_endpoint: bool,
    #[serde(default)]
    pub slots_debug: bool,
    pub embeddings: Option<PoolingChoice>,
    pub chat_template: Option<String>,
    /// Request fields that are the defaults of every request.
    #[serde(default)]
    pub defaults: Map<String, Value>,
    pub rope_freq_base: Option<f32>,
    pub rope_freq_scale: Option<f32>,
    pub rope_scaling: Option<RopeChoice>,
    /// Seconds of silence after which a stream sends a comment; -1 is never.
    #[serde(default = "ping_interval")]
    pub ping_interval: i64,
    #[serde(default)]
    pub special: bool,
    /// Bytes.
    #[serde(default = "max_body")]
    pub max_body: usize,
    /// Bytes that the model may take, at most; what the browser gives when missing.
    pub max_memory: Option<f64>,
    #[serde(default)]
    pub persist: Persist,
    #[serde(default)]
    pub gpu: GpuFeatures,
}

impl LoadOptions {
    /// Reads an object of JavaScript. By way of JSON, which names every field of the object, the unknown ones too.
    ///
    /// # Errors
    /// [`Kind::Options`] that names the field.
    pub(crate) fn read(options: &JsValue) -> Result<Self, Failure> {
        let refused =
            |reason: String| Failure::new(Kind::Options, format!("the options are not valid: {reason}"));
        let json =
            js_sys::JSON::stringify(options).map_err(|_| refused("they are no plain object".to_owned()))?;
        serde_json::from_str(&String::from(json)).map_err(|error| refused(error.to_string()))
    }
}

/// What outlives the page.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Persist {
    /// Slots are stored when they become idle and come back at the next load; by default where there is IndexedDB.
    pub automatic: Option<bool>,
    /// Engines of different namespaces do not see each other's images.
    #[serde(default)]
    pub namespace: String,
}

/// Kernels for features of the adapter that are used, or left alone; where missing, what is best.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GpuFeatures {
    pub subgroups: Option<bool>,
    pub dot4: Option<bool>,
    pub f16: Option<bool>,
    pub row_tile: Option<u32>,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn auto() -> i32 {
    -1
}

fn batch() -> u32 {
    2048
}

/// Small: an abort is seen between two passes, and a pass in a browser takes long.
fn micro_batch() -> u32 {
    64
}

fn similarity() -> f32 {
    0.1
}

fn ping_interval() -> i64 {
    30
}

fn max_body() -> usize {
    64 << 20
}
