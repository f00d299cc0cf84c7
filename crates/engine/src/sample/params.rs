//! The parameters of the sampler chain; defaults are llama-server's.

use reprise_gguf::TokenId;

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Seed of the generators; `u32::MAX` asks for a random one, see [`Sampling::resolve_seed`].
    pub seed: u32,
    /// At or below zero: greedy.
    pub temperature: f32,
    /// Range of the dynamic temperature; zero turns it off.
    pub dynatemp_range: f32,
    /// Exponent of the dynamic temperature.
    pub dynatemp_exponent: f32,
    /// Candidates kept; at or below zero: all.
    pub top_k: i32,
    /// Probability mass kept.
    pub top_p: f32,
    /// Least probability relative to the best.
    pub min_p: f32,
    /// Standard deviations below the best logit kept; zero and below turn it off.
    pub top_n_sigma: f32,
    /// Locally typical mass kept.
    pub typical_p: f32,
    /// Chance that XTC acts.
    pub xtc_probability: f32,
    /// Least probability of a candidate that XTC removes.
    pub xtc_threshold: f32,
    /// Tokens looked back on by the penalties, the prompt's among them; zero and below turn them off.
    pub repeat_last_n: i32,
    /// Factor on repeated tokens.
    pub repeat_penalty: f32,
    /// Subtracted once from a repeated token.
    pub presence_penalty: f32,
    /// Subtracted for each repetition.
    pub frequency_penalty: f32,
    /// The DRY sampler.
    pub dry: DryParams,
    /// Mirostat, instead of the chain.
    pub mirostat: Mirostat,
    /// Candidates that filters must leave.
    pub min_keep: u32,
    /// Added to logits; negative infinity bans.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// The chain, in order.
    pub samplers: Vec<SamplerKind>,
    /// Constrains the text.
    pub grammar: Option<Grammar>,
}

/// "Don't repeat yourself".
#[derive(Debug, Clone, PartialEq)]
pub struct DryParams {
    /// Zero turns it off.
    pub multiplier: f32,
    /// Base of the exponent.
    pub base: f32,
    /// Repetitions up to this length are free.
    pub allowed_length: i32,
    /// Tokens looked back on; zero and below turn it off.
    pub penalty_last_n: i32,
    /// Strings that end a sequence.
    pub sequence_breakers: Vec<String>,
}

/// Mirostat's version and parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mirostat {
    /// 0 off, 1 or 2.
    pub version: u8,
    /// Target entropy.
    pub tau: f32,
    /// Learning rate.
    pub eta: f32,
}

/// Links of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplerKind {
    /// Repeat, frequency and presence penalties.
    Penalties,
    /// DRY.
    Dry,
    /// Top-n-sigma.
    TopNSigma,
    /// Top-k.
    TopK,
    /// Locally typical.
    TypicalP,
    /// Nucleus.
    TopP,
    /// Min-p.
    MinP,
    /// XTC.
    Xtc,
    /// Temperature, with its dynamic form.
    Temperature,
}

/// A constraint on the generated text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grammar {
    /// llama.cpp's GBNF.
    Gbnf(String),
    /// A JSON schema, as JSON text.
    JsonSchema(String),
}

/// Probabilities of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenProbs {
    /// The sampled token.
    pub chosen: TokenProb,
    /// The best candidates, best first.
    pub top: Vec<TokenProb>,
}

/// One candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenProb {
    /// The token.
    pub id: TokenId,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability (before the chain), or the probability itself after the chain.
    pub value: f32,
}

impl Sampling {
    /// The seed to start from: the one asked for, or one made of the host's `entropy` (a time, a counter, anything that
    /// differs between requests).
    #[must_use]
    pub fn resolve_seed(&self, entropy: u64) -> u32 {
        if self.seed != u32::MAX {
            return self.seed;
        }
        // The finalizer of SplitMix64: nearby entropies give unrelated seeds.
        let mixed = (entropy ^ (entropy >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 32) as u32
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            seed: u32::MAX,
            temperature: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            top_n_sigma: -1.0,
            typical_p: 1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            repeat_last_n: 64,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            dry: DryParams::default(),
            mirostat: Mirostat { version: 0, tau: 5.0, eta: 0.1 },
            min_keep: 0,
            logit_bias: Vec::new(),
            samplers: SamplerKind::DEFAULT.to_vec(),
            grammar: None,
        }
    }
}

impl Default for DryParams {
    fn default() -> Self {
        Self {
            multiplier: 0.0,
            base: 1.75,
            allowed_length: 2,
            penalty_last_n: 64,
            sequence_breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
        }
    }
}

impl SamplerKind {
    /// llama-server's default chain.
    pub const DEFAULT: [Self; 9] = [
        Self::Penalties,
        Self::Dry,
        Self::TopNSigma,
        Self::TopK,
        Self::TypicalP,
        Self::TopP,
        Self::MinP,
        Self::Xtc,
        Self::Temperature,
    ];
}
