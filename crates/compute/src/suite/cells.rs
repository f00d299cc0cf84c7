//! KV cells: storing, copying, rotating, exporting and importing them, and what is refused.

use half::f16;
use reprise_gguf::{GgmlDType, MemorySource};

use super::elementwise::rope;
use super::inputs::{Rows, floats, weight_of};
use super::{Case, Run};
use crate::{
    BLOCK_TOKENS, Backend, Cell, CellRun, ComputeError, KvShape, KvType, Pairing, Pass, Readback, Readout,
    SequenceLayout, StepLayout,
};

const SHAPE: KvShape = KvShape::f16(2, 3, 10);
const QUANTISED: KvShape =
    KvShape { layers: 2, kv_heads: 1, head_dim: 32, keys: KvType::Q8_0, values: KvType::Q4_0 };
/// Tokens stored before each case: a full block and part of a second, in blocks 2 and 0 of 4.
const TOKENS: usize = 45;
const TABLE: [u32; 2] = [2, 0];

pub(super) async fn cases<B: Backend, F: Fn() -> B>(run: &mut Run<F>) {
    let at = |block, offset| Cell { block, offset };
    let copy = |from, to, count| Cells::Copy(CellRun { from, to, count });
    for case in [
        Cells::Stored,
        copy(at(2, 3), at(1, 0), 7),
        copy(at(2, 0), at(0, 13), 19),
        copy(at(2, 0), at(2, 5), 27),
        copy(at(2, 9), at(2, 1), 23),
        copy(at(2, 0), at(1, 0), 32),
        copy(at(2, 0), at(1, 0), 0),
        copy(at(3, 0), at(1, 0), 1),
        copy(at(2, 0), at(4, 0), 1),
        copy(at(4, 0), at(1, 0), 1),
        copy(at(2, 20), at(1, 0), 13),
        copy(at(2, 0), at(1, 31), 2),
        copy(at(2, u32::MAX), at(1, 0), 2),
        Cells::Rotate(at(2, 3), 20, -700, Pairing::Halves),
        Cells::Rotate(at(0, 0), 13, 5, Pairing::Adjacent),
        Cells::Rotate(at(2, 0), 32, 0, Pairing::Halves),
        Cells::Rotate(at(2, 30), 3, 1, Pairing::Halves),
        Cells::Rotate(at(3, 0), 1, 1, Pairing::Halves),
        Cells::RoundTrip(32),
        Cells::RoundTrip(13),
        Cells::RoundTrip(0),
        Cells::RoundTrip(33),
        Cells::Import(1, 5, 5 * 240 - 1),
        Cells::Import(1, 5, 5 * 240 + 1),
        Cells::Import(4, 5, 5 * 240),
        Cells::Export(3),
        Cells::Export(4),
        Cells::Weight(GgmlDType::Q4_1, 2, 48, 60),
        Cells::Weight(GgmlDType::Q4_1, 2, 64, 79),
        Cells::Weight(GgmlDType::F32, 3, 5, 64),
        Cells::Weight(GgmlDType::Q8K, 1, 256, 292),
        Cells::WeightAt(0, 64),
        Cells::WeightAt(16, 80),
        Cells::WeightAt(32, 96),
        Cells::WeightAt(16, 76),
    ] {
        run.check(&case).await;
    }
}

/// The same with quantised cells.
pub(super) async fn quantised_cases<B: Backend, F: Fn() -> B>(run: &mut Run<F>) {
    let at = |block, offset| Cell { block, offset };
    let copy = |from, to, count| Cells::Copy(CellRun { from, to, count });
    for case in [
        Cells::Stored,
        copy(at(2, 3), at(1, 0), 7),
        copy(at(2, 9), at(2, 1), 23),
        Cells::RoundTrip(32),
        Cells::RoundTrip(13),
        Cells::Import(1, 5, 5 * 104 - 1),
        Cells::Import(1, 5, 5 * 104),
    ] {
        run.check(&Quantised(case)).await;
    }
}

/// A case of [`Cells`] on [`QUANTISED`] cells, whose bytes must be the same.
#[derive(Debug)]
struct Quantised(Cells);

