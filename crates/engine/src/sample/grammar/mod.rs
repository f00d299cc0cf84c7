//! Constraining the text by a grammar: GBNF and JSON schemas, compiled and followed by the `llguidance` crate.
//!
//! [`GrammarEnv`] holds what depends on the model alone, a trie over the bytes of all tokens, and is built when the
//! first grammar arrives. A [`Matcher`] follows one text. The rules are llama-server's: end-of-generation tokens are
//! possible exactly where the grammar may end, other control tokens match as the text they are written with, tokens
//! that stand for nothing are impossible.

mod gbnf;
mod lark;
mod schema;

use std::fmt;
use std::sync::{Arc, OnceLock};

use llguidance::ParserFactory;
use llguidance::api::TopLevelGrammar;
use reprise_gguf::TokenId;
use reprise_text::Text;
use toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};

use super::Grammar;
use super::candidates::Candidates;
use crate::EngineError;

/// Earley items that one mask may take. A GBNF grammar is followed character by character, so a whole vocabulary of
/// long words takes far more than the crate's default.
const MASK_ITEMS: usize = 20_000_000;
/// Regex derivatives that one mask may take.
const MASK_FUEL: u64 = 5_000_000;

/// The longest token that the trie takes, bytes.
const MAX_WORD: usize = 1000;
/// All tokens together that the trie takes, bytes.
const MAX_WORDS: usize = (1 << 22) - 1;

/// The grammar machinery of one model. Building it is put off until a request brings a grammar.
#[derive(Default)]
pub struct GrammarEnv(OnceLock<Result<Arc<Compiler>, EngineError>>);

struct Compiler {
    factory: ParserFactory,
    end_of_generation: Vec<TokenId>,
}

impl GrammarEnv {
    /// Compiles a grammar and stands at its beginning.
    pub(super) fn matcher(&self, grammar: &Grammar, text: &Text) -> Result<Matcher, EngineError> {
        let compiler = self.0.get_or_init(|| {
            let tokenizer = &text.tokenizer;
            let vocab = tokenizer.vocab();
            let tokens = (0..vocab.len() as u32).map(TokenId);
            let pieces = tokens.map(|token| tokenizer.piece(token));
            Compiler::new(pieces, vocab.end_of_generation().collect()).map(Arc::new)
        });
        Matcher::new(compiler.clone()?, grammar)
    }
}

impl Compiler {
    fn new<'a>(
        pieces: impl Iterator<Item = &'a [u8]>,
        end_of_generation: Vec<TokenId>,
    ) -> Result<Self, EngineError> {
        let mut words: Vec<Vec<u8>> = pieces.map(<[u8]>::to_vec).collect();
        for (token, word) in (0..).map(TokenId).zip(&mut words) {
            // No text begins with a zero byte, and the trie gives 0xff, which no text contains, a meaning of its own.
            let foreign = matches!(word[..], [0 | TokTrie::SPECIAL_TOKEN_MARKER, ..]);
            if foreign || word.len() > MAX_WORD || end_of_generation.contains(&token) {
                word.clear();
            }
        }
        if words.iter().map(Vec::len).sum::<usize>() > MAX_WORDS {
            return Err(EngineError::Unsupported("the vocabulary is too large for grammars".to_owned()));
        }
        let stop = end_of_generation.first().map_or(u32::MAX, |token| token.0);
        let mut trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, stop), &words);
        if !end_of_generation.is_empty() {
            trie = trie.with_eos_tokens(&end_of_generation.iter().map(|token| token.0).collect::<Vec<_>>());
        }
        let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        // Slices of the vocabulary would make masks faster, but take seconds to prepare for a large one, and a mask is
        // needed only where the free choice was wrong.
        let mut factory =
            ParserFactory::new(&tokens, InferenceCapabilities::default(), &[]).map_err(|error| {
                EngineError::Backend(format!("the vocabulary cannot be used with grammars: {error}"))
            })?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.step_max_items = MASK_ITEMS;
        limits.step_lexer_fuel = MASK_FUEL;
        limits.verbose_errors = false;
        Ok(Self { factory, end_of_generation })
    }

    fn trie(&self) -> &TokTrie {
        self.factory.tok_env().tok_trie()
    }
}

/// Follows one text through a grammar.
pub(super) struct Matcher {
    compiler: Arc<Compiler>,
    inner: llguidance::Matcher,
}

impl Matcher {
    fn new(compiler: Arc<Compiler>, grammar: &Grammar) -> Result<Self, EngineError> {
        let (source, complaint) = match grammar {
            Grammar::Gbnf(text) => (
                gbnf::parse(text).and_then(|grammar| lark::render(&grammar)).map(TopLevelGrammar::from_lark),
                "Failed to initialize samplers: failed to parse grammar",
            ),
            Grammar::JsonSchema(text) => {
                (schema::prepare(text).map(TopLevelGrammar::from_json_schema), "\"json_schema\"")
            }
        };
        let refuse = |reason: String| EngineError::Invalid(format!("{complaint}: {reason}"));
        let inner = llguidance::Matcher::new(compiler.factory.create_parser(source.map_err(refuse)?));
        match inner.get_error() {
            Some(reason) => Err(refuse(reason)),
            None => Ok(Self { compiler, inner }),
        }
    }

    /// Whether the text may go on with this token.
    pub(super) fn allows(&mut self, token: TokenId) -> Result<bool, EngineError> {
        if self.compiler.end_of_generation.contains(&token) {
            return self.inner.is_accepting().map_err(failed);
        }
        if self.compiler.trie().token(token.0).is_empty() {
            return Ok(false);
        }
        Ok(self.inner.validate_tokens(&[token.0]).map_err(failed)? == 1)
    }

    /// Makes all candidates impossible that the text may not go on with.
    pub(super) fn mask(&mut self, candidates: &mut Candidates) -> Result<(), EngineError> {
        let mask = self.inner.compute_mask_or_eos().map_err(failed)?;
        for candidate in &mut candidates.items {
            if !mask.is_allowed(candidate.id) {
                candidate.logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Moves on. A token that the grammar does not allow fails the next step.
    pub(super) fn accept(&mut self, token: TokenId) {
        if !self.compiler.end_of_generation.contains(&token) {
            // The matcher keeps its error and repeats it when asked again.
            let _ = self.inner.consume_token(token.0);
        }
    }
}

fn failed(reason: impl fmt::Display) -> EngineError {
    EngineError::Invalid(format!("the grammar cannot be followed further: {reason}"))
}

impl fmt::Debug for GrammarEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarEnv").field("built", &self.0.get().is_some()).finish()
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher").field("stopped", &self.inner.is_stopped()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
