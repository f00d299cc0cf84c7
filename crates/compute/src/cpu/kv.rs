//! KV memory of the CPU backend: room for a block is taken when it is first written, in the canonical layout
//! `[layer][K, V][token][kv_head][head_dim] f16`. Export and import are therefore plain copies.

use std::ops::{Deref, DerefMut};

use half::f16;

use crate::kernels::arena::{Arena, Room};
use crate::{BLOCK_TOKENS, Cell, CellRun, ComputeError, KvShape};

/// K or V of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// KV memory of all layers, in blocks.
#[derive(Debug)]
pub struct CpuKv {
    shape: KvShape,
    blocks: Vec<Option<Block>>,
    arena: Arena,
}

/// The cells of a block in all layers.
#[derive(Debug)]
enum Block {
    /// In large pages.
    Room(Room),
    /// Where there are none.
    Heap(Box<[f16]>),
}

impl Deref for Block {
    type Target = [f16];

    fn deref(&self) -> &[f16] {
        match self {
            Self::Room(room) => bytemuck::cast_slice(room.as_ref()),
            Self::Heap(cells) => cells,
        }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [f16] {
        match self {
            Self::Room(room) => bytemuck::cast_slice_mut(room.as_mut()),
            Self::Heap(cells) => cells,
        }
    }
}

impl CpuKv {
    pub(super) fn new(shape: KvShape, blocks: u32) -> Self {
        Self { shape, blocks: (0..blocks).map(|_| None).collect(), arena: Arena::default() }
    }

    pub(super) fn shape(&self) -> KvShape {
        self.shape
    }

    /// K (or V) of all cells of a block in one layer, `[token][kv_head][head_dim]`.
    pub(super) fn layer(&self, block: u32, layer: usize, part: Part) -> Result<&[f16], ComputeError> {
        let data = self.block(block)?;
        let range = self.layer_range(layer, part);
        data.get(range).ok_or_else(|| no_layer(layer))
    }

    /// As [`CpuKv::layer`], for writing; makes the block if it was never written.
    pub(super) fn layer_mut(
        &mut self,
        block: u32,
        layer: usize,
        part: Part,
    ) -> Result<&mut [f16], ComputeError> {
        let range = self.layer_range(layer, part);
        self.block_mut(block)?.get_mut(range).ok_or_else(|| no_layer(layer))
    }

    pub(super) fn copy_cells(&mut self, run: CellRun) -> Result<(), ComputeError> {
        let CellRun { from, to, count } = run;
        let (start, count) = (span(from, count)?, count as usize);
        let target = span(to, run.count)?;
        let row = self.shape.row();
        if from.block == to.block {
            let planes = self.shape.layers * 2;
            let data = self.existing_mut(from.block)?;
            for plane in 0..planes {
                let base = plane * BLOCK_TOKENS * row;
                let source = base + start * row;
                data.copy_within(source..source + count * row, base + target * row);
            }
            return Ok(());
        }
        self.block(from.block)?;
        self.block_mut(to.block)?;
        let planes = self.shape.layers * 2;
        let [Some(Some(source)), Some(Some(data))] = pair(&mut self.blocks, from.block, to.block) else {
            return Err(ComputeError::Block { block: from.block, state: EMPTY });
        };
        for plane in 0..planes {
            let base = plane * BLOCK_TOKENS * row;
            data[base + target * row..][..count * row]
                .copy_from_slice(&source[base + start * row..][..count * row]);
        }
        Ok(())
    }

    /// K of `count` written cells of one layer, for re-rotation.
    pub(super) fn keys_mut(
        &mut self,
        layer: usize,
        at: Cell,
        count: usize,
    ) -> Result<&mut [f16], ComputeError> {
        let start = u32::try_from(count)
            .map_err(|_| ComputeError::Block { block: at.block, state: TOO_SHORT })
            .and_then(|count| span(at, count))?;
        let row = self.shape.row();
        let range = self.layer_range(layer, Part::Key);
        let keys = self.existing_mut(at.block)?.get_mut(range).ok_or_else(|| no_layer(layer))?;
        Ok(&mut keys[start * row..(start + count) * row])
    }

