//! What the engine takes from its host: a clock, a place for slot images, and one for the prompt cache's blocks.

mod blocks;
mod queue;

pub use blocks::{BlockStore, BlockStoreStats, MemoryBlocks};
pub use queue::{BlockQueue, QueuedBlock};

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

/// Monotonic time since some moment before the engine started.
pub trait Clock {
    /// Now.
    fn now(&self) -> Duration;
}

/// Named slot images. Names are already validated by the API.
pub trait SlotStore {
    /// Writes an image whole or not at all: after a crash the old image is there, or the new one.
    ///
    /// # Errors
    /// [`StoreError`]; whatever stood under the name is still there.
    fn put(&self, name: &str, parts: Vec<Bytes>) -> impl Future<Output = Result<u64, StoreError>>;

    /// Reads an image of at most `limit` bytes.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::TooLarge`] or the host's reason.
    fn fetch(&self, name: &str, limit: u64) -> impl Future<Output = Result<Bytes, StoreError>>;

    /// Removes an image; removing what is not there is no error.
    ///
    /// # Errors
    /// [`StoreError::Failed`] with the host's reason.
    fn remove(&self, name: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// All names, sorted.
    ///
    /// # Errors
    /// [`StoreError::Failed`] with the host's reason.
    fn list(&self) -> impl Future<Output = Result<Vec<String>, StoreError>>;
}

/// Where an engine keeps what is to outlive it; each may be missing.
#[derive(Debug, Clone, Default)]
pub struct Stores<S, B> {
    /// Named slot images.
    pub slots: Option<S>,
    /// Blocks of the prompt cache.
    pub blocks: Option<B>,
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing under that name.
    #[error("no slot file of that name")]
    Missing,
    /// Larger than the limit.
    #[error("the slot file has {found} bytes, more than the {limit} that could be a slot's")]
    TooLarge {
        /// Its size, bytes.
        found: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// The host's reason: no space, no permission, ...
    #[error("{0}")]
    Failed(String),
}

/// Slot images in memory: tests, and hosts without a disk.
#[derive(Debug, Default)]
pub struct MemoryStore(RefCell<BTreeMap<String, Bytes>>);

impl SlotStore for MemoryStore {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<u64, StoreError> {
        let image = Bytes::from(parts.concat());
        let length = image.len() as u64;
        self.0.borrow_mut().insert(name.to_owned(), image);
        Ok(length)
    }

    async fn fetch(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        let image = self.0.borrow().get(name).cloned().ok_or(StoreError::Missing)?;
        let found = image.len() as u64;
        if found > limit { Err(StoreError::TooLarge { found, limit }) } else { Ok(image) }
    }

    async fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.0.borrow_mut().remove(name);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.0.borrow().keys().cloned().collect())
    }
}
