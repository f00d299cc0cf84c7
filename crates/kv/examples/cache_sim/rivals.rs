//! The columns of the table, and the policies at the granularity of blocks.

use std::collections::{HashMap, VecDeque};

use crate::belady::Belady;
use crate::policy::{NodeKey, Policy};
use crate::real::Real;
use crate::tree::{Chooser, Tree};
use crate::whole::{Lru, S3Fifo, TinyLfu, Whole};
use crate::{CAPACITY, Contender, Request};

pub(crate) const LRU: usize = 0;
/// What the targets are for: all of the cache, not its policy alone.
pub(crate) const REPRISE: usize = 4;
pub(crate) const BELADY: usize = 7;
pub(crate) const NAMES: [&str; 8] = [
    "LRU",
    "LRU, whole prompts",
    "S3-FIFO, whole prompts",
    "W-TinyLFU, whole prompts",
    "reprise",
    "its policy alone",
    "the same, 4 waiting",
    "Belady",
];

/// Requests that wait in the queue while one runs, where that is simulated.
const WAITING: usize = 4;

pub(crate) fn all(requests: &[Request]) -> [Box<dyn Contender>; NAMES.len()] {
    [
        Box::new(Tree::new(CAPACITY, LruBlocks::default())),
        Box::new(Whole::new(CAPACITY, Lru::default())),
        Box::new(Whole::new(CAPACITY, S3Fifo::new(CAPACITY))),
        Box::new(Whole::new(CAPACITY, TinyLfu::new(CAPACITY))),
        Box::new(Real::new()),
        Box::new(Tree::new(CAPACITY, Reprise::new(&[]))),
        Box::new(Tree::new(CAPACITY, Reprise::new(requests))),
        Box::new(Tree::new(CAPACITY, Belady::new(requests))),
    ]
}

/// Gives up the leaf that was used longest ago, the deepest first.
#[derive(Default)]
struct LruBlocks {
    now: u64,
    used: HashMap<u64, u64>,
}

impl Chooser for LruBlocks {
    fn request(&mut self, request: &Request) {
        self.now += 1;
        self.used.extend(request.path.iter().map(|key| (*key, self.now)));
    }

    fn victim(&self, leaves: &mut dyn Iterator<Item = (u64, u32)>) -> Option<u64> {
        let age = |key| self.now - self.used.get(&key).copied().unwrap_or(0);
        leaves.max_by_key(|(key, depth)| (age(*key), *depth, *key)).map(|(key, _)| key)
    }
}

/// The policy of this crate.
struct Reprise {
    policy: Policy,
    /// Prompts not yet asked for, of which the next few wait in the queue.
    to_come: VecDeque<Vec<NodeKey>>,
}

impl Reprise {
    fn new(queue: &[Request]) -> Self {
        let to_come = queue.iter().map(|request| keys(&request.path[..request.prompt])).collect();
        Self { policy: Policy::new(CAPACITY as u32), to_come }
    }
}

impl Chooser for Reprise {
    fn request(&mut self, request: &Request) {
        self.policy.request(&keys(&request.path[..request.prompt]));
        self.to_come.pop_front();
        self.policy.expect(self.to_come.iter().take(WAITING).map(Vec::as_slice));
    }

    fn grow(&mut self, request: &Request) {
        self.policy.grow(&keys(&request.path), request.prompt);
    }

    fn victim(&self, leaves: &mut dyn Iterator<Item = (u64, u32)>) -> Option<u64> {
        self.policy.victim(leaves.map(|(key, depth)| (NodeKey(key), depth))).map(|NodeKey(key)| key)
    }
}

fn keys(path: &[u64]) -> Vec<NodeKey> {
    path.iter().copied().map(NodeKey).collect()
}
