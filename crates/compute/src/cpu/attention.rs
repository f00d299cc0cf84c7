//! Causal attention over block tables.
//!
//! A row's softmax runs block by block over spans of [`SPAN`] positions, each span from nothing; the spans are then
//! merged in order. Spans lie at fixed positions, so a row's result does not depend on how the work is cut: tiles of
//! rows that share widened keys and values (prefill), or one task a span and KV head (decode of a long sequence).

use std::cell::RefCell;
use std::ops::Range;

use super::Threads;
use super::kv::{CpuKv, Part};
use super::tensor::CpuTensor;
use crate::kernels::attention::{
    BlockView, LANES, Running, Stored, StoredHead, Widened, attend, merge, prefetch_head, reads_stored,
    widen_head,
};
use crate::kernels::lines::Lines;
use crate::{Attention, BLOCK_TOKENS, ComputeError, KvType, SequenceLayout, StepLayout};

/// Positions of a span.
const SPAN: usize = 8 * BLOCK_TOKENS;
/// Rows of a tile, which share widened keys and values.
const TILE_ROWS: usize = 16;
/// Multiplications below which one thread is faster than two: about 5 us.
const WORTH_FORKING: usize = 64 * 1024;

/// Memory reused from call to call.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    tiles: Vec<Tile>,
    spans: Vec<SpanTask>,
    /// For each task of `spans` and each query row of its tile: the softmax of the span and its output.
    running: Vec<Running>,
    parts: Lines,
    /// The merged softmax of each row and head, and its output.
    totals: Vec<Running>,
    total_outs: Lines,
}

/// Rows of one sequence that are computed together.
#[derive(Debug, Clone)]
struct Tile {
    sequence: usize,
    rows: Range<usize>,
}

/// One span of some KV heads of a tile.
#[derive(Debug, Clone)]
struct SpanTask {
    tile: usize,
    kv_heads: Range<usize>,
    span: usize,
}

/// What all tasks of a call share.
struct Call<'a> {
    threads: &'a Threads,
    sequences: &'a [SequenceLayout<'a>],
    kv: &'a CpuKv,
    layer: usize,
    q: &'a CpuTensor,
    spec: &'a Attention,
    /// Query heads of a KV head.
    group: usize,
    /// Elements of a head, and of a head padded to vectors.
    head_dim: usize,
    padded: usize,
}

/// See [`crate::Pass::attention`].
pub(super) fn attention(
    threads: &Threads,
    scratch: &mut Scratch,
    layout: &StepLayout<'_>,
    (kv, layer): (&CpuKv, usize),
    q: &CpuTensor,
    spec: &Attention,
    out: &mut CpuTensor,
) -> Result<(), ComputeError> {
    let call = Call::new(threads, layout, (kv, layer), q, spec)?;
    if out.width() != q.width() {
        let detail = format!("output rows of {} for queries of {}", out.width(), q.width());
        return Err(ComputeError::Operands { op: "attention", detail });
    }
    call.check_blocks()?;
    let out = out.resize("attention", q.rows())?;
    let work = call.plan(&mut scratch.tiles);
    let threads_wanted = if work < WORTH_FORKING { 1 } else { threads.pool.threads() };
    if scratch.tiles.len() >= 2 * threads_wanted || threads_wanted == 1 {
        call.by_tiles(&scratch.tiles, threads_wanted, out);
    } else {
        call.by_spans(scratch, out);
    }
    Ok(())
}

