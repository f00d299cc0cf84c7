//! Embedding look-up: rows of a quantised table, dequantised and scaled.

use reprise_gguf::GgmlDType;

use crate::buffer::Operand;
use crate::kernel::Access;
use crate::recorder::{Bind, Recorder};
use crate::weights::{self, GpuWeight};

/// `out[row] = table[token(row)] * scale`.
#[derive(Debug, Clone)]
pub(crate) struct Embed {
    pub(crate) table: GpuWeight,
    /// Where the tokens begin in the step's data.
    pub(crate) tokens: u32,
    pub(crate) scale: f32,
    pub(crate) out: Operand,
}

/// Elements that one invocation looks up: a group of the weights' snippets.
const GROUP: u32 = 32;
const INVOCATIONS: u32 = 64;

pub(crate) fn record(recorder: &mut Recorder, op: &Embed) {
    let cols = op.out.width;
    let dtype = op.table.dtype;
    for part in &op.table.parts {
        recorder.dispatch(
            ("embed", &[dtype as u32]),
            || source(dtype),
            &[
                (Access::Read, Bind::Buffer(part.buffer.clone())),
                (Access::Read, Bind::StepData),
                (Access::Write, Bind::Buffer(op.out.buffer.clone())),
            ],
            &[
                cols,
                op.tokens,
                op.scale.to_bits(),
                part.base,
                op.table.row_quads,
                part.first,
                part.rows,
                cols.div_ceil(GROUP),
            ],
            [cols.div_ceil(GROUP * INVOCATIONS), op.out.rows, 1],
        );
    }
}

/// A type that has no snippet has no weights either: they are refused when they are loaded.
fn source(dtype: GgmlDType) -> String {
    let values = weights::values(dtype, "0").unwrap_or_default();
    [include_str!("embed.wgsl"), weights::common(), &values].concat()
}
