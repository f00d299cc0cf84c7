//! What the engine answers about itself between two passes.

use std::time::Duration;

use reprise_model::Forward;

use crate::engine::{Engine, Occupant};
use crate::{Clock, Metrics, SlotSnapshot, SlotStore, SlotTask};

impl<F: Forward, S: SlotStore, C: Clock> Engine<F, S, C> {
    pub(crate) fn snapshots(&self) -> Vec<SlotSnapshot> {
        let tokenizer = &self.shared.text.tokenizer;
        self.cache
            .slots()
            .zip(&self.slots)
            .map(|((id, view), slot)| SlotSnapshot {
                id: id.0,
                context: view.n_ctx,
                tokens: view.len(),
                text: tokenizer.decode(view.tokens),
                processing: slot.occupant.is_some(),
                task: match &slot.occupant {
                    Some(Occupant::Task(task)) => Some(self.assessed(task.snapshot())),
                    _ => slot.previous.clone().map(|task| self.assessed(task)),
                },
            })
            .collect()
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
            ..self.metrics.clone()
        }
    }
}
