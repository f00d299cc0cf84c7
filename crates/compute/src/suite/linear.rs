//! Matrix products and table look-ups for every type of weight.

use reprise_gguf::GgmlDType;

use super::inputs::{Plain, Rows, TYPES, finish, floats, weight};
use super::{Case, Run};
use crate::{Backend, ComputeError, Pass, Projection, StepLayout};

pub(super) async fn cases<B: Backend, F: Fn() -> B>(run: &mut Run<F>) {
    for dtype in TYPES {
        let block = dtype.block_size();
        for (out, cols, tokens) in
            [(48, 2 * block, 1), (1000, block, 1), (17, 3 * block, 2), (33, block, 5), (64, 2 * block, 40)]
        {
            run.check(&Linear::new(&[(dtype, out, false)], cols, tokens)).await;
        }
        run.check(&Embed { dtype, cols: 2 * block }).await;
    }
    // Widths of real models, biases, several types at once, a single output, and floats that fill no vector.
    let q = [(GgmlDType::Q4_1, 576, true), (GgmlDType::Q8_0, 192, false), (GgmlDType::Q5_0, 190, true)];
    run.check(&Linear::new(&q, 576, 3)).await;
    let k = [(GgmlDType::Q4K, 100, false), (GgmlDType::Q6K, 20, true), (GgmlDType::Q4_0, 16, false)];
    run.check(&Linear::new(&k, 1024, 9)).await;
    run.check(&Linear::new(&[(GgmlDType::Q8_0, 1, true)], 64, 4)).await;
    run.check(&Linear::new(&[(GgmlDType::F16, 7, true), (GgmlDType::F32, 3, false)], 45, 6)).await;
    let many = [(GgmlDType::Q4_0, 20, false); 9];
    run.check(&Linear::new(&many, 64, 2)).await;
}

/// Several weights `[out, cols]` times the same rows. Tolerance 1e-5: only the order of f32 additions is free.
pub(super) struct Linear {
    weights: Vec<(GgmlDType, usize, bool)>,
    cols: usize,
    x: Vec<f32>,
}

impl Linear {
    fn new(weights: &[(GgmlDType, usize, bool)], cols: usize, tokens: usize) -> Self {
        Self::of(weights, cols, floats(1, tokens * cols))
    }

    /// Weights `(type, out, bias)` times the rows `x`.
    pub(super) fn of(weights: &[(GgmlDType, usize, bool)], cols: usize, x: Vec<f32>) -> Self {
        Self { weights: weights.to_vec(), cols, x }
    }
}

impl Case for Linear {
    fn name(&self) -> String {
        let tokens = self.x.len() / self.cols;
        format!("linear {:?} (type, out, bias), {} wide, {tokens} rows", self.weights, self.cols)
    }

    fn tolerance(&self) -> f64 {
        1e-5
    }

    async fn compute<B: Backend>(&self, backend: &mut B) -> Result<Vec<f32>, ComputeError> {
        let tokens = self.x.len() / self.cols;
        let mut x = Rows::new(backend, self.cols, &self.x).await?;
        let (mut weights, mut biases, mut outs) = (Vec::new(), Vec::new(), Vec::new());
        for (i, &(dtype, out, biased)) in self.weights.iter().enumerate() {
            let seed = 10 + i as u64;
            weights.push(weight(backend, dtype, out, self.cols, &floats(seed, out * self.cols)).await?);
            biases.push(if biased {
                Some(weight(backend, GgmlDType::F32, 1, out, &floats(seed + 100, out)).await?)
            } else {
                None
            });
            outs.push(backend.tensor(tokens, out)?);
        }
        let plain = Plain::new(tokens);
        let mut all = Vec::new();
        // A step reads back one tensor, so each output has its own step.
        for read in 0..outs.len() {
            let layout = StepLayout { sequences: &plain.sequence() };
            let mut pass = backend.pass(&layout);
            x.load(&mut pass);
            let mut projections: Vec<_> = weights
                .iter()
                .zip(&biases)
                .zip(&mut outs)
                .map(|((weight, bias), out)| Projection { weight, bias: bias.as_ref(), out })
                .collect();
            pass.linear(&x.tensor, &mut projections);
            all.append(&mut finish(pass, &outs[read]).await?);
        }
        Ok(all)
    }
}

/// Rows of a table, scaled. Tolerance 1e-6: one multiplication.
struct Embed {
    dtype: GgmlDType,
    cols: usize,
}

impl Case for Embed {
    fn name(&self) -> String {
        format!("embed {:?}, {} wide", self.dtype, self.cols)
    }

    fn tolerance(&self) -> f64 {
        1e-6
    }

    async fn compute<B: Backend>(&self, backend: &mut B) -> Result<Vec<f32>, ComputeError> {
        let table = weight(backend, self.dtype, 9, self.cols, &floats(3, 9 * self.cols)).await?;
        let mut out = backend.tensor(4, self.cols)?;
        let tokens = [8, 0, 5, 5];
        let plain = Plain::new(tokens.len());
        let layout = StepLayout { sequences: &plain.sequence() };
        let mut pass = backend.pass(&layout);
        pass.embed(&table, &tokens, 2.5, &mut out);
        finish(pass, &out).await
    }
}
