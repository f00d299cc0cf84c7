//! RMSNorm of rows; with `add`, the normed row is added to what `out` holds.

use crate::buffer::{Buffer, Operand};
use crate::kernel::Access;
use crate::ops::with_constants;
use crate::recorder::{Bind, Recorder};

/// `out = x / rms(x) * weight`, or `out += ...`.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    pub(crate) x: Operand,
    pub(crate) weight: Vector,
    pub(crate) eps: f32,
    pub(crate) out: Operand,
    pub(crate) add: bool,
}

/// A vector of floats somewhere in a buffer.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    pub(crate) buffer: Buffer,
    /// Index of its first float.
    pub(crate) base: u32,
    /// The weight that it is, for kernels that take it as such.
    pub(crate) weight: crate::weights::GpuWeight,
}

pub(crate) fn record(recorder: &mut Recorder, op: &Norm) {
    recorder.dispatch(
        ("norm", &[u32::from(op.add)]),
        || with_constants(&[("ADD", u32::from(op.add))], &[include_str!("norm.wgsl")]),
        &[
            (Access::Read, Bind::Buffer(op.x.buffer.clone())),
            (Access::Read, Bind::Buffer(op.weight.buffer.clone())),
            (Access::Write, Bind::Buffer(op.out.buffer.clone())),
        ],
        &[op.x.width, op.weight.base, op.eps.to_bits()],
        [1, op.x.rows, 1],
    );
}
