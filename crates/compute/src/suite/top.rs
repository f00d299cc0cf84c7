//! Reading back: the best values of each row, and what an earlier pass left in a tensor.

use super::inputs::{Plain, Rows, finish, floats};
use super::{Case, Run};
use crate::{Backend, ComputeError, MAX_TOP, Pass, Readback, Readout, StepLayout};

pub(super) async fn cases<B: Backend, F: Fn() -> B>(run: &mut Run<F>) {
    for (width, rows, count) in [
        (1, 1, 1),
        (7, 3, 1),
        (33, 2, 40),
        (256, 1, 40),
        (1000, 5, 2),
        (4096, 1, MAX_TOP),
        (49_152, 2, 41),
        (70_001, 1, MAX_TOP + 5),
    ] {
        for kind in [Values::Apart, Values::Few, Values::Same, Values::Impossible] {
            run.check(&Top { width, rows, count, kind }).await;
        }
    }
    run.check(&Top { width: 600, rows: 2, count: 0, kind: Values::Apart }).await;
    run.check(&Later { width: 300, rows: 3 }).await;
}

/// What the rows are made of.
#[derive(Debug, Clone, Copy)]
enum Values {
    /// Hardly two of them equal.
    Apart,
    /// Nine different ones, so that most of the best are equal.
    Few,
    /// One.
    Same,
    /// A few numbers among infinities and NaNs.
    Impossible,
}

/// The best of every row, and where they stand. Tolerance 0: nothing is computed.
#[derive(Debug)]
struct Top {
    width: usize,
    rows: usize,
    count: usize,
    kind: Values,
}

impl Top {
    fn values(&self) -> Vec<f32> {
        let mut values = floats(self.count as u64, self.width * self.rows);
        for (index, value) in values.iter_mut().enumerate() {
            match self.kind {
                Values::Apart => {}
                Values::Few => *value = (*value * 2.0).round().clamp(-4.0, 4.0),
                Values::Same => *value = 0.25,
                Values::Impossible if index % 19 != 4 => {
                    *value = if index % 3 == 0 { f32::NAN } else { f32::NEG_INFINITY };
                }
                Values::Impossible => {}
            }
        }
        values
    }
}

impl Case for Top {
    fn name(&self) -> String {
        format!("{self:?}")
    }

    fn tolerance(&self) -> f64 {
        0.0
    }

    async fn compute<B: Backend>(&self, backend: &mut B) -> Result<Vec<f32>, ComputeError> {
        let mut x = Rows::new(backend, self.width, &self.values()).await?;
        let plain = Plain::new(self.rows);
        let layout = StepLayout { sequences: &plain.sequence() };
        let mut pass = backend.pass(&layout);
        x.load(&mut pass);
        // What was read before must not show.
        let mut out = Readout { values: vec![7.0], columns: vec![7] };
        pass.finish(Readback::Top { of: &x.tensor, count: self.count }, &mut out).await?;
        if out.values.len() != out.columns.len() {
            let detail = format!("{} values and {} columns", out.values.len(), out.columns.len());
            return Err(ComputeError::Operands { op: "finish", detail });
        }
        // Columns are exact as floats, and infinities have no difference that could be compared.
        let values = out.values.iter().map(|value| value.max(f32::MIN / 4.0));
        Ok(values.chain(out.columns.iter().map(|&column| column as f32)).collect())
    }
}

/// Rows that one pass has written, its best values read, and an empty pass reads whole. Tolerance 0.
struct Later {
    width: usize,
    rows: usize,
}

impl Case for Later {
    fn name(&self) -> String {
        format!("{} x {} read by a later pass", self.rows, self.width)
    }

    fn tolerance(&self) -> f64 {
        0.0
    }

    async fn compute<B: Backend>(&self, backend: &mut B) -> Result<Vec<f32>, ComputeError> {
        let mut x = Rows::new(backend, self.width, &floats(3, self.width * self.rows)).await?;
        let plain = Plain::new(self.rows);
        let layout = StepLayout { sequences: &plain.sequence() };
        let mut pass = backend.pass(&layout);
        x.load(&mut pass);
        pass.finish(Readback::Top { of: &x.tensor, count: 2 }, &mut Readout::default()).await?;
        finish(backend.pass(&StepLayout { sequences: &[] }), &x.tensor).await
    }
}
