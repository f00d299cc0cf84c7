//! Caches of whole prompts or conversations, as published policies have them.
//!
//! They share the blocks of common prefixes, and find the longest prefix over all entries. What they lack is to give up
//! less than an entry at a time. An entry's size is its number of blocks, shared or not.

use std::collections::{HashMap, VecDeque};

use crate::{Contender, Request};

/// Decides over entries.
pub(crate) trait Entries {
    /// An entry is used; `is_new` if it was not held.
    fn access(&mut self, id: u64, is_new: bool);
    /// An entry other than `running` to give up; it is forgotten.
    fn victim(&mut self, running: u64, sizes: &Sizes) -> Option<u64>;
}

/// Blocks of each entry.
pub(crate) type Sizes = HashMap<u64, usize>;

pub(crate) struct Whole<E> {
    capacity: usize,
    paths: HashMap<u64, Vec<u64>>,
    sizes: Sizes,
    /// Entries that hold each block.
    holders: HashMap<u64, u32>,
    entries: E,
}

impl<E: Entries> Whole<E> {
    pub(crate) fn new(capacity: usize, entries: E) -> Self {
        let (paths, sizes, holders) = Default::default();
        Self { capacity, paths, sizes, holders, entries }
    }

    fn drop(&mut self, id: u64) -> bool {
        self.sizes.remove(&id);
        let path = self.paths.remove(&id);
        for block in path.iter().flatten() {
            if let Some(holders) = self.holders.get_mut(block) {
                *holders -= 1;
                if *holders == 0 {
                    self.holders.remove(block);
                }
            }
        }
        path.is_some()
    }
}

impl<E: Entries> Contender for Whole<E> {
    fn serve(&mut self, request: &Request) -> usize {
        let prompt = &request.path[..request.prompt];
        let found = prompt.iter().take_while(|block| self.holders.contains_key(block)).count();
        let id = request.conversation;
        let was_held = self.drop(id);
        self.entries.access(id, !was_held);
        request.path.iter().for_each(|block| *self.holders.entry(*block).or_default() += 1);
        self.sizes.insert(id, request.path.len());
        self.paths.insert(id, request.path.clone());
        while self.holders.len() > self.capacity
            && let Some(victim) = self.entries.victim(id, &self.sizes)
        {
            self.drop(victim);
        }
        assert!(self.holders.len() <= self.capacity, "more blocks than there is memory");
        found
    }
}

/// A queue, the oldest first.
#[derive(Default)]
struct Queue(VecDeque<u64>);

impl Queue {
    fn blocks(&self, sizes: &Sizes) -> usize {
        self.0.iter().filter_map(|id| sizes.get(id)).sum()
    }

    fn remove(&mut self, id: u64) -> bool {
        let at = self.0.iter().position(|other| *other == id);
        at.and_then(|at| self.0.remove(at)).is_some()
    }

    /// The oldest other than one.
    fn oldest(&self, except: u64) -> Option<u64> {
        self.0.iter().copied().find(|id| *id != except)
    }

    fn push(&mut self, id: u64) {
        self.0.push_back(id);
    }
}

#[derive(Default)]
pub(crate) struct Lru(Queue);

impl Entries for Lru {
    fn access(&mut self, id: u64, _is_new: bool) {
        self.0.remove(id);
        self.0.push(id);
    }

    fn victim(&mut self, running: u64, _sizes: &Sizes) -> Option<u64> {
        let id = self.0.oldest(running)?;
        self.0.remove(id);
        Some(id)
    }
}

/// Yang et al., SOSP 2023: a small queue of a tenth, a main queue with second chances, ghosts for as many as are held.
pub(crate) struct S3Fifo {
    capacity: usize,
    small: Queue,
    main: Queue,
    ghosts: Queue,
    uses: HashMap<u64, u8>,
}

impl S3Fifo {
    pub(crate) fn new(capacity: usize) -> Self {
        let (small, main, ghosts) = Default::default();
        Self { capacity, small, main, ghosts, uses: HashMap::new() }
    }
}

impl Entries for S3Fifo {
    fn access(&mut self, id: u64, is_new: bool) {
        if !is_new {
            let uses = self.uses.entry(id).or_default();
            *uses = (*uses + 1).min(3);
            return;
        }
        self.uses.insert(id, 0);
        let queue = if self.ghosts.remove(id) { &mut self.main } else { &mut self.small };
        queue.push(id);
    }

