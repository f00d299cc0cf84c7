//! The cache's state, and the operations on one slot: append, truncate, clear, release.

use reprise_gguf::TokenId;

use crate::ids::{BLOCK_TOKENS, blocks_for, count};
use crate::policy::Policy;
use crate::pool::Pool;
use crate::slot::Slot;
use crate::tree::{Tree, keys};
use crate::{BlockId, CacheConfig, Cell, CellCopy, Millis, PoolFull, SlotId, SlotView, Tenant, Work};

/// All slots, the blocks under them, and what is held beyond the slots.
///
/// Nothing here touches KV memory: operations that need cells to be moved give the [`Work`] for it.
#[derive(Debug)]
pub struct Cache {
    pub(crate) config: CacheConfig,
    pub(crate) pool: Pool,
    pub(crate) slots: Vec<Slot>,
    pub(crate) tree: Tree,
    pub(crate) policy: Policy,
    /// Counts changes, so that a placement knows whether it is still true.
    pub(crate) epoch: u64,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(config: CacheConfig) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(config.slots.max(1) as usize).collect();
        let (pool, policy) = (Pool::new(config.capacity()), Policy::new(config.capacity()));
        Self { config, pool, slots, tree: Tree::default(), policy, epoch: 0 }
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
        let Slot { content, tenant, busy, last_used, .. } = &self.slots[self.index(id)];
        let (tokens, blocks) = (&content.tokens, &content.blocks);
        SlotView {
            tokens,
            blocks,
            exact: content.exact,
            tenant: *tenant,
            busy: *busy,
            last_used: *last_used,
            n_ctx: self.config.slot_context,
        }
    }

    /// All slots, in order.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, SlotView<'_>)> {
        (0..self.slots.len() as u32).map(|id| (SlotId(id), self.slot(SlotId(id))))
    }

    /// Everything held beyond the slots: texts, each with the blocks that hold it. Texts that begin alike share blocks.
    pub fn held(&self) -> impl Iterator<Item = (Tenant, Vec<TokenId>, Vec<BlockId>)> {
        self.tree.paths().map(|(tenant, content)| (tenant, content.tokens, content.blocks))
    }

    /// Distinct blocks held beyond the slots; slots may show them too.
    #[must_use]
    pub fn held_blocks(&self) -> u32 {
        self.tree.len() as u32
    }

    /// Distinct blocks that hold anything, of slots and beyond them.
    #[must_use]
    pub fn used_blocks(&self) -> u32 {
        self.pool.in_use() as u32
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
        let reserved = self.slots[index].content.blocks.clone();
        let Some(mut fresh) = self.take(missing, &reserved, &mut work.evicted) else {
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
        if content.exact == len {
            content.exact += wanted;
        }
        content.tokens.extend_from_slice(tokens);
        Ok(work)
    }

    /// Keeps the first `len` tokens, for instance when a batch failed or was cancelled. Gives the number dropped.
    pub fn truncate(&mut self, slot: SlotId, len: u32) -> u32 {
        let index = self.index(slot);
        self.epoch += 1;
        let Slot { content, indexed, .. } = &mut self.slots[index];
        *indexed = (*indexed).min(len / BLOCK_TOKENS);
        content.truncate(len, &mut self.pool)
    }

    /// Drops all tokens of a slot (erase, or the end of a child of `n_cmpl`), and takes back what nobody else holds of them.
    /// Gives their number.
    pub fn clear(&mut self, slot: SlotId) -> u32 {
        let Slot { content, tenant, published, .. } = &self.slots[self.index(slot)];
        if !published {
            self.tree.forget(*tenant, content, 0, &mut self.pool);
        }
        self.truncate(slot, 0)
    }

    /// The full blocks that a running request has evaluated become everybody's.
    pub fn publish(&mut self, slot: SlotId) {
        let index = self.index(slot);
        let Slot { content, indexed, .. } = &self.slots[index];
        if content.exact / BLOCK_TOKENS > *indexed {
            self.hold(index, false);
        }
    }

    /// Gives the tree what the slot has evaluated; with its last, partly filled block if nobody writes to it any more.
    pub(crate) fn hold(&mut self, index: usize, tail: bool) {
        self.epoch += 1;
        let Slot { content, tenant, indexed, .. } = &mut self.slots[index];
        let tail = tail && content.exact == content.len();
        let len = if tail { content.exact } else { content.exact - content.exact % BLOCK_TOKENS };
        self.tree.insert(*tenant, content, len, tail, &mut self.pool);
        let keys = keys(*tenant, &content.tokens[..len as usize]);
        self.policy.grow(&keys, *indexed as usize);
        *indexed = content.exact / BLOCK_TOKENS;
    }

    /// Ends a request: the slot is idle and keeps its tokens. A slot whose restore is staged stays busy.
    pub fn release(&mut self, slot: SlotId, now: Millis) {
        let index = self.index(slot);
        let slot = &mut self.slots[index];
        if slot.busy && slot.staged.is_none() {
            slot.busy = false;
            slot.published = false;
            slot.last_used = Some(now);
            self.hold(index, true);
        }
    }

    pub(crate) fn index(&self, slot: SlotId) -> usize {
        slot.0 as usize % self.slots.len()
    }

    /// The slot's last block, if it is partly filled and not the slot's alone.
    pub(crate) fn shared_tail(&self, index: usize) -> Option<BlockId> {
        let content = &self.slots[index].content;
        let last = *content.blocks.last()?;
        (!content.len().is_multiple_of(BLOCK_TOKENS) && self.pool.is_shared(last)).then_some(last)
    }
}
