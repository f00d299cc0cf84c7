//! Stage 5: the cheap, cloneable, `Send` end of the engine.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use reprise_gguf::TokenId;
use reprise_kv::Tenant;
use reprise_model::ModelInfo;
use reprise_text::Text;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::outbox::{self, Inbox, Outbox};
use crate::{EngineConfig, EngineError, Event, Generate, Metrics, Preview, SlotSnapshot};

/// Talks to the engine's owner task. Every method may be called from any thread; a call to an engine that has stopped
/// answers [`EngineError::Closed`].
#[derive(Debug, Clone)]
pub struct EngineHandle {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) shared: Arc<Shared>,
    /// Who asks.
    pub(crate) tenant: Tenant,
}

/// What never changes while the engine runs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) text: Text,
    pub(crate) model: ModelInfo,
    pub(crate) config: EngineConfig,
    /// Wakes an engine whose requests all wait for their clients.
    pub(crate) wake: Arc<Notify>,
}

/// What the owner task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Generate(Tenant, Box<Generate>, Outbox),
    Embed(Tenant, Vec<TokenId>, oneshot::Sender<Result<Vec<f32>, EngineError>>),
    Slots(Tenant, oneshot::Sender<Vec<SlotSnapshot>>),
    Plan(Tenant, Box<Generate>, oneshot::Sender<Result<Preview, EngineError>>),
    Metrics(oneshot::Sender<Metrics>),
    Save(Tenant, u32, String, SlotFormat, oneshot::Sender<Result<SlotFile, EngineError>>),
    Restore(Tenant, u32, String, oneshot::Sender<Result<SlotFile, EngineError>>),
    Erase(Tenant, u32, oneshot::Sender<Result<u32, EngineError>>),
    Export(Tenant, u32, oneshot::Sender<Result<SlotImage, EngineError>>),
    Import(Tenant, u32, Bytes, oneshot::Sender<Result<SlotFile, EngineError>>),
    /// Refuse new work, finish what was accepted, then end the owner task.
    Drain,
}

/// What a slot is saved as. Restores and imports tell formats apart by their first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlotFormat {
    /// A slot image; see [`reprise_kv::image`].
    #[default]
    Image,
    /// llama-server's own; see [`reprise_kv::image::llama`].
    Llama,
}

/// What a save or a restore moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotFile {
    /// Tokens saved or restored.
    pub tokens: u32,
    /// Bytes written or read.
    pub bytes: u64,
    /// Time it took.
    pub time: std::time::Duration,
}

/// A slot's tokens and KV, in the format of slot files.
#[derive(Debug, Clone)]
pub struct SlotImage {
    /// Tokens of the slot.
    pub tokens: u32,
    /// The image, cut into pieces.
    pub parts: Vec<Bytes>,
    /// What identifies the image; see [`reprise_kv::image::Encoder::digest`].
    pub digest: [u8; 32],
}

impl SlotImage {
    /// Bytes of all parts.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// Whether there are none; even an empty slot's image has a head.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl EngineHandle {
    /// A handle for one of several who must not notice each other: what a request leaves in the cache is found by requests of
    /// the same tenant only, and a slot's content is given to nobody else. All handles are the same tenant's otherwise.
    #[must_use]
    pub fn for_tenant(&self, tenant: Tenant) -> Self {
        Self { tenant, ..self.clone() }
    }

    /// Tokenizer and chat template.
    #[must_use]
    pub fn text(&self) -> &Text {
        &self.shared.text
    }

    /// The loaded model.
    #[must_use]
    pub fn model(&self) -> &ModelInfo {
        &self.shared.model
    }

