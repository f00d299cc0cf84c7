//! From a product to the dispatches that compute it.

use super::kernel::{LANES, LinearKernel, Mode};
use super::{LinearDispatch, LinearOp, LinearOutput, Variant};
use crate::buffer::Buffer;
use crate::weights::{GpuWeight, Part, is_quantised};

/// Storage buffers that every device binds in one kernel.
const STORAGE_BUFFERS: usize = 8;
/// Workgroups that every device dispatches along one dimension.
const WORKGROUPS: u32 = 65535;

/// A part of an output's weight.
#[derive(Clone, Copy)]
struct Piece<'a> {
    output: &'a LinearOutput<'a>,
    part: &'a Part,
}

/// What one dispatch computes; for a gated activation, two pieces of the same outputs.
#[derive(Default)]
struct Batch<'a> {
    pieces: Vec<Piece<'a>>,
    vectors: Vec<&'a Buffer>,
}

/// Whether [`plan`] can compute `gate` and `up` together in a gated activation.
pub(crate) fn can_gate(gate: &GpuWeight, up: &GpuWeight) -> bool {
    let ends = |weight: &GpuWeight| weight.parts.iter().map(|part| part.first).collect::<Vec<_>>();
    (gate.rows, gate.cols) == (up.rows, up.cols)
        && ends(gate) == ends(up)
        && is_quantised(gate.dtype) == is_quantised(up.dtype)
}

/// The dispatches of `op`, in any order: usually one. More when the weights are split, are partly floats and partly
/// quantised, or bind more buffers than a kernel may. Norm and biases are vectors; a gated activation asks for [`can_gate`].
pub(crate) fn plan<'a>(op: &LinearOp<'a>, variant: Variant) -> Vec<LinearDispatch<'a>> {
    let norm = op.norm.and_then(|(weight, _)| weight.vector());
    let batches = batches(op, norm.map(|(buffer, _)| buffer));
    batches.iter().map(|batch| dispatch(op, batch, variant)).collect()
}

fn batches<'a>(op: &LinearOp<'a>, norm: Option<&'a Buffer>) -> Vec<Batch<'a>> {
    let pieces =
        |output: &'a LinearOutput<'a>| output.weight.parts.iter().map(move |part| Piece { output, part });
    if let ([gate, up], true) = (op.outputs, op.epilogue.is_gate()) {
        let pairs = pieces(gate).zip(pieces(up));
        return pairs.map(|(gate, up)| Batch::new(norm).with(gate).with(up)).collect();
    }
    let mut done: Vec<Batch<'a>> = Vec::new();
    for piece in op.outputs.iter().flat_map(pieces) {
        match done.last_mut().filter(|batch| batch.takes(piece)) {
            Some(batch) => batch.add(piece),
            None => done.push(Batch::new(norm).with(piece)),
        }
    }
    done
}

impl<'a> Batch<'a> {
    fn new(norm: Option<&'a Buffer>) -> Self {
        Self { pieces: Vec::new(), vectors: norm.into_iter().collect() }
    }

    fn with(mut self, piece: Piece<'a>) -> Self {
        self.add(piece);
        self
    }

    fn add(&mut self, piece: Piece<'a>) {
        if let Some(bias) = piece.bias().filter(|bias| self.place(bias).is_none()) {
            self.vectors.push(bias);
        }
        self.pieces.push(piece);
    }

    /// Whether the piece's buffers still fit. Two parts of one output stay apart: a buffer is not written through two bindings.
    fn takes(&self, piece: Piece<'a>) -> bool {
        let more = usize::from(piece.bias().is_some_and(|bias| self.place(bias).is_none()));
        let bound = 1 + self.vectors.len() + more + 2 * (self.pieces.len() + 1);
        bound <= STORAGE_BUFFERS
            && self.pieces.iter().all(|other| {
                other.output.out.id != piece.output.out.id
                    && is_quantised(other.output.weight.dtype) == is_quantised(piece.output.weight.dtype)
            })
    }

    fn place(&self, vector: &Buffer) -> Option<usize> {
        self.vectors.iter().position(|other| other.id == vector.id)
    }
}

