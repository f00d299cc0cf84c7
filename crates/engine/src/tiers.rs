//! The tier below memory: blocks that come back from the host's store, and blocks that go there.
//!
//! A request looks there once, when a slot is free for it, for what follows the blocks that memory has. Blocks go there when a second
//! request has asked for them, or the first asked for that itself, and all of them at a clean end; one block between two steps, so that
//! nobody waits for it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use reprise_gguf::TokenId;
use reprise_kv::stored::{BlockKey, StoredBlock, decode, encode};
use reprise_kv::{BLOCK_TOKENS, SlotId, Tenant};
use reprise_model::Forward;
use tracing::{info, warn};

use crate::engine::Engine;
use crate::{BlockStore, Clock, SlotStore};

/// Texts that wait to be stored; further ones are stored when they are asked for again.
const TEXTS: usize = 64;
/// Blocks that are read at the same time.
const READS: usize = 8;
const BLOCK: usize = BLOCK_TOKENS as usize;

/// What is to be stored, and what bringing blocks back has cost.
#[derive(Debug, Default)]
pub(crate) struct Tiers {
    texts: VecDeque<Text>,
    speed: ReadSpeed,
}

/// What a look into the store came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fetch {
    /// Tokens brought in.
    pub(crate) tokens: u32,
    /// Tokens that made way for them.
    pub(crate) evicted: u32,
}

/// A text whose first blocks are to be stored.
#[derive(Debug)]
struct Text {
    tenant: Tenant,
    tokens: Vec<TokenId>,
    /// Keys of the blocks to store.
    keys: Vec<BlockKey>,
    /// The first that was not looked at.
    next: usize,
}

/// Seconds that a byte takes from the store into memory, as it was lately.
#[derive(Debug)]
struct ReadSpeed {
    bytes: f64,
    seconds: f64,
}

impl Default for ReadSpeed {
    /// Before anything was read: a slow disk's 200 MB/s.
    fn default() -> Self {
        Self { bytes: 1e6, seconds: 5e-3 }
    }
}

impl ReadSpeed {
    fn seconds(&self, bytes: f64) -> f64 {
        bytes * self.seconds / self.bytes
    }

    /// What was measured counts as much as all that was before.
    fn learn(&mut self, bytes: f64, took: Duration) {
        if bytes > 0.0 {
            let weight = self.bytes / bytes;
            self.seconds = (self.seconds + took.as_secs_f64() * weight) / 2.0;
        }
    }

