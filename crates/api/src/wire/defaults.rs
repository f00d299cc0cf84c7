//! Request fields as an operator's defaults: what every request gets that does not ask.

use std::time::Duration;

use reprise_text::Tokenizer;
use serde_json::{Map, Value};

use super::field::{Fields, NATURAL, NATURAL_OR_OFF, integer, type_error, within};
use super::sampling;
use crate::{ApiError, Defaults};

/// Every field that has a default.
const FIELDS: &[&str] = &[
    "cache_prompt",
    "chat_template_kwargs",
    "dry_allowed_length",
    "dry_base",
    "dry_multiplier",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "dynatemp_exponent",
    "dynatemp_range",
    "frequency_penalty",
    "grammar",
    "json_schema",
    "logit_bias",
    "max_completion_tokens",
    "max_tokens",
    "min_keep",
    "min_p",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "n_cache_reuse",
    "n_keep",
    "n_predict",
    "presence_penalty",
    "repeat_last_n",
    "repeat_penalty",
    "samplers",
    "seed",
    "sse_ping_interval",
    "temperature",
    "top_k",
    "top_n_sigma",
    "top_p",
    "typical_p",
    "xtc_probability",
    "xtc_threshold",
];

impl Defaults {
    /// These defaults with the fields of a request in their place: `{"temperature": 0, "top_k": 1}`. Fields are named and
    /// read as in a request, those that are null or not there stay as they are.
    ///
    /// # Errors
    /// [`ApiError::Invalid`], naming the field that is not understood or has no default.
    pub fn with_fields(self, fields: &Map<String, Value>, tokenizer: &Tokenizer) -> Result<Self, ApiError> {
        const PREDICT: [&str; 3] = ["n_predict", "max_completion_tokens", "max_tokens"];
        if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(ApiError::Invalid(format!("Field '{name}' has no default that could be set")));
        }
        let fields = Fields(fields);
        let or_off = |value| within(integer(value)?, &NATURAL_OR_OFF);
        let predict = fields.read(&PREDICT, or_off)?;
        let heartbeat = fields.read(&["sse_ping_interval"], or_off)?;
        let arguments = fields.read(&["chat_template_kwargs"], |value| {
            value.as_object().cloned().ok_or_else(|| type_error("object", value))
        })?;
        Ok(Self {
            sampling: sampling::parse(fields, &self.sampling, tokenizer)?,
            predict: predict.map_or(self.predict, |tokens| u32::try_from(tokens).ok()),
            keep: fields.whole(&["n_keep"], NATURAL_OR_OFF, self.keep)?,
            cache_prompt: fields.flag("cache_prompt", self.cache_prompt)?,
            reuse_chunk: fields.whole(&["n_cache_reuse"], NATURAL, self.reuse_chunk)?,
            heartbeat: heartbeat.map_or(self.heartbeat, |seconds| {
                u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
            }),
            template_arguments: arguments.unwrap_or(self.template_arguments),
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use reprise_engine::sample::{SamplerKind, Sampling};
    use reprise_engine::testing::text;
    use serde_json::json;

    use super::*;

    fn of(fields: &Value) -> Result<Defaults, ApiError> {
        Defaults::default().with_fields(fields.as_object().unwrap(), &text().tokenizer)
    }

    #[test]
    fn no_fields_change_nothing() {
        for fields in [json!({}), json!({"top_k": null, "n_predict": null})] {
            let defaults = of(&fields).unwrap();
            assert_eq!(defaults.sampling, Sampling::default());
            assert_eq!((defaults.predict, defaults.keep, defaults.cache_prompt), (None, 0, true));
            assert_eq!(defaults.heartbeat, Defaults::default().heartbeat);
        }
    }

    #[test]
    fn fields_are_read_as_in_a_request() {
        let defaults = of(&json!({
            "temperature": -1, "top_k": 1, "seed": 7, "samplers": ["min_p"], "n_predict": 9, "n_keep": -1,
            "cache_prompt": false, "n_cache_reuse": 16, "sse_ping_interval": -1,
            "chat_template_kwargs": {"enable_thinking": false}, "logit_bias": [[3, 0.5]],
        }))
        .unwrap();
        let sampling = &defaults.sampling;
        assert_eq!((sampling.temperature, sampling.top_k, sampling.seed), (0.0, 1, 7));
        assert_eq!(sampling.samplers, [SamplerKind::MinP]);
        assert_eq!(sampling.logit_bias, [(reprise_gguf::TokenId(3), 0.5)]);
        assert_eq!((defaults.predict, defaults.keep), (Some(9), -1));
        assert_eq!((defaults.cache_prompt, defaults.reuse_chunk, defaults.heartbeat), (false, 16, None));
        assert_eq!(defaults.template_arguments["enable_thinking"], false);
        assert_eq!(of(&json!({"max_tokens": -1})).unwrap().predict, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (fields, name) in [
            (json!({"temprature": 0}), "temprature"),
            (json!({"prompt": "x"}), "prompt"),
            (json!({"top_k": "many"}), "top_k"),
            (json!({"n_predict": -2}), "n_predict"),
            (json!({"chat_template_kwargs": 1}), "chat_template_kwargs"),
        ] {
            let error = of(&fields).unwrap_err().to_string();
            assert!(error.contains(&format!("'{name}'")), "{error}");
        }
    }
}
