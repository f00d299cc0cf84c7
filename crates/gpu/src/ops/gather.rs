//! Rows of a tensor brought together in another.

use crate::buffer::Operand;
use crate::kernel::Access;
use crate::recorder::{Bind, Recorder};

/// `out[i] = x[rows[i]]`.
#[derive(Debug, Clone)]
pub(crate) struct Gather {
    pub(crate) x: Operand,
    /// Where the rows begin in the step's data.
    pub(crate) rows: u32,
    pub(crate) out: Operand,
}

const INVOCATIONS: u32 = 128;

pub(crate) fn record(recorder: &mut Recorder, op: &Gather) {
    recorder.dispatch(
        ("gather", &[]),
        || include_str!("gather.wgsl").to_owned(),
        &[
            (Access::Read, Bind::Buffer(op.x.buffer.clone())),
            (Access::Read, Bind::StepData),
            (Access::Write, Bind::Buffer(op.out.buffer.clone())),
        ],
        &[op.x.width, op.rows],
        [op.x.width.div_ceil(INVOCATIONS), op.out.rows, 1],
    );
}
