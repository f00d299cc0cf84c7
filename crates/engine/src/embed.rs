//! Hidden states of a text: a prompt whose every token has an output and that is followed by no answer.

use std::ops::Range;

use reprise_gguf::TokenId;
use reprise_kv::{Prompt, SlotId, Tenant};
use reprise_model::Forward;
use tokio::sync::oneshot;
use tracing::info;

use crate::engine::{Engine, Occupant};
use crate::failure::Remains;
use crate::waiting::Errand;
use crate::{BlockStore, Clock, EngineError, SlotStore};

type Reply = oneshot::Sender<Result<Vec<f32>, EngineError>>;

/// A text on its way through the model.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// Counts requests, together with generations.
    pub(crate) id: u64,
    pub(crate) tokens: Vec<TokenId>,
    /// Whose text it is.
    pub(crate) tenant: Tenant,
    pub(crate) reply: Reply,
    /// `[tokens evaluated, width]`.
    rows: Vec<f32>,
}

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    pub(crate) fn submit_embedding(&mut self, tenant: Tenant, tokens: Vec<TokenId>, reply: Reply) {
        match self.check_embedding(&tokens) {
            Ok(()) => {
                let id = self.waiting.next_id();
                self.waiting.push(Errand::Embed(Embedding { id, tokens, tenant, reply, rows: Vec::new() }));
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn check_embedding(&self, tokens: &[TokenId]) -> Result<(), EngineError> {
        let context = self.shared.config.slot_context;
        if self.closing {
            Err(EngineError::Closed)
        } else if tokens.is_empty() {
            Err(EngineError::Invalid("Input content cannot be empty".into()))
        } else if tokens.len() > context as usize {
            Err(EngineError::ContextExceeded { prompt: tokens.len(), context })
        } else {
            self.check_tokens(tokens)
        }
    }

    /// Gives the text a slot, or gives it back when none is free. Nothing is reused: cached tokens have no output.
    pub(crate) fn start_embedding(&mut self, embedding: Embedding) -> Option<Embedding> {
        if !self.has_room(embedding.tokens.len()) {
            return Some(embedding);
        }
        let prompt = Prompt {
            tokens: &embedding.tokens,
            pin: None,
            cache_prompt: false,
            reuse_chunk: 0,
            tenant: embedding.tenant,
        };
        let Some(placement) = self.cache.plan(&prompt, self.millis()) else { return Some(embedding) };
        let Ok(applied) = self.cache.apply(placement) else { return Some(embedding) };
        let slot = applied.placement.slot;
        info!(
            %slot,
            task = embedding.id,
            "embedding of {} tokens in slot {slot} ({}), {} tokens evicted",
            embedding.tokens.len(),
            applied.placement.reason,
            applied.placement.evicted_tokens(),
        );
        let id = embedding.id;
        self.slots[slot.0 as usize].occupant = Some(Occupant::Embedding(embedding));
        if let Err(error) = self.carry_out(&applied.work) {
            self.fail(id, &error, Remains::Drop);
        }
        self.cache.publish_idle();
        None
    }

    /// Takes the rows of a chunk, and answers when they are complete.
    pub(crate) fn embedded(&mut self, slot: SlotId, rows: Range<usize>) {
        let Some(Occupant::Embedding(embedding)) = &mut self.slots[slot.0 as usize].occupant else { return };
        let Some(rows) = self.output.hidden.get(rows) else {
            let id = embedding.id;
            self.fail(
                id,
                &EngineError::Backend("the model gave too few hidden states".into()),
                Remains::Keep,
            );
            return;
        };
        embedding.rows.extend_from_slice(rows);
        if embedding.rows.len() < embedding.tokens.len() * self.shared.model.embedding {
            return;
        }
        if let Some(Occupant::Embedding(embedding)) = self.vacate(slot) {
            info!(%slot, task = embedding.id, "embedding done");
            drop(embedding.reply.send(Ok(embedding.rows)));
        }
    }
}
