//! What the engine tells about itself between two steps.

use std::sync::Arc;
use std::time::Duration;

use crate::{BlockStoreStats, Generate, Placed, Timings};

/// One slot, for `GET /slots`.
#[derive(Debug, Clone)]
pub struct SlotSnapshot {
    /// The slot.
    pub id: u32,
    /// Its context, tokens.
    pub context: u32,
    /// Tokens now in the slot.
    pub tokens: u32,
    /// The text of these tokens.
    pub text: String,
    /// A request is running in it.
    pub processing: bool,
    /// The running or the previous request; `None` when there never was one.
    pub task: Option<SlotTask>,
}

/// The request of a slot.
#[derive(Debug, Clone)]
pub struct SlotTask {
    /// Counts requests from zero, over all slots.
    pub id: u64,
    /// The request as it runs.
    pub request: Arc<Generate>,
    /// Which slot and why.
    pub placed: Placed,
    /// Prompt tokens evaluated; zero when idle.
    pub processed: u32,
    /// Prompt tokens from the cache; zero when idle.
    pub cached: u32,
    /// Tokens sampled; zero when idle.
    pub decoded: u32,
    /// Tokens that may still be sampled; `None` when unlimited or idle.
    pub remaining: Option<u32>,
    /// More tokens will come.
    pub has_next_token: bool,
    /// The text has a line break.
    pub has_new_line: bool,
    /// The text generated so far.
    pub generated: String,
    /// Counts and times so far, or of the whole request when it is over; while the prompt is being evaluated, the time of
    /// what is done of it.
    pub timings: Timings,
    /// What evaluating the cached tokens too would have taken, at the speed at which this engine has evaluated prompts.
    pub saved_time: Duration,
}

/// Counters since the engine started, for `GET /metrics`.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Prompt tokens evaluated.
    pub prompt_tokens: u64,
    /// Prompt tokens taken from the cache.
    pub prompt_tokens_cached: u64,
    /// Time spent on prompts.
    pub prompt_time: Duration,
    /// Tokens sampled.
    pub predicted_tokens: u64,
    /// Of these, tokens that needed a step of their own: all but the first of each generation. Rates are counted on them.
    pub predicted_steps: u64,
    /// Time spent on generation.
    pub predicted_time: Duration,
    /// Forward passes.
    pub decodes: u64,
    /// Sum over the forward passes of the slots that took part.
    pub busy_slots: u64,
    /// Most tokens that a slot ever held.
    pub tokens_max: u64,
    /// Speculative decoding.
    pub speculation: Speculated,
    /// Requests running in a slot.
    pub processing: u32,
    /// Requests waiting for a slot.
    pub deferred: u32,
    /// Distinct blocks of KV in use, of [`reprise_kv::BLOCK_TOKENS`] tokens each.
    pub kv_blocks: u32,
    /// The blocks that outlive the process, where there is a store for them.
    pub stored: Option<BlockStoreStats>,
}

/// Counters of speculative decoding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Speculated {
    /// Drafts that were verified.
    pub drafts: u64,
    /// Tokens of these.
    pub drafted: u64,
    /// Of these, tokens that came true.
    pub accepted: u64,
    /// The same, by their place in the draft; as long as the longest draft.
    pub accepted_at: Vec<u64>,
}

impl Speculated {
    /// A draft of `drafted` tokens was verified, and the first `accepted` came true.
    pub(crate) fn count(&mut self, drafted: usize, accepted: usize) {
        self.drafts += 1;
        self.drafted += drafted as u64;
        self.accepted += accepted as u64;
        if self.accepted_at.len() < drafted {
            self.accepted_at.resize(drafted, 0);
        }
        self.accepted_at.iter_mut().take(accepted).for_each(|count| *count += 1);
    }
}
