//! What the model has to do to its KV memory after a change of the logical cache.

use crate::{BlockId, Eviction};

/// Cell operations that follow from one change of the cache.
///
/// All copies come first, in order, then all rotations. They must be carried out before the next change of the cache
/// and before the model's next step: later copies may write what earlier ones have read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[must_use = "the model's cells are wrong until the work is done"]
pub struct Work {
    /// Cells to copy: K and V of every layer.
    pub copies: Vec<CellCopy>,
    /// Cells whose K is to be rotated to another position.
    pub rotations: Vec<Rotation>,
    /// What was given up to make room for this change.
    pub evicted: Vec<Eviction>,
}

impl Work {
    /// Whether the model's memory can stay as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.rotations.is_empty()
    }
}

/// A place for one token's K and V in all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Physical block.
    pub block: BlockId,
    /// Cell in the block, below [`crate::BLOCK_TOKENS`].
    pub offset: u32,
}

/// Cells to copy. Neither side crosses a block's end, and the two blocks always differ, so that no backend has to care
/// for overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellCopy {
    /// First cell read.
    pub from: Cell,
    /// First cell written.
    pub to: Cell,
    /// How many, at least one.
    pub count: u32,
}

/// Cells whose K is to be re-rotated; they do not cross a block's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// First cell.
    pub cell: Cell,
    /// How many, at least one.
    pub count: u32,
    /// Positions to move by; negative towards the start.
    pub delta: i32,
}
