//! The chain of samplers of one request, in the order of `samplers`.
//!
//! Logit bias comes first, then the chosen samplers, then the draw. Mirostat replaces everything between the bias and
//! the end by a plain temperature. Samplers at their neutral setting are left out when the chain is built, except that
//! the final draw always happens. (llama.cpp, `common_sampler_init`.)

use reprise_gguf::TokenId;

use super::candidates::Candidates;
use super::dist::Dist;
use super::dry::{Breakers, Dry};
use super::filters;
use super::logit_bias::LogitBias;
use super::mirostat::Mirostat;
use super::penalties::Penalties;
use super::temperature::{self, Temperature};
use super::typical::Typical;
use super::xtc::Xtc;
use super::{SamplerKind, Sampling};

/// Look-back that is always granted, even where the context is shorter: a context shift may make the text longer.
const MIN_WINDOW: u32 = 1 << 16;

#[derive(Debug)]
enum Link {
    LogitBias(LogitBias),
    Penalties(Penalties),
    Dry(Dry),
    TopNSigma(f32),
    TopK(i32),
    TypicalP(Typical),
    TopP { p: f32, min_keep: usize },
    MinP { p: f32, min_keep: usize },
    Xtc(Xtc),
    Scale(f32),
    Temperature(Temperature),
    Mirostat(Mirostat),
    Dist(Dist),
}

/// What a chain needs to know beside its parameters.
pub(super) struct Setting<'a> {
    /// Tokens in the vocabulary: the length of a row of logits.
    pub(super) vocab: usize,
    /// Context of the slot, tokens: bounds what the samplers remember.
    pub(super) context: u32,
    /// Tokens that may not be sampled, beside the request's own biases.
    pub(super) banned: &'a [TokenId],
    /// Finds the sequence breakers of DRY.
    pub(super) breakers: &'a dyn Fn() -> Breakers,
}

#[derive(Debug)]
pub(super) struct Chain(Vec<Link>);

impl Chain {
    /// Builds the chain of a request. Seeds are taken literally.
    pub(super) fn new(params: &Sampling, setting: &Setting<'_>) -> Self {
        let mut links = Vec::new();
        let banned = setting.banned.iter().map(|&token| (token, f32::NEG_INFINITY));
        let biases: Vec<_> = params.logit_bias.iter().copied().chain(banned).collect();
        if !biases.is_empty() {
            links.push(Link::LogitBias(LogitBias { biases }));
        }
        if params.mirostat.version == 0 {
            links.extend(params.samplers.iter().filter_map(|&kind| link(kind, params, setting)));
            links.push(Link::Dist(Dist::new(params.seed)));
        } else {
            links.push(Link::Scale(params.temperature));
            links.push(Link::Mirostat(Mirostat::new(params.mirostat, setting.vocab, params.seed)));
        }
        Self(links)
    }

    /// Narrows the candidates down and selects one.
    pub(super) fn apply(&mut self, candidates: &mut Candidates) {
        for link in &mut self.0 {
            match link {
                Link::LogitBias(bias) => bias.apply(candidates),
                Link::Penalties(penalties) => penalties.apply(candidates),
                Link::Dry(dry) => dry.apply(candidates),
                Link::TopNSigma(n) => filters::top_n_sigma(candidates, *n),
                Link::TopK(k) => filters::top_k(candidates, *k),
                Link::TypicalP(typical) => typical.apply(candidates),
                Link::TopP { p, min_keep } => filters::top_p(candidates, *p, *min_keep),
                Link::MinP { p, min_keep } => filters::min_p(candidates, *p, *min_keep),
                Link::Xtc(xtc) => xtc.apply(candidates),
                Link::Scale(temperature) => temperature::scale(candidates, *temperature),
                Link::Temperature(temperature) => temperature.apply(candidates),
                Link::Mirostat(mirostat) => mirostat.apply(candidates),
                Link::Dist(dist) => dist.apply(candidates),
            }
        }
    }

    /// How many of the best candidates decide the choice whatever the others are, if their logits differ: a chain that
    /// starts with those alone goes on with the same candidates in the same order, and draws as often. `None` when all
    /// may count.
    pub(super) fn reach(&self) -> Option<u32> {
        if self.is_greedy() {
            return Some(1);
        }
        self.0.iter().find(|link| !link.is_inert()).and_then(|link| match link {
            Link::TopK(k) => u32::try_from(*k).ok(),
            _ => None,
        })
    }

    /// Whether the best candidate is chosen in any case: nothing moves it, and some link leaves nothing beside it.
    fn is_greedy(&self) -> bool {
        let mut alone = false;
        for link in &self.0 {
            match link {
                Link::Temperature(temperature) if temperature.is_greedy() => alone = true,
                Link::TopNSigma(_)
                | Link::TopK(_)
                | Link::TopP { .. }
                | Link::MinP { .. }
                | Link::Dist(_) => {}
                link if link.is_inert() => {}
                _ => return false,
            }
        }
        alone
    }

    /// Tells the samplers that look back about a token of the prompt or of the text.
    pub(super) fn accept(&mut self, token: TokenId) {
        for link in &mut self.0 {
            match link {
                Link::Penalties(penalties) => penalties.accept(token),
                Link::Dry(dry) => dry.accept(token),
                _ => {}
            }
        }
    }
}

impl Link {
    /// Whether the link leaves every candidate as it is.
    fn is_inert(&self) -> bool {
        match self {
            Self::TopNSigma(n) => *n <= 0.0,
            Self::TopK(k) => *k <= 0,
            Self::TopP { p, .. } => *p >= 1.0,
            Self::MinP { p, .. } => *p <= 0.0,
            Self::Temperature(temperature) => temperature.is_neutral(),
            _ => false,
        }
    }
}

fn link(kind: SamplerKind, params: &Sampling, setting: &Setting<'_>) -> Option<Link> {
    let min_keep = params.min_keep as usize;
    // The reference allocates a window of any length up front; here it is bounded by what can be in it.
    let window = |last: i32| u32::try_from(last).unwrap_or(0).min(setting.context.max(MIN_WINDOW)) as usize;
    Some(match kind {
        SamplerKind::Penalties => Link::Penalties(Penalties::new(
            window(params.repeat_last_n),
            setting.vocab,
            params.repeat_penalty,
            params.frequency_penalty,
            params.presence_penalty,
        )?),
        SamplerKind::Dry => Link::Dry(Dry::new(
            &params.dry,
            window(params.dry.penalty_last_n),
            setting.vocab,
            setting.breakers,
        )?),
        SamplerKind::TopNSigma => Link::TopNSigma(params.top_n_sigma),
        SamplerKind::TopK => Link::TopK(params.top_k),
        SamplerKind::TypicalP => Link::TypicalP(Typical::new(params.typical_p, min_keep)?),
        SamplerKind::TopP => Link::TopP { p: params.top_p, min_keep },
        SamplerKind::MinP => Link::MinP { p: params.min_p, min_keep },
        SamplerKind::Xtc => {
            Link::Xtc(Xtc::new(params.xtc_probability, params.xtc_threshold, min_keep, params.seed)?)
        }
        SamplerKind::Temperature => Link::Temperature(Temperature {
            value: params.temperature,
            range: params.dynatemp_range,
            exponent: params.dynatemp_exponent,
        }),
    })
}
