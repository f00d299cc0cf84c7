//! What the engine takes from its host for the prompt cache that outlives the process: a place for blocks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use reprise_kv::stored::{BlockIndex, BlockKey, Claim};

/// Stored blocks (`reprise_kv::stored`). A store loses what it likes and may be wrong about what it has: whatever it
/// reads is verified, and what is missing is computed. So it has no errors to give; it logs them.
pub trait BlockStore {
    /// Length of the leading run of `keys` that the store seems to have. Cheap, and may be wrong.
    fn find(&self, keys: &[BlockKey]) -> impl Future<Output = usize>;

    /// The bytes that are stored; `None` when there are none, or they cannot be read. A block that is read counts as
    /// used, for the order in which blocks make way.
    fn read(&self, key: &BlockKey) -> impl Future<Output = Option<Bytes>>;

    /// Takes a block, in parts, to write it in the background. `false` when it is held or queued already, or when it is
    /// dropped: the queue is full, or there is no room that may be made. Never waits.
    fn write(&self, key: BlockKey, parts: Vec<Bytes>) -> bool;

    /// Whether a block is stored or queued, as far as is known without looking.
    fn holds(&self, key: &BlockKey) -> bool;

    /// A block turned out to be damaged: it is removed.
    fn discard(&self, key: &BlockKey);

    /// Completes when everything that was taken so far is written or dropped: before a clean end.
    fn flush(&self) -> impl Future<Output = ()>;

    /// How it stands.
    fn stats(&self) -> BlockStoreStats;
}

/// A store that outlives the engines that use it, as a model that is loaded anew finds it.
impl<B: BlockStore> BlockStore for Rc<B> {
    async fn find(&self, keys: &[BlockKey]) -> usize {
        B::find(self, keys).await
    }

    async fn read(&self, key: &BlockKey) -> Option<Bytes> {
        B::read(self, key).await
    }

    fn write(&self, key: BlockKey, parts: Vec<Bytes>) -> bool {
        B::write(self, key, parts)
    }

    fn holds(&self, key: &BlockKey) -> bool {
        B::holds(self, key)
    }

    fn discard(&self, key: &BlockKey) {
        B::discard(self, key);
    }

    async fn flush(&self) {
        B::flush(self).await;
    }

    fn stats(&self) -> BlockStoreStats {
        B::stats(self)
    }
}

/// How a [`BlockStore`] stands. What other processes do in the same place is known only after a while.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockStoreStats {
    /// Blocks that are stored.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Most bytes; `None` without a limit.
    pub budget: Option<u64>,
    /// Writes that were dropped since the start: a full queue or disk, or an error.
    pub dropped: u64,
    /// Blocks that were discarded as damaged since the start.
    pub damaged: u64,
}

/// Stored blocks in memory: tests, and hosts without a disk. They outlive a model that is loaded anew, nothing more.
#[derive(Debug)]
pub struct MemoryBlocks {
    blocks: RefCell<HashMap<BlockKey, Bytes>>,
    index: RefCell<BlockIndex>,
    budget: u64,
    /// Counts uses; the index takes it for time.
    now: Cell<u64>,
    dropped: Cell<u64>,
    damaged: Cell<u64>,
}

impl MemoryBlocks {
    /// Room for `budget` bytes.
    #[must_use]
    pub fn new(budget: u64) -> Self {
        Self {
            blocks: RefCell::default(),
            index: RefCell::default(),
            budget,
            now: Cell::new(0),
            dropped: Cell::new(0),
            damaged: Cell::new(0),
        }
    }

    /// Changes a stored block in its place, for tests of damage; `false` if it is not there.
    pub fn tamper(&self, key: &BlockKey, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.blocks.borrow_mut().get_mut(key).is_some_and(|block| {
            let mut bytes = block.to_vec();
            change(&mut bytes);
            *block = bytes.into();
            true
        })
    }

    /// Depth and key of every stored block, in no order.
    #[must_use]
    pub fn keys(&self) -> Vec<(u32, BlockKey)> {
        self.blocks
            .borrow()
            .values()
            .filter_map(|block| Claim::of(block))
            .map(|claim| (claim.depth, claim.key))
            .collect()
    }

    fn tick(&self) -> u64 {
        self.now.set(self.now.get() + 1);
        self.now.get()
    }
}

impl BlockStore for MemoryBlocks {
    async fn find(&self, keys: &[BlockKey]) -> usize {
        keys.iter().take_while(|key| self.holds(key)).count()
    }

    async fn read(&self, key: &BlockKey) -> Option<Bytes> {
        self.index.borrow_mut().touch(key, self.tick());
        self.blocks.borrow().get(key).cloned()
    }

    fn write(&self, key: BlockKey, parts: Vec<Bytes>) -> bool {
        if self.holds(&key) {
            return false;
        }
        let block = Bytes::from(parts.concat());
        let bytes = block.len() as u64;
        let Some(claim) = Claim::of(&block).filter(|_| bytes <= self.budget) else {
            self.dropped.set(self.dropped.get() + 1);
            return false;
        };
        let (mut blocks, mut index) = (self.blocks.borrow_mut(), self.index.borrow_mut());
        index.touch(&claim.parent, self.tick());
        while index.bytes() + bytes > self.budget
            && let Some(oldest) = index.oldest(u64::MAX)
        {
            index.forget(&oldest);
            blocks.remove(&oldest);
        }
        index.insert(key, claim.parent, claim.depth, bytes, self.now.get());
        blocks.insert(key, block);
        true
    }

