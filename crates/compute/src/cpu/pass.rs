//! One step on the CPU: every operation is checked, then computed at once. The first failure ends the step; `finish`
//! reports it.

use super::attention::attention;
use super::kv::{CpuKv, Part};
use super::linear::linear;
use super::rope::rope;
use super::tensor::CpuTensor;
use super::weight::CpuWeight;
use super::{Scratch, Threads};
use crate::kernels::{cells, elementwise};
use crate::top::read_top;
use crate::{
    Activation, Attention, BLOCK_TOKENS, ComputeError, Pass, Projection, Readback, Readout, Rope, StepLayout,
};

/// The operations of one step.
#[derive(Debug)]
pub struct CpuPass<'a> {
    threads: &'a Threads,
    scratch: &'a mut Scratch,
    layout: &'a StepLayout<'a>,
    failure: Option<ComputeError>,
}

impl<'a> CpuPass<'a> {
    pub(super) fn new(threads: &'a Threads, scratch: &'a mut Scratch, layout: &'a StepLayout<'a>) -> Self {
        scratch.rotations.start_step();
        let failure = check_layout(layout).err();
        scratch.positions.clear();
        if failure.is_none() {
            for sequence in layout.sequences {
                scratch.positions.extend((0..sequence.rows.len()).map(|row| sequence.start + row));
            }
        }
        Self { threads, scratch, layout, failure }
    }

    /// Computes `op` unless the step failed before.
    fn run(&mut self, op: impl FnOnce(&mut Self) -> Result<(), ComputeError>) {
        if self.failure.is_none() {
            self.failure = op(self).err();
        }
    }
}

