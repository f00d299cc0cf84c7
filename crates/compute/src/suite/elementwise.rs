//! Norms, rotations, gates and the other operations on rows.

use reprise_gguf::GgmlDType;

use super::inputs::{Plain, Rows, finish, floats, weight};
use super::{Case, Run};
use crate::{Activation, Backend, ComputeError, Pairing, Pass, Rope, SequenceLayout, StepLayout};

pub(super) async fn cases<B: Backend, F: Fn() -> B>(run: &mut Run<F>) {
    for (width, rows) in [(64, 1), (576, 3), (7, 2), (100, 70), (1152, 33)] {
        for op in [
            Op::Norm,
            Op::Add,
            Op::Gather,
            Op::Softcap(30.0),
            Op::Softcap(0.5),
            Op::Gate(Activation::Silu),
            Op::Gate(Activation::Gelu),
        ] {
            run.check(&Elementwise { op, width, rows }).await;
        }
    }
    for (head, heads, rows) in [(64, 9, 3), (128, 2, 1), (16, 1, 50), (7, 3, 2)] {
        run.check(&Elementwise { op: Op::NormHeads(head), width: head * heads, rows }).await;
    }
    for pairing in [Pairing::Adjacent, Pairing::Halves] {
        for (head_dim, rotated) in [(64, 64), (128, 64), (8, 8), (18, 6)] {
            run.check(&Rotate { pairing, head_dim, rotated }).await;
        }
    }
}

/// What is done to two tensors of the same shape. Tolerance 1e-6 (gates and caps 2e-6: their exponentials).
#[derive(Debug, Clone, Copy)]
enum Op {
    Norm,
    NormHeads(usize),
    Add,
    Gather,
    Softcap(f32),
    Gate(Activation),
}

struct Elementwise {
    op: Op,
    width: usize,
    rows: usize,
}

impl Case for Elementwise {
    fn name(&self) -> String {
        format!("{:?}, {} x {}", self.op, self.rows, self.width)
    }

    fn tolerance(&self) -> f64 {
        match self.op {
            Op::Gate(_) | Op::Softcap(_) => 2e-6,
            _ => 1e-6,
        }
    }

    async fn compute<B: Backend>(&self, backend: &mut B) -> Result<Vec<f32>, ComputeError> {
        let Self { op, width, rows } = *self;
        let mut x = Rows::new(backend, width, &floats(1, rows * width)).await?;
        let mut y = Rows::new(backend, width, &floats(2, rows * width)).await?;
        let head = if let Op::NormHeads(head) = op { head } else { width };
        let scale = weight(backend, GgmlDType::F32, 1, head, &floats(3, head)).await?;
        let plain = Plain::new(rows);
        let layout = StepLayout { sequences: &plain.sequence() };
        let mut pass = backend.pass(&layout);
        x.load(&mut pass);
        y.load(&mut pass);
        let (x, y) = (&mut x.tensor, &mut y.tensor);
        match op {
            Op::Norm => {
                pass.norm(x, &scale, 1e-5, y);
                return finish(pass, y).await;
            }
            Op::Gather => {
                let last = rows as u32 - 1;
                pass.gather(x, &[last], y);
                pass.softcap(y, 2.0);
                return finish(pass, y).await;
            }
            Op::NormHeads(_) => pass.norm_heads(x, &scale, 1e-6),
            Op::Add => pass.add(x, y),
            Op::Softcap(cap) => pass.softcap(x, cap),
            Op::Gate(activation) => pass.gate(x, y, activation),
        }
        finish(pass, x).await
    }
}

/// Rotation of rows at scattered positions, with a second rope in the same step. Tolerance 1e-6.
struct Rotate {
    pairing: Pairing,
    head_dim: usize,
    rotated: usize,
}

impl Case for Rotate {
    fn name(&self) -> String {
        format!("rope {:?}, {} of {}", self.pairing, self.rotated, self.head_dim)
    }

    fn tolerance(&self) -> f64 {
        1e-6
    }

    async fn compute<B: Backend>(&self, backend: &mut B) -> Result<Vec<f32>, ComputeError> {
        let width = 3 * self.head_dim;
        let mut x = Rows::new(backend, width, &floats(1, 7 * width)).await?;
        let blocks = vec![0; 1000];
        let sequences = [
            SequenceLayout { rows: 0..4, start: 0, blocks: &blocks },
            SequenceLayout { rows: 4..5, start: 17_000, blocks: &blocks },
            SequenceLayout { rows: 5..7, start: 31, blocks: &blocks },
        ];
        let layout = StepLayout { sequences: &sequences };
        let mut pass = backend.pass(&layout);
        x.load(&mut pass);
        for base in [10_000.0, 1_000_000.0, 10_000.0] {
            pass.rope(&mut x.tensor, self.head_dim, &rope(self.pairing, self.rotated, base));
        }
        finish(pass, &x.tensor).await
    }
}

/// A rope without scaling.
pub(super) fn rope(pairing: Pairing, rotated: usize, base: f32) -> Rope {
    let frequency = |i: usize| base.powf(-((2 * i) as f32) / rotated as f32);
    Rope { pairing, inverse_frequencies: (0..rotated / 2).map(frequency).collect() }
}
