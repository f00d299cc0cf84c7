//! Physical blocks and who holds them.
//!
//! A block is *free* (no holder), *owned* (one holder) or *shared* (several: slots, the tree, staged
//! restores). Only the owner of an owned block may let cells be written; whoever needs to write to a shared block takes
//! a fresh one and copies what it keeps.

use crate::BlockId;

#[derive(Debug)]
pub(crate) struct Pool {
    capacity: u32,
    /// Number of holders of each block that was ever taken.
    holders: Vec<u32>,
    /// Those of them without a holder; the last is taken first. Used blocks go before new ones, because a backend may
    /// give a block memory when it is first written.
    free: Vec<BlockId>,
}

impl Pool {
    pub(crate) fn new(capacity: u32) -> Self {
        Self { capacity, holders: Vec::new(), free: Vec::new() }
    }

    /// A free block, now owned by the caller.
    pub(crate) fn take(&mut self) -> Option<BlockId> {
        if let Some(block) = self.free.pop() {
            self.holders[block.at()] = 1;
            return Some(block);
        }
        let next = u32::try_from(self.holders.len()).ok().filter(|next| *next < self.capacity)?;
        self.holders.push(1);
        Some(BlockId::new(next))
    }

    /// One more holder.
    pub(crate) fn share(&mut self, block: BlockId) {
        self.holders[block.at()] += 1;
    }

    /// One holder less; the last one frees the block.
    pub(crate) fn release(&mut self, block: BlockId) {
        let holders = &mut self.holders[block.at()];
        *holders -= 1;
        if *holders == 0 {
            self.free.push(block);
        }
    }

    pub(crate) fn is_shared(&self, block: BlockId) -> bool {
        self.holders[block.at()] > 1
    }

    /// Blocks that can be taken.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + (self.capacity as usize - self.holders.len())
    }

    /// Blocks that somebody holds.
    pub(crate) fn in_use(&self) -> usize {
        self.holders.len() - self.free.len()
    }

    /// Number of holders of each block that was ever taken.
    pub(crate) fn holders(&self) -> &[u32] {
        &self.holders
    }

    /// The blocks without a holder among those that were ever taken.
    pub(crate) fn free(&self) -> &[BlockId] {
        &self.free
    }
}
