//! Moves of cells to lower positions: context shift and chunk reuse.
//!
//! Position equals index, so tokens that move down must really move. They are copied into fresh blocks, never within a
//! block or over cells still to be read, and old blocks are let go as soon as they have been read: one block at hand is
//! enough.

use std::collections::VecDeque;

use crate::ids::{BLOCK_TOKENS, blocks_for};
use crate::limit::Layout;
use crate::slot::Slot;
use crate::{BlockId, Cache, Cell, CellCopy, ChunkMove, Eviction, Owner, Rotation, SlotId, Work};

impl Cache {
    /// Context shift: drops the tokens `[keep, keep + discard)`; those behind move down by `discard` positions.
    ///
    /// A slot that shares blocks with other slots needs cells of its own for what moves. Should a unified pool have too
    /// few, idle slots are purged for them; should that not do, more than `discard` tokens are dropped.
    pub fn shift(&mut self, slot: SlotId, keep: u32, discard: u32) -> Work {
        let index = self.index(slot);
        let mut work = Work::default();
        let len = self.slots[index].len();
        let keep = keep.min(len);
        let from = keep.saturating_add(discard).min(len);
        if from > keep {
            let count = self.movable(index, keep, len - from, &mut work);
            self.relocate(index, keep, &[ChunkMove { from: len - count, to: keep, count }], &mut work);
        }
        work
    }

    /// How many of `wanted` tokens can get cells of the slot's own behind its first `keep` tokens.
    fn movable(&mut self, index: usize, keep: u32, wanted: u32, work: &mut Work) -> u32 {
        let tail = keep % BLOCK_TOKENS;
        while !self.fits(index, &[], self.kept(index, keep - tail, tail + wanted)) {
            let Some(idle) = self.purgeable(index).next() else {
                return self.room(index, &[], self.kept(index, keep - tail, tail)).min(wanted);
            };
            self.empty(idle, &mut work.evicted);
        }
        wanted
    }

    fn kept(&self, index: usize, kept: u32, own: u32) -> Layout<'_> {
        Layout { blocks: &self.slots[index].content.blocks, kept, own }
    }

    /// Leaves the slot with its first `keep` tokens and, behind them, the tokens that `moves` name, in order. Every
    /// move goes down.
    pub(crate) fn relocate(&mut self, index: usize, keep: u32, moves: &[ChunkMove], work: &mut Work) {
        self.epoch += 1;
        let moves: Vec<_> = moves.iter().copied().filter(|run| run.count > 0).collect();
        if moves.is_empty() {
            self.slots[index].content.truncate(keep, &mut self.pool);
            return;
        }
        let first = keep / BLOCK_TOKENS;
        let built: u32 = keep + moves.iter().map(|run| run.count).sum::<u32>();
        let wanted = blocks_for(built) - first;
        if self.victims(self.missing(wanted), &self.slots[index].content.blocks).is_none() {
            // Old blocks are let go as they are read: the tree must not keep them then, nor anything on top of them.
            while let Some(victims) = self.victims(1, &self.slots[index].content.blocks) {
                self.sacrifice(&victims, &mut work.evicted);
            }
            let Slot { content, tenant, .. } = &self.slots[index];
            let tokens = self.tree.forget(*tenant, content, first, &mut self.pool);
            work.evicted.extend((tokens > 0).then_some(Eviction { owner: Owner::Ram, tokens }));
        }
        let content = &mut self.slots[index].content;
        let mut old = Old { next: first, blocks: content.blocks.split_off(first as usize).into() };
        let tail =
            ChunkMove { from: first * BLOCK_TOKENS, to: first * BLOCK_TOKENS, count: keep % BLOCK_TOKENS };
        let mut built = keep - tail.count;
        for piece in [tail].iter().chain(&moves).flat_map(pieces) {
            if piece.to.is_multiple_of(BLOCK_TOKENS) {
                old.read_up_to(piece.from, |block| self.pool.release(block));
                let fresh = self.take(1, old.blocks.make_contiguous(), &mut work.evicted).unwrap_or_default();
                debug_assert!(!fresh.is_empty(), "the pool keeps a spare block for every slot");
                self.slots[index].content.blocks.extend(fresh);
            }
            let to = self.slots[index].content.blocks.get((piece.to / BLOCK_TOKENS) as usize);
            let (Some(from), Some(to)) = (old.block(piece.from), to) else { break };
            work.move_cells(at(from, piece.from), at(*to, piece.to), piece);
            let tokens = &mut self.slots[index].content.tokens;
            tokens.copy_within(piece.from as usize..(piece.from + piece.count) as usize, piece.to as usize);
            built = piece.to + piece.count;
        }
        old.read_up_to(u32::MAX, |block| self.pool.release(block));
        let slot = &mut self.slots[index];
        slot.content.tokens.truncate(built as usize);
        slot.content.exact = slot.content.exact.min(keep);
        slot.indexed = slot.indexed.min(keep / BLOCK_TOKENS);
    }
}

/// Blocks that a slot gives up while they are being read.
struct Old {
    /// Number, in the slot, of the first block left.
    next: u32,
    blocks: VecDeque<BlockId>,
}

impl Old {
    fn block(&self, position: u32) -> Option<BlockId> {
        self.blocks.get((position / BLOCK_TOKENS).checked_sub(self.next)? as usize).copied()
    }

    /// Lets go of blocks that end at or before `position`.
    fn read_up_to(&mut self, position: u32, mut release: impl FnMut(BlockId)) {
        while self.next < position / BLOCK_TOKENS {
            let Some(block) = self.blocks.pop_front() else { break };
            release(block);
            self.next += 1;
        }
    }
}

impl Work {
    fn move_cells(&mut self, from: Cell, to: Cell, piece: ChunkMove) {
        self.copies.push(CellCopy { from, to, count: piece.count });
        let delta = piece.to as i32 - piece.from as i32;
        match self.rotations.last_mut() {
            _ if delta == 0 => {}
            Some(last) if last.delta == delta && last.ends_at(to) => last.count += piece.count,
            _ => self.rotations.push(Rotation { cell: to, count: piece.count, delta }),
        }
    }
}

impl Rotation {
    fn ends_at(&self, cell: Cell) -> bool {
        self.cell.block == cell.block && self.cell.offset + self.count == cell.offset
    }
}

fn at(block: BlockId, position: u32) -> Cell {
    Cell { block, offset: position % BLOCK_TOKENS }
}

/// Cuts a move where a block ends on either side.
fn pieces(run: &ChunkMove) -> impl Iterator<Item = ChunkMove> + use<> {
    let mut rest = *run;
    std::iter::from_fn(move || {
        let room = |position: u32| BLOCK_TOKENS - position % BLOCK_TOKENS;
        let count = rest.count.min(room(rest.from)).min(room(rest.to));
        let piece = ChunkMove { count, ..rest };
        rest = ChunkMove { from: rest.from + count, to: rest.to + count, count: rest.count - count };
        (count > 0).then_some(piece)
    })
}
