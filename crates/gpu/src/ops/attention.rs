//! Causal attention over a block table.
//!
//! A workgroup takes a tile of rows of one sequence and some query heads of one KV head, so that each key and value it
//! reads serves all of them. It goes through the sequence in chunks of [`CHUNK`] positions, always from a multiple of it,
//! so that a row's result does not depend on the rows beside it.

use crate::buffer::{Buffer, Operand};
use crate::kernel::Access;
use crate::ops::with_constants;
use crate::recorder::{Bind, Recorder};

/// One layer's attention of every row of the step.
#[derive(Debug, Clone)]
pub(crate) struct Attend {
    pub(crate) q: Operand,
    pub(crate) out: Operand,
    pub(crate) layer: Buffer,
    pub(crate) shape: Shape,
    pub(crate) scale: f32,
    /// Positions that a row sees, its own included; `u32::MAX` for all.
    pub(crate) window: u32,
    pub(crate) softcap: Option<f32>,
    pub(crate) tiles: Tiles,
}

/// Heads of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) heads: u32,
    pub(crate) kv_heads: u32,
    pub(crate) head_dim: u32,
}

/// The step's rows in tiles, in its data: first row, rows, position of the first, and where the sequence's block table
/// begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiles {
    pub(crate) data: u32,
    pub(crate) count: u32,
    /// Most rows of a tile, which the kernel is compiled for.
    pub(crate) rows: u32,
}

/// Positions of a chunk, and invocations of a workgroup.
const CHUNK: u32 = 64;
/// Floats of queries that a workgroup holds; with the scores of a chunk this stays within half of WebGPU's 16 KiB.
const QUERY_FLOATS: u32 = 1024;
/// Most queries of a workgroup: their scores take `CHUNK` floats each.
const QUERIES: u32 = 16;

impl Shape {
    /// Floats of a head with padding.
    fn padded(self) -> u32 {
        self.head_dim.next_multiple_of(2)
    }

    /// Query heads that a workgroup takes of those that share a KV head; 0 when a head is too long for the kernel.
    pub(crate) fn heads_a_group(self) -> u32 {
        (self.heads / self.kv_heads).min(QUERY_FLOATS / self.padded()).min(QUERIES)
    }

    /// Rows of a tile when several rows of a sequence attend.
    pub(crate) fn rows_a_tile(self) -> u32 {
        (QUERY_FLOATS / self.padded()).min(QUERIES) / self.heads_a_group().max(1)
    }
}

pub(crate) fn record(recorder: &mut Recorder, op: &Attend) {
    let Shape { heads, kv_heads, head_dim } = op.shape;
    let (group, taken) = (heads / kv_heads, op.shape.heads_a_group());
    let variant = [head_dim, taken, op.tiles.rows, u32::from(op.softcap.is_some())];
    recorder.dispatch(
        ("attention", &variant),
        || source(&variant),
        &[
            (Access::Read, Bind::Buffer(op.q.buffer.clone())),
            (Access::Read, Bind::Buffer(op.layer.clone())),
            (Access::Read, Bind::StepData),
            (Access::Write, Bind::Buffer(op.out.buffer.clone())),
        ],
        &[
            heads,
            group,
            kv_heads * op.shape.padded() / 2,
            op.tiles.data,
            op.scale.to_bits(),
            op.window,
            op.softcap.unwrap_or(0.0).to_bits(),
        ],
        [op.tiles.count, kv_heads, group.div_ceil(taken)],
    );
}

fn source(&[head_dim, taken, rows, softcap]: &[u32; 4]) -> String {
    let words = head_dim.div_ceil(2);
    let queries = taken * rows;
    // Invocations that share the words of a value, and how many sets of them share the queries.
    let across = words.next_power_of_two().min(CHUNK);
    let sets = CHUNK / across;
    with_constants(
        &[
            ("HEAD_DIM", head_dim),
            ("WORDS", words),
            ("TAKEN", taken),
            ("QUERIES", queries),
            ("CHUNK", CHUNK),
            ("LANES", CHUNK / QUERIES),
            ("ACROSS", across),
            ("SETS", sets),
            ("OWN_WORDS", words.div_ceil(across)),
            ("OWN_QUERIES", queries.div_ceil(sets)),
            ("SOFTCAP", softcap),
        ],
        &[include_str!("tanh.wgsl"), include_str!("attention.wgsl")],
    )
}
