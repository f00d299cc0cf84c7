//! Slots that outlive the page without being asked to: their images are written when they become idle, and come back at
//! the next load of the same model.

use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use futures::lock::Mutex;
use reprise_engine::{Clock, EngineError, EngineHandle, SlotFile, SlotSnapshot, SlotStore, StoreError};
use wasm_bindgen_futures::spawn_local;

use crate::clock::{self, WorkerClock};
use crate::events::{HostEvent, MovedSlot};
use crate::host::Host;
use crate::store::{AUTOMATIC, Store};

/// A slot that was busy until just now may be busy again at once: the next turn of a chat, or one more copy.
const SETTLE: u32 = 50;

/// Writes the images of one engine.
pub(crate) struct Keeper {
    handle: EngineHandle,
    store: Store,
    host: Host,
    /// In front of the slot's number in the names of its images.
    prefix: String,
    /// What each slot held when its image was written or read.
    kept: RefCell<Vec<Option<Content>>>,
    enabled: Cell<bool>,
    /// One round at a time.
    round: Mutex<()>,
}

/// Tells the contents of a slot apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    tokens: u32,
    text: u64,
}

impl Content {
    fn of(slot: &SlotSnapshot) -> Self {
        let mut hasher = DefaultHasher::new();
        slot.text.hash(&mut hasher);
        Self { tokens: slot.tokens, text: hasher.finish() }
    }
}

impl Keeper {
    pub(crate) fn new(handle: EngineHandle, store: Store, host: Host) -> Self {
        let fingerprint: String =
            handle.model().fingerprint[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let slots = handle.config().slots as usize;
        Self {
            prefix: format!("{AUTOMATIC}{fingerprint}/"),
            kept: RefCell::new(vec![None; slots]),
            enabled: Cell::new(true),
            round: Mutex::new(()),
            handle,
            store,
            host,
        }
    }

    /// Brings slots back from their images. An image that is damaged is removed.
    pub(crate) async fn restore(&self) -> Vec<MovedSlot> {
        let mut restored = Vec::new();
        let names = match self.store.list().await {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%error, "no slot comes back");
                return restored;
            }
        };
        for slot in 0..self.handle.config().slots {
            let name = self.name(slot);
            if names.binary_search(&name).is_err() {
                continue;
            }
            match self.handle.restore(slot, name.clone()).await {
                Ok(file) => restored.push(moved(slot, &file)),
                Err(EngineError::Image(error)) => {
                    tracing::warn!(slot, %error, "the slot's image is of no use and is removed");
                    self.forget(&name).await;
                }
                // It may fit another time.
                Err(error) => tracing::warn!(slot, %error, "the slot does not come back"),
            }
        }
        if let Ok(slots) = self.handle.slots().await {
            for moved in &restored {
                self.note(moved.slot, slots.get(moved.slot as usize).map(Content::of));
            }
        }
        restored
    }

    /// Soon writes what has changed: a request has ended.
    pub(crate) fn request_ended(self: &Rc<Self>) {
        let this = Rc::clone(self);
        spawn_local(async move {
            clock::sleep(SETTLE).await;
            this.save_changed().await;
        });
    }

    /// Writes the images of all idle slots that have changed, and removes those of slots that are empty now.
    pub(crate) async fn save_changed(&self) {
        let _turn = self.round.lock().await;
        if !self.enabled.get() || self.store.read_only().is_some() {
            return;
        }
        // An engine that is gone has no slots.
        let Ok(slots) = self.handle.slots().await else { return };
        let mut saved = Vec::new();
        for slot in slots.iter().filter(|slot| !slot.processing) {
            let (content, name) = (Content::of(slot), self.name(slot.id));
            let before = self.kept.borrow().get(slot.id as usize).copied().flatten();
            if before == Some(content) || (before.is_none() && content.tokens == 0) {
                continue;
            }
            if content.tokens == 0 {
                self.forget(&name).await;
                self.note(slot.id, None);
                continue;
            }
            match self.save(slot.id, &name).await {
                Ok(Some(moved)) => {
                    self.note(slot.id, Some(content));
                    saved.push(moved);
                }
                Ok(None) => {}
                Err(error) => {
                    self.give_up(&error);
                    break;
                }
            }
        }
        if !saved.is_empty() {
            HostEvent::Saved { slots: saved }.tell(&self.host);
        }
    }

    /// Writes a slot's image while the engine goes on; `None` when there is nothing to write after all.
    async fn save(&self, slot: u32, name: &str) -> Result<Option<MovedSlot>, StoreError> {
        let begin = WorkerClock.now();
        let image = match self.handle.export_slot(slot).await {
            Ok(image) => image,
            Err(error) => {
                tracing::warn!(slot, %error, "the slot is not stored");
                return Ok(None);
            }
        };
        let bytes = self.store.put(name, image.parts).await?;
        let time = WorkerClock.now().saturating_sub(begin);
        Ok(Some(moved(slot, &SlotFile { tokens: image.tokens, bytes, time })))
    }

    fn give_up(&self, error: &StoreError) {
        self.enabled.set(false);
        tracing::warn!(%error, "slots are not stored any more");
        HostEvent::Persistence { enabled: false, reason: error.to_string() }.tell(&self.host);
    }

    async fn forget(&self, name: &str) {
        if let Err(error) = self.store.remove(name).await {
            tracing::warn!(%error, name, "an image could not be removed");
        }
    }

    fn note(&self, slot: u32, content: Option<Content>) {
        if let Some(kept) = self.kept.borrow_mut().get_mut(slot as usize) {
            *kept = content;
        }
    }

    fn name(&self, slot: u32) -> String {
        format!("{}{slot}", self.prefix)
    }
}

fn moved(slot: u32, file: &SlotFile) -> MovedSlot {
    MovedSlot { slot, tokens: file.tokens, bytes: file.bytes as f64, ms: file.time.as_secs_f64() * 1e3 }
}
