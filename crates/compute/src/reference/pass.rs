//! What every operation means, in f64.

use std::cmp::Ordering;

use super::cells::ReferenceKv;
use super::weight::ReferenceWeight;
use super::{ReferenceTensor, Rounding};
use crate::{
    Activation, Attention, BLOCK_TOKENS, ComputeError, MAX_TOP, Pairing, Pass, Projection, Readback, Readout,
    Rope, StepLayout,
};

/// The operations of one step.
#[derive(Debug)]
pub struct ReferencePass<'a> {
    rounding: Rounding,
    layout: &'a StepLayout<'a>,
}

impl<'a> ReferencePass<'a> {
    pub(super) fn new(rounding: Rounding, layout: &'a StepLayout<'a>) -> Self {
        Self { rounding, layout }
    }

    /// Position and block table of every row of the step.
    fn places(&self) -> Vec<(usize, &'a [u32])> {
        let sequences = self.layout.sequences.iter();
        sequences.flat_map(|s| (0..s.rows.len()).map(|row| (s.start + row, s.blocks))).collect()
    }
}

impl Pass for ReferencePass<'_> {
    type Weight = ReferenceWeight;
    type Tensor = ReferenceTensor;
    type Kv = ReferenceKv;

    fn embed(&mut self, table: &ReferenceWeight, tokens: &[u32], scale: f32, out: &mut ReferenceTensor) {
        out.data = tokens.iter().flat_map(|&t| table.row(t as usize)).map(|x| x * f64::from(scale)).collect();
    }

    fn norm(&mut self, x: &ReferenceTensor, weight: &ReferenceWeight, eps: f32, out: &mut ReferenceTensor) {
        out.data.clone_from(&x.data);
        for row in out.rows_mut() {
            rms_norm(row, weight.row(0), eps);
        }
    }

    fn norm_heads(&mut self, x: &mut ReferenceTensor, weight: &ReferenceWeight, eps: f32) {
        for head in x.data.chunks_exact_mut(weight.cols) {
            rms_norm(head, weight.row(0), eps);
        }
    }

    fn linear(
        &mut self,
        x: &ReferenceTensor,
        projections: &mut [Projection<'_, ReferenceWeight, ReferenceTensor>],
    ) {
        for projection in projections {
            projection.out.data.clear();
            for row in x.rows() {
                let mut product = projection.weight.multiply(row, self.rounding);
                if let Some(bias) = projection.bias {
                    product.iter_mut().zip(bias.row(0)).for_each(|(out, bias)| *out += bias);
                }
                projection.out.data.extend(product);
            }
        }
    }

    fn rope(&mut self, x: &mut ReferenceTensor, head_dim: usize, rope: &Rope) {
        for ((position, _), row) in self.places().into_iter().zip(x.rows_mut()) {
            for head in row.chunks_exact_mut(head_dim) {
                rotate(head, position as f64, rope);
            }
        }
    }

    fn store_kv(&mut self, kv: &mut ReferenceKv, layer: usize, k: &ReferenceTensor, v: &ReferenceTensor) {
        for ((position, blocks), (k, v)) in self.places().into_iter().zip(k.rows().zip(v.rows())) {
            let (block, offset) = (blocks[position / BLOCK_TOKENS], position % BLOCK_TOKENS);
            kv.store(layer, 0, block, offset, k);
            kv.store(layer, 1, block, offset, v);
        }
    }

    fn attention(
        &mut self,
        kv: &ReferenceKv,
        layer: usize,
        q: &ReferenceTensor,
        spec: &Attention,
        out: &mut ReferenceTensor,
    ) {
        let head_dim = kv.shape.head_dim;
        let group = spec.heads / kv.shape.kv_heads;
        out.data.clear();
        for ((position, blocks), row) in self.places().into_iter().zip(q.rows()) {
            let first = spec.window.map_or(0, |window| (position + 1).saturating_sub(window));
            let cells = |part| -> Vec<_> {
                let seen = first..=position;
                seen.map(|at| kv.cell(layer, part, blocks[at / BLOCK_TOKENS], at % BLOCK_TOKENS)).collect()
            };
            let (keys, values) = (cells(0), cells(1));
            for (head, query) in row.chunks_exact(head_dim).enumerate() {
                let own = head / group * head_dim..(head / group + 1) * head_dim;
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|key| {
                        let score = dot(query, &key[own.clone()]) * f64::from(spec.scale);
                        spec.softcap.map_or(score, |cap| (score / f64::from(cap)).tanh() * f64::from(cap))
                    })
                    .collect();
                let max = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
                let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
                let mut mixed = vec![0.0; head_dim];
                for (value, score) in values.iter().zip(&scores) {
                    let weight = (score - max).exp() / sum;
                    mixed.iter_mut().zip(&value[own.clone()]).for_each(|(out, v)| *out += weight * v);
                }
                out.data.extend(mixed);
            }
        }
    }

    fn gate(&mut self, gate: &mut ReferenceTensor, up: &ReferenceTensor, activation: Activation) {
        for (gate, up) in gate.data.iter_mut().zip(&up.data) {
            let x = *gate;
            let active = match activation {
                Activation::Silu => x / (1.0 + (-x).exp()),
                Activation::Gelu => {
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                    0.5 * x * (1.0 + inner.tanh())
                }
            };
            *gate = active * up;
        }
    }

    fn add(&mut self, x: &mut ReferenceTensor, y: &ReferenceTensor) {
        x.data.iter_mut().zip(&y.data).for_each(|(x, y)| *x += y);
    }

    fn gather(&mut self, x: &ReferenceTensor, rows: &[u32], out: &mut ReferenceTensor) {
        let width = x.width;
        out.data = rows.iter().flat_map(|&row| &x.data[row as usize * width..][..width]).copied().collect();
    }

    fn softcap(&mut self, x: &mut ReferenceTensor, cap: f32) {
        let cap = f64::from(cap);
        x.data.iter_mut().for_each(|x| *x = (*x / cap).tanh() * cap);
    }

    async fn finish(
        self,
        read: Readback<'_, ReferenceTensor>,
        out: &mut Readout,
    ) -> Result<(), ComputeError> {
        out.clear();
        match read {
            Readback::Nothing => {}
            Readback::Rows(x) => out.values.extend(x.data.iter().map(|&x| x as f32)),
            Readback::Top { of, count } => {
                for row in of.rows() {
                    let mut row: Vec<(f32, u32)> = row.iter().map(|&x| x as f32).zip(0..).collect();
                    row.iter_mut().filter(|(x, _)| x.is_nan()).for_each(|(x, _)| *x = f32::NEG_INFINITY);
                    // Stable: equal values keep the order of their columns.
                    row.sort_by(|(a, _), (b, _)| b.partial_cmp(a).unwrap_or(Ordering::Equal));
                    row.truncate(count.min(MAX_TOP));
                    out.values.extend(row.iter().map(|(x, _)| x));
                    out.columns.extend(row.iter().map(|(_, column)| column));
                }
            }
        }
        Ok(())
    }
}

/// Rotates the pairs of a head by `position` times their frequency.
pub(super) fn rotate(head: &mut [f64], position: f64, rope: &Rope) {
    let pairs = rope.inverse_frequencies.len();
    for (i, &frequency) in rope.inverse_frequencies.iter().enumerate() {
        let (a, b) = match rope.pairing {
            Pairing::Adjacent => (2 * i, 2 * i + 1),
            Pairing::Halves => (i, i + pairs),
        };
        let (sin, cos) = (position * f64::from(frequency)).sin_cos();
        let (x, y) = (head[a], head[b]);
        head[a] = x * cos - y * sin;
        head[b] = x * sin + y * cos;
    }
}

fn rms_norm(x: &mut [f64], weight: &[f64], eps: f32) {
    let mean = dot(x, x) / x.len() as f64;
    let factor = 1.0 / (mean + f64::from(eps)).sqrt();
    x.iter_mut().zip(weight).for_each(|(x, weight)| *x *= factor * weight);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
