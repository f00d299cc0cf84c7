//! What a host decides before the engine starts.

use reprise_kv::image::StateKey;
use reprise_kv::{Cache, CacheConfig, Ppm};

use crate::Speculation;

/// Sizes and rules of an engine; llama-server's flags in our words.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Parallel sequences (`-np`).
    pub slots: u32,
    /// Context of one slot, tokens.
    pub slot_context: u32,
    /// Tokens that all slots hold together.
    pub pool_tokens: u32,
    /// Slots share the pool (`--kv-unified`).
    pub unified: bool,
    /// Threshold of slot choice by common prefix (`-sps`); zero turns it off.
    pub similarity: Ppm,
    /// Prompt tokens between two progress reports (`-b`). Every forward pass is a scheduling step of its own here, so
    /// this bounds no latency.
    pub batch: u32,
    /// Tokens that one forward pass may hold over all slots (`-ub`).
    pub micro_batch: u32,
    /// Prompts may share a step with running generations (`-cb`).
    pub continuous_batching: bool,
    /// Drop the oldest tokens instead of stopping at a full context (`--context-shift`).
    pub context_shift: bool,
    /// Speculative decoding (`--spec-type`); `None` turns it off.
    pub speculation: Option<Speculation>,
    /// KV blocks that the host-memory prompt cache may hold (`--cache-ram`); zero turns it off.
    pub ram_blocks: u32,
    /// Idle slots are published to the prompt cache after each launched task (`--cache-idle-slots`).
    pub cache_idle_slots: bool,
    /// Largest slot image that a restore accepts, bytes.
    pub max_image: u64,
    /// Images are tagged with this key, and none without its tag is taken; `None` tags none and takes all.
    pub state_key: Option<StateKey>,
}

impl EngineConfig {
    /// Physical blocks of KV memory that the model must be loaded with.
    #[must_use]
    pub fn kv_blocks(&self) -> u32 {
        Cache::new(self.cache(false)).capacity()
    }

    /// Rows of logits that a pass may ask for: one for each slot, and one for each drafted token.
    #[must_use]
    pub fn logit_rows(&self) -> u32 {
        let drafted = self.speculation.map_or(0, |rule| rule.draft.min(self.micro_batch));
        self.slots.saturating_add(drafted)
    }

    /// The logical cache that goes with it; `add_bos` is the vocabulary's.
    pub(crate) fn cache(&self, add_bos: bool) -> CacheConfig {
        CacheConfig {
            slots: self.slots,
            slot_context: self.slot_context,
            pool_tokens: self.pool_tokens,
            unified: self.unified,
            similarity: self.similarity,
            ram_blocks: self.ram_blocks,
            cache_idle_slots: self.cache_idle_slots,
            add_bos,
        }
    }
}
