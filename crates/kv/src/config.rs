//! Sizes and rules that stay fixed while a cache lives.

use crate::{Ppm, ids::blocks_for};

/// How a [`crate::Cache`] is laid out and which rules it follows. The names behind `--` are llama-server's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    /// Number of slots (`--parallel`); at least one is made.
    pub slots: u32,
    /// Most tokens that one slot may hold.
    pub slot_context: u32,
    /// Most tokens that all slots together may hold when `unified`; otherwise every slot has `slot_context` of its own.
    pub pool_tokens: u32,
    /// One pool shared by all slots (`--kv-unified`).
    pub unified: bool,
    /// Similarity that a slot must exceed to be chosen for its prefix (`--slot-prompt-similarity`); zero turns it off.
    pub similarity: Ppm,
    /// Blocks of memory beyond the slots' own (`--cache-ram`).
    pub ram_blocks: u32,
    /// Whether [`crate::Cache::publish_idle`] does anything (`--cache-idle-slots`).
    pub cache_idle_slots: bool,
    /// The vocabulary puts a BOS token first: a context shift keeps it.
    pub add_bos: bool,
}

impl CacheConfig {
    /// Most tokens over all slots, exact.
    pub(crate) fn token_limit(&self) -> u32 {
        if self.unified { self.pool_tokens } else { self.slot_context.saturating_mul(self.slots.max(1)) }
    }

    /// Blocks that restores may stage at a time. They come out of [`CacheConfig::ram_blocks`], which make way; fewer
    /// than one slot's are backed by as many.
    pub(crate) fn staging_blocks(&self) -> u32 {
        self.ram_blocks.max(blocks_for(self.slot_context))
    }

    /// Physical blocks: the slots' cells; one spare per slot, because a slot's last block may be partial and a move of
    /// cells needs a block at hand; and those beyond the slots, for what is held and for staged restores.
    pub(crate) fn capacity(&self) -> u32 {
        blocks_for(self.token_limit()).saturating_add(self.slots.max(1)).saturating_add(self.staging_blocks())
    }
}
