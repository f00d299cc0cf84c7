//! The invariants of the cache, for tests.

use std::collections::HashSet;

use crate::ids::blocks_for;
use crate::slot::Sequence;
use crate::{BlockId, Cache};

impl Cache {
    /// Verifies the whole state.
    ///
    /// # Errors
    /// Says which invariant is broken.
    pub fn check(&self) -> Result<(), String> {
        self.check_holders()?;
        self.check_slots()?;
        self.tree.check()
    }

    /// Every block has as many holders as name it; the free ones are those without.
    fn check_holders(&self) -> Result<(), String> {
        let mut holders = vec![0; self.pool.holders().len()];
        for content in
            self.slots.iter().flat_map(|slot| [Some(&slot.content), slot.staged.as_ref()]).flatten()
        {
            well_formed(content)?;
            content.blocks.iter().for_each(|block| holders[block.at()] += 1);
        }
        self.tree.blocks().for_each(|block| holders[block.at()] += 1);
        if holders != self.pool.holders() {
            return Err("block reference counts are wrong".into());
        }
        let free: HashSet<BlockId> = self.pool.free().iter().copied().collect();
        let unheld = holders.iter().filter(|holders| **holders == 0).count();
        let all_unheld = free.iter().all(|block| holders[block.at()] == 0);
        if free.len() != self.pool.free().len() || free.len() != unheld || !all_unheld {
            return Err("the free list is not the set of blocks without a holder".into());
        }
        Ok(())
    }

    /// Slots keep to their context, the pool to its limit, and as many blocks stay at hand as the capacity promises.
    fn check_slots(&self) -> Result<(), String> {
        for (id, slot) in self.slots() {
            if slot.len() > slot.n_ctx {
                return Err(format!("slot {id} holds {} of {} tokens", slot.len(), slot.n_ctx));
            }
        }
        if self.slots.iter().any(|slot| slot.staged.is_some() && !slot.busy) {
            return Err("a slot with a staged restore is idle".into());
        }
        let (used, limit) = (self.used_tokens(), self.config.token_limit());
        if used > limit {
            return Err(format!("{used} of {limit} cells are in use"));
        }
        let held: HashSet<BlockId> =
            self.slots.iter().flat_map(|slot| &slot.content.blocks).copied().collect();
        let most = blocks_for(limit) as usize + self.slots.len();
        if held.len() >= most {
            return Err(format!("the slots hold {} blocks, which must stay below {most}", held.len()));
        }
        Ok(())
    }
}

fn well_formed(content: &Sequence) -> Result<(), String> {
    let distinct: HashSet<_> = content.blocks.iter().collect();
    if distinct.len() != content.blocks.len() {
        return Err("a block stands twice in one table".into());
    }
    if content.blocks.len() != blocks_for(content.len()) as usize {
        return Err(format!("{} blocks for {} tokens", content.blocks.len(), content.len()));
    }
    Ok(())
}
