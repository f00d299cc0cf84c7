//! Weights in GPU memory, kept in their GGUF quantisation.
//!
//! [`layout`] says where a row's bytes lie, [`upload`] brings them there piece by piece, and `<type>.wgsl` beside this file
//! reads 32 elements of a row back in a shader, composed by [`shader`].

mod layout;
mod shader;
mod upload;
mod vectors;

use reprise_gguf::GgmlDType;

use crate::buffer::Buffer;

pub(crate) use layout::QUAD_BYTES;
pub(crate) use shader::{access, common, is_quantised, render, values};
pub(crate) use upload::upload;
pub(crate) use vectors::Vectors;

/// The types of weight that there are kernels for.
#[cfg(test)]
pub(crate) const TYPES: [GgmlDType; 13] = [
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

/// A weight matrix `[rows, cols]` in GPU memory, or a vector `[1, cols]` of floats, which is always f32.
#[derive(Debug, Clone)]
pub struct GpuWeight {
    /// What the bytes are: the file's type, or F32 for a vector.
    pub(crate) dtype: GgmlDType,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// From row to row, in units of [`QUAD_BYTES`].
    pub(crate) row_quads: u32,
    /// The rows in order; more than one when the device binds less than the whole.
    pub(crate) parts: Vec<Part>,
}

/// Consecutive rows of a weight in one buffer.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) buffer: Buffer,
    /// Where the first row begins, in units of [`QUAD_BYTES`].
    pub(crate) base: u32,
    /// The first row.
    pub(crate) first: u32,
    pub(crate) rows: u32,
}

impl GpuWeight {
    /// A vector's buffer and where in it the first element lies, in f32; `None` for a matrix. Vectors share buffers.
    pub(crate) fn vector(&self) -> Option<(&Buffer, u32)> {
        match &self.parts[..] {
            [part] if self.rows == 1 => Some((&part.buffer, part.base * (QUAD_BYTES / 4) as u32)),
            _ => None,
        }
    }
}
