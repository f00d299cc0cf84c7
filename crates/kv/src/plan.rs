//! Stage 6: deciding where a prompt runs, and doing it.

use crate::limit::Layout;
use crate::prefix::{Reuse, common_prefix};
use crate::ram::Save;
use crate::slot::Sequence;
use crate::slots::{Choice, choose};
use crate::{
    Applied, Cache, EntryId, Eviction, Millis, Owner, Placement, Prompt, SlotId, Source, Stale, Work,
};

impl Cache {
    /// Where a prompt would run and what that would reuse and cost; `None` when no slot can take it now. Changes
    /// nothing.
    ///
    /// The slot is chosen by llama-server's rule; its content, or the entry of the RAM tier that saves more work, is
    /// what the prompt continues.
    #[must_use]
    pub fn plan(&self, prompt: &Prompt<'_>, now: Millis) -> Option<Placement> {
        let choice = choose(&self.config, &self.slots, prompt)?;
        let slot = &self.slots[choice.slot];
        let Sourced { from, reuse, purged } = self.source(choice.slot, prompt);
        let (saved, evicted) = self.losses(&choice, prompt, from, &reuse);
        Some(Placement {
            slot: SlotId(choice.slot as u32),
            reason: choice.reason,
            reused: reuse.total(),
            from,
            chunks: reuse.chunks,
            saved,
            evicted,
            idle: slot.last_used.map(|then| now.0.saturating_sub(then.0)),
            purged: purged.into_iter().map(|at| SlotId(at as u32)).collect(),
            epoch: self.epoch,
        })
    }

    /// Carries out a placement: the slot is busy and holds the first [`Placement::reused`] tokens of the prompt, once
    /// the model has done the work. The caller appends and evaluates the rest.
    ///
    /// # Errors
    /// [`Stale`] when the cache has changed since the plan was made; nothing has changed then.
    pub fn apply(&mut self, placement: Placement) -> Result<Applied, Stale> {
        if placement.epoch != self.epoch {
            return Err(Stale);
        }
        let index = self.index(placement.slot);
        let moved: u32 = placement.chunks.iter().map(|chunk| chunk.count).sum();
        let keep = placement.reused.saturating_sub(moved);
        let loaded = match placement.from {
            Source::Slot => None,
            Source::Ram(entry) => {
                let end = placement.chunks.last().map_or(keep, |chunk| chunk.from + chunk.count);
                Some(self.load(entry, end).ok_or(Stale)?)
            }
        };
        let mut work = Work::default();
        if placement.saved > 0 {
            self.ram.save(&self.slots[index].content, &mut self.pool);
        }
        if let Some(content) = loaded {
            self.slots[index].replace(content, &mut self.pool);
        }
        for slot in &placement.purged {
            self.empty(slot.0 as usize, &mut work.evicted);
        }
        self.relocate(index, keep, &placement.chunks, &mut work);
        self.slots[index].busy = true;
        Ok(Applied { placement, work })
    }

    /// The first `len` tokens of a RAM entry with their blocks, held once more. The entry stays, as the newest.
    fn load(&mut self, id: EntryId, len: u32) -> Option<Sequence> {
        self.ram.touch(id);
        let mut content = self.ram.entry(id)?.content.share(&mut self.pool);
        content.truncate(len, &mut self.pool);
        Some(content)
    }

    /// The slot's own content or, if more can be reused from it, an entry of the RAM tier; with the idle slots that
    /// have to make room for it.
    fn source(&self, index: usize, prompt: &Prompt<'_>) -> Sourced {
        let slot = &self.slots[index];
        let own = Reuse::of(&slot.content.tokens, prompt);
        if prompt.ram
            && let Some((entry, reuse)) = self.ram.best(prompt, own.total())
        {
            let floor = own.total();
            if let Some((reuse, purged)) = self.make_fit(index, &entry.content, reuse, floor) {
                return Sourced { from: Source::Ram(entry.id), reuse, purged };
            }
        }
        let (reuse, purged) = self.make_fit(index, &slot.content, own, 0).unwrap_or_default();
        Sourced { from: Source::Slot, reuse, purged }
    }

    /// What of a reuse the pool can take, with the idle slots to purge for it (lowest first). Less is reused only if
    /// that does not help; `None` if no more than `floor` tokens would be left.
    fn make_fit(
        &self,
        index: usize,
        source: &Sequence,
        mut reuse: Reuse,
        floor: u32,
    ) -> Option<(Reuse, Vec<usize>)> {
        let mut idle = self.purgeable(index);
        let mut purged = Vec::new();
        while !self.fits(index, &purged, reuse.layout(source)) {
            match idle.next() {
                Some(at) => purged.push(at),
                None if !reuse.chunks.is_empty() => reuse.chunks.clear(),
                None => {
                    reuse.prefix = self.room(index, &purged, Layout::default()).min(reuse.prefix);
                    break;
                }
            }
        }
        (reuse.total() > floor).then_some((reuse, purged))
    }

    /// Tokens of the slot that go to the RAM tier, and what is given up.
    fn losses(
        &self,
        choice: &Choice,
        prompt: &Prompt<'_>,
        from: Source,
        reuse: &Reuse,
    ) -> (u32, Vec<Eviction>) {
        let content = &self.slots[choice.slot].content;
        if self.ram.covers(&content.tokens) {
            return (0, Vec::new());
        }
        let (newest, moved) = match from {
            Source::Slot => (None, reuse.moved()),
            Source::Ram(entry) => (Some(entry), 0),
        };
        // Even if the slot keeps every token: while it is busy, other slots can find them only in the tier.
        let save = prompt.ram && (choice.save || newest.is_some());
        if save && let Save::Fits { obsolete: _, evicted } = self.ram.plan_save(content, newest) {
            return (content.len(), evicted);
        }
        let tokens = content.len() - common_prefix(&content.tokens, prompt.tokens) - moved;
        let eviction = Eviction { owner: Owner::Slot(SlotId(choice.slot as u32)), tokens };
        (0, if tokens > 0 { vec![eviction] } else { Vec::new() })
    }
}

/// Where reused tokens come from and what has to go for them.
struct Sourced {
    from: Source,
    reuse: Reuse,
    purged: Vec<usize>,
}
