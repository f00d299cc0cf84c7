//! Stage 11: what a running request tells its client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reprise_gguf::TokenId;

use crate::sample::TokenProbs;
use crate::{Drafts, EngineError};

/// One message of a [`crate::Generation`]. `copy` counts the copies of one request (`n_cmpl`) from zero.
#[derive(Debug, Clone)]
pub enum Event {
    /// A slot was chosen and the prompt is being processed: response headers may go out now. One for each copy.
    Started(Placed),
    /// A part of the prompt was processed; sent only when the request asked for it.
    Progress(Progress),
    /// A token was sampled and completes a character. A token in the middle of one comes with the next that does not, as
    /// in llama-server.
    Step(Step),
    /// Nothing was sent for a while: a stream sends a comment to keep the connection open.
    Heartbeat,
    /// A copy ended well. When all copies have ended the stream ends.
    Finished(Box<Finished>),
    /// The request failed; the stream ends.
    Failed(EngineError),
}

/// Which slot a request got, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The slot.
    pub slot: u32,
    /// The copy of the request.
    pub copy: u32,
    /// Why this slot, in an operator's words: `pinned`, `similarity 0.83`, `least recently used`, `only free`.
    pub reason: String,
    /// Prompt tokens taken from the cache.
    pub cached: u32,
    /// Of these, tokens that the slot itself showed.
    pub own: u32,
    /// Of these, tokens that were brought in from the store of blocks. The rest was in memory, beyond the slot.
    pub stored: u32,
    /// Tokens that were lost to make room, for the prompt and for the answer so far.
    pub evicted: u32,
}

/// How far the prompt is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The copy of the request.
    pub copy: u32,
    /// Tokens of the prompt.
    pub total: u32,
    /// Of these, taken from the cache.
    pub cached: u32,
    /// Cached plus evaluated so far.
    pub processed: u32,
    /// Since the prompt was started.
    pub elapsed: Duration,
}

/// One sampled token.
#[derive(Debug, Clone)]
pub struct Step {
    /// The copy of the request.
    pub copy: u32,
    /// Text that became certain: complete UTF-8, and not the beginning of a stop string. May be empty.
    pub text: String,
    /// The sampled token.
    pub token: TokenId,
    /// Tokens sampled so far, this one counted.
    pub predicted: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Probabilities, when the request asked for them.
    pub probs: Option<TokenProbs>,
    /// Timings so far.
    pub timings: Timings,
}

/// How a copy ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The copy of the request.
    pub copy: u32,
    /// The slot that held it.
    pub slot: u32,
    /// Text not yet sent by a [`Step`]: what could have become a stop string, or the rest of a broken character.
    pub tail: String,
    /// The whole generated text, stop string excluded.
    pub text: String,
    /// All sampled tokens.
    pub tokens: Vec<TokenId>,
    /// Probabilities of the tokens that are part of `text`, when asked for.
    pub probs: Vec<TokenProbs>,
    /// Why it ended.
    pub stop: StopReason,
    /// Some tokens were dropped by a context shift, or the context filled up.
    pub truncated: bool,
    /// The text contains a line break.
    pub has_new_line: bool,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens in the slot at the end.
    pub slot_tokens: u32,
    /// Counts and times.
    pub timings: Timings,
    /// Which slot was chosen and why.
    pub placed: Placed,
    /// The seed that the sampler ran with; repeats the text of a request that asked for a random one.
    pub seed: u32,
    /// The request as it was asked, for `generation_settings`; a copy's seed is its own.
    pub request: Arc<crate::Generate>,
}

/// Why a generation ended; wire names are the API's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// The prompt was empty: nothing was done.
    EmptyPrompt,
    /// An end-of-generation token.
    EndOfGeneration,
    /// A stop string, given here.
    Word(String),
    /// `n_predict`, the context, the indent or the time limit.
    Limit,
}

impl fmt::Display for StopReason {
    /// In an operator's words, for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyPrompt => f.write_str("an empty prompt"),
            Self::EndOfGeneration => f.write_str("an end-of-generation token"),
            Self::Word(word) => write!(f, "the stop string {word:?}"),
            Self::Limit => f.write_str("a limit"),
        }
    }
}

/// Counts and times of one generation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// Prompt tokens taken from the cache.
    pub cached: u32,
    /// Prompt tokens evaluated.
    pub prompt: u32,
    /// Time from the start of the prompt to its last logits.
    pub prompt_time: Duration,
    /// Tokens sampled.
    pub predicted: u32,
    /// Time from the first sampled token on.
    pub predicted_time: Duration,
    /// Speculative decoding; all zero without.
    pub drafts: Drafts,
}
