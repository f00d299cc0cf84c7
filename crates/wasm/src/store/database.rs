//! Slot images in IndexedDB, in chunks, each image in one transaction: a tab that dies leaves the old image or the new.
//!
//! No transaction waits for anything between its requests: it would be committed by then wherever a wake takes a turn
//! of the event loop.

use std::fmt::Display;

use bytes::Bytes;
use idb::{
    Database, DatabaseEvent, Factory, KeyRange, ObjectStoreParams, Query, Transaction, TransactionMode,
};
use js_sys::{Array, Uint8Array};
use reprise_engine::StoreError;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::IdbTransaction;

use super::{AUTOMATIC, ImageInfo, WriterLock};
use crate::clock;
use crate::error::{Failure, Kind};

/// Infos by name.
const IMAGES: &str = "images";
/// `Uint8Array`s by `[name, number]`.
const CHUNKS: &str = "chunks";
/// Bytes of a chunk; the last of an image is shorter.
const CHUNK: usize = 4 << 20;

/// A database of the page's origin.
#[derive(Debug)]
pub(crate) struct IdbStore {
    database: Database,
    lock: WriterLock,
}

/// Why a transaction came to nothing.
pub(super) enum Refusal {
    /// The origin has used what it may.
    Quota,
    Other(StoreError),
}

impl IdbStore {
    /// Opens the database of a namespace; `late` is called when this tab becomes the writer after all.
    ///
    /// # Errors
    /// When the browser has no IndexedDB for this page (private windows of some).
    pub(crate) async fn open(namespace: &str, late: impl FnOnce() + 'static) -> Result<Self, Failure> {
        let name = if namespace.is_empty() { "reprise".to_owned() } else { format!("reprise-{namespace}") };
        let database = open(&name, [IMAGES, CHUNKS]).await.map_err(|error| {
            Failure::new(Kind::Storage, format!("the browser keeps no slot images for this page: {error}"))
        })?;
        let lock = WriterLock::request(&name.replacen('-', "/", 1), late).await;
        Ok(Self { database, lock })
    }

    pub(super) fn read_only(&self) -> Option<&'static str> {
        if !self.lock.is_held() {
            return Some("another tab of this page has the slot images; this one can read them, not write");
        }
        None
    }

    pub(super) fn close(&self) {
        self.lock.release();
        self.database.close();
    }

    /// Writes an image. When the quota is used up, automatic images make way, oldest first, and it is tried once more.
    pub(super) async fn put(&self, name: &str, parts: &[Bytes]) -> Result<u64, StoreError> {
        self.check_writer()?;
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        match self.write(name, parts, length).await {
            Ok(()) => return Ok(length),
            Err(Refusal::Other(error)) => return Err(error),
            Err(Refusal::Quota) => {}
        }
        self.make_way(name, length).await?;
        match self.write(name, parts, length).await {
            Ok(()) => Ok(length),
            Err(Refusal::Other(error)) => Err(error),
            Err(Refusal::Quota) => Err(failed(quota_message(length).await)),
        }
    }

    pub(super) async fn fetch(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        let transaction = self.begin(TransactionMode::ReadOnly)?;
        let info =
            transaction.object_store(IMAGES).map_err(failed)?.get(JsValue::from(name)).map_err(failed)?;
        let info = info.await.map_err(failed)?.ok_or(StoreError::Missing)?;
        let found = image_info(info)?.bytes.unwrap_or_default() as u64;
        if found > limit {
            return Err(StoreError::TooLarge { found, limit });
        }
        let transaction = self.begin(TransactionMode::ReadOnly)?;
        let range = Some(Query::KeyRange(chunks_of(name)?));
        let chunks =
            transaction.object_store(CHUNKS).map_err(failed)?.get_all(range, None).map_err(failed)?;
        let mut image = Vec::new();
        for chunk in chunks.await.map_err(failed)? {
            let chunk: Uint8Array =
                chunk.dyn_into().map_err(|_| failed("a chunk of the image is no bytes"))?;
            let at = image.len();
            image.try_reserve(chunk.length() as usize).map_err(failed)?;
            image.resize(at + chunk.length() as usize, 0);
            chunk.copy_to(&mut image[at..]);
        }
        // A length that is not the one stored is found by the image's own checks.
        Ok(image.into())
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.check_writer()?;
        let transaction = self.begin(TransactionMode::ReadWrite)?;
        erase(&transaction, name)?;
        match committed(transaction).await {
            Err(Refusal::Other(error)) => Err(error),
            // Nothing was added.
            Ok(()) | Err(Refusal::Quota) => Ok(()),
        }
    }

    pub(super) async fn images(&self) -> Result<Vec<ImageInfo>, StoreError> {
        let transaction = self.begin(TransactionMode::ReadOnly)?;
        let images = transaction.object_store(IMAGES).map_err(failed)?.get_all(None, None).map_err(failed)?;
        images.await.map_err(failed)?.into_iter().map(image_info).collect()
    }

    fn check_writer(&self) -> Result<(), StoreError> {
        self.read_only().map_or(Ok(()), |reason| Err(failed(reason)))
    }

    fn begin(&self, mode: TransactionMode) -> Result<Transaction, StoreError> {
        self.database.transaction(&[IMAGES, CHUNKS], mode).map_err(failed)
    }

    async fn write(&self, name: &str, parts: &[Bytes], length: u64) -> Result<(), Refusal> {
        let info = ImageInfo {
            name: name.to_owned(),
            bytes: Some(length as f64),
            tokens: parts.first().and_then(|header| reprise_kv::image::claimed_tokens(header)),
            automatic: name.starts_with(AUTOMATIC),
            created: Some(js_sys::Date::now()),
        };
        let info = serde_wasm_bindgen::to_value(&info).map_err(failed)?;
        let transaction = self.begin(TransactionMode::ReadWrite)?;
        erase(&transaction, name)?;
        let images = transaction.object_store(IMAGES).map_err(failed)?;
        images.put(&info, Some(&name.into())).map_err(refused)?;
        let store = transaction.object_store(CHUNKS).map_err(failed)?;
        for (number, chunk) in chunks(parts, length).enumerate() {
            store.put(&chunk, Some(&key(name, number as u32))).map_err(refused)?;
        }
        committed(transaction).await
    }

    /// Removes automatic images until `wanted` bytes are free, or there are none.
    async fn make_way(&self, name: &str, wanted: u64) -> Result<(), StoreError> {
        let mut images = self.images().await?;
        images.retain(|image| image.automatic && image.name != name);
        images.sort_by(|a, b| a.created.unwrap_or_default().total_cmp(&b.created.unwrap_or_default()));
        let mut freed = 0;
        for image in images {
            if freed >= wanted {
                break;
            }
            tracing::warn!("the browser's storage is full: image '{}' makes way", image.name);
            self.remove(&image.name).await?;
            freed += image.bytes.unwrap_or_default() as u64;
        }
        Ok(())
    }
}

