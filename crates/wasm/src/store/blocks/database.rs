//! Blocks in IndexedDB, and what is known of them without reading them.
//!
//! They have a database of their own: one more object store beside the slots' would need a new version of that database,
//! which no tab gets while another holds the old one open.

use bytes::Bytes;
use idb::{Database, Transaction, TransactionMode};
use js_sys::Uint8Array;
use reprise_engine::{QueuedBlock, StoreError};
use reprise_kv::stored::{BlockIndex, BlockKey, Claim};
use serde::{Deserialize, Serialize};
use wasm_bindgen::{JsCast, JsValue};

use crate::clock;
use crate::store::database::{Refusal, committed, failed, open};

/// `Uint8Array`s by their keys' text.
const BLOCKS: &str = "blocks";
/// [`Info`]s by the same.
const INFOS: &str = "infos";

/// The database of a namespace. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Blocks(Database);

/// What is known of a block.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Info {
    key: String,
    parent: String,
    depth: u32,
    bytes: f64,
    /// Unix time, seconds.
    used: f64,
}

impl Info {
    pub(super) fn new(claim: &Claim, bytes: u64, used: u64) -> Self {
        let (key, parent) = (claim.key.to_string(), claim.parent.to_string());
        Self { key, parent, depth: claim.depth, bytes: bytes as f64, used: used as f64 }
    }

    /// Takes the block into the account.
    pub(super) fn enter(&self, index: &mut BlockIndex) {
        if let (Some(key), Some(parent)) = (BlockKey::from_hex(&self.key), BlockKey::from_hex(&self.parent)) {
            // A clock that was ahead must not keep a block for ever.
            let used = (self.used as u64).min(clock::unix_seconds());
            index.insert(key, parent, self.depth, self.bytes as u64, used);
        }
    }
}

impl Blocks {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// When the browser has no IndexedDB for this page.
    pub(super) async fn open(namespace: &str) -> Result<Self, StoreError> {
        let name = if namespace.is_empty() { String::new() } else { format!("/{namespace}") };
        Ok(Self(open(&format!("reprise-blocks{name}"), [BLOCKS, INFOS]).await.map_err(failed)?))
    }

    /// What is known of all blocks, parents first.
    pub(super) async fn infos(&self) -> Result<Vec<Info>, StoreError> {
        let transaction = self.begin(TransactionMode::ReadOnly)?;
        let infos = transaction.object_store(INFOS).map_err(failed)?.get_all(None, None).map_err(failed)?;
        let infos = infos.await.map_err(failed)?.into_iter();
        let mut infos = infos
            .map(|info| serde_wasm_bindgen::from_value(info).map_err(failed))
            .collect::<Result<Vec<Info>, _>>()?;
        infos.sort_by_key(|info| info.depth);
        Ok(infos)
    }

    /// Writes a block, or only what is known of it.
    pub(super) async fn put(&self, info: &Info, block: Option<&QueuedBlock>) -> Result<(), Refusal> {
        let key = JsValue::from(&info.key);
        let value = serde_wasm_bindgen::to_value(info).map_err(failed)?;
        let block = block.map(joined);
        let transaction = self.begin(TransactionMode::ReadWrite)?;
        transaction.object_store(INFOS).map_err(failed)?.put(&value, Some(&key)).map_err(failed)?;
        if let Some(block) = block {
            transaction.object_store(BLOCKS).map_err(failed)?.put(&block, Some(&key)).map_err(failed)?;
        }
        committed(transaction).await
    }

    /// Removes blocks, all or none.
    pub(super) async fn remove(&self, keys: &[BlockKey]) -> Result<(), Refusal> {
        let transaction = self.begin(TransactionMode::ReadWrite)?;
        for store in [BLOCKS, INFOS] {
            let store = transaction.object_store(store).map_err(failed)?;
            for key in keys {
                store.delete(JsValue::from(key.to_string())).map_err(failed)?;
            }
        }
        committed(transaction).await
    }

    /// A block's bytes; `None` when there are none.
    pub(super) async fn fetch(&self, key: &BlockKey) -> Result<Option<Bytes>, StoreError> {
        let transaction = self.begin(TransactionMode::ReadOnly)?;
        let store = transaction.object_store(BLOCKS).map_err(failed)?;
        let block = store.get(JsValue::from(key.to_string())).map_err(failed)?;
        let Some(block) = block.await.map_err(failed)? else { return Ok(None) };
        let block: Uint8Array = block.dyn_into().map_err(|_| failed("a block is no bytes"))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(block.length() as usize).map_err(failed)?;
        bytes.resize(block.length() as usize, 0);
        block.copy_to(&mut bytes);
        Ok(Some(bytes.into()))
    }

    fn begin(&self, mode: TransactionMode) -> Result<Transaction, StoreError> {
        self.0.transaction(&[BLOCKS, INFOS], mode).map_err(failed)
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// All parts in one array of the browser's.
fn joined(block: &QueuedBlock) -> JsValue {
    let array = Uint8Array::new_with_length(block.bytes() as u32);
    let mut at = 0;
    for part in block.parts() {
        array.subarray(at, at + part.len() as u32).copy_from(part);
        at += part.len() as u32;
    }
    array.into()
}
