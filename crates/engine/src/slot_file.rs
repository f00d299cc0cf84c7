//! Slot actions: save, restore, export, import and erase. Each waits for its own slot only, and fails without a trace.

use std::time::Duration;

use bytes::Bytes;
use reprise_kv::{SlotId, Tenant};
use reprise_model::Forward;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::engine::Engine;
use crate::waiting::Errand;
use crate::{BlockStore, Clock, EngineError, SlotFile, SlotFormat, SlotImage, SlotStore};

/// A slot action that waits for its slot to be idle.
#[derive(Debug)]
pub(crate) struct SlotJob {
    pub(crate) slot: SlotId,
    /// Who asks.
    tenant: Tenant,
    action: Action,
}

type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

#[derive(Debug)]
enum Action {
    Save(String, SlotFormat, Reply<SlotFile>),
    Restore(String, Reply<SlotFile>),
    Erase(Reply<u32>),
    Export(Reply<SlotImage>),
    Import(Bytes, Reply<SlotFile>),
}

impl SlotJob {
    pub(crate) fn is_abandoned(&self) -> bool {
        match &self.action {
            Action::Save(_, _, reply) | Action::Restore(_, reply) | Action::Import(_, reply) => {
                reply.is_closed()
            }
            Action::Erase(reply) => reply.is_closed(),
            Action::Export(reply) => reply.is_closed(),
        }
    }

    /// Whether it gives away what the slot holds.
    fn reads(&self) -> bool {
        matches!(self.action, Action::Save(..) | Action::Export(_))
    }

    pub(crate) fn fail(self, error: EngineError) {
        match self.action {
            Action::Save(_, _, reply) | Action::Restore(_, reply) | Action::Import(_, reply) => {
                drop(reply.send(Err(error)));
            }
            Action::Erase(reply) => drop(reply.send(Err(error))),
            Action::Export(reply) => drop(reply.send(Err(error))),
        }
    }
}

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    pub(crate) fn submit_save(
        &mut self,
        tenant: Tenant,
        slot: u32,
        name: String,
        format: SlotFormat,
        reply: Reply<SlotFile>,
    ) {
        if let Err(error) = self.check_store() {
            drop(reply.send(Err(error)));
            return;
        }
        self.submit_action(tenant, slot, Action::Save(name, format, reply));
    }

    pub(crate) fn submit_restore(&mut self, tenant: Tenant, slot: u32, name: String, reply: Reply<SlotFile>) {
        if let Err(error) = self.check_store() {
            drop(reply.send(Err(error)));
            return;
        }
        self.submit_action(tenant, slot, Action::Restore(name, reply));
    }

    pub(crate) fn submit_erase(&mut self, tenant: Tenant, slot: u32, reply: Reply<u32>) {
        self.submit_action(tenant, slot, Action::Erase(reply));
    }

    pub(crate) fn submit_export(&mut self, tenant: Tenant, slot: u32, reply: Reply<SlotImage>) {
        self.submit_action(tenant, slot, Action::Export(reply));
    }

    pub(crate) fn submit_import(&mut self, tenant: Tenant, slot: u32, image: Bytes, reply: Reply<SlotFile>) {
        self.submit_action(tenant, slot, Action::Import(image, reply));
    }

    fn submit_action(&mut self, tenant: Tenant, slot: u32, action: Action) {
        if self.closing {
            SlotJob { slot: SlotId(slot), tenant, action }.fail(EngineError::Closed);
            return;
        }
        let slot = SlotId(slot % self.shared.config.slots.max(1));
        self.waiting.push(Errand::Slot(SlotJob { slot, tenant, action }));
    }

    /// An engine that is closing says so first.
    fn check_store(&self) -> Result<(), EngineError> {
        (self.closing || self.store.is_some()).then_some(()).ok_or_else(no_store)
    }

    /// Does what was asked; the slot is idle.
    pub(crate) async fn slot_job(&mut self, job: SlotJob) {
        let started = self.clock.now();
        let view = self.cache.slot(job.slot);
        if job.reads() && !view.is_empty() && view.tenant != job.tenant {
            warn!(slot = %job.slot, "slot {} holds another client's tokens: refused", job.slot);
            let slot = job.slot.0;
            job.fail(EngineError::Foreign { slot });
            return;
        }
        let SlotJob { slot, tenant, action } = job;
        match action {
            Action::Save(name, format, reply) => {
                let saved = self.save(slot, &name, format).await;
                drop(reply.send(self.report("saved", slot, Some(&name), started, saved)));
            }
            Action::Restore(name, reply) => {
                let restored = self.restore(slot, tenant, &name).await;
                drop(reply.send(self.report("restored", slot, Some(&name), started, restored)));
            }
            Action::Export(reply) => {
                let image = self.image(slot).await;
                let moved = image.as_ref().map(|image| (image.tokens, image.len())).map_err(Clone::clone);
                let _ = self.report("exported", slot, None, started, moved);
                drop(reply.send(image));
            }
            Action::Import(image, reply) => {
                let imported = self.take_image(slot, tenant, &image);
                drop(reply.send(self.report("imported", slot, None, started, imported)));
            }
            Action::Erase(reply) => {
                let tokens = self.cache.clear(slot);
                info!(%slot, "slot {slot} erased: {tokens} tokens");
                drop(reply.send(Ok(tokens)));
            }
        }
    }

    /// Logs an outcome `(tokens, bytes)` and adds the time that it took.
    fn report(
        &self,
        done: &str,
        slot: SlotId,
        name: Option<&str>,
        started: Duration,
        outcome: Result<(u32, u64), EngineError>,
    ) -> Result<SlotFile, EngineError> {
        let time = self.clock.now().saturating_sub(started);
        let file = name.map(|name| format!(", file {name:?}")).unwrap_or_default();
        match outcome {
            Ok((tokens, bytes)) => {
                info!(%slot, "slot {slot} {done}: {tokens} tokens, {bytes} bytes, {time:.1?}{file}");
                Ok(SlotFile { tokens, bytes, time })
            }
            Err(error) => {
                warn!(%slot, %error, "slot {slot} not {done}{file}");
                Err(error)
            }
        }
    }

    async fn save(
        &mut self,
        slot: SlotId,
        name: &str,
        format: SlotFormat,
    ) -> Result<(u32, u64), EngineError> {
        let (tokens, parts) = match format {
            SlotFormat::Image => self.image(slot).await.map(|image| (image.tokens, image.parts))?,
            SlotFormat::Llama => self.llama_file(slot).await?,
        };
        let store = self.store.as_ref().ok_or_else(no_store)?;
        let bytes = store.put(name, parts).await.map_err(EngineError::Save)?;
        Ok((tokens, bytes))
    }

    async fn restore(&mut self, slot: SlotId, tenant: Tenant, name: &str) -> Result<(u32, u64), EngineError> {
        let store = self.store.as_ref().ok_or_else(no_store)?;
        let bytes = store.fetch(name, self.shared.config.max_image).await.map_err(EngineError::Restore)?;
        self.take_image(slot, tenant, &bytes)
    }
}

fn no_store() -> EngineError {
    EngineError::Unsupported("there is no place for slot files".into())
}
