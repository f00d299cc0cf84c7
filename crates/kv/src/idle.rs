//! What happens to slots that no request uses: published, purged, taken for children.

use crate::ram::Save;
use crate::slot::Slot;
use crate::{Cache, Eviction, Owner, SlotId};

impl Cache {
    /// Shares the content of all idle slots into the RAM tier, after each launched task (`--cache-idle-slots`). In a
    /// unified pool they are emptied then, as their tokens count against it; a slot that the tier cannot take in keeps
    /// its tokens.
    pub fn publish_idle(&mut self) -> Vec<Eviction> {
        let mut evicted = Vec::new();
        if !self.config.cache_idle_slots {
            return evicted;
        }
        for index in 0..self.slots.len() {
            if self.slots[index].is_idle_with_tokens()
                && self.save(index, &mut evicted)
                && self.config.unified
            {
                self.slots[index].content.truncate(0, &mut self.pool);
            }
        }
        self.epoch += 1;
        evicted
    }

    /// Makes room in an exhausted unified pool: empties the lowest idle slot that holds tokens, which go to the RAM
    /// tier if it can take them in. Gives the slot and the number of its tokens; `None` when there is none.
    pub fn purge_idle(&mut self) -> Option<(SlotId, u32)> {
        let index = self.slots.iter().position(Slot::is_idle_with_tokens).filter(|_| self.config.unified)?;
        let tokens = self.slots[index].len();
        self.empty(index, &mut Vec::new());
        Some((SlotId(index as u32), tokens))
    }

    /// Slots for the children of an `n_cmpl` request: the `count` lowest idle ones other than `parent`; `None` when
    /// there are fewer, and the request has to wait.
    #[must_use]
    pub fn plan_children(&self, parent: SlotId, count: u32) -> Option<Vec<SlotId>> {
        let parent = self.index(parent);
        let idle = (0..self.slots.len()).filter(|at| *at != parent && !self.slots[*at].busy);
        let children: Vec<_> = idle.take(count as usize).map(|at| SlotId(at as u32)).collect();
        (children.len() == count as usize).then_some(children)
    }

    /// Makes an idle slot busy and empty, for a child that waits for its parent's prompt. Its content goes to the RAM
    /// tier; gives what is given up. A busy slot stays as it is.
    pub fn claim(&mut self, slot: SlotId) -> Vec<Eviction> {
        let index = self.index(slot);
        let mut evicted = Vec::new();
        if !self.slots[index].busy {
            self.empty(index, &mut evicted);
            self.slots[index].busy = true;
        }
        evicted
    }

    /// Gives a claimed child the parent's tokens. All blocks are shared and no cell moves: whoever first appends to a
    /// shared last block copies it then.
    pub fn fork(&mut self, parent: SlotId, child: SlotId) {
        let (parent, child) = (self.index(parent), self.index(child));
        if parent != child {
            self.epoch += 1;
            let content = self.slots[parent].content.share(&mut self.pool);
            self.slots[child].replace(content, &mut self.pool);
        }
    }

    /// Slots other than `index` that could be emptied for it, lowest first: idle ones with tokens, in a unified pool.
    pub(crate) fn purgeable(&self, index: usize) -> impl Iterator<Item = usize> {
        let others = self
            .slots
            .iter()
            .enumerate()
            .filter(move |(at, slot)| *at != index && slot.is_idle_with_tokens());
        others.map(|(at, _)| at).take_while(|_| self.config.unified)
    }

    /// Takes all tokens from a slot, into the RAM tier if it can hold them.
    pub(crate) fn empty(&mut self, index: usize, evicted: &mut Vec<Eviction>) {
        self.epoch += 1;
        let kept = self.save(index, evicted);
        let tokens = self.slots[index].content.truncate(0, &mut self.pool);
        if !kept && tokens > 0 {
            evicted.push(Eviction { owner: Owner::Slot(SlotId(index as u32)), tokens });
        }
    }

    /// Whether the RAM tier holds the slot's tokens now.
    fn save(&mut self, index: usize, evicted: &mut Vec<Eviction>) -> bool {
        match self.ram.save(&self.slots[index].content, &mut self.pool) {
            Save::Covered => true,
            Save::TooLarge => false,
            Save::Fits { obsolete: _, evicted: given_up } => {
                evicted.extend(given_up);
                true
            }
        }
    }
}
