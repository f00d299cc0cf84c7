//! KV memory of the CPU backend: room for a block is taken when it is first written, in the canonical layout
//! `[layer][K, V][token][kv_head][head_dim]`. Export and import are therefore plain copies.

use std::ops::{Deref, DerefMut, Range};

use crate::kernels::arena::{Arena, Room};
use crate::{BLOCK_TOKENS, Cell, CellRun, ComputeError, KvShape, KvType};

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
    Heap(Box<[Pair]>),
}

/// Two bytes, aligned so that f16 may be read where they lie.
type Pair = u16;

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Room(room) => room.as_ref(),
            Self::Heap(cells) => bytemuck::cast_slice(cells),
        }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Room(room) => room.as_mut(),
            Self::Heap(cells) => bytemuck::cast_slice_mut(cells),
        }
    }
}

impl CpuKv {
    pub(super) fn new(shape: KvShape, blocks: u32) -> Result<Self, ComputeError> {
        if !shape.keeps_heads_whole() {
            let detail = format!(
                "K as {} and V as {} need heads of a multiple of 32 elements, and these have {}: choose f16",
                shape.keys, shape.values, shape.head_dim
            );
            return Err(ComputeError::Operands { op: "kv", detail });
        }
        Ok(Self { shape, blocks: (0..blocks).map(|_| None).collect(), arena: Arena::default() })
    }

    pub(super) fn shape(&self) -> KvShape {
        self.shape
    }

    /// What K (or V) is stored as.
    pub(super) fn kv_type(&self, part: Part) -> KvType {
        match part {
            Part::Key => self.shape.keys,
            Part::Value => self.shape.values,
        }
    }

    /// Bytes of K (or V) of one token in one layer.
    pub(super) fn row_bytes(&self, part: Part) -> usize {
        self.kv_type(part).bytes(self.shape.row())
    }

    /// K (or V) of all cells of a block in one layer, `[token][kv_head][head_dim]`, as stored.
    pub(super) fn layer(&self, block: u32, layer: usize, part: Part) -> Result<&[u8], ComputeError> {
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
    ) -> Result<&mut [u8], ComputeError> {
        let range = self.layer_range(layer, part);
        self.block_mut(block)?.get_mut(range).ok_or_else(|| no_layer(layer))
    }

    pub(super) fn copy_cells(&mut self, run: CellRun) -> Result<(), ComputeError> {
        let CellRun { from, to, count } = run;
        let (start, count) = (span(from, count)?, count as usize);
        let target = span(to, run.count)?;
        if from.block == to.block {
            self.existing_mut(from.block)?;
        } else {
            self.block(from.block)?;
            self.block_mut(to.block)?;
        }
        for (plane, row) in self.planes() {
            let [start, target] = [start, target].map(|cell| plane.start + cell * row);
            if from.block == to.block {
                self.existing_mut(from.block)?.copy_within(start..start + count * row, target);
                continue;
            }
            let [Some(Some(source)), Some(Some(data))] = pair(&mut self.blocks, from.block, to.block) else {
                return Err(ComputeError::Block { block: from.block, state: EMPTY });
            };
            data[target..target + count * row].copy_from_slice(&source[start..start + count * row]);
        }
        Ok(())
    }

    /// K of `count` written cells of one layer as stored, for re-rotation.
    pub(super) fn keys_mut(
        &mut self,
        layer: usize,
        at: Cell,
        count: usize,
    ) -> Result<&mut [u8], ComputeError> {
        let start = u32::try_from(count)
            .map_err(|_| ComputeError::Block { block: at.block, state: TOO_SHORT })
            .and_then(|count| span(at, count))?;
        let row = self.row_bytes(Part::Key);
        let range = self.layer_range(layer, Part::Key);
        let keys = self.existing_mut(at.block)?.get_mut(range).ok_or_else(|| no_layer(layer))?;
        Ok(&mut keys[start * row..(start + count) * row])
    }

    pub(super) fn export(&self, block: u32, tokens: usize) -> Result<Vec<u8>, ComputeError> {
        check_tokens(block, tokens)?;
        let data = self.block(block)?;
        let mut bytes = Vec::with_capacity(self.shape.bytes(tokens));
        for (plane, row) in self.planes() {
            bytes.extend_from_slice(&data[plane][..tokens * row]);
        }
        Ok(bytes)
    }

    pub(super) fn import(&mut self, block: u32, tokens: usize, bytes: &[u8]) -> Result<(), ComputeError> {
        check_tokens(block, tokens)?;
        let wanted = self.shape.bytes(tokens);
        if bytes.len() != wanted {
            return Err(ComputeError::Length { what: "a KV block", wanted, found: bytes.len() });
        }
        let planes = self.planes();
        let data = self.block_mut(block)?;
        let mut rest = bytes;
        for (plane, row) in planes {
            let (cells, after) = rest.split_at(tokens * row);
            data[plane][..cells.len()].copy_from_slice(cells);
            rest = after;
        }
        Ok(())
    }

    /// Where K and V of each layer lie in a block, in order, and the bytes of one token there.
    fn planes(&self) -> impl Iterator<Item = (Range<usize>, usize)> + use<> {
        let rows = [Part::Key, Part::Value].map(|part| self.row_bytes(part));
        let layer = BLOCK_TOKENS * (rows[0] + rows[1]);
        (0..self.shape.layers).flat_map(move |index| {
            let start = index * layer;
            let values = start + BLOCK_TOKENS * rows[0];
            [(start..values, rows[0]), (values..start + layer, rows[1])]
        })
    }

    fn layer_range(&self, layer: usize, part: Part) -> Range<usize> {
        let [keys, values] = [Part::Key, Part::Value].map(|part| BLOCK_TOKENS * self.row_bytes(part));
        let start = layer * (keys + values);
        match part {
            Part::Key => start..start + keys,
            Part::Value => start + keys..start + keys + values,
        }
    }

    fn block(&self, block: u32) -> Result<&[u8], ComputeError> {
        match self.blocks.get(block as usize) {
            Some(Some(data)) => Ok(data),
            Some(None) => Err(ComputeError::Block { block, state: EMPTY }),
            None => Err(ComputeError::Block { block, state: OUTSIDE }),
        }
    }

    fn existing_mut(&mut self, block: u32) -> Result<&mut [u8], ComputeError> {
        match self.blocks.get_mut(block as usize) {
            Some(Some(data)) => Ok(data),
            Some(None) => Err(ComputeError::Block { block, state: EMPTY }),
            None => Err(ComputeError::Block { block, state: OUTSIDE }),
        }
    }

    fn block_mut(&mut self, block: u32) -> Result<&mut [u8], ComputeError> {
        let bytes = self.shape.block_bytes();
        let slot =
            self.blocks.get_mut(block as usize).ok_or(ComputeError::Block { block, state: OUTSIDE })?;
        if slot.is_none() {
            *slot = Some(match self.arena.room(bytes) {
                Some(room) => Block::Room(room),
                None => Block::Heap(on_the_heap(bytes)?),
            });
        }
        slot.as_deref_mut().ok_or(ComputeError::Block { block, state: EMPTY })
    }
}

fn on_the_heap(bytes: usize) -> Result<Box<[Pair]>, ComputeError> {
    let pairs = bytes / size_of::<Pair>();
    let mut cells = Vec::new();
    cells
        .try_reserve_exact(pairs)
        .map_err(|e| ComputeError::Device(format!("a KV block of {bytes} bytes: {e}")))?;
    cells.resize(pairs, 0);
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
