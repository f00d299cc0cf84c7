//! A request's prompt and the decision where it runs.

use std::fmt;

use reprise_gguf::TokenId;

use crate::{Ppm, SlotId, Work};

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
    /// Whether the RAM tier takes part: true for completions.
    pub ram: bool,
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
    /// Tokens that the slot hands to the RAM tier before it is overwritten.
    pub saved: u32,
    /// What is given up for it: the slot's tokens that stay nowhere, and entries that the RAM tier drops to take in
    /// what it saves.
    pub evicted: Vec<Eviction>,
    /// How long the slot had been idle, milliseconds; `None` if it never ran.
    pub idle: Option<u64>,
    /// Idle slots emptied to make room in a unified pool. Their content is saved if the RAM tier takes it; what that
    /// costs is in [`Work::evicted`].
    pub purged: Vec<SlotId>,
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
    /// An entry of the RAM tier.
    Ram(EntryId),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slot => "slot",
            Self::Ram(_) => "ram",
        })
    }
}

/// An entry of the RAM tier; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub(crate) u64);

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

/// Tokens given up. Those of an entry may live on in slots or entries that share its blocks.
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
    /// The RAM tier.
    Ram(EntryId),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "slot {slot}"),
            Self::Ram(_) => f.write_str("the RAM cache"),
        }
    }
}
