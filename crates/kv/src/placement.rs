//! A request's prompt and the decision where it runs.

use std::fmt;

use reprise_gguf::TokenId;

use crate::policy::NodeKey;
use crate::slot::Sequence;
use crate::{Ppm, SlotId, Tenant, Work};

/// What a request brings to the choice of a slot.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// The whole prompt, special tokens included.
    pub tokens: &'a [TokenId],
    /// The slot that the request asks for (`id_slot`).
    pub pin: Option<SlotId>,
    /// Whether tokens in the cache may be reused (`cache_prompt`).
    pub cache_prompt: bool,
    /// Shortest run worth moving to another position (`n_cache_reuse`); zero turns chunk reuse off.
    pub reuse_chunk: u32,
    /// Whose prompt it is.
    pub tenant: Tenant,
}

/// Where a prompt will run, how much of it need not be computed, and what that costs others. Made by
/// [`crate::Cache::plan`], carried out by [`crate::Cache::apply`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// The slot.
    pub slot: SlotId,
    /// Why this slot.
    pub reason: Reason,
    /// Tokens of the prompt that need no evaluation (`cache_n`); always less than the prompt's length.
    pub reused: u32,
    /// Where the reused tokens lie.
    pub from: Source,
    /// Runs of tokens that move to another position, in order; part of `reused`.
    pub chunks: Vec<ChunkMove>,
    /// Of the reused tokens, those that the slot itself showed.
    pub own: u32,
    /// What is given up for it: the slot's tokens that stay nowhere, and what makes room for the rest of the prompt. What the
    /// answer will need room for is not foreseen.
    pub evicted: Vec<Eviction>,
    /// How long the slot had been idle, milliseconds; `None` if it never ran.
    pub idle: Option<u64>,
    /// Idle slots emptied to make room in a unified pool. Their content is still held.
    pub purged: Vec<SlotId>,
    /// What is taken over, unless it is the slot's own.
    pub(crate) content: Option<Sequence>,
    /// Whose prompt it is, and the identities of its blocks.
    pub(crate) tenant: Tenant,
    pub(crate) path: Vec<NodeKey>,
    pub(crate) epoch: u64,
}

impl Placement {
    /// Tokens lost over all [`Placement::evicted`].
    #[must_use]
    pub fn evicted_tokens(&self) -> u32 {
        self.evicted.iter().map(|eviction| eviction.tokens).sum()
    }
}

/// A placement carried out.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What was decided.
    pub placement: Placement,
    /// What the model has to do first.
    pub work: Work,
}

/// Why a slot was chosen, in an operator's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The request asked for it.
    Pinned,
    /// It holds the largest part of the prompt, and more than the threshold.
    Similarity(Ppm),
    /// Several slots are idle, none similar enough.
    LeastRecentlyUsed,
    /// No other slot is idle.
    OnlyFree,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("pinned"),
            Self::Similarity(ppm) => write!(f, "similarity {ppm}"),
            Self::LeastRecentlyUsed => f.write_str("least recently used"),
            Self::OnlyFree => f.write_str("only free"),
        }
    }
}

/// Where reused tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The slot itself.
    Slot,
    /// What is held beyond it.
    Ram,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slot => "slot",
            Self::Ram => "ram",
        })
    }
}

/// A run of tokens that is reused at another position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMove {
    /// Position in the source.
    pub from: u32,
    /// Position in the prompt, below `from`.
    pub to: u32,
    /// Tokens.
    pub count: u32,
}

/// Tokens given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eviction {
    /// Whose they were.
    pub owner: Owner,
    /// How many.
    pub tokens: u32,
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens of {}", self.tokens, self.owner)
    }
}

/// Who held tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A slot.
    Slot(SlotId),
    /// Nobody any more: they were held for whoever asks again.
    Ram,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "slot {slot}"),
            Self::Ram => f.write_str("the prompt cache"),
        }
    }
}
