//! The second backend: plain loops in f64 over dequantised weights, one thread, nothing reused from the first.
//!
//! It says what every operation means; the op [`suite`](crate::suite) holds the others against it.

mod cells;
mod pass;
mod weight;

use std::ops::Range;

use reprise_gguf::{GgmlDType, ModelSource};

pub use cells::ReferenceKv;
pub use pass::ReferencePass;
pub use weight::ReferenceWeight;

use crate::source::whole;
use crate::{Backend, Cell, CellRun, ComputeError, KvShape, Rope, StepLayout};

/// What happens to activations before they meet quantised weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// They are used as they are.
    Exact,
    /// They are rounded to the 8-bit blocks of ggml's integer dot products, as the CPU backend does.
    EightBit,
}

/// The reference backend. Operands that do not fit together make it panic.
#[derive(Debug, Clone, Copy)]
pub struct Reference {
    rounding: Rounding,
}

impl Reference {
    /// A reference that treats activations as `rounding` says.
    #[must_use]
    pub fn new(rounding: Rounding) -> Self {
        Self { rounding }
    }
}

/// Activations `[rows, width]` in f64.
#[derive(Debug)]
pub struct ReferenceTensor {
    width: usize,
    data: Vec<f64>,
}

impl ReferenceTensor {
    fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.data.chunks_exact(self.width.max(1))
    }

    fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [f64]> {
        self.data.chunks_exact_mut(self.width.max(1))
    }
}

impl Backend for Reference {
    type Weight = ReferenceWeight;
    type Tensor = ReferenceTensor;
    type Kv = ReferenceKv;
    type Pass<'a> = ReferencePass<'a>;

    fn name(&self) -> String {
        "reference (f64)".to_owned()
    }

    async fn weight<S: ModelSource>(
        &self,
        dtype: GgmlDType,
        rows: usize,
        cols: usize,
        source: &S,
        range: Range<u64>,
    ) -> Result<Self::Weight, ComputeError> {
        ReferenceWeight::new(dtype, rows, cols, &whole(source, range).await?)
    }

    fn tensor(&self, _capacity: usize, width: usize) -> Result<Self::Tensor, ComputeError> {
        Ok(ReferenceTensor { width, data: Vec::new() })
    }

    fn kv(&self, shape: KvShape, blocks: u32) -> Result<Self::Kv, ComputeError> {
        Ok(ReferenceKv::new(shape, blocks))
    }

    fn pass<'a>(&'a mut self, layout: &'a StepLayout<'a>) -> Self::Pass<'a> {
        ReferencePass::new(self.rounding, layout)
    }

    fn copy_cells(&mut self, kv: &mut Self::Kv, copy: CellRun) -> Result<(), ComputeError> {
        kv.copy(copy)
    }

    fn rotate_cells(
        &mut self,
        kv: &mut Self::Kv,
        layer: usize,
        at: Cell,
        count: usize,
        delta: i32,
        rope: &Rope,
    ) -> Result<(), ComputeError> {
        kv.rotate(layer, at, count, delta, rope)
    }

    async fn export_block(
        &mut self,
        kv: &Self::Kv,
        block: u32,
        tokens: usize,
    ) -> Result<Vec<u8>, ComputeError> {
        kv.export(block, tokens)
    }

    fn import_block(
        &mut self,
        kv: &mut Self::Kv,
        block: u32,
        tokens: usize,
        data: &[u8],
    ) -> Result<(), ComputeError> {
        kv.import(block, tokens, data)
    }
}
