//! Reads parameters under llama-server's names.

use reprise_gguf::TokenId;
use serde_json::Value;

use crate::sample::{Mirostat, SamplerKind, Sampling};

/// A recorded case, or the parameters of one.
pub(super) struct Case<'a>(pub(super) &'a Value);

impl Case<'_> {
    pub(super) fn number(&self, key: &str, default: f64) -> f64 {
        self.0.get(key).map_or(default, |value| value.as_f64().unwrap())
    }

    pub(super) fn list(&self, key: &str) -> &[Value] {
        self.0.get(key).map_or(&[], |value| value.as_array().unwrap())
    }

    pub(super) fn tokens(&self, key: &str) -> Vec<TokenId> {
        self.list(key).iter().map(token).collect()
    }

    pub(super) fn sampling(&self) -> Sampling {
        let base = Sampling::default();
        let float = |key, default: f32| self.number(key, f64::from(default)) as f32;
        let mut dry = base.dry.clone();
        dry.multiplier = float("dry_multiplier", dry.multiplier);
        dry.base = float("dry_base", dry.base);
        dry.allowed_length = self.number("dry_allowed_length", f64::from(dry.allowed_length)) as i32;
        dry.penalty_last_n = self.number("dry_penalty_last_n", f64::from(dry.penalty_last_n)) as i32;
        let samplers = self.0.get("samplers").map(|_| self.list("samplers").iter().map(kind).collect());
        Sampling {
            seed: self.number("seed", 42.0) as u32,
            temperature: float("temperature", base.temperature),
            dynatemp_range: float("dynatemp_range", base.dynatemp_range),
            dynatemp_exponent: float("dynatemp_exponent", base.dynatemp_exponent),
            top_k: self.number("top_k", f64::from(base.top_k)) as i32,
            top_p: float("top_p", base.top_p),
            min_p: float("min_p", base.min_p),
            top_n_sigma: float("top_n_sigma", base.top_n_sigma),
            typical_p: float("typical_p", base.typical_p),
            xtc_probability: float("xtc_probability", base.xtc_probability),
            xtc_threshold: float("xtc_threshold", base.xtc_threshold),
            repeat_last_n: self.number("repeat_last_n", f64::from(base.repeat_last_n)) as i32,
            repeat_penalty: float("repeat_penalty", base.repeat_penalty),
            presence_penalty: float("presence_penalty", base.presence_penalty),
            frequency_penalty: float("frequency_penalty", base.frequency_penalty),
            dry,
            mirostat: Mirostat {
                version: self.number("mirostat", 0.0) as u8,
                tau: float("mirostat_tau", base.mirostat.tau),
                eta: float("mirostat_eta", base.mirostat.eta),
            },
            min_keep: self.number("min_keep", 0.0) as u32,
            logit_bias: self
                .list("logit_bias")
                .iter()
                .map(|pair| (token(&pair[0]), number(&pair[1])))
                .collect(),
            samplers: samplers.unwrap_or(base.samplers),
            grammar: None,
        }
    }
}

pub(super) fn token(value: &Value) -> TokenId {
    TokenId(value.as_u64().unwrap() as u32)
}

pub(super) fn number(value: &Value) -> f32 {
    match value {
        Value::Bool(false) => f32::NEG_INFINITY,
        value => value.as_f64().unwrap() as f32,
    }
}

fn kind(name: &Value) -> SamplerKind {
    match name.as_str().unwrap() {
        "penalties" => SamplerKind::Penalties,
        "dry" => SamplerKind::Dry,
        "top_n_sigma" => SamplerKind::TopNSigma,
        "top_k" => SamplerKind::TopK,
        "typ_p" => SamplerKind::TypicalP,
        "top_p" => SamplerKind::TopP,
        "min_p" => SamplerKind::MinP,
        "xtc" => SamplerKind::Xtc,
        "temperature" => SamplerKind::Temperature,
        other => panic!("{other}"),
    }
}