    /// The engine's configuration.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.shared.config
    }

    /// The slot that a raw id from the wire means: every number names one, as in llama-server.
    #[must_use]
    pub fn slot_of(&self, raw: i64) -> u32 {
        slot_of(raw, self.shared.config.slots)
    }

    /// Submits a request. Dropping the [`Generation`] cancels it within a step; the slot keeps what it computed.
    #[must_use]
    pub fn generate(&self, request: Generate) -> Generation {
        let (sender, events) = outbox::channel(Arc::clone(&self.shared.wake));
        let open = request.copies.max(1);
        // If the engine is gone the sender is dropped here, and the stream says so.
        let _ = self.commands.send(Command::Generate(self.tenant, Box::new(request), sender));
        Generation { events, open }
    }

    /// Hidden states of every token of a text, `[tokens, width]`.
    ///
    /// # Errors
    /// [`EngineError::ContextExceeded`] when the text does not fit a slot.
    pub async fn embed(&self, tokens: Vec<TokenId>) -> Result<Vec<f32>, EngineError> {
        self.ask(|reply| Command::Embed(self.tenant, tokens, reply)).await?
    }

    /// All slots in order; of what belongs to another tenant no more than that there is something. Answered between two steps.
    ///
    /// # Errors
    /// [`EngineError::Closed`].
    pub async fn slots(&self) -> Result<Vec<SlotSnapshot>, EngineError> {
        self.ask(|reply| Command::Slots(self.tenant, reply)).await
    }

    /// Where a request would run if it came now, and what that would reuse and cost. Changes nothing.
    ///
    /// # Errors
    /// What [`EngineHandle::generate`] would refuse it for.
    pub async fn plan(&self, request: Generate) -> Result<Preview, EngineError> {
        self.ask(|reply| Command::Plan(self.tenant, Box::new(request), reply)).await?
    }

    /// Counters.
    ///
    /// # Errors
    /// [`EngineError::Closed`].
    pub async fn metrics(&self) -> Result<Metrics, EngineError> {
        self.ask(Command::Metrics).await
    }

    /// Saves a slot's tokens and KV under a name. Waits while the slot is busy.
    ///
    /// # Errors
    /// [`EngineError::Save`].
    pub async fn save(&self, slot: u32, name: String) -> Result<SlotFile, EngineError> {
        self.save_as(slot, name, SlotFormat::Image).await
    }

    /// [`EngineHandle::save`] in a format of one's choice.
    ///
    /// # Errors
    /// [`EngineError::Save`]; [`EngineError::Unsupported`] when the format cannot hold this model's KV.
    pub async fn save_as(
        &self,
        slot: u32,
        name: String,
        format: SlotFormat,
    ) -> Result<SlotFile, EngineError> {
        self.ask(|reply| Command::Save(self.tenant, slot, name, format, reply)).await?
    }

    /// Replaces a slot's tokens and KV by a saved image. Waits while the slot is busy. On any error the slot keeps what
    /// it had.
    ///
    /// # Errors
    /// [`EngineError::Restore`] or [`EngineError::Image`].
    pub async fn restore(&self, slot: u32, name: String) -> Result<SlotFile, EngineError> {
        self.ask(|reply| Command::Restore(self.tenant, slot, name, reply)).await?
    }

    /// A slot's tokens and KV, as a save would store them. Needs no store. Waits while the slot is busy.
    ///
    /// # Errors
    /// [`EngineError::Backend`] when the KV cannot be read.
    pub async fn export_slot(&self, slot: u32) -> Result<SlotImage, EngineError> {
        self.ask(|reply| Command::Export(self.tenant, slot, reply)).await?
    }

    /// Replaces a slot's tokens and KV by an image, of this engine or of another with the same model. Needs no store.
    /// Waits while the slot is busy. On any error the slot keeps what it had.
    ///
    /// # Errors
    /// [`EngineError::Restore`] when the image is larger than a slot's can be, [`EngineError::Image`] or
    /// [`EngineError::Room`].
    pub async fn import_slot(&self, slot: u32, image: Bytes) -> Result<SlotFile, EngineError> {
        self.ask(|reply| Command::Import(self.tenant, slot, image, reply)).await?
    }

    /// Empties a slot and answers how many tokens it held. Waits while the slot is busy.
    ///
    /// # Errors
    /// [`EngineError::Closed`].
    pub async fn erase(&self, slot: u32) -> Result<u32, EngineError> {
        self.ask(|reply| Command::Erase(self.tenant, slot, reply)).await?
    }

    /// Asks the engine to refuse new work, finish what it has accepted and stop.
    pub fn drain(&self) {
        // An engine that is gone has nothing left to drain.
        let _ = self.commands.send(Command::Drain);
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| EngineError::Closed)?;
        answer.await.map_err(|_| EngineError::Closed)
    }
}

/// A number from the wire as the number of a slot.
pub(crate) fn slot_of(raw: i64, slots: u32) -> u32 {
    // Sign-extended to unsigned, as the reference's cast does: -1 is the largest number, not the last slot.
    let wrapped = raw.cast_unsigned() % u64::from(slots.max(1));
    u32::try_from(wrapped).unwrap_or(0)
}

/// The events of one request, ending with one [`Event::Finished`] for each copy or with one [`Event::Failed`]. Dropping
/// it cancels the request. A client that does not read is not waited for until it is a thousand events behind; then its
/// request pauses.
#[derive(Debug)]
pub struct Generation {
    events: Inbox,
    /// Copies that have not ended.
    open: u32,
}

impl Stream for Generation {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_next(context).map(|event| {
            match event {
                Some(Event::Finished(_)) => self.open = self.open.saturating_sub(1),
                Some(Event::Failed(_)) => self.open = 0,
                // The engine is gone, and did not say so.
                None if std::mem::take(&mut self.open) > 0 => {
                    return Some(Event::Failed(EngineError::Closed));
                }
                _ => {}
            }
            event
        })
    }
}
