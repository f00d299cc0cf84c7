//! Context shift: which tokens a full slot drops to go on generating.

use crate::{CacheConfig, SlotId};

/// Tokens that a context shift keeps and drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextShift {
    /// Tokens kept at the start.
    pub keep: u32,
    /// Tokens behind them.
    pub left: u32,
    /// Tokens dropped from the start of those; the rest moves down by as many positions.
    pub discard: u32,
}

impl ContextShift {
    /// llama-server's rule for a slot of `tokens` tokens whose request had a prompt of `prompt` tokens. `n_keep` below
    /// zero keeps the whole prompt; `n_discard` of zero drops half of what may go.
    ///
    /// At least one token behind the kept ones stays, so `discard` is zero when there is only one: then a shift gains
    /// nothing and generation has to stop.
    #[must_use]
    pub fn of(config: &CacheConfig, tokens: u32, prompt: u32, n_keep: i64, n_discard: i64) -> Self {
        let keep = u32::try_from(n_keep).unwrap_or(if n_keep < 0 { prompt } else { u32::MAX });
        let keep = keep
            .saturating_add(u32::from(config.add_bos))
            .min(config.slot_context.saturating_sub(4))
            .min(tokens);
        let left = tokens - keep;
        let discard = if n_discard == 0 { i64::from(left / 2) } else { n_discard };
        let discard = discard.clamp(0, i64::from(left.saturating_sub(1)));
        Self { keep, left, discard: u32::try_from(discard).unwrap_or(0) }
    }
}

impl crate::Cache {
    /// What a shift of this slot would keep and drop; see [`ContextShift::of`].
    #[must_use]
    pub fn plan_shift(&self, slot: SlotId, prompt: u32, n_keep: i64, n_discard: i64) -> ContextShift {
        ContextShift::of(self.config(), self.slot(slot).len(), prompt, n_keep, n_discard)
    }
}
