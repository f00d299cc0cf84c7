//! Stage 7: what goes into a forward pass. Every running generation first, one token each; then, in the room that is
//! left, pieces of prompts.

use std::time::Duration;

use reprise_gguf::TokenId;
use reprise_kv::{BlockId, Cache, PoolFull, SlotId};
use reprise_model::{Forward, Output, Sequence};
use tracing::{error, warn};

use crate::engine::{Engine, Occupant};
use crate::failure::Remains;
use crate::slot_task::{Phase, Scene};
use crate::{BlockStore, Clock, EngineError, SlotStore, StopReason};

/// While prompts wait, the part of a pass's room that drafts may take is one in so many.
const PROMPTS_FIRST: u32 = 4;

/// The tokens of one slot in a pass. They stand in the slot already: the cache has cells for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) slot: SlotId,
    pub(crate) start: u32,
    pub(crate) count: u32,
    pub(crate) output: Output,
    /// How many of them, at the end, are a draft.
    pub(crate) drafted: u32,
    prompt: bool,
}

impl Entry {
    fn sequence<'a>(&self, cache: &'a Cache) -> Sequence<'a> {
        let view = cache.slot(self.slot);
        Sequence {
            tokens: &view.tokens[self.start as usize..][..self.count as usize],
            start: self.start,
            blocks: BlockId::indices(view.blocks),
            output: self.output,
        }
    }
}

