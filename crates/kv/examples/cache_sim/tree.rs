//! A prefix tree of blocks whose leaves go one by one: the driver of all policies at the granularity of blocks.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{Contender, Request};

/// Chooses what goes.
pub(crate) trait Chooser {
    fn request(&mut self, request: &Request);
    /// The answer has been generated.
    fn grow(&mut self, _request: &Request) {}
    /// One of the leaves, given with their depth.
    fn victim(&self, leaves: &mut dyn Iterator<Item = (u64, u32)>) -> Option<u64>;
}

pub(crate) struct Tree<C> {
    capacity: usize,
    blocks: HashMap<u64, Block>,
    leaves: BTreeSet<u64>,
    chooser: C,
}

struct Block {
    parent: Option<u64>,
    depth: u32,
    children: u32,
}

impl<C: Chooser> Tree<C> {
    pub(crate) fn new(capacity: usize, chooser: C) -> Self {
        Self { capacity, blocks: HashMap::new(), leaves: BTreeSet::new(), chooser }
    }

    /// Holds a path; what lies on it stays.
    fn hold(&mut self, path: &[u64]) {
        let pinned: HashSet<_> = path.iter().copied().collect();
        let mut parent = None;
        for (depth, key) in (1..).zip(path) {
            if !self.blocks.contains_key(key) {
                while self.blocks.len() >= self.capacity && self.evict(&pinned) {}
                self.blocks.insert(*key, Block { parent, depth, children: 0 });
                self.leaves.insert(*key);
                if let Some(above) = parent {
                    self.count_children(above, |children| children + 1);
                }
            }
            parent = Some(*key);
        }
    }

    fn evict(&mut self, pinned: &HashSet<u64>) -> bool {
        let leaves = self.leaves.iter().filter(|key| !pinned.contains(key));
        let Some(key) = self.chooser.victim(&mut leaves.map(|key| (*key, self.blocks[key].depth))) else {
            return false;
        };
        self.leaves.remove(&key);
        if let Some(parent) = self.blocks.remove(&key).and_then(|block| block.parent) {
            self.count_children(parent, |children| children - 1);
        }
        true
    }

    fn count_children(&mut self, key: u64, count: impl Fn(u32) -> u32) {
        if let Some(block) = self.blocks.get_mut(&key) {
            block.children = count(block.children);
            if block.children == 0 {
                self.leaves.insert(key);
            } else {
                self.leaves.remove(&key);
            }
        }
    }
}

impl<C: Chooser> Contender for Tree<C> {
    fn serve(&mut self, request: &Request) -> usize {
        let prompt = &request.path[..request.prompt];
        let found = prompt.iter().take_while(|key| self.blocks.contains_key(key)).count();
        self.chooser.request(request);
        self.hold(prompt);
        self.hold(&request.path);
        self.chooser.grow(request);
        assert!(self.blocks.len() <= self.capacity, "more blocks than there is memory");
        found
    }
}
