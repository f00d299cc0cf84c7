//! The seam every arithmetic backend stands behind: a few fused operations over activations, weights and KV memory.
//!
//! A model records one [`Pass`] a step: operations in order, then [`Pass::finish`]. The CPU backend computes each
//! operation as it is recorded; a GPU backend records them and submits once. Shapes are given as `[rows, width]`,
//! row-major; a row is one token of the step.

use std::future::Future;
use std::ops::Range;

use reprise_gguf::{GgmlDType, ModelSource};

use crate::{ComputeError, KvShape};

/// Tokens in one physical KV block. A block is the unit of allocation, of sharing and of the slot image.
pub const BLOCK_TOKENS: usize = 32;

/// Most values of a row that [`Readback::Top`] gives.
pub const MAX_TOP: usize = 128;

/// Allocates what a model computes with: weights, activations, KV memory.
pub trait Backend {
    /// A weight matrix `[rows, cols]` kept in its GGUF quantisation, or a vector `[1, cols]`.
    type Weight;
    /// Activations `[capacity, width] f32`; a pass uses the first rows.
    type Tensor;
    /// The KV memory of all layers, in blocks of [`BLOCK_TOKENS`] tokens.
    type Kv;
    /// Operations of one step.
    type Pass<'a>: Pass<Weight = Self::Weight, Tensor = Self::Tensor, Kv = Self::Kv>
    where
        Self: 'a;

    /// What this backend is, in an operator's words: `CPU (2 threads, AVX2)`.
    fn name(&self) -> String;

    /// Takes a weight of `rows * cols` elements, stored as GGUF stores it (rows contiguous, `cols` a multiple of the
    /// type's block size) in the bytes `range` of `source`. How they are read is the backend's business: a mapped file
    /// gives a view that it may keep, a device with its own memory takes them piece by piece.
    ///
    /// # Errors
    /// [`ComputeError`] when the type is not supported, the byte length does not match the shape, or the source fails.
    fn weight<S: ModelSource>(
        &self,
        dtype: GgmlDType,
        rows: usize,
        cols: usize,
        source: &S,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Self::Weight, ComputeError>>;

    /// Activations for up to `capacity` tokens. What a pass read back or read after writing it, a later pass may read;
    /// what a pass only wrote may never have been stored, where operations were fused.
    ///
    /// # Errors
    /// [`ComputeError`] when the memory cannot be had.
    fn tensor(&self, capacity: usize, width: usize) -> Result<Self::Tensor, ComputeError>;

    /// KV memory of `blocks` blocks. Blocks may be backed by memory only once they are written.
    ///
    /// # Errors
    /// [`ComputeError`] when the memory cannot be had.
    fn kv(&self, shape: KvShape, blocks: u32) -> Result<Self::Kv, ComputeError>;

    /// Starts a step of `layout.rows()` tokens.
    fn pass<'a>(&'a mut self, layout: &'a StepLayout<'a>) -> Self::Pass<'a>;

    /// Copies `copy.count` cells of every layer, K and V.
    ///
    /// # Errors
    /// [`ComputeError`] when a cell lies outside the KV memory.
    fn copy_cells(&mut self, kv: &mut Self::Kv, copy: CellRun) -> Result<(), ComputeError>;

    /// Re-rotates K of `count` cells of one layer by `delta` positions.
    ///
    /// # Errors
    /// [`ComputeError`] when a cell lies outside the KV memory.
    fn rotate_cells(
        &mut self,
        kv: &mut Self::Kv,
        layer: usize,
        at: Cell,
        count: usize,
        delta: i32,
        rope: &Rope,
    ) -> Result<(), ComputeError>;

    /// The first `tokens` cells of a block in the canonical layout `[layer][K, V][token][kv_head][head_dim] f16`.
    ///
    /// # Errors
    /// [`ComputeError`] when the block was never written or the read-back fails.
    fn export_block(
        &mut self,
        kv: &Self::Kv,
        block: u32,
        tokens: usize,
    ) -> impl Future<Output = Result<Vec<u8>, ComputeError>>;

    /// Writes what [`Backend::export_block`] gave into the first `tokens` cells of a block.
    ///
    /// # Errors
    /// [`ComputeError`] when `data` has not the length that the shape asks for.
    fn import_block(
        &mut self,
        kv: &mut Self::Kv,
        block: u32,
        tokens: usize,
        data: &[u8],
    ) -> Result<(), ComputeError>;
}

/// One step's operations, in order.
pub trait Pass {
    /// See [`Backend::Weight`].
    type Weight;
    /// See [`Backend::Tensor`].
    type Tensor;
    /// See [`Backend::Kv`].
    type Kv;

    /// `out[row] = table[token(row)] * scale`, with `tokens` one id a row.
    fn embed(&mut self, table: &Self::Weight, tokens: &[u32], scale: f32, out: &mut Self::Tensor);

    /// RMSNorm of each row over the whole width: `out = x / rms(x) * weight`.
    fn norm(&mut self, x: &Self::Tensor, weight: &Self::Weight, eps: f32, out: &mut Self::Tensor);

    /// RMSNorm of each head (`head_dim` wide) in place: QK norm.
    fn norm_heads(&mut self, x: &mut Self::Tensor, weight: &Self::Weight, eps: f32);

