//! The owner task: takes commands, starts what can start, runs the model, one forward pass after the other.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use reprise_gguf::TokenId;
use reprise_kv::{Cache, Millis, SlotId, Tenant, Work};
use reprise_model::{Cell, CellRun, CellShift, Forward, StepOutput};
use reprise_text::Text;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc};
use tracing::info;

use crate::embed::Embedding;
use crate::handle::{Command, Shared};
use crate::sample::GrammarEnv;
use crate::slot_task::{Phase, Task};
use crate::tiers::Tiers;
use crate::waiting::Waiting;
use crate::yield_now::yield_now;
use crate::{
    BlockStore, Clock, Drafts, EngineConfig, EngineError, EngineHandle, Metrics, SlotStore, SlotTask,
    StopReason, Stores,
};

/// Runs one model for all slots. Everything mutable lives here, in one task: [`Engine::run`].
///
/// The type need not be `Send`; it runs where it is polled. A host gives it a named thread, or its worker's event loop.
#[derive(Debug)]
pub struct Engine<F, S, C, B> {
    pub(crate) model: F,
    pub(crate) store: Option<S>,
    pub(crate) blocks: Option<B>,
    /// What is to be stored, and what bringing it back has cost.
    pub(crate) tiers: Tiers,
    pub(crate) clock: C,
    pub(crate) shared: Arc<Shared>,
    pub(crate) cache: Cache,
    pub(crate) slots: Vec<Slot>,
    pub(crate) waiting: Waiting,
    pub(crate) grammars: GrammarEnv,
    pub(crate) metrics: Metrics,
    pub(crate) output: StepOutput,
    /// Counts scheduling rounds: in each, every running generation is decoded once.
    pub(crate) round: u64,
    /// Refuses new work, and ends when there is no old.
    pub(crate) closing: bool,
    /// Why the model cannot be used any more.
    pub(crate) lost: Option<String>,
    commands: mpsc::UnboundedReceiver<Command>,
    last_release: Millis,
}

/// Blocks that are handed to the store between two looks for commands, while there is nothing else to do.
const AT_REST: usize = 8;

/// Why [`Engine::run`] came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Ended {
    /// It was asked to, or nobody was left to ask for anything.
    Drained,
    /// The device that held the model is gone, and the slots with it: the host may load the model again.
    DeviceLost,
}

/// What the engine knows of a slot beyond its cached tokens.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) occupant: Option<Occupant>,
    /// The request that ran before, for `GET /slots`.
    pub(crate) previous: Option<SlotTask>,
}

/// What keeps a slot busy.
#[derive(Debug)]
pub(crate) enum Occupant {
    Task(Box<Task>),
    Embedding(Embedding),
}

impl Occupant {
    /// Counts requests; younger ones have larger ids.
    pub(crate) fn id(&self) -> u64 {
        match self {
            Self::Task(task) => task.id,
            Self::Embedding(embedding) => embedding.id,
        }
    }

    /// The prompt, while it is being evaluated.
    pub(crate) fn prefill(&self) -> Option<&[TokenId]> {
        match self {
            Self::Task(task) => (task.phase == Phase::Prefill).then_some(&task.request.prompt),
            Self::Embedding(embedding) => Some(&embedding.tokens),
        }
    }

