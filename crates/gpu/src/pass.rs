//! One step on the GPU: operations are checked and kept as they are recorded, then fused, dispatched and submitted
//! together. The first failure ends the step; `finish` reports it.

use reprise_compute::{
    Activation, Attention, BLOCK_TOKENS, ComputeError, MAX_TOP, Pairing, Pass, Projection, Readback, Readout,
    Rope, StepLayout,
};

use crate::backend::Gpu;
use crate::buffer::GpuTensor;
use crate::fuse::fuse;
use crate::kv::GpuKv;
use crate::linear::Epilogue;
use crate::ops::attention::{Attend, Shape, Tiles};
use crate::ops::embed::Embed;
use crate::ops::gather::Gather;
use crate::ops::heads::{Heads, Part, RopeAt, Store};
use crate::ops::map::{Function, Map};
use crate::ops::norm::{Norm, Vector};
use crate::ops::{Linear, Op};
use crate::rotations::rotations;
use crate::weights::GpuWeight;

/// The operations of one step.
pub struct GpuPass<'a> {
    gpu: &'a mut Gpu,
    layout: &'a StepLayout<'a>,
    ops: Vec<Op>,
    failure: Option<ComputeError>,
    /// What of the layout is in the step's data already.
    ropes: Vec<(Rope, RopeAt)>,
    cells: Option<u32>,
    tables: Option<Vec<u32>>,
    tiles: Vec<Tiles>,
}

impl<'a> GpuPass<'a> {
    pub(crate) fn new(gpu: &'a mut Gpu, layout: &'a StepLayout<'a>) -> Self {
        Self {
            failure: check_layout(layout).err(),
            gpu,
            layout,
            ops: Vec::new(),
            ropes: Vec::new(),
            cells: None,
            tables: None,
            tiles: Vec::new(),
        }
    }

    /// Records an operation unless the step failed before.
    fn run(&mut self, op: impl FnOnce(&mut Self) -> Result<Op, ComputeError>) {
        if self.failure.is_none() {
            match op(self) {
                Ok(op) => self.ops.push(op),
                Err(failure) => self.failure = Some(failure),
            }
        }
    }

    /// Position of every row of the step.
    fn positions(&self) -> impl Iterator<Item = usize> + use<'a> {
        self.layout.sequences.iter().flat_map(|s| (0..s.rows.len()).map(|row| s.start + row))
    }

    /// The rotations of all rows, computed once a step for each rope.
    fn rotations(&mut self, rope: &Rope) -> RopeAt {
        if let Some((_, at)) = self.ropes.iter().find(|(known, _)| known == rope) {
            return *at;
        }
        let data = self.gpu.recorder.data(rotations(self.positions().map(|position| position as f64), rope));
        let adjacent = rope.pairing == Pairing::Adjacent;
        let at = RopeAt { data, pairs: rope.inverse_frequencies.len() as u32, adjacent };
        self.ropes.push((rope.clone(), at));
        at
    }

    /// The cell of every row.
    fn cells(&mut self) -> u32 {
        let layout = self.layout;
        *self.cells.get_or_insert_with(|| {
            self.gpu.recorder.data(layout.sequences.iter().flat_map(|s| {
                (s.start..s.start + s.rows.len()).map(|position| {
                    s.blocks[position / BLOCK_TOKENS] * BLOCK_TOKENS as u32 + (position % BLOCK_TOKENS) as u32
                })
            }))
        })
    }

    /// The rows of the step in tiles of at most `most` rows; of one row where no sequence has more.
    fn tiles(&mut self, most: u32) -> Tiles {
        let layout = self.layout;
        let longest = layout.sequences.iter().map(|s| s.rows.len()).max().unwrap_or(0);
        let rows = if longest > 1 { most } else { 1 };
        if let Some(tiles) = self.tiles.iter().find(|tiles| tiles.rows == rows) {
            return *tiles;
        }
        let recorder = &mut self.gpu.recorder;
        let tables = self.tables.get_or_insert_with(|| {
            let used = |s: &reprise_compute::SequenceLayout<'a>| {
                &s.blocks[..(s.start + s.rows.len()).div_ceil(BLOCK_TOKENS)]
            };
            layout.sequences.iter().map(|s| recorder.data(used(s).iter().copied())).collect()
        });
        let mut words = Vec::new();
        for (sequence, table) in layout.sequences.iter().zip(&*tables) {
            for first in sequence.rows.clone().step_by(rows as usize) {
                let position = sequence.start + first - sequence.rows.start;
                let count = (rows as usize).min(sequence.rows.end - first);
                words.extend([first as u32, count as u32, position as u32, *table]);
            }
        }
        let count = words.len() as u32 / 4;
        let tiles = Tiles { data: recorder.data(words), count, rows };
        self.tiles.push(tiles);
        tiles
    }

    /// Fuses and dispatches what was recorded.
    fn dispatch(&mut self, read: &Readback<'_, GpuTensor>) -> Result<(), ComputeError> {
        let read = match read {
            Readback::Nothing => None,
            Readback::Rows(x) | Readback::Top { of: x, .. } => Some(x.operand()),
        };
        for op in fuse(&self.ops, read.as_ref()) {
            self.gpu.dispatch(&op)?;
        }
        Ok(())
    }
}