    pub(super) fn export(&self, block: u32, tokens: usize) -> Result<Vec<u8>, ComputeError> {
        check_tokens(block, tokens)?;
        let data = self.block(block)?;
        let row = self.shape.row();
        let mut bytes = Vec::with_capacity(self.shape.bytes(tokens));
        for plane in data.chunks_exact((BLOCK_TOKENS * row).max(1)) {
            bytes.extend_from_slice(bytemuck::cast_slice(&plane[..tokens * row]));
        }
        Ok(bytes)
    }

    pub(super) fn import(&mut self, block: u32, tokens: usize, bytes: &[u8]) -> Result<(), ComputeError> {
        check_tokens(block, tokens)?;
        let wanted = self.shape.bytes(tokens);
        if bytes.len() != wanted {
            return Err(ComputeError::Length { what: "a KV block", wanted, found: bytes.len() });
        }
        let row = self.shape.row();
        let data = self.block_mut(block)?;
        if tokens * row == 0 {
            return Ok(());
        }
        let planes = data.chunks_exact_mut(BLOCK_TOKENS * row).zip(bytes.chunks_exact(tokens * row * 2));
        for (plane, bytes) in planes {
            bytemuck::cast_slice_mut::<f16, u8>(&mut plane[..tokens * row]).copy_from_slice(bytes);
        }
        Ok(())
    }

    fn layer_range(&self, layer: usize, part: Part) -> std::ops::Range<usize> {
        let plane = BLOCK_TOKENS * self.shape.row();
        let start = (layer * 2 + usize::from(part == Part::Value)) * plane;
        start..start + plane
    }

    fn block(&self, block: u32) -> Result<&[f16], ComputeError> {
        match self.blocks.get(block as usize) {
            Some(Some(data)) => Ok(data),
            Some(None) => Err(ComputeError::Block { block, state: EMPTY }),
            None => Err(ComputeError::Block { block, state: OUTSIDE }),
        }
    }

    fn existing_mut(&mut self, block: u32) -> Result<&mut [f16], ComputeError> {
        match self.blocks.get_mut(block as usize) {
            Some(Some(data)) => Ok(data),
            Some(None) => Err(ComputeError::Block { block, state: EMPTY }),
            None => Err(ComputeError::Block { block, state: OUTSIDE }),
        }
    }

    fn block_mut(&mut self, block: u32) -> Result<&mut [f16], ComputeError> {
        let elements = self.shape.block_bytes() / size_of::<f16>();
        let slot =
            self.blocks.get_mut(block as usize).ok_or(ComputeError::Block { block, state: OUTSIDE })?;
        if slot.is_none() {
            *slot = Some(match self.arena.room(self.shape.block_bytes()) {
                Some(room) => Block::Room(room),
                None => Block::Heap(on_the_heap(elements)?),
            });
        }
        slot.as_deref_mut().ok_or(ComputeError::Block { block, state: EMPTY })
    }
}

fn on_the_heap(elements: usize) -> Result<Box<[f16]>, ComputeError> {
    let mut cells = Vec::new();
    cells
        .try_reserve_exact(elements)
        .map_err(|e| ComputeError::Device(format!("a KV block of {elements} elements: {e}")))?;
    cells.resize(elements, f16::ZERO);
    Ok(cells.into_boxed_slice())
}

const EMPTY: &str = "empty";
const OUTSIDE: &str = "outside the KV memory";
const TOO_SHORT: &str = "shorter than the run of cells";

/// First cell of a run that ends within its block.
fn span(at: Cell, count: u32) -> Result<usize, ComputeError> {
    match at.offset.checked_add(count) {
        Some(end) if end as usize <= BLOCK_TOKENS => Ok(at.offset as usize),
        _ => Err(ComputeError::Block { block: at.block, state: TOO_SHORT }),
    }
}

fn check_tokens(block: u32, tokens: usize) -> Result<(), ComputeError> {
    if tokens > BLOCK_TOKENS {
        return Err(ComputeError::Block { block, state: TOO_SHORT });
    }
    Ok(())
}

fn no_layer(layer: usize) -> ComputeError {
    ComputeError::Operands { op: "kv", detail: format!("there is no layer {layer}") }
}

/// Two different blocks, the second for writing.
fn pair<T>(blocks: &mut [T], from: u32, to: u32) -> [Option<&mut T>; 2] {
    match blocks.get_disjoint_mut([from as usize, to as usize]) {
        Ok([a, b]) => [Some(a), Some(b)],
        Err(_) => [None, None],
    }
}