    fn is_abandoned(&self) -> bool {
        match self {
            Self::Task(task) => task.is_abandoned(),
            Self::Embedding(embedding) => embedding.reply.is_closed(),
        }
    }
}

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    /// An idle engine and the first of its handles. The model must have [`EngineConfig::kv_blocks`] blocks of KV memory
    /// and take passes of [`EngineConfig::micro_batch`] tokens. Without a store for slots they cannot be saved or
    /// restored; without one for blocks the prompt cache ends with the engine.
    #[must_use]
    pub fn new(
        model: F,
        text: Text,
        stores: Stores<S, B>,
        clock: C,
        config: EngineConfig,
    ) -> (Self, EngineHandle) {
        let (sender, commands) = mpsc::unbounded_channel();
        let cache = Cache::new(config.cache(text.tokenizer.vocab().add_bos));
        let slots = cache.slots().map(|_| Slot::default()).collect();
        let wake = Arc::new(Notify::new());
        let shared = Arc::new(Shared { text, model: model.info().clone(), config, wake });
        let handle =
            EngineHandle { commands: sender, shared: Arc::clone(&shared), tenant: Tenant::default() };
        let engine = Self {
            model,
            store: stores.slots,
            blocks: stores.blocks,
            tiers: Tiers::default(),
            clock,
            shared,
            cache,
            slots,
            waiting: Waiting::default(),
            grammars: GrammarEnv::default(),
            metrics: Metrics::default(),
            output: StepOutput::default(),
            round: 1,
            closing: false,
            lost: None,
            commands,
            last_release: Millis(0),
        };
        (engine, handle)
    }

    /// Serves until it is drained or every handle is gone; accepted requests are finished first. A lost device fails
    /// all of them and ends it at once.
    ///
    /// Between two forward passes it answers what was asked and yields once to its executor; with nothing to do it
    /// waits. Dropping the future stops everything at once.
    pub async fn run(mut self) -> Ended {
        let ended = loop {
            self.take_commands();
            self.drop_abandoned();
            self.start_waiting().await;
            if self.can_go_on() {
                self.forward().await;
                self.keep_alive();
                self.store_some(1).await;
                if self.lost.is_none() {
                    yield_now().await;
                }
            } else if self.closing && !self.is_busy() {
                self.store_everything().await;
                break Ended::Drained;
            } else if self.store_some(AT_REST).await {
                yield_now().await;
            } else if self.lost.is_none() {
                self.wait().await;
            }
            if let Some(reason) = self.lost.take() {
                self.give_up(reason);
                break Ended::DeviceLost;
            }
        };
        self.commands.close();
        self.take_commands();
        ended
    }

    /// Waits for a command, or for a client to catch up or leave.
    async fn wait(&mut self) {
        let wake = Arc::clone(&self.shared.wake);
        if self.commands.is_closed() {
            wake.notified().await;
            return;
        }
        let command = match select(pin!(self.commands.recv()), pin!(wake.notified())).await {
            Either::Left((command, _)) => command,
            Either::Right(_) => return,
        };
        match command {
            Some(command) => self.accept(command),
            None => self.closing = true,
        }
    }

    fn take_commands(&mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.accept(command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.closing = true;
                    break;
                }
            }
        }
    }

    fn accept(&mut self, command: Command) {
        match command {
            Command::Generate(tenant, request, events) => self.submit(tenant, *request, events),
            Command::Embed(tenant, tokens, reply) => self.submit_embedding(tenant, tokens, reply),
            // Whoever asked may have left; then nobody misses the answer.
            Command::Slots(tenant, reply) => drop(reply.send(self.snapshots(tenant))),
            Command::Plan(tenant, request, reply) => drop(reply.send(self.preview(tenant, &request))),
            Command::Metrics(reply) => drop(reply.send(self.metrics_now())),
            Command::Save(tenant, slot, name, format, reply) => {
                self.submit_save(tenant, slot, name, format, reply);
            }
            Command::Restore(tenant, slot, name, reply) => self.submit_restore(tenant, slot, name, reply),
            Command::Erase(tenant, slot, reply) => self.submit_erase(tenant, slot, reply),
            Command::Export(tenant, slot, reply) => self.submit_export(tenant, slot, reply),
            Command::Import(tenant, slot, image, reply) => self.submit_import(tenant, slot, image, reply),
            Command::Drain => self.closing = true,
        }
    }

    /// Cancels what nobody listens to any more. A slot keeps what was computed for it.
    fn drop_abandoned(&mut self) {
        self.waiting.drop_abandoned();
        for slot in self.slot_ids() {
            if self.occupant(slot).is_some_and(Occupant::is_abandoned) {
                info!(%slot, tokens = self.cache.slot(slot).len(), "the client is gone: cancelled, tokens kept");
                self.vacate(slot);
            }
        }
    }

    fn keep_alive(&mut self) {
        let now = self.clock.now();
        for slot in &mut self.slots {
            if let Some(Occupant::Task(task)) = &mut slot.occupant {
                task.keep_alive(now);
            }
        }
    }

    /// Whether there is anything to evaluate: not when every running request waits for its client to read on.
    fn can_go_on(&self) -> bool {
        self.slots.iter().filter_map(|slot| slot.occupant.as_ref()).any(|occupant| match occupant {
            Occupant::Task(task) => task.phase == Phase::Prefill || !task.is_paused(),
            Occupant::Embedding(_) => true,
        })
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.slots.iter().any(|slot| slot.occupant.is_some())
    }

    pub(crate) fn slot_ids(&self) -> impl Iterator<Item = SlotId> + use<F, S, C, B> {
        (0..self.shared.config.slots).map(SlotId)
    }

    pub(crate) fn occupant(&self, slot: SlotId) -> Option<&Occupant> {
        self.slots.get(slot.0 as usize)?.occupant.as_ref()
    }

    /// The generations that run, in the order of their slots.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = (SlotId, &Task)> {
        self.slot_ids().filter_map(|slot| match self.occupant(slot)? {
            Occupant::Task(task) => Some((slot, task.as_ref())),
            Occupant::Embedding(_) => None,
        })
    }

    pub(crate) fn task_mut(&mut self, slot: SlotId) -> Option<&mut Task> {
        match self.slots.get_mut(slot.0 as usize)?.occupant.as_mut()? {
            Occupant::Task(task) => Some(task),
            Occupant::Embedding(_) => None,
        }
    }

    /// The host's time as the cache takes it.
    pub(crate) fn millis(&self) -> Millis {
        millis(self.clock.now()).max(self.last_release)
    }

    /// A later time for each call: slots released within one millisecond keep their order.
    pub(crate) fn next_millis(&mut self) -> Millis {
        self.last_release = millis(self.clock.now()).max(Millis(self.last_release.0 + 1));
        self.last_release
    }

    /// Lets the model move cells as the cache has decided.
    ///
    /// # Errors
    /// The backend's; the cells concerned are undefined then.
    pub(crate) fn carry_out(&mut self, work: &Work) -> Result<(), EngineError> {
        let cell = |cell: reprise_kv::Cell| Cell { block: cell.block.index(), offset: cell.offset };
        if !work.copies.is_empty() {
            let copies: Vec<CellRun> = work
                .copies
                .iter()
                .map(|copy| CellRun { from: cell(copy.from), to: cell(copy.to), count: copy.count })
                .collect();
            self.model.copy_cells(&copies).map_err(|error| self.failure(&error))?;
        }
        if !work.rotations.is_empty() {
            let shifts: Vec<CellShift> = work
                .rotations
                .iter()
                .map(|turn| CellShift {
                    block: turn.cell.block.index(),
                    offset: turn.cell.offset,
                    count: turn.count,
                    delta: turn.delta,
                })
                .collect();
            self.model.shift(&shifts).map_err(|error| self.failure(&error))?;
        }
        Ok(())
    }

    /// Makes a busy slot idle and gives back what ran in it.
    pub(crate) fn vacate(&mut self, slot: SlotId) -> Option<Occupant> {
        let occupant = self.slots.get_mut(slot.0 as usize)?.occupant.take()?;
        let now = self.next_millis();
        self.cache.release(slot, now);
        let whole = matches!(&occupant, Occupant::Task(task) if task.request.cache_store);
        self.note_for_store(slot, whole);
        if let Occupant::Task(task) = &occupant {
            let timings = task.timings();
            self.metrics.predicted_tokens += u64::from(timings.predicted);
            self.metrics.predicted_steps += u64::from(timings.predicted.saturating_sub(1));
            self.metrics.predicted_time += timings.predicted_time;
            self.slots[slot.0 as usize].previous = Some(task.epitaph());
            if task.placed.copy > 0 {
                // The first copy's slot holds the prompt already.
                self.cache.clear(slot);
            }
        }
        self.waiting.look_again();
        Some(occupant)
    }

    /// Ends a generation well.
    pub(crate) fn finish(&mut self, slot: SlotId, stop: StopReason) {
        let tokens = self.cache.slot(slot).len();
        if let Some(Occupant::Task(task)) = self.vacate(slot) {
            log_finish(slot, &task, &stop, tokens);
            task.finish(stop, tokens, &self.shared.text);
        }
    }
}

fn millis(time: Duration) -> Millis {
    Millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn log_finish(slot: SlotId, task: &Task, stop: &StopReason, tokens: u32) {
    let timings = task.timings();
    let rate = |count: u32, time: Duration| {
        if time.is_zero() { 0.0 } else { f64::from(count) / time.as_secs_f64() }
    };
    info!(
        %slot,
        task = task.id,
        "prompt: {} tokens evaluated in {:.1} ms ({:.1} tokens/s), {} from the cache",
        timings.prompt,
        timings.prompt_time.as_secs_f64() * 1e3,
        rate(timings.prompt, timings.prompt_time),
        timings.cached,
    );
    info!(
        %slot,
        task = task.id,
        "answer: {} tokens in {:.1} ms ({:.1} tokens/s); stopped by {stop}; slot holds {tokens} tokens, truncated: {}",
        timings.predicted,
        timings.predicted_time.as_secs_f64() * 1e3,
        rate(timings.predicted.saturating_sub(1), timings.predicted_time),
        task.truncated,
    );
    let Drafts { drafted, accepted } = timings.drafts;
    if drafted > 0 {
        info!(%slot, task = task.id, "drafts: {accepted} of {drafted} tokens came true");
    }
}
