//! What a store holds, in the order in which it makes way.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use crate::stored::BlockKey;

/// Account of a store's blocks: sizes, and which of them goes first when room is needed: the least recently used, and
/// among equals the one deepest in its chain. A block is never older than one that follows it, so a chain is shortened
/// from its end, and nothing is kept that no prompt can reach.
///
/// Ages are the host's, in units of its choice; larger is later.
#[derive(Debug, Default)]
pub struct BlockIndex {
    blocks: HashMap<BlockKey, Entry>,
    order: BTreeSet<(u64, Reverse<u32>, BlockKey)>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: u64,
    parent: BlockKey,
    depth: u32,
    used: u64,
}

impl BlockIndex {
    /// Enters a block, or a new size and a later age of one that is there.
    pub fn insert(&mut self, key: BlockKey, parent: BlockKey, depth: u32, bytes: u64, used: u64) {
        let used = self.remove(&key).map_or(used, |before| before.used.max(used));
        self.blocks.insert(key, Entry { bytes, parent, depth, used });
        self.order.insert((used, Reverse(depth), key));
        self.bytes += bytes;
        self.touch(&parent, used);
    }

    /// A block was of use, and so were those before it.
    pub fn touch(&mut self, key: &BlockKey, used: u64) {
        let mut next = *key;
        // Ends at one that is young enough: those before it are, too. Ages grow on the way, so a circle ends as well.
        while let Some(entry) = self.blocks.get_mut(&next).filter(|entry| entry.used < used) {
            self.order.remove(&(entry.used, Reverse(entry.depth), next));
            entry.used = used;
            self.order.insert((used, Reverse(entry.depth), next));
            next = entry.parent;
        }
    }

    /// Strikes a block off; its size if it was there.
    pub fn forget(&mut self, key: &BlockKey) -> Option<u64> {
        self.remove(key).map(|entry| entry.bytes)
    }

    fn remove(&mut self, key: &BlockKey) -> Option<Entry> {
        let entry = self.blocks.remove(key)?;
        self.order.remove(&(entry.used, Reverse(entry.depth), *key));
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// The block that goes next, if it was last used before `before`.
    #[must_use]
    pub fn oldest(&self, before: u64) -> Option<BlockKey> {
        self.order.first().filter(|(used, ..)| *used < before).map(|(.., key)| *key)
    }

    /// When a block was last used.
    #[must_use]
    pub fn used(&self, key: &BlockKey) -> Option<u64> {
        self.blocks.get(key).map(|entry| entry.used)
    }

    /// Whether a block is there.
    #[must_use]
    pub fn contains(&self, key: &BlockKey) -> bool {
        self.blocks.contains_key(key)
    }

    /// The keys of all blocks, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &BlockKey> {
        self.blocks.keys()
    }

    /// Bytes of all blocks.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> BlockKey {
        BlockKey::from_bytes([number; 32])
    }

    /// A chain 1, 2, 3 behind the root 0, all of age 5.
    fn chain() -> BlockIndex {
        let mut index = BlockIndex::default();
        for number in 1..=3 {
            index.insert(key(number), key(number - 1), u32::from(number) - 1, 10, 5);
        }
        index
    }

    fn drain(mut index: BlockIndex) -> Vec<BlockKey> {
        std::iter::from_fn(|| {
            let key = index.oldest(u64::MAX)?;
            index.forget(&key).map(|_| key)
        })
        .collect()
    }

    #[test]
    fn a_chain_goes_from_its_end() {
        assert_eq!(drain(chain()), [key(3), key(2), key(1)]);
    }

    #[test]
    fn a_block_keeps_those_before_it_young() {
        let mut index = chain();
        index.insert(key(9), key(0), 0, 10, 6);
        index.touch(&key(2), 7);
        assert_eq!(drain(index), [key(3), key(9), key(2), key(1)]);
    }

    #[test]
    fn what_is_too_young_does_not_go() {
        let index = chain();
        assert_eq!(index.oldest(5), None);
        assert_eq!(index.oldest(6), Some(key(3)));
    }

    #[test]
    fn sizes_add_up_and_a_block_counts_once() {
        let mut index = chain();
        index.insert(key(2), key(1), 1, 4, 3);
        assert_eq!((index.bytes(), index.len(), index.used(&key(2))), (24, 3, Some(5)));
        assert_eq!((index.forget(&key(2)), index.forget(&key(2))), (Some(4), None));
        assert_eq!((index.bytes(), index.contains(&key(2))), (20, false));
    }

    #[test]
    fn blocks_that_name_each_other_as_parents_do_no_harm() {
        let mut index = BlockIndex::default();
        index.insert(key(1), key(2), 0, 1, 1);
        index.insert(key(2), key(1), 1, 1, 2);
        index.insert(key(3), key(3), 0, 1, 3);
        index.touch(&key(1), 9);
        index.touch(&key(3), 9);
        assert_eq!(drain(index).len(), 3);
    }

    proptest! {
        /// Where blocks come behind their parents and go by age, the books balance and no chain ever has a hole.
        #[test]
        fn any_history(steps in prop::collection::vec((0_u8..3, 1_u8..32, 0_u64..20), 0..200)) {
            let mut index = BlockIndex::default();
            for (action, number, used) in steps {
                // A binary tree: 2n and 2n + 1 follow n.
                let (key, parent) = (key(number), key(number / 2));
                match action {
                    0 if number == 1 || index.contains(&parent) => {
                        index.insert(key, parent, number.ilog2(), u64::from(number), used);
                    }
                    1 => index.touch(&key, used),
                    2 => {
                        let oldest = index.oldest(u64::MAX);
                        prop_assert_eq!(oldest.is_none(), index.is_empty());
                        if let Some(key) = oldest {
                            index.forget(&key);
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(index.order.len(), index.blocks.len());
                prop_assert_eq!(index.bytes(), index.blocks.values().map(|entry| entry.bytes).sum::<u64>());
                for (key, entry) in index.blocks.iter().filter(|(_, entry)| entry.depth > 0) {
                    prop_assert!(index.used(&entry.parent) >= Some(entry.used), "{key} outlives its parent");
                }
            }
        }
    }
}
