//! What happens to slots that no request uses: published, purged, taken for children.

use crate::slot::Slot;
use crate::{Cache, Eviction, Owner, SlotId};

impl Cache {
    /// What llama-server does when it launches a request: idle slots are in the prompt cache from now on
    /// (`--cache-idle-slots`), and in a unified pool, where their tokens count against it, they are emptied. A slot whose
    /// tokens are not all held keeps them.
    pub fn publish_idle(&mut self) {
        self.epoch += 1;
        let publishes = self.config.cache_idle_slots && self.config.ram_blocks > 0;
        for index in 0..self.slots.len() {
            if !self.slots[index].is_idle_with_tokens() {
                continue;
            }
            self.slots[index].published |= publishes;
            if publishes && self.config.unified && self.unheld(index) == 0 {
                self.slots[index].content.truncate(0, &mut self.pool);
            }
        }
    }

    /// Makes room in an exhausted unified pool: empties the lowest idle slot that holds tokens. Gives the slot and the number of its tokens; `None` when there is none.
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

    /// Makes an idle slot busy and empty, for a child that waits for its parent's prompt; gives what is lost. A busy slot
    /// stays as it is.
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
            self.slots[child].tenant = self.slots[parent].tenant;
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

    /// Takes all tokens from a slot; those that are not held beyond it are lost.
    pub(crate) fn empty(&mut self, index: usize, evicted: &mut Vec<Eviction>) {
        self.epoch += 1;
        let tokens = self.unheld(index);
        self.slots[index].content.truncate(0, &mut self.pool);
        if tokens > 0 {
            evicted.push(Eviction { owner: Owner::Slot(SlotId(index as u32)), tokens });
        }
    }

    /// Tokens of a slot that are held nowhere else.
    pub(crate) fn unheld(&self, index: usize) -> u32 {
        let Slot { content, tenant, .. } = &self.slots[index];
        content.len() - self.tree.longest(*tenant, &content.tokens).len
    }
}