    fn holds(&self, key: &BlockKey) -> bool {
        self.blocks.borrow().contains_key(key)
    }

    fn discard(&self, key: &BlockKey) {
        self.index.borrow_mut().forget(key);
        self.blocks.borrow_mut().remove(key);
        self.damaged.set(self.damaged.get() + 1);
    }

    async fn flush(&self) {}

    fn stats(&self) -> BlockStoreStats {
        let index = self.index.borrow();
        BlockStoreStats {
            blocks: index.len() as u64,
            bytes: index.bytes(),
            budget: Some(self.budget),
            dropped: self.dropped.get(),
            damaged: self.damaged.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use reprise_gguf::TokenId;
    use reprise_kv::stored::{StoredBlock, decode, encode};

    use super::*;

    /// A chain of blocks with 100 bytes of payload each, and their keys.
    fn chain(seed: u32, blocks: u32) -> Vec<(BlockKey, Vec<Bytes>)> {
        let mut parent = BlockKey::from_bytes([0; 32]);
        let block = |depth: u32| {
            let tokens: Vec<TokenId> =
                (0..32).map(|token| TokenId(seed * 1000 + depth * 32 + token)).collect();
            let block = StoredBlock::new(parent, depth, &tokens);
            let payload = Bytes::from(vec![depth as u8; 100]);
            parent = block.key;
            (block.key, vec![encode(&block, &payload).into(), payload])
        };
        (0..blocks).map(block).collect()
    }

    fn size(chain: &[(BlockKey, Vec<Bytes>)]) -> u64 {
        chain[0].1.iter().map(|part| part.len() as u64).sum()
    }

    #[test]
    fn blocks_come_back_and_a_run_ends_at_the_first_that_is_missing() {
        let blocks = chain(1, 3);
        let store = MemoryBlocks::new(u64::MAX);
        for number in [0, 2] {
            assert!(store.write(blocks[number].0, blocks[number].1.clone()));
            assert!(!store.write(blocks[number].0, blocks[number].1.clone()), "held already");
        }
        let keys: Vec<BlockKey> = blocks.iter().map(|(key, _)| *key).collect();
        assert_eq!(block_on(store.find(&keys)), 1);
        assert_eq!(block_on(store.read(&keys[2])), Some(blocks[2].1.concat().into()));
        assert_eq!(block_on(store.read(&keys[1])), None);
        store.discard(&keys[0]);
        assert_eq!((block_on(store.find(&keys)), store.stats().damaged), (0, 1));
    }

    #[test]
    fn what_was_used_last_stays_and_chains_end_early_rather_than_have_holes() {
        let (old, new) = (chain(1, 3), chain(2, 2));
        let store = MemoryBlocks::new(4 * size(&old));
        for (key, parts) in old.iter().chain(&new) {
            assert!(store.write(*key, parts.clone()));
        }
        let held = |chain: &[(BlockKey, Vec<Bytes>)]| {
            chain.iter().map(|(key, _)| store.holds(key)).collect::<Vec<_>>()
        };
        assert_eq!((held(&old), held(&new)), (vec![true, true, false], vec![true, true]));
        assert!(block_on(store.read(&old[1].0)).is_some());
        assert!(store.write(old[2].0, old[2].1.clone()));
        assert_eq!((held(&old), held(&new)), (vec![true; 3], vec![true, false]));
        assert_eq!((store.stats().blocks, store.stats().bytes), (4, 4 * size(&old)));
    }

    #[test]
    fn what_can_never_fit_or_is_no_block_is_dropped() {
        let blocks = chain(1, 1);
        let store = MemoryBlocks::new(size(&blocks) - 1);
        assert!(!store.write(blocks[0].0, blocks[0].1.clone()));
        assert!(!store.write(blocks[0].0, vec![Bytes::from_static(b"x")]));
        assert_eq!((store.stats().dropped, store.stats().blocks), (2, 0));
    }

    #[test]
    fn a_tampered_block_is_read_as_it_is_and_refused_by_its_codec() {
        let tokens: Vec<TokenId> = (0..32).map(TokenId).collect();
        let block = StoredBlock::new(BlockKey::from_bytes([0; 32]), 0, &tokens);
        let store = MemoryBlocks::new(u64::MAX);
        store.write(block.key, vec![encode(&block, b"payload").into(), Bytes::from_static(b"payload")]);
        let whole = |bytes: &Bytes| decode(bytes, &block, 7).is_ok();
        assert!(block_on(store.read(&block.key)).as_ref().is_some_and(whole));
        assert!(store.tamper(&block.key, |bytes| bytes[200] ^= 1));
        assert!(block_on(store.read(&block.key)).as_ref().is_some_and(|bytes| !whole(bytes)));
        assert!(!store.tamper(&BlockKey::from_bytes([1; 32]), Vec::clear));
    }
}
