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
    /// Logits of the last token: one row of [`StepOutput::logits`].
    LastLogits,
    /// The normed hidden state of every token: rows of [`StepOutput::hidden`].
    Hidden,
}

/// Results of a step, reused from step to step.
#[derive(Debug, Default)]
pub struct StepOutput {
    /// `[sequences that asked for logits, vocabulary] f32`, in batch order.
    pub logits: Vec<f32>,
    /// `[tokens of sequences that asked for hidden states, width] f32`, in batch order.
    pub hidden: Vec<f32>,
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
    /// BLAKE3 over what makes two models' KV interchangeable: hyper-parameters, RoPE, tensor directory, sampled tensor data.
    pub fingerprint: [u8; 32],
    /// Backend that computes it, in an operator's words.
    pub backend: String,
}
