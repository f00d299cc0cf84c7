//! Matrix products with weights that stay quantised.
//!
//! One WGSL body (`linear.wgsl`) serves decode and prefill: it multiplies a tile of 1, 2, 4 or 8 activation rows with a tile
//! of weight rows, reading each weight once a tile of rows. RMSNorm of the input, several projections, biases, the residual
//! and the gated activation are part of it. An output element is summed in the same order whatever the number of rows,
//! so results are batch-invariant, bit for bit, in every variant.

mod kernel;
mod plan;
#[cfg(test)]
mod tests;

use reprise_compute::Activation;

use crate::buffer::Buffer;
use crate::weights::GpuWeight;

pub(crate) use kernel::LinearKernel;
pub(crate) use plan::{can_gate, plan};

/// What the device offers beyond plain WGSL, as far as it is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    /// The smallest number of invocations in a subgroup; 0 without subgroup operations.
    pub(crate) subgroup: u32,
    /// Round activations to 8 bits and multiply integers.
    pub(crate) dot4: bool,
    /// Multiply in f16. Where `dot4` is set too, integers are multiplied instead.
    pub(crate) f16: bool,
    /// Most rows that a kernel computes together: 1, 2, 4 or 8.
    pub(crate) rows: u32,
}

impl Default for Variant {
    fn default() -> Self {
        Self { subgroup: 0, dot4: false, f16: false, rows: 8 }
    }
}

/// Products of the same activations with some weights.
#[derive(Debug)]
pub(crate) struct LinearOp<'a> {
    /// `[rows, cols] f32`, the buffer's length a multiple of 16 bytes.
    pub(crate) x: &'a Buffer,
    /// Rows in use.
    pub(crate) rows: u32,
    /// Weight (a vector of `cols`) and epsilon of an RMSNorm of `x` before the product.
    pub(crate) norm: Option<(&'a GpuWeight, f32)>,
    /// The weights, each `[width, cols]`. A gated activation takes two of the same width, the gate's and the other; only
    /// the first's `out` is written.
    pub(crate) outputs: &'a [LinearOutput<'a>],
    /// What becomes of the products.
    pub(crate) epilogue: Epilogue,
}

/// One weight and where its products go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinearOutput<'a> {
    /// `[width, cols]`.
    pub(crate) weight: &'a GpuWeight,
    /// `[1, width]`, added to the products.
    pub(crate) bias: Option<&'a GpuWeight>,
    /// `[rows, width] f32`; not the buffer of another output or of the activations.
    pub(crate) out: &'a Buffer,
}

/// What becomes of the products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Epilogue {
    /// `out = y`.
    Store,
    /// `out += y`.
    Add,
    /// `out = silu(y0) * y1`.
    Silu,
    /// `out = gelu(y0) * y1`, the tanh approximation.
    Gelu,
}

impl Epilogue {
    fn is_gate(self) -> bool {
        matches!(self, Self::Silu | Self::Gelu)
    }
}

impl From<Activation> for Epilogue {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Silu => Self::Silu,
            Activation::Gelu => Self::Gelu,
        }
    }
}

/// One dispatch of a kernel.
#[derive(Debug)]
pub(crate) struct LinearDispatch<'a> {
    pub(crate) kernel: LinearKernel,
    /// The uniform at binding 0, at most 64 words.
    pub(crate) params: Vec<u32>,
    /// Storage buffers from binding 1 on, as [`LinearKernel::accesses`] has them. Independent of the number of rows.
    pub(crate) buffers: Vec<&'a Buffer>,
    /// Workgroups.
    pub(crate) grid: [u32; 3],
}
