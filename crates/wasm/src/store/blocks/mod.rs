//! The prompt cache's blocks in IndexedDB, written behind the engine's back.
//!
//! Tabs share them without a lock, since the bytes under a key are the same whoever writes them; what another tab writes is
//! seen after the next load. Whatever is read is verified by the engine.

mod database;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Display;
use std::rc::Rc;

use bytes::Bytes;
use futures::channel::oneshot;
use reprise_engine::{BlockQueue, BlockStore, BlockStoreStats, StoreError};
use reprise_kv::stored::{BlockIndex, BlockKey, Claim};
use wasm_bindgen_futures::spawn_local;

use self::database::{Blocks, Info};
use super::database::Refusal;
use crate::clock;

/// Most bytes that wait to be written: they are in the module's memory.
const QUEUE: u64 = 64 << 20;
/// How often, at most, it is noted that a block was used, seconds.
const TOUCH: u64 = 60;
/// Seconds in which a block that was written or read does not make way for another.
const SETTLE: u64 = 5;
/// How often, at most, something is complained of, seconds.
const QUIET: u64 = 60;

/// Blocks of the page's origin.
#[derive(Debug, Clone)]
pub(crate) struct IdbBlocks(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Blocks,
    /// Bytes.
    budget: Option<u64>,
    state: RefCell<State>,
    complained: Cell<u64>,
}

#[derive(Debug)]
struct State {
    index: BlockIndex,
    queue: BlockQueue,
    orders: VecDeque<Order>,
    /// Somebody carries the orders out.
    working: bool,
    dropped: u64,
    damaged: u64,
}

/// What is done in the background, one after the other.
#[derive(Debug)]
enum Order {
    /// Write a block of the queue.
    Write(BlockKey),
    /// Note that a block was used.
    Touch(BlockKey, Info),
    /// Remove a block.
    Remove(BlockKey),
    /// Say that everything before is done.
    Tell(oneshot::Sender<()>),
}

impl IdbBlocks {
    /// Opens the blocks of a namespace, of which at most `budget` bytes are kept.
    ///
    /// # Errors
    /// When the browser has no IndexedDB for this page, or does not let it be read.
    pub(crate) async fn open(namespace: &str, budget: Option<u64>) -> Result<Self, StoreError> {
        let database = Blocks::open(namespace).await?;
        let mut state = State::new(budget);
        database.infos().await?.iter().for_each(|info| info.enter(&mut state.index));
        let inner = Inner { database, budget, state: state.into(), complained: Cell::default() };
        inner.make_room(0).await?;
        Ok(Self(Rc::new(inner)))
    }

    fn order(&self, order: Order) {
        let mut state = self.0.state.borrow_mut();
        state.orders.push_back(order);
        if !std::mem::replace(&mut state.working, true) {
            spawn_local(Rc::clone(&self.0).work());
        }
    }
}

impl Inner {
    async fn work(self: Rc<Self>) {
        while let Some(order) = self.next() {
            let result = match order {
                Order::Write(key) => self.write(&key).await,
                Order::Touch(key, info) => self.note(&key, &info).await,
                Order::Remove(key) => self.database.remove(&[key]).await,
                Order::Tell(tell) => {
                    // Whoever asked may have left.
                    let _ = tell.send(());
                    Ok(())
                }
            };
            match result {
                Ok(()) => {}
                Err(Refusal::Quota) => self.complain(&"the browser's storage for this page is full"),
                Err(Refusal::Other(error)) => self.complain(&error),
            }
        }
    }

    fn next(&self) -> Option<Order> {
        let mut state = self.state.borrow_mut();
        let order = state.orders.pop_front();
        state.working = order.is_some();
        order
    }

    async fn write(&self, key: &BlockKey) -> Result<(), Refusal> {
        let Some(block) = self.state.borrow().queue.get(key).cloned() else { return Ok(()) };
        let (claim, bytes, now) = (block.claim, block.bytes(), clock::unix_seconds());
        // What is about to be followed must not make way for what follows.
        self.state.borrow_mut().index.touch(&claim.parent, now);
        let info = Info::new(&claim, bytes, now);
        let result = match self.make_room(bytes).await {
            Ok(true) => self.database.put(&info, Some(&block)).await.map(|()| true),
            other => other.map_err(Refusal::from),
        };
        let mut state = self.state.borrow_mut();
        // It may have been discarded in the meantime; then its removal is the next order.
        if state.queue.remove(key) && matches!(result, Ok(true)) {
            info.enter(&mut state.index);
        } else {
            state.dropped += 1;
        }
        result.map(drop)
    }

    /// Notes a use, unless the block has gone since.
    async fn note(&self, key: &BlockKey, info: &Info) -> Result<(), Refusal> {
        if !self.state.borrow().index.contains(key) {
            return Ok(());
        }
        self.database.put(info, None).await
    }

