//! Restoring a slot image: a transaction that leaves the slot as it was until the image is known to be good.

use reprise_gguf::TokenId;

use crate::ids::{blocks_for, count};
use crate::limit::Layout;
use crate::slot::Sequence;
use crate::{BlockId, Cache, Eviction, Millis, RestoreError, SlotId, Tenant};

/// Blocks that wait to be filled from an image. [`Cache::commit_restore`] makes them the slot's,
/// [`Cache::abort_restore`] frees them; until then the slot is busy with its old content.
#[derive(Debug)]
#[must_use = "commit or abort it: its slot is busy until then"]
pub struct Staged {
    /// The slot.
    pub slot: SlotId,
    /// Whose tokens they are.
    pub tenant: Tenant,
    /// Blocks to fill, in order of position; nobody else reads or writes them.
    pub blocks: Vec<BlockId>,
    /// Idle slots emptied to make room in a unified pool.
    pub purged: Vec<SlotId>,
    /// What was given up to make room.
    pub evicted: Vec<Eviction>,
}

impl Cache {
    /// Takes blocks for `tokens` beside what an idle slot holds; only the KV of the first `exact` is known to be what evaluating
    /// them gives, so only they are shared. In a unified pool that is too full, other idle slots
    /// are purged, lowest first.
    ///
    /// # Errors
    /// [`RestoreError`]; nothing has changed then.
    pub fn restore(
        &mut self,
        slot: SlotId,
        tenant: Tenant,
        tokens: &[TokenId],
        exact: u32,
    ) -> Result<Staged, RestoreError> {
        let index = self.index(slot);
        let (slot, tokens_len) = (SlotId(index as u32), count(tokens));
        if self.slots[index].busy {
            return Err(RestoreError::Busy(slot));
        }
        let context = self.config.slot_context;
        if tokens_len > context {
            return Err(RestoreError::Context { tokens: tokens_len, context });
        }
        let full = RestoreError::Pool { tokens: tokens_len };
        let wanted = blocks_for(tokens_len);
        let staged: usize =
            self.slots.iter().flat_map(|slot| &slot.staged).map(|staged| staged.blocks.len()).sum();
        if staged + wanted as usize > self.config.staging_blocks() as usize {
            return Err(full);
        }
        let mut idle =
            (0..self.slots.len()).filter(|at| *at != index && self.slots[*at].is_idle_with_tokens());
        let mut purged = Vec::new();
        let layout = Layout { own: tokens_len.max(self.slots[index].len()), ..Layout::default() };
        while !self.fits(index, &purged, layout) {
            purged.push(idle.next().ok_or(full)?);
        }
        let mut evicted = Vec::new();
        for at in &purged {
            self.empty(*at, &mut evicted);
        }
        let reserved = self.slots[index].content.blocks.clone();
        let blocks = self.take(wanted, &reserved, &mut evicted).ok_or(full)?;
        self.epoch += 1;
        self.slots[index].busy = true;
        self.slots[index].staged =
            Some(Sequence { tokens: tokens.to_vec(), blocks: blocks.clone(), exact: exact.min(tokens_len) });
        let purged = purged.into_iter().map(|at| SlotId(at as u32)).collect();
        Ok(Staged { slot, tenant, blocks, purged, evicted })
    }

    /// The filled blocks become the slot's content. The slot is idle and counts as just used, so that it is not the
    /// first to be overwritten.
    #[expect(clippy::needless_pass_by_value, reason = "a staged restore ends only once")]
    pub fn commit_restore(&mut self, staged: Staged, now: Millis) {
        let index = self.index(staged.slot);
        if let Some(content) = self.slots[index].staged.take() {
            self.epoch += 1;
            self.slots[index].replace(content, &mut self.pool);
            self.slots[index].tenant = staged.tenant;
            self.release(staged.slot, now);
        }
    }

    /// Frees the blocks; the slot is idle and holds what it held.
    #[expect(clippy::needless_pass_by_value, reason = "a staged restore ends only once")]
    pub fn abort_restore(&mut self, staged: Staged) {
        let index = self.index(staged.slot);
        if let Some(mut content) = self.slots[index].staged.take() {
            self.epoch += 1;
            content.truncate(0, &mut self.pool);
            self.slots[index].busy = false;
        }
    }
}
