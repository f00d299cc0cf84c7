//! `out = x * weight^T (+ bias)` for several weights at once.
//!
//! The rows of `x` are quantised once for each format that the weights want. Threads then take panels of 16 weight rows
//! and multiply them with all activation rows while the panel is in cache.

use super::Threads;
use super::tensor::CpuTensor;
use super::weight::{CpuWeight, Storage, by_family};
use crate::kernels::activations::{Q8Rows, quantize};
use crate::kernels::blocks::BLOCK;
use crate::kernels::columns::{Columns, Output};
use crate::kernels::panel::PANEL;
use crate::kernels::superblocks::activations as k_activations;
use crate::kernels::superblocks::activations::Q8KRows;
use crate::kernels::superblocks::formats::SUPERBLOCK;
use crate::kernels::{floats, panel, superblocks};
use crate::{ComputeError, Projection};

/// Multiplications below which one thread is faster than two: about 5 us.
const WORTH_FORKING: usize = 256 * 1024;
/// Tasks a thread, so that threads which are slowed from outside take fewer.
const TASKS_PER_THREAD: usize = 8;
/// Weights multiplied in one fork; more are taken in turn.
const GROUP: usize = 4;

/// Quantised copies of the rows being multiplied, reused from call to call.
#[derive(Debug, Default)]
pub(super) struct Activations {
    q8: Q8Rows,
    q8k: Q8KRows,
}

/// See [`crate::Pass::linear`].
pub(super) fn linear(
    threads: &Threads,
    activations: &mut Activations,
    x: &CpuTensor,
    projections: &mut [Projection<'_, CpuWeight, CpuTensor>],
) -> Result<(), ComputeError> {
    let (rows, width) = (x.rows(), x.width());
    for projection in projections.iter_mut() {
        check(width, projection)?;
        projection.out.resize("linear", rows)?;
    }
    if rows == 0 || width == 0 {
        return Ok(());
    }
    activations.prepare(threads, x, projections);
    let activations = &*activations;

    for group in projections.chunks_mut(GROUP) {
        multiply_group(threads, activations, x, group);
    }
    Ok(())
}

/// Shares the panels of up to [`GROUP`] weights among the threads.
fn multiply_group(
    threads: &Threads,
    activations: &Activations,
    x: &CpuTensor,
    projections: &mut [Projection<'_, CpuWeight, CpuTensor>],
) {
    let panels: usize = projections.iter().map(|p| p.weight.rows.div_ceil(PANEL)).sum();
    let work = panels * PANEL * x.width() * x.rows();
    let wanted = if work < WORTH_FORKING { 1 } else { threads.pool.threads() * TASKS_PER_THREAD };
    let per_task = panels.div_ceil(wanted).max(1);
    let mut outputs = [const { None }; GROUP];
    for (output, p) in outputs.iter_mut().zip(projections) {
        let (weight, width) = (p.weight, p.out.width());
        let bias = p.bias.and_then(CpuWeight::vector);
        *output = Some((weight, Output::new(p.out.as_mut_slice(), width, bias)));
    }
    threads.pool.run(panels.div_ceil(per_task), |task| {
        let mut first = task * per_task;
        let mut left = per_task;
        for (weight, output) in outputs.iter().flatten() {
            let count = weight.rows.div_ceil(PANEL);
            let here = count.saturating_sub(first).min(left);
            for index in first..first + here {
                let columns = index * PANEL..weight.rows.min((index + 1) * PANEL);
                // SAFETY: tasks take different panels, and panels are disjoint columns.
                #[allow(unsafe_code)]
                let mut out = unsafe { output.columns(columns.clone()) };
                activations.multiply(threads, x, weight, columns.start, &mut out);
            }
            first = first.saturating_sub(count);
            left -= here;
        }
    });
}

impl Activations {
    /// Quantises `x` in every format that the weights want.
    fn prepare(
        &mut self,
        threads: &Threads,
        x: &CpuTensor,
        projections: &[Projection<'_, CpuWeight, CpuTensor>],
    ) {
        let (rows, width) = (x.rows(), x.width());
        let (mut block32, mut k_quant) = (false, false);
        for projection in projections {
            by_family!(&projection.weight.storage, _b, float => {}, block32 => block32 = true, k_quant => k_quant = true);
        }
        if block32 {
            let (quants, scales) = self.q8.resize(rows, width);
            let blocks = width / BLOCK;
            let per_chunk = threads.pool.rows_per_chunk(rows, width) * blocks;
            let count = scales.len().div_ceil(per_chunk);
            let parts = quants.chunks_mut(per_chunk * BLOCK).zip(scales.chunks_mut(per_chunk));
            threads.pool.each(count, parts, |chunk, (quants, scales)| {
                let x = &x.as_slice()[chunk * per_chunk * BLOCK..][..quants.len()];
                quantize(threads.isa, x, quants, scales);
            });
        }
        if k_quant {
            let q8k = self.q8k.resize(rows, width);
            let per_chunk = threads.pool.rows_per_chunk(rows, width) * (width / SUPERBLOCK);
            threads.pool.chunks(q8k, per_chunk, |chunk, q8k| {
                let x = &x.as_slice()[chunk * per_chunk * SUPERBLOCK..][..q8k.len() * SUPERBLOCK];
                k_activations::quantize(threads.isa, x, q8k);
            });
        }
    }

    /// Multiplies weight rows `first..first + out.width()` with all rows.
    fn multiply(
        &self,
        threads: &Threads,
        x: &CpuTensor,
        weight: &CpuWeight,
        first: usize,
        out: &mut Columns<'_>,
    ) {
        let rows = first..first + out.width();
        let cols = weight.cols;
        by_family!(
            &weight.storage, blocks,
            float => {
                floats::multiply(threads.isa, blocks.panel(rows, cols), cols, x.as_slice(), out);
            },
            block32 => {
                let weights = blocks.panel(rows, cols / BLOCK);
                panel::multiply(threads.isa, weights, &self.q8, out);
            },
            k_quant => {
                let weights = blocks.panel(rows, cols / SUPERBLOCK);
                superblocks::multiply(threads.isa, weights, &self.q8k, out);
            },
        );
    }
}

fn check(width: usize, projection: &Projection<'_, CpuWeight, CpuTensor>) -> Result<(), ComputeError> {
    let weight = projection.weight;
    let bias = projection.bias.map(|b| b.vector().map_or(usize::MAX, <[f32]>::len));
    if weight.cols == width && projection.out.width() == weight.rows && bias.is_none_or(|b| b == weight.rows)
    {
        return Ok(());
    }
    let detail = format!(
        "rows of {width} times [{}, {}] (bias {}) into rows of {}",
        weight.rows,
        weight.cols,
        bias.map_or("none".to_owned(), |b| b.to_string()),
        projection.out.width()
    );
    Err(ComputeError::Operands { op: "linear", detail })
}
