//! Blocks on their way from a persistent store into the tree, and which of the tree's are worth storing.

use reprise_gguf::TokenId;

use crate::ids::BLOCK_TOKENS;
use crate::slot::Sequence;
use crate::tree::keys;
use crate::{BlockId, Cache, Eviction, Tenant};

/// A block that so many requests have asked for has proven that it will be asked for again.
const PROVEN: u32 = 2;

/// Blocks to be filled from a store. [`Cache::adopt`] takes them back.
#[derive(Debug)]
#[must_use = "adopt them: their blocks are held for them"]
pub struct Fetched {
    /// In the order of the text; nobody else reads or writes them.
    pub blocks: Vec<BlockId>,
    /// What was given up for them.
    pub evicted: Vec<Eviction>,
}

impl Cache {
    /// The full blocks at the start of a text that lie in memory.
    #[must_use]
    pub fn resident(&self, tenant: Tenant, tokens: &[TokenId]) -> Vec<BlockId> {
        let mut held = self.tree.longest(tenant, tokens);
        held.blocks.truncate((held.len / BLOCK_TOKENS) as usize);
        held.blocks
    }

    /// How many of the full blocks at the start of a text were asked for more than once.
    #[must_use]
    pub fn proven(&self, tenant: Tenant, tokens: &[TokenId]) -> usize {
        let whole = tokens.len() - tokens.len() % BLOCK_TOKENS as usize;
        keys(tenant, &tokens[..whole]).into_iter().take_while(|key| self.policy.uses(*key) >= PROVEN).count()
    }

    /// Takes up to `wanted` blocks for what follows the resident blocks of a text, as many as there is room for.
    pub fn stage(&mut self, tenant: Tenant, tokens: &[TokenId], wanted: u32) -> Fetched {
        let resident = self.resident(tenant, tokens);
        let mut evicted = Vec::new();
        let mut wanted = wanted;
        while wanted > 0 {
            if let Some(blocks) = self.take(wanted, &resident, &mut evicted) {
                self.epoch += 1;
                return Fetched { blocks, evicted };
            }
            wanted /= 2;
        }
        Fetched { blocks: Vec::new(), evicted }
    }

    /// The first `filled` of the staged blocks hold what follows the resident blocks of a text: they are held from now on. The
    /// others are free.
    pub fn adopt(&mut self, tenant: Tenant, tokens: &[TokenId], fetched: Fetched, filled: usize) {
        self.epoch += 1;
        let mut blocks = self.resident(tenant, tokens);
        let before = blocks.len();
        blocks.iter().for_each(|block| self.pool.share(*block));
        for (index, block) in fetched.blocks.into_iter().enumerate() {
            if index < filled { blocks.push(block) } else { self.pool.release(block) }
        }
        let len = blocks.len() as u32 * BLOCK_TOKENS;
        let tokens = tokens[..len as usize].to_vec();
        let mut content = Sequence { tokens, blocks, exact: len };
        self.tree.insert(tenant, &mut content, len, false, &mut self.pool);
        self.policy.grow(&keys(tenant, &content.tokens), before);
        content.truncate(0, &mut self.pool);
    }
}
