//! The pool's limit, counted in tokens as llama-server counts it.
//!
//! Cells that several slots share are in use once. What is held beyond the slots does not count. Blocks have slack for partly filled ones, see [`crate::CacheConfig`].

use crate::ids::{BLOCK_TOKENS, count};
use crate::slot::Slot;
use crate::{BlockId, Cache};

/// What a slot would hold: the first `kept` tokens of `blocks`, and `own` tokens in cells of its own.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Layout<'a> {
    pub(crate) blocks: &'a [BlockId],
    pub(crate) kept: u32,
    pub(crate) own: u32,
}

impl Cache {
    /// Cells in use over all slots, of [`crate::CacheConfig::pool_tokens`] if the pool is unified.
    #[must_use]
    pub fn used_tokens(&self) -> u32 {
        self.cells(|_| true, Layout::default())
    }

    /// The slot's content with `more` tokens appended: a partly filled block that is not the slot's alone is copied.
    pub(crate) fn appended(&self, index: usize, more: u32) -> Layout<'_> {
        let content = &self.slots[index].content;
        let copied = if self.shared_tail(index).is_some() { content.len() % BLOCK_TOKENS } else { 0 };
        Layout { blocks: &content.blocks, kept: content.len() - copied, own: copied + more }
    }

    /// Whether the limit holds with `layout` in slot `index` and nothing in the slots `emptied`.
    pub(crate) fn fits(&self, index: usize, emptied: &[usize], layout: Layout<'_>) -> bool {
        let limit = u64::from(self.config.token_limit());
        // The sum of the lengths is an upper bound, and exact without sharing: it nearly always decides.
        let others = self.slots.iter().enumerate().filter(|(at, _)| *at != index && !emptied.contains(at));
        let bound: u64 = others.map(|(_, slot)| u64::from(claimed(slot))).sum();
        bound + u64::from(layout.kept) + u64::from(layout.own) <= limit
            || u64::from(self.cells(|at| at != index && !emptied.contains(&at), layout)) <= limit
    }

    /// Tokens that the limit still allows beside `layout` in slot `index` and nothing in the slots `emptied`.
    pub(crate) fn room(&self, index: usize, emptied: &[usize], layout: Layout<'_>) -> u32 {
        let used = self.cells(|at| at != index && !emptied.contains(&at), layout);
        self.config.token_limit().saturating_sub(used)
    }

    /// Distinct cells of the slots that `counted` names and of `layout`.
    fn cells(&self, counted: impl Fn(usize) -> bool, layout: Layout<'_>) -> u32 {
        let mut filled = vec![0; self.pool.holders().len()];
        let mut cover = |blocks: &[BlockId], len: u32| {
            for (block, start) in blocks.iter().zip((0..len).step_by(BLOCK_TOKENS as usize)) {
                let filled: &mut u32 = &mut filled[block.at()];
                *filled = (*filled).max((len - start).min(BLOCK_TOKENS));
            }
        };
        let mut own = layout.own;
        cover(layout.blocks, layout.kept);
        for (_, slot) in self.slots.iter().enumerate().filter(|(at, _)| counted(*at)) {
            match slot.staged {
                Some(_) => own = own.saturating_add(claimed(slot)),
                None => cover(&slot.content.blocks, slot.len()),
            }
        }
        filled.into_iter().fold(own, u32::saturating_add)
    }
}

/// Tokens of a slot; those of a staged restore are spoken for.
fn claimed(slot: &Slot) -> u32 {
    slot.len().max(slot.staged.as_ref().map_or(0, |staged| count(&staged.tokens)))
}
