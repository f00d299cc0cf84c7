//! Context shift: a full slot drops its oldest tokens and goes on.

use reprise_model::Forward;
use tracing::warn;

use crate::engine::{Engine, Occupant};
use crate::failure::Remains;
use crate::slot_task::Phase;
use crate::{BlockStore, Clock, SlotStore, StopReason};

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    /// Makes room in every slot whose next token would be its last. Without `--context-shift` no such slot is running:
    /// its generation ended with the token before.
    pub(crate) fn shift_full_slots(&mut self) {
        for slot in self.slot_ids() {
            let Some(Occupant::Task(task)) = self.occupant(slot) else { continue };
            let view = self.cache.slot(slot);
            if !matches!(task.phase, Phase::Decode(_)) || view.len() + 1 < view.n_ctx {
                continue;
            }
            let (id, limits) = (task.id, task.request.limits);
            let prompt = u32::try_from(task.request.prompt.len()).unwrap_or(u32::MAX);
            let shift =
                self.cache.plan_shift(slot, prompt, i64::from(limits.keep), i64::from(limits.discard));
            if let Some(task) = self.task_mut(slot) {
                task.truncated = true;
                // Its text is no longer the slot's.
                task.drafter = None;
            }
            if shift.discard == 0 {
                self.finish(slot, StopReason::Limit);
                continue;
            }
            let before = self.cache.slot(slot).len();
            let work = self.cache.shift(slot, shift.keep, shift.discard);
            warn!(
                %slot,
                task = id,
                "context shift: {} tokens kept, {} of the {} behind them dropped",
                shift.keep,
                before - self.cache.slot(slot).len(),
                shift.left,
            );
            if let Err(error) = self.carry_out(&work) {
                self.fail(id, &error, Remains::Drop);
            }
        }
    }
}
