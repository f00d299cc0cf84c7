//! A slot: a token list over a block table.

use reprise_gguf::TokenId;

use crate::ids::{blocks_for, count};
use crate::pool::Pool;
use crate::{BlockId, Millis, Tenant};

/// A slot as others may see it. Token `i` lies at position `i`, in cell `i % 32` of `blocks[i / 32]`.
#[derive(Debug, Clone, Copy)]
pub struct SlotView<'a> {
    /// Tokens whose KV the slot holds, or is about to hold after [`crate::Cache::append`].
    pub tokens: &'a [TokenId],
    /// Physical blocks of these tokens. Cells are written only behind [`crate::Cache::append`].
    pub blocks: &'a [BlockId],
    /// Leading tokens whose KV is what evaluating them from an empty cache gives: all but those behind a context shift.
    pub exact: u32,
    /// Whose tokens they are.
    pub tenant: Tenant,
    /// A request runs on it, or a restore is staged.
    pub busy: bool,
    /// When its last request ended; `None` if it never ran one.
    pub last_used: Option<Millis>,
    /// Most tokens it may hold.
    pub n_ctx: u32,
}

impl SlotView<'_> {
    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> u32 {
        count(self.tokens)
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// Tokens with the blocks that hold their KV.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) blocks: Vec<BlockId>,
    /// Leading tokens whose KV is what evaluating these tokens gives. Behind a context shift or a moved chunk it is not: those
    /// cells saw other tokens before them.
    pub(crate) exact: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) content: Sequence,
    /// Whose content it is.
    pub(crate) tenant: Tenant,
    /// Full blocks of the content that the tree was given.
    pub(crate) indexed: u32,
    /// A request was launched since the last one on this slot ended: erasing the slot does not take back what llama-server
    /// would have in its prompt cache by then.
    pub(crate) published: bool,
    pub(crate) busy: bool,
    pub(crate) last_used: Option<Millis>,
    /// A restore that is being filled.
    pub(crate) staged: Option<Sequence>,
}

impl Sequence {
    pub(crate) fn len(&self) -> u32 {
        count(&self.tokens)
    }

    /// Keeps the first `len` tokens; gives the number dropped.
    pub(crate) fn truncate(&mut self, len: u32, pool: &mut Pool) -> u32 {
        let dropped = self.len().saturating_sub(len);
        if dropped > 0 {
            self.tokens.truncate(len as usize);
            self.exact = self.exact.min(len);
            self.blocks.drain(blocks_for(len) as usize..).for_each(|block| pool.release(block));
        }
        dropped
    }

    /// The first `len` tokens and their blocks; nothing is held for it.
    pub(crate) fn head(mut self, len: u32) -> Self {
        self.tokens.truncate(len as usize);
        self.blocks.truncate(blocks_for(len) as usize);
        self.exact = self.exact.min(len);
        self
    }

    /// The same tokens in the same blocks, held once more.
    pub(crate) fn share(&self, pool: &mut Pool) -> Self {
        self.blocks.iter().for_each(|block| pool.share(*block));
        self.clone()
    }
}

impl Slot {
    pub(crate) fn len(&self) -> u32 {
        self.content.len()
    }

    pub(crate) fn is_idle_with_tokens(&self) -> bool {
        !self.busy && !self.content.tokens.is_empty()
    }

    /// Replaces the content; the new one's blocks are already held for the slot.
    pub(crate) fn replace(&mut self, content: Sequence, pool: &mut Pool) {
        self.content.truncate(0, pool);
        self.content = content;
        self.indexed = 0;
    }
}