impl<'a> Call<'a> {
    fn new(
        threads: &'a Threads,
        layout: &'a StepLayout<'a>,
        (kv, layer): (&'a CpuKv, usize),
        q: &'a CpuTensor,
        spec: &'a Attention,
    ) -> Result<Self, ComputeError> {
        let shape = kv.shape();
        let fits = shape.kv_heads > 0
            && shape.head_dim > 0
            && spec.heads.is_multiple_of(shape.kv_heads)
            && q.width() == spec.heads * shape.head_dim
            && q.rows() == layout.rows();
        if !fits {
            let detail = format!(
                "{} rows of {} for {} tokens, {} heads and {shape:?}",
                q.rows(),
                q.width(),
                layout.rows(),
                spec.heads
            );
            return Err(ComputeError::Operands { op: "attention", detail });
        }
        Ok(Self {
            threads,
            sequences: layout.sequences,
            kv,
            layer,
            q,
            spec,
            group: spec.heads / shape.kv_heads,
            head_dim: shape.head_dim,
            padded: shape.head_dim.next_multiple_of(LANES),
        })
    }

    /// Every block that a row sees must have been written: checked here, once, so that tasks cannot fail.
    fn check_blocks(&self) -> Result<(), ComputeError> {
        for sequence in self.sequences {
            let first = self.visible(sequence.start).start / BLOCK_TOKENS;
            let last = (sequence.start + sequence.rows.len()).div_ceil(BLOCK_TOKENS);
            for &block in sequence.blocks.iter().take(last).skip(first) {
                self.kv.layer(block, self.layer, Part::Key)?;
            }
        }
        Ok(())
    }

    /// Cuts the step into tiles; returns the multiplications of the whole call.
    fn plan(&self, tiles: &mut Vec<Tile>) -> usize {
        tiles.clear();
        let mut work = 0;
        for (index, sequence) in self.sequences.iter().enumerate() {
            for first in sequence.rows.clone().step_by(TILE_ROWS) {
                let rows = first..sequence.rows.end.min(first + TILE_ROWS);
                let end = sequence.start + rows.end - sequence.rows.start;
                work += rows.len() * self.visible(end - 1).len() * self.q.width() * 2;
                tiles.push(Tile { sequence: index, rows });
            }
        }
        work
    }

    /// Positions that a row at `position` sees.
    fn visible(&self, position: usize) -> Range<usize> {
        let first = self.spec.window.map_or(0, |window| (position + 1).saturating_sub(window.max(1)));
        first..position + 1
    }

    /// Positions of a tile's rows.
    fn positions(&self, tile: &Tile) -> Range<usize> {
        let sequence = &self.sequences[tile.sequence];
        let first = sequence.start + tile.rows.start - sequence.rows.start;
        first..first + tile.rows.len()
    }

    /// Spans that any row of a tile sees.
    fn spans(&self, tile: &Tile) -> Range<usize> {
        let positions = self.positions(tile);
        self.visible(positions.start).start / SPAN..positions.end.div_ceil(SPAN)
    }

    /// One task a tile: all heads, span after span.
    fn by_tiles(&self, tiles: &[Tile], threads: usize, out: &mut [f32]) {
        let width = self.q.width();
        let mut rest = out;
        // From the back: the last tiles of a prompt see the most keys, and the largest tasks should start first.
        let parts = tiles.iter().rev().map(|tile| {
            let (front, mine) = std::mem::take(&mut rest).split_at_mut(tile.rows.start * width);
            rest = front;
            (tile, mine)
        });
        let compute = |_: usize, (tile, out): (&Tile, &mut [f32])| {
            TILE.with_borrow_mut(|memory| {
                for kv_head in 0..self.kv.shape().kv_heads {
                    self.tile(tile, kv_head, memory, out);
                }
            });
        };
        if threads == 1 {
            parts.enumerate().for_each(|(i, part)| compute(i, part));
        } else {
            self.threads.pool.each(tiles.len(), parts, compute);
        }
    }

    /// One KV head of a tile, written to `out`, the tile's rows.
    fn tile(&self, tile: &Tile, kv_head: usize, memory: &mut TileMemory, out: &mut [f32]) {
        let queries = tile.rows.len() * self.group;
        let TileMemory { working, total, total_out } = memory;
        total.clear();
        total.resize(queries, Running::EMPTY);
        let total_out = total_out.zeroed(queries * self.padded);
        let kv_heads = kv_head..kv_head + 1;
        self.load_queries(tile, kv_heads.clone(), working);
        for span in self.spans(tile) {
            self.span(tile, kv_heads.clone(), span, working);
            let parts = working.running.iter().zip(working.out.as_slice().chunks_exact(self.padded));
            for ((total, total_out), (part, part_out)) in
                total.iter_mut().zip(total_out.chunks_exact_mut(self.padded)).zip(parts)
            {
                merge(self.threads.isa, total, total_out, *part, part_out);
            }
        }
        for (query, (total, total_out)) in total.iter().zip(total_out.chunks_exact(self.padded)).enumerate() {
            let (row, head) = (query / self.group, kv_head * self.group + query % self.group);
            let at = row * self.q.width() + head * self.head_dim;
            write(total, total_out, &mut out[at..at + self.head_dim]);
        }
    }

    /// One task a span, or a span and KV head where there are few; then the merge in the order of the spans.
    fn by_spans(&self, scratch: &mut Scratch, out: &mut [f32]) {
        let Scratch { tiles, spans, running, parts, totals, total_outs } = scratch;
        let all_heads = self.kv.shape().kv_heads;
        // All heads of a token lie together: read at once they are one stream.
        let count: usize = tiles.iter().map(|tile| self.spans(tile).len()).sum();
        let heads_of_task = if count >= self.threads.pool.threads() { all_heads } else { 1 };
        spans.clear();
        for (index, tile) in tiles.iter().enumerate() {
            for first in (0..all_heads).step_by(heads_of_task) {
                let kv_heads = first..first + heads_of_task;
                let task = |span| SpanTask { tile: index, kv_heads: kv_heads.clone(), span };
                spans.extend(self.spans(tile).map(task));
            }
        }
        // Every task gets room for a full tile, so that its place follows from its index.
        let queries = tiles.iter().map(|t| t.rows.len()).max().unwrap_or(0) * self.group * heads_of_task;
        running.clear();
        running.resize(spans.len() * queries, Running::EMPTY);
        let parts = parts.resize(spans.len() * queries * self.padded);
        let places = running.chunks_mut(queries).zip(parts.chunks_mut(queries * self.padded));
        self.threads.pool.each(spans.len(), places, |index, (running, parts)| {
            let SpanTask { tile, kv_heads, span } = spans[index].clone();
            TILE.with_borrow_mut(|memory| {
                let working = &mut memory.working;
                self.load_queries(&tiles[tile], kv_heads.clone(), working);
                self.span(&tiles[tile], kv_heads, span, working);
                running[..working.running.len()].copy_from_slice(&working.running);
                let out = working.out.as_slice();
                parts[..out.len()].copy_from_slice(out);
            });
        });
        let heads = self.spec.heads;
        totals.clear();
        totals.resize(self.q.rows() * heads, Running::EMPTY);
        let total_outs = total_outs.zeroed(totals.len() * self.padded);
        // The tasks of a tile and KV head stand in the order of their spans.
        for (index, task) in spans.iter().enumerate() {
            let rows = &tiles[task.tile].rows;
            let of_head = rows.len() * self.group;
            for query in 0..task.kv_heads.len() * of_head {
                let part = index * queries + query;
                let (kv_head, query) = (task.kv_heads.start + query / of_head, query % of_head);
                let total =
                    (rows.start + query / self.group) * heads + kv_head * self.group + query % self.group;
                let part_out = &parts[part * self.padded..][..self.padded];
                let total_out = &mut total_outs[total * self.padded..][..self.padded];
                merge(self.threads.isa, &mut totals[total], total_out, running[part], part_out);
            }
        }
        let heads = out.chunks_exact_mut(self.head_dim);
        for (out, (total, total_out)) in heads.zip(totals.iter().zip(total_outs.chunks_exact(self.padded))) {
            write(total, total_out, out);
        }
    }

    /// Copies the tile's queries of some KV heads, scaled and padded, `[KV head][row][head of the group]`.
    fn load_queries(&self, tile: &Tile, kv_heads: Range<usize>, working: &mut Working) {
        let width = self.q.width();
        let queries = working.queries.zeroed(kv_heads.len() * tile.rows.len() * self.group * self.padded);
        let mut to = queries.chunks_exact_mut(self.padded);
        for kv_head in kv_heads {
            for row in tile.rows.clone() {
                let first = row * width + kv_head * self.group * self.head_dim;
                let heads = &self.q.as_slice()[first..first + self.group * self.head_dim];
                for (head, to) in heads.chunks_exact(self.head_dim).zip(&mut to) {
                    for (to, from) in to.iter_mut().zip(head) {
                        *to = from * self.spec.scale;
                    }
                }
            }
        }
    }

    /// The softmax of one span for every query of some KV heads of a tile, from nothing, into `working.running` and
    /// `working.out`.
    fn span(&self, tile: &Tile, kv_heads: Range<usize>, span: usize, working: &mut Working) {
        let Working { queries, running, out, keys, values } = working;
        let of_head = tile.rows.len() * self.group;
        let count = kv_heads.len() * of_head;
        running.clear();
        running.resize(count, Running::EMPTY);
        let (queries, out) = (queries.as_slice(), out.zeroed(count * self.padded));
        // Only heads are written, so the padding must be cleared when there is any; else old floats do no harm.
        let padded = !self.head_dim.is_multiple_of(LANES);
        let [keys, values] = [keys, values].map(|lines| {
            let len = BLOCK_TOKENS * self.padded;
            if padded { lines.zeroed(len) } else { lines.resize(len) }
        });
        let positions = self.positions(tile);
        let first = self.visible(positions.start).start.max(span * SPAN);
        let end = positions.end.min((span + 1) * SPAN);
        for index in first / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS) {
            let base = index * BLOCK_TOKENS;
            let tokens = BLOCK_TOKENS.min(positions.end - base);
            let blocks = self.sequences[tile.sequence].blocks;
            let next = if (index + 1) * BLOCK_TOKENS < end {
                Some(blocks[index + 1])
            } else {
                // The span that this thread is likely to take then.
                let after = (span + self.threads.pool.threads()) * SPAN;
                (after < positions.end).then(|| blocks[after / BLOCK_TOKENS])
            };
            let seen = |row: usize| {
                let seen = self.visible(positions.start + row);
                seen.start.saturating_sub(base)..seen.end.saturating_sub(base).min(BLOCK_TOKENS)
            };
            // Most blocks are seen whole by all rows.
            let rows_at_once =
                if seen(0).len() == BLOCK_TOKENS && seen(tile.rows.len() - 1).len() == BLOCK_TOKENS {
                    tile.rows.len()
                } else {
                    1
                };
            for (nth, kv_head) in kv_heads.clone().enumerate() {
                let source = [Some(blocks[index]), next];
                let Some(block) = self.view(source, kv_head, of_head, tokens, keys, values) else {
                    continue;
                };
                for row in (0..tile.rows.len()).step_by(rows_at_once) {
                    let seen = seen(row);
                    if seen.is_empty() {
                        continue;
                    }
                    let first = nth * of_head + row * self.group;
                    let heads = first..first + rows_at_once * self.group;
                    let at = heads.start * self.padded..heads.end * self.padded;
                    let (queries, out) = (&queries[at.clone()], &mut out[at]);
                    attend(
                        self.threads.isa,
                        queries,
                        block,
                        &seen,
                        self.spec.softcap,
                        &mut running[heads],
                        out,
                    );
                }
            }
        }
    }

