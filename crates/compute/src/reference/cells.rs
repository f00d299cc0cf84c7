//! KV cells of the reference: a block's bytes, read and written element by element.

use half::f16;

use super::pass::rotate;
use crate::{BLOCK_TOKENS, Cell, CellRun, ComputeError, KvShape, KvType, Rope};

/// KV memory; blocks that were never written are `None`.
#[derive(Debug)]
pub struct ReferenceKv {
    pub(super) shape: KvShape,
    blocks: Vec<Option<Vec<u8>>>,
}

impl ReferenceKv {
    pub(super) fn new(shape: KvShape, blocks: u32) -> Self {
        Self { shape, blocks: vec![None; blocks as usize] }
    }

    /// What K (`part` 0) or V (`part` 1) is stored as, and the bytes of one token of it.
    fn row(&self, part: usize) -> (KvType, usize) {
        let kv_type = [self.shape.keys, self.shape.values][part];
        (kv_type, kv_type.bytes(self.shape.row()))
    }

    /// Index of the first byte of a cell's K (`part` 0) or V (`part` 1) in its block.
    fn index(&self, layer: usize, part: usize, offset: usize) -> usize {
        let [keys, values] = [0, 1].map(|part| self.row(part).1);
        let before = layer * BLOCK_TOKENS * (keys + values);
        before + [offset * keys, BLOCK_TOKENS * keys + offset * values][part]
    }

    /// K (`part` 0) or V (`part` 1) of a cell, `[kv_head][head_dim]`.
    pub(super) fn cell(&self, layer: usize, part: usize, block: u32, offset: usize) -> Vec<f64> {
        let start = self.index(layer, part, offset);
        let data = self.blocks[block as usize].as_deref().expect("a block that was written");
        let (kv_type, bytes) = self.row(part);
        decode(kv_type, &data[start..start + bytes])
    }

    pub(super) fn store(&mut self, layer: usize, part: usize, block: u32, offset: usize, values: &[f64]) {
        let start = self.index(layer, part, offset);
        // Through f32, which is what backends round: `from_f64` in software looks at the upper 32 bits only.
        let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        let bytes = encode(self.row(part).0, &values);
        self.make(block).expect("a block of the memory")[start..start + bytes.len()].copy_from_slice(&bytes);
    }

    pub(super) fn copy(&mut self, run: CellRun) -> Result<(), ComputeError> {
        let (from, to, count) = (run.from, run.to, run.count as usize);
        check_run(from, count)?;
        check_run(to, count)?;
        let source = self.written(from.block)?.to_vec();
        self.make(to.block)?;
        for layer in 0..self.shape.layers {
            for part in 0..2 {
                let start = self.index(layer, part, from.offset as usize);
                let target = self.index(layer, part, to.offset as usize);
                let len = count * self.row(part).1;
                self.make(to.block)?[target..target + len].copy_from_slice(&source[start..start + len]);
            }
        }
        Ok(())
    }

    pub(super) fn rotate(
        &mut self,
        layer: usize,
        at: Cell,
        count: usize,
        delta: i32,
        rope: &Rope,
    ) -> Result<(), ComputeError> {
        check_run(at, count)?;
        self.written(at.block)?;
        for offset in at.offset as usize..at.offset as usize + count {
            let mut keys = self.cell(layer, 0, at.block, offset);
            for head in keys.chunks_exact_mut(self.shape.head_dim) {
                rotate(head, f64::from(delta), rope);
            }
            self.store(layer, 0, at.block, offset, &keys);
        }
        Ok(())
    }

    pub(super) fn export(&self, block: u32, tokens: usize) -> Result<Vec<u8>, ComputeError> {
        check_run(Cell { block, offset: 0 }, tokens)?;
        let data = self.written(block)?;
        let mut bytes = Vec::new();
        for layer in 0..self.shape.layers {
            for part in 0..2 {
                let start = self.index(layer, part, 0);
                bytes.extend(&data[start..start + tokens * self.row(part).1]);
            }
        }
        Ok(bytes)
    }

    pub(super) fn import(&mut self, block: u32, tokens: usize, data: &[u8]) -> Result<(), ComputeError> {
        check_run(Cell { block, offset: 0 }, tokens)?;
        let wanted = self.shape.bytes(tokens);
        if data.len() != wanted {
            return Err(ComputeError::Length { what: "a KV block", wanted, found: data.len() });
        }
        self.make(block)?;
        let mut from = data.iter();
        for layer in 0..self.shape.layers {
            for part in 0..2 {
                let start = self.index(layer, part, 0);
                let len = tokens * self.row(part).1;
                for (to, from) in self.make(block)?[start..start + len].iter_mut().zip(&mut from) {
                    *to = *from;
                }
            }
        }
        Ok(())
    }

    fn written(&self, block: u32) -> Result<&[u8], ComputeError> {
        match self.blocks.get(block as usize) {
            Some(Some(data)) => Ok(data),
            Some(None) => Err(ComputeError::Block { block, state: "empty" }),
            None => Err(ComputeError::Block { block, state: "outside the KV memory" }),
        }
    }

    fn make(&mut self, block: u32) -> Result<&mut Vec<u8>, ComputeError> {
        let len = self.shape.block_bytes();
        let slot = self
            .blocks
            .get_mut(block as usize)
            .ok_or(ComputeError::Block { block, state: "outside the KV memory" })?;
        Ok(slot.get_or_insert_with(|| vec![0; len]))
    }
}

fn check_run(at: Cell, count: usize) -> Result<(), ComputeError> {
    if (at.offset as usize).saturating_add(count) <= BLOCK_TOKENS {
        return Ok(());
    }
    Err(ComputeError::Block { block: at.block, state: "shorter than the run of cells" })
}

/// Elements as they are stored: ggml's formats, written out.
fn encode(kv_type: KvType, values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in values.chunks(kv_type.block()) {
        let largest = block.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or_default();
        match kv_type {
            KvType::F16 => bytes.extend(f16::from_f32(block[0]).to_le_bytes()),
            KvType::Q8_0 => {
                bytes.extend(f16::from_f32(largest.abs() / 127.0).to_le_bytes());
                let factor = if largest == 0.0 { 0.0 } else { 127.0 / largest.abs() };
                bytes.extend(block.iter().map(|x| ((x * factor).round_ties_even() as i8) as u8));
            }
            KvType::Q4_0 => {
                let scale = largest / -8.0;
                bytes.extend(f16::from_f32(scale).to_le_bytes());
                let factor = if scale == 0.0 { 0.0 } else { 1.0 / scale };
                let quant = |x: f32| (x * factor + 8.5).floor().min(15.0) as u8;
                bytes.extend((0..16).map(|i| quant(block[i]) + 16 * quant(block[i + 16])));
            }
        }
    }
    bytes
}

/// What [`encode`] stored.
fn decode(kv_type: KvType, bytes: &[u8]) -> Vec<f64> {
    let mut values = Vec::new();
    for block in bytes.chunks(kv_type.bytes(kv_type.block())) {
        let first = f16::from_le_bytes([block[0], block[1]]).to_f64();
        let quants = &block[2..];
        match kv_type {
            KvType::F16 => values.push(first),
            KvType::Q8_0 => values.extend(quants.iter().map(|&q| f64::from(q as i8) * first)),
            KvType::Q4_0 => {
                let nibbles = quants.iter().map(|q| q % 16).chain(quants.iter().map(|q| q / 16));
                values.extend(nibbles.map(|q| (f64::from(q) - 8.0) * first));
            }
        }
    }
    values
}
