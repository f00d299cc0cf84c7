//! Which held block is given up next.

use std::collections::HashMap;

use reprise_gguf::TokenId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Tenant;
use crate::tree::NodeAt;

/// A block under all the tokens before it: a hash, so an index and never proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeKey(pub(crate) u64);

impl NodeKey {
    pub(crate) fn root(tenant: Tenant) -> Self {
        Self(tenant.0)
    }

    pub(crate) fn child(self, tokens: &[TokenId]) -> Self {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.0.to_le_bytes()).collect();
        Self(xxh3_64_with_seed(&bytes, self.0))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Policy {
    now: u64,
    last: HashMap<NodeKey, (u64, u32)>,
}

impl Policy {
    pub(crate) fn new(_capacity: u32) -> Self {
        Self::default()
    }

    pub(crate) fn request(&mut self, path: &[NodeKey]) {
        self.now += 1;
        for key in path {
            let seen = self.last.entry(*key).or_default();
            *seen = (self.now, seen.1 + 1);
        }
    }

    pub(crate) fn grow(&mut self, path: &[NodeKey], from: usize) {
        for key in &path[from.min(path.len())..] {
            self.last.entry(*key).or_default().0 = self.now;
        }
    }

    pub(crate) fn victim(&self, leaves: impl Iterator<Item = (NodeAt, NodeKey, u32)>) -> Option<NodeAt> {
        let age = |key| self.last.get(&key).map_or(0, |(last, _)| *last);
        leaves.min_by_key(|(at, key, depth)| (age(*key), std::cmp::Reverse(*depth), *at)).map(|(at, ..)| at)
    }
}
