//! The best possible: knows all requests to come and gives up the leaf that is asked for last.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

use crate::Request;
use crate::tree::Chooser;

pub(crate) struct Belady {
    /// Requests to come that ask for each block.
    uses: HashMap<u64, VecDeque<usize>>,
}

impl Belady {
    pub(crate) fn new(requests: &[Request]) -> Self {
        let mut uses: HashMap<u64, VecDeque<usize>> = HashMap::new();
        for (at, request) in requests.iter().enumerate() {
            for block in &request.path[..request.prompt] {
                uses.entry(*block).or_default().push_back(at);
            }
        }
        Self { uses }
    }
}

impl Chooser for Belady {
    fn request(&mut self, request: &Request) {
        for block in &request.path[..request.prompt] {
            self.uses.get_mut(block).and_then(VecDeque::pop_front);
        }
    }

    fn victim(&self, leaves: &mut dyn Iterator<Item = (u64, u32)>) -> Option<u64> {
        let next = |key| self.uses.get(&key).and_then(VecDeque::front).copied().unwrap_or(usize::MAX);
        leaves.max_by_key(|(key, depth)| (next(*key), *depth, Reverse(*key))).map(|(key, _)| key)
    }
}
