//! KV cells of the reference: one flat f16 array a block.

use half::f16;

use super::pass::rotate;
use crate::{BLOCK_TOKENS, Cell, CellRun, ComputeError, KvShape, Rope};

/// KV memory; blocks that were never written are `None`.
#[derive(Debug)]
pub struct ReferenceKv {
    pub(super) shape: KvShape,
    blocks: Vec<Option<Vec<f16>>>,
}

impl ReferenceKv {
    pub(super) fn new(shape: KvShape, blocks: u32) -> Self {
        Self { shape, blocks: vec![None; blocks as usize] }
    }

    /// Index of the first element of a cell's K (`part` 0) or V (`part` 1) in its block.
    fn index(&self, layer: usize, part: usize, offset: usize) -> usize {
        ((layer * 2 + part) * BLOCK_TOKENS + offset) * self.shape.row()
    }

    /// K (`part` 0) or V (`part` 1) of a cell, `[kv_head][head_dim]`.
    pub(super) fn cell(&self, layer: usize, part: usize, block: u32, offset: usize) -> Vec<f64> {
        let start = self.index(layer, part, offset);
        let data = self.blocks[block as usize].as_deref().expect("a block that was written");
        data[start..start + self.shape.row()].iter().map(|x| x.to_f64()).collect()
    }

    pub(super) fn store(&mut self, layer: usize, part: usize, block: u32, offset: usize, values: &[f64]) {
        let start = self.index(layer, part, offset);
        let data = self.make(block).expect("a block of the memory");
        for (to, from) in data[start..].iter_mut().zip(values) {
            // Through f32, which is what backends round: `from_f64` in software looks at the upper 32 bits only.
            *to = f16::from_f32(*from as f32);
        }
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
                let len = count * self.shape.row();
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
                for x in &data[start..start + tokens * self.shape.row()] {
                    bytes.extend(x.to_le_bytes());
                }
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
        let mut from = data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]));
        for layer in 0..self.shape.layers {
            for part in 0..2 {
                let start = self.index(layer, part, 0);
                let len = tokens * self.shape.row();
                for (to, from) in self.make(block)?[start..start + len].iter_mut().zip(&mut from) {
                    *to = from;
                }
            }
        }
        Ok(())
    }

    fn written(&self, block: u32) -> Result<&[f16], ComputeError> {
        match self.blocks.get(block as usize) {
            Some(Some(data)) => Ok(data),
            Some(None) => Err(ComputeError::Block { block, state: "empty" }),
            None => Err(ComputeError::Block { block, state: "outside the KV memory" }),
        }
    }

    fn make(&mut self, block: u32) -> Result<&mut Vec<f16>, ComputeError> {
        let len = self.shape.block_bytes() / 2;
        let slot = self
            .blocks
            .get_mut(block as usize)
            .ok_or(ComputeError::Block { block, state: "outside the KV memory" })?;
        Ok(slot.get_or_insert_with(|| vec![f16::ZERO; len]))
    }
}

fn check_run(at: Cell, count: usize) -> Result<(), ComputeError> {
    if (at.offset as usize).saturating_add(count) <= BLOCK_TOKENS {
        return Ok(());
    }
    Err(ComputeError::Block { block: at.block, state: "shorter than the run of cells" })
}
