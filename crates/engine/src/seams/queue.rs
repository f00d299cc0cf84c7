//! Blocks on their way to a [`BlockStore`](super::BlockStore) that writes behind the engine's back.

use std::collections::HashMap;

use bytes::Bytes;
use reprise_kv::stored::{BlockKey, Claim};

/// A stored block in parts.
#[derive(Debug, Clone)]
pub struct QueuedBlock {
    /// What it says of itself.
    pub claim: Claim,
    parts: Vec<Bytes>,
}

impl QueuedBlock {
    /// Takes the parts; `None` when they are not those of a block under this key.
    #[must_use]
    pub fn new(key: &BlockKey, parts: Vec<Bytes>) -> Option<Self> {
        let head: Vec<u8> = parts.iter().flatten().copied().take(Claim::LEN).collect();
        let claim = Claim::of(&head).filter(|claim| claim.key == *key)?;
        Some(Self { claim, parts })
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// The parts, in the order in which they make up the block.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// A copy in one piece.
    #[must_use]
    pub fn joined(&self) -> Bytes {
        self.parts.concat().into()
    }
}

/// What a store was given and has not written yet, up to a number of bytes.
#[derive(Debug)]
pub struct BlockQueue {
    blocks: HashMap<BlockKey, QueuedBlock>,
    bytes: u64,
    room: u64,
    largest: u64,
}

impl BlockQueue {
    /// A queue of at most `room` bytes, in blocks of at most `largest`.
    #[must_use]
    pub fn new(room: u64, largest: u64) -> Self {
        Self { blocks: HashMap::new(), bytes: 0, room, largest }
    }

    /// Takes a block; `false` when the parts are not those of this block, when it is too large, and when there is no room.
    pub fn push(&mut self, key: BlockKey, parts: Vec<Bytes>) -> bool {
        let fits = |block: &QueuedBlock| {
            block.bytes() <= self.largest && self.bytes.saturating_add(block.bytes()) <= self.room
        };
        let Some(block) = QueuedBlock::new(&key, parts).filter(fits) else { return false };
        self.remove(&key);
        self.bytes += block.bytes();
        self.blocks.insert(key, block);
        true
    }

    /// Whether a block waits.
    #[must_use]
    pub fn contains(&self, key: &BlockKey) -> bool {
        self.blocks.contains_key(key)
    }

    /// A block that waits.
    #[must_use]
    pub fn get(&self, key: &BlockKey) -> Option<&QueuedBlock> {
        self.blocks.get(key)
    }

    /// Gives a block up, since it is written or is not to be; `false` when it did not wait.
    pub fn remove(&mut self, key: &BlockKey) -> bool {
        let block = self.blocks.remove(key);
        self.bytes -= block.as_ref().map_or(0, QueuedBlock::bytes);
        block.is_some()
    }
}

#[cfg(test)]
mod tests {
    use reprise_gguf::TokenId;
    use reprise_kv::stored::{StoredBlock, encode};

    use super::*;

    /// A block with 100 bytes of payload.
    fn block(seed: u32) -> (BlockKey, Vec<Bytes>) {
        let tokens: Vec<TokenId> = (seed..seed + 32).map(TokenId).collect();
        let block = StoredBlock::new(BlockKey::from_bytes([0; 32]), 3, &tokens);
        let payload = Bytes::from(vec![seed as u8; 100]);
        (block.key, vec![encode(&block, &payload).into(), payload])
    }

    #[test]
    fn blocks_wait_until_they_are_removed_and_their_bytes_are_counted() {
        let (first, second) = (block(1), block(2));
        let size = first.1.concat().len() as u64;
        let mut queue = BlockQueue::new(size + 1, size);
        assert!(queue.push(first.0, first.1.clone()));
        assert!(!queue.push(second.0, second.1.clone()), "no room");
        let waiting = queue.get(&first.0).unwrap();
        assert_eq!((waiting.bytes(), waiting.claim.depth), (size, 3));
        assert_eq!(waiting.joined(), first.1.concat());
        assert!(queue.remove(&first.0) && !queue.remove(&first.0));
        assert!(queue.push(second.0, second.1) && queue.contains(&second.0));
    }

    #[test]
    fn what_is_too_large_or_another_block_is_refused() {
        let (first, second) = (block(1), block(2));
        let size = first.1.concat().len() as u64;
        let mut queue = BlockQueue::new(u64::MAX, size);
        assert!(!queue.push(first.0, second.1), "another's parts");
        assert!(!queue.push(first.0, vec![Bytes::from_static(b"x")]), "no block");
        let longer = [first.1.clone(), vec![Bytes::from_static(b"x")]].concat();
        assert!(!queue.push(first.0, longer), "too large");
        // The claim may lie across parts.
        let whole = Bytes::from(first.1.concat());
        assert!(queue.push(first.0, vec![whole.slice(..50), whole.slice(50..)]));
    }
}
