//! What the engine answers about itself between two passes.

use std::time::Duration;

use reprise_kv::{SlotId, SlotView, Tenant};
use reprise_model::Forward;

use crate::engine::{Engine, Occupant, Slot};
use crate::{BlockStore, Clock, Metrics, SlotSnapshot, SlotStore, SlotTask};

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    pub(crate) fn snapshots(&self, tenant: Tenant) -> Vec<SlotSnapshot> {
        let tokenizer = &self.shared.text.tokenizer;
        let snapshot = |((id, view), slot): ((SlotId, SlotView<'_>), &Slot)| {
            let own = view.tenant == tenant;
            let task = match &slot.occupant {
                Some(Occupant::Task(task)) => Some(task.snapshot()),
                _ => slot.previous.clone(),
            };
            SlotSnapshot {
                id: id.0,
                context: view.n_ctx,
                tokens: if own { view.len() } else { 0 },
                text: if own { tokenizer.decode(view.tokens) } else { String::new() },
                processing: slot.occupant.is_some(),
                task: task.filter(|_| own).map(|task| self.assessed(task)),
            }
        };
        self.cache.slots().zip(&self.slots).map(snapshot).collect()
    }

    /// With the time that the cache has saved.
    fn assessed(&self, task: SlotTask) -> SlotTask {
        let Metrics { prompt_tokens, prompt_time, .. } = self.metrics;
        let saved = prompt_time.as_secs_f64() * f64::from(task.timings.cached) / prompt_tokens.max(1) as f64;
        SlotTask { saved_time: Duration::try_from_secs_f64(saved).unwrap_or_default(), ..task }
    }

    pub(crate) fn metrics_now(&self) -> Metrics {
        let processing = self.slots.iter().filter(|slot| slot.occupant.is_some()).count();
        Metrics {
            processing: u32::try_from(processing).unwrap_or(u32::MAX),
            deferred: self.waiting.len(),
            kv_blocks: self.cache.used_blocks(),
            stored: self.blocks.as_ref().map(BlockStore::stats),
            ..self.metrics.clone()
        }
    }
}