impl Pass for GpuPass<'_> {
    type Weight = GpuWeight;
    type Tensor = GpuTensor;
    type Kv = GpuKv;

    fn embed(&mut self, table: &GpuWeight, tokens: &[u32], scale: f32, out: &mut GpuTensor) {
        self.run(|pass| {
            same("embed", "width", table.cols, out.width)?;
            if let Some(&token) = tokens.iter().find(|&&t| t as usize >= table.rows) {
                return Err(operands("embed", format!("token {token} of a table of {}", table.rows)));
            }
            let out = out.resize("embed", tokens.len())?;
            let tokens = pass.gpu.recorder.data(tokens.iter().copied());
            Ok(Op::Embed(Embed { table: table.clone(), tokens, scale, out }))
        });
    }

    fn norm(&mut self, x: &GpuTensor, weight: &GpuWeight, eps: f32, out: &mut GpuTensor) {
        self.run(|_| {
            let weight = vector("norm", weight, x.width)?;
            same("norm", "width", x.width, out.width)?;
            let out = out.resize("norm", x.rows)?;
            Ok(Op::Norm(Norm { x: x.operand(), weight, eps, out, add: false }))
        });
    }

    fn norm_heads(&mut self, x: &mut GpuTensor, weight: &GpuWeight, eps: f32) {
        self.run(|_| {
            if weight.cols == 0 || !x.width.is_multiple_of(weight.cols) {
                let detail = format!("heads of {} in rows of {}", weight.cols, x.width);
                return Err(operands("norm_heads", detail));
            }
            let norm = Some(vector("norm_heads", weight, weight.cols)?);
            let q = Some(Part { x: x.operand(), norm });
            Ok(Op::Heads(Box::new(Heads { eps, ..Heads::new(weight.cols, q) })))
        });
    }

    fn linear(&mut self, x: &GpuTensor, projections: &mut [Projection<'_, GpuWeight, GpuTensor>]) {
        self.run(|_| {
            let mut recorded = Vec::with_capacity(projections.len());
            for Projection { weight, bias, out } in projections {
                same("linear", "width", weight.cols, x.width)?;
                same("linear", "outputs", weight.rows, out.width)?;
                if let Some(bias) = bias {
                    vector("linear", bias, weight.rows)?;
                }
                let out = out.resize("linear", x.rows)?;
                recorded.push(((*weight).clone(), bias.cloned(), out));
            }
            let epilogue = Epilogue::Store;
            Ok(Op::Linear(Linear { x: x.operand(), norm: None, projections: recorded, epilogue, into: None }))
        });
    }

    fn rope(&mut self, x: &mut GpuTensor, head_dim: usize, rope: &Rope) {
        self.run(|pass| {
            if head_dim == 0 || !x.width.is_multiple_of(head_dim) {
                return Err(operands("rope", format!("heads of {head_dim} in rows of {}", x.width)));
            }
            if rope.inverse_frequencies.len() * 2 > head_dim {
                let detail = format!("{} pairs in a head of {head_dim}", rope.inverse_frequencies.len());
                return Err(operands("rope", detail));
            }
            same("rope", "rows", pass.layout.rows(), x.rows)?;
            let rope = Some(pass.rotations(rope));
            let q = Some(Part { x: x.operand(), norm: None });
            Ok(Op::Heads(Box::new(Heads { rope, ..Heads::new(head_dim, q) })))
        });
    }

    fn store_kv(&mut self, kv: &mut GpuKv, layer: usize, k: &GpuTensor, v: &GpuTensor) {
        self.run(|pass| {
            for x in [k, v] {
                same("store_kv", "width", kv.shape.row(), x.width)?;
                same("store_kv", "rows", pass.layout.rows(), x.rows)?;
            }
            for sequence in pass.layout.sequences {
                let blocks = sequence.start / BLOCK_TOKENS
                    ..(sequence.start + sequence.rows.len()).div_ceil(BLOCK_TOKENS);
                for &block in &sequence.blocks[blocks] {
                    kv.write(block)?;
                }
            }
            let store = Some(Store {
                layer: kv.layer("store_kv", layer)?.clone(),
                row_words: kv.row_words(),
                cells: pass.cells(),
            });
            let k = Some(Part { x: k.operand(), norm: None });
            let store_alone = Heads { k, v: Some(v.operand()), store, ..Heads::new(kv.shape.head_dim, None) };
            Ok(Op::Heads(Box::new(store_alone)))
        });
    }

    fn attention(&mut self, kv: &GpuKv, layer: usize, q: &GpuTensor, spec: &Attention, out: &mut GpuTensor) {
        self.run(|pass| {
            let reprise_compute::KvShape { kv_heads, head_dim, .. } = kv.shape;
            if kv_heads == 0 || !spec.heads.is_multiple_of(kv_heads) {
                return Err(operands("attention", format!("{} heads over {kv_heads}", spec.heads)));
            }
            same("attention", "width", spec.heads * head_dim, q.width)?;
            same("attention", "width", q.width, out.width)?;
            same("attention", "rows", pass.layout.rows(), q.rows)?;
            let (heads, kv_heads, head_dim) = (spec.heads as u32, kv_heads as u32, head_dim as u32);
            let shape = Shape { heads, kv_heads, head_dim };
            if shape.heads_a_group() == 0 {
                return Err(operands("attention", format!("heads of {head_dim} are too long for the GPU")));
            }
            for sequence in pass.layout.sequences {
                let used = (sequence.start + sequence.rows.len()).div_ceil(BLOCK_TOKENS);
                let first = spec.window.map_or(0, |window| (sequence.start + 1).saturating_sub(window));
                for &block in &sequence.blocks[(first / BLOCK_TOKENS).min(used)..used] {
                    kv.check_written(block)?;
                }
            }
            Ok(Op::Attention(Attend {
                q: q.operand(),
                out: out.resize("attention", q.rows)?,
                layer: kv.layer("attention", layer)?.clone(),
                shape,
                scale: spec.scale,
                window: spec.window.map_or(u32::MAX, |window| u32::try_from(window).unwrap_or(u32::MAX)),
                softcap: spec.softcap,
                tiles: pass.tiles(shape.rows_a_tile()),
            }))
        });
    }

    fn gate(&mut self, gate: &mut GpuTensor, up: &GpuTensor, activation: Activation) {
        self.run(|_| map("gate", gate, Some(up), Function::Gate(activation)));
    }

    fn add(&mut self, x: &mut GpuTensor, y: &GpuTensor) {
        self.run(|_| map("add", x, Some(y), Function::Add));
    }

    fn gather(&mut self, x: &GpuTensor, rows: &[u32], out: &mut GpuTensor) {
        self.run(|pass| {
            same("gather", "width", x.width, out.width)?;
            if let Some(row) = rows.iter().find(|&&row| row as usize >= x.rows) {
                return Err(operands("gather", format!("row {row} of {}", x.rows)));
            }
            let out = out.resize("gather", rows.len())?;
            let rows = pass.gpu.recorder.data(rows.iter().copied());
            Ok(Op::Gather(Gather { x: x.operand(), rows, out }))
        });
    }

    fn softcap(&mut self, x: &mut GpuTensor, cap: f32) {
        self.run(|_| map("softcap", x, None, Function::Softcap(cap)));
    }

    async fn finish(mut self, read: Readback<'_, GpuTensor>, out: &mut Readout) -> Result<(), ComputeError> {
        out.clear();
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        self.dispatch(&read)?;
        match read {
            Readback::Nothing => self.gpu.finish_unread().await,
            Readback::Rows(x) => self.gpu.finish_rows(x, out).await,
            Readback::Top { of, count } => self.gpu.finish_top(of, count.min(MAX_TOP), out).await,
        }
    }
}