    /// One head of the first `tokens` tokens of a block, as the kernel for so many queries wants it: where it lies, or widened
    /// into `keys` and `values`. The `next` block is asked for.
    fn view<'m>(
        &'m self,
        [block, next]: [Option<u32>; 2],
        kv_head: usize,
        queries: usize,
        tokens: usize,
        keys: &'m mut [f32],
        values: &'m mut [f32],
    ) -> Option<BlockView<'m>> {
        // `check_blocks` found the blocks.
        let stored = |block: Option<u32>| {
            let part = |part| {
                let kv_type = self.kv.kv_type(part);
                let first = kv_type.bytes(kv_head * self.head_dim);
                let bytes = &self.kv.layer(block?, self.layer, part).ok()?[first..];
                Some(StoredHead { kv_type, bytes, row: self.kv.row_bytes(part), head_dim: self.head_dim })
            };
            Some([part(Part::Key)?, part(Part::Value)?])
        };
        let (heads, next) = (stored(block)?, stored(next));
        let halves = heads.iter().all(|head| head.kv_type == KvType::F16);
        if halves && reads_stored(self.threads.isa, queries, self.head_dim) {
            let [keys, values] = heads.map(|head| bytemuck::cast_slice(head.bytes));
            let next = next.map(|next| next.map(|head| bytemuck::cast_slice(head.bytes)));
            return Some(BlockView::Stored(Stored { keys, values, row: self.kv.shape().row(), next }));
        }
        for head in next.into_iter().flatten() {
            prefetch_head(self.threads.isa, head);
        }
        for (head, to) in heads.into_iter().zip([&mut *keys, &mut *values]) {
            widen_head(self.threads.isa, head, tokens, self.padded, to);
        }
        Some(BlockView::Widened(Widened { keys, values }))
    }
}

/// Memory of one thread.
#[derive(Default)]
struct TileMemory {
    working: Working,
    total: Vec<Running>,
    total_out: Lines,
}

/// Queries, widened keys and values, and the softmax of the span in work.
#[derive(Default)]
struct Working {
    queries: Lines,
    running: Vec<Running>,
    out: Lines,
    keys: Lines,
    values: Lines,
}

thread_local! {
    static TILE: RefCell<TileMemory> = RefCell::default();
}

fn write(total: &Running, total_out: &[f32], out: &mut [f32]) {
    let factor = 1.0 / total.sum;
    for (out, total) in out.iter_mut().zip(total_out) {
        *out = total * factor;
    }
}
