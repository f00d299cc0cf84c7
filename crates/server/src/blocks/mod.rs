//! The prompt cache's blocks as files in one folder (`--cache-path`), which several servers may share, or below a URL.
//!
//! Whatever happens to the files, a block that is served is the one that was written: its bytes are verified by whoever
//! reads them, and what is missing or damaged is computed anew. So the store never fails a request: it logs, at most
//! once a minute, and drops the write or says that there is nothing.
//!
//! - `place`: which of the two.
//! - `remote`: the URL.
//! - `folder`: names and bytes of files.
//! - `shared`: what the threads know together: the account of blocks, the queue.
//! - `threads`: one that writes and keeps the budget, one that reads.

mod folder;
mod place;
mod remote;
mod shared;
#[cfg(test)]
mod tests;
mod threads;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use anyhow::Result;
use bytes::Bytes;
use futures::channel::oneshot;
use reprise_engine::{BlockStore, BlockStoreStats};
use reprise_kv::stored::BlockKey;

use self::folder::Folder;
pub(crate) use self::place::{Blocks, Place};
use self::remote::UrlBlocks;
use self::shared::{Limits, Shared};
use self::threads::{Order, Wanted};
use crate::cli::CacheArgs;

/// A folder of blocks. Dropping it ends its threads and forgets what is queued: flush before.
#[derive(Debug)]
pub(crate) struct DirBlocks {
    shared: Arc<Shared>,
    /// Taken only when it ends.
    channels: Option<(Sender<Order>, Sender<Wanted>)>,
    threads: Vec<JoinHandle<()>>,
}

/// The store that the flags ask for, if they do.
///
/// # Errors
/// When there is no such folder and none can be made, or the URL is none.
pub(crate) fn open(arguments: &CacheArgs) -> Result<Option<Blocks>> {
    let path = match arguments.cache_path.as_ref().filter(|_| arguments.cache_disk != 0) {
        None => return Ok(None),
        Some(Place::Url(url)) => {
            tracing::info!("prompt cache at {url}; how much of it is kept is decided there");
            return UrlBlocks::open(url).map(|blocks| Some(Blocks::Url(blocks)));
        }
        Some(Place::Folder(path)) => path,
    };
    let budget = u64::try_from(arguments.cache_disk).ok().map(|mib| mib.saturating_mul(1 << 20));
    let most = budget.map_or("without a limit".to_owned(), |bytes| format!("at most {} MiB", bytes >> 20));
    tracing::info!("prompt cache on disk: {}, {most}", path.display());
    DirBlocks::open(path, Limits::new(budget)).map(|blocks| Some(Blocks::Folder(blocks)))
}

impl DirBlocks {
    /// Takes a folder, or makes it, and starts to look through it.
    fn open(path: &Path, limits: Limits) -> Result<Self> {
        let shared = Arc::new(Shared::new(Folder::open(path)?, limits));
        let ((order, orders), (want, wanted)) = (channel(), channel());
        let mut store =
            Self { shared: Arc::clone(&shared), channels: Some((order, want)), threads: Vec::new() };
        let reading = Arc::clone(&shared);
        let write = move || threads::write(&shared, &orders);
        store.threads.push(thread::Builder::new().name("cache-write".into()).spawn(write)?);
        let read = move || threads::read(&reading, &wanted);
        store.threads.push(thread::Builder::new().name("cache-read".into()).spawn(read)?);
        Ok(store)
    }

    fn order(&self, order: Order) -> bool {
        self.channels.as_ref().is_some_and(|(orders, _)| orders.send(order).is_ok())
    }
}

impl BlockStore for DirBlocks {
    async fn find(&self, keys: &[BlockKey]) -> usize {
        keys.iter().take_while(|key| self.shared.seems_to_have(key)).count()
    }

    async fn read(&self, key: &BlockKey) -> Option<Bytes> {
        if let Some(queued) = self.shared.queued(key) {
            return Some(queued);
        }
        let (tell, told) = oneshot::channel();
        let (_, want) = self.channels.as_ref()?;
        want.send((*key, tell)).ok()?;
        // A thread that has ended tells nothing.
        told.await.ok()?
    }

    fn write(&self, key: BlockKey, parts: Vec<Bytes>) -> bool {
        self.shared.queue(key, parts) && self.order(Order::Write(key))
    }

    fn holds(&self, key: &BlockKey) -> bool {
        self.shared.knows(key)
    }

    fn discard(&self, key: &BlockKey) {
        self.shared.discard(key);
    }

    async fn flush(&self) {
        let (tell, told) = oneshot::channel();
        if self.order(Order::Tell(tell)) {
            // A thread that has ended has dropped everything.
            let _ = told.await;
        }
    }

    fn stats(&self) -> BlockStoreStats {
        self.shared.stats()
    }
}

impl Drop for DirBlocks {
    fn drop(&mut self) {
        self.shared.close();
        self.channels.take();
        for thread in self.threads.drain(..) {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}
