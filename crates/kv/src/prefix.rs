//! Stage 6: how much of a prompt is already in a cached token list.

use reprise_gguf::TokenId;

use crate::ids::{BLOCK_TOKENS, count};
use crate::limit::Layout;
use crate::slot::Sequence;
use crate::{ChunkMove, Prompt};

/// Length of the longest common prefix, token by token.
pub(crate) fn common_prefix(a: &[TokenId], b: &[TokenId]) -> u32 {
    a.iter().zip(b).take_while(|(a, b)| a == b).count() as u32
}

/// What a prompt can take over from a cached token list.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Reuse {
    /// Leading tokens taken over in place.
    pub(crate) prefix: u32,
    /// Runs taken over at another position.
    pub(crate) chunks: Vec<ChunkMove>,
}

impl Reuse {
    /// llama-server's count, exactly: the common prefix, then moved chunks if asked for, less the last token when that
    /// would leave nothing to evaluate (its logits are needed).
    pub(crate) fn of(cached: &[TokenId], prompt: &Prompt<'_>) -> Self {
        if !prompt.cache_prompt {
            return Self::default();
        }
        let mut reuse = Self { prefix: common_prefix(cached, prompt.tokens), chunks: Vec::new() };
        if prompt.reuse_chunk > 0 {
            reuse.chunks = chunks(cached, prompt.tokens, reuse.prefix as usize, prompt.reuse_chunk);
        }
        if reuse.total() == count(prompt.tokens) {
            reuse.shorten();
        }
        reuse
    }

    /// Tokens that need no evaluation.
    pub(crate) fn total(&self) -> u32 {
        self.prefix + self.moved()
    }

    /// Tokens taken over at another position.
    pub(crate) fn moved(&self) -> u32 {
        self.chunks.iter().map(|chunk| chunk.count).sum()
    }

    /// How the result lies in memory. Moved cells go to new blocks, and a partly kept block is copied with them.
    pub(crate) fn layout<'a>(&self, source: &'a Sequence) -> Layout<'a> {
        let kept =
            if self.chunks.is_empty() { self.prefix } else { self.prefix - self.prefix % BLOCK_TOKENS };
        Layout { blocks: &source.blocks, kept, own: self.total() - kept }
    }

    fn shorten(&mut self) {
        match self.chunks.last_mut() {
            Some(last) if last.count > 1 => last.count -= 1,
            Some(_) => drop(self.chunks.pop()),
            None => self.prefix = self.prefix.saturating_sub(1),
        }
    }
}

/// Runs of at least `shortest` tokens behind position `start` that occur in `cached` further on, in order. Only
/// deletions from the cached text are bridged: the position in the prompt never skips.
fn chunks(cached: &[TokenId], prompt: &[TokenId], start: usize, shortest: u32) -> Vec<ChunkMove> {
    let (mut from, mut to) = (start, start);
    let mut chunks = Vec::new();
    while from < cached.len() && to < prompt.len() {
        let run = common_prefix(&cached[from..], &prompt[to..]);
        if run >= shortest {
            chunks.push(ChunkMove { from: from as u32, to: to as u32, count: run });
            from += run as usize;
            to += run as usize;
        } else {
            from += 1;
        }
    }
    chunks
}
