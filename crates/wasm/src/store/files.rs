//! Slot images that the host's TypeScript keeps: files of Node.

use bytes::Bytes;
use js_sys::Uint8Array;
use reprise_engine::StoreError;
use wasm_bindgen::JsCast;

use super::{AUTOMATIC, ImageInfo};
use crate::host::{Files, settled, strings};

/// A folder, or what the host makes of one. Writing whole or not at all is the host's promise.
#[derive(Debug)]
pub(crate) struct FileStore(Files);

impl FileStore {
    pub(crate) fn new(files: Files) -> Self {
        Self(files)
    }

    pub(super) async fn put(&self, name: &str, parts: &[Bytes]) -> Result<u64, StoreError> {
        let length = parts.iter().map(|part| part.len() as u64).sum();
        let parts = parts.iter().map(|part| Uint8Array::from(part.as_ref())).collect();
        settled(self.0.put(name, parts)).await.map_err(StoreError::Failed)?;
        Ok(length)
    }

    pub(super) async fn fetch(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        let value = settled(self.0.get(name)).await.map_err(StoreError::Failed)?;
        if value.is_undefined() || value.is_null() {
            return Err(StoreError::Missing);
        }
        let bytes = value
            .dyn_into::<Uint8Array>()
            .map_err(|_| StoreError::Failed("the host's `store.get` gave no Uint8Array".into()))?;
        let found = u64::from(bytes.length());
        if found > limit {
            return Err(StoreError::TooLarge { found, limit });
        }
        Ok(bytes.to_vec().into())
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), StoreError> {
        settled(self.0.remove(name)).await.map(drop).map_err(StoreError::Failed)
    }

    pub(super) async fn images(&self) -> Result<Vec<ImageInfo>, StoreError> {
        let mut names = strings(settled(self.0.list()).await.map_err(StoreError::Failed)?);
        names.sort_unstable();
        let image = |name: String| {
            let automatic = name.starts_with(AUTOMATIC);
            ImageInfo { name, bytes: None, tokens: None, automatic, created: None }
        };
        Ok(names.into_iter().map(image).collect())
    }
}
