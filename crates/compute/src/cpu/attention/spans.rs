//! Few rows a sequence: one task a span, for all sequences that have the same blocks there.

use std::ops::Range;

use super::{Call, Row, SPAN, TILE, write};
use crate::BLOCK_TOKENS;
use crate::kernels::attention::{Running, merge};
use crate::kernels::lines::Lines;

/// Memory reused from call to call.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The rows of all tasks.
    members: Vec<Row>,
    tasks: Vec<Task>,
    /// For each query of each task: the softmax of its span and its output.
    running: Vec<Running>,
    parts: Lines,
    /// The merged softmax of each row and head, and its output.
    totals: Vec<Running>,
    total_outs: Lines,
}

/// One span of some KV heads, for rows whose blocks are the same there.
#[derive(Debug, Clone)]
struct Task {
    /// Range of [`Scratch::members`].
    rows: Range<usize>,
    kv_heads: Range<usize>,
    span: usize,
}

impl Call<'_> {
    /// One task a span, or a span and KV head where there are few; then the merge in the order of the spans.
    pub(super) fn by_spans(
        &self,
        rows: &[Row],
        tiles: &[Range<usize>],
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        self.cut(rows, tiles, scratch);
        let Scratch { members, tasks, running, parts, totals, total_outs } = scratch;
        let queries = |task: &Task| task.rows.len() * self.group * task.kv_heads.len();
        let all = tasks.iter().map(queries).sum();
        running.clear();
        running.resize(all, Running::EMPTY);
        let mut rest = (&mut running[..], parts.resize(all * self.padded));
        let places = tasks.iter().map(|task| {
            let (running, parts) = std::mem::take(&mut rest);
            let (running, running_rest) = running.split_at_mut(queries(task));
            let (parts, parts_rest) = parts.split_at_mut(queries(task) * self.padded);
            rest = (running_rest, parts_rest);
            (task, running, parts)
        });
        self.threads.pool.each(tasks.len(), places, |_, (task, running, parts)| {
            TILE.with_borrow_mut(|memory| {
                let working = &mut memory.working;
                let rows = &members[task.rows.clone()];
                self.load_queries(rows, task.kv_heads.clone(), working);
                self.span(rows, task.kv_heads.clone(), task.span, working);
                running.copy_from_slice(&working.running);
                parts.copy_from_slice(working.out.as_slice());
            });
        });

        totals.clear();
        totals.resize(self.q.rows() * self.spec.heads, Running::EMPTY);
        let total_outs = total_outs.zeroed(totals.len() * self.padded);
        let mut found = running.iter().zip(parts.as_slice().chunks_exact(self.padded));
        // The tasks stand in the order of their spans.
        for task in tasks.iter() {
            for kv_head in task.kv_heads.clone() {
                for row in &members[task.rows.clone()] {
                    let first = row.index * self.spec.heads + kv_head * self.group;
                    for (total, (part, part_out)) in (first..first + self.group).zip(&mut found) {
                        let total_out = &mut total_outs[total * self.padded..][..self.padded];
                        merge(self.threads.isa, &mut totals[total], total_out, *part, part_out);
                    }
                }
            }
        }
        let heads = out.chunks_exact_mut(self.head_dim);
        for (out, (total, total_out)) in heads.zip(totals.iter().zip(total_outs.chunks_exact(self.padded))) {
            write(total, total_out, out);
        }
    }

    /// Makes the tasks, span after span.
    fn cut(&self, rows: &[Row], tiles: &[Range<usize>], scratch: &mut Scratch) {
        let Scratch { members, tasks, .. } = scratch;
        members.clear();
        tasks.clear();
        let all_heads = self.kv.shape().kv_heads;
        let spans = tiles.iter().map(|tile| self.spans(&rows[tile.clone()]).end).max().unwrap_or(0);
        for span in 0..spans {
            let seeing = || tiles.iter().filter(|tile| self.spans(&rows[(*tile).clone()]).contains(&span));
            for (nth, tile) in seeing().enumerate() {
                let shared = self.shared(&rows[tile.clone()], span);
                let same = |other: &Range<usize>| {
                    shared.is_some() && self.shared(&rows[other.clone()], span) == shared
                };
                if seeing().take(nth).any(same) {
                    continue;
                }
                let first = members.len();
                members.extend_from_slice(&rows[tile.clone()]);
                for other in seeing().skip(nth + 1).filter(|other| same(other)) {
                    members.extend_from_slice(&rows[other.clone()]);
                }
                tasks.push(Task { rows: first..members.len(), kv_heads: 0..all_heads, span });
            }
        }
        // All heads of a token lie together: read at once they are one stream.
        if tasks.len() < self.threads.pool.threads() {
            let split = |task: &Task| {
                let task = task.clone();
                (0..all_heads).map(move |head| Task { kv_heads: head..head + 1, ..task.clone() })
            };
            *tasks = tasks.iter().flat_map(split).collect();
        }
    }

    /// The blocks of a span that all of the rows see whole, and may share with other sequences.
    fn shared(&self, rows: &[Row], span: usize) -> Option<&[u32]> {
        let first = rows.first()?;
        if self.spec.window.is_some() || first.position + 1 < (span + 1) * SPAN {
            return None;
        }
        let blocks = span * SPAN / BLOCK_TOKENS..(span + 1) * SPAN / BLOCK_TOKENS;
        self.sequences[first.sequence].blocks.get(blocks)
    }
}