    /// Several projections of the same rows: `out = x * weight^T (+ bias)` for each. Activations are quantised once.
    fn linear(&mut self, x: &Self::Tensor, projections: &mut [Projection<'_, Self::Weight, Self::Tensor>]);

    /// Rotates every head of every row by the row's position.
    fn rope(&mut self, x: &mut Self::Tensor, head_dim: usize, rope: &Rope);

    /// Stores K and V of every row (`[rows, kv_heads * head_dim] f32`) as f16 at the row's cell.
    fn store_kv(&mut self, kv: &mut Self::Kv, layer: usize, k: &Self::Tensor, v: &Self::Tensor);

    /// Causal attention of every row over its sequence's cells `0..=position`, through the block table.
    fn attention(
        &mut self,
        kv: &Self::Kv,
        layer: usize,
        q: &Self::Tensor,
        spec: &Attention,
        out: &mut Self::Tensor,
    );

    /// `gate = activation(gate) * up`, in place.
    fn gate(&mut self, gate: &mut Self::Tensor, up: &Self::Tensor, activation: Activation);

    /// `x += y`.
    fn add(&mut self, x: &mut Self::Tensor, y: &Self::Tensor);

    /// Gathers the step rows named by `rows` into the first rows of `out`. Operations on `out` use `rows.len()` rows
    /// from then on.
    fn gather(&mut self, x: &Self::Tensor, rows: &[u32], out: &mut Self::Tensor);

    /// `x = tanh(x / cap) * cap`, in place (logit soft-capping).
    fn softcap(&mut self, x: &mut Self::Tensor, cap: f32);

    /// Submits what was recorded and replaces `out` by what `read` asks for.
    ///
    /// # Errors
    /// [`ComputeError`] of the first operation that failed, or of the device.
    fn finish(
        self,
        read: Readback<'_, Self::Tensor>,
        out: &mut Readout,
    ) -> impl Future<Output = Result<(), ComputeError>>;
}

/// What a finished pass reads back.
#[derive(Debug)]
pub enum Readback<'a, T> {
    /// Nothing.
    Nothing,
    /// The rows in use of a tensor.
    Rows(&'a T),
    /// Of each row in use the largest values with their columns, descending; among equal values the lower column comes
    /// first. A NaN counts, and is given, as negative infinity.
    Top {
        /// The tensor.
        of: &'a T,
        /// Values of a row, at most [`MAX_TOP`]; a narrower row gives all that it has.
        count: usize,
    },
}

/// Memory that readbacks fill, reused from step to step.
#[derive(Debug, Default)]
pub struct Readout {
    /// `[rows, width]` for [`Readback::Rows`], `[rows, count]` for [`Readback::Top`].
    pub values: Vec<f32>,
    /// The columns of `values`: `[rows, count]` for [`Readback::Top`], else empty.
    pub columns: Vec<u32>,
}

impl Readout {
    /// Forgets what was read, and keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.columns.clear();
    }
}

/// One output of [`Pass::linear`].
#[derive(Debug)]
pub struct Projection<'a, W, T> {
    /// `[out, in]`.
    pub weight: &'a W,
    /// `[1, out]`.
    pub bias: Option<&'a W>,
    /// `[rows, out]`.
    pub out: &'a mut T,
}

/// Which tokens a step holds and where their KV lies.
#[derive(Debug, Clone, Copy)]
pub struct StepLayout<'a> {
    /// The sequences of the step, rows in order and without gaps.
    pub sequences: &'a [SequenceLayout<'a>],
}

impl StepLayout<'_> {
    /// Tokens of the whole step.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.sequences.last().map_or(0, |s| s.rows.end)
    }
}

/// The rows of one sequence in a step.
#[derive(Debug, Clone)]
pub struct SequenceLayout<'a> {
    /// Rows of the step.
    pub rows: Range<usize>,
    /// Position of the first row in the sequence; position `p` lies in cell `p % BLOCK_TOKENS` of `blocks[p / BLOCK_TOKENS]`.
    pub start: usize,
    /// Physical blocks of the sequence, covering at least `start + rows.len()` positions.
    pub blocks: &'a [u32],
}

/// A place for one token's K and V in all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Physical block.
    pub block: u32,
    /// Cell in the block, below [`BLOCK_TOKENS`].
    pub offset: u32,
}

/// Cells to copy; neither side crosses a block's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellRun {
    /// First cell read.
    pub from: Cell,
    /// First cell written.
    pub to: Cell,
    /// How many.
    pub count: u32,
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Which elements of a head are rotated together.
    pub pairing: Pairing,
    /// Inverse frequency of each pair, radians a position, scaling and frequency factors already applied: `[rotated_dims / 2]`.
    pub inverse_frequencies: Vec<f32>,
}

/// Which two elements of a head make a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// `(2i, 2i + 1)`: GGUF's `llama`.
    Adjacent,
    /// `(i, i + dims / 2)`: GPT-NeoX's; `qwen2`, `qwen3`, `gemma3`.
    Halves,
}

/// Parameters of [`Pass::attention`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Query heads; a multiple of the KV heads.
    pub heads: usize,
    /// Factor on `q . k`.
    pub scale: f32,
    /// A row at position `p` sees positions above `p - window`; `None` sees all.
    pub window: Option<usize>,
    /// `tanh` cap on the scores.
    pub softcap: Option<f32>,
}

/// Activation of a gated feed-forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU, tanh approximation.
    Gelu,
}
