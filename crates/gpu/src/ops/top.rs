//! The largest values of each row, found on the device in two stages: of pieces of a row, then of what the pieces gave.

use crate::buffer::{Buffer, Operand};
use crate::kernel::Access;
use crate::ops::with_constants;
use crate::recorder::{Bind, Recorder};

/// Columns of a piece: what one workgroup sorts.
pub(crate) const PIECE: u32 = 1024;

/// Words that the first stage needs for `count` values of each row of `x`.
pub(crate) fn scratch_words(x: &Operand, count: u32) -> u64 {
    2 * u64::from(x.rows) * u64::from(x.width.div_ceil(PIECE)) * u64::from(count)
}

/// Writes `count` pairs (value, column) of each row of `x` to `out`, by way of `scratch`.
pub(crate) fn record(recorder: &mut Recorder, x: &Operand, count: u32, (scratch, out): (&Buffer, &Buffer)) {
    let pieces = x.width.div_ceil(PIECE);
    recorder.dispatch(
        ("top_of_piece", &[]),
        || source(include_str!("top_of_piece.wgsl")),
        &[(Access::Read, Bind::Buffer(x.buffer.clone())), (Access::Write, Bind::Buffer(scratch.clone()))],
        &[x.width, count, pieces],
        [pieces, x.rows, 1],
    );
    recorder.dispatch(
        ("top_of_row", &[]),
        || source(include_str!("top_of_row.wgsl")),
        &[(Access::Read, Bind::Buffer(scratch.clone())), (Access::Write, Bind::Buffer(out.clone()))],
        &[pieces * count, count],
        [1, x.rows, 1],
    );
}

fn source(stage: &str) -> String {
    with_constants(&[("PIECE", PIECE)], &[include_str!("sort.wgsl"), stage])
}
