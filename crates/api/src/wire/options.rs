//! The fields of a completion: what the engine is asked, and how the answer is to look.

use std::time::Duration;

use reprise_engine::{EngineHandle, Generate, Limits, Probabilities};
use serde_json::{Map, Value};

use super::field::{Fields, NATURAL, NATURAL_OR_OFF, boolean, integer, number, string, strings, within};
use super::sampling;
use crate::{ApiConfig, ApiError};

/// A request without its prompts.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What every prompt is run with; its `prompt` is empty.
    pub(crate) template: Generate,
    /// What only the answer is concerned with.
    pub(crate) look: Look,
}

/// How the answer is to look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Server-sent events.
    pub(crate) stream: bool,
    /// A chunk with `usage` at the end of a chat stream.
    pub(crate) include_usage: bool,
    /// `tokens` is filled.
    pub(crate) return_tokens: bool,
    /// `timings` in every chunk.
    pub(crate) timings_per_token: bool,
    /// Probabilities are those after the sampler chain.
    pub(crate) post_sampling: bool,
    /// `__verbose`: the native answer inside the OpenAI one.
    pub(crate) verbose: bool,
    /// Paths kept of a native answer; empty keeps all.
    pub(crate) response_fields: Vec<String>,
}

impl Options {
    /// Reads the fields, in the reference's order, so that the same one is complained about first.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] that names the field.
    pub(crate) fn parse(
        body: &Map<String, Value>,
        engine: &EngineHandle,
        config: &ApiConfig,
    ) -> Result<Self, ApiError> {
        let fields = Fields(body);
        let defaults = &config.defaults;
        let mut look = look(fields)?;
        let cache_prompt = fields.flag("cache_prompt", defaults.cache_prompt)?;
        look.return_tokens = fields.flag("return_tokens", false)?;
        let progress = fields.flag("return_progress", false)? && look.stream;
        let heartbeat = heartbeat(fields, defaults.heartbeat)?.filter(|_| look.stream);
        let (mut limits, copies) = limits(fields, defaults.predict, defaults.keep, engine.config().slots)?;
        let reuse_chunk = fields.whole(&["n_cache_reuse"], NATURAL, defaults.reuse_chunk)?;
        let cache_store = fields.flag("cache_store", false)?;
        limits.time = time_limit(fields)?;
        look.response_fields = fields.lenient("response_fields", strings).unwrap_or_default();
        let top = fields.clamped(&["n_probs", "logprobs"], (0, i32::MAX), 0)?;
        let vocabulary = engine.text().tokenizer.vocab().len();
        let top = u32::try_from((top as usize).min(vocabulary)).unwrap_or(u32::MAX);
        look.post_sampling = fields.flag("post_sampling_probs", false)?;
        fields.flag("backend_sampling", false)?;
        fields.read(&["lora"], lora)?;
        fields.read(&["reasoning_format"], reasoning_format)?;
        let sampling = sampling::parse(fields, &defaults.sampling, &engine.text().tokenizer)?;
        limits.ignore_eos = fields.flag("ignore_eos", false)?;
        let template = Generate {
            prompt: Vec::new(),
            copies,
            pin: fields
                .lenient("id_slot", integer)
                .and_then(|id| i64::try_from(id).ok())
                .filter(|id| *id != ANY_SLOT),
            cache_prompt,
            reuse_chunk,
            cache_store,
            limits,
            stops: fields.read(&["stop"], sampling::stops)?.unwrap_or_default(),
            sampling,
            probabilities: (top > 0).then_some(Probabilities { top, post_sampling: look.post_sampling }),
            special: defaults.special,
            progress,
            stream: look.stream,
            timings_per_token: look.timings_per_token,
            heartbeat,
        };
        Ok(Self { template, look })
    }
}

/// `id_slot` of a request that takes any slot; every other number names one, modulo the slots.
const ANY_SLOT: i64 = -1;

fn look(fields: Fields<'_>) -> Result<Look, ApiError> {
    let verbose = fields.flag("verbose", false)?;
    let timings_per_token = fields.flag("timings_per_token", false)?;
    let stream = fields.flag("stream", false)?;
    let stream_options = fields.find(&["stream_options"]).and_then(|(_, value)| value.as_object());
    let include_usage =
        stream_options.map_or(Ok(false), |options| Fields(options).flag("include_usage", false))?;
    Ok(Look { stream, include_usage, timings_per_token, verbose, ..Look::default() })
}

/// Seconds of silence before a ping; zero and -1 turn it off.
fn heartbeat(fields: Fields<'_>, default: Option<Duration>) -> Result<Option<Duration>, ApiError> {
    let seconds = fields.read(&["sse_ping_interval"], |value| within(integer(value)?, &NATURAL_OR_OFF))?;
    let asked = |seconds| u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
    Ok(seconds.map_or(default, asked))
}

/// Limits without the time limit, and the number of copies.
fn limits(
    fields: Fields<'_>,
    predict: Option<u32>,
    keep: i32,
    slots: u32,
) -> Result<(Limits, u32), ApiError> {
    const PREDICT: [&str; 3] = ["n_predict", "max_completion_tokens", "max_tokens"];
    let asked = fields.read(&PREDICT, |value| within(integer(value)?, &NATURAL_OR_OFF))?;
    let limits = Limits {
        // -1 asks for the server's own limit, like an absent field.
        predict: asked.and_then(|tokens| u32::try_from(tokens).ok()).or(predict),
        indent: fields.whole(&["n_indent"], NATURAL, 0)?,
        keep: fields.whole(&["n_keep"], NATURAL_OR_OFF, keep)?,
        discard: fields.whole(&["n_discard"], NATURAL, 0)?,
        time: None,
        ignore_eos: false,
    };
    Ok((limits, fields.whole(&["n_cmpl", "n"], 1..=i128::from(slots), 1)?))
}

fn time_limit(fields: Fields<'_>) -> Result<Option<Duration>, ApiError> {
    let limits = -1..=i128::from(i64::MAX);
    let milliseconds = fields.read(&["t_max_predict_ms"], |value| within(number(value)?, &limits))?;
    let positive = milliseconds.and_then(|time| u64::try_from(time).ok()).filter(|time| *time > 0);
    Ok(positive.map(Duration::from_millis))
}

/// Adapters are not offered; a list of them chooses among none, as in the reference without `--lora`.
fn lora(value: &Value) -> Result<(), String> {
    const FORM: &str = "Error: 'lora' must be an array of objects with 'id' and 'scale' fields";
    if value.is_array() { Ok(()) } else { Err(FORM.to_owned()) }
}

/// Reasoning is not separated from the content whatever the format; a wrong name is still an error.
pub(crate) fn reasoning_format(value: &Value) -> Result<(), String> {
    match string(value)? {
        "none" | "auto" | "deepseek" | "deepseek-legacy" => Ok(()),
        other => Err(format!("Unknown reasoning format: {other}")),
    }
}

/// `true`, as the reference's lenient readers see it.
pub(crate) fn is_true(body: &Map<String, Value>, name: &str) -> bool {
    Fields(body).lenient(name, boolean).unwrap_or(false)
}