/// Rows must follow each other without gaps, and blocks cover all positions.
fn check_layout(layout: &StepLayout<'_>) -> Result<(), ComputeError> {
    let mut next = 0;
    for sequence in layout.sequences {
        let covered = sequence.blocks.len() * BLOCK_TOKENS;
        let end = sequence.start.saturating_add(sequence.rows.len());
        if sequence.rows.start != next || sequence.rows.end < next || end > covered {
            let detail =
                format!("rows {:?} from position {} in {covered} cells", sequence.rows, sequence.start);
            return Err(operands("pass", detail));
        }
        next = sequence.rows.end;
    }
    Ok(())
}

/// A weight that must be a vector of `len`.
fn vector(op: &'static str, weight: &GpuWeight, len: usize) -> Result<Vector, ComputeError> {
    same(op, "width", weight.cols, len)?;
    let Some((buffer, base)) = weight.vector() else {
        let detail = format!("a vector is wanted, not [{}, {}]", weight.rows, weight.cols);
        return Err(operands(op, detail));
    };
    Ok(Vector { buffer: buffer.clone(), base, weight: weight.clone() })
}

fn map(
    op: &'static str,
    x: &GpuTensor,
    y: Option<&GpuTensor>,
    function: Function,
) -> Result<Op, ComputeError> {
    if let Some(y) = y {
        same(op, "width", x.width, y.width)?;
        same(op, "rows", x.rows, y.rows)?;
        if x.buffer == y.buffer {
            return Err(operands(op, "both operands are the same tensor".into()));
        }
    }
    Ok(Op::Map(Map { x: x.operand(), y: y.map(GpuTensor::operand), function }))
}

fn same(op: &'static str, what: &str, a: usize, b: usize) -> Result<(), ComputeError> {
    if a == b { Ok(()) } else { Err(operands(op, format!("{what} {a} meets {b}"))) }
}

fn operands(op: &'static str, detail: String) -> ComputeError {
    ComputeError::Operands { op, detail }
}
