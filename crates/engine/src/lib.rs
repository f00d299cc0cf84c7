//! The scheduler: one owner task runs the model for all slots; hosts and handlers hold an [`EngineHandle`].
//!
//! A host builds an [`Engine`] from a model (`reprise_model::Forward`), its texts, a [`SlotStore`] and a [`Clock`], and
//! polls [`Engine::run`] on whatever executor it has: the engine starts no threads and needs no runtime. Requests go
//! through a handle; their events come back as a stream whose end of life is the request's: dropping it cancels.

mod admit;
mod batch;
mod config;
mod embed;
mod engine;
mod error;
mod event;
mod failure;
mod handle;
mod ngram;
mod outbox;
mod pace;
mod preview;
mod report;
mod request;
pub mod sample;
mod seams;
mod shift;
mod sizing;
mod slot_file;
mod slot_image;
mod slot_task;
mod snapshot;
mod speculate;
mod stop;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tiers;
mod waiting;
mod yield_now;

pub use config::EngineConfig;
pub use engine::{Ended, Engine};
pub use error::EngineError;
pub use event::{Event, Finished, Placed, Progress, Step, StopReason, Timings};
pub use handle::{EngineHandle, Generation, SlotFile, SlotFormat, SlotImage};
pub use preview::Preview;
pub use reprise_kv::Tenant;
pub use reprise_kv::image::StateKey;
pub use request::{Generate, Limits, Probabilities};
pub use seams::{
    BlockQueue, BlockStore, BlockStoreStats, Clock, MemoryBlocks, MemoryStore, QueuedBlock, SlotStore,
    StoreError, Stores,
};
pub use sizing::{Plan, Sizing, SizingError};
pub use snapshot::{Metrics, SlotSnapshot, SlotTask, Speculated};
pub use speculate::{Drafts, Speculation};
