//! Slot images that outlive the page: in IndexedDB, or in files of the host's.

mod blocks;
mod database;
mod files;
mod lock;

use std::rc::Rc;

use bytes::Bytes;
use reprise_engine::{SlotStore, StoreError};
use serde::{Deserialize, Serialize};

pub(crate) use blocks::IdbBlocks;
use database::IdbStore;
use files::FileStore;
use lock::WriterLock;

use crate::error::Failure;
use crate::host::Files;

/// In front of the names of images that are stored without being asked for. A slash cannot occur in names that come
/// over the API.
pub(crate) const AUTOMATIC: &str = "auto/";

/// What is known of a stored image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageInfo {
    pub name: String,
    /// Missing where the store does not say.
    pub bytes: Option<f64>,
    pub tokens: Option<u32>,
    /// Stored when a slot became idle, not by name.
    pub automatic: bool,
    /// Milliseconds since 1970.
    pub created: Option<f64>,
}

/// Where images are.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    Idb(Rc<IdbStore>),
    Files(Rc<FileStore>),
}

impl Store {
    /// Files of the host's.
    pub(crate) fn files(files: Files) -> Self {
        Self::Files(Rc::new(FileStore::new(files)))
    }

    /// The browser's database. When this tab becomes its writer later, `late` is called.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn indexed_db(namespace: &str, late: impl FnOnce() + 'static) -> Result<Self, Failure> {
        Ok(Self::Idb(Rc::new(IdbStore::open(namespace, late).await?)))
    }

    /// All images, in the order of their names.
    pub(crate) async fn images(&self) -> Result<Vec<ImageInfo>, StoreError> {
        match self {
            Self::Idb(store) => store.images().await,
            Self::Files(store) => store.images().await,
        }
    }

    /// Why nothing can be stored at the moment, if so.
    pub(crate) fn read_only(&self) -> Option<&'static str> {
        match self {
            Self::Idb(store) => store.read_only(),
            Self::Files(_) => None,
        }
    }

    /// Lets other tabs write.
    pub(crate) fn close(&self) {
        if let Self::Idb(store) = self {
            store.close();
        }
    }
}

impl SlotStore for Store {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<u64, StoreError> {
        match self {
            Self::Idb(store) => store.put(name, &parts).await,
            Self::Files(store) => store.put(name, &parts).await,
        }
    }

    async fn fetch(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        match self {
            Self::Idb(store) => store.fetch(name, limit).await,
            Self::Files(store) => store.fetch(name, limit).await,
        }
    }

    async fn remove(&self, name: &str) -> Result<(), StoreError> {
        match self {
            Self::Idb(store) => store.remove(name).await,
            Self::Files(store) => store.remove(name).await,
        }
    }

    async fn list(&self) -> Result<Vec<String>, StoreError> {
        let images = self.images().await?;
        Ok(images.into_iter().map(|image| image.name).collect())
    }
}
