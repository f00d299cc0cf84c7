//! Stage 6: the queue of what waits for a slot. It is looked through in order whenever something has changed, and
//! whatever can start does start: nobody waits behind a request that waits for another slot.

use std::collections::VecDeque;
use std::sync::Arc;

use reprise_kv::Tenant;
use reprise_model::Forward;
use tracing::info;

use crate::embed::Embedding;
use crate::engine::Engine;
use crate::outbox::Outbox;
use crate::slot_file::SlotJob;
use crate::tiers::Fetch;
use crate::{BlockStore, Clock, EngineError, Event, Generate, SlotStore};

/// A job that has been overtaken by so many others, for each slot, is not overtaken any more.
const PATIENCE: u32 = 4;

/// What waits for a slot, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    jobs: VecDeque<Job>,
    /// Something has changed since the queue was last looked through.
    look_again: bool,
    next_id: u64,
}

#[derive(Debug)]
struct Job {
    errand: Errand,
    /// Later jobs that got a slot which this one could have used.
    overtaken: u32,
}

/// Something that needs a slot: any, a certain one, or several.
#[derive(Debug)]
pub(crate) enum Errand {
    Generate(Request),
    Embed(Embedding),
    Slot(SlotJob),
}

/// A generation that has no slot yet.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) tenant: Tenant,
    pub(crate) generate: Arc<Generate>,
    pub(crate) events: Outbox,
    /// What was brought in for it from the store; `None` as long as nobody has looked there.
    pub(crate) fetched: Option<Fetch>,
}

impl Errand {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Generate(request) => request.events.is_closed(),
            Self::Embed(embedding) => embedding.reply.is_closed(),
            Self::Slot(job) => job.is_abandoned(),
        }
    }

    fn fail(self, error: EngineError) {
        // Whoever waits may have left.
        match self {
            Self::Generate(request) => request.events.send(Event::Failed(error)),
            Self::Embed(embedding) => drop(embedding.reply.send(Err(error))),
            Self::Slot(job) => job.fail(error),
        }
    }
}

impl Waiting {
    pub(crate) fn push(&mut self, errand: Errand) {
        self.jobs.push_back(Job { errand, overtaken: 0 });
        self.look_again = true;
    }

    pub(crate) fn look_again(&mut self) {
        self.look_again = true;
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.jobs.len()).unwrap_or(u32::MAX)
    }

    /// Refuses all that waits.
    pub(crate) fn fail_all(&mut self, error: &EngineError) {
        for job in self.jobs.drain(..) {
            job.errand.fail(error.clone());
        }
    }

    pub(crate) fn drop_abandoned(&mut self) {
        let before = self.jobs.len();
        self.jobs.retain(|job| !job.errand.is_abandoned());
        if self.jobs.len() < before {
            // One of them may have held others back.
            self.look_again = true;
            info!("{} waiting requests cancelled: their clients are gone", before - self.jobs.len());
        }
    }
}

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    /// Starts all that can start now.
    pub(crate) async fn start_waiting(&mut self) {
        // A request that fails as it starts leaves an idle slot behind: then the queue is looked through once more.
        while std::mem::take(&mut self.waiting.look_again) {
            let jobs = std::mem::take(&mut self.waiting.jobs);
            self.waiting.jobs = self.start_all(jobs).await;
            let prompts = self.waiting.jobs.iter().filter_map(|job| match &job.errand {
                Errand::Generate(request) => Some((request.tenant, request.generate.prompt.as_slice())),
                Errand::Embed(_) | Errand::Slot(_) => None,
            });
            self.cache.expect(prompts);
        }
    }

    /// One look through the queue; gives back what has to wait.
    async fn start_all(&mut self, jobs: VecDeque<Job>) -> VecDeque<Job> {
        let mut kept: VecDeque<Job> = VecDeque::new();
        let mut reserved = false;
        for Job { errand, overtaken } in jobs {
            let back = match errand {
                Errand::Slot(job) if self.occupant(job.slot).is_some() => Some(Errand::Slot(job)),
                Errand::Slot(job) => {
                    self.slot_job(job).await;
                    continue;
                }
                errand if reserved => Some(errand),
                Errand::Embed(embedding) => self.start_embedding(embedding).map(Errand::Embed),
                Errand::Generate(request) => self.start(request).await.map(Errand::Generate),
            };
            match back {
                Some(errand) => {
                    reserved |= overtaken >= PATIENCE * self.shared.config.slots;
                    kept.push_back(Job { errand, overtaken });
                }
                None => {
                    for job in kept.iter_mut().filter(|job| self.can_lose(&job.errand)) {
                        job.overtaken += 1;
                    }
                }
            }
        }
        kept
    }

    /// Whether another that starts now may have taken what this one waits for: one of several slots, or room in the
    /// pool. Who waits for a certain slot loses nothing.
    fn can_lose(&self, errand: &Errand) -> bool {
        match errand {
            Errand::Generate(request) => {
                let generate = &request.generate;
                generate.copies > 1 || self.pin(generate).is_none_or(|slot| self.occupant(slot).is_none())
            }
            Errand::Embed(_) => true,
            Errand::Slot(_) => false,
        }
    }
}
