//! Causal attention over block tables.
//!
//! A row's softmax runs block by block over spans of [`SPAN`] positions, each span from nothing; the spans are then
//! merged in order. Spans lie at fixed positions, so a row's result does not depend on how the work is cut: tiles of
//! rows that share widened keys and values (prefill), or one task a span (decode), which sequences with the same blocks share.

mod spans;

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

/// Rows of a tile up to which its keys and values are better read in the order of memory than shared by many queries.
const FEW_ROWS: usize = 4;

/// Memory reused from call to call.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    rows: Vec<Row>,
    tiles: Vec<Range<usize>>,
    spans: spans::Scratch,
}

/// A row of the step.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Its place in the step.
    index: usize,
    sequence: usize,
    position: usize,
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
    let Scratch { rows, tiles, spans } = scratch;
    let work = call.plan(rows, tiles);
    let threads_wanted = if work < WORTH_FORKING { 1 } else { threads.pool.threads() };
    let few_rows = tiles.iter().all(|tile| tile.len() <= FEW_ROWS);
    if threads_wanted == 1 || (tiles.len() >= 2 * threads_wanted && !few_rows) {
        call.by_tiles(rows, tiles, threads_wanted, out);
    } else {
        call.by_spans(rows, tiles, spans, out);
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

    /// Cuts the step into tiles, which are ranges of `rows`; returns the multiplications of the whole call.
    fn plan(&self, rows: &mut Vec<Row>, tiles: &mut Vec<Range<usize>>) -> usize {
        rows.clear();
        tiles.clear();
        let mut work = 0;
        for (sequence, layout) in self.sequences.iter().enumerate() {
            for first in layout.rows.clone().step_by(TILE_ROWS) {
                let tile = first..layout.rows.end.min(first + TILE_ROWS);
                for index in tile.clone() {
                    let position = layout.start + index - layout.rows.start;
                    work += self.visible(position).len() * self.q.width() * 2;
                    rows.push(Row { index, sequence, position });
                }
                tiles.push(tile);
            }
        }
        work
    }

    /// Positions that a row at `position` sees.
    fn visible(&self, position: usize) -> Range<usize> {
        let first = self.spec.window.map_or(0, |window| (position + 1).saturating_sub(window.max(1)));
        first..position + 1
    }

    /// Positions that any of the rows, which ascend, sees.
    fn visible_to(&self, rows: &[Row]) -> Range<usize> {
        let position = |row: Option<&Row>| row.map_or(0, |row| row.position);
        self.visible(position(rows.first())).start..position(rows.last()) + 1
    }

    /// Spans that any of the rows sees.
    fn spans(&self, rows: &[Row]) -> Range<usize> {
        let visible = self.visible_to(rows);
        visible.start / SPAN..visible.end.div_ceil(SPAN)
    }

    /// One task a tile: all heads, span after span.
    fn by_tiles(&self, rows: &[Row], tiles: &[Range<usize>], threads: usize, out: &mut [f32]) {
        let width = self.q.width();
        let mut rest = out;
        // From the back: the last tiles of a prompt see the most keys, and the largest tasks should start first.
        let parts = tiles.iter().rev().map(|tile| {
            let (front, mine) = std::mem::take(&mut rest).split_at_mut(tile.start * width);
            rest = front;
            (&rows[tile.clone()], mine)
        });
        let compute = |_: usize, (tile, out): (&[Row], &mut [f32])| {
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
    fn tile(&self, tile: &[Row], kv_head: usize, memory: &mut TileMemory, out: &mut [f32]) {
        let queries = tile.len() * self.group;
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

    /// Copies the rows' queries of some KV heads, scaled and padded, `[KV head][row][head of the group]`.
    fn load_queries(&self, rows: &[Row], kv_heads: Range<usize>, working: &mut Working) {
        let width = self.q.width();
        let queries = working.queries.zeroed(kv_heads.len() * rows.len() * self.group * self.padded);
        let mut to = queries.chunks_exact_mut(self.padded);
        for kv_head in kv_heads {
            for row in rows {
                let first = row.index * width + kv_head * self.group * self.head_dim;
                let heads = &self.q.as_slice()[first..first + self.group * self.head_dim];
                for (head, to) in heads.chunks_exact(self.head_dim).zip(&mut to) {
                    for (to, from) in to.iter_mut().zip(head) {
                        *to = from * self.spec.scale;
                    }
                }
            }
        }
    }

    /// The softmax of one span for every query of some KV heads of rows whose blocks are the same there, from nothing, into
    /// `working.running` and `working.out`.
    fn span(&self, rows: &[Row], kv_heads: Range<usize>, span: usize, working: &mut Working) {
        let Working { queries, running, out, keys, values } = working;
        let of_head = rows.len() * self.group;
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
        let visible = self.visible_to(rows);
        let first = visible.start.max(span * SPAN);
        let end = visible.end.min((span + 1) * SPAN);
        let blocks = rows.first().map_or(&[][..], |row| self.sequences[row.sequence].blocks);
        for index in first / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS) {
            let base = index * BLOCK_TOKENS;
            let tokens = BLOCK_TOKENS.min(visible.end - base);
            let next = if (index + 1) * BLOCK_TOKENS < end {
                index + 1
            } else {
                // The span that this thread is likely to take then.
                (span + self.threads.pool.threads()) * SPAN / BLOCK_TOKENS
            };
            // Rows that share this span need not be of equally long sequences.
            let next = blocks.get(next).copied();
            let seen = |row: &Row| {
                let seen = self.visible(row.position);
                seen.start.saturating_sub(base)..seen.end.saturating_sub(base).min(BLOCK_TOKENS)
            };
            // Most blocks are seen whole by all rows.
            let whole = rows.iter().all(|row| seen(row).len() == BLOCK_TOKENS);
            let rows_at_once = if whole { rows.len() } else { 1 };
            for (nth, kv_head) in kv_heads.clone().enumerate() {
                let source = [Some(blocks[index]), next];
                let Some(block) = self.view(source, kv_head, of_head, tokens, keys, values) else {
                    continue;
                };
                for row in (0..rows.len()).step_by(rows_at_once) {
                    let seen = seen(&rows[row]);
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
