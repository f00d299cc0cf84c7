//! The cache's state, and the operations on one slot: append, truncate, clear, release.

use reprise_gguf::TokenId;

use crate::ids::{BLOCK_TOKENS, blocks_for, count};
use crate::pool::Pool;
use crate::ram::RamTier;
use crate::slot::Slot;
use crate::{
    BlockId, CacheConfig, Cell, CellCopy, EntryId, Eviction, Millis, PoolFull, SlotId, SlotView, Work,
};

/// All slots, the blocks under them, and the RAM tier.
///
/// Nothing here touches KV memory: operations that need cells to be moved give the [`Work`] for it.
#[derive(Debug)]
pub struct Cache {
    pub(crate) config: CacheConfig,
    pub(crate) pool: Pool,
    pub(crate) slots: Vec<Slot>,
    pub(crate) ram: RamTier,
    /// Counts changes, so that a placement knows whether it is still true.
    pub(crate) epoch: u64,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(config: CacheConfig) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(config.slots.max(1) as usize).collect();
        let (pool, ram) = (Pool::new(config.capacity()), RamTier::new(config.ram_blocks));
        Self { config, pool, slots, ram, epoch: 0 }
    }

    /// Its sizes and rules.
    #[must_use]
    pub fn config(&self) -> &CacheConfig {
        &self.config
    }

    /// Physical blocks that the model's KV memory must offer; see [`BlockId::index`].
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.config.capacity()
    }

    /// A slot.
    #[must_use]
    pub fn slot(&self, id: SlotId) -> SlotView<'_> {
        let Slot { content, busy, last_used, staged: _ } = &self.slots[self.index(id)];
        let (tokens, blocks) = (&content.tokens, &content.blocks);
        SlotView { tokens, blocks, busy: *busy, last_used: *last_used, n_ctx: self.config.slot_context }
    }

    /// All slots, in order.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, SlotView<'_>)> {
        (0..self.slots.len() as u32).map(|id| (SlotId(id), self.slot(SlotId(id))))
    }

    /// Entries of the RAM tier, oldest first: tokens, and the blocks that hold them.
    pub fn ram_entries(&self) -> impl Iterator<Item = (EntryId, &[TokenId], &[BlockId])> {
        self.ram
            .entries()
            .map(|entry| (entry.id, entry.content.tokens.as_slice(), entry.content.blocks.as_slice()))
    }

    /// Distinct blocks that the RAM tier holds, of [`CacheConfig::ram_blocks`].
    #[must_use]
    pub fn ram_blocks(&self) -> u32 {
        self.ram.blocks() as u32
    }

    /// Adds tokens that are about to be evaluated: cells are reserved for them behind those in use. A shared last block
    /// is replaced by a copy first.
    ///
    /// # Errors
    /// [`PoolFull`]; nothing has changed then.
    pub fn append(&mut self, slot: SlotId, tokens: &[TokenId]) -> Result<Work, PoolFull> {
        let index = self.index(slot);
        let (len, wanted) = (self.slots[index].len(), count(tokens));
        let room = self.config.slot_context.saturating_sub(len);
        if wanted > room {
            return Err(PoolFull::Slot { slot: SlotId(index as u32), wanted, room });
        }
        if wanted == 0 {
            return Ok(Work::default());
        }
        let shared_tail = self.shared_tail(index);
        if !self.fits(index, &[], self.appended(index, wanted)) {
            return Err(PoolFull::Pool { wanted, room: self.room(index, &[], self.appended(index, 0)) });
        }
        let missing = blocks_for(len + wanted) - blocks_for(len) + u32::from(shared_tail.is_some());
        let mut work = Work::default();
        let Some(mut fresh) = self.take(missing, &mut work.evicted) else {
            return Err(PoolFull::Pool { wanted, room: 0 });
        };
        self.epoch += 1;
        let content = &mut self.slots[index].content;
        if let Some(tail) = shared_tail
            && let Some(copy) = fresh.pop()
        {
            let (from, to) = (Cell { block: tail, offset: 0 }, Cell { block: copy, offset: 0 });
            work.copies.push(CellCopy { from, to, count: len % BLOCK_TOKENS });
            content.blocks.pop();
            content.blocks.push(copy);
            self.pool.release(tail);
        }
        content.blocks.append(&mut fresh);
        content.tokens.extend_from_slice(tokens);
        Ok(work)
    }

    /// Keeps the first `len` tokens, for instance when a batch failed or was cancelled. Gives the number dropped.
    pub fn truncate(&mut self, slot: SlotId, len: u32) -> u32 {
        let index = self.index(slot);
        self.epoch += 1;
        self.slots[index].content.truncate(len, &mut self.pool)
    }

    /// Drops all tokens of a slot (erase, or the end of a child of `n_cmpl`). Gives their number.
    pub fn clear(&mut self, slot: SlotId) -> u32 {
        self.truncate(slot, 0)
    }

    /// Ends a request: the slot is idle and keeps its tokens. A slot whose restore is staged stays busy.
    pub fn release(&mut self, slot: SlotId, now: Millis) {
        let index = self.index(slot);
        let slot = &mut self.slots[index];
        if slot.busy && slot.staged.is_none() {
            self.epoch += 1;
            slot.busy = false;
            slot.last_used = Some(now);
        }
    }

    pub(crate) fn index(&self, slot: SlotId) -> usize {
        slot.0 as usize % self.slots.len()
    }

    /// Free blocks, all or none; the RAM tier gives way, oldest entries first.
    pub(crate) fn take(&mut self, blocks: u32, evicted: &mut Vec<Eviction>) -> Option<Vec<BlockId>> {
        while self.pool.available() < blocks as usize {
            evicted.push(self.ram.evict_oldest(&mut self.pool)?);
        }
        (0..blocks).map(|_| self.pool.take()).collect()
    }

    /// The slot's last block, if it is partly filled and not the slot's alone.
    pub(crate) fn shared_tail(&self, index: usize) -> Option<BlockId> {
        let content = &self.slots[index].content;
        let last = *content.blocks.last()?;
        (!content.len().is_multiple_of(BLOCK_TOKENS) && self.pool.is_shared(last)).then_some(last)
    }
}