impl Case for Quantised {
    fn name(&self) -> String {
        format!("quantised {}", self.0.name())
    }

    fn tolerance(&self) -> f64 {
        0.0
    }

    async fn compute<B: Backend>(&self, backend: &mut B) -> Result<Vec<f32>, ComputeError> {
        Ok(self.0.bytes(backend, QUANTISED).await?.into_iter().map(f32::from).collect())
    }
}

/// Something done to the cells, then an export of every block that was written. Tolerance 0, but for rotations (1e-3:
/// the rounding to f16).
#[derive(Debug)]
enum Cells {
    Stored,
    Copy(CellRun),
    Rotate(Cell, usize, i32, Pairing),
    /// This many cells of block 2 into block 1.
    RoundTrip(usize),
    /// Block, tokens, bytes.
    Import(u32, usize, usize),
    Export(u32),
    /// Type, rows, columns, bytes.
    Weight(GgmlDType, usize, usize, usize),
    /// An f32 weight `[2, 8]` from these bytes of a source of 80.
    WeightAt(u64, u64),
}

impl Case for Cells {
    fn name(&self) -> String {
        format!("cells: {self:?}")
    }

    fn tolerance(&self) -> f64 {
        if matches!(self, Self::Rotate(..)) { 1e-3 } else { 0.0 }
    }

    async fn compute<B: Backend>(&self, backend: &mut B) -> Result<Vec<f32>, ComputeError> {
        Ok(halves(&self.bytes(backend, SHAPE).await?))
    }
}

impl Cells {
    /// What the export gives.
    async fn bytes<B: Backend>(&self, backend: &mut B, shape: KvShape) -> Result<Vec<u8>, ComputeError> {
        let mut kv = filled(backend, shape).await?;
        let mut written = vec![2, 0];
        match *self {
            Self::Stored => {}
            Self::Copy(run) => {
                backend.copy_cells(&mut kv, run)?;
                if run.to.block == 1 && run.count > 0 {
                    written.push(1);
                }
            }
            Self::Rotate(at, count, delta, pairing) => {
                let rope = rope(pairing, 8, 10_000.0);
                backend.rotate_cells(&mut kv, 1, at, count, delta, &rope)?;
            }
            Self::RoundTrip(tokens) => {
                let data = backend.export_block(&kv, 2, tokens).await?;
                backend.import_block(&mut kv, 1, tokens, &data)?;
                written.push(1);
            }
            Self::Import(block, tokens, bytes) => {
                backend.import_block(&mut kv, block, tokens, &vec![0; bytes])?;
            }
            Self::Export(block) => return backend.export_block(&kv, block, 1).await,
            Self::Weight(dtype, rows, cols, bytes) => {
                weight_of(backend, dtype, rows, cols, vec![0; bytes].into()).await?;
            }
            Self::WeightAt(start, end) => {
                backend.weight(GgmlDType::F32, 2, 8, &MemorySource(vec![0; 80].into()), start..end).await?;
            }
        }
        let mut all = Vec::new();
        for block in written {
            all.extend(backend.export_block(&kv, block, BLOCK_TOKENS).await?);
        }
        Ok(all)
    }
}

async fn filled<B: Backend>(backend: &mut B, shape: KvShape) -> Result<B::Kv, ComputeError> {
    let mut kv = backend.kv(shape, 4)?;
    let sequences = [SequenceLayout { rows: 0..TOKENS, start: 0, blocks: &TABLE }];
    for layer in 0..shape.layers {
        let values = |part: u64| floats(layer as u64 * 2 + part, TOKENS * shape.row());
        let mut k = Rows::new(backend, shape.row(), &values(1)).await?;
        let mut v = Rows::new(backend, shape.row(), &values(2)).await?;
        let layout = StepLayout { sequences: &sequences };
        let mut pass = backend.pass(&layout);
        k.load(&mut pass);
        v.load(&mut pass);
        pass.store_kv(&mut kv, layer, &k.tensor, &v.tensor);
        pass.finish(Readback::Nothing, &mut Readout::default()).await?;
    }
    Ok(kv)
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
}
