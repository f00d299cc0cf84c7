//! Attention over block tables: GQA, windows, soft caps, several sequences, blocks in any order.

use super::inputs::{Rows, finish, floats};
use super::{Case, Run};
use crate::{
    Attention, BLOCK_TOKENS, Backend, ComputeError, KvShape, KvType, Pass, Readback, Readout, SequenceLayout,
    StepLayout,
};

pub(super) async fn cases<B: Backend, F: Fn() -> B>(run: &mut Run<F>) {
    let base = Attend {
        kv_heads: 1,
        head_dim: 64,
        heads: 1,
        window: None,
        softcap: None,
        sequences: vec![(1, 1)],
        stored: [KvType::F16; 2],
        seed: 0,
    };
    let gqa = Attend { kv_heads: 3, heads: 9, ..base.clone() };
    for sequences in [
        vec![(1, 1)],
        vec![(40, 40)],
        vec![(97, 1)],
        vec![(700, 1)],
        vec![(600, 70)],
        vec![(33, 2), (300, 1), (5, 5), (64, 64)],
        vec![(20, 1), (31, 1), (32, 1), (33, 1), (257, 1)],
    ] {
        run.check(&Attend { sequences: sequences.clone(), ..gqa.clone() }).await;
        run.check(&Attend { sequences: sequences.clone(), window: Some(50), ..gqa.clone() }).await;
        run.check(&Attend { sequences, head_dim: 256, heads: 4, ..base.clone() }).await;
    }
    for head_dim in [1, 6, 8, 24, 80, 96, 128] {
        run.check(&Attend { head_dim, heads: 4, kv_heads: 2, sequences: vec![(75, 9)], ..base.clone() })
            .await;
    }
    for window in [1, 2, 31, 32, 33, 64, 512] {
        let sequences = vec![(520, 1), (100, 40)];
        run.check(&Attend { window: Some(window), sequences, ..gqa.clone() }).await;
    }
    for softcap in [1.0, 50.0] {
        let sequences = vec![(300, 3)];
        run.check(&Attend { softcap: Some(softcap), sequences, ..gqa.clone() }).await;
    }
}

/// Attention over quantised KV.
pub(super) async fn quantised_cases<B: Backend, F: Fn() -> B>(run: &mut Run<F>) {
    for stored in [[KvType::Q8_0, KvType::Q4_0], [KvType::Q4_0, KvType::Q8_0], [KvType::F16, KvType::Q8_0]] {
        for (head_dim, kv_heads, sequences) in
            [(64, 3, vec![(700, 1)]), (128, 1, vec![(33, 2), (300, 40), (5, 5)])]
        {
            let (window, softcap) = (None, None);
            run.check(&Attend {
                kv_heads,
                head_dim,
                heads: 3 * kv_heads,
                window,
                softcap,
                sequences,
                stored,
                seed: 3,
            })
            .await;
        }
    }
}

/// The last `new` tokens of each sequence of `total` tokens attend to all before them. Tolerance 1e-5: the order of f32
/// additions and the exponentials; K and V are rounded on every backend alike.
#[derive(Debug, Clone)]
pub(super) struct Attend {
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) heads: usize,
    pub(super) window: Option<usize>,
    pub(super) softcap: Option<f32>,
    /// `(total, new)`.
    pub(super) sequences: Vec<(usize, usize)>,
    /// What K and V are stored as.
    pub(super) stored: [KvType; 2],
    /// Of the keys, values and queries.
    pub(super) seed: u64,
}

/// The layer used, of three.
const LAYER: usize = 1;

impl Case for Attend {
    fn name(&self) -> String {
        format!("{self:?}")
    }

    fn tolerance(&self) -> f64 {
        1e-5
    }

    async fn compute<B: Backend>(&self, backend: &mut B) -> Result<Vec<f32>, ComputeError> {
        let mut kv = self.kv(backend).await?;
        self.attend(backend, &mut kv, &self.sequences).await
    }
}

impl Attend {
    fn spec(&self) -> Attention {
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        Attention { heads: self.heads, scale, window: self.window, softcap: self.softcap }
    }

    /// Physical blocks of each sequence: interleaved, and against the order of the memory.
    fn tables(&self) -> Vec<Vec<u32>> {
        let count = |total: usize| total.div_ceil(BLOCK_TOKENS);
        let mut free: Vec<u32> =
            (0..self.sequences.iter().map(|s| count(s.0)).sum::<usize>() as u32).collect();
        free.sort_by_key(|block| block % 3);
        self.sequences.iter().map(|s| free.split_off(free.len() - count(s.0))).collect()
    }

    /// Keys and values of every sequence in [`LAYER`], stored in one step.
    pub(super) async fn kv<B: Backend>(&self, backend: &mut B) -> Result<B::Kv, ComputeError> {
        let [keys, values] = self.stored;
        let shape = KvShape { layers: 3, kv_heads: self.kv_heads, head_dim: self.head_dim, keys, values };
        let tables = self.tables();
        let blocks: usize = tables.iter().map(Vec::len).sum();
        let mut kv = backend.kv(shape, blocks as u32)?;
        let mut rows = 0;
        let sequences: Vec<_> = tables
            .iter()
            .zip(&self.sequences)
            .map(|(blocks, &(total, _))| {
                rows += total;
                SequenceLayout { rows: rows - total..rows, start: 0, blocks }
            })
            .collect();
        let mut k = Rows::new(backend, shape.row(), &floats(self.seed + 1, rows * shape.row())).await?;
        let mut v = Rows::new(backend, shape.row(), &floats(self.seed + 2, rows * shape.row())).await?;
        let layout = StepLayout { sequences: &sequences };
        let mut pass = backend.pass(&layout);
        k.load(&mut pass);
        v.load(&mut pass);
        pass.store_kv(&mut kv, LAYER, &k.tensor, &v.tensor);
        pass.finish(Readback::Nothing, &mut Readout::default()).await?;
        Ok(kv)
    }

    /// One step in which, of each sequence `(end, new)`, positions `end - new..end` attend. A query depends only on its
    /// sequence and position.
    pub(super) async fn attend<B: Backend>(
        &self,
        backend: &mut B,
        kv: &mut B::Kv,
        parts: &[(usize, usize)],
    ) -> Result<Vec<f32>, ComputeError> {
        let width = self.heads * self.head_dim;
        let tables = self.tables();
        let (mut queries, mut sequences, mut rows) = (Vec::new(), Vec::new(), 0);
        for (i, (&(end, new), blocks)) in parts.iter().zip(&tables).enumerate() {
            if new == 0 {
                continue;
            }
            let all = floats(self.seed + 10 + i as u64, end * width);
            queries.extend_from_slice(&all[(end - new) * width..]);
            sequences.push(SequenceLayout { rows: rows..rows + new, start: end - new, blocks });
            rows += new;
        }
        let mut q = Rows::new(backend, width, &queries).await?;
        let mut out = backend.tensor(rows, width)?;
        let layout = StepLayout { sequences: &sequences };
        let mut pass = backend.pass(&layout);
        q.load(&mut pass);
        pass.attention(kv, LAYER, &q.tensor, &self.spec(), &mut out);
        finish(pass, &out).await
    }
}