impl<'a> Piece<'a> {
    fn bias(&self) -> Option<&'a Buffer> {
        Some(self.output.bias?.vector()?.0)
    }
}

fn dispatch<'a>(op: &LinearOp<'a>, batch: &Batch<'a>, variant: Variant) -> LinearDispatch<'a> {
    let kernel = kernel(op, batch, variant);
    let tile = kernel.tile();
    let pieces = &batch.pieces;
    let cols = pieces.first().map_or(0, |piece| piece.output.weight.cols as u32);
    let (norm, epsilon) = match op.norm {
        Some((weight, epsilon)) => (weight.vector().map_or(0, |(_, at)| at / 4), epsilon),
        None => (0, 0.0),
    };
    let mut params = vec![op.rows, cols, cols.div_ceil(32), norm, epsilon.to_bits(), 0, 0, 0];
    let mut tiles = 0;
    for piece in pieces {
        let (weight, part) = (piece.output.weight, piece.part);
        let own = part.rows.div_ceil(tile);
        let bias = piece.output.bias.and_then(GpuWeight::vector).map_or(0, |(_, at)| at + part.first);
        params.extend([part.rows, weight.rows as u32, part.first, part.base, weight.row_quads, bias, own, 0]);
        tiles = if op.epilogue.is_gate() { own } else { tiles + own };
    }
    let outs = if op.epilogue.is_gate() { 1 } else { pieces.len() };
    let buffers = std::iter::once(op.x)
        .chain(batch.vectors.iter().copied())
        .chain(pieces.iter().map(|piece| &piece.part.buffer))
        .chain(pieces.iter().take(outs).map(|piece| piece.output.out))
        .collect();
    LinearDispatch { grid: grid(op.rows.div_ceil(kernel.rows), tiles), kernel, params, buffers }
}

fn kernel(op: &LinearOp<'_>, batch: &Batch<'_>, variant: Variant) -> LinearKernel {
    let pieces = &batch.pieces;
    let quantised = pieces.iter().all(|piece| is_quantised(piece.output.weight.dtype));
    let mode = match (quantised, variant) {
        (true, Variant { dot4: true, .. }) => Mode::Integer,
        (true, Variant { f16: true, .. }) => Mode::Half,
        _ => Mode::Float,
    };
    let outputs: u32 = pieces.iter().map(|piece| piece.part.rows).sum();
    // Few outputs are spread over more workgroups; many share what a workgroup reads of the activations.
    let per = match outputs {
        0..=1024 => 1,
        1025..=4096 => 2,
        _ if op.epilogue.is_gate() => 2,
        _ => 4,
    };
    LinearKernel {
        mode,
        subgroup: match variant.subgroup {
            size if size >= LANES => LANES,
            4 => 4,
            _ => 1,
        },
        rows: match op.rows.min(variant.rows) {
            0..=1 => 1,
            2 => 2,
            3..=4 => 4,
            _ => 8,
        },
        per,
        aligned: pieces.iter().all(|piece| piece.output.weight.cols.is_multiple_of(4)),
        weights: pieces.iter().map(|piece| piece.output.weight.dtype).collect(),
        vectors: batch.vectors.len(),
        norm: op.norm.and_then(|(weight, _)| batch.place(weight.vector()?.0)),
        biases: pieces.iter().map(|piece| batch.place(piece.bias()?)).collect(),
        epilogue: op.epilogue,
    }
}

/// Workgroups for so many tiles of rows and of outputs. Tiles of rows follow each other, so that a weight that was read is
/// still at hand for the next rows.
fn grid(row_tiles: u32, tiles: u32) -> [u32; 3] {
    let layers = tiles.div_ceil(WORKGROUPS);
    [row_tiles, tiles.div_ceil(layers.max(1)), layers]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_covers_all_tiles_within_the_limit() {
        assert_eq!(grid(3, 18), [3, 18, 1]);
        assert_eq!(grid(1, 65535), [1, 65535, 1]);
        let [_, y, z] = grid(1, 262_144);
        assert!(y <= WORKGROUPS && y * z >= 262_144 && y * (z - 1) < 262_144);
    }
}
