//! KV cells moved and turned: copies within a layer, and new positions for stored keys.

use reprise_compute::{BLOCK_TOKENS, Cell, CellRun};

use crate::buffer::Buffer;
use crate::kernel::Access;
use crate::kv::GpuKv;
use crate::ops::heads::RopeAt;
use crate::ops::with_constants;
use crate::recorder::{Bind, Recorder};

const INVOCATIONS: u32 = 64;

/// Index of a cell over all blocks.
fn index(cell: Cell) -> u32 {
    cell.block * BLOCK_TOKENS as u32 + cell.offset
}

/// Copies cells of all layers, one dispatch a layer; runs in one block may overlap.
pub(crate) fn copy(recorder: &mut Recorder, kv: &GpuKv, copy: CellRun) {
    for layer in kv.layers() {
        recorder.dispatch(
            ("copy_cells", &[]),
            || include_str!("copy_cells.wgsl").to_owned(),
            &[(Access::Write, Bind::Buffer(layer.clone()))],
            &[index(copy.from), index(copy.to), copy.count, kv.row_words()],
            [kv.row_words().div_ceil(INVOCATIONS) * u32::from(copy.count > 0), 2, 1],
        );
    }
}

/// Rotates K of `count` cells of a layer, all by the same angles: one row of `rope`.
pub(crate) fn rotate(
    recorder: &mut Recorder,
    (kv, layer): (&GpuKv, &Buffer),
    at: Cell,
    count: u32,
    rope: RopeAt,
) {
    let head_dim = kv.shape.head_dim as u32;
    recorder.dispatch(
        ("rotate_cells", &[head_dim]),
        || {
            let sources = [include_str!("half.wgsl"), include_str!("rotate_cells.wgsl")];
            with_constants(&[("HEAD_DIM", head_dim)], &sources)
        },
        &[(Access::Write, Bind::Buffer(layer.clone())), (Access::Read, Bind::StepData)],
        &[index(at), kv.row_words(), rope.data, rope.pairs, u32::from(rope.adjacent)],
        [kv.shape.kv_heads as u32, count, 1],
    );
}
