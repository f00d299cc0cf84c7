//! The sampler of one running request.

use reprise_gguf::TokenId;
use reprise_model::Scores;
use reprise_text::{Special, Text, VocabKind};

use super::candidates::{Candidate, Candidates};
use super::chain::{Chain, Setting};
use super::dry::Breakers;
use super::grammar::{GrammarEnv, Matcher};
use super::probs::Report;
use super::{Sampling, TokenProbs};
use crate::EngineError;

/// Chooses the tokens of one request. At one seed, and on the same logits, the choices are llama-server's.
///
/// A step is [`Sampler::sample`], then [`Sampler::accept`] with the token that became part of the text.
#[derive(Debug)]
pub struct Sampler {
    seed: u32,
    vocab: usize,
    candidates: Candidates,
    chain: Chain,
    grammar: Option<Matcher>,
    scratch: Vec<Candidate>,
}

impl Sampler {
    /// Prepares the sampler of a request whose prompt is `prompt`: penalties and DRY look back on it, a grammar does
    /// not. `params.seed` is taken as it is, see [`Sampling::resolve_seed`]; `n_ctx` is the context of the slot.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for a penalty that is no usable number and for a grammar or schema that cannot be
    /// compiled, in llama-server's words.
    pub fn new(
        params: &Sampling,
        text: &Text,
        grammars: &GrammarEnv,
        n_ctx: u32,
        ignore_eos: bool,
        prompt: &[TokenId],
    ) -> Result<Self, EngineError> {
        check_penalties(params)?;
        let tokenizer = &text.tokenizer;
        let vocab = tokenizer.vocab();
        let tokens = (0..vocab.len() as u32).map(TokenId);
        let ends = vocab.end_of_generation().filter(|_| ignore_eos);
        let banned: Vec<TokenId> = ends.chain(vocab.suppressed.iter().copied()).collect();
        let breakers = || {
            // A token rendered alone loses the space that SPM puts before a word.
            let lead = vocab.kind == VocabKind::Spm && vocab.add_space_prefix;
            let piece = |token| match tokenizer.piece(token) {
                [b' ', rest @ ..] if lead => rest,
                piece => piece,
            };
            let encode = |rest: &str| tokenizer.encode(rest, Special { add: false, parse: false });
            Breakers::new(
                &params.dry.sequence_breakers,
                &tokens.clone().map(piece).collect::<Vec<_>>(),
                encode,
            )
        };
        let setting = Setting { vocab: vocab.len(), context: n_ctx, banned: &banned, breakers: &breakers };
        let mut chain = Chain::new(params, &setting);
        for &token in prompt {
            chain.accept(token);
        }
        Ok(Self {
            seed: params.seed,
            vocab: vocab.len(),
            candidates: Candidates::default(),
            chain,
            grammar: params.grammar.as_ref().map(|grammar| grammars.matcher(grammar, text)).transpose()?,
            scratch: Vec::new(),
        })
    }

    /// How many of the best logits of a row of `width` decide the choice. `None` when the whole row may: with a bias,
    /// penalties, a grammar or another link that looks at all of it, and where the row has more than the vocabulary.
    #[must_use]
    pub fn reach(&self, width: usize) -> Option<u32> {
        if self.grammar.is_some() || width != self.vocab { None } else { self.chain.reach() }
    }

    /// Chooses a token, and on demand reports probabilities. The best logits alone, at least [`Sampler::reach`] of
    /// them, give the choice that the whole row (`[vocab]`, more are ignored) would give, but no report.
    ///
    /// With a grammar the token is first chosen freely; only if the grammar rules it out is the whole chain run again
    /// on the masked logits. That second run draws again, as it does in llama-server.
    ///
    /// # Errors
    /// [`EngineError::Backend`] when there are too few logits; [`EngineError::Invalid`] when no token can go on with the
    /// grammar, or the grammar is too complex to follow.
    pub fn sample(
        &mut self,
        scores: Scores<'_>,
        report: Option<Report<'_>>,
    ) -> Result<(TokenId, Option<TokenProbs>), EngineError> {
        match scores {
            Scores::All(logits) => self.sample_all(logits, report),
            Scores::Top { logits, tokens } => Ok((self.sample_best(logits, tokens, report.is_some())?, None)),
        }
    }

    fn sample_best(&mut self, logits: &[f32], tokens: &[u32], report: bool) -> Result<TokenId, EngineError> {
        let reach = self.reach(self.vocab).filter(|_| !report).map_or(self.vocab, |reach| reach as usize);
        let reach = reach.min(self.vocab);
        let (Some(logits), Some(tokens)) = (logits.get(..reach), tokens.get(..reach)) else {
            return Err(self.too_few(logits.len()));
        };
        self.candidates.load_best(logits, tokens);
        Ok(TokenId(self.run_chain()?.id))
    }

    fn too_few(&self, found: usize) -> EngineError {
        EngineError::Backend(format!("{found} logits for a vocabulary of {} tokens", self.vocab))
    }

    fn sample_all(
        &mut self,
        logits: &[f32],
        report: Option<Report<'_>>,
    ) -> Result<(TokenId, Option<TokenProbs>), EngineError> {
        let Some(logits) = logits.get(..self.vocab) else {
            return Err(self.too_few(logits.len()));
        };
        self.candidates.load(logits);
        let mut chosen = self.run_chain()?;
        if let Some(grammar) = &mut self.grammar
            && !grammar.allows(TokenId(chosen.id))?
        {
            self.candidates.load(logits);
            grammar.mask(&mut self.candidates)?;
            chosen = self.run_chain()?;
            if !self.grammar.as_mut().map_or(Ok(true), |grammar| grammar.allows(TokenId(chosen.id)))? {
                return Err(EngineError::Invalid(
                    "no token that may be sampled goes on with the grammar".to_owned(),
                ));
            }
        }
        let probs = report.map(|report| {
            if report.post_sampling {
                report.after_chain(chosen, &mut self.candidates)
            } else {
                report.before_chain(logits, chosen, &mut self.scratch)
            }
        });
        Ok((TokenId(chosen.id), probs))
    }

    /// Takes note of a token that became part of the text.
    pub fn accept(&mut self, token: TokenId) {
        if let Some(grammar) = &mut self.grammar {
            grammar.accept(token);
        }
        self.chain.accept(token);
    }

    /// The seed that the draws started from.
    #[must_use]
    pub fn seed(&self) -> u32 {
        self.seed
    }

    fn run_chain(&mut self) -> Result<Candidate, EngineError> {
        self.chain.apply(&mut self.candidates);
        self.candidates.chosen().ok_or_else(|| EngineError::Backend("the vocabulary is empty".to_owned()))
    }
}

fn check_penalties(params: &Sampling) -> Result<(), EngineError> {
    let repeat = params.repeat_penalty;
    let problem = if !repeat.is_finite() || repeat <= 0.0 || !repeat.recip().is_finite() {
        "penalty_repeat must be finite and greater than 0"
    } else if !params.frequency_penalty.is_finite() {
        "penalty_freq must be finite"
    } else if !params.presence_penalty.is_finite() {
        "penalty_present must be finite"
    } else {
        return Ok(());
    };
    Err(EngineError::Invalid(format!("Failed to initialize samplers: {problem}")))
}