/// A pass in the making.
#[derive(Debug, Default)]
struct Composition {
    entries: Vec<Entry>,
    /// Someone was left out for want of cells.
    starved: bool,
}

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    /// Runs one forward pass and gives its results to their slots. If the pass fails, so do the requests in it, and no
    /// others; their slots keep what they held before.
    pub(crate) async fn forward(&mut self) {
        self.shift_full_slots();
        let entries = self.compose();
        if entries.is_empty() {
            return;
        }
        let started = self.clock.now();
        let sequences: Vec<Sequence<'_>> = entries.iter().map(|entry| entry.sequence(&self.cache)).collect();
        match self.model.forward(&sequences, &mut self.output).await {
            Ok(()) => {
                self.deliver(&entries, started);
                entries.iter().for_each(|entry| self.cache.publish(entry.slot));
            }
            Err(failure) => {
                error!(%failure, requests = entries.len(), "the forward pass failed");
                let failure = self.failure(&failure);
                for entry in &entries {
                    self.cache.truncate(entry.slot, entry.start);
                }
                for entry in &entries {
                    if let Some(id) = self.occupant(entry.slot).map(Occupant::id) {
                        self.fail(id, &failure, Remains::Keep);
                    }
                }
            }
        }
    }

    /// A pass with cells reserved for all its tokens. When the pool is so full that nobody can go on, the youngest
    /// request is given up for the others.
    fn compose(&mut self) -> Vec<Entry> {
        loop {
            let pass = self.try_compose();
            let youngest =
                self.slots.iter().filter_map(|slot| slot.occupant.as_ref()).map(Occupant::id).max();
            match youngest {
                Some(id) if pass.entries.is_empty() && pass.starved => {
                    self.fail(id, &EngineError::PoolExhausted, Remains::Drop);
                }
                _ => return pass.entries,
            }
        }
    }

    fn try_compose(&mut self) -> Composition {
        let mut pass = Composition::default();
        let mut room = self.shared.config.micro_batch.max(1);
        let (due, round) = (self.due(), self.round);
        let width = self.shared.model.vocab;
        for (slot, token) in due.iter().take(room as usize) {
            let Some(task) = self.task_mut(*slot) else { continue };
            task.round = round;
            let output = task.output(width);
            self.reserve(&mut pass, *slot, &[*token], output, false);
        }
        if due.len() > room as usize {
            return pass;
        }
        room -= due.len() as u32;
        let prompts = self.prompts();
        if room > 0 || prompts.is_empty() {
            // With no room left the next pass is the prompts' turn, and the round ends there.
            self.round += 1;
        }
        let drafts = self.drafts(&pass.entries, if prompts.is_empty() { room } else { room / PROMPTS_FIRST });
        room -= drafts.iter().map(|draft| draft.len() as u32).sum::<u32>();
        let remaining: Vec<u32> = prompts.iter().map(|(_, remaining)| *remaining).collect();
        for ((slot, remaining), share) in prompts.into_iter().zip(shares(room, &remaining)) {
            if share > 0 {
                self.reserve_chunk(&mut pass, slot, share, share == remaining);
            }
        }
        // Drafts come last: cells that a prompt needs are not taken for guesses.
        for (entry, draft) in pass.entries.iter_mut().zip(&drafts) {
            self.lengthen(entry, draft);
        }
        pass
    }

    /// Generations not yet decoded in this round, oldest first.
    fn due(&self) -> Vec<(SlotId, TokenId)> {
        let mut due: Vec<_> = self
            .tasks()
            .filter_map(|(slot, task)| match task.phase {
                Phase::Decode(token) if task.round != self.round && !task.is_paused() => {
                    Some((task.id, slot, token))
                }
                _ => None,
            })
            .collect();
        due.sort_unstable_by_key(|(id, slot, _)| (*id, slot.0));
        due.into_iter().map(|(_, slot, token)| (slot, token)).collect()
    }

    /// Prompts in the making and how many tokens they lack, oldest first. None while generations run, if
    /// `--no-cont-batching` says so.
    fn prompts(&self) -> Vec<(SlotId, u32)> {
        let decoding =
            self.tasks().any(|(_, task)| matches!(task.phase, Phase::Decode(_)) && !task.is_paused());
        if decoding && !self.shared.config.continuous_batching {
            return Vec::new();
        }
        let mut prompts: Vec<_> = self
            .slot_ids()
            .filter_map(|slot| {
                let occupant = self.occupant(slot)?;
                let remaining = occupant.prefill()?.len() as u32 - self.cache.slot(slot).len();
                Some((occupant.id(), slot, remaining))
            })
            .collect();
        prompts.sort_unstable_by_key(|(id, ..)| *id);
        prompts.into_iter().map(|(_, slot, remaining)| (slot, remaining)).collect()
    }

    fn reserve_chunk(&mut self, pass: &mut Composition, slot: SlotId, share: u32, last: bool) {
        let start = self.cache.slot(slot).len() as usize;
        let Some(occupant) = self.occupant(slot) else { return };
        let Some(prompt) = occupant.prefill() else { return };
        let chunk = prompt[start..start + share as usize].to_vec();
        let output = match occupant {
            Occupant::Embedding(_) => Output::Hidden,
            Occupant::Task(task) if last && !task.only_warms() => task.output(self.shared.model.vocab),
            Occupant::Task(_) => Output::Nothing,
        };
        self.reserve(pass, slot, &chunk, output, true);
    }

    /// Reserves cells for as many of the tokens as the pool has room for, after emptying idle slots if it must.
    fn reserve(
        &mut self,
        pass: &mut Composition,
        slot: SlotId,
        tokens: &[TokenId],
        output: Output,
        prompt: bool,
    ) {
        let start = self.cache.slot(slot).len();
        let mut count = tokens.len();
        let work = loop {
            match self.cache.append(slot, &tokens[..count]) {
                Ok(work) => break work,
                Err(full) => {
                    if matches!(full, PoolFull::Pool { .. })
                        && let Some((purged, lost)) = self.cache.purge_idle()
                    {
                        warn!(slot = %purged, "slot {purged} emptied, {lost} tokens: the pool needs its cells");
                        continue;
                    }
                    let room = match full {
                        PoolFull::Pool { room, .. } | PoolFull::Slot { room, .. } => room as usize,
                    };
                    count = room.min(count - 1);
                    if count == 0 {
                        pass.starved = true;
                        return;
                    }
                }
            }
        };
        let evicted: u32 = work.evicted.iter().map(|eviction| eviction.tokens).sum();
        if let Some(task) = self.task_mut(slot) {
            task.placed.evicted += evicted;
        }
        if let Err(error) = self.carry_out(&work) {
            if let Some(id) = self.occupant(slot).map(Occupant::id) {
                self.fail(id, &error, Remains::Drop);
            }
            return;
        }
        // Only the last token of a prompt has an answer.
        let output = if count < tokens.len() && output.wants_scores() { Output::Nothing } else { output };
        pass.entries.push(Entry { slot, start, count: count as u32, output, drafted: 0, prompt });
    }

    /// Hands the rows of a pass to the slots that asked for them.
    fn deliver(&mut self, entries: &[Entry], started: Duration) {
        let now = self.clock.now();
        self.count(entries, now.saturating_sub(started));
        let width = self.shared.model.embedding;
        let (mut row, mut hidden) = (0, 0);
        for entry in entries {
            match entry.output {
                Output::Hidden => {
                    let end = hidden + entry.count as usize * width;
                    self.embedded(entry.slot, hidden..end);
                    hidden = end;
                }
                output if entry.prompt => {
                    self.evaluated(entry, row, now);
                    row += usize::from(output.wants_scores());
                }
                output => {
                    self.decoded(entry, row, now);
                    row += output.score_rows(entry.count as usize);
                }
            }
        }
    }

    fn count(&mut self, entries: &[Entry], took: Duration) {
        let prompt: u32 = entries.iter().filter(|entry| entry.prompt).map(|entry| entry.count).sum();
        self.metrics.decodes += 1;
        self.metrics.busy_slots += self.slots.iter().filter(|slot| slot.occupant.is_some()).count() as u64;
        self.metrics.prompt_tokens += u64::from(prompt);
        if prompt > 0 {
            self.metrics.prompt_time += took;
        }
        let drafted = |slot| entries.iter().find(|entry| entry.slot == slot).map_or(0, |entry| entry.drafted);
        let most = self.cache.slots().map(|(slot, view)| view.len() - drafted(slot)).max().unwrap_or(0);
        self.metrics.tokens_max = self.metrics.tokens_max.max(u64::from(most));
    }

    /// A piece of a prompt is done; after the last one all copies of the request go on from the same logits.
    fn evaluated(&mut self, entry: &Entry, row: usize, now: Duration) {
        let (slot, every) = (entry.slot, self.shared.config.batch);
        let tokens = self.cache.slot(slot).len() as usize;
        let Some(task) = self.task_mut(slot) else { return };
        task.evaluated(entry.count, every, now);
        if tokens < task.request.prompt.len() {
            return;
        }
        let (id, work) = (task.id, task.prompt_work());
        let copies: Vec<SlotId> = self
            .tasks()
            .filter(|(_, task)| task.id == id && task.phase == Phase::Copying)
            .map(|(copy, _)| copy)
            .collect();
        for copy in &copies {
            self.cache.fork(slot, *copy);
            if let Some(task) = self.task_mut(*copy) {
                task.inherit(&work, now);
            }
        }
        for slot in std::iter::once(slot).chain(copies) {
            match self.task_mut(slot) {
                Some(task) if task.only_warms() => self.finish(slot, StopReason::Limit),
                _ => {
                    self.sample(slot, row, tokens as u32, None, now);
                }
            }
        }
    }

    /// Chooses what follows the first `length` tokens of a slot from the `row`-th row of logits, and gives it. If the
    /// generation ends with it, the slot keeps no more than these tokens.
    pub(crate) fn sample(
        &mut self,
        slot: SlotId,
        row: usize,
        length: u32,
        guess: Option<TokenId>,
        now: Duration,
    ) -> Option<TokenId> {
        let n_ctx = self.cache.slot(slot).n_ctx;
        let context_full = !self.shared.config.context_shift && length + 1 >= n_ctx;
        let scene = Scene { text: &self.shared.text, now, context_full, guess };
        let vocab = self.shared.model.vocab;
        let Some(Occupant::Task(task)) = &mut self.slots[slot.0 as usize].occupant else { return None };
        let sampled = match self.output.scores(row, vocab) {
            Some(scores) => task.sample(scores, scene),
            None => Err(EngineError::Backend("the model gave too few logits".into())),
        };
        let id = task.id;
        match sampled {
            Ok((token, None)) => Some(token),
            Ok((token, Some(stop))) => {
                self.cache.truncate(slot, length);
                self.finish(slot, stop);
                Some(token)
            }
            Err(error) => {
                self.cache.truncate(slot, length);
                self.fail(id, &error, Remains::Keep);
                None
            }
        }
    }
}

/// How `room` tokens of a pass are shared by prompts that lack `remaining` tokens each, oldest first.
///
/// The shortest goes first: it has its answer soonest, and nobody else has to wait much longer for it. A quarter is the
/// oldest prompt's own, so that it cannot be starved by a stream of shorter ones.
pub(crate) fn shares(room: u32, remaining: &[u32]) -> Vec<u32> {
    let mut shares = vec![0; remaining.len()];
    let Some(oldest) = remaining.first() else { return shares };
    shares[0] = room.div_ceil(4).min(*oldest);
    let mut left = room - shares[0];
    let mut order: Vec<usize> = (0..remaining.len()).collect();
    order.sort_by_key(|index| remaining[*index]);
    for index in order {
        let more = (remaining[index] - shares[index]).min(left);
        shares[index] += more;
        left -= more;
    }
    shares
}

#[cfg(test)]
mod tests;