    /// A store that was too slow is tried again some time.
    fn doubt(&mut self) {
        self.seconds *= 0.9;
    }
}

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    /// Brings in the blocks of a prompt that memory lacks and the store has, if that is quicker than computing them. Whatever
    /// is wrong with a block, it is computed instead.
    pub(crate) async fn fetch(&mut self, tenant: Tenant, prompt: &[TokenId]) -> Fetch {
        let none = Fetch::default();
        let Some((resident, keys)) = self.missing(tenant, prompt) else { return none };
        let Some(store) = &self.blocks else { return none };
        let found = store.find(&keys[resident..]).await;
        if found == 0 {
            return none;
        }
        if !self.is_quicker(found) {
            self.tiers.speed.doubt();
            return none;
        }
        let started = self.clock.now();
        let staged = self.cache.stage(tenant, prompt, found as u32);
        let evicted = staged.evicted.iter().map(|eviction| eviction.tokens).sum();
        let mut filled = 0;
        while let Some(blocks) = staged.blocks.get(filled..).filter(|blocks| !blocks.is_empty()) {
            let first = resident + filled;
            let Some(store) = &self.blocks else { break };
            let wanted = blocks.len().min(READS);
            let read = join_all(keys[first..first + wanted].iter().map(|key| store.read(key))).await;
            let mut good = 0;
            for (bytes, block) in read.into_iter().zip(blocks) {
                let Some(bytes) = bytes else { break };
                let at = first + good;
                let stored = self.stored(tenant, &keys, prompt, at);
                if !self.take_block(block.index(), &stored, &bytes) {
                    break;
                }
                good += 1;
            }
            filled += good;
            if good < wanted {
                break;
            }
        }
        let took = self.clock.now().saturating_sub(started);
        self.tiers.speed.learn((filled as u64 * self.block_bytes()) as f64, took);
        self.cache.adopt(tenant, prompt, staged, filled);
        let tokens = (filled * BLOCK) as u32;
        info!("{tokens} tokens brought in from the store in {took:.1?}, {evicted} evicted for them");
        Fetch { tokens, evicted }
    }

    /// Tokens of a prompt that [`Engine::fetch`] would make resident in all, as far as is known without looking; 0 if it would bring
    /// in none.
    pub(crate) fn would_fetch(&self, tenant: Tenant, prompt: &[TokenId]) -> u32 {
        let (Some(store), Some((resident, keys))) = (&self.blocks, self.missing(tenant, prompt)) else {
            return 0;
        };
        let found = keys[resident..].iter().take_while(|key| store.holds(key)).count();
        if found > 0 && self.is_quicker(found) { ((resident + found) * BLOCK) as u32 } else { 0 }
    }

    /// How many of a prompt's blocks are in memory, and the keys of all, if there are more of them and a store to look in.
    fn missing(&self, tenant: Tenant, prompt: &[TokenId]) -> Option<(usize, Vec<BlockKey>)> {
        self.blocks.as_ref()?;
        let resident = self.cache.resident(tenant, prompt).len();
        // The last token is evaluated in any case.
        let whole = prompt.len().saturating_sub(1) / BLOCK;
        (whole > resident).then(|| (resident, self.keys(tenant, &prompt[..whole * BLOCK])))
    }

    /// Fills a block of memory with a stored one, if that is what it should be.
    fn take_block(&mut self, block: u32, stored: &StoredBlock<'_>, bytes: &[u8]) -> bool {
        let payload = match decode(bytes, stored, self.block_bytes()) {
            Ok(payload) => payload,
            Err(error) => {
                warn!(%error, "a stored block is not what it should be; it is removed and computed anew");
                self.blocks.iter().for_each(|store| store.discard(&stored.key));
                return false;
            }
        };
        match self.model.import(block, BLOCK_TOKENS, payload) {
            Ok(()) => true,
            Err(error) => {
                warn!("a stored block could not be taken in: {}", self.failure(&error));
                false
            }
        }
    }

    /// Whether reading so many blocks takes less time than computing them has taken lately.
    fn is_quicker(&self, blocks: usize) -> bool {
        let (tokens, time) = (self.metrics.prompt_tokens, self.metrics.prompt_time.as_secs_f64());
        let computing = (blocks * BLOCK) as f64 * time / tokens.max(1) as f64;
        let reading = self.tiers.speed.seconds((blocks as u64 * self.block_bytes()) as f64);
        // With nothing computed yet there is nothing to compare with.
        tokens == 0 || reading < computing
    }

    /// A request on this slot has ended: what of its text has proven that it will be asked for again is to be stored, or the
    /// `whole` text.
    pub(crate) fn note_for_store(&mut self, slot: SlotId, whole: bool) {
        let Some(store) = &self.blocks else { return };
        let view = self.cache.slot(slot);
        let tokens = &view.tokens[..view.exact as usize];
        let wanted = if whole { tokens.len() / BLOCK } else { self.cache.proven(view.tenant, tokens) };
        let keys = self.keys(view.tenant, &tokens[..wanted * BLOCK]);
        if keys.iter().all(|key| store.holds(key)) || self.tiers.texts.len() >= TEXTS {
            return;
        }
        let text = Text { tenant: view.tenant, tokens: tokens[..wanted * BLOCK].to_vec(), keys, next: 0 };
        self.tiers.texts.push_back(text);
    }

    /// Hands up to `most` blocks to the store; whether there was one.
    pub(crate) async fn store_some(&mut self, most: usize) -> bool {
        let mut handed = 0;
        while handed < most
            && let Some(mut text) = self.tiers.texts.pop_front()
        {
            match self.store_next(&mut text).await {
                Some(stored) => {
                    handed += usize::from(stored);
                    self.tiers.texts.push_front(text);
                }
                None => handed += usize::from(handed == 0),
            }
        }
        handed > 0
    }

    /// Stores everything that memory has, before the end.
    pub(crate) async fn store_everything(&mut self) {
        if self.blocks.is_none() {
            return;
        }
        let started = self.clock.now();
        let held: Vec<_> = self.cache.held().map(|(tenant, tokens, _)| (tenant, tokens)).collect();
        for (tenant, mut tokens) in held {
            tokens.truncate(tokens.len() - tokens.len() % BLOCK);
            let mut text = Text { tenant, keys: self.keys(tenant, &tokens), tokens, next: 0 };
            loop {
                let (at, next) = (text.next, self.store_next(&mut text).await);
                let key = text.keys.get(at).copied();
                let Some(store) = &self.blocks else { return };
                if next == Some(true) && key.is_some_and(|key| !store.holds(&key)) {
                    // The queue was full: there is time for one more try.
                    store.flush().await;
                    text.next = at;
                    let _ = self.store_next(&mut text).await;
                }
                if next.is_none() {
                    break;
                }
            }
        }
        let Some(store) = &self.blocks else { return };
        store.flush().await;
        info!(
            "prompt cache stored: {} blocks, {:.1?}",
            store.stats().blocks,
            self.clock.now().saturating_sub(started)
        );
    }

    /// Hands the next block of a text to the store, if that lacks it: whether it did. `None` when nothing more of the text can be
    /// stored.
    async fn store_next(&mut self, text: &mut Text) -> Option<bool> {
        let at = text.next;
        let key = *text.keys.get(at)?;
        if self.blocks.as_ref()?.holds(&key) {
            text.next += 1;
            return Some(false);
        }
        let block = *self.cache.resident(text.tenant, &text.tokens).get(at)?;
        let payload = match self.model.export(block.index(), BLOCK_TOKENS).await {
            Ok(payload) => payload,
            Err(error) => {
                let _ = self.failure(&error);
                return None;
            }
        };
        let stored = self.stored(text.tenant, &text.keys, &text.tokens, at);
        let header = Bytes::from(encode(&stored, &payload));
        self.blocks.as_ref()?.write(key, vec![header, Bytes::from(payload)]);
        text.next += 1;
        Some(true)
    }

    /// The `at`-th block of a text, of which `keys` are those of all before it.
    fn stored<'t>(
        &self,
        tenant: Tenant,
        keys: &[BlockKey],
        tokens: &'t [TokenId],
        at: usize,
    ) -> StoredBlock<'t> {
        let parent = at.checked_sub(1).map_or_else(|| self.root(tenant), |before| keys[before]);
        StoredBlock::new(parent, at as u32, &tokens[at * BLOCK..(at + 1) * BLOCK])
    }

    fn root(&self, tenant: Tenant) -> BlockKey {
        let salt = tenant.0.to_le_bytes();
        let salt = if tenant == Tenant::default() { &[][..] } else { &salt };
        BlockKey::root(&self.shared.model.fingerprint, &self.layout(), salt)
    }

    fn keys(&self, tenant: Tenant, tokens: &[TokenId]) -> Vec<BlockKey> {
        self.root(tenant).chain(tokens).collect()
    }

    /// Bytes of a full block's KV.
    fn block_bytes(&self) -> u64 {
        self.layout().token_bytes() * u64::from(BLOCK_TOKENS)
    }
}