    /// Removes blocks until `wanted` bytes are free; `false` if they cannot be.
    async fn make_room(&self, wanted: u64) -> Result<bool, StoreError> {
        let before = (clock::unix_seconds() + 1).saturating_sub(SETTLE);
        let (going, enough) = self.state.borrow_mut().give_up(self.budget, wanted, before);
        if going.is_empty() {
            return Ok(enough);
        }
        match self.database.remove(&going).await {
            Err(Refusal::Other(error)) => Err(error),
            // Nothing was added.
            Ok(()) | Err(Refusal::Quota) => Ok(enough),
        }
    }

    async fn read(&self, key: &BlockKey) -> Option<Bytes> {
        match self.database.fetch(key).await {
            Ok(block) => block,
            Err(error) => {
                self.complain(&error);
                None
            }
        }
    }

    fn complain(&self, error: &dyn Display) {
        let now = clock::unix_seconds();
        if now.saturating_sub(self.complained.get()) >= QUIET {
            self.complained.set(now);
            tracing::warn!("a block of the prompt cache could not be stored or read: {error}");
        }
    }
}

impl State {
    fn new(budget: Option<u64>) -> Self {
        Self {
            index: BlockIndex::default(),
            queue: BlockQueue::new(QUEUE, budget.unwrap_or(u64::MAX)),
            orders: VecDeque::new(),
            working: false,
            dropped: 0,
            damaged: 0,
        }
    }

    fn holds(&self, key: &BlockKey) -> bool {
        self.queue.contains(key) || self.index.contains(key)
    }

    /// Strikes blocks off, those that were used last before `before`, until there is room for `wanted` bytes: which, and
    /// whether it was enough.
    fn give_up(&mut self, budget: Option<u64>, wanted: u64, before: u64) -> (Vec<BlockKey>, bool) {
        let mut going = Vec::new();
        while budget.is_some_and(|budget| self.index.bytes().saturating_add(wanted) > budget) {
            let Some(oldest) = self.index.oldest(before) else { return (going, false) };
            self.index.forget(&oldest);
            going.push(oldest);
        }
        (going, true)
    }

    /// A block was read: when it was used before, and what it says of itself. What is not there is struck off.
    fn was_read(&mut self, key: &BlockKey, block: Option<&Bytes>, now: u64) -> Option<(Option<u64>, Claim)> {
        let Some(block) = block else {
            self.index.forget(key);
            return None;
        };
        let before = self.index.used(key);
        let claim = Claim::of(block).filter(|claim| claim.key == *key)?;
        self.index.insert(*key, claim.parent, claim.depth, block.len() as u64, now);
        Some((before, claim))
    }
}

impl BlockStore for IdbBlocks {
    async fn find(&self, keys: &[BlockKey]) -> usize {
        keys.iter().take_while(|key| self.holds(key)).count()
    }

    async fn read(&self, key: &BlockKey) -> Option<Bytes> {
        let queued = self.0.state.borrow().queue.get(key).cloned();
        if let Some(block) = queued {
            return Some(block.joined());
        }
        let block = self.0.read(key).await;
        let now = clock::unix_seconds();
        let known = self.0.state.borrow_mut().was_read(key, block.as_ref(), now);
        if let (Some(block), Some((before, claim))) = (&block, known)
            && before.is_none_or(|before| before + TOUCH <= now)
        {
            self.order(Order::Touch(*key, Info::new(&claim, block.len() as u64, now)));
        }
        block
    }

    fn write(&self, key: BlockKey, parts: Vec<Bytes>) -> bool {
        {
            let mut state = self.0.state.borrow_mut();
            if state.holds(&key) {
                return false;
            }
            if !state.queue.push(key, parts) {
                state.dropped += 1;
                return false;
            }
        }
        self.order(Order::Write(key));
        true
    }

    fn holds(&self, key: &BlockKey) -> bool {
        self.0.state.borrow().holds(key)
    }

    fn discard(&self, key: &BlockKey) {
        {
            let mut state = self.0.state.borrow_mut();
            state.index.forget(key);
            state.queue.remove(key);
            state.damaged += 1;
        }
        self.order(Order::Remove(*key));
    }

    async fn flush(&self) {
        let (tell, told) = oneshot::channel();
        self.order(Order::Tell(tell));
        // It is told before the orders end.
        let _ = told.await;
    }

    fn stats(&self) -> BlockStoreStats {
        let state = self.0.state.borrow();
        BlockStoreStats {
            blocks: state.index.len() as u64,
            bytes: state.index.bytes(),
            budget: self.0.budget,
            dropped: state.dropped,
            damaged: state.damaged,
        }
    }
}
