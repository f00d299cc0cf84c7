//! Stage 8: all that the scheduler may ask of a model.

use std::future::Future;

use reprise_compute::{CellRun, KvShape};
use reprise_gguf::TokenId;

use crate::ModelError;

/// A language model that evaluates tokens against KV blocks it owns.
///
/// Implemented by [`crate::Model`] and by the scheduler tests' scripted model. A failed call leaves the cells that it
/// was to write undefined and all others as they were.
pub trait Forward {
    /// Facts that never change while the model is loaded.
    fn info(&self) -> &ModelInfo;

    /// Evaluates the tokens of a step and fills `out` in the order of `batch`. K and V of every token are stored at its
    /// position through the sequence's block table.
    ///
    /// # Errors
    /// [`ModelError`] when a token is outside the vocabulary, a position outside the blocks, or the backend fails.
    fn forward(
        &mut self,
        batch: &[Sequence<'_>],
        out: &mut StepOutput,
    ) -> impl Future<Output = Result<(), ModelError>>;

    /// Copies cells of every layer.
    ///
    /// # Errors
    /// [`ModelError`] when a cell lies outside the KV memory.
    fn copy_cells(&mut self, copies: &[CellRun]) -> Result<(), ModelError>;

    /// Re-rotates stored K by whole positions (context shift, chunk reuse).
    ///
    /// # Errors
    /// [`ModelError`] when a cell lies outside the KV memory.
    fn shift(&mut self, shifts: &[CellShift]) -> Result<(), ModelError>;

    /// The first `tokens` cells of a block: `[layer][K, V][token][kv_head][head_dim] f16`.
    ///
    /// # Errors
    /// [`ModelError`] when the block was never written.
    fn export(&mut self, block: u32, tokens: u32) -> impl Future<Output = Result<Vec<u8>, ModelError>>;

    /// Writes an exported block back.
    ///
    /// # Errors
    /// [`ModelError`] when `data` has the wrong length.
    fn import(&mut self, block: u32, tokens: u32, data: &[u8]) -> Result<(), ModelError>;
}

/// Tokens of one sequence in a step.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    /// Tokens to evaluate, at least one.
    pub tokens: &'a [TokenId],
    /// Position of the first token.
    pub start: u32,
    /// Physical blocks that cover positions `0..start + tokens.len()`.
    pub blocks: &'a [u32],
    /// What to compute beyond the KV.
    pub output: Output,
}

/// What a sequence of a step gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Only the KV is wanted (all but the last chunk of a prompt).
    Nothing,
    /// Logits of the last token: one of [`StepOutput::scores`].
    LastLogits,
    /// The so many best of the last token's logits, below [`MAX_TOP`](reprise_compute::MAX_TOP): one of
    /// [`StepOutput::scores`]. All of them come instead when the best are not told apart by their values, so that
    /// nobody depends on an order among equals, and when another sequence of the step asks for all.
    Top(u32),
    /// As [`Self::LastLogits`], but of every token (a draft is verified): as many of [`StepOutput::scores`].
    EachLogits,
    /// As [`Self::Top`], but of every token.
    EachTop(u32),
    /// The normed hidden state of every token: rows of [`StepOutput::hidden`].
    Hidden,
}

impl Output {
    /// Whether [`StepOutput::scores`] answer it.
    #[must_use]
    pub fn wants_scores(self) -> bool {
        self.score_rows(1) > 0
    }

    /// How many of [`StepOutput::scores`] answer it for a sequence of `tokens`; they are its last tokens'.
    #[must_use]
    pub fn score_rows(self, tokens: usize) -> usize {
        match self {
            Self::Nothing | Self::Hidden => 0,
            Self::LastLogits | Self::Top(_) => tokens.min(1),
            Self::EachLogits | Self::EachTop(_) => tokens,
        }
    }

    /// The same of every token rather than of the last.
    #[must_use]
    pub fn of_each(self) -> Self {
        match self {
            Self::LastLogits => Self::EachLogits,
            Self::Top(count) => Self::EachTop(count),
            other => other,
        }
    }
}

/// Results of a step, reused from step to step.
#[derive(Debug, Default)]
pub struct StepOutput {
    /// `[rows that were asked for, vocabulary] f32`, in batch order; empty when [`Self::top`] has them.
    pub logits: Vec<f32>,
    /// The best logits of the rows that were asked for, in batch order; empty when [`Self::logits`] has them all.
    pub top: Top,
    /// `[tokens of sequences that asked for hidden states, width] f32`, in batch order.
    pub hidden: Vec<f32>,
}

/// The best logits of several tokens.
#[derive(Debug, Default)]
pub struct Top {
    /// Logits of a row; zero while there are none.
    pub count: usize,
    /// `[rows, count] f32`, descending, without equals.
    pub logits: Vec<f32>,
    /// Their tokens, `[rows, count]`.
    pub tokens: Vec<u32>,
}

/// Logits of one token.
#[derive(Debug, Clone, Copy)]
pub enum Scores<'a> {
    /// Of the whole vocabulary, by token id.
    All(&'a [f32]),
    /// The best, descending and without equals, and their tokens.
    Top {
        /// Logits.
        logits: &'a [f32],
        /// Token ids.
        tokens: &'a [u32],
    },
}

impl StepOutput {
    /// Forgets the results, and keeps the memory.
    pub fn clear(&mut self) {
        self.logits.clear();
        self.top.count = 0;
        self.top.logits.clear();
        self.top.tokens.clear();
        self.hidden.clear();
    }

    /// Logits of the `row`-th token that some were asked for, from a model of `vocab` tokens; `None` if there are none.
    #[must_use]
    pub fn scores(&self, row: usize, vocab: usize) -> Option<Scores<'_>> {
        if self.top.count == 0 {
            return self.logits.get(row * vocab..(row + 1) * vocab).map(Scores::All);
        }
        let range = row * self.top.count..(row + 1) * self.top.count;
        let (logits, tokens) = self.top.logits.get(range.clone()).zip(self.top.tokens.get(range))?;
        Some(Scores::Top { logits, tokens })
    }
}

/// Cells whose K is re-rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellShift {
    /// Physical block.
    pub block: u32,
    /// First cell in the block.
    pub offset: u32,
    /// How many cells of this block.
    pub count: u32,
    /// Positions moved by; negative towards the start.
    pub delta: i32,
}

/// Facts about a loaded model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, or empty.
    pub name: String,
    /// The file type in llama.cpp's words (`Q4_1`, `Q4_K - Medium`), for `/props` and `/v1/models`.
    pub file_type: String,
    /// Tokens in the vocabulary, the width of a row of logits.
    pub vocab: usize,
    /// Width of a hidden state.
    pub embedding: usize,
    /// Context length that the model was trained on, tokens.
    pub train_context: u32,
    /// Elements over all tensors.
    pub parameters: u64,
    /// Bytes over all tensors.
    pub bytes: u64,
    /// Shape of one token's KV.
    pub kv: KvShape,
    /// Some layers see only a window of positions.
    pub windowed: bool,
    /// BLAKE3 over what makes two models' KV interchangeable: hyper-parameters, RoPE, tensor directory, sampled tensor data.
    pub fingerprint: [u8; 32],
    /// Backend that computes it, in an operator's words.
    pub backend: String,
}
