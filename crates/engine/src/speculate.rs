//! Speculative decoding: tokens that a generation will probably say next are evaluated together with the one that it has
//! said. Each is kept only if the sampler, on its own turn and in its own state, chooses it too, so that the answer is the
//! one that would have come without.

use std::time::Duration;

use reprise_gguf::TokenId;
use reprise_kv::SlotId;
use reprise_model::Forward;

use crate::batch::{Entry, shares};
use crate::engine::{Engine, Occupant};
use crate::ngram::Ngrams;
use crate::pace::Pace;
use crate::{BlockStore, Clock, SlotStore};

/// Drafts by prompt lookup (`--spec-type ngram-simple`); by default llama-server's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speculation {
    /// Tokens that must have occurred before for a draft of what followed them (`--spec-ngram-simple-size-n`).
    pub lookup: u32,
    /// Most tokens of a draft, and of all drafts of a pass (`--spec-ngram-simple-size-m`). A generation starts with shorter
    /// drafts and gets longer ones as they come true.
    pub draft: u32,
    /// How often they must have occurred (`--spec-ngram-simple-min-hits`).
    pub hits: u32,
}

impl Default for Speculation {
    fn default() -> Self {
        Self { lookup: 12, draft: 48, hits: 1 }
    }
}

/// What has become of a generation's drafts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drafts {
    /// Tokens drafted.
    pub drafted: u32,
    /// Of these, tokens that came true.
    pub accepted: u32,
}

/// What drafts for one generation.
#[derive(Debug)]
pub(crate) struct Drafter {
    rule: Speculation,
    ngrams: Ngrams,
    pace: Pace,
}

impl Drafter {
    fn new(rule: Speculation, text: &[TokenId]) -> Self {
        Self { rule, ngrams: Ngrams::new(rule.lookup, text), pace: Pace::default() }
    }

    /// Takes note of a sampled token.
    pub(crate) fn push(&mut self, token: TokenId) {
        self.ngrams.push(token);
        self.pace.sampled();
    }

    fn draft(&self, most: u32) -> Vec<TokenId> {
        let most = most.min(self.pace.length()).min(self.rule.draft);
        self.ngrams.draft(self.rule.hits, most as usize)
    }
}

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    /// Drafts for the generations of a pass, of `room` tokens together at most; entry by entry, where empty none.
    pub(crate) fn drafts(&mut self, entries: &[Entry], room: u32) -> Vec<Vec<TokenId>> {
        let Some(rule) = self.shared.config.speculation.filter(|_| room > 0) else { return Vec::new() };
        let room = room.min(rule.draft);
        let mut drafts: Vec<_> = entries.iter().map(|entry| self.draft(rule, entry.slot, room)).collect();
        let wanted: Vec<u32> = drafts.iter().map(|draft| draft.len() as u32).collect();
        for (draft, share) in drafts.iter_mut().zip(shares(room, &wanted)) {
            draft.truncate(share as usize);
        }
        drafts
    }

    /// A draft that fits into what the request may still say and the slot may still hold.
    fn draft(&mut self, rule: Speculation, slot: SlotId, most: u32) -> Vec<TokenId> {
        let view = self.cache.slot(slot);
        let Some(Occupant::Task(task)) = &mut self.slots[slot.0 as usize].occupant else { return Vec::new() };
        let most = most.min(view.n_ctx.saturating_sub(view.len() + 1));
        // The pass gives one token more than it verifies.
        let most = match task.request.limits.predict {
            Some(limit) => most.min(limit.saturating_sub(task.predicted() + 1)),
            None => most,
        };
        task.drafter.get_or_insert_with(|| Drafter::new(rule, view.tokens)).draft(most)
    }

    /// Lets an entry evaluate a draft too, if there are cells for it. Nobody's cache is given up for a guess: the pool's
    /// limit just ends it.
    pub(crate) fn lengthen(&mut self, entry: &mut Entry, draft: &[TokenId]) {
        if draft.is_empty() || self.occupant(entry.slot).is_none() {
            return;
        }
        let length = self.cache.slot(entry.slot).len();
        let Ok(work) = self.cache.append(entry.slot, draft) else { return };
        if self.carry_out(&work).is_err() {
            self.cache.truncate(entry.slot, length);
            return;
        }
        entry.count += draft.len() as u32;
        entry.drafted = draft.len() as u32;
        entry.output = entry.output.of_each();
    }

    /// Samples behind the token of an entry, and behind each token of its draft for as long as what was sampled is what was
    /// drafted. Of the rest the slot keeps nothing.
    pub(crate) fn decoded(&mut self, entry: &Entry, row: usize, now: Duration) {
        let first = entry.start + entry.count - entry.drafted;
        let draft = self.cache.slot(entry.slot).tokens.get(first as usize..).unwrap_or_default().to_vec();
        if let Some(task) = self.task_mut(entry.slot) {
            task.drafted(entry.drafted);
        }
        let mut accepted = 0;
        loop {
            let guess = draft.get(accepted as usize).copied();
            let token = self.sample(entry.slot, row + accepted as usize, first + accepted, guess, now);
            if guess.is_none() || token != guess {
                break;
            }
            accepted += 1;
            if self.occupant(entry.slot).is_none() {
                break;
            }
        }
        if draft.is_empty() {
            return;
        }
        self.cache.truncate(entry.slot, first + accepted);
        self.metrics.tokens_max = self.metrics.tokens_max.max(self.cache.slot(entry.slot).len().into());
        self.metrics.speculation.count(draft.len(), accepted as usize);
        if let Some(drafter) = self.task_mut(entry.slot).and_then(|task| task.drafter.as_mut()) {
            drafter.pace.verified(entry.drafted, accepted);
        }
    }
}
