//! Stage 9: from a row of logits to a token, bit-compatible with llama-server at a given seed.
//!
//! A request has one [`Sampler`]: a chain of samplers that narrow down the candidates and a generator that draws among
//! the rest. Bit-compatible means the same arithmetic in the same width and order wherever it can decide a token, the
//! same order of equally likely candidates (`order`) and the same random draws (`draw`). What remains to the
//! platform is the last bit of `exp`, `ln` and `pow`.

mod candidates;
mod chain;
mod dist;
mod draw;
mod dry;
mod filters;
mod grammar;
mod logit_bias;
mod mirostat;
mod order;
mod params;
mod penalties;
mod probs;
mod sampler;
mod temperature;
mod typical;
mod xtc;

pub use grammar::GrammarEnv;
pub use params::{DryParams, Grammar, Mirostat, SamplerKind, Sampling, TokenProb, TokenProbs};
pub use probs::Report;
pub use sampler::Sampler;

#[cfg(test)]
mod tests;
