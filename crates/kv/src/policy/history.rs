//! What is remembered of blocks, held by some shadow cache or not.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::NodeKey;
use super::experts::{Expert, Habit, Time};

/// Records per block of capacity: one held, and four ghosts. The shadow caches together hold at most three.
const RECORDS: usize = 5;

/// A block.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) key: NodeKey,
    pub(super) parent: Option<u32>,
    /// Blocks up to it, itself included.
    pub(super) depth: u32,
    /// Requests that have asked for it.
    pub(super) uses: u32,
    /// When it was last asked for.
    pub(super) last: u64,
    pub(super) habit: Habit,
    /// Records behind it.
    children: u32,
    /// By which shadow cache it is held, and how many of its children.
    pub(super) held: [bool; Expert::COUNT],
    pub(super) held_children: [u32; Expert::COUNT],
    /// The last call that named it, so that nothing on its path is given up meanwhile.
    pub(super) call: u64,
}

/// The records, as a tree. A block is never asked for without those before it, so it is never younger than they.
#[derive(Debug)]
pub(super) struct History {
    limit: usize,
    call: u64,
    index: HashMap<NodeKey, u32>,
    records: Vec<Record>,
    free: Vec<u32>,
    /// Records that no shadow cache holds: the oldest first, of one path the deepest.
    ghosts: BTreeSet<(u64, Reverse<u32>, u32)>,
}

impl History {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            limit: RECORDS * capacity as usize,
            call: 0,
            index: HashMap::new(),
            records: Vec::new(),
            free: Vec::new(),
            ghosts: BTreeSet::new(),
        }
    }

    pub(super) fn get(&self, key: NodeKey) -> Option<&Record> {
        self.index.get(&key).map(|at| self.at(*at))
    }

    pub(super) fn at(&self, at: u32) -> &Record {
        &self.records[at as usize]
    }

    pub(super) fn at_mut(&mut self, at: u32) -> &mut Record {
        &mut self.records[at as usize]
    }

    /// Counts a use of every block of a path now.
    pub(super) fn request(&mut self, path: &[NodeKey], time: &Time) -> Vec<u32> {
        self.walk(path, time.now, |record, is_new| {
            if !is_new {
                record.habit.again(time.now - record.last, time);
                record.uses = record.uses.saturating_add(1);
            }
            record.last = time.now;
        })
    }

    /// Puts blocks behind the first `from` of a path; new and known ones are as old as the block they lie behind.
    pub(super) fn grow(&mut self, path: &[NodeKey], from: usize, time: &Time) -> Vec<u32> {
        let base = path[..from.min(path.len())].last().and_then(|key| self.get(*key));
        let last = base.map_or(time.now, |record| record.last);
        self.walk(path, last, |record, _| record.last = record.last.max(last))
    }

    /// The path's records, made where there are none.
    fn walk(&mut self, path: &[NodeKey], last: u64, mut visit: impl FnMut(&mut Record, bool)) -> Vec<u32> {
        self.call += 1;
        let mut parent = None;
        let mut walked = Vec::with_capacity(path.len());
        for key in path {
            let (at, is_new) = match self.index.get(key) {
                Some(at) => (*at, false),
                None => (self.create(*key, parent, last), true),
            };
            let record = &mut self.records[at as usize];
            self.ghosts.remove(&record.as_ghost(at));
            record.call = self.call;
            visit(record, is_new);
            walked.push(at);
            parent = Some(at);
        }
        walked
    }

    /// A block seen for the first time. If it is the first behind its parent it continues a text, and will be asked for
    /// when the text is: it takes over its parent's habit. Otherwise it is one of several that only start the same, as
    /// with a common system prompt, and has a habit of its own to prove.
    fn create(&mut self, key: NodeKey, parent: Option<u32>, last: u64) -> u32 {
        let (mut depth, mut habit) = (1, Habit::NEW);
        if let Some(parent) = parent {
            let parent = self.at_mut(parent);
            depth = parent.depth + 1;
            if parent.children == 0 {
                habit = parent.habit;
            }
            parent.children += 1;
        }
        let (held, held_children) = Default::default();
        let record =
            Record { key, parent, depth, uses: 1, last, habit, children: 0, held, held_children, call: 0 };
        let at = match self.free.pop() {
            Some(at) => {
                self.records[at as usize] = record;
                at
            }
            None => {
                self.records.push(record);
                self.records.len() as u32 - 1
            }
        };
        self.index.insert(key, at);
        at
    }

    /// Whether the current call named a record.
    pub(super) fn is_named(&self, at: u32) -> bool {
        self.at(at).call == self.call
    }

    /// No shadow cache holds the record any more.
    pub(super) fn bury(&mut self, at: u32) {
        self.ghosts.insert(self.at(at).as_ghost(at));
    }

    /// Drops the oldest ghosts until the limit is kept.
    pub(super) fn forget(&mut self) {
        while self.index.len() > self.limit
            && let Some((_, _, at)) = self.ghosts.pop_first()
        {
            let Record { key, parent, .. } = *self.at(at);
            self.index.remove(&key);
            self.free.push(at);
            if let Some(parent) = parent {
                self.at_mut(parent).children -= 1;
            }
        }
    }

    /// Records in use, and ever made.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.index.len(), self.records.len())
    }

    /// All records in use.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &Record)> {
        self.index.values().map(|at| (*at, self.at(*at)))
    }

    /// Whether the records are a tree, and the ghosts just those that nobody holds.
    #[cfg(test)]
    pub(super) fn check(&self) -> Result<(), String> {
        for (at, record) in self.all() {
            if self.all().filter(|(_, child)| child.parent == Some(at)).count() != record.children as usize {
                return Err(format!("children of {record:?} are miscounted"));
            }
            if record.parent.is_some_and(|parent| self.at(parent).last < record.last) {
                return Err(format!("{record:?} is younger than its parent"));
            }
            let is_ghost = record.held == [false; Expert::COUNT];
            if self.ghosts.contains(&record.as_ghost(at)) != is_ghost {
                return Err(format!("{record:?} is a ghost: {is_ghost}"));
            }
        }
        let ghosts = self.all().filter(|(_, record)| record.held == [false; Expert::COUNT]).count();
        if self.ghosts.len() == ghosts { Ok(()) } else { Err("ghosts without a record".into()) }
    }
}

impl Record {
    fn as_ghost(&self, at: u32) -> (u64, Reverse<u32>, u32) {
        (self.last, Reverse(self.depth), at)
    }
}
