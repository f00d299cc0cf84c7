//! Making room: which held blocks are given up, and what that costs whom.
//!
//! Only leaves of the tree go, and never one that a running request reads: a conversation is shortened from its end. A leaf that
//! an idle slot shows shortens that slot too. Which leaf goes is the policy's choice.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ids::BLOCK_TOKENS;
use crate::policy::NodeKey;
use crate::tree::NodeAt;
use crate::{BlockId, Cache, Eviction, Owner, SlotId};

impl Cache {
    /// Free blocks, all or none; what is held beyond the running requests gives way, but for what is `reserved`.
    pub(crate) fn take(
        &mut self,
        blocks: u32,
        reserved: &[BlockId],
        evicted: &mut Vec<Eviction>,
    ) -> Option<Vec<BlockId>> {
        let victims = self.victims(self.missing(blocks), reserved)?;
        self.sacrifice(&victims, evicted);
        (0..blocks).map(|_| self.pool.take()).collect()
    }

    /// How many blocks have to be given up before `blocks` can be taken.
    pub(crate) fn missing(&self, blocks: u32) -> usize {
        (blocks as usize).saturating_sub(self.pool.available())
    }

    /// Nodes to give up, in order, for so many free blocks; `None` when there are not enough. Blocks of running requests, of
    /// staged restores and those that are `reserved` stay.
    pub(crate) fn victims(&self, wanted: usize, reserved: &[BlockId]) -> Option<Vec<NodeAt>> {
        let mut victims = Vec::new();
        if wanted == 0 {
            return Some(victims);
        }
        let pinned = self.pinned(reserved);
        let is_free = |at: NodeAt| !pinned[self.tree.node(at).block.at()];
        let leaf = |at: NodeAt| (self.tree.node(at).key, at);
        let mut leaves: BTreeMap<NodeKey, NodeAt> =
            self.tree.leaves().filter(|at| is_free(*at)).map(leaf).collect();
        let mut left: HashMap<NodeAt, usize> = HashMap::new();
        while victims.len() < wanted {
            let candidates = leaves.iter().map(|(key, at)| (*key, self.tree.node(*at).depth + 1));
            let victim = leaves.remove(&self.policy.victim(candidates)?)?;
            victims.push(victim);
            if let Some(parent) = self.tree.node(victim).parent {
                let left = left.entry(parent).or_insert_with(|| self.tree.node(parent).children.len());
                *left -= 1;
                if *left == 0 && is_free(parent) {
                    leaves.extend([leaf(parent)]);
                }
            }
        }
        Some(victims)
    }

    /// What giving up these nodes costs: idle slots that show them, or nobody but the cache.
    pub(crate) fn costs(&self, victims: &[NodeAt]) -> Vec<Eviction> {
        let gone: HashMap<BlockId, u32> =
            victims.iter().map(|at| self.tree.node(*at)).map(|node| (node.block, node.len())).collect();
        let mut shown: BTreeSet<BlockId> = BTreeSet::new();
        let mut costs = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(first) = slot.content.blocks.iter().position(|block| gone.contains_key(block)) else {
                continue;
            };
            shown.extend(slot.content.blocks[first..].iter().filter(|block| gone.contains_key(block)));
            let tokens = slot.len() - first as u32 * BLOCK_TOKENS;
            costs.push(Eviction { owner: Owner::Slot(SlotId(index as u32)), tokens });
        }
        let tokens = gone.iter().filter(|(block, _)| !shown.contains(block)).map(|(_, tokens)| tokens).sum();
        if tokens > 0 {
            costs.push(Eviction { owner: Owner::Ram, tokens });
        }
        costs
    }

    /// Gives these nodes up, in order.
    pub(crate) fn sacrifice(&mut self, victims: &[NodeAt], evicted: &mut Vec<Eviction>) {
        evicted.extend(self.costs(victims));
        victims.iter().for_each(|at| self.give_up(*at));
    }

    fn give_up(&mut self, at: NodeAt) {
        self.epoch += 1;
        let block = self.tree.node(at).block;
        for slot in &mut self.slots {
            if let Some(index) = slot.content.blocks.iter().position(|held| *held == block) {
                slot.content.truncate(index as u32 * BLOCK_TOKENS, &mut self.pool);
            }
        }
        self.tree.remove(at, &mut self.pool);
    }

    /// Which blocks may not be given up.
    fn pinned(&self, reserved: &[BlockId]) -> Vec<bool> {
        let mut pinned = vec![false; self.pool.holders().len()];
        let running = self.slots.iter().filter(|slot| slot.busy).flat_map(|slot| &slot.content.blocks);
        let staged = self.slots.iter().flat_map(|slot| &slot.staged).flat_map(|staged| &staged.blocks);
        running.chain(staged).chain(reserved).for_each(|block| pinned[block.at()] = true);
        pinned
    }
}
