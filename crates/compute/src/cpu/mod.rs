//! The CPU backend: each operation is computed as it is recorded, on a fixed set of threads.
//!
//! Weights are repacked into memory of their own, or stay where the file was mapped; activations are f32, KV is f16.
//! Results do not depend on the number of threads, on which other tokens share the step, nor on the packing.

mod attention;
mod kv;
mod linear;
mod pass;
mod pool;
mod roof;
mod rope;
mod tensor;
mod weight;

use std::ops::Range;

use reprise_gguf::{GgmlDType, ModelSource};

pub use kv::CpuKv;
pub use pass::CpuPass;
pub use pool::HelperThread;
pub use roof::Roof;
pub use tensor::CpuTensor;
pub use weight::CpuWeight;

use crate::kernels::Isa;
use crate::kernels::arena::Arena;
use crate::source::whole;
use crate::{Backend, Cell, CellRun, ComputeError, KvShape, Rope, StepLayout};

/// Computes on the machine's processor.
#[derive(Debug)]
pub struct Cpu {
    threads: Threads,
    scratch: Scratch,
    /// Where weights are repacked to, if they are.
    arena: Option<Arena>,
    /// Most threads of a step with one row a sequence, and of others.
    limits: [usize; 2],
}

/// What the kernels run on.
#[derive(Debug)]
struct Threads {
    pool: pool::Pool,
    isa: Isa,
}

/// Memory reused from step to step.
#[derive(Debug, Default)]
struct Scratch {
    activations: linear::Activations,
    attention: attention::Scratch,
    rotations: rope::Rotations,
    positions: Vec<usize>,
}

impl Cpu {
    /// A backend on `threads` threads, the caller's counted; 0 counts as 1. Where the platform has no threads it
    /// computes on the caller's alone.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self::with_isa(threads, Isa::detect())
    }

    /// As [`Cpu::new`], on threads that the host starts: `spawn` is handed up to `threads - 1` helpers, one after the other, and
    /// says whether it has a thread for each; the first `false` ends it. A helper may begin at any time, or never: nobody waits
    /// for one that has not begun.
    #[must_use]
    pub fn with_helpers(threads: usize, spawn: impl FnMut(HelperThread) -> bool) -> Self {
        Self::on(pool::Pool::with_helpers(threads, spawn), Isa::detect())
    }

    /// Computes on an instruction set by name (`portable`, `avx2`, `avx512vnni`, `neon`, `neondotprod`) instead of the best one.
    ///
    /// # Errors
    /// [`ComputeError::Device`] when this machine has none of that name.
    pub fn with_instructions(mut self, name: &str) -> Result<Self, ComputeError> {
        self.threads.isa = Isa::named(name).ok_or_else(|| {
            let known: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
            ComputeError::Device(format!("no instruction set '{name}' here; there are {}", known.join(", ")))
        })?;
        Ok(self)
    }

    /// Leaves the weights where the file was mapped: half of the memory while the system keeps the file in its own, a quick
    /// start, and slower steps. Where there is no mapping there is nothing to choose.
    #[must_use]
    pub fn keep_mapped(self) -> Self {
        Self { arena: None, ..self }
    }

    /// Uses `decode` of the threads for steps that hold one row a sequence, and `batch` for others: decode is bound by memory,
    /// which a few threads exhaust.
    #[must_use]
    pub fn with_limits(self, decode: usize, batch: usize) -> Self {
        Self { limits: [decode, batch], ..self }
    }

    /// As [`Cpu::new`], on an instruction set that this machine has.
    pub(crate) fn with_isa(threads: usize, isa: Isa) -> Self {
        Self::on(pool::Pool::new(threads), isa)
    }

    fn on(pool: pool::Pool, isa: Isa) -> Self {
        Self {
            threads: Threads { pool, isa },
            scratch: Scratch::default(),
            arena: Some(Arena::default()),
            limits: [usize::MAX; 2],
        }
    }
}

impl Backend for Cpu {
    type Weight = CpuWeight;
    type Tensor = CpuTensor;
    type Kv = CpuKv;
    type Pass<'a> = CpuPass<'a>;

    fn name(&self) -> String {
        let threads = self.threads.pool.threads();
        let plural = if threads == 1 { "" } else { "s" };
        format!("CPU ({threads} thread{plural}, {})", self.threads.isa.name())
    }

    async fn weight<S: ModelSource>(
        &self,
        dtype: GgmlDType,
        rows: usize,
        cols: usize,
        source: &S,
        range: Range<u64>,
    ) -> Result<Self::Weight, ComputeError> {
        let weight = CpuWeight::new(dtype, rows, cols, whole(source, range.clone()).await?)?;
        let Some(arena) = &self.arena else { return Ok(weight) };
        let weight = weight.repacked(arena, &self.threads);
        if rows > 1 {
            source.release(range);
        }
        Ok(weight)
    }

    fn tensor(&self, capacity: usize, width: usize) -> Result<Self::Tensor, ComputeError> {
        CpuTensor::new(capacity, width)
    }

    fn kv(&self, shape: KvShape, blocks: u32) -> Result<Self::Kv, ComputeError> {
        CpuKv::new(shape, blocks)
    }

    fn pass<'a>(&'a mut self, layout: &'a StepLayout<'a>) -> Self::Pass<'a> {
        let [decode, batch] = self.limits;
        self.threads.pool.limit(if layout.rows() > layout.sequences.len() { batch } else { decode });
        CpuPass::new(&self.threads, &mut self.scratch, layout)
    }

    fn copy_cells(&mut self, kv: &mut Self::Kv, copy: CellRun) -> Result<(), ComputeError> {
        kv.copy_cells(copy)
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
        let KvShape { head_dim, keys: kv_type, .. } = kv.shape();
        let keys = kv.keys_mut(layer, at, count)?;
        rope::rotate_stored(self.threads.isa, (keys, kv_type), head_dim, delta, rope)
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

#[cfg(test)]
mod tests;
