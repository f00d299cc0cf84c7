//! How requests fail: one by itself, or all of them with the device that held the model.

use reprise_model::{Forward, ModelError};
use tracing::warn;

use crate::engine::{Engine, Occupant};
use crate::{BlockStore, Clock, EngineError, SlotStore};

/// What happens to the tokens of a slot whose request has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remains {
    /// They are good and may be reused.
    Keep,
    /// Their cells are wanted, or wrong.
    Drop,
}

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    /// Ends a request, with all its copies, badly.
    pub(crate) fn fail(&mut self, id: u64, error: &EngineError, remains: Remains) {
        let now = self.clock.now();
        let mut told = false;
        for slot in self.slot_ids() {
            if self.occupant(slot).is_none_or(|occupant| occupant.id() != id) {
                continue;
            }
            warn!(%slot, task = id, %error, "request failed");
            if remains == Remains::Drop {
                // Before it is idle: what an idle slot shows is everybody's, and these cells may be undefined.
                self.cache.truncate(slot, 0);
            }
            match self.vacate(slot) {
                Some(Occupant::Task(mut task)) if !told => task.fail(error.clone(), now),
                Some(Occupant::Embedding(embedding)) => drop(embedding.reply.send(Err(error.clone()))),
                _ => {}
            }
            told = true;
        }
    }

    /// Fails everything that was accepted.
    pub(crate) fn give_up(&mut self, reason: String) {
        self.closing = true;
        let error = EngineError::DeviceLost(reason);
        let running: Vec<u64> =
            self.slots.iter().filter_map(|slot| slot.occupant.as_ref()).map(Occupant::id).collect();
        for id in running {
            self.fail(id, &error, Remains::Drop);
        }
        self.waiting.fail_all(&error);
    }

    /// A failure of the model in the engine's words. A lost device is noted: it ends [`Engine::run`].
    pub(crate) fn failure(&mut self, error: &ModelError) -> EngineError {
        match error {
            ModelError::DeviceLost(reason) => {
                self.lost = Some(reason.clone());
                EngineError::DeviceLost(reason.clone())
            }
            error => EngineError::Backend(error.to_string()),
        }
    }
}
