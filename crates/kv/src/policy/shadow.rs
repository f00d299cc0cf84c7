//! A cache of ids, run by one expert: what it would have found had it been in charge.

use std::collections::{BTreeSet, BinaryHeap};

use super::NodeKey;
use super::experts::{Expert, Time};
use super::history::History;

#[derive(Debug)]
pub(super) struct Shadow {
    expert: Expert,
    capacity: usize,
    held: usize,
    /// Held records without a held child.
    leaves: BTreeSet<u32>,
}

impl Shadow {
    pub(super) fn new(expert: Expert, capacity: u32) -> Self {
        Self { expert, capacity: capacity as usize, held: 0, leaves: BTreeSet::new() }
    }

    /// Leading blocks of a path that it holds.
    pub(super) fn found(&self, path: &[NodeKey], history: &History) -> u64 {
        let is_held = |key: &&NodeKey| history.get(**key).is_some_and(|record| record.held[self.id()]);
        path.iter().take_while(is_held).count() as u64
    }

    /// Takes in the path that was just named to the history; leaves go for it, but none that is on it.
    pub(super) fn admit(&mut self, path: &[u32], history: &mut History, time: &Time) {
        let id = self.id();
        let missing = path.iter().filter(|at| !history.at(**at).held[id]).count();
        self.make_room(missing, history, time);
        for at in path {
            let record = history.at_mut(*at);
            if !std::mem::replace(&mut record.held[id], true) {
                self.held += 1;
                self.leaves.insert(*at);
                if let Some(parent) = record.parent {
                    history.at_mut(parent).held_children[id] += 1;
                    self.leaves.remove(&parent);
                }
            }
        }
    }

    fn make_room(&mut self, blocks: usize, history: &mut History, time: &Time) {
        if self.held + blocks <= self.capacity {
            return;
        }
        let (id, expert) = (self.id(), self.expert);
        let rank = |at: u32, history: &History| (expert.rank(history.at(at), time), at);
        let others = self.leaves.iter().filter(|at| !history.is_named(**at));
        let mut others: BinaryHeap<_> = others.map(|at| rank(*at, history)).collect();
        while self.held + blocks > self.capacity
            && let Some((_, at)) = others.pop()
        {
            self.leaves.remove(&at);
            self.held -= 1;
            let record = history.at_mut(at);
            record.held[id] = false;
            let parent = record.parent;
            if record.held == [false; Expert::COUNT] {
                history.bury(at);
            }
            if let Some(parent) = parent {
                let record = history.at_mut(parent);
                record.held_children[id] -= 1;
                if record.held_children[id] == 0 {
                    self.leaves.insert(parent);
                    if !history.is_named(parent) {
                        others.push(rank(parent, history));
                    }
                }
            }
        }
    }

    fn id(&self) -> usize {
        self.expert as usize
    }

    /// Whether it keeps to its capacity, holds no block without its parent, and knows its leaves.
    #[cfg(test)]
    pub(super) fn check(&self, history: &History) -> Result<(), String> {
        let id = self.id();
        let held: Vec<_> = history.all().filter(|(_, record)| record.held[id]).collect();
        if held.len() != self.held || self.held > self.capacity {
            return Err(format!(
                "{} blocks held, {} counted, {} allowed",
                held.len(),
                self.held,
                self.capacity
            ));
        }
        for (at, record) in &held {
            if record.parent.is_some_and(|parent| !history.at(parent).held[id]) {
                return Err(format!("{record:?} is held without its parent"));
            }
            let children = held.iter().filter(|(_, child)| child.parent == Some(*at)).count();
            if children != record.held_children[id] as usize || self.leaves.contains(at) != (children == 0) {
                return Err(format!("{record:?} has {children} held children"));
            }
        }
        let leaves = held.iter().filter(|(_, record)| record.held_children[id] == 0).count();
        if self.leaves.len() == leaves { Ok(()) } else { Err("leaves that are not held".into()) }
    }
}
