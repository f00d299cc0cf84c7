//! The RAM tier: token lists that outlive their slots.
//!
//! An entry *shares* the blocks it holds: saving a slot costs no copy, loading an entry leaves it where it is. The tier
//! may hold a fixed number of distinct blocks; to take in a new entry it drops the oldest ones. An entry counts as new
//! again when it is loaded. An entry whose tokens are a prefix of another's is obsolete, so none is ever kept.
//!
//! This file is all there is to the tier; what it promises to the rest of the crate is the `pub(crate)` functions.

use std::collections::hash_map::Entry as Count;
use std::collections::{HashMap, HashSet, VecDeque};

use reprise_gguf::TokenId;

use crate::ids::count;
use crate::pool::Pool;
use crate::prefix::Reuse;
use crate::slot::Sequence;
use crate::{BlockId, EntryId, Eviction, Owner, Prompt};

#[derive(Debug)]
pub(crate) struct RamTier {
    /// Most distinct blocks.
    budget: u32,
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// How many entries hold each block.
    holders: HashMap<BlockId, u32>,
    next: u64,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: EntryId,
    pub(crate) content: Sequence,
}

/// What saving a token list would do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Save {
    /// An entry already starts with these tokens, or there are none.
    Covered,
    /// It does not fit, whatever is dropped.
    TooLarge,
    /// It fits, once these entries are gone.
    Fits { obsolete: Vec<EntryId>, evicted: Vec<Eviction> },
}

impl RamTier {
    pub(crate) fn new(budget: u32) -> Self {
        Self { budget, entries: VecDeque::new(), holders: HashMap::new(), next: 0 }
    }

    /// The entry from which most of the prompt can be reused, if that is more than `floor` tokens; the oldest of equals.
    pub(crate) fn best(&self, prompt: &Prompt<'_>, floor: u32) -> Option<(&Entry, Reuse)> {
        let mut best: Option<(&Entry, Reuse)> = None;
        for entry in &self.entries {
            let reuse = Reuse::of(&entry.content.tokens, prompt);
            if reuse.total() > best.as_ref().map_or(floor, |(_, reuse)| reuse.total()) {
                best = Some((entry, reuse));
            }
        }
        best
    }

    /// Whether an entry starts with these tokens.
    pub(crate) fn covers(&self, tokens: &[TokenId]) -> bool {
        self.entries.iter().any(|entry| entry.content.tokens.starts_with(tokens))
    }

    /// What [`RamTier::save`] would do if `newest` had been touched before.
    pub(crate) fn plan_save(&self, content: &Sequence, newest: Option<EntryId>) -> Save {
        if content.tokens.is_empty() || self.covers(&content.tokens) {
            return Save::Covered;
        }
        let mut room = Room::new(self, &content.blocks);
        let is_obsolete = |entry: &Entry| content.tokens.starts_with(&entry.content.tokens);
        let obsolete = self.entries.iter().filter(|entry| is_obsolete(entry));
        let obsolete = obsolete.inspect(|entry| room.give_up(entry)).map(|entry| entry.id).collect();
        let mut evicted = Vec::new();
        let (last, first): (Vec<_>, Vec<_>) = self.entries.iter().partition(|entry| Some(entry.id) == newest);
        let mut oldest = first.into_iter().chain(last).filter(|entry| !is_obsolete(entry));
        while room.blocks > self.budget as usize {
            let Some(entry) = oldest.next() else { return Save::TooLarge };
            room.give_up(entry);
            evicted.push(entry.eviction());
        }
        Save::Fits { obsolete, evicted }
    }

    /// Takes in a token list, sharing its blocks.
    pub(crate) fn save(&mut self, content: &Sequence, pool: &mut Pool) -> Save {
        let save = self.plan_save(content, None);
        if let Save::Fits { obsolete, evicted } = &save {
            let owners = evicted.iter().map(|eviction| eviction.owner);
            let gone: HashSet<Owner> = obsolete.iter().copied().map(Owner::Ram).chain(owners).collect();
            while let Some(at) = self.entries.iter().position(|entry| gone.contains(&Owner::Ram(entry.id))) {
                self.remove(at, pool);
            }
            content.blocks.iter().for_each(|block| *self.holders.entry(*block).or_default() += 1);
            self.entries.push_back(Entry { id: EntryId(self.next), content: content.share(pool) });
            self.next += 1;
        }
        save
    }

    pub(crate) fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Makes an entry the newest.
    pub(crate) fn touch(&mut self, id: EntryId) {
        if let Some(at) = self.entries.iter().position(|entry| entry.id == id) {
            self.entries.make_contiguous()[at..].rotate_left(1);
        }
    }

    /// Drops the oldest entry. Its blocks are free only where nobody shares them.
    pub(crate) fn evict_oldest(&mut self, pool: &mut Pool) -> Option<Eviction> {
        let eviction = self.entries.front()?.eviction();
        self.remove(0, pool);
        Some(eviction)
    }

    /// Distinct blocks held.
    pub(crate) fn blocks(&self) -> usize {
        self.holders.len()
    }

    fn remove(&mut self, at: usize, pool: &mut Pool) {
        for block in self.entries.remove(at).into_iter().flat_map(|entry| entry.content.blocks) {
            pool.release(block);
            if let Count::Occupied(mut holders) = self.holders.entry(block) {
                *holders.get_mut() -= 1;
                if *holders.get() == 0 {
                    holders.remove();
                }
            }
        }
    }

    /// Invariants; see [`crate::Cache::check`].
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut holders = HashMap::new();
        for entry in &self.entries {
            entry.content.blocks.iter().for_each(|block| *holders.entry(*block).or_default() += 1);
            let others = self.entries.iter().filter(|other| other.id != entry.id);
            if others.into_iter().any(|other| other.content.tokens.starts_with(&entry.content.tokens)) {
                return Err(format!("{:?} is a prefix of another entry", entry.id));
            }
        }
        if holders != self.holders {
            return Err("the RAM tier's block counts are wrong".into());
        }
        if self.blocks() > self.budget as usize {
            return Err(format!("the RAM tier holds {} blocks of {}", self.blocks(), self.budget));
        }
        Ok(())
    }
}

impl Entry {
    fn eviction(&self) -> Eviction {
        Eviction { owner: Owner::Ram(self.id), tokens: count(&self.content.tokens) }
    }
}

/// Distinct blocks of the tier while entries are given up one by one for a new one.
struct Room<'a> {
    tier: &'a RamTier,
    wanted: HashSet<BlockId>,
    given_up: HashMap<BlockId, u32>,
    blocks: usize,
}

impl<'a> Room<'a> {
    fn new(tier: &'a RamTier, wanted: &[BlockId]) -> Self {
        let new = wanted.iter().filter(|block| !tier.holders.contains_key(block)).count();
        let blocks = tier.blocks() + new;
        Self { tier, wanted: wanted.iter().copied().collect(), given_up: HashMap::new(), blocks }
    }

    fn give_up(&mut self, entry: &Entry) {
        for block in &entry.content.blocks {
            let given_up = self.given_up.entry(*block).or_default();
            *given_up += 1;
            if Some(&*given_up) == self.tier.holders.get(block) && !self.wanted.contains(block) {
                self.blocks -= 1;
            }
        }
    }
}
