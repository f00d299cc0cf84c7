//! Inputs of the suite: the same floats on every run, brought to a backend through the operations it has.

use bytes::Bytes;
use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};
use reprise_gguf::{GgmlDType, MemorySource};

use crate::{Backend, ComputeError, Pass, Readback, Readout, SequenceLayout};

/// Every type of weight that a backend may be asked to take.
pub(super) const TYPES: [GgmlDType; 13] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

/// `len` floats around 0 with a standard deviation of about 1.
pub(super) fn floats(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    // The sum of three uniform numbers has a variance of 1/4 and tails like activations have.
    (0..len).map(|_| 2.0 * (uniform() + uniform() + uniform())).collect()
}

/// `values` as a backend's weight of type `dtype`.
pub(super) async fn weight<B: Backend>(
    backend: &B,
    dtype: GgmlDType,
    rows: usize,
    cols: usize,
    values: &[f32],
) -> Result<B::Weight, ComputeError> {
    let bytes = Tensor::from_slice(values, (rows, cols), &Device::Cpu)
        .and_then(|tensor| QTensor::quantize(&tensor, dtype))
        .and_then(|tensor| Ok(Bytes::copy_from_slice(&tensor.data()?)))
        .map_err(|e| ComputeError::Device(format!("cannot make the inputs: {e}")))?;
    weight_of(backend, dtype, rows, cols, bytes).await
}

/// All of `bytes` as a backend's weight.
pub(super) async fn weight_of<B: Backend>(
    backend: &B,
    dtype: GgmlDType,
    rows: usize,
    cols: usize,
    bytes: Bytes,
) -> Result<B::Weight, ComputeError> {
    let range = 0..bytes.len() as u64;
    backend.weight(dtype, rows, cols, &MemorySource(bytes), range).await
}

/// Activations on a backend, put there by looking them up in an f32 table.
pub(super) struct Rows<B: Backend> {
    table: B::Weight,
    ids: Vec<u32>,
    /// The rows, once [`Rows::load`] was recorded.
    pub(super) tensor: B::Tensor,
}

impl<B: Backend> Rows<B> {
    pub(super) async fn new(backend: &B, width: usize, values: &[f32]) -> Result<Self, ComputeError> {
        let rows = values.len() / width;
        let table = weight(backend, GgmlDType::F32, rows, width, values).await?;
        Ok(Self { table, ids: (0..rows as u32).collect(), tensor: backend.tensor(rows, width)? })
    }

    pub(super) fn load<P: Pass<Weight = B::Weight, Tensor = B::Tensor>>(&mut self, pass: &mut P) {
        pass.embed(&self.table, &self.ids, 1.0, &mut self.tensor);
    }
}

/// A step of `rows` tokens of one sequence from position 0, for operations that do not look at the KV.
pub(super) struct Plain {
    blocks: Vec<u32>,
    rows: usize,
}

impl Plain {
    pub(super) fn new(rows: usize) -> Self {
        Self { blocks: (0..rows.div_ceil(crate::BLOCK_TOKENS) as u32).collect(), rows }
    }

    pub(super) fn sequence(&self) -> [SequenceLayout<'_>; 1] {
        [SequenceLayout { rows: 0..self.rows, start: 0, blocks: &self.blocks }]
    }
}

/// Ends a step and gives the rows of `x`.
pub(super) async fn finish<P: Pass>(pass: P, x: &P::Tensor) -> Result<Vec<f32>, ComputeError> {
    let mut out = Readout::default();
    pass.finish(Readback::Rows(x), &mut out).await?;
    Ok(out.values)
}
