//! `generation_settings` of a native answer and `params` of `/slots` and `/props`.

use reprise_engine::sample::{Grammar, Sampling};
use reprise_engine::{EngineHandle, Generate};
use reprise_text::Vocab;
use serde::Serialize;

use super::bias::Bias;
use super::number::Widened;
use super::sampling::sampler_name;
use crate::config::Defaults;

/// Every parameter of a generation.
///
/// What Reprise does not have stands with the value that means "off" in the reference, so that clients that read
/// these fields find them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Settings {
    seed: u32,
    temperature: Widened,
    dynatemp_range: Widened,
    dynatemp_exponent: Widened,
    top_k: i32,
    top_p: Widened,
    min_p: Widened,
    top_n_sigma: Widened,
    xtc_probability: Widened,
    xtc_threshold: Widened,
    typical_p: Widened,
    repeat_last_n: i32,
    repeat_penalty: Widened,
    presence_penalty: Widened,
    frequency_penalty: Widened,
    dry_multiplier: Widened,
    dry_base: Widened,
    dry_allowed_length: i32,
    dry_penalty_last_n: i32,
    mirostat: u8,
    mirostat_tau: Widened,
    mirostat_eta: Widened,
    adaptive_target: Widened,
    adaptive_decay: Widened,
    max_tokens: i64,
    n_predict: i64,
    n_keep: i32,
    n_discard: u32,
    ignore_eos: bool,
    stream: bool,
    n_probs: u32,
    min_keep: u32,
    chat_format: &'static str,
    reasoning_format: &'static str,
    reasoning_in_content: bool,
    generation_prompt: &'static str,
    samplers: Vec<&'static str>,
    #[serde(rename = "speculative.types")]
    speculative_types: &'static str,
    timings_per_token: bool,
    post_sampling_probs: bool,
    backend_sampling: bool,
    lora: [(); 0],
    #[serde(flatten)]
    texts: Option<Texts>,
}

/// Parameters with text in them, which `/slots` shows only on request.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Texts {
    dry_sequence_breakers: Vec<String>,
    stop: Vec<String>,
    logit_bias: Vec<Bias>,
    grammar: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<String>,
    grammar_lazy: bool,
    grammar_triggers: [(); 0],
    preserved_tokens: [(); 0],
}

impl Settings {
    /// All parameters of a request.
    pub(crate) fn whole(request: &Generate, engine: &EngineHandle) -> Self {
        let texts = Texts::new(request, engine.text().tokenizer.vocab());
        Self { texts: Some(texts), ..Self::brief(request, engine) }
    }

    /// The parameters without texts.
    pub(crate) fn brief(request: &Generate, engine: &EngineHandle) -> Self {
        let Generate { sampling, limits, .. } = request;
        let predict = limits.predict.map_or(-1, i64::from);
        Self {
            max_tokens: predict,
            n_predict: predict,
            n_keep: limits.keep,
            n_discard: limits.discard,
            ignore_eos: limits.ignore_eos,
            stream: request.stream,
            n_probs: request.probabilities.map_or(0, |probabilities| probabilities.top),
            // The reference adds the type that is asked for to the one that stands there.
            speculative_types: if engine.config().speculation.is_some() {
                "none,ngram-simple"
            } else {
                "none"
            },
            timings_per_token: request.timings_per_token,
            post_sampling_probs: request
                .probabilities
                .is_some_and(|probabilities| probabilities.post_sampling),
            ..Self::sampling(sampling)
        }
    }

    /// What a request without any field would run with, for `/props`.
    pub(crate) fn defaults(defaults: &Defaults) -> Self {
        Self::sampling(&defaults.sampling)
    }

    fn sampling(sampling: &Sampling) -> Self {
        let Sampling { dry, mirostat, .. } = sampling;
        Self {
            seed: sampling.seed,
            temperature: Widened(sampling.temperature),
            dynatemp_range: Widened(sampling.dynatemp_range),
            dynatemp_exponent: Widened(sampling.dynatemp_exponent),
            top_k: sampling.top_k,
            top_p: Widened(sampling.top_p),
            min_p: Widened(sampling.min_p),
            top_n_sigma: Widened(sampling.top_n_sigma),
            xtc_probability: Widened(sampling.xtc_probability),
            xtc_threshold: Widened(sampling.xtc_threshold),
            typical_p: Widened(sampling.typical_p),
            repeat_last_n: sampling.repeat_last_n,
            repeat_penalty: Widened(sampling.repeat_penalty),
            presence_penalty: Widened(sampling.presence_penalty),
            frequency_penalty: Widened(sampling.frequency_penalty),
            dry_multiplier: Widened(dry.multiplier),
            dry_base: Widened(dry.base),
            dry_allowed_length: dry.allowed_length,
            dry_penalty_last_n: dry.penalty_last_n,
            mirostat: mirostat.version,
            mirostat_tau: Widened(mirostat.tau),
            mirostat_eta: Widened(mirostat.eta),
            adaptive_target: Widened(-1.0),
            adaptive_decay: Widened(0.9),
            max_tokens: -1,
            n_predict: -1,
            n_keep: 0,
            n_discard: 0,
            ignore_eos: false,
            stream: false,
            n_probs: 0,
            min_keep: sampling.min_keep,
            chat_format: "Content-only",
            reasoning_format: "none",
            reasoning_in_content: false,
            generation_prompt: "",
            samplers: sampling.samplers.iter().map(|kind| sampler_name(*kind)).collect(),
            speculative_types: "none",
            timings_per_token: false,
            post_sampling_probs: false,
            backend_sampling: false,
            lora: [],
            texts: None,
        }
    }
}

impl Texts {
    fn new(request: &Generate, vocab: &Vocab) -> Self {
        let sampling = &request.sampling;
        let banned = request.limits.ignore_eos.then(|| vocab.end_of_generation());
        let banned = banned.into_iter().flatten().map(|token| (token, f32::NEG_INFINITY));
        let biases: Vec<_> = sampling.logit_bias.iter().copied().chain(banned).collect();
        let (grammar, json_schema) = match &sampling.grammar {
            Some(Grammar::Gbnf(grammar)) => (grammar.clone(), None),
            Some(Grammar::JsonSchema(schema)) => (String::new(), Some(schema.clone())),
            None => (String::new(), None),
        };
        Self {
            dry_sequence_breakers: sampling.dry.sequence_breakers.clone(),
            stop: request.stops.clone(),
            logit_bias: biases.iter().map(Bias::from).collect(),
            grammar,
            json_schema,
            grammar_lazy: false,
            grammar_triggers: [],
            preserved_tokens: [],
        }
    }
}
