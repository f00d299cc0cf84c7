//! What steps of a model cost by the tensors of its file: multiply-adds, and bytes that must be read.

use std::error::Error;
use std::time::Instant;

use reprise_compute::{Cpu, KvShape};
use reprise_gguf::{Gguf, TensorInfo};

/// Bytes of a stored element of K or V.
const KV_ELEMENT: usize = 2;
/// Of so many layers with a sliding window, one sees everything.
const WINDOW_PATTERN: usize = 6;

/// Costs of a model. Attention and what is done to single elements counts for nothing.
#[derive(Debug)]
pub(crate) struct Work {
    /// Elements of the layers' matrices, which are the multiply-adds of a token.
    layers: usize,
    /// Those of the last layer that come after its K and V: nobody needs them of a token without logits.
    after_kv: usize,
    head: usize,
    /// Bytes of the layers' matrices and of the head.
    bytes: u64,
    kv: KvShape,
    window: Option<usize>,
}

impl Work {
    /// Of the model in a file; `kv` is the shape of its KV.
    pub(crate) fn new(gguf: &Gguf, kv: KvShape) -> Result<Self, Box<dyn Error>> {
        let head = gguf.tensor("output.weight").or_else(|_| gguf.tensor("token_embd.weight"))?;
        let matrices: Vec<_> = gguf.tensors().filter(|t| t.rows > 1 && t.name.starts_with("blk.")).collect();
        let last = format!("blk.{}.", kv.layers - 1);
        let after_kv = matrices.iter().filter(|t| {
            t.name
                .strip_prefix(&last)
                .is_some_and(|part| !["attn_q", "attn_k", "attn_v"].iter().any(|p| part.starts_with(p)))
        });
        let window = format!("{}.attention.sliding_window", gguf.metadata.architecture()?);
        Ok(Self {
            layers: matrices.iter().map(|tensor| tensor.elements()).sum(),
            after_kv: after_kv.map(|tensor| tensor.elements()).sum(),
            head: head.elements(),
            bytes: head.bytes() + matrices.iter().map(|tensor| TensorInfo::bytes(tensor)).sum::<u64>(),
            kv,
            window: gguf.metadata.opt_u32(&window)?.map(|window| window as usize),
        })
    }

    /// Multiply-adds of a prompt of which the last `step` tokens share a step with the one whose logits are wanted.
    pub(crate) fn products(&self, prompt: usize, step: usize) -> f64 {
        let before = prompt - step.min(prompt);
        (prompt * self.layers - before * self.after_kv + self.head) as f64
    }

    /// Bytes that a step reads which adds a token to each of `sequences`, at `position`.
    pub(crate) fn bytes(&self, position: usize, sequences: usize) -> f64 {
        let cell = 2 * self.kv.kv_heads * self.kv.head_dim * KV_ELEMENT;
        let seen = |layer: usize| match self.window {
            Some(window) if !(layer + 1).is_multiple_of(WINDOW_PATTERN) => window.min(position + 1),
            _ => position + 1,
        };
        let cells: usize = (0..self.kv.layers).map(seen).sum();
        self.bytes as f64 + (sequences * cells * cell) as f64
    }
}

/// The machine's best, a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Roof {
    /// Multiply-adds of 8-bit integers.
    pub products: f64,
    /// Bytes read from memory.
    pub bytes: f64,
}

impl Roof {
    /// Measured for a moment.
    pub(crate) fn measure(cpu: &Cpu) -> Result<Self, Box<dyn Error>> {
        let roof = cpu.roof(256 << 20).ok_or("there are no 256 MiB to read")?;
        Ok(Self { products: best(|| roof.multiply_adds(5_000_000_000)), bytes: best(|| roof.read()) })
    }
}

fn best(work: impl Fn() -> u64) -> f64 {
    let rate = |_| {
        let start = Instant::now();
        work() as f64 / start.elapsed().as_secs_f64()
    };
    (0..8).map(rate).fold(0.0, f64::max)
}
