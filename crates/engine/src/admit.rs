//! Stage 6: which slot a request gets, and how it starts there.

use std::sync::Arc;

use reprise_gguf::TokenId;
use reprise_kv::{Applied, Placement, Prompt, SlotId, Source, Tenant};
use reprise_model::Forward;
use tracing::{debug, info};

use crate::engine::{Engine, Occupant};
use crate::failure::Remains;
use crate::handle::slot_of;
use crate::outbox::Outbox;
use crate::sample::Sampler;
use crate::slot_task::Task;
use crate::waiting::{Errand, Request};
use crate::{
    BlockStore, Clock, EngineError, Event, Finished, Generate, Placed, SlotStore, StopReason, Timings,
};

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    /// Takes a request, or refuses at once what can never run. No slot is touched for a refusal.
    pub(crate) fn submit(&mut self, tenant: Tenant, generate: Generate, events: Outbox) {
        let id = self.waiting.next_id();
        if let Err(error) = self.check(&generate) {
            info!(task = id, %error, "request refused");
            events.send(Event::Failed(error));
        } else if generate.prompt.is_empty() {
            self.answer_empty_prompt(tenant, generate, &events);
        } else {
            self.waiting.push(Errand::Generate(Request {
                id,
                tenant,
                generate: Arc::new(generate),
                events,
                fetched: None,
            }));
        }
    }

    pub(crate) fn check(&self, generate: &Generate) -> Result<(), EngineError> {
        let config = &self.shared.config;
        if self.closing {
            return Err(EngineError::Closed);
        }
        if !(1..=config.slots).contains(&generate.copies) {
            let (most, found) = (config.slots, generate.copies);
            return Err(EngineError::Invalid(format!(
                "a request can have 1 to {most} copies, but not {found}"
            )));
        }
        self.check_tokens(&generate.prompt)?;
        if generate.prompt.len() >= config.slot_context as usize {
            return Err(EngineError::ContextExceeded {
                prompt: generate.prompt.len(),
                context: config.slot_context,
            });
        }
        Ok(())
    }

    pub(crate) fn check_tokens(&self, tokens: &[TokenId]) -> Result<(), EngineError> {
        let known = self.shared.model.vocab;
        if tokens.iter().all(|token| token.index() < known) {
            Ok(())
        } else {
            Err(EngineError::InvalidTokens)
        }
    }

    /// Gives a request its slot, or its slots, and gives it back when they are not idle.
    pub(crate) async fn start(&mut self, mut request: Request) -> Option<Request> {
        // Only when a slot is free for it; then the answer may be another one, as blocks have come or made way.
        if self.blocks.is_some() && request.fetched.is_none() && request.generate.cache_prompt {
            if self.place(request.tenant, &request.generate).is_none() {
                return Some(request);
            }
            request.fetched = Some(self.fetch(request.tenant, &request.generate.prompt).await);
        }
        let Some((placement, children)) = self.place(request.tenant, &request.generate) else {
            return Some(request);
        };
        let samplers = match self.samplers(&request) {
            Ok(samplers) => samplers,
            Err(error) => {
                info!(task = request.id, %error, "request refused");
                request.events.send(Event::Failed(error));
                return None;
            }
        };
        let Ok(applied) = self.cache.apply(placement) else {
            self.waiting.look_again();
            return Some(request);
        };
        let fetched = request.fetched.unwrap_or_default();
        let mut evicted = fetched.evicted + applied.placement.evicted_tokens();
        for child in &children {
            evicted += self.cache.claim(*child).iter().map(|eviction| eviction.tokens).sum::<u32>();
        }
        self.log_start(request.id, &request.generate, &applied);

        let first = applied.placement.slot;
        let now = self.clock.now();
        let slots = std::iter::once(first).chain(children);
        for ((copy, slot), (sampler, generate)) in (0..).zip(slots).zip(samplers) {
            let placed = Placed {
                slot: slot.0,
                copy,
                reason: match copy {
                    0 => applied.placement.reason.to_string(),
                    _ => format!("copy of slot {first}"),
                },
                cached: applied.placement.reused,
                own: applied.placement.own,
                stored: fetched.tokens.min(applied.placement.reused - applied.placement.own),
                evicted: if copy == 0 { evicted } else { 0 },
            };
            let task = Task::new(request.id, generate, placed, sampler, request.events.clone(), now);
            self.slots[slot.0 as usize].occupant = Some(Occupant::Task(Box::new(task)));
        }
        self.metrics.prompt_tokens_cached += u64::from(applied.placement.reused);
        if let Err(error) = self.carry_out(&applied.work) {
            self.fail(request.id, &error, Remains::Drop);
        }
        self.cache.publish_idle();
        None
    }

    /// Where a request would run: the slot of the first copy, and those of the others.
    pub(crate) fn place(&self, tenant: Tenant, generate: &Generate) -> Option<(Placement, Vec<SlotId>)> {
        let prompt = Prompt {
            tokens: &generate.prompt,
            pin: self.pin(generate),
            cache_prompt: generate.cache_prompt,
            reuse_chunk: generate.reuse_chunk,
            tenant,
        };
        if !self.has_room(generate.prompt.len()) {
            return None;
        }
        let placement = self.cache.plan(&prompt, self.millis())?;
        let children = self.cache.plan_children(placement.slot, generate.copies - 1)?;
        Some((placement, children))
    }

    /// Whether a shared pool can take a prompt beside what the running requests hold and have still to evaluate. One
    /// that would only push others out has to wait; idle slots give way.
    pub(crate) fn has_room(&self, prompt: usize) -> bool {
        if !self.shared.config.unified || !self.is_busy() {
            return true;
        }
        let held = self.cache.slots().zip(&self.slots).map(|((_, view), slot)| match &slot.occupant {
            // The cells of the prompt are the first copy's.
            Some(Occupant::Task(task)) if task.placed.copy > 0 => {
                view.tokens.len().saturating_sub(task.request.prompt.len())
            }
            Some(Occupant::Task(task)) => view.tokens.len().max(task.request.prompt.len()),
            Some(Occupant::Embedding(embedding)) => embedding.tokens.len(),
            None => 0,
        });
        held.sum::<usize>() + prompt <= self.shared.config.pool_tokens as usize
    }

    /// The slot that a request asks for.
    pub(crate) fn pin(&self, generate: &Generate) -> Option<SlotId> {
        generate.pin.filter(|raw| *raw != -1).map(|raw| SlotId(slot_of(raw, self.shared.config.slots)))
    }

    /// A sampler for each copy, with the copy's own seed, and the request as that copy runs it.
    fn samplers(&mut self, request: &Request) -> Result<Vec<(Sampler, Arc<Generate>)>, EngineError> {
        let (context, now) = (self.shared.config.slot_context, self.clock.now());
        let mut samplers = Vec::new();
        for copy in 0..request.generate.copies {
            let mut generate = Arc::clone(&request.generate);
            if copy > 0 && generate.sampling.seed != u32::MAX {
                let own = Arc::make_mut(&mut generate);
                own.sampling.seed = own.sampling.seed.wrapping_add(copy);
            }
            let mut params = generate.sampling.clone();
            params.seed = params.resolve_seed(entropy(now.as_nanos(), request.id, copy));
            let sampler = Sampler::new(
                &params,
                &self.shared.text,
                &self.grammars,
                context,
                generate.limits.ignore_eos,
                &generate.prompt,
            )?;
            samplers.push((sampler, generate));
        }
        Ok(samplers)
    }

    /// There is nothing to do for an empty prompt; llama-server answers it with nothing.
    fn answer_empty_prompt(&self, tenant: Tenant, generate: Generate, events: &Outbox) {
        let slot = self.place(tenant, &generate).map(|(placement, _)| placement.slot).or(self.pin(&generate));
        let request = Arc::new(generate);
        for copy in 0..request.copies {
            let placed = Placed {
                slot: slot.map_or(0, |slot| slot.0),
                copy,
                reason: "nothing to do".into(),
                cached: 0,
                own: 0,
                stored: 0,
                evicted: 0,
            };
            let finished = Finished {
                copy,
                slot: placed.slot,
                tail: String::new(),
                text: String::new(),
                tokens: Vec::new(),
                probs: Vec::new(),
                stop: StopReason::EmptyPrompt,
                truncated: false,
                has_new_line: false,
                prompt_tokens: 0,
                slot_tokens: slot.map_or(0, |slot| self.cache.slot(slot).len()),
                timings: Timings::default(),
                placed,
                seed: request.sampling.seed,
                request: Arc::clone(&request),
            };
            events.send(Event::Finished(Box::new(finished)));
        }
    }

    fn log_start(&self, id: u64, generate: &Generate, applied: &Applied) {
        let placement = &applied.placement;
        let source = match placement.from {
            Source::Slot => "",
            Source::Ram => " from the prompt cache",
        };
        info!(
            slot = %placement.slot,
            task = id,
            copies = generate.copies,
            "slot {} chosen ({}): {} prompt tokens, {} cached{source}, {} to process, {} evicted",
            placement.slot,
            placement.reason,
            generate.prompt.len(),
            placement.reused,
            generate.prompt.len() - placement.reused as usize,
            placement.evicted_tokens(),
        );
        for purged in &placement.purged {
            info!(slot = %purged, "slot {purged} emptied: the pool needs its cells");
        }
        for eviction in placement.evicted.iter().chain(&applied.work.evicted) {
            debug!(slot = %placement.slot, "evicted {eviction}");
        }
    }
}

/// Differs from request to request, from copy to copy and from run to run, as far as the host's clock does.
fn entropy(nanos: u128, id: u64, copy: u32) -> u64 {
    (nanos as u64) ^ id.rotate_left(32) ^ u64::from(copy).rotate_left(48)
}