    fn victim(&mut self, running: u64, sizes: &Sizes) -> Option<u64> {
        loop {
            let small = self.small.oldest(running).filter(|_| {
                self.small.blocks(sizes) > self.capacity / 10 || self.main.oldest(running).is_none()
            });
            if let Some(id) = small {
                self.small.remove(id);
                if self.uses.get(&id).is_some_and(|uses| *uses > 1) {
                    self.uses.insert(id, 0);
                    self.main.push(id);
                    continue;
                }
                self.uses.remove(&id);
                self.ghosts.push(id);
                if self.ghosts.0.len() > sizes.len() {
                    self.ghosts.0.pop_front();
                }
                return Some(id);
            }
            let id = self.main.oldest(running)?;
            self.main.remove(id);
            match self.uses.get_mut(&id).filter(|uses| **uses > 0) {
                Some(uses) => {
                    *uses -= 1;
                    self.main.push(id);
                }
                None => {
                    self.uses.remove(&id);
                    return Some(id);
                }
            }
        }
    }
}

/// Requests until [`TinyLfu`] halves its counts: ten times the entries that fit.
const HALVE_AFTER: u32 = 100;

/// Einziger et al., 2017: a window before a segmented LRU (four fifths protected), which takes in what is used more
/// often than what goes for it. The window is a tenth, because a hundredth would not hold one prompt. Uses are counted
/// exactly instead of in a sketch.
pub(crate) struct TinyLfu {
    window_blocks: usize,
    main_blocks: usize,
    protected_blocks: usize,
    window: Queue,
    probation: Queue,
    protected: Queue,
    uses: HashMap<u64, u32>,
    samples: u32,
}

impl TinyLfu {
    pub(crate) fn new(capacity: usize) -> Self {
        let main_blocks = capacity - capacity / 10;
        let (window, probation, protected) = Default::default();
        Self {
            window_blocks: capacity / 10,
            main_blocks,
            protected_blocks: main_blocks * 4 / 5,
            window,
            probation,
            protected,
            uses: HashMap::new(),
            samples: 0,
        }
    }

    fn uses(&self, id: u64) -> u32 {
        self.uses.get(&id).copied().unwrap_or(0)
    }

    fn is_admitted(&self, candidate: u64, victim: u64) -> bool {
        self.uses(candidate) > self.uses(victim)
    }
}

impl Entries for TinyLfu {
    fn access(&mut self, id: u64, is_new: bool) {
        *self.uses.entry(id).or_default() += 1;
        self.samples += 1;
        if self.samples.is_multiple_of(HALVE_AFTER) {
            self.uses.values_mut().for_each(|uses| *uses /= 2);
            self.uses.retain(|_, uses| *uses > 0);
        }
        if is_new || self.window.remove(id) {
            self.window.push(id);
        } else if self.probation.remove(id) || self.protected.remove(id) {
            self.protected.push(id);
        }
    }

    fn victim(&mut self, running: u64, sizes: &Sizes) -> Option<u64> {
        while self.protected.blocks(sizes) > self.protected_blocks
            && let Some(id) = self.protected.oldest(running)
        {
            self.protected.remove(id);
            self.probation.push(id);
        }
        loop {
            let main_victim = self.probation.oldest(running).or_else(|| self.protected.oldest(running));
            let main = self.probation.blocks(sizes) + self.protected.blocks(sizes);
            let overflow = self
                .window
                .oldest(running)
                .filter(|_| self.window.blocks(sizes) > self.window_blocks || main_victim.is_none());
            if let Some(candidate) = overflow {
                self.window.remove(candidate);
                let size = sizes.get(&candidate).copied().unwrap_or(0);
                if main + size <= self.main_blocks {
                    self.probation.push(candidate);
                    continue;
                }
                match main_victim.filter(|victim| self.is_admitted(candidate, *victim)) {
                    Some(_) => self.probation.push(candidate),
                    None => return Some(candidate),
                }
            }
            let victim = main_victim?;
            self.probation.remove(victim);
            self.protected.remove(victim);
            return Some(victim);
        }
    }
}