impl Drop for IdbStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// Opens a database, or makes it with these two object stores.
pub(super) async fn open(name: &str, stores: [&'static str; 2]) -> Result<Database, idb::Error> {
    let mut request = Factory::new()?.open(name, Some(1))?;
    request.on_upgrade_needed(move |event| {
        let create = || -> Result<(), idb::Error> {
            let database = event.database()?;
            for store in stores {
                database.create_object_store(store, ObjectStoreParams::new())?;
            }
            Ok(())
        };
        if let Err(error) = create() {
            tracing::error!(%error, "a database of the page could not be made");
        }
    });
    request.await
}

fn key(name: &str, number: u32) -> JsValue {
    Array::of2(&name.into(), &number.into()).into()
}

/// All chunks of an image: arrays sort after numbers.
fn chunks_of(name: &str) -> Result<KeyRange, StoreError> {
    let end = Array::of2(&name.into(), &Array::new());
    KeyRange::bound(&key(name, 0), &end, None, None).map_err(failed)
}

fn erase(transaction: &Transaction, name: &str) -> Result<(), StoreError> {
    transaction.object_store(IMAGES).map_err(failed)?.delete(JsValue::from(name)).map_err(failed)?;
    transaction.object_store(CHUNKS).map_err(failed)?.delete(chunks_of(name)?).map_err(failed)?;
    Ok(())
}

/// The bytes of all parts, cut anew.
fn chunks(parts: &[Bytes], length: u64) -> impl Iterator<Item = JsValue> {
    let mut rest = parts.iter().flat_map(|part| part.chunks(CHUNK)).peekable();
    let mut left = length;
    let mut pending: &[u8] = &[];
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let size = left.min(CHUNK as u64) as u32;
        let chunk = Uint8Array::new_with_length(size);
        let mut at = 0;
        while at < size {
            if pending.is_empty() {
                pending = rest.next()?;
            }
            let take = pending.len().min((size - at) as usize);
            let (now, later) = pending.split_at(take);
            chunk.subarray(at, at + take as u32).copy_from(now);
            pending = later;
            at += take as u32;
        }
        left -= u64::from(size);
        Some(chunk.into())
    })
}

fn image_info(value: JsValue) -> Result<ImageInfo, StoreError> {
    serde_wasm_bindgen::from_value(value).map_err(failed)
}

/// Waits until everything is written.
pub(super) async fn committed(transaction: Transaction) -> Result<(), Refusal> {
    let transaction = IdbTransaction::from(transaction);
    let result = Transaction::from(transaction.clone()).await;
    if matches!(result, Ok(result) if result.is_committed()) {
        return Ok(());
    }
    let Some(error) = transaction.error() else {
        return Err(Refusal::Other(failed("the browser gave up the transaction")));
    };
    if error.name() == "QuotaExceededError" {
        return Err(Refusal::Quota);
    }
    Err(Refusal::Other(failed(error.message())))
}

/// Why a request was not even taken.
fn refused(error: idb::Error) -> Refusal {
    Refusal::Other(failed(error))
}

async fn quota_message(wanted: u64) -> String {
    let mb = |bytes: f64| format!("{:.1} MB", bytes / 1e6);
    let image = mb(wanted as f64);
    let advice = "Remove models or images that are not needed any more";
    match clock::storage_estimate().await {
        // Some browsers tell a quota that is not the one they hold us to.
        Some((used, allowed)) if used + wanted as f64 > allowed => format!(
            "the browser's storage for this page is full: the image needs {image}, {} of {} are used. {advice}",
            mb(used),
            mb(allowed)
        ),
        _ => format!("the browser's storage for this page is full: there is no room for {image}. {advice}"),
    }
}

pub(super) fn failed(error: impl Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Other(error)
    }
}