impl Pass for CpuPass<'_> {
    type Weight = CpuWeight;
    type Tensor = CpuTensor;
    type Kv = CpuKv;

    fn embed(&mut self, table: &CpuWeight, tokens: &[u32], scale: f32, out: &mut CpuTensor) {
        self.run(|pass| {
            same("embed", "width", table.cols, out.width())?;
            if let Some(&token) = tokens.iter().find(|&&t| t as usize >= table.rows) {
                let detail = format!("token {token} of a table of {}", table.rows);
                return Err(ComputeError::Operands { op: "embed", detail });
            }
            let width = out.width().max(1);
            for (row, &token) in out.resize("embed", tokens.len())?.chunks_exact_mut(width).zip(tokens) {
                table.dequantize_row(token as usize, row);
                if scale != 1.0 {
                    elementwise::scale(pass.threads.isa, row, scale);
                }
            }
            Ok(())
        });
    }

    fn norm(&mut self, x: &CpuTensor, weight: &CpuWeight, eps: f32, out: &mut CpuTensor) {
        self.run(|pass| {
            let weight = vector("norm", weight)?;
            same("norm", "width", weight.len(), x.width())?;
            same("norm", "width", x.width(), out.width())?;
            let size = pass.threads.pool.rows_per_chunk(x.rows(), x.width()) * x.width();
            let out = out.resize("norm", x.rows())?;
            pass.threads.pool.chunks(out, size, |chunk, out| {
                let x = &x.as_slice()[chunk * size..][..out.len()];
                elementwise::rms_norm(pass.threads.isa, x, weight, eps, out);
            });
            Ok(())
        });
    }

    fn norm_heads(&mut self, x: &mut CpuTensor, weight: &CpuWeight, eps: f32) {
        self.run(|pass| {
            let weight = vector("norm_heads", weight)?;
            if weight.is_empty() || !x.width().is_multiple_of(weight.len()) {
                let detail = format!("heads of {} in rows of {}", weight.len(), x.width());
                return Err(ComputeError::Operands { op: "norm_heads", detail });
            }
            let size = pass.threads.pool.rows_per_chunk(x.rows(), x.width()) * x.width();
            pass.threads.pool.chunks(x.as_mut_slice(), size, |_, x| {
                elementwise::rms_norm_in_place(pass.threads.isa, x, weight, eps);
            });
            Ok(())
        });
    }

    fn linear(&mut self, x: &CpuTensor, projections: &mut [Projection<'_, CpuWeight, CpuTensor>]) {
        self.run(|pass| linear(pass.threads, &mut pass.scratch.activations, x, projections));
    }

    fn rope(&mut self, x: &mut CpuTensor, head_dim: usize, by: &Rope) {
        self.run(|pass| {
            let Scratch { rotations, positions, .. } = &mut *pass.scratch;
            rope(pass.threads, rotations, positions, x, head_dim, by)
        });
    }

    fn store_kv(&mut self, kv: &mut CpuKv, layer: usize, k: &CpuTensor, v: &CpuTensor) {
        self.run(|pass| {
            let width = kv.shape().row();
            for (part, x) in [(Part::Key, k), (Part::Value, v)] {
                same("store_kv", "width", width, x.width())?;
                same("store_kv", "rows", pass.layout.rows(), x.rows())?;
                for sequence in pass.layout.sequences {
                    let mut row = sequence.rows.start;
                    while row < sequence.rows.end {
                        let position = sequence.start + row - sequence.rows.start;
                        let offset = position % BLOCK_TOKENS;
                        let count = (BLOCK_TOKENS - offset).min(sequence.rows.end - row);
                        let block = sequence.blocks[position / BLOCK_TOKENS];
                        let (kv_type, bytes) = (kv.kv_type(part), kv.row_bytes(part));
                        let to = &mut kv.layer_mut(block, layer, part)?[offset * bytes..][..count * bytes];
                        let from = &x.as_slice()[row * width..(row + count) * width];
                        cells::store(pass.threads.isa, kv_type, from, to);
                        row += count;
                    }
                }
            }
            Ok(())
        });
    }

    fn attention(&mut self, kv: &CpuKv, layer: usize, q: &CpuTensor, spec: &Attention, out: &mut CpuTensor) {
        self.run(|pass| {
            attention(pass.threads, &mut pass.scratch.attention, pass.layout, (kv, layer), q, spec, out)
        });
    }

    fn gate(&mut self, gate: &mut CpuTensor, up: &CpuTensor, activation: Activation) {
        self.run(|pass| {
            same("gate", "width", gate.width(), up.width())?;
            same("gate", "rows", gate.rows(), up.rows())?;
            let size = pass.threads.pool.rows_per_chunk(up.rows(), up.width()) * up.width();
            pass.threads.pool.chunks(gate.as_mut_slice(), size, |chunk, gate| {
                let up = &up.as_slice()[chunk * size..][..gate.len()];
                elementwise::gate(pass.threads.isa, gate, up, activation);
            });
            Ok(())
        });
    }

    fn add(&mut self, x: &mut CpuTensor, y: &CpuTensor) {
        self.run(|pass| {
            same("add", "width", x.width(), y.width())?;
            same("add", "rows", x.rows(), y.rows())?;
            let size = pass.threads.pool.rows_per_chunk(y.rows(), y.width()) * y.width();
            pass.threads.pool.chunks(x.as_mut_slice(), size, |chunk, x| {
                let y = &y.as_slice()[chunk * size..][..x.len()];
                elementwise::add(pass.threads.isa, x, y);
            });
            Ok(())
        });
    }

    fn gather(&mut self, x: &CpuTensor, rows: &[u32], out: &mut CpuTensor) {
        self.run(|_| {
            same("gather", "width", x.width(), out.width())?;
            let width = x.width().max(1);
            if let Some(row) = rows.iter().find(|&&row| row as usize >= x.rows()) {
                let detail = format!("row {row} of {}", x.rows());
                return Err(ComputeError::Operands { op: "gather", detail });
            }
            let out = out.resize("gather", rows.len())?;
            for (out, &row) in out.chunks_exact_mut(width).zip(rows) {
                out.copy_from_slice(&x.as_slice()[row as usize * width..][..width]);
            }
            Ok(())
        });
    }

    fn softcap(&mut self, x: &mut CpuTensor, cap: f32) {
        self.run(|pass| {
            let size = pass.threads.pool.rows_per_chunk(x.rows(), x.width()) * x.width();
            pass.threads.pool.chunks(x.as_mut_slice(), size, |_, x| {
                elementwise::softcap(pass.threads.isa, x, cap);
            });
            Ok(())
        });
    }

    async fn finish(self, read: Readback<'_, CpuTensor>, out: &mut Readout) -> Result<(), ComputeError> {
        out.clear();
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match read {
            Readback::Nothing => {}
            Readback::Rows(x) => out.values.extend_from_slice(x.as_slice()),
            Readback::Top { of, count } => read_top(of.as_slice(), of.width(), count, out),
        }
        Ok(())
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
            return Err(ComputeError::Operands { op: "pass", detail });
        }
        next = sequence.rows.end;
    }
    Ok(())
}

/// The elements of a weight that must be a vector.
fn vector<'w>(op: &'static str, weight: &'w CpuWeight) -> Result<&'w [f32], ComputeError> {
    weight.vector().ok_or_else(|| {
        let detail = format!("a vector is wanted, not [{}, {}]", weight.rows, weight.cols);
        ComputeError::Operands { op, detail }
    })
}

fn same(op: &'static str, what: &str, a: usize, b: usize) -> Result<(), ComputeError> {
    if a == b {
        return Ok(());
    }
    Err(ComputeError::Operands { op, detail: format!("{what} {a} and {b}") })
}
