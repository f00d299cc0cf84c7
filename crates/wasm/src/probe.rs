//! Measures a backend for a moment, with a product that the model itself will do.

use std::time::Duration;

use reprise_compute::{
    Backend, ComputeError, Pass, Projection, Readback, Readout, SequenceLayout, StepLayout,
};
use reprise_engine::Clock;
use reprise_gguf::{Gguf, TensorInfo};

use crate::clock::WorkerClock;
use crate::source::JsSource;

/// How long each backend is measured.
const MOMENT: Duration = Duration::from_millis(50);
/// Products of a pass: a token's worth for a small model, so that what a submission costs has its share.
pub(crate) const PRODUCTS: usize = 16;

/// The matrix to measure with: the largest of the first layer.
pub(crate) fn matrix(gguf: &Gguf) -> Option<&TensorInfo> {
    let matrices =
        gguf.tensors().filter(|tensor| tensor.dims.len() == 2 && tensor.name.starts_with("blk.0."));
    matrices.max_by_key(|tensor| tensor.bytes())
}

/// Time of [`PRODUCTS`] products of one row with `tensor`, and of reading the result back. What is done only once
/// (compiling, first touch) does not count.
///
/// # Errors
/// The backend's: then it cannot run the model either.
pub(crate) async fn measure<B: Backend>(
    backend: &mut B,
    tensor: &TensorInfo,
    source: &JsSource,
) -> Result<Duration, ComputeError> {
    let (rows, cols) = (tensor.rows, tensor.cols);
    let weight = backend.weight(tensor.dtype, rows, cols, source, tensor.range.clone()).await?;
    let mut x = backend.tensor(1, cols)?;
    let mut out = backend.tensor(1, rows)?;
    pass(backend, &weight, &mut x, &mut out).await?;
    let begin = WorkerClock.now();
    let mut passes = 0;
    loop {
        pass(backend, &weight, &mut x, &mut out).await?;
        passes += 1;
        let elapsed = WorkerClock.now().saturating_sub(begin);
        if elapsed >= MOMENT {
            return Ok(elapsed / passes);
        }
    }
}

async fn pass<B: Backend>(
    backend: &mut B,
    weight: &B::Weight,
    x: &mut B::Tensor,
    out: &mut B::Tensor,
) -> Result<(), ComputeError> {
    let sequences = [SequenceLayout { rows: 0..1, start: 0, blocks: &[0] }];
    let layout = StepLayout { sequences: &sequences };
    let mut pass = backend.pass(&layout);
    // A tensor has no rows before it is written: a row of the matrix is as good a row as any.
    pass.embed(weight, &[0], 1.0, x);
    for _ in 0..PRODUCTS {
        pass.linear(x, &mut [Projection { weight, bias: None, out }]);
    }
    pass.finish(Readback::Top { of: out, count: 1 }, &mut Readout::default()).await
}
