//! What the store and its threads know together, behind one lock that is never held over IO.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reprise_engine::{BlockQueue, BlockStoreStats};
use reprise_kv::stored::{BlockIndex, BlockKey, Claim};

use super::folder::{Folder, LARGEST, now};

/// What a store may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of all files; `None` is no limit.
    pub(super) budget: Option<u64>,
    /// Bytes of the blocks that wait to be written.
    pub(super) queue: u64,
    /// Seconds in which a block that was written or read does not make way for another.
    pub(super) settle: u64,
    /// How often the folder is looked through for what other servers do.
    pub(super) rescan: Duration,
}

impl Limits {
    pub(super) fn new(budget: Option<u64>) -> Self {
        Self { budget, queue: 256 << 20, settle: 5, rescan: Duration::from_secs(600) }
    }
}

/// The folder, and what is known of it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) folder: Folder,
    pub(super) limits: Limits,
    state: Mutex<State>,
    /// When something was last complained of.
    complained: Mutex<Option<Instant>>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct State {
    index: BlockIndex,
    queue: BlockQueue,
    dropped: u64,
    damaged: u64,
}

impl Shared {
    pub(super) fn new(folder: Folder, limits: Limits) -> Self {
        let largest = limits.budget.unwrap_or(u64::MAX).min(LARGEST);
        let queue = BlockQueue::new(limits.queue, largest);
        Self {
            folder,
            limits,
            state: State { index: BlockIndex::default(), queue, dropped: 0, damaged: 0 }.into(),
            complained: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Nothing in it is left half-changed by a panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn knows(&self, key: &BlockKey) -> bool {
        let state = self.state();
        state.queue.contains(key) || state.index.contains(key)
    }

    /// The files are asked, not the index: other servers write and remove them, too.
    pub(super) fn seems_to_have(&self, key: &BlockKey) -> bool {
        self.state().queue.contains(key) || self.folder.used(key).is_some()
    }

    /// The bytes of a block that is not written yet.
    pub(super) fn queued(&self, key: &BlockKey) -> Option<Bytes> {
        let block = self.state().queue.get(key).cloned()?;
        Some(block.joined())
    }

    /// Takes a block into the queue, unless it is known or there is no room.
    pub(super) fn queue(&self, key: BlockKey, parts: Vec<Bytes>) -> bool {
        let mut state = self.state();
        if state.queue.contains(&key) || state.index.contains(&key) {
            return false;
        }
        let taken = state.queue.push(key, parts);
        state.dropped += u64::from(!taken);
        taken
    }

    /// Writes a block of the queue, unless another server has.
    pub(super) fn write(&self, key: &BlockKey) {
        let Some(block) = self.state().queue.get(key).cloned() else { return };
        let (claim, bytes) = (block.claim, block.bytes());
        // What is about to be followed must not make way for what follows.
        self.state().index.touch(&claim.parent, now());
        let written =
            self.folder.has(&claim, bytes) || (self.make_room(bytes) && self.create(key, block.parts()));
        let mut state = self.state();
        // It may have been discarded in the meantime.
        if state.queue.remove(key) && written {
            state.index.insert(*key, claim.parent, claim.depth, bytes, now());
        } else {
            state.dropped += 1;
        }
    }

    fn create(&self, key: &BlockKey, parts: &[Bytes]) -> bool {
        let result = self.folder.write(key, parts);
        result.map_err(|error| self.complain("written", key, &error)).is_ok()
    }

    /// Removes blocks until `wanted` bytes are free; `false` if they cannot be.
    pub(super) fn make_room(&self, wanted: u64) -> bool {
        let Some(budget) = self.limits.budget else { return true };
        loop {
            let (oldest, used) = {
                let state = self.state();
                if state.index.bytes().saturating_add(wanted) <= budget {
                    return true;
                }
                let before = (now() + 1).saturating_sub(self.limits.settle);
                let Some(oldest) = state.index.oldest(before) else { return false };
                (oldest, state.index.used(&oldest).unwrap_or(0))
            };
            if let Some(later) = self.folder.used(&oldest).filter(|on_disk| *on_disk > used) {
                // Another server has use for it.
                self.state().index.touch(&oldest, later);
                continue;
            }
            if let Err(error) = self.folder.remove(&oldest) {
                self.complain("removed", &oldest, &error);
                return false;
            }
            self.state().index.forget(&oldest);
        }
    }

    /// A block's bytes from its file.
    pub(super) fn read(&self, key: &BlockKey) -> Option<Bytes> {
        match self.folder.read(key) {
            Ok(bytes) => {
                let claim = Claim::of(&bytes).filter(|claim| claim.key == *key);
                let mut state = self.state();
                if state.index.contains(key) {
                    state.index.touch(key, now());
                } else if let Some(claim) = claim {
                    state.index.insert(*key, claim.parent, claim.depth, bytes.len() as u64, now());
                }
                Some(bytes)
            }
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    self.complain("read", key, &error);
                }
                self.state().index.forget(key);
                None
            }
        }
    }

    pub(super) fn discard(&self, key: &BlockKey) {
        {
            let mut state = self.state();
            state.index.forget(key);
            state.queue.remove(key);
            state.damaged += 1;
        }
        if let Err(error) = self.folder.remove(key) {
            self.complain("removed", key, &error);
        }
    }

    /// Looks through the folder and keeps to the budget.
    pub(super) fn scan(&self) {
        let mut found = match self.folder.scan(|| self.is_closed()) {
            Ok(found) => found,
            Err(error) => return self.complain("listed", &"all", &error),
        };
        // Parents first: they are kept young by what follows them.
        found.sort_by_key(|block| block.claim.depth);
        {
            let mut state = self.state();
            let mut index = BlockIndex::default();
            for block in found {
                let Claim { key, parent, depth, .. } = block.claim;
                let used = state.index.used(&key).unwrap_or(0).max(block.used);
                index.insert(key, parent, depth, block.bytes, used);
            }
            state.index = index;
        }
        self.make_room(0);
    }

    pub(super) fn stats(&self) -> BlockStoreStats {
        let state = self.state();
        BlockStoreStats {
            blocks: state.index.len() as u64,
            bytes: state.index.bytes(),
            budget: self.limits.budget,
            dropped: state.dropped,
            damaged: state.damaged,
        }
    }

    /// Logs an error, unless there was one within the last minute.
    fn complain(&self, what: &str, key: &impl std::fmt::Display, error: &io::Error) {
        const QUIET: Duration = Duration::from_secs(60);
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= QUIET) {
            *complained = Some(Instant::now());
            tracing::warn!(%error, block = %key, "the prompt cache on disk: a block could not be {what}");
        }
    }
}
