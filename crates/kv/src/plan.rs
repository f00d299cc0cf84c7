//! Stage 6: deciding where a prompt runs, and doing it.

use reprise_gguf::TokenId;

use crate::ids::{BLOCK_TOKENS, blocks_for, count};
use crate::limit::Layout;
use crate::prefix::{Reuse, common_prefix};
use crate::slot::{Sequence, Slot};
use crate::slots::{Choice, choose};
use crate::tree::keys;
use crate::{
    Applied, Cache, Eviction, Millis, Owner, Placement, Prompt, SlotId, Source, Stale, Tenant, Work,
};

impl Cache {
    /// Where a prompt would run and what that would reuse and cost; `None` when no slot can take it now. Changes
    /// nothing.
    ///
    /// The slot is chosen by llama-server's rule; its content, or what is held beyond it if that saves more work, is what the
    /// prompt continues.
    #[must_use]
    pub fn plan(&self, prompt: &Prompt<'_>, now: Millis) -> Option<Placement> {
        let choice = choose(&self.config, &self.slots, prompt)?;
        let slot = &self.slots[choice.slot];
        let Sourced { own, content, reuse, purged } = self.source(choice.slot, prompt);
        Some(Placement {
            slot: SlotId(choice.slot as u32),
            reason: choice.reason,
            reused: reuse.total(),
            own: own.min(reuse.total()),
            from: if content.is_some() { Source::Ram } else { Source::Slot },
            evicted: self.losses(&choice, prompt, content.as_ref(), &reuse),
            chunks: reuse.chunks,
            idle: slot.last_used.map(|then| now.0.saturating_sub(then.0)),
            purged: purged.into_iter().map(|at| SlotId(at as u32)).collect(),
            content,
            tenant: prompt.tenant,
            path: keys(prompt.tenant, prompt.tokens),
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
        let mut work = Work::default();
        self.policy.request(&placement.path);
        if let Some(content) = &placement.content {
            let content = content.share(&mut self.pool);
            self.slots[index].replace(content, &mut self.pool);
        }
        for slot in &placement.purged {
            self.empty(slot.0 as usize, &mut work.evicted);
        }
        self.slots[index].busy = true;
        self.slots[index].tenant = placement.tenant;
        self.relocate(index, keep, &placement.chunks, &mut work);
        // What is taken over is in the tree already, as far as it can be.
        self.slots[index].indexed = self.slots[index].content.exact / BLOCK_TOKENS;
        Ok(Applied { placement, work })
    }

    /// Prompts that wait for a slot, the next one first: what they need is not given up while there is anything else.
    pub fn expect<'a>(&mut self, prompts: impl Iterator<Item = (Tenant, &'a [TokenId])>) {
        let paths: Vec<_> = prompts.map(|(tenant, tokens)| keys(tenant, tokens)).collect();
        self.policy.expect(paths.iter().map(Vec::as_slice));
    }

    /// The slot's own content or, if more can be reused from it, what is held beyond it; with the idle slots that have to make
    /// room for it.
    fn source(&self, index: usize, prompt: &Prompt<'_>) -> Sourced {
        let slot = &self.slots[index];
        let own = if slot.tenant == prompt.tenant {
            Reuse::of(&slot.content.tokens, prompt)
        } else {
            Reuse::default()
        };
        let floor = own.total();
        if let Some((content, reuse)) = self.best(prompt, floor)
            && let Some((reuse, purged)) = self.make_fit(index, &content, reuse, floor)
        {
            let end = reuse.chunks.last().map_or(reuse.prefix, |chunk| chunk.from + chunk.count);
            return Sourced { own: floor, content: Some(content.head(end)), reuse, purged };
        }
        let (reuse, purged) = self.make_fit(index, &slot.content, own, 0).unwrap_or_default();
        Sourced { own: floor, content: None, reuse, purged }
    }

    /// What of everything held saves most of the prompt, if that is more than `floor` tokens.
    fn best(&self, prompt: &Prompt<'_>, floor: u32) -> Option<(Sequence, Reuse)> {
        if !prompt.cache_prompt {
            return None;
        }
        if prompt.reuse_chunk == 0 {
            let held = self.tree.longest(prompt.tenant, prompt.tokens);
            let tokens = prompt.tokens[..held.len as usize].to_vec();
            let reuse = Reuse::of(&tokens, prompt);
            let content = Sequence { tokens, blocks: held.blocks, exact: held.len };
            // It is not worth copying a block for a few tokens, and llama-server does not either: it asks for a quarter of what it
            // has.
            return (reuse.total() > floor && !held.few).then_some((content, reuse));
        }
        let mut best: Option<(Sequence, Reuse)> = None;
        for (_, content) in self.tree.paths().filter(|(tenant, _)| *tenant == prompt.tenant) {
            let reuse = Reuse::of(&content.tokens, prompt);
            if reuse.total() > best.as_ref().map_or(floor, |(_, reuse)| reuse.total()) {
                best = Some((content, reuse));
            }
        }
        best
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

    /// What is given up: tokens of the slot that are held nowhere else, and what makes room for the rest of the prompt.
    fn losses(
        &self,
        choice: &Choice,
        prompt: &Prompt<'_>,
        content: Option<&Sequence>,
        reuse: &Reuse,
    ) -> Vec<Eviction> {
        let Slot { content: shown, tenant, .. } = &self.slots[choice.slot];
        let kept = match content {
            None if *tenant == prompt.tenant => common_prefix(&shown.tokens, prompt.tokens) + reuse.moved(),
            _ => 0,
        };
        let lost = self.unheld(choice.slot).min(shown.len() - kept);
        let mut losses = Vec::new();
        if lost > 0 {
            losses.push(Eviction { owner: Owner::Slot(SlotId(choice.slot as u32)), tokens: lost });
        }
        let source = content.unwrap_or(shown);
        let shared = (reuse.prefix / BLOCK_TOKENS) as usize;
        let wanted = blocks_for(count(prompt.tokens)) - shared as u32;
        let reserved = &source.blocks[..blocks_for(reuse.prefix) as usize];
        if let Some(victims) = self.victims(self.missing(wanted), reserved) {
            losses.extend(self.costs(&victims));
        }
        losses
    }
}

/// Where reused tokens come from and what has to go for them.
struct Sourced {
    /// Tokens of the prompt that the slot itself can give.
    own: u32,
    /// `None` is the slot's own.
    content: Option<Sequence>,
    reuse: Reuse,
    purged: Vec<usize>,
}
